//! Codes and cookies that are guessed many at once, before a store that takes its time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use turnkeep_core::Timestamp;
use turnkeep_core::access::{Principal, Visit};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::keys::{Added, KeyRow, Keys, Rotated, SecretHash, SignIn};
use turnkeep_core::ports::store::StoreError;
use turnkeep_gateway::access::Access;
use turnkeep_gateway::http::{Http, HttpSettings, serve};
use turnkeep_stores::MemoryStore;

use crate::access::key;
use crate::kit::{World, came_back, soon};

type Told<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Looks nothing up and writes nothing before it is let; counts what was asked of it.
struct Slow {
    store: MemoryStore,
    opened: Semaphore,
    begun: Semaphore,
    asked: AtomicU64,
}

impl Slow {
    async fn pass(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.begun.add_permits(1);
        drop(self.opened.acquire().await.unwrap());
    }
}

impl Keys for Slow {
    fn keys(&self) -> Told<'_, Vec<KeyRow>> {
        self.store.keys()
    }

    fn add_key(&self, row: KeyRow) -> Told<'_, Added> {
        self.store.add_key(row)
    }

    fn revoke_key(&self, id: &str, at: Timestamp) -> Told<'_, bool> {
        self.store.revoke_key(id, at)
    }

    fn rotate_key(
        &self,
        id: &str,
        row: KeyRow,
        old_ends: Timestamp,
        now: Timestamp,
    ) -> Told<'_, Rotated> {
        self.store.rotate_key(id, row, old_ends, now)
    }

    fn forget_key(&self, id: &str, now: Timestamp) -> Told<'_, bool> {
        self.store.forget_key(id, now)
    }

    fn add_code(&self, code: SignIn, now: Timestamp) -> Told<'_, Added> {
        self.store.add_code(code, now)
    }

    fn redeem_code(
        &self,
        code: SecretHash,
        cookie: SecretHash,
        until: Timestamp,
        now: Timestamp,
    ) -> Told<'_, Option<SignIn>> {
        Box::pin(async move {
            self.pass().await;
            self.store.redeem_code(code, cookie, until, now).await
        })
    }

    fn visit(&self, cookie: SecretHash, now: Timestamp) -> Told<'_, Option<SignIn>> {
        Box::pin(async move {
            self.pass().await;
            self.store.visit(cookie, now).await
        })
    }

    fn end_visit(&self, cookie: SecretHash) -> Told<'_, bool> {
        Box::pin(async move {
            self.pass().await;
            self.store.end_visit(cookie).await
        })
    }

    fn end_visits(&self, tenant: &str, customer: &str) -> Told<'_, usize> {
        self.store.end_visits(tenant, customer)
    }

    fn forget_sign_ins(&self, now: Timestamp, limit: usize) -> Told<'_, usize> {
        self.store.forget_sign_ins(now, limit)
    }
}

struct Home {
    world: World,
    slow: Arc<Slow>,
    access: Access,
    address: SocketAddr,
}

impl Home {
    /// A server where one needs a key, or to sign in.
    async fn new() -> Self {
        let world = World::new().await;
        key(&world, "acme", "send", None).await;
        let slow = Arc::new(Slow {
            store: world.store.clone(),
            opened: Semaphore::new(0),
            begun: Semaphore::new(0),
            asked: AtomicU64::new(0),
        });
        let access = Access::open(Arc::clone(&slow) as Arc<dyn Keys>, false).await.unwrap();
        let http = Http {
            gateway: world.gateway.clone(),
            access: access.clone(),
            settings: HttpSettings::default().into(),
            reload: None,
            render_metrics: Arc::new(String::new),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(http, listener, world.shutdown.clone()));
        Self { world, slow, access, address }
    }

    async fn code(&self) -> String {
        let visit = Visit { tenant: "acme".into(), customer: "ann".into(), agent: None };
        self.access.invite(&Principal::operator(), visit).await.unwrap().code
    }

    /// A request on its way: the status of its answer.
    fn send(&self, (method, path): (&str, &str), cookie: &str, body: &str) -> JoinHandle<u16> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
            .header("content-type", "application/json")
            .header("cookie", format!("turnkeep_visit={cookie}"))
            .body(Full::new(Bytes::from(body.to_owned())))
            .unwrap();
        let address = self.address;
        tokio::spawn(async move {
            let stream = TcpStream::connect(address).await.unwrap();
            let (mut sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            let response = sender.send_request(request).await.unwrap();
            let status = response.status().as_u16();
            response.into_body().collect().await.unwrap();
            status
        })
    }

    /// Ten wrong ones are being looked up, so nothing else is before they are.
    async fn ten_begun(&self) {
        for _ in 0..10 {
            soon(self.slow.begun.acquire()).await.unwrap().forget();
        }
    }

    /// How many the store was asked for: ten, and one more with every six seconds since.
    fn tried(&self, since: Instant) -> usize {
        let tried = self.slow.asked.load(Ordering::Relaxed);
        assert!((10..=10 + came_back(since, 6)).contains(&tried), "{tried}");
        usize::try_from(tried).unwrap()
    }

    /// Whatever came before this has been looked into by now, as far as it is.
    async fn round_trip(&self) {
        for _ in 0..20 {
            assert_eq!(soon(self.send(("GET", "/healthz"), "", "")).await.unwrap(), 200);
        }
    }
}

async fn statuses(requests: Vec<JoinHandle<u16>>) -> Vec<u16> {
    let mut statuses = Vec::new();
    for request in requests {
        statuses.push(soon(request).await.unwrap());
    }
    statuses.sort_unstable();
    statuses
}

fn refused(wrong: usize, limited: usize) -> Vec<u16> {
    [vec![401; wrong], vec![429; limited]].concat()
}

#[tokio::test]
async fn of_many_codes_at_once_ten_are_tried() {
    let home = Home::new().await;
    let code = home.code().await;
    let sign_in = ("POST", "/v1/sign-in");
    let guess = |code: &str| home.send(sign_in, "", &json!({ "code": code }).to_string());
    let since = Instant::now();
    let guesses: Vec<_> = (0..100).map(|number| guess(&format!("guess {number}"))).collect();
    home.ten_begun().await;
    // The right one comes while nobody knows yet that the others are wrong.
    let right = guess(&code);
    home.round_trip().await;
    home.slow.opened.add_permits(1000);
    let (right, told) = (soon(right).await.unwrap(), statuses(guesses).await);
    let tried = home.tried(since);
    assert!(right == 429 || tried > 10, "{right}");
    let wrong = tried - usize::from(right == 200);
    assert_eq!(told, refused(wrong, 100 - wrong));
    home.world.end().await;
}

#[tokio::test]
async fn of_many_cookies_at_once_ten_are_tried() {
    let home = Home::new().await;
    let path = ("GET", "/v1/sessions/acme%3Adefault%3Aweb%3Adm%3Aann");
    let guess = |number| home.send(path, &format!("guess{number}"), "");
    let since = Instant::now();
    let guesses: Vec<_> = (0..100).map(guess).collect();
    home.ten_begun().await;
    home.slow.opened.add_permits(1000);
    let told = statuses(guesses).await;
    let tried = home.tried(since);
    assert_eq!(told, refused(tried, 100 - tried));
    home.world.end().await;
}

#[tokio::test]
async fn what_is_right_costs_nothing_however_many_come_at_once() {
    let home = Home::new().await;
    let mut codes = Vec::new();
    for _ in 0..20 {
        codes.push(home.code().await);
    }
    let sign_in = ("POST", "/v1/sign-in");
    let ins = codes.iter().map(|code| home.send(sign_in, "", &json!({ "code": code }).to_string()));
    let ins: Vec<_> = ins.collect();
    home.ten_begun().await;
    home.slow.opened.add_permits(1000);
    assert_eq!(statuses(ins).await, [200; 20]);
    home.world.end().await;
}

#[tokio::test]
async fn signing_out_with_a_made_up_cookie_is_a_guess() {
    let home = Home::new().await;
    home.slow.opened.add_permits(1000);
    let out = |cookie: &str| home.send(("POST", "/v1/sign-out"), cookie, "");
    let code = home.code().await;
    let cookie = home.access.sign_in(&code, None).await.unwrap().unwrap().cookie;
    assert_eq!(soon(out(&cookie)).await.unwrap(), 204);
    home.slow.asked.store(0, Ordering::Relaxed);
    let since = Instant::now();
    let guesses: Vec<_> = (0..20).map(|number| out(&format!("guess{number}"))).collect();
    let told = statuses(guesses).await;
    // Each was looked up once, and nothing was written.
    let tried = home.tried(since);
    assert_eq!(told, [vec![204; tried], vec![429; 20 - tried]].concat());
    home.world.end().await;
}
