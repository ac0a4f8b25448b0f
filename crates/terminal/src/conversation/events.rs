//! What the events of a session's stream change in its conversation.

use serde_json::Value;

use super::entry::{Entry, Kind, Standing};
use super::{Conversation, DRAFT_BYTES_MAX, Draft, STRETCH, Turn};
use crate::moment::moment;
use crate::ports::SseEvent;
use crate::text::one_line;

/// How much of a tool's input and of an agent's event is shown, in characters.
const GLANCE: usize = 200;

/// What an event asks of whoever shows the conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// The id of a message that stands in the journal now.
    pub(crate) accepted: Option<String>,
    /// The conversation is to be followed anew, from this place.
    pub(crate) follow_from: Option<u64>,
}

impl Conversation {
    /// Applies one event of the session's stream. What can't be read is passed over.
    pub(crate) fn apply(&mut self, event: &SseEvent) -> Told {
        let Ok(data) = serde_json::from_str::<Value>(&event.data) else { return Told::default() };
        match event.event.as_str() {
            "draft" => self.draft(&data, false),
            "draft.reset" => self.draft(&data, true),
            "typing" => self.typing = data["on"] == true,
            "reset" => return self.reset(&data),
            _ => return self.journal(&data),
        }
        Told::default()
    }

    fn draft(&mut self, data: &Value, anew: bool) {
        let turn = text(data, "turn_id");
        let attempt = data["attempt"].as_u64().unwrap_or(0);
        let more = text(data, "text");
        match &mut self.draft {
            Some(draft) if draft.turn == turn && attempt < draft.attempt => return,
            Some(draft)
                if !anew && !draft.stale && draft.turn == turn && draft.attempt == attempt =>
            {
                draft.text.push_str(&more);
            }
            _ => self.draft = Some(Draft { turn, attempt, text: more, stale: false }),
        }
        if let Some(draft) = &mut self.draft
            && draft.text.len() > 2 * DRAFT_BYTES_MAX
        {
            let from = draft.text.len() - DRAFT_BYTES_MAX;
            let line = draft.text.as_bytes()[from..].iter().position(|byte| *byte == b'\n');
            let mut from = from + line.map_or(0, |at| at + 1);
            while !draft.text.is_char_boundary(from) {
                from += 1;
            }
            draft.text.drain(..from);
        }
    }

    /// The journal is another one than it was, or its beginning was forgotten.
    fn reset(&mut self, data: &Value) -> Told {
        let last_seq = data["last_seq"].as_u64().unwrap_or(0);
        if let Some(first_seq) = data["first_seq"].as_u64() {
            self.clear(first_seq.saturating_sub(1));
            self.first_seq = first_seq;
            return Told::default();
        }
        let from = last_seq.saturating_sub(STRETCH);
        self.clear(from);
        self.awaited = last_seq;
        // At its beginning the stream goes on by itself.
        Told { follow_from: (last_seq > 0).then_some(from), accepted: None }
    }

    fn journal(&mut self, data: &Value) -> Told {
        let Some(seq) = data["seq"].as_u64() else { return Told::default() };
        if seq <= self.last_seq {
            return Told::default();
        }
        self.last_seq = seq;
        let kind = text(data, "type");
        let at = moment(&data["at"]).unwrap_or(0);
        match kind.split_once('.').map_or("", |(category, _)| category) {
            "message" | "guard" => return self.of_message(&kind, seq, at, data),
            "turn" => self.of_turn(&kind, seq, at, data),
            "session" | "history" => self.of_session(&kind, seq, at, data),
            "tool" => self.of_tool(&kind, seq, at, data),
            _ if kind == "agent.event" => {
                let (name, detail) = (text(data, "name"), text(data, "detail"));
                let words = if detail.is_empty() { name } else { format!("{name}: {detail}") };
                self.activity(data, &words);
            }
            _ => {}
        }
        Told::default()
    }

    fn of_message(&mut self, kind: &str, seq: u64, at: i64, data: &Value) -> Told {
        let standing = match kind {
            "message.accepted" | "message.command" | "message.context" => {
                // One that was held stands there already.
                if let Some(of) = data["of"].as_u64() {
                    self.stand(&[of], Standing::Taken);
                    return Told::default();
                }
                let queued = data["action"] == "queued";
                let standing = match (data["held"] == true, queued) {
                    (true, _) => Standing::Held,
                    (_, true) => Standing::Queued,
                    _ => Standing::Taken,
                };
                let kind = Kind::User { sender: text(data, "sender"), standing };
                self.add(Entry::new(seq, at, kind, &text(data, "text")));
                return Told { accepted: Some(text(data, "message_id")), follow_from: None };
            }
            "message.requeued" => Standing::Queued,
            "message.cancelled" | "message.discarded" => Standing::Cancelled,
            "message.expired" => Standing::Expired,
            "guard.allowed" => Standing::Taken,
            "guard.refused" => Standing::Withheld,
            _ => return Told::default(),
        };
        self.stand(&places(data), standing);
        Told::default()
    }

    fn of_turn(&mut self, kind: &str, seq: u64, at: i64, data: &Value) {
        let turn = text(data, "turn_id");
        match kind {
            "turn.started" | "turn.message_absorbed" | "turn.recovered" => {
                self.goes_on(&turn, data, "")
            }
            "turn.processing" => {
                let attempt = data["attempt"].as_u64().unwrap_or(1);
                let words = if attempt > 1 { format!("attempt {attempt}") } else { String::new() };
                if self.draft.as_ref().is_some_and(|draft| draft.attempt < attempt) {
                    self.draft = None;
                }
                self.goes_on(&turn, data, &words);
            }
            "turn.retrying" => {
                self.draft = None;
                let words = format!("failed ({}), tries again", text(data, "error"));
                self.activity(data, &words);
            }
            "turn.waiting_for_input" => {
                self.goes_on(&turn, data, "");
                self.draft = None;
                self.typing = false;
                let approval = data["confirm"] == true;
                let kind = Kind::Question { turn, approval, open: true };
                self.add(Entry::new(seq, at, kind, &text(data, "text")));
            }
            "turn.waiting_for_operator" => {
                self.close_questions(&turn);
                self.draft = None;
                self.typing = false;
                self.goes_on(&turn, data, "");
            }
            "turn.answered" => {
                self.close_questions(&turn);
                self.goes_on(&turn, data, "");
            }
            "turn.superseded" => {
                self.over(&turn);
                self.turn = Some(Turn { id: text(data, "by"), activity: String::new() });
            }
            _ => self.ends(kind, &turn, (seq, at), data),
        }
    }

    fn ends(&mut self, kind: &str, turn: &str, (seq, at): (u64, i64), data: &Value) {
        let reply = data["reply"].as_str();
        match kind {
            "turn.completed" => {
                self.stand(&places(data), Standing::Taken);
                let kind = match data["by"].as_str() {
                    Some(by) => Kind::Operator { by: by.to_owned() },
                    None => Kind::Agent,
                };
                match reply {
                    Some(reply) => self.conclude(Entry::new(seq, at, kind, reply), turn),
                    None => {
                        let words = "read, and chose not to reply";
                        self.conclude(Entry::new(seq, at, Kind::Divider, words), turn);
                    }
                }
            }
            "turn.cancelled" => {
                self.stand(&places(data), Standing::Cancelled);
                let kind = Kind::Ended { reason: text(data, "reason") };
                self.conclude(Entry::new(seq, at, kind, reply.unwrap_or("")), turn);
            }
            "turn.failed" => {
                self.stand(&places(data), Standing::Failed);
                let words = [text(data, "error"), text(data, "reason").replace('_', " ")];
                let words = words.iter().find(|words| !words.is_empty()).cloned();
                let words = words.unwrap_or_default();
                self.conclude(Entry::new(seq, at, Kind::Failure, &words), turn);
            }
            _ => {}
        }
    }

    fn of_session(&mut self, kind: &str, seq: u64, at: i64, data: &Value) {
        let by = text(data, "by");
        let words = match kind {
            "session.notice" => {
                let kind = if by.is_empty() { Kind::Notice } else { Kind::Operator { by } };
                self.add(Entry::new(seq, at, kind, &text(data, "text")));
                return;
            }
            "history.imported" => {
                let (at, said) = (moment(&data["said_at"]).unwrap_or(at), text(data, "text"));
                let kind = match data["role"].as_str() {
                    Some("user") => {
                        Kind::User { sender: text(data, "sender"), standing: Standing::Taken }
                    }
                    Some("operator") => Kind::Operator { by },
                    Some("notice") => Kind::Notice,
                    _ => Kind::Agent,
                };
                self.add(Entry::new(seq, at, kind, &said));
                return;
            }
            "session.imported" => format!("loaded from a file of {}", text(data, "from")),
            "session.reset" => "a new conversation".to_owned(),
            "session.closed" => "closed".to_owned(),
            "session.reopened" => "open again".to_owned(),
            "session.paused" => {
                self.hear_operator(Some(by.clone()), seq);
                format!("{by} has the agent's place")
            }
            "session.handed_back" => {
                self.hear_operator(None, seq);
                "the agent has its place again".to_owned()
            }
            _ => return,
        };
        self.add(Entry::new(seq, at, Kind::Divider, &words));
    }

    /// An entry tells who has the agent's place; what was asked later is newer than that.
    fn hear_operator(&mut self, by: Option<String>, seq: u64) {
        if seq >= self.operator_at {
            (self.operator, self.operator_at) = (by, seq);
        }
    }

    fn of_tool(&mut self, kind: &str, seq: u64, at: i64, data: &Value) {
        match kind {
            "tool.intended" => {
                let kind = Kind::Tool { tool: text(data, "tool"), outcome: String::new() };
                self.add(Entry::new(seq, at, kind, &glance(&text(data, "input"))));
            }
            "tool.returned" => {
                let said = text(data, "outcome");
                let call = data["call"].as_u64().unwrap_or(0);
                self.change(call, |kind| {
                    if let Kind::Tool { outcome, .. } = kind {
                        *outcome = said;
                    }
                });
            }
            _ => {}
        }
    }

    /// A turn is open, and took these messages.
    fn goes_on(&mut self, turn: &str, data: &Value, activity: &str) {
        self.stand(&places(data), Standing::Taken);
        self.turn = Some(Turn { id: turn.to_owned(), activity: one_line(activity) });
    }

    fn activity(&mut self, data: &Value, words: &str) {
        let turn = text(data, "turn_id");
        self.turn = Some(Turn { id: turn, activity: glance(words) });
    }

    /// A turn is over, and this is how it ended.
    fn conclude(&mut self, entry: Entry, turn: &str) {
        let seq = entry.seq;
        self.over(turn);
        self.add(entry);
        // Who was reading the draft goes on reading where it stands now.
        self.paper.draft_became(seq);
    }

    fn over(&mut self, turn: &str) {
        self.close_questions(turn);
        if self.draft.as_ref().is_some_and(|draft| draft.turn == turn) {
            self.draft = None;
        }
        if self.turn.as_ref().is_some_and(|open| open.id == turn) {
            self.turn = None;
            self.typing = false;
        }
    }

    fn close_questions(&mut self, of: &str) {
        let is_open =
            |kind: &Kind| matches!(kind, Kind::Question { turn, open: true, .. } if turn == of);
        let asked: Vec<u64> = self
            .entries
            .iter()
            .rev()
            .filter(|entry| is_open(&entry.kind))
            .map(|entry| entry.seq)
            .collect();
        for seq in asked {
            self.change(seq, |kind| {
                if let Kind::Question { open, .. } = kind {
                    *open = false;
                }
            });
        }
    }

    fn stand(&mut self, places: &[u64], now: Standing) {
        for seq in places {
            self.change(*seq, |kind| {
                if let Kind::User { standing, .. } = kind {
                    *standing = now;
                }
            });
        }
    }
}

fn text(data: &Value, field: &str) -> String {
    data[field].as_str().unwrap_or_default().to_owned()
}

/// The messages that an event is about.
fn places(data: &Value) -> Vec<u64> {
    let many = data["messages"].as_array().into_iter().flatten().filter_map(Value::as_u64);
    many.chain(data["message"].as_u64()).collect()
}

fn glance(text: &str) -> String {
    let line = one_line(text);
    match line.char_indices().nth(GLANCE) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}
