//! What is known of a tool server before it is asked: where it is, and what holds for its tools.

use std::fmt;
use std::time::Duration;

use turnkeep_core::tool::SideEffects;

use crate::command::CommandSettings;

/// Longest name of a server: it stands in front of each of its tools' names.
pub const SERVER_NAME_CHARS_MAX: usize = 32;

/// One server.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolServerSettings {
    /// Its name; see [`is_server_name`].
    pub name: String,
    /// How it is reached.
    pub way: ToolWay,
    /// How long one call may take.
    pub timeout: Duration,
    /// What holds for its tools.
    pub policy: ToolPolicy,
}

/// How a server is reached.
#[derive(Clone, PartialEq, Eq)]
pub enum ToolWay {
    /// A process of ours, over its standard streams.
    Command(CommandSettings),
    /// Somebody's server, over streamable HTTP.
    Http {
        /// Its address.
        url: String,
        /// What it wants to see, as a bearer token.
        token: Option<String>,
    },
}

impl fmt::Debug for ToolWay {
    /// A token is a secret, and so may be what stands in an address.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(command) => command.fmt(formatter),
            Self::Http { .. } => formatter.write_str("Http(…)"),
        }
    }
}

/// What holds for the tools of a server, by patterns of their names: `*` stands for anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolPolicy {
    /// What they do to the world; irreversible where nothing is said.
    pub effects: Vec<(String, SideEffects)>,
    /// Which argument names the act, as a JSON pointer.
    pub keys: Vec<(String, String)>,
    /// Which of them need a person's yes to every call.
    pub approval: Vec<String>,
    /// Whether what the server says of its own tools is believed where nothing is said here.
    pub trust_annotations: bool,
    /// Whether a tool that says that it failed has certainly done nothing.
    pub errors_mean_not_done: bool,
}

/// Whether a server may be called so: letters, digits, `-` and single `_` within, so that it can be
/// told from the name of the tool behind it.
#[must_use]
pub fn is_server_name(name: &str) -> bool {
    let plain = |one: char| one.is_ascii_alphanumeric() || matches!(one, '-' | '_');
    (1..=SERVER_NAME_CHARS_MAX).contains(&name.len())
        && name.chars().all(plain)
        && !name.contains("__")
        && !name.starts_with('_')
        && !name.ends_with('_')
}
