//! What is not said to the agent: in some schedules a part of the messages are commands, or are only
//! said in the agent's presence, or nobody knows yet whether to it; the sessions may be groups; and
//! agents now and then have nothing to say. It is drawn from a source of its own, so a schedule
//! without it is what it was before.

use std::sync::Arc;

use turnkeep_core::journal::{CommandName, Event, EventBody, NoticeSource};
use turnkeep_core::message::{Action, CommandAct, InboundKind};
use turnkeep_core::moderation::{Ruling, Trigger};
use turnkeep_core::policy::BusyPolicy;
use turnkeep_core::session::NO_REPLY;
use turnkeep_core::{Policy, Seq, SessionKey, Trust};

use crate::rng::Rng;
use crate::stock::{MESSAGES, SESSIONS, Stock, number_in};
use crate::store::Row;

/// Tells its source from that of everything else. With this number no seed on record has any of
/// it, so each of them still shows what it once showed.
const OWN: u64 = 75 << 38;

/// Which messages are what.
#[derive(Debug)]
pub(crate) struct Aside {
    rng: Rng,
    /// By session and message; empty where all are said to the agent.
    kinds: [Vec<InboundKind>; SESSIONS],
    /// The session is a group.
    groups: [bool; SESSIONS],
    /// Messages that are for the agent as far as who is asked thinks, a bit each.
    addressed: u64,
    /// So many of a thousand replies are none.
    quiet: u64,
    /// So many of a thousand questions about a message are never answered.
    silence: u64,
}

impl Aside {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ OWN);
        let mut kinds = [const { Vec::new() }; SESSIONS];
        let mut groups = [false; SESSIONS];
        if !rng.permille(200) {
            return Self { rng, kinds, groups, addressed: 0, quiet: 0, silence: 0 };
        }
        let trigger = Trigger { agent: "doorman".into(), timeout_ms: rng.pick(&[200, 1500, 5000]) };
        for seat in 0..SESSIONS {
            groups[seat] = rng.permille(600);
            let odds = rng.pick(&[150, 400]);
            let draw = |_| draw_kind(&mut rng, odds, &trigger);
            kinds[seat] = (0..MESSAGES).map(draw).collect();
        }
        let (addressed, quiet) = (rng.next(), rng.pick(&[0, 200]));
        let silence = rng.pick(&[0, 150, 1000]);
        Self { rng, kinds, groups, addressed, quiet, silence }
    }

    /// The session's name.
    pub(crate) const fn key<'s>(&self, stock: &'s Stock, seat: usize) -> &'s SessionKey {
        if self.groups[seat] { &stock.groups[seat] } else { &stock.keys[seat] }
    }

    /// What a message is.
    pub(crate) fn kind(&self, seat: usize, number: usize) -> &InboundKind {
        self.kinds[seat].get(number).unwrap_or(&InboundKind::Message)
    }

    /// Whether it is asked of messages in this session if they are for the agent.
    pub(crate) fn wonders(&self, seat: usize) -> bool {
        self.kinds[seat].iter().any(|kind| matches!(kind, InboundKind::Unclear(_)))
    }

    /// What is said in place of a reply, where there is nothing to say.
    pub(crate) fn quiet(&mut self) -> Option<Arc<str>> {
        (self.quiet > 0 && self.rng.permille(self.quiet)).then(|| format!(" {NO_REPLY}\n").into())
    }

    /// Whether a message is for the agent, however often that is asked.
    pub(crate) fn opinion(&self, message_id: &str) -> Ruling {
        let number = number_in(message_id).unwrap_or(0);
        if self.addressed >> number & 1 == 1 { Ruling::Addressed } else { Ruling::Context }
    }

    /// When that is said; none where it never is.
    pub(crate) fn answers_after(&mut self, wait_ms: u64) -> Option<u64> {
        (!self.rng.permille(self.silence)).then(|| self.rng.below(wait_ms * 3 / 2 + 1))
    }

    /// Holds an entry against what the message is; says what is wrong.
    pub(crate) fn judge(&self, seat: usize, event: &Event, policy: &Policy) -> Option<String> {
        let seq = event.seq;
        if let EventBody::TurnCompleted { reply: Some(text), .. } = &event.body
            && text.trim() == NO_REPLY
        {
            return Some(format!("I31: {seq} says that there is nothing to say"));
        }
        let number = number_in(event.body.written_id()?)?;
        match (self.kind(seat, number), &event.body) {
            (InboundKind::Command(_), EventBody::MessageCommand { .. })
            | (InboundKind::Message | InboundKind::Unclear(_), EventBody::MessageAccepted { .. })
            | (InboundKind::Unclear(_), EventBody::MessageContext { of: Some(_), .. }) => None,
            (InboundKind::Context, EventBody::MessageContext { of: None, .. }) => {
                let unchecked = policy.moderation.is_some();
                unchecked.then(|| format!("I24: context {seq} is not checked"))
            }
            (InboundKind::Context, EventBody::MessageContext { .. }) => None,
            (
                InboundKind::Context,
                EventBody::MessageAccepted { action: Action::Context, held: true, .. },
            ) => None,
            (kind, _) => Some(format!("I30: {seq} is no {kind:?}: {:?}", event.body)),
        }
    }

    /// What is wrong with a held message that went on, or did not.
    pub(crate) fn judge_ruled(
        &self,
        trigger: &Trigger,
        (message_id, waited): (&str, i64),
        (ruling, by_default): (Ruling, bool),
        calm: bool,
    ) -> Option<String> {
        if by_default {
            let early = calm && waited < i64::try_from(trigger.timeout_ms).unwrap_or(i64::MAX);
            let wrong = early || ruling != Ruling::Context;
            return wrong
                .then(|| format!("I24: {message_id} is {ruling:?} by default after {waited} ms"));
        }
        let opinion = self.opinion(message_id);
        let wrong = ruling != opinion;
        wrong.then(|| format!("I24: {message_id} is {ruling:?}, and should be {opinion:?}"))
    }

    /// What is wrong with a session that came to rest.
    pub(crate) fn end(&self, seat: usize, row: &Row) -> Option<String> {
        let places = row.events.iter().enumerate();
        places.filter_map(|(at, event)| self.judge_command(seat, at, event, row)).next()
    }

    /// A command is answered, and between it and its answer stands what it did, and nothing else.
    fn judge_command(&self, seat: usize, at: usize, event: &Event, row: &Row) -> Option<String> {
        let EventBody::MessageCommand { command, refused, trust, message_id, .. } = &event.body
        else {
            return None;
        };
        let seq = event.seq;
        let behind = &row.events[at + 1..];
        let Some(answer) = behind.iter().position(|event| answers(event, seq)) else {
            return Some(format!("I30: command {seq} is not answered"));
        };
        let done = &behind[..answer];
        let resets = done.iter().any(|one| matches!(one.body, EventBody::SessionReset { .. }));
        let right = match command {
            _ if *refused => done.is_empty() && self.groups[seat],
            CommandName::New => resets,
            CommandName::Stop => !resets,
            CommandName::Queue | CommandName::Model | CommandName::Say => done.is_empty(),
        };
        if !right {
            return Some(format!("I30: command {seq} ({command:?}) did {done:?}"));
        }
        if let InboundKind::Command(act) = self.kind(seat, number_in(message_id)?)
            && act.name() != *command
        {
            return Some(format!("I30: command {seq} is {act:?}, not {command:?}"));
        }
        let beyond = |trusted: Trust| self.groups[seat] && trusted > *trust;
        let cancelled = done.iter().flat_map(cancelled_by).find(|one| beyond(trust_at(row, **one)));
        cancelled.map(|one| format!("I19: command {seq} cancels {one}, which is trusted further"))
    }
}

fn draw_kind(rng: &mut Rng, odds: u64, trigger: &Trigger) -> InboundKind {
    if !rng.permille(odds) {
        return InboundKind::Message;
    }
    InboundKind::Command(match rng.below(20) {
        0..=4 => return InboundKind::Context,
        5..=10 => return InboundKind::Unclear(trigger.clone()),
        11..=12 => CommandAct::New,
        13..=16 => CommandAct::Stop { shown: rng.permille(500).then(|| "so far".into()) },
        17..=18 => CommandAct::Queue(rng.pick(&[
            None,
            Some(BusyPolicy::Collect),
            Some(BusyPolicy::Supersede),
        ])),
        _ => CommandAct::Say("here".into()),
    })
}

fn answers(event: &Event, command: Seq) -> bool {
    matches!(event.body, EventBody::SessionNotice { source: NoticeSource::Command, of, .. }
        if of == Some(command))
}

fn cancelled_by(event: &Event) -> &[Seq] {
    match &event.body {
        EventBody::TurnCancelled { messages, .. }
        | EventBody::MessageCancelled { messages, .. } => messages,
        _ => &[],
    }
}

fn trust_at(row: &Row, seq: Seq) -> Trust {
    let at = usize::try_from(seq.0.saturating_sub(1)).unwrap_or(usize::MAX);
    match row.events.get(at).map(|event| &event.body) {
        Some(EventBody::MessageAccepted { trust, .. }) => *trust,
        _ => Trust::Public,
    }
}
