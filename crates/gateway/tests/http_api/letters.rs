//! Dead letters and parked deliveries.

use std::sync::Arc;

use serde_json::{Value, json};
use turnkeep_core::outbox::DeliveryState;
use turnkeep_core::ports::care::{CareStore as _, Redaction};
use turnkeep_core::ports::store::{Commit, PartRow, Rows, Store as _};
use turnkeep_core::{Seq, Session, SessionKey, Version};
use turnkeep_gateway::Settings;
use turnkeep_stores::MemoryStore;

use crate::access::{call, key};
use crate::kit::{World, events, keys, path, says};
use crate::overload::GatedStore;

#[tokio::test]
async fn a_dead_letter_can_be_tried_again() {
    let world = World::new().await;
    let failed = world.ask(&says("ann", "broken", "api", "hi")).await;
    let page = world.get("/v1/deadletters").await.json();
    let letter = &page["dead_letters"][0];
    assert_eq!(
        keys(letter),
        ["at", "id", "message_id", "reason", "seq", "session", "text", "turn_group_id"]
    );
    assert_eq!((&letter["text"], &letter["reason"]), (&json!("hi"), &json!("agent_failed")));
    assert_eq!(letter["message_id"], failed["message_id"]);
    assert_eq!(page["next"], Value::Null);

    let retry = format!("/v1/deadletters/{}/retry", letter["id"]);
    let mut watch = world.watch(&events("broken", "api", "ann"), &[]).await;
    let again = world.call("POST", &retry, &[], "").await;
    assert_eq!((again.status, &again.json()["status"]), (202, &json!("processing")));
    assert_eq!(again.json()["message_id"], failed["message_id"]);
    world.gate.open();
    let completed = watch.until("turn.completed").await.pop().unwrap();
    assert_eq!(completed.data["reply"], "echo: hi");
    assert_eq!(world.call("POST", &retry, &[], "").await.status, 404);
    assert_eq!(world.get("/v1/deadletters").await.json()["dead_letters"], json!([]));

    let page = world.get(&format!("{}/messages", path("broken", "api", "ann"))).await.json();
    let lines = page["messages"].as_array().unwrap();
    let users: Vec<_> = lines.iter().filter(|line| line["role"] == "user").collect();
    assert_eq!((&users[0]["status"], &users[1]["status"]), (&json!("failed"), &json!("complete")));
    assert_eq!(users[1]["retry_of"], users[0]["seq"]);
    assert_eq!(users[1]["turn_id"], completed.data["turn_id"]);
    assert!(lines.iter().any(|line| line["role"] == "notice"), "{lines:#?}");
}

#[tokio::test]
async fn a_dead_letter_can_be_given_up() {
    let world = World::new().await;
    world.ask(&says("ann", "broken", "api", "hi")).await;
    let id = world.get("/v1/deadletters?limit=1").await.json()["dead_letters"][0]["id"].clone();
    let discard = format!("/v1/deadletters/{id}/discard");
    let gone = world.call("POST", &discard, &[], "").await;
    assert_eq!((gone.status, gone.json()), (200, json!({ "result": "discarded", "id": id })));
    assert_eq!(world.call("POST", &discard, &[], "").await.status, 404);
    let after = format!("/v1/deadletters?after={id}");
    assert_eq!(world.get(&after).await.json(), json!({ "dead_letters": [], "next": null }));
}

#[tokio::test]
async fn a_full_inbox_keeps_the_dead_letter() {
    let world = World::new().await;
    let said = |text: &str| json!({ "tenant_id": "small", "customer_id": "ann", "agent_id": "broken", "message": text });
    assert_eq!(world.ask(&said("hi")).await["status"], "failed");
    // One is answered, one waits behind it, and there is no room for more.
    world.post("/v1/chat", &said("one")).await;
    world.gate.begun().await;
    assert_eq!(world.post("/v1/chat", &said("two")).await.status, 202);
    let letters = world.get("/v1/deadletters").await.json();
    let retry = format!("/v1/deadletters/{}/retry", letters["dead_letters"][0]["id"]);
    let full = world.call("POST", &retry, &[], "").await;
    assert_eq!((full.status, full.header("retry-after")), (429, "1"));
    assert_eq!(full.json()["rejection_reason"], "queue_full");
    assert_eq!(world.get("/v1/deadletters").await.json(), letters);
}

#[tokio::test]
async fn a_parked_delivery_can_be_sent_again() {
    let world = World::new().await;
    let base = path("default", "sms", "ann");
    let mut watch = world.watch(&events("default", "sms", "ann"), &[]).await;
    world.post("/v1/chat", &says("ann", "default", "sms", "hi")).await;
    let settled = watch.until("delivery.settled").await.pop().unwrap();
    assert_eq!(settled.data["state"], "unknown");
    let page = world.get(&format!("{base}/deliveries")).await.json();
    let part = &page["deliveries"][0];
    assert_eq!(keys(part), ["at", "detail", "part", "reply", "state", "text", "tries"]);
    assert_eq!((&part["state"], &part["text"]), (&json!("unknown"), &json!("echo: hi")));
    assert_eq!(part["detail"], "the line went dead");

    let resend = format!("{base}/deliveries/{}/0/resend", part["reply"]);
    let again = world.call("POST", &resend, &[], "").await;
    assert_eq!(
        (again.status, again.json()),
        (200, json!({ "result": "pending", "reply": part["reply"], "part": 0 }))
    );
    let settled = watch.until("delivery.settled").await.pop().unwrap();
    assert_eq!(settled.data["state"], "sent");
    let refused = world.call("POST", &resend, &[], "").await;
    assert_eq!(refused.status, 409);
    insta::assert_snapshot!(refused.text());
    let missing = world.call("POST", &resend.replace("/0/", "/1/"), &[], "").await;
    assert_eq!(missing.status, 404);
    let behind = format!("{base}/deliveries?after={}", part["reply"]);
    assert_eq!(world.get(&behind).await.json(), json!({ "deliveries": [], "next": null }));
}

/// Both read that the part is parked. The first one's try has arrived before the second one's wish is
/// heard, so what only the task knows is gone by then.
#[tokio::test]
async fn of_two_who_send_a_parked_delivery_again_one_does() {
    let store = MemoryStore::new();
    let gated = GatedStore::new(&store);
    gated.open();
    let front = Arc::<GatedStore>::clone(&gated);
    let world = Arc::new(World::behind(front, store, Settings::default()).await);
    let base = path("default", "sms", "ann");
    let mut watch = world.watch(&events("default", "sms", "ann"), &[]).await;
    world.post("/v1/chat", &says("ann", "default", "sms", "hi")).await;
    let settled = watch.until("delivery.settled").await.pop().unwrap();
    let resend = format!("{base}/deliveries/{}/0/resend", settled.data["reply"]);

    gated.hold_read();
    let (other, address) = (Arc::clone(&world), resend.clone());
    let late = tokio::spawn(async move { other.call("POST", &address, &[], "").await });
    gated.has_read().await;
    assert_eq!(world.call("POST", &resend, &[], "").await.status, 200);
    let settled = watch.until("delivery.settled").await.pop().unwrap();
    assert_eq!(settled.data["state"], "sent");
    gated.tell_read();
    let late = late.await.unwrap();
    assert_eq!(late.status, 409, "{}", late.text());
    let detail = late.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.starts_with("somebody else was first: the part is sent since "), "{detail}");
    let page = world.get(&format!("{base}/deliveries")).await.json();
    let part = &page["deliveries"][0];
    assert_eq!((&part["state"], &part["tries"]), (&json!("sent"), &json!(2)), "{part}");
}

/// Whoever looks after replies sees at once which were not sent, wherever they are.
#[tokio::test]
async fn parked_deliveries_of_all_sessions_are_listed() {
    let world = World::new().await;
    let mut watch = world.watch(&events("default", "sms", "ann"), &[]).await;
    world.post("/v1/chat", &says("ann", "default", "sms", "hi")).await;
    watch.until("delivery.settled").await;
    bury(&world, "other:default:sms:dm:zoe").await;
    let page = world.get("/v1/deliveries").await.json();
    let part = &page["deliveries"][0];
    let fields = ["at", "detail", "id", "part", "reply", "session", "state", "text", "tries"];
    assert_eq!(keys(part), fields);
    assert_eq!(part["session"], "default:default:sms:dm:ann");
    assert_eq!(part["id"], format!("default:default:sms:dm:ann/{}/0", part["reply"]));
    assert_eq!((&part["state"], &part["text"]), (&json!("unknown"), &json!("echo: hi")));
    assert_eq!(page["deliveries"][1]["id"], "other:default:sms:dm:zoe/1/0");
    assert_eq!(page["next"], Value::Null);
    let first = world.get("/v1/deliveries?limit=1").await.json();
    assert_eq!((&first["deliveries"], &first["next"]), (&json!([part]), &part["id"]));
    let rest = world.get(&format!("/v1/deliveries?after={}", part["id"].as_str().unwrap())).await;
    assert_eq!(rest.json(), json!({ "deliveries": [page["deliveries"][1]], "next": null }));
    let count = async |query: &str| {
        let page = world.get(&format!("/v1/deliveries?{query}")).await.json();
        page["deliveries"].as_array().unwrap().len()
    };
    assert_eq!((count("state=unknown").await, count("state=dead").await), (1, 1));
    assert_eq!((count("tenant=default").await, count("tenant=nobody").await), (1, 0));
    for wrong in ["state=sent", "after=7", "after=a:b:sms:dm:c/1", "limit=0"] {
        assert_eq!(world.get(&format!("/v1/deliveries?{wrong}")).await.status, 422, "{wrong}");
    }
    // One that goes out again and arrives is listed no more.
    let base = path("default", "sms", "ann");
    let resend = format!("{base}/deliveries/{}/0/resend", part["reply"]);
    assert_eq!(world.call("POST", &resend, &[], "").await.status, 200);
    watch.until("delivery.settled").await;
    let left = world.get("/v1/deliveries").await.json();
    assert_eq!(left["deliveries"], json!([page["deliveries"][1]]));
    // A tenant sees its own.
    let (others, _) = key(&world, "other", "read", None).await;
    let own = call(&world, "GET", "/v1/deliveries", &others, None).await.json();
    assert_eq!(own["deliveries"], json!([page["deliveries"][1]]));
    let foreign = call(&world, "GET", "/v1/deliveries?tenant=default", &others, None).await;
    assert_eq!(foreign.status, 404);
}

/// A session in which a part of a reply died.
async fn bury(world: &World, key: &str) {
    let part = PartRow {
        reply: Seq(1),
        part: 0,
        state: DeliveryState::Dead,
        tries: 10,
        text: "hello".into(),
        detail: Some("no such number".into()),
        at: 1_790_000_000_000,
    };
    let commit = Commit {
        key: key.parse().unwrap(),
        expected: Version(0),
        session: Arc::new(Session::new()),
        wake_at: None,
        rows: Rows { parts: [part].into_iter().collect(), ..Rows::default() },
    };
    world.store.commit(commit).await.unwrap();
}

/// Nobody gets an empty message because somebody was erased.
#[tokio::test]
async fn a_delivery_whose_text_is_gone_is_not_sent_again() {
    let world = World::new().await;
    let mut watch = world.watch(&events("default", "sms", "ann"), &[]).await;
    world.post("/v1/chat", &says("ann", "default", "sms", "hi")).await;
    watch.until("delivery.settled").await;
    let page = world.get("/v1/deliveries").await.json();
    let key: SessionKey = page["deliveries"][0]["session"].as_str().unwrap().parse().unwrap();
    let reply = Seq(page["deliveries"][0]["reply"].as_u64().unwrap());
    let redaction = Redaction { key, places: vec![reply], turns: Vec::new() };
    world.store.redact(redaction).await.unwrap();
    let resend = format!("{}/deliveries/{reply}/0/resend", path("default", "sms", "ann"));
    let refused = world.call("POST", &resend, &[], "").await;
    assert_eq!(refused.status, 409);
    assert!(refused.text().contains("there is nothing to send"), "{}", refused.text());
    // So nobody is troubled with it; its own session still tells what became of it.
    assert_eq!(world.get("/v1/deliveries").await.json()["deliveries"], json!([]));
    let own = format!("{}/deliveries", path("default", "sms", "ann"));
    let part = world.get(&own).await.json()["deliveries"][0].take();
    assert_eq!((&part["state"], &part["text"]), (&json!("unknown"), &json!("")));
}
