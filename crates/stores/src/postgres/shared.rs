//! What nodes of one database tell each other about sessions: knocks, how far journals are, and what
//! nobody has.
//!
//! A knock is a row at somebody's door. Two doors are everybody's who runs turns: `ANYBODY` for what
//! a node wrote that runs none, `LEFT` for what is found open and is nobody's.

use deadpool_postgres::GenericClient;
use turnkeep_core::ports::store::{
    BITE_MIN, Bite, But, OFFERS_COUNTED, Offer, Offered, StoreError,
};
use turnkeep_core::{Seq, SessionKey, Timestamp};

use super::PostgresStore;
use super::ask::{Value, limit_of, rows, run};
use super::put::ANYBODY;
use super::read::{key_of, seq_of};
use super::trouble::Result;

/// Those that somebody writes just now are left for the next time: what comes with them is not
/// there yet.
const ANSWER: &str = "WITH heard AS (DELETE FROM knocks WHERE ctid = ANY(ARRAY(
      SELECT ctid FROM knocks WHERE node = ANY($1) LIMIT $2 FOR UPDATE SKIP LOCKED))
      RETURNING session_id)
    SELECT key FROM heard JOIN sessions ON id = session_id";

/// The same at the doors that are everybody's: those that came first, at most `$3` of them and one
/// part in `$4` of what waits, half of each door where there is enough at both, so that a crowd at one
/// keeps nobody waiting at the other. Says how much waited, too. What is of other nodes' channels is as if
/// it were not there.
const TAKE_OFFERED: &str = "WITH counted AS (SELECT
      (SELECT count(*) FROM (SELECT FROM knocks k WHERE node = $7 AND $7 = ANY($1)
        AND (cardinality($9::text[]) = 0 OR (SELECT split_part(key, ':', 3) <> ALL($9) FROM sessions
          WHERE id = k.session_id)) LIMIT $5) AS l) AS old,
      (SELECT count(*) FROM (SELECT FROM knocks k WHERE node = $8 AND $8 = ANY($1)
        AND (cardinality($9::text[]) = 0 OR (SELECT split_part(key, ':', 3) <> ALL($9) FROM sessions
          WHERE id = k.session_id)) LIMIT $5) AS n) AS new),
    bite AS (SELECT old, new, least($3, greatest($6, (old + new + $4 - 1) / $4)) AS size FROM counted),
    taken AS (DELETE FROM knocks WHERE ctid = ANY(ARRAY(
        SELECT k.ctid FROM knocks k LEFT JOIN sessions s ON s.id = k.session_id
        WHERE k.node = $7 AND $7 = ANY($1) AND coalesce(split_part(s.key, ':', 2) <> ALL($2)
          AND split_part(s.key, ':', 3) <> ALL($9), true)
        ORDER BY k.came LIMIT (SELECT greatest((size + 1) / 2, size - new) FROM bite)
        FOR UPDATE OF k SKIP LOCKED)
      || ARRAY(
        SELECT k.ctid FROM knocks k LEFT JOIN sessions s ON s.id = k.session_id
        WHERE k.node = $8 AND $8 = ANY($1) AND coalesce(split_part(s.key, ':', 2) <> ALL($2)
          AND split_part(s.key, ':', 3) <> ALL($9), true)
        ORDER BY k.came LIMIT (SELECT greatest(size / 2, size - old) FROM bite)
        FOR UPDATE OF k SKIP LOCKED))
      RETURNING node, session_id)
    SELECT old + new AS found, node, key FROM bite
    LEFT JOIN (taken JOIN sessions ON id = session_id) ON true";

const LAST_SEQS: &str = "SELECT key, last_seq FROM sessions WHERE key = ANY($1)";

const OWN_WORK: &str = "SELECT wake_at, key FROM open_work o JOIN sessions s ON s.id = o.session_id
    WHERE wake_at <= $1 AND (wake_at, session_id)
        > ($2, coalesce((SELECT id FROM sessions WHERE key = $3), 0))
      AND (s.epoch & 268435455) = ANY($4)
    ORDER BY wake_at, session_id LIMIT $5";

/// In one order, so that two who do the same don't wait for each other in a circle; nobody else puts
/// anything at that door.
const OFFER_LEFT: &str = "INSERT INTO knocks (node, session_id)
    SELECT $1::bigint, session_id FROM open_work o JOIN sessions s ON s.id = o.session_id
    WHERE NOT EXISTS (SELECT 1 FROM nodes n
        WHERE n.gone_at IS NULL AND n.runs AND n.epoch = (s.epoch & 268435455))
      AND NOT EXISTS (SELECT 1 FROM knocks k
        WHERE k.node = ANY($2) AND k.session_id = o.session_id)
    ORDER BY session_id LIMIT $3 ON CONFLICT (node, session_id) DO NOTHING";

/// The door of all who run turns, for what is nobody's any more.
const LEFT: i64 = -1;

const fn door_of(offer: Offer) -> i64 {
    match offer {
        Offer::Left => LEFT,
        Offer::New => ANYBODY,
    }
}

impl PostgresStore {
    /// See the port.
    pub(super) async fn answer_knocks(
        &self,
        limit: usize,
    ) -> std::result::Result<Vec<SessionKey>, StoreError> {
        let own = self.shared.numbers();
        self.change("answer knocks", move |transaction| {
            let (own, limit) = (own.clone(), limit_of(limit));
            Box::pin(async move {
                let heard = rows(transaction, ANSWER, &[&own, &limit]).await?;
                heard.iter().map(|row| key_of(row, "key")).collect()
            })
        })
        .await
    }

    /// See the port. A session's key holds its agent as it is written there: a name with a colon
    /// matches nothing, so what waits for it is taken all the same.
    pub(super) async fn take_some_offered(
        &self,
        of: &[Offer],
        Bite { most, parts }: Bite,
        but: But<'_>,
    ) -> std::result::Result<Offered, StoreError> {
        let doors: Vec<i64> = of.iter().copied().map(door_of).collect();
        let (agents, channels) = (but.agents.to_vec(), but.channels.to_vec());
        let [most, parts] = [most, parts.max(1)].map(limit_of);
        self.change("take what is offered", move |transaction| {
            let (doors, agents, channels) = (doors.clone(), agents.clone(), channels.clone());
            Box::pin(async move {
                let [counted, least] = [OFFERS_COUNTED, BITE_MIN].map(limit_of);
                let values: [Value<'_>; 9] =
                    [&doors, &agents, &most, &parts, &counted, &least, &LEFT, &ANYBODY, &channels];
                let (mut taken, mut found) = (Vec::new(), 0);
                for row in rows(transaction, TAKE_OFFERED, &values).await? {
                    found = row.try_get::<_, i64>("found")?;
                    let Some(door) = row.try_get::<_, Option<i64>>("node")? else { continue };
                    let offer = if door == LEFT { Offer::Left } else { Offer::New };
                    taken.push((key_of(&row, "key")?, offer));
                }
                let found = usize::try_from(found).unwrap_or(0);
                let waiting = found.saturating_sub(taken.len());
                Ok(Offered { taken, waiting })
            })
        })
        .await
    }

    /// See the port.
    pub(super) async fn offer_all_left(
        &self,
        limit: usize,
    ) -> std::result::Result<usize, StoreError> {
        self.change("offer what was left", move |transaction| {
            let limit = limit_of(limit);
            Box::pin(async move {
                let doors: Vec<i64> = Offer::ALL.into_iter().map(door_of).collect();
                run(transaction, OFFER_LEFT, &[&LEFT, &doors, &limit]).await
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
pub(super) async fn own_work(
    on: &impl GenericClient,
    before: Timestamp,
    after: Option<&(Timestamp, SessionKey)>,
    limit: usize,
    own: &[i64],
) -> Result<Vec<(Timestamp, SessionKey)>> {
    let (at, key) = match after {
        Some((at, key)) => (*at, Some(key.as_str())),
        None => (Timestamp::MIN, None),
    };
    let values: [Value<'_>; 5] = [&before, &at, &key, &own, &limit_of(limit)];
    let due = rows(on, OWN_WORK, &values).await?;
    due.iter().map(|row| Ok((row.try_get("wake_at")?, key_of(row, "key")?))).collect()
}
