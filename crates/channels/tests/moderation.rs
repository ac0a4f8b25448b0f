//! The check of messages against a little server on this machine that answers well, badly or not.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly, its helpers too")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use turnkeep_channels::HttpModerator;
use turnkeep_core::moderation::Ruling;
use turnkeep_core::ports::moderator::{Checked, Checkup, Moderator};

const MESSAGE: Checked<'static> =
    Checked { text: "hi \"you\"", tenant: "acme", channel: "web", message_id: "m-1" };

/// What arrived: the head's fields, the request's line and the body.
type Seen = (HashMap<String, String>, String, Value);

/// Takes one request, answers so, and closes.
async fn server(answer: String) -> (SocketAddr, JoinHandle<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = tokio::spawn(async move {
        let mut stream = BufReader::new(listener.accept().await.unwrap().0);
        let (mut line, mut headers) = (String::new(), HashMap::new());
        stream.read_line(&mut line).await.unwrap();
        loop {
            let mut field = String::new();
            stream.read_line(&mut field).await.unwrap();
            let Some((name, value)) = field.trim().split_once(": ") else { break };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let mut body = vec![0; headers["content-length"].parse().unwrap()];
        stream.read_exact(&mut body).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        (headers, line.trim().to_owned(), serde_json::from_slice(&body).unwrap())
    });
    (address, seen)
}

fn says(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

fn moderator(url: &str, secret: Option<&str>) -> HttpModerator {
    // A second one in the same process changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    HttpModerator::new(url, secret).unwrap()
}

async fn checked(answer: String) -> Result<Checkup, String> {
    let (address, _seen) = server(answer).await;
    moderator(&format!("http://{address}/check"), None).check(MESSAGE).await
}

#[tokio::test]
async fn a_message_is_asked_about() {
    let (address, seen) = server(says("200 OK", "{\"allow\": true}")).await;
    let moderator = moderator(&format!("http://{address}/check?v=1"), Some("tell nobody"));
    let checkup = moderator.check(MESSAGE).await;
    assert_eq!(checkup, Ok(Checkup { ruling: Ruling::Allow, reason: None }));
    let (headers, line, body) = seen.await.unwrap();
    assert_eq!(line, "POST /check?v=1 HTTP/1.1");
    assert_eq!(headers["authorization"], "Bearer tell nobody");
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(
        body,
        json!({ "text": "hi \"you\"", "tenant": "acme", "channel": "web", "message_id": "m-1" })
    );
}

#[tokio::test]
async fn a_refusal_has_its_reason() {
    let body = json!({ "allow": false, "reason": "rude", "score": 0.9 }).to_string();
    let checkup = Checkup { ruling: Ruling::Refuse, reason: Some("rude".to_owned()) };
    assert_eq!(checked(says("200 OK", &body)).await, Ok(checkup));
}

#[tokio::test]
async fn what_is_no_answer_is_none() {
    let check = async |answer: String, expect: &str| {
        assert_eq!(checked(answer).await, Err(expect.to_owned()));
    };
    let strange = "answered something else than {\"allow\": true or false}";
    check(says("200 OK", "<html>"), strange).await;
    check(says("200 OK", "{\"allow\": \"yes\"}"), strange).await;
    check(says("200 OK", "{}"), strange).await;
    check(says("204 No Content", ""), strange).await;
    check(
        says("500 Internal Server Error", "{\"allow\": true}"),
        "answered 500 Internal Server Error",
    )
    .await;
    check(
        says("302 Found", ""),
        "answered 302 Found: redirects are not followed, configure the final address",
    )
    .await;
    let long = format!("{{\"allow\": true, \"reason\": \"{}\"}}", "x".repeat(20_000));
    check(says("200 OK", &long), "answered more than 16384 bytes").await;
}

#[tokio::test]
async fn who_is_not_there_or_says_nothing_is_told_without_the_address() {
    // Nobody else can have the port, and nobody listens there.
    let gone = TcpSocket::new_v4().unwrap();
    gone.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/check?token=hidden", gone.local_addr().unwrap());
    let error = moderator(&url, None).check(MESSAGE).await.unwrap_err();
    assert!(error.contains("refused") && !error.contains("hidden"), "{error}");
    let cut = checked(String::new()).await.unwrap_err();
    assert!(!cut.is_empty());
    // Whoever waits may stop waiting.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let moderator = moderator(&format!("http://{}/", silent.local_addr().unwrap()), None);
    let waited = tokio::time::timeout(Duration::from_millis(50), moderator.check(MESSAGE)).await;
    assert!(waited.is_err());
}

#[test]
fn a_wrong_address_or_secret_makes_none() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    assert!(HttpModerator::new("ftp://example.org", None).is_err());
    assert!(HttpModerator::new("no address", None).is_err());
    assert!(HttpModerator::new("http://example.org", Some("two\nlines")).is_err());
}
