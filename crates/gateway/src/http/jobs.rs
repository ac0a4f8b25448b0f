//! Jobs and reminders as the API shows them, and as it is asked for them.

use hyper::Uri;
use serde::Serialize;
use turnkeep_core::policy::Trust;
use turnkeep_core::ports::schedule::Tick;
use turnkeep_core::schedule::{
    Calendar, Job, MadeBy, Misfire, Overlap, Target, Task, When, on_the_wall,
};
use turnkeep_core::session_key::{SessionKey, SessionKind};
use utoipa::ToSchema;

use super::access::Asker;
use super::problem::{Kind, Problem};
use super::query::Query;
use super::shape::{Moment, session_key};
use crate::schedule::{JobView, ScheduleError};
use crate::service::Gateway;

/// Whose jobs are meant where nobody says so.
const TENANT: &str = "default";
/// Which agent is asked where none is named.
const AGENT: &str = "default";
/// Ended times that are looked at for the last one.
const LAST: usize = 5;

/// One time of a job.
#[derive(Serialize, ToSchema)]
#[schema(as = Tick)]
pub(super) struct TickShape {
    /// Which time.
    #[schema(value_type = String, format = DateTime)]
    at: Moment,
    /// `claimed` and `submitted` are under way; `delivered`, `silent`, `failed` and `skipped` are
    /// over.
    state: &'static str,
    /// When it was over.
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Moment>,
    /// Why it failed or was left out.
    note: Option<String>,
}

impl From<Tick> for TickShape {
    fn from(tick: Tick) -> Self {
        let Tick { at, state, ended_at, note, .. } = tick;
        Self { at: Moment(at), state: state.as_str(), ended_at: ended_at.map(Moment), note }
    }
}

/// A job, or a reminder.
#[derive(Serialize, ToSchema)]
#[schema(as = Job)]
pub(super) struct JobShape {
    /// Its name, once for each tenant.
    name: String,
    /// Whose it is.
    tenant_id: String,
    /// When it is run, as a cron expression; null for a reminder.
    schedule: Option<String>,
    /// The time zone that is meant.
    zone: String,
    /// The expression in plain English.
    description: Option<String>,
    /// What an agent is asked; null where a text is told as it stands.
    prompt: Option<String>,
    /// What is told as it stands.
    text: Option<String>,
    /// Which agent is asked.
    agent_id: String,
    /// Which user is told.
    to: Option<String>,
    /// On which channel; null for the one that the user used last.
    channel: Option<String>,
    /// In which session it is told, where no user is named.
    session: Option<String>,
    /// `skip`, `once` or `all`.
    misfire: &'static str,
    /// `skip` or `queue`.
    overlap: &'static str,
    /// How far its question is trusted.
    #[schema(value_type = String)]
    trust: Trust,
    /// `configuration`, `api` or `session`.
    made_by: &'static str,
    /// Whether it rests.
    paused: bool,
    /// When its time comes next; null if it rests, or never.
    #[schema(value_type = Option<String>, format = DateTime)]
    next: Option<Moment>,
    /// The same as the wall of its zone shows it.
    next_local: Option<String>,
    /// How many of its times are under way or wait.
    open: usize,
    /// What became of its last time.
    last: Option<TickShape>,
}

impl JobShape {
    pub(super) fn of(view: JobView, last: Option<Tick>) -> Self {
        let paused = view.kept.job.paused || view.kept.held;
        let zone = view.kept.job.zone().to_owned();
        let Job { tenant, name, when, task, agent, to, misfire, overlap, trust, made_by, .. } =
            view.kept.job;
        let (schedule, description) = match when {
            When::Cron { schedule, zone } => {
                let calendar = Calendar::new(&schedule, &zone).ok();
                (Some(schedule), calendar.map(|calendar| calendar.describe()))
            }
            When::Once(_) => (None, None),
        };
        let (prompt, text) = match task {
            Task::Prompt(prompt) => (Some(prompt), None),
            Task::Text(text) => (None, Some(text)),
        };
        let (to, channel, session) = match to {
            Target::User { name, channel } => (Some(name), channel, None),
            Target::Session(key) => (None, None, Some(key.to_string())),
        };
        Self {
            name,
            tenant_id: tenant,
            schedule,
            description,
            prompt,
            text,
            agent_id: agent,
            to,
            channel,
            session,
            misfire: misfire.as_str(),
            overlap: overlap.as_str(),
            trust,
            made_by: match made_by {
                MadeBy::Configuration => "configuration",
                MadeBy::Api => "api",
                MadeBy::Session(_) => "session",
            },
            paused,
            next: view.next.map(Moment),
            next_local: view.next.map(|next| on_the_wall(next, &zone)),
            open: view.open,
            last: last.map(TickShape::from),
            zone,
        }
    }
}

/// What is done at a time, and who is told of it.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) tenant: Option<String>,
    pub(super) prompt: Option<String>,
    pub(super) text: Option<String>,
    pub(super) agent: Option<String>,
    pub(super) to: Option<String>,
    pub(super) channel: Option<String>,
    pub(super) customer: Option<String>,
    pub(super) session: Option<String>,
}

impl Wish {
    /// Made into a job, within the asker's reach.
    pub(super) fn job(self, asker: &Asker, name: String, when: When) -> Result<Job, Problem> {
        let tenant = asker.tenant(self.tenant)?.unwrap_or_else(|| TENANT.to_owned());
        let agent = self.agent.unwrap_or_else(|| AGENT.to_owned());
        let task = match (self.prompt, self.text) {
            (Some(prompt), None) => Task::Prompt(prompt),
            (None, Some(text)) => Task::Text(text),
            (None, None) => {
                return Err(Problem::field(
                    "prompt",
                    "is missing, and so is text: what is to be done?",
                ));
            }
            (Some(_), Some(_)) => {
                return Err(Problem::field("text", "excludes prompt: one of them is done"));
            }
        };
        let to = match (self.to, self.customer, self.session) {
            (Some(name), None, None) => Target::User { name, channel: self.channel },
            (None, Some(customer), None) => {
                let Some(channel) = self.channel else {
                    return Err(Problem::field("channel", "is missing: which way shall it go?"));
                };
                let key = SessionKey::new(&tenant, &agent, &channel, SessionKind::Dm, &customer);
                let wrong = |error: turnkeep_core::session_key::SessionKeyError| {
                    Problem::field("customer_id", error.to_string())
                };
                Target::Session(key.map_err(wrong)?)
            }
            (None, None, Some(key)) => Target::Session(session_key("session", &key)?),
            (None, None, None) => {
                return Err(Problem::field("to", "is missing: who shall be told?"));
            }
            _ => {
                let why = "excludes customer_id and session: one of them is told";
                return Err(Problem::field("to", why));
            }
        };
        Ok(Job {
            tenant,
            name,
            when,
            task,
            agent,
            to,
            misfire: Misfire::default(),
            overlap: Overlap::default(),
            paused: false,
            trust: Trust::Full,
            made_by: MadeBy::Api,
        })
    }
}

impl From<ScheduleError> for Problem {
    fn from(error: ScheduleError) -> Self {
        let text = error.to_string();
        match error {
            ScheduleError::Field(wrong) => Self::field(wrong.field, wrong.why),
            ScheduleError::Unknown => Self::new(Kind::NotFound, text),
            ScheduleError::Taken => Self::new(Kind::Exists, text),
            ScheduleError::Full => Self::new(Kind::Full, text),
            ScheduleError::Configured | ScheduleError::Running => Self::new(Kind::WrongState, text),
            ScheduleError::Store(error) => Self::from(error),
            ScheduleError::Unavailable(why) => Self::new(Kind::Unavailable, why),
        }
    }
}

/// Whose jobs a request is about.
pub(super) fn tenant_of(asker: &Asker, uri: &Uri) -> Result<String, Problem> {
    let asked = Query::of(uri).get("tenant_id").map(std::borrow::Cow::into_owned);
    Ok(asker.tenant(asked)?.unwrap_or_else(|| TENANT.to_owned()))
}

/// The last time that is over.
pub(super) async fn last_of(gateway: &Gateway, view: &JobView) -> Result<Option<Tick>, Problem> {
    let job = &view.kept.job;
    let ticks = gateway.job_ticks(&job.tenant, &job.name, LAST).await?;
    Ok(ticks.into_iter().find(|tick| !tick.state.is_open()))
}
