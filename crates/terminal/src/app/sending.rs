//! Messages on their way: each under an id of its own, one after the other within a session, sent
//! again when the server is back.

use serde_json::json;

use super::{App, Pending, session_path};
use crate::board::Waiting;
use crate::follow::passes;
use crate::ports::{Answer, Failure, Link, Method};

/// More messages than this don't wait for a server.
const UNSENT_MAX: usize = 200;

/// How long after a failure a message is tried again, while the server can be reached.
const RETRY_MS: i64 = 2_000;

/// How long a message that the server has is shown before its event came.
const ECHO_MS: i64 = 15_000;

/// A message that does not stand in the conversation yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unsent {
    pub(super) id: String,
    pub(super) session: String,
    pub(super) text: String,
    /// What was asked when it was typed: it answers this and nothing else.
    asked: Option<Waiting>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be sent, not before this moment.
    Waits(i64),
    /// The request is on its way.
    Sent,
    /// The server has it; its event is to come until this moment.
    Accepted(i64),
}

impl Unsent {
    pub(super) const fn word(&self, online: bool) -> &'static str {
        match self.state {
            State::Waits(0) if online => "next…",
            State::Waits(_) => "not sent yet",
            State::Sent | State::Accepted(_) => "sending…",
        }
    }
}

impl App {
    /// Sends a text to the session that is shown; where there is none, one is begun for it.
    pub(super) fn send_text(&mut self, text: String) {
        if self.unsent.len() >= UNSENT_MAX {
            self.complain("too many messages wait for the server; this one stays in the input");
            self.editor_mut().set(&text);
            return;
        }
        self.messages += 1;
        let id = format!("{}-{}", self.options.nonce, self.messages);
        let session = self.shown_session().unwrap_or_default().to_owned();
        if session.is_empty() && !self.pending.values().any(|one| *one == Pending::Create) {
            self.create(None, None);
        }
        if let Some(talk) = self.conversations.front_mut() {
            talk.paper.show_end();
        }
        let asked = self.board.asked_in(&session).cloned();
        self.unsent.push(Unsent { id, session, text, asked, state: State::Waits(0) });
    }

    /// A session stands that texts were waiting for.
    pub(super) fn address_unsent(&mut self, session: &str) {
        for unsent in self.unsent.iter_mut().filter(|unsent| unsent.session.is_empty()) {
            session.clone_into(&mut unsent.session);
        }
    }

    /// No session could be begun: what was to be its first message goes back into the input.
    pub(super) fn return_unaddressed(&mut self) {
        let lost: Vec<_> = self.unsent.extract_if(.., |unsent| unsent.session.is_empty()).collect();
        if let Some(first) = lost.first()
            && self.editor_mut().is_empty()
        {
            self.editor_mut().set(&first.text);
        }
    }

    /// These sessions are gone, and with them whom messages were for.
    pub(super) fn give_up_unsent(&mut self, gone: &[String]) {
        let lost = self.unsent.extract_if(.., |unsent| gone.contains(&unsent.session));
        let lost: Vec<String> = lost
            .filter(|unsent| matches!(unsent.state, State::Waits(_)))
            .map(|unsent| unsent.text)
            .collect();
        if !lost.is_empty() {
            self.complain(format!(
                "the session was closed before this was sent: {}",
                lost.join(" / ")
            ));
        }
    }

    /// Sends what is next in each session.
    pub(super) fn send_next(&mut self) {
        let now = self.now;
        self.unsent
            .retain(|unsent| !matches!(unsent.state, State::Accepted(until) if until <= now));
        if self.link != Link::Up {
            return;
        }
        self.return_late_answers();
        let mut ready = Vec::new();
        for (index, unsent) in self.unsent.iter().enumerate() {
            let before = &self.unsent[..index];
            let blocks = |other: &Unsent| {
                other.session == unsent.session && !matches!(other.state, State::Accepted(_))
            };
            let doubtful = unsent.asked.is_some() && now < self.doubtful_until;
            let due = matches!(unsent.state, State::Waits(at) if at <= now) && !doubtful;
            if due && !unsent.session.is_empty() && !before.iter().any(blocks) {
                ready.push(index);
            }
        }
        for index in ready {
            self.unsent[index].state = State::Sent;
            let Unsent { id, session, text, .. } = self.unsent[index].clone();
            let (path, body) = self.request_of(&id, &session, &text);
            self.send(Pending::Message { id }, Method::Post, path, Some(body));
        }
    }

    /// What was typed for one question goes back into the input where another one is open now: a
    /// yes to one thing is no yes to another.
    fn return_late_answers(&mut self) {
        if self.now < self.doubtful_until {
            return;
        }
        let board = &self.board;
        let late = |unsent: &Unsent| {
            let other =
                |asked| board.asked_in(&unsent.session).is_some_and(|open| !open.is_same(asked));
            matches!(unsent.state, State::Waits(_)) && unsent.asked.as_ref().is_some_and(other)
        };
        if let Some(at) = self.unsent.iter().position(late) {
            self.take_back(at, "another question is open by now");
        }
    }

    /// In the agent's place a person answers the user; else what is typed is the user's.
    fn request_of(&self, id: &str, session: &str, text: &str) -> (String, serde_json::Value) {
        let talk = self.conversations.iter().find(|talk| talk.session == session);
        if talk.is_some_and(|talk| talk.operator.is_some()) {
            return (session_path(session, "/reply"), json!({ "text": text, "id": id }));
        }
        ("/v1/chat".to_owned(), json!({ "session": session, "message": text, "id": id }))
    }

    /// The server is back: nothing has to wait longer.
    pub(super) fn retry_unsent(&mut self) {
        for unsent in &mut self.unsent {
            if matches!(unsent.state, State::Waits(_)) {
                unsent.state = State::Waits(0);
            }
        }
    }

    pub(super) fn on_sent(&mut self, id: &str, result: Result<Answer, Failure>) {
        let Some(at) = self.unsent.iter().position(|unsent| unsent.id == id) else { return };
        let failure = match result {
            Ok(_) => {
                if self.shown_session() == Some(self.unsent[at].session.as_str()) {
                    self.unsent[at].state = State::Accepted(self.now.saturating_add(ECHO_MS));
                } else {
                    self.unsent.remove(at);
                }
                return;
            }
            Err(failure) => failure,
        };
        // That there is too much already is an answer to this very message.
        let too_much = matches!(failure, Failure::Refused { status: 429, .. });
        if passes(&failure) && !too_much {
            self.unsent[at].state = State::Waits(self.now.saturating_add(RETRY_MS));
            if matches!(failure, Failure::Refused { .. }) {
                self.complain(format!("not sent yet: {failure}"));
            }
            return;
        }
        self.take_back(at, &failure.to_string());
    }

    /// Takes a text back, and those that wait behind it, which must not overtake it: into the input
    /// where nothing else stands there; else it is quoted.
    fn take_back(&mut self, at: usize, why: &str) {
        let session = self.unsent[at].session.clone();
        let behind = self.unsent.extract_if(at.., |unsent| unsent.session == session);
        let text = behind.map(|unsent| unsent.text).collect::<Vec<_>>().join("\n");
        let editor = self.editors.entry(session).or_default();
        if editor.is_empty() {
            editor.set(&text);
            self.complain(format!("not sent: {why}"));
        } else {
            self.complain(format!("not sent: {why}: {text}"));
        }
    }
}
