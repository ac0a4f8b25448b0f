//! Reminders that agents make with a tool. The agents are there before the gateway is, so it comes
//! to the desk later.

use std::sync::{Arc, OnceLock, Weak};

use sha2::{Digest as _, Sha256};
use turnkeep_core::SessionKind;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::reminders::{AskedBy, Reminder, Reminders, Wanted};
use turnkeep_core::schedule::{
    Job, MadeBy, Misfire, Overlap, Target, Task, When, moment_at, moment_in, on_the_wall,
};

use super::{JobView, ScheduleError};
use crate::clock;
use crate::service::{Gateway, Inner};

/// Reminders of one session that are still to come.
const SESSION_MAX: usize = 50;

/// Where agents' reminders are made, once a gateway has come to it.
#[derive(Default)]
pub struct ReminderDesk {
    gateway: OnceLock<Weak<Inner>>,
    /// The time zone that is meant where an agent names none.
    zone: String,
}

impl ReminderDesk {
    /// A desk where this time zone is meant.
    #[must_use]
    pub fn new(zone: String) -> Self {
        Self { gateway: OnceLock::new(), zone }
    }

    /// From here on this gateway makes them.
    pub fn serve(&self, gateway: &Gateway) {
        let _ = self.gateway.set(Arc::downgrade(&gateway.0));
    }

    fn gateway(&self) -> Result<Gateway, String> {
        let there = self.gateway.get().and_then(Weak::upgrade);
        there.map(Gateway).ok_or_else(|| "the server is starting or ending".to_owned())
    }

    async fn make(
        &self,
        by: AskedBy,
        when: Wanted,
        zone: Option<String>,
        text: String,
    ) -> Result<Reminder, String> {
        let gateway = self.gateway()?;
        let zone = zone.unwrap_or_else(|| self.zone.clone());
        let now = clock::now();
        let (at, said) = match &when {
            Wanted::In(text) => (moment_in(text, now), text),
            Wanted::At(text) => (moment_at(text, now, &zone), text),
        };
        let at = at.map_err(|error| error.to_string())?;
        let name = name_of(&by, said, &text);
        let tenant = by.session.tenant();
        let told = |view: JobView| told(&view, &zone);
        if let Some(view) = gateway.job(&tenant, &name) {
            return Ok(told(view));
        }
        if own(&gateway, &by).len() >= SESSION_MAX {
            return Err(format!("there are {SESSION_MAX} reminders already; cancel one first"));
        }
        let job = Job {
            tenant: tenant.clone(),
            name: name.clone(),
            when: When::Once(at),
            task: Task::Text(text),
            agent: by.session.agent(),
            to: Target::Session(by.session.clone()),
            misfire: Misfire::Once,
            overlap: Overlap::Queue,
            paused: false,
            trust: by.trust,
            made_by: MadeBy::Session(by.session),
        };
        match gateway.add_job(job).await {
            Ok(view) => Ok(told(view)),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn give_up(&self, by: AskedBy, name: String) -> Result<(), String> {
        let gateway = self.gateway()?;
        let none = || format!("there is no reminder {name:?} here");
        if !own(&gateway, &by).iter().any(|view| view.kept.job.name == name) {
            return Err(none());
        }
        match gateway.drop_job(&by.session.tenant(), &name).await {
            Ok(()) => Ok(()),
            Err(ScheduleError::Unknown) => Err(none()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The same wish of the same turn group has the same name, in whatever attempt it is made.
fn name_of(by: &AskedBy, when: &str, text: &str) -> String {
    let group = by.group.to_string();
    let mut hash = Sha256::new();
    for part in [by.session.as_str(), &group, when, text] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let hex: String = digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    format!("r{hex}")
}

/// The session's reminders, the next one first.
fn own(gateway: &Gateway, by: &AskedBy) -> Vec<JobView> {
    let mut own = gateway.jobs(Some(&by.session.tenant()));
    own.retain(|view| {
        let made_by = &view.kept.job.made_by;
        view.kept.job.is_reminder() && *made_by == MadeBy::Session(by.session.clone())
    });
    own.sort_by_key(|view| view.next);
    own
}

fn told(view: &JobView, zone: &str) -> Reminder {
    let job = &view.kept.job;
    let at = match job.when {
        When::Once(at) if view.kept.handled >= at && view.open == 0 => {
            format!("{}, but it could not be told", on_the_wall(at, zone))
        }
        When::Once(at) => on_the_wall(at, zone),
        When::Cron { .. } => String::new(),
    };
    Reminder { name: job.name.clone(), at, text: job.task.text().to_owned() }
}

impl Reminders for ReminderDesk {
    fn remind(
        &self,
        by: &AskedBy,
        when: Wanted,
        zone: Option<String>,
        text: String,
    ) -> BoxFuture<'_, Result<Reminder, String>> {
        let by = by.clone();
        if by.session.kind() == SessionKind::Cron {
            return Box::pin(async { Err("a job has nobody to remind".to_owned()) });
        }
        Box::pin(self.make(by, when, zone, text))
    }

    fn reminders(&self, by: &AskedBy) -> Result<(Vec<Reminder>, String), String> {
        let gateway = self.gateway()?;
        let all = own(&gateway, by).iter().map(|view| told(view, &self.zone)).collect();
        Ok((all, on_the_wall(clock::now(), &self.zone)))
    }

    fn cancel(&self, by: &AskedBy, name: String) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(self.give_up(by.clone(), name))
    }
}
