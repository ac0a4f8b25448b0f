//! Where sessions live. The contract that recovery leans on stands at each method.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::BoxFuture;
use crate::ids::{Attempt, Epoch, Seq, Timestamp, TurnGroupId, TurnId, Version};
use crate::journal::{DeadReason, Event};
use crate::message::{Action, MessageBody, Seen};
use crate::outbox::DeliveryState;
use crate::policy::Trust;
use crate::session::Session;
use crate::session_key::SessionKey;
use crate::usage::Sums;

mod nodes;
mod stats;

pub use nodes::{BITE_MIN, Bite, But, Holder, Leased, OFFERS_COUNTED, Offer, Offered};
pub use stats::StoreStats;

/// One session's step, to be made durable as a whole or not at all.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Whose.
    pub key: SessionKey,
    /// The version it was built on; 0 for a session that must not exist yet.
    pub expected: Version,
    /// The next state.
    pub session: Arc<Session>,
    /// What to index as open work, see [`Session::wake_at`].
    pub wake_at: Option<Timestamp>,
    /// Everything else.
    pub rows: Rows,
}

impl Commit {
    /// The step's own time, by which a guard's memory has expired or not.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.rows.question.unwrap_or(self.session.updated_at)
    }
}

/// Rows that a step adds or replaces.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// New journal entries, gapless.
    pub events: Vec<Event>,
    /// Turns to insert or replace by id.
    pub turns: SmallVec<[TurnRow; 1]>,
    /// Parts of replies to insert or replace by (reply, part). An empty text keeps the stored one.
    pub parts: SmallVec<[PartRow; 1]>,
    /// New dead letters.
    pub dead_letters: Vec<DeadLetter>,
    /// What runs used, to be added to the sums.
    pub usage: Vec<UsageRow>,
    /// Conditions; if one doesn't hold, nothing of the commit happens.
    pub guards: SmallVec<[Guard; 1]>,
    /// Set where nothing changed and the guards are only asked, as of this time. Then nothing is
    /// written at all, not even what a guard would remember, and the version stays; a session that
    /// does not exist is not made.
    pub question: Option<Timestamp>,
}

impl Rows {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
            && self.turns.is_empty()
            && self.parts.is_empty()
            && self.dead_letters.is_empty()
            && self.usage.is_empty()
            && self.guards.is_empty()
    }

    /// Adds a turn's row or replaces the one that stands there for it.
    pub fn put_turn(&mut self, row: TurnRow) {
        match self.turns.iter_mut().find(|known| known.id == row.id) {
            Some(known) => *known = row,
            None => self.turns.push(row),
        }
    }

    /// Adds a part's row or replaces the one that stands there for it.
    pub fn put_part(&mut self, row: PartRow) {
        match self.parts.iter_mut().find(|known| (known.reply, known.part) == (row.reply, row.part))
        {
            Some(known) => {
                let text = if row.text.is_empty() { known.text.clone() } else { row.text.clone() };
                *known = PartRow { text, ..row };
            }
            None => self.parts.push(row),
        }
    }
}

/// A condition of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// This message was not seen before; remembers it, with the decision it gets.
    NotSeen {
        /// Its dedupe key and body.
        seen: Seen,
        /// What a twin will be told.
        first: FirstDecision,
        /// Kept until then at least.
        until: Timestamp,
    },
    /// This session's dead letter is still there; removes it.
    TakeDeadLetter(Seq),
    /// This session's part still stands as somebody read it, and its text was not taken out. No part
    /// is parked twice after the same number of tries, so of all who read it so only one is let
    /// through.
    Parked {
        /// The journal place of the reply.
        reply: Seq,
        /// Which part of it.
        part: u32,
        /// Where it stood.
        state: DeliveryState,
        /// Tries begun by then.
        tries: u32,
    },
}

/// The decision that the first of several twins got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstDecision {
    /// Where it was taken, if not in the session that asks: the key is wider than a session.
    pub session: SessionKey,
    /// Its place in that session's journal.
    pub seq: Seq,
    /// What was done.
    pub action: Action,
    /// Its turn, for then.
    pub turn: Option<TurnId>,
    /// Its place in the queue, for then.
    pub queue_position: Option<u32>,
}

/// How a commit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// Durable; this is the session's new version.
    Committed(Version),
    /// Somebody else wrote the session: reload and redo.
    Conflict,
    /// A guard did not hold; nothing was written.
    Refused {
        /// Which, by its index in [`Rows::guards`].
        guard: usize,
        /// For [`Guard::NotSeen`]: the first decision, and whether the bodies are the same.
        first: Option<(FirstDecision, bool)>,
    },
}

/// What can go wrong with a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store can't say whether the work happened: acknowledge nothing, forget the stepped
    /// state, reload before the next step.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// What is stored can't be read; a person has to look.
    #[error("stored data can't be read: {0}")]
    Corrupt(String),
}

/// A loaded session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Its state, with the bodies of pending messages and parts filled in.
    pub session: Arc<Session>,
    /// Its version.
    pub version: Version,
}

/// How a turn stands, as the outside sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnStatus {
    /// Gathering the burst.
    Accumulating,
    /// The agent works, or will again.
    Processing,
    /// The agent asked something.
    WaitingForInput,
    /// It waits for an operator.
    WaitingForOperator,
    /// Answered.
    Complete,
    /// Another turn took its place.
    Superseded,
    /// Ended by a person.
    Cancelled,
    /// Gave up.
    Failed,
}

/// What is known of a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnRow {
    /// Which.
    pub id: TurnId,
    /// Its supersede chain.
    pub group: TurnGroupId,
    /// How it stands.
    pub status: TurnStatus,
    /// Runs begun.
    pub attempt: Attempt,
    /// Who ran it last.
    pub epoch: Epoch,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Its messages, by the channel's ids.
    pub message_ids: SmallVec<[Arc<str>; 1]>,
    /// Its reply.
    pub reply: Option<Arc<str>>,
    /// What went wrong last.
    pub error: Option<Arc<str>>,
    /// Which version of the agent answered, where it has one.
    pub version: Option<Arc<str>>,
    /// The operator who answered in the agent's place.
    pub by: Option<Arc<str>>,
}

/// A part of a reply for a channel that is pushed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartRow {
    /// The journal place of the reply.
    pub reply: Seq,
    /// Which part of it, from 0.
    pub part: u32,
    /// Where it stands.
    pub state: DeliveryState,
    /// Tries begun.
    pub tries: u32,
    /// The text.
    pub text: Arc<str>,
    /// What the channel said last.
    pub detail: Option<Arc<str>>,
    /// When it last changed.
    pub at: Timestamp,
}

/// What a run used for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRow {
    /// For which turn; it may be over, or one that has no row, which only sums know of then.
    pub turn: TurnId,
    /// When it was reported.
    pub at: Timestamp,
    /// The agent that did the work, where it is not the session's own.
    pub agent: Option<Arc<str>>,
    /// Which model answered.
    pub model: Arc<str>,
    /// How much.
    pub sums: Sums,
}

/// A message that a person has to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The journal place of its acceptance.
    pub seq: Seq,
    /// Its turn group, kept by a retry.
    pub group: TurnGroupId,
    /// Its trust.
    pub trust: Trust,
    /// Why it is here.
    pub reason: DeadReason,
    /// Since when.
    pub at: Timestamp,
    /// What it says.
    pub body: Arc<MessageBody>,
}

/// The place of a part among those of all sessions.
pub type PartPlace = (SessionKey, Seq, u32);

/// A dead letter with the store's own number and its session.
pub type NumberedDeadLetter = (u64, SessionKey, DeadLetter);

/// The port.
pub trait Store: Send + Sync + 'static {
    /// The epoch drawn when this store was opened: greater than every earlier one, durably.
    fn epoch(&self) -> Epoch;

    /// Who has what stands under this epoch, as far as it is known now. Never blocks. A store that
    /// only one node has open knows of none but itself.
    fn holder(&self, epoch: Epoch) -> Holder {
        match epoch.cmp(&self.epoch()) {
            Ordering::Less => Holder::Nobody,
            Ordering::Equal => Holder::Us,
            Ordering::Greater => Holder::Later,
        }
    }

    /// Whether other nodes may have this store open too, so that sessions change behind this one's
    /// back.
    fn is_shared(&self) -> bool {
        false
    }

    /// Sessions that this node has and another one wrote. Each is named once: who doesn't get the
    /// answer has to look at all that it has.
    fn knocks(&self, limit: usize) -> BoxFuture<'_, Result<Vec<SessionKey>, StoreError>> {
        let _ = limit;
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Where the journals of these sessions end; whoever isn't there is left out.
    fn last_seqs<'a>(
        &'a self,
        keys: &'a [SessionKey],
    ) -> BoxFuture<'a, Result<Vec<(SessionKey, Seq)>, StoreError>> {
        let _ = keys;
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Offers open work that nobody has who lives and runs turns, as far as it isn't offered; at most
    /// `limit`. Says how much that was.
    fn offer_left(&self, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        let _ = limit;
        Box::pin(std::future::ready(Ok(0)))
    }

    /// Takes some of what is offered to all who run turns, what came first before the rest, and nothing
    /// of what is in `but`. It is given to one node only; of one that ends before it took it up,
    /// [`Store::offer_left`] finds it.
    fn take_offered<'a>(
        &'a self,
        of: &'a [Offer],
        bite: Bite,
        but: But<'a>,
    ) -> BoxFuture<'a, Result<Offered, StoreError>> {
        let _ = (of, bite, but);
        Box::pin(std::future::ready(Ok(Offered::default())))
    }

    /// Takes what only one of all nodes may have, or keeps it; says whether this node has it. It
    /// stays so until the node ends or is put out.
    fn lease<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        let _ = name;
        Box::pin(std::future::ready(Ok(true)))
    }

    /// Whose this lease is, as it was seen last: once any node had it, only who has it may do what it is
    /// for. Never blocks.
    fn leased(&self, name: &str) -> Leased {
        let _ = name;
        Leased::Never
    }

    /// How often `keys`, `people`, `restrictions`, `jobs` and `boards` were changed by whichever
    /// node, as it was seen last: where a number moved, what was read before is old. `nodes` moves
    /// when a node came or went.
    fn marks(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::new()
    }

    /// This node runs turns in the place of those that do: the number under which it takes their
    /// sessions, and none else. From before this answers until [`Store::step_back`] every node
    /// leaves to it what stands under that number; what stands under its own is taken as ever.
    fn stand_in(&self) -> BoxFuture<'_, Result<Epoch, StoreError>> {
        Box::pin(std::future::ready(Ok(self.epoch())))
    }

    /// It does so no more: what stands under that number is nobody's, whether this goes well or not.
    fn step_back(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// How many other nodes have this store open, as they were seen last: those that run turns, and
    /// those that don't. Never blocks.
    fn neighbours(&self) -> [usize; 2] {
        [0; 2]
    }

    /// Ready, or why not. Never blocks.
    fn health(&self) -> Result<(), String>;

    /// What it counted so far; zeros where a store counts nothing.
    fn stats(&self) -> StoreStats {
        StoreStats::default()
    }

    /// Jobs that wait to be made durable now; asked for every message.
    fn waiting(&self) -> u64 {
        self.stats().waiting
    }

    /// A session as of its last commit. Recovery relies on it seeing every commit that was
    /// reported as [`CommitOutcome::Committed`], and on bodies being filled in.
    fn load(&self, key: &SessionKey) -> BoxFuture<'_, Result<Option<Loaded>, StoreError>>;

    /// Makes one step durable. When it reports `Committed`, the step survives a power cut; when it
    /// reports an error, the outcome is unknown. Never writes half of a commit.
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<CommitOutcome, StoreError>>;

    /// Sessions with open work whose `wake_at` is at most `before`, in that order, behind
    /// `after`. Recovery relies on it naming every session with open work, and it touches no idle
    /// one.
    fn open_work(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, SessionKey)>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Timestamp, SessionKey)>, StoreError>>;

    /// The same of what this node has, where others have this store open too.
    fn own_work(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, SessionKey)>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Timestamp, SessionKey)>, StoreError>> {
        self.open_work(before, after, limit)
    }

    /// Sessions in order of their keys, behind `after`, optionally of one tenant.
    fn sessions(
        &self,
        tenant: Option<&str>,
        after: Option<&SessionKey>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(SessionKey, Loaded)>, StoreError>>;

    /// A session's journal behind `after`, oldest first.
    fn events(
        &self,
        key: &SessionKey,
        after: Seq,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Event>, StoreError>>;

    /// A turn and its session.
    fn turn(&self, id: TurnId) -> BoxFuture<'_, Result<Option<(SessionKey, TurnRow)>, StoreError>>;

    /// A session's turns, newest first, older than `before`.
    fn turns(
        &self,
        key: &SessionKey,
        before: Option<TurnId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<TurnRow>, StoreError>>;

    /// Dead letters by the store's own number, behind `after`.
    fn dead_letters(
        &self,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<NumberedDeadLetter>, StoreError>>;

    /// How many dead letters there are; `max` where there are more.
    fn dead_letters_count(&self, max: usize) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// One dead letter.
    fn dead_letter(
        &self,
        id: u64,
    ) -> BoxFuture<'_, Result<Option<(SessionKey, DeadLetter)>, StoreError>>;

    /// A session's parts behind (reply, part), in order.
    fn parts(
        &self,
        key: &SessionKey,
        after: (Seq, u32),
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<PartRow>, StoreError>>;

    /// Parts of all sessions that are [`DeliveryState::Unknown`] or [`DeliveryState::Dead`], or only
    /// those in the `state` that is asked for, optionally of one tenant: in order of their sessions'
    /// keys, then of their replies, behind `after`. It looks at no part in another state. One whose
    /// text was taken out is none of them: nothing can be sent again.
    fn parked(
        &self,
        tenant: Option<&str>,
        state: Option<DeliveryState>,
        after: Option<&PartPlace>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(SessionKey, PartRow)>, StoreError>>;

    /// Forgets dedupe keys whose time is over, at most `limit`; says how many.
    fn forget_seen(&self, now: Timestamp, limit: usize)
    -> BoxFuture<'_, Result<usize, StoreError>>;

    /// Ends the writer after what it has; later commits are refused.
    fn close(&self) -> BoxFuture<'_, ()>;
}
