//! One attempt of a turn: the agent's task, its way back, and the watch over it.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;
use turnkeep_core::SessionKey;
use turnkeep_core::ids::{QuestionId, RunTag, Seq, Token};
use turnkeep_core::journal::SupersedeChoice;
use turnkeep_core::message::Pending;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::agent::{
    Agent, HistoryEntry, Permission, RecordedCall, Revoked, SlotGuard, SupersedeQuestion, ToolCall,
    TurnContext, TurnHandle,
};
use turnkeep_core::run_clock::{Overdue, RunClock};
use turnkeep_core::session::{AgentAnswer, AgentInput, RunFailure, StartRun};
use turnkeep_core::tool::{Act, ToolOutcome};
use turnkeep_core::trace::SpanContext;

use crate::live::Live;
use crate::mail::{Ask, Mail};
use crate::service::Gateway;
use crate::setup::Configured;
use crate::slots::Slots;
use crate::trace::OpenSpan;

mod absent;
mod history;
mod span;
mod tools;

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
}

/// What few runs ever need.
#[derive(Default)]
struct Rare {
    questions: VecDeque<SupersedeQuestion>,
    answer: Option<(QuestionId, Pending)>,
    /// The attempt's span, where spans are collected.
    span: Option<OpenSpan>,
    /// Calls under way, for that span.
    calls: Vec<(Seq, Arc<str>)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RunShared {
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

    pub(crate) fn finish_now(&self) {
        self.set(FINISH_NOW);
    }

    pub(crate) fn ask(&self, question: SupersedeQuestion) {
        lock(&self.rare).questions.push_back(question);
        self.set(QUESTION);
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
    history_from: Seq,
    /// The first and the last of the messages that it began with.
    first: Seq,
    last: Seq,
    /// What tools did for its turn group before it.
    acts: Vec<Act>,
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

impl RunHandle {
    async fn request(
        &self,
        input: impl FnOnce(Token) -> AgentInput + Send + 'static,
    ) -> Result<AgentAnswer, Revoked> {
        self.shared.heard();
        let (reply, answer) = oneshot::channel();
        let ask = Ask { tag: self.shared.tag, input: Box::new(input), reply };
        self.task.send(Mail::Ask(Box::new(ask))).map_err(|_| Revoked)?;
        match answer.await {
            Ok(AgentAnswer::Revoked | AgentAnswer::Refused) | Err(_) => Err(Revoked),
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
                AgentAnswer::Mail(mail) => Ok(mail),
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

    fn commit_point(&self) -> BoxFuture<'_, Result<(), Revoked>> {
        Box::pin(async { self.request(AgentInput::CommitPoint).await.map(|_| ()) })
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
    }

    fn ask(&self, text: &str) -> BoxFuture<'_, Result<Pending, Revoked>> {
        let text: Arc<str> = text.into();
        Box::pin(async move {
            self.shared.clear(ANSWERED);
            let asked = self.request(move |token| AgentInput::Ask(token, text)).await?;
            let AgentAnswer::Asked(question) = asked else { return Err(Revoked) };
            let _paused = Paused::new(&self.shared);
            loop {
                self.shared.wait_for(ANSWERED).await;
                self.shared.clear(ANSWERED);
                let answer = lock(&self.shared.rare).answer.take();
                if let Some((_, message)) = answer.filter(|(to, _)| *to == question) {
                    return Ok(message);
                }
            }
        })
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

    fn slot(&self) -> BoxFuture<'_, Box<dyn SlotGuard>> {
        Box::pin(async {
            let _paused = Paused::new(&self.shared);
            let slot = self.slots.take(&self.key).await;
            self.shared.trace(|span| span.event("provider slot granted"));
            slot
        })
    }

    fn trace(&self) -> Option<SpanContext> {
        lock(&self.shared.rare).span.as_ref().map(|span| span.context().clone())
    }

    fn history(&self, limit: usize) -> BoxFuture<'_, Result<Vec<HistoryEntry>, String>> {
        Box::pin(self.lines_before(limit))
    }
}

/// Where a run is started from.
pub(crate) struct Launch<'a> {
    pub(crate) gateway: &'a Gateway,
    pub(crate) key: &'a SessionKey,
    pub(crate) policy: &'a turnkeep_core::Policy,
    pub(crate) task: &'a UnboundedSender<Mail>,
    pub(crate) live: Option<&'a Arc<Live>>,
}

/// Starts an attempt. It ends by saying `Finished` or `Failed`, unless it is cancelled.
pub(crate) fn start(
    launch: &Launch<'_>,
    start: StartRun,
    place: Option<OwnedSemaphorePermit>,
    span: Option<OpenSpan>,
) -> Arc<RunShared> {
    let shared = Arc::new(RunShared {
        tag: start.tag,
        draft: Mutex::new(String::new()),
        flags: AtomicU8::new(0),
        changed: Notify::new(),
        clock: Mutex::new(RunClock::start(launch.policy, 0)),
        began: Instant::now(),
        rare: Mutex::new(Rare { span, ..Rare::default() }),
    });
    if let Some(live) = launch.live {
        live.set_run(Some(Arc::clone(&shared)));
    }
    let found = launch.gateway.setup().agents.get(&*launch.key.agent()).cloned();
    let (gateway, key, facts) = (launch.gateway.clone(), launch.key.clone(), launch.policy.facts);
    let (watch, task) = (Arc::clone(&shared), launch.task.clone());
    // Counted from here on, so that a drain that begins now knows of it.
    let running = found.is_some().then(|| Running::new(&gateway));
    tokio::spawn(async move {
        let mut place = place;
        let Configured { agent, slots } = match found {
            Some(found) => found,
            None => match absent::wait(&gateway, &key, &watch, &mut place).await {
                Ok(found) => found,
                Err(said) => return said.into_iter().for_each(|said| tell(&task, &watch, said)),
            },
        };
        let handle = RunHandle {
            shared: Arc::clone(&watch),
            key: key.clone(),
            task: task.clone(),
            gateway: gateway.clone(),
            slots,
            history_from: start.history_from,
            first: start.messages.first().map_or(Seq(0), |pending| pending.seq),
            last: start.messages.iter().map(|pending| pending.seq).max().unwrap_or_default(),
            acts: start.acts,
        };
        let context = TurnContext {
            session: key,
            tag: start.tag,
            group: start.group,
            trust: start.trust,
            facts,
            messages: start.messages,
            resume: start.resume,
            handle: Arc::new(handle),
        };
        gateway.0.metrics.runs.increment(1);
        let running = running.unwrap_or_else(|| Running::new(&gateway));
        let run = AssertUnwindSafe(attempt(&*agent, context, &watch)).catch_unwind();
        let said = run.await.unwrap_or_else(|panic| {
            running.0.0.metrics.panics.increment(1);
            watch.trace(|span| span.fail("the agent panicked"));
            Some(AgentInput::Failed(failure(panic_text(&*panic), true)))
        });
        watch.end_span(said.as_ref());
        if let Some(said) = said {
            let failed = matches!(said, AgentInput::Failed(_));
            running.0.0.metrics.run_failures.increment(u64::from(failed));
            tell(&task, &watch, said);
        }
        drop(place);
    });
    shared
}

fn tell(task: &UnboundedSender<Mail>, watch: &RunShared, said: AgentInput) {
    let _ = task.send(Mail::Say(Box::new((watch.tag, said))));
}

/// Counts a run for as long as it lives.
struct Running(Gateway);

impl Running {
    fn new(gateway: &Gateway) -> Self {
        gateway.0.running.fetch_add(1, Ordering::AcqRel);
        Self(gateway.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Runs the agent until it is done, cancelled or overdue. Nothing is said of a cancelled run.
async fn attempt(agent: &dyn Agent, context: TurnContext, watch: &RunShared) -> Option<AgentInput> {
    tokio::select! {
        biased;
        () = watch.wait_for(CANCELLED) => None,
        result = agent.run(context) => Some(match result {
            Ok(finished) => AgentInput::Finished(finished),
            Err(failure) => AgentInput::Failed(failure),
        }),
        overdue = watch.overdue() => {
            let what = match overdue {
                Overdue::Turn => "the agent took longer than a turn may",
                Overdue::Silence => "the agent was silent for too long",
            };
            watch.trace(|span| span.fail(what));
            Some(AgentInput::Failed(failure(what.to_owned(), true)))
        }
    }
}

fn failure(error: String, retry: bool) -> RunFailure {
    RunFailure { error: error.into(), retry, retry_after_ms: None }
}

/// What a caught panic says, in words.
#[must_use]
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!("it panicked: {}", text.as_deref().unwrap_or("no reason given"))
}
