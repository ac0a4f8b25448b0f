//! What the checker knows of a turn's life: who may begin, go on, and end it.

use super::{Checker, OpenTurn};
use crate::ids::{Attempt, Epoch, QuestionId, Seq, Seqs, TurnGroupId, TurnId};
use crate::journal::EventBody;

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
            EventBody::TurnAnswered { turn_id, message, question_id } => {
                self.match_answer(*question_id, *message);
                self.answers.push(*message);
                self.absorb(*turn_id, &Seqs::from_slice(&[*message]));
            }
            EventBody::TurnSuperseded { turn_id, by } => self.supersede(*turn_id, *by),
            EventBody::TurnCompleted { turn_id, messages, by: Some(_), epoch, .. } => {
                self.own(*epoch);
                self.complete_by_operator(*turn_id, messages);
            }
            EventBody::TurnCompleted { turn_id, attempt, epoch, messages, .. } => {
                self.complete(*turn_id, *attempt, *epoch, messages);
            }
            EventBody::TurnCancelled { turn_id, messages, acts, .. } => {
                self.cancelled += messages.len() as u64;
                self.end(*turn_id, messages, acts);
            }
            EventBody::TurnFailed { turn_id, messages, acts, .. } => {
                self.end(*turn_id, messages, acts);
                self.dead.extend(messages.iter().copied());
            }
            EventBody::TurnRecovered { turn_id, epoch, .. } => {
                self.expect_turn(*turn_id);
                self.own(*epoch);
            }
            EventBody::CommitReached { turn_id, .. } => {
                self.expect_turn(*turn_id);
                self.expect_unfinished(*turn_id, "reaches its commit point");
                if let Some(turn) = &mut self.turn {
                    turn.committed = true;
                }
            }
            EventBody::TurnWaitingForOperator { turn_id, messages, .. } => {
                self.wait_for_operator(*turn_id, messages);
            }
            EventBody::TurnWaitingForInput { turn_id, confirm, question_id, .. } => {
                self.expect_turn(*turn_id);
                self.expect_unfinished(*turn_id, "asks the user");
                let broken = self.operators.agent_begins(*turn_id);
                self.note(broken);
                if let Some(turn) = &mut self.turn {
                    turn.asked = true;
                    turn.question = Some(*question_id);
                    turn.confirm = confirm.then_some(self.last_seq);
                }
            }
            EventBody::SupersedeDecided { turn_id, choice, .. } => {
                self.expect_turn(*turn_id);
                self.decided(*choice);
            }
            EventBody::TurnRetrying { turn_id, .. }
            | EventBody::SupersedeAsked { turn_id, .. }
            | EventBody::AgentEvent { turn_id, .. } => self.expect_turn(*turn_id),
            _ => {}
        }
    }

    /// An answer is one to the question that is open, and there is one.
    fn match_answer(&mut self, answered: QuestionId, message: Seq) {
        let Some(turn) = &mut self.turn else { return };
        let (open, was_open) = (turn.question.take(), std::mem::take(&mut turn.asked));
        let confirm = turn.confirm.take();
        if !was_open || open.is_some_and(|open| open != answered) {
            self.broken("I18", || {
                format!("question {answered:?} is answered, and the open one is {open:?}")
            });
        }
        if confirm.is_some_and(|asked| message < asked) {
            self.broken("I20", || format!("message {message} answers a later question"));
        }
    }

    pub(super) fn end_calls(&mut self) {
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
        self.artifacts.begins();
        self.turn = Some(OpenTurn {
            id,
            group,
            attempt: Attempt(0),
            messages,
            committed: false,
            asked: false,
            question: None,
            confirm: None,
            finishing: false,
            with_operator: false,
        });
    }

    fn process(&mut self, id: TurnId, attempt: Attempt, epoch: Epoch, messages: &Seqs) {
        self.expect_turn(id);
        self.end_calls();
        self.artifacts.begins();
        self.expect_open(messages);
        self.own(epoch);
        let broken = self.operators.agent_begins(id);
        self.note(broken);
        let Some(turn) = &mut self.turn else { return };
        turn.with_operator = false;
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
        let broken = self.operators.agent_acts(&turn, "its agent answers");
        self.note(broken);
        if attempt != turn.attempt || !turn.messages.starts_with(messages) || messages.is_empty() {
            self.broken("I18", || format!("turn {id} completes with another run's result"));
        }
        self.committed += messages.len() as u64;
        self.settle(messages);
    }

    /// It ends without an answer.
    fn end(&mut self, id: TurnId, messages: &Seqs, acts: &[Seq]) {
        self.expect_standing(acts);
        self.expect_turn(id);
        self.end_calls();
        self.turn = None;
        self.settle(messages);
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::journal::Event;
    use crate::message::Action;
    use crate::policy::Trust;

    fn said() -> EventBody {
        EventBody::MessageAccepted {
            message_id: "m".into(),
            sender: "ann".into(),
            text: "words".into(),
            trust: Trust::Public,
            action: Action::EventSent,
            turn_id: None,
            queue_position: None,
            retry_of: None,
            held: false,
            disappears_s: None,
        }
    }

    /// What is found where a turn asks the first question and these are answered.
    fn found(answered: &[u32]) -> Vec<&'static str> {
        let turn_id = TurnId::default();
        let messages: Seqs = smallvec![Seq(1)];
        let (attempt, epoch) = (Attempt(1), Epoch(1));
        let group = TurnGroupId::default();
        let started = EventBody::TurnStarted {
            turn_id,
            turn_group_id: group,
            messages: messages.clone(),
            supersedes: None,
        };
        let mut bodies = vec![
            said(),
            started,
            EventBody::TurnProcessing { turn_id, attempt, epoch, messages },
            EventBody::TurnWaitingForInput {
                turn_id,
                question_id: QuestionId(1),
                text: "which?".into(),
                confirm: false,
            },
        ];
        for question in answered {
            bodies.push(said());
            let (question_id, message) = (QuestionId(*question), Seq(bodies.len() as u64));
            bodies.push(EventBody::TurnAnswered { turn_id, question_id, message });
        }
        let mut checker = Checker::new();
        for (body, seq) in bodies.into_iter().zip(1..) {
            checker.observe(&Event { seq: Seq(seq), at: 0, body });
        }
        checker.violations().iter().map(|found| found.invariant).collect()
    }

    #[test]
    fn an_answer_is_one_to_the_open_question() {
        assert_eq!(found(&[1]), [""; 0]);
        assert_eq!(found(&[2]), ["I18"]);
        assert_eq!(found(&[1, 1]), ["I18"]);
    }
}
