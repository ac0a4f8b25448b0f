//! The name of a session: one constructor, one injective text form.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How long one segment may be, in bytes before encoding.
pub const SEGMENT_BYTES_MAX: usize = 128;

/// What sort of conversation a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionKind {
    /// One person and one agent.
    Dm,
    /// Several people and one agent.
    Group,
    /// The owner's terminal.
    Main,
    /// A scheduled job.
    Cron,
    /// A session of its own for one piece of work.
    Isolated,
    /// A session that another session's agent opened.
    Subagent,
}

impl SessionKind {
    const ALL: [Self; 6] =
        [Self::Dm, Self::Group, Self::Main, Self::Cron, Self::Isolated, Self::Subagent];

    /// The word used in keys and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dm => "dm",
            Self::Group => "group",
            Self::Main => "main",
            Self::Cron => "cron",
            Self::Isolated => "isolated",
            Self::Subagent => "subagent",
        }
    }
}

/// Why a text or some parts are no session key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionKeyError {
    /// A segment is empty.
    #[error("{0} must not be empty")]
    Empty(&'static str),
    /// A segment is longer than [`SEGMENT_BYTES_MAX`].
    #[error("{0} is longer than {SEGMENT_BYTES_MAX} bytes")]
    TooLong(&'static str),
    /// A segment holds a control character.
    #[error("{0} holds a control character")]
    Control(&'static str),
    /// Not five segments.
    #[error("a session key has five parts, tenant:agent:channel:kind:peer; this has {0}")]
    Parts(usize),
    /// The kind is not one of the known ones.
    #[error("the kind is one of dm, group, main, cron, isolated, subagent")]
    Kind,
    /// A percent sign that no encoding made.
    #[error("{0} holds a percent escape other than %25 and %3A")]
    Escape(&'static str),
}

/// Names a conversation. Cheap to clone; two different keys never print alike.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey {
    // Only the text is held: a million of these may be alive, and the parts are slices of it.
    text: Arc<str>,
}

const NAMES: [&str; 5] = ["tenant_id", "agent_id", "channel", "kind", "peer"];

impl SessionKey {
    /// The one constructor: checks every segment and percent-encodes `%` and `:` in it.
    pub fn new(
        tenant: &str,
        agent: &str,
        channel: &str,
        kind: SessionKind,
        peer: &str,
    ) -> Result<Self, SessionKeyError> {
        let parts = [tenant, agent, channel, kind.as_str(), peer];
        let mut text = String::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
        for (part, name) in parts.into_iter().zip(NAMES) {
            check_segment(part, name)?;
            if !text.is_empty() {
                text.push(':');
            }
            encode_into(part, &mut text);
        }
        Ok(Self { text: text.into() })
    }

    /// The text form, `tenant:agent:channel:kind:peer`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn segment(&self, index: usize) -> String {
        let raw = self.text.split(':').nth(index).unwrap_or_default();
        decode(raw, NAMES[index]).unwrap_or_default()
    }

    /// Who owns the deployment slice.
    #[must_use]
    pub fn tenant(&self) -> String {
        self.segment(0)
    }

    /// Which agent answers.
    #[must_use]
    pub fn agent(&self) -> String {
        self.segment(1)
    }

    /// The way the messages come.
    #[must_use]
    pub fn channel(&self) -> String {
        self.segment(2)
    }

    /// What sort of conversation it is.
    #[must_use]
    pub fn kind(&self) -> SessionKind {
        let word = self.segment(3);
        SessionKind::ALL.into_iter().find(|kind| kind.as_str() == word).unwrap_or(SessionKind::Dm)
    }

    /// Who talks, or which group.
    #[must_use]
    pub fn peer(&self) -> String {
        self.segment(4)
    }
}

fn check_segment(part: &str, name: &'static str) -> Result<(), SessionKeyError> {
    if part.is_empty() {
        return Err(SessionKeyError::Empty(name));
    }
    if part.len() > SEGMENT_BYTES_MAX {
        return Err(SessionKeyError::TooLong(name));
    }
    if part.chars().any(char::is_control) {
        return Err(SessionKeyError::Control(name));
    }
    Ok(())
}

fn encode_into(part: &str, out: &mut String) {
    for character in part.chars() {
        match character {
            '%' => out.push_str("%25"),
            ':' => out.push_str("%3A"),
            other => out.push(other),
        }
    }
}

fn decode(part: &str, name: &'static str) -> Result<String, SessionKeyError> {
    let mut out = String::with_capacity(part.len());
    let mut rest = part;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        out.push(match rest.as_bytes().get(at..at + 3) {
            Some(b"%25") => '%',
            Some(b"%3A") => ':',
            _ => return Err(SessionKeyError::Escape(name)),
        });
        rest = &rest[at + 3..];
    }
    out.push_str(rest);
    Ok(out)
}

impl FromStr for SessionKey {
    type Err = SessionKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split(':').collect();
        let [tenant, agent, channel, kind, peer] = parts[..] else {
            return Err(SessionKeyError::Parts(parts.len()));
        };
        let kind = SessionKind::ALL
            .into_iter()
            .find(|candidate| candidate.as_str() == kind)
            .ok_or(SessionKeyError::Kind)?;
        Self::new(
            &decode(tenant, NAMES[0])?,
            &decode(agent, NAMES[1])?,
            &decode(channel, NAMES[2])?,
            kind,
            &decode(peer, NAMES[4])?,
        )
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Serialize for SessionKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for SessionKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn delimiters_in_segments_never_collide() {
        let one = SessionKey::new("a:b", "c", "api", SessionKind::Dm, "d").unwrap();
        let two = SessionKey::new("a", "b:c", "api", SessionKind::Dm, "d").unwrap();
        let three = SessionKey::new("a%3Ab", "c", "api", SessionKind::Dm, "d").unwrap();
        assert_eq!(one.as_str(), "a%3Ab:c:api:dm:d");
        assert_eq!(two.as_str(), "a:b%3Ac:api:dm:d");
        assert_eq!(three.as_str(), "a%253Ab:c:api:dm:d");
    }

    #[test]
    fn bad_keys_say_what_is_wrong() {
        let check = |text: &str, expect: SessionKeyError| {
            assert_eq!(text.parse::<SessionKey>().unwrap_err(), expect, "{text}");
        };
        check("a:b:c:dm", SessionKeyError::Parts(4));
        check("a:b:c:dm:d:e", SessionKeyError::Parts(6));
        check("a:b:c:dmx:d", SessionKeyError::Kind);
        check(":b:c:dm:d", SessionKeyError::Empty("tenant_id"));
        check("a%zz:b:c:dm:d", SessionKeyError::Escape("tenant_id"));
        check("a:b:c:dm:\u{7}", SessionKeyError::Control("peer"));
        check(&format!("a:b:c:dm:{}", "x".repeat(129)), SessionKeyError::TooLong("peer"));
    }

    proptest! {
        #[test]
        fn text_form_is_injective(parts in prop::array::uniform4("[a-c:%3A25é]{1,6}"),
                                  other in prop::array::uniform4("[a-c:%3A25é]{1,6}")) {
            let key = |p: &[String; 4]| SessionKey::new(&p[0], &p[1], &p[2], SessionKind::Dm, &p[3]).unwrap();
            let (one, two) = (key(&parts), key(&other));
            prop_assert_eq!(one == two, parts == other);
            prop_assert_eq!(one.as_str().parse::<SessionKey>().unwrap(), one.clone());
            prop_assert_eq!([one.tenant(), one.agent(), one.channel(), one.peer()], parts);
        }
    }
}
