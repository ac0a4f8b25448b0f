//! Messages that wait for an external check.

use serde_json::{Value, json};
use turnkeep_gateway::guard::GuardSettings;

use crate::kit::{World, names};

const SESSION: &str = "/v1/sessions/watched%3Adefault%3Aapi%3Adm%3Aann";

fn says(tenant: &str, text: &str) -> Value {
    json!({ "tenant_id": tenant, "customer_id": "ann", "message": text })
}

async fn waits(world: &World, text: &str) -> Value {
    let reply = world.post("/v1/chat", &says("watched", text)).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    reply.json()
}

async fn session(world: &World) -> Value {
    world.get(SESSION).await.json()
}

#[tokio::test]
async fn what_is_allowed_goes_on() {
    let world = World::new().await;
    let answer = world.ask(&says("watched", "hello")).await;
    assert_eq!((&answer["status"], &answer["reply"]), (&json!("complete"), &json!("echo: hello")));
    let mut watch = world.watch(&format!("{SESSION}/events"), &[]).await;
    let heard = watch.until("turn.completed").await;
    let heard: Vec<_> = heard.into_iter().filter(|heard| heard.id.is_some()).collect();
    assert_eq!(heard[0].data["held"], true);
    assert_eq!(
        names(&heard),
        ["message.accepted", "guard.allowed", "turn.started", "turn.processing", "turn.completed"]
    );
    assert_eq!(heard[1].data["by_default"], false);
}

#[tokio::test]
async fn what_is_refused_reaches_nobody_and_its_sender_is_told() {
    let world = World::new().await;
    let answer = world.ask(&says("watched", "rude words")).await;
    assert_eq!((&answer["status"], &answer["turn_id"]), (&json!("failed"), &Value::Null));
    assert!(answer["error"].as_str().unwrap().contains("refused"), "{answer}");
    let page = world.get(&format!("{SESSION}/messages")).await.json();
    let lines = page["messages"].as_array().unwrap();
    assert_eq!((&lines[0]["status"], lines.len()), (&json!("failed"), 2));
    assert_eq!(lines[1]["text"], "Your message was not passed on.");
    let turns = world.get(&format!("{SESSION}/turns")).await.json();
    assert_eq!(turns["turns"], json!([]));
    assert_eq!(world.get("/v1/deadletters").await.json()["dead_letters"], json!([]));
}

#[tokio::test]
async fn later_messages_stay_behind_and_nobody_waits_for_the_check() {
    let world = World::new().await;
    let first = waits(&world, "slow one").await;
    assert_eq!(
        (&first["status"], &first["action"], &first["turn_id"], &first["queue_position"]),
        (&json!("queued"), &json!("queued"), &Value::Null, &json!(0))
    );
    world.watched.begun().await;
    waits(&world, "quick one").await;
    let told = session(&world).await;
    assert_eq!(
        (&told["held"], &told["queued"], &told["state"]),
        (&json!(2), &json!(2), &json!("idle"))
    );
    let mut watch = world.watch(&format!("{SESSION}/events"), &[]).await;
    world.watched.open();
    let replies = async |watch: &mut crate::kit::Watch| {
        watch.until("turn.completed").await.pop().unwrap().data["reply"].clone()
    };
    assert_eq!(replies(&mut watch).await, "echo: slow one");
    assert_eq!(replies(&mut watch).await, "echo: quick one");
    assert_eq!(session(&world).await["held"], 0);
}

#[tokio::test]
async fn what_nobody_checks_in_time_is_decided_by_the_default() {
    let world = World::new().await;
    for text in ["slow", "down"] {
        let answer = world.ask(&says("hasty", text)).await;
        assert_eq!(answer["reply"], format!("echo: {text}"));
    }
    let page = world.get("/v1/sessions/hasty%3Adefault%3Aapi%3Adm%3Aann/turns").await.json();
    assert_eq!(page["turns"].as_array().unwrap().len(), 2);
    // Nobody refused it, and nobody is said to have.
    let answer = world.ask(&says("strict", "slow")).await;
    let error = "it was not passed on: the check of messages gave no answer";
    assert_eq!((&answer["status"], &answer["error"]), (&json!("failed"), &json!(error)));
}

#[tokio::test]
async fn a_restart_asks_again() {
    let world = World::new().await;
    let first = waits(&world, "slow one").await;
    world.watched.begun().await;
    let store = world.store.clone();
    world.end().await;
    let world = World::guarded(store, GuardSettings::default()).await;
    world.watched.begun().await;
    assert_eq!(session(&world).await["held"], 1);
    let mut watch = world.watch(&format!("{SESSION}/events"), &[]).await;
    world.watched.open();
    let completed = watch.until("turn.completed").await.pop().unwrap();
    assert_eq!(
        (&completed.data["reply"], &completed.data["messages"]),
        (&json!("echo: slow one"), &json!([first["seq"]]))
    );
}

#[tokio::test]
async fn a_new_conversation_drops_what_is_held() {
    let world = World::new().await;
    waits(&world, "slow one").await;
    world.watched.begun().await;
    let reset = world.post(&format!("{SESSION}/new"), &json!({})).await.json();
    assert_eq!(reset, json!({ "result": "reset", "cancelled": 1 }));
    world.watched.open();
    assert_eq!(world.ask(&says("watched", "two")).await["reply"], "echo: two");
    let page = world.get(&format!("{SESSION}/messages")).await.json();
    assert_eq!(page["messages"][0]["status"], "cancelled");
}
