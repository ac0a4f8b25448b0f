//! Which messages the model sees: the system prompt, as much history as fits, and the turn.
//!
//! Neighbours of one role are joined into one message. Many models at home were trained on strictly
//! alternating roles, and their servers refuse anything else; a burst is several user messages in a
//! row.

use serde::Serialize;
use turnkeep_core::ports::agent::{HistoryEntry, Role};

/// What one message costs beside its text.
const MESSAGE_TOKENS: u32 = 4;
/// A token is about this many characters of English; of other languages it is fewer, so a budget
/// close to the model's window should leave room.
const TOKEN_CHARS: usize = 4;

/// One message as the protocol has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct ChatMessage {
    role: &'static str,
    content: String,
}

/// Everything the model sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conversation(Vec<ChatMessage>);

impl Conversation {
    /// Begins with the system prompt and the newest part of `history`, oldest first, that fits.
    pub(super) fn new(system: Option<&str>, history: &[HistoryEntry], history_tokens: u32) -> Self {
        let mut conversation = Self::default();
        if let Some(system) = system {
            conversation.push("system", system);
        }
        for entry in newest_that_fit(history, history_tokens) {
            match entry.role {
                Role::User => conversation.push_user(&entry.text),
                Role::Agent => conversation.push_agent(&entry.text),
            }
        }
        conversation
    }

    pub(super) fn push_user(&mut self, text: &str) {
        self.push("user", text);
    }

    pub(super) fn push_agent(&mut self, text: &str) {
        self.push("assistant", text);
    }

    pub(super) fn messages(&self) -> &[ChatMessage] {
        &self.0
    }

    fn push(&mut self, role: &'static str, text: &str) {
        match self.0.last_mut() {
            Some(last) if last.role == role => {
                last.content.push('\n');
                last.content.push_str(text);
            }
            _ => self.0.push(ChatMessage { role, content: text.to_owned() }),
        }
    }
}

/// A simple estimate, the same for every model.
pub(super) fn estimated_tokens(text: &str) -> u32 {
    let tokens = text.chars().count().div_ceil(TOKEN_CHARS);
    u32::try_from(tokens).unwrap_or(u32::MAX).saturating_add(MESSAGE_TOKENS)
}

/// The lines at the end that fit, without a hole, and beginning with the user: a conversation that
/// begins with an answer confuses models, and some servers refuse it.
fn newest_that_fit(history: &[HistoryEntry], tokens: u32) -> &[HistoryEntry] {
    let mut left = tokens;
    let mut first = history.len();
    for (index, entry) in history.iter().enumerate().rev() {
        let Some(rest) = left.checked_sub(estimated_tokens(&entry.text)) else { break };
        (left, first) = (rest, index);
    }
    let fitting = history.get(first..).unwrap_or_default();
    let user = fitting.iter().position(|entry| entry.role == Role::User);
    user.and_then(|user| fitting.get(user..)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use turnkeep_core::ids::Seq;

    fn line(role: Role, text: &str) -> HistoryEntry {
        HistoryEntry { seq: Seq(1), role, text: text.into() }
    }

    fn check(history: &[HistoryEntry], tokens: u32, expect: &[(&str, &str)]) {
        let conversation = Conversation::new(Some("be kind"), history, tokens);
        let seen: Vec<(&str, &str)> = conversation
            .messages()
            .iter()
            .map(|message| (message.role, message.content.as_str()))
            .collect();
        assert_eq!(seen.split_first(), Some((&("system", "be kind"), expect)));
    }

    #[test]
    fn the_newest_history_that_fits_is_sent() {
        let history = [
            line(Role::User, "12345678"),
            line(Role::Agent, "1234"),
            line(Role::User, "äöüß"),
            line(Role::Agent, "12345"),
        ];
        let all =
            [("user", "12345678"), ("assistant", "1234"), ("user", "äöüß"), ("assistant", "12345")];
        // 6 + 5 + 5 + 6 tokens.
        check(&history, 22, &all);
        check(&history, 21, &all[2..]);
        check(&history, 11, &all[2..]);
        check(&history, 10, &[]);
        check(&history, 0, &[]);
        check(&[], 100, &[]);
    }

    #[test]
    fn a_line_that_does_not_fit_ends_the_history() {
        let history = [
            line(Role::User, "old"),
            line(Role::Agent, &"x".repeat(1000)),
            line(Role::User, "new"),
        ];
        check(&history, 100, &[("user", "new")]);
    }

    #[test]
    fn neighbours_of_one_role_are_joined() {
        let history = [
            line(Role::User, "one"),
            line(Role::User, "two"),
            line(Role::Agent, "three"),
            line(Role::Agent, "four"),
        ];
        check(&history, 100, &[("user", "one\ntwo"), ("assistant", "three\nfour")]);
    }
}
