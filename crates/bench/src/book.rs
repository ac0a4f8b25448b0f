//! Keeps the books while a run goes on: counters, latencies, each user's own worst turn.
//!
//! Users are spread over shards, so that hardly two tasks ever want the same lock; the
//! shards are added up at the end (and for the progress bar).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::answer::Outcome;
use crate::timeline::{BarKind, DotKind, Timeline};

/// More shards than cores, so that two users rarely share a busy one.
const SHARDS: usize = 16;

/// Longer times are recorded as this one.
const LATENCY_MAX: Duration = Duration::from_secs(3600);

/// A user's slowest turns, kept one by one; enough for an exact p99 of 6,400 turns.
const SLOWEST_MAX: usize = 64;

/// Something that happened to a user's message.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message was handed to a connection.
    Sent,
    /// It was accepted; its answer is not awaited.
    Accepted { sent_at: Instant, took: Duration, turn: Option<u64> },
    /// It was accepted, and its burst is over.
    Ended {
        began_at: Instant,
        sent_at: Instant,
        ended_at: Instant,
        expected: Duration,
        outcome: Outcome,
        turn: Option<u64>,
    },
    /// The server refused it.
    Refused { sent_at: Instant, reason: String },
    /// It got no usable answer.
    Failed { sent_at: Instant, kind: String },
    /// No connection could be had; nothing was sent.
    Unconnected { kind: String },
    /// A lost connection was replaced.
    Reconnected,
    /// The user stopped because no connection could be had for long.
    GaveUp,
}

/// Counters and latencies of some or all users.
#[derive(Debug)]
pub(crate) struct Totals {
    pub(crate) sent: u64,
    pub(crate) accepted: u64,
    pub(crate) complete: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
    pub(crate) unanswered: u64,
    pub(crate) turns: u64,
    pub(crate) reconnects: u64,
    pub(crate) gave_up: u64,
    pub(crate) latency: Histogram<u64>,
    pub(crate) overhead: Histogram<u64>,
    pub(crate) acceptance: Histogram<u64>,
    /// From the moment a burst's last message was really sent, which may be later than it was due.
    pub(crate) since_sent: Histogram<u64>,
    pub(crate) refused: BTreeMap<String, u64>,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) last_success_at: Option<Instant>,
}

/// What one user saw.
#[derive(Debug, Default)]
pub(crate) struct UserTotals {
    /// Bursts that were answered in full.
    pub(crate) answered: u64,
    /// The longest time over what was expected, and the whole latency of that burst.
    pub(crate) worst: Option<Worst>,
    slowest_us: Vec<u64>,
    turns_seen: Vec<u64>,
    in_flight: Option<InFlight>,
}

/// The burst that kept its user waiting longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Worst {
    pub(crate) overhead: Duration,
    pub(crate) latency: Duration,
    /// Since the run began.
    pub(crate) began: Duration,
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    began_at: Instant,
    expected: Duration,
}

/// The books of one run, shared by all its tasks.
#[derive(Debug)]
pub(crate) struct Book {
    started_at: Instant,
    shards: Vec<Mutex<Totals>>,
    users: Vec<Mutex<UserTotals>>,
    timeline: Timeline,
}

impl Book {
    /// Empty books for so many users; the run begins at `started_at`.
    pub(crate) fn new(users: usize, started_at: Instant) -> Self {
        Self::with(users, started_at, Timeline::new(users))
    }

    /// Empty books for the one user who floods.
    pub(crate) fn for_flood(started_at: Instant) -> Self {
        Self::with(1, started_at, Timeline::for_flood())
    }

    fn with(users: usize, started_at: Instant, timeline: Timeline) -> Self {
        Self {
            started_at,
            shards: (0..SHARDS.min(users)).map(|_| Mutex::new(Totals::new())).collect(),
            users: (0..users).map(|_| Mutex::default()).collect(),
            timeline,
        }
    }

    /// When the run began.
    pub(crate) fn started_at(&self) -> Instant {
        self.started_at
    }

    /// Everything drawn.
    pub(crate) fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// A user starts a burst; should it never end, that is still on record.
    pub(crate) fn begin(&self, user: usize, began_at: Instant, expected: Duration) {
        let mut user_totals = lock(&self.users[user]);
        user_totals.in_flight = Some(InFlight { began_at, expected });
        // The last turn stays known, in case the next burst should still join it.
        let known = user_totals.turns_seen.len().saturating_sub(1);
        user_totals.turns_seen.drain(..known);
    }

    /// A user's burst is over, however it went.
    pub(crate) fn end(&self, user: usize) {
        lock(&self.users[user]).in_flight = None;
    }

    /// Enters one event.
    pub(crate) fn note(&self, user: usize, event: Event) {
        let is_new_turn = self.note_user(user, &event);
        self.note_timeline(user, &event);
        lock(&self.shards[user % self.shards.len()]).note(event, is_new_turn);
    }

    /// True if the event names a turn that this user's burst hasn't met yet.
    fn note_user(&self, user: usize, event: &Event) -> bool {
        match event {
            Event::Accepted { turn, .. } => lock(&self.users[user]).meet(*turn),
            Event::Ended { began_at, ended_at, expected, outcome, turn, .. } => {
                let mut user = lock(&self.users[user]);
                let latency = ended_at.duration_since(*began_at);
                let began = began_at.duration_since(self.started_at);
                match outcome {
                    Outcome::Complete => user.answered(began, latency, *expected),
                    Outcome::Unanswered => user.waited(began, latency, *expected),
                    Outcome::Failed | Outcome::Cancelled => {}
                }
                user.meet(*turn)
            }
            Event::Sent
            | Event::Refused { .. }
            | Event::Failed { .. }
            | Event::Unconnected { .. }
            | Event::Reconnected
            | Event::GaveUp => false,
        }
    }

    fn note_timeline(&self, user: usize, event: &Event) {
        let since_start = |at: &Instant| at.duration_since(self.started_at);
        match event {
            Event::Accepted { sent_at, .. } => {
                self.timeline.dot(user, since_start(sent_at), DotKind::Accepted);
            }
            Event::Ended { began_at, sent_at, ended_at, outcome, expected, .. } => {
                self.timeline.dot(user, since_start(sent_at), DotKind::Accepted);
                let times = since_start(began_at)..since_start(ended_at);
                self.timeline.bar(user, times, *expected, BarKind::from(*outcome));
            }
            Event::Refused { sent_at, .. } => {
                self.timeline.dot(user, since_start(sent_at), DotKind::Refused);
            }
            Event::Failed { sent_at, .. } => {
                self.timeline.dot(user, since_start(sent_at), DotKind::Failed);
            }
            Event::Sent | Event::Unconnected { .. } | Event::Reconnected | Event::GaveUp => {}
        }
    }

    /// All tasks have ended: bursts that are still open were cut off at `now`. Each counts
    /// as a wait of at least that long, else a user who was never answered would look
    /// like one who never waited. Returns how many there were.
    pub(crate) fn cut_off(&self, now: Instant) -> u64 {
        let mut cut_off = 0;
        for (index, user) in self.users.iter().enumerate() {
            let mut user = lock(user);
            let Some(InFlight { began_at, expected }) = user.in_flight.take() else { continue };
            cut_off += 1;
            let times =
                began_at.duration_since(self.started_at)..now.duration_since(self.started_at);
            user.waited(times.start, times.end - times.start, expected);
            self.timeline.dot(index, times.start, DotKind::Accepted);
            self.timeline.bar(index, times, expected, BarKind::CutOff);
        }
        cut_off
    }

    /// All shards added up.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::new();
        for shard in &self.shards {
            totals.add(&lock(shard));
        }
        totals
    }

    /// Messages whose fate is known, and completed turns; cheap enough for a progress bar.
    pub(crate) fn progress(&self) -> (u64, u64) {
        self.shards.iter().map(lock).fold((0, 0), |(messages, turns), shard| {
            let lost: u64 = shard.errors.values().sum();
            let refused: u64 = shard.refused.values().sum();
            (messages + shard.accepted + refused + lost, turns + shard.complete)
        })
    }

    /// Every user's own figures, in order.
    pub(crate) fn users(&self) -> impl Iterator<Item = MutexGuard<'_, UserTotals>> {
        self.users.iter().map(lock)
    }
}

impl UserTotals {
    /// This user's p99; with more turns than are kept one by one, an upper bound of it.
    pub(crate) fn p99(&self) -> Option<Duration> {
        let from_slowest = self.answered.checked_sub(1)? / 100;
        let index = usize::try_from(from_slowest).ok()?.min(self.slowest_us.len().checked_sub(1)?);
        Some(Duration::from_micros(self.slowest_us[index]))
    }

    fn answered(&mut self, began: Duration, latency: Duration, expected: Duration) {
        self.answered += 1;
        self.waited(began, latency, expected);
        let latency_us = micros(latency);
        let place = self.slowest_us.partition_point(|&slower| slower >= latency_us);
        if place < SLOWEST_MAX {
            self.slowest_us.truncate(SLOWEST_MAX - 1);
            self.slowest_us.insert(place, latency_us);
        }
    }

    fn waited(&mut self, began: Duration, latency: Duration, expected: Duration) {
        let overhead = latency.saturating_sub(expected);
        if self.worst.is_none_or(|worst| overhead > worst.overhead) {
            self.worst = Some(Worst { overhead, latency, began });
        }
    }

    fn meet(&mut self, turn: Option<u64>) -> bool {
        let Some(turn) = turn else { return false };
        let is_new = !self.turns_seen.contains(&turn);
        if is_new {
            self.turns_seen.push(turn);
        }
        is_new
    }
}

impl Totals {
    fn new() -> Self {
        Self {
            sent: 0,
            accepted: 0,
            complete: 0,
            failed: 0,
            cancelled: 0,
            unanswered: 0,
            turns: 0,
            reconnects: 0,
            gave_up: 0,
            latency: histogram(),
            overhead: histogram(),
            acceptance: histogram(),
            since_sent: histogram(),
            refused: BTreeMap::new(),
            errors: BTreeMap::new(),
            last_success_at: None,
        }
    }

    fn note(&mut self, event: Event, is_new_turn: bool) {
        self.turns += u64::from(is_new_turn);
        match event {
            Event::Sent => self.sent += 1,
            Event::Accepted { sent_at, took, .. } => {
                self.accepted += 1;
                self.acceptance.saturating_record(micros(took));
                self.last_success_at = self.last_success_at.max(Some(sent_at + took));
            }
            Event::Ended { began_at, sent_at, ended_at, expected, outcome, .. } => {
                self.accepted += 1;
                self.last_success_at = self.last_success_at.max(Some(ended_at));
                match outcome {
                    Outcome::Complete => {
                        let latency = ended_at.duration_since(began_at);
                        self.complete += 1;
                        self.latency.saturating_record(micros(latency));
                        let since_sent = ended_at.duration_since(sent_at);
                        self.since_sent.saturating_record(micros(since_sent));
                        self.overhead.saturating_record(micros(latency.saturating_sub(expected)));
                    }
                    Outcome::Failed => self.failed += 1,
                    Outcome::Cancelled => self.cancelled += 1,
                    Outcome::Unanswered => self.unanswered += 1,
                }
            }
            Event::Refused { reason, .. } => *self.refused.entry(reason).or_default() += 1,
            Event::Failed { kind, .. } | Event::Unconnected { kind } => {
                *self.errors.entry(kind).or_default() += 1;
            }
            Event::Reconnected => self.reconnects += 1,
            Event::GaveUp => self.gave_up += 1,
        }
    }

    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.accepted += other.accepted;
        self.complete += other.complete;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.unanswered += other.unanswered;
        self.turns += other.turns;
        self.reconnects += other.reconnects;
        self.gave_up += other.gave_up;
        let histograms = [
            (&mut self.latency, &other.latency),
            (&mut self.overhead, &other.overhead),
            (&mut self.acceptance, &other.acceptance),
            (&mut self.since_sent, &other.since_sent),
        ];
        for (into, from) in histograms {
            into.add(from).expect("histograms of one run have the same bounds");
        }
        for (into, from) in [(&mut self.refused, &other.refused), (&mut self.errors, &other.errors)]
        {
            for (name, count) in from {
                *into.entry(name.clone()).or_default() += count;
            }
        }
        self.last_success_at = self.last_success_at.max(other.last_success_at);
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, micros(LATENCY_MAX), 3)
        .expect("the bounds are constants that a histogram accepts")
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The books stay usable even if a task should panic while it writes: a counter that is
/// one short harms nobody, and the panic itself is raised when the task is joined.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_p99(turns: u64, expect_ms: u64) {
        let mut user = UserTotals::default();
        for ms in 1..=turns {
            user.answered(Duration::ZERO, Duration::from_millis(ms), Duration::ZERO);
        }
        assert_eq!(user.p99(), Some(Duration::from_millis(expect_ms)), "of {turns} turns");
        assert_eq!(user.worst.unwrap().overhead, Duration::from_millis(turns));
    }

    #[test]
    fn a_users_p99_is_exact_until_too_many_turns_and_then_an_upper_bound() {
        check_p99(1, 1);
        check_p99(99, 99);
        check_p99(100, 100);
        check_p99(101, 100);
        check_p99(1000, 991);
        check_p99(6400, 6337);
        check_p99(10_000, 9937);
        assert_eq!(UserTotals::default().p99(), None);
    }

    #[test]
    fn a_turn_is_counted_once_a_burst() {
        let book = Book::new(1, Instant::now());
        let accepted =
            |turn| Event::Accepted { sent_at: book.started_at, took: Duration::ZERO, turn };
        book.begin(0, book.started_at, Duration::ZERO);
        for turn in [Some(1), Some(2), Some(1), None] {
            book.note(0, accepted(turn));
        }
        assert_eq!((book.totals().turns, book.totals().accepted), (2, 4));
        // The turn that was met last is still known to the next burst, older ones are not.
        book.begin(0, book.started_at, Duration::ZERO);
        book.note(0, accepted(Some(2)));
        assert_eq!(book.totals().turns, 2);
    }
}
