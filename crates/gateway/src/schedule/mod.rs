//! Jobs and reminders: finds what is due, runs each time once, and tells what came of it.
//!
//! The rules are the core's ([`turnkeep_core::schedule`]); what is decided is durable before
//! anything of it is done. [`look`] claims the times that came, [`work`] runs them, one of a job
//! after the other, and [`target`] finds who is told. After a restart every claimed time goes on
//! where it was: asking and telling have names, so doing either again does nothing.

mod desk;
mod look;
mod reminders;
mod target;
mod work;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{Counter, Gauge, counter, gauge};
use tokio::sync::Notify;
use turnkeep_core::ports::schedule::{KeptJob, ScheduleStore, Tick, TickState};
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::schedule::{self, Job, Progress, Times};
use turnkeep_core::{Seq, SessionKey, Timestamp};

pub use desk::{JobView, ScheduleError};
pub use reminders::ReminderDesk;

/// Tenant and name of a job.
type Name = (String, String);

/// Everything the gateway holds of jobs: a projection of the store, and who works on what.
pub(crate) struct Schedule {
    store: Arc<dyn ScheduleStore>,
    table: Mutex<BTreeMap<Name, Entry>>,
    /// One change at a time, so that an older reading never takes a newer one's place.
    changing: tokio::sync::Mutex<()>,
    /// A claim came to nothing, as far as is known: it may stand all the same.
    unsure: AtomicBool,
    /// Times whose end was noted. It changes with the table.
    ends: AtomicU64,
    /// Something changed that the next look may depend on.
    woken: Notify,
    metrics: ScheduleMetrics,
}

/// One job.
struct Entry {
    kept: KeptJob,
    /// None where its times can't be understood, as after a change of the table of zones.
    times: Option<Times>,
    /// When it has to be looked at.
    next: Option<Timestamp>,
    /// Its claimed times that have not ended; the first is the one under way.
    open: VecDeque<Open>,
    /// Somebody works on them.
    working: bool,
}

/// A claimed time that has not ended.
#[derive(Clone, Debug)]
struct Open {
    at: Timestamp,
    /// Where its question stands.
    place: Option<(SessionKey, Seq)>,
}

impl Open {
    fn of(tick: Tick) -> Self {
        Self { at: tick.at, place: tick.session.zip(tick.seq) }
    }
}

impl Entry {
    fn new(kept: KeptJob) -> Self {
        let times = kept.job.times();
        if let Err(error) = &times {
            let (tenant, job) = (&*kept.job.tenant, &*kept.job.name);
            tracing::error!(tenant, job, %error, "this job never comes: its schedule");
        }
        let mut entry =
            Self { kept, times: times.ok(), next: None, open: VecDeque::new(), working: false };
        entry.plan();
        entry
    }

    fn progress(&self) -> Progress {
        let KeptJob { handled, held, .. } = self.kept;
        Progress { handled, held, open: self.open.len() }
    }

    fn take_up(&mut self, open: Open) {
        if self.open.iter().all(|known| known.at != open.at) {
            // The first one may be under way, and stays the first.
            let first = usize::from(self.working);
            let behind = self.open.iter().skip(first).filter(|known| known.at < open.at).count();
            self.open.insert((first + behind).min(self.open.len()), open);
        }
    }

    fn plan(&mut self) {
        let next = |times: &Times| schedule::next(&self.kept.job, times, &self.progress());
        self.next = self.times.as_ref().and_then(next);
    }
}

impl Schedule {
    pub(crate) fn new(store: Arc<dyn ScheduleStore>) -> Self {
        Self {
            store,
            table: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            unsure: AtomicBool::new(false),
            ends: AtomicU64::new(0),
            woken: Notify::new(),
            metrics: ScheduleMetrics::new(),
        }
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<Name, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the configuration's jobs these, and takes up what is open.
    pub(crate) async fn load(&self, jobs: &[Job], now: Timestamp) -> Result<(), StoreError> {
        let _alone = self.changing.lock().await;
        self.store.configure_jobs(jobs.to_vec(), now).await?;
        self.make_sure().await
    }

    /// The jobs as they are kept now: others may have changed them.
    pub(crate) async fn load_again(&self) -> Result<(), StoreError> {
        let _alone = self.changing.lock().await;
        self.make_sure().await
    }

    /// Reads every job anew, and takes up what is open and nobody knows of.
    async fn make_sure(&self) -> Result<(), StoreError> {
        self.read().await?;
        loop {
            let ends = self.ends.load(Ordering::SeqCst);
            let open = self.store.open_ticks().await?;
            let mut table = self.table();
            if self.ends.load(Ordering::SeqCst) != ends {
                // One of them may have ended while they were read.
                continue;
            }
            for tick in open {
                if let Some(entry) = table.get_mut(&(tick.tenant.clone(), tick.job.clone())) {
                    entry.take_up(Open::of(tick));
                }
            }
            self.metrics.count(&table);
            self.unsure.store(false, Ordering::SeqCst);
            drop(table);
            self.woken.notify_one();
            return Ok(());
        }
    }

    /// The same while it runs.
    pub(crate) async fn configure(&self, jobs: &[Job], now: Timestamp) -> Result<(), StoreError> {
        let _alone = self.changing.lock().await;
        let configured = self.store.configure_jobs(jobs.to_vec(), now).await;
        // Also where nobody knows whether it was done.
        self.read().await?;
        configured
    }

    /// Reads every job anew; who works goes on working. The change is the caller's.
    async fn read(&self) -> Result<(), StoreError> {
        let jobs = self.store.jobs().await?;
        let mut table = self.table();
        let mut before = std::mem::take(&mut *table);
        for kept in jobs {
            let name = (kept.job.tenant.clone(), kept.job.name.clone());
            let mut entry = Entry::new(kept);
            if let Some(before) = before.remove(&name)
                && before.kept.job.when == entry.kept.job.when
                && before.kept.made_at == entry.kept.made_at
            {
                (entry.open, entry.working) = (before.open, before.working);
                entry.plan();
            }
            table.insert(name, entry);
        }
        self.metrics.count(&table);
        drop(table);
        self.woken.notify_one();
        Ok(())
    }
}

/// How ticks end, in the order of their counters.
const ENDINGS: [TickState; 4] =
    [TickState::Delivered, TickState::Silent, TickState::Failed, TickState::Skipped];

/// The numbers to watch.
struct ScheduleMetrics {
    claimed: Counter,
    ended: [Counter; ENDINGS.len()],
    lag: Gauge,
    jobs: Gauge,
    open: Gauge,
}

impl ScheduleMetrics {
    fn new() -> Self {
        let ended = |state: TickState| counter!("turnkeep_schedule_ticks_total", "outcome" => state.as_str());
        Self {
            claimed: counter!("turnkeep_schedule_claimed_total"),
            ended: ENDINGS.map(ended),
            lag: gauge!("turnkeep_schedule_lag_seconds"),
            jobs: gauge!("turnkeep_schedule_jobs"),
            open: gauge!("turnkeep_schedule_ticks_open"),
        }
    }

    fn ended(&self, state: TickState, count: usize) {
        if let Some(at) = ENDINGS.iter().position(|known| *known == state) {
            self.ended[at].increment(count as u64);
        }
    }

    fn count(&self, table: &BTreeMap<Name, Entry>) {
        let open: usize = table.values().map(|entry| entry.open.len()).sum();
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float by its protocol")]
        let (jobs, open) = (table.len() as f64, open as f64);
        self.jobs.set(jobs);
        self.open.set(open);
    }
}
