//! Who speaks: the user, or a person in the agent's place. A conversation is read from near its end,
//! so who has the agent's place is asked; and what was typed as the one is never sent as the other.

use super::sending::Voice;
use super::{App, Pending, session_path};
use crate::conversation::Conversation;
use crate::follow::passes;
use crate::ports::{Answer, Failure, Link, Method};

/// How long after a failure it is asked again.
const RETRY_MS: i64 = 2_000;

/// What becomes of a message whose turn it is.
pub(super) enum Way {
    /// It is sent.
    Goes,
    /// It is not known yet whether it is sent as what it was typed for.
    Unknown,
    /// It was typed for something else.
    Back(String),
}

impl App {
    /// As whom one writes in the session that is shown, as far as the screen says.
    pub(super) fn voice(&self) -> Voice {
        let operator = self.talk().is_some_and(|talk| talk.operator.is_some());
        if operator { Voice::Operator } else { Voice::User }
    }

    /// Who has the agent's place in the session that is shown is asked where it isn't known.
    pub(super) fn settle_operator(&mut self) {
        let unknown = self.talk().filter(|talk| !talk.operator_known);
        if let Some(session) = unknown.map(|talk| talk.session.clone())
            && self.asks_operator_at <= self.now
        {
            self.ask_operator(session);
        }
    }

    pub(super) fn ask_operator(&mut self, session: String) {
        let asked =
            |one: &Pending| matches!(one, Pending::Operator { session: of } if *of == session);
        if self.link != Link::Up || self.pending.values().any(asked) {
            return;
        }
        let path = session_path(&session, "");
        self.send(Pending::Operator { session }, Method::Get, path, None);
    }

    pub(super) fn on_operator(&mut self, session: &str, result: Result<Answer, Failure>) {
        let failure = match result {
            Ok(answer) => {
                let by = answer.body["paused"]["by"].as_str().map(str::to_owned);
                let as_of = answer.body["last_seq"].as_u64().unwrap_or(0);
                self.with(session, |talk| talk.learn_operator(by.clone(), as_of));
                return self.clear_unsent(session, by);
            }
            Err(failure) => failure,
        };
        if passes(&failure) {
            self.asks_operator_at = self.now.saturating_add(RETRY_MS);
            return self.delay_unsent(session, self.asks_operator_at);
        }
        // Nobody wrote there yet, or that is all there is to know: what its entries tell counts.
        self.with(session, |talk| talk.operator_known = true);
        let by = self.kept(session).and_then(|talk| talk.operator.clone());
        self.clear_unsent(session, by);
    }

    /// What becomes of a message for this session that was typed so.
    pub(super) fn way_of(&self, session: &str, voice: Voice) -> Way {
        let known = self.talk().filter(|talk| talk.session == session && talk.operator_known);
        match known {
            Some(talk) => heard_as(voice, talk.operator.as_deref()),
            None => Way::Unknown,
        }
    }

    fn kept(&self, session: &str) -> Option<&Conversation> {
        self.conversations.iter().find(|talk| talk.session == session)
    }
}

/// Whether what was typed so is heard as that, with this operator in the agent's place.
pub(super) fn heard_as(voice: Voice, operator: Option<&str>) -> Way {
    match (voice, operator) {
        (Voice::User, Some(by)) => Way::Back(format!("{by} has the agent's place by now")),
        (Voice::Operator, None) => Way::Back("the agent has its place again".to_owned()),
        _ => Way::Goes,
    }
}
