//! Reading a data folder that somebody else may be writing to: what the audit uses.

use std::path::Path;

use rusqlite::Connection;
use turnkeep_core::care::Forgotten;
use turnkeep_core::ports::store::{DeadLetter, Loaded, PartRow, StoreError, TurnRow};
use turnkeep_core::usage::Sums;
use turnkeep_core::{Event, Seq, SessionKey, Timestamp, TurnId};

use super::open::{self, OpenError};
use super::readers::in_snapshot;
use super::{care, read, trouble, usage};
use crate::Reads;

/// The reads of the port, at once and on the caller's thread. It takes no lock on the folder, so
/// it works beside a running server as well as after a crash.
#[derive(Debug)]
pub struct SqliteReader {
    connection: Connection,
}

impl SqliteReader {
    /// Opens the database in `dir` to read it.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Ok(Self { connection: open::open_to_read(dir)? })
    }

    /// Opens any one file to read it, like a backup.
    pub fn open_file(file: &Path) -> Result<Self, OpenError> {
        Ok(Self { connection: open::open_file_to_read(file)? })
    }

    /// Runs several reads that all see the same moment. Keep it short beside a running server: as
    /// long as it lasts, the log can't begin anew.
    pub fn snapshot<T>(&self, reads: impl FnOnce(&Self) -> T) -> Result<T, StoreError> {
        Ok(in_snapshot(&self.connection, |_| Ok(reads(self)))?)
    }

    /// Looks at every page, and whether tables and indexes agree; says what is wrong.
    pub fn findings(&self) -> Result<Vec<String>, StoreError> {
        self.read(care::copy::findings)
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> trouble::Result<T>,
    ) -> Result<T, StoreError> {
        // Within a snapshot there is a transaction already.
        let answer = if self.connection.is_autocommit() {
            in_snapshot(&self.connection, read)
        } else {
            read(&self.connection)
        };
        Ok(answer?)
    }

    /// See [`turnkeep_core::ports::store::Store::load`].
    pub fn load(&self, key: &SessionKey) -> Result<Option<Loaded>, StoreError> {
        self.read(|connection| read::load(connection, key))
    }

    /// See [`turnkeep_core::ports::care::CareStore::forgotten`].
    pub fn forgotten(&self, key: &SessionKey) -> Result<Option<Forgotten>, StoreError> {
        self.read(|connection| care::forgotten(connection, key))
    }

    /// See [`turnkeep_core::ports::store::Store::open_work`].
    pub fn open_work(
        &self,
        before: Timestamp,
        after: Option<&(Timestamp, SessionKey)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, SessionKey)>, StoreError> {
        self.read(|connection| read::open_work(connection, before, after, limit))
    }

    /// See [`turnkeep_core::ports::store::Store::sessions`].
    pub fn sessions(
        &self,
        tenant: Option<&str>,
        after: Option<&SessionKey>,
        limit: usize,
    ) -> Result<Vec<(SessionKey, Loaded)>, StoreError> {
        self.read(|connection| read::sessions(connection, tenant, after, limit))
    }

    /// See [`turnkeep_core::ports::store::Store::events`].
    pub fn events(
        &self,
        key: &SessionKey,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        self.read(|connection| read::events(connection, key, after, limit))
    }

    /// Everything that a session used, by the sums.
    pub fn usage_of_session(&self, key: &SessionKey) -> Result<Sums, StoreError> {
        self.read(|connection| usage::of_session(connection, key))
    }

    /// See [`turnkeep_core::ports::store::Store::turn`].
    pub fn turn(&self, id: TurnId) -> Result<Option<(SessionKey, TurnRow)>, StoreError> {
        self.read(|connection| read::turn(connection, id))
    }

    /// See [`turnkeep_core::ports::store::Store::turns`].
    pub fn turns(
        &self,
        key: &SessionKey,
        before: Option<TurnId>,
        limit: usize,
    ) -> Result<Vec<TurnRow>, StoreError> {
        self.read(|connection| read::turns(connection, key, before, limit))
    }

    /// See [`turnkeep_core::ports::store::Store::dead_letters`].
    pub fn dead_letters(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, SessionKey, DeadLetter)>, StoreError> {
        self.read(|connection| read::dead_letters(connection, after, limit))
    }

    /// See [`turnkeep_core::ports::store::Store::dead_letter`].
    pub fn dead_letter(&self, id: u64) -> Result<Option<(SessionKey, DeadLetter)>, StoreError> {
        self.read(|connection| read::dead_letter(connection, id))
    }

    /// See [`turnkeep_core::ports::store::Store::parts`].
    pub fn parts(
        &self,
        key: &SessionKey,
        after: (Seq, u32),
        limit: usize,
    ) -> Result<Vec<PartRow>, StoreError> {
        self.read(|connection| read::parts(connection, key, after, limit))
    }
}

impl Reads for SqliteReader {
    fn moment(&self, reads: &mut dyn FnMut(&dyn Reads)) -> Result<(), StoreError> {
        self.snapshot(|reader| reads(reader))
    }

    fn load(&self, key: &SessionKey) -> Result<Option<Loaded>, StoreError> {
        self.load(key)
    }

    fn forgotten(&self, key: &SessionKey) -> Result<Option<Forgotten>, StoreError> {
        self.forgotten(key)
    }

    fn sessions(
        &self,
        tenant: Option<&str>,
        after: Option<&SessionKey>,
        limit: usize,
    ) -> Result<Vec<(SessionKey, Loaded)>, StoreError> {
        self.sessions(tenant, after, limit)
    }

    fn events(&self, key: &SessionKey, after: Seq, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.events(key, after, limit)
    }

    fn usage_of_session(&self, key: &SessionKey) -> Result<Sums, StoreError> {
        self.usage_of_session(key)
    }

    fn dead_letters(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, SessionKey, DeadLetter)>, StoreError> {
        self.dead_letters(after, limit)
    }
}
