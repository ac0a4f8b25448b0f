//! Jobs as people see and change them.

use turnkeep_core::ports::schedule::{Claim, KeptJob, Put, Tick};
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::schedule::{Job, MadeBy, Overlap, TEXT_BYTES_MAX, Target, When, is_name};
use turnkeep_core::{SessionKey, SessionKind, Timestamp};

use super::{Entry, Open};
use crate::clock;
use crate::ingress::{FieldError, check_text};
use crate::service::Gateway;

/// The furthest time of a reminder.
const AHEAD_MS: i64 = 10 * 366 * 86_400_000;

/// How a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobView {
    /// What is asked for, and how far it is.
    pub kept: KeptJob,
    /// When its time comes next; none if it rests, or never.
    pub next: Option<Timestamp>,
    /// Its times that are under way or wait.
    pub open: usize,
}

impl JobView {
    fn of(entry: &Entry) -> Self {
        Self { kept: entry.kept.clone(), next: entry.next, open: entry.open.len() }
    }
}

/// Why nothing came of a wish about jobs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// A field is wrong.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// There is no such job.
    #[error("there is no such job")]
    Unknown,
    /// There is another one of that name.
    #[error("there is another job of that name")]
    Taken,
    /// The tenant has as many as there may be.
    #[error("there are too many jobs already")]
    Full,
    /// It is the configuration's, and changes with it.
    #[error("it stands in the configuration, and is changed there")]
    Configured,
    /// One time of it is under way, and it does not want two.
    #[error("it is under way")]
    Running,
    /// The store, whose answer is not known.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server is not ready.
    #[error("{0}")]
    Unavailable(String),
}

impl Gateway {
    /// Every job, by tenant and name, or those of one tenant.
    #[must_use]
    pub fn jobs(&self, tenant: Option<&str>) -> Vec<JobView> {
        let table = self.0.schedule.table();
        let wanted = table.iter().filter(|((of, _), _)| tenant.is_none_or(|tenant| tenant == of));
        wanted.map(|(_, entry)| JobView::of(entry)).collect()
    }

    /// One job.
    #[must_use]
    pub fn job(&self, tenant: &str, name: &str) -> Option<JobView> {
        let table = self.0.schedule.table();
        table.get(&(tenant.to_owned(), name.to_owned())).map(JobView::of)
    }

    /// The next times of a job, whether it rests or not.
    #[must_use]
    pub fn next_times(&self, tenant: &str, name: &str, limit: usize) -> Option<Vec<Timestamp>> {
        let table = self.0.schedule.table();
        let entry = table.get(&(tenant.to_owned(), name.to_owned()))?;
        let mut last = entry.kept.handled.max(clock::now());
        if matches!(entry.kept.job.when, When::Once(_)) {
            last = entry.kept.handled;
        }
        let times = entry.times.as_ref();
        let next = std::iter::from_fn(|| {
            last = times?.next(last)?;
            Some(last)
        });
        Some(next.take(limit).collect())
    }

    /// What became of the last times of a job, the newest first.
    pub async fn job_ticks(
        &self,
        tenant: &str,
        name: &str,
        limit: usize,
    ) -> Result<Vec<Tick>, StoreError> {
        self.0.schedule.store.ticks(tenant, name, limit).await
    }

    /// What is wrong with a job, by field.
    pub fn check_job(&self, job: &Job, now: Timestamp) -> Result<(), FieldError> {
        let wrong = |field, why: String| FieldError { field, why };
        if !is_name(&job.name) {
            let rule = "has 1 to 64 of a-z, A-Z, 0-9, - and _";
            return Err(wrong("name", rule.to_owned()));
        }
        if let Err(error) = job.times() {
            let zone = matches!(error, turnkeep_core::schedule::CalendarError::Zone(_));
            return Err(wrong(if zone { "zone" } else { "schedule" }, error.to_string()));
        }
        if let When::Once(at) = job.when
            && !(now < at && at <= now.saturating_add(AHEAD_MS))
        {
            return Err(wrong("at", "must be ahead, and within ten years".to_owned()));
        }
        let field = match &job.task {
            turnkeep_core::schedule::Task::Prompt(_) => "prompt",
            turnkeep_core::schedule::Task::Text(_) => "text",
        };
        check_text(field, job.task.text(), TEXT_BYTES_MAX)?;
        if self.setup().policies.policy(&job.tenant, &job.agent, "api").is_err() {
            return Err(wrong("agent_id", format!("no agent {:?} is configured", job.agent)));
        }
        if let Err(error) = job.session() {
            return Err(wrong("tenant_id", error.to_string()));
        }
        self.places(job).map(|_| ())
    }

    /// Keeps a new job. The same one twice is one.
    pub async fn add_job(&self, job: Job) -> Result<JobView, ScheduleError> {
        self.readiness().map_err(ScheduleError::Unavailable)?;
        let now = clock::now();
        self.check_job(&job, now)?;
        let (tenant, name) = (job.tenant.clone(), job.name.clone());
        let schedule = &self.0.schedule;
        let alone = schedule.changing.lock().await;
        let put = schedule.store.put_job(job, now).await;
        schedule.read().await?;
        drop(alone);
        match put? {
            Put::Kept | Put::Same => self.job(&tenant, &name).ok_or(ScheduleError::Unknown),
            Put::Taken => Err(ScheduleError::Taken),
            Put::Full => Err(ScheduleError::Full),
        }
    }

    /// Forgets a job that somebody made. A time of it that is under way ends unheard.
    pub async fn drop_job(&self, tenant: &str, name: &str) -> Result<(), ScheduleError> {
        self.readiness().map_err(ScheduleError::Unavailable)?;
        let job = self.job(tenant, name).ok_or(ScheduleError::Unknown)?;
        if job.kept.job.made_by == MadeBy::Configuration {
            return Err(ScheduleError::Configured);
        }
        let schedule = &self.0.schedule;
        let alone = schedule.changing.lock().await;
        let dropped = schedule.store.drop_job(tenant, name).await;
        schedule.read().await?;
        drop(alone);
        if dropped? { Ok(()) } else { Err(ScheduleError::Unknown) }
    }

    /// Lets a job rest, or go on from now.
    pub async fn hold_job(
        &self,
        tenant: &str,
        name: &str,
        held: bool,
    ) -> Result<JobView, ScheduleError> {
        self.readiness().map_err(ScheduleError::Unavailable)?;
        let job = self.job(tenant, name).ok_or(ScheduleError::Unknown)?;
        if job.kept.job.paused && !held {
            // It would rest all the same.
            return Err(ScheduleError::Configured);
        }
        let schedule = &self.0.schedule;
        let alone = schedule.changing.lock().await;
        let there = schedule.store.hold_job(tenant, name, held, clock::now()).await;
        schedule.read().await?;
        drop(alone);
        match there? {
            true => self.job(tenant, name).ok_or(ScheduleError::Unknown),
            false => Err(ScheduleError::Unknown),
        }
    }

    /// Runs a job now, beside its times; says under which time.
    pub async fn run_job(&self, tenant: &str, name: &str) -> Result<Timestamp, ScheduleError> {
        self.readiness().map_err(ScheduleError::Unavailable)?;
        let schedule = &self.0.schedule;
        let alone = schedule.changing.lock().await;
        let job = self.job(tenant, name).ok_or(ScheduleError::Unknown)?;
        if job.kept.job.is_reminder() {
            let why = "is a reminder: it has one time only".to_owned();
            return Err(FieldError { field: "name", why }.into());
        }
        let full = job.open >= turnkeep_core::schedule::TICKS_MAX;
        if full || (job.open > 0 && job.kept.job.overlap == Overlap::Skip) {
            return Err(ScheduleError::Running);
        }
        let at = clock::now();
        let claim = Claim { run: vec![at], at, ..Claim::default() };
        let claimed = schedule.store.claim(tenant, name, claim).await;
        if claimed.is_err() {
            schedule.unsure.store(true, std::sync::atomic::Ordering::SeqCst);
            schedule.woken.notify_one();
        }
        let new = claimed?;
        if let Some(entry) = schedule.table().get_mut(&(tenant.to_owned(), name.to_owned())) {
            entry.open.extend(new.into_iter().map(|at| Open { at, place: None }));
        }
        drop(alone);
        schedule.metrics.claimed.increment(1);
        self.work_off();
        Ok(at)
    }

    /// Forgets what was made by a customer, or has them alone told something, but for what stands in
    /// the configuration; says how much.
    pub async fn end_jobs(&self, tenant: &str, customer: &str) -> Result<usize, StoreError> {
        let theirs = |key: &SessionKey| key.kind() == SessionKind::Dm && key.peer() == customer;
        let ends = |view: &JobView| {
            let made = match &view.kept.job.made_by {
                MadeBy::Configuration => return false,
                MadeBy::Session(key) => theirs(key),
                MadeBy::Api => false,
            };
            made || match &view.kept.job.to {
                Target::Session(key) => theirs(key),
                Target::User { name, .. } => name == customer,
            }
        };
        let schedule = &self.0.schedule;
        let _alone = schedule.changing.lock().await;
        let ended: Vec<JobView> = self.jobs(Some(tenant)).into_iter().filter(ends).collect();
        for view in &ended {
            schedule.store.drop_job(tenant, &view.kept.job.name).await?;
        }
        schedule.read().await?;
        Ok(ended.len())
    }
}
