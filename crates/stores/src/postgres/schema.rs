//! The tables, and the steps that lead from any older schema to them, beside nodes that work.
//!
//! A cluster is brought to a new version node by node, so for a while the program before this one
//! works on the tables of this one. What a step may do, therefore: add a table; add a column that
//! may be NULL or has a default; add an index; add a function under a new number (`enter_2`).
//! Never drop, rename or narrow anything, nor change what a function means, and never change a
//! step that was released. Every INSERT names its columns. A row's format byte guards the blobs.
//! When the program before the last can't work on the tables any more, its successor raises
//! `meta.floor`, by a step of its own: the smallest number of steps that a program must know.
//!
//! An index on a table that has grown is made with CREATE INDEX CONCURRENTLY, which no transaction
//! may hold; the first step that needs one brings the means.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::open::PostgresError;
use super::trouble::Trouble;

/// The steps by number and name, from 1.
const STEPS: [(&str, &str); 5] = [
    ("record", include_str!("migrations/0001_record.sql")),
    ("people", include_str!("migrations/0002_people.sql")),
    ("beside", include_str!("migrations/0003_beside.sql")),
    ("cluster", include_str!("migrations/0004_cluster.sql")),
    ("behind", include_str!("migrations/0005_behind.sql")),
];

/// The last step that this program knows.
pub(super) const KNOWN: i64 = STEPS.len().cast_signed() as i64;

/// How often a step is tried that waits behind somebody's lock. It waits for a short time only,
/// for everybody else waits behind it.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);

/// Brings the schema to what this program knows; several may call it at once.
pub(super) async fn migrate(client: &Client, schema: &str) -> Result<(), PostgresError> {
    make_schema(client, schema).await?;
    // It ends with the connection at the latest. Another node's steps may take their time.
    client.batch_execute("SET statement_timeout = '120s'; SET lock_timeout = '60s'").await?;
    client.query("SELECT pg_advisory_lock(1416983151, hashtext($1))", &[&schema]).await?;
    refuse_foreign(client, schema).await?;
    client
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS schema_steps (
                 step bigint PRIMARY KEY, name text COLLATE \"C\" NOT NULL,
                 by text COLLATE \"C\" NOT NULL, at timestamptz NOT NULL DEFAULT now())",
        )
        .await?;
    let found = client.query_one("SELECT coalesce(max(step), 0) FROM schema_steps", &[]).await?;
    let found: i64 = found.get(0);
    if found > KNOWN {
        refuse_newer(client, schema).await?;
    }
    for (number, (name, step)) in (1..).zip(STEPS).skip(usize::try_from(found).unwrap_or(0)) {
        take(client, number, name, step).await?;
    }
    client.query("SELECT pg_advisory_unlock(1416983151, hashtext($1))", &[&schema]).await?;
    Ok(())
}

async fn make_schema(client: &Client, schema: &str) -> Result<(), PostgresError> {
    let there = "SELECT 1 FROM pg_namespace WHERE nspname = $1";
    if client.query_opt(there, &[&schema]).await?.is_some() {
        return Ok(());
    }
    match client.batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS {schema}")).await {
        Ok(()) => Ok(()),
        // Two nodes that make it at the same moment: one is told that it is there.
        Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => Ok(()),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            let whom = "SELECT quote_ident(current_user)";
            let user: String = client.query_one(whom, &[]).await?.get(0);
            Err(PostgresError::NotPermitted {
                what: format!("make the schema {schema}"),
                remedy: format!("CREATE SCHEMA {schema} AUTHORIZATION {user}"),
            })
        }
        Err(error) => Err(error.into()),
    }
}

async fn refuse_foreign(client: &Client, schema: &str) -> Result<(), PostgresError> {
    let row = client
        .query_one(
            "SELECT count(*), count(*) FILTER (WHERE c.relname = 'schema_steps')
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')",
            &[&schema],
        )
        .await?;
    let (all, ours): (i64, i64) = (row.get(0), row.get(1));
    if all > 0 && ours == 0 {
        return Err(PostgresError::Foreign { schema: schema.into() });
    }
    Ok(())
}

async fn refuse_newer(client: &Client, schema: &str) -> Result<(), PostgresError> {
    let floor = client.query_opt("SELECT value FROM meta WHERE name = 'floor'", &[]).await?;
    let floor = floor.map_or(i64::MAX, |row| row.get(0));
    if floor <= KNOWN {
        return Ok(());
    }
    let by = "SELECT by FROM schema_steps WHERE step > $1 ORDER BY step DESC LIMIT 1";
    let by = client.query_opt(by, &[&KNOWN]).await?;
    let by = by.map_or_else(|| "unknown".into(), |row| row.get(0));
    Err(PostgresError::Newer { schema: schema.into(), by, floor, known: KNOWN })
}

/// Refuses what this program can't read; changes nothing.
pub(super) async fn check(client: &Client, schema: &str) -> Result<(), PostgresError> {
    let there = "SELECT to_regclass('schema_steps') IS NOT NULL";
    let there: bool = client.query_one(there, &[]).await?.get(0);
    if !there {
        return Err(PostgresError::Empty { schema: schema.into() });
    }
    let found = client.query_one("SELECT coalesce(max(step), 0) FROM schema_steps", &[]).await?;
    let found: i64 = found.get(0);
    match found.cmp(&KNOWN) {
        std::cmp::Ordering::Less => Err(PostgresError::Empty { schema: schema.into() }),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => refuse_newer(client, schema).await,
    }
}

/// Takes one step in a transaction of its own.
async fn take(client: &Client, number: i64, name: &str, step: &str) -> Result<(), PostgresError> {
    let by = env!("CARGO_PKG_VERSION");
    let text = format!(
        "BEGIN;
         SET LOCAL lock_timeout = '3s';
         {step}
         INSERT INTO schema_steps (step, name, by) VALUES ({number}, '{name}', '{by}');
         COMMIT;"
    );
    let mut tries = 0;
    loop {
        tries += 1;
        let Err(error) = client.batch_execute(&text).await else { return Ok(()) };
        client.batch_execute("ROLLBACK").await?;
        if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) && tries < TRIES {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        return Err(PostgresError::Step {
            number,
            name: name.into(),
            detail: Trouble::from(error).sentence(),
        });
    }
}
