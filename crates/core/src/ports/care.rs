//! Keeping and forgetting: what a store can do beside committing steps.
//!
//! Forgetting has two halves. The first is one short change that says where a history begins from
//! now on; every read holds to it at once. The second removes the rows in steps so small that no
//! commit waits for them, and goes on after a crash.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::BoxFuture;
use super::store::{DeadLetter, StoreError};
use crate::care::Forgotten;
use crate::ids::{Seq, Timestamp, TurnId, Version};
use crate::session_key::SessionKey;

/// A session's history shall begin later, or end altogether.
#[derive(Clone, Debug)]
pub struct Forget {
    /// Whose.
    pub key: SessionKey,
    /// The version that was read; another one refuses it.
    pub expected: Version,
    /// Where the history began when it was read; another place refuses it.
    pub from: Seq,
    /// What stands for the beginning that goes.
    pub forgotten: Forgotten,
    /// Erases the session as well: its key becomes free, and what stands for it gets a name made
    /// of this and the store's own number.
    pub bury_as: Option<String>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgot {
    /// It is so from now on; how many dead letters went.
    Done(u64),
    /// The session was written to since it was read, or is gone: read it again.
    Changed,
    /// Rows of an earlier change are still there: sweep first.
    Unswept,
}

/// What one step of removing did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Rows removed.
    pub rows: u64,
    /// There are more.
    pub more: bool,
}

/// Texts to be taken out of a history that stays.
#[derive(Clone, Debug)]
pub struct Redaction {
    /// Whose.
    pub key: SessionKey,
    /// Places of the journal, with the parts that were made of them.
    pub places: Vec<Seq>,
    /// Turns.
    pub turns: Vec<TurnId>,
}

/// A message that disappears, and when to look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disappearing {
    /// Whose session.
    pub key: SessionKey,
    /// The place of the message.
    pub seq: Seq,
    /// After so many seconds it shall be nowhere any more.
    pub seconds: u32,
    /// When that is, or when to look again.
    pub due_at: Timestamp,
}

/// A stretch of the search for somebody's messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Sessions of the tenant in which somebody wrote; one may be named again by a later stretch.
    pub keys: Vec<SessionKey>,
    /// Where the next stretch begins; none at the end.
    pub next: Option<u64>,
    /// Where the end is, for who shows how far it is.
    pub end: u64,
}

/// A stretch of the search for what texts name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hashes {
    /// Hashes that stand in it.
    pub found: BTreeSet<String>,
    /// Where the next stretch begins; none at the end.
    pub next: Option<u64>,
}

/// Where a backup goes and how it may be stopped.
pub struct BackupOrder {
    /// The file. It appears whole or not at all.
    pub file: PathBuf,
    /// A file that is there already may be replaced.
    pub replace: bool,
    /// Told now and then how many bytes of about how many are written; false ends it.
    pub progress: Box<dyn FnMut(u64, u64) -> bool + Send>,
}

impl std::fmt::Debug for BackupOrder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, replace, .. } = self;
        let mut shown = formatter.debug_struct("BackupOrder");
        shown.field("file", file).field("replace", replace).finish_non_exhaustive()
    }
}

/// Why there is no backup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// Whoever asked for it stopped it.
    #[error("the backup was stopped")]
    Stopped,
    /// This store has no file that could be copied.
    #[error("this store has no file to copy: a database is backed up by its own tools")]
    NoFile,
    /// The file is there already.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// There is no room for it.
    #[error("the disk that shall hold {} is full", .0.display())]
    Full(PathBuf),
    /// The file can't be a backup's.
    #[error("{} can't be a backup's name: {why}", file.display())]
    Unfit {
        /// Which.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The disk or the store failed.
    #[error("the backup failed: {0}")]
    Failed(String),
}

/// The port.
pub trait CareStore: Send + Sync + 'static {
    /// What stands for the beginning of a session's history, if that is gone.
    fn forgotten(&self, key: &SessionKey) -> BoxFuture<'_, Result<Option<Forgotten>, StoreError>>;

    /// Keys in their order behind `after`, optionally of one tenant; states are not read.
    fn keys(
        &self,
        tenant: Option<&str>,
        after: Option<&SessionKey>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<SessionKey>, StoreError>>;

    /// A session's dead letters.
    fn letters(&self, key: &SessionKey) -> BoxFuture<'_, Result<Vec<DeadLetter>, StoreError>>;

    /// Sets where a history begins, and removes the dead letters of what is gone. Durable when
    /// answered; what is gone is read by nobody from then on.
    fn forget(&self, forget: Forget) -> BoxFuture<'_, Result<Forgot, StoreError>>;

    /// Removes about `limit` rows that nobody reads any more.
    fn sweep(&self, limit: usize) -> BoxFuture<'_, Result<Swept, StoreError>>;

    /// Takes texts out of entries, turns and parts; those that are gone already are passed over.
    fn redact(&self, redaction: Redaction) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Messages that disappear, due by `until`, the earliest first. Each is known from the commit on
    /// that accepted it.
    fn disappearing(
        &self,
        until: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Disappearing>, StoreError>>;

    /// These were looked at: they are due again then, or never where nothing of them is left.
    fn put_off(
        &self,
        key: &SessionKey,
        looked_at: Vec<(Seq, Option<Timestamp>)>,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Looks for messages of a sender in one stretch of everything that was ever written, from
    /// `from`, at first 0. It reads all of the journal: there is no index of senders.
    fn find_sender(
        &self,
        tenant: &str,
        sender: &str,
        from: u64,
    ) -> BoxFuture<'_, Result<Found, StoreError>>;

    /// Looks for hashes that texts name, in one stretch of everything that was ever written, as
    /// [`Self::find_sender`] does, and in jobs and reminders. What can't be read is an error: it
    /// might name any.
    fn find_hashes(&self, from: u64) -> BoxFuture<'_, Result<Hashes, StoreError>>;

    /// Whether texts were taken out since [`Self::scrub`] last did all of its work; also if another
    /// process did that.
    fn is_unscrubbed(&self) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Makes sure that what was removed stands nowhere in the store's files any more, as far as the
    /// store's engine lets it: what a database server can't reach stands in docs/care.md. False if
    /// something kept it from doing so just now.
    fn scrub(&self) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// A secret of this store, by which the erased are told apart and not guessed.
    fn salt(&self) -> BoxFuture<'_, Result<Vec<u8>, StoreError>>;

    /// Writes a consistent copy of everything while commits go on; says how many bytes. Durable when
    /// answered.
    fn backup(&self, order: BackupOrder) -> BoxFuture<'_, Result<u64, BackupError>>;
}
