//! Keeping and forgetting in SQLite.
//!
//! [`forget`] decides in one short change where a history begins; [`sweep`] removes what stands
//! before it, a few rows a change. [`redact`] blanks texts in a history that stays, [`disappear`] knows
//! when that is due by itself, [`find`] looks
//! for sessions and senders, [`copy`] copies the database, [`restore`] puts a copy in the place of a
//! folder's database, [`files`] cleans the files.
//!
//! Deleted rows are overwritten (`secure_delete` is on for every connection that writes). What is
//! left of them is in unused parts of pages, which [`mop`] wipes, and in the log, which
//! [`files::empty_log`] moves into the database.

pub(crate) mod copy;
mod disappear;
mod files;
pub(super) mod find;
mod forget;
mod mop;
mod redact;
pub(crate) mod restore;
mod sweep;

use rusqlite::{Connection, OptionalExtension};
use turnkeep_core::care::Forgotten;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::care::{
    BackupError, BackupOrder, CareStore, Disappearing, Forget, Forgot, Found, Hashes, Redaction,
    Swept,
};
use turnkeep_core::ports::store::{DeadLetter, StoreError};
use turnkeep_core::{Seq, SessionKey, Timestamp, TurnId};

use mop::Look;

use super::read::uuid_of;
use super::trouble::{Result, Trouble};
use super::{SqliteStore, encode};

type Answer<'a, T> = BoxFuture<'a, std::result::Result<T, StoreError>>;

impl CareStore for SqliteStore {
    fn forgotten(&self, key: &SessionKey) -> Answer<'_, Option<Forgotten>> {
        let key = key.clone();
        self.readers.read(move |connection| forgotten(connection, &key))
    }

    fn keys(
        &self,
        tenant: Option<&str>,
        after: Option<&SessionKey>,
        limit: usize,
    ) -> Answer<'_, Vec<SessionKey>> {
        let (tenant, after) = (tenant.map(String::from), after.cloned());
        self.readers.read(move |connection| {
            find::keys(connection, tenant.as_deref(), after.as_ref(), limit)
        })
    }

    fn letters(&self, key: &SessionKey) -> Answer<'_, Vec<DeadLetter>> {
        let key = key.clone();
        self.readers.read(move |connection| find::letters(connection, &key))
    }

    fn forget(&self, forget: Forget) -> Answer<'_, Forgot> {
        Box::pin(async move {
            let named_elsewhere = match &forget.bury_as {
                Some(_) => self.named_elsewhere(&forget.key).await?,
                None => Vec::new(),
            };
            // The writer remembers sessions by their keys.
            let stale = forget.bury_as.iter().map(|_| forget.key.clone()).collect();
            let work = move |connection: &Connection| {
                value(forget::forget(connection, forget, &named_elsewhere))
            };
            self.change_behind(stale, work).await?
        })
    }

    fn sweep(&self, limit: usize) -> Answer<'_, Swept> {
        Box::pin(async move {
            self.change(move |connection| value(sweep::sweep(connection, limit))).await?
        })
    }

    fn redact(&self, redaction: Redaction) -> Answer<'_, ()> {
        Box::pin(async move {
            self.change(move |connection| value(redact::redact(connection, &redaction))).await?
        })
    }

    fn disappearing(&self, until: Timestamp, limit: usize) -> Answer<'_, Vec<Disappearing>> {
        self.readers.read(move |connection| disappear::due(connection, until, limit))
    }

    fn put_off(
        &self,
        key: &SessionKey,
        looked_at: Vec<(Seq, Option<Timestamp>)>,
    ) -> Answer<'_, ()> {
        let key = key.clone();
        Box::pin(async move {
            let put_off =
                move |connection: &Connection| disappear::put_off(connection, &key, &looked_at);
            self.change(put_off).await
        })
    }

    fn find_sender(&self, tenant: &str, sender: &str, from: u64) -> Answer<'_, Found> {
        let (tenant, sender) = (tenant.to_owned(), sender.to_owned());
        self.readers.read(move |connection| find::sender(connection, &tenant, &sender, from))
    }

    fn find_hashes(&self, from: u64) -> Answer<'_, Hashes> {
        self.readers.read(move |connection| find::hashes(connection, from))
    }

    fn is_unscrubbed(&self) -> Answer<'_, bool> {
        self.readers.read(|connection| Ok(unscrubbed(connection)?.is_some()))
    }

    fn scrub(&self) -> Answer<'_, bool> {
        Box::pin(async move {
            let before = self.readers.read(unscrubbed).await?;
            let wiped = self.wipe().await?;
            let dir = self.shared.dir().to_path_buf();
            let emptied = files::apart("store-scrub", move || files::empty_log(&dir)).await;
            let emptied = emptied.map_err(StoreError::Unavailable)?.map_err(StoreError::from)?;
            let clean = wiped && emptied;
            if let Some(mark) = before.filter(|_| clean) {
                self.change(move |connection| scrubbed(connection, &mark)).await?;
            }
            Ok(clean)
        })
    }

    fn salt(&self) -> Answer<'_, Vec<u8>> {
        self.readers.read(|connection| {
            let sql = "SELECT value FROM care WHERE name = 'salt'";
            Ok(connection.query_row(sql, [], |row| row.get(0))?)
        })
    }

    fn backup(&self, order: BackupOrder) -> BoxFuture<'_, std::result::Result<u64, BackupError>> {
        let dir = self.shared.dir().to_path_buf();
        Box::pin(async move {
            let done = files::apart("store-backup", move || copy::backup(&dir, order)).await;
            done.map_err(BackupError::Failed)?
        })
    }
}

impl SqliteStore {
    /// Wipes the unused parts of all pages; false where that can't be done.
    async fn wipe(&self) -> std::result::Result<bool, StoreError> {
        let mut from = 1;
        loop {
            match self.readers.read(move |connection| mop::look(connection, from)).await? {
                Look::Blind => return Ok(false),
                Look::Dirty(pages, next) => {
                    for pages in pages.chunks(mop::WIPE_PAGES) {
                        let pages = pages.to_vec();
                        self.change(move |connection| mop::wipe(connection, &pages)).await?;
                    }
                    let Some(next) = next else { return Ok(true) };
                    from = next;
                }
            }
        }
    }

    /// Dedupe rows that name the session by its key, by their own keys. Nobody indexes them so,
    /// hence a reader looks and not the writer.
    async fn named_elsewhere(
        &self,
        key: &SessionKey,
    ) -> std::result::Result<Vec<Vec<u8>>, StoreError> {
        let key = key.clone();
        self.readers.read(move |connection| find::named_elsewhere(connection, &key)).await
    }
}

/// The name of what says that the files are to be cleaned; its value is another one each time that
/// there is something new in them.
const UNSCRUBBED: &str = "unscrubbed";

fn unscrubbed(connection: &Connection) -> Result<Option<Vec<u8>>> {
    let mut statement = connection.prepare_cached("SELECT value FROM care WHERE name = ?1")?;
    Ok(statement.query_row([UNSCRUBBED], |row| row.get(0)).optional()?)
}

/// They are clean, unless something came meanwhile.
fn scrubbed(connection: &Connection, mark: &[u8]) -> Result<()> {
    let mut statement =
        connection.prepare_cached("DELETE FROM care WHERE name = ?1 AND value = ?2")?;
    statement.execute(rusqlite::params![UNSCRUBBED, mark])?;
    Ok(())
}

/// What is stored and makes no sense is an answer; only the disk's trouble ends the batch.
pub(super) fn value<T>(done: Result<T>) -> Result<std::result::Result<T, StoreError>> {
    match done {
        Ok(done) => Ok(Ok(done)),
        Err(Trouble::Corrupt(what)) => Ok(Err(StoreError::Corrupt(what))),
        Err(trouble) => Err(trouble),
    }
}

/// See the port.
pub(super) fn forgotten(connection: &Connection, key: &SessionKey) -> Result<Option<Forgotten>> {
    let mut statement = connection.prepare_cached(
        "SELECT body FROM forgotten JOIN sessions ON sessions.id = session_id WHERE key = ?1",
    )?;
    let body: Option<Vec<u8>> = statement.query_row([key.as_str()], |row| row.get(0)).optional()?;
    body.map(|body| decode(&body, key)).transpose()
}

fn decode(body: &[u8], key: &SessionKey) -> Result<Forgotten> {
    Ok(encode::value(body, || format!("session {key}: what stands for its forgotten beginning"))?)
}

/// The last place of a session's journal that is gone.
pub(super) fn through_seq(connection: &Connection, session_id: i64) -> Result<Seq> {
    let mut statement =
        connection.prepare_cached("SELECT through_seq FROM forgotten WHERE session_id = ?1")?;
    let through: Option<i64> = statement.query_row([session_id], |row| row.get(0)).optional()?;
    Ok(Seq(through.unwrap_or(0).cast_unsigned()))
}

/// The newest turn of a session that is gone.
pub(super) fn through_turn(connection: &Connection, session_id: i64) -> Result<Option<TurnId>> {
    let mut statement =
        connection.prepare_cached("SELECT through_turn FROM forgotten WHERE session_id = ?1")?;
    let turn = statement.query_row([session_id], |row| row.get::<_, Option<[u8; 16]>>(0));
    Ok(turn.optional()?.flatten().map(|bytes| TurnId(uuid_of(bytes))))
}

/// Whether a turn is gone and its row is still there. Their ids grow with time.
pub(super) fn waits_to_be_removed(
    connection: &Connection,
    session_id: i64,
    turn: TurnId,
) -> Result<bool> {
    let mut statement = connection.prepare_cached(
        "SELECT 1 FROM forgotten WHERE session_id = ?1 AND unswept = 1 AND turn_rest >= ?2",
    )?;
    Ok(statement.exists(rusqlite::params![session_id, &turn.0.as_bytes()[..]])?)
}
