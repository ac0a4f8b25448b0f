//! Messages on their way: each belongs to the session and to the side for which it was typed, and
//! goes out again under its id until somebody says what became of it.

use serde_json::json;

use super::place::Here;
use super::{Do, For, Plain, post, told};
use crate::follow::passes;
use crate::ports::{Answer, Failure, Request};
use crate::text::one_line;

/// A message that is on its way.
#[derive(Clone, Debug)]
pub(super) struct Message {
    id: String,
    text: String,
    /// The question that it answers, or is not taken: a yes to one thing is none to another.
    answers: Option<u64>,
    /// The session in which it was typed, wherever one talks by now.
    to: Here,
}

impl Message {
    /// Who has the agent's place speaks as an operator; everybody else is the user.
    fn request(&self) -> Request {
        let Self { id, text, answers, to } = self;
        if to.as_operator {
            return post(format!("{}/reply", to.path), json!({ "text": text, "id": id }));
        }
        let mut body = json!({ "session": to.key, "message": text, "id": id });
        if let Some(question) = answers {
            body["question_id"] = (*question).into();
        }
        post("/v1/chat".into(), body)
    }
}

impl Plain {
    pub(super) fn message(&mut self, text: String) -> Vec<Do> {
        let Some(to) = self.here.clone() else {
            self.failed = true;
            return vec![Do::Note("not sent: there is no session; /new begins one".into())];
        };
        if self.astray > 0 {
            let label = &to.label;
            return vec![Do::Note(format!(
                "not sent: it may have been meant for another session; you are in session \
                 {label}, and the same line again says it there"
            ))];
        }
        self.messages_said += 1;
        let id = format!("{}-{}", self.options.nonce, self.messages_said);
        let mut todo = Vec::new();
        if !self.options.interactive {
            todo.push(Do::Say(told("you", &text)));
        }
        // What is said behind an answer is no answer.
        let answers = self.question.take();
        self.pending.push_back(Message { id, text, answers, to });
        todo.extend(self.send_next());
        todo
    }

    /// Sends the message that is first in line, unless one is on its way.
    pub(super) fn send_next(&mut self) -> Option<Do> {
        if self.sending {
            return None;
        }
        let message = self.pending.front()?;
        let request = message.request();
        // What is said elsewhere does not come by here, and a reply is no message to the agent.
        let comes_by = self.is_here(&message.to) && !message.to.as_operator;
        if comes_by {
            self.unseen.insert(message.id.clone());
        }
        self.sending = true;
        Some(self.ask(For::Message, request))
    }

    fn is_here(&self, place: &Here) -> bool {
        self.here.as_ref().is_some_and(|here| here.key == place.key)
    }

    pub(super) fn message_answered(&mut self, result: Result<Answer, Failure>) -> Vec<Do> {
        self.sending = false;
        let failure = match result {
            Ok(_) => {
                self.pending.pop_front();
                return self.send_next().into_iter().collect();
            }
            Err(failure) => failure,
        };
        if passes(&failure) && !is_answer(&failure) {
            // The same message goes out again under the same id, so that it is taken once.
            return self.lost(&failure.to_string());
        }
        let mut why = one_line(&failure.to_string());
        if let Some(message) = self.pending.pop_front() {
            self.unseen.remove(&message.id);
            if self.asked && !is_over(&failure) && self.is_here(&message.to) {
                self.question = self.question.or(message.answers);
            }
            if !self.is_here(&message.to) {
                why = format!("in session {}: {why}", message.to.label);
            }
        }
        self.failed = true;
        let mut todo = vec![Do::Note(format!("not taken: {why}"))];
        todo.extend(self.send_next());
        todo
    }
}

/// The question was answered by somebody else, or nobody waits for an answer any more.
fn is_over(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused { kind, .. } if kind == "question-not-open")
}

/// A refusal that says no to this message, though others may be taken in a moment.
fn is_answer(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused { status: 429, .. })
}
