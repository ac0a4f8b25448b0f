//! The contract by hand: a turn with things in it that no gateway says yet, and answers to what a
//! brain asks for. Nothing is ever permitted.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{timeout, timeout_at};

use super::Wants;
use super::play::{PLAIN, late};
use super::report::{Found, quoted};

/// What is heard of one attempt; more is as good as its end.
pub(super) const OUTPUT_BYTES_MAX: u64 = 64 << 20;

/// What carries the objects.
pub(super) trait Line {
    /// Tells the brain something.
    async fn tell(&mut self, object: Value) -> Result<(), String>;
    /// What it says next; none at the end of its output.
    async fn next(&mut self) -> Result<Option<Value>, String>;
}

/// How a brain's output went.
pub(super) enum Heard {
    /// It finished, or said that it failed.
    LastWord(Value),
    /// It asked its user this, and nobody answers.
    Asked(String),
    /// Its output ended before its last word.
    Ended,
    /// It took too long; whether it had said anything at all.
    Late(bool),
    /// It can't be read.
    Wrong(String),
}

/// A turn in which nothing needs to be done.
pub(super) fn turn(turn_id: &str, attempt: u32, text: &str) -> Value {
    json!({
        "type": "turn", "version": 1, "turn_id": turn_id, "attempt": attempt,
        "turn_group_id": turn_id, "session": format!("default:default:web:dm:check-{turn_id}"),
        "tenant_id": "default", "agent_id": "default", "channel": "web", "trust": "familiar",
        "resume": false,
        "facts": { "chars_max": 10_000, "markdown": true, "media": true, "typing": true },
        "messages": [message(1, text)], "history": [], "recorded": [],
    })
}

fn message(seq: u64, text: &str) -> Value {
    let at = jiff::Timestamp::now().as_millisecond();
    json!({
        "seq": seq, "message_id": format!("check-{seq}"), "sender": "check", "text": text,
        "at": at,
    })
}

/// A plain turn of its own.
pub(super) fn plain() -> Value {
    turn(&uuid::Uuid::now_v7().to_string(), 1, PLAIN)
}

/// The same with fields that nobody knows, everywhere.
pub(super) fn strange(mut turn: Value) -> Value {
    let later = json!({ "of": [1, null, "two"], "type": "later" });
    turn["x_later"] = later.clone();
    turn["facts"]["x_later"] = later.clone();
    turn["messages"][0]["x_later"] = later;
    let line = json!({ "seq": 0, "role": "user", "text": "before", "x_later": true });
    turn["history"] = json!([line]);
    turn
}

/// Listens until its last word, and answers what it asks for.
pub(super) async fn hear(line: &mut impl Line, wants: &Wants, strange: bool) -> Heard {
    let limit = tokio::time::Instant::now() + wants.timeout;
    let (mut answers, mut spoke) = (3, false);
    loop {
        let said = match timeout_at(limit, line.next()).await {
            Err(_) => return Heard::Late(spoke),
            Ok(Err(wrong)) => return Heard::Wrong(wrong),
            Ok(Ok(None)) => return Heard::Ended,
            Ok(Ok(Some(said))) => said,
        };
        spoke = true;
        let kind = said["type"].as_str().unwrap_or_default();
        if matches!(kind, "finished" | "failed") {
            return Heard::LastWord(said);
        }
        let answer = match (kind, &wants.answer) {
            ("ask", Some(text)) if answers > 0 => {
                answers -= 1;
                Some(json!({ "type": "answer", "message": message(10 - answers, text) }))
            }
            ("ask", _) => {
                return Heard::Asked(said["text"].as_str().unwrap_or_default().to_owned());
            }
            _ => answer_to(kind),
        };
        let Some(mut answer) = answer else { continue };
        answer["id"] = said["id"].clone();
        if strange {
            answer["x_later"] = json!([{}]);
        }
        // One that has closed its ears may still finish.
        let _ = line.tell(answer).await;
    }
}

/// What a request gets: never a permission.
fn answer_to(kind: &str) -> Option<Value> {
    match kind {
        "say" | "emit" | "choose" | "used" => None,
        "take_mail" => Some(json!({ "type": "mail", "messages": [] })),
        "keep" => Some(json!({ "type": "recorded" })),
        "recall" => Some(json!({ "type": "none", "why": "missing" })),
        _ => Some(json!({ "type": "refused", "reason": "this is a check, nothing may be done" })),
    }
}

impl Heard {
    /// What is found where it is enough that it finishes.
    pub(super) fn found(&self, wants: &Wants) -> Found {
        match self {
            Self::LastWord(said) if said["type"] == "finished" => {
                Found::Right("it finished".to_owned())
            }
            Self::LastWord(said) => {
                Found::Wrong(format!("it failed: {}", quoted(&said["error"].to_string())))
            }
            Self::Asked(text) => Found::Open(format!("it asks its user {} first", quoted(text))),
            Self::Ended => Found::Wrong("its output ended before it had finished".to_owned()),
            Self::Late(spoke) => Found::Wrong(late(wants.timeout, *spoke)),
            Self::Wrong(wrong) => Found::Wrong(wrong.clone()),
        }
    }
}

/// What it said as JSON.
pub(super) fn object(bytes: &[u8]) -> Result<Value, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|_| {
        format!("it said what is no JSON: {}", quoted(&String::from_utf8_lossy(bytes)))
    })?;
    if value["type"].is_string() {
        return Ok(value);
    }
    Err(format!("it said an object without a type: {}", quoted(&value.to_string())))
}

/// How long a brain's output may go on after its last word, and its process without input.
pub(super) const ENDING_MAX: Duration = Duration::from_secs(2);

/// After its last word: nothing more, and the end of its output in time.
pub(super) async fn silent(line: &mut impl Line) -> Found {
    match timeout(ENDING_MAX, line.next()).await {
        Err(_) => {
            let late = "its output went on after 2 seconds: the reply waits for that each time";
            Found::Wrong(late.to_owned())
        }
        Ok(Ok(None)) => Found::Right("its output ended".to_owned()),
        Ok(Ok(Some(said))) => Found::Wrong(format!("it said {} after its end", said["type"])),
        Ok(Err(wrong)) => Found::Wrong(wrong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_fits_the_contract() {
        let text = include_str!("../../../../docs/brain/contract.schema.json");
        let mut schema: Value = serde_json::from_str(text).unwrap();
        schema["oneOf"] = json!([{ "$ref": "#/$defs/told" }]);
        let told = jsonschema::validator_for(&schema).unwrap();
        let check = |object: &Value| assert!(told.is_valid(object), "{object}");
        check(&plain());
        check(&strange(plain()));
        for kind in ["take_mail", "commit_point", "keep", "recall", "intend", "x_later"] {
            let mut answer = answer_to(kind).unwrap();
            answer["id"] = "1".into();
            check(&answer);
        }
        check(&json!({ "type": "answer", "id": "1", "message": message(1, PLAIN) }));
        assert_eq!(answer_to("say"), None);
    }
}
