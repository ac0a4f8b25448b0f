//! What one peer may cost: bytes, time and connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use turnkeep_gateway::Submission;
use turnkeep_gateway::http::{Http, HttpSettings, serve_unix};

use crate::kit::{World, events, says, soon};

fn head(world: &World, rest: &str) -> Vec<u8> {
    let host = world.address;
    let head = format!(
        "POST /v1/chat HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n{rest}\r\n\r\n"
    );
    head.into_bytes()
}

#[tokio::test]
async fn a_body_of_a_hundred_megabytes_is_not_read() {
    let world = World::new().await;
    // Announced and never sent: the answer doesn't wait for it.
    let answer = world.raw(&head(&world, "content-length: 104857600")).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    insta::assert_snapshot!(answer.rsplit("\r\n").next().unwrap());

    // Really sent, by a peer that only reads afterwards.
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(&head(&world, "content-length: 2097153")).await.unwrap();
    let since = Instant::now();
    let sent = soon(stream.write_all(&vec![b' '; 2_097_153])).await;
    let mut answer = Vec::new();
    let read = soon(stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // All of it is taken from whoever does not stand still in between.
    let whole = sent.is_ok() && read.is_ok();
    assert!(whole || since.elapsed() >= Duration::from_secs(1), "{sent:?} {read:?}");
}

#[tokio::test]
async fn a_hundred_megabytes_without_a_length_are_cut_off() {
    let world = World::new().await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(&head(&world, "transfer-encoding: chunked")).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let sender = tokio::spawn(async move {
        let mut chunk = b"10000\r\n".to_vec();
        chunk.extend_from_slice(&[b' '; 0x10000]);
        chunk.extend_from_slice(b"\r\n");
        let mut sent = 0_usize;
        // The server may stop listening long before the end.
        while sent < 100 << 20 && writer.write_all(&chunk).await.is_ok() {
            sent += 0x10000;
        }
        sent
    });
    let mut answer = Vec::new();
    // A reset behind the answer is fine; the answer must be there.
    let _ = soon(reader.read_to_end(&mut answer)).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    drop(reader);
    let sent = soon(sender).await.unwrap();
    assert!(sent < 100 << 20, "{sent}");
}

#[tokio::test]
async fn the_limit_itself_is_allowed() {
    let world = World::new().await;
    let mut body = says("ann", "default", "api", "hi").to_string();
    body.push_str(&" ".repeat((1 << 20) - body.len()));
    let json = [("content-type", "application/json")];
    assert_eq!(world.call("POST", "/v1/chat", &json, body.clone()).await.status, 202);
    body.push(' ');
    assert_eq!(world.call("POST", "/v1/chat", &json, body).await.status, 413);
}

fn hasty() -> HttpSettings {
    HttpSettings { header_timeout: Duration::from_millis(50), ..HttpSettings::default() }
}

#[tokio::test]
async fn a_slow_head_is_hung_up_on() {
    let world = World::with(hasty()).await;
    assert_eq!(world.raw(b"POST /v1/chat HTTP/1.1\r\nhost: local").await, "");
    assert_eq!(world.raw(b"").await, "", "nor is a silent connection kept");
}

#[tokio::test]
async fn a_slow_body_is_told_so() {
    let world = World::with(hasty()).await;
    let mut request = head(&world, "content-length: 100");
    request.extend_from_slice(b"{\"customer_id\":");
    let answer = world.raw(&request).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    insta::assert_snapshot!(answer.rsplit("\r\n").next().unwrap());
}

#[tokio::test]
async fn heads_are_checked() {
    let world = World::new().await;
    let check = async |request: &str, expect: &str| {
        let request = request.replace("HOST", &world.address.to_string());
        let answer = world.raw(request.as_bytes()).await;
        assert!(answer.starts_with(expect), "{request}\n{answer}");
    };
    let end = "connection: close\r\n\r\n";
    check(&format!("GET /healthz HTTP/1.1\r\nhost: HOST\r\n{end}"), "HTTP/1.1 200 ").await;
    check(&format!("GET /healthz HTTP/1.1\r\n{end}"), "HTTP/1.1 400 ").await;
    check("GET /healthz HTTP/1.0\r\n\r\n", "HTTP/1.0 200 ").await;
    check(&format!("GET /healthz HTTP/1.1\r\nhost: HOST\r\nhost: HOST\r\n{end}"), "HTTP/1.1 400 ")
        .await;
    check(&format!("GET http://evil/healthz HTTP/1.1\r\nhost: HOST\r\n{end}"), "HTTP/1.1 421 ")
        .await;
    check("nonsense\r\n\r\n", "HTTP/1.1 400 ").await;
    let long = format!("GET /healthz HTTP/1.1\r\nhost: HOST\r\nx: {}\r\n\r\n", "x".repeat(40_000));
    check(&long, "HTTP/1.1 431 ").await;
}

/// Whether a new connection gets a place.
async fn is_served(world: &World) -> bool {
    let request = Request::get("/healthz").header("host", "localhost");
    let request = request.body(Full::<Bytes>::default()).unwrap();
    let answer = soon(world.connect()).await.send_request(request).await;
    answer.is_ok_and(|answer| answer.status() == StatusCode::OK)
}

#[tokio::test]
async fn connections_over_the_cap_are_told_so() {
    let settings = HttpSettings { connections_per_address_max: 2, ..HttpSettings::default() };
    let world = World::with(settings).await;
    let get = || {
        let request = Request::get("/healthz").header("host", world.address.to_string());
        request.body(Full::<Bytes>::default()).unwrap()
    };
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut connection = world.connect().await;
        assert_eq!(soon(connection.send_request(get())).await.unwrap().status(), 200);
        held.push(connection);
    }
    let answer = world.raw(b"").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let body: serde_json::Value =
        serde_json::from_str(answer.rsplit("\r\n").next().unwrap()).unwrap();
    assert_eq!(body["status"], 503);
    drop(held);
    // The places come back once the server has noticed.
    let freed = async {
        while !is_served(&world).await {
            tokio::task::yield_now().await;
        }
    };
    soon(freed).await;
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let world = World::new().await;
    let mut connection = world.connect().await;
    for number in 0..50 {
        let body = says("ann", "default", "api", &number.to_string()).to_string();
        let request = Request::post("/v1/chat?wait=10")
            .header("host", world.address.to_string())
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        soon(connection.ready()).await.unwrap();
        let response = soon(connection.send_request(request)).await.unwrap();
        assert_eq!(response.status(), 200);
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["reply"], json!(format!("echo: {number}")));
    }
}

#[tokio::test]
async fn nothing_is_taken_while_draining() {
    let world = World::new().await;
    soon(world.gateway.drain()).await;
    let refused = world.post("/v1/chat?wait=5", &says("ann", "default", "api", "hi")).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    insta::assert_snapshot!(refused.text());
    let ready = world.get("/readyz").await;
    assert_eq!(ready.status, 503);
    insta::assert_snapshot!("not_ready", ready.text());
    assert_eq!(world.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn the_same_api_stands_behind_a_unix_socket() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("turnkeep.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let http = Http {
        gateway: world.gateway.clone(),
        access: world.access.clone(),
        settings: HttpSettings::default().into(),
        reload: None,
        render_metrics: Arc::new(String::new),
    };
    let server = tokio::spawn(serve_unix(http, listener, world.shutdown.clone()));
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = [0; 15];
    soon(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    // An idle connection doesn't hold up the shutdown.
    world.end().await;
    soon(server).await.unwrap();
}

#[tokio::test]
async fn a_watcher_that_never_reads_is_cut_off() {
    let settings = HttpSettings {
        write_timeout: Duration::from_millis(50),
        connections_max: 1,
        ..HttpSettings::default()
    };
    let world = World::with(settings).await;
    let text = "x".repeat(60_000);
    // More than the buffers of both kernels hold.
    for _ in 0..120 {
        let customer = Some("ann".to_owned());
        let submission = Submission { customer, text: text.clone(), ..Submission::default() };
        let submitted = world.gateway.submit(submission, true).await.unwrap();
        soon(submitted.follow.unwrap()).await.unwrap();
    }
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(world.address).await.unwrap();
    let request =
        format!("GET {} HTTP/1.1\r\nhost: localhost\r\n\r\n", events("default", "api", "ann"));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    soon(stream.read_exact(&mut head)).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    // The watcher has the only place, so whoever is served came after its end.
    let freed = async {
        while !is_served(&world).await {
            tokio::task::yield_now().await;
        }
    };
    soon(freed).await;
    drop(stream);
}
