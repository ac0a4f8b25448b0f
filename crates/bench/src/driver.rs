//! The tasks that send: a user who awaits each answer, a connection that carries many
//! users' messages, and the flood.
//!
//! No task ever gives up because of what the server does, short of being unreachable for
//! long: refusals and lost connections are counted, and it goes on.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::answer::{Answer, Outcome};
use crate::book::{Book, Event};
use crate::connection::{Line, LineError, Reply};
use crate::request::{Requests, Sender};
use crate::slow::SlowBook;
use crate::{Dial, Plan};

/// Connections that share the users of an open run.
pub(crate) const OPEN_CONNECTIONS_MAX: usize = 128;

/// Connections that are opened at the same time.
pub(crate) const DIALLING_MAX: usize = 64;

/// First pause after a setback; doubled each time.
const BACKOFF_MIN: Duration = Duration::from_millis(50);

/// Longest pause after a setback.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Longest pause that a server can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// Attempts to connect before a user leaves, about a minute in all.
const CONNECT_ATTEMPTS_MAX: u32 = 30;

/// What all tasks of a run share.
#[derive(Debug)]
pub(crate) struct Run<D> {
    pub(crate) plan: Plan,
    pub(crate) requests: Requests,
    pub(crate) dial: D,
    pub(crate) book: Book,
    /// The flood is one user with books of its own.
    pub(crate) flood_book: Book,
    pub(crate) slow_book: SlowBook,
    /// The most memory that the server was seen with, in bytes; 0 where nobody could look.
    pub(crate) rss_max_bytes: AtomicU64,
    /// Limits how many connections are being opened at once: a server's queue of new
    /// connections is short, and who finds it full is only let in a second later.
    pub(crate) dialling: Semaphore,
    /// Begin nothing more; what is in flight may finish.
    pub(crate) winding_down: CancellationToken,
}

/// Sends one user's bursts, each after the answer to the last, until they are all sent
/// or the run winds down.
pub(crate) async fn closed_user<D: Dial>(run: Arc<Run<D>>, user: usize) {
    let mut driver = Driver::new(&run, &run.book);
    let messages = run.plan.messages.unwrap_or(u64::MAX);
    let mut sent = 0;
    let mut flow = run.ramp(user, run.plan.users).await;
    while flow.is_continue() && sent < messages {
        let length = run.plan.burst.min(messages - sent);
        flow = driver.burst(user, sent + 1, length).await;
        sent += length;
    }
}

/// Sends the messages of every `step`th user from `first` on, without awaiting answers.
pub(crate) async fn open_users<D: Dial>(run: Arc<Run<D>>, first: usize, step: usize) {
    let mut driver = Driver::new(&run, &run.book);
    let messages = run.plan.messages.unwrap_or(u64::MAX);
    let mut sent = 0;
    let mut flow = run.ramp(first, step).await;
    while flow.is_continue() && sent < messages {
        let length = run.plan.burst.min(messages - sent);
        for user in (first..run.plan.users).step_by(step) {
            flow = driver.accept_burst(user, sent + 1, length).await;
            if flow.is_break() {
                return;
            }
        }
        sent += length;
    }
}

/// Sends one user's share of a rate, each message at its moment or as soon after as its connection
/// is free, until they are all sent or the run winds down.
pub(crate) async fn paced_user<D: Dial>(run: Arc<Run<D>>, user: usize, rate: f64) {
    let mut driver = Driver::new(&run, &run.book);
    for number in 0..run.plan.messages.unwrap_or(u64::MAX) {
        let index = number.saturating_mul(run.plan.users as u64).saturating_add(user as u64);
        let Some(due) = run.due(index, rate) else { return };
        if run.until(due).await.is_break() || driver.paced(user, number + 1, due).await.is_break() {
            return;
        }
    }
}

/// One connection of the flood: message after message until the run winds down. Messages
/// are numbered so that no two connections send the same one.
pub(crate) async fn flood<D: Dial>(run: Arc<Run<D>>, first: u64, step: u64) {
    let mut driver = Driver::new(&run, &run.flood_book);
    let mut number = first;
    loop {
        if let Some(rate) = run.plan.flood_rate_per_second {
            let Some(due) = run.due(number, rate) else { return };
            if run.until(due).await.is_break() {
                return;
            }
        }
        if driver.accept(0, Sender::Flood, number).await.is_break() {
            return;
        }
        number += step;
    }
}

impl<D> Run<D> {
    /// Waits for a task's share of the ramp.
    async fn ramp(&self, index: usize, of: usize) -> ControlFlow<()> {
        let share = index as f64 / of.max(1) as f64;
        self.pause(self.plan.ramp.mul_f64(share)).await
    }

    /// When the message of this number is to be sent; none if that is out of sight.
    fn due(&self, index: u64, rate_per_second: f64) -> Option<Instant> {
        let since = Duration::try_from_secs_f64(index as f64 / rate_per_second).ok()?;
        self.book.started_at().checked_add(since)
    }

    /// Waits for a moment, unless the run winds down before it.
    async fn until(&self, due: Instant) -> ControlFlow<()> {
        tokio::select! {
            biased;
            () = self.winding_down.cancelled() => ControlFlow::Break(()),
            () = sleep_until(due) => ControlFlow::Continue(()),
        }
    }

    /// Sleeps, unless the run winds down meanwhile.
    pub(crate) async fn pause(&self, pause: Duration) -> ControlFlow<()> {
        if pause.is_zero() {
            return ControlFlow::Continue(());
        }
        tokio::select! {
            () = sleep(pause) => ControlFlow::Continue(()),
            () = self.winding_down.cancelled() => ControlFlow::Break(()),
        }
    }
}

struct Driver<'a, D: Dial> {
    run: &'a Run<D>,
    book: &'a Book,
    line: Line<D>,
    /// Refusals and lost connections since the last success.
    setbacks: u32,
}

/// When a message was sent, and where in its burst it stands.
#[derive(Clone, Copy)]
struct Sending {
    began_at: Instant,
    sent_at: Instant,
    expected: Duration,
    wait: bool,
}

impl<'a, D: Dial> Driver<'a, D> {
    fn new(run: &'a Run<D>, book: &'a Book) -> Self {
        Self { run, book, line: Line::new(run.dial.clone()), setbacks: 0 }
    }

    async fn burst(&mut self, user: usize, first: u64, length: u64) -> ControlFlow<()> {
        self.connect(user).await?;
        let began_at = Instant::now();
        let expected = self.run.plan.expected(length);
        self.book.begin(user, began_at, expected);
        let mut sending = Sending { began_at, sent_at: began_at, expected, wait: length == 1 };
        let mut pause = Duration::ZERO;
        for index in 0..length {
            if index > 0 {
                self.run.pause(self.run.plan.burst_gap()).await?;
                self.connect(user).await?;
                sending.sent_at = Instant::now();
                sending.wait = index + 1 == length;
            }
            let result = self.send(user, Sender::User(user), first + index, sending.wait).await;
            pause = pause.max(self.enter(user, sending, result));
        }
        self.book.end(user);
        self.run.pause(pause).await
    }

    async fn accept_burst(&mut self, user: usize, first: u64, length: u64) -> ControlFlow<()> {
        for index in 0..length {
            if index > 0 {
                self.run.pause(self.run.plan.burst_gap()).await?;
            }
            self.accept(user, Sender::User(user), first + index).await?;
        }
        ControlFlow::Continue(())
    }

    /// Sends a message that was due at this moment, and counts its time from there. What was
    /// answered changes nothing about what comes next.
    async fn paced(&mut self, user: usize, number: u64, due: Instant) -> ControlFlow<()> {
        self.connect(user).await?;
        let wait = self.run.plan.wait;
        let expected = if wait { self.run.plan.expected(1) } else { Duration::ZERO };
        self.book.begin(user, due, expected);
        let sent_at = if wait { Instant::now() } else { due };
        let sending = Sending { began_at: due, sent_at, expected, wait };
        let result = self.send(user, Sender::User(user), number, wait).await;
        let is_lost = result.is_err();
        let pause = self.enter(user, sending, result);
        self.book.end(user);
        if is_lost { self.run.pause(pause).await } else { ControlFlow::Continue(()) }
    }

    /// Sends a message without awaiting its answer. A refusal is no reason to pause: the
    /// next message is another user's, or the flood's.
    async fn accept(&mut self, user: usize, sender: Sender, number: u64) -> ControlFlow<()> {
        self.connect(user).await?;
        let sent_at = Instant::now();
        let expected = Duration::ZERO;
        let sending = Sending { began_at: sent_at, sent_at, expected, wait: false };
        let result = self.send(user, sender, number, false).await;
        let is_lost = result.is_err();
        let pause = self.enter(user, sending, result);
        if is_lost { self.run.pause(pause).await } else { ControlFlow::Continue(()) }
    }

    async fn send(
        &mut self,
        user: usize,
        sender: Sender,
        number: u64,
        wait: bool,
    ) -> Result<Reply, LineError> {
        self.book.note(user, Event::Sent);
        let body = self.run.requests.body(sender, number);
        self.line.send(self.run.requests.chat(wait), body).await
    }

    /// Enters into the books what came of a message, and says how long to pause for it.
    fn enter(
        &mut self,
        user: usize,
        sending: Sending,
        result: Result<Reply, LineError>,
    ) -> Duration {
        let Sending { began_at, sent_at, expected, wait } = sending;
        let ended_at = Instant::now();
        let ended = |outcome, turn| {
            if wait {
                Event::Ended { began_at, sent_at, ended_at, expected, outcome, turn }
            } else {
                Event::Accepted { sent_at, took: ended_at.duration_since(sent_at), turn }
            }
        };
        let (event, setback) = match result.map(|reply| Answer::read(&reply)) {
            Ok(Answer::Ended { outcome, turn }) => (ended(outcome, turn), None),
            Ok(Answer::Accepted { turn }) => (ended(Outcome::Unanswered, turn), None),
            Ok(Answer::Refused { reason, retry_after }) => {
                let setback = self.run.plan.obey_retry_after.then_some(retry_after);
                (Event::Refused { sent_at, reason }, setback)
            }
            Ok(Answer::Unreadable) => {
                (Event::Failed { sent_at, kind: "answer not understood".to_owned() }, Some(None))
            }
            Err(error) => (Event::Failed { sent_at, kind: error.kind() }, Some(None)),
        };
        self.book.note(user, event);
        let Some(retry_after) = setback else {
            self.setbacks = 0;
            return Duration::ZERO;
        };
        self.setbacks += 1;
        retry_after.map_or(backoff(self.setbacks), |pause| pause.min(RETRY_AFTER_MAX))
    }

    async fn open(&mut self) -> Result<bool, LineError> {
        // Never closed, so there is always a permit in the end.
        let _permit = self.run.dialling.acquire().await;
        self.line.open().await
    }

    /// Makes sure of a connection; breaks if the run winds down, or there is none to be had.
    async fn connect(&mut self, user: usize) -> ControlFlow<()> {
        for attempt in 1..=CONNECT_ATTEMPTS_MAX {
            if self.run.winding_down.is_cancelled() {
                return ControlFlow::Break(());
            }
            if self.line.is_ready().await {
                return ControlFlow::Continue(());
            }
            match self.open().await {
                Ok(false) => return ControlFlow::Continue(()),
                Ok(true) => {
                    self.book.note(user, Event::Reconnected);
                    return ControlFlow::Continue(());
                }
                Err(error) => {
                    self.book.note(user, Event::Unconnected { kind: error.kind() });
                    self.run.pause(backoff(attempt)).await?;
                }
            }
        }
        self.book.note(user, Event::GaveUp);
        ControlFlow::Break(())
    }
}

fn backoff(setbacks: u32) -> Duration {
    let factor = 1_u32.checked_shl(setbacks.saturating_sub(1)).unwrap_or(u32::MAX);
    BACKOFF_MIN.saturating_mul(factor.max(1)).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_limit() {
        let check = |setbacks, ms| assert_eq!(backoff(setbacks), Duration::from_millis(ms));
        check(1, 50);
        check(2, 100);
        check(6, 1600);
        check(7, 2000);
        check(40, 2000);
        check(u32::MAX, 2000);
    }
}
