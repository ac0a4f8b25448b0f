//! The switchboard: the sessions of one tenant for whoever watches and steers them, in their order,
//! with what each seat looks at. Plain data that the shell keeps under its one lock.
//!
//! [`Board`] is the whole of it; its parts stand in files of their own: what a commit says of a
//! conversation ([`heard`]), what a session may become ([`states`]), how people call sessions
//! ([`name`]) and how they are found by that, what seats look at, what is tidied away, and what of
//! it all is kept. Time comes in; whoever asks gets rows that nobody changes any more.

pub mod heard;
pub mod name;
pub mod states;

mod board;
mod entry;
mod finding;
mod kept;
mod list;
mod seats;
mod spare;
mod tidying;

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use smallvec::SmallVec;

use crate::ids::{QuestionId, Seq, Timestamp};
use crate::session::SessionStatus;
use crate::session_key::SessionKey;

pub use board::{Board, Limits, Noted, Observed};
pub use finding::Missing;
pub use heard::Heard;
pub use list::{Changes, List, Page, Totals};
pub use name::{NameError, SeatError, check_name, check_seat};
pub use seats::Closed;
pub use states::{STATES, may_become};
pub use tidying::Cleaned;

/// Unread places are counted up to here.
pub const UNREAD_MAX: usize = 100;
/// How long the text of what waits is at most, in characters.
pub const WAITING_CHARS_MAX: usize = 200;
/// Sessions that a seat remembers having looked at.
pub const SEAT_HISTORY_MAX: usize = 16;
/// Sessions that are named where a text could mean several.
pub const CANDIDATES_MAX: usize = 10;

/// A short name of a session that says nothing of whom it is with: 48 bits, which print as twelve
/// hexadecimal digits. Made by the shell out of the session's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId(u64);

impl RowId {
    /// How many digits it has.
    pub const DIGITS: usize = 12;

    /// The first 48 bits of what the key hashes to.
    #[must_use]
    pub const fn of_hash(hash: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(hash) >> 16)
    }
}

impl fmt::Display for RowId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:012x}", self.0)
    }
}

impl Serialize for RowId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One session as the switchboard shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its place in the order, from 1; never given to another session.
    pub number: u32,
    /// Its short name, made of its key.
    pub id: RowId,
    /// What people call it.
    pub name: Option<Arc<str>>,
    /// Which session.
    pub key: SessionKey,
    /// What it does.
    pub state: SessionStatus,
    /// What it waits for a person with.
    pub waiting: Option<Waiting>,
    /// Replies and notices that nobody has read, up to [`UNREAD_MAX`].
    pub unread: u32,
    /// Accepted messages that no running turn has taken.
    pub queued: u32,
    /// Where its journal ends.
    pub last_seq: Seq,
    /// Everything up to here was read, by whomever.
    pub read_seq: Seq,
    /// The seats that look at it, by name.
    pub active: SmallVec<[Arc<str>; 1]>,
    /// Since when it stands here.
    pub created_at: Timestamp,
    /// When the session last changed.
    pub updated_at: Timestamp,
    /// When a person last had to do with it here.
    pub touched_at: Timestamp,
    /// What it takes of this process.
    pub resources: Resources,
}

impl Row {
    /// When anybody last had to do with it.
    #[must_use]
    pub fn used_at(&self) -> Timestamp {
        self.touched_at.max(self.updated_at)
    }

    /// Nothing goes on in it.
    #[must_use]
    pub const fn is_at_rest(&self) -> bool {
        let rests = matches!(self.state, SessionStatus::Idle | SessionStatus::Hibernated);
        rests && self.queued == 0 && self.waiting.is_none()
    }
}

/// What a session waits for a person with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What sort of thing.
    pub kind: WaitingKind,
    /// In one line of at most [`WAITING_CHARS_MAX`] characters.
    pub text: Arc<str>,
    /// Since when.
    pub since: Timestamp,
    /// The question that is to be answered.
    pub question_id: Option<QuestionId>,
}

/// What a person is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitingKind {
    /// The agent asked something.
    Question,
    /// A tool wants approval.
    Approval,
    /// The last turn gave up, and nobody has looked.
    Error,
    /// Messages wait for the operator who has the agent's place.
    Operator,
}

/// What a session takes of this process, as far as it is known. What is open for it changes without
/// a word to anybody, so that is counted when somebody asks, and no part of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Resources {
    /// Text that is kept in memory: of the conversation's end, and what is being written.
    pub buffer_bytes: u64,
    /// Messages of the conversation that are kept in memory, and those that wait.
    pub messages: u64,
    /// Attempts of its agent under way.
    pub runs: u32,
    /// Tokens that its runs used, from its beginning on.
    pub tokens: u64,
}

#[cfg(test)]
mod tests;
