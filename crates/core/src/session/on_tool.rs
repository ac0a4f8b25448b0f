//! What a run does with its tools: a call is on record before it is made, and has exactly one result.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{AgentAnswer, Effect, Ignored, Machine, Turn};
use crate::ids::{Seq, Seqs, Token, TurnGroupId};
use crate::journal::EventBody;
use crate::planted::{Planted, planted};
use crate::tool::{
    ACTS_MAX, Act, CALLS_MAX, CALLS_OPEN_MAX, Denied, Intent, SideEffects, ToolOutcome,
};

/// What one attempt put on record, which is bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Done {
    /// Calls that it made.
    pub calls: u32,
    /// Artifacts that it kept.
    pub keeps: u32,
    /// How long those are together, in bytes.
    pub kept_bytes: u32,
}

impl Done {
    pub(crate) const fn is_nothing(&self) -> bool {
        self.calls == 0 && self.keeps == 0
    }
}

impl Turn {
    /// It begins nothing new.
    pub(super) fn is_finishing(&self) -> bool {
        self.finishing.is_some() && !planted(Planted::FinishIgnored)
    }
}

impl Machine<'_> {
    pub(super) fn on_intend(&mut self, token: Token, intent: &Intent) {
        let answer = self.intend(intent);
        self.effect(Effect::AgentAnswer(token, answer));
    }

    fn intend(&mut self, intent: &Intent) -> AgentAnswer {
        let acts = intent.effects != SideEffects::Pure;
        if acts {
            self.tidy_acts();
        }
        let Some(turn) = &self.session.turn else { return AgentAnswer::Refused };
        if turn.stopping {
            return AgentAnswer::NotAllowed(Denied::Stopping);
        }
        if turn.is_finishing() {
            return AgentAnswer::NotAllowed(Denied::Finishing);
        }
        if turn.open_calls.len() >= CALLS_OPEN_MAX {
            return AgentAnswer::NotAllowed(Denied::TooManyCalls);
        }
        if self.is_winding_up() {
            return AgentAnswer::NotAllowed(Denied::Paused);
        }
        let (turn_id, group, attempt) = (turn.id, turn.group, turn.attempt);
        if acts {
            let known = self.session.acts.find(group, intent.name);
            if let Some(known) = known.filter(|known| !known.may_be_done())
                && !(intent.compensates.is_some() && planted(Planted::UndoneTwice))
            {
                return AgentAnswer::Known(Box::new(*known));
            }
            if known.is_none() && self.session.acts.len() >= ACTS_MAX {
                return AgentAnswer::NotAllowed(Denied::TooManyActs);
            }
        }
        if turn.done.calls >= CALLS_MAX {
            return AgentAnswer::NotAllowed(Denied::TooManyCallsMade);
        }
        if let Some(denied) = self.may_not_undo(group, intent) {
            return AgentAnswer::NotAllowed(denied);
        }
        if intent.effects == SideEffects::Irreversible {
            if self.has_mail_to_read() && !planted(Planted::MailUnread) {
                return AgentAnswer::MailFirst;
            }
            self.reach_commit_point();
        }
        let Intent { tool, effects, name, input, compensates } = intent;
        let call = self.journal(EventBody::ToolIntended {
            turn_id,
            attempt,
            tool: Arc::clone(tool),
            effects: *effects,
            act: *name,
            input: Arc::clone(input),
            compensates: *compensates,
        });
        if let Some(turn) = &mut self.session.turn {
            turn.open_calls.push(call);
            turn.done.calls += 1;
            turn.acted |= acts;
        }
        if acts {
            let (effects, compensates) = (*effects, *compensates);
            let act =
                Act { name: *name, call, effects, result: None, compensates, undone_by: None };
            self.session.acts.begin(group, act);
        }
        AgentAnswer::Call(call)
    }

    /// Why the call that this intent is to undo may not be undone.
    fn may_not_undo(&self, group: TurnGroupId, intent: &Intent) -> Option<Denied> {
        let undone = intent.compensates?;
        if intent.effects == SideEffects::Pure {
            return Some(Denied::PureUndoesNothing);
        }
        match self.session.acts.call(group, undone) {
            Some(act) => act.refuses_to_be_undone(),
            None => Some(Denied::NothingToUndo),
        }
    }

    /// What was done for a group, or may have been, and stands: the calls.
    pub(super) fn standing_acts(&self, group: TurnGroupId) -> Seqs {
        let acts = self.session.acts.of(group).iter();
        acts.filter(|act| act.stands()).map(|act| act.call).collect()
    }

    /// Mail that the agent can still take, or that it owes an answer on.
    pub(super) fn has_mail_to_read(&self) -> bool {
        let room = self.context.policy.absorbed_max;
        self.session.turn.as_ref().is_some_and(|turn| {
            !turn.mailbox.is_empty() && (turn.query.is_some() || turn.absorbed < room)
        })
    }

    /// The result of a call; only the run that made it, while it is the current one, can say so.
    pub(super) fn on_returned(
        &mut self,
        token: Token,
        call: Seq,
        outcome: ToolOutcome,
        output: &Arc<str>,
    ) {
        let Some(turn) = &mut self.session.turn else { return };
        let Some(at) = turn.open_calls.iter().position(|open| *open == call) else {
            self.ignore(Ignored::NoSuchCall);
            return self.effect(Effect::AgentAnswer(token, AgentAnswer::Refused));
        };
        turn.open_calls.remove(at);
        let turn_id = turn.id;
        let output = Arc::clone(output);
        let result = self.journal(EventBody::ToolReturned { turn_id, call, outcome, output });
        if !planted(Planted::ResultForgotten) {
            self.session.acts.settle(call, outcome, result);
        }
        self.effect(Effect::AgentAnswer(token, AgentAnswer::Recorded));
        if self.is_winding_up() {
            self.hand_over();
        }
    }

    /// The attempt that made them is over, so nobody will ever tell what came of these calls.
    pub(super) fn close_calls(&mut self, turn: &mut Turn) {
        if planted(Planted::CallsUnpaired) {
            turn.open_calls.clear();
        }
        for call in std::mem::take(&mut turn.open_calls) {
            let (turn_id, outcome) = (turn.id, ToolOutcome::Unknown);
            let output = Arc::default();
            let result = self.journal(EventBody::ToolReturned { turn_id, call, outcome, output });
            self.session.acts.settle(call, outcome, result);
        }
    }

    /// The same for the turn that stays open.
    pub(super) fn close_calls_of_open_turn(&mut self) {
        if self.session.turn.as_ref().is_none_or(|turn| turn.open_calls.is_empty()) {
            return;
        }
        let Some(mut turn) = self.session.turn.take() else { return };
        self.close_calls(&mut turn);
        self.session.turn = Some(turn);
    }

    /// What is remembered of the open turn's group, for an attempt that begins.
    pub(super) fn acts_so_far(&self) -> Vec<Act> {
        let Some(turn) = &self.session.turn else { return Vec::new() };
        self.session.acts.of(turn.group).to_vec()
    }

    pub(super) fn tidy_acts(&mut self) {
        if self.session.acts.is_empty() {
            return;
        }
        let mut acts = std::mem::take(&mut self.session.acts);
        let session = &self.session;
        acts.forget_letters(session.forgotten);
        acts.tidy(self.context.now, |group| {
            session.turn.as_ref().is_some_and(|turn| turn.group == group)
                || session.pending().any(|pending| pending.group == Some(group))
        });
        self.session.acts = acts;
    }
}
