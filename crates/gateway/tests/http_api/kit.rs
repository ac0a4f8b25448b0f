//! A server to test against, and a client that sees everything it says.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use turnkeep_agents::EchoAgent;
use turnkeep_core::Policy;
use turnkeep_core::guard::Rate;
use turnkeep_core::moderation::{Moderation, Ruling};
use turnkeep_core::policy::{WindowMode, channel_facts};
use turnkeep_core::ports::agent::Agent;
use turnkeep_core::ports::care::CareStore;
use turnkeep_core::ports::channel::Channel;
use turnkeep_core::ports::guard::Restrictions;
use turnkeep_core::ports::hints::NoHints;
use turnkeep_core::ports::keys::Keys;
use turnkeep_core::ports::listeners::ListenerStore;
use turnkeep_core::ports::people::People;
use turnkeep_core::ports::schedule::ScheduleStore;
use turnkeep_core::ports::store::Store;
use turnkeep_core::ports::switchboard::SwitchboardStore;
use turnkeep_core::ports::usage::UsageStore;
use turnkeep_gateway::access::Access;
use turnkeep_gateway::guard::{GuardParts, GuardSettings};
use turnkeep_gateway::http::{Http, HttpSettings, serve};
use turnkeep_gateway::listeners::{Listener, ListenerParts};
use turnkeep_gateway::{Gateway, Parts, Policies, Settings, UnknownPart};
use turnkeep_stores::{MemoryStore, SqliteStore};

use crate::agents::{Asker, Broken, Forgetful, Gate, Patient, Reciter, Talker, Watcher};

/// Nothing in these tests takes long; what does is broken.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

/// How much of a rate has come back since then, at one every so many seconds. Nothing, unless the
/// machine stands still: then it is more that gets through, and rightly so.
pub(crate) fn came_back(since: Instant, each_s: u64) -> u64 {
    // A clock of milliseconds may be one of them ahead.
    let passed = since.elapsed() + Duration::from_millis(1);
    passed.as_secs() / each_s
}

/// Every built-in channel without a window; the tenant `small` has an inbox for one, a customer of
/// `slow` may write three messages in a minute, and all of `crowd` together three. A customer of
/// `typist` is waited for. Messages of `watched`, `hasty` and `strict` are checked; for the
/// latter two there is next to no time. What is said to `brief` is kept for thirty days.
struct TestPolicies(Vec<String>);

impl Policies for TestPolicies {
    fn policy(&self, tenant: &str, agent: &str, channel: &str) -> Result<Arc<Policy>, UnknownPart> {
        if !self.0.iter().any(|known| known == agent) {
            return Err(UnknownPart::Agent);
        }
        let facts = channel_facts(channel).ok_or(UnknownPart::Channel)?;
        let mut policy = Policy::built_in(*facts);
        policy.window_mode = WindowMode::Off;
        if tenant == "small" {
            policy.inbox_max = 1;
        }
        // One comes back in a minute, which no test takes.
        let three = Rate::new(1, 3);
        match tenant {
            "slow" => policy.rate = three,
            "crowd" => policy.tenant_rate = three,
            "brief" => policy.retention_days = 30,
            "typist" => {
                (policy.window_mode, policy.window_ms) = (WindowMode::Adaptive, 3000);
                // However long the machine stands still, it is one burst.
                policy.window_total_ms = 600_000;
            }
            "watched" => {
                let default = Ruling::Refuse;
                policy.moderation = Some(Moderation { timeout_ms: 40_000, default });
            }
            "strict" => {
                policy.moderation = Some(Moderation { timeout_ms: 1, default: Ruling::Refuse });
            }
            "hasty" => {
                policy.moderation = Some(Moderation { timeout_ms: 1, default: Ruling::Allow });
            }
            _ => {}
        }
        Ok(Arc::new(policy))
    }
}

/// One store by everything that it is.
struct Stores {
    front: Arc<dyn Store>,
    care: Arc<dyn CareStore>,
    usage: Arc<dyn UsageStore>,
    people: Arc<dyn People>,
    schedule: Arc<dyn ScheduleStore>,
    switchboard: Arc<dyn SwitchboardStore>,
    listeners: Arc<dyn ListenerStore>,
    restrictions: Arc<dyn Restrictions>,
    keys: Arc<dyn Keys>,
}

impl Stores {
    fn of<S>(store: &Arc<S>) -> Self
    where
        S: Store + CareStore + UsageStore + People + ScheduleStore + SwitchboardStore,
        S: ListenerStore + Restrictions + Keys,
    {
        Self {
            front: store.clone(),
            care: store.clone(),
            usage: store.clone(),
            people: store.clone(),
            schedule: store.clone(),
            switchboard: store.clone(),
            listeners: store.clone(),
            restrictions: store.clone(),
            keys: store.clone(),
        }
    }
}

pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) access: Access,
    pub(crate) store: MemoryStore,
    pub(crate) address: SocketAddr,
    pub(crate) gate: Arc<Gate>,
    /// Of checks that wait.
    pub(crate) watched: Arc<Gate>,
    pub(crate) shutdown: CancellationToken,
    server: JoinHandle<()>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(HttpSettings::default()).await
    }

    pub(crate) async fn with(settings: HttpSettings) -> Self {
        Self::over(MemoryStore::new(), settings, Vec::new(), GuardSettings::default()).await
    }

    /// With somebody who listens, over a store that may have seen something already.
    pub(crate) async fn listening(store: MemoryStore, listeners: Vec<Listener>) -> Self {
        Self::over(store, HttpSettings::default(), listeners, GuardSettings::default()).await
    }

    /// With a guard like this, over a store that may have seen something already.
    pub(crate) async fn guarded(store: MemoryStore, guard: GuardSettings) -> Self {
        Self::over(store, HttpSettings::default(), Vec::new(), guard).await
    }

    async fn over(
        store: MemoryStore,
        settings: HttpSettings,
        listeners: Vec<Listener>,
        guard: GuardSettings,
    ) -> Self {
        let front = Arc::new(store.clone());
        let own = Settings { shutdown_grace_ms: 200, ..Settings::default() };
        let stores = Stores { front, ..Stores::of(&Arc::new(store.clone())) };
        Self::started(stores, store, settings, (listeners, guard, own)).await
    }

    /// Over the store that ships, with something before what it keeps of the switchboard.
    pub(crate) async fn on_disk(
        store: &Arc<SqliteStore>,
        switchboard: Arc<dyn SwitchboardStore>,
        own: Settings,
    ) -> Self {
        let stores = Stores { switchboard, ..Stores::of(store) };
        let rest = (Vec::new(), GuardSettings::default(), own);
        // Nobody looks into a memory that is not used.
        Self::started(stores, MemoryStore::new(), HttpSettings::default(), rest).await
    }

    /// With something else that keeps and forgets.
    pub(crate) async fn caring(care: Arc<dyn CareStore>) -> Self {
        let (store, settings) = (MemoryStore::new(), HttpSettings::default());
        let rest = (Vec::new(), GuardSettings::default(), Settings::default());
        let stores = Stores { care, ..Stores::of(&Arc::new(store.clone())) };
        Self::started(stores, store, settings, rest).await
    }

    /// With something before the store, and a gateway that lives by these settings.
    pub(crate) async fn behind(front: Arc<dyn Store>, store: MemoryStore, own: Settings) -> Self {
        let rest = (Vec::new(), GuardSettings::default(), own);
        let stores = Stores { front, ..Stores::of(&Arc::new(store.clone())) };
        Self::started(stores, store, HttpSettings::default(), rest).await
    }

    async fn started(
        stores: Stores,
        store: MemoryStore,
        settings: HttpSettings,
        (listeners, guard, own): (Vec<Listener>, GuardSettings, Settings),
    ) -> Self {
        let (gate, watched) = (Gate::new(), Gate::new());
        let agents: HashMap<String, Arc<dyn Agent>> = HashMap::from([
            ("default".to_owned(), Arc::new(EchoAgent::default()) as Arc<dyn Agent>),
            ("patient".to_owned(), Arc::new(Patient(Arc::clone(&gate)))),
            ("talker".to_owned(), Arc::new(Talker(Arc::clone(&gate)))),
            (
                "broken".to_owned(),
                Arc::new(Broken { runs: AtomicU32::new(0), gate: Arc::clone(&gate) }),
            ),
            ("asker".to_owned(), Arc::new(Asker)),
            ("reciter".to_owned(), Arc::new(Reciter)),
        ]);
        let channels: HashMap<String, Arc<dyn Channel>> =
            HashMap::from([("sms".to_owned(), Arc::new(Forgetful::new()) as Arc<dyn Channel>)]);
        let gateway = Gateway::new(Parts {
            store: stores.front,
            care: stores.care,
            usage: stores.usage,
            people: stores.people,
            schedule: stores.schedule,
            switchboard: stores.switchboard,
            policies: Arc::new(TestPolicies(agents.keys().cloned().collect())),
            agents,
            channels,
            listeners: ListenerParts { store: stores.listeners, listeners },
            guard: GuardParts { settings: guard, record: stores.restrictions },
            moderator: Some(Arc::new(Watcher(Arc::clone(&watched)))),
            tracer: None,
            hints: Arc::new(NoHints),
            runs: true,
            settings: own,
        });
        gateway.start().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let render_metrics = Arc::new(|| "turn_gateway_up 1\n".to_owned());
        let access = Access::open(stores.keys, false).await.unwrap();
        let http = Http {
            gateway: gateway.clone(),
            access: access.clone(),
            settings: settings.into(),
            reload: None,
            render_metrics,
        };
        let server = tokio::spawn(serve(http, listener, shutdown.clone()));
        Self { gateway, access, store, address, gate, watched, shutdown, server }
    }

    /// Ends the server and waits until it is gone.
    pub(crate) async fn end(self) {
        self.shutdown.cancel();
        soon(self.server).await.unwrap();
    }

    pub(crate) async fn connect(&self) -> SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// One request on a connection of its own, up to the head of its answer.
    pub(crate) async fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response<Incoming> {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", self.address.to_string());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let mut sender = soon(self.connect()).await;
        soon(sender.send_request(request)).await.unwrap()
    }

    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        let response = self.open(method, path, headers, body).await;
        let (parts, body) = response.into_parts();
        let body = soon(body.collect()).await.unwrap().to_bytes();
        Reply { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.call("GET", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.call("POST", path, &[("content-type", "application/json")], body.to_string()).await
    }

    /// Says something and waits for the answer.
    pub(crate) async fn ask(&self, body: &Value) -> Value {
        let reply = self.post("/v1/chat?wait=50", body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    /// Says something until it is held up. What is let in before that comes so many seconds behind
    /// the one that was let in `last`, in which the machine stood still.
    pub(crate) async fn limited(&self, body: &Value, last: &mut Instant, each_s: u64) -> Reply {
        loop {
            let before = Instant::now();
            let reply = self.post("/v1/chat", body).await;
            if reply.status != 202 {
                return reply;
            }
            assert!(came_back(*last, each_s) > 0, "too soon: {}", reply.text());
            *last = before;
        }
    }

    /// Bytes as they are, and everything that comes back until the server closes.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        soon(stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    pub(crate) async fn watch(&self, path: &str, headers: &[(&str, &str)]) -> Watch {
        let response = self.open("GET", path, headers, "").await;
        assert_eq!(response.status(), 200);
        Watch::new(response)
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A stream of server-sent events.
pub(crate) struct Watch {
    body: Incoming,
    buffer: String,
}

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Heard {
    pub(crate) id: Option<u64>,
    /// Of the switchboard, its whole id, which names the process before the version.
    pub(crate) of_board: Option<String>,
    pub(crate) event: String,
    pub(crate) data: Value,
}

impl Watch {
    pub(crate) fn new(response: Response<Incoming>) -> Self {
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body(), buffer: String::new() }
    }

    /// The next event; none at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Heard> {
        loop {
            if let Some((event, rest)) = self.buffer.split_once("\n\n") {
                let heard = read_event(event);
                self.buffer = rest.to_owned();
                return Some(heard);
            }
            let frame = soon(self.body.frame()).await?.unwrap();
            self.buffer.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }

    /// Everything up to the first event of a name.
    pub(crate) async fn until(&mut self, name: &str) -> Vec<Heard> {
        let mut heard = Vec::new();
        while heard.last().is_none_or(|last: &Heard| last.event != name) {
            heard.push(self.next().await.unwrap_or_else(|| panic!("no {name} in {heard:#?}")));
        }
        heard
    }

    /// Everything to the end of the stream.
    pub(crate) async fn rest(&mut self) -> Vec<Heard> {
        let mut heard = Vec::new();
        while let Some(event) = self.next().await {
            heard.push(event);
        }
        heard
    }
}

fn read_event(text: &str) -> Heard {
    let mut heard = Heard { id: None, of_board: None, event: String::new(), data: Value::Null };
    for line in text.lines() {
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?}"));
        match name {
            // Of a place among all events, `ROW-SEQ`, its row.
            "id" if text.contains("\nevent: board\n") => heard.of_board = Some(value.to_owned()),
            "id" => heard.id = value.split('-').next().map(|id| id.parse().unwrap()),
            "event" => heard.event = value.to_owned(),
            "data" => heard.data = serde_json::from_str(value).unwrap(),
            other => panic!("{other:?}"),
        }
    }
    heard
}

pub(crate) fn names(heard: &[Heard]) -> Vec<&str> {
    heard.iter().map(|heard| heard.event.as_str()).collect()
}

/// The path of a session of the default tenant.
pub(crate) fn path(agent: &str, channel: &str, customer: &str) -> String {
    format!("/v1/sessions/default%3A{agent}%3A{channel}%3Adm%3A{customer}")
}

/// A message of one customer to an agent.
pub(crate) fn says(customer: &str, agent: &str, channel: &str, message: &str) -> Value {
    json!({ "customer_id": customer, "agent_id": agent, "channel": channel, "message": message })
}

pub(crate) fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// The address of its stream.
pub(crate) fn events(agent: &str, channel: &str, customer: &str) -> String {
    format!("{}/events", path(agent, channel, customer))
}
