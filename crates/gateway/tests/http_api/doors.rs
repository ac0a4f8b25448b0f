//! Wrong keys, guesses, and what becomes of those who were let in when a key comes or goes.

use std::time::{Duration, Instant};

use serde_json::json;
use turnkeep_core::access::Principal;

use crate::access::{ask, call, key, world};
use crate::kit::{Reply, World, came_back, soon};

#[tokio::test]
async fn nobody_learns_why_a_key_is_wrong() {
    let world = world().await;
    let (right, id) = key(&world, "acme", "read", None).await;
    let (revoked, revoked_id) = key(&world, "acme", "read", None).await;
    world.access.revoke(&Principal::operator(), &revoked_id).await.unwrap();
    let (expired, _) = key(&world, "acme", "read", Some(Duration::ZERO)).await;
    let answer = async |key: &str| {
        let reply = call(&world, "GET", "/v1/sessions", key, None).await;
        (reply.status, reply.headers.len(), reply.text().to_owned())
    };
    let none = answer("").await;
    insta::assert_snapshot!("no_key", none.2);
    let unknown = format!("tk_nobody_{}", "x".repeat(52));
    let other = format!("tk_{id}_{}", "x".repeat(52));
    let empty = format!("tk_{id}_");
    for wrong in [&revoked, &expired, &unknown, &other, &empty, "x", &right[..right.len() - 1]] {
        assert_eq!(answer(wrong).await, none, "{wrong}");
    }
    assert_eq!(answer(&right).await.0, 200);
}

/// Wrong guesses of one address: ten are looked at, and one more with every six seconds.
struct Guesser<F> {
    guess: F,
    wrong: u64,
    since: Instant,
}

impl<F: AsyncFn() -> Reply> Guesser<F> {
    fn new(guess: F) -> Self {
        Self { guess, wrong: 0, since: Instant::now() }
    }

    /// Guesses until it is held up.
    async fn held_up(&mut self) -> Reply {
        loop {
            let reply = (self.guess)().await;
            if reply.status != 401 {
                assert!(self.wrong >= 10, "{}: {}", self.wrong, reply.text());
                return reply;
            }
            self.wrong += 1;
            assert!(self.wrong <= 10 + came_back(self.since, 6), "{}", self.wrong);
        }
    }

    /// What is told to whom no guess is left.
    async fn has_none_left(&mut self, ask: impl AsyncFn() -> Reply) -> Reply {
        loop {
            self.held_up().await;
            let reply = ask().await;
            if reply.status == 429 {
                return reply;
            }
            assert!(self.wrong < 10 + came_back(self.since, 6), "{}", reply.text());
            self.wrong += u64::from(reply.status == 401);
        }
    }
}

#[tokio::test]
async fn whoever_guesses_is_stopped_by_address() {
    let world = World::new().await;
    let (right, _) = key(&world, "acme", "read", None).await;
    let get = async |key: &str| {
        let bearer = format!("Bearer {key}");
        world.call("GET", "/v1/sessions", &[("authorization", &bearer)], "").await
    };
    let mut guesser = Guesser::new(async || get("wrong").await);
    let limited = guesser.held_up().await;
    assert_eq!(limited.status, 429);
    let wait: u64 = limited.header("retry-after").parse().unwrap();
    assert!((1..=6).contains(&wait), "{wait}");
    assert_eq!(limited.json()["type"], "urn:turnkeep:problem:rate-limited");
    // Else whoever guesses would find the right one all the same.
    guesser.has_none_left(async || get(&right).await).await;
    assert_eq!(world.get("/v1/sessions").await.status, 401, "this is no guess");
    // Codes are guesses as well.
    let code = json!({ "code": "guessed" });
    guesser.has_none_left(async || world.post("/v1/sign-in", &code).await).await;
    // What somebody without a trusted proxy says of its address counts for nothing.
    let from = [("authorization", "Bearer wrong"), ("x-forwarded-for", "198.51.100.7")];
    guesser.has_none_left(async || world.call("GET", "/v1/sessions", &from, "").await).await;
}

#[tokio::test]
async fn addresses_behind_a_trusted_proxy_are_told_apart() {
    let world = world().await;
    let (right, _) = key(&world, "acme", "read", None).await;
    let get = async |key: &str, from: &str| {
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", bearer.as_str()), ("x-forwarded-for", from)];
        world.call("GET", "/v1/sessions", &headers, "").await
    };
    let mut guesser = Guesser::new(async || get("wrong", "198.51.100.7").await);
    // What it wrote itself counts for nothing.
    guesser.has_none_left(async || get("wrong", "1.2.3.4, 198.51.100.7").await).await;
    assert_eq!(get(&right, "198.51.100.8").await.status, 200);
}

#[tokio::test]
async fn a_wrong_key_is_answered_before_the_body() {
    let world = World::new().await;
    let (right, _) = key(&world, "acme", "send", None).await;
    let announced = |key: &str, path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {key}\r\ncontent-type: \
             application/json\r\ncontent-length: 1000000\r\n\r\n",
            world.address
        )
    };
    for path in ["/v1/chat", "/v1/sign-ins", "/v1/keys"] {
        let answer = world.raw(announced("wrong", path).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
    let answer = world.raw(announced(&right, "/v1/keys").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[tokio::test]
async fn a_stream_ends_with_its_key() {
    let world = world().await;
    let (key, id) = key(&world, "acme", "send,read", None).await;
    let path = "/v1/sessions/acme:default:api:dm:ann/events";
    let mut stream = ask(&world, "GET", path, &key, "").await.into_body();
    let mut said = {
        let bearer = format!("Bearer {key}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
            ("accept", "text/event-stream"),
        ];
        let says = json!({ "customer_id": "eve", "agent_id": "patient", "message": "hi" });
        world.open("POST", "/v1/chat", &headers, says.to_string()).await.into_body()
    };
    world.access.revoke(&Principal::operator(), &id).await.unwrap();
    for stream in [&mut stream, &mut said] {
        let rest = async { while http_body_util::BodyExt::frame(stream).await.is_some() {} };
        soon(rest).await;
    }
    assert_eq!(ask(&world, "GET", path, &key, "").await.status(), 401);
}

#[tokio::test]
async fn the_first_key_closes_the_door_and_none_opens_it_by_ending() {
    let world = world().await;
    let open = async || world.get("/v1/sessions").await.status;
    let path = "/v1/sessions/acme:default:api:dm:ann/events";
    let mut stream = world.open("GET", path, &[], "").await.into_body();
    assert_eq!(open().await, 200, "without any key everybody on this machine is the operator");
    let (text, id) = key(&world, "*", "admin", None).await;
    assert_eq!(open().await, 401);
    soon(async { while http_body_util::BodyExt::frame(&mut stream).await.is_some() {} }).await;
    let forget = format!("/v1/keys/{id}/forget");
    assert_eq!(call(&world, "POST", &forget, &text, None).await.status, 409);
    let revoke = format!("/v1/keys/{id}/revoke");
    assert_eq!(call(&world, "POST", &revoke, &text, None).await.status, 200);
    assert_eq!(open().await, 401, "a key that ended must not let everybody in");
    world.access.forget(&Principal::operator(), &id).await.unwrap();
    assert_eq!(open().await, 200);
}
