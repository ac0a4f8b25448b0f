//! The words that entries of the journal use.

use serde::{Deserialize, Serialize};

/// Why a turn was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelReason {
    /// Somebody pressed stop.
    Stopped,
    /// A new conversation was begun.
    Reset,
    /// The session was closed.
    Closed,
    /// The customer takes no messages any more that nobody asked for.
    OptedOut,
}

/// What a command asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandName {
    /// A new conversation.
    New,
    /// The end of the open turn.
    Stop,
    /// Another busy policy.
    Queue,
    /// Another model.
    Model,
    /// Only an answer.
    Say,
}

/// Who had something to say in the gateway's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeSource {
    /// The gateway itself: something went wrong.
    #[default]
    Gateway,
    /// Whoever runs the agent, through the API.
    Unasked,
    /// An operator, in the agent's place.
    Operator,
    /// A job or a reminder whose time had come.
    Scheduled,
    /// The gateway, to whoever gave it a command.
    Command,
}

impl NoticeSource {
    /// Whether it is what needs no word in the journal.
    #[must_use]
    pub fn is_gateway(&self) -> bool {
        *self == Self::Gateway
    }
}

/// Why a message became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadReason {
    /// The agent failed on every attempt.
    AgentFailed,
    /// The process died too often while it ran.
    CrashLoop,
    /// The user did not answer the agent's question in time.
    InputTimeout,
    /// It waited longer than `queue_ttl_seconds`.
    Expired,
}

impl DeadReason {
    /// The wire name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AgentFailed => "agent_failed",
            Self::CrashLoop => "crash_loop",
            Self::InputTimeout => "input_timeout",
            Self::Expired => "expired",
        }
    }
}

/// What to do with a message that arrived while the agent works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupersedeChoice {
    /// Cancel the turn, start over with everything in a new one.
    Supersede,
    /// Take it at the next checkpoint.
    AbsorbContinue,
    /// Restart this turn with everything.
    AbsorbRestart,
    /// Leave it for later.
    Queue,
    /// Finish now without new tools, then answer the rest.
    ForceComplete,
}
