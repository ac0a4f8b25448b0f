//! What listeners and watchers of everything hear of somebody who was erased: nothing any more, and
//! that something is missing.

use std::cell::Cell;

use serde_json::{Value, json};
use turnkeep_core::ports::listeners::{Carried, Failure, ListenerStore};
use turnkeep_gateway::clock;
use turnkeep_stores::MemoryStore;

use crate::kit::{World, path, says, soon};
use crate::listeners::{delivered, failed, listener, shown};

const ANN: &str = "/v1/customers/default/ann";

async fn erase(world: &World) -> Value {
    let reply = world.call("DELETE", ANN, &[], "").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// A store in which a listener is behind: so many messages of one customer, then one of another.
async fn behind(name: &str, messages: usize) -> MemoryStore {
    let store = MemoryStore::new();
    store.enrol(vec![name.to_owned()], clock::now(), 0).await.unwrap();
    let world = World::listening(store.clone(), Vec::new()).await;
    for number in 0..messages {
        world.ask(&says("ann", "default", "api", &number.to_string())).await;
    }
    world.ask(&says("bob", "default", "api", "of bob")).await;
    world.gateway.drain().await;
    store.reopen()
}

#[tokio::test]
async fn after_an_erasure_nothing_leaves_any_more() {
    let store = behind("crm", 12).await;
    let (crm, mut got) = listener("crm", &["*"], delivered);
    got.permits.forget_permits(usize::MAX);
    let world = World::listening(store, vec![crm]).await;
    // The receiver has these in its hands, the pump has the rest of the page.
    for _ in 0..8 {
        assert_eq!(got.next().await.1["data"]["customer_id"], "ann");
    }
    let answers = Cell::new(false);
    let erasing = async {
        erase(&world).await;
        assert!(answers.get(), "callbacks are under way");
    };
    let receiving = async {
        while world.get(&path("default", "api", "ann")).await.status != 404 {
            tokio::task::yield_now().await;
        }
        answers.set(true);
        got.permits.add_permits(1_000_000);
    };
    soon(async { tokio::join!(erasing, receiving) }).await;
    for _ in 0..4 {
        let (_, body) = got.next().await;
        assert_eq!(body["data"]["customer_id"], "bob", "{body}");
    }
    shown(&world, "crm", |one| one["behind"] == 0 && one["pending"] == 0).await;
    assert!(got.arrived.try_recv().is_err());
}

#[tokio::test]
async fn an_erasure_sends_nothing_of_others_twice() {
    let store = behind("crm", 2).await;
    let (crm, mut got) = listener("crm", &["turn.*", "message.*"], delivered);
    got.permits.forget_permits(usize::MAX);
    let world = World::listening(store, vec![crm]).await;
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(got.next().await.0);
    }
    let mallory = world.call("DELETE", "/v1/customers/default/mallory", &[], "");
    let receiving = async {
        tokio::task::yield_now().await;
        got.permits.add_permits(1_000_000);
        for _ in 0..4 {
            ids.push(got.next().await.0);
        }
    };
    let (erased, ()) = soon(async { tokio::join!(mallory, receiving) }).await;
    assert_eq!(erased.status, 200);
    shown(&world, "crm", |one| one["behind"] == 0).await;
    assert!(got.arrived.try_recv().is_err());
    let sent = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!((sent, ids.len()), (12, 12));
}

#[tokio::test]
async fn a_failed_callback_of_somebody_erased_is_dropped() {
    let (crm, mut got) = listener("crm", &["turn.completed"], |tries, delivery| match tries {
        0 => failed(0, delivery),
        _ => Carried::Delivered,
    });
    let world = World::listening(MemoryStore::new(), vec![crm]).await;
    world.ask(&says("ann", "default", "api", "one")).await;
    got.next().await;
    shown(&world, "crm", |one| one["pending"] == 1).await;
    erase(&world).await;
    let kept = world.store.due("crm", i64::MAX, 1).await.unwrap().remove(0);
    let failure = Failure { due_at: Some(0), ..kept.failure };
    world.store.settle("crm", vec![(kept.id, Some(failure))]).await.unwrap();
    world.ask(&says("bob", "default", "api", "two")).await;
    assert_eq!(got.next().await.1["data"]["customer_id"], "bob");
    let crm = shown(&world, "crm", |one| one["pending"] == 0).await;
    assert_eq!(crm["dead"], 0);
}

#[tokio::test]
async fn who_wants_nothing_of_it_is_not_behind() {
    let (crm, _got) = listener("crm", &["turn.failed"], delivered);
    let world = World::listening(MemoryStore::new(), vec![crm]).await;
    world.ask(&says("ann", "default", "api", "one")).await;
    let end = world.store.journal_end().await.unwrap();
    let crm = shown(&world, "crm", |one| one["behind"] == 0).await;
    assert_eq!(crm["position"], end);
    // Nor by what is gone before it was looked at.
    let store = behind("late", 1).await;
    let world = World::listening(store.clone(), Vec::new()).await;
    erase(&world).await;
    world.call("DELETE", "/v1/customers/default/bob", &[], "").await;
    world.gateway.drain().await;
    let (late, mut got) = listener("late", &["*"], delivered);
    let world = World::listening(store.reopen(), vec![late]).await;
    shown(&world, "late", |one| one["behind"] == 0).await;
    assert!(got.arrived.try_recv().is_err());
}

#[tokio::test]
async fn a_stream_of_everything_says_that_something_is_gone() {
    let world = World::new().await;
    world.ask(&says("bob", "default", "api", "one")).await;
    let before = world.store.journal_end().await.unwrap();
    world.ask(&says("ann", "default", "api", "a secret")).await;
    let hers = world.store.journal_end().await.unwrap();
    erase(&world).await;
    let gone = json!({ "position": hers, "forgotten": hers - before });
    // With nothing behind it, and with something.
    for _ in 0..2 {
        let place = format!("{before}");
        let mut watch = world.watch("/v1/events", &[("last-event-id", place.as_str())]).await;
        let reset = watch.next().await.unwrap();
        assert_eq!((reset.event.as_str(), &reset.data), ("reset", &gone));
        world.ask(&says("bob", "default", "api", "two")).await;
        let next = watch.next().await.unwrap();
        assert_eq!(
            (next.event.as_str(), &next.data["customer_id"]),
            ("message.accepted", &json!("bob"))
        );
    }
    // The place itself is gone.
    let place = format!("{hers}-4");
    let mut watch = world.watch("/v1/events", &[("last-event-id", place.as_str())]).await;
    let reset = watch.next().await.unwrap();
    assert_eq!(reset.data, json!({ "position": hers, "forgotten": 1 }));
    // Who begins at the beginning, or now, misses nothing.
    let mut whole = world.watch("/v1/events?after=0", &[]).await;
    let mut now = world.watch("/v1/events", &[]).await;
    world.ask(&says("cid", "default", "api", "three")).await;
    assert_eq!(now.next().await.unwrap().data["customer_id"], "cid");
    for _ in 0..16 {
        assert_ne!(whole.next().await.unwrap().event, "reset");
    }
}

#[tokio::test]
async fn what_stands_for_the_erased_is_there_for_nobody() {
    let world = World::new().await;
    world.ask(&says("ann", "default", "api", "a secret")).await;
    world.ask(&says("bob", "default", "api", "hi")).await;
    erase(&world).await;
    let care = world.gateway.care();
    let keys = care.keys(Some("default"), None, 10).await.unwrap();
    let buried = keys.iter().find(|key| key.agent() == "erased").unwrap().to_string();
    let version = async || {
        let key = buried.parse().unwrap();
        world.gateway.store().load(&key).await.unwrap().unwrap().version
    };
    let before = version().await;
    let session = format!("/v1/sessions/{}", buried.replace(':', "%3A"));
    for deed in ["new", "close", "stop", "typing", "queue", "opt-in", "opt-out"] {
        let body = if deed == "queue" { json!({ "busy_policy": "queue" }) } else { json!({}) };
        let reply = world.post(&format!("{session}/{deed}"), &body).await;
        assert_eq!(reply.status, 404, "{deed}: {}", reply.text());
    }
    for part in ["", "/turns", "/messages", "/events", "/deliveries"] {
        assert_eq!(world.get(&format!("{session}{part}")).await.status, 404, "{part}");
    }
    let chat = json!({ "session": buried, "customer_id": "eve", "message": "hi" });
    let refused = world.post("/v1/chat", &chat).await;
    assert_eq!((refused.status, &refused.json()["field"]), (422, &json!("session")));
    let page = world.get("/v1/sessions").await.json();
    assert_eq!(page["sessions"].as_array().map(Vec::len), Some(1), "{page}");
    assert_eq!(version().await, before);
}

#[tokio::test]
async fn an_erasure_says_what_has_left() {
    let world = World::new().await;
    world.ask(&says("ann", "default", "sms", "by phone")).await;
    world.ask(&says("ann", "default", "api", "not by phone")).await;
    let deliveries = format!("{}/deliveries", path("default", "sms", "ann"));
    // Nobody knows whether the channel took it, so it counts.
    let arriving = async {
        while world.get(&deliveries).await.json()["deliveries"][0]["state"] != "unknown" {
            tokio::task::yield_now().await;
        }
    };
    soon(arriving).await;
    assert_eq!(erase(&world).await["spooled"], 1);
    assert_eq!(erase(&world).await["spooled"], 0);
}
