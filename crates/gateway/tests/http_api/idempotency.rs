//! The `Idempotency-Key` header: a request that comes twice is carried out once.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::kit::{Reply, World, path, says, soon};

/// Sends it under a key, and waits for the answer.
async fn under(world: &World, key: &str, body: &Value) -> Reply {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    world.call("POST", "/v1/chat?wait=50", &headers, body.to_string()).await
}

/// The answer to the first of its kind.
async fn taken(world: &World, key: &str, body: &Value) -> Value {
    let reply = under(world, key, body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.json().get("duplicate").is_none(), "{}", reply.text());
    reply.json()
}

fn is_refused(reply: &Reply) {
    assert_eq!(reply.status, 422, "{}", reply.text());
    let body = reply.json();
    assert_eq!(body["field"], "Idempotency-Key");
    assert_eq!(body["rejection_reason"], "idempotency_key_reused");
}

#[tokio::test]
async fn the_same_request_is_carried_out_once() {
    let world = World::new().await;
    let first = taken(&world, "k1", &json!({ "customer_id": "ann", "message": "hi" })).await;
    // However it is written down: it is the request that counts, not its bytes.
    let twins = [
        json!({ "customer_id": "ann", "message": "hi" }),
        json!({ "customer_id": "ann", "message": "hi", "channel": "api", "agent_id": null,
            "tenant_id": "default", "metadata": { "try": 2 } }),
        json!({ "session": "default:default:api:dm:ann", "message": "hi" }),
    ];
    for (twin, key) in twins.iter().zip(["k1", "\"k1\"", " k1 "]) {
        let reply = under(&world, key, twin).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let mut expected = first.clone();
        expected["duplicate"] = json!(true);
        assert_eq!(reply.json(), expected, "{twin}");
    }
    let lines = world.get(&format!("{}/messages", path("default", "api", "ann"))).await.json();
    assert_eq!(lines["messages"].as_array().unwrap().len(), 2, "{lines:#}");
    assert_eq!(lines["messages"][0]["message_id"], first["message_id"]);
}

#[tokio::test]
async fn a_twin_is_told_the_first_decision_at_once() {
    let world = World::new().await;
    let body = says("ann", "patient", "api", "hi").to_string();
    let headers = [("content-type", "application/json"), ("idempotency-key", "k1")];
    let first = world.call("POST", "/v1/chat", &headers, body.clone()).await;
    world.gate.begun().await;
    let twin = world.call("POST", "/v1/chat", &headers, body).await;
    assert_eq!((first.status, twin.status), (202, 202));
    let mut expected = first.json();
    expected["duplicate"] = json!(true);
    assert_eq!(twin.json(), expected);
    world.gate.open();
}

#[tokio::test]
async fn another_request_under_the_same_key_is_refused() {
    let world = World::new().await;
    let one = json!({ "customer_id": "ann", "message": "hi" });
    taken(&world, "k1", &one).await;
    let others = [
        ("message", "hello"),
        ("customer_id", "ben"),
        ("agent_id", "talker"),
        ("channel", "voice"),
        ("id", "m1"),
        ("session", "default:default:api:group:ann"),
    ];
    for (field, value) in others {
        let mut other = one.clone();
        other[field] = json!(value);
        is_refused(&under(&world, "k1", &other).await);
    }
    insta::assert_snapshot!(under(&world, "k1", &says("ben", "default", "api", "hi")).await.text());
    let sessions = world.get("/v1/sessions").await.json();
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 1, "{sessions:#}");
    // Another key is another request, and another tenant's keys are its own.
    let again = taken(&world, "k2", &one).await;
    assert_eq!(again["reply"], "echo: hi");
    let theirs = json!({ "tenant_id": "acme", "customer_id": "ann", "message": "ours" });
    assert_eq!(taken(&world, "k1", &theirs).await["reply"], "echo: ours");
}

/// Sixteen requests at one instant under one key.
async fn at_once(bodies: impl Fn(usize) -> Value) -> (Arc<World>, Vec<(Value, Reply)>) {
    let world = Arc::new(World::new().await);
    let barrier = Arc::new(Barrier::new(16));
    let requests: Vec<_> = (0..16)
        .map(|number| {
            let (world, barrier, body) = (world.clone(), barrier.clone(), bodies(number));
            tokio::spawn(async move {
                barrier.wait().await;
                let reply = under(&world, "k1", &body).await;
                (body, reply)
            })
        })
        .collect();
    let mut replies = Vec::new();
    for request in requests {
        replies.push(soon(request).await.unwrap());
    }
    (world, replies)
}

/// One of them is the first; its twins are told the same, everybody else is refused.
fn one_was_taken(replies: &[(Value, Reply)]) -> &Value {
    let is_first = |reply: &Reply| reply.status == 200 && reply.json().get("duplicate").is_none();
    let firsts: Vec<_> = replies.iter().filter(|(_, reply)| is_first(reply)).collect();
    let [(taken, first)] = firsts[..] else { panic!("{firsts:?}") };
    let first = first.json();
    for (body, reply) in replies {
        if body == taken {
            assert_eq!(reply.status, 200, "{}", reply.text());
            assert_eq!(reply.json()["turn_id"], first["turn_id"]);
            assert_eq!(reply.json()["message_id"], first["message_id"]);
        } else {
            is_refused(reply);
        }
    }
    taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_sixteen_twins_at_one_instant_one_is_taken() {
    let (_, replies) = at_once(|_| json!({ "customer_id": "ann", "message": "hi" })).await;
    one_was_taken(&replies);
    assert!(replies.iter().all(|(_, reply)| reply.status == 200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_sixteen_with_several_bodies_one_body_is_taken() {
    let text = |number: usize| format!("text {}", number % 3);
    let (world, replies) =
        at_once(|number| json!({ "customer_id": "ann", "message": text(number) })).await;
    let taken = one_was_taken(&replies).clone();
    let lines = world.get(&format!("{}/messages", path("default", "api", "ann"))).await.json();
    assert_eq!(lines["messages"].as_array().unwrap().len(), 2, "{lines:#}");
    assert_eq!(lines["messages"][0]["text"], taken["message"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_sixteen_in_different_sessions_one_is_taken() {
    let (world, replies) = at_once(
        |number| json!({ "customer_id": format!("customer {}", number / 2), "message": "hi" }),
    )
    .await;
    let taken = one_was_taken(&replies).clone();
    let sessions = world.get("/v1/sessions").await.json();
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 1, "{sessions:#}");
    assert_eq!(sessions["sessions"][0]["customer_id"], taken["customer_id"]);
}

#[tokio::test]
async fn a_refusal_is_not_remembered() {
    let world = World::new().await;
    let said = |text| says("ann", "patient", "api", text);
    world.post("/v1/chat", &said("one")).await;
    world.gate.begun().await;
    let queue = format!("{}/queue", path("patient", "api", "ann"));
    world.post(&queue, &json!({ "busy_policy": "reject" })).await;
    for _ in 0..2 {
        let busy = under(&world, "k1", &said("two")).await;
        assert_eq!(busy.json()["rejection_reason"], "session_busy");
    }
    assert_eq!(under(&world, "k1", &json!({ "customer_id": "ann" })).await.status, 422);
    // So the key may even name something else now.
    let other = json!({ "customer_id": "ann", "message": "three" });
    assert_eq!(taken(&world, "k1", &other).await["reply"], "echo: three");
    is_refused(&under(&world, "k1", &said("two")).await);
    world.gate.open();
}

#[tokio::test]
async fn a_message_may_have_an_id_beside_the_key() {
    let world = World::new().await;
    let one = json!({ "customer_id": "ann", "message": "hi", "id": "m1" });
    let first = taken(&world, "k1", &one).await;
    assert_eq!(first["message_id"], "m1");
    // Known by both names, by the id alone, and by the id under another key.
    assert_eq!(under(&world, "k1", &one).await.json()["duplicate"], true);
    assert_eq!(world.ask(&one).await["turn_id"], first["turn_id"]);
    assert_eq!(under(&world, "k2", &one).await.json()["turn_id"], first["turn_id"]);
    // The key comes first where both stand for something else.
    let other = json!({ "customer_id": "ann", "message": "else", "id": "m1" });
    is_refused(&under(&world, "k1", &other).await);
    let forged = under(&world, "k3", &other).await.json();
    assert_eq!((&forged["field"], &forged["status"]), (&json!("id"), &json!(422)));
    is_refused(&under(&world, "k1", &json!({ "customer_id": "ann", "message": "hi" })).await);
    // Nothing of what was refused or known already is kept.
    let fresh = json!({ "customer_id": "ann", "message": "fresh" });
    assert_eq!(taken(&world, "k3", &fresh).await["reply"], "echo: fresh");
}

#[tokio::test]
async fn keys_of_a_wrong_form_are_refused() {
    let world = World::new().await;
    let body = json!({ "customer_id": "ann", "message": "hi" });
    for key in ["", "\"\"", "a b", "\"a", "\"a\" \"b\"", &"x".repeat(256)] {
        let reply = under(&world, key, &body).await;
        assert_eq!((reply.status, &reply.json()["field"]), (422, &json!("Idempotency-Key")));
        assert_eq!(
            reply.json()["detail"],
            "must be 1 to 255 visible ASCII characters, bare or in double quotes"
        );
    }
    let twice =
        [("content-type", "application/json"), ("idempotency-key", "a"), ("idempotency-key", "a")];
    let reply = world.call("POST", "/v1/chat", &twice, body.to_string()).await;
    assert_eq!(reply.json()["detail"], "is given more than once");
    assert_eq!(taken(&world, &"x".repeat(255), &body).await["reply"], "echo: hi");
}
