//! The stored forms: a format byte and compact JSON, made in the caller's task.
//!
//! Every store that outlives the process writes the same bytes, so that moving from one to another
//! is a copy of rows. A writer is the one place that every commit passes through, so it only binds.
//! Within a format, fields may be added (a reader ignores those it doesn't know); anything else
//! takes the next format byte.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use turnkeep_core::journal::DeadReason;
use turnkeep_core::message::MessageBody;
use turnkeep_core::outbox::DeliveryState;
use turnkeep_core::ports::store::{
    Commit, DeadLetter, Guard, PartRow, StoreError, TurnRow, TurnStatus, UsageRow,
};
use turnkeep_core::{
    Action, Attempt, Epoch, Event, EventBody, Seq, SessionKey, Timestamp, Trust, TurnGroupId,
    TurnId, Version,
};

use crate::check;

/// Why stored bytes can't be read; it names whose they are.
#[derive(Debug)]
pub(crate) struct Unreadable(pub(crate) String);

type Result<T> = std::result::Result<T, Unreadable>;

/// Entries that one journal row holds at most: a row is read as a whole. Nearly every commit has
/// fewer.
const ROW_EVENTS_MAX: usize = 128;

/// The first byte of every blob that this program writes.
const FORMAT: u8 = 1;

/// A commit as the writer needs it.
#[derive(Debug)]
pub(crate) struct EncodedCommit {
    pub(crate) key: SessionKey,
    pub(crate) expected: Version,
    /// Who wrote it, as the session itself says.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(
            dead_code,
            reason = "one file needs no fence; a cluster's database keeps it beside"
        )
    )]
    pub(crate) epoch: Epoch,
    /// Nothing is written; the guards are asked.
    pub(crate) asks_only: bool,
    /// The step's own time, by which a dedupe key has expired or not.
    pub(crate) now: Timestamp,
    pub(crate) wake_at: Option<Timestamp>,
    pub(crate) snapshot: Vec<u8>,
    pub(crate) journal: SmallVec<[EncodedEvents; 1]>,
    pub(crate) turns: Vec<(TurnId, Vec<u8>)>,
    pub(crate) parts: Vec<EncodedPart>,
    pub(crate) dead_letters: Vec<(Seq, Vec<u8>)>,
    /// Messages that disappear: place, seconds, when.
    pub(crate) disappearing: Vec<(Seq, u32, Timestamp)>,
    pub(crate) usage: Vec<UsageRow>,
    pub(crate) guards: SmallVec<[Guard; 1]>,
}

/// One journal row.
#[derive(Debug)]
pub(crate) struct EncodedEvents {
    pub(crate) first: Seq,
    pub(crate) last: Seq,
    pub(crate) events: Vec<u8>,
}

/// One row of `parts`.
#[derive(Debug)]
pub(crate) struct EncodedPart {
    pub(crate) reply: Seq,
    pub(crate) part: u32,
    /// The body has it too; a store that searches by it keeps it beside.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(dead_code, reason = "SQLite looks into the body")
    )]
    pub(crate) state: DeliveryState,
    pub(crate) body: Vec<u8>,
    pub(crate) text: Arc<str>,
}

#[derive(Serialize, Deserialize)]
struct StoredTurn {
    /// Absent where it is the turn's own id, which it is but for supersedes and retries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<TurnGroupId>,
    status: TurnStatus,
    attempt: Attempt,
    epoch: Epoch,
    started_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
    message_ids: SmallVec<[Arc<str>; 1]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reply: Option<Arc<str>>,
    /// The journal place that holds the reply's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reply_at: Option<Seq>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<Arc<str>>,
    /// The operator who answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<Arc<str>>,
}

#[derive(Serialize, Deserialize)]
struct StoredPart {
    state: DeliveryState,
    tries: u32,
    at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detail: Option<Arc<str>>,
}

#[derive(Serialize, Deserialize)]
struct StoredLetter {
    group: TurnGroupId,
    trust: Trust,
    reason: DeadReason,
    at: Timestamp,
    message_id: Arc<str>,
    sender: Arc<str>,
    text: Arc<str>,
}

/// Makes the rows of a commit.
pub(crate) fn encode(commit: Commit) -> std::result::Result<EncodedCommit, StoreError> {
    let now = commit.now();
    let Commit { key, expected, session, wake_at, rows } = commit;
    let asks_only = rows.question.is_some();
    let journal = encode_events(&key, &rows.events)?;
    let turns = rows.turns.into_iter();
    let turns = turns.map(|turn| Ok((turn.id, encode_turn(turn, &rows.events)?)));
    let turns = turns.collect::<std::result::Result<_, StoreError>>()?;
    let disappearing = rows.events.iter().filter_map(|event| {
        event.disappears().map(|(seconds, due_at)| (event.seq, seconds, due_at))
    });
    let disappearing = disappearing.collect();
    let parts = rows.parts.into_iter().map(encode_part);
    let letters = rows.dead_letters.iter();
    let letters = letters.map(|letter| Ok((letter.seq, encode_letter(letter)?)));
    Ok(EncodedCommit {
        expected,
        epoch: session.epoch,
        asks_only,
        now,
        wake_at,
        snapshot: if asks_only { Vec::new() } else { blob(&*session)? },
        journal,
        turns,
        parts: parts.collect::<std::result::Result<_, StoreError>>()?,
        dead_letters: letters.collect::<std::result::Result<_, StoreError>>()?,
        disappearing,
        usage: rows.usage,
        guards: rows.guards,
        key,
    })
}

fn encode_events(
    key: &SessionKey,
    events: &[Event],
) -> std::result::Result<SmallVec<[EncodedEvents; 1]>, StoreError> {
    let Some(first) = events.first() else { return Ok(SmallVec::new()) };
    check::gapless(key, Seq(first.seq.0.saturating_sub(1)), events)?;
    let rows = events.chunks(ROW_EVENTS_MAX).filter_map(|row| {
        let (first, last) = (row.first()?.seq, row.last()?.seq);
        Some(blob(row).map(|events| EncodedEvents { first, last, events }))
    });
    rows.collect()
}

fn encode_turn(turn: TurnRow, events: &[Event]) -> std::result::Result<Vec<u8>, StoreError> {
    let reply_at = turn.reply.as_deref().and_then(|reply| {
        let mut journalled = events.iter().filter_map(|event| match reply_of(event) {
            Some((id, text)) if id == turn.id && text.as_ref() == reply => Some(event.seq),
            _ => None,
        });
        journalled.next()
    });
    blob(&StoredTurn {
        group: Some(turn.group).filter(|group| group.0 != turn.id.0),
        status: turn.status,
        attempt: turn.attempt,
        epoch: turn.epoch,
        started_at: turn.started_at,
        ended_at: turn.ended_at,
        message_ids: turn.message_ids,
        reply: turn.reply.filter(|_| reply_at.is_none()),
        reply_at,
        error: turn.error,
        version: turn.version,
        by: turn.by,
    })
}

/// The reply that an event brings, and whose it is.
const fn reply_of(event: &Event) -> Option<(TurnId, &Arc<str>)> {
    match &event.body {
        EventBody::TurnCompleted { turn_id, reply: Some(reply), .. }
        | EventBody::TurnCancelled { turn_id, reply: Some(reply), .. } => Some((*turn_id, reply)),
        _ => None,
    }
}

fn encode_part(part: PartRow) -> std::result::Result<EncodedPart, StoreError> {
    let PartRow { reply, part, state, tries, text, detail, at } = part;
    let body = blob(&StoredPart { state, tries, at, detail })?;
    Ok(EncodedPart { reply, part, state, body, text })
}

fn encode_letter(letter: &DeadLetter) -> std::result::Result<Vec<u8>, StoreError> {
    blob(&StoredLetter {
        group: letter.group,
        trust: letter.trust,
        reason: letter.reason,
        at: letter.at,
        message_id: Arc::clone(&letter.body.message_id),
        sender: Arc::clone(&letter.body.sender),
        text: Arc::clone(&letter.body.text),
    })
}

/// A turn's row as stored; where its reply stands in the journal, that has to be read as well.
pub(crate) fn decode_turn(id: TurnId, bytes: &[u8]) -> Result<(TurnRow, Option<Seq>)> {
    let stored: StoredTurn = value(bytes, || format!("turn {id}"))?;
    let row = TurnRow {
        id,
        group: stored.group.unwrap_or(TurnGroupId(id.0)),
        status: stored.status,
        attempt: stored.attempt,
        epoch: stored.epoch,
        started_at: stored.started_at,
        ended_at: stored.ended_at,
        message_ids: stored.message_ids,
        reply: stored.reply,
        error: stored.error,
        version: stored.version,
        by: stored.by,
    };
    Ok((row, stored.reply_at))
}

/// The body of a part's row, for one that is there.
pub(crate) fn part_body(part: &PartRow) -> Result<Vec<u8>> {
    let PartRow { state, tries, at, detail, .. } = part.clone();
    let body = blob(&StoredPart { state, tries, at, detail });
    body.map_err(|error| Unreadable(error.to_string()))
}

/// The row of a turn without the texts in it; the journal keeps the reply's place.
pub(crate) fn blank_turn(id: TurnId, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stored: StoredTurn = value(bytes, || format!("turn {id}"))?;
    stored.message_ids.clear();
    stored.reply = stored.reply.map(|_| Arc::default());
    stored.error = None;
    stored.by = stored.by.map(|_| Arc::default());
    blob(&stored).map_err(|error| Unreadable(error.to_string()))
}

/// The reply's text out of its event.
pub(crate) fn reply_text(event: &Event) -> Option<Arc<str>> {
    reply_of(event).map(|(_, reply)| Arc::clone(reply))
}

pub(crate) fn decode_part(
    key: &SessionKey,
    (reply, part): (Seq, u32),
    bytes: &[u8],
    text: Arc<str>,
) -> Result<PartRow> {
    let stored: StoredPart =
        value(bytes, || format!("session {key}: part {part} of reply {reply}"))?;
    let StoredPart { state, tries, at, detail } = stored;
    Ok(PartRow { reply, part, state, tries, text, detail, at })
}

pub(crate) fn decode_letter(key: &SessionKey, seq: Seq, bytes: &[u8]) -> Result<DeadLetter> {
    let stored: StoredLetter = value(bytes, || format!("session {key}: dead letter of {seq}"))?;
    let StoredLetter { group, trust, reason, at, message_id, sender, text } = stored;
    let body = Arc::new(MessageBody { message_id, sender, text });
    Ok(DeadLetter { seq, group, trust, reason, at, body })
}

/// An action as a small number; the row has to be short.
pub(crate) const fn action_number(action: Action) -> i64 {
    match action {
        Action::WorkflowStarted => 0,
        Action::EventSent => 1,
        Action::Queued => 2,
        Action::Rejected => 3,
        Action::Command => 4,
        Action::Context => 5,
    }
}

/// The other way round.
pub(crate) fn action_of(number: i64) -> Result<Action> {
    let action = Action::ALL.into_iter().find(|action| action_number(*action) == number);
    action.ok_or_else(|| Unreadable(format!("a dedupe row holds the action {number}")))
}

/// Format byte and JSON.
pub(crate) fn blob<T: Serialize + ?Sized>(value: &T) -> std::result::Result<Vec<u8>, StoreError> {
    // Most snapshots and journal rows fit, so that they are allocated once.
    let mut bytes = Vec::with_capacity(512);
    bytes.push(FORMAT);
    serde_json::to_writer(&mut bytes, value)
        .map_err(|error| StoreError::Corrupt(format!("a row can't be written as JSON: {error}")))?;
    Ok(bytes)
}

/// Reads what [`blob`] wrote; `whose` names it where that fails.
pub(crate) fn value<T: DeserializeOwned>(bytes: &[u8], whose: impl Fn() -> String) -> Result<T> {
    match bytes.split_first() {
        Some((&FORMAT, json)) => serde_json::from_slice(json)
            .map_err(|error| Unreadable(format!("{}: {error}", whose()))),
        Some((format, _)) => Err(Unreadable(format!(
            "{}: written in format {format} by a newer Turnkeep; this one knows up to {FORMAT}",
            whose()
        ))),
        None => Err(Unreadable(format!("{}: the row is empty", whose()))),
    }
}

/// The texts between which the keys of a tenant stand, behind `after`. They begin with the tenant's
/// encoded segment and a colon, and no segment holds one.
pub(crate) fn key_range(
    tenant: Option<&str>,
    after: Option<&SessionKey>,
) -> (String, Option<String>) {
    let segment = tenant.map(|tenant| tenant.replace('%', "%25").replace(':', "%3A"));
    let from = segment.as_ref().map_or(String::new(), |segment| format!("{segment}:"));
    let from = from.as_str().max(after.map_or("", SessionKey::as_str)).to_owned();
    (from, segment.map(|segment| format!("{segment};")))
}
