//! Runs claimed times: asks the agent or takes the text, tells the target, says so.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use turnkeep_core::message::{InboundKind, MessageBody};
use turnkeep_core::ports::schedule::{Ended, KeptJob, TickState};
use turnkeep_core::ports::store::TurnStatus;
use turnkeep_core::schedule::{Job, Task, When};
use turnkeep_core::session::{Control, Controlled};
use turnkeep_core::session_key::SessionKind;
use turnkeep_core::{Seq, SessionKey, Timestamp};

use super::{Name, Open};
use crate::follow::{Settled, find_settled};
use crate::ingress::{HeardAs, Submission, admit, scheduled_name};
use crate::mail::{Mail, Submit};
use crate::service::{Accepted, Gateway, Refusal};
use crate::{clock, killpoint};

/// Whatever could not be done just now is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// How often the target's full outbox is tried.
const FULL_TRIES_MAX: u32 = 600;
/// It is looked as often as this whether a question was erased whose answer is waited for.
const FORGOTTEN_EVERY: Duration = Duration::from_secs(60);

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

    /// One time of the job after the other, until nothing is open or it is another job.
    async fn work_on(&self, name: Name) {
        let schedule = &self.0.schedule;
        let mut made_at = None;
        loop {
            let first = {
                let mut table = schedule.table();
                let Some(entry) = table.get_mut(&name) else { return };
                if *made_at.get_or_insert(entry.kept.made_at) != entry.kept.made_at {
                    return;
                }
                let first = entry.open.front().cloned();
                entry.working = first.is_some();
                first.map(|open| (entry.kept.clone(), open))
            };
            let Some((kept, open)) = first else { return };
            let at = open.at;
            let Some((state, note)) = self.run_tick(&kept, open).await else { return };
            if self.job_now(&kept).is_none() {
                // Its times went with it. There may be another one of that name.
                tracing::info!(job = name.1, time = at, "a job was removed while it ran");
                schedule.metrics.ended(TickState::Skipped, 1);
                return;
            }
            if !self.end_tick(&kept, at, state, note).await {
                return;
            }
            killpoint::reached("schedule.end.after");
        }
    }

    /// The job as it is wanted now; none if it is gone, whatever has its name.
    fn job_now(&self, kept: &KeptJob) -> Option<Job> {
        let table = self.0.schedule.table();
        let entry = table.get(&(kept.job.tenant.clone(), kept.job.name.clone()))?;
        (entry.kept.made_at == kept.made_at).then(|| entry.kept.job.clone())
    }

    async fn end_tick(
        &self,
        kept: &KeptJob,
        at: Timestamp,
        state: TickState,
        note: Option<String>,
    ) -> bool {
        let schedule = &self.0.schedule;
        let name = &(kept.job.tenant.clone(), kept.job.name.clone());
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
        schedule.ends.fetch_add(1, Ordering::SeqCst);
        if let Some(entry) = table.get_mut(name)
            && entry.kept.made_at == kept.made_at
        {
            entry.open.retain(|open| open.at != at);
            if state.is_done() && entry.kept.job.when == When::Once(at) {
                // It went with its only time.
                table.remove(name);
            }
        }
        schedule.metrics.count(&table);
        true
    }

    /// From wherever it is to its end; none if the process ends before.
    async fn run_tick(&self, kept: &KeptJob, open: Open) -> Option<Ending> {
        let job = &kept.job;
        let text = match &job.task {
            Task::Text(text) => Ok(Arc::from(text.as_str())),
            Task::Prompt(prompt) => {
                let (session, seq) = match open.place {
                    Some(place) => place,
                    None => match self.ask_agent(job, open.at, prompt).await? {
                        Ok(place) => place,
                        Err(why) => return self.tick_failed(kept, open.at, why).await,
                    },
                };
                let settled = self.answer_of(&session, seq).await?;
                killpoint::reached("schedule.answered");
                match settled {
                    Some(settled) => answered(&settled),
                    None => Err(("its answer was forgotten".to_owned(), false)),
                }
            }
        };
        match text {
            Ok(text) if text.trim().is_empty() => Some((TickState::Silent, None)),
            Ok(text) => match self.tell_target(kept, open.at, text).await? {
                Ok(()) => Some((TickState::Delivered, None)),
                Err(why) => Some((TickState::Failed, Some(why))),
            },
            Err((why, told)) if told => self.tick_failed(kept, open.at, why).await,
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
            disappears_s: None,
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

    /// Waits for the question's ending; none within if that was erased.
    async fn answer_of(&self, session: &SessionKey, seq: Seq) -> Option<Option<Settled>> {
        let mut forgotten = tokio::time::interval(FORGOTTEN_EVERY);
        loop {
            let mut follow = std::pin::pin!(self.follow(session.clone(), seq));
            let settled = loop {
                tokio::select! {
                    settled = &mut follow => break settled,
                    _ = forgotten.tick() => if self.is_forgotten(session, seq).await {
                        return Some(None);
                    }
                }
            };
            match settled {
                Some(settled) if settled.status == TurnStatus::WaitingForInput => {
                    // Nobody is there who could answer it.
                    let stopped = self.stop(session, settled.turn).await;
                    if matches!(stopped, Ok(Controlled::Stopped(_) | Controlled::Stopping(_))) {
                        return Some(Some(settled));
                    }
                }
                Some(settled) => return Some(Some(settled)),
                None if self.is_forgotten(session, seq).await => return Some(None),
                None => {}
            }
            if !self.pause_schedule().await {
                return None;
            }
        }
    }

    /// Whether a question that was put there is neither open nor ended any more.
    async fn is_forgotten(&self, session: &SessionKey, seq: Seq) -> bool {
        let open = match self.store().load(session).await {
            Ok(Some(loaded)) => loaded.session.pending().any(|pending| pending.seq == seq),
            Ok(None) => false,
            Err(_) => true,
        };
        !open && matches!(find_settled(&**self.store(), session, seq).await, Ok(None))
    }

    /// It came to nothing. Its target is told so once: not again while it goes on failing.
    async fn tick_failed(&self, kept: &KeptJob, at: Timestamp, why: String) -> Option<Ending> {
        let job = &kept.job;
        let before = self.0.schedule.store.ended_before((&job.tenant, &job.name, at)).await;
        if before.ok().flatten().is_none_or(|tick| tick.state != TickState::Failed) {
            let text = format!("The scheduled job \"{}\" failed.", job.name);
            if let Err(untold) = self.tell_target(kept, at, text.into()).await? {
                return Some((TickState::Failed, Some(format!("{why}; and {untold}"))));
            }
        }
        Some((TickState::Failed, Some(why)))
    }

    /// Hands a text to the target; why not, if that can't be done.
    async fn tell_target(
        &self,
        kept: &KeptJob,
        at: Timestamp,
        text: Arc<str>,
    ) -> Option<Result<(), String>> {
        let mut full = 0;
        loop {
            // It may have gone while it waited, or shall tell somebody else.
            let Some(job) = self.job_now(kept) else {
                return Some(Err("the job was removed".to_owned()));
            };
            let target = self.target(&job).await;
            if self.job_now(kept).is_none() {
                continue;
            }
            match target {
                Ok(Err(wrong)) => return Some(Err(wrong.to_string())),
                Ok(Ok(key)) => match self.tell_there(&key, &job, at, Arc::clone(&text)).await {
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
