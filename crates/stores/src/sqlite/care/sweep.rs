//! Removes rows that nobody reads any more, a few a change: turns, parts, then the journal.

use rusqlite::{Connection, OptionalExtension, params};
use turnkeep_core::ports::care::Swept;

use super::super::trouble::Result;

/// A session whose rows are being removed.
struct Unswept {
    session_id: i64,
    through: i64,
    journal_rest: i64,
    turn_rest: Option<[u8; 16]>,
}

/// One step. Where it stands is kept in the session's row, so a crash costs nothing.
pub(super) fn sweep(connection: &Connection, limit: usize) -> Result<Swept> {
    let Some(mut unswept) = next(connection)? else { return Ok(Swept::default()) };
    keep_journal_number(connection)?;
    let mut removed = turns(connection, &mut unswept, limit)?;
    // Fewer than it might have taken: there are no more.
    let room = limit - removed;
    let parts = parts(connection, &unswept, room)?;
    let parts_done = parts < room;
    removed += parts;
    if parts_done {
        removed += journal(connection, &mut unswept, limit - removed)?;
    }
    let done = parts_done && unswept.turn_rest.is_none() && unswept.journal_rest == 0;
    let mut note = connection.prepare_cached(
        "UPDATE forgotten SET journal_rest = ?2, turn_rest = ?3, unswept = ?4
         WHERE session_id = ?1",
    )?;
    let turn_rest = unswept.turn_rest.as_ref().map(|id| &id[..]);
    note.execute(params![unswept.session_id, unswept.journal_rest, turn_rest, !done])?;
    Ok(Swept { rows: removed as u64, more: !done || next(connection)?.is_some() })
}

fn next(connection: &Connection) -> Result<Option<Unswept>> {
    let mut statement = connection.prepare_cached(
        "SELECT session_id, through_seq, journal_rest, turn_rest
         FROM forgotten INDEXED BY forgotten_unswept WHERE unswept = 1 ORDER BY session_id LIMIT 1",
    )?;
    let next = statement.query_row([], |row| {
        Ok(Unswept {
            session_id: row.get(0)?,
            through: row.get(1)?,
            journal_rest: row.get(2)?,
            turn_rest: row.get(3)?,
        })
    });
    Ok(next.optional()?)
}

/// The journal's numbers are an order that others remember: the last one must not come again.
fn keep_journal_number(connection: &Connection) -> Result<()> {
    let mut keep = connection.prepare_cached(
        "UPDATE meta SET value = max(value, (SELECT coalesce(max(id), 0) FROM journal))
         WHERE name = 'journal'",
    )?;
    keep.execute([])?;
    Ok(())
}

/// Back through the chain, until it ends or an earlier sweep has been there.
fn turns(connection: &Connection, unswept: &mut Unswept, limit: usize) -> Result<usize> {
    let mut take = connection
        .prepare_cached("DELETE FROM turns WHERE id = ?1 AND session_id = ?2 RETURNING prev")?;
    let mut take_usage = connection.prepare_cached("DELETE FROM usage_turns WHERE turn = ?1")?;
    let mut removed = 0;
    while removed < limit {
        let Some(id) = unswept.turn_rest else { break };
        let prev = take
            .query_row(params![&id[..], unswept.session_id], |row| {
                row.get::<_, Option<[u8; 16]>>(0)
            })
            .optional()?;
        take_usage.execute([&id[..]])?;
        removed += usize::from(prev.is_some());
        unswept.turn_rest = prev.flatten();
    }
    Ok(removed)
}

fn parts(connection: &Connection, unswept: &Unswept, limit: usize) -> Result<usize> {
    let mut take = connection.prepare_cached(
        "DELETE FROM parts WHERE (session_id, reply, part) IN
         (SELECT session_id, reply, part FROM parts
          WHERE session_id = ?1 AND reply <= ?2 LIMIT ?3)",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    Ok(take.execute(params![unswept.session_id, unswept.through, limit])?)
}

fn journal(connection: &Connection, unswept: &mut Unswept, limit: usize) -> Result<usize> {
    let mut take = connection.prepare_cached(
        "DELETE FROM journal WHERE id = ?1 AND session_id = ?2 AND last_seq <= ?3
         RETURNING prev, last_seq",
    )?;
    let mut unindex = connection
        .prepare_cached("DELETE FROM journal_index WHERE session_id = ?1 AND last_seq = ?2")?;
    let mut removed = 0;
    while removed < limit && unswept.journal_rest != 0 {
        let place = params![unswept.journal_rest, unswept.session_id, unswept.through];
        let row = take
            .query_row(place, |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))
            .optional()?;
        let Some((prev, last_seq)) = row else {
            unswept.journal_rest = 0;
            break;
        };
        unindex.execute([unswept.session_id, last_seq])?;
        unswept.journal_rest = prev;
        removed += 1;
    }
    Ok(removed)
}
