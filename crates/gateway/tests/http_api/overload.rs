//! More messages than are decided: who is told so, and that nobody else loses anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use turnkeep_core::outbox::DeliveryState;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::store::{
    Commit, CommitOutcome, DeadLetter, Loaded, NumberedDeadLetter, PartPlace, PartRow, Store,
    StoreError, TurnRow,
};
use turnkeep_core::{Epoch, Event, Seq, SessionKey, Timestamp, TurnId};
use turnkeep_gateway::Settings;
use turnkeep_stores::MemoryStore;

use crate::kit::{Reply, World, path, says, soon};

/// A store whose commits end when the test says so, whose journals can't be read when it says so, and
/// which is slow to tell what it read of parts when it says so.
pub(crate) struct GatedStore {
    store: MemoryStore,
    torn: AtomicBool,
    slow: AtomicBool,
    read: Semaphore,
    told: Semaphore,
    begun: Semaphore,
    opened: Semaphore,
    waiting: AtomicU64,
}

impl GatedStore {
    pub(crate) fn new(store: &MemoryStore) -> Arc<Self> {
        Arc::new(Self {
            store: store.clone(),
            torn: AtomicBool::new(false),
            slow: AtomicBool::new(false),
            read: Semaphore::new(0),
            told: Semaphore::new(0),
            begun: Semaphore::new(0),
            opened: Semaphore::new(0),
            waiting: AtomicU64::new(0),
        })
    }

    /// Resolves once so many more commits have begun.
    async fn begun(&self, commits: u32) {
        soon(self.begun.acquire_many(commits)).await.unwrap().forget();
    }

    /// From here on nothing waits.
    pub(crate) fn open(&self) {
        self.opened.close();
    }

    /// Who reads parts next is told what stands there now, and not before the test says so.
    pub(crate) fn hold_read(&self) {
        self.slow.store(true, Ordering::Relaxed);
    }

    /// Resolves once they have read.
    pub(crate) async fn has_read(&self) {
        soon(self.read.acquire()).await.unwrap().forget();
    }

    /// Now they are told.
    pub(crate) fn tell_read(&self) {
        self.told.add_permits(1);
    }

    /// From here on no journal can be read.
    pub(crate) fn tear(&self) {
        self.torn.store(true, Ordering::Relaxed);
    }
}

impl Store for GatedStore {
    fn epoch(&self) -> Epoch {
        self.store.epoch()
    }

    fn health(&self) -> Result<(), String> {
        self.store.health()
    }

    fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    fn load(&self, key: &SessionKey) -> BoxFuture<'_, Result<Option<Loaded>, StoreError>> {
        self.store.load(key)
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<CommitOutcome, StoreError>> {
        Box::pin(async move {
            self.begun.add_permits(1);
            // A closed gate of permits is an open one for commits.
            let _ = self.opened.acquire().await;
            self.store.commit(commit).await
        })
    }

    fn open_work(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, SessionKey)>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Timestamp, SessionKey)>, StoreError>> {
        self.store.open_work(before, after, limit)
    }

    fn sessions(
        &self,
        tenant: Option<&str>,
        after: Option<&SessionKey>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(SessionKey, Loaded)>, StoreError>> {
        self.store.sessions(tenant, after, limit)
    }

    fn events(
        &self,
        key: &SessionKey,
        after: Seq,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Event>, StoreError>> {
        if self.torn.load(Ordering::Relaxed) {
            let torn = StoreError::Unavailable("it is torn".to_owned());
            return Box::pin(std::future::ready(Err(torn)));
        }
        self.store.events(key, after, limit)
    }

    fn turn(&self, id: TurnId) -> BoxFuture<'_, Result<Option<(SessionKey, TurnRow)>, StoreError>> {
        self.store.turn(id)
    }

    fn turns(
        &self,
        key: &SessionKey,
        before: Option<TurnId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<TurnRow>, StoreError>> {
        self.store.turns(key, before, limit)
    }

    fn dead_letters_count(&self, max: usize) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.store.dead_letters_count(max)
    }

    fn dead_letters(
        &self,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<NumberedDeadLetter>, StoreError>> {
        self.store.dead_letters(after, limit)
    }

    fn dead_letter(
        &self,
        id: u64,
    ) -> BoxFuture<'_, Result<Option<(SessionKey, DeadLetter)>, StoreError>> {
        self.store.dead_letter(id)
    }

    fn parts(
        &self,
        key: &SessionKey,
        after: (Seq, u32),
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<PartRow>, StoreError>> {
        let read = self.store.parts(key, after, limit);
        if !self.slow.swap(false, Ordering::Relaxed) {
            return read;
        }
        Box::pin(async move {
            let rows = read.await;
            self.read.add_permits(1);
            soon(self.told.acquire()).await.unwrap().forget();
            rows
        })
    }

    fn parked(
        &self,
        tenant: Option<&str>,
        state: Option<DeliveryState>,
        after: Option<&PartPlace>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(SessionKey, PartRow)>, StoreError>> {
        self.store.parked(tenant, state, after, limit)
    }

    fn forget_seen(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, StoreError>> {
        self.store.forget_seen(now, limit)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.store.close()
    }
}

async fn narrow() -> (Arc<World>, Arc<GatedStore>) {
    let store = MemoryStore::new();
    let gated = GatedStore::new(&store);
    let settings = Settings { undecided_max: 2, shutdown_grace_ms: 200, ..Settings::default() };
    (Arc::new(World::behind(Arc::<GatedStore>::clone(&gated), store, settings).await), gated)
}

fn named(customer: &str) -> Value {
    let mut body = says(customer, "default", "api", "hi");
    body["id"] = json!(format!("{customer}-1"));
    body
}

fn told_overloaded(reply: &Reply) {
    assert_eq!((reply.status, reply.header("retry-after")), (503, "1"), "{}", reply.text());
    let body = reply.json();
    assert_eq!(body["type"], "urn:turnkeep:problem:overloaded");
    assert_eq!(body["rejection_reason"], "overloaded");
}

#[tokio::test]
async fn who_comes_on_top_is_refused_and_nobody_else_loses_anything() {
    let (world, gated) = narrow().await;
    let asked = ["ann", "bob"].map(|customer| {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.post("/v1/chat?wait=15", &named(customer)).await })
    });
    gated.begun(2).await;

    let refused = world.post("/v1/chat", &named("cem")).await;
    told_overloaded(&refused);
    insta::assert_snapshot!(refused.text());
    told_overloaded(&world.post("/v1/chat", &named("ann")).await);
    let unasked = json!({"customer_id": "ann", "channel": "api", "text": "news"});
    told_overloaded(&world.post("/v1/messages", &unasked).await);
    // Nothing else is shed.
    for address in ["/healthz", "/readyz", "/v1/sessions"] {
        assert_eq!(world.get(address).await.status, 200, "{address}");
    }

    gated.open();
    for answer in asked {
        let reply = soon(answer).await.unwrap();
        assert_eq!((reply.status, &reply.json()["reply"]), (200, &json!("echo: hi")));
    }
    // The places are free again: a newcomer, and a retry that was accepted before.
    let retried = world.ask(&named("ann")).await;
    assert_eq!((&retried["duplicate"], &retried["reply"]), (&json!(true), &json!("echo: hi")));
    assert_eq!(world.ask(&named("cem")).await["reply"], "echo: hi");
    for customer in ["ann", "bob", "cem"] {
        let page = world.get(&format!("{}/messages", path("default", "api", customer))).await;
        assert_eq!(page.json()["messages"].as_array().unwrap().len(), 2, "{customer}");
    }
}

#[tokio::test]
async fn a_store_that_is_behind_counts_too() {
    let (world, gated) = narrow().await;
    gated.open();
    gated.waiting.store(2, Ordering::Relaxed);
    told_overloaded(&world.post("/v1/chat", &named("ann")).await);
    gated.waiting.store(1, Ordering::Relaxed);
    assert_eq!(world.ask(&named("ann")).await["reply"], "echo: hi");
}

#[tokio::test]
async fn a_sender_who_goes_away_leaves_its_place() {
    let (world, gated) = narrow().await;
    for customer in ["ann", "bob"] {
        let mut connection = world.connect().await;
        let request = post(&world, named(customer).to_string());
        let gone = tokio::spawn(async move { connection.send_request(request).await });
        gated.begun(1).await;
        gone.abort();
    }
    gated.open();
    let freed = async {
        while world.post("/v1/chat", &named("cem")).await.status != 202 {
            tokio::task::yield_now().await;
        }
    };
    soon(freed).await;
}

fn post(world: &World, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post("/v1/chat")
        .header("host", world.address.to_string())
        .header("content-type", "application/json")
        .body(Full::new(body.into()))
        .unwrap()
}

#[tokio::test]
async fn a_connection_goes_on_behind_a_short_body_and_ends_behind_a_long_one() {
    let (world, gated) = narrow().await;
    gated.waiting.store(2, Ordering::Relaxed);
    let mut connection = world.connect().await;
    for body in ["x".repeat(10), named("ann").to_string(), "x".repeat(60_000)] {
        soon(connection.ready()).await.unwrap();
        let refused = soon(connection.send_request(post(&world, body))).await.unwrap();
        assert_eq!((refused.status().as_u16(), refused.headers().get("connection")), (503, None));
        soon(refused.into_body().collect()).await.unwrap();
    }
    let refused = soon(connection.send_request(post(&world, "x".repeat(70_000)))).await.unwrap();
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["connection"]),
        (503, &"close".parse().unwrap())
    );
}
