//! Reminders that an agent makes for whoever it talks with. What is told goes to the session it was
//! asked for in, and nowhere else.

use super::BoxFuture;
use crate::ids::TurnGroupId;
use crate::policy::Trust;
use crate::session_key::SessionKey;

/// In whose turn it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedBy {
    /// The conversation, which is told.
    pub session: SessionKey,
    /// The supersede chain: the same wish in it is one wish.
    pub group: TurnGroupId,
    /// How far the turn is trusted.
    pub trust: Trust,
}

/// When it shall be told, in the agent's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// In so long, like `20m`.
    In(String),
    /// At this time, like `18:30`.
    At(String),
}

/// A reminder that is still to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reminder {
    /// Names it.
    pub name: String,
    /// When, as the wall shows it.
    pub at: String,
    /// What is told.
    pub text: String,
}

/// Makes, lists and cancels them. An error is for the agent to read, and says that nothing was done.
pub trait Reminders: Send + Sync + 'static {
    /// Makes one. The same wish of the same turn group is one reminder, however often it is made.
    fn remind(
        &self,
        by: &AskedBy,
        when: Wanted,
        zone: Option<String>,
        text: String,
    ) -> BoxFuture<'_, Result<Reminder, String>>;

    /// Those of the session, the next one first; and what time it is.
    fn reminders(&self, by: &AskedBy) -> Result<(Vec<Reminder>, String), String>;

    /// Cancels one of the session's.
    fn cancel(&self, by: &AskedBy, name: String) -> BoxFuture<'_, Result<(), String>>;
}
