//! What entries tell of a conversation that was had elsewhere.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::Timestamp;

/// Where an imported conversation comes from, and how much of it there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// The session that it was saved from, as the file says.
    pub from: Arc<str>,
    /// When it was saved there.
    pub saved_at: Timestamp,
    /// So many lines stand behind this entry.
    pub lines: u32,
    /// What the file's last line gives as its hash, in hexadecimal digits.
    pub sha256: Arc<str>,
    /// Who had it imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Arc<str>>,
}

/// One thing that was said elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedLine {
    /// Who said it.
    pub role: ImportedRole,
    /// What.
    pub text: Arc<str>,
    /// When it was said there.
    pub said_at: Timestamp,
    /// What it is to the agent.
    #[serde(default, skip_serializing_if = "Heard::is_said")]
    pub heard: Heard,
    /// The user who wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<Arc<str>>,
    /// The operator who said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Arc<str>>,
}

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportedRole {
    /// Somebody who talks to the agent.
    User,
    /// The agent.
    Agent,
    /// A person in the agent's place.
    Operator,
    /// The gateway, or whoever had it say something.
    Notice,
}

/// What something that was said is to the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Heard {
    /// It belongs to the conversation.
    #[default]
    Said,
    /// It was said in the agent's presence and not to it.
    Aside,
    /// The agent never gets it: a command, or a notice of the gateway's own.
    Never,
}

impl Heard {
    /// Whether it needs no word in the journal.
    #[must_use]
    pub fn is_said(&self) -> bool {
        *self == Self::Said
    }
}
