//! Every read of the port, over one connection. Each takes an index or follows a chain.

use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};
use turnkeep_core::outbox::DeliveryState;
use turnkeep_core::ports::store::{DeadLetter, Loaded, PartPlace, PartRow, TurnRow};
use turnkeep_core::{Event, Seq, Session, SessionKey, Timestamp, TurnId, Version};

use super::journal::Journal;
use super::trouble::{Result, Trouble, missing};
use super::{care, encode};

/// A row of `sessions`.
pub(super) struct SessionRow {
    id: i64,
    key: SessionKey,
    version: Version,
    last_seq: Seq,
    journal_head: i64,
    turn_head: Option<TurnId>,
    snapshot: Vec<u8>,
}

const SESSION: &str =
    "SELECT id, key, version, last_seq, journal_head, turn_head, snapshot FROM sessions";

impl SessionRow {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            key: key_of(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?)?,
            version: Version(row.get::<_, i64>(2)?.cast_unsigned()),
            last_seq: Seq(row.get::<_, i64>(3)?.cast_unsigned()),
            journal_head: row.get(4)?,
            turn_head: row.get::<_, Option<[u8; 16]>>(5)?.map(|bytes| TurnId(uuid_of(bytes))),
            snapshot: row.get(6)?,
        })
    }

    pub(super) fn journal<'a>(&'a self, connection: &'a Connection) -> Journal<'a> {
        Journal {
            connection,
            key: &self.key,
            session_id: self.id,
            head: self.journal_head,
            last_seq: self.last_seq,
        }
    }

    /// The session with everything filled in that its snapshot leaves to other tables.
    fn loaded(&self, connection: &Connection) -> Result<Loaded> {
        let mut session: Session =
            encode::value(&self.snapshot, || format!("session {}", self.key))?;
        let places: Vec<Seq> = session.bodies().collect();
        if !places.is_empty() {
            let events = self.journal(connection).at(&places)?;
            for ((seq, body), event) in session.bodies_mut().zip(events) {
                *body = event.body.accepted_body().ok_or_else(|| {
                    missing(&self.key, &format!("the acceptance of message {seq}"))
                })?;
            }
        }
        for part in &mut session.outbox.parts {
            let mut statement = connection.prepare_cached(
                "SELECT text FROM parts WHERE session_id = ?1 AND reply = ?2 AND part = ?3",
            )?;
            let place = params![self.id, part.reply.0.cast_signed(), part.part];
            let text = statement.query_row(place, |row| row.get(0)).optional()?;
            part.text = text.ok_or_else(|| missing(&self.key, "a part of its outbox"))?;
        }
        if !session.acts.is_empty() {
            session.forgotten = super::care::through_seq(connection, self.id)?;
        }
        Ok(Loaded { session: Arc::new(session), version: self.version })
    }
}

/// See the port.
pub(super) fn load(connection: &Connection, key: &SessionKey) -> Result<Option<Loaded>> {
    let row = session_row(connection, key)?;
    row.map(|row| row.loaded(connection)).transpose()
}

/// See the port.
pub(super) fn open_work(
    connection: &Connection,
    before: Timestamp,
    after: Option<&(Timestamp, SessionKey)>,
    limit: usize,
) -> Result<Vec<(Timestamp, SessionKey)>> {
    // Rows of one moment stand in the order of their ids. An unknown key stands before all of
    // them: that may name a session twice, and never skips one.
    let after = match after {
        Some((at, key)) => (*at, session_id(connection, key)?.unwrap_or(0)),
        None => (Timestamp::MIN, 0),
    };
    let mut statement = connection.prepare_cached(
        "SELECT wake_at, key FROM sessions INDEXED BY sessions_open
         WHERE wake_at IS NOT NULL AND wake_at <= ?1 AND (wake_at, id) > (?2, ?3)
         ORDER BY wake_at, id LIMIT ?4",
    )?;
    let mut rows = statement.query(params![before, after.0, after.1, limit_of(limit)])?;
    let mut due = Vec::new();
    while let Some(row) = rows.next()? {
        due.push((row.get(0)?, key_at(row, 1)?));
    }
    Ok(due)
}

/// See the port.
pub(super) fn sessions(
    connection: &Connection,
    tenant: Option<&str>,
    after: Option<&SessionKey>,
    limit: usize,
) -> Result<Vec<(SessionKey, Loaded)>> {
    let (from, to) = encode::key_range(tenant, after);
    let mut statement = connection.prepare_cached(&format!(
        "{SESSION} WHERE key > ?1 AND key < coalesce(?2, x'00') ORDER BY key LIMIT ?3"
    ))?;
    let mut rows = statement.query(params![from, to, limit_of(limit)])?;
    let mut sessions = Vec::new();
    while let Some(row) = rows.next()? {
        let row = SessionRow::read(row)?;
        let loaded = row.loaded(connection)?;
        sessions.push((row.key, loaded));
    }
    Ok(sessions)
}

/// See the port.
pub(super) fn events(
    connection: &Connection,
    key: &SessionKey,
    after: Seq,
    limit: usize,
) -> Result<Vec<Event>> {
    let Some(row) = session_row(connection, key)? else { return Ok(Vec::new()) };
    row.journal(connection).events(after, limit)
}

/// See the port.
pub(super) fn turn(connection: &Connection, id: TurnId) -> Result<Option<(SessionKey, TurnRow)>> {
    let mut statement = connection.prepare_cached(
        "SELECT sessions.key, turns.body FROM turns
         LEFT JOIN sessions ON sessions.id = turns.session_id WHERE turns.id = ?1",
    )?;
    let mut rows = statement.query([&id.0.as_bytes()[..]])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let key = key_at(row, 0)?;
    let (turn, reply_at) = encode::decode_turn(id, blob_at(row, 1)?)?;
    let session = session_row(connection, &key)?;
    let session = session.ok_or_else(|| missing(&key, "its row"))?;
    let forgotten = care::through_seq(connection, session.id)?;
    let waits = || care::waits_to_be_removed(connection, session.id, id);
    if reply_at.is_some_and(|at| at <= forgotten) || waits()? {
        return Ok(None);
    }
    let turn = with_reply(turn, reply_at, &session.journal(connection))?;
    Ok(Some((key, turn)))
}

/// See the port.
pub(super) fn turns(
    connection: &Connection,
    key: &SessionKey,
    before: Option<TurnId>,
    limit: usize,
) -> Result<Vec<TurnRow>> {
    let Some(session) = session_row(connection, key)? else { return Ok(Vec::new()) };
    let journal = session.journal(connection);
    let mut statement = connection
        .prepare_cached("SELECT prev, body FROM turns WHERE id = ?1 AND session_id = ?2")?;
    // A turn that isn't one of this session's is no place in its list, only a bound on the ids.
    let place = before.map(|id| turn_before(&mut statement, id, session.id)).transpose()?.flatten();
    let bound = before.filter(|_| place.is_none());
    let mut next = place.unwrap_or(session.turn_head);
    let forgotten = care::through_turn(connection, session.id)?;
    let mut turns = Vec::new();
    while let Some(id) = next.filter(|id| turns.len() < limit && Some(*id) != forgotten) {
        let mut rows = statement.query(params![&id.0.as_bytes()[..], session.id])?;
        let row = rows.next()?.ok_or_else(|| missing(key, &format!("turn {id}")))?;
        next = row.get::<_, Option<[u8; 16]>>(0)?.map(|bytes| TurnId(uuid_of(bytes)));
        if bound.is_none_or(|bound| id < bound) {
            let (turn, reply_at) = encode::decode_turn(id, blob_at(row, 1)?)?;
            turns.push(with_reply(turn, reply_at, &journal)?);
        }
    }
    Ok(turns)
}

/// The turn before this one in the session's chain, if this one is in it.
fn turn_before(
    statement: &mut CachedStatement<'_>,
    id: TurnId,
    session_id: i64,
) -> Result<Option<Option<TurnId>>> {
    let prev = statement.query_row(params![&id.0.as_bytes()[..], session_id], |row| {
        row.get::<_, Option<[u8; 16]>>(0)
    });
    Ok(prev.optional()?.map(|prev| prev.map(|bytes| TurnId(uuid_of(bytes)))))
}

/// See the port.
pub(super) fn dead_letters(
    connection: &Connection,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, SessionKey, DeadLetter)>> {
    let mut statement = connection.prepare_cached(
        "SELECT dead_letters.id, sessions.key, seq, body FROM dead_letters
         LEFT JOIN sessions ON sessions.id = session_id
         WHERE dead_letters.id > ?1 ORDER BY dead_letters.id LIMIT ?2",
    )?;
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![after, limit_of(limit)])?;
    let mut letters = Vec::new();
    while let Some(row) = rows.next()? {
        let key = key_at(row, 1)?;
        let seq = Seq(row.get::<_, i64>(2)?.cast_unsigned());
        let letter = encode::decode_letter(&key, seq, blob_at(row, 3)?)?;
        letters.push((row.get::<_, i64>(0)?.cast_unsigned(), key, letter));
    }
    Ok(letters)
}

/// See the port. Reads an index only, and no more of it than `max` entries.
pub(super) fn dead_letters_count(connection: &Connection, max: usize) -> Result<u64> {
    let mut statement = connection.prepare_cached(
        "SELECT count(*) FROM
         (SELECT 1 FROM dead_letters INDEXED BY dead_letters_of_session LIMIT ?1)",
    )?;
    Ok(statement.query_row([limit_of(max)], |row| row.get::<_, i64>(0))?.cast_unsigned())
}

/// See the port.
pub(super) fn dead_letter(
    connection: &Connection,
    id: u64,
) -> Result<Option<(SessionKey, DeadLetter)>> {
    let Some(after) = id.checked_sub(1) else { return Ok(None) };
    let first = dead_letters(connection, after, 1)?.pop();
    Ok(first.filter(|(found, ..)| *found == id).map(|(_, key, letter)| (key, letter)))
}

/// See the port.
pub(super) fn parts(
    connection: &Connection,
    key: &SessionKey,
    after: (Seq, u32),
    limit: usize,
) -> Result<Vec<PartRow>> {
    let Some(id) = session_id(connection, key)? else { return Ok(Vec::new()) };
    let mut statement = connection.prepare_cached(
        "SELECT reply, part, body, text FROM parts
         WHERE session_id = ?1 AND (reply, part) > (?2, ?3) ORDER BY reply, part LIMIT ?4",
    )?;
    let after = after.max((care::through_seq(connection, id)?, u32::MAX));
    let after = (i64::try_from(after.0.0).unwrap_or(i64::MAX), after.1);
    let mut rows = statement.query(params![id, after.0, after.1, limit_of(limit)])?;
    let mut parts = Vec::new();
    while let Some(row) = rows.next()? {
        let place = (Seq(row.get::<_, i64>(0)?.cast_unsigned()), row.get(1)?);
        parts.push(encode::decode_part(key, place, blob_at(row, 2)?, row.get(3)?)?);
    }
    Ok(parts)
}

/// See the port. The index holds the places of these parts and no others; their texts are read only
/// for those of the page.
pub(super) fn parked(
    connection: &Connection,
    tenant: Option<&str>,
    state: Option<DeliveryState>,
    after: Option<&PartPlace>,
    limit: usize,
) -> Result<Vec<(SessionKey, PartRow)>> {
    let (from, to) = encode::key_range(tenant, None);
    let mut statement = connection.prepare_cached(
        "SELECT key, page.reply, page.part, body, text FROM
         (SELECT key, session_id, reply, part FROM parts INDEXED BY parts_parked
          CROSS JOIN sessions ON sessions.id = session_id
          WHERE substr(body, 12, 4) IN (x'64656164', x'756e6b6e') AND text <> ''
          AND (?1 IS NULL OR substr(body, 12, 4) = ?1)
          AND key > ?2 AND key < coalesce(?3, x'00') AND (key, reply, part) > (?4, ?5, ?6)
          AND reply > coalesce((SELECT through_seq FROM forgotten
                                WHERE forgotten.session_id = parts.session_id), 0)
          ORDER BY key, reply, part LIMIT ?7) AS page
         JOIN parts USING (session_id, reply, part) ORDER BY 1, 2, 3",
    )?;
    let state = state.and_then(|state| state.as_str().as_bytes().get(..4));
    let (key, reply, part) = match after {
        Some((key, reply, part)) => {
            (key.as_str(), i64::try_from(reply.0).unwrap_or(i64::MAX), *part)
        }
        None => ("", 0, 0),
    };
    let mut rows = statement.query(params![state, from, to, key, reply, part, limit_of(limit)])?;
    let mut parts = Vec::new();
    while let Some(row) = rows.next()? {
        let key = key_at(row, 0)?;
        let place = (Seq(row.get::<_, i64>(1)?.cast_unsigned()), row.get(2)?);
        let part = encode::decode_part(&key, place, blob_at(row, 3)?, row.get(4)?)?;
        parts.push((key, part));
    }
    Ok(parts)
}

pub(super) fn session_row(connection: &Connection, key: &SessionKey) -> Result<Option<SessionRow>> {
    let mut statement = connection.prepare_cached(&format!("{SESSION} WHERE key = ?1"))?;
    let mut rows = statement.query([key.as_str()])?;
    rows.next()?.map(SessionRow::read).transpose()
}

fn session_id(connection: &Connection, key: &SessionKey) -> Result<Option<i64>> {
    let mut statement = connection.prepare_cached("SELECT id FROM sessions WHERE key = ?1")?;
    Ok(statement.query_row([key.as_str()], |row| row.get(0)).optional()?)
}

fn with_reply(mut turn: TurnRow, at: Option<Seq>, journal: &Journal<'_>) -> Result<TurnRow> {
    if let Some(at) = at {
        let event = journal.at(&[at])?.pop();
        let reply = event.as_ref().and_then(encode::reply_text);
        let absent = || missing(journal.key, &format!("the reply of turn {}", turn.id));
        turn.reply = Some(reply.ok_or_else(absent)?);
    }
    Ok(turn)
}

pub(super) fn key_at(row: &Row<'_>, column: usize) -> Result<SessionKey> {
    let text = row.get_ref(column)?.as_str_or_null().map_err(rusqlite::Error::from)?;
    key_of(text.unwrap_or_default())
}

fn key_of(text: &str) -> Result<SessionKey> {
    text.parse().map_err(|error| Trouble::session(text, error))
}

fn blob_at<'row>(row: &'row Row<'_>, column: usize) -> Result<&'row [u8]> {
    Ok(row.get_ref(column)?.as_blob().map_err(rusqlite::Error::from)?)
}

pub(super) fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A stored id.
pub(super) const fn uuid_of(bytes: [u8; 16]) -> uuid::Uuid {
    uuid::Uuid::from_bytes(bytes)
}
