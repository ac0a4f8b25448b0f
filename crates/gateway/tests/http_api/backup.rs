//! Backups as the API makes them: over the socket only, one at a time, told line by line, and
//! stopped by whoever goes away.

use std::path::PathBuf;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::handshake;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use turnkeep_core::care::Forgotten;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::care::{
    BackupError, BackupOrder, CareStore, Disappearing, Forget, Forgot, Found, Hashes, Redaction,
    Swept,
};
use turnkeep_core::ports::store::{DeadLetter, StoreError};
use turnkeep_core::{Seq, SessionKey, Timestamp};
use turnkeep_gateway::http::{Http, HttpSettings, serve_unix};
use turnkeep_stores::MemoryStore;

use crate::kit::{World, soon};

type Ended = Result<u64, BackupError>;
type Script = Arc<dyn Fn(BackupOrder) -> BoxFuture<'static, Ended> + Send + Sync>;
type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// A store whose backups end as the test says, and that does everything else as any other.
struct Copier {
    memory: MemoryStore,
    script: Script,
}

impl CareStore for Copier {
    fn forgotten(&self, key: &SessionKey) -> Answer<'_, Option<Forgotten>> {
        self.memory.forgotten(key)
    }

    fn keys(
        &self,
        tenant: Option<&str>,
        after: Option<&SessionKey>,
        limit: usize,
    ) -> Answer<'_, Vec<SessionKey>> {
        self.memory.keys(tenant, after, limit)
    }

    fn letters(&self, key: &SessionKey) -> Answer<'_, Vec<DeadLetter>> {
        self.memory.letters(key)
    }

    fn forget(&self, forget: Forget) -> Answer<'_, Forgot> {
        self.memory.forget(forget)
    }

    fn sweep(&self, limit: usize) -> Answer<'_, Swept> {
        self.memory.sweep(limit)
    }

    fn redact(&self, redaction: Redaction) -> Answer<'_, ()> {
        self.memory.redact(redaction)
    }

    fn disappearing(&self, until: Timestamp, limit: usize) -> Answer<'_, Vec<Disappearing>> {
        self.memory.disappearing(until, limit)
    }

    fn put_off(
        &self,
        key: &SessionKey,
        looked_at: Vec<(Seq, Option<Timestamp>)>,
    ) -> Answer<'_, ()> {
        self.memory.put_off(key, looked_at)
    }

    fn find_sender(&self, tenant: &str, sender: &str, from: u64) -> Answer<'_, Found> {
        self.memory.find_sender(tenant, sender, from)
    }

    fn find_hashes(&self, from: u64) -> Answer<'_, Hashes> {
        self.memory.find_hashes(from)
    }

    fn is_unscrubbed(&self) -> Answer<'_, bool> {
        self.memory.is_unscrubbed()
    }

    fn scrub(&self) -> Answer<'_, bool> {
        self.memory.scrub()
    }

    fn salt(&self) -> Answer<'_, Vec<u8>> {
        self.memory.salt()
    }

    fn backup(&self, order: BackupOrder) -> BoxFuture<'_, Result<u64, BackupError>> {
        // It goes on by itself, as the copying of a file does.
        let work = tokio::spawn((self.script)(order));
        Box::pin(async move { work.await.unwrap() })
    }
}

/// A world whose API can be asked over a socket too.
struct Home {
    world: World,
    socket: PathBuf,
    _folder: TempDir,
}

impl Home {
    async fn new<F>(script: impl Fn(BackupOrder) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        let script: Script = Arc::new(move |order| Box::pin(script(order)));
        let world = World::caring(Arc::new(Copier { memory: MemoryStore::new(), script })).await;
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("turnkeep.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let http = Http {
            gateway: world.gateway.clone(),
            access: world.access.clone(),
            settings: HttpSettings::default().into(),
            reload: None,
            render_metrics: Arc::new(String::new),
        };
        tokio::spawn(serve_unix(http, listener, world.shutdown.clone()));
        Self { world, socket, _folder: folder }
    }

    async fn ask(&self, body: &Value) -> Lines {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::post("/v1/backup")
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        let response = soon(sender.send_request(request)).await.unwrap();
        Lines { response, buffer: String::new() }
    }

    /// The status, the kind of problem and the field of a refusal.
    async fn refused(&self, body: &Value) -> (u16, String, Value) {
        let mut lines = self.ask(body).await;
        let status = lines.response.status().as_u16();
        let body = soon(lines.response.body_mut().collect()).await.unwrap().to_bytes();
        let problem: Value = serde_json::from_slice(&body).unwrap();
        let kind = problem["type"].as_str().unwrap_or("none").rsplit(':').next();
        (status, kind.unwrap().to_owned(), problem["field"].clone())
    }
}

struct Lines {
    response: Response<Incoming>,
    buffer: String,
}

impl Lines {
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((line, rest)) = self.buffer.split_once('\n') {
                let line = serde_json::from_str(line).unwrap();
                self.buffer = rest.to_owned();
                return Some(line);
            }
            let frame = soon(self.response.body_mut().frame()).await?.unwrap();
            self.buffer.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }
}

fn copy() -> Value {
    json!({ "file": "/place/copy.db" })
}

#[tokio::test]
async fn a_backup_tells_how_far_it_is_and_what_it_came_to() {
    let go_on = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&go_on);
    let home = Home::new(move |mut order| {
        let held = Arc::clone(&held);
        async move {
            assert!((order.progress)(3, 10));
            held.acquire().await.unwrap().forget();
            if order.replace { Ok(9) } else { Err(BackupError::Full(order.file)) }
        }
    })
    .await;
    let mut lasts = Vec::new();
    for force in [true, false] {
        let mut lines = home.ask(&json!({ "file": "/place/copy.db", "force": force })).await;
        assert_eq!(lines.response.status(), 200);
        assert_eq!(lines.response.headers()["content-type"], "application/x-ndjson");
        assert_eq!(lines.next().await, Some(json!({ "type": "progress", "done": 3, "of": 10 })));
        go_on.add_permits(1);
        let mut last = Value::Null;
        while let Some(line) = lines.next().await {
            last = line;
        }
        lasts.push(last);
    }
    assert_eq!(lasts[0], json!({ "type": "backup", "file": "/place/copy.db", "bytes": 9 }));
    assert_eq!(lasts[1]["type"], "problem");
    assert_eq!(lasts[1]["problem"]["status"], 507);
}

#[tokio::test]
async fn whoever_goes_away_stops_it_and_another_one_can_begin() {
    let (stopped, mut stops) = mpsc::unbounded_channel();
    let home = Home::new(move |mut order| {
        let stopped = stopped.clone();
        async move {
            while (order.progress)(1, 2) {
                tokio::task::yield_now().await;
            }
            // With the order the place for the next backup becomes free.
            drop(order);
            stopped.send(()).unwrap();
            Err(BackupError::Stopped)
        }
    })
    .await;
    let mut first = home.ask(&copy()).await;
    assert_eq!(first.next().await.unwrap()["type"], "progress");
    let (status, kind, _) = home.refused(&copy()).await;
    assert_eq!((status, kind.as_str()), (409, "wrong-state"));
    drop(first);
    soon(stops.recv()).await.unwrap();
    let mut second = home.ask(&copy()).await;
    assert_eq!(second.next().await.unwrap()["type"], "progress");
    // The server's end is the end of it too, and is told.
    home.world.shutdown.cancel();
    let mut last = Value::Null;
    while let Some(line) = second.next().await {
        last = line;
    }
    assert_eq!(last["problem"]["type"], "urn:turnkeep:problem:unavailable", "{last}");
}

#[tokio::test]
async fn each_refusal_has_its_status() {
    let home = Home::new(|order| async move {
        let file = order.file;
        match file.file_name().unwrap().to_str().unwrap() {
            "there" => Err(BackupError::Exists(file)),
            "unfit" => Err(BackupError::Unfit { file, why: "it is a folder".to_owned() }),
            "full" => Err(BackupError::Full(file)),
            "none" => Err(BackupError::NoFile),
            _ => Err(BackupError::Failed("the disk failed".to_owned())),
        }
    })
    .await;
    let check = async |body: Value, status: u16, kind: &str, field: Value| {
        let refused = home.refused(&body).await;
        assert_eq!(refused, (status, kind.to_owned(), field), "{body}");
    };
    let named = |name: &str| json!({ "file": format!("/place/{name}") });
    check(named("there"), 409, "exists", Value::Null).await;
    check(named("unfit"), 422, "field", json!("file")).await;
    check(named("full"), 507, "disk-full", Value::Null).await;
    check(named("none"), 404, "not-found", Value::Null).await;
    check(named("failed"), 500, "internal", Value::Null).await;
    check(json!({ "file": "copy.db" }), 422, "field", json!("file")).await;
    check(json!({ "file": "" }), 422, "field", json!("file")).await;
    check(json!({ "file": "/a\0b" }), 422, "field", json!("file")).await;
    check(json!({ "file": format!("/{}", "x".repeat(4096)) }), 422, "field", json!("file")).await;
    check(json!({ "force": true }), 422, "field", json!("file")).await;
    check(json!({ "file": "/x", "replace": true }), 422, "field", json!("replace")).await;
}

#[tokio::test]
async fn no_key_makes_a_server_write_files() {
    let home = Home::new(|_| async { Ok(1) }).await;
    let refused = home.world.post("/v1/backup", &copy()).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert_eq!(refused.json()["type"], "urn:turnkeep:problem:socket-only");
    assert_eq!(soon(home.ask(&copy())).await.next().await.unwrap()["bytes"], 1);
}
