//! What a store counts.

use crate::ports::histogram::Histogram;

/// What a store counted since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Commits reported as [`CommitOutcome::Committed`](super::CommitOutcome::Committed).
    pub commits: u64,
    /// Commits reported as [`CommitOutcome::Conflict`](super::CommitOutcome::Conflict).
    pub conflicts: u64,
    /// Commits reported as [`CommitOutcome::Refused`](super::CommitOutcome::Refused).
    pub refusals: u64,
    /// Changes, mostly commits, that were made again because the connection broke before they can
    /// have happened.
    pub retries_lost: u64,
    /// The same because the database held them up for too long, or found them in a circle.
    pub retries_held: u64,
    /// Transactions, each of which made one or more commits durable together.
    pub batches: u64,
    /// The most jobs that one transaction held.
    pub batch_jobs_max: u64,
    /// How many jobs the transactions held, by [`BATCH_JOBS_STEPS`].
    ///
    /// [`BATCH_JOBS_STEPS`]: crate::ports::histogram::BATCH_JOBS_STEPS
    pub batch_jobs: Histogram,
    /// Times the disk was asked to make something durable.
    pub fsyncs: u64,
    /// How long transactions took to become durable, by [`SYNC_US_STEPS`].
    ///
    /// [`SYNC_US_STEPS`]: crate::ports::histogram::SYNC_US_STEPS
    pub sync_us: Histogram,
    /// Passes that moved the log into the database.
    pub checkpoints: u64,
    /// Transactions whose outcome nobody knows.
    pub failures: u64,
    /// Jobs that wait for the writer now.
    pub waiting: u64,
    /// Pages that stand in the log now.
    pub wal_pages: u64,
}
