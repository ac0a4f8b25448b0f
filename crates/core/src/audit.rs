//! The history checker: one reader of journals, used by the simulator, the tests and
//! `turnkeep audit`. It knows the invariants, not the machine.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{Attempt, Epoch, QuestionId, Seq, Seqs, TurnGroupId, TurnId};
use crate::journal::{Event, EventBody, NoticeSource};
use crate::outbox::DeliveryState;
use crate::policy::Trust;
use crate::session::Session;
use crate::usage::Sums;

mod artifacts;
mod commands;
mod held;
mod imports;
mod notices;
mod operator;
mod tools;
mod turns;
mod work;

use artifacts::ArtifactBook;
use commands::CommandBook;
use held::HeldBook;
use imports::ImportBook;
use notices::{Broken, Notices};
use operator::OperatorBook;
use tools::ToolBook;

/// A broken invariant, with the place where it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant, as docs/invariants.md numbers them.
    pub invariant: &'static str,
    /// The journal place at which it shows.
    pub seq: Seq,
    /// What is wrong, in words.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at journal place {}: {}", self.invariant, self.seq, self.what)
    }
}

/// The turn that is open at this place of the history.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct OpenTurn {
    id: TurnId,
    #[serde(default)]
    group: TurnGroupId,
    attempt: Attempt,
    messages: Seqs,
    committed: bool,
    /// It asked the user, who has not answered yet.
    #[serde(default)]
    asked: bool,
    /// Which question that is; none in what was stored before it was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    question: Option<QuestionId>,
    /// Where it asked for a word that only counts if it was said later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confirm: Option<Seq>,
    /// Its agent chose to finish without new work.
    #[serde(default)]
    finishing: bool,
    /// It waits for an operator.
    #[serde(default)]
    with_operator: bool,
}

/// Reads one session's journal from its first entry. What it knows at some place can be stored, so
/// that a later one goes on behind entries that are gone; such data outlives this program's version.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Checker {
    last_seq: Seq,
    epoch: Epoch,
    /// Accepted and without an ending. Small: the inbox is bounded.
    open: Vec<Seq>,
    /// Those of them that answered a question of an open turn, past what was queued by then.
    answers: Vec<Seq>,
    /// The trust of each of them, in the same order.
    trusts: Vec<Trust>,
    /// Dead letters nobody has taken.
    dead: Vec<Seq>,
    turn: Option<OpenTurn>,
    /// The turn that a supersede announced, and the messages it has to take over.
    heir: Option<(TurnId, TurnId, Seqs)>,
    held: HeldBook,
    tools: ToolBook,
    artifacts: ArtifactBook,
    notices: Notices,
    operators: OperatorBook,
    commands: CommandBook,
    imports: ImportBook,
    /// What runs used.
    spent: Sums,
    /// The last message that any turn settled: turns never go back behind it.
    settled: Seq,
    /// Replies sent, by (reply, part). Not stored: it would grow with the history.
    #[serde(skip)]
    sent: BTreeSet<(Seq, u32)>,
    accepted: u64,
    committed: u64,
    cancelled: u64,
    discarded: u64,
    context: u64,
    retried: u64,
    #[serde(skip)]
    violations: Vec<Violation>,
}

/// No report is longer; a broken history repeats itself.
const VIOLATIONS_MAX: usize = 20;

impl Checker {
    /// Before the first entry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was found so far.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Messages accepted so far, commands and context among them.
    #[must_use]
    pub const fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Messages that a committed turn answered so far.
    #[must_use]
    pub const fn committed(&self) -> u64 {
        self.committed
    }

    /// Messages that a person cancelled so far, with their turn or in the queue.
    #[must_use]
    pub const fn cancelled(&self) -> u64 {
        self.cancelled
    }

    /// Dead letters that were given up so far, and messages that an external check refused.
    #[must_use]
    pub const fn discarded(&self) -> u64 {
        self.discarded
    }

    /// Commands so far. None is in any turn.
    #[must_use]
    pub const fn commands(&self) -> u64 {
        self.commands.count()
    }

    /// Messages so far that were only said in the agent's presence. None is in any turn.
    #[must_use]
    pub const fn context(&self) -> u64 {
        self.context
    }

    /// Dead letters that were tried again so far; each counts as accepted once more.
    #[must_use]
    pub const fn retried(&self) -> u64 {
        self.retried
    }

    /// Lines so far that were said elsewhere and imported. None is a message of this session.
    #[must_use]
    pub const fn imported(&self) -> u64 {
        self.imports.lines()
    }

    /// Messages without an ending.
    #[must_use]
    pub fn open(&self) -> &[Seq] {
        &self.open
    }

    /// Dead letters that stand there to be retried or discarded.
    #[must_use]
    pub fn dead(&self) -> &[Seq] {
        &self.dead
    }

    /// What runs used so far.
    #[must_use]
    pub const fn spent(&self) -> &Sums {
        &self.spent
    }

    /// The last place it read.
    #[must_use]
    pub const fn last_seq(&self) -> Seq {
        self.last_seq
    }

    /// These dead letters were forgotten together with their places: nobody takes them any more.
    pub fn forget_dead(&mut self, letters: &[Seq]) {
        self.dead.retain(|seq| !letters.contains(seq));
    }

    #[cold]
    fn broken(&mut self, invariant: &'static str, what: impl FnOnce() -> String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation { invariant, seq: self.last_seq, what: what() });
        }
    }

    /// Takes the next entry.
    pub fn observe(&mut self, event: &Event) {
        let expected = self.last_seq.next();
        self.last_seq = event.seq;
        if event.seq != expected {
            self.broken("I4", || format!("the journal jumps: {expected} was expected"));
        }
        let broken = self.imports.observe(event.seq, &event.body);
        self.note(broken);
        match &event.body {
            body @ (EventBody::MessageAccepted { .. }
            | EventBody::MessageCancelled { .. }
            | EventBody::MessageExpired { .. }
            | EventBody::MessageRequeued { .. }
            | EventBody::MessageDiscarded { .. }
            | EventBody::MessageContext { .. }
            | EventBody::GuardAllowed { .. }
            | EventBody::GuardRefused { .. }) => self.observe_message(event.seq, body),
            EventBody::MessageCommand { .. } => {
                self.accepted += 1;
                let broken = self.commands.asked(event.seq);
                self.note(broken);
            }
            EventBody::SessionNotice { source: NoticeSource::Command, of, .. } => {
                let broken = self.commands.answered(*of);
                self.note(broken);
            }
            body @ (EventBody::SessionNotice { .. }
            | EventBody::SessionNoticeAccepted { .. }
            | EventBody::SessionNoticeCancelled { .. }
            | EventBody::SessionOptedIn
            | EventBody::SessionOptedOut) => {
                let in_a_turn = self.turn.as_ref().is_some_and(|turn| !turn.asked);
                let broken = self.notices.observe(event.seq, body, in_a_turn);
                self.note(broken);
                let broken = self.operators.observe(body);
                self.note(broken);
            }
            body @ (EventBody::SessionPaused { .. } | EventBody::SessionHandedBack { .. }) => {
                let broken = self.operators.observe(body);
                self.note(broken);
            }
            EventBody::SessionReset { .. } | EventBody::SessionClosed => self.expect_empty(),
            EventBody::SessionReopened
            | EventBody::SessionImported(_)
            | EventBody::HistoryImported(_) => {}
            EventBody::DeliverySettled { reply, part, state, .. } => {
                self.delivered(*reply, *part, *state);
            }
            body @ EventBody::ToolIntended { .. } => self.intend(event.seq, body),
            body @ (EventBody::ArtifactKept { .. } | EventBody::ArtifactReused { .. }) => {
                self.observe_artifact(event.seq, body);
            }
            EventBody::ToolReturned { turn_id, call, outcome, .. } => {
                self.expect_turn(*turn_id);
                let broken = self.tools.returned(*call, *outcome);
                self.note(broken);
            }
            // Also of a turn that is over.
            EventBody::UsageRecorded { usage, .. } => self.spent.add(&usage.sums()),
            body => self.observe_turn(body),
        }
    }

    /// What becomes of messages outside of turns.
    fn observe_message(&mut self, seq: Seq, body: &EventBody) {
        match body {
            EventBody::MessageAccepted { trust, retry_of, held, .. } => {
                self.accept(seq, *trust, *retry_of);
                if *held {
                    self.held.hold(seq);
                }
            }
            EventBody::MessageCancelled { messages, .. } => {
                self.cancelled += messages.len() as u64;
                self.close(messages);
            }
            EventBody::MessageExpired { messages } => {
                self.close(messages);
                self.dead.extend(messages.iter().copied());
            }
            EventBody::MessageRequeued { messages } => self.requeue(messages),
            EventBody::MessageContext { of, .. } => self.keep(*of),
            EventBody::MessageDiscarded { message } => {
                self.discarded += 1;
                self.take_dead(*message);
            }
            EventBody::GuardAllowed { message, .. } => {
                let broken = self.held.ruled(*message);
                self.note(broken);
            }
            EventBody::GuardRefused { message, .. } => {
                let broken = self.held.ruled(*message);
                self.note(broken);
                self.discarded += 1;
                self.close(&[*message]);
            }
            _ => {}
        }
    }

    fn note(&mut self, broken: Option<Broken>) {
        if let Some((invariant, what)) = broken {
            self.broken(invariant, || what);
        }
    }

    /// Holds the history against the state that is stored beside it.
    pub fn finish(&mut self, session: &Session) {
        if session.last_seq != self.last_seq {
            let last = session.last_seq;
            self.broken("I2", || format!("the state ends at {last}, the journal does not"));
        }
        let mut pending: Vec<Seq> = session.pending().map(|pending| pending.seq).collect();
        pending.sort_unstable();
        let mut open = self.open.clone();
        open.sort_unstable();
        if pending != open {
            self.broken("I2", || {
                format!("open by the journal: {open:?}, by the state: {pending:?}")
            });
        }
        let stored = session.turn.as_ref().map(|turn| turn.id);
        let told = self.turn.as_ref().map(|turn| turn.id);
        if stored != told {
            self.broken("I1", || {
                format!("open turn by the journal: {told:?}, by the state: {stored:?}")
            });
        }
        let others = [self.notices.finish(session), self.held.finish(session)];
        let more = [self.tools.finish(session), self.operators.finish(session, self.turn.as_ref())];
        for broken in others.into_iter().chain(more).chain([self.imports.finish()]) {
            self.note(broken);
        }
        let (told, stored) = (self.spent, session.spent.as_ref().map(|spent| spent.sums));
        if stored.unwrap_or_default() != told {
            self.broken("I25", || {
                format!("used by the journal: {told:?}, by the state: {stored:?}")
            });
        }
        if session.turn.is_none() && !session.queue.is_empty() {
            self.broken("I8", || "messages are queued and no turn is open".to_owned());
        }
    }

    fn accept(&mut self, seq: Seq, trust: Trust, retry_of: Option<Seq>) {
        self.accepted += 1;
        self.open.push(seq);
        self.trusts.push(trust);
        if let Some(old) = retry_of {
            self.retried += 1;
            self.take_dead(old);
        }
    }

    /// Context: one that was held is the first of those, and has its ending now.
    fn keep(&mut self, held: Option<Seq>) {
        self.context += 1;
        match held {
            Some(message) => {
                let broken = self.held.ruled(message);
                self.note(broken);
                self.close(&[message]);
            }
            None => self.accepted += 1,
        }
    }

    fn take_dead(&mut self, seq: Seq) {
        match self.dead.iter().position(|dead| *dead == seq) {
            Some(at) => {
                self.dead.swap_remove(at);
            }
            None => {
                self.broken("I2", || format!("message {seq} is taken as a dead letter but is none"))
            }
        }
    }

    fn own(&mut self, epoch: Epoch) {
        if epoch < self.epoch {
            let known = self.epoch;
            self.broken("I1", || format!("epoch {epoch} writes after epoch {known}"));
        }
        self.epoch = self.epoch.max(epoch);
    }

    fn expect_turn(&mut self, id: TurnId) {
        if self.turn.as_ref().is_none_or(|turn| turn.id != id) {
            self.broken("I18", || format!("turn {id} is not the open one"));
        }
    }

    fn expect_open(&mut self, messages: &[Seq]) {
        let broken = self.held.escaped(messages);
        self.note(broken);
        for seq in messages {
            if !self.open.contains(seq) {
                self.already_ended(*seq);
            }
        }
        let trust_of = |seq: &Seq| {
            let at = self.open.iter().position(|open| open == seq)?;
            self.trusts.get(at).copied()
        };
        let mut trusts = messages.iter().filter_map(trust_of);
        let first = trusts.next();
        if trusts.any(|trust| Some(trust) != first) {
            self.broken("I19", || {
                format!("messages of different trust are one turn's: {messages:?}")
            });
        }
        if !messages.is_sorted_by(|one, two| one < two) {
            self.broken("I4", || format!("messages are out of order: {messages:?}"));
        }
    }

    fn already_ended(&mut self, seq: Seq) {
        self.broken("I3", || format!("message {seq} has its ending already, or never was"));
    }

    fn expect_empty(&mut self) {
        if self.turn.is_some() || !self.open.is_empty() {
            let open = self.open.clone();
            self.broken("I2", || format!("a reset or close left something open: {open:?}"));
        }
    }

    /// A turn ended with these messages: no later turn goes back behind them.
    fn settle(&mut self, messages: &Seqs) {
        self.expect_open(messages);
        self.close(messages);
        let in_turn = messages.iter().rev().find(|seq| !self.answers.contains(seq));
        self.settled = self.settled.max(in_turn.copied().unwrap_or_default());
        self.answers.retain(|seq| !messages.contains(seq));
    }

    /// These messages have their ending now. What left the queue says nothing of the turns' order:
    /// mail of an earlier place may still be unread.
    fn close(&mut self, messages: &[Seq]) {
        self.held.close(messages);
        for seq in messages {
            match self.open.iter().position(|open| open == seq) {
                Some(at) => {
                    self.open.remove(at);
                    self.trusts.remove(at);
                }
                None => self.already_ended(*seq),
            }
        }
    }

    fn requeue(&mut self, messages: &Seqs) {
        self.expect_open(messages);
        if let Some(turn) = &mut self.turn {
            turn.messages.retain(|seq| !messages.contains(seq));
        }
    }

    fn delivered(&mut self, reply: Seq, part: u32, state: DeliveryState) {
        if state == DeliveryState::Sent && !self.sent.insert((reply, part)) {
            self.broken("I6", || format!("part {part} of reply {reply} was sent twice"));
        }
    }
}
