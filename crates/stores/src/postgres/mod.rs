//! The store of a cluster: one PostgreSQL database that several nodes share.
//!
//! A commit is made into rows in the caller's task ([`crate::encode`]) and goes to the writer, a
//! task with a connection of its own, which decides and writes all that wait in one transaction.
//! The journal's one order and the putting out of dead nodes hang on one lock, the gate
//! ([`gate`]). Reads and whatever else is written take connections out of a pool
//! ([`change`]). How the database is reached is [`connect`]'s, what it must be [`open`]'s, its
//! tables [`schema`]'s, and what its errors mean [`trouble`]'s.

pub(crate) mod gate;
pub(crate) mod moving;
pub(crate) mod nodes;
pub(crate) mod open;
pub(crate) mod reader;
pub(crate) mod settings;
mod shared;

mod ask;
mod batch;
mod care;
mod change;
mod claim;
mod connect;
mod decide;
mod guard;
mod journal;
mod keys;
mod listeners;
mod moment;
mod moving_rows;
mod people;
mod pipeline;
mod put;
mod read;
mod schedule;
mod schema;
mod stand_in;
mod statements;
mod store;
mod switchboard;
mod text;
mod together;
mod trouble;
mod usage;
mod writer;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

use deadpool_postgres::Pool;
use tokio::sync::mpsc;

use crate::counters::{Counters, Health};
use connect::Connector;
use gate::Gate;
use open::PostgresError;
use settings::PostgresSettings;
use together::Together;
use writer::{Order, Writer};

/// Keeps everything in a schema of a PostgreSQL database, as one node of a cluster.
#[derive(Debug)]
pub struct PostgresStore {
    shared: Arc<Shared>,
    orders: mpsc::UnboundedSender<Order>,
    together: Together,
}

/// What the store's tasks share.
struct Shared {
    settings: PostgresSettings,
    connector: Connector,
    pool: Pool,
    gate: Gate,
    counters: Counters,
    health: Health,
    nodes: nodes::Nodes,
    closed: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { settings, gate, .. } = self;
        f.debug_struct("Shared").field("settings", settings).field("gate", gate).finish()
    }
}

impl Shared {
    fn is_closed(&self) -> bool {
        self.closed.load(Acquire)
    }
}

impl PostgresStore {
    /// Connects, makes or completes the tables, and joins the cluster under a new epoch. It has
    /// to be called in the runtime that the store will be used in.
    pub async fn open(settings: PostgresSettings) -> Result<Self, PostgresError> {
        let (connector, gate) = open::open(&settings).await?;
        let pool = connector.pool(settings.pool)?;
        let shared = Arc::new(Shared {
            settings,
            connector,
            pool,
            gate,
            counters: Counters::default(),
            health: Health::default(),
            nodes: nodes::Nodes::default(),
            closed: AtomicBool::new(false),
        });
        nodes::meet(&shared).await?;
        let (orders, taken) = mpsc::unbounded_channel();
        tokio::spawn(Writer::new(Arc::clone(&shared), taken).run());
        tokio::spawn(nodes::live(Arc::downgrade(&shared)));
        let together = Together::begin(&shared);
        Ok(Self { shared, orders, together })
    }

    /// Looks whether it could be opened, and changes nothing; whether the tables are there already.
    pub async fn check(settings: &PostgresSettings) -> Result<bool, PostgresError> {
        open::look(settings).await
    }

    /// Who takes part in a cluster, in the order in which they came; changes nothing.
    pub async fn listed(settings: &PostgresSettings) -> Result<Vec<nodes::Other>, PostgresError> {
        nodes::listed(settings).await
    }

    /// Whether it takes no more changes.
    fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// Takes no more changes from now on; whether it did until now.
    fn shut(&self) -> bool {
        !self.shared.closed.swap(true, AcqRel)
    }
}
