//! One short change that says where a history begins from now on, or that a session is erased.

use rusqlite::{Connection, OptionalExtension, params};
use turnkeep_core::care::{Forgotten, tombstone};
use turnkeep_core::ports::care::{Forget, Forgot};
use turnkeep_core::{Event, Seq, Session, SessionKey, Version};

use super::super::journal::{Journal, Row};
use super::super::switchboard;
use super::super::trouble::{Result, Trouble};
use super::{disappear, through_seq};
use crate::encode;

/// What has to be known of the session.
struct Head {
    id: i64,
    version: Version,
    last_seq: Seq,
    journal_head: i64,
    open: bool,
    snapshot: Vec<u8>,
}

/// Looks at everything before its first write, so that a refusal leaves nothing to undo.
pub(super) fn forget(
    connection: &Connection,
    forget: Forget,
    named_elsewhere: &[Vec<u8>],
) -> Result<Forgot> {
    let Forget { key, expected, from, mut forgotten, bury_as } = forget;
    let Some(head) = head(connection, &key)? else { return Ok(Forgot::Changed) };
    let whole = forgotten.through == head.last_seq;
    let unfit = bury_as.is_some() && (head.open || !whole);
    if head.version != expected
        || through_seq(connection, head.id)? != from
        || forgotten.through > head.last_seq
        || unfit
    {
        return Ok(Forgot::Changed);
    }
    if is_unswept(connection, head.id)? {
        return Ok(Forgot::Unswept);
    }
    let rest = if forgotten.through > from {
        Some(cut_row(connection, &key, &head, forgotten.through)?)
    } else {
        None
    };
    let blank = match &bury_as {
        Some(name) => Some((buried_key(&key, name, head.id)?, blank_snapshot(&head, &key)?)),
        None => None,
    };
    let letters = take_letters(connection, head.id, forgotten.through)?;
    forgotten.bury(&letters);
    disappear::forget(connection, head.id, forgotten.through)?;
    put(connection, head.id, &forgotten, rest.as_ref())?;
    if let Some((alias, snapshot)) = blank {
        bury(connection, head.id, &alias, &snapshot)?;
        switchboard::forget(connection, &key)?;
        for seen in named_elsewhere {
            let mut rename =
                connection.prepare_cached("UPDATE seen SET session = ?2 WHERE key = ?1")?;
            rename.execute(params![seen, alias.as_str()])?;
        }
    }
    Ok(Forgot::Done(letters.len() as u64))
}

fn head(connection: &Connection, key: &SessionKey) -> Result<Option<Head>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, version, last_seq, journal_head, wake_at IS NOT NULL, snapshot
         FROM sessions WHERE key = ?1",
    )?;
    let head = statement.query_row([key.as_str()], |row| {
        Ok(Head {
            id: row.get(0)?,
            version: Version(row.get::<_, i64>(1)?.cast_unsigned()),
            last_seq: Seq(row.get::<_, i64>(2)?.cast_unsigned()),
            journal_head: row.get(3)?,
            open: row.get(4)?,
            snapshot: row.get(5)?,
        })
    });
    Ok(head.optional()?)
}

fn is_unswept(connection: &Connection, session_id: i64) -> Result<bool> {
    let mut statement = connection
        .prepare_cached("SELECT 1 FROM forgotten WHERE session_id = ?1 AND unswept = 1")?;
    Ok(statement.exists([session_id])?)
}

/// The row that holds the last place that goes; what of it stays, if it holds later ones too.
struct Cut {
    /// The newest row that goes whole.
    rest: i64,
    /// Of the row that is cut: its number and the events that stay.
    kept: Option<(i64, Vec<Event>)>,
}

fn cut_row(connection: &Connection, key: &SessionKey, head: &Head, through: Seq) -> Result<Cut> {
    let journal = Journal {
        connection,
        key,
        session_id: head.id,
        head: head.journal_head,
        last_seq: head.last_seq,
    };
    let row: Row = journal.covering(through.0)?;
    if row.last == through.0 {
        return Ok(Cut { rest: row.id, kept: None });
    }
    let mut events = journal.decode(&row)?;
    events.retain(|event| event.seq > through);
    Ok(Cut { rest: row.prev, kept: Some((row.id, events)) })
}

/// Dead letters go with their places at once: a person could still take one otherwise.
fn take_letters(connection: &Connection, session_id: i64, through: Seq) -> Result<Vec<Seq>> {
    let mut take = connection.prepare_cached(
        "DELETE FROM dead_letters WHERE session_id = ?1 AND seq <= ?2 RETURNING seq",
    )?;
    let place = params![session_id, through.0.cast_signed()];
    let letters = take.query_map(place, |row| Ok(Seq(row.get::<_, i64>(0)?.cast_unsigned())))?;
    Ok(letters.collect::<rusqlite::Result<_>>()?)
}

fn put(
    connection: &Connection,
    session_id: i64,
    forgotten: &Forgotten,
    cut: Option<&Cut>,
) -> Result<()> {
    if let Some((row, events)) = cut.and_then(|cut| cut.kept.as_ref()) {
        let first = events.first().map_or(0, |event| event.seq.0.cast_signed());
        let mut keep = connection
            .prepare_cached("UPDATE journal SET first_seq = ?2, events = ?3 WHERE id = ?1")?;
        keep.execute(params![row, first, blob(&events[..])?])?;
    }
    let turn = forgotten.turn.as_ref().map(|turn| &turn.0.as_bytes()[..]);
    let mut put = connection.prepare_cached(
        "INSERT INTO forgotten VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (session_id) DO UPDATE SET through_seq = excluded.through_seq,
         through_turn = excluded.through_turn, body = excluded.body,
         journal_rest = excluded.journal_rest, turn_rest = excluded.turn_rest,
         unswept = excluded.unswept",
    )?;
    put.execute(params![
        session_id,
        forgotten.through.0.cast_signed(),
        turn,
        blob(forgotten)?,
        cut.map_or(0, |cut| cut.rest),
        turn.filter(|_| cut.is_some()),
        cut.is_some(),
    ])?;
    Ok(())
}

/// The session's row stays, for dedupe rows and the audit; it says no more who it was.
fn bury(
    connection: &Connection,
    session_id: i64,
    alias: &SessionKey,
    snapshot: &[u8],
) -> Result<()> {
    let mut bury = connection.prepare_cached(
        "UPDATE sessions SET key = ?2, version = version + 1, snapshot = ?3 WHERE id = ?1",
    )?;
    bury.execute(params![session_id, alias.as_str(), snapshot])?;
    let mut unname =
        connection.prepare_cached("UPDATE usage SET customer = NULL WHERE session_id = ?1")?;
    unname.execute([session_id])?;
    Ok(())
}

/// Nobody can write there: there is no such agent.
fn buried_key(key: &SessionKey, name: &str, id: i64) -> Result<SessionKey> {
    tombstone(&key.tenant(), name, id.cast_unsigned())
        .map_err(|error| Trouble::session(key.as_str(), error))
}

fn blank_snapshot(head: &Head, key: &SessionKey) -> Result<Vec<u8>> {
    let known: Session = encode::value(&head.snapshot, || format!("session {key}"))?;
    blob(&crate::check::buried(&known))
}

fn blob<T: serde::Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    encode::blob(value).map_err(|error| Trouble::Corrupt(error.to_string()))
}
