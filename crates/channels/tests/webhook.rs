//! The courier against a receiver on this machine that checks what it gets, as a customer's would.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly, its helpers too")]

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use turnkeep_channels::webhook::Lookup;
use turnkeep_channels::{WebhookClient, WebhookCourier};
use turnkeep_core::network::Network;
use turnkeep_core::ports::listeners::{Carried, Courier, Delivery};

const SECRET: &[u8] = b"a secret of twenty-four bytes";

/// What arrived: the head's fields and the body.
#[derive(Clone, Debug)]
struct Seen {
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Seen {
    /// As a receiver checks it.
    fn is_signed_with(&self, secret: &[u8]) -> bool {
        let header = |name: &str| self.headers.get(name).map(String::as_str).unwrap_or_default();
        let mut content =
            format!("{}.{}.", header("webhook-id"), header("webhook-timestamp")).into_bytes();
        content.extend_from_slice(&self.body);
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let given = header("webhook-signature").strip_prefix("v1,").unwrap_or_default();
        STANDARD.decode(given).is_ok_and(|tag| hmac::verify(&key, &content, &tag).is_ok())
    }
}

/// Answers every request the same and closes.
struct Receiver {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Receiver {
    async fn new(answer: &'static str) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), answer).await
    }

    async fn at(address: SocketAddr, answer: &'static str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let noted = Arc::clone(&noted);
                tokio::spawn(async move { receive(stream, answer, &noted).await });
            }
        });
        Self { address, seen }
    }

    fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn receive(stream: TcpStream, answer: &str, seen: &Mutex<Vec<Seen>>) {
    let mut stream = BufReader::new(stream);
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        match line.trim().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.to_owned()),
            None if line.trim().is_empty() => break,
            None => None,
        };
    }
    let length = headers["content-length"].parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    seen.lock().unwrap().push(Seen { headers, body });
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
}

const OK: &str = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";

fn networks(allowed: &[&str]) -> Vec<Network> {
    allowed.iter().map(|network| network.parse().unwrap()).collect()
}

fn install_tls() {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn courier(url: &str, allowed: &[&str]) -> WebhookCourier {
    install_tls();
    let client = WebhookClient::new(&networks(allowed)).unwrap();
    WebhookCourier::new(&client, url, &[SECRET]).unwrap()
}

fn looking_up(url: &str, allowed: &[&str], lookup: Lookup) -> WebhookCourier {
    install_tls();
    let client = WebhookClient::with_lookup(&networks(allowed), lookup).unwrap();
    WebhookCourier::new(&client, url, &[SECRET]).unwrap()
}

fn delivery() -> Delivery {
    Delivery { id: "msg_crm_1_2_3".into(), body: br#"{"type":"turn.completed"}"#.to_vec() }
}

fn error(carried: &Carried) -> &str {
    match carried {
        Carried::Failed { error, .. } => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_receiver_can_check_what_it_gets() {
    let receiver = Receiver::new(OK).await;
    let carried = courier(&receiver.url(), &["127.0.0.0/8"]).carry(delivery()).await;
    assert_eq!(carried, Carried::Delivered);
    let seen = receiver.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].body, delivery().body);
    assert_eq!(seen[0].headers["webhook-id"], "msg_crm_1_2_3");
    assert_eq!(seen[0].headers["content-type"], "application/json");
    assert!(seen[0].headers["webhook-timestamp"].parse::<u64>().unwrap() > 1_700_000_000);
    assert!(seen[0].is_signed_with(SECRET));
    assert!(!seen[0].is_signed_with(b"another secret"));
    let mut forged = seen[0].clone();
    forged.body.push(b' ');
    assert!(!forged.is_signed_with(SECRET));
}

#[tokio::test]
async fn closed_networks_are_not_reached_unless_allowed() {
    let receiver = Receiver::new(OK).await;
    let port = receiver.address.port();
    // In every spelling that means this machine.
    let hosts = ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "[::1]"];
    for host in hosts.into_iter().chain(["0.0.0.0"]) {
        let url = format!("http://{host}:{port}/");
        let carried = courier(&url, &["10.0.0.0/8"]).carry(delivery()).await;
        assert!(error(&carried).contains("is not on the open internet"), "{host}: {carried:?}");
    }
    let carried = courier("http://169.254.169.254/latest", &[]).carry(delivery()).await;
    assert!(error(&carried).starts_with("169.254.169.254 is not"), "{carried:?}");
    assert_eq!(receiver.seen().len(), 0);
    let url = format!("http://localhost:{port}/");
    let allowed = ["127.0.0.0/8", "::1"];
    assert_eq!(courier(&url, &allowed).carry(delivery()).await, Carried::Delivered);
    assert_eq!(receiver.seen().len(), 1);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let hidden = Receiver::new(OK).await;
    let moved: &'static str = Box::leak(
        format!(
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: {}\r\nconnection: close\r\n\
             content-length: 0\r\n\r\n",
            hidden.url()
        )
        .into_boxed_str(),
    );
    let receiver = Receiver::new(moved).await;
    let carried = courier(&receiver.url(), &["127.0.0.1"]).carry(delivery()).await;
    assert!(error(&carried).contains("redirects are not followed"), "{carried:?}");
    assert_eq!((receiver.seen().len(), hidden.seen().len()), (1, 0));
}

#[tokio::test]
async fn a_name_that_changes_its_address_gets_nowhere() {
    // 127.0.0.1 stands for the open internet, 127.0.0.2 for what lies behind it.
    let open = Receiver::new(OK).await;
    let port = open.address.port();
    let closed = Receiver::at(SocketAddr::new("127.0.0.2".parse().unwrap(), port), OK).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let lookup: Lookup = Arc::new(move |name| {
        assert_eq!(name, "receiver.example");
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        let address = if first { "127.0.0.1" } else { "127.0.0.2" };
        Box::pin(async move { Ok(vec![address.parse().unwrap()]) })
    });
    let url = format!("http://receiver.example:{port}/");
    let courier = looking_up(&url, &["127.0.0.1"], lookup);
    assert_eq!(courier.carry(delivery()).await, Carried::Delivered);
    let carried = courier.carry(delivery()).await;
    assert!(error(&carried).starts_with("127.0.0.2 is not"), "{carried:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    assert_eq!((open.seen().len(), closed.seen().len()), (1, 0));
}

#[tokio::test]
async fn one_closed_address_among_open_ones_is_enough() {
    let open = Receiver::new(OK).await;
    let url = format!("http://receiver.example:{}/", open.address.port());
    let found: Vec<IpAddr> = ["127.0.0.1", "10.0.0.7"].map(|one| one.parse().unwrap()).into();
    let lookup: Lookup = Arc::new(move |_| {
        let found = found.clone();
        Box::pin(async move { Ok(found) })
    });
    let carried = looking_up(&url, &["127.0.0.1"], lookup).carry(delivery()).await;
    assert!(error(&carried).starts_with("10.0.0.7 is not"), "{carried:?}");
    assert_eq!(open.seen().len(), 0);
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let check = async |answer: &'static str, expect: Carried| {
        let receiver = Receiver::new(answer).await;
        let carried = courier(&receiver.url(), &["127.0.0.1"]).carry(delivery()).await;
        assert_eq!(carried, expect);
    };
    check("HTTP/1.1 410 Gone\r\nconnection: close\r\n\r\n", Carried::Gone).await;
    let busy = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 30\r\nconnection: close\r\n\r\n";
    let error = "answered 429 Too Many Requests".into();
    check(busy, Carried::Failed { error, retry_after_ms: Some(30_000) }).await;
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_said_so() {
    // Nobody else can have the port, and nobody listens there.
    let gone = TcpSocket::new_v4().unwrap();
    gone.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/?token=hidden", gone.local_addr().unwrap());
    let carried = courier(&url, &["127.0.0.1"]).carry(delivery()).await;
    assert!(error(&carried).contains("refused"), "{carried:?}");
    assert!(!error(&carried).contains("hidden"));
}

#[tokio::test(start_paused = true)]
async fn a_silent_receiver_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let carried = courier(&url, &["127.0.0.1"]).carry(delivery()).await;
    assert_eq!(error(&carried), "no answer within 10 s");
}

#[tokio::test]
async fn only_http_addresses_are_taken() {
    install_tls();
    let client = WebhookClient::new(&[]).unwrap();
    for url in ["", "ftp://example.org", "example.org/hook", "file:///etc/passwd"] {
        assert!(WebhookCourier::new(&client, url, &[SECRET]).is_err(), "{url}");
    }
    assert!(WebhookCourier::new(&client, "https://example.org", &[]).is_err());
}
