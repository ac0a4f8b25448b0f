//! Requests that two servers would read in two ways: whatever a proxy in front takes for one
//! request must not be two here.

use super::kit::{Home, Request, Server, attacker};

/// What is smuggled; its answer would show.
const SECOND: &str = "GET /smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// A POST with these header lines and this body. What follows them is all one write.
fn post(lines: &str, body: &str) -> Vec<u8> {
    format!(
        "POST /v1/chat HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{lines}\r\n{body}"
    )
    .into_bytes()
}

/// Refused, with one answer at most, and closed: nothing behind it is taken for a request.
async fn is_refused(server: &Server, what: &str, bytes: &[u8]) {
    let answer = server.raw(attacker(4), bytes).await;
    assert!(
        matches!(answer.status, 0 | 400 | 408 | 411..=431 | 501 | 505),
        "{what}: {}",
        answer.text
    );
    assert!(answer.count() <= 1, "{what} is two requests: {}", answer.text);
    assert!(!answer.text.contains("smuggled"), "{what}: {}", answer.text);
}

/// As RFC 9112 has it (6.3): the chunks count, the length does not, and the connection ends with the
/// answer. What a proxy that goes by the length sends behind it is taken for nothing.
#[tokio::test]
async fn a_length_beside_chunks_ends_the_connection() {
    let home = Home::new("");
    let server = home.serve("warn", &[]);
    let chunk = r#"{"customer_id":"a","message":"x"}"#;
    let chunked = format!("{:x}\r\n{chunk}\r\n0\r\n\r\n{SECOND}", chunk.len());
    let length = chunked.len();
    for lines in [
        "content-length: 4\r\ntransfer-encoding: chunked\r\n".to_owned(),
        format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"),
        format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n"),
        "transfer-encoding: chunked\r\ncontent-length: 0\r\n".to_owned(),
    ] {
        let answer = server.raw(attacker(4), &post(&lines, &chunked)).await;
        assert_eq!((answer.status, answer.count()), (202, 1), "{lines}: {}", answer.text);
        assert!(!answer.text.contains("smuggled"), "{lines}: {}", answer.text);
    }
}

#[tokio::test]
async fn lengths_that_contradict_each_other_are_refused() {
    let home = Home::new("");
    let server = home.serve("warn", &[]);
    for lines in [
        "content-length: 2\r\ncontent-length: 60\r\n",
        "content-length: 2, 60\r\n",
        "content-length: +2\r\n",
        "content-length: -2\r\n",
        "content-length: 0x2\r\n",
        "content-length: 2 2\r\n",
        "content-length: 99999999999999999999999\r\n",
        "content-length:\r\n",
        "content-length : 2\r\n",
        "content-length: \u{b}2\r\n",
    ] {
        is_refused(&server, lines, &post(lines, &format!("{{}}{SECOND}"))).await;
    }
    server.is_well("").await;
}

#[tokio::test]
async fn encodings_that_somebody_may_not_know_are_refused() {
    let home = Home::new("");
    let server = home.serve("warn", &[]);
    for lines in [
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: gzip\r\n",
        "transfer-encoding : chunked\r\n",
        "transfer-encoding: \u{b}chunked\r\n",
        "transfer-encoding:\r\n chunked\r\n",
        " transfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "transfer-encoding\r\n",
        "x: y\rtransfer-encoding: chunked\r\n",
        "x: y\0z\r\ncontent-length: 0\r\n",
        "x y: z\r\ncontent-length: 0\r\n",
    ] {
        is_refused(&server, lines, &post(lines, &format!("0\r\n\r\n{SECOND}"))).await;
    }
    server.is_well("").await;
}

#[tokio::test]
async fn bad_chunks_are_refused() {
    let home = Home::new("");
    let server = home.serve("warn", &[]);
    let chunked = "transfer-encoding: chunked\r\n";
    let far_too_long = format!("2;{}\r\n{{}}\r\n0\r\n\r\n", "x".repeat(100_000));
    for body in [
        "zz\r\n{}\r\n0\r\n\r\n",
        "-2\r\n{}\r\n0\r\n\r\n",
        "0x2\r\n{}\r\n0\r\n\r\n",
        "+2\r\n{}\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n",
        "2\n{}\r\n0\r\n\r\n",
        "2\r{}\r\n0\r\n\r\n",
        "2\r\n{}XX0\r\n\r\n",
        "2;a\nb\r\n{}\r\n0\r\n\r\n",
        "\r\n2\r\n{}\r\n0\r\n\r\n",
        far_too_long.as_str(),
    ] {
        let what: String = body.chars().take(40).collect();
        is_refused(&server, &what, &post(chunked, &format!("{body}{SECOND}"))).await;
    }
    server.is_well("").await;
}

#[tokio::test]
async fn what_is_no_http_1_is_refused() {
    let home = Home::new("");
    let server = home.serve("warn", &[]);
    let endless = format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "a".repeat(200_000));
    let many = format!("GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x: y\r\n".repeat(20_000));
    for bytes in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /healthz HTTP/1.1 \r\nhost: localhost\r\n\r\n",
        b"GET  /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\nhost: localhost\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"G\x7fT / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"CONNECT evil.example:80 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        endless.as_bytes(),
        many.as_bytes(),
    ] {
        let what = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        is_refused(&server, &what, bytes).await;
    }
    // What is right is answered, in order, on one connection.
    let twice = [Request::of("GET /healthz", "").staying().bytes(), SECOND.as_bytes().into()];
    let last = Request::of("GET /healthz", "").bytes();
    let answer = server.raw(attacker(4), &[twice.concat(), last].concat()).await;
    assert_eq!(answer.count(), 3, "{}", answer.text);
    assert!(answer.text.contains("/smuggled"), "here it is a request of its own");
}
