//! Holds the promises against what happened: the core's history checker on every journal, and what
//! only the world can know, such as who was told what, and what a provider or a tool really saw.

use turnkeep_core::audit::Checker;
use turnkeep_core::ids::{RunTag, Seq, TurnGroupId, TurnId};
use turnkeep_core::journal::{DeadReason, Event, EventBody};
use turnkeep_core::message::{Action, Decision, Pending, Rejection};
use turnkeep_core::ports::store::{Loaded, StoreError, TurnStatus};
use turnkeep_core::session::{Controlled, StartRun};
use turnkeep_core::{Policy, Trust};

use crate::aside::Aside;
use crate::guard;
use crate::moderator::{self, Moderator};
use crate::plan::Act;
use crate::stock::{SESSIONS, number_in};
use crate::store::Row;
use crate::typing::Typing;

mod end;
mod several;

/// The text that a forged twin carries.
const FORGED: &str = "something else";

/// Everything that is held against the world.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    violations: Vec<String>,
    sides: [Side; SESSIONS],
}

#[derive(Debug, Default)]
struct Side {
    checker: Checker,
    observed: usize,
    turns: Vec<TurnFacts>,
    acks: Vec<Ack>,
    typing: Typing,
}

#[derive(Debug)]
struct TurnFacts {
    id: TurnId,
    status: TurnStatus,
    since: u64,
    waits_since: Option<u64>,
    failures: u32,
    acts: u32,
}

/// Somebody was told that a message is ours.
#[derive(Clone, Copy, Debug)]
struct Ack {
    act: Act,
    seq: Seq,
    /// When they were told.
    at: u64,
}

impl Judge {
    pub(crate) fn clear(&mut self) {
        self.violations.clear();
        for side in &mut self.sides {
            side.checker = Checker::new();
            side.observed = 0;
            side.turns.clear();
            side.acks.clear();
            side.typing.clear();
        }
    }

    #[cold]
    pub(crate) fn broken(&mut self, invariant: &str, what: impl FnOnce() -> String) {
        self.violations.push(format!("{invariant}: {}", what()));
    }

    pub(crate) fn complain(&mut self, what: String) {
        self.violations.push(what);
    }

    /// One broken promise is enough: what follows is often only its echo.
    pub(crate) const fn has_given_up(&self) -> bool {
        !self.violations.is_empty()
    }

    pub(crate) fn take_violations(&mut self) -> Vec<String> {
        std::mem::take(&mut self.violations)
    }

    pub(crate) fn unseen<'e>(&self, seat: usize, events: &'e [Event]) -> &'e [Event] {
        events.get(self.sides[seat].observed..).unwrap_or_default()
    }

    /// A commit is durable.
    pub(crate) fn landed(
        &mut self,
        (seat, now, calm): (usize, u64, bool),
        row: &Row,
        policy: &Policy,
        (moderator, aside): (&Moderator, &Aside),
    ) {
        let Self { sides, violations } = self;
        let side = &mut sides[seat];
        let fresh = row.events.get(side.observed..).unwrap_or_default();
        for event in fresh {
            side.typing.observe(event, side.checker.open(), policy);
            side.checker.observe(event);
            side.note(event, policy, now, calm, violations);
            crate::queue::hold(event, policy, violations);
            note(violations, moderator.judge((seat, aside), event, (row, policy), calm));
            note(violations, aside.judge(seat, event, policy));
        }
        note(violations, moderator::bound(&row.session, policy));
        if let Some((from, to)) = row.leapt {
            violations.push(format!("session {seat}: from {from:?} to {to:?} in one commit"));
        }
        if let Some(what) = side.typing.verdict(&row.session, fresh, policy).filter(|_| calm) {
            violations.push(format!("session {seat}: rhythm: {what}"));
        }
        side.observed = row.events.len();
        if let Some(first) = side.checker.violations().first() {
            violations.push(format!("session {seat}: {first}"));
        }
    }

    /// What a store gives back is what was committed, bodies included.
    pub(crate) fn loaded(
        &mut self,
        seat: usize,
        row: &Row,
        loaded: &Result<Option<Loaded>, StoreError>,
    ) {
        if let Ok(Some(loaded)) = loaded
            && *loaded.session != row.session
        {
            self.broken("I2", || {
                format!("session {seat} is not the one that was stored: {:?}", loaded.session)
            });
        }
    }

    pub(crate) fn started(&mut self, start: &StartRun, row: &Row) {
        let journaled = row.events.iter().rev().any(|event| {
            matches!(&event.body, EventBody::TurnProcessing { turn_id, attempt, epoch, messages }
                if (*turn_id, *attempt, *epoch) == (start.tag.turn, start.tag.attempt, start.tag.epoch)
                    && messages.iter().eq(start.messages.iter().map(|pending| &pending.seq)))
        });
        if !journaled {
            self.broken("I18", || "an attempt starts before it is on record".to_owned());
        }
        let mixed = start.messages.iter().any(|pending| pending.trust != start.trust);
        if mixed {
            self.broken("I19", || "a run is given messages of another trust".to_owned());
        }
        if start.messages.iter().any(|pending| pending.body.text.is_empty()) {
            self.broken("I2", || "a run is given a message without its body".to_owned());
        }
    }

    /// `mail()` returns only what is durably part of the turn.
    pub(crate) fn mail_taken(&mut self, tag: RunTag, trust: Trust, mail: &[Pending], row: &Row) {
        for pending in mail {
            let durable = row.events.iter().rev().any(|event| match &event.body {
                EventBody::TurnMessageAbsorbed { turn_id, messages } => {
                    *turn_id == tag.turn && messages.contains(&pending.seq)
                }
                _ => false,
            });
            if !durable {
                self.broken("I5", || format!("mail {} is given before it is durable", pending.seq));
            }
            if pending.trust != trust {
                self.broken("I19", || format!("mail {} is of another trust", pending.seq));
            }
        }
    }

    /// The grant of a commit point is durable before the agent hears of it.
    pub(crate) fn granted(&mut self, tag: RunTag, row: &Row) {
        let durable = row.events.iter().rev().any(|event| {
            matches!(&event.body, EventBody::CommitReached { turn_id, .. } if *turn_id == tag.turn)
        });
        if !durable {
            self.broken("I20", || "a commit point is granted before it is durable".to_owned());
        }
    }

    /// A tool did what can't be undone.
    pub(crate) fn acts(&mut self, seat: usize, turn: TurnId, _group: TurnGroupId) {
        let Some(facts) = self.sides[seat].turns.iter_mut().find(|facts| facts.id == turn) else {
            return self.broken("I20", || "an act of a turn that never was".to_owned());
        };
        facts.acts += 1;
        if facts.acts > 1 {
            self.broken("I20", || format!("turn {turn} acts twice"));
        }
    }

    /// A person was told what became of a message.
    pub(crate) fn decided(
        &mut self,
        (seat, act): (usize, Act),
        (asked, now): (u64, u64),
        decision: &Decision,
        row: &Row,
    ) {
        let (Act::Send(number) | Act::Again(number) | Act::Forge(number) | Act::Unnamed(number)) =
            act
        else {
            return self.broken("I2", || "a control is answered as a message".to_owned());
        };
        let same = |ack: &&Ack| match (ack.act, act) {
            (Act::Send(one) | Act::Again(one), Act::Send(_) | Act::Again(_))
            | (Act::Forge(one), Act::Forge(_)) => one == number,
            _ => false,
        };
        let known = self.sides[seat].acks.iter().find(same).copied();
        let before = known.map(|ack| ack.seq);
        let Some(seq) = decision.seq else {
            // A refusal that was decided earlier may be told later.
            let before = known.filter(|ack| ack.at < asked).map(|ack| ack.seq);
            return self.refused(before, decision, act, number, row);
        };
        if before.is_some_and(|before| before != seq) {
            return self
                .broken("I11", || format!("message {number} is acknowledged twice, at {seq} too"));
        }
        let told = (decision.action, decision.turn, decision.queue_position);
        let stands = accepted_at(row, seq).is_some_and(|found| {
            found.forged == matches!(act, Act::Forge(_))
                && found.number == Some(number)
                && found.told == told
        });
        if !stands {
            self.broken("I2", || {
                format!("message {number} is acknowledged at {seq}, which says otherwise")
            });
        }
        self.sides[seat].acks.push(Ack { act, seq, at: now });
    }

    fn refused(
        &mut self,
        before: Option<Seq>,
        decision: &Decision,
        act: Act,
        number: usize,
        row: &Row,
    ) {
        if let Some(seq) = before {
            return self.broken("I11", || {
                format!(
                    "message {number} was accepted at {seq}, and is refused when it comes again"
                )
            });
        }
        if matches!(decision.rejection, Some(Rejection::IdReused | Rejection::RequestReused)) {
            let forged = matches!(act, Act::Forge(_));
            let other = row
                .events
                .iter()
                .filter_map(accepted)
                .any(|found| found.number == Some(number) && found.forged != forged);
            if !other {
                self.broken("I11", || {
                    format!("message {number} is refused as reused, and was never used")
                });
            }
        }
        if guard::was_taken_all_the_same(decision, act, row) {
            self.broken("I13", || format!("message {number} is refused by the guard, and taken"));
        }
        if decision.rejection.is_none() {
            self.broken("I13", || format!("message {number} is refused without a reason"));
        }
    }

    /// A person was told what came of their steering.
    pub(crate) fn controlled(&mut self, seat: usize, act: Act, told: &Controlled, row: &Row) {
        match told {
            Controlled::Stopped(turn) => {
                let ended = row.events.iter().any(|event| {
                    matches!(&event.body, EventBody::TurnCancelled { turn_id, .. } if turn_id == turn)
                });
                if !ended {
                    self.broken("I2", || format!("session {seat}: {act:?} was told too early"));
                }
            }
            Controlled::Retried(decision) => {
                let known = decision.seq.and_then(|seq| accepted_at(row, seq));
                if known.is_none_or(|found| !found.retried) {
                    self.broken("I2", || format!("session {seat}: a retry was told too early"));
                }
            }
            _ => {}
        }
    }

    /// The mistake of acknowledging what is not durable yet.
    pub(crate) fn promised(&mut self, seat: usize, event: &Event) {
        if let Some(found) = accepted(event)
            && let (Some(number), false) = (found.number, found.retried)
        {
            let act = if found.forged { Act::Forge(number) } else { Act::Unnamed(number) };
            self.sides[seat].acks.push(Ack { act, seq: event.seq, at: 0 });
        }
    }
}

/// Adds what is wrong, if anything is: nearly always nothing, which costs nothing so.
fn note(violations: &mut Vec<String>, wrong: Option<String>) {
    if let Some(what) = wrong {
        violations.push(what);
    }
}

struct Found {
    number: Option<usize>,
    forged: bool,
    retried: bool,
    told: (Action, Option<TurnId>, Option<u32>),
}

fn accepted(event: &Event) -> Option<Found> {
    match &event.body {
        EventBody::MessageAccepted {
            message_id,
            text,
            action,
            turn_id,
            queue_position,
            retry_of,
            ..
        } => Some(Found {
            number: number_in(message_id),
            forged: &**text == FORGED,
            retried: retry_of.is_some(),
            told: (*action, *turn_id, *queue_position),
        }),
        EventBody::MessageCommand { .. } => taken(event, Action::Command),
        EventBody::MessageContext { of: None, .. } => taken(event, Action::Context),
        _ => None,
    }
}

/// Something that is not said to the agent.
fn taken(event: &Event, action: Action) -> Option<Found> {
    let (EventBody::MessageCommand { message_id, text, .. }
    | EventBody::MessageContext { message_id, text, .. }) = &event.body
    else {
        return None;
    };
    Some(Found {
        number: number_in(message_id),
        forged: &**text == FORGED,
        retried: false,
        told: (action, None, None),
    })
}

fn accepted_at(row: &Row, seq: Seq) -> Option<Found> {
    let at = usize::try_from(seq.0.checked_sub(1)?).ok()?;
    accepted(row.events.get(at)?)
}

impl Side {
    /// Facts that the checker does not keep.
    fn note(
        &mut self,
        event: &Event,
        policy: &Policy,
        now: u64,
        calm: bool,
        violations: &mut Vec<String>,
    ) {
        let mut status = |id: &TurnId, status: TurnStatus| {
            if let Some(facts) = self.turns.iter_mut().find(|facts| facts.id == *id) {
                facts.status = status;
            }
        };
        match &event.body {
            EventBody::TurnStarted { turn_id, .. } => self.turns.push(TurnFacts {
                id: *turn_id,
                status: TurnStatus::Accumulating,
                since: now,
                waits_since: None,
                failures: 0,
                acts: 0,
            }),
            EventBody::TurnCompleted { turn_id, .. } => status(turn_id, TurnStatus::Complete),
            EventBody::TurnCancelled { turn_id, .. } => status(turn_id, TurnStatus::Cancelled),
            EventBody::TurnSuperseded { turn_id, .. } => status(turn_id, TurnStatus::Superseded),
            EventBody::TurnWaitingForInput { turn_id, .. } => {
                if let Some(facts) = self.turns.iter_mut().find(|facts| facts.id == *turn_id) {
                    facts.waits_since = Some(now);
                }
            }
            EventBody::TurnRetrying { turn_id, .. } => {
                if let Some(facts) = self.turns.iter_mut().find(|facts| facts.id == *turn_id) {
                    facts.failures += 1;
                    if facts.failures >= policy.errors_max {
                        violations.push(format!("I8: turn {turn_id} is retried for ever"));
                    }
                }
            }
            EventBody::TurnFailed { turn_id, reason, .. } => {
                status(turn_id, TurnStatus::Failed);
                let facts = self.turns.iter().find(|facts| facts.id == *turn_id);
                let waited = facts.and_then(|facts| facts.waits_since).map(|since| now - since);
                let limit = policy.input_ms.saturating_sub(10_000);
                if calm
                    && *reason == DeadReason::InputTimeout
                    && waited.is_none_or(|waited| waited < limit)
                {
                    violations.push(format!("I8: turn {turn_id} gave up on its user too early"));
                }
            }
            _ => {}
        }
    }
}
