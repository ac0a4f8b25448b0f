//! A scripted turn handle: the test delivers mail, asks, cancels, and reads what the agent did.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{Semaphore, mpsc, watch};
use turnkeep_core::ids::{QuestionId, RunTag, Seq, TurnGroupId};
use turnkeep_core::journal::SupersedeChoice;
use turnkeep_core::message::{MessageBody, Pending};
use turnkeep_core::policy::{Trust, channel_facts};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::agent::{
    Artifact, Declined, HistoryEntry, Inputs, Open, OpenGuard, Permission, Recalled, RecordedCall,
    Revoked, Role, SlotGuard, SupersedeQuestion, ToolCall, TurnContext, TurnHandle,
};
use turnkeep_core::session::FinishReason;
use turnkeep_core::session_key::SessionKey;
use turnkeep_core::tool::ToolOutcome;
use turnkeep_core::trace::SpanContext;
use turnkeep_core::usage::Usage;

/// What a handle shares with its test.
pub(crate) struct FakeHandle {
    mailbox: Mutex<VecDeque<Pending>>,
    /// The gateway keeps the mail while a question on it is open.
    pub(crate) mail_is_kept: watch::Sender<bool>,
    arrivals: watch::Sender<usize>,
    revoked: watch::Sender<bool>,
    said: watch::Sender<Vec<String>>,
    questions: (mpsc::UnboundedSender<SupersedeQuestion>, tokio::sync::Mutex<Questions>),
    pub(crate) answers: Mutex<Vec<(QuestionId, SupersedeChoice)>>,
    pub(crate) history: Mutex<Result<Vec<HistoryEntry>, String>>,
    pub(crate) finish_now: watch::Sender<bool>,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) slots_given: AtomicUsize,
    pub(crate) mail_calls: AtomicUsize,
    /// What the user was asked, and what it answers.
    pub(crate) asked: watch::Sender<Vec<String>>,
    pub(crate) user: watch::Sender<Option<Pending>>,
    /// How many questions are not put because of mail, and how many were not.
    pub(crate) confirms_to_refuse: AtomicUsize,
    pub(crate) confirms_refused: watch::Sender<usize>,
    /// What went on record.
    pub(crate) emitted: Mutex<Vec<(String, String)>>,
    /// What is said to the next calls; no more of it is a wait.
    pub(crate) permissions: Mutex<VecDeque<Permission>>,
    pub(crate) intents: Mutex<Vec<ToolCall>>,
    pub(crate) results: Mutex<Vec<(Seq, ToolOutcome, String)>>,
    pub(crate) recorded: Mutex<Vec<RecordedCall>>,
    /// What is said to the next who keeps or recalls something.
    pub(crate) used: Mutex<Vec<Usage>>,
    pub(crate) recalls: Mutex<VecDeque<Recalled>>,
    pub(crate) artifacts: Mutex<Vec<Artifact>>,
    pub(crate) span: Mutex<Option<SpanContext>>,
    /// The model that was chosen.
    pub(crate) model: Mutex<Option<Arc<str>>>,
    /// What is open for the turn.
    pub(crate) open: watch::Sender<Vec<Open>>,
}

type Questions = mpsc::UnboundedReceiver<SupersedeQuestion>;

impl FakeHandle {
    pub(crate) fn new() -> Arc<Self> {
        let (asker, asked) = mpsc::unbounded_channel();
        Arc::new(Self {
            mailbox: Mutex::default(),
            mail_is_kept: watch::Sender::new(false),
            arrivals: watch::Sender::new(0),
            revoked: watch::Sender::new(false),
            said: watch::Sender::default(),
            questions: (asker, tokio::sync::Mutex::new(asked)),
            answers: Mutex::default(),
            history: Mutex::new(Ok(Vec::new())),
            finish_now: watch::Sender::new(false),
            slots: Arc::new(Semaphore::new(1)),
            slots_given: AtomicUsize::new(0),
            mail_calls: AtomicUsize::new(0),
            asked: watch::Sender::default(),
            user: watch::Sender::default(),
            confirms_to_refuse: AtomicUsize::new(0),
            confirms_refused: watch::Sender::new(0),
            emitted: Mutex::default(),
            permissions: Mutex::default(),
            intents: Mutex::default(),
            results: Mutex::default(),
            recorded: Mutex::default(),
            used: Mutex::default(),
            recalls: Mutex::default(),
            artifacts: Mutex::default(),
            span: Mutex::default(),
            model: Mutex::default(),
            open: watch::Sender::default(),
        })
    }

    /// A turn that answers `texts`, numbered from 1.
    pub(crate) fn turn(self: &Arc<Self>, texts: &[&str]) -> TurnContext {
        let messages = texts.iter().zip(1..).map(|(text, seq)| message(seq, text)).collect();
        TurnContext {
            session: "acme:default:api:dm:ann".parse::<SessionKey>().unwrap(),
            tag: RunTag::default(),
            group: TurnGroupId::default(),
            trust: Trust::Public,
            facts: *channel_facts("api").unwrap(),
            messages,
            resume: false,
            handle: Arc::<Self>::clone(self),
        }
    }

    pub(crate) fn deliver(&self, seq: u64, text: &str) {
        self.mailbox.lock().unwrap().push_back(message(seq, text));
        self.arrivals.send_modify(|count| *count += 1);
    }

    pub(crate) fn ask(&self, id: u32) {
        let question =
            SupersedeQuestion { id: QuestionId(id), message: message(99, "and another thing") };
        self.questions.0.send(question).unwrap();
    }

    pub(crate) fn cancel(&self) {
        self.revoked.send_replace(true);
    }

    pub(crate) fn remember(&self, lines: &[(Role, &str)]) {
        let lines = lines.iter().zip(1..);
        let entry = |(&(role, text), seq): (&(Role, &str), u64)| HistoryEntry {
            seq: Seq(seq),
            role,
            text: text.into(),
        };
        *self.history.lock().unwrap() = Ok(lines.map(entry).collect());
    }

    pub(crate) fn said(&self) -> Vec<String> {
        self.said.borrow().clone()
    }

    /// Waits until the draft is `text`.
    pub(crate) async fn until_said(&self, text: &str) {
        let mut said = self.said.subscribe();
        said.wait_for(|said| said.concat() == text).await.unwrap();
    }
}

pub(crate) fn message(seq: u64, text: &str) -> Pending {
    let body =
        MessageBody { message_id: seq.to_string().into(), sender: "ann".into(), text: text.into() };
    Pending {
        seq: Seq(seq),
        at: 0,
        trust: Trust::Public,
        alone: false,
        group: None,
        body: Arc::new(body),
    }
}

struct Slot {
    _permit: tokio::sync::OwnedSemaphorePermit,
}

impl SlotGuard for Slot {}

struct Opened(watch::Sender<Vec<Open>>, Open);

impl OpenGuard for Opened {}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.send_modify(|open| {
            let at = open.iter().position(|one| *one == self.1).unwrap();
            open.remove(at);
        });
    }
}

impl TurnHandle for FakeHandle {
    fn model(&self) -> Option<Arc<str>> {
        self.model.lock().unwrap().clone()
    }

    fn opened(&self, open: Open) -> Box<dyn OpenGuard> {
        self.open.send_modify(|all| all.push(open));
        Box::new(Opened(self.open.clone(), open))
    }

    fn mail(&self) -> BoxFuture<'_, Result<Vec<Pending>, Revoked>> {
        Box::pin(async {
            self.mail_calls.fetch_add(1, Ordering::Relaxed);
            if *self.revoked.borrow() {
                return Err(Revoked);
            }
            if *self.mail_is_kept.borrow() {
                return Ok(Vec::new());
            }
            Ok(self.mailbox.lock().unwrap().drain(..).collect())
        })
    }

    fn has_mail(&self) -> bool {
        !self.mailbox.lock().unwrap().is_empty()
    }

    fn mail_arrived(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let mut arrivals = self.arrivals.subscribe();
            arrivals.wait_for(|_| self.has_mail()).await.unwrap();
        })
    }

    fn commit_point(&self) -> BoxFuture<'_, Result<(), Declined>> {
        if *self.finish_now.borrow() {
            return Box::pin(std::future::ready(Err(Declined::Refused("it finishes now"))));
        }
        let revoked = *self.revoked.borrow();
        Box::pin(std::future::ready(if revoked { Err(Revoked.into()) } else { Ok(()) }))
    }

    fn say(&self, text: &str) {
        self.said.send_modify(|said| said.push(text.to_owned()));
    }

    fn ask(&self, text: &str) -> BoxFuture<'_, Result<Pending, Declined>> {
        self.asked.send_modify(|asked| asked.push(text.to_owned()));
        Box::pin(async {
            let mut user = self.user.subscribe();
            let answer = user.wait_for(Option::is_some).await.unwrap();
            Ok(answer.clone().unwrap())
        })
    }

    fn confirm(&self, text: &str) -> BoxFuture<'_, Result<Option<Pending>, Declined>> {
        if *self.confirms_refused.borrow() < self.confirms_to_refuse.load(Ordering::Relaxed) {
            self.confirms_refused.send_modify(|refused| *refused += 1);
            return Box::pin(std::future::ready(Ok(None)));
        }
        let answer = TurnHandle::ask(self, text);
        Box::pin(async {
            let answer = answer.await;
            // What was said before the next question is no answer to it.
            self.user.send_replace(None);
            answer.map(Some)
        })
    }

    fn emit(&self, name: &str, detail: &str) -> BoxFuture<'_, Result<(), Revoked>> {
        self.emitted.lock().unwrap().push((name.to_owned(), detail.to_owned()));
        Box::pin(std::future::ready(Ok(())))
    }

    fn intend(&self, call: ToolCall) -> BoxFuture<'_, Result<Permission, Revoked>> {
        self.intents.lock().unwrap().push(call);
        let permission = self.permissions.lock().unwrap().pop_front();
        Box::pin(async move {
            match permission {
                Some(permission) => Ok(permission),
                None => std::future::pending().await,
            }
        })
    }

    fn returned(
        &self,
        call: Seq,
        outcome: ToolOutcome,
        output: &str,
    ) -> BoxFuture<'_, Result<(), Revoked>> {
        self.results.lock().unwrap().push((call, outcome, output.to_owned()));
        Box::pin(std::future::ready(Ok(())))
    }

    fn recorded(&self) -> BoxFuture<'_, Result<Vec<RecordedCall>, String>> {
        Box::pin(std::future::ready(Ok(self.recorded.lock().unwrap().clone())))
    }

    fn keep(&self, artifact: Artifact) -> BoxFuture<'_, Result<Recalled, Revoked>> {
        self.artifacts.lock().unwrap().push(artifact);
        let said = self.recalls.lock().unwrap().pop_front();
        Box::pin(std::future::ready(said.ok_or(Revoked)))
    }

    fn recall(&self, name: &str, inputs: Inputs) -> BoxFuture<'_, Result<Recalled, Revoked>> {
        self.keep(Artifact { name: name.into(), inputs, ..Artifact::default() })
    }

    fn cancelled(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.revoked.subscribe().wait_for(|revoked| *revoked).await.unwrap();
        })
    }

    fn question(&self) -> BoxFuture<'_, SupersedeQuestion> {
        Box::pin(async { self.questions.1.lock().await.recv().await.unwrap() })
    }

    fn answer(&self, question: QuestionId, choice: SupersedeChoice) {
        self.answers.lock().unwrap().push((question, choice));
        if choice == SupersedeChoice::ForceComplete {
            self.finish_now.send_replace(true);
        }
    }

    fn finish_now(&self) -> bool {
        *self.finish_now.borrow()
    }

    fn finishing(&self) -> BoxFuture<'_, FinishReason> {
        Box::pin(async {
            self.finish_now.subscribe().wait_for(|finish| *finish).await.unwrap();
            FinishReason::ForceComplete
        })
    }

    fn slot(&self) -> BoxFuture<'_, Box<dyn SlotGuard>> {
        Box::pin(async {
            let permit = Arc::clone(&self.slots).acquire_owned().await.unwrap();
            self.slots_given.fetch_add(1, Ordering::Relaxed);
            Box::new(Slot { _permit: permit }) as Box<dyn SlotGuard>
        })
    }

    fn used(&self, usage: Usage) {
        self.used.lock().unwrap().push(usage);
    }

    fn trace(&self) -> Option<SpanContext> {
        self.span.lock().unwrap().clone()
    }

    fn history(&self, limit: usize) -> BoxFuture<'_, Result<Vec<HistoryEntry>, String>> {
        let history = self.history.lock().unwrap().clone();
        Box::pin(std::future::ready(history.map(|lines| {
            let skipped = lines.len().saturating_sub(limit);
            lines.into_iter().skip(skipped).collect()
        })))
    }
}
