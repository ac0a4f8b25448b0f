//! A person in the agent's place: an operator pauses a session, answers there, and hands it back.
//!
//! While a session is paused no attempt begins. A turn that is open goes to the operator, unless its
//! agent is in the middle of what can't be laid down: past the commit point it may end its turn, and
//! a call that acts is waited for, so that its result is on record. Messages are taken as ever; they
//! join the turn that waits. What the operator says completes that turn, so every message still
//! ends in one turn with one reply. Where nothing is open it is told as a notice.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Controlled, Effect, Ignored, Machine, NOTICES_MAX, Stage, Turn};
use crate::accumulation::{Deadline, Hint};
use crate::ids::{Seq, Timestamp};
use crate::journal::{EventBody, NoticeSource};
use crate::message::{Action, MessageBody, Seen};
use crate::planted::{Planted, planted};
use crate::ports::store::{TurnRow, TurnStatus};

/// Who has a session in the agent's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// The operator's name.
    pub by: Arc<str>,
    /// Since when.
    pub since: Timestamp,
    /// The session goes back to the agent when this is over; none for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Deadline>,
}

impl Machine<'_> {
    pub(super) const fn is_paused(&self) -> bool {
        self.session.paused.is_some()
    }

    /// The agent still has the open turn, though the session is paused, and only for the calls that
    /// it made: what it begins now would be in the operator's way.
    pub(super) fn is_winding_up(&self) -> bool {
        self.is_paused() && self.session.turn.as_ref().is_some_and(|turn| !turn.committed)
    }

    pub(super) fn on_pause(&mut self, by: &Arc<str>, take_over: bool) -> Controlled {
        let until = self.operator_deadline();
        match &mut self.session.paused {
            // The same one again: the time begins anew, where there is one.
            Some(paused) if paused.by == *by => {
                // Or there is one no more.
                match std::mem::replace(&mut paused.until, until) == until {
                    false => self.changed(),
                    true => self.ignore(Ignored::NothingToControl),
                }
            }
            Some(paused) if !take_over => {
                let other = Arc::clone(&paused.by);
                self.ignore(Ignored::NothingToControl);
                return Controlled::PausedByOther(other);
            }
            Some(paused) => {
                let from = Arc::clone(&paused.by);
                self.begin_pause(by, Some(from), until);
            }
            None => {
                let told = self.context.policy.operator_notice.clone();
                self.begin_pause(by, None, until);
                self.hand_over();
                if let Some(text) = told {
                    let seq = self.journal(EventBody::notice(Arc::clone(&text)));
                    self.send_reply(seq, &text);
                }
            }
        }
        Controlled::Paused
    }

    fn begin_pause(&mut self, by: &Arc<str>, from: Option<Arc<str>>, until: Option<Deadline>) {
        let (by, since) = (Arc::clone(by), self.context.now);
        self.session.paused = Some(Paused { by: Arc::clone(&by), since, until });
        self.journal(EventBody::SessionPaused { by, from });
    }

    /// A new deadline for an operator who does nothing; none where there is no such limit.
    fn operator_deadline(&mut self) -> Option<Deadline> {
        let limit = self.context.policy.operator_timeout_ms;
        (limit > 0).then(|| self.deadline(limit))
    }

    /// Gives the open turn to the operator, as soon as it can be laid down.
    pub(super) fn hand_over(&mut self) {
        let keeps = self.is_kept() || planted(Planted::PauseKeepsTurn);
        let Some(mut turn) = self.session.turn.take() else { return };
        if keeps {
            // What comes now waits for the operator, so there is nothing to ask the agent about.
            turn.query = None;
            self.session.turn = Some(turn);
            return self.changed();
        }
        self.session.turn = Some(turn);
        self.lay_down(None);
    }

    /// Ends the run of the open turn, which the operator has from here on.
    pub(super) fn lay_down(&mut self, error: Option<Arc<str>>) {
        let Some(turn) = self.session.turn.take() else { return };
        if !planted(Planted::PauseLeavesRun) {
            self.end_run(&turn);
        }
        self.session.turn = Some(turn);
        self.wait_for_operator(error);
    }

    /// The agent is at work on the open turn, and is past its commit point or in the middle of a
    /// call that acts.
    fn is_kept(&self) -> bool {
        let turn = self.session.turn.as_ref();
        turn.is_some_and(|turn| {
            matches!(turn.stage, Stage::Processing) && (turn.committed || self.is_acting(turn))
        })
    }

    /// A call of this turn that acts is under way.
    pub(super) fn is_acting(&self, turn: &Turn) -> bool {
        let acts = self.session.acts.of(turn.group);
        turn.open_calls.iter().any(|call| acts.iter().any(|act| act.call == *call))
    }

    /// The open turn waits for the operator, with its whole mailbox; `error` is what its agent
    /// failed with.
    pub(super) fn wait_for_operator(&mut self, error: Option<Arc<str>>) {
        self.close_calls_of_open_turn();
        self.drain_mailbox();
        let Some(turn) = &mut self.session.turn else { return };
        turn.stage = Stage::Operator;
        (turn.query, turn.answered) = (None, None);
        // It has more to answer now than what it was asked to finish with.
        turn.finishing = None;
        let left = std::mem::take(&mut turn.mailbox);
        let (turn_id, messages) = (turn.id, turn.seqs());
        self.journal(EventBody::TurnWaitingForOperator { turn_id, messages, error });
        // More than one turn may absorb.
        self.requeue(left.into_iter());
        self.put_turn_row();
        self.effect(Effect::Typing(false));
    }

    pub(super) fn on_hand_back(&mut self, by: Option<&Arc<str>>) -> Controlled {
        if self.session.paused.is_none() {
            self.ignore(Ignored::NothingToControl);
            // Committed all the same: if another owner paused it meanwhile, this meets that.
            self.changed();
            return Controlled::NotPaused;
        }
        self.end_pause(by);
        let waits = self.session.turn.as_ref().is_some_and(|turn| turn.stage == Stage::Operator);
        if waits && !planted(Planted::HandBackForgotten) {
            self.begin_attempt();
        }
        Controlled::HandedBack
    }

    /// The operator has the session no longer. `by`: who said so, if somebody did.
    pub(super) fn end_pause(&mut self, by: Option<&Arc<str>>) {
        if self.session.paused.take().is_some() {
            self.journal(EventBody::SessionHandedBack { by: by.cloned() });
        }
    }

    pub(super) fn on_operator_reply(
        &mut self,
        seen: Option<&Seen>,
        body: &MessageBody,
    ) -> Controlled {
        let told = match self.refuses_operator() {
            Some(refusal) => refusal,
            None => self.take_reply(body),
        };
        let (seq, turn) = match &told {
            Controlled::Replied { seq, turn, .. } => (Some(*seq), *turn),
            _ => (None, None),
        };
        let action = if seq.is_some() { Action::EventSent } else { Action::Rejected };
        if !planted(Planted::ReplyUnguarded) {
            self.guard_name(seen, seq, (action, turn));
        }
        told
    }

    fn refuses_operator(&self) -> Option<Controlled> {
        let session = &self.session;
        if session.paused.is_none() {
            return Some(Controlled::NotPaused);
        }
        if session.closed && !self.context.policy.facts.reopens {
            return Some(Controlled::IsClosed);
        }
        (session.outbox.parts.len() >= NOTICES_MAX).then_some(Controlled::NoticesFull)
    }

    fn take_reply(&mut self, body: &MessageBody) -> Controlled {
        let until = self.operator_deadline();
        if let Some(paused) = &mut self.session.paused {
            paused.until = until;
        }
        if std::mem::take(&mut self.session.closed) {
            self.journal(EventBody::SessionReopened);
        }
        let waits = self.session.turn.take_if(|turn| turn.stage == Stage::Operator);
        let (seq, turn) = match waits {
            Some(turn) => {
                let id = turn.id;
                (self.answer_as_operator(*turn, body), Some(id))
            }
            None => (self.tell_as_operator(body), None),
        };
        Controlled::Replied { seq, turn, duplicate: false }
    }

    /// The turn ends with the operator's reply; the next one in the queue waits for them, too.
    fn answer_as_operator(&mut self, mut turn: Turn, body: &MessageBody) -> Seq {
        turn.epoch = self.context.epoch;
        if planted(Planted::OperatorMissesLast) && turn.messages.len() > 1 {
            turn.messages.pop();
        }
        let MessageBody { sender, text, .. } = body;
        let seq = self.journal(EventBody::TurnCompleted {
            turn_id: turn.id,
            attempt: turn.attempt,
            epoch: turn.epoch,
            messages: turn.seqs(),
            reply: Some(Arc::clone(text)),
            version: None,
            by: Some(Arc::clone(sender)),
        });
        // What the agent expected of its own last answer is over.
        self.session.hint = Hint::None;
        let row = self.ended_row(&turn, TurnStatus::Complete, Some(text), None);
        self.step.rows.put_turn(TurnRow { by: Some(Arc::clone(sender)), ..row });
        self.send_reply(seq, text);
        self.forget_artifacts(turn.group);
        self.start_next();
        seq
    }

    fn tell_as_operator(&mut self, body: &MessageBody) -> Seq {
        let seq = self.journal(EventBody::SessionNotice {
            text: Arc::clone(&body.text),
            source: NoticeSource::Operator,
            message_id: Some(Arc::clone(&body.message_id)),
            of: None,
            by: Some(Arc::clone(&body.sender)),
        });
        self.send_reply(seq, &body.text);
        seq
    }
}
