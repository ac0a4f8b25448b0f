//! Forgetting by the rules: how much of a history may go, what is kept instead of it, and what is
//! taken out of a history that stays.
//!
//! A forgotten beginning is replaced by a [`Forgotten`]: where the history begins now, and what the
//! audit knew at that place. A later audit goes on from there, so it can tell "forgotten, and every
//! one of them had its ending" from "lost".

pub mod fleeting;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::audit::Checker;
use crate::ids::{Seq, Timestamp, TurnId};
use crate::journal::{Event, EventBody, ImportedRole, NoticeSource};
use crate::ports::store::TurnRow;
use crate::session::Session;
use crate::session_key::{SessionKey, SessionKeyError, SessionKind};

/// Why something was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It was older than its tenant keeps anything.
    Retention,
    /// Its customer was erased.
    Erasure,
}

/// What stands for the forgotten beginning of a history. It names nobody. Stored: fields may be
/// added.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Forgotten {
    /// The last place that is gone; everything before it is gone as well.
    pub through: Seq,
    /// The newest turn that is gone.
    pub turn: Option<TurnId>,
    /// When it was forgotten last.
    pub at: Timestamp,
    /// Why it was forgotten last.
    pub why: Why,
    /// Messages that went because of their age.
    pub by_retention: u64,
    /// Messages that went with their customer.
    pub by_erasure: u64,
    /// Dead letters that went, each counted among the messages as well.
    pub letters: u64,
    /// Findings that an audit would have had in what is gone.
    pub findings: u64,
    /// What an audit knows at this place.
    pub checker: Checker,
}

impl Default for Forgotten {
    fn default() -> Self {
        Self {
            through: Seq(0),
            turn: None,
            at: 0,
            why: Why::Retention,
            by_retention: 0,
            by_erasure: 0,
            letters: 0,
            findings: 0,
            checker: Checker::new(),
        }
    }
}

impl Forgotten {
    /// These dead letters stood behind it and went with it.
    pub fn bury(&mut self, letters: &[Seq]) {
        self.letters += letters.len() as u64;
        self.checker.forget_dead(letters);
    }
}

/// Agent, channel and kind of the keys that stand for erased sessions.
const BURIED: [&str; 3] = ["erased", "api", SessionKind::Isolated.as_str()];

/// The key of what stands for an erased session: a name that says nothing, and a number that makes
/// it one of its kind.
pub fn tombstone(tenant: &str, name: &str, number: u64) -> Result<SessionKey, SessionKeyError> {
    let [agent, channel, _] = BURIED;
    SessionKey::new(tenant, agent, channel, SessionKind::Isolated, &format!("{name}-{number}"))
}

/// Whether a key stands for an erased session: it is there for the audit, and for nobody else.
#[must_use]
pub fn is_tombstone(key: &SessionKey) -> bool {
    let mut parts = key.as_str().split(':').skip(1);
    if !BURIED.iter().all(|buried| parts.next() == Some(buried)) {
        return false;
    }
    let Some((name, number)) = parts.next().and_then(|peer| peer.split_once('-')) else {
        return false;
    };
    let is =
        |text: &str, sort: fn(&u8) -> bool| !text.is_empty() && text.as_bytes().iter().all(sort);
    name.len() == 32 && is(name, u8::is_ascii_hexdigit) && is(number, u8::is_ascii_digit)
}

/// Reads a history from where it begins, to find how much of it may go.
#[derive(Debug)]
pub struct Reading {
    next: Forgotten,
    /// The place up to which it may go at most.
    bound: Seq,
    /// What is this young stays.
    before: Timestamp,
    accepted: u64,
    ended: bool,
}

impl Reading {
    /// For entries older than `before`. Messages that are open and replies on their way keep
    /// themselves and everything behind them.
    #[must_use]
    pub fn old(known: Option<Forgotten>, session: &Session, before: Timestamp) -> Self {
        let pending = session.pending().map(|pending| pending.seq);
        let leaving = session.outbox.parts.iter().map(|part| part.reply);
        let waiting = session.notices.iter().map(|notice| notice.seq);
        let first = pending.chain(leaving).chain(waiting).min();
        let bound = first.map_or(session.last_seq, |first| Seq(first.0.saturating_sub(1)));
        Self { bound, before, ..Self::all(known, session.last_seq) }
    }

    /// For everything up to `last`, however young.
    #[must_use]
    pub fn all(known: Option<Forgotten>, last: Seq) -> Self {
        let next = known.unwrap_or_default();
        let accepted = next.checker.accepted();
        Self { next, bound: last, before: Timestamp::MAX, accepted, ended: false }
    }

    /// Where the next entry is to be read.
    #[must_use]
    pub const fn after(&self) -> Seq {
        self.next.through
    }

    /// Takes the next entry, if it may go; false when it and everything behind it stays.
    pub fn observe(&mut self, event: &Event) -> bool {
        if self.ended || event.seq > self.bound || event.at >= self.before {
            self.ended = true;
            return false;
        }
        self.next.checker.observe(event);
        self.next.through = event.seq;
        if let EventBody::TurnCompleted { turn_id, .. }
        | EventBody::TurnCancelled { turn_id, .. }
        | EventBody::TurnFailed { turn_id, .. }
        | EventBody::TurnSuperseded { turn_id, .. } = &event.body
        {
            self.next.turn = Some(*turn_id);
        }
        true
    }

    /// Whether an audit of what was read finds something: a broken history is evidence.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        !self.next.checker.violations().is_empty()
    }

    /// What is to be kept in place of everything that was taken.
    #[must_use]
    pub fn forgotten(self, why: Why, at: Timestamp) -> Forgotten {
        let mut next = self.next;
        let messages = next.checker.accepted() - self.accepted;
        match why {
            Why::Retention => next.by_retention += messages,
            Why::Erasure => next.by_erasure += messages,
        }
        next.findings += next.checker.violations().len() as u64;
        Forgotten { at, why, ..next }
    }
}

/// What one customer has in a session that is somebody else's, or a group's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// Places of their messages.
    pub messages: BTreeSet<Seq>,
    /// Turns that read one of them.
    pub turns: BTreeSet<TurnId>,
    /// Every place whose text has to go: the messages, and what those turns said.
    pub places: BTreeSet<Seq>,
    /// What was imported last: a message of theirs, or what answered one.
    imported: Option<ImportedRole>,
    /// The turn that was told of last.
    current: Option<TurnId>,
    /// The place at which a message of theirs was refused last.
    refused: Option<Seq>,
}

impl Traces {
    /// Takes the next entry of the session's journal.
    pub fn observe(&mut self, event: &Event, customer: &str) {
        if event.body.sender().is_some_and(|sender| **sender == *customer) {
            self.messages.insert(event.seq);
            self.places.insert(event.seq);
        }
        if let EventBody::SessionNotice { source: NoticeSource::Command, of: Some(of), .. } =
            &event.body
            && self.messages.contains(of)
        {
            self.places.insert(event.seq);
        }
        self.observe_imported(event, customer);
        match &event.body {
            // Why may be said in words of the message; so may be what a channel says of a part.
            EventBody::GuardRefused { message, .. } => {
                self.refused = self.messages.contains(message).then_some(event.seq);
                self.places.extend(self.refused.filter(|_| has_text(&event.body)));
            }
            EventBody::DeliverySettled { reply, detail: Some(_), .. }
                if self.places.contains(reply) =>
            {
                self.places.insert(event.seq);
            }
            // It may say why a message was refused, what a turn failed with, or what it did.
            EventBody::SessionNotice { source: NoticeSource::Gateway, .. }
                if self.refused.is_some_and(|at| at.next() == event.seq)
                    || self.current.is_some_and(|turn| self.turns.contains(&turn)) =>
            {
                self.places.insert(event.seq);
            }
            _ => {}
        }
        let Some((turn, messages)) = turn_of(&event.body) else { return };
        self.current = Some(turn);
        if messages.iter().any(|seq| self.messages.contains(seq)) {
            self.turns.insert(turn);
        }
        if self.turns.contains(&turn) && has_text(&event.body) {
            self.places.insert(event.seq);
        }
    }

    /// Imported lines name no turns: what was said next is the answer to all who spoke before it.
    fn observe_imported(&mut self, event: &Event, customer: &str) {
        match &event.body {
            EventBody::SessionImported(imported) => {
                let from = imported.from.parse::<SessionKey>();
                if from.is_ok_and(|from| from.peer() == customer) {
                    self.places.insert(event.seq);
                }
            }
            EventBody::HistoryImported(line)
                if line.role != ImportedRole::User && self.imported.is_some() =>
            {
                self.imported = Some(line.role);
                self.places.insert(event.seq);
            }
            EventBody::HistoryImported(_) if self.messages.contains(&event.seq) => {
                self.imported = Some(ImportedRole::User);
            }
            EventBody::HistoryImported(_) if self.imported != Some(ImportedRole::User) => {
                self.imported = None;
            }
            _ => {}
        }
    }

    /// Nothing of them is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

/// The turn that an entry tells of, and the messages that it names.
pub(crate) fn turn_of(body: &EventBody) -> Option<(TurnId, &[Seq])> {
    match body {
        EventBody::TurnStarted { turn_id, messages, .. }
        | EventBody::TurnProcessing { turn_id, messages, .. }
        | EventBody::TurnMessageAbsorbed { turn_id, messages }
        | EventBody::TurnCompleted { turn_id, messages, .. }
        | EventBody::TurnCancelled { turn_id, messages, .. }
        | EventBody::TurnFailed { turn_id, messages, .. } => Some((*turn_id, messages)),
        EventBody::TurnAnswered { turn_id, message, .. } => {
            Some((*turn_id, std::slice::from_ref(message)))
        }
        EventBody::TurnWaitingForOperator { turn_id, messages, .. } => Some((*turn_id, messages)),
        EventBody::TurnWaitingForInput { turn_id, .. }
        | EventBody::TurnRetrying { turn_id, .. }
        | EventBody::ToolIntended { turn_id, .. }
        | EventBody::ToolReturned { turn_id, .. }
        | EventBody::ArtifactKept { turn_id, .. }
        | EventBody::AgentEvent { turn_id, .. } => Some((*turn_id, &[])),
        _ => None,
    }
}

fn has_text(body: &EventBody) -> bool {
    let mut body = body.clone();
    blank_body(&mut body)
}

/// Takes every text and every name out of an entry. The audit reads neither.
pub fn blank(event: &mut Event) {
    blank_body(&mut event.body);
}

/// Says whether there was something to take.
fn blank_body(body: &mut EventBody) -> bool {
    let take = |text: &mut Arc<str>| !std::mem::take(text).is_empty();
    match body {
        EventBody::MessageAccepted { message_id, sender, text, .. }
        | EventBody::MessageCommand { message_id, sender, text, .. }
        | EventBody::MessageContext { message_id, sender, text, .. } => {
            let (id, sender) = (take(message_id), take(sender));
            take(text) || id || sender
        }
        EventBody::SessionPaused { by, from: Some(from) } => {
            let named = take(by);
            take(from) || named
        }
        EventBody::TurnCompleted { reply: Some(text), by: Some(by), .. } => {
            let named = take(by);
            take(text) || named
        }
        EventBody::TurnCompleted { reply: Some(text), .. }
        | EventBody::TurnCancelled { reply: Some(text), .. }
        | EventBody::TurnWaitingForInput { text, .. }
        | EventBody::TurnWaitingForOperator { error: Some(text), .. }
        | EventBody::SessionPaused { by: text, from: None }
        | EventBody::SessionHandedBack { by: Some(text) }
        | EventBody::TurnRetrying { error: text, .. }
        | EventBody::TurnFailed { error: text, .. }
        | EventBody::ToolReturned { output: text, .. }
        | EventBody::DeliverySettled { detail: Some(text), .. }
        | EventBody::GuardRefused { detail: Some(text), .. } => take(text),
        EventBody::SessionNotice { text, message_id, by, .. } => {
            let named = message_id.as_mut().is_some_and(take);
            let by = by.as_mut().is_some_and(take);
            take(text) || named || by
        }
        EventBody::SessionNoticeAccepted { message_id, text, .. } => {
            let named = take(message_id);
            take(text) || named
        }
        EventBody::ToolIntended { tool, input, .. } => {
            let named = take(tool);
            take(input) || named
        }
        EventBody::ArtifactKept { name, content, .. } => {
            let named = take(name);
            take(content) || named
        }
        EventBody::AgentEvent { name, detail, .. } => {
            let name = take(name);
            take(detail) || name
        }
        EventBody::SessionImported(imported) => {
            let named = imported.by.as_mut().is_some_and(take);
            take(&mut imported.from) || named
        }
        EventBody::HistoryImported(line) => {
            let sender = line.sender.as_mut().is_some_and(take);
            let by = line.by.as_mut().is_some_and(take);
            take(&mut line.text) || sender || by
        }
        _ => false,
    }
}

/// The same for a turn's row.
pub fn blank_turn(row: &mut TurnRow) {
    row.message_ids.clear();
    row.reply = row.reply.take().map(|_| Arc::default());
    row.error = None;
    row.by = row.by.take().map(|_| Arc::default());
}

#[cfg(test)]
mod tests;
