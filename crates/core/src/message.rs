//! One inbound event, what became of it, and how it waits.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::budget::Exceeded;
use crate::guard::AbuseKind;
use crate::ids::{QuestionId, Seq, Timestamp, Token, TurnId};
use crate::journal::CommandName;
use crate::moderation::Trigger;
use crate::policy::{BusyPolicy, Trust};

/// What a message says; shared, because journal, mailbox and agent all hold it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct MessageBody {
    /// The channel's own id of the message, or one that the gateway made.
    pub message_id: Arc<str>,
    /// Who wrote it, as the channel verified it.
    pub sender: Arc<str>,
    /// The text.
    pub text: Arc<str>,
}

/// The dedupe key, already hashed: same key means same (tenant, agent, channel, account, chat,
/// sender, message id).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    /// Hash of the dedupe key.
    pub key: [u8; 16],
    /// Hash of the body: the same id with another body is refused.
    pub body_hash: u64,
}

/// A message that the ingress admitted and that the session is to decide on.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// Who waits for the decision.
    pub token: Token,
    /// What it says.
    pub body: Arc<MessageBody>,
    /// How far its sender is trusted here.
    pub trust: Trust,
    /// Present where the sender named the message; an id that the gateway made can't be a twin.
    pub seen: Option<Seen>,
    /// Present where the sender named the request that brought it: the name counts for the whole
    /// tenant, and its body is everything that the request asked for.
    pub request: Option<Seen>,
    /// The guard did not let it in, for this reason. It comes here all the same so that a twin of
    /// an accepted message still gets its first decision; nothing else becomes of it.
    pub refused: Option<Rejection>,
    /// What it is to the session.
    pub kind: InboundKind,
    /// It is taken as the answer to this question, or not at all.
    pub answers: Option<QuestionId>,
    /// So many seconds after now its text shall be nowhere any more.
    pub disappears_s: Option<u32>,
}

/// What an admitted message is to its session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum InboundKind {
    /// Said to the agent.
    #[default]
    Message,
    /// Said in its presence; whether to it is asked of another agent first. It is held meanwhile,
    /// and it is context where that says so, or nothing in time.
    Unclear(Trigger),
    /// Said in its presence and not to it: kept for the next turn to read. It starts none.
    Context,
    /// Said to the gateway. It is done in the step that takes it, and answered in the same one.
    Command(CommandAct),
}

/// What a command does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandAct {
    /// Begin a new conversation.
    New,
    /// End the open turn.
    Stop {
        /// The part of the reply that was already shown; the session's task fills it in.
        shown: Option<Arc<str>>,
    },
    /// Choose the busy policy of this session; none for the configured one.
    Queue(Option<BusyPolicy>),
    /// Choose the model that answers in this session, of those that its agent offers; none for the
    /// agent's own.
    Model {
        /// Which.
        name: Option<Arc<str>>,
        /// What is answered, once it is chosen.
        told: Arc<str>,
    },
    /// Nothing, but answer with this.
    Say(Arc<str>),
}

impl CommandAct {
    /// What it asks for, as the journal names it.
    #[must_use]
    pub const fn name(&self) -> CommandName {
        match self {
            Self::New => CommandName::New,
            Self::Stop { .. } => CommandName::Stop,
            Self::Queue(_) => CommandName::Queue,
            Self::Model { .. } => CommandName::Model,
            Self::Say(_) => CommandName::Say,
        }
    }
}

impl Inbound {
    /// What its twins have in common with it, in the order in which it is asked for.
    pub fn names(&self) -> impl Iterator<Item = &Seen> {
        self.request.iter().chain(&self.seen)
    }

    /// Whether it may have come before; one without a name is always new.
    #[must_use]
    pub const fn is_named(&self) -> bool {
        self.request.is_some() || self.seen.is_some()
    }

    /// Why it is refused whose `nth` name came before with another body.
    #[must_use]
    pub const fn reused(&self, nth: usize) -> Rejection {
        match (&self.request, nth) {
            (Some(_), 0) => Rejection::RequestReused,
            _ => Rejection::IdReused,
        }
    }
}

/// An accepted message that no turn has committed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The journal place of its acceptance: its order, and its name in every later event.
    pub seq: Seq,
    /// When it was accepted.
    pub at: Timestamp,
    /// Fixed at acceptance.
    pub trust: Trust,
    /// Gets a later turn of its own instead of being collected with its neighbours.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
    /// Set on a retried dead letter, which keeps its turn group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<crate::ids::TurnGroupId>,
    /// Not in the snapshot: the journal holds it, and the store fills it in on load.
    #[serde(skip)]
    pub body: Arc<MessageBody>,
}

/// What the gateway did with a message; the wire names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A new turn began with it.
    WorkflowStarted,
    /// It joined the open turn.
    EventSent,
    /// It waits for a later turn.
    Queued,
    /// It was not accepted.
    Rejected,
    /// It was a command: what it asked for is done.
    Command,
    /// It was not said to the agent: it is kept for the next turn to read.
    Context,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::WorkflowStarted,
        Self::EventSent,
        Self::Queued,
        Self::Rejected,
        Self::Command,
        Self::Context,
    ];

    /// The wire name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WorkflowStarted => "workflow_started",
            Self::EventSent => "event_sent",
            Self::Queued => "queued",
            Self::Rejected => "rejected",
            Self::Command => "command",
            Self::Context => "context",
        }
    }
}

/// Why a message was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// A turn is running and the policy is `reject`.
    SessionBusy,
    /// The session's inbox is at its bound.
    QueueFull,
    /// The session is closed and this channel doesn't reopen it.
    Closed,
    /// It was to answer a question that is not open, or not asked of its sender.
    QuestionNotOpen,
    /// The same message id came before with another body.
    IdReused,
    /// The same name of a request came before with another request.
    RequestReused,
    /// The guard: too many messages.
    RateLimited {
        /// In so many milliseconds one would be let in.
        retry_after_ms: u64,
    },
    /// The guard: abuse of this kind.
    Abuse(AbuseKind),
    /// A budget is used up.
    BudgetExceeded {
        /// Which.
        budget: Exceeded,
        /// In so many milliseconds its window is over.
        retry_after_ms: u64,
    },
}

impl Rejection {
    /// The wire name.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::SessionBusy => "session_busy",
            Self::QueueFull => "queue_full",
            Self::Closed => "session_closed",
            Self::QuestionNotOpen => "question_not_open",
            Self::IdReused => "message_id_reused",
            Self::RequestReused => "idempotency_key_reused",
            Self::RateLimited { .. } => "rate_limit_exceeded",
            Self::Abuse(kind) => kind.rejection(),
            Self::BudgetExceeded { .. } => "budget_exceeded",
        }
    }
}

/// The gateway's answer to one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What was done.
    pub action: Action,
    /// The turn it is part of for now; none while it waits for a later one.
    pub turn: Option<TurnId>,
    /// Turns ahead of it, the open one included.
    pub queue_position: Option<u32>,
    /// Its place in the journal; none when rejected.
    pub seq: Option<Seq>,
    /// Why not, when rejected.
    pub rejection: Option<Rejection>,
    /// The same message came before: this is the answer it got then.
    pub duplicate: bool,
}

impl Decision {
    /// An accepted message.
    #[must_use]
    pub const fn accepted(action: Action, turn: Option<TurnId>, seq: Seq) -> Self {
        Self {
            action,
            turn,
            queue_position: None,
            seq: Some(seq),
            rejection: None,
            duplicate: false,
        }
    }

    /// A refused message.
    #[must_use]
    pub const fn rejected(rejection: Rejection) -> Self {
        Self {
            action: Action::Rejected,
            turn: None,
            queue_position: None,
            seq: None,
            rejection: Some(rejection),
            duplicate: false,
        }
    }
}
