//! The switchboard through a real socket, over the store that ships, in a folder that outlives the
//! server.

mod acts;
mod lasting;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::ports::switchboard::{BoardChange, KeptBoard, SwitchboardStore, Written};
use turnkeep_core::switchboard::Limits;
use turnkeep_gateway::Settings;
use turnkeep_stores::{SqliteOptions, SqliteStore};

use crate::kit::{Reply, World, soon};

/// What is kept of the switchboard can't be written while this is down.
#[derive(Clone)]
struct Shaky {
    store: Arc<SqliteStore>,
    down: Arc<AtomicBool>,
    /// It does what it is told, and then says that it could not.
    lies: Arc<AtomicBool>,
}

impl SwitchboardStore for Shaky {
    fn board_tenants(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Arc<str>>, StoreError>> {
        self.store.board_tenants(after, limit)
    }

    fn board(&self, tenant: &str) -> BoxFuture<'_, Result<KeptBoard, StoreError>> {
        self.store.board(tenant)
    }

    fn write_board(&self, change: BoardChange) -> BoxFuture<'_, Result<Written, StoreError>> {
        let lies = self.lies.load(Ordering::SeqCst);
        let down = self.down.load(Ordering::SeqCst);
        Box::pin(async move {
            let broken = || Err(StoreError::Unavailable("the disk is full".into()));
            if down {
                return broken();
            }
            let done = self.store.write_board(change).await;
            if lies { broken() } else { done }
        })
    }
}

/// A folder, and servers on it one after the other.
struct Home {
    dir: TempDir,
    down: Arc<AtomicBool>,
    lies: Arc<AtomicBool>,
}

/// A server and its store.
struct Desk {
    world: World,
    store: Arc<SqliteStore>,
}

impl Home {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), down: Arc::default(), lies: Arc::default() }
    }

    async fn open(&self) -> Desk {
        self.open_with(Limits::default()).await
    }

    async fn open_with(&self, switchboard: Limits) -> Desk {
        let store = Arc::new(open(self.dir.path()));
        let (down, lies) = (Arc::clone(&self.down), Arc::clone(&self.lies));
        let shaky = Shaky { store: Arc::clone(&store), down, lies };
        let own = Settings { shutdown_grace_ms: 200, switchboard, ..Settings::default() };
        let world = World::on_disk(&store, Arc::new(shaky), own).await;
        let (gateway, shutdown) = (world.gateway.clone(), world.shutdown.clone());
        tokio::spawn(async move { gateway.keep_switchboard(shutdown).await });
        Desk { world, store }
    }
}

fn open(dir: &Path) -> SqliteStore {
    SqliteStore::open(dir, SqliteOptions::default()).unwrap()
}

impl Desk {
    /// Ends the server, and gives the folder back once nobody has the store any more.
    async fn end(self) {
        let Self { world, store } = self;
        let gateway = world.gateway.clone();
        world.end().await;
        soon(gateway.drain()).await;
        drop(gateway);
        let given_back = async {
            while Arc::strong_count(&store) > 1 {
                tokio::task::yield_now().await;
            }
        };
        soon(given_back).await;
    }

    async fn get(&self, below: &str) -> Reply {
        self.world.get(&format!("/v1/switchboard{below}")).await
    }

    async fn row(&self, which: &str) -> Value {
        let reply = self.get(&format!("/{which}")).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    async fn post(&self, below: &str, body: &Value) -> Reply {
        self.world.post(&format!("/v1/switchboard{below}"), body).await
    }

    async fn put_name(&self, which: &str, name: Value) -> Reply {
        let body = json!({ "name": name }).to_string();
        let head = [("content-type", "application/json")];
        self.world.call("PUT", &format!("/v1/switchboard/{which}/name"), &head, body).await
    }

    async fn create(&self, body: Value) -> Value {
        let reply = self.post("", &body).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        reply.json()
    }

    /// Sessions called so, in this order.
    async fn named(&self, names: &[&str]) {
        for name in names {
            self.create(json!({ "name": name })).await;
        }
    }

    /// Says something in a session and waits for the answer.
    async fn say(&self, which: &str, text: &str) {
        let session = self.row(which).await["session"].clone();
        self.world.ask(&json!({ "session": session, "message": text })).await;
    }

    async fn numbers(&self, query: &str) -> Vec<u64> {
        let page = self.get(query).await.json();
        let rows = page["sessions"].as_array().unwrap().iter();
        rows.map(|row| row["number"].as_u64().unwrap()).collect()
    }

    async fn active(&self, seat: &str) -> Value {
        self.get(&format!("?seat={seat}")).await.json()["active"].clone()
    }
}

fn refused(reply: &Reply, status: u16, kind: &str) -> Value {
    let body = reply.json();
    assert_eq!(reply.status, status, "{body}");
    assert_eq!(body["type"], format!("urn:turnkeep:problem:{kind}"));
    body
}
