//! More than the machine takes: who comes while too many messages wait to be decided is told so.
//!
//! What is decided in a second has an end, and whoever comes on top of it only makes everybody's
//! wait longer: by Little's law the wait is what is undecided, divided by what is decided in a
//! second. So what is undecided has a limit. A refusal costs no more than the request's head: it
//! comes before the key is tried, the body is read, and anything is looked up. It is kept back for
//! a moment: most of those who are refused try again at once, whatever they are told, and each of
//! their connections can only try again once it has its answer.
//!
//! What is counted ends with the decision, or with the sender going away. Its commit may wait on in
//! the store then, so the store's own queue is held to the same limit; that one also holds what
//! turns that end have to write.

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use crate::clock;
use crate::service::{Gateway, Refusal};

/// How many messages may be undecided, unless configured otherwise. Two cores decide and answer
/// some 13,000 messages a second, which is two commits each: so many of them are decided within a
/// sixteenth of a second, and a machine that is ten times slower takes two thirds of a second.
pub const UNDECIDED_MAX: usize = 800;

/// How long a refusal is kept back: this and up to twice as much more, evenly spread, so that those
/// who were refused together don't come back together.
const HELD_BACK_MS: u64 = 250;

/// The distance between two lines of the log.
const LOG_EVERY_MS: i64 = 1000;

/// What is undecided.
pub(crate) struct Overload {
    undecided: AtomicUsize,
    logged_at: AtomicI64,
    /// Refused since the last line of the log.
    unlogged: AtomicU64,
    /// Kept back so far.
    held_back: AtomicU64,
    refused: Counter,
    gauge: Gauge,
}

/// A message that is being decided; no more when this is dropped.
pub(crate) struct Place<'a>(&'a Overload);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.undecided.fetch_sub(1, Ordering::Relaxed);
        self.0.gauge.decrement(1.0);
    }
}

impl Overload {
    pub(crate) fn new() -> Self {
        describe_counter!(
            "turn_gateway_overload_total",
            "Messages refused because too many others waited to be decided"
        );
        describe_gauge!("turn_gateway_undecided", "Messages that wait to be decided");
        Self {
            undecided: AtomicUsize::default(),
            logged_at: AtomicI64::new(i64::MIN),
            unlogged: AtomicU64::default(),
            held_back: AtomicU64::default(),
            refused: counter!("turn_gateway_overload_total"),
            gauge: gauge!("turn_gateway_undecided"),
        }
    }

    /// A place among `max`; none if all are taken.
    fn enter(&self, max: usize) -> Option<Place<'_>> {
        // Two that come at once are never both told that it is full while one place is left.
        let entered = self.undecided.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| {
            (before < max).then_some(before + 1)
        });
        entered.ok()?;
        self.gauge.increment(1.0);
        Some(Place(self))
    }

    /// How long the next refusal is kept back.
    fn held_back(&self) -> Duration {
        let nth = self.held_back.fetch_add(1, Ordering::Relaxed);
        // Neighbours are far from each other, and any 256 in a row fill the span.
        Duration::from_millis(HELD_BACK_MS + nth * 159 % 256 * HELD_BACK_MS * 2 / 256)
    }

    /// Counts a refusal; says how many there were since the last line, if it is time for another.
    fn refuse(&self, now: i64) -> Option<u64> {
        self.refused.increment(1);
        self.unlogged.fetch_add(1, Ordering::Relaxed);
        let last = self.logged_at.load(Ordering::Relaxed);
        if last <= now && now < last.saturating_add(LOG_EVERY_MS) {
            return None;
        }
        let (set, failed) = (Ordering::Relaxed, Ordering::Relaxed);
        self.logged_at.compare_exchange(last, now, set, failed).ok()?;
        Some(self.unlogged.swap(0, Ordering::Relaxed))
    }
}

impl Gateway {
    /// A place for a message that is to be decided, to be kept until it is; or the refusal.
    pub(crate) fn enter(&self, max: usize) -> Result<Place<'_>, Refusal> {
        let place = if self.store_is_behind(max) { None } else { self.0.overload.enter(max) };
        place.ok_or_else(|| self.refuse_overload())
    }

    /// Whether a message that comes now has a chance, before anything of it is read. One that has
    /// may be refused all the same a moment later.
    pub(crate) fn has_room(&self) -> Result<(), Refusal> {
        let max = self.setup().settings.undecided_max;
        if self.0.overload.undecided.load(Ordering::Relaxed) < max && !self.store_is_behind(max) {
            return Ok(());
        }
        Err(self.refuse_overload())
    }

    /// Passes once a refusal may leave.
    pub(crate) async fn hold_back(&self) {
        tokio::time::sleep(self.0.overload.held_back()).await;
    }

    fn store_is_behind(&self, max: usize) -> bool {
        self.0.store.waiting() >= max as u64
    }

    fn refuse_overload(&self) -> Refusal {
        if let Some(refused) = self.0.overload.refuse(clock::now()) {
            let undecided = self.0.overload.undecided.load(Ordering::Relaxed);
            let waiting = self.0.store.waiting();
            tracing::warn!(refused, undecided, waiting, "gateway_overload");
        }
        Refusal::Overloaded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back() {
        let overload = Overload::new();
        let first = overload.enter(2);
        let second = overload.enter(2);
        assert!(first.is_some() && second.is_some() && overload.enter(2).is_none());
        drop(first);
        let third = overload.enter(2);
        assert!(third.is_some() && overload.enter(2).is_none());
        // A limit that was lowered meanwhile holds for whoever comes.
        drop(second);
        assert!(overload.enter(1).is_none());
        drop(third);
        assert!(overload.enter(1).is_some());
    }

    #[test]
    fn refusals_leave_one_after_the_other() {
        let overload = Overload::new();
        let mut held: Vec<u128> = (0..256).map(|_| overload.held_back().as_millis()).collect();
        let neighbours = held.windows(2).map(|pair| pair[0].abs_diff(pair[1]));
        assert!(neighbours.min().is_some_and(|least| least > 100), "{held:?}");
        held.sort_unstable();
        assert_eq!((held[0], held[255]), (250, 748));
        assert!(held.windows(2).all(|pair| pair[1] - pair[0] <= 2), "{held:?}");
    }

    #[test]
    fn a_line_is_written_once_a_second() {
        let overload = Overload::new();
        let said: Vec<_> =
            [5000, 5001, 5999, 6000, 6500, 4000].map(|now| overload.refuse(now)).into();
        // The last one is a clock that stepped back.
        assert_eq!(said, [Some(1), None, None, Some(3), None, Some(2)]);
    }
}
