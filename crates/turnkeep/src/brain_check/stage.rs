//! A turn's handle that follows a script and notes what the brain did.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use turnkeep_core::artifact::Stale;
use turnkeep_core::ids::{Attempt, Epoch, QuestionId, RunTag, Seq, TurnGroupId, TurnId};
use turnkeep_core::journal::SupersedeChoice;
use turnkeep_core::message::{MessageBody, Pending};
use turnkeep_core::policy::{Trust, channel_facts};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::agent::{
    Artifact, Declined, HistoryEntry, Inputs, Permission, Recalled, RecordedCall, Revoked,
    SlotGuard, SupersedeQuestion, ToolCall, TurnContext, TurnHandle,
};
use turnkeep_core::session_key::SessionKey;
use turnkeep_core::tool::{SideEffects, ToolOutcome};
use turnkeep_core::usage::Usage;

/// How often its user answers.
const ANSWERS_MAX: usize = 3;
/// Why nothing may be done.
const REFUSAL: &str = "this is a check, nothing may be done";
/// Where numbers of calls begin, apart from those of messages.
const CALLS_FROM: u64 = 1000;

/// What the gateway does in this attempt.
#[derive(Clone)]
pub(super) struct Script {
    pub(super) turn: TurnId,
    pub(super) attempt: u32,
    /// What is to be answered.
    pub(super) text: String,
    /// Waits from the beginning.
    pub(super) mail: Option<String>,
    /// A new message whose place is asked for.
    pub(super) question: Option<String>,
    /// Asks it to finish, from the beginning.
    pub(super) stop: bool,
    /// What its user says.
    pub(super) answer: Option<String>,
    pub(super) permit: Permit,
    /// What was done before: as it was asked for, and as it is remembered.
    pub(super) done: Vec<(ToolCall, RecordedCall)>,
}

/// What it may do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Permit {
    Nothing,
    Everything,
    /// Nothing that was not done before, but for what is harmless.
    NothingNew,
    /// Nothing: the first thing may have been done.
    MayHaveBeen,
    /// Nothing, and nothing is said before it took its mail.
    BehindMail,
}

/// What the brain did, in order.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    TookMail,
    Chose(SupersedeChoice),
    /// What it asked for, and what was said to it.
    Intended(ToolCall, Permission),
    Returned(Seq, ToolOutcome, String),
    /// It asked for its commit point, and got it or not.
    CommitPoint(bool),
}

/// One attempt of a turn.
pub(super) struct Stage {
    script: Script,
    deeds: Mutex<Vec<Deed>>,
    mail: Mutex<Vec<Pending>>,
    question: watch::Sender<bool>,
    /// What it asked its user, as often as nobody answered.
    asked: watch::Sender<Option<String>>,
    answers: Mutex<usize>,
    /// It said anything at all.
    spoke: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same act: what is done under one name, is done once.
pub(super) fn same_act(call: &ToolCall, other: &ToolCall) -> bool {
    let name = |call: &ToolCall| call.key.clone().unwrap_or_else(|| Arc::clone(&call.input));
    call.tool == other.tool
        && call.key.is_some() == other.key.is_some()
        && name(call) == name(other)
}

impl Stage {
    pub(super) fn new(script: Script) -> Arc<Self> {
        let mail = script.mail.iter().map(|text| message(2, text)).collect();
        Arc::new(Self {
            question: watch::Sender::new(script.question.is_some()),
            script,
            deeds: Mutex::default(),
            mail: Mutex::new(mail),
            asked: watch::Sender::default(),
            answers: Mutex::default(),
            spoke: AtomicBool::new(false),
        })
    }

    pub(super) fn turn(self: &Arc<Self>) -> Option<TurnContext> {
        let Script { turn, attempt, text, done, .. } = &self.script;
        let peer = format!("check-{turn}");
        let session = format!("default:default:web:dm:{peer}").parse::<SessionKey>().ok()?;
        let irreversible = |(call, _): &(ToolCall, _)| call.effects == SideEffects::Irreversible;
        Some(TurnContext {
            session,
            tag: RunTag { turn: *turn, epoch: Epoch(1), attempt: Attempt(*attempt) },
            group: TurnGroupId(turn.0),
            trust: Trust::Familiar,
            facts: *channel_facts("web")?,
            messages: vec![message(1, text)],
            resume: done.iter().any(irreversible),
            handle: Arc::<Self>::clone(self),
        })
    }

    pub(super) fn deeds(&self) -> Vec<Deed> {
        lock(&self.deeds).clone()
    }

    /// Whether it said anything at all.
    pub(super) fn spoke(&self) -> bool {
        self.spoke.load(Ordering::Relaxed)
    }

    fn speaks(&self) {
        self.spoke.store(true, Ordering::Relaxed);
    }

    /// Resolves once it asks its user and nobody answers.
    pub(super) async fn unanswered(&self) -> String {
        let mut asked = self.asked.subscribe();
        let text = asked.wait_for(Option::is_some).await;
        text.ok().and_then(|text| text.clone()).unwrap_or_default()
    }

    fn note(&self, deed: Deed) {
        self.speaks();
        lock(&self.deeds).push(deed);
    }

    fn permission(&self, call: &ToolCall) -> Permission {
        let deeds = lock(&self.deeds);
        let count = deeds.iter().filter(|deed| matches!(deed, Deed::Intended(..))).count();
        let number = Seq(CALLS_FROM + count as u64);
        let took_mail = || deeds.iter().any(|deed| matches!(deed, Deed::TookMail));
        match self.script.permit {
            Permit::Nothing => Permission::Refused(REFUSAL),
            Permit::MayHaveBeen if count == 0 => Permission::Known(begun(number, call)),
            Permit::MayHaveBeen => Permission::Refused(REFUSAL),
            Permit::BehindMail if !took_mail() => Permission::MailFirst,
            Permit::BehindMail => Permission::Refused(REFUSAL),
            Permit::Everything => Permission::Call(number),
            Permit::NothingNew if call.effects == SideEffects::Pure => Permission::Call(number),
            Permit::NothingNew => {
                let before = self.script.done.iter().find(|(asked, _)| same_act(asked, call));
                before.map_or(Permission::Refused(REFUSAL), |(_, known)| {
                    Permission::Known(known.clone())
                })
            }
        }
    }
}

/// Began once, and nobody knows how it ended.
fn begun(call: Seq, asked: &ToolCall) -> RecordedCall {
    remembered(call, asked, ToolOutcome::Unknown, "")
}

/// A call as the next attempt gets to know of it.
pub(super) fn remembered(
    call: Seq,
    asked: &ToolCall,
    outcome: ToolOutcome,
    output: &str,
) -> RecordedCall {
    RecordedCall {
        call,
        tool: Arc::clone(&asked.tool),
        effects: asked.effects,
        input: Arc::clone(&asked.input),
        outcome,
        output: output.into(),
        compensates: asked.compensates,
        compensated_by: None,
    }
}

fn message(seq: u64, text: &str) -> Pending {
    let message_id = format!("check-{seq}").into();
    let body = MessageBody { message_id, sender: "check".into(), text: text.into() };
    let at = jiff::Timestamp::now().as_millisecond();
    Pending {
        seq: Seq(seq),
        at,
        trust: Trust::Familiar,
        alone: false,
        group: None,
        body: Arc::new(body),
    }
}

struct Slot;

impl SlotGuard for Slot {}

fn done<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

impl TurnHandle for Stage {
    fn mail(&self) -> BoxFuture<'_, Result<Vec<Pending>, Revoked>> {
        self.note(Deed::TookMail);
        done(Ok(std::mem::take(&mut *lock(&self.mail))))
    }

    fn has_mail(&self) -> bool {
        !lock(&self.mail).is_empty()
    }

    fn mail_arrived(&self) -> BoxFuture<'_, ()> {
        if self.has_mail() { done(()) } else { Box::pin(std::future::pending()) }
    }

    fn commit_point(&self) -> BoxFuture<'_, Result<(), Declined>> {
        // Behind it a brain may act without another word.
        let granted = self.script.permit == Permit::Everything;
        self.note(Deed::CommitPoint(granted));
        done(if granted { Ok(()) } else { Err(Revoked.into()) })
    }

    fn say(&self, _: &str) {
        self.speaks();
    }

    fn used(&self, _: Usage) {
        self.speaks();
    }

    fn ask(&self, text: &str) -> BoxFuture<'_, Result<Pending, Declined>> {
        self.speaks();
        let mut answers = lock(&self.answers);
        *answers += 1;
        match &self.script.answer {
            Some(answer) if *answers <= ANSWERS_MAX => {
                done(Ok(message(10 + *answers as u64, answer)))
            }
            _ => {
                self.asked.send_replace(Some(text.to_owned()));
                Box::pin(std::future::pending())
            }
        }
    }

    fn confirm(&self, text: &str) -> BoxFuture<'_, Result<Option<Pending>, Declined>> {
        let answer = self.ask(text);
        Box::pin(async { answer.await.map(Some) })
    }

    fn emit(&self, _: &str, _: &str) -> BoxFuture<'_, Result<(), Revoked>> {
        self.speaks();
        done(Ok(()))
    }

    fn intend(&self, call: ToolCall) -> BoxFuture<'_, Result<Permission, Revoked>> {
        let permission = self.permission(&call);
        self.note(Deed::Intended(call, permission.clone()));
        done(Ok(permission))
    }

    fn returned(
        &self,
        call: Seq,
        outcome: ToolOutcome,
        output: &str,
    ) -> BoxFuture<'_, Result<(), Revoked>> {
        self.note(Deed::Returned(call, outcome, output.to_owned()));
        done(Ok(()))
    }

    fn recorded(&self) -> BoxFuture<'_, Result<Vec<RecordedCall>, String>> {
        done(Ok(self.script.done.iter().map(|(_, known)| known.clone()).collect()))
    }

    fn keep(&self, artifact: Artifact) -> BoxFuture<'_, Result<Recalled, Revoked>> {
        self.speaks();
        done(Ok(Recalled::Kept(artifact.content)))
    }

    fn recall(&self, _: &str, _: Inputs) -> BoxFuture<'_, Result<Recalled, Revoked>> {
        self.speaks();
        done(Ok(Recalled::Stale(Stale::Missing)))
    }

    fn cancelled(&self) -> BoxFuture<'_, ()> {
        if self.script.stop { done(()) } else { Box::pin(std::future::pending()) }
    }

    fn question(&self) -> BoxFuture<'_, SupersedeQuestion> {
        match &self.script.question {
            Some(text) if self.question.send_replace(false) => {
                done(SupersedeQuestion { id: QuestionId(1), message: message(3, text) })
            }
            _ => Box::pin(std::future::pending()),
        }
    }

    fn answer(&self, _: QuestionId, choice: SupersedeChoice) {
        self.note(Deed::Chose(choice));
    }

    fn finish_now(&self) -> bool {
        self.script.stop
    }

    fn slot(&self) -> BoxFuture<'_, Box<dyn SlotGuard>> {
        let slot: Box<dyn SlotGuard> = Box::new(Slot);
        done(slot)
    }

    fn history(&self, _: usize) -> BoxFuture<'_, Result<Vec<HistoryEntry>, String>> {
        done(Ok(Vec::new()))
    }
}
