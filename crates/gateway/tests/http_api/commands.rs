//! Commands on a channel of people: done and answered at once, also for whoever waits or streams.

use serde_json::{Value, json};

use crate::kit::{Watch, World, events, names, path, says};

const JSON: (&str, &str) = ("content-type", "application/json");

fn command(agent: &str, text: &str, id: &str) -> Value {
    json!({ "customer_id": "ann", "agent_id": agent, "channel": "web", "message": text, "id": id })
}

#[tokio::test]
async fn a_command_needs_no_turn_and_its_answer_is_the_reply() {
    let world = World::new().await;
    let new = command("default", "/new", "m1");
    let reply = world.post("/v1/chat", &new).await;
    let body = reply.json();
    assert_eq!((reply.status, &body["status"]), (202, &json!("done")));
    assert_eq!((&body["action"], &body["turn_id"]), (&json!("command"), &Value::Null));
    // It comes again: done once, and told what it was told.
    for _ in 0..2 {
        let twin = world.ask(&new).await;
        assert_eq!(
            (&twin["status"], &twin["reply"], &twin["duplicate"]),
            (&json!("complete"), &json!("A new conversation begins."), &json!(true))
        );
    }
    let page = format!("{}/messages", path("default", "web", "ann"));
    let messages = world.get(&page).await.json()["messages"].clone();
    let told: Vec<_> = messages.as_array().unwrap().iter().map(|one| &one["text"]).collect();
    assert_eq!(told, ["/new", "A new conversation begins."]);
    assert_eq!(messages[0]["status"], "complete");
    let mut watch = world.watch(&events("default", "web", "ann"), &[]).await;
    let heard = watch.until("session.notice").await;
    assert_eq!(names(&heard), ["message.command", "session.reset", "session.notice"]);
    assert_eq!(heard.last().unwrap().data["of"], heard[0].data["seq"]);
}

#[tokio::test]
async fn a_command_does_not_wait_for_the_turn_that_runs() {
    let world = World::new().await;
    let first = command("patient", "think about it", "m1");
    let (waited, stopped) = tokio::join!(world.ask(&first), async {
        world.gate.begun().await;
        let said = world.ask(&command("patient", "/queue collect", "m2")).await;
        assert!(said["reply"].as_str().unwrap().starts_with("Queue policy: collect."));
        world.ask(&command("patient", "/stop", "m3")).await
    });
    assert_eq!(stopped["reply"], "Stopped.");
    assert_eq!((&waited["status"], &waited["reply"]), (&json!("cancelled"), &Value::Null));
    let nothing = world.ask(&command("patient", "/stop", "m4")).await;
    assert_eq!(nothing["reply"], "Nothing is running.");
    // Programs have no commands: there it is a message.
    let api = world.ask(&says("ann", "default", "api", "/stop")).await;
    assert_eq!(api["reply"], "echo: /stop");
}

#[tokio::test]
async fn a_command_can_be_streamed() {
    let world = World::new().await;
    let headers = [JSON, ("accept", "text/event-stream")];
    let body = command("default", "/new", "m1").to_string();
    let mut watch = Watch::new(world.open("POST", "/v1/chat", &headers, body).await);
    let heard = watch.rest().await;
    assert_eq!(
        names(&heard),
        ["accepted", "message.command", "session.reset", "session.notice", "settled"]
    );
    assert_eq!(heard.last().unwrap().data["reply"], "A new conversation begins.");
}
