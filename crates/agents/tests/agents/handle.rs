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
    HistoryEntry, Revoked, Role, SlotGuard, SupersedeQuestion, TurnContext, TurnHandle,
};
use turnkeep_core::session_key::SessionKey;

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

impl TurnHandle for FakeHandle {
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

    fn commit_point(&self) -> BoxFuture<'_, Result<(), Revoked>> {
        unimplemented!("no agent here does what can't be undone")
    }

    fn say(&self, text: &str) {
        self.said.send_modify(|said| said.push(text.to_owned()));
    }

    fn ask(&self, _text: &str) -> BoxFuture<'_, Result<Pending, Revoked>> {
        unimplemented!("no agent here asks")
    }

    fn emit(&self, _name: &str, _detail: &str) -> BoxFuture<'_, Result<(), Revoked>> {
        Box::pin(std::future::ready(Ok(())))
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
    }

    fn finish_now(&self) -> bool {
        *self.finish_now.borrow()
    }

    fn slot(&self) -> BoxFuture<'_, Box<dyn SlotGuard>> {
        Box::pin(async {
            let permit = Arc::clone(&self.slots).acquire_owned().await.unwrap();
            self.slots_given.fetch_add(1, Ordering::Relaxed);
            Box::new(Slot { _permit: permit }) as Box<dyn SlotGuard>
        })
    }

    fn history(&self, limit: usize) -> BoxFuture<'_, Result<Vec<HistoryEntry>, String>> {
        let history = self.history.lock().unwrap().clone();
        Box::pin(std::future::ready(history.map(|lines| {
            let skipped = lines.len().saturating_sub(limit);
            lines.into_iter().skip(skipped).collect()
        })))
    }
}
