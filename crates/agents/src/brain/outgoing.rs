//! What a brain is told, as JSON.

#[cfg(test)]
mod contract;

use std::collections::VecDeque;

use serde::Serialize;
use turnkeep_core::ids::{QuestionId, Seq, Timestamp, TurnGroupId, TurnId};
use turnkeep_core::message::Pending;
use turnkeep_core::policy::{ChannelFacts, Trust};
use turnkeep_core::ports::agent::{HistoryEntry, RecordedCall, Role, TurnContext};
use turnkeep_core::tool::{SideEffects, ToolOutcome};

use super::{HISTORY_BYTES_MAX, VERSION};

/// One object for the brain.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ToBrain<'a> {
    /// What to answer; the first of all.
    Turn(Box<Turn<'a>>),
    /// Something arrived meanwhile.
    MailWaiting,
    /// The answer to `take_mail`.
    Mail { id: &'a str, messages: Vec<Message<'a>> },
    /// The answer to `commit_point`: it is durable.
    Granted { id: &'a str },
    /// The answer to any request that is not granted.
    Refused { id: &'a str, reason: &'a str },
    /// The answer to `intend`: make it.
    Call { id: &'a str, call: Seq },
    /// The answer to `intend`: don't, this is what is known of it.
    Known {
        id: &'a str,
        #[serde(flatten)]
        known: Recorded<'a>,
    },
    /// The answer to `intend`: not before the mail is read.
    MailFirst { id: &'a str },
    /// The answer to `returned` and `keep`.
    Recorded { id: &'a str },
    /// The answer to `recall`: it holds.
    Kept { id: &'a str, content: &'a str },
    /// The answer to `recall`: it has to be made.
    None { id: &'a str, why: &'static str },
    /// What shall become of this message? Answered with `choose`.
    Question { question_id: QuestionId, message: Message<'a> },
    /// The answer to `ask`.
    Answer { id: &'a str, message: Message<'a> },
    /// No new work: finish.
    FinishNow { reason: FinishReason },
}

/// Why there shall be no new work.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FinishReason {
    /// The user stopped the turn after its commit point.
    Stopped,
    /// It was decided so, for a message that waits.
    ForceComplete,
    /// It has cost what a turn may.
    Budget,
}

impl From<turnkeep_core::session::FinishReason> for FinishReason {
    fn from(reason: turnkeep_core::session::FinishReason) -> Self {
        match reason {
            turnkeep_core::session::FinishReason::ForceComplete => Self::ForceComplete,
            turnkeep_core::session::FinishReason::Budget => Self::Budget,
        }
    }
}

impl ToBrain<'_> {
    /// One line, without its end.
    pub(super) fn text(&self) -> String {
        // Our own types always print.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[derive(Serialize)]
pub(super) struct Turn<'a> {
    version: u32,
    turn_id: TurnId,
    attempt: u32,
    turn_group_id: TurnGroupId,
    session: &'a str,
    tenant_id: String,
    agent_id: String,
    channel: &'static str,
    trust: Trust,
    resume: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    facts: Facts,
    messages: Vec<Message<'a>>,
    history: VecDeque<Line<'a>>,
    recorded: Vec<Recorded<'a>>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(
        turn: &'a TurnContext,
        history: &'a [HistoryEntry],
        recorded: &'a [RecordedCall],
    ) -> Self {
        Self {
            version: VERSION,
            turn_id: turn.tag.turn,
            attempt: turn.tag.attempt.0,
            turn_group_id: turn.group,
            session: turn.session.as_str(),
            tenant_id: turn.session.tenant(),
            agent_id: turn.session.agent(),
            channel: turn.facts.name,
            trust: turn.trust,
            resume: turn.resume,
            traceparent: turn.handle.trace().map(|span| span.traceparent()),
            facts: Facts::from(&turn.facts),
            messages: turn.messages.iter().map(Message::from).collect(),
            history: newest(history),
            recorded: recorded.iter().map(Recorded::from).collect(),
        }
    }
}

/// As much of the end as fits.
fn newest(history: &[HistoryEntry]) -> VecDeque<Line<'_>> {
    let mut bytes = 0;
    let mut lines = VecDeque::with_capacity(history.len());
    for entry in history.iter().rev() {
        bytes += entry.text.len();
        if bytes > HISTORY_BYTES_MAX {
            break;
        }
        lines.push_front(Line::from(entry));
    }
    lines
}

#[derive(Serialize)]
struct Facts {
    chars_max: Option<u32>,
    markdown: bool,
    media: bool,
    typing: bool,
}

impl From<&ChannelFacts> for Facts {
    fn from(facts: &ChannelFacts) -> Self {
        let ChannelFacts { chars_max, markdown, media, typing, .. } = *facts;
        Self { chars_max, markdown, media, typing }
    }
}

#[derive(Serialize)]
pub(super) struct Message<'a> {
    seq: Seq,
    message_id: &'a str,
    sender: &'a str,
    text: &'a str,
    at: Timestamp,
}

impl<'a> From<&'a Pending> for Message<'a> {
    fn from(pending: &'a Pending) -> Self {
        let body = &pending.body;
        let (message_id, sender, text) = (&body.message_id, &body.sender, &body.text);
        Self { seq: pending.seq, message_id, sender, text, at: pending.at }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    seq: Seq,
    role: &'static str,
    text: &'a str,
}

impl<'a> From<&'a HistoryEntry> for Line<'a> {
    fn from(entry: &'a HistoryEntry) -> Self {
        let role = match entry.role {
            Role::User => "user",
            Role::Agent => "agent",
            Role::Operator => "operator",
        };
        Self { seq: entry.seq, role, text: &entry.text }
    }
}

#[derive(Serialize)]
pub(super) struct Recorded<'a> {
    call: Seq,
    tool: &'a str,
    effects: SideEffects,
    input: &'a str,
    outcome: ToolOutcome,
    output: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    compensates: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compensated_by: Option<Seq>,
}

impl<'a> From<&'a RecordedCall> for Recorded<'a> {
    fn from(recorded: &'a RecordedCall) -> Self {
        let RecordedCall { call, tool, effects, input, outcome, output, .. } = recorded;
        let RecordedCall { compensates, compensated_by, .. } = *recorded;
        let (call, effects, outcome) = (*call, *effects, *outcome);
        Self { call, tool, effects, input, outcome, output, compensates, compensated_by }
    }
}
