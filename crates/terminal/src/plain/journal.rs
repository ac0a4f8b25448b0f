//! What the entries of a session's journal mean line by line.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Do, For, Plain, post, told};
use crate::ports::SseEvent;
use crate::text::{one_line, segment};

impl Plain {
    /// Something happened in the session.
    pub(super) fn happened(&mut self, event: &SseEvent) -> Vec<Do> {
        // Drafts and the like have no place in the journal; whole messages follow.
        let Ok(data) = serde_json::from_str::<Value>(&event.data) else { return Vec::new() };
        let text = |field: &str| data[field].as_str().unwrap_or_default();
        let seq = data["seq"].as_u64().unwrap_or(0);
        self.missed_to = self.missed_to.filter(|last| seq < *last);
        match event.event.as_str() {
            "turn.completed" | "turn.cancelled" | "turn.failed" => self.turn_told(None),
            "turn.superseded" => {}
            kind if kind.starts_with("turn.") => self.turn_told(data["turn_id"].as_str()),
            "session.paused" | "session.handed_back" | "session.closed" => self.place_told(seq),
            _ => {}
        }
        match event.event.as_str() {
            "message.accepted" | "message.command" | "message.context" => self.said(event, &data),
            "turn.waiting_for_input" => {
                self.asked = true;
                self.question = data["question_id"].as_u64();
                vec![Do::Say(told("question", text("text")))]
            }
            "turn.answered" => {
                self.asked = false;
                self.question = None;
                Vec::new()
            }
            "turn.waiting_for_operator" => {
                vec![Do::Note("a person has the agent's place, and will answer".into())]
            }
            "turn.completed" | "turn.cancelled" | "turn.failed" => self.turn_ended(event, &data),
            "message.cancelled" | "message.expired" | "message.discarded" | "guard.refused" => {
                self.given_up(&event.event, &data)
            }
            "session.notice" => {
                if let Some(of) = data["of"].as_u64() {
                    self.open.remove(&of);
                }
                let who =
                    if text("source") == "operator" { operator(&data) } else { "notice".into() };
                let mut todo = vec![Do::Say(told(&who, text("text")))];
                todo.extend(self.read_to(&data));
                todo
            }
            "session.paused" => {
                vec![self.paused(&format!("{} takes the agent's place", one_line(text("by"))))]
            }
            "session.handed_back" => vec![Do::Note("the agent has its place again".into())],
            "session.closed" => vec![Do::Note("this session was closed".into())],
            "session.reset" => vec![Do::Note("a new conversation begins here".into())],
            "reset" => vec![Do::Note("the history is not what it was; going on from here".into())],
            _ => Vec::new(),
        }
    }

    /// Somebody said something; what was said here is known already.
    fn said(&mut self, event: &SseEvent, data: &Value) -> Vec<Do> {
        let ours = data["message_id"].as_str().is_some_and(|id| self.unseen.remove(id));
        if !ours {
            let text = data["text"].as_str().unwrap_or_default();
            let sender = data["sender"].as_str().unwrap_or("somebody");
            let user = self.here.as_ref().and_then(|here| here.user.as_deref());
            let who = if user == Some(sender) { "user" } else { sender };
            return vec![Do::Say(told(who, text))];
        }
        if event.event != "message.context" {
            self.open.extend(data["seq"].as_u64());
        }
        // It is the answer; where it can't be one, the question is asked once more.
        self.asked = false;
        Vec::new()
    }

    fn turn_ended(&mut self, event: &SseEvent, data: &Value) -> Vec<Do> {
        self.asked = false;
        self.question = None;
        let ours = self.settle(&places(data));
        let reply = data["reply"].as_str().filter(|reply| !reply.trim().is_empty());
        let who = if data["by"].is_string() { operator(data) } else { "agent".to_owned() };
        let mut todo: Vec<Do> = reply.map(|reply| Do::Say(told(&who, reply))).into_iter().collect();
        match event.event.as_str() {
            "turn.failed" => {
                self.failed |= ours;
                let why = one_line(data["error"].as_str().unwrap_or_default());
                todo.push(Do::Note(format!("the turn failed: {why}; see `turnkeep deadletters`")));
            }
            "turn.cancelled" => {
                self.failed |= ours;
                let why = one_line(data["reason"].as_str().unwrap_or_default());
                todo.push(Do::Note(format!("the turn ended early: {why}")));
            }
            _ if reply.is_none() => todo.push(Do::Note("the agent chose to say nothing".into())),
            _ => {}
        }
        todo.extend(self.read_to(data));
        todo
    }

    fn given_up(&mut self, kind: &str, data: &Value) -> Vec<Do> {
        if !self.settle(&places(data)) {
            return Vec::new();
        }
        self.failed = true;
        let how = kind.rsplit('.').next().unwrap_or_default();
        vec![Do::Note(format!("a message was not answered: {how}"))]
    }

    /// Whether one of these was said here and not settled yet.
    fn settle(&mut self, places: &BTreeSet<u64>) -> bool {
        let before = self.open.len();
        self.open.retain(|place| !places.contains(place));
        self.open.len() < before
    }

    /// What was written out has been read.
    fn read_to(&mut self, data: &Value) -> Option<Do> {
        let here = self.here.as_ref()?;
        let path = format!("/v1/switchboard/{}/read", segment(&here.key));
        let seq = data["seq"].as_u64()?;
        Some(self.ask(For::Read, post(path, json!({ "seq": seq }))))
    }
}

/// The messages that an entry is about.
fn places(data: &Value) -> BTreeSet<u64> {
    let many = data["messages"].as_array().into_iter().flatten();
    many.chain([&data["message"]]).filter_map(Value::as_u64).collect()
}

fn operator(data: &Value) -> String {
    format!("operator {}", one_line(data["by"].as_str().unwrap_or_default()))
}
