//! When messages disappear. What goes with one is found and blanked like everything else that is
//! redacted; here stands only when to look.

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use turnkeep_core::ports::care::Disappearing;
use turnkeep_core::{Seq, SessionKey, Timestamp};

use super::super::ask::{limit_of, rows, run};
use super::super::read::{key_of, seq_of};
use super::super::trouble::{Result, Trouble};

/// See the port.
pub(super) async fn due(
    on: &impl GenericClient,
    until: Timestamp,
    limit: usize,
) -> Result<Vec<Disappearing>> {
    let sql = "SELECT (SELECT key FROM sessions WHERE id = session_id) AS key, seq, seconds, due_at
               FROM disappearing WHERE due_at <= $1 ORDER BY due_at, session_id, seq LIMIT $2";
    let found = rows(on, sql, &[&until, &limit_of(limit)]).await?;
    let read = |row: &Row| {
        let (key, seq) = (key_of(row, "key")?, seq_of(row, "seq")?);
        let odd =
            |_| Trouble::session(key.as_str(), format_args!("message {seq} disappears never"));
        let seconds = u32::try_from(row.try_get::<_, i64>("seconds")?).map_err(odd)?;
        Ok(Disappearing { key, seq, seconds, due_at: row.try_get("due_at")? })
    };
    found.iter().map(read).collect()
}

/// See the port.
pub(super) async fn put_off(
    on: &impl GenericClient,
    key: &SessionKey,
    looked_at: &[(Seq, Option<Timestamp>)],
) -> Result<()> {
    let done = looked_at.iter().filter(|(_, due_at)| due_at.is_none());
    let done: Vec<i64> = done.map(|(seq, _)| seq.0.cast_signed()).collect();
    let sql = "DELETE FROM disappearing
               WHERE session_id = (SELECT id FROM sessions WHERE key = $1) AND seq = ANY($2)";
    run(on, sql, &[&key.as_str(), &done]).await?;
    let again =
        looked_at.iter().filter_map(|(seq, due_at)| Some((seq.0.cast_signed(), (*due_at)?)));
    let (seqs, due): (Vec<i64>, Vec<Timestamp>) = again.unzip();
    let sql = "UPDATE disappearing d SET due_at = n.due_at
               FROM unnest($2::bigint[], $3::bigint[]) AS n(seq, due_at)
               WHERE session_id = (SELECT id FROM sessions WHERE key = $1) AND d.seq = n.seq";
    run(on, sql, &[&key.as_str(), &seqs, &due]).await.map(drop)
}

/// What is forgotten disappears no more.
pub(super) async fn forget(on: &impl GenericClient, session_id: i64, through: Seq) -> Result<()> {
    let sql = "DELETE FROM disappearing WHERE session_id = $1 AND seq <= $2";
    run(on, sql, &[&session_id, &through.0.cast_signed()]).await.map(drop)
}
