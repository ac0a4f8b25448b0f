//! Jobs and their ticks.
//!
//! A job's row is locked before its ticks, by everybody.

use std::collections::BTreeMap;
use std::sync::Arc;

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::schedule::{
    Claim, ENDED_KEPT, Ended, JOBS_MAX, KeptJob, Put, ScheduleStore, Tick, TickState,
};
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::schedule::{Job, MadeBy, When};
use turnkeep_core::{Seq, SessionKey, Timestamp};

use super::PostgresStore;
use super::ask::{bump, count, limit_of, row, rows, run, strange, text_of, text_option};
use super::text::{put, put_some};
use super::trouble::Result;

type Answer<'a, T> = BoxFuture<'a, std::result::Result<T, StoreError>>;

/// What changes of the list of jobs wait for, one after the other.
const MARK: &str = "jobs";

const JOB: &str = "SELECT tenant, name, spec, made_at, handled, held FROM jobs";
const TICK: &str = "SELECT tenant, job, at, state, claimed_at, ended_at, session, seq, note \
                    FROM ticks";

impl ScheduleStore for PostgresStore {
    fn jobs(&self) -> Answer<'_, Vec<KeptJob>> {
        Box::pin(self.read(|| async { jobs(&self.reading().await?).await }))
    }

    fn put_job(&self, job: Job, now: Timestamp) -> Answer<'_, Put> {
        Box::pin(self.change("keep a job", move |tx| {
            let job = job.clone();
            Box::pin(async move { put_job(tx, &job, now).await })
        }))
    }

    fn configure_jobs(&self, wanted: Vec<Job>, now: Timestamp) -> Answer<'_, ()> {
        let wanted: Arc<[Job]> = wanted.into();
        Box::pin(self.change("configure jobs", move |tx| {
            let wanted = Arc::clone(&wanted);
            Box::pin(async move { configure(tx, &wanted, now).await })
        }))
    }

    fn drop_job(&self, tenant: &str, name: &str) -> Answer<'_, bool> {
        let job = named(tenant, name);
        Box::pin(self.change("drop a job", move |tx| {
            let (tenant, name) = job.clone();
            Box::pin(async move { drop_job(tx, &tenant, &name).await })
        }))
    }

    fn hold_job(&self, tenant: &str, name: &str, held: bool, now: Timestamp) -> Answer<'_, bool> {
        let job = named(tenant, name);
        Box::pin(self.change("let a job rest", move |tx| {
            let (tenant, name) = job.clone();
            Box::pin(async move { hold_job(tx, (&tenant, &name), held, now).await })
        }))
    }

    fn claim(&self, tenant: &str, name: &str, wanted: Claim) -> Answer<'_, Vec<Timestamp>> {
        let job = named(tenant, name);
        Box::pin(self.change("claim ticks", move |tx| {
            let ((tenant, name), wanted) = (job.clone(), wanted.clone());
            Box::pin(async move { claim(tx, &tenant, &name, &wanted).await })
        }))
    }

    fn submitted(
        &self,
        (tenant, job, at): (&str, &str, Timestamp),
        session: SessionKey,
        seq: Seq,
    ) -> Answer<'_, ()> {
        let job = named(tenant, job);
        Box::pin(self.change("note a tick's question", move |tx| {
            let ((tenant, job), session) = (job.clone(), session.clone());
            Box::pin(async move { submitted(tx, (&tenant, &job, at), &session, seq).await })
        }))
    }

    fn end_tick(&self, (tenant, job, at): (&str, &str, Timestamp), ended: Ended) -> Answer<'_, ()> {
        let job = named(tenant, job);
        Box::pin(self.change("end a tick", move |tx| {
            let ((tenant, job), ended) = (job.clone(), ended.clone());
            Box::pin(async move { end(tx, (&tenant, &job, at), &ended).await })
        }))
    }

    fn ended_before(&self, (tenant, job, at): (&str, &str, Timestamp)) -> Answer<'_, Option<Tick>> {
        let (tenant, job) = named(tenant, job);
        Box::pin(async move {
            let before = (&*tenant, &*job, at);
            self.read(|| async { ended_before(&self.reading().await?, before).await }).await
        })
    }

    fn open_ticks(&self) -> Answer<'_, Vec<Tick>> {
        Box::pin(self.read(|| async { open_ticks(&self.reading().await?).await }))
    }

    fn ticks(&self, tenant: &str, name: &str, limit: usize) -> Answer<'_, Vec<Tick>> {
        let (tenant, name) = named(tenant, name);
        Box::pin(async move {
            self.read(|| async { ticks(&self.reading().await?, &tenant, &name, limit).await }).await
        })
    }
}

fn named(tenant: &str, name: &str) -> (Arc<str>, Arc<str>) {
    (tenant.into(), name.into())
}

async fn jobs(on: &impl GenericClient) -> Result<Vec<KeptJob>> {
    let sql = format!("{JOB} ORDER BY tenant, name");
    rows(on, &sql, &[]).await?.iter().map(kept).collect()
}

/// Finds a job; nobody else changes it or its ticks until this transaction is over.
async fn take(on: &impl GenericClient, tenant: &str, name: &str) -> Result<Option<KeptJob>> {
    let sql = format!("{JOB} WHERE tenant = $1 AND name = $2 FOR UPDATE");
    row(on, &sql, &[&put(tenant), &put(name)]).await?.map(|row| kept(&row)).transpose()
}

async fn put_job(on: &impl GenericClient, job: &Job, now: Timestamp) -> Result<Put> {
    bump(on, MARK).await?;
    if let Some(kept) = take(on, &job.tenant, &job.name).await? {
        return Ok(if kept.job == *job { Put::Same } else { Put::Taken });
    }
    let sql = "SELECT count(*) FROM jobs WHERE tenant = $1";
    if count(on, sql, &[&put(&job.tenant)]).await? >= JOBS_MAX {
        return Ok(Put::Full);
    }
    insert(on, job, now).await?;
    Ok(Put::Kept)
}

async fn insert(on: &impl GenericClient, job: &Job, now: Timestamp) -> Result<()> {
    let sql = "INSERT INTO jobs (tenant, name, spec, made_at, handled, held)
               VALUES ($1, $2, $3, $4, $4, false)";
    run(on, sql, &[&put(&job.tenant), &put(&job.name), &spec(job)?, &now]).await.map(drop)
}

async fn configure(on: &impl GenericClient, wanted: &[Job], now: Timestamp) -> Result<()> {
    bump(on, MARK).await?;
    let kept = jobs(on).await?;
    let mut left: BTreeMap<(&str, &str), &Job> =
        wanted.iter().map(|job| ((&*job.tenant, &*job.name), job)).collect();
    for KeptJob { job, handled, .. } in &kept {
        let configured = job.made_by == MadeBy::Configuration;
        match left.remove(&(&*job.tenant, &*job.name)) {
            None if configured => {
                forget(on, &job.tenant, &job.name).await?;
            }
            None => {}
            Some(wanted) if configured && wanted.when == job.when => {
                // Another gateway may move its place on meanwhile; it never goes back.
                let from =
                    if job.paused && !wanted.paused { (*handled).max(now) } else { *handled };
                let sql = "UPDATE jobs SET spec = $3, handled = greatest(handled, $4)
                           WHERE tenant = $1 AND name = $2";
                let (tenant, name) = (put(&job.tenant), put(&job.name));
                run(on, sql, &[&tenant, &name, &spec(wanted)?, &from]).await?;
            }
            Some(wanted) => {
                forget(on, &job.tenant, &job.name).await?;
                insert(on, wanted, now).await?;
            }
        }
    }
    for job in left.values() {
        insert(on, job, now).await?;
    }
    Ok(())
}

async fn hold_job(
    on: &impl GenericClient,
    (tenant, name): (&str, &str),
    held: bool,
    now: Timestamp,
) -> Result<bool> {
    bump(on, MARK).await?;
    let Some(kept) = take(on, tenant, name).await? else { return Ok(false) };
    let goes_on = kept.held && !held && !kept.job.is_reminder();
    let handled = if goes_on { kept.handled.max(now) } else { kept.handled };
    let sql = "UPDATE jobs SET held = $3, handled = $4 WHERE tenant = $1 AND name = $2";
    run(on, sql, &[&put(tenant), &put(name), &held, &handled]).await?;
    Ok(true)
}

async fn drop_job(on: &impl GenericClient, tenant: &str, name: &str) -> Result<bool> {
    bump(on, MARK).await?;
    forget(on, tenant, name).await
}

async fn forget(on: &impl GenericClient, tenant: &str, name: &str) -> Result<bool> {
    let (tenant, name) = (put(tenant), put(name));
    let sql = "DELETE FROM jobs WHERE tenant = $1 AND name = $2";
    let gone = run(on, sql, &[&tenant, &name]).await?;
    run(on, "DELETE FROM ticks WHERE tenant = $1 AND job = $2", &[&tenant, &name]).await?;
    Ok(gone > 0)
}

async fn claim(
    on: &impl GenericClient,
    tenant: &str,
    name: &str,
    claim: &Claim,
) -> Result<Vec<Timestamp>> {
    let (tenant, name) = (put(tenant), put(name));
    let sql = "UPDATE jobs SET handled = coalesce($3, handled) WHERE tenant = $1 AND name = $2";
    if run(on, sql, &[&tenant, &name, &claim.handled]).await? == 0 {
        return Ok(Vec::new());
    }
    if let Some((at, why)) = &claim.left_out {
        let sql = "INSERT INTO ticks (tenant, job, at, state, claimed_at, ended_at, note)
                   VALUES ($1, $2, $3, $4, $5, $5, $6) ON CONFLICT DO NOTHING";
        let state = TickState::Skipped.as_str();
        run(on, sql, &[&tenant, &name, at, &state, &claim.at, &put(why)]).await?;
    }
    // What was left out is run after all where the clock was far ahead and comes there again.
    let sql = "INSERT INTO ticks (tenant, job, at, state, claimed_at)
               VALUES ($1, $2, $3, $4, $5)
               ON CONFLICT (tenant, job, at) DO UPDATE SET state = excluded.state,
               claimed_at = excluded.claimed_at, ended_at = NULL, note = NULL
               WHERE ticks.state = 'skipped'";
    let state = TickState::Claimed.as_str();
    let mut new = Vec::new();
    for at in &claim.run {
        if run(on, sql, &[&tenant, &name, at, &state, &claim.at]).await? > 0 {
            new.push(*at);
        }
    }
    Ok(new)
}

async fn submitted(
    on: &impl GenericClient,
    (tenant, job, at): (&str, &str, Timestamp),
    session: &SessionKey,
    seq: Seq,
) -> Result<()> {
    let sql = "UPDATE ticks SET state = 'submitted', session = $4, seq = $5
               WHERE tenant = $1 AND job = $2 AND at = $3 AND ended_at IS NULL";
    let seq = seq.0.cast_signed();
    run(on, sql, &[&put(tenant), &put(job), &at, &session.as_str(), &seq]).await.map(drop)
}

async fn end(
    on: &impl GenericClient,
    (tenant, job, at): (&str, &str, Timestamp),
    ended: &Ended,
) -> Result<()> {
    let of = take(on, tenant, job).await?;
    let sql = "UPDATE ticks SET state = $4, ended_at = $5, note = $6
               WHERE tenant = $1 AND job = $2 AND at = $3";
    let (state, note) = (ended.state.as_str(), put_some(ended.note.as_deref()));
    run(on, sql, &[&put(tenant), &put(job), &at, &state, &ended.at, &note]).await?;
    if ended.state.is_done() && of.is_some_and(|of| of.job.when == When::Once(at)) {
        bump(on, MARK).await?;
        forget(on, tenant, job).await?;
        return Ok(());
    }
    let sql = "DELETE FROM ticks WHERE tenant = $1 AND job = $2 AND ended_at IS NOT NULL AND at <=
               (SELECT at FROM ticks WHERE tenant = $1 AND job = $2 AND ended_at IS NOT NULL
                ORDER BY at DESC LIMIT 1 OFFSET $3)
               AND at IS DISTINCT FROM (SELECT max(at) FROM ticks WHERE tenant = $1 AND job = $2
                AND ended_at IS NOT NULL AND state <> 'skipped')";
    run(on, sql, &[&put(tenant), &put(job), &limit_of(ENDED_KEPT)]).await.map(drop)
}

async fn ended_before(
    on: &impl GenericClient,
    (tenant, job, at): (&str, &str, Timestamp),
) -> Result<Option<Tick>> {
    let sql = format!(
        "{TICK} WHERE tenant = $1 AND job = $2 AND at < $3
         AND ended_at IS NOT NULL AND state <> 'skipped' ORDER BY at DESC LIMIT 1"
    );
    row(on, &sql, &[&put(tenant), &put(job), &at]).await?.map(|row| tick(&row)).transpose()
}

async fn open_ticks(on: &impl GenericClient) -> Result<Vec<Tick>> {
    let sql = format!("{TICK} WHERE ended_at IS NULL ORDER BY tenant, job, at");
    rows(on, &sql, &[]).await?.iter().map(tick).collect()
}

async fn ticks(
    on: &impl GenericClient,
    tenant: &str,
    name: &str,
    limit: usize,
) -> Result<Vec<Tick>> {
    let sql = format!("{TICK} WHERE tenant = $1 AND job = $2 ORDER BY at DESC LIMIT $3");
    rows(on, &sql, &[&put(tenant), &put(name), &limit_of(limit)]).await?.iter().map(tick).collect()
}

fn spec(job: &Job) -> Result<String> {
    serde_json::to_string(job)
        .map_err(|error| strange(format_args!("the job {:?}: {error}", job.name)))
}

fn kept(row: &Row) -> Result<KeptJob> {
    let (name, spec): (String, &str) = (text_of(row, "name")?, row.try_get("spec")?);
    let job = serde_json::from_str(spec)
        .map_err(|error| strange(format_args!("the job {name:?}: {error}")))?;
    Ok(KeptJob {
        job,
        made_at: row.try_get("made_at")?,
        handled: row.try_get("handled")?,
        held: row.try_get("held")?,
    })
}

fn tick(row: &Row) -> Result<Tick> {
    let (job, state): (String, &str) = (text_of(row, "job")?, row.try_get("state")?);
    let strange = |what: &str| strange(format_args!("a tick of {job:?}: {what}"));
    let session: Option<&str> = row.try_get("session")?;
    let session = session.map(|key| key.parse().map_err(|_| strange("no session key")));
    Ok(Tick {
        tenant: text_of(row, "tenant")?,
        at: row.try_get("at")?,
        state: TickState::named(state).ok_or_else(|| strange(state))?,
        claimed_at: row.try_get("claimed_at")?,
        ended_at: row.try_get("ended_at")?,
        session: session.transpose()?,
        seq: row.try_get::<_, Option<i64>>("seq")?.map(|seq| Seq(seq.cast_unsigned())),
        note: text_option(row, "note")?,
        job,
    })
}
