//! The one thread that writes: takes everything that waits, makes it durable together, answers.
//!
//! An error of a batch leaves the outcome of all of it unknown. The connection is then thrown
//! away with everything remembered about it, and nothing is called healthy again before a probe
//! was committed on a new one.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::wal::CheckpointMode;
use tokio::sync::oneshot;
use turnkeep_core::ports::histogram::{BATCH_JOBS_STEPS, SYNC_US_STEPS};
use turnkeep_core::ports::store::{CommitOutcome, StoreError};

use super::Shared;
use super::apply::{self, Places, Statements};
use super::change::Change;
use super::checkpoint::{self, Remainder};
use super::open;
use super::trouble::{Result, Trouble};
use crate::crowd::{Crowd, PATIENCE};
use crate::encode::EncodedCommit;

/// Jobs that one transaction takes at most, so that the first of them doesn't wait for ever.
const BATCH_JOBS_MAX: usize = 1024;
/// The pause before the first attempt to reopen; doubled for each later one.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// What a closed store answers.
pub(super) const CLOSED: &str = "the store is closed";

pub(super) type Answer<T> = oneshot::Sender<std::result::Result<T, StoreError>>;

/// Work for the writer.
pub(super) enum Job {
    /// See the port.
    Commit(Box<EncodedCommit>, Answer<CommitOutcome>),
    /// Anything else that is written, see [`change`].
    Change(Box<dyn Change>),
    /// End after everything before this.
    Close(oneshot::Sender<()>),
}

/// What became of one job, to be told once the batch is durable.
enum Outcome {
    Commit(std::result::Result<CommitOutcome, StoreError>),
    /// It remembers that itself.
    Change,
}

/// Why the loop over batches ended.
enum End {
    Closed(Option<oneshot::Sender<()>>),
    Trouble(Trouble),
}

/// The writer's thread.
pub(super) fn run(shared: &Arc<Shared>, connection: Connection, jobs: &Receiver<Job>) {
    let _ended = Ended(shared);
    let mut connection = connection;
    let mut pause = PAUSE_MIN;
    loop {
        let trouble = match write(shared, connection, jobs, &mut pause) {
            End::Closed(answer) => {
                // Health must say so before the caller of `close` can ask.
                shared.health.set(Some(CLOSED.into()));
                if let Some(answer) = answer {
                    let _ = answer.send(());
                }
                return;
            }
            End::Trouble(trouble) => trouble,
        };
        match recover(shared, &trouble, jobs, &mut pause) {
            Some(open) => connection = open,
            None => return,
        }
    }
}

/// Says that nobody writes any more, however the thread ends.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let reason =
            if std::thread::panicking() { "the store's writer has failed" } else { CLOSED };
        self.0.health.set(Some(reason.into()));
        self.0.checkpoints.end();
    }
}

/// Batches until the end or the first trouble.
fn write(
    shared: &Arc<Shared>,
    mut connection: Connection,
    jobs: &Receiver<Job>,
    pause: &mut Duration,
) -> End {
    match watch_log(&mut connection, shared).and_then(|()| Places::read(&connection)) {
        Ok(mut places) => {
            let end = write_batches(shared, &connection, &mut places, jobs, pause);
            if let End::Closed(_) = end
                && let Err(error) = checkpoint::pass(&connection, shared, CheckpointMode::TRUNCATE)
            {
                checkpoint::warn(&error);
            }
            end
        }
        Err(trouble) => End::Trouble(trouble),
    }
}

fn write_batches(
    shared: &Shared,
    connection: &Connection,
    places: &mut Places,
    jobs: &Receiver<Job>,
    pause: &mut Duration,
) -> End {
    let mut statements = match Statements::prepare(connection) {
        Ok(statements) => statements,
        Err(trouble) => return End::Trouble(trouble),
    };
    let mut remainder = Remainder::new();
    let mut batch = Vec::with_capacity(BATCH_JOBS_MAX);
    let mut crowd = Crowd::new(Instant::now());
    loop {
        let Ok(first) = jobs.recv() else { return End::Closed(None) };
        batch.push(first);
        batch.extend(jobs.try_iter().take(BATCH_JOBS_MAX - 1));
        if crowd.brings_more(batch.len()) {
            std::thread::sleep(PATIENCE);
            batch.extend(jobs.try_iter().take(BATCH_JOBS_MAX - batch.len()));
        }
        crowd.count(batch.len(), Instant::now());
        let closing = batch.iter().position(|job| matches!(job, Job::Close(_)));
        let after_close = closing.map(|at| batch.split_off(at));
        match transact(shared, connection, &mut statements, places, &mut batch) {
            Ok(outcomes) => answer(shared, batch.drain(..).zip(outcomes)),
            Err(trouble) => {
                fail(shared, &trouble);
                let reason = trouble.sentence();
                let unknown = batch.drain(..).chain(after_close.into_iter().flatten());
                let closed =
                    unknown.fold(None, |closed, job| refuse(shared, job, &reason).or(closed));
                return closed.map_or(End::Trouble(trouble), |answer| End::Closed(Some(answer)));
            }
        }
        *pause = PAUSE_MIN;
        if let Some(rest) = after_close {
            let closed =
                rest.into_iter().fold(None, |closed, job| refuse(shared, job, CLOSED).or(closed));
            return End::Closed(closed);
        }
        remainder.tend(connection, shared);
    }
}

/// One transaction, one fsync.
fn transact(
    shared: &Shared,
    connection: &Connection,
    statements: &mut Statements<'_>,
    places: &mut Places,
    batch: &mut [Job],
) -> Result<Vec<Outcome>> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    statements.begin()?;
    let mut outcomes = Vec::with_capacity(batch.len());
    for job in batch.iter_mut() {
        outcomes.push(match job {
            Job::Commit(commit, _) => Outcome::Commit(apply::apply(commit, places, statements)?),
            Job::Change(change) => {
                change.run(connection)?;
                change.stale().iter().for_each(|key| places.drop(key));
                Outcome::Change
            }
            Job::Close(_) => continue,
        });
    }
    shared.kill_point("store.commit.before");
    commit(shared, statements)?;
    shared.kill_point("store.commit.after");
    let counters = &shared.counters;
    counters.batches.fetch_add(1, Relaxed);
    counters.batch_jobs.note(&BATCH_JOBS_STEPS, batch.len() as u64);
    counters.batch_jobs_max.fetch_max(batch.len() as u64, Relaxed);
    Ok(outcomes)
}

/// Ends the transaction. How long that took is noted if it had something to write, for only then
/// the disk was asked.
fn commit(shared: &Shared, statements: &mut Statements<'_>) -> Result<()> {
    let counters = &shared.counters;
    let (synced, began) = (counters.fsyncs.load(Relaxed), Instant::now());
    statements.commit()?;
    if counters.fsyncs.load(Relaxed) != synced {
        let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        counters.sync_us.note(&SYNC_US_STEPS, took_us);
    }
    Ok(())
}

fn answer(shared: &Shared, done: impl Iterator<Item = (Job, Outcome)>) {
    for (job, outcome) in done {
        shared.kill_point("store.answer");
        shared.counters.waiting.fetch_sub(1, Relaxed);
        match (job, outcome) {
            (Job::Commit(_, answer), Outcome::Commit(outcome)) => {
                shared.counters.note(&outcome);
                // Whoever asked may be gone; the commit stands all the same.
                drop(answer.send(outcome));
            }
            (Job::Change(change), Outcome::Change) => change.answer(Ok(())),
            // Outcomes are made job by job, in the same order.
            (Job::Commit(..) | Job::Change(_) | Job::Close(_), _) => {}
        }
    }
}

/// Answers a job that can't be done; gives back who waits for the end.
fn refuse(shared: &Shared, job: Job, reason: &str) -> Option<oneshot::Sender<()>> {
    let error = || StoreError::Unavailable(reason.into());
    match job {
        Job::Commit(_, answer) => {
            shared.counters.waiting.fetch_sub(1, Relaxed);
            drop(answer.send(Err(error())));
            None
        }
        Job::Change(change) => {
            shared.counters.waiting.fetch_sub(1, Relaxed);
            change.answer(Err(error()));
            None
        }
        Job::Close(answer) => Some(answer),
    }
}

/// Says it in health first, so that nobody who got the error finds the store ready.
fn fail(shared: &Shared, trouble: &Trouble) {
    let reason = trouble.sentence();
    shared.counters.failures.fetch_add(1, Relaxed);
    tracing::error!(reason, "the store can't write");
    shared.health.set(Some(format!("the store can't write: {reason}")));
}

/// Reopens with growing pauses, refusing everything meanwhile; none if the store was closed.
fn recover(
    shared: &Arc<Shared>,
    trouble: &Trouble,
    jobs: &Receiver<Job>,
    pause: &mut Duration,
) -> Option<Connection> {
    let hopeless = trouble.is_damage();
    let mut reason = trouble.sentence();
    loop {
        let until = Instant::now() + *pause;
        loop {
            let job = if hopeless {
                jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                jobs.recv_timeout(until.saturating_duration_since(Instant::now()))
            };
            match job {
                Ok(job) => {
                    if let Some(answer) = refuse(shared, job, &reason) {
                        shared.health.set(Some(CLOSED.into()));
                        let _ = answer.send(());
                        return None;
                    }
                }
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        *pause = (*pause * 2).min(PAUSE_MAX);
        match reopen(shared) {
            Ok(connection) => {
                tracing::info!("the store can write again");
                shared.health.set(None);
                return Some(connection);
            }
            Err(trouble) => {
                reason = trouble.sentence();
                shared.health.set(Some(format!("the store can't write: {reason}")));
            }
        }
    }
}

/// A new connection on which a write was really committed.
fn reopen(shared: &Shared) -> Result<Connection> {
    let connection = open::connect_writer(shared.dir())?;
    connection.execute("UPDATE meta SET value = value + 1 WHERE name = 'probe'", [])?;
    Ok(connection)
}

/// Follows the log's length; every commit that wrote something synced it once.
fn watch_log(connection: &mut Connection, shared: &Arc<Shared>) -> Result<()> {
    let shared = Arc::clone(shared);
    Ok(connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
        let pages = u64::try_from(pages).unwrap_or(0);
        let before = shared.counters.wal_pages.swap(pages, Relaxed);
        // A log that begins anew syncs its header as well.
        shared.counters.fsyncs.fetch_add(if pages < before { 2 } else { 1 }, Relaxed);
        Ok(())
    }))?)
}
