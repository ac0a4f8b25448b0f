//! What nodes of one database tell each other about sessions: knocks, how far journals are, and what
//! nobody has.

use deadpool_postgres::GenericClient;
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::{Seq, SessionKey};

use super::PostgresStore;
use super::ask::{limit_of, rows};
use super::put::ANYBODY;
use super::read::{key_of, seq_of};
use super::trouble::Result;

/// Those that somebody writes just now are left for the next time: what comes with them is not
/// there yet.
const ANSWER: &str = "WITH heard AS (DELETE FROM knocks WHERE ctid = ANY(ARRAY(
      SELECT ctid FROM knocks WHERE node = ANY($1) LIMIT $2 FOR UPDATE SKIP LOCKED))
      RETURNING session_id)
    SELECT key FROM heard JOIN sessions ON id = session_id";

const LAST_SEQS: &str = "SELECT key, last_seq FROM sessions WHERE key = ANY($1)";

const LEFT_BEHIND: &str = "SELECT key FROM open_work o JOIN sessions s ON s.id = o.session_id
    WHERE ($1::text IS NULL OR key > $1) AND NOT EXISTS (
      SELECT 1 FROM nodes n WHERE n.gone_at IS NULL AND n.runs AND n.epoch = (s.epoch & 268435455))
    ORDER BY key LIMIT $2";

impl PostgresStore {
    /// See the port.
    pub(super) async fn answer_knocks(
        &self,
        limit: usize,
    ) -> std::result::Result<Vec<SessionKey>, StoreError> {
        let own = self.shared.gate.epoch.0.cast_signed();
        let doors = if self.shared.settings.runs { vec![own, ANYBODY] } else { vec![own] };
        self.change("answer knocks", move |transaction| {
            let (doors, limit) = (doors.clone(), limit_of(limit));
            Box::pin(async move {
                let heard = rows(transaction, ANSWER, &[&doors, &limit]).await?;
                heard.iter().map(|row| key_of(row, "key")).collect()
            })
        })
        .await
    }
}

/// See the port.
pub(super) async fn last_seqs(
    on: &impl GenericClient,
    keys: &[SessionKey],
) -> Result<Vec<(SessionKey, Seq)>> {
    let keys: Vec<&str> = keys.iter().map(SessionKey::as_str).collect();
    let found = rows(on, LAST_SEQS, &[&keys]).await?;
    found.iter().map(|row| Ok((key_of(row, "key")?, seq_of(row, "last_seq")?))).collect()
}

/// See the port.
pub(super) async fn left_behind(
    on: &impl GenericClient,
    after: Option<&SessionKey>,
    limit: usize,
) -> Result<Vec<SessionKey>> {
    let after = after.map(SessionKey::as_str);
    let left = rows(on, LEFT_BEHIND, &[&after, &limit_of(limit)]).await?;
    left.iter().map(|row| key_of(row, "key")).collect()
}
