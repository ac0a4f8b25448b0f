//! Which branches of `step` were reached: stage times kind of input times outcome, counted from
//! outside.

use turnkeep_core::Session;
use turnkeep_core::journal::EventBody;
use turnkeep_core::ports::store::Rows;
use turnkeep_core::session::{Ignored, Stage};

/// What an input is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(usize)]
#[expect(missing_docs, reason = "each is the input or control of that name")]
pub enum Kind {
    #[default]
    Adopt,
    Release,
    Grant,
    Message,
    Typing,
    Timer,
    QueueExpiry,
    TakeMail,
    CommitPoint,
    Ask,
    Emit,
    Answer,
    Finished,
    Failed,
    Stop,
    New,
    Close,
    SetBusy,
    Retry,
    Discard,
    Resend,
    Delivered,
    DeliveryFailed,
    DeliveryUnknown,
    Notify,
    OptIn,
    Ruling,
    Intend,
    Returned,
    Keep,
    Recall,
    Pause,
    Reply,
    HandBack,
    Used,
    Command,
    Context,
}

const KINDS: usize = 37;
const KIND_NAMES: [&str; KINDS] = [
    "adopt",
    "release",
    "grant",
    "message",
    "typing",
    "timer",
    "queue expiry",
    "take mail",
    "commit point",
    "ask",
    "emit",
    "answer",
    "finished",
    "failed",
    "stop",
    "new",
    "close",
    "set busy",
    "retry",
    "discard",
    "resend",
    "delivered",
    "delivery failed",
    "delivery unknown",
    "notify",
    "opt in",
    "ruling",
    "intend",
    "returned",
    "keep",
    "recall",
    "pause",
    "reply",
    "hand back",
    "used",
    "command",
    "context",
];

const STAGES: usize = 11;
const STAGE_NAMES: [&str; STAGES] = [
    "idle",
    "closed",
    "accumulating",
    "processing",
    "committed",
    "stopping",
    "backoff",
    "quarantined",
    "waiting",
    "waiting, run gone",
    "with operator",
];

/// Outcomes: the last journal entry's type, or a change without one, or effects only, or a reason.
const EVENTS: [&str; 43] = [
    "message.accepted",
    "turn.started",
    "turn.processing",
    "turn.message_absorbed",
    "turn.waiting_for_input",
    "turn.answered",
    "turn.retrying",
    "turn.recovered",
    "turn.superseded",
    "turn.completed",
    "turn.cancelled",
    "turn.failed",
    "commit.reached",
    "agent.event",
    "supersede.asked",
    "supersede.decided",
    "message.cancelled",
    "message.expired",
    "message.requeued",
    "message.discarded",
    "session.reset",
    "session.closed",
    "session.reopened",
    "session.notice",
    "delivery.settled",
    "session.notice_accepted",
    "session.notice_cancelled",
    "session.opted_in",
    "session.opted_out",
    "guard.allowed",
    "guard.refused",
    "tool.intended",
    "tool.returned",
    "artifact.kept",
    "artifact.reused",
    "session.paused",
    "session.handed_back",
    "turn.waiting_for_operator",
    "usage.recorded",
    "message.command",
    "message.context",
    "session.imported",
    "history.imported",
];
const CHANGED: usize = EVENTS.len();
const ANSWERED: usize = CHANGED + 1;
const IGNORED: usize = ANSWERED + 1;
const REASONS: [(Ignored, &str); 15] = [
    (Ignored::StaleRun, "stale run"),
    (Ignored::StaleTimer, "stale timer"),
    (Ignored::StaleQuestion, "stale question"),
    (Ignored::StaleRuling, "stale ruling"),
    (Ignored::TypingNotGathering, "typing, not gathering"),
    (Ignored::QuarantineNotWanted, "grant not wanted"),
    (Ignored::StaleDelivery, "stale delivery"),
    (Ignored::NoSuchCall, "no such call"),
    (Ignored::BookedUsage, "booked usage"),
    (Ignored::AlreadyAdopted, "already adopted"),
    (Ignored::NotTheOwner, "not the owner"),
    (Ignored::RunIsWaiting, "run is waiting"),
    (Ignored::NothingToRelease, "nothing to release"),
    (Ignored::NothingExpired, "nothing expired"),
    (Ignored::NothingToControl, "nothing to control"),
];
const OUTCOMES: usize = IGNORED + REASONS.len() + 1;

/// The counters.
#[derive(Clone, Debug)]
pub struct Coverage {
    counts: Vec<u64>,
}

/// Where a session stood before an input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before {
    stage: usize,
    kind: Kind,
}

impl Before {
    pub(crate) fn of(session: &Session, kind: Kind) -> Self {
        let stage = match &session.turn {
            None if session.closed => 1,
            None => 0,
            Some(turn) => match turn.stage {
                Stage::Accumulating { .. } => 2,
                Stage::Processing if turn.stopping => 5,
                Stage::Processing if turn.committed => 4,
                Stage::Processing => 3,
                Stage::Backoff { .. } => 6,
                Stage::Quarantined => 7,
                Stage::Waiting { live: true, .. } => 8,
                Stage::Waiting { live: false, .. } => 9,
                Stage::Operator => 10,
            },
        };
        Self { stage, kind }
    }
}

impl Default for Coverage {
    fn default() -> Self {
        Self { counts: vec![0; STAGES * KINDS * OUTCOMES] }
    }
}

impl Coverage {
    pub(crate) fn count(&mut self, before: Before, rows: Option<&Rows>, ignored: Option<Ignored>) {
        let outcome = match (rows, ignored) {
            (Some(rows), _) => rows.events.last().map_or(CHANGED, |last| event_number(&last.body)),
            (None, Some(reason)) => {
                let known = REASONS.iter().position(|(known, _)| *known == reason);
                IGNORED + known.unwrap_or(REASONS.len())
            }
            (None, None) => ANSWERED,
        };
        self.counts[place(before.stage, before.kind as usize, outcome)] += 1;
    }

    /// Adds what another world counted.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    /// Branches that were reached: stage, kind, outcome, how often.
    pub fn reached(&self) -> impl Iterator<Item = (&'static str, &'static str, &'static str, u64)> {
        places().filter_map(|(stage, kind, outcome)| {
            let count = self.counts[place(stage, kind, outcome)];
            (count > 0)
                .then(|| (STAGE_NAMES[stage], KIND_NAMES[kind], outcome_name(outcome), count))
        })
    }

    /// How often a branch was reached.
    #[must_use]
    pub fn times(&self, stage: &str, kind: &str, outcome: &str) -> u64 {
        let found = self.reached().find(|one| (one.0, one.1, one.2) == (stage, kind, outcome));
        found.map_or(0, |one| one.3)
    }

    /// Pairs of stage and kind that were never seen together.
    pub fn never(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let pairs = (0..STAGES).flat_map(|stage| (0..KINDS).map(move |kind| (stage, kind)));
        pairs.filter_map(|(stage, kind)| {
            let seen = (0..OUTCOMES).any(|outcome| self.counts[place(stage, kind, outcome)] > 0);
            (!seen).then(|| (STAGE_NAMES[stage], KIND_NAMES[kind]))
        })
    }

    /// Reasons for ignoring an input that never came up.
    pub fn reasons_never_given(&self) -> impl Iterator<Item = &'static str> {
        REASONS.iter().enumerate().filter_map(|(index, (_, name))| {
            let given = (0..STAGES).any(|stage| {
                (0..KINDS).any(|kind| self.counts[place(stage, kind, IGNORED + index)] > 0)
            });
            (!given).then_some(*name)
        })
    }
}

const fn place(stage: usize, kind: usize, outcome: usize) -> usize {
    (stage * KINDS + kind) * OUTCOMES + outcome
}

fn places() -> impl Iterator<Item = (usize, usize, usize)> {
    (0..STAGES).flat_map(|stage| {
        (0..KINDS).flat_map(move |kind| (0..OUTCOMES).map(move |outcome| (stage, kind, outcome)))
    })
}

/// Its place in [`EVENTS`].
const fn event_number(body: &EventBody) -> usize {
    match body {
        EventBody::MessageAccepted { .. } => 0,
        EventBody::TurnStarted { .. } => 1,
        EventBody::TurnProcessing { .. } => 2,
        EventBody::TurnMessageAbsorbed { .. } => 3,
        EventBody::TurnWaitingForInput { .. } => 4,
        EventBody::TurnAnswered { .. } => 5,
        EventBody::TurnRetrying { .. } => 6,
        EventBody::TurnRecovered { .. } => 7,
        EventBody::TurnSuperseded { .. } => 8,
        EventBody::TurnCompleted { .. } => 9,
        EventBody::TurnCancelled { .. } => 10,
        EventBody::TurnFailed { .. } => 11,
        EventBody::CommitReached { .. } => 12,
        EventBody::AgentEvent { .. } => 13,
        EventBody::SupersedeAsked { .. } => 14,
        EventBody::SupersedeDecided { .. } => 15,
        EventBody::MessageCancelled { .. } => 16,
        EventBody::MessageExpired { .. } => 17,
        EventBody::MessageRequeued { .. } => 18,
        EventBody::MessageDiscarded { .. } => 19,
        EventBody::SessionReset { .. } => 20,
        EventBody::SessionClosed => 21,
        EventBody::SessionReopened => 22,
        EventBody::SessionNotice { .. } => 23,
        EventBody::DeliverySettled { .. } => 24,
        EventBody::SessionNoticeAccepted { .. } => 25,
        EventBody::SessionNoticeCancelled { .. } => 26,
        EventBody::SessionOptedIn => 27,
        EventBody::SessionOptedOut => 28,
        EventBody::GuardAllowed { .. } => 29,
        EventBody::GuardRefused { .. } => 30,
        EventBody::ToolIntended { .. } => 31,
        EventBody::ToolReturned { .. } => 32,
        EventBody::ArtifactKept { .. } => 33,
        EventBody::ArtifactReused { .. } => 34,
        EventBody::SessionPaused { .. } => 35,
        EventBody::SessionHandedBack { .. } => 36,
        EventBody::TurnWaitingForOperator { .. } => 37,
        EventBody::UsageRecorded { .. } => 38,
        EventBody::MessageCommand { .. } => 39,
        EventBody::MessageContext { .. } => 40,
        EventBody::SessionImported(_) => 41,
        EventBody::HistoryImported(_) => 42,
    }
}

fn outcome_name(outcome: usize) -> &'static str {
    match outcome {
        CHANGED => "changed",
        ANSWERED => "answered",
        _ => EVENTS
            .get(outcome)
            .copied()
            .or_else(|| REASONS.get(outcome - IGNORED).map(|(_, name)| *name))
            .unwrap_or("ignored"),
    }
}
