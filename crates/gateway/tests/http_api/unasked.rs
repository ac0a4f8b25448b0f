//! Messages that nobody asked for.

use serde_json::{Value, json};
use turnkeep_gateway::guard::GuardSettings;
use turnkeep_stores::MemoryStore;

use crate::kit::{World, events, keys, names, path, says, soon};

fn news(agent: &str, customer: &str, text: &str) -> Value {
    json!({ "agent_id": agent, "customer_id": customer, "channel": "web", "text": text })
}

fn named(id: &str, text: &str) -> Value {
    let mut news = news("default", "ann", text);
    news["id"] = id.into();
    news
}

async fn opted_in(agent: &str) -> World {
    opts_in(World::new().await, agent).await
}

async fn opts_in(world: World, agent: &str) -> World {
    let address = format!("{}/opt-in", path(agent, "web", "ann"));
    let reply = world.call("POST", &address, &[], "").await;
    assert_eq!((reply.status, reply.json()), (200, json!({ "result": "opted_in" })));
    world
}

/// Role and text of everything that was said.
async fn said(world: &World, agent: &str) -> Vec<String> {
    let page = world.get(&format!("{}/messages", path(agent, "web", "ann"))).await.json();
    let lines = page["messages"].as_array().unwrap().iter();
    let text = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
    lines.map(|line| format!("{}: {}", text(line, "role"), text(line, "text"))).collect()
}

#[tokio::test]
async fn only_who_opted_in_is_told() {
    let world = World::new().await;
    let refused = world.post("/v1/messages", &news("default", "ann", "hello")).await;
    assert_eq!(refused.status, 403);
    let problem = refused.json();
    assert_eq!(
        (&problem["action"], &problem["rejection_reason"]),
        (&json!("rejected"), &json!("not_opted_in"))
    );
    // Nobody made a session of it.
    assert_eq!(world.get(&path("default", "web", "ann")).await.status, 404);
    let world = opts_in(world, "default").await;
    let taken = world.post("/v1/messages", &news("default", "ann", "hello")).await;
    assert_eq!(taken.status, 202);
    let taken = taken.json();
    assert_eq!(keys(&taken), ["message_id", "seq", "session", "status"]);
    assert_eq!(
        (&taken["status"], &taken["session"]),
        (&json!("sent"), &json!("default:default:web:dm:ann"))
    );
    let session = world.get(&path("default", "web", "ann")).await.json();
    assert_eq!(
        (&session["state"], &session["opted_in"], &session["last_seq"]),
        (&json!("idle"), &json!(true), &taken["seq"])
    );
    let page = world.get(&format!("{}/messages", path("default", "web", "ann"))).await.json();
    assert_eq!(page["messages"][0]["message_id"], taken["message_id"]);
    assert_eq!(said(&world, "default").await, ["notice: hello"]);

    let out = format!("{}/opt-out", path("default", "web", "ann"));
    assert_eq!(world.call("POST", &out, &[], "").await.json(), json!({ "result": "opted_out" }));
    assert_eq!(world.post("/v1/messages", &news("default", "ann", "more")).await.status, 403);
}

#[tokio::test]
async fn what_comes_during_a_turn_waits_for_its_end() {
    let world = opted_in("patient").await;
    let mut watch = world.watch(&events("patient", "web", "ann"), &[]).await;
    world.post("/v1/chat", &says("ann", "patient", "web", "one")).await;
    world.gate.begun().await;
    for text in ["first", "second"] {
        let taken = world.post("/v1/messages", &news("patient", "ann", text)).await;
        assert_eq!((taken.status, &taken.json()["status"]), (202, &json!("waiting")));
    }
    let session = world.get(&path("patient", "web", "ann")).await.json();
    assert_eq!((&session["notices"], &session["queued"]), (&json!(2), &json!(0)));
    world.gate.open();
    let mut heard = watch.until("session.notice").await;
    heard.extend(watch.until("session.notice").await);
    let heard: Vec<_> = heard.into_iter().filter(|heard| heard.id.is_some()).collect();
    assert_eq!(
        names(&heard)[3..],
        [
            "turn.processing",
            "session.notice_accepted",
            "session.notice_accepted",
            "turn.completed",
            "session.notice",
            "session.notice",
        ]
    );
    assert_eq!(
        said(&world, "patient").await,
        ["user: one", "agent: echo: one", "notice: first", "notice: second"]
    );
}

#[tokio::test]
async fn the_same_id_is_told_once() {
    let world = opted_in("default").await;
    let first = world.post("/v1/messages", &named("n-1", "hello")).await.json();
    let again = world.post("/v1/messages", &named("n-1", "hello")).await;
    let mut expect = first.clone();
    expect["duplicate"] = true.into();
    assert_eq!((again.status, again.json()), (202, expect.clone()));
    let other = world.post("/v1/messages", &named("n-1", "other")).await;
    assert_eq!((other.status, &other.json()["field"]), (422, &json!("id")));
    // A customer's own message under the same id is another one.
    let mut asked = says("ann", "default", "web", "hello");
    asked["id"] = "n-1".into();
    assert_eq!(world.ask(&asked).await["reply"], "echo: hello");
    // Not even who opted out meanwhile, and after a restart.
    let out = format!("{}/opt-out", path("default", "web", "ann"));
    world.call("POST", &out, &[], "").await;
    let store = world.store.clone();
    world.end().await;
    let world = World::guarded(store, GuardSettings::default()).await;
    assert_eq!(world.post("/v1/messages", &named("n-1", "hello")).await.json(), expect);
    let told = said(&world, "default").await;
    assert_eq!(told, ["notice: hello", "user: hello", "agent: echo: hello"]);
}

#[tokio::test]
async fn of_sixteen_twins_at_once_one_is_told() {
    let world = opted_in("default").await;
    let body = named("n-1", "hello");
    let twins = futures_util::future::join_all((0..16).map(|_| world.post("/v1/messages", &body)));
    let answers: Vec<Value> = soon(twins).await.iter().map(crate::kit::Reply::json).collect();
    let first = answers.iter().filter(|answer| answer["duplicate"].is_null()).count();
    assert_eq!(first, 1);
    assert!(answers.iter().all(|answer| answer["seq"] == answers[0]["seq"]), "{answers:?}");
    assert_eq!(said(&world, "default").await, ["notice: hello"]);
}

#[tokio::test]
async fn what_waits_outlives_the_process() {
    let world =
        opts_in(World::guarded(MemoryStore::new(), GuardSettings::default()).await, "patient")
            .await;
    world.post("/v1/chat", &says("ann", "patient", "web", "one")).await;
    world.gate.begun().await;
    world.post("/v1/messages", &news("patient", "ann", "hello")).await;
    let store = world.store.clone();
    world.end().await;
    let world = World::guarded(store, GuardSettings::default()).await;
    let mut watch = world.watch(&events("patient", "web", "ann"), &[]).await;
    world.gate.open();
    let told = watch.until("session.notice").await.pop().unwrap().data;
    assert_eq!((&told["text"], &told["source"]), (&json!("hello"), &json!("unasked")));
    assert_eq!(said(&world, "patient").await[1..], ["agent: echo: one", "notice: hello"]);
}

#[tokio::test]
async fn too_many_are_refused_until_some_are_told() {
    let world = opted_in("patient").await;
    world.post("/v1/chat", &says("ann", "patient", "web", "one")).await;
    world.gate.begun().await;
    for index in 0..100 {
        let taken = world.post("/v1/messages", &news("patient", "ann", &index.to_string())).await;
        assert_eq!(taken.status, 202);
    }
    let refused = world.post("/v1/messages", &news("patient", "ann", "one more")).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "1"));
    assert_eq!(refused.json()["rejection_reason"], "queue_full");
    let mut watch = world.watch(&events("patient", "web", "ann"), &[]).await;
    world.gate.open();
    watch.until("session.notice").await;
    assert_eq!(world.post("/v1/messages", &news("patient", "ann", "one more")).await.status, 202);
}

#[tokio::test]
async fn a_closed_session_takes_it_as_it_takes_messages() {
    let world = opted_in("default").await;
    let close = format!("{}/close", path("default", "web", "ann"));
    world.call("POST", &close, &[], "").await;
    assert_eq!(world.post("/v1/messages", &news("default", "ann", "hello")).await.status, 202);
    for deed in ["opt-in", "close"] {
        let address = format!("{}/{deed}", path("default", "api", "ann"));
        assert_eq!(world.call("POST", &address, &[], "").await.status, 200);
    }
    let mut on_api = news("default", "ann", "hello");
    on_api["channel"] = "api".into();
    let refused = world.post("/v1/messages", &on_api).await;
    assert_eq!(
        (refused.status, &refused.json()["rejection_reason"]),
        (409, &json!("session_closed"))
    );
}

#[tokio::test]
async fn mistakes_name_their_field() {
    let world = opted_in("default").await;
    let check = async |change: Value, field: &str| {
        let mut body = news("default", "ann", "hello");
        let changes = change.as_object().unwrap();
        for (name, value) in changes {
            if value.is_null() {
                body.as_object_mut().unwrap().remove(name);
            } else {
                body[name] = value.clone();
            }
        }
        let reply = world.post("/v1/messages", &body).await;
        assert_eq!((reply.status, &reply.json()["field"]), (422, &json!(field)), "{change}");
    };
    check(json!({ "text": null }), "text").await;
    check(json!({ "text": " " }), "text").await;
    check(json!({ "text": 7 }), "text").await;
    check(json!({ "customer_id": null }), "customer_id").await;
    check(json!({ "customer_id": "" }), "customer_id").await;
    check(json!({ "channel": null }), "channel").await;
    check(json!({ "channel": "pigeon" }), "channel").await;
    check(json!({ "agent_id": "nobody" }), "agent_id").await;
    check(json!({ "id": "" }), "id").await;
    check(json!({ "message": "hello" }), "message").await;
    let address = format!("{}/opt-in", path("nobody", "web", "ann"));
    assert_eq!(world.call("POST", &address, &[], "").await.status, 422);
}
