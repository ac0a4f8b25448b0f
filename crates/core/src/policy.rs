//! The numbers a session lives by: one typed table of channels and the policy made from it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::accumulation::Words;
use crate::budget::Budgets;
use crate::guard::Rate;
use crate::moderation::Moderation;

/// How far a sender is trusted; a greater one may do more.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// Anybody.
    #[default]
    Public,
    /// Somebody known by name.
    Familiar,
    /// Somebody close.
    Inner,
    /// Somebody who may do nearly everything.
    Full,
    /// Whose machine it is.
    Owner,
}

impl Trust {
    /// All of them, the least first.
    pub const ALL: [Self; 5] = [Self::Public, Self::Familiar, Self::Inner, Self::Full, Self::Owner];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Familiar => "familiar",
            Self::Inner => "inner",
            Self::Full => "full",
            Self::Owner => "owner",
        }
    }

    /// How far a word trusts.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|trust| trust.as_str() == word)
    }
}

/// What happens to a message that arrives while a turn is processing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BusyPolicy {
    /// It goes to the running turn's mailbox.
    Absorb,
    /// The turn is cancelled and a new one starts with everything.
    Supersede,
    /// It waits; one later turn answers everything collected.
    Collect,
    /// It waits for a turn of its own.
    Queue,
    /// It is refused.
    Reject,
    /// The agent is asked.
    Agent,
}

/// How the accumulation window is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowMode {
    /// Never wait.
    Off,
    /// Always the channel's window.
    Fixed,
    /// The channel's window, shaped by the message, the customer's rhythm and the agent's hint.
    Adaptive,
}

/// What is done with a delivery whose outcome nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AmbiguousDelivery {
    /// Send it again under the same key; for providers that deduplicate.
    Resend,
    /// Park it in sight until a person resends it.
    Hold,
    /// Give it up.
    Dead,
}

/// What a channel can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ChannelFacts {
    /// The channel's name in keys and configuration.
    pub name: &'static str,
    /// The client fetches replies itself, so a committed reply counts as sent.
    pub pull: bool,
    /// Longest text of one part, in characters.
    pub chars_max: Option<u32>,
    /// Shows that the agent is typing.
    pub typing: bool,
    /// Reports delivery and reading.
    pub receipts: bool,
    /// Renders markdown.
    pub markdown: bool,
    /// Carries files.
    pub media: bool,
    /// Has one ear: who hears an account is the only one who can send by it.
    pub owned: bool,
    /// Parts a minute to one session.
    pub out_per_minute: Option<u32>,
    /// Pause between two parts.
    pub part_delay_ms: u32,
    /// The provider drops a second send under the same key.
    pub deduplicates: bool,
    /// A message to a closed session opens it again.
    pub reopens: bool,
    /// The built-in accumulation window.
    pub window_ms: u32,
    /// The built-in busy policy.
    pub busy: BusyPolicy,
}

const fn facts(name: &'static str, window_ms: u32, chars_max: Option<u32>) -> ChannelFacts {
    ChannelFacts {
        name,
        pull: false,
        chars_max,
        typing: false,
        receipts: false,
        markdown: false,
        media: false,
        owned: false,
        out_per_minute: None,
        part_delay_ms: 0,
        deduplicates: false,
        reopens: true,
        window_ms,
        busy: BusyPolicy::Absorb,
    }
}

/// The one table of channels (facts and default policy).
pub const CHANNELS: [ChannelFacts; 8] = [
    ChannelFacts {
        typing: true,
        receipts: true,
        media: true,
        owned: true,
        out_per_minute: Some(60),
        ..facts("signal", 1000, Some(2000))
    },
    ChannelFacts {
        pull: true,
        typing: true,
        receipts: true,
        markdown: true,
        media: true,
        out_per_minute: Some(60),
        ..facts("web", 600, Some(10_000))
    },
    ChannelFacts { pull: true, typing: true, markdown: true, ..facts("terminal", 0, None) },
    ChannelFacts {
        typing: true,
        receipts: true,
        markdown: true,
        media: true,
        out_per_minute: Some(60),
        ..facts("whatsapp", 1200, Some(4096))
    },
    ChannelFacts {
        receipts: true,
        out_per_minute: Some(30),
        busy: BusyPolicy::Collect,
        ..facts("sms", 800, Some(160))
    },
    ChannelFacts {
        markdown: true,
        media: true,
        out_per_minute: Some(10),
        busy: BusyPolicy::Collect,
        ..facts("email", 0, None)
    },
    ChannelFacts {
        out_per_minute: Some(20),
        busy: BusyPolicy::Supersede,
        ..facts("voice", 0, Some(500))
    },
    ChannelFacts {
        pull: true,
        markdown: true,
        media: true,
        reopens: false,
        busy: BusyPolicy::Collect,
        ..facts("api", 0, None)
    },
];

/// The facts of a channel by its name.
#[must_use]
pub fn channel_facts(name: &str) -> Option<&'static ChannelFacts> {
    CHANNELS.iter().find(|facts| facts.name == name)
}

/// Everything a session's rules ask, resolved once from the layers of configuration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Policy {
    /// What the channel can do.
    pub facts: ChannelFacts,
    /// What happens to a message while a turn is processing.
    pub busy: BusyPolicy,
    /// How the accumulation window is found.
    pub window_mode: WindowMode,
    /// The window before any shaping; 0 means never wait.
    pub window_ms: u32,
    /// Windows and typing together end this long after the first message.
    pub window_total_ms: u32,
    /// The words that lengthen or shorten a window; none for the built-in ones.
    pub words: Option<Arc<Words>>,
    /// Accepted messages that no running turn has taken, at most.
    pub inbox_max: u32,
    /// Messages may wait for a later turn. Without it whatever would have to is refused.
    pub queues: bool,
    /// How long a message may wait in the queue; 0 means for ever.
    pub queue_ttl_ms: u64,
    /// Every message waits for an external check first; none where nobody checks.
    pub moderation: Option<Moderation>,
    /// Messages that one turn absorbs, at most.
    pub absorbed_max: u32,
    /// Supersedes in a row; the next one is collected.
    pub supersedes_max: u32,
    /// Error attempts before a turn fails.
    pub errors_max: u32,
    /// Pause before the second attempt; doubled for each later one.
    pub error_backoff_ms: u64,
    /// Recoveries from which on a turn is backed off and run one at a time.
    pub recoveries_quarantine: u32,
    /// Recoveries after which a turn's messages become dead letters.
    pub recoveries_max: u32,
    /// How long the agent may think about a supersede question.
    pub question_ms: u64,
    /// How long a turn waits for the user's answer.
    pub input_ms: u64,
    /// What the user is told when an operator takes the agent's place; none for nothing.
    pub operator_notice: Option<Arc<str>>,
    /// An operator who does nothing for so long hands back; 0 means never.
    pub operator_timeout_ms: u64,
    /// A second failure notice within this time is swallowed.
    pub notice_quiet_ms: u64,
    /// Tries of one delivery before it is dead.
    pub delivery_tries_max: u32,
    /// Pause after a failed delivery; doubled for each later one, at most an hour.
    pub delivery_backoff_ms: u64,
    /// What is done with a delivery whose outcome nobody knows.
    pub ambiguous: AmbiguousDelivery,
    /// How long a turn may run, time waiting for a provider slot not counted.
    pub turn_ms: u64,
    /// How long an agent may be silent.
    pub silence_ms: u64,
    /// Longest reply, in bytes; a longer one fails the attempt.
    pub reply_bytes_max: u32,
    /// What is older than this is forgotten, in days; 0 means never.
    pub retention_days: u32,
    /// How much may be used; none where nothing is limited.
    pub budgets: Option<Arc<Budgets>>,
    /// How fast one customer may write.
    pub rate: Rate,
    /// How fast all customers of the tenant together may write.
    pub tenant_rate: Rate,
}

impl Policy {
    /// The built-in policy of a channel.
    #[must_use]
    pub const fn built_in(facts: ChannelFacts) -> Self {
        Self {
            busy: facts.busy,
            window_mode: WindowMode::Adaptive,
            window_ms: facts.window_ms,
            window_total_ms: 5000,
            words: None,
            inbox_max: 100,
            queues: true,
            queue_ttl_ms: 0,
            moderation: None,
            absorbed_max: 50,
            supersedes_max: 3,
            errors_max: 3,
            error_backoff_ms: 500,
            recoveries_quarantine: 3,
            recoveries_max: 20,
            question_ms: 5000,
            input_ms: 24 * 3_600_000,
            operator_notice: None,
            operator_timeout_ms: 0,
            notice_quiet_ms: 60_000,
            delivery_tries_max: 10,
            delivery_backoff_ms: 1000,
            ambiguous: if facts.deduplicates {
                AmbiguousDelivery::Resend
            } else {
                AmbiguousDelivery::Hold
            },
            turn_ms: 300_000,
            silence_ms: 120_000,
            reply_bytes_max: 1 << 20,
            retention_days: 0,
            budgets: None,
            rate: Rate::new(120, 240),
            tenant_rate: Rate::new(0, 1000),
            facts,
        }
    }
}
