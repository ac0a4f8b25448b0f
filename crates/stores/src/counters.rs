//! What the store counts, shared between its threads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use turnkeep_core::ports::histogram::{Histogram, STEPS, step_of};
use turnkeep_core::ports::store::{CommitOutcome, StoreError, StoreStats};

/// A [`Histogram`] that threads share.
#[derive(Debug, Default)]
pub(crate) struct SharedHistogram {
    counts: [AtomicU64; STEPS],
    larger: AtomicU64,
    sum: AtomicU64,
}

impl SharedHistogram {
    pub(crate) fn note(&self, ends: &[u64; STEPS], value: u64) {
        let count = step_of(ends, value).map_or(&self.larger, |step| &self.counts[step]);
        count.fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    fn read(&self) -> Histogram {
        Histogram {
            counts: self.counts.each_ref().map(|count| count.load(Relaxed)),
            larger: self.larger.load(Relaxed),
            sum: self.sum.load(Relaxed),
        }
    }
}

/// See [`StoreStats`]; each number stands alone, so no order between them is promised.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) refusals: AtomicU64,
    pub(crate) retries_lost: AtomicU64,
    pub(crate) retries_held: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) batch_jobs_max: AtomicU64,
    pub(crate) batch_jobs: SharedHistogram,
    pub(crate) fsyncs: AtomicU64,
    pub(crate) sync_us: SharedHistogram,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) waiting: AtomicU64,
    pub(crate) wal_pages: AtomicU64,
}

impl Counters {
    /// What became of a commit.
    pub(crate) fn note(&self, outcome: &Result<CommitOutcome, StoreError>) {
        let counter = match outcome {
            Ok(CommitOutcome::Committed(_)) => &self.commits,
            Ok(CommitOutcome::Conflict) => &self.conflicts,
            Ok(CommitOutcome::Refused { .. }) => &self.refusals,
            Err(_) => return,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(crate) fn stats(&self) -> StoreStats {
        StoreStats {
            commits: self.commits.load(Relaxed),
            conflicts: self.conflicts.load(Relaxed),
            refusals: self.refusals.load(Relaxed),
            retries_lost: self.retries_lost.load(Relaxed),
            retries_held: self.retries_held.load(Relaxed),
            batches: self.batches.load(Relaxed),
            batch_jobs_max: self.batch_jobs_max.load(Relaxed),
            batch_jobs: self.batch_jobs.read(),
            fsyncs: self.fsyncs.load(Relaxed),
            sync_us: self.sync_us.read(),
            checkpoints: self.checkpoints.load(Relaxed),
            failures: self.failures.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
            wal_pages: self.wal_pages.load(Relaxed),
        }
    }
}

/// Whether the store can be written to, and why not.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<Option<String>>);

impl Health {
    pub(crate) fn get(&self) -> Result<(), String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().map_or(Ok(()), Err)
    }

    pub(crate) fn set(&self, reason: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}
