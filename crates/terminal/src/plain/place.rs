//! Which session is talked in, as whom, and how that changes.

use serde_json::{Value, json};

use super::{Do, FAILED, For, MISSED_MAX, Plain, get, label, post};
use crate::follow::passes;
use crate::ports::{Answer, Failure, Request};
use crate::text::{one_line, segment};

/// Lines that come within so many ticks may have been typed before it was told that their session
/// could not be gone to.
const ASTRAY_TICKS: u32 = 2;

/// The session that is talked in.
#[derive(Clone, Debug)]
pub(super) struct Here {
    pub(super) key: String,
    pub(super) path: String,
    /// What people call it.
    pub(super) label: String,
    /// Whose words they are, in a session that was begun in a terminal; its user has no other name.
    pub(super) user: Option<String>,
    /// Whether it is known who has the agent's place.
    known: bool,
    /// The last place of the journal that said something about it.
    told_at: u64,
    /// What is typed is said in the agent's place.
    pub(super) as_operator: bool,
    /// The turn that is open, as far as anybody told.
    turn: Option<String>,
    /// The journal told of turns since one is here.
    turn_told: bool,
}

impl Here {
    /// Stops the turn that is open, and no other one that may be open by the time this arrives.
    pub(super) fn stop(&self) -> Request {
        let turn = self.turn.as_ref().map(|turn| json!({ "turn_id": turn }));
        post(format!("{}/stop", self.path), turn.unwrap_or_else(|| json!({})))
    }
}

impl Plain {
    /// What is asked first.
    pub(crate) fn begin(&mut self) -> Vec<Do> {
        let seat = json!({ "seat": self.options.seat });
        match self.options.session.clone() {
            Some(which) => {
                let path = format!("/v1/switchboard/{}/switch", segment(&which));
                vec![self.ask(For::Open, post(path, seat))]
            }
            None => {
                let seat = segment(&self.options.seat);
                let path = format!("/v1/switchboard?limit=1&seat={seat}");
                vec![self.ask(For::Active, get(path))]
            }
        }
    }

    /// Whether the next line has a place to go to: nobody is on the way to another session, and it
    /// is known as whom one speaks in this one.
    pub(super) fn is_settled(&self) -> bool {
        let moves = |asked_for: &For| matches!(asked_for, For::Active | For::Open | For::Close);
        let known = self.here.as_ref().is_none_or(|here| here.known);
        known && !self.requests.iter().any(|(_, asked_for)| moves(asked_for))
    }

    /// The seat shows one already, or gets a new one.
    pub(super) fn open_active(&mut self, board: &Value) -> Vec<Do> {
        let seat = json!({ "seat": self.options.seat });
        let request = match board["active"].as_u64() {
            Some(number) => post(format!("/v1/switchboard/{number}/switch"), seat),
            None => post("/v1/switchboard".into(), seat),
        };
        vec![self.ask(For::Open, request)]
    }

    /// From now on this session is talked in.
    pub(super) fn open(&mut self, row: &Value) -> Vec<Do> {
        let Some(key) = row["session"].as_str() else {
            return self.give_up(&Failure::Strange("a session without a key".into()));
        };
        let label = label(row);
        let ours = row["channel"].as_str() == Some("terminal");
        let state = row["state"].as_str().unwrap_or("unknown").replace('_', " ");
        let mut todo = vec![Do::Note(format!("session {label}: {}", one_line(&state)))];
        self.here = Some(Here {
            key: key.to_owned(),
            path: format!("/v1/sessions/{}", segment(key)),
            label,
            user: row["customer_id"].as_str().filter(|_| ours).map(str::to_owned),
            known: false,
            told_at: 0,
            as_operator: false,
            turn: None,
            turn_told: false,
        });
        self.began = true;
        self.astray = 0;
        self.open.clear();
        self.unseen.clear();
        let waits = row["waiting"]["text"].as_str().filter(|_| !row["waiting"].is_null());
        let kind = row["waiting"]["kind"].as_str();
        self.asked = matches!(kind, Some("question" | "approval"));
        self.question = row["waiting"]["question_id"].as_u64().filter(|_| self.asked);
        if let Some(text) = waits {
            todo.push(Do::Note(format!("it waits for you: {}", one_line(text))));
        }
        let place = |field: &str| row[field].as_u64().unwrap_or(0);
        let after = place("read_seq").max(place("last_seq").saturating_sub(MISSED_MAX));
        self.missed_to = Some(place("last_seq")).filter(|last| *last > after);
        todo.push(Do::Follow(key.to_owned(), after));
        todo.extend(self.ask_standing());
        todo
    }

    /// The last session was closed, and there is no other one.
    pub(super) fn leave_place(&mut self) {
        self.here = None;
        self.asked = false;
        self.question = None;
        self.missed_to = None;
        self.open.clear();
        self.unseen.clear();
    }

    /// Asks who has the agent's place, unless that is known: the pause may be older than what is
    /// read of the journal.
    pub(super) fn ask_standing(&mut self) -> Option<Do> {
        let here = self.here.as_ref().filter(|here| !here.known)?;
        let (path, of) = (here.path.clone(), For::Standing(here.key.clone()));
        let asks = self.requests.iter().any(|(_, asked_for)| *asked_for == of);
        (!asks).then(|| self.ask(of, get(path)))
    }

    /// How the session stands; nobody has written there where it isn't found.
    pub(super) fn stands(&mut self, key: &str, result: Result<Answer, Failure>) -> Vec<Do> {
        // It may have been asked before another session was gone to.
        let here = self.here.as_mut().filter(|here| here.key == key);
        let Some(here) = here else { return Vec::new() };
        let body = match result {
            Ok(answer) => answer.body,
            Err(failure) if passes(&failure) => return Vec::new(),
            Err(_) => Value::Null,
        };
        here.known = true;
        if !here.turn_told {
            here.turn = body["open_turn_id"].as_str().map(str::to_owned);
        }
        // What the journal told meanwhile is the newer word.
        if body["last_seq"].as_u64().unwrap_or(0) < here.told_at {
            return Vec::new();
        }
        match body["paused"]["by"].as_str() {
            Some(by) => vec![self.paused(&format!("{} has the agent's place", one_line(by)))],
            None => {
                here.as_operator = false;
                Vec::new()
            }
        }
    }

    /// Somebody has the agent's place. Who types answers there; what a pipe says is the user's.
    pub(super) fn paused(&mut self, what: &str) -> Do {
        let interactive = self.options.interactive;
        let Some(here) = &mut self.here else { return Do::Note(what.to_owned()) };
        here.as_operator = interactive;
        Do::Note(if interactive {
            format!("{what}: what you type here is said in the agent's place, as an operator")
        } else {
            let key = &here.key;
            format!("{what}, and answers; `turnkeep sessions reply '{key}' TEXT` does that")
        })
    }

    /// The journal says who has the agent's place.
    pub(super) fn place_told(&mut self, seq: u64) {
        if let Some(here) = &mut self.here {
            here.told_at = here.told_at.max(seq);
            here.as_operator = false;
        }
    }

    /// The journal says which turn is open.
    pub(super) fn turn_told(&mut self, open: Option<&str>) {
        if let Some(here) = &mut self.here {
            here.turn_told = true;
            here.turn = open.map(str::to_owned);
        }
    }

    /// What was asked for by a command could not be done.
    pub(super) fn command_failed(&mut self, asked_for: &For, failure: &Failure) -> Vec<Do> {
        self.failed = true;
        let mut todo = vec![Do::Note(one_line(&failure.to_string()))];
        if matches!(asked_for, For::Open | For::Close) {
            // What was written behind it was meant for another session than this one.
            if !self.options.interactive {
                self.left = true;
                todo.push(Do::Note("given up: the next lines are for another session".into()));
                todo.push(Do::Leave(FAILED));
            }
            self.astray = ASTRAY_TICKS;
        }
        todo
    }
}
