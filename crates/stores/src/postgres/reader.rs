//! Reading a cluster's database without taking part in the cluster: what the audit uses.

use std::sync::Arc;

use deadpool_postgres::Object;
use tokio::runtime::Runtime;
use turnkeep_core::care::Forgotten;
use turnkeep_core::ports::store::{DeadLetter, Loaded, StoreError};
use turnkeep_core::usage::Sums;
use turnkeep_core::{Event, Seq, SessionKey};

use super::ask::row;
use super::connect::Connector;
use super::open::{PostgresError, reach, refuse_moving};
use super::settings::PostgresSettings;
use super::trouble::Result;
use super::{care, journal, read, schema, usage};
use crate::Reads;
use crate::moving::mark::Mark;

/// A snapshot that lasts: the server doesn't end it for being idle between two questions.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
                     SET LOCAL idle_in_transaction_session_timeout = 0;
                     SET LOCAL statement_timeout = '60s'";

/// The reads of the port, at once and on the caller's thread, over one connection of its own. It
/// draws no epoch and changes nothing, so it works beside a running cluster as well as after its
/// end. It must not be used within a runtime.
pub struct PostgresReader {
    /// Before the runtime: it is given back there.
    client: Arc<Object>,
    runtime: Runtime,
}

impl std::fmt::Debug for PostgresReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresReader").finish_non_exhaustive()
    }
}

impl PostgresReader {
    /// Connects to a database that a cluster has used already.
    pub fn open(settings: &PostgresSettings) -> std::result::Result<Self, PostgresError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| {
                PostgresError::Other(format!("no thread could be started: {error}"))
            })?;
        let client = runtime.block_on(async {
            let connector = Connector::new(settings)?;
            let client = reach(&connector).await?;
            schema::check(&client, &settings.schema).await?;
            refuse_moving(&client, settings, Mark::is_half).await?;
            let pool = connector.pool(1)?;
            Ok::<_, PostgresError>(pool.get().await.map_err(super::trouble::Trouble::from)?)
        })?;
        Ok(Self { client: Arc::new(client), runtime })
    }

    fn ask<T>(
        &self,
        asking: impl Future<Output = Result<T>>,
    ) -> std::result::Result<T, StoreError> {
        Ok(self.runtime.block_on(asking)?)
    }
}

impl Reads for PostgresReader {
    fn moment(&self, reads: &mut dyn FnMut(&dyn Reads)) -> std::result::Result<(), StoreError> {
        self.ask(async { Ok(self.client.batch_execute(BEGIN).await?) })?;
        reads(self);
        self.ask(async { Ok(self.client.batch_execute("ROLLBACK").await?) })
    }

    fn load(&self, key: &SessionKey) -> std::result::Result<Option<Loaded>, StoreError> {
        self.ask(read::load(&*self.client, key))
    }

    fn forgotten(&self, key: &SessionKey) -> std::result::Result<Option<Forgotten>, StoreError> {
        self.ask(care::forgotten(&*self.client, key))
    }

    fn sessions(
        &self,
        tenant: Option<&str>,
        after: Option<&SessionKey>,
        limit: usize,
    ) -> std::result::Result<Vec<(SessionKey, Loaded)>, StoreError> {
        self.ask(read::sessions(&*self.client, tenant, after, limit))
    }

    fn events(
        &self,
        key: &SessionKey,
        after: Seq,
        limit: usize,
    ) -> std::result::Result<Vec<Event>, StoreError> {
        self.ask(journal::events(&*self.client, key, after, limit))
    }

    fn usage_of_session(&self, key: &SessionKey) -> std::result::Result<Sums, StoreError> {
        self.ask(usage::of_session(&*self.client, key))
    }

    fn dead_letters(
        &self,
        after: u64,
        limit: usize,
    ) -> std::result::Result<Vec<(u64, SessionKey, DeadLetter)>, StoreError> {
        self.ask(read::dead_letters(&*self.client, after, limit))
    }

    /// Places of the journal go up by one but where something was forgotten, and no session was
    /// written under an epoch that nobody drew: else a database was put together from two.
    fn wrong(&self) -> std::result::Result<Vec<String>, StoreError> {
        let epochs = "SELECT count(*), (SELECT value FROM meta WHERE name = 'epoch') FROM sessions
                      WHERE (epoch & 268435455) > (SELECT value FROM meta WHERE name = 'epoch')";
        let gaps = "SELECT count(*), min(place) FROM
                    (SELECT place, place - lag(place) OVER (ORDER BY place) AS step
                     FROM journal) AS steps
                    WHERE step > 1 AND NOT EXISTS (SELECT 1 FROM forgotten)";
        self.ask(async {
            let mut findings = Vec::new();
            let mut found = async |sql: &str, say: &dyn Fn(i64, i64) -> String| {
                let Some(row) = row(&*self.client, sql, &[]).await? else { return Ok(()) };
                let count: i64 = row.try_get(0)?;
                if count > 0 {
                    findings.push(say(count, row.try_get::<_, Option<i64>>(1)?.unwrap_or(0)));
                }
                Result::Ok(())
            };
            found(epochs, &|count, last| {
                format!("{count} sessions are those of a node above {last}, the last that came")
            })
            .await?;
            found(gaps, &|count, first| {
                format!("the journal has {count} gaps in its order, the first before place {first}")
            })
            .await?;
            Ok(findings)
        })
    }
}
