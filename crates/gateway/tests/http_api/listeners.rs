//! Listeners: what reaches a courier, what is kept of what does not, and the stream of all events.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use turnkeep_core::Seq;
use turnkeep_core::listen::{Pattern, Selector};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::listeners::{Carried, Courier, Delivery, Failure, ListenerStore, Missed};
use turnkeep_gateway::listeners::Listener;
use turnkeep_stores::MemoryStore;

use crate::kit::{Heard, World, names, says, soon};

type Answer = Box<dyn Fn(usize, &Delivery) -> Carried + Send + Sync>;

/// A courier that hands everything to the test and answers as it is told.
struct Scripted {
    arrived: mpsc::UnboundedSender<Delivery>,
    answer: Answer,
    tries: AtomicUsize,
    /// How many may answer; closed for ever where it has none.
    permits: Arc<Semaphore>,
    under_way: AtomicUsize,
    most_under_way: Arc<AtomicUsize>,
}

impl Courier for Scripted {
    fn carry(&self, delivery: Delivery) -> BoxFuture<'_, Carried> {
        Box::pin(async move {
            let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_under_way.fetch_max(under_way, Ordering::SeqCst);
            let answer = (self.answer)(self.tries.fetch_add(1, Ordering::SeqCst), &delivery);
            self.arrived.send(delivery).unwrap();
            self.permits.acquire().await.unwrap().forget();
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            answer
        })
    }
}

/// What the test sees of a courier.
pub(crate) struct Receiver {
    pub(crate) arrived: mpsc::UnboundedReceiver<Delivery>,
    pub(crate) permits: Arc<Semaphore>,
    most_under_way: Arc<AtomicUsize>,
}

impl Receiver {
    pub(crate) async fn next(&mut self) -> (String, Value) {
        let delivery = soon(self.arrived.recv()).await.unwrap();
        (delivery.id, serde_json::from_slice(&delivery.body).unwrap())
    }

    /// The types of the next ones.
    async fn types(&mut self, count: usize) -> Vec<String> {
        let mut types = Vec::new();
        for _ in 0..count {
            types.push(self.next().await.1["type"].as_str().unwrap().to_owned());
        }
        types.sort();
        types
    }
}

pub(crate) fn listener(
    name: &str,
    pattern: &[&str],
    answer: impl Fn(usize, &Delivery) -> Carried + Send + Sync + 'static,
) -> (Listener, Receiver) {
    let (sender, arrived) = mpsc::unbounded_channel();
    let permits = Arc::new(Semaphore::new(1_000_000));
    let most_under_way = Arc::new(AtomicUsize::new(0));
    let courier = Scripted {
        arrived: sender,
        answer: Box::new(answer),
        tries: AtomicUsize::new(0),
        permits: Arc::clone(&permits),
        under_way: AtomicUsize::new(0),
        most_under_way: Arc::clone(&most_under_way),
    };
    let selector = Selector {
        pattern: Pattern::of(pattern.iter().copied()).unwrap(),
        tenant: None,
        agent: None,
    };
    let listener = Listener {
        name: name.to_owned(),
        selector,
        pattern: pattern.iter().map(|part| (*part).to_owned()).collect(),
        include_text: false,
        receiver: "https://receiver.example".to_owned(),
        courier: Arc::new(courier),
    };
    (listener, Receiver { arrived, permits, most_under_way })
}

pub(crate) fn delivered(_: usize, _: &Delivery) -> Carried {
    Carried::Delivered
}

/// Not to be tried again while a test runs.
pub(crate) fn failed(_: usize, _: &Delivery) -> Carried {
    Carried::Failed { error: "answered 500".into(), retry_after_ms: Some(3_600_000) }
}

/// Waits until the API shows a listener so.
pub(crate) async fn shown(world: &World, name: &str, is: impl Fn(&Value) -> bool) -> Value {
    let look = async {
        loop {
            let page = world.get("/v1/listeners").await.json();
            let all = page["listeners"].as_array().unwrap();
            let one = all.iter().find(|one| one["name"] == name).unwrap();
            if is(one) {
                return one.clone();
            }
            tokio::task::yield_now().await;
        }
    };
    soon(look).await
}

#[tokio::test]
async fn a_listener_gets_what_it_asked_for() {
    let (crm, mut crm_got) = listener("crm", &["turn.completed"], delivered);
    let (mut all, mut all_got) = listener("all", &["*"], delivered);
    all.include_text = true;
    let (mut other, mut other_got) = listener("other", &["*"], delivered);
    other.selector.tenant = Some("acme".to_owned());
    let world = World::listening(MemoryStore::new(), vec![crm, all, other]).await;
    world.ask(&says("ann", "default", "api", "a secret thing")).await;
    let (id, body) = crm_got.next().await;
    let at = body["timestamp"].as_str().unwrap();
    assert!(at.ends_with('Z') && at.len() == 24, "{at}");
    assert_eq!(
        body,
        json!({ "type": "turn.completed", "timestamp": at, "data": {
            "session": "default:default:api:dm:ann", "tenant_id": "default", "agent_id": "default",
            "channel": "api", "customer_id": "ann", "position": body["data"]["position"], "seq": 4,
            "turn_id": body["data"]["turn_id"], "attempt": 1, "epoch": body["data"]["epoch"],
            "messages": [1],
        }})
    );
    let position = body["data"]["position"].as_u64().unwrap();
    assert!(id.starts_with(&format!("msg_crm_{position}_4_")), "{id}");
    let mut texts = Vec::new();
    for _ in 0..4 {
        let (_, body) = all_got.next().await;
        texts.extend(["text", "reply"].map(|name| body["data"][name].as_str().map(String::from)));
    }
    let texts: Vec<String> = texts.into_iter().flatten().collect();
    assert_eq!(texts, ["a secret thing", "echo: a secret thing"]);
    let mut acme = says("bob", "default", "api", "x");
    acme["tenant_id"] = "acme".into();
    world.ask(&acme).await;
    let mine = ["message.accepted", "turn.completed", "turn.processing", "turn.started"];
    assert_eq!(other_got.types(4).await, mine);
    let crm = shown(&world, "crm", |one| one["behind"] == 0).await;
    assert_eq!(
        crm,
        json!({
            "name": "crm", "receiver": "https://receiver.example", "pattern": ["turn.completed"],
            "tenant": null, "agent": null, "include_text": false, "state": "on",
            "position": crm["position"], "behind": 0, "pending": 0, "dead": 0,
        })
    );
}

#[tokio::test]
async fn what_fails_is_kept_and_holds_up_nobody() {
    let (bad, mut bad_got) = listener("bad", &["turn.completed"], failed);
    let (silent, silent_got) = listener("silent", &["turn.completed"], delivered);
    silent_got.permits.forget_permits(usize::MAX);
    // One event of many is refused.
    let (picky, mut picky_got) = listener("picky", &["turn.*"], |_, delivery| {
        let body: Value = serde_json::from_slice(&delivery.body).unwrap();
        if body["type"] == "turn.started" { failed(0, delivery) } else { Carried::Delivered }
    });
    let world = World::listening(MemoryStore::new(), vec![bad, silent, picky]).await;
    for number in 0..3 {
        world.ask(&says("ann", "default", "api", &number.to_string())).await;
    }
    assert_eq!(bad_got.types(3).await, ["turn.completed"; 3]);
    assert_eq!(picky_got.types(9).await.len(), 9);
    shown(&world, "bad", |one| one["pending"] == 3 && one["behind"] == 0).await;
    shown(&world, "picky", |one| one["pending"] == 3 && one["behind"] == 0).await;
    shown(&world, "silent", |one| one["pending"] == 0 && one["behind"].as_u64() > Some(0)).await;
    let kept = world.store.due("picky", i64::MAX, 10).await.unwrap();
    let seqs: Vec<(&str, u32)> =
        kept.iter().map(|kept| (kept.event_type.as_str(), kept.failure.tries)).collect();
    assert_eq!(seqs, [("turn.started", 1); 3]);
}

#[tokio::test]
async fn a_place_survives_and_nothing_is_sent_twice() {
    let store = MemoryStore::new();
    let (first, mut got) = listener("crm", &["turn.completed"], delivered);
    let world = World::listening(store.clone(), vec![first]).await;
    world.ask(&says("ann", "default", "api", "one")).await;
    let (id, _) = got.next().await;
    shown(&world, "crm", |one| one["behind"] == 0).await;
    world.gateway.drain().await;
    // Without its listener something happens meanwhile.
    let world = World::listening(store.reopen(), Vec::new()).await;
    world.ask(&says("ann", "default", "api", "two")).await;
    world.gateway.drain().await;
    let (again, mut got) = listener("crm", &["turn.completed"], delivered);
    let (fresh, mut fresh_got) = listener("new", &["turn.completed"], delivered);
    let world = World::listening(store.reopen(), vec![again, fresh]).await;
    world.ask(&says("ann", "default", "api", "three")).await;
    let (second, _) = got.next().await;
    let (third, body) = got.next().await;
    assert!(id != second && second != third);
    assert_eq!(body["data"]["messages"], json!([9]));
    let (_, body) = fresh_got.next().await;
    assert_eq!(body["data"]["messages"], json!([9]), "a new one begins at the end");
    shown(&world, "crm", |one| one["behind"] == 0).await;
    assert!(got.arrived.try_recv().is_err() && fresh_got.arrived.try_recv().is_err());
}

/// A store with one completed turn, whose callback of listener `crm` stands so.
async fn with_kept(tries: u32, due_at: Option<i64>) -> MemoryStore {
    let store = MemoryStore::new();
    let world = World::listening(store.clone(), Vec::new()).await;
    world.ask(&says("ann", "default", "api", "hi")).await;
    world.gateway.drain().await;
    let store = store.reopen();
    let end = store.journal_end().await.unwrap();
    let now = 1_700_000_000_000;
    store.enrol(vec!["crm".to_owned()], i64::MAX, now).await.unwrap();
    let failure = Failure { tries, due_at, error: "answered 500".into() };
    let event_type = "turn.completed";
    let missed = Missed { position: end, seq: Seq(4), event_type, at: now, failure };
    store.advance("crm", end, vec![missed]).await.unwrap();
    store
}

#[tokio::test]
async fn what_is_due_is_tried_again_under_the_same_name() {
    let store = with_kept(3, Some(0)).await;
    let (crm, mut got) =
        listener(
            "crm",
            &["*"],
            |tries, delivery| {
                if tries == 0 { failed(0, delivery) } else { Carried::Delivered }
            },
        );
    let world = World::listening(store.clone(), vec![crm]).await;
    let (id, body) = got.next().await;
    assert_eq!(body["type"], "turn.completed");
    shown(&world, "crm", |one| one["pending"] == 1).await;
    let kept = world.store.due("crm", i64::MAX, 10).await.unwrap();
    // Once the failure is noted down, its next try lies in the future.
    let noted = async {
        while world.store.due("crm", i64::MAX, 10).await.unwrap()[0].failure.tries == 3 {
            tokio::task::yield_now().await;
        }
    };
    soon(noted).await;
    let failure = &world.store.due("crm", i64::MAX, 10).await.unwrap()[0].failure;
    assert_eq!((failure.tries, failure.error.as_ref()), (4, "answered 500"));
    assert!(failure.due_at > Some(kept[0].at));
    world.gateway.drain().await;
    // As if that time had come.
    let due = Failure { due_at: Some(0), ..failure.clone() };
    let store = store.reopen();
    store.settle("crm", vec![(kept[0].id, Some(due))]).await.unwrap();
    let (crm, mut got) = listener("crm", &["*"], delivered);
    let world = World::listening(store, vec![crm]).await;
    assert_eq!(got.next().await.0, id);
    shown(&world, "crm", |one| one["pending"] == 0 && one["dead"] == 0).await;
}

#[tokio::test]
async fn after_its_last_try_it_is_dead_until_a_person_decides() {
    let store = with_kept(9, Some(0)).await;
    let (crm, mut got) = listener("crm", &["*"], |tries, delivery| match tries {
        1 => Carried::Delivered,
        _ => failed(0, delivery),
    });
    let world = World::listening(store.clone(), vec![crm]).await;
    let (id, _) = got.next().await;
    shown(&world, "crm", |one| one["dead"] == 1 && one["pending"] == 0).await;
    let page = world.get("/v1/listeners/crm/dead").await.json();
    let letter = &page["callbacks"][0];
    assert_eq!(
        page,
        json!({ "next": null, "callbacks": [{
            "id": letter["id"], "type": "turn.completed", "session": "default:default:api:dm:ann",
            "position": letter["position"], "seq": 4, "tries": 10, "error": "answered 500",
            "at": "2023-11-14T22:13:20.000Z",
        }]})
    );
    let retry = format!("/v1/listeners/crm/dead/{}/retry", letter["id"]);
    let reply = world.post(&retry, &json!({})).await;
    assert_eq!((reply.status, reply.json()), (202, json!({ "result": "pending", "count": 1 })));
    assert_eq!(got.next().await.0, id);
    shown(&world, "crm", |one| one["dead"] == 0 && one["pending"] == 0).await;
    assert_eq!(world.post(&retry, &json!({})).await.status, 404);
}

#[tokio::test]
async fn dead_callbacks_are_given_up_one_by_one_or_all() {
    let store = with_kept(10, None).await;
    let (crm, _got) = listener("crm", &["session.*"], delivered);
    let world = World::listening(store.clone(), vec![crm]).await;
    let id = world.get("/v1/listeners/crm/dead").await.json()["callbacks"][0]["id"].clone();
    let check = async |path: &str, status: u16, body: &str| {
        let reply = world.post(path, &json!({})).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
        assert!(reply.text().contains(body), "{path}: {}", reply.text());
    };
    check("/v1/listeners/nobody/dead/1/discard", 404, "no listener").await;
    check("/v1/listeners/crm/dead/x/discard", 422, "is not the id of a callback").await;
    check("/v1/listeners/crm/dead/999/discard", 404, "there is no dead callback 999").await;
    check(&format!("/v1/listeners/crm/dead/{id}/discard"), 200, r#""count":1"#).await;
    check("/v1/listeners/crm/dead/all/discard", 200, r#""count":0"#).await;
    check("/v1/listeners/crm/dead/all/retry", 202, r#""count":0"#).await;
    assert_eq!(world.get("/v1/listeners/crm/dead?limit=0").await.status, 422);
    assert_eq!(world.get("/v1/listeners/nobody/dead").await.status, 404);
    assert_eq!(world.get("/v1/listeners/agents%2Fx/dead").await.status, 404);
}

#[tokio::test]
async fn whoever_is_gone_is_left_alone_until_the_next_start() {
    let store = MemoryStore::new();
    let (crm, mut got) = listener("crm", &["turn.completed"], |_, _| Carried::Gone);
    let world = World::listening(store.clone(), vec![crm]).await;
    world.ask(&says("ann", "default", "api", "one")).await;
    let (id, _) = got.next().await;
    let crm = shown(&world, "crm", |one| one["state"] == "gone" && one["pending"] == 1).await;
    assert_eq!(crm["dead"], 0);
    world.ask(&says("ann", "default", "api", "two")).await;
    shown(&world, "crm", |one| one["behind"].as_u64() > Some(0)).await;
    world.gateway.drain().await;
    assert!(got.arrived.try_recv().is_err());
    let (crm, mut got) = listener("crm", &["turn.completed"], delivered);
    let world = World::listening(store.reopen(), vec![crm]).await;
    assert_eq!(got.next().await.0, id);
    got.next().await;
    shown(&world, "crm", |one| one["behind"] == 0 && one["pending"] == 0).await;
}

#[tokio::test]
async fn a_shutdown_lays_down_what_is_under_way() {
    let store = MemoryStore::new();
    let (crm, mut got) = listener("crm", &["turn.completed"], delivered);
    got.permits.forget_permits(usize::MAX);
    let world = World::listening(store.clone(), vec![crm]).await;
    world.ask(&says("ann", "default", "api", "one")).await;
    let (id, _) = got.next().await;
    soon(world.gateway.drain()).await;
    let (crm, mut got) = listener("crm", &["turn.completed"], delivered);
    let world = World::listening(store.reopen(), vec![crm]).await;
    assert_eq!(got.next().await.0, id);
    shown(&world, "crm", |one| one["behind"] == 0 && one["pending"] == 0).await;
}

#[tokio::test]
async fn a_courier_that_panics_fails_like_any_other() {
    let (crm, mut got) = listener("crm", &["turn.completed"], |_, delivery| {
        let body: Value = serde_json::from_slice(&delivery.body).unwrap();
        assert!(body["data"]["messages"] != json!([1]), "a bug of the courier");
        Carried::Delivered
    });
    let world = World::listening(MemoryStore::new(), vec![crm]).await;
    world.ask(&says("ann", "default", "api", "one")).await;
    shown(&world, "crm", |one| one["pending"] == 1).await;
    let kept = world.store.due("crm", i64::MAX, 10).await.unwrap();
    assert!(kept[0].failure.error.contains("a bug of the courier"), "{kept:?}");
    world.ask(&says("ann", "default", "api", "two")).await;
    assert_eq!(got.next().await.1["data"]["messages"], json!([5]));
}

#[tokio::test]
async fn only_so_many_are_under_way_at_once() {
    let (crm, mut got) = listener("crm", &["*"], delivered);
    got.permits.forget_permits(usize::MAX);
    let world = World::listening(MemoryStore::new(), vec![crm]).await;
    for number in 0..8 {
        world.ask(&says("ann", "default", "api", &number.to_string())).await;
    }
    // The first ones fill a round; what came meanwhile is read in the next.
    got.permits.add_permits(1_000_000);
    assert_eq!(got.types(32).await.len(), 32);
    shown(&world, "crm", |one| one["behind"] == 0).await;
    let most = got.most_under_way.load(Ordering::SeqCst);
    assert!((2..=8).contains(&most), "{most}");
}

fn places(heard: &[Heard]) -> Vec<(u64, u64)> {
    let place = |name: &str, heard: &Heard| heard.data[name].as_u64().unwrap();
    heard.iter().map(|heard| (place("position", heard), place("seq", heard))).collect()
}

#[tokio::test]
async fn all_sessions_are_one_stream() {
    let world = World::new().await;
    world.ask(&says("ann", "default", "api", "before")).await;
    let mut watch = world.watch("/v1/events", &[]).await;
    let mut turns =
        world.watch("/v1/events?pattern=turn.completed,session.*&text=false", &[]).await;
    let mut acme = world.watch("/v1/events?tenant=acme", &[]).await;
    world.ask(&says("bob", "default", "api", "hello")).await;
    let mut other = says("cid", "default", "api", "x");
    other["tenant_id"] = "acme".into();
    world.ask(&other).await;
    let mut heard = watch.until("turn.completed").await;
    heard.extend(watch.until("turn.completed").await);
    let one = ["message.accepted", "turn.started", "turn.processing", "turn.completed"];
    assert_eq!(names(&heard), [one, one].concat());
    assert_eq!(heard[0].data["session"], "default:default:api:dm:bob");
    assert_eq!(heard[0].data["text"], "hello");
    assert_eq!(heard[0].data["type"], "message.accepted");
    let ordered = places(&heard);
    assert!(ordered.is_sorted() && ordered[3].1 == 4, "{ordered:?}");
    let first = turns.until("turn.completed").await;
    assert_eq!(first.len(), 1);
    assert_eq!((&first[0].data["seq"], &first[0].data["reply"]), (&json!(4), &Value::Null));
    let mine = acme.until("turn.completed").await;
    assert_eq!(mine.len(), 4);
    assert!(mine.iter().all(|heard| heard.data["tenant_id"] == "acme"), "{mine:#?}");
    world.end().await;
}

#[tokio::test]
async fn a_tenants_key_sees_only_its_own_events() {
    let world = World::new().await;
    let wanted = json!({ "tenant_id": "acme", "scopes": ["send", "read"] });
    let made = world.post("/v1/keys", &wanted).await.json();
    let bearer = format!("Bearer {}", made["key"].as_str().unwrap());
    let key = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let mut watch = world.watch("/v1/events", &key).await;
    // Of another tenant, past the door.
    let submission = turnkeep_gateway::Submission {
        customer: Some("ann".to_owned()),
        text: "not for acme".to_owned(),
        ..Default::default()
    };
    let other = world.gateway.submit(submission, true).await.unwrap();
    soon(other.follow.unwrap()).await.unwrap();
    let body = json!({ "customer_id": "bob", "message": "mine" }).to_string();
    assert_eq!(world.call("POST", "/v1/chat?wait=15", &key, body).await.status, 200);
    let heard = watch.until("turn.completed").await;
    assert!(heard.iter().all(|heard| heard.data["tenant_id"] == "acme"), "{heard:#?}");
    let refused = world.call("GET", "/v1/events?tenant=default", &key, "").await;
    assert_eq!(refused.status, 404, "{}", refused.text());
    assert_eq!(world.call("GET", "/v1/listeners", &key, "").await.status, 403);
    assert_eq!(world.get("/v1/events").await.status, 401);
}

#[tokio::test]
async fn the_stream_of_all_events_resumes_without_a_gap() {
    let world = World::new().await;
    for number in 0..20 {
        world.ask(&says(&format!("c{}", number % 3), "default", "api", "hi")).await;
    }
    let mut whole = world.watch("/v1/events?after=0", &[]).await;
    let mut all = Vec::new();
    for _ in 0..80 {
        all.push(whole.next().await.unwrap());
    }
    let all = places(&all);
    // Broken off after every third event, also in the middle of a row.
    let mut seen: Vec<(u64, u64)> = Vec::new();
    while seen.len() < 80 {
        let (row, seq) = seen.last().copied().unwrap_or((0, 0));
        let last = format!("{row}-{seq}");
        let mut watch = world.watch("/v1/events", &[("last-event-id", last.as_str())]).await;
        for _ in 0..3.min(80 - seen.len()) {
            seen.extend(places(&[watch.next().await.unwrap()]));
        }
    }
    assert_eq!(seen, all);
    let end = world.store.journal_end().await.unwrap();
    let mut beyond = world.watch(&format!("/v1/events?after={}", end + 1), &[]).await;
    let reset = beyond.next().await.unwrap();
    assert_eq!((reset.event.as_str(), &reset.data), ("reset", &json!({ "position": end })));
    world.ask(&says("ann", "default", "api", "hi")).await;
    assert_eq!(beyond.next().await.unwrap().event, "message.accepted");
}

#[tokio::test]
async fn wrong_questions_for_all_events_are_named() {
    let world = World::new().await;
    let check = async |path: &str, headers: &[(&str, &str)], status: u16, part: &str| {
        let reply = world.call("GET", path, headers, "").await;
        assert_eq!(reply.status, status, "{path}");
        assert!(reply.text().contains(part), "{path}: {}", reply.text());
    };
    check("/v1/events?pattern=turn.complete", &[], 422, "turn.complete\\\"; there are *").await;
    check("/v1/events?pattern=", &[], 422, "\"field\":\"pattern\"").await;
    check("/v1/events?text=maybe", &[], 422, "\"field\":\"text\"").await;
    check("/v1/events?after=x", &[], 422, "\"field\":\"after\"").await;
    check("/v1/events", &[("last-event-id", "x-y")], 400, "Last-Event-ID must be a place").await;
}
