//! A session as it lives: gapless, resumable, ended in time.

use serde_json::json;

use crate::kit::{Heard, Watch, World, events, names, says};

fn ids(heard: &[Heard]) -> Vec<u64> {
    heard.iter().filter_map(|heard| heard.id).collect()
}

#[tokio::test]
async fn a_stream_opens_before_the_session_exists() {
    let world = World::new().await;
    let mut watch = world.watch(&events("default", "api", "ann"), &[]).await;
    world.post("/v1/chat", &says("ann", "default", "api", "hi")).await;
    let heard = watch.until("turn.completed").await;
    let journal: Vec<&Heard> = heard.iter().filter(|heard| heard.id.is_some()).collect();
    let types: Vec<&str> = journal.iter().map(|heard| heard.event.as_str()).collect();
    assert_eq!(types, ["message.accepted", "turn.started", "turn.processing", "turn.completed"]);
    for event in journal {
        assert_eq!(event.data["type"], event.event);
        assert_eq!(event.data["seq"], event.id.unwrap());
        assert!(event.data["at"].is_u64());
    }
}

#[tokio::test]
async fn a_stream_resumes_without_a_gap() {
    let world = World::new().await;
    let address = events("default", "api", "ann");
    for number in 0..40 {
        world.ask(&says("ann", "default", "api", &number.to_string())).await;
    }
    let mut whole = world.watch(&address, &[]).await;
    let mut all = Vec::new();
    while all.len() < 160 {
        all.extend(whole.next().await.unwrap().id);
    }
    assert_eq!(all, (1..=160).collect::<Vec<u64>>());

    // Broken off again and again, in the middle of pieces, while the session goes on.
    let mut seen: Vec<u64> = Vec::new();
    let mut said = 40;
    while seen.len() < 200 {
        let last = seen.last().copied().unwrap_or(0).to_string();
        let mut watch = world.watch(&address, &[("last-event-id", last.as_str())]).await;
        for _ in 0..17 {
            let Some(heard) = watch.next().await else { break };
            seen.extend(heard.id);
            if said < 60 && heard.id.is_some_and(|id| id % 8 == 0) {
                world.ask(&says("ann", "default", "api", &said.to_string())).await;
                said += 1;
            }
            if seen.len() >= 200 {
                break;
            }
        }
    }
    assert_eq!(seen, (1..=200).collect::<Vec<u64>>());
}

#[tokio::test]
async fn the_header_goes_before_the_parameter() {
    let world = World::new().await;
    world.ask(&says("ann", "default", "api", "hi")).await;
    let address = format!("{}?after=3", events("default", "api", "ann"));
    let first = |mut watch: Watch| async move { watch.next().await.unwrap().id };
    assert_eq!(first(world.watch(&address, &[]).await).await, Some(4));
    assert_eq!(first(world.watch(&address, &[("last-event-id", "1")]).await).await, Some(2));
}

#[tokio::test]
async fn a_place_behind_the_end_is_reset() {
    let world = World::new().await;
    world.ask(&says("ann", "default", "api", "hi")).await;
    let mut watch = world.watch(&events("default", "api", "ann"), &[("last-event-id", "99")]).await;
    let reset = watch.next().await.unwrap();
    assert_eq!((reset.event.as_str(), reset.id), ("reset", None));
    assert_eq!(reset.data, json!({ "last_seq": 4 }));
    world.ask(&says("ann", "default", "api", "again")).await;
    assert_eq!(watch.next().await.unwrap().id, Some(5));

    let mut watch = world.watch(&format!("{}?after=7", events("default", "api", "bob")), &[]).await;
    assert_eq!(watch.next().await.unwrap().data, json!({ "last_seq": 0 }));
}

#[tokio::test]
async fn a_draft_is_sent_in_pieces_and_whole_to_whoever_comes_late() {
    let world = World::new().await;
    let address = events("talker", "web", "ann");
    let mut early = world.watch(&address, &[]).await;
    let opened = world.post("/v1/chat", &says("ann", "talker", "web", "hi")).await.json();
    let first = early.until("draft").await.pop().unwrap();
    assert_eq!(first.data, json!({ "turn_id": opened["turn_id"], "attempt": 1, "text": "Hel" }));
    assert_eq!(first.id, None);
    world.gate.begun().await;
    world.gate.open();
    assert_eq!(early.until("draft").await.pop().unwrap().data["text"], "lo");

    let mut late = world.watch(&format!("{address}?after=3"), &[]).await;
    let heard = late.until("draft").await;
    let reset = heard.iter().find(|heard| heard.event == "draft.reset").unwrap();
    assert_eq!(reset.data, json!({ "turn_id": opened["turn_id"], "attempt": 1 }));
    assert_eq!(heard.last().unwrap().data["text"], "Hello");

    world.gate.open();
    for watch in [&mut early, &mut late] {
        let heard = watch.until("turn.completed").await;
        assert_eq!(heard.last().unwrap().data["reply"], "Hello");
    }
}

#[tokio::test]
async fn typing_is_told_on_change() {
    let world = World::new().await;
    let mut watch = world.watch(&events("patient", "web", "ann"), &[]).await;
    world.post("/v1/chat", &says("ann", "patient", "web", "hi")).await;
    assert_eq!(watch.until("typing").await.pop().unwrap().data, json!({ "on": true }));
    world.gate.open();
    let heard = watch.until("typing").await;
    assert_eq!(heard.last().unwrap().data, json!({ "on": false }));
}

#[tokio::test]
async fn a_watcher_that_leaves_disturbs_nobody() {
    let world = World::new().await;
    let address = events("patient", "web", "ann");
    let mut stays = world.watch(&address, &[]).await;
    let mut leaves = world.watch(&address, &[]).await;
    world.post("/v1/chat", &says("ann", "patient", "web", "hi")).await;
    leaves.next().await.unwrap();
    drop(leaves);
    world.gate.begun().await;
    world.gate.open();
    let heard = stays.until("turn.completed").await;
    assert_eq!(ids(&heard), [1, 2, 3, 4]);
    // Whoever waits with a request that is given up loses nothing either.
    let request = says("ann", "patient", "web", "more").to_string();
    let json = [("content-type", "application/json")];
    let waiting = world.open("POST", "/v1/chat?wait=60", &json, request);
    tokio::select! {
        _ = waiting => panic!("the gate is shut"),
        () = world.gate.begun() => {}
    }
    world.gate.open();
    assert_eq!(stays.until("turn.completed").await.pop().unwrap().data["reply"], "echo: more");
}

#[tokio::test]
async fn streams_end_at_the_shutdown() {
    let world = World::new().await;
    world.ask(&says("ann", "default", "api", "hi")).await;
    let mut watch = world.watch(&events("default", "api", "ann"), &[]).await;
    watch.until("turn.completed").await;
    let waiting = world.watch(&events("default", "api", "bob"), &[]).await;
    world.end().await;
    for mut watch in [watch, waiting] {
        let rest = watch.rest().await;
        assert!(names(&rest).iter().all(|name| *name == "typing"), "{rest:?}");
    }
}

#[tokio::test]
async fn whoever_waits_at_the_shutdown_is_told_what_is_known() {
    let world = World::new().await;
    let body = says("ann", "patient", "api", "hi");
    let (reply, ()) = tokio::join!(world.post("/v1/chat?wait=60", &body), async {
        world.gate.begun().await;
        world.shutdown.cancel();
    });
    assert_eq!((reply.status, &reply.json()["status"]), (202, &json!("processing")));
    world.end().await;
}
