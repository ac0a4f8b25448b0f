//! The store that needs nothing but a folder: one SQLite file, one writer, a few readers.
//!
//! A commit is made into rows in the caller's task ([`crate::encode`]), goes to the writer's thread
//! ([`writer`]), which runs all that wait in one transaction ([`apply`]) and answers. Reads go to
//! threads of their own ([`readers`], [`read`], [`journal`]). The log is moved into the database
//! by a thread of its own ([`checkpoint`]). What is kept and what is forgotten is [`care`]'s.

pub(crate) mod care;
#[cfg(feature = "postgres")]
pub(crate) mod moving;
pub(crate) mod open;
pub(crate) mod prefill;
pub(crate) mod reader;

mod apply;
mod change;
mod checkpoint;
mod guard;
mod journal;
mod keys;
mod listeners;
mod people;
mod read;
mod readers;
mod schedule;
mod schema;
mod switchboard;
mod trouble;
mod usage;
mod writer;

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use tokio::sync::oneshot;
use turnkeep_core::outbox::DeliveryState;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::store::{
    Commit, CommitOutcome, DeadLetter, Loaded, PartPlace, PartRow, Store, StoreError, StoreStats,
    TurnRow,
};
use turnkeep_core::{Epoch, Event, Seq, SessionKey, Timestamp, TurnId};

use crate::{counters, encode};
use open::{Folder, OpenError};
use readers::Readers;
use writer::Job;

/// Jobs that may wait for the writer; more are refused at once.
const WAITING_MAX: u64 = 65_536;

/// What a caller may choose.
#[derive(Clone, Copy, Debug, Default)]
pub struct SqliteOptions {
    /// Called at named places of the write path, so that a test can end the process exactly
    /// there: `store.commit.before`, `store.commit.after`, `store.answer`.
    pub kill_point: Option<fn(&'static str)>,
}

/// Keeps everything in `turnkeep.db` in a folder that it owns while it lives.
#[derive(Debug)]
pub struct SqliteStore {
    epoch: Epoch,
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
    readers: Readers,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads share. Its end gives the folder back.
#[derive(Debug)]
struct Shared {
    folder: Folder,
    options: SqliteOptions,
    counters: counters::Counters,
    health: counters::Health,
    checkpoints: checkpoint::Signal,
}

impl Shared {
    fn dir(&self) -> &Path {
        &self.folder.dir
    }

    fn kill_point(&self, name: &'static str) {
        if let Some(kill_point) = self.options.kill_point {
            kill_point(name);
        }
    }
}

impl SqliteStore {
    /// Opens the folder's database, creating both if need be, and draws a new epoch.
    pub fn open(dir: &Path, options: SqliteOptions) -> Result<Self, OpenError> {
        let folder = open::take_folder(dir)?;
        care::copy::forget_partial(&folder.dir.join(open::DATABASE));
        let (connection, epoch) = open::open_database(&folder.dir)?;
        let shared = Arc::new(Shared {
            folder,
            options,
            counters: counters::Counters::default(),
            health: counters::Health::default(),
            checkpoints: checkpoint::Signal::default(),
        });
        let start = |error: std::io::Error| OpenError::Other {
            dir: dir.into(),
            detail: format!("no thread could be started: {error}"),
        };
        let readers = Readers::start(&shared).map_err(start)?;
        let (jobs, receiver) = mpsc::channel();
        let thread = |name: &str| std::thread::Builder::new().name(name.into());
        let for_writer = Arc::clone(&shared);
        let writer = thread("store-writer")
            .spawn(move || writer::run(&for_writer, connection, &receiver))
            .map_err(start)?;
        let for_checkpoints = Arc::clone(&shared);
        let checkpointer = thread("store-checkpoint")
            .spawn(move || checkpoint::run(&for_checkpoints))
            .map_err(start)?;
        let threads = Mutex::new(vec![writer, checkpointer]);
        Ok(Self { epoch, shared, jobs, readers, threads })
    }

    /// Hands a job to the writer and waits for its answer.
    async fn write<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job,
    ) -> Result<T, StoreError> {
        let closed = || StoreError::Unavailable(writer::CLOSED.into());
        let waiting = &self.shared.counters.waiting;
        if waiting.fetch_add(1, Relaxed) >= WAITING_MAX {
            waiting.fetch_sub(1, Relaxed);
            return Err(StoreError::Unavailable("too many commits wait already".into()));
        }
        let (sender, receiver) = oneshot::channel();
        if self.jobs.send(job(sender)).is_err() {
            waiting.fetch_sub(1, Relaxed);
            return Err(closed());
        }
        receiver.await.unwrap_or_else(|_| Err(closed()))
    }
}

impl SqliteStore {
    /// Writes something beside the commits; see [`change`].
    fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&rusqlite::Connection) -> trouble::Result<T> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        self.change_behind(Vec::new(), work)
    }

    /// The same where it changes the rows of these sessions, behind the back of their tasks.
    fn change_behind<T: Send + 'static>(
        &self,
        stale: Vec<SessionKey>,
        work: impl FnOnce(&rusqlite::Connection) -> trouble::Result<T> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        Box::pin(self.write(move |answer| Job::Change(change::change(stale, work, answer))))
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        let (sender, _receiver) = oneshot::channel();
        // Fails where the writer has ended already.
        drop(self.jobs.send(Job::Close(sender)));
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            drop(thread.join());
        }
    }
}

impl Store for SqliteStore {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn health(&self) -> Result<(), String> {
        self.shared.health.get()
    }

    fn stats(&self) -> StoreStats {
        self.shared.counters.stats()
    }

    fn waiting(&self) -> u64 {
        self.shared.counters.waiting.load(Relaxed)
    }

    fn load(&self, key: &SessionKey) -> BoxFuture<'_, Result<Option<Loaded>, StoreError>> {
        let key = key.clone();
        self.readers.read(move |connection| read::load(connection, &key))
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<CommitOutcome, StoreError>> {
        Box::pin(async move {
            let commit = Box::new(encode::encode(commit)?);
            self.write(|answer| Job::Commit(commit, answer)).await
        })
    }

    fn open_work(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, SessionKey)>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Timestamp, SessionKey)>, StoreError>> {
        self.readers
            .read(move |connection| read::open_work(connection, before, after.as_ref(), limit))
    }

    fn sessions(
        &self,
        tenant: Option<&str>,
        after: Option<&SessionKey>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(SessionKey, Loaded)>, StoreError>> {
        let (tenant, after) = (tenant.map(String::from), after.cloned());
        self.readers.read(move |connection| {
            read::sessions(connection, tenant.as_deref(), after.as_ref(), limit)
        })
    }

    fn events(
        &self,
        key: &SessionKey,
        after: Seq,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Event>, StoreError>> {
        let key = key.clone();
        self.readers.read(move |connection| read::events(connection, &key, after, limit))
    }

    fn turn(&self, id: TurnId) -> BoxFuture<'_, Result<Option<(SessionKey, TurnRow)>, StoreError>> {
        self.readers.read(move |connection| read::turn(connection, id))
    }

    fn turns(
        &self,
        key: &SessionKey,
        before: Option<TurnId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<TurnRow>, StoreError>> {
        let key = key.clone();
        self.readers.read(move |connection| read::turns(connection, &key, before, limit))
    }

    fn dead_letters(
        &self,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(u64, SessionKey, DeadLetter)>, StoreError>> {
        self.readers.read(move |connection| read::dead_letters(connection, after, limit))
    }

    fn dead_letters_count(&self, max: usize) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.readers.read(move |connection| read::dead_letters_count(connection, max))
    }

    fn dead_letter(
        &self,
        id: u64,
    ) -> BoxFuture<'_, Result<Option<(SessionKey, DeadLetter)>, StoreError>> {
        self.readers.read(move |connection| read::dead_letter(connection, id))
    }

    fn parts(
        &self,
        key: &SessionKey,
        after: (Seq, u32),
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<PartRow>, StoreError>> {
        let key = key.clone();
        self.readers.read(move |connection| read::parts(connection, &key, after, limit))
    }

    fn parked(
        &self,
        tenant: Option<&str>,
        state: Option<DeliveryState>,
        after: Option<&PartPlace>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(SessionKey, PartRow)>, StoreError>> {
        let (tenant, after) = (tenant.map(str::to_owned), after.cloned());
        self.readers.read(move |connection| {
            read::parked(connection, tenant.as_deref(), state, after.as_ref(), limit)
        })
    }

    fn forget_seen(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, StoreError>> {
        self.change(move |connection| apply::forget_seen(connection, now, limit))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let (sender, receiver) = oneshot::channel();
            if self.jobs.send(Job::Close(sender)).is_ok() {
                // An error means that the writer has ended, which is what was asked for.
                drop(receiver.await);
            }
        })
    }
}
