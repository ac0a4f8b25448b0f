//! Messages on their way: each under an id of its own, one after the other within a session, sent
//! again when the server is back.

use serde_json::json;

use super::operators::{Way, heard_as};
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

/// As whom something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voice {
    /// As the user.
    User,
    /// In the agent's place.
    Operator,
    /// As a command to the gateway, whoever has the agent's place.
    Command,
}

/// A message that does not stand in the conversation yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unsent {
    pub(super) id: String,
    pub(super) session: String,
    pub(super) text: String,
    /// What was asked when it was typed: it answers this and nothing else.
    asked: Option<Waiting>,
    /// The question that the server is to take it as the answer to. What is said behind an answer
    /// is none.
    answers: Option<u64>,
    /// As whom it was typed.
    voice: Voice,
    /// It was found out for a session that isn't shown that this still holds.
    cleared: bool,
    /// The server may have it: from then on it goes the same way each time.
    tried: bool,
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

    /// Whether nobody said yet that the server has it.
    pub(super) const fn is_open(&self) -> bool {
        !matches!(self.state, State::Accepted(_))
    }

    /// Whether the server may have it.
    pub(super) const fn was_tried(&self) -> bool {
        self.tried
    }
}

impl App {
    /// Sends a text to the session that is shown; where there is none, one is begun for it.
    pub(super) fn send_text(&mut self, text: String) {
        self.speak(text, self.voice());
    }

    /// Sends it as what it is.
    pub(super) fn speak(&mut self, text: String, voice: Voice) {
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
        let question = asked.as_ref().and_then(|asked| asked.question_id);
        let known = |other: &Unsent| other.session == session && other.answers == question;
        let answers = question.filter(|_| voice == Voice::User && !self.unsent.iter().any(known));
        let state = State::Waits(0);
        let (cleared, tried) = (false, false);
        let unsent = Unsent { id, session, text, asked, answers, voice, cleared, tried, state };
        self.unsent.push(unsent);
    }

    /// A session stands that texts were waiting for.
    pub(super) fn address_unsent(&mut self, session: &str) {
        for unsent in self.unsent.iter_mut().filter(|unsent| unsent.session.is_empty()) {
            session.clone_into(&mut unsent.session);
        }
    }

    /// No session could be begun: what was to be said there goes back into the input.
    pub(super) fn return_unaddressed(&mut self, words: &str) {
        let lost = self.unsent.extract_if(.., |unsent| unsent.session.is_empty());
        let texts: Vec<String> = lost.map(|unsent| unsent.text).collect();
        if texts.is_empty() {
            self.complain(words);
        } else {
            self.give_back("", texts, words);
        }
    }

    /// These sessions are gone, and with them whom messages were for. What is on its way right now is
    /// told of when its answer comes.
    pub(super) fn give_up_unsent(&mut self, gone: &[String]) {
        let waits = |unsent: &mut Unsent| {
            gone.contains(&unsent.session) && !matches!(unsent.state, State::Sent)
        };
        let lost = self.unsent.extract_if(.., waits).filter(Unsent::is_open);
        let lost: Vec<String> = lost.map(|unsent| unsent.text).collect();
        if !lost.is_empty() {
            let words = lost.join(" / ");
            self.complain(format!(
                "the session was closed before this was sent: {words} (Up brings it back)"
            ));
            self.strays.extend(lost);
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
        let ready: Vec<String> =
            ready.into_iter().map(|index: usize| self.unsent[index].id.clone()).collect();
        for id in ready {
            self.send_one(&id);
        }
    }

    /// Sends a message, if that is still what it was typed for.
    fn send_one(&mut self, id: &str) {
        let Some(at) = self.unsent.iter().position(|unsent| unsent.id == id) else { return };
        let Unsent { id, session, text, answers, voice, cleared, tried, .. } =
            self.unsent[at].clone();
        if !tried && !cleared && voice != Voice::Command {
            match self.way_of(&session, voice) {
                Way::Goes => {}
                Way::Unknown => return self.ask_operator(session),
                Way::Back(why) => return self.take_back(at, &why),
            }
        }
        let (path, body) = match voice {
            // In the agent's place a person answers the user; else what is typed is the user's.
            Voice::Operator => {
                (session_path(&session, "/reply"), json!({ "text": text, "id": id }))
            }
            Voice::User | Voice::Command => {
                let mut body = json!({ "session": session, "message": text, "id": id });
                if let Some(question) = answers {
                    body["question_id"] = question.into();
                }
                ("/v1/chat".to_owned(), body)
            }
        };
        self.unsent[at].state = State::Sent;
        self.unsent[at].tried = true;
        self.send(Pending::Message { id }, Method::Post, path, Some(body));
    }

    /// It is known by now who has the agent's place in a session, and what waits for that goes out;
    /// or back, from the first one on that was typed as somebody else.
    pub(super) fn clear_unsent(&mut self, session: &str, operator: Option<String>) {
        let waits = |unsent: &Unsent| {
            unsent.session == session && !unsent.tried && matches!(unsent.state, State::Waits(_))
        };
        let mut back = None;
        for (at, unsent) in self.unsent.iter_mut().enumerate().filter(|(_, one)| waits(one)) {
            match heard_as(unsent.voice, operator.as_deref()) {
                Way::Back(why) => {
                    back = Some((at, why));
                    break;
                }
                _ => unsent.cleared = true,
            }
        }
        if let Some((at, why)) = back {
            self.take_back(at, &why);
        }
    }

    /// It could not be found out who has the agent's place there; it is tried again then.
    pub(super) fn delay_unsent(&mut self, session: &str, until: i64) {
        for unsent in self.unsent.iter_mut().filter(|unsent| unsent.session == session) {
            if matches!(unsent.state, State::Waits(_)) && !unsent.tried {
                unsent.state = State::Waits(until);
            }
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

    /// The server is back: nothing has to wait longer.
    pub(super) fn retry_unsent(&mut self) {
        for unsent in &mut self.unsent {
            if matches!(unsent.state, State::Waits(_)) {
                unsent.state = State::Waits(0);
                unsent.cleared = false;
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
        // Sent once more, it would open a session again that somebody closed meanwhile.
        let stands = self.board.by_session(&self.unsent[at].session).is_some();
        if passes(&failure) && !too_much && stands {
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
        let texts: Vec<String> = behind.map(|unsent| unsent.text).collect();
        let words = if self.shown_session() == Some(session.as_str()) {
            format!("not sent: {why}")
        } else {
            format!("not sent to {}: {why}", self.name_of(&session))
        };
        self.give_back(&session, texts, &words);
    }
}
