//! Removes rows that nobody reads any more, a few a change: turns, parts, then the journal.

use deadpool_postgres::GenericClient;
use turnkeep_core::ports::care::Swept;

use super::super::ask::{limit_of, row, rows, run};
use super::super::trouble::Result;

/// One step in one session; several who sweep at once don't meet there. What is left is found by
/// what it holds, so a crash costs nothing.
pub(super) async fn sweep(on: &impl GenericClient, limit: usize) -> Result<Swept> {
    let sql = "SELECT session_id, through_seq, coalesce(through_turn, 0) AS through_turn
               FROM forgotten WHERE unswept ORDER BY session_id LIMIT 1
               FOR NO KEY UPDATE SKIP LOCKED";
    let Some(next) = row(on, sql, &[]).await? else { return Ok(Swept::default()) };
    let session: i64 = next.try_get("session_id")?;
    let (through, turn): (i64, i64) = (next.try_get("through_seq")?, next.try_get("through_turn")?);
    keep_last_place(on).await?;
    let mut removed = turns(on, session, turn, limit).await?;
    // Fewer than it might have taken: there are no more.
    let mut done = removed < limit;
    for sql in [PARTS, JOURNAL] {
        let room = limit - removed;
        if done {
            let taken = run(on, sql, &[&session, &through, &limit_of(room)]).await?;
            (removed, done) = (removed + taken, taken < room);
        }
    }
    if done {
        run(on, "UPDATE forgotten SET unswept = false WHERE session_id = $1", &[&session]).await?;
    }
    let more =
        !done || row(on, "SELECT 1 FROM forgotten WHERE unswept LIMIT 1", &[]).await?.is_some();
    Ok(Swept { rows: removed as u64, more })
}

/// Rows are named by their keys, for one that somebody changes meanwhile moves to another place.
const PARTS: &str = "DELETE FROM parts WHERE (session_id, reply, part) IN
    (SELECT session_id, reply, part FROM parts WHERE session_id = $1 AND reply <= $2 LIMIT $3)";
const JOURNAL: &str = "DELETE FROM journal WHERE place = ANY(ARRAY
    (SELECT place FROM journal WHERE session_id = $1 AND last_seq <= $2 LIMIT $3))";

/// The journal's places are an order that others remember: the last one must not come again.
async fn keep_last_place(on: &impl GenericClient) -> Result<()> {
    let sql =
        "UPDATE meta SET value = ends.place FROM (SELECT max(place) AS place FROM journal) ends
               WHERE name = 'journal' AND value < ends.place";
    run(on, sql, &[]).await.map(drop)
}

async fn turns(on: &impl GenericClient, session: i64, through: i64, limit: usize) -> Result<usize> {
    let sql = "WITH gone AS (DELETE FROM turns WHERE id = ANY(ARRAY
                  (SELECT id FROM turns WHERE session_id = $1 AND ord <= $2 LIMIT $3))
                  RETURNING id),
               sums AS (DELETE FROM usage_turns WHERE turn IN (SELECT id FROM gone))
               SELECT id FROM gone";
    Ok(rows(on, sql, &[&session, &through, &limit_of(limit)]).await?.len())
}
