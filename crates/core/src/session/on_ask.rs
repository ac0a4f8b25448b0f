//! What a run asks the user, and what it hears of an answer that came while no run was there.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{AgentAnswer, Effect, Machine, Stage, Turn};
use crate::ids::{QuestionId, Seq, Token};
use crate::journal::EventBody;
use crate::planted::{Planted, planted};
use crate::tool::Denied;

/// A question of the turn that was answered while no run of it was there: whoever asks the same once
/// more has its answer already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Which question.
    pub question: QuestionId,
    /// The message that answered it.
    pub message: Seq,
}

impl Turn {
    /// Why it may ask the user nothing.
    fn asks_nobody(&self) -> Option<Denied> {
        match (self.stopping, self.is_finishing()) {
            (true, _) => Some(Denied::Stopping),
            (_, true) => Some(Denied::Finishing),
            _ => None,
        }
    }
}

impl Machine<'_> {
    pub(super) fn on_ask(&mut self, token: Token, text: &Arc<str>, confirm: bool) {
        if self.is_paused() && self.session.turn.as_ref().is_some_and(|turn| !turn.stopping) {
            return self.ask_in_vain(token);
        }
        let Some(turn) = &self.session.turn else { return };
        if let Some(denied) = turn.asks_nobody() {
            return self.effect(Effect::AgentAnswer(token, AgentAnswer::NotAllowed(denied)));
        }
        if confirm && !planted(Planted::ConfirmedBefore) {
            // What is held was said before, too, and would answer once it is let go.
            if !self.session.held.is_empty() || self.has_mail_to_read() {
                return self.effect(Effect::AgentAnswer(token, AgentAnswer::MailFirst));
            }
            self.leave_mail_to_the_next();
        }
        self.session.last_question = self.session.last_question.next();
        let question_id = self.session.last_question;
        let deadline = self.deadline(self.context.policy.input_ms);
        let Some(turn) = &mut self.session.turn else { return };
        (turn.query, turn.answered) = (None, None);
        turn.stage = Stage::Waiting { question: question_id, deadline, live: true };
        let turn_id = turn.id;
        let asked = Arc::clone(text);
        let asked = EventBody::TurnWaitingForInput { turn_id, question_id, text: asked, confirm };
        let seq = self.journal(asked);
        self.put_turn_row();
        self.effect(Effect::Typing(false));
        self.effect(Effect::AgentAnswer(token, AgentAnswer::Asked(question_id)));
        self.send_reply(seq, text);
        self.answer_from_mailbox();
        self.tell_notices();
    }

    /// Mail that the turn has no room for confirms nothing either; the next turn has it.
    fn leave_mail_to_the_next(&mut self) {
        let Some(turn) = &mut self.session.turn else { return };
        let mailbox = std::mem::take(&mut turn.mailbox);
        self.requeue(mailbox.into_iter());
    }

    /// It needs a person, and one is there: the operator.
    fn ask_in_vain(&mut self, token: Token) {
        self.effect(Effect::AgentAnswer(token, AgentAnswer::Revoked));
        self.lay_down(None);
    }

    /// Mail that came before the question was asked is what the user had to say: it answers.
    fn answer_from_mailbox(&mut self) {
        let Some(turn) = &mut self.session.turn else { return };
        if turn.mailbox.is_empty() {
            return;
        }
        let Stage::Waiting { question, .. } = turn.stage else { return };
        let (tag, turn_id) = (turn.tag(), turn.id);
        turn.stage = Stage::Processing;
        let first = turn.mailbox.remove(0);
        turn.messages.push(first.clone());
        turn.absorbed += 1;
        turn.given = u32::try_from(turn.messages.len()).unwrap_or(u32::MAX);
        let message = first.seq;
        self.journal(EventBody::TurnAnswered { turn_id, question_id: question, message });
        self.put_turn_row();
        self.effect(Effect::Typing(true));
        self.effect(Effect::AnswerRun(tag, question, Box::new(first)));
    }

    /// The run asks word for word what was asked before it, so the user need not be: the answer is
    /// theirs, unless anything was said since. Else it has to be asked anew.
    pub(super) fn on_ask_again(&mut self, token: Token, question: QuestionId) {
        let said_since = !self.session.held.is_empty() || self.has_mail_to_read();
        let paused = self.is_paused();
        let Some(turn) = &mut self.session.turn else { return };
        let answered = turn.answered.take_if(|answered| answered.question == question);
        let last = turn.messages.last();
        let answer =
            answered.and_then(|answered| last.filter(|last| last.seq == answered.message).cloned());
        let may_ask = turn.asks_nobody().is_none() && !paused && !said_since;
        let tag = turn.tag();
        if answered.is_some() {
            self.changed();
        }
        let Some(answer) = answer.filter(|_| may_ask) else {
            return self.effect(Effect::AgentAnswer(token, AgentAnswer::Refused));
        };
        self.effect(Effect::AgentAnswer(token, AgentAnswer::Asked(question)));
        self.effect(Effect::AnswerRun(tag, question, Box::new(answer)));
    }
}
