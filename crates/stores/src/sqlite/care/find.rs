//! Looking for sessions, senders and dead letters.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};
use turnkeep_core::ports::attachments::named_in;
use turnkeep_core::ports::care::{Found, Hashes};
use turnkeep_core::ports::store::DeadLetter;
use turnkeep_core::{Seq, SessionKey};

use super::super::read::{key_at, limit_of};
use super::super::trouble::{Result, Trouble};
use crate::encode;

/// Rows of the journal that one stretch of a search reads at most.
const STRETCH_ROWS: i64 = 5000;
/// Bytes after which a stretch ends, so that a reader is soon free again.
const STRETCH_BYTES: usize = 8 * 1024 * 1024;

/// See the port.
pub(super) fn keys(
    connection: &Connection,
    tenant: Option<&str>,
    after: Option<&SessionKey>,
    limit: usize,
) -> Result<Vec<SessionKey>> {
    let (from, to) = encode::key_range(tenant, after);
    let mut statement = connection.prepare_cached(
        "SELECT key FROM sessions WHERE key > ?1 AND key < coalesce(?2, x'00')
         ORDER BY key LIMIT ?3",
    )?;
    let mut rows = statement.query(params![from, to, limit_of(limit)])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        keys.push(key_at(row, 0)?);
    }
    Ok(keys)
}

/// See the port.
pub(super) fn letters(connection: &Connection, key: &SessionKey) -> Result<Vec<DeadLetter>> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, body FROM dead_letters JOIN sessions ON sessions.id = session_id
         WHERE key = ?1 ORDER BY seq",
    )?;
    let mut rows = statement.query([key.as_str()])?;
    let mut letters = Vec::new();
    while let Some(row) = rows.next()? {
        let seq = Seq(row.get::<_, i64>(0)?.cast_unsigned());
        let body: Vec<u8> = row.get(1)?;
        letters.push(encode::decode_letter(key, seq, &body)?);
    }
    Ok(letters)
}

/// Reads rows as they are stored: only what holds the name as a sender is looked at closer, and
/// that it holds it is enough for naming the session.
pub(super) fn sender(
    connection: &Connection,
    tenant: &str,
    sender: &str,
    from: u64,
) -> Result<Found> {
    let name = serde_json::to_string(sender)
        .map_err(|error| Trouble::Corrupt(format!("a sender can't be written: {error}")))?;
    let needle = format!("\"sender\":{name}");
    let end: i64 =
        connection.query_row("SELECT coalesce(max(id), 0) FROM journal", [], |row| row.get(0))?;
    let mut found = Found { end: end.cast_unsigned(), ..Found::default() };
    let mut statement = connection.prepare_cached(
        "SELECT id, session_id, events FROM journal WHERE id > ?1 ORDER BY id LIMIT ?2",
    )?;
    let mut rows = statement.query(params![limit_of_place(from), STRETCH_ROWS])?;
    let (mut bytes, mut sessions) = (0, BTreeSet::new());
    while bytes < STRETCH_BYTES {
        let Some(row) = rows.next()? else { break };
        let events = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
        bytes += events.len();
        let text = std::str::from_utf8(events.get(1..).unwrap_or_default());
        if text.is_ok_and(|text| text.contains(&needle)) {
            sessions.insert(row.get::<_, i64>(1)?);
        }
        found.next = Some(row.get::<_, i64>(0)?.cast_unsigned());
    }
    found.next = found.next.filter(|next| *next < found.end);
    let mut name = connection.prepare_cached("SELECT key FROM sessions WHERE id = ?1")?;
    for id in sessions {
        let mut rows = name.query([id])?;
        if let Some(row) = rows.next()? {
            let key = key_at(row, 0)?;
            if key.tenant() == tenant {
                found.keys.push(key);
            }
        }
    }
    Ok(found)
}

/// See the port. A hash looks the same in JSON.
pub(super) fn hashes(connection: &Connection, from: u64) -> Result<Hashes> {
    let mut hashes = Hashes::default();
    if from == 0 {
        in_jobs(connection, &mut hashes.found)?;
    }
    let mut statement = connection
        .prepare_cached("SELECT id, events FROM journal WHERE id > ?1 ORDER BY id LIMIT ?2")?;
    let mut rows = statement.query(params![limit_of_place(from), STRETCH_ROWS])?;
    let (mut bytes, mut read) = (0, 0);
    while bytes < STRETCH_BYTES {
        let Some(row) = rows.next()? else {
            hashes.next = hashes.next.filter(|_| read == STRETCH_ROWS);
            break;
        };
        let id: i64 = row.get(0)?;
        let events = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        (bytes, read) = (bytes + events.len(), read + 1);
        let text = std::str::from_utf8(events.get(1..).unwrap_or_default());
        let text =
            text.map_err(|_| Trouble::Corrupt(format!("row {id} of the journal is no text")))?;
        named_in(text, &mut hashes.found);
        hashes.next = Some(id.cast_unsigned());
    }
    Ok(hashes)
}

fn in_jobs(connection: &Connection, found: &mut BTreeSet<String>) -> Result<()> {
    let mut statement = connection.prepare_cached("SELECT spec FROM jobs")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        named_in(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?, found);
    }
    Ok(())
}

fn limit_of_place(place: u64) -> i64 {
    i64::try_from(place).unwrap_or(i64::MAX)
}

/// Dedupe rows that name a session by its key, by their own keys.
pub(super) fn named_elsewhere(connection: &Connection, key: &SessionKey) -> Result<Vec<Vec<u8>>> {
    let mut statement = connection.prepare_cached("SELECT key FROM seen WHERE session = ?1")?;
    let rows = statement.query_map([key.as_str()], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_no_text_might_name_any_hash() {
        let connection = Connection::open_in_memory().unwrap();
        let tables =
            "CREATE TABLE jobs (spec TEXT); CREATE TABLE journal (id INTEGER, events BLOB);
                      INSERT INTO journal VALUES (1, x'017b7d');";
        connection.execute_batch(tables).unwrap();
        assert_eq!(hashes(&connection, 0).unwrap(), Hashes::default());
        connection.execute_batch("INSERT INTO journal VALUES (2, x'01ff')").unwrap();
        let found = hashes(&connection, 0).unwrap_err();
        assert!(matches!(&found, Trouble::Corrupt(what) if what.contains("row 2")), "{found:?}");
    }
}
