//! The checks of messages that wait for somebody outside: whether one may go on, and whether it is
//! for the agent at all. What they may say, and what holds where they say nothing.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest time that a check may take. A session's task stays in memory for so long, so that it
/// hears of the answer.
pub const TIMEOUT_MS_MAX: u64 = 50_000;
/// The longest reason that is kept, in characters.
pub const REASON_CHARS_MAX: usize = 200;

/// What becomes of a message that is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ruling {
    /// It goes on, as if it had just come.
    Allow,
    /// It goes nowhere.
    Refuse,
    /// It is for the agent.
    Addressed,
    /// It is not for the agent: it is kept as context.
    Context,
}

impl Ruling {
    /// It says whether a message is for the agent, not whether it may go on.
    #[must_use]
    pub const fn is_of_trigger(self) -> bool {
        matches!(self, Self::Addressed | Self::Context)
    }
}

/// Who is asked whether a message is for the agent, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// The agent that is asked, by its configured name.
    pub agent: Arc<str>,
    /// After so long it is not, in milliseconds; [`TIMEOUT_MS_MAX`] at most.
    pub timeout_ms: u64,
}

/// What is asked of somebody about a held message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Whether it may go on.
    Moderation,
    /// Whether it is for the agent; this other one is asked.
    Trigger(Arc<str>),
}

/// That every message is checked, and how long that may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Moderation {
    /// After so long the default holds.
    pub timeout_ms: u64,
    /// What holds then.
    pub default: Ruling,
}

/// A ruling that is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruled {
    /// Which.
    pub ruling: Ruling,
    /// Nobody ruled in time, or nobody had to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_default: bool,
    /// Why, in the words of whoever checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
}

/// The words of whoever checked, as far as they are kept.
#[must_use]
pub fn kept_reason(reason: &str) -> Option<Arc<str>> {
    let visible = |one: &char| !one.is_control() || *one == '\n';
    let kept: String = reason.trim().chars().filter(visible).take(REASON_CHARS_MAX).collect();
    (!kept.is_empty()).then(|| kept.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_short_and_steer_no_terminal() {
        assert_eq!(kept_reason("  "), None);
        assert_eq!(kept_reason(" spam\u{1b}[2J ").as_deref(), Some("spam[2J"));
        assert_eq!(kept_reason(&"é".repeat(500)).unwrap().chars().count(), REASON_CHARS_MAX);
    }
}
