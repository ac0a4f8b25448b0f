//! Reading and steering sessions.

use serde_json::{Value, json};
use turnkeep_gateway::guard::GuardSettings;

use crate::kit::{World, keys, path, says};

#[tokio::test]
async fn sessions_are_listed_in_pages() {
    let world = World::new().await;
    for customer in ["ann", "bob", "cid"] {
        world.ask(&says(customer, "default", "api", "hi")).await;
    }
    world.ask(&json!({ "tenant_id": "other", "customer_id": "dan", "message": "hi" })).await;
    let mut address = "/v1/sessions?tenant=default&limit=2".to_owned();
    let mut seen = Vec::new();
    let mut pages = 0;
    loop {
        let page = world.get(&address).await.json();
        let sessions = page["sessions"].as_array().unwrap();
        seen.extend(sessions.iter().map(|session| session["customer_id"].clone()));
        pages += 1;
        let Some(next) = page["next"].as_str() else { break };
        address = format!("/v1/sessions?tenant=default&limit=2&after={}", next.replace(':', "%3A"));
    }
    assert_eq!((seen, pages), (vec![json!("ann"), json!("bob"), json!("cid")], 2));
    let all = world.get("/v1/sessions").await.json();
    assert_eq!((all["sessions"].as_array().unwrap().len(), &all["next"]), (4, &Value::Null));
}

#[tokio::test]
async fn a_session_tells_how_it_is() {
    let world = World::new().await;
    let opened = world.post("/v1/chat", &says("ann", "patient", "api", "one")).await.json();
    world.gate.begun().await;
    world.post("/v1/chat", &says("ann", "patient", "api", "two")).await;
    let mut session = world.get(&path("patient", "api", "ann")).await.json();
    let at = session["updated_at"].take();
    assert!(at.as_str().unwrap().ends_with('Z') && at.as_str().unwrap().len() == 24, "{at}");
    assert_eq!(
        session,
        json!({ "session": "default:patient:api:dm:ann", "tenant_id": "default",
            "agent_id": "patient", "customer_id": "ann", "channel": "api", "kind": "dm",
            "state": "processing", "open_turn_id": opened["turn_id"], "queued": 1, "held": 0,
            "last_seq": 4, "opted_in": false, "notices": 0, "rhythm": { "samples": 0, "p50_ms": 0, "p95_ms": 0 },
            "updated_at": null, "number": 1 })
    );
}

#[tokio::test]
async fn a_customers_rhythm_is_learnt_and_kept() {
    let world = World::new().await;
    // An agent that does not answer, so that the burst goes on however long the messages take.
    let typist = |text: &str| {
        let mut says = says("ann", "patient", "web", text);
        says["tenant_id"] = "typist".into();
        says
    };
    let address = "/v1/sessions/typist%3Apatient%3Aweb%3Adm%3Aann";
    for text in ["where", "is", "my", "parcel", "and", "when"] {
        assert_eq!(world.post("/v1/chat", &typist(text)).await.status, 202);
    }
    let known = world.get(address).await.json()["rhythm"].clone();
    assert_eq!(known["samples"], 5);
    assert!(known["p50_ms"].as_u64() <= known["p95_ms"].as_u64(), "{known}");
    // A new conversation has the same customer, also behind a restart.
    assert_eq!(world.post(&format!("{address}/new"), &json!({})).await.status, 200);
    let store = world.store.clone();
    world.end().await;
    let world = World::guarded(store, GuardSettings::default()).await;
    assert_eq!(world.get(address).await.json()["rhythm"], known);
}

#[tokio::test]
async fn messages_name_the_turn_that_ended_them() {
    let world = World::new().await;
    let first = world.ask(&says("ann", "default", "api", "one")).await;
    let second = world.ask(&says("ann", "default", "api", "two")).await;
    let messages = format!("{}/messages", path("default", "api", "ann"));
    let page = world.get(&messages).await.json();
    let told: Vec<(&Value, &Value, &Value, &Value)> = page["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (&line["role"], &line["text"], &line["message_id"], &line["turn_id"]))
        .collect();
    let (user, agent) = (json!("user"), json!("agent"));
    assert_eq!(
        told,
        [
            (&user, &json!("one"), &first["message_id"], &first["turn_id"]),
            (&agent, &json!("echo: one"), &Value::Null, &first["turn_id"]),
            (&user, &json!("two"), &second["message_id"], &second["turn_id"]),
            (&agent, &json!("echo: two"), &Value::Null, &second["turn_id"]),
        ]
    );
    assert_eq!(page["next"], Value::Null);

    // A page ends anywhere; its message still knows what came behind it.
    let mut after = 0;
    let mut alone = Vec::new();
    loop {
        let page = world.get(&format!("{messages}?limit=1&after={after}")).await.json();
        alone.extend(page["messages"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_u64() else { break };
        after = next;
    }
    assert_eq!(&alone, page["messages"].as_array().unwrap());
}

#[tokio::test]
async fn open_and_cancelled_messages_say_so() {
    let world = World::new().await;
    let opened = world.post("/v1/chat", &says("ann", "patient", "api", "one")).await.json();
    world.gate.begun().await;
    world.post("/v1/chat", &says("ann", "patient", "api", "two")).await;
    let address = format!("{}/messages", path("patient", "api", "ann"));
    let turns = |page: Value| -> Vec<Value> {
        page["messages"].as_array().unwrap().iter().map(|line| line["turn_id"].clone()).collect()
    };
    assert_eq!(turns(world.get(&address).await.json()), [Value::Null, Value::Null]);
    let reset = world.post(&format!("{}/new", path("patient", "api", "ann")), &json!({})).await;
    assert_eq!(reset.json(), json!({ "result": "reset", "cancelled": 2 }));
    let page = world.get(&address).await.json();
    assert_eq!(page["messages"][1]["status"], "cancelled");
    assert_eq!(turns(page), [opened["turn_id"].clone(), Value::Null]);
}

#[tokio::test]
async fn a_question_is_the_agents_message() {
    let world = World::new().await;
    let first = says("ann", "asker", "web", "buy it");
    let asked = world.post("/v1/chat?wait=15", &first).await;
    assert_eq!((asked.status, &asked.json()["question"]), (202, &json!("which one?")));
    let session = world.get(&path("asker", "web", "ann")).await.json();
    assert_eq!(session["state"], "waiting_for_input");
    let answer = world.ask(&says("ann", "asker", "web", "the red one")).await;
    assert_eq!(answer["reply"], "you said the red one");
    let page = world.get(&format!("{}/messages", path("asker", "web", "ann"))).await.json();
    let told: Vec<String> = page["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| format!("{}: {}", line["role"], line["text"]))
        .collect();
    assert_eq!(
        told,
        [
            r#""user": "buy it""#,
            r#""agent": "which one?""#,
            r#""user": "the red one""#,
            r#""agent": "you said the red one""#
        ]
    );
}

#[tokio::test]
async fn turns_are_listed_newest_first() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for text in ["one", "two", "three"] {
        ids.insert(0, world.ask(&says("ann", "default", "api", text)).await["turn_id"].clone());
    }
    let address = format!("{}/turns", path("default", "api", "ann"));
    let page = world.get(&format!("{address}?limit=2")).await.json();
    let listed = |page: &Value| -> Vec<Value> {
        page["turns"].as_array().unwrap().iter().map(|turn| turn["turn_id"].clone()).collect()
    };
    assert_eq!(listed(&page), ids[..2]);
    let next = page["next"].as_str().unwrap();
    let page = world.get(&format!("{address}?before={next}")).await.json();
    assert_eq!((listed(&page), &page["next"]), (ids[2..].to_vec(), &Value::Null));

    let mut turn = world.get(&format!("/v1/turns/{}", ids[0].as_str().unwrap())).await.json();
    assert_eq!(
        keys(&turn),
        [
            "attempt",
            "ended_at",
            "epoch",
            "message_ids",
            "reply",
            "session",
            "started_at",
            "status",
            "turn_group_id",
            "turn_id"
        ]
    );
    for moment in ["started_at", "ended_at"] {
        assert_eq!(turn[moment].take().as_str().unwrap().len(), 24);
    }
    assert_eq!((&turn["status"], &turn["reply"]), (&json!("complete"), &json!("echo: three")));
    assert_eq!(
        (&turn["attempt"], &turn["session"]),
        (&json!(1), &json!("default:default:api:dm:ann"))
    );
}

#[tokio::test]
async fn stop_ends_the_turn_it_names_and_no_other() {
    let world = World::new().await;
    let stop = format!("{}/stop", path("patient", "api", "ann"));
    let one = says("ann", "patient", "api", "one");
    let (answer, ()) = tokio::join!(world.ask(&one), async {
        world.gate.begun().await;
        let session = world.get(&path("patient", "api", "ann")).await.json();
        let open = session["open_turn_id"].clone();
        let other = json!({ "turn_id": "00000000-0000-7000-8000-000000000000" });
        let reply = world.post(&stop, &other).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.json(), json!({ "result": "other_turn", "turn_id": open }));
        let reply = world.post(&stop, &json!({ "turn_id": open })).await;
        assert_eq!(reply.json(), json!({ "result": "stopped", "turn_id": open }));
    });
    assert_eq!(answer["status"], "cancelled");
    // No body at all is as good as an empty one.
    let reply = world.call("POST", &stop, &[], "").await;
    assert_eq!((reply.status, reply.json()), (200, json!({ "result": "nothing_runs" })));
}

#[tokio::test]
async fn typing_is_noted_even_before_the_first_message() {
    let world = World::new().await;
    let reply =
        world.call("POST", &format!("{}/typing", path("default", "web", "ann")), &[], "").await;
    assert_eq!((reply.status, reply.text()), (204, ""));
}
