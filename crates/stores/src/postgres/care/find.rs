//! Looking for sessions, senders and dead letters.

use std::collections::BTreeSet;

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use turnkeep_core::SessionKey;
use turnkeep_core::ports::attachments::named_in;
use turnkeep_core::ports::care::{Found, Hashes};
use turnkeep_core::ports::store::DeadLetter;

use super::super::ask::{Value, limit_of, row, rows, strange, text_of};
use super::super::read::{key_of, letter_of};
use super::super::trouble::Result;
use crate::encode;

/// Rows of the journal that one stretch of a search reads at most.
const STRETCH_ROWS: i64 = 5000;
/// Bytes after which a stretch ends, so that a connection is soon free again.
const STRETCH_BYTES: i64 = 8 * 1024 * 1024;

/// A stretch of the journal behind `$1`: at most `$2` rows, and none behind the one that reaches
/// `$3` bytes. How long rows are is known without reading them.
const STRETCH: &str = "WITH stretch AS MATERIALIZED
    (SELECT place, session_id, events FROM
        (SELECT place, session_id, events,
            sum(octet_length(events)) OVER (ORDER BY place) - octet_length(events) AS before
         FROM (SELECT place, session_id, events FROM journal
               WHERE place > $1 ORDER BY place LIMIT $2) page) cut
     WHERE before < $3)";

/// See the port.
pub(super) async fn keys(
    on: &impl GenericClient,
    tenant: Option<&str>,
    after: Option<&SessionKey>,
    limit: usize,
) -> Result<Vec<SessionKey>> {
    let (from, to) = encode::key_range(tenant, after);
    let sql = "SELECT key FROM sessions WHERE key > $1 AND ($2::text IS NULL OR key < $2)
               ORDER BY key LIMIT $3";
    let found = rows(on, sql, &[&from, &to, &limit_of(limit)]).await?;
    found.iter().map(|row| key_of(row, "key")).collect()
}

/// See the port.
pub(super) async fn letters(on: &impl GenericClient, key: &SessionKey) -> Result<Vec<DeadLetter>> {
    let sql = "SELECT seq, body FROM dead_letters d JOIN sessions s ON s.id = session_id
               WHERE key = $1 ORDER BY seq";
    let found = rows(on, sql, &[&key.as_str()]).await?;
    found.iter().map(|row| letter_of(row, key)).collect()
}

/// The server looks into rows as they are stored: what holds the name as a sender is enough for
/// naming the session.
pub(super) async fn sender(
    on: &impl GenericClient,
    tenant: &str,
    sender: &str,
    from: u64,
) -> Result<Found> {
    let name = serde_json::to_string(sender);
    let name = name.map_err(|error| strange(format_args!("a sender can't be written: {error}")))?;
    let needle = format!("\"sender\":{name}").into_bytes();
    let sql = format!(
        "{STRETCH} SELECT (SELECT max(place) FROM stretch) AS next,
         (SELECT coalesce(max(place), 0) FROM journal) AS ends,
         ARRAY(SELECT key FROM sessions WHERE id IN
               (SELECT session_id FROM stretch WHERE position($4::bytea IN events) > 0)
               ORDER BY id) AS keys"
    );
    let values: &[Value<'_>] = &[&limit_of_place(from), &STRETCH_ROWS, &STRETCH_BYTES, &needle];
    let mut found = Found::default();
    let Some(row) = row(on, &sql, values).await? else { return Ok(found) };
    found.end = row.try_get::<_, i64>("ends")?.cast_unsigned();
    found.next = next_of(&row)?.filter(|next| *next < found.end);
    for key in row.try_get::<_, Vec<&str>>("keys")? {
        let parsed = key.parse::<SessionKey>();
        let key = parsed.map_err(|error| strange(format_args!("session {key}: {error}")))?;
        if key.tenant() == tenant {
            found.keys.push(key);
        }
    }
    Ok(found)
}

/// See the port. A hash looks the same in JSON.
pub(super) async fn hashes(on: &impl GenericClient, from: u64) -> Result<Hashes> {
    let mut hashes = Hashes::default();
    if from == 0 {
        in_jobs(on, &mut hashes.found).await?;
    }
    let sql = format!("{STRETCH} SELECT place AS next, events FROM stretch ORDER BY place");
    let values: &[Value<'_>] = &[&limit_of_place(from), &STRETCH_ROWS, &STRETCH_BYTES];
    for row in rows(on, &sql, values).await? {
        hashes.next = next_of(&row)?;
        let events: &[u8] = row.try_get("events")?;
        let text = std::str::from_utf8(events.get(1..).unwrap_or_default());
        let place = hashes.next.unwrap_or_default();
        let text =
            text.map_err(|_| strange(format_args!("row {place} of the journal is no text")))?;
        named_in(text, &mut hashes.found);
    }
    // A stretch without rows is the last one.
    Ok(hashes)
}

async fn in_jobs(on: &impl GenericClient, found: &mut BTreeSet<String>) -> Result<()> {
    for row in rows(on, "SELECT spec FROM jobs", &[]).await? {
        named_in(&text_of(&row, "spec")?, found);
    }
    Ok(())
}

fn next_of(row: &Row) -> Result<Option<u64>> {
    Ok(row.try_get::<_, Option<i64>>("next")?.map(i64::cast_unsigned))
}

fn limit_of_place(place: u64) -> i64 {
    i64::try_from(place).unwrap_or(i64::MAX)
}
