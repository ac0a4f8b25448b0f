//! Jobs and their ticks.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::schedule::{
    Claim, ENDED_KEPT, Ended, JOBS_MAX, KeptJob, Put, ScheduleStore, Tick, TickState,
};
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::schedule::{Job, MadeBy, When};
use turnkeep_core::{Seq, SessionKey, Timestamp};

use super::SqliteStore;
use super::trouble::{Result, Trouble};

type Answer<'a, T> = BoxFuture<'a, std::result::Result<T, StoreError>>;

const TICK: &str = "tenant, job, at, state, claimed_at, ended_at, session, seq, note";

impl ScheduleStore for SqliteStore {
    fn jobs(&self) -> Answer<'_, Vec<KeptJob>> {
        self.readers.read(jobs)
    }

    fn put_job(&self, job: Job, now: Timestamp) -> Answer<'_, Put> {
        self.change(move |connection| put(connection, &job, now))
    }

    fn configure_jobs(&self, wanted: Vec<Job>, now: Timestamp) -> Answer<'_, ()> {
        self.change(move |connection| configure(connection, wanted, now))
    }

    fn drop_job(&self, tenant: &str, name: &str) -> Answer<'_, bool> {
        let (tenant, name) = (tenant.to_owned(), name.to_owned());
        self.change(move |connection| forget(connection, &tenant, &name))
    }

    fn hold_job(&self, tenant: &str, name: &str, held: bool, now: Timestamp) -> Answer<'_, bool> {
        let (tenant, name) = (tenant.to_owned(), name.to_owned());
        self.change(move |connection| {
            let Some(kept) = find(connection, &tenant, &name)? else { return Ok(false) };
            let goes_on = kept.held && !held && !kept.job.is_reminder();
            let handled = if goes_on { kept.handled.max(now) } else { kept.handled };
            connection
                .prepare_cached(
                    "UPDATE jobs SET held = ?3, handled = ?4 WHERE tenant = ?1 AND name = ?2",
                )?
                .execute(params![tenant, name, held, handled])?;
            Ok(true)
        })
    }

    fn claim(&self, tenant: &str, name: &str, claim: Claim) -> Answer<'_, Vec<Timestamp>> {
        let (tenant, name) = (tenant.to_owned(), name.to_owned());
        self.change(move |connection| take(connection, &tenant, &name, &claim))
    }

    fn submitted(
        &self,
        (tenant, job, at): (&str, &str, Timestamp),
        session: SessionKey,
        seq: Seq,
    ) -> Answer<'_, ()> {
        let (tenant, job) = (tenant.to_owned(), job.to_owned());
        self.change(move |connection| {
            connection
                .prepare_cached(
                    "UPDATE ticks SET state = 'submitted', session = ?4, seq = ?5
                     WHERE tenant = ?1 AND job = ?2 AND at = ?3 AND ended_at IS NULL",
                )?
                .execute(params![tenant, job, at, session.as_str(), seq.0.cast_signed()])?;
            Ok(())
        })
    }

    fn end_tick(&self, (tenant, job, at): (&str, &str, Timestamp), ended: Ended) -> Answer<'_, ()> {
        let (tenant, job) = (tenant.to_owned(), job.to_owned());
        self.change(move |connection| end(connection, (&tenant, &job, at), &ended))
    }

    fn ended_before(&self, (tenant, job, at): (&str, &str, Timestamp)) -> Answer<'_, Option<Tick>> {
        let (tenant, job) = (tenant.to_owned(), job.to_owned());
        self.readers.read(move |connection| {
            let sql = format!(
                "SELECT {TICK} FROM ticks WHERE tenant = ?1 AND job = ?2 AND at < ?3
                 AND ended_at IS NOT NULL AND state <> 'skipped' ORDER BY at DESC LIMIT 1"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            statement
                .query_row(params![tenant, job, at], |row| Ok(tick(row)))
                .optional()?
                .transpose()
        })
    }

    fn open_ticks(&self) -> Answer<'_, Vec<Tick>> {
        self.readers.read(|connection| {
            let sql =
                format!("SELECT {TICK} FROM ticks WHERE ended_at IS NULL ORDER BY tenant, job, at");
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map([], |row| Ok(tick(row)))?;
            rows.map(|row| row.map_err(Trouble::from).and_then(|row| row)).collect()
        })
    }

    fn ticks(&self, tenant: &str, name: &str, limit: usize) -> Answer<'_, Vec<Tick>> {
        let (tenant, name) = (tenant.to_owned(), name.to_owned());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.readers.read(move |connection| {
            let sql = format!(
                "SELECT {TICK} FROM ticks WHERE tenant = ?1 AND job = ?2
                 ORDER BY at DESC LIMIT ?3"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params![tenant, name, limit], |row| Ok(tick(row)))?;
            rows.map(|row| row.map_err(Trouble::from).and_then(|row| row)).collect()
        })
    }
}

fn jobs(connection: &Connection) -> Result<Vec<KeptJob>> {
    let mut statement = connection.prepare_cached(
        "SELECT tenant, name, spec, made_at, handled, held FROM jobs ORDER BY tenant, name",
    )?;
    let rows = statement.query_map([], |row| Ok(kept(row)))?;
    rows.map(|row| row.map_err(Trouble::from).and_then(|row| row)).collect()
}

fn find(connection: &Connection, tenant: &str, name: &str) -> Result<Option<KeptJob>> {
    let mut statement = connection.prepare_cached(
        "SELECT tenant, name, spec, made_at, handled, held FROM jobs
         WHERE tenant = ?1 AND name = ?2",
    )?;
    statement.query_row(params![tenant, name], |row| Ok(kept(row))).optional()?.transpose()
}

fn put(connection: &Connection, job: &Job, now: Timestamp) -> Result<Put> {
    if let Some(kept) = find(connection, &job.tenant, &job.name)? {
        return Ok(if kept.job == *job { Put::Same } else { Put::Taken });
    }
    let count: i64 = connection
        .prepare_cached("SELECT count(*) FROM jobs WHERE tenant = ?1")?
        .query_row([&job.tenant], |row| row.get(0))?;
    if usize::try_from(count).is_ok_and(|count| count >= JOBS_MAX) {
        return Ok(Put::Full);
    }
    insert(connection, job, now)?;
    Ok(Put::Kept)
}

fn insert(connection: &Connection, job: &Job, now: Timestamp) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO jobs (tenant, name, spec, made_at, handled, held)
             VALUES (?1, ?2, ?3, ?4, ?4, 0)",
        )?
        .execute(params![job.tenant, job.name, spec(job)?, now])?;
    Ok(())
}

fn configure(connection: &Connection, wanted: Vec<Job>, now: Timestamp) -> Result<()> {
    let wanted: BTreeMap<(String, String), Job> =
        wanted.into_iter().map(|job| ((job.tenant.clone(), job.name.clone()), job)).collect();
    let mut left = wanted;
    for kept in jobs(connection)? {
        let KeptJob { job, handled, .. } = kept;
        let configured = job.made_by == MadeBy::Configuration;
        match left.remove(&(job.tenant.clone(), job.name.clone())) {
            None if configured => {
                forget(connection, &job.tenant, &job.name)?;
            }
            None => {}
            Some(wanted) if configured && wanted.when == job.when => {
                let from = if job.paused && !wanted.paused { handled.max(now) } else { handled };
                connection
                    .prepare_cached(
                        "UPDATE jobs SET spec = ?3, handled = ?4 WHERE tenant = ?1 AND name = ?2",
                    )?
                    .execute(params![job.tenant, job.name, spec(&wanted)?, from])?;
            }
            Some(wanted) => {
                forget(connection, &job.tenant, &job.name)?;
                insert(connection, &wanted, now)?;
            }
        }
    }
    left.values().try_for_each(|job| insert(connection, job, now))
}

fn forget(connection: &Connection, tenant: &str, name: &str) -> Result<bool> {
    connection
        .prepare_cached("DELETE FROM ticks WHERE tenant = ?1 AND job = ?2")?
        .execute(params![tenant, name])?;
    let gone = connection
        .prepare_cached("DELETE FROM jobs WHERE tenant = ?1 AND name = ?2")?
        .execute(params![tenant, name])?;
    Ok(gone > 0)
}

fn take(
    connection: &Connection,
    tenant: &str,
    name: &str,
    claim: &Claim,
) -> Result<Vec<Timestamp>> {
    let there = connection
        .prepare_cached(
            "UPDATE jobs SET handled = coalesce(?3, handled) WHERE tenant = ?1 AND name = ?2",
        )?
        .execute(params![tenant, name, claim.handled])?;
    if there == 0 {
        return Ok(Vec::new());
    }
    let mut insert = connection.prepare_cached(
        "INSERT OR IGNORE INTO ticks (tenant, job, at, state, claimed_at, ended_at, note)
         VALUES (:tenant, :job, :at, :state, :claimed_at, :ended_at, :note)",
    )?;
    if let Some((at, why)) = &claim.left_out {
        insert.execute(named_params! {
            ":tenant": tenant, ":job": name, ":at": at, ":state": TickState::Skipped.as_str(),
            ":claimed_at": claim.at, ":ended_at": claim.at, ":note": why,
        })?;
    }
    // What was left out is run after all where the clock was far ahead and comes there again.
    let mut insert = connection.prepare_cached(
        "INSERT INTO ticks (tenant, job, at, state, claimed_at, ended_at, note)
         VALUES (:tenant, :job, :at, :state, :claimed_at, :ended_at, :note)
         ON CONFLICT (tenant, job, at) DO UPDATE SET state = excluded.state,
         claimed_at = excluded.claimed_at, ended_at = NULL, note = NULL
         WHERE ticks.state = 'skipped'",
    )?;
    let mut new = Vec::new();
    for at in &claim.run {
        let inserted = insert.execute(named_params! {
            ":tenant": tenant, ":job": name, ":at": at, ":state": TickState::Claimed.as_str(),
            ":claimed_at": claim.at, ":ended_at": None::<Timestamp>, ":note": None::<String>,
        })?;
        if inserted > 0 {
            new.push(*at);
        }
    }
    Ok(new)
}

fn end(
    connection: &Connection,
    (tenant, job, at): (&str, &str, Timestamp),
    ended: &Ended,
) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE ticks SET state = ?4, ended_at = ?5, note = ?6
             WHERE tenant = ?1 AND job = ?2 AND at = ?3",
        )?
        .execute(params![tenant, job, at, ended.state.as_str(), ended.at, ended.note])?;
    let kept = find(connection, tenant, job)?;
    if ended.state.is_done() && kept.is_some_and(|kept| kept.job.when == When::Once(at)) {
        forget(connection, tenant, job)?;
        return Ok(());
    }
    let kept = i64::try_from(ENDED_KEPT).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "DELETE FROM ticks WHERE tenant = ?1 AND job = ?2 AND ended_at IS NOT NULL AND at <=
             (SELECT at FROM ticks WHERE tenant = ?1 AND job = ?2 AND ended_at IS NOT NULL
              ORDER BY at DESC LIMIT 1 OFFSET ?3)
             AND at IS NOT (SELECT max(at) FROM ticks WHERE tenant = ?1 AND job = ?2
              AND ended_at IS NOT NULL AND state <> 'skipped')",
        )?
        .execute(params![tenant, job, kept])?;
    Ok(())
}

fn spec(job: &Job) -> Result<String> {
    serde_json::to_string(job)
        .map_err(|error| Trouble::Corrupt(format!("the job {:?}: {error}", job.name)))
}

fn kept(row: &Row<'_>) -> Result<KeptJob> {
    let (name, spec): (String, String) = (row.get("name")?, row.get("spec")?);
    let job = serde_json::from_str(&spec)
        .map_err(|error| Trouble::Corrupt(format!("the job {name:?}: {error}")))?;
    Ok(KeptJob {
        job,
        made_at: row.get("made_at")?,
        handled: row.get("handled")?,
        held: row.get("held")?,
    })
}

fn tick(row: &Row<'_>) -> Result<Tick> {
    let (job, state): (String, String) = (row.get("job")?, row.get("state")?);
    let strange = |what: &str| Trouble::Corrupt(format!("a tick of {job:?}: {what}"));
    let session = row.get::<_, Option<String>>("session")?;
    let session = session.map(|key| key.parse().map_err(|_| strange("no session key")));
    Ok(Tick {
        tenant: row.get("tenant")?,
        at: row.get("at")?,
        state: TickState::named(&state).ok_or_else(|| strange(&state))?,
        claimed_at: row.get("claimed_at")?,
        ended_at: row.get("ended_at")?,
        session: session.transpose()?,
        seq: row.get::<_, Option<i64>>("seq")?.map(|seq| Seq(seq.cast_unsigned())),
        note: row.get("note")?,
        job,
    })
}
