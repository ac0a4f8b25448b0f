//! Cleaning the database's files up after deletes, as far as the server does that.
//!
//! PostgreSQL overwrites nothing: a row that was changed or deleted stays where it is until no
//! transaction could see it any more and a `VACUUM` comes by. So a scrub waits until all that were
//! under way are over, then has every table cleaned that holds texts. What it can't reach (the
//! unused part of pages, the log's archive, replicas, backups) stands in docs/care.md.

use std::time::Duration;

use deadpool_postgres::GenericClient;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::super::ask::{row, run};
use super::super::trouble::Result;

/// The name of what says that the files are to be cleaned; its value is another one each time that
/// there is something new in them.
const UNSCRUBBED: &str = "unscrubbed";
/// Tables that hold texts, or names of people.
const TABLES: [&str; 15] = [
    "journal",
    "turns",
    "parts",
    "dead_letters",
    "sessions",
    "seen",
    "forgotten",
    "usage_days",
    "restrictions",
    "pairings",
    "sign_ins",
    "switchboard_sessions",
    "switchboard_seats",
    "jobs",
    "ticks",
];
/// How often it looks whether older transactions are over, and the longest pause between.
const TRIES: u32 = 60;
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Whether there is anything to be cleaned, by a value that is another one each time.
pub(super) async fn mark(on: &impl GenericClient) -> Result<Option<Vec<u8>>> {
    let found = row(on, "SELECT value FROM care WHERE name = $1", &[&UNSCRUBBED]).await?;
    Ok(found.map(|row| row.try_get(0)).transpose()?)
}

/// Takes note that texts were taken out, until the files are clean, also if that is another
/// process's work.
pub(super) async fn note(on: &impl GenericClient) -> Result<()> {
    let sql = "INSERT INTO care (name, value) VALUES ($1, uuid_send(gen_random_uuid()))
               ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    run(on, sql, &[&UNSCRUBBED]).await.map(drop)
}

/// They are clean, unless something came meanwhile.
pub(super) async fn done(on: &impl GenericClient, mark: &[u8]) -> Result<()> {
    let sql = "DELETE FROM care WHERE name = $1 AND value = $2";
    run(on, sql, &[&UNSCRUBBED, &mark]).await.map(drop)
}

/// Has everything cleaned that was deleted before; false where somebody may still see it.
pub(super) async fn clean(client: &Client) -> Result<bool> {
    client.batch_execute("SET statement_timeout = '30min'; SET lock_timeout = '1min'").await?;
    if !nobody_sees_it(client).await? {
        return Ok(false);
    }
    for table in TABLES {
        client.batch_execute(&format!("VACUUM {table}")).await?;
    }
    match client.batch_execute("CHECKPOINT").await {
        // Not everybody may ask for one; it comes by itself then.
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {}
        done => done?,
    }
    Ok(true)
}

/// Waits until every transaction is over that began before now.
async fn nobody_sees_it(client: &Client) -> Result<bool> {
    let sql = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text";
    let now: String = client.query_one(sql, &[]).await?.try_get(0)?;
    // A larger age is an older transaction. One of another database doesn't see our tables; a copy
    // that reads, or keeps what it has to fetch yet, does.
    let older = format!(
        "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE pid <> pg_backend_pid()
             AND (datname = current_database() OR datname IS NULL)
             AND greatest(age(backend_xmin), age(backend_xid)) > age('{now}'::xid8::xid))
         OR EXISTS (SELECT 1 FROM pg_prepared_xacts WHERE database = current_database())
         OR EXISTS (SELECT 1 FROM pg_replication_slots WHERE age(xmin) > age('{now}'::xid8::xid))"
    );
    let mut pause = Duration::from_millis(5);
    for _ in 0..TRIES {
        if !client.query_one(&older, &[]).await?.try_get::<_, bool>(0)? {
            return Ok(true);
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(PAUSE_MAX);
    }
    Ok(false)
}
