//! What the checker knows of a turn's life: who may begin, go on, and end it.

use super::{Checker, OpenTurn};
use crate::ids::{Attempt, Epoch, Seq, Seqs, TurnGroupId, TurnId};
use crate::journal::EventBody;
use crate::tool::{ActName, SideEffects};

impl Checker {
    /// A turn's life.
    pub(super) fn observe_turn(&mut self, body: &EventBody) {
        match body {
            EventBody::TurnStarted { turn_id, turn_group_id, messages, supersedes } => {
                self.start((*turn_id, *turn_group_id), messages, *supersedes);
            }
            EventBody::TurnProcessing { turn_id, attempt, epoch, messages } => {
                self.process(*turn_id, *attempt, *epoch, messages);
            }
            EventBody::TurnMessageAbsorbed { turn_id, messages } => {
                self.absorb(*turn_id, messages);
            }
            EventBody::TurnAnswered { turn_id, message, .. } => {
                if let Some(turn) = &mut self.turn {
                    turn.asked = false;
                }
                self.absorb(*turn_id, &Seqs::from_slice(&[*message]));
            }
            EventBody::TurnSuperseded { turn_id, by } => self.supersede(*turn_id, *by),
            EventBody::TurnCompleted { turn_id, attempt, epoch, messages, .. } => {
                self.complete(*turn_id, *attempt, *epoch, messages);
            }
            EventBody::TurnCancelled { turn_id, messages, .. } => {
                self.cancelled += messages.len() as u64;
                self.end(*turn_id);
                self.settle(messages);
            }
            EventBody::TurnFailed { turn_id, messages, .. } => {
                self.end(*turn_id);
                self.settle(messages);
                self.dead.extend(messages.iter().copied());
            }
            EventBody::TurnRecovered { turn_id, epoch, .. } => {
                self.expect_turn(*turn_id);
                self.own(*epoch);
            }
            EventBody::CommitReached { turn_id, .. } => {
                self.expect_turn(*turn_id);
                if let Some(turn) = &mut self.turn {
                    turn.committed = true;
                }
            }
            EventBody::TurnWaitingForInput { turn_id, .. } => {
                self.expect_turn(*turn_id);
                if let Some(turn) = &mut self.turn {
                    turn.asked = true;
                }
            }
            EventBody::TurnRetrying { turn_id, .. }
            | EventBody::SupersedeAsked { turn_id, .. }
            | EventBody::SupersedeDecided { turn_id, .. }
            | EventBody::AgentEvent { turn_id, .. } => self.expect_turn(*turn_id),
            _ => {}
        }
    }

    pub(super) fn intend(
        &mut self,
        call: Seq,
        (id, attempt): (TurnId, Attempt),
        act: (ActName, SideEffects),
    ) {
        self.expect_turn(id);
        let Some(turn) = &self.turn else { return };
        let (current, of) = (turn.attempt, (turn.group, turn.committed));
        if attempt != current {
            self.broken("I18", || format!("call {call} is made by attempt {attempt}"));
        }
        let broken = self.tools.intend(call, of, act);
        self.note(broken);
    }

    fn end_calls(&mut self) {
        let broken = self.tools.ends();
        self.note(broken);
    }

    fn start(
        &mut self,
        (id, group): (TurnId, TurnGroupId),
        messages: &Seqs,
        supersedes: Option<TurnId>,
    ) {
        if let Some(turn) = &self.turn {
            let other = turn.id;
            self.broken("I1", || format!("turn {id} starts while {other} is open"));
        }
        self.expect_open(messages);
        match (self.heir.take(), supersedes) {
            (Some((old, by, taken)), Some(named)) => {
                let complete = taken.iter().all(|seq| messages.contains(seq));
                if by != id || old != named || !complete {
                    self.broken("I4", || format!("turn {id} does not take over from {old}"));
                }
            }
            (None, None) => {}
            _ => self.broken("I1", || format!("turn {id}: the supersede chain is broken")),
        }
        if messages.first().is_none_or(|first| *first <= self.settled) {
            self.broken("I4", || format!("turn {id} goes back behind a settled message"));
        }
        let messages = messages.clone();
        let (attempt, committed, asked) = (Attempt(0), false, false);
        self.turn = Some(OpenTurn { id, group, attempt, messages, committed, asked });
    }

    fn process(&mut self, id: TurnId, attempt: Attempt, epoch: Epoch, messages: &Seqs) {
        self.expect_turn(id);
        self.end_calls();
        self.expect_open(messages);
        self.own(epoch);
        let Some(turn) = &mut self.turn else { return };
        // Those that joined while it gathered are named here for the first time.
        let complete = turn.messages.iter().all(|seq| messages.contains(seq));
        let in_order = attempt == turn.attempt.next() && complete;
        turn.attempt = attempt;
        turn.messages = messages.clone();
        if !in_order {
            self.broken("I18", || {
                format!("attempt {attempt} of turn {id} skips or drops something")
            });
        }
    }

    fn absorb(&mut self, id: TurnId, messages: &Seqs) {
        self.expect_turn(id);
        let Some(turn) = &mut self.turn else { return };
        turn.messages.extend(messages.iter().copied());
        let all = turn.messages.clone();
        self.expect_open(&all);
    }

    fn supersede(&mut self, id: TurnId, by: TurnId) {
        self.expect_turn(id);
        self.end_calls();
        let Some(turn) = self.turn.take() else { return };
        if turn.committed {
            self.broken("I20", || format!("turn {id} was superseded after its commit point"));
        }
        self.heir = Some((id, by, turn.messages));
    }

    fn complete(&mut self, id: TurnId, attempt: Attempt, epoch: Epoch, messages: &Seqs) {
        self.expect_turn(id);
        self.end_calls();
        self.own(epoch);
        let Some(turn) = self.turn.take() else { return };
        if attempt != turn.attempt || !turn.messages.starts_with(messages) || messages.is_empty() {
            self.broken("I18", || format!("turn {id} completes with another run's result"));
        }
        self.committed += messages.len() as u64;
        self.settle(messages);
    }

    fn end(&mut self, id: TurnId) {
        self.expect_turn(id);
        self.end_calls();
        self.turn = None;
    }
}
