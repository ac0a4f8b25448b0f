//! Listening on the journal: which events a listener gets, what of them goes out, when a failed
//! callback is tried again, and what is signed.
//!
//! What is sent and where is the shell's business. Nothing here knows an address or a secret.

use serde_json::{Map, Value, json};

use crate::ids::{Seq, Timestamp};
use crate::journal::Event;
use crate::session_key::SessionKey;

/// Longest body of a callback, in bytes; longer texts in it are cut.
pub const BODY_BYTES_MAX: usize = 256 * 1024;
/// Callbacks of one listener that may wait for another try; of more, the oldest become dead.
pub const PENDING_MAX: usize = 10_000;
/// Dead callbacks that are kept of one listener; of more, the oldest are forgotten.
pub const DEAD_MAX: usize = 10_000;
/// Longest name of a listener.
pub const NAME_CHARS_MAX: usize = 64;
/// A listener that nobody configured for this long has lost its place in the journal.
pub const FORGOTTEN_AFTER_MS: Timestamp = 7 * 24 * 3_600_000;

const SECOND_MS: u64 = 1000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// The pauses before the second try, the third and so on: nearly three days in all. The scheme of
/// Standard Webhooks asks for growing pauses over several days.
const PAUSES_MS: [u64; 9] = [
    5 * SECOND_MS,
    30 * SECOND_MS,
    2 * MINUTE_MS,
    10 * MINUTE_MS,
    HOUR_MS,
    6 * HOUR_MS,
    12 * HOUR_MS,
    24 * HOUR_MS,
    24 * HOUR_MS,
];

/// The longest pause that a receiver is granted.
const RETRY_AFTER_MS_MAX: u64 = 24 * HOUR_MS;

/// Every type of event, as [`EventBody::name`](crate::EventBody::name) gives them.
pub const EVENT_TYPES: [&str; 43] = [
    "message.accepted",
    "message.command",
    "message.context",
    "turn.started",
    "turn.processing",
    "turn.message_absorbed",
    "turn.waiting_for_input",
    "turn.waiting_for_operator",
    "turn.answered",
    "turn.retrying",
    "turn.recovered",
    "turn.superseded",
    "turn.completed",
    "turn.cancelled",
    "turn.failed",
    "commit.reached",
    "supersede.asked",
    "supersede.decided",
    "tool.intended",
    "tool.returned",
    "usage.recorded",
    "artifact.kept",
    "artifact.reused",
    "agent.event",
    "message.cancelled",
    "message.expired",
    "message.requeued",
    "message.discarded",
    "guard.allowed",
    "guard.refused",
    "session.reset",
    "session.closed",
    "session.reopened",
    "session.paused",
    "session.handed_back",
    "session.notice",
    "session.notice_accepted",
    "session.notice_cancelled",
    "session.opted_in",
    "session.opted_out",
    "session.imported",
    "history.imported",
    "delivery.settled",
];

/// The events that tell how a turn ended, for an agent's reply callback.
pub const ENDINGS: [&str; 2] = ["turn.completed", "turn.failed"];

/// Which types of events: `*`, all of a category like `turn.*`, full names, or several of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<&'static str>);

/// A part of a pattern that means no event there is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no event is called {0:?}")]
pub struct UnknownEvent(pub String);

impl Pattern {
    /// Reads the parts of a pattern; each must mean at least one event.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownEvent> {
        let mut types = Vec::new();
        for part in parts {
            let part = part.trim();
            let before = types.len();
            types.extend(EVENT_TYPES.iter().filter(|name| means(part, name)));
            if types.len() == before {
                return Err(UnknownEvent(part.to_owned()));
            }
        }
        if types.is_empty() {
            return Err(UnknownEvent(String::new()));
        }
        types.sort_unstable();
        types.dedup();
        Ok(Self(types))
    }

    /// Every event there is.
    #[must_use]
    pub fn everything() -> Self {
        let mut types = EVENT_TYPES.to_vec();
        types.sort_unstable();
        Self(types)
    }

    /// Whether events of this type are meant.
    #[must_use]
    pub fn matches(&self, event_type: &str) -> bool {
        self.0.binary_search(&event_type).is_ok()
    }
}

fn means(part: &str, name: &str) -> bool {
    match part.strip_suffix(".*") {
        Some(category) => name.split('.').next() == Some(category),
        None => part == "*" || part == name,
    }
}

/// What a pattern may be made of, for messages to people.
#[must_use]
pub fn pattern_words() -> Vec<String> {
    let mut words = vec!["*".to_owned()];
    for name in EVENT_TYPES {
        let category = format!("{}.*", name.split('.').next().unwrap_or_default());
        if !words.contains(&category) {
            words.push(category);
        }
    }
    words.extend(EVENT_TYPES.map(str::to_owned));
    words
}

/// Which events somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// By their type.
    pub pattern: Pattern,
    /// Only of this tenant.
    pub tenant: Option<String>,
    /// Only of this agent.
    pub agent: Option<String>,
}

impl Selector {
    /// Whether a session's events may be wanted at all.
    #[must_use]
    pub fn takes(&self, session: &SessionKey) -> bool {
        self.tenant.as_ref().is_none_or(|tenant| session.tenant() == *tenant)
            && self.agent.as_ref().is_none_or(|agent| session.agent() == *agent)
    }

    /// Whether this event of such a session is wanted.
    #[must_use]
    pub fn wants(&self, event: &Event) -> bool {
        self.pattern.matches(event.body.name())
    }
}

/// When a callback is tried again that has failed `tries` times; none if that was its last try.
/// A receiver may ask for a longer pause, not for a shorter one.
#[must_use]
pub fn next_try(tries: u32, now: Timestamp, retry_after_ms: Option<u64>) -> Option<Timestamp> {
    let index = usize::try_from(tries.saturating_sub(1)).unwrap_or(usize::MAX);
    let pause = PAUSES_MS.get(index)?;
    let asked = retry_after_ms.unwrap_or(0).min(RETRY_AFTER_MS_MAX);
    Some(now.saturating_add(i64::try_from(asked.max(*pause)).unwrap_or(i64::MAX)))
}

/// The name of a callback, the same for every try. It holds no full stop, because full stops part
/// what is signed, and the event's time, because places come back where a backup was restored.
#[must_use]
pub fn callback_id(listener: &str, position: u64, event: &Event) -> String {
    let safe = |one: char| if one.is_ascii_alphanumeric() { one } else { '-' };
    let name: String = listener.chars().take(NAME_CHARS_MAX).map(safe).collect();
    format!("msg_{name}_{position}_{}_{}", event.seq, event.at)
}

/// What the signature of a callback is made over, by the scheme of Standard Webhooks.
#[must_use]
pub fn signed_content(id: &str, at_seconds: i64, body: &[u8]) -> Vec<u8> {
    let mut content = format!("{id}.{at_seconds}.").into_bytes();
    content.extend_from_slice(body);
    content
}

/// Fields whose texts were not written by a person or a model. Every other text stays here unless
/// the listener may see texts; so a field that is new stays here as well.
const PLAIN_TEXTS: [&str; 18] = [
    "turn_id",
    "turn_group_id",
    "supersedes",
    "by",
    "question_id",
    "message_id",
    "sender",
    "trust",
    "action",
    "reason",
    "choice",
    "state",
    "source",
    "effects",
    "outcome",
    "role",
    "heard",
    "sha256",
];

/// What goes out of an event: its own fields beside `type` and `at`, and where it happened.
#[must_use]
pub fn data(
    session: &SessionKey,
    position: u64,
    event: &Event,
    include_text: bool,
) -> Map<String, Value> {
    let mut data = match serde_json::to_value(&event.body) {
        Ok(Value::Object(fields)) => fields,
        // An event is always an object.
        _ => Map::new(),
    };
    data.remove("type");
    if !include_text {
        data.retain(|name, value| is_plain(name, value));
    }
    let place = json!({
        "session": session,
        "tenant_id": session.tenant(),
        "agent_id": session.agent(),
        "channel": session.channel(),
        "customer_id": session.peer(),
        "position": position,
        "seq": event.seq,
    });
    if let Value::Object(place) = place {
        data.extend(place);
    }
    data
}

/// Numbers, truth values and lists of numbers hold no text.
fn is_plain(name: &str, value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
        Value::String(_) => PLAIN_TEXTS.contains(&name),
        Value::Array(items) => items.iter().all(Value::is_number),
        // Counts, and the name of a model.
        Value::Object(_) => name == "usage",
    }
}

/// The body of a callback: `{type, timestamp, data}`, and `truncated` where something was cut to
/// keep to [`BODY_BYTES_MAX`]. `timestamp` is the event's moment in words.
#[must_use]
pub fn callback_body(event_type: &str, timestamp: &str, data: Map<String, Value>) -> Vec<u8> {
    let mut body = json!({ "type": event_type, "timestamp": timestamp, "data": data });
    let mut bytes = body.to_string().into_bytes();
    while let Some(excess) = bytes.len().checked_sub(BODY_BYTES_MAX).filter(|excess| *excess > 0) {
        body["truncated"] = Value::Bool(true);
        // Room for the mark itself.
        if !cut(&mut body["data"], excess + 32) {
            break;
        }
        bytes = body.to_string().into_bytes();
    }
    bytes
}

/// Takes at least so many bytes off the longest field, or all it has; false if nothing is left
/// that could be cut.
fn cut(data: &mut Value, excess: usize) -> bool {
    let Value::Object(fields) = data else { return false };
    let size = |value: &Value| match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.len(),
        _ => 0,
    };
    let longest = fields.iter_mut().max_by_key(|(_, value)| size(value));
    match longest {
        Some((_, Value::String(text))) if !text.is_empty() => {
            let mut end = text.len().saturating_sub(excess);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            true
        }
        Some((_, Value::Array(items))) if !items.is_empty() => {
            items.truncate(items.len().saturating_sub(excess));
            true
        }
        _ => false,
    }
}

/// A place among all events: the journal's row, and the event's place in its session.
///
/// It prints as `ROW-SEQ`. A row alone means the end of that row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The journal's row.
    pub position: u64,
    /// The event within it.
    pub seq: Seq,
}

impl Place {
    /// Behind every event of a row.
    #[must_use]
    pub const fn end_of(position: u64) -> Self {
        Self { position, seq: Seq(u64::MAX) }
    }

    /// The row behind which to read so as to miss nothing behind this place.
    #[must_use]
    pub const fn read_after(self) -> u64 {
        if self.seq.0 == u64::MAX { self.position } else { self.position.saturating_sub(1) }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.seq.0 == u64::MAX {
            write!(formatter, "{}", self.position)
        } else {
            write!(formatter, "{}-{}", self.position, self.seq)
        }
    }
}

impl std::str::FromStr for Place {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('-') {
            Some((position, seq)) => {
                Ok(Self { position: position.parse()?, seq: Seq(seq.parse()?) })
            }
            None => text.parse().map(Self::end_of),
        }
    }
}

#[cfg(test)]
mod tests;
