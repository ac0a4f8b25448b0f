//! A schema for each test, in a PostgreSQL server that is made when the first test asks for one.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use tokio_postgres::{Client, NoTls};
use turnkeep_stores::{PostgresError, PostgresSettings, PostgresStore};

use crate::fixture::Home;
pub(crate) use crate::postgres_server::Server;

static SHARED: LazyLock<Server> = LazyLock::new(|| Server::start(""));

/// A schema of a test's own.
pub(crate) struct PgHome {
    pub(crate) url: String,
    pub(crate) schema: String,
}

impl Default for PgHome {
    fn default() -> Self {
        Self::at(SHARED.url())
    }
}

impl PgHome {
    /// In this database.
    pub(crate) fn at(url: String) -> Self {
        static SCHEMAS: AtomicU32 = AtomicU32::new(0);
        let number = SCHEMAS.fetch_add(1, Relaxed);
        Self { url, schema: format!("t{}_{number}", std::process::id()) }
    }

    /// What opens it, as this node.
    pub(crate) fn settings(&self, node: &str) -> PostgresSettings {
        let settings = PostgresSettings::new(self.url.clone(), node);
        PostgresSettings { schema: self.schema.clone(), pool: 4, ..settings }
    }

    /// Opens it as this node.
    pub(crate) async fn open_as(&self, node: &str) -> Result<PostgresStore, PostgresError> {
        PostgresStore::open(self.settings(node)).await
    }

    /// A connection that sees its tables; nothing of the store's stands in between.
    pub(crate) async fn client(&self) -> Client {
        let options = format!(" options='-c search_path={}'", self.schema);
        let (client, connection) =
            tokio_postgres::connect(&(self.url.clone() + &options), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

impl Home for PgHome {
    type Store = PostgresStore;
    fn open(&self) -> PostgresStore {
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| runtime.block_on(self.open_as("node"))).unwrap()
    }
}
