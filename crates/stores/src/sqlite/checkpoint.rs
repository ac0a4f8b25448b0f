//! Moving the log into the database without stalling the writer.
//!
//! A thread with a connection of its own does the bulk in a PASSIVE pass while commits go on. What
//! was committed meanwhile is a short remainder; the writer moves that itself between two batches,
//! because only while nobody writes can the whole log be moved, and only then does it begin anew.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use rusqlite::wal::CheckpointMode;

use super::Shared;
use super::open;
use super::trouble::{Result, Trouble};

/// Pages in the log from which on it is moved; 80 MB.
const WAL_PAGES_MAX: u64 = 20_000;
/// Remainders that the writer moves for one pass. A reader that began before keeps the log from
/// beginning anew, and is mostly gone one batch later.
const REMAINDERS_MAX: u32 = 8;
/// Pages by which the log grows before a pass that a reader thwarted is repeated.
const WAL_PAGES_RETRY: u64 = 5_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    Requested,
    /// The bulk is moved, the remainder is the writer's.
    Moved,
    /// Nothing could be moved now.
    Failed,
    Ended,
}

/// How the writer and the checkpointer speak.
#[derive(Debug, Default)]
pub(super) struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

impl Signal {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        let mut now = self.state();
        if *now != State::Ended {
            *now = state;
        }
        drop(now);
        self.changed.notify_all();
    }

    /// Ends the checkpointer's thread.
    pub(super) fn end(&self) {
        self.set(State::Ended);
    }

    /// Waits for a request; false when there will be none.
    fn wait(&self) -> bool {
        let mut state = self.state();
        while !matches!(*state, State::Requested | State::Ended) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        *state == State::Requested
    }
}

/// The checkpointer's thread.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut connection: Option<Connection> = None;
    while shared.checkpoints.wait() {
        let moved = match connection.take().map_or_else(|| open::connect_writer(shared.dir()), Ok) {
            Ok(open) => pass(&open, shared, CheckpointMode::PASSIVE).map(|_| open),
            Err(error) => Err(error),
        };
        shared.checkpoints.set(match moved {
            Ok(open) => {
                connection = Some(open);
                State::Moved
            }
            Err(error) => {
                warn(&error);
                State::Failed
            }
        });
    }
}

/// The log is still whole after a failed checkpoint, so nothing is lost, and commits go on until
/// they fail on their own account.
pub(super) fn warn(error: &Trouble) {
    tracing::warn!(reason = error.sentence(), "a checkpoint failed");
}

/// One pass; whether all of the log stands in the database now.
pub(super) fn pass(connection: &Connection, shared: &Shared, mode: CheckpointMode) -> Result<bool> {
    let (all, moved) = connection.wal_checkpoint_v2(None::<&str>, mode)?;
    shared.counters.checkpoints.fetch_add(1, Relaxed);
    // The log before its pages are copied, the database after.
    shared.counters.fsyncs.fetch_add(2, Relaxed);
    Ok(all == moved)
}

/// The writer's side: asks for passes and moves remainders.
#[derive(Debug)]
pub(super) struct Remainder {
    request_at: u64,
    tries: u32,
    pages_before: u64,
}

impl Remainder {
    pub(super) const fn new() -> Self {
        Self { request_at: WAL_PAGES_MAX, tries: 0, pages_before: 0 }
    }

    /// Called between two batches.
    pub(super) fn tend(&mut self, connection: &Connection, shared: &Shared) {
        let pages = shared.counters.wal_pages.load(Relaxed);
        let anew = pages < self.pages_before;
        self.pages_before = pages;
        if anew {
            self.request_at = WAL_PAGES_MAX;
            self.tries = 0;
            shared.checkpoints.set(State::Idle);
        }
        let state = *shared.checkpoints.state();
        match state {
            State::Idle if pages >= self.request_at => shared.checkpoints.set(State::Requested),
            State::Moved if self.tries < REMAINDERS_MAX => {
                self.tries += 1;
                if let Err(error) = pass(connection, shared, CheckpointMode::PASSIVE) {
                    warn(&error);
                    shared.checkpoints.set(State::Failed);
                }
            }
            State::Moved | State::Failed => {
                self.tries = 0;
                self.request_at = pages + WAL_PAGES_RETRY;
                shared.checkpoints.set(State::Idle);
            }
            State::Idle | State::Requested | State::Ended => {}
        }
    }
}
