//! What a key that may only write, a visitor, and somebody whose key has ended do not get.

use serde_json::{Value, json};
use turnkeep_core::access::Principal;

use crate::access::{ask, call, key, world};
use crate::kit::{Heard, Reply, Watch, World, names, soon};

/// Sends a message as the stream of its answer.
async fn stream(world: &World, key: &str, body: &Value) -> Watch {
    let bearer = format!("Bearer {key}");
    let headers = [
        ("content-type", "application/json"),
        ("accept", "text/event-stream"),
        ("authorization", bearer.as_str()),
    ];
    Watch::new(world.open("POST", "/v1/chat", &headers, body.to_string()).await)
}

fn all(heard: &[Heard]) -> String {
    heard.iter().map(|heard| format!("{} {}\n", heard.event, heard.data)).collect()
}

fn from(customer: &str, agent: &str, message: &str) -> Value {
    json!({ "session": format!("acme:{agent}:api:group:bob"), "customer_id": customer,
            "message": message })
}

#[tokio::test]
async fn who_may_not_read_sees_nothing_of_others_in_a_stream() {
    let world = world().await;
    let (send, _) = key(&world, "acme", "send", None).await;
    let (both, _) = key(&world, "acme", "send,read", None).await;
    let said =
        async |key: &str, body: Value| call(&world, "POST", "/v1/chat", key, Some(body)).await;
    said(&both, from("bob", "patient", "bobs secret")).await;
    world.gate.begun().await;
    let queue = "/v1/sessions/acme%3Apatient%3Aapi%3Agroup%3Abob/queue";
    let queues = json!({ "busy_policy": "queue" });
    assert_eq!(call(&world, "POST", queue, &send, Some(queues)).await.status, 200);
    let mut narrow = stream(&world, &send, &from("mallory", "patient", "what is up?")).await;
    let mut wide = stream(&world, &both, &from("carl", "patient", "for carl alone")).await;
    for _ in 0..3 {
        world.gate.open();
    }
    let heard = narrow.rest().await;
    assert_eq!(names(&heard), ["accepted", "settled"], "{}", all(&heard));
    assert!(!all(&heard).contains("bobs secret"), "{}", all(&heard));
    assert!(heard[1].data["reply"].as_str().unwrap().contains("what is up?"));
    // A key that may read sees the journal as before.
    let heard = wide.rest().await;
    assert!(names(&heard).contains(&"turn.completed"), "{}", all(&heard));
}

#[tokio::test]
async fn who_may_not_read_sees_what_its_own_turn_asks() {
    let world = world().await;
    let (send, _) = key(&world, "acme", "send", None).await;
    let mut watch = stream(&world, &send, &from("bob", "asker", "buy it")).await;
    let heard = watch.until("turn.waiting_for_input").await;
    assert_eq!(names(&heard), ["accepted", "turn.waiting_for_input"], "{}", all(&heard));
    assert_eq!(heard[1].data["text"], "which one?");
    // What answers it may be somebody else's to read, and what follows.
    let answer = from("bob", "asker", "the red one");
    call(&world, "POST", "/v1/chat", &send, Some(answer)).await;
    let heard = watch.rest().await;
    assert_eq!(names(&heard), ["settled"], "{}", all(&heard));
    assert_eq!(heard[0].data["reply"], "you said the red one");
}

#[tokio::test]
async fn who_may_not_read_sees_the_drafts_of_its_own_turn() {
    let world = world().await;
    let (send, _) = key(&world, "acme", "send", None).await;
    let mut own = stream(&world, &send, &from("bob", "talker", "hi")).await;
    world.gate.begun().await;
    // Somebody else's message waits for a turn of its own, and this draft is none of its.
    let queue = "/v1/sessions/acme%3Atalker%3Aapi%3Agroup%3Abob/queue";
    let queues = json!({ "busy_policy": "queue" });
    assert_eq!(call(&world, "POST", queue, &send, Some(queues)).await.status, 200);
    let mut other = stream(&world, &send, &from("mallory", "talker", "and me?")).await;
    let heard = own.until("draft").await;
    assert_eq!(heard.last().unwrap().data["text"], "Hel");
    let turn = heard.last().unwrap().data["turn_id"].clone();
    for _ in 0..4 {
        world.gate.open();
    }
    let heard = own.rest().await;
    assert_eq!(heard.last().unwrap().data["reply"], "Hello");
    assert!(heard.iter().all(|heard| matches!(&*heard.event, "draft.reset" | "draft" | "settled")));
    let heard = other.rest().await;
    assert!(!all(&heard).contains(turn.as_str().unwrap()), "{}", all(&heard));
    assert_eq!(heard.last().unwrap().event, "settled");
}

#[tokio::test]
async fn a_visitors_names_of_requests_are_its_own() {
    let world = world().await;
    let (send, _) = key(&world, "acme", "send", None).await;
    let invite = async |customer: &str| {
        let asked = json!({ "customer_id": customer });
        let code = call(&world, "POST", "/v1/sign-ins", &send, Some(asked)).await.json();
        let reply = world.post("/v1/sign-in", &json!({ "code": code["code"] })).await;
        reply.header("set-cookie").split(';').next().unwrap().to_owned()
    };
    let origin = format!("http://{}", world.address);
    let named = async |who: (&str, &str), body: Value| -> Reply {
        let headers = [
            who,
            ("content-type", "application/json"),
            ("idempotency-key", "order-18"),
            ("origin", &origin),
        ];
        world.call("POST", "/v1/chat?wait=15", &headers, body.to_string()).await
    };
    let (mallory, ann) = (invite("mallory").await, invite("ann").await);
    let burnt = named(("cookie", &mallory), json!({ "message": "mine" })).await;
    assert_eq!(burnt.status, 200, "{}", burnt.text());
    let others = named(("cookie", &ann), json!({ "message": "hers" })).await;
    assert_eq!((others.status, &others.json()["reply"]), (200, &json!("echo: hers")));
    let bearer = format!("Bearer {send}");
    let order = json!({ "customer_id": "zoe", "message": "the order" });
    let order = named(("authorization", &bearer), order).await;
    assert_eq!((order.status, &order.json()["reply"]), (200, &json!("echo: the order")));
    // For itself it means what it means for everybody.
    let twin = named(("cookie", &mallory), json!({ "message": "mine" })).await;
    assert_eq!((twin.status, &twin.json()["duplicate"]), (200, &json!(true)));
    assert_eq!(twin.json()["message_id"], burnt.json()["message_id"]);
    assert_eq!(named(("cookie", &mallory), json!({ "message": "else" })).await.status, 422);
}

#[tokio::test]
async fn a_request_that_waits_ends_with_its_key() {
    let world = world().await;
    let (send, id) = key(&world, "acme", "send", None).await;
    let body = json!({ "customer_id": "ann", "agent_id": "patient", "message": "hi" }).to_string();
    let waits = ask(&world, "POST", "/v1/chat?wait=300", &send, &body);
    let end = async {
        world.gate.begun().await;
        world.access.revoke(&Principal::operator(), &id).await.unwrap();
    };
    let (answer, ()) = soon(async { tokio::join!(waits, end) }).await;
    // It is taken, and that is all that is told.
    assert_eq!(answer.status(), 202);
    world.gate.open();
}

#[tokio::test]
async fn an_export_ends_with_its_key() {
    let world = world().await;
    let (admin, id) = key(&world, "default", "admin", None).await;
    let (send, _) = key(&world, "default", "send", None).await;
    let text = "x".repeat(60_000);
    for _ in 0..200 {
        let says = json!({ "customer_id": "ann", "message": text });
        assert_eq!(call(&world, "POST", "/v1/chat?wait=15", &send, Some(says)).await.status, 200);
    }
    let path = "/v1/customers/default/ann/export";
    let export = ask(&world, "GET", path, &admin, "").await;
    assert_eq!(export.status(), 200);
    // More than any socket holds, so it can't be through yet.
    world.access.revoke(&Principal::operator(), &id).await.unwrap();
    let rest = soon(http_body_util::BodyExt::collect(export.into_body())).await.unwrap().to_bytes();
    assert!(!rest.ends_with(b"}}\n") && rest.len() < 20_000_000, "{} bytes", rest.len());
}

#[tokio::test]
async fn what_an_address_does_not_take_is_refused() {
    let world = world().await;
    let (send, _) = key(&world, "acme", "send", None).await;
    let (admin, _) = key(&world, "acme", "admin", None).await;
    for key in [&send, &admin] {
        let wrong = call(&world, "PUT", "/v1/sessions", key, None).await;
        assert_eq!((wrong.status, wrong.header("allow")), (405, "GET,HEAD"));
        let wrong = call(&world, "GET", "/v1/chat", key, None).await;
        assert_eq!((wrong.status, wrong.header("allow")), (405, "POST"));
        let wrong = call(&world, "GET", "/v1/customers/acme/ann", key, None).await;
        assert_eq!((wrong.status, wrong.header("allow")), (405, "DELETE"));
    }
    assert_eq!(call(&world, "PUT", "/v1/sessions", "", None).await.status, 401);
    let check = async |method: &str, path: &str, body: Option<Value>, field: &str| {
        let reply = call(&world, method, path, &admin, body).await;
        assert_eq!((reply.status, &reply.json()["field"]), (422, &json!(field)), "{path}");
    };
    check("GET", "/v1/deadletters?tenant=acme", None, "tenant").await;
    check("GET", "/v1/deadletters?limit=2&ten%61nt", None, "tenant").await;
    check("POST", "/v1/keys?dry=true", Some(json!({ "scopes": ["read"] })), "dry").await;
    check("GET", "/v1/sign-in?x=1", None, "x").await;
    let says = json!({ "customer_id": "ann", "message": "hi" });
    for path in ["/v1/chat?waits=1", "/chat?waits=1"] {
        check("POST", path, Some(says.clone()), "waits").await;
    }
    for path in ["/v1/deadletters?", "/v1/deadletters?limit=2&", "/healthz?probe=1", "/?utm=1"] {
        assert_eq!(call(&world, "GET", path, &admin, None).await.status, 200, "{path}");
    }
    // Nothing is told of addresses that nobody may see.
    let foreign = call(&world, "GET", "/v1/keys?x=1", &send, None).await;
    assert_eq!(foreign.status, 403);
}

#[tokio::test]
async fn a_name_of_a_request_is_refused_where_it_would_not_count() {
    let world = World::new().await;
    let session = "/v1/sessions/default%3Adefault%3Aweb%3Adm%3Aann/opt-in";
    assert_eq!(world.post(session, &json!({})).await.status, 200);
    let headers = [("content-type", "application/json"), ("idempotency-key", "k1")];
    let body = json!({ "customer_id": "ann", "channel": "web", "text": "news" });
    let refused = world.call("POST", "/v1/messages", &headers, body.to_string()).await;
    assert_eq!((refused.status, &refused.json()["field"]), (422, &json!("Idempotency-Key")));
    assert_eq!(world.post("/v1/messages", &body).await.status, 202);
}
