//! Every read of the port, on any connection, also within a transaction. Each takes an index.
//!
//! Whatever one statement asks for is of one moment. A read that needs a second one may meet
//! something that has gone meanwhile; whoever asks then reads all of it again in a snapshot
//! ([`moment`](super::moment)). Neighbours of a row are asked for one by one (`LATERAL … LIMIT`), so
//! that no plan reads all of a table for a page, however few rows stood there when it was made.

use std::collections::BTreeMap;
use std::sync::Arc;

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use turnkeep_core::outbox::DeliveryState;
use turnkeep_core::ports::store::{DeadLetter, Loaded, PartPlace, PartRow, TurnRow};
use turnkeep_core::{Seq, Session, SessionKey, Timestamp, TurnId, Version};
use uuid::Uuid;

use super::ask::{Value, count, limit_of, row, rows, strange};
use super::journal::{self, Wanted};
use super::put::state_number;
use super::trouble::{Result, Trouble, missing};
use crate::encode;

const SESSION: &str =
    "SELECT s.id, s.key, s.version, s.snapshot, coalesce(f.through_seq, 0) AS through
                       FROM sessions s LEFT JOIN forgotten f ON f.session_id = s.id";

/// A row of `sessions`, its state without what it leaves to other tables.
struct SessionRow {
    id: i64,
    key: SessionKey,
    version: Version,
    session: Session,
}

impl SessionRow {
    fn read(row: &Row) -> Result<Self> {
        let key = key_of(row, "key")?;
        let snapshot: &[u8] = row.try_get("snapshot")?;
        let mut session: Session = encode::value(snapshot, || format!("session {key}"))?;
        if !session.acts.is_empty() {
            session.forgotten = seq_of(row, "through")?;
        }
        let version = Version(row.try_get::<_, i64>("version")?.cast_unsigned());
        Ok(Self { id: row.try_get("id")?, key, version, session })
    }
}

/// See the port.
pub(super) async fn load(on: &impl GenericClient, key: &SessionKey) -> Result<Option<Loaded>> {
    Ok(load_all(on, std::slice::from_ref(key)).await?.pop().flatten())
}

/// The same for several, in this order.
pub(super) async fn load_all(
    on: &impl GenericClient,
    keys: &[SessionKey],
) -> Result<Vec<Option<Loaded>>> {
    let sql = format!("{SESSION} WHERE s.key = ANY($1::text[])");
    let names: Vec<&str> = keys.iter().map(SessionKey::as_str).collect();
    let found = rows(on, &sql, &[&names]).await?;
    let found = fill(on, found.iter().map(SessionRow::read).collect::<Result<_>>()?).await?;
    let found: BTreeMap<SessionKey, Loaded> = found.into_iter().collect();
    Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
}

/// See the port.
pub(super) async fn sessions(
    on: &impl GenericClient,
    tenant: Option<&str>,
    after: Option<&SessionKey>,
    limit: usize,
) -> Result<Vec<(SessionKey, Loaded)>> {
    let (from, to) = encode::key_range(tenant, after);
    let sql = format!(
        "{SESSION} WHERE s.key > $1 AND ($2::text IS NULL OR s.key < $2) ORDER BY s.key LIMIT $3"
    );
    let found = rows(on, &sql, &[&from, &to, &limit_of(limit)]).await?;
    fill(on, found.iter().map(SessionRow::read).collect::<Result<_>>()?).await
}

/// Fills the bodies of messages and the texts of parts in, for all of them at once.
async fn fill(
    on: &impl GenericClient,
    mut found: Vec<SessionRow>,
) -> Result<Vec<(SessionKey, Loaded)>> {
    let mut wanted = Vec::new();
    for SessionRow { id, key, session, .. } in &found {
        wanted.extend(session.bodies().map(|seq| Wanted { key, id: *id, seq }));
    }
    let mut events = journal::at(on, &wanted).await?.into_iter();
    let mut texts = texts(on, &found).await?.into_iter();
    for SessionRow { key, session, .. } in &mut found {
        for (seq, body) in session.bodies_mut() {
            let accepted = events.next().and_then(|event| event.body.accepted_body());
            *body = accepted
                .ok_or_else(|| missing(key, &format!("the acceptance of message {seq}")))?;
        }
        for part in &mut session.outbox.parts {
            let text = texts.next().flatten();
            part.text = text.ok_or_else(|| missing(key, "a part of its outbox"))?;
        }
    }
    let loaded = found.into_iter().map(|row| {
        let SessionRow { key, version, session, .. } = row;
        (key, Loaded { session: Arc::new(session), version })
    });
    Ok(loaded.collect())
}

/// The texts of all parts that the sessions have in their outboxes, in the same order.
async fn texts(on: &impl GenericClient, found: &[SessionRow]) -> Result<Vec<Option<Arc<str>>>> {
    let (mut ids, mut replies, mut parts) = (Vec::new(), Vec::new(), Vec::new());
    for row in found {
        for part in &row.session.outbox.parts {
            ids.push(row.id);
            replies.push(part.reply.0.cast_signed());
            parts.push(i64::from(part.part));
        }
    }
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = "SELECT p.said FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])
                    WITH ORDINALITY AS n(session, reply, part, at)
               LEFT JOIN LATERAL (SELECT said FROM parts WHERE session_id = n.session
                                  AND reply = n.reply AND part = n.part LIMIT 1) p ON true
               ORDER BY n.at";
    let said = rows(on, sql, &[&ids, &replies, &parts]).await?;
    let text = |row: &Row| row.try_get::<_, Option<&[u8]>>(0)?.map(said_of).transpose();
    said.iter().map(text).collect()
}

/// See the port. Sessions that belong to another gateway which is still there are its business:
/// `own` are this one's numbers; none for who wants to see all of them.
pub(super) async fn open_work(
    on: &impl GenericClient,
    before: Timestamp,
    after: Option<&(Timestamp, SessionKey)>,
    limit: usize,
    own: Option<Vec<i64>>,
) -> Result<Vec<(Timestamp, SessionKey)>> {
    // Rows of one moment stand in the order of their ids. An unknown key stands before all of
    // them: that may name a session twice, and never skips one.
    let sql = "SELECT wake_at, key FROM open_work o
               CROSS JOIN LATERAL (SELECT key, epoch FROM sessions
                                   WHERE id = o.session_id LIMIT 1) s
               WHERE wake_at <= $1 AND (wake_at, session_id)
                    > ($2, coalesce((SELECT id FROM sessions WHERE key = $3), 0))
               AND ($5::bigint[] IS NULL OR NOT EXISTS (
                    SELECT 1 FROM nodes n WHERE n.gone_at IS NULL AND n.runs AND n.epoch <> ALL($5)
                    AND n.epoch = (s.epoch & 268435455)))
               ORDER BY wake_at, session_id LIMIT $4";
    let (at, key) = match after {
        Some((at, key)) => (*at, Some(key.as_str())),
        None => (Timestamp::MIN, None),
    };
    let due = rows(on, sql, &[&before, &at, &key, &limit_of(limit), &own]).await?;
    due.iter().map(|row| Ok((row.try_get("wake_at")?, key_of(row, "key")?))).collect()
}

/// See the port.
pub(super) async fn turn(
    on: &impl GenericClient,
    id: TurnId,
) -> Result<Option<(SessionKey, TurnRow)>> {
    let sql = "SELECT key, t.session_id, t.body, coalesce(through_seq, 0) AS through
               FROM turns t LEFT JOIN sessions s ON s.id = t.session_id
               LEFT JOIN forgotten f ON f.session_id = t.session_id
               WHERE t.id = $1 AND ord > coalesce(through_turn, 0)";
    let Some(row) = row(on, sql, &[&id.0]).await? else { return Ok(None) };
    let key = key_of(&row, "key")?;
    let (turn, reply_at) = encode::decode_turn(id, row.try_get("body")?)?;
    let through = seq_of(&row, "through")?;
    if reply_at.is_some_and(|at| at <= through) {
        return Ok(None);
    }
    let turns = with_replies(on, &key, row.try_get("session_id")?, vec![(turn, reply_at)]);
    Ok(turns.await?.pop().map(|turn| (key, turn)))
}

/// See the port. A turn that isn't one of this session's is no place in its list, only a bound on
/// the ids.
pub(super) async fn turns(
    on: &impl GenericClient,
    key: &SessionKey,
    before: Option<TurnId>,
    limit: usize,
) -> Result<Vec<TurnRow>> {
    let sql = "SELECT s.id AS session_id, t.id, t.body
               FROM (SELECT id, coalesce(through_turn, 0) AS through,
                     (SELECT ord FROM turns WHERE id = $2 AND session_id = o.id) AS place
                     FROM sessions o LEFT JOIN forgotten f ON f.session_id = o.id WHERE key = $1) s
               CROSS JOIN LATERAL (SELECT id, ord, body FROM turns
                    WHERE session_id = s.id AND ord > s.through
                    AND ord < coalesce(s.place, 9223372036854775807)
                    AND ($2::uuid IS NULL OR s.place IS NOT NULL OR id < $2)
                    ORDER BY ord DESC LIMIT $3) t
               ORDER BY t.ord DESC";
    let before: Option<Uuid> = before.map(|id| id.0);
    let found = rows(on, sql, &[&key.as_str(), &before, &limit_of(limit)]).await?;
    let Some(first) = found.first() else { return Ok(Vec::new()) };
    let session_id = first.try_get("session_id")?;
    let decode =
        |row: &Row| Ok(encode::decode_turn(TurnId(row.try_get("id")?), row.try_get("body")?)?);
    with_replies(on, key, session_id, found.iter().map(decode).collect::<Result<_>>()?).await
}

/// Fills in the replies that stand in the journal.
async fn with_replies(
    on: &impl GenericClient,
    key: &SessionKey,
    session_id: i64,
    turns: Vec<(TurnRow, Option<Seq>)>,
) -> Result<Vec<TurnRow>> {
    let places = turns.iter().filter_map(|(_, at)| *at);
    let places: Vec<_> = places.map(|seq| Wanted { key, id: session_id, seq }).collect();
    let mut events = journal::at(on, &places).await?.into_iter();
    let fill = |(mut turn, at): (TurnRow, Option<Seq>)| {
        if at.is_some() {
            let reply = events.next().as_ref().and_then(encode::reply_text);
            let absent = || missing(key, &format!("the reply of turn {}", turn.id));
            turn.reply = Some(reply.ok_or_else(absent)?);
        }
        Ok(turn)
    };
    turns.into_iter().map(fill).collect()
}

/// See the port.
pub(super) async fn dead_letters(
    on: &impl GenericClient,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, SessionKey, DeadLetter)>> {
    let sql = "SELECT d.id, key, seq, body FROM dead_letters d
               LEFT JOIN sessions s ON s.id = session_id WHERE d.id > $1 ORDER BY d.id LIMIT $2";
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let found = rows(on, sql, &[&after, &limit_of(limit)]).await?;
    let letter = |row: &Row| {
        let key = key_of(row, "key")?;
        let letter = letter_of(row, &key)?;
        Ok((row.try_get::<_, i64>("id")?.cast_unsigned(), key, letter))
    };
    found.iter().map(letter).collect()
}

/// The letter in a row with `seq` and `body`.
pub(super) fn letter_of(row: &Row, key: &SessionKey) -> Result<DeadLetter> {
    Ok(encode::decode_letter(key, seq_of(row, "seq")?, row.try_get("body")?)?)
}

/// See the port. Looks at no more than `max` of them.
pub(super) async fn dead_letters_count(on: &impl GenericClient, max: usize) -> Result<u64> {
    let sql = "SELECT count(*) FROM (SELECT 1 FROM dead_letters LIMIT $1) AS letters";
    Ok(count(on, sql, &[&limit_of(max)]).await? as u64)
}

/// See the port.
pub(super) async fn dead_letter(
    on: &impl GenericClient,
    id: u64,
) -> Result<Option<(SessionKey, DeadLetter)>> {
    let Some(after) = id.checked_sub(1) else { return Ok(None) };
    let first = dead_letters(on, after, 1).await?.pop();
    Ok(first.filter(|(found, ..)| *found == id).map(|(_, key, letter)| (key, letter)))
}

/// See the port.
pub(super) async fn parts(
    on: &impl GenericClient,
    key: &SessionKey,
    after: (Seq, u32),
    limit: usize,
) -> Result<Vec<PartRow>> {
    let sql = "SELECT p.* FROM (SELECT id, coalesce(through_seq, 0) AS through
                     FROM sessions LEFT JOIN forgotten ON session_id = id WHERE key = $1) s
               CROSS JOIN LATERAL (SELECT reply, part, body, said FROM parts
                    WHERE session_id = s.id AND (reply, part) > ($2, $3) AND reply > s.through
                    ORDER BY reply, part LIMIT $4) p
               ORDER BY reply, part";
    let (reply, part) = (i64::try_from(after.0.0).unwrap_or(i64::MAX), i64::from(after.1));
    let found = rows(on, sql, &[&key.as_str(), &reply, &part, &limit_of(limit)]).await?;
    found.iter().map(|row| part_of(row, key)).collect()
}

/// See the port. The index holds these parts and no others.
pub(super) async fn parked(
    on: &impl GenericClient,
    tenant: Option<&str>,
    state: Option<DeliveryState>,
    after: Option<&PartPlace>,
    limit: usize,
) -> Result<Vec<(SessionKey, PartRow)>> {
    let sql = "SELECT s.key, p.reply, p.part, p.body, p.said
               FROM parts p JOIN sessions s ON s.id = p.session_id
               LEFT JOIN forgotten f ON f.session_id = p.session_id
               WHERE p.state IN (3, 4) AND p.said <> ''::bytea
               AND ($1::smallint IS NULL OR p.state = $1)
               AND s.key > $2 AND ($3::text IS NULL OR s.key < $3)
               AND (s.key, p.reply, p.part) > ($4, $5, $6)
               AND p.reply > coalesce(f.through_seq, 0)
               ORDER BY s.key, p.reply, p.part LIMIT $7";
    let (from, to) = encode::key_range(tenant, None);
    let state = state.map(state_number);
    let (key, reply, part) = match after {
        Some((key, reply, part)) => {
            (key.as_str(), i64::try_from(reply.0).unwrap_or(i64::MAX), i64::from(*part))
        }
        None => ("", 0, 0),
    };
    let limit = limit_of(limit);
    let values: &[Value<'_>] = &[&state, &from, &to, &key, &reply, &part, &limit];
    let found = rows(on, sql, values).await?;
    let parked = |row: &Row| {
        let key = key_of(row, "key")?;
        let part = part_of(row, &key)?;
        Ok((key, part))
    };
    found.iter().map(parked).collect()
}

fn part_of(row: &Row, key: &SessionKey) -> Result<PartRow> {
    let part: i64 = row.try_get("part")?;
    let part = u32::try_from(part)
        .map_err(|_| strange(format_args!("session {key}: a reply has a part {part}")))?;
    let place = (seq_of(row, "reply")?, part);
    let said = said_of(row.try_get("said")?)?;
    Ok(encode::decode_part(key, place, row.try_get("body")?, said)?)
}

/// What a part says; it may hold what the database's own texts can't.
fn said_of(bytes: &[u8]) -> Result<Arc<str>> {
    let said = std::str::from_utf8(bytes);
    said.map(Arc::from).map_err(|_| strange("what a part of a reply says is no text"))
}

/// A column that holds a session's key; where its session is gone, that is told.
pub(super) fn key_of(row: &Row, column: &str) -> Result<SessionKey> {
    let text: Option<&str> = row.try_get(column)?;
    let text = text.unwrap_or_default();
    text.parse().map_err(|error| Trouble::session(text, error))
}

/// A column that holds a place.
pub(super) fn seq_of(row: &Row, column: &str) -> Result<Seq> {
    Ok(Seq(row.try_get::<_, i64>(column)?.cast_unsigned()))
}
