//! When messages disappear. What goes with one is found and blanked like everything else that is
//! redacted; here stands only when to look.

use rusqlite::{Connection, params};
use turnkeep_core::ports::care::Disappearing;
use turnkeep_core::{Seq, SessionKey, Timestamp};

use super::super::read::{key_at, limit_of};
use super::super::trouble::Result;

/// See the port.
pub(super) fn due(
    connection: &Connection,
    until: Timestamp,
    limit: usize,
) -> Result<Vec<Disappearing>> {
    let mut statement = connection.prepare_cached(
        "SELECT key, seq, seconds, due_at FROM disappearing
         JOIN sessions ON sessions.id = session_id
         WHERE due_at <= ?1 ORDER BY due_at, session_id, seq LIMIT ?2",
    )?;
    let mut rows = statement.query(params![until, limit_of(limit)])?;
    let mut due = Vec::new();
    while let Some(row) = rows.next()? {
        due.push(Disappearing {
            key: key_at(row, 0)?,
            seq: Seq(row.get::<_, i64>(1)?.cast_unsigned()),
            seconds: row.get(2)?,
            due_at: row.get(3)?,
        });
    }
    Ok(due)
}

/// See the port.
pub(super) fn put_off(
    connection: &Connection,
    key: &SessionKey,
    looked_at: &[(Seq, Option<Timestamp>)],
) -> Result<()> {
    let mut again = connection.prepare_cached(
        "UPDATE disappearing SET due_at = ?3
         WHERE session_id = (SELECT id FROM sessions WHERE key = ?1) AND seq = ?2",
    )?;
    let mut done = connection.prepare_cached(
        "DELETE FROM disappearing
         WHERE session_id = (SELECT id FROM sessions WHERE key = ?1) AND seq = ?2",
    )?;
    for (seq, due_at) in looked_at {
        let seq = seq.0.cast_signed();
        match due_at {
            Some(due_at) => again.execute(params![key.as_str(), seq, due_at])?,
            None => done.execute(params![key.as_str(), seq])?,
        };
    }
    Ok(())
}

/// What is forgotten disappears no more.
pub(super) fn forget(connection: &Connection, session_id: i64, through: Seq) -> Result<()> {
    let mut forget = connection
        .prepare_cached("DELETE FROM disappearing WHERE session_id = ?1 AND seq <= ?2")?;
    forget.execute(params![session_id, through.0.cast_signed()])?;
    Ok(())
}
