//! One attempt of a turn: the agent's task, its way back, and the watch over it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use turnkeep_core::ids::{QuestionId, RunTag, Seq, Token};
use turnkeep_core::journal::SupersedeChoice;
use turnkeep_core::message::Pending;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::agent::{
    Artifact, Declined, HistoryEntry, Inputs, Open, OpenGuard, Permission, Recalled, RecordedCall,
    Revoked, SlotGuard, SupersedeQuestion, ToolCall, TurnHandle,
};
use turnkeep_core::run_clock::{Overdue, RunClock};
use turnkeep_core::session::{AgentAnswer, AgentInput, FinishReason, StartRun};
use turnkeep_core::tool::{Act, ToolOutcome};
use turnkeep_core::trace::SpanContext;
use turnkeep_core::usage::Usage;
use turnkeep_core::{ChannelFacts, Policy, SessionKey};

use crate::mail::{Ask, Mail};
use crate::money::Reports;
use crate::recent::Recent;
use crate::service::Gateway;
use crate::slots::{Coming, Slots};
use crate::trace::OpenSpan;
use artifacts::Given;
use asks::Asks;
use shown::Shown;

mod absent;
mod artifacts;
mod asks;
mod attempt;
mod bootstrap;
mod history;
mod shown;
mod span;
mod tools;

pub use attempt::panic_text;
pub(crate) use attempt::{Launch, start};

const MAIL: u8 = 1;
const CANCELLED: u8 = 2;
const WINDING: u8 = 4;
const FINISH_NOW: u8 = 8;
const QUESTION: u8 = 16;
const ANSWERED: u8 = 32;

/// What the session's task and the run share.
pub(crate) struct RunShared {
    pub(crate) tag: RunTag,
    pub(crate) draft: Mutex<String>,
    flags: AtomicU8,
    changed: Notify,
    clock: Mutex<RunClock>,
    began: Instant,
    rare: Mutex<Rare>,
    /// What other nodes are to see of it.
    pub(crate) shown: Shown,
}

/// What few runs ever need.
#[derive(Default)]
struct Rare {
    questions: VecDeque<SupersedeQuestion>,
    /// The last that was put: after a look at the store it may be put again.
    asked: QuestionId,
    answer: Option<(QuestionId, Pending)>,
    /// The attempt's span, where spans are collected.
    span: Option<OpenSpan>,
    /// Calls under way, for that span.
    calls: Vec<(Seq, Arc<str>)>,
    /// Why it shall finish without new work.
    finish: Option<FinishReason>,
}

impl RunShared {
    /// How long the draft is.
    pub(crate) fn draft_bytes(&self) -> usize {
        lock(&self.draft).len()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RunShared {
    fn new(policy: &Policy, start: &StartRun, span: Option<OpenSpan>) -> Arc<Self> {
        let shared = Self {
            tag: start.tag,
            draft: Mutex::new(String::new()),
            flags: AtomicU8::new(0),
            changed: Notify::new(),
            clock: Mutex::new(RunClock::start(policy, 0)),
            began: Instant::now(),
            rare: Mutex::new(Rare { span, ..Rare::default() }),
            shown: Shown::default(),
        };
        if let Some(reason) = start.finishing {
            shared.finish_now(reason);
        }
        Arc::new(shared)
    }

    fn set(&self, flag: u8) {
        self.flags.fetch_or(flag, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    fn clear(&self, flag: u8) {
        self.flags.fetch_and(!flag, Ordering::AcqRel);
    }

    fn is(&self, flag: u8) -> bool {
        self.flags.load(Ordering::Acquire) & flag != 0
    }

    async fn wait_for(&self, flag: u8) {
        loop {
            let changed = self.changed.notified();
            if self.is(flag) {
                return;
            }
            changed.await;
        }
    }

    pub(crate) fn mail_waiting(&self) {
        self.set(MAIL);
    }

    pub(crate) fn cancel(&self) {
        self.set(CANCELLED);
    }

    pub(crate) fn wind(&self) {
        self.set(WINDING);
    }

    pub(crate) fn finish_now(&self, reason: FinishReason) {
        lock(&self.rare).finish = Some(reason);
        self.set(FINISH_NOW);
    }

    pub(crate) fn ask(&self, question: SupersedeQuestion) {
        let mut rare = lock(&self.rare);
        if question.id > rare.asked {
            rare.asked = question.id;
            rare.questions.push_back(question);
            drop(rare);
            self.set(QUESTION);
        }
    }

    pub(crate) fn answer(&self, question: QuestionId, message: Pending) {
        lock(&self.rare).answer = Some((question, message));
        self.set(ANSWERED);
    }

    pub(crate) fn drafted(&self) -> Option<Arc<str>> {
        let draft = lock(&self.draft);
        (!draft.is_empty()).then(|| draft.as_str().into())
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Resolves when a limit is overstepped.
    async fn overdue(&self) -> Overdue {
        loop {
            let look = lock(&self.clock).next_look();
            // While paused, whoever resumes says so; looking in now and then is enough.
            let at = look.unwrap_or_else(|| self.now_ms() + 1000);
            tokio::time::sleep_until(self.began + Duration::from_millis(at)).await;
            if let Some(overdue) = lock(&self.clock).overdue(self.now_ms()) {
                return overdue;
            }
        }
    }

    fn heard(&self) {
        let now = self.now_ms();
        lock(&self.clock).heard(now);
    }
}

/// The agent's way back to its session.
pub(crate) struct RunHandle {
    shared: Arc<RunShared>,
    key: SessionKey,
    task: UnboundedSender<Mail>,
    gateway: Gateway,
    slots: Arc<Slots>,
    /// It has not asked for a slot yet.
    coming: Mutex<Option<Coming>>,
    reports: Reports,
    history_from: Seq,
    /// What the session's task remembered when it began.
    recent: Option<Arc<Recent>>,
    /// The first and the last of the messages that it began with.
    first: Seq,
    last: Seq,
    /// The first one's id.
    first_id: Arc<str>,
    /// What its channel can do.
    facts: ChannelFacts,
    /// The model that was chosen.
    model: Option<Arc<str>>,
    /// What tools did for its turn group before it.
    acts: Vec<Act>,
    /// What it may ask its user.
    asks: Asks,
    /// What the messages say that it was given so far: artifacts are made from them.
    given: Mutex<Given>,
}

/// Pauses the watch for as long as it lives.
struct Paused<'a>(&'a RunShared);

impl<'a> Paused<'a> {
    fn new(shared: &'a RunShared) -> Self {
        lock(&shared.clock).pause(shared.now_ms());
        Self(shared)
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        lock(&self.0.clock).resume(self.0.now_ms());
    }
}

/// Who waits for its user does no work that a drain would have to wait for.
struct Idle<'a>(&'a Gateway);

impl<'a> Idle<'a> {
    fn new(gateway: &'a Gateway) -> Self {
        gateway.0.running.fetch_sub(1, Ordering::AcqRel);
        Self(gateway)
    }
}

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.0.running.fetch_add(1, Ordering::AcqRel);
    }
}

impl RunHandle {
    async fn request(
        &self,
        input: impl FnOnce(Token) -> AgentInput + Send + 'static,
    ) -> Result<AgentAnswer, Revoked> {
        match self.request_or_refused(input).await? {
            AgentAnswer::Refused => Err(Revoked),
            answer => Ok(answer),
        }
    }

    /// The same where a refusal is an answer like any other.
    async fn request_or_refused(
        &self,
        input: impl FnOnce(Token) -> AgentInput + Send + 'static,
    ) -> Result<AgentAnswer, Revoked> {
        self.shared.heard();
        let (reply, answer) = oneshot::channel();
        let ask = Ask { tag: self.shared.tag, input: Box::new(input), reply };
        self.task.send(Mail::Ask(Box::new(ask))).map_err(|_| Revoked)?;
        match answer.await {
            Ok(AgentAnswer::Revoked) | Err(_) => Err(Revoked),
            Ok(answer) => Ok(answer),
        }
    }
}

impl TurnHandle for RunHandle {
    fn mail(&self) -> BoxFuture<'_, Result<Vec<Pending>, Revoked>> {
        Box::pin(async {
            // Cleared before the look: mail that comes after it raises the flag again.
            self.shared.clear(MAIL);
            match self.request(AgentInput::TakeMail).await? {
                AgentAnswer::Mail(mail) => {
                    self.note_given(&mail);
                    Ok(mail)
                }
                _ => Ok(Vec::new()),
            }
        })
    }

    fn has_mail(&self) -> bool {
        self.shared.is(MAIL)
    }

    fn mail_arrived(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.shared.wait_for(MAIL))
    }

    fn commit_point(&self) -> BoxFuture<'_, Result<(), Declined>> {
        Box::pin(async {
            match self.request(AgentInput::CommitPoint).await? {
                AgentAnswer::NotAllowed(denied) => Err(Declined::Refused(denied.as_str())),
                _ => Ok(()),
            }
        })
    }

    fn say(&self, text: &str) {
        self.shared.heard();
        // Nothing to show, but a sign of life.
        if text.is_empty() {
            return;
        }
        lock(&self.shared.draft).push_str(text);
        if let Some(live) = self.gateway.0.lives.get(&self.key) {
            live.drafted();
        }
        self.shared.shown.grown.notify_one();
    }

    fn ask(&self, text: &str) -> BoxFuture<'_, Result<Pending, Declined>> {
        let text: Arc<str> = text.into();
        Box::pin(async move { self.put_to_user(text, false).await?.ok_or(Revoked.into()) })
    }

    fn confirm(&self, text: &str) -> BoxFuture<'_, Result<Option<Pending>, Declined>> {
        Box::pin(self.put_to_user(text.into(), true))
    }

    fn emit(&self, name: &str, detail: &str) -> BoxFuture<'_, Result<(), Revoked>> {
        let (name, detail): (Arc<str>, Arc<str>) = (name.into(), detail.into());
        Box::pin(async move {
            self.request(move |token| AgentInput::Emit(token, name, detail)).await.map(|_| ())
        })
    }

    fn intend(&self, call: ToolCall) -> BoxFuture<'_, Result<Permission, Revoked>> {
        Box::pin(self.ask_leave(call))
    }

    fn returned(
        &self,
        call: Seq,
        outcome: ToolOutcome,
        output: &str,
    ) -> BoxFuture<'_, Result<(), Revoked>> {
        Box::pin(self.tell_result(call, outcome, tools::within_bounds(output)))
    }

    fn recorded(&self) -> BoxFuture<'_, Result<Vec<RecordedCall>, String>> {
        Box::pin(self.calls_of(&self.acts))
    }

    fn keep(&self, artifact: Artifact) -> BoxFuture<'_, Result<Recalled, Revoked>> {
        Box::pin(self.keep_artifact(artifact))
    }

    fn recall(&self, name: &str, inputs: Inputs) -> BoxFuture<'_, Result<Recalled, Revoked>> {
        let name: Arc<str> = name.into();
        Box::pin(async move { self.recall_artifact(&name, &inputs).await })
    }

    fn cancelled(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.shared.wait_for(CANCELLED | WINDING))
    }

    fn question(&self) -> BoxFuture<'_, SupersedeQuestion> {
        Box::pin(async {
            loop {
                self.shared.wait_for(QUESTION).await;
                let mut rare = lock(&self.shared.rare);
                let next = rare.questions.pop_front();
                if rare.questions.is_empty() {
                    self.shared.clear(QUESTION);
                }
                if let Some(question) = next {
                    return question;
                }
            }
        })
    }

    fn answer(&self, question: QuestionId, choice: SupersedeChoice) {
        let said = AgentInput::Answer(question, choice);
        let _ = self.task.send(Mail::Say(Box::new((self.shared.tag, said))));
    }

    fn finish_now(&self) -> bool {
        self.shared.is(FINISH_NOW | WINDING)
    }

    fn finishing(&self) -> BoxFuture<'_, FinishReason> {
        Box::pin(async {
            self.shared.wait_for(FINISH_NOW).await;
            lock(&self.shared.rare).finish.unwrap_or(FinishReason::ForceComplete)
        })
    }

    fn slot(&self) -> BoxFuture<'_, Box<dyn SlotGuard>> {
        Box::pin(async {
            let _paused = Paused::new(&self.shared);
            drop(lock(&self.coming).take());
            let slot = self.slots.take(&self.key).await;
            self.shared.trace(|span| span.event("provider slot granted"));
            slot
        })
    }

    fn model(&self) -> Option<Arc<str>> {
        self.model.clone()
    }

    fn opened(&self, open: Open) -> Box<dyn OpenGuard> {
        let files = self.gateway.switchboard().open_files();
        Box::new(files.hold(&self.key, Some(self.shared.tag.turn), open))
    }

    fn used(&self, usage: Usage) {
        self.reports.send(&self.gateway, &self.key, self.shared.tag, usage);
    }

    fn trace(&self) -> Option<SpanContext> {
        lock(&self.shared.rare).span.as_ref().map(|span| span.context().clone())
    }

    fn history(&self, limit: usize) -> BoxFuture<'_, Result<Vec<HistoryEntry>, String>> {
        Box::pin(self.lines_before(limit))
    }
}
