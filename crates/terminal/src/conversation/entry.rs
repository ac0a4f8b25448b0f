//! One thing in a conversation, as it is shown.

/// A text of an entry that is longer than this is shown as its beginning, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 256 * 1024;

/// One thing in a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its place in the journal; entries stand in this order.
    pub(crate) seq: u64,
    /// When, in milliseconds since 1970.
    pub(crate) at: i64,
    /// Who said it, or what it is.
    pub(crate) kind: Kind,
    /// What; of a tool its input.
    pub(crate) text: String,
    /// Grows with every change, so that its lines are made anew.
    pub(crate) rev: u32,
}

/// Who said it, or what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A user's message.
    User {
        /// Who wrote it.
        sender: String,
        /// What became of it.
        standing: Standing,
    },
    /// The agent's reply.
    Agent,
    /// The part of a reply that was shown when a person ended the turn; the text may be empty.
    Ended {
        /// `stopped`, `reset` or `closed`.
        reason: String,
    },
    /// What a person said in the agent's place.
    Operator {
        /// Who.
        by: String,
    },
    /// What the user was told by somebody else.
    Notice,
    /// The agent asks the user.
    Question {
        /// The turn that asks.
        turn: String,
        /// It asks for a yes, before it acts.
        approval: bool,
        /// Nobody answered yet.
        open: bool,
    },
    /// A tool was called.
    Tool {
        /// Which.
        tool: String,
        /// What came of it; empty while it runs.
        outcome: String,
    },
    /// The turn gave up; the text says why.
    Failure,
    /// Something about the conversation itself.
    Divider,
}

/// What became of a user's message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing that had to be said.
    #[default]
    Taken,
    /// It waits for the turns before it.
    Queued,
    /// It waits for an external check.
    Held,
    /// A check refused it.
    Withheld,
    /// A person ended its turn, or gave it up.
    Cancelled,
    /// Its turn gave up.
    Failed,
    /// It waited too long.
    Expired,
}

impl Standing {
    /// As it is shown; empty where it goes without saying.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Taken => "",
            Self::Queued => "queued",
            Self::Held => "held",
            Self::Withheld => "withheld",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }
}

impl Entry {
    /// A new entry; its text is kept within bounds.
    pub(crate) fn new(seq: u64, at: i64, kind: Kind, text: &str) -> Self {
        Self { seq, at, kind, text: bounded(text), rev: 0 }
    }

    /// Whether somebody said it to the user.
    pub(crate) const fn is_said(&self) -> bool {
        matches!(
            self.kind,
            Kind::Agent
                | Kind::Ended { .. }
                | Kind::Operator { .. }
                | Kind::Notice
                | Kind::Question { .. }
                | Kind::Failure
        )
    }
}

/// The beginning of a text that is too long, and a word about the rest.
fn bounded(text: &str) -> String {
    if text.len() <= TEXT_BYTES_MAX {
        return text.to_owned();
    }
    let mut end = TEXT_BYTES_MAX;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}\n\n… ({} more bytes; /save has them)", &text[..end], text.len() - end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_have_an_end() {
        let entry = Entry::new(1, 0, Kind::Agent, &"é".repeat(TEXT_BYTES_MAX));
        assert!(entry.text.len() < TEXT_BYTES_MAX + 100);
        assert!(entry.text.ends_with("(262144 more bytes; /save has them)"));
    }
}
