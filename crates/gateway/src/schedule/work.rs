//! Runs claimed times: asks the agent or takes the text, tells the target, says so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use turnkeep_core::message::{InboundKind, MessageBody};
use turnkeep_core::ports::schedule::{Ended, TickState};
use turnkeep_core::ports::store::TurnStatus;
use turnkeep_core::schedule::{Job, Task};
use turnkeep_core::session::{Control, Controlled};
use turnkeep_core::session_key::SessionKind;
use turnkeep_core::{Seq, SessionKey, Timestamp};

use super::{Name, Open};
use crate::follow::Settled;
use crate::ingress::{HeardAs, Submission, admit, scheduled_name};
use crate::mail::{Mail, Submit};
use crate::service::{Accepted, Gateway, Refusal};
use crate::{clock, killpoint};

/// Whatever could not be done just now is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// How often the target's full outbox is tried.
const FULL_TRIES_MAX: u32 = 600;
/// Ticks that are looked at to see whether a failure is news.
const LOOK_BACK: usize = 20;

/// How a tick ended.
type Ending = (TickState, Option<String>);

impl Gateway {
    /// Has somebody work on every job that has something open.
    pub(super) fn work_off(&self) {
        let idle: Vec<Name> = {
            let mut table = self.0.schedule.table();
            let idle =
                table.iter_mut().filter(|(_, entry)| !entry.working && !entry.open.is_empty());
            idle.map(|(name, entry)| {
                entry.working = true;
                name.clone()
            })
            .collect()
        };
        for name in idle {
            let gateway = self.clone();
            tokio::spawn(async move { gateway.work_on(name).await });
        }
    }

    /// One time of the job after the other, until nothing is open.
    async fn work_on(&self, name: Name) {
        let schedule = &self.0.schedule;
        loop {
            let first = {
                let mut table = schedule.table();
                let Some(entry) = table.get_mut(&name) else { return };
                let first = entry.open.front().cloned();
                entry.working = first.is_some();
                first.map(|open| (entry.kept.job.clone(), open))
            };
            let Some((job, open)) = first else { return };
            let at = open.at;
            let Some((state, note)) = self.run_tick(&job, open).await else { return };
            if !self.end_tick(&name, at, state, note).await {
                return;
            }
            killpoint::reached("schedule.end.after");
            if job.is_reminder() {
                // It went with its only time.
                schedule.table().remove(&name);
                return;
            }
        }
    }

    async fn end_tick(
        &self,
        name: &Name,
        at: Timestamp,
        state: TickState,
        note: Option<String>,
    ) -> bool {
        let schedule = &self.0.schedule;
        let outcome = state.as_str();
        tracing::info!(
            job = name.1,
            time = at,
            outcome,
            note = note.as_deref(),
            "a job's time ended"
        );
        loop {
            let ended = Ended { state, at: clock::now(), note: note.clone() };
            match schedule.store.end_tick((&name.0, &name.1, at), ended).await {
                Ok(()) => break,
                Err(error) => tracing::warn!(%error, job = name.1, "its end could not be noted"),
            }
            if !self.pause_schedule().await {
                return false;
            }
        }
        schedule.metrics.ended(state, 1);
        let mut table = schedule.table();
        if let Some(entry) = table.get_mut(name) {
            entry.open.retain(|open| open.at != at);
        }
        schedule.metrics.count(&table);
        true
    }

    /// From wherever it is to its end; none if the process ends before.
    async fn run_tick(&self, job: &Job, open: Open) -> Option<Ending> {
        let text = match &job.task {
            Task::Text(text) => Ok(Arc::from(text.as_str())),
            Task::Prompt(prompt) => {
                let (session, seq) = match open.place {
                    Some(place) => place,
                    None => match self.ask_agent(job, open.at, prompt).await? {
                        Ok(place) => place,
                        Err(why) => return self.tick_failed(job, open.at, why).await,
                    },
                };
                let settled = self.answer_of(&session, seq).await?;
                killpoint::reached("schedule.answered");
                answered(&settled)
            }
        };
        if self.job(&job.tenant, &job.name).is_none() {
            return Some((TickState::Skipped, Some("the job was removed".to_owned())));
        }
        match text {
            Ok(text) if text.trim().is_empty() => Some((TickState::Silent, None)),
            Ok(text) => match self.tell_target(job, open.at, text).await? {
                Ok(()) => Some((TickState::Delivered, None)),
                Err(why) => Some((TickState::Failed, Some(why))),
            },
            Err((why, told)) if told => self.tick_failed(job, open.at, why).await,
            Err((why, _)) => Some((TickState::Failed, Some(why))),
        }
    }

    /// Puts the question into the job's own session; why not, if that can't be done.
    async fn ask_agent(
        &self,
        job: &Job,
        at: Timestamp,
        prompt: &str,
    ) -> Option<Result<(SessionKey, Seq), String>> {
        loop {
            match self.submit_tick(job, at, prompt).await {
                Ok((session, seq)) => {
                    killpoint::reached("schedule.asked");
                    self.note_place(job, at, &session, seq).await?;
                    killpoint::reached("schedule.noted");
                    return Some(Ok((session, seq)));
                }
                Err(Refusal::Field(wrong)) => return Some(Err(wrong.to_string())),
                Err(Refusal::Rejected(why)) => {
                    return Some(Err(format!("refused: {}", why.as_str())));
                }
                Err(Refusal::Overloaded | Refusal::Unavailable(_)) => {}
            }
            if !self.pause_schedule().await {
                return None;
            }
        }
    }

    async fn submit_tick(
        &self,
        job: &Job,
        at: Timestamp,
        prompt: &str,
    ) -> Result<(SessionKey, Seq), Refusal> {
        self.readiness().map_err(Refusal::Unavailable)?;
        let setup = self.setup();
        let _undecided = self.enter(setup.settings.undecided_max)?;
        let name = job.tick_name(at);
        let heard = HeardAs {
            trust: job.trust,
            kind: SessionKind::Cron,
            peer: job.name.clone(),
            account: String::new(),
            person: "cron".to_owned(),
            id: name.clone(),
            what: InboundKind::Message,
        };
        let submission = Submission {
            tenant: Some(job.tenant.clone()),
            agent: Some(job.agent.clone()),
            customer: Some(job.name.clone()),
            text: prompt.to_owned(),
            message_id: Some(name),
            heard: Some(Box::new(heard)),
            ..Submission::default()
        };
        let bytes_max = setup.settings.message_bytes_max.max(prompt.len());
        let admitted = admit(submission, &*setup.policies, self.salt()?, bytes_max, String::new);
        let mut admitted = admitted.map_err(Refusal::Field)?;
        let since = Instant::now();
        let inbound = &mut admitted.inbound;
        // Whoever made the job was let in; nobody floods with it. What it costs still counts.
        self.within_budget(&admitted.key, &admitted.policy, inbound, since).await?;
        let (reply, answer) = oneshot::channel();
        let submit = Submit { inbound: admitted.inbound, reply, settle: None, since, trace: None };
        self.send(&admitted.key, admitted.policy, Mail::Submit(Box::new(submit)));
        let gone = || Refusal::Unavailable("the session's task was interrupted".to_owned());
        match answer.await.map_err(|_| gone())?.map_err(Refusal::Unavailable)? {
            Accepted::Duplicate(first) => Ok((first.session, first.seq)),
            Accepted::Decided(decision) => match (decision.rejection, decision.seq) {
                (Some(rejection), _) => Err(Refusal::Rejected(rejection)),
                (None, Some(seq)) => Ok((admitted.key, seq)),
                (None, None) => Err(gone()),
            },
        }
    }

    async fn note_place(
        &self,
        job: &Job,
        at: Timestamp,
        session: &SessionKey,
        seq: Seq,
    ) -> Option<()> {
        let tick = (job.tenant.as_str(), job.name.as_str(), at);
        loop {
            match self.0.schedule.store.submitted(tick, session.clone(), seq).await {
                Ok(()) => return Some(()),
                Err(error) => {
                    tracing::warn!(%error, job = job.name, "its place could not be noted")
                }
            }
            if !self.pause_schedule().await {
                return None;
            }
        }
    }

    /// Waits for the question's ending.
    async fn answer_of(&self, session: &SessionKey, seq: Seq) -> Option<Settled> {
        loop {
            match self.follow(session.clone(), seq).await {
                Some(settled) if settled.status == TurnStatus::WaitingForInput => {
                    // Nobody is there who could answer it.
                    let stopped = self.stop(session, settled.turn).await;
                    if matches!(stopped, Ok(Controlled::Stopped(_) | Controlled::Stopping(_))) {
                        return Some(settled);
                    }
                }
                Some(settled) => return Some(settled),
                None => {}
            }
            if !self.pause_schedule().await {
                return None;
            }
        }
    }

    /// It came to nothing. Its target is told so once: not again while it goes on failing.
    async fn tick_failed(&self, job: &Job, at: Timestamp, why: String) -> Option<Ending> {
        let before = self.0.schedule.store.ticks(&job.tenant, &job.name, LOOK_BACK).await;
        let mut before = before.unwrap_or_default().into_iter().filter(|tick| {
            tick.at < at && !tick.state.is_open() && tick.state != TickState::Skipped
        });
        if before.next().is_none_or(|tick| tick.state != TickState::Failed) {
            let text = format!("The scheduled job \"{}\" failed.", job.name);
            if let Err(untold) = self.tell_target(job, at, text.into()).await? {
                return Some((TickState::Failed, Some(format!("{why}; and {untold}"))));
            }
        }
        Some((TickState::Failed, Some(why)))
    }

    /// Hands a text to the target; why not, if that can't be done.
    async fn tell_target(
        &self,
        job: &Job,
        at: Timestamp,
        text: Arc<str>,
    ) -> Option<Result<(), String>> {
        let mut full = 0;
        loop {
            match self.target(job).await {
                Ok(Err(wrong)) => return Some(Err(wrong.to_string())),
                Ok(Ok(key)) => match self.tell_there(&key, job, at, Arc::clone(&text)).await {
                    Ok(Controlled::Noticed { .. }) => {
                        killpoint::reached("schedule.told");
                        return Some(Ok(()));
                    }
                    Ok(Controlled::NoticesFull) if full < FULL_TRIES_MAX => full += 1,
                    Ok(Controlled::NoticesFull) => {
                        return Some(Err(format!("too much waits to be told in {key}")));
                    }
                    Ok(Controlled::IsClosed) => return Some(Err(format!("{key} is closed"))),
                    Ok(other) => return Some(Err(format!("{key} refused it: {other:?}"))),
                    Err(Refusal::Field(wrong)) => return Some(Err(wrong.to_string())),
                    Err(Refusal::Rejected(why)) => return Some(Err(why.as_str().to_owned())),
                    Err(Refusal::Overloaded | Refusal::Unavailable(_)) => {}
                },
                Err(error) => tracing::warn!(%error, job = job.name, "its target is not known now"),
            }
            if !self.pause_schedule().await {
                return None;
            }
        }
    }

    async fn tell_there(
        &self,
        key: &SessionKey,
        job: &Job,
        at: Timestamp,
        text: Arc<str>,
    ) -> Result<Controlled, Refusal> {
        let name = job.tick_name(at);
        let seen = Some(scheduled_name(self.salt()?, &job.tenant, &name));
        let body = MessageBody { message_id: name.into(), sender: Arc::default(), text };
        let notify = Control::Notify { seen, body: Arc::new(body), scheduled: true };
        self.control(key, notify).await
    }

    /// A moment; false once the process ends.
    async fn pause_schedule(&self) -> bool {
        if !self.is_draining() {
            tokio::time::sleep(AGAIN).await;
        }
        !self.is_draining()
    }
}

/// What is told of an ending, or why it failed and whether that is told.
fn answered(settled: &Settled) -> Result<Arc<str>, (String, bool)> {
    match settled.status {
        TurnStatus::Complete => Ok(settled.reply.clone().unwrap_or_default()),
        TurnStatus::Cancelled => Err(("it was stopped".to_owned(), false)),
        TurnStatus::WaitingForInput => {
            Err(("its agent asked something, and nobody is there to answer".to_owned(), true))
        }
        _ => Err((settled.error.as_deref().unwrap_or("its agent failed").to_owned(), true)),
    }
}
