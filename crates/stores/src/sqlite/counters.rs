//! What the store counts, shared between its threads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use turnkeep_core::ports::store::StoreStats;

/// See [`StoreStats`]; each number stands alone, so no order between them is promised.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) commits: AtomicU64,
    pub(super) conflicts: AtomicU64,
    pub(super) refusals: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) batch_jobs_max: AtomicU64,
    pub(super) fsyncs: AtomicU64,
    pub(super) checkpoints: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) waiting: AtomicU64,
    pub(super) wal_pages: AtomicU64,
}

impl Counters {
    pub(super) fn stats(&self) -> StoreStats {
        StoreStats {
            commits: self.commits.load(Relaxed),
            conflicts: self.conflicts.load(Relaxed),
            refusals: self.refusals.load(Relaxed),
            batches: self.batches.load(Relaxed),
            batch_jobs_max: self.batch_jobs_max.load(Relaxed),
            fsyncs: self.fsyncs.load(Relaxed),
            checkpoints: self.checkpoints.load(Relaxed),
            failures: self.failures.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
            wal_pages: self.wal_pages.load(Relaxed),
        }
    }
}

/// Whether the store can be written to, and why not.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<Option<String>>);

impl Health {
    pub(super) fn get(&self) -> Result<(), String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().map_or(Ok(()), Err)
    }

    pub(super) fn set(&self, reason: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}
