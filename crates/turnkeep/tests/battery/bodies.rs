//! Bodies that are too great, too slow, compressed, or not wanted at all.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::kit::{Answer, Home, PATIENCE, Request, Server, attacker};

/// A stream that inflates to a thousand times its size, as gzip would have it. Nobody looks.
fn bomb() -> Vec<u8> {
    [&b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"[..], &[0xec, 0xc1, 0x01, 0x01].repeat(50_000)]
        .concat()
}

#[tokio::test]
async fn nothing_is_inflated() {
    let home = Home::new("");
    let server = home.serve("warn", &[]);
    let before = server.resident();
    let bomb = bomb();
    for path in ["/v1/chat", "/v1/restrictions", "/v1/sessions/default:default:api:dm:a/stop"] {
        for encoding in ["gzip", "br", "deflate", "zstd", "identity, gzip", "x-gzip", "GZIP"] {
            let head = Request { announced: Some(bomb.len()), ..Request::post(path, "", "") }
                .with("content-encoding", encoding)
                .bytes();
            let answer = server.raw(attacker(5), &[head, bomb.clone()].concat()).await;
            assert_eq!(answer.status, 415, "{path} {encoding}: {}", answer.text);
        }
    }
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
    server.is_well("").await;
}

/// The answer to a head behind which nothing comes.
async fn answer_to_head(server: &Server, request: &Request<'_>) -> Answer {
    let mut stream = server.dial(attacker(6)).await.unwrap();
    stream.write_all(&request.bytes()).await.unwrap();
    let mut bytes = vec![0; 4096];
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut bytes)).await;
    let count = read.expect("it waits for the body").unwrap();
    Answer::of(&bytes[..count])
}

/// Ten gigabytes are announced, and nothing of them ever comes: the answer does not wait for them.
#[tokio::test]
async fn what_is_refused_anyway_is_not_waited_for() {
    let home = Home::new("[gateway]\nheader_timeout_seconds = 3600\n");
    let key = home.key(&["--tenant", "acme", "--scope", "send"]);
    let server = home.serve("warn", &[]);
    for (key, host, expect) in [
        ("tk_wrong_key", "localhost", 401),
        ("", "localhost", 401),
        (key.as_str(), "evil.example", 421),
        (key.as_str(), "localhost", 413),
    ] {
        for expectation in ["", "100-continue"] {
            let mut request = Request {
                announced: Some(10 << 30),
                headers: vec![("host", host)],
                ..Request::post("/v1/chat", key, "")
            };
            if !expectation.is_empty() {
                request = request.with("expect", expectation);
            }
            let answer = answer_to_head(&server, &request).await;
            assert_eq!(answer.status, expect, "{host} {expectation}: {}", answer.text);
        }
    }
    server.is_well(&key).await;
}

/// A body that stops half way is not waited for for ever.
#[tokio::test]
async fn a_body_that_never_ends_is_given_up() {
    let home = Home::new("[gateway]\nheader_timeout_seconds = 5\n");
    let server = home.serve("warn", &[]);
    let half = Request { announced: Some(100), ..Request::post("/v1/chat", "", "{\"message\":") };
    let answer = server.ask(attacker(6), &half).await;
    assert_eq!(answer.status, 408, "{}", answer.text);
    server.is_well("").await;
}

/// What is deep, wide or long is read within the limits, or refused.
#[tokio::test]
async fn strange_json_is_refused() {
    let home = Home::new("");
    let server = home.serve("warn", &[]);
    let deep = "[".repeat(500_000);
    let deep_objects = "{\"metadata\":".repeat(50_000);
    let number = format!("{{\"customer_id\":{}}}", "9".repeat(500_000));
    let twice = r#"{"customer_id":"a","customer_id":"b","message":"x"}"#;
    let surrogate = r#"{"customer_id":"a","message":"\ud800"}"#;
    let escape = "{\"customer_id\":\"a\u{1b}\",\"message\":\"x\"}";
    for body in
        [&deep, &deep_objects, &number, twice, surrogate, escape, "\u{feff}{}", "{}", "null"]
    {
        let answer = server.ask(attacker(6), &Request::post("/v1/chat", "", body)).await;
        let what: String = body.chars().take(40).collect();
        assert!(matches!(answer.status, 400 | 422), "{what}: {}", answer.text);
    }
    server.is_well("").await;
}
