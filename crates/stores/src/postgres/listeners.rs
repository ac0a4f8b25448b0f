//! What is kept for listeners: their places in the journal, and the callbacks that failed.

use std::borrow::Cow;

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use turnkeep_core::listen::{DEAD_MAX, PENDING_MAX};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::listeners::{
    Failure, JournalRow, Kept, ListenerStore, Missed, Standing, Which,
};
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::{Event, SessionKey, Timestamp};

use super::PostgresStore;
use super::ask::{Value, limit_of, row, rows, run, strange, text_of};
use super::read::seq_of;
use super::text::put;
use super::trouble::{Result, Trouble};
use crate::{check, encode};

/// A page of the journal ends with the row that reaches this many bytes.
const PAGE_BYTES_MAX: i64 = 4 * 1024 * 1024;

type Answer<'a, T> = BoxFuture<'a, std::result::Result<T, StoreError>>;

impl ListenerStore for PostgresStore {
    fn journal_end(&self) -> Answer<'_, u64> {
        Box::pin(self.look(|on| async move { journal_end(&*on).await }))
    }

    fn journal_after(&self, after: u64, limit: usize) -> Answer<'_, Vec<JournalRow>> {
        Box::pin(self.look(move |on| async move { journal_after(&*on, after, limit).await }))
    }

    fn enrol(
        &self,
        names: Vec<String>,
        now: Timestamp,
        forget_before: Timestamp,
    ) -> Answer<'_, ()> {
        Box::pin(self.change("enrol listeners", move |on| {
            let names = names.clone();
            Box::pin(async move { enrol(on, &names, now, forget_before).await })
        }))
    }

    fn standing(&self, listener: &str) -> Answer<'_, Option<Standing>> {
        let listener = listener.to_owned();
        Box::pin(async move {
            let listener = &listener;
            self.look(|on| async move { standing(&*on, listener).await }).await
        })
    }

    fn advance(&self, listener: &str, position: u64, missed: Vec<Missed>) -> Answer<'_, Standing> {
        let listener = listener.to_owned();
        Box::pin(self.change("advance a listener", move |on| {
            let (listener, missed) = (listener.clone(), missed.clone());
            Box::pin(async move { advance(on, &listener, position, &missed).await })
        }))
    }

    fn due(&self, listener: &str, now: Timestamp, limit: usize) -> Answer<'_, Vec<Kept>> {
        self.kept("state = 'pending' AND due_at <= $2 ORDER BY due_at, c.id", listener, now, limit)
    }

    fn next_due(&self, listener: &str) -> Answer<'_, Option<Timestamp>> {
        let listener = listener.to_owned();
        Box::pin(async move {
            let listener = &listener;
            self.look(|on| async move { next_due(&*on, listener).await }).await
        })
    }

    fn settle(&self, listener: &str, ended: Vec<(u64, Option<Failure>)>) -> Answer<'_, Standing> {
        let listener = listener.to_owned();
        Box::pin(self.change("settle callbacks", move |on| {
            let (listener, ended) = (listener.clone(), ended.clone());
            Box::pin(async move { settle(on, &listener, &ended).await })
        }))
    }

    fn dead(&self, listener: &str, after: u64, limit: usize) -> Answer<'_, Vec<Kept>> {
        self.kept("state = 'dead' AND c.id > $2 ORDER BY c.id", listener, signed(after), limit)
    }

    fn revive(&self, listener: &str, which: Which, now: Timestamp) -> Answer<'_, usize> {
        let listener = listener.to_owned();
        Box::pin(self.change("revive callbacks", move |on| {
            let listener = listener.clone();
            Box::pin(async move { revive(on, &listener, which, now).await })
        }))
    }

    fn discard(&self, listener: &str, which: Which) -> Answer<'_, usize> {
        let listener = listener.to_owned();
        Box::pin(self.change("discard callbacks", move |on| {
            let listener = listener.clone();
            Box::pin(async move { discard(on, &listener, which).await })
        }))
    }
}

impl PostgresStore {
    /// Callbacks of a listener; `which` may use `$2`.
    fn kept(
        &self,
        which: &'static str,
        listener: &str,
        bound: i64,
        limit: usize,
    ) -> Answer<'_, Vec<Kept>> {
        let listener = listener.to_owned();
        Box::pin(async move {
            let listener = &listener;
            self.look(|on| async move { kept(&*on, which, listener, bound, limit).await }).await
        })
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The last place that anybody can see; what is being written has none yet.
async fn journal_end(on: &impl GenericClient) -> Result<u64> {
    // The last row may have been removed since; its place does not come again.
    let sql = "SELECT greatest((SELECT max(place) FROM journal), value) FROM meta
               WHERE name = 'journal'";
    let Some(row) = row(on, sql, &[]).await? else {
        return Err(strange("nothing is known of the journal's end"));
    };
    Ok(row.try_get::<_, i64>(0)?.cast_unsigned())
}

/// Leaves out what is forgotten and only waits to be removed. A page ends where it is large enough,
/// which the server knows without reading the rows.
async fn journal_after(
    on: &impl GenericClient,
    after: u64,
    limit: usize,
) -> Result<Vec<JournalRow>> {
    // Rows of other tables are asked for one by one: no plan may read all of them for a page.
    let sql = "SELECT place, (SELECT key FROM sessions WHERE id = session_id) AS key, events FROM
                  (SELECT place, session_id, events,
                      sum(octet_length(events)) OVER (ORDER BY place)
                         - octet_length(events) AS before
                   FROM (SELECT place, session_id, events FROM journal j
                         WHERE place > $1 AND last_seq > coalesce(
                            (SELECT through_seq FROM forgotten f
                             WHERE f.session_id = j.session_id), 0)
                         ORDER BY place LIMIT $2) page) cut
               WHERE before < $3 ORDER BY place";
    let found = rows(on, sql, &[&signed(after), &limit_of(limit), &PAGE_BYTES_MAX]).await?;
    let journal_row = |row: &Row| {
        let position = row.try_get::<_, i64>("place")?.cast_unsigned();
        let content = content(position, row.try_get("key")?, row.try_get("events")?);
        Ok(JournalRow { position, content })
    };
    found.iter().map(journal_row).collect()
}

/// What stands in a row, or what is wrong with it: one bad row must not hide those behind it.
fn content(
    position: u64,
    session: Option<&str>,
    events: &[u8],
) -> std::result::Result<(SessionKey, Vec<Event>), String> {
    let session = session.ok_or("its session is not there any more")?;
    let key = session.parse().map_err(|error| format!("session {session}: {error}"))?;
    let whose = || format!("session {session}: journal row {position}");
    let events = encode::value(events, whose).map_err(|found| Trouble::from(found).sentence())?;
    Ok((key, events))
}

async fn enrol(
    on: &impl GenericClient,
    names: &[String],
    now: Timestamp,
    forget_before: Timestamp,
) -> Result<()> {
    let end = signed(journal_end(on).await?);
    let names: Vec<_> = names.iter().map(|name| put(name)).collect();
    let sql = "INSERT INTO listeners (name, place, configured_at)
               SELECT DISTINCT name, $2::bigint, $3::bigint FROM unnest($1::text[]) AS n(name)
               ORDER BY name
               ON CONFLICT (name) DO UPDATE SET configured_at = excluded.configured_at,
               place = least(listeners.place, excluded.place)";
    run(on, sql, &[&names, &end, &now]).await?;
    let sql = "DELETE FROM listeners WHERE configured_at < $1";
    if run(on, sql, &[&forget_before]).await? > 0 {
        let orphans = "DELETE FROM callbacks WHERE listener NOT IN (SELECT name FROM listeners)";
        run(on, orphans, &[]).await?;
    }
    Ok(())
}

async fn standing(on: &impl GenericClient, listener: &str) -> Result<Option<Standing>> {
    let sql = "SELECT place,
               (SELECT count(*) FROM callbacks WHERE listener = $1
                AND state = 'pending') AS pending,
               (SELECT count(*) FROM callbacks WHERE listener = $1 AND state = 'dead') AS dead
               FROM listeners WHERE name = $1";
    let Some(row) = row(on, sql, &[&put(listener)]).await? else { return Ok(None) };
    let count = |column| Ok::<_, Trouble>(row.try_get::<_, i64>(column)?.cast_unsigned());
    let (position, pending, dead) = (count("place")?, count("pending")?, count("dead")?);
    Ok(Some(Standing { position, pending, dead }))
}

async fn advance(
    on: &impl GenericClient,
    listener: &str,
    position: u64,
    missed: &[Missed],
) -> Result<Standing> {
    // First of all: who else moves this listener on waits here.
    let sql = "UPDATE listeners SET place = greatest(place, $2) WHERE name = $1";
    run(on, sql, &[&put(listener), &signed(position)]).await?;
    if missed.is_empty() {
        return Ok(standing(on, listener).await?.unwrap_or_default());
    }
    let places: Vec<i64> = missed.iter().map(|missed| signed(missed.position)).collect();
    let seqs: Vec<i64> = missed.iter().map(|missed| signed(missed.seq.0)).collect();
    let types: Vec<&str> = missed.iter().map(|missed| missed.event_type).collect();
    let times: Vec<Timestamp> = missed.iter().map(|missed| missed.at).collect();
    let failures = Failures::of(missed.iter().map(|missed| &missed.failure));
    let Failures { states, tries, due, errors } = &failures;
    let sql =
        "INSERT INTO callbacks (listener, place, seq, event_type, at, state, tries, due_at, error)
               SELECT $1, place, seq, event_type, at, state, tries, due_at, error
               FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::text[],
                           $7::bigint[], $8::bigint[], $9::text[]) WITH ORDINALITY
                    AS n(place, seq, event_type, at, state, tries, due_at, error, number)
               ORDER BY number ON CONFLICT DO NOTHING";
    let name = put(listener);
    let values: &[Value<'_>] = &[&name, &places, &seqs, &types, &times, states, tries, due, errors];
    run(on, sql, values).await?;
    bounded(on, listener).await
}

/// Failures in columns, for a statement that takes all of them.
struct Failures<'a> {
    states: Vec<&'static str>,
    tries: Vec<i64>,
    due: Vec<Option<Timestamp>>,
    errors: Vec<Cow<'a, str>>,
}

impl<'a> Failures<'a> {
    fn of(failures: impl Iterator<Item = &'a Failure> + Clone) -> Self {
        let state = |failure: &Failure| match failure.due_at {
            Some(_) => "pending",
            None => "dead",
        };
        Self {
            states: failures.clone().map(state).collect(),
            tries: failures.clone().map(|failure| i64::from(failure.tries)).collect(),
            due: failures.clone().map(|failure| failure.due_at).collect(),
            errors: failures.map(|failure| put(&failure.error)).collect(),
        }
    }
}

async fn settle(
    on: &impl GenericClient,
    listener: &str,
    ended: &[(u64, Option<Failure>)],
) -> Result<Standing> {
    let name = put(listener);
    let lock = "SELECT 1 FROM listeners WHERE name = $1 FOR NO KEY UPDATE";
    row(on, lock, &[&name]).await?;
    let done = ended.iter().filter(|(_, failure)| failure.is_none());
    let done: Vec<i64> = done.map(|(id, _)| signed(*id)).collect();
    let sql = "DELETE FROM callbacks WHERE id = ANY($1::bigint[]) AND listener = $2";
    run(on, sql, &[&done, &name]).await?;
    let again = ended.iter().filter_map(|(id, failure)| Some((id, failure.as_ref()?)));
    let ids: Vec<i64> = again.clone().map(|(id, _)| signed(*id)).collect();
    let failures = Failures::of(again.map(|(_, failure)| failure));
    let Failures { states, tries, due, errors } = &failures;
    let sql = "UPDATE callbacks c SET state = n.state, tries = n.tries, due_at = n.due_at,
                      error = n.error
               FROM unnest($2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::text[])
                    AS n(id, state, tries, due_at, error)
               WHERE c.id = n.id AND c.listener = $1";
    run(on, sql, &[&name, &ids, states, tries, due, errors]).await?;
    bounded(on, listener).await
}

/// Keeps to the bounds: of too many that wait the oldest become dead, of too many dead the oldest
/// go. Whoever calls this holds the listener's row.
async fn bounded(on: &impl GenericClient, listener: &str) -> Result<Standing> {
    let Some(mut standing) = standing(on, listener).await? else {
        return Ok(Standing::default());
    };
    let excess = standing.pending.saturating_sub(PENDING_MAX as u64);
    if excess > 0 {
        let sql = "UPDATE callbacks SET state = 'dead', due_at = NULL, error = $3 WHERE id IN
                   (SELECT id FROM callbacks WHERE listener = $1 AND state = 'pending'
                    ORDER BY id LIMIT $2)";
        run(on, sql, &[&put(listener), &signed(excess), &check::TOO_MANY_WAIT]).await?;
        standing.pending -= excess;
        standing.dead += excess;
    }
    let excess = standing.dead.saturating_sub(DEAD_MAX as u64);
    if excess > 0 {
        let sql = "DELETE FROM callbacks WHERE id IN
                   (SELECT id FROM callbacks WHERE listener = $1 AND state = 'dead'
                    ORDER BY id LIMIT $2)";
        run(on, sql, &[&put(listener), &signed(excess)]).await?;
        standing.dead -= excess;
    }
    Ok(standing)
}

async fn next_due(on: &impl GenericClient, listener: &str) -> Result<Option<Timestamp>> {
    let sql = "SELECT min(due_at) FROM callbacks WHERE listener = $1 AND state = 'pending'";
    let Some(row) = row(on, sql, &[&put(listener)]).await? else { return Ok(None) };
    Ok(row.try_get(0)?)
}

/// Callbacks of a listener; `which` may use `$2`.
async fn kept(
    on: &impl GenericClient,
    which: &str,
    listener: &str,
    bound: i64,
    limit: usize,
) -> Result<Vec<Kept>> {
    let sql = format!(
        "SELECT c.id, c.place, seq, event_type, at, tries, due_at, error,
                (SELECT key FROM sessions WHERE id =
                    (SELECT session_id FROM journal j WHERE j.place = c.place)) AS key
         FROM callbacks c WHERE listener = $1 AND {which} LIMIT $3"
    );
    let found = rows(on, &sql, &[&put(listener), &bound, &limit_of(limit)]).await?;
    found.iter().map(read_kept).collect()
}

fn read_kept(row: &Row) -> Result<Kept> {
    let session: Option<&str> = row.try_get("key")?;
    let id = row.try_get::<_, i64>("id")?.cast_unsigned();
    let tries = u32::try_from(row.try_get::<_, i64>("tries")?);
    let tries = tries.map_err(|_| strange(format_args!("callback {id} was tried too often")))?;
    let error = text_of(row, "error")?.into();
    Ok(Kept {
        id,
        position: row.try_get::<_, i64>("place")?.cast_unsigned(),
        seq: seq_of(row, "seq")?,
        event_type: row.try_get("event_type")?,
        session: session.and_then(|session| session.parse().ok()),
        at: row.try_get("at")?,
        failure: Failure { tries, due_at: row.try_get("due_at")?, error },
    })
}

/// Which dead callbacks of `$1` are meant, by the number `$2`.
fn meant(which: Which) -> (&'static str, i64) {
    match which {
        Which::One(id) => ("listener = $1 AND state = 'dead' AND id = $2", signed(id)),
        Which::Oldest(limit) => (
            "listener = $1 AND state = 'dead' AND id IN
             (SELECT id FROM callbacks WHERE listener = $1 AND state = 'dead'
              ORDER BY id LIMIT $2)",
            limit_of(limit),
        ),
    }
}

async fn revive(
    on: &impl GenericClient,
    listener: &str,
    which: Which,
    now: Timestamp,
) -> Result<usize> {
    let (meant, number) = meant(which);
    let sql =
        format!("UPDATE callbacks SET state = 'pending', tries = 0, due_at = $3 WHERE {meant}");
    run(on, &sql, &[&put(listener), &number, &now]).await
}

async fn discard(on: &impl GenericClient, listener: &str, which: Which) -> Result<usize> {
    let (meant, number) = meant(which);
    run(on, &format!("DELETE FROM callbacks WHERE {meant}"), &[&put(listener), &number]).await
}
