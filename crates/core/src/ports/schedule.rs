//! Jobs and their ticks: what a store keeps of them, so that each tick is run once whenever the
//! process dies.
//!
//! A tick is claimed, and the job's place moved on, in one change: only what is claimed is run. It
//! is acknowledged once its reply was handed to its target. In between stands where it is.

use super::BoxFuture;
use super::store::StoreError;
use crate::ids::{Seq, Timestamp};
use crate::schedule::Job;
use crate::session_key::SessionKey;

/// Jobs of one tenant at most.
pub const JOBS_MAX: usize = 1000;
/// Ended ticks of one job that are kept, so that people see what became of them.
pub const ENDED_KEPT: usize = 200;

/// A job as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptJob {
    /// What was asked for.
    pub job: Job,
    /// Since when, in this form.
    pub made_at: Timestamp,
    /// Every time up to here is dealt with.
    pub handled: Timestamp,
    /// Somebody wants it to rest.
    pub held: bool,
}

/// Where a tick is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TickState {
    /// It is to be run.
    Claimed,
    /// Its question stands in the job's session.
    Submitted,
    /// Its text was handed to its target.
    Delivered,
    /// The agent had nothing to say.
    Silent,
    /// It came to nothing, and its target was told so where that was possible.
    Failed,
    /// It was left out.
    Skipped,
}

impl TickState {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Claimed,
        Self::Submitted,
        Self::Delivered,
        Self::Silent,
        Self::Failed,
        Self::Skipped,
    ];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Submitted => "submitted",
            Self::Delivered => "delivered",
            Self::Silent => "silent",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }

    /// What the word stands for.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether its target has what there was to be had.
    #[must_use]
    pub const fn is_done(self) -> bool {
        matches!(self, Self::Delivered | Self::Silent)
    }

    /// Whether something of it is still to be done.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Claimed | Self::Submitted)
    }
}

/// One time of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Whose job.
    pub tenant: String,
    /// Which job.
    pub job: String,
    /// Which time.
    pub at: Timestamp,
    /// Where it is.
    pub state: TickState,
    /// When it was claimed, or left out.
    pub claimed_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The session in which its question stands.
    pub session: Option<SessionKey>,
    /// Where in its journal.
    pub seq: Option<Seq>,
    /// Why it failed or was left out.
    pub note: Option<String>,
}

/// What is decided about a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Times to be run.
    pub run: Vec<Timestamp>,
    /// A time that is left out, and why: it is kept for people to see.
    pub left_out: Option<(Timestamp, String)>,
    /// Every time up to here is dealt with then; none to leave that as it is.
    pub handled: Option<Timestamp>,
    /// When that was decided.
    pub at: Timestamp,
}

/// What came of the wish to keep a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is kept.
    Kept,
    /// There is one of that name, and the same is asked of it.
    Same,
    /// There is another one of that name.
    Taken,
    /// The tenant has [`JOBS_MAX`].
    Full,
}

/// How a tick ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Delivered, silent, failed or skipped.
    pub state: TickState,
    /// When.
    pub at: Timestamp,
    /// Why, where it is not as it should be.
    pub note: Option<String>,
}

/// What a store keeps of jobs. Every change is answered once it is durable.
pub trait ScheduleStore: Send + Sync + 'static {
    /// Every job, by tenant and name.
    fn jobs(&self) -> BoxFuture<'_, Result<Vec<KeptJob>, StoreError>>;

    /// Keeps a new job. Its times before `now` don't count.
    fn put_job(&self, job: Job, now: Timestamp) -> BoxFuture<'_, Result<Put, StoreError>>;

    /// Makes the configuration's jobs these: new ones are kept, those that stand there no more go,
    /// and a job of the same name that somebody made gives way. One whose times changed begins anew
    /// at `now`; any other goes on where it was, and rests if somebody wanted it to rest. What passed
    /// while it was `paused` there doesn't count.
    fn configure_jobs(
        &self,
        jobs: Vec<Job>,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Forgets a job and its ticks; false if there is none.
    fn drop_job(&self, tenant: &str, name: &str) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Lets a job rest, or go on. The times that passed while it rested don't count. False if there
    /// is none.
    fn hold_job(
        &self,
        tenant: &str,
        name: &str,
        held: bool,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Claims ticks and moves the job's place on, both or neither; says which ticks are new. A time
    /// that was claimed before is not claimed again, one that was left out is, and nothing is claimed
    /// for a job that is gone.
    fn claim(
        &self,
        tenant: &str,
        name: &str,
        claim: Claim,
    ) -> BoxFuture<'_, Result<Vec<Timestamp>, StoreError>>;

    /// Notes where the question of a claimed tick stands.
    fn submitted(
        &self,
        tick: (&str, &str, Timestamp),
        session: SessionKey,
        seq: Seq,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Acknowledges a tick. A job whose only time this was goes with it, unless that failed: then it
    /// stays, for people to see.
    fn end_tick(
        &self,
        tick: (&str, &str, Timestamp),
        ended: Ended,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The newest tick of a job before this time that has ended and was not left out.
    fn ended_before(
        &self,
        tick: (&str, &str, Timestamp),
    ) -> BoxFuture<'_, Result<Option<Tick>, StoreError>>;

    /// Ticks of which something is still to be done, by tenant, job and time.
    fn open_ticks(&self) -> BoxFuture<'_, Result<Vec<Tick>, StoreError>>;

    /// The newest ticks of a job, the newest first.
    fn ticks(
        &self,
        tenant: &str,
        name: &str,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Tick>, StoreError>>;
}
