//! Listeners on the journal: what a store keeps for them, and who carries a callback out.
//!
//! The journal has one order over all sessions: each commit that journals anything is a row, and
//! rows are numbered from 1 in the order in which they became durable. A listener's place is the
//! last row it is done with.

use std::sync::Arc;

use super::BoxFuture;
use super::store::StoreError;
use crate::ids::{Seq, Timestamp};
use crate::journal::Event;
use crate::session_key::SessionKey;

/// One commit's entries in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalRow {
    /// Its place among all rows.
    pub position: u64,
    /// Whose it is and what happened; or why it can't be read, which must hold up nobody.
    pub content: Result<(SessionKey, Vec<Event>), String>,
}

/// A callback that failed and has to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The row of its event.
    pub position: u64,
    /// The event within it.
    pub seq: Seq,
    /// The event's type.
    pub event_type: &'static str,
    /// When it failed.
    pub at: Timestamp,
    /// What became of it.
    pub failure: Failure,
}

/// How a try failed, and what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Tries so far.
    pub tries: u32,
    /// When it is tried again; none if it is dead.
    pub due_at: Option<Timestamp>,
    /// What went wrong, in words and without any text of a message.
    pub error: Arc<str>,
}

/// A kept callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The store's own number for it, growing.
    pub id: u64,
    /// The row of its event.
    pub position: u64,
    /// The event within it.
    pub seq: Seq,
    /// The event's type.
    pub event_type: String,
    /// Whose event it is, while that is still known.
    pub session: Option<SessionKey>,
    /// When it failed first.
    pub at: Timestamp,
    /// How it stands.
    pub failure: Failure,
}

/// How a listener stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The last row it is done with.
    pub position: u64,
    /// Callbacks that wait for another try.
    pub pending: u64,
    /// Callbacks that a person has to look at.
    pub dead: u64,
}

/// Which dead callbacks are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// This one.
    One(u64),
    /// The oldest ones, at most so many.
    Oldest(usize),
}

/// What a store keeps for listeners.
pub trait ListenerStore: Send + Sync + 'static {
    /// The last row of the journal; 0 while there is none.
    fn journal_end(&self) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Rows behind `after`, in order, at most `limit` and of a bounded size in all; none only at
    /// the end. Listeners rely on no row ever appearing before one that was seen.
    fn journal_after(
        &self,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<JournalRow>, StoreError>>;

    /// Takes note that these listeners are configured, gives each that is new its place at the
    /// journal's end, and forgets those that were not configured since `forget_before`.
    fn enrol(
        &self,
        names: Vec<String>,
        now: Timestamp,
        forget_before: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// How a listener stands; none for one that was never enrolled.
    fn standing(&self, listener: &str) -> BoxFuture<'_, Result<Option<Standing>, StoreError>>;

    /// Moves a listener's place on to `position` and keeps what failed on the way, both or
    /// neither. Beyond [`PENDING_MAX`](crate::listen::PENDING_MAX) the oldest become dead. Doing it
    /// again changes nothing, so that it can be repeated where its outcome is unknown.
    fn advance(
        &self,
        listener: &str,
        position: u64,
        missed: Vec<Missed>,
    ) -> BoxFuture<'_, Result<Standing, StoreError>>;

    /// Callbacks whose next try is due, the longest due first.
    fn due(
        &self,
        listener: &str,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Kept>, StoreError>>;

    /// When the next try of any callback is due.
    fn next_due(&self, listener: &str) -> BoxFuture<'_, Result<Option<Timestamp>, StoreError>>;

    /// Says how tries of kept callbacks ended, by their ids: with no failure they are forgotten.
    fn settle(
        &self,
        listener: &str,
        ended: Vec<(u64, Option<Failure>)>,
    ) -> BoxFuture<'_, Result<Standing, StoreError>>;

    /// Dead callbacks behind the number `after`, oldest first.
    fn dead(
        &self,
        listener: &str,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Kept>, StoreError>>;

    /// Gives dead callbacks all their tries again, the first one now; says how many.
    fn revive(
        &self,
        listener: &str,
        which: Which,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<usize, StoreError>>;

    /// Gives dead callbacks up; says how many.
    fn discard(&self, listener: &str, which: Which) -> BoxFuture<'_, Result<usize, StoreError>>;
}

/// One callback on its way.
#[derive(Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The same for every try.
    pub id: String,
    /// What is said.
    pub body: Vec<u8>,
}

/// How a try ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// The receiver has it.
    Delivered,
    /// It may be tried again.
    Failed {
        /// What went wrong, without any text of a message and without the address.
        error: Arc<str>,
        /// How long the receiver wants to be left alone.
        retry_after_ms: Option<u64>,
    },
    /// The receiver wants no callbacks any more.
    Gone,
}

/// Carries callbacks to one receiver: knows its address and its secret, signs with the moment of
/// the try, and gives up within a bounded time.
pub trait Courier: Send + Sync + 'static {
    /// Tries once. Dropping the future ends the try; nobody knows then whether it arrived.
    fn carry(&self, delivery: Delivery) -> BoxFuture<'_, Carried>;
}
