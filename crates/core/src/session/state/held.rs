//! Messages that wait for somebody outside, as they are kept.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::accumulation::Deadline;
use crate::ids::QuestionId;
use crate::message::Pending;
use crate::moderation::{Check, Ruled, Trigger};

/// An accepted message that no turn may have yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The message.
    pub message: Pending,
    /// Once it is the first one, the default holds when this is over.
    pub deadline: Deadline,
    /// What came of its check; it may still have to wait for those before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ruled: Option<Ruled>,
    /// What it is once it may go on.
    #[serde(default, skip_serializing_if = "HeldAs::is_message")]
    pub held_as: HeldAs,
    /// It answers this question, or it goes nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<QuestionId>,
}

/// What a held message is to the session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldAs {
    /// Said to the agent.
    #[default]
    Message,
    /// Not said to it.
    Context,
    /// Whether to it will be asked once it may go on.
    Unclear(Trigger),
    /// That is being asked.
    Asked(Trigger),
}

impl HeldAs {
    fn is_message(&self) -> bool {
        *self == Self::Message
    }
}

impl Held {
    /// What is asked about it now.
    #[must_use]
    pub fn check(&self) -> Check {
        match &self.held_as {
            HeldAs::Asked(trigger) => Check::Trigger(Arc::clone(&trigger.agent)),
            _ => Check::Moderation,
        }
    }
}
