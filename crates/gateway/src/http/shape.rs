//! The shapes that several answers share, as the contract names their fields.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};
use turnkeep_core::accumulation::Rhythm;
use turnkeep_core::ids::{QuestionId, Seq, TurnGroupId, TurnId};
use turnkeep_core::message::{Action, Decision};
use turnkeep_core::ports::store::{Loaded, TurnRow, TurnStatus};
use turnkeep_core::session::{Session, SessionStatus};
use turnkeep_core::switchboard::Row;
use turnkeep_core::usage::Sums;
use turnkeep_core::{SessionKey, SessionKind};
use utoipa::ToSchema;

use super::problem::Problem;
use super::usage::UsageShape;
use crate::follow::Settled;

/// A moment, which prints as RFC 3339 in UTC with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(pub(super) turnkeep_core::Timestamp);

impl fmt::Display for Moment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A moment outside of the calendar can only come from a broken clock.
        let moment = jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::MIN);
        write!(formatter, "{moment:.3}")
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads a session key out of a path or a query.
pub(super) fn session_key(field: &'static str, text: &str) -> Result<SessionKey, Problem> {
    text.parse().map_err(|error: turnkeep_core::session_key::SessionKeyError| {
        Problem::field(field, error.to_string())
    })
}

/// Reads a turn id out of a path, a query or a body.
pub(super) fn turn_id(field: &'static str, text: &str) -> Result<TurnId, Problem> {
    text.parse().map_err(|_| Problem::field(field, format!("{text:?} is not the id of a turn")))
}

/// Whether the accepted message is being worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum AcceptedStatus {
    /// A turn has it.
    Processing,
    /// It waits for a later turn.
    Queued,
    /// Its turn asks the user something, and waits for the answer.
    WaitingForInput,
    /// It needs no turn: it was a command, or it is kept for the next turn to read.
    Done,
}

/// A message became the gateway's; it is durable by now.
#[derive(Serialize, ToSchema)]
pub(super) struct Accepted<'a> {
    /// Whether a turn has it: `processing` or `queued`, and `waiting_for_input` where that is known
    /// because somebody waited. `done` where it needs none.
    pub(super) status: AcceptedStatus,
    /// What the turn asks the user; the next message of theirs is the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(super) question: Option<Arc<str>>,
    /// Names the question.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub(super) question_id: Option<QuestionId>,
    /// `workflow_started`, `event_sent` or `queued`; `command` for a command and `context` for what
    /// was not said to the agent.
    #[schema(value_type = String)]
    pub(super) action: Action,
    /// The turn it is part of for now; null while it is queued.
    #[schema(value_type = Option<uuid::Uuid>)]
    pub(super) turn_id: Option<TurnId>,
    /// The same.
    #[schema(value_type = Option<uuid::Uuid>)]
    pub(super) workflow_run_id: Option<TurnId>,
    /// The session's key.
    pub(super) session: &'a str,
    /// The message's id, which the gateway made if the sender did not.
    pub(super) message_id: &'a str,
    /// Its place in the session's journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub(super) seq: Option<Seq>,
    /// Turns ahead of it, the open one included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) queue_position: Option<u32>,
    /// The same message came before, and this is the answer it got then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) duplicate: bool,
}

impl<'a> Accepted<'a> {
    /// Its turn asks the user something.
    pub(super) fn asking(self, settled: &Settled) -> Self {
        let Some(asked) = &settled.asked else { return self };
        Self {
            status: AcceptedStatus::WaitingForInput,
            question: Some(Arc::clone(&asked.text)),
            question_id: Some(asked.id),
            turn_id: settled.turn,
            workflow_run_id: settled.turn,
            ..self
        }
    }

    pub(super) const fn new(session: &'a str, message_id: &'a str, decision: &Decision) -> Self {
        let queued = matches!(decision.action, Action::Queued);
        let turn_id = if queued { None } else { decision.turn };
        Self {
            status: match decision.action {
                Action::Queued => AcceptedStatus::Queued,
                Action::Command | Action::Context => AcceptedStatus::Done,
                _ => AcceptedStatus::Processing,
            },
            question: None,
            question_id: None,
            action: decision.action,
            turn_id,
            workflow_run_id: turn_id,
            session,
            message_id,
            seq: decision.seq,
            queue_position: decision.queue_position,
            duplicate: decision.duplicate,
        }
    }
}

/// A session.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
pub(super) struct SessionShape<'a> {
    /// Its key.
    session: &'a str,
    /// Who owns the deployment slice.
    tenant_id: String,
    /// Which agent answers.
    agent_id: String,
    /// Who talks to it, or which group.
    customer_id: String,
    /// The way its messages come and go.
    channel: String,
    /// `dm`, `group`, `main`, `cron`, `isolated` or `subagent`.
    #[schema(value_type = String)]
    kind: SessionKind,
    /// `idle`, `accumulating`, `processing`, `waiting_for_input`, `waiting_for_operator`,
    /// `hibernated`, `closed`, `failed`.
    #[schema(value_type = String)]
    state: SessionStatus,
    /// Who has the agent's place; absent while the agent has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<PausedShape>,
    /// The open turn.
    #[schema(value_type = Option<uuid::Uuid>)]
    open_turn_id: Option<TurnId>,
    /// Accepted messages that no turn has taken: the queue, the open turn's mailbox, and those that
    /// are held.
    queued: usize,
    /// Of these, messages that wait for an external check, and those behind them.
    held: usize,
    /// Where its journal ends.
    #[schema(value_type = u64)]
    last_seq: Seq,
    /// The customer takes messages that nobody asked for.
    opted_in: bool,
    /// Such messages that wait for the open turn's end.
    notices: usize,
    /// What its runs used, from its beginning on; absent while none reported anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageShape>,
    /// How fast the customer writes.
    rhythm: RhythmShape,
    /// When anything last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Moment,
    /// Its number on the switchboard; absent where it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u32>,
    /// What people call it there; absent where it has no name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    name: Option<Arc<str>>,
}

/// An operator who has the agent's place.
#[derive(Serialize, ToSchema)]
#[schema(as = Paused)]
pub(super) struct PausedShape {
    /// The operator's name.
    #[schema(value_type = String)]
    by: Arc<str>,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    since: Moment,
    /// When the agent gets it back if the operator does nothing; absent for never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Moment>,
}

pub(super) fn paused_of(session: &Session) -> Option<PausedShape> {
    session.paused.as_ref().map(|paused| PausedShape {
        by: Arc::clone(&paused.by),
        since: Moment(paused.since),
        until: paused.until.map(|until| Moment(until.at)),
    })
}

/// How fast a customer writes: the gaps between messages of one burst. From five samples on it
/// shapes how long a burst is waited for.
#[derive(Serialize, ToSchema)]
#[schema(as = Rhythm)]
pub(super) struct RhythmShape {
    /// Gaps that were measured; the last 32 count.
    samples: u32,
    /// The median gap.
    p50_ms: u32,
    /// The 95th percentile.
    p95_ms: u32,
}

impl From<Rhythm> for RhythmShape {
    fn from(rhythm: Rhythm) -> Self {
        let Rhythm { samples, p50_ms, p95_ms } = rhythm;
        Self { samples, p50_ms, p95_ms }
    }
}

impl<'a> SessionShape<'a> {
    /// For a customer: what their conversation costs is not theirs to see.
    pub(super) fn without_use(self, yes: bool) -> Self {
        Self { usage: self.usage.filter(|_| !yes), ..self }
    }

    pub(super) fn new(key: &'a SessionKey, loaded: &Loaded) -> Self {
        let session = &loaded.session;
        let mailbox = session.turn.as_ref().map_or(0, |turn| turn.mailbox.len());
        Self {
            session: key.as_str(),
            tenant_id: key.tenant(),
            agent_id: key.agent(),
            customer_id: key.peer(),
            channel: key.channel(),
            kind: key.kind(),
            state: session.status(),
            paused: paused_of(session),
            open_turn_id: session.turn.as_ref().map(|turn| turn.id),
            queued: session.queue.len() + mailbox + session.held.len(),
            held: session.held.len(),
            last_seq: session.last_seq,
            opted_in: session.opted_in,
            notices: session.notices.len(),
            usage: session.spent.as_ref().map(|spent| (&spent.sums).into()),
            rhythm: session.rhythm.rhythm().into(),
            updated_at: Moment(session.updated_at),
            number: None,
            name: None,
        }
    }

    /// With what the switchboard calls it.
    pub(super) fn on_the_board(self, row: Option<Arc<Row>>) -> Self {
        let Some(row) = row else { return self };
        Self { number: Some(row.number), name: row.name.clone(), ..self }
    }
}

/// A turn.
#[derive(Serialize, ToSchema)]
#[schema(as = Turn)]
pub(super) struct TurnShape<'a> {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    turn_id: TurnId,
    /// The session's key.
    session: &'a str,
    /// `accumulating`, `processing`, `waiting_for_input`, `waiting_for_operator`, `complete`,
    /// `superseded`, `cancelled` or `failed`.
    #[schema(value_type = String)]
    status: TurnStatus,
    /// Its messages, by the channel's ids.
    #[schema(value_type = Vec<String>)]
    message_ids: &'a [Arc<str>],
    /// Its reply; null until it is committed, or where the agent chose silence.
    reply: Option<&'a str>,
    /// The operator who answered in the agent's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'a str>,
    /// Runs begun.
    attempt: u32,
    /// Who ran it last.
    epoch: u64,
    /// Its supersede chain.
    #[schema(value_type = uuid::Uuid)]
    turn_group_id: TurnGroupId,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    started_at: Moment,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Moment>,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    /// Which version of the agent answered, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    /// What its runs used; absent while none reported anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageShape>,
}

impl<'a> TurnShape<'a> {
    pub(super) fn new(key: &'a SessionKey, row: &'a TurnRow) -> Self {
        Self {
            turn_id: row.id,
            session: key.as_str(),
            status: row.status,
            message_ids: &row.message_ids,
            reply: row.reply.as_deref(),
            by: row.by.as_deref(),
            attempt: row.attempt.0,
            epoch: row.epoch.0,
            turn_group_id: row.group,
            started_at: Moment(row.started_at),
            ended_at: row.ended_at.map(Moment),
            error: row.error.as_deref(),
            version: row.version.as_deref(),
            usage: None,
        }
    }

    /// With what it used, if it is among these. Customers are shown none of it.
    pub(super) fn using(self, used: &[(TurnId, Sums)]) -> Self {
        let own = used.iter().find(|(turn, _)| *turn == self.turn_id);
        Self { usage: own.map(|(_, sums)| sums.into()), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_print_as_rfc_3339() {
        let check = |at, expect: &str| assert_eq!(Moment(at).to_string(), expect);
        check(0, "1970-01-01T00:00:00.000Z");
        check(1_700_000_000_120, "2023-11-14T22:13:20.120Z");
        check(i64::MAX, &Moment(i64::MIN).to_string());
    }
}
