//! The wire name of each entry.

use super::EventBody;

impl EventBody {
    /// The wire name, `category.name`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::MessageAccepted { .. } => "message.accepted",
            Self::MessageCommand { .. } => "message.command",
            Self::MessageContext { .. } => "message.context",
            Self::TurnStarted { .. } => "turn.started",
            Self::TurnProcessing { .. } => "turn.processing",
            Self::TurnMessageAbsorbed { .. } => "turn.message_absorbed",
            Self::TurnWaitingForInput { .. } => "turn.waiting_for_input",
            Self::TurnWaitingForOperator { .. } => "turn.waiting_for_operator",
            Self::TurnAnswered { .. } => "turn.answered",
            Self::TurnRetrying { .. } => "turn.retrying",
            Self::TurnRecovered { .. } => "turn.recovered",
            Self::TurnSuperseded { .. } => "turn.superseded",
            Self::TurnCompleted { .. } => "turn.completed",
            Self::TurnCancelled { .. } => "turn.cancelled",
            Self::TurnFailed { .. } => "turn.failed",
            Self::CommitReached { .. } => "commit.reached",
            Self::SupersedeAsked { .. } => "supersede.asked",
            Self::SupersedeDecided { .. } => "supersede.decided",
            Self::ToolIntended { .. } => "tool.intended",
            Self::ToolReturned { .. } => "tool.returned",
            Self::UsageRecorded { .. } => "usage.recorded",
            Self::ArtifactKept { .. } => "artifact.kept",
            Self::ArtifactReused { .. } => "artifact.reused",
            Self::AgentEvent { .. } => "agent.event",
            Self::MessageCancelled { .. } => "message.cancelled",
            Self::MessageExpired { .. } => "message.expired",
            Self::MessageRequeued { .. } => "message.requeued",
            Self::MessageDiscarded { .. } => "message.discarded",
            Self::GuardAllowed { .. } => "guard.allowed",
            Self::GuardRefused { .. } => "guard.refused",
            Self::SessionReset { .. } => "session.reset",
            Self::SessionClosed => "session.closed",
            Self::SessionReopened => "session.reopened",
            Self::SessionNotice { .. } => "session.notice",
            Self::SessionPaused { .. } => "session.paused",
            Self::SessionHandedBack { .. } => "session.handed_back",
            Self::SessionNoticeAccepted { .. } => "session.notice_accepted",
            Self::SessionNoticeCancelled { .. } => "session.notice_cancelled",
            Self::SessionOptedIn => "session.opted_in",
            Self::SessionOptedOut => "session.opted_out",
            Self::SessionImported(_) => "session.imported",
            Self::HistoryImported(_) => "history.imported",
            Self::DeliverySettled { .. } => "delivery.settled",
        }
    }
}
