//! A message's way: what is answered at once, and what to those who wait.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::kit::{Watch, World, events, keys, names, path, says, soon};

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn a_message_is_taken_at_once() {
    let world = World::new().await;
    let reply = world.post("/v1/chat", &says("ann", "default", "api", "hi")).await;
    assert_eq!((reply.status, reply.header("content-type")), (202, "application/json"));
    let body = reply.json();
    assert_eq!(
        keys(&body),
        ["action", "message_id", "seq", "session", "status", "turn_id", "workflow_run_id"]
    );
    assert_eq!(body["status"], "processing");
    assert_eq!(body["action"], "workflow_started");
    assert_eq!(body["session"], "default:default:api:dm:ann");
    assert!(body["turn_id"].is_string());
    assert_eq!(body["turn_id"], body["workflow_run_id"]);
    assert_eq!(body["seq"], 1);
}

#[tokio::test]
async fn whoever_waits_gets_the_answer() {
    let world = World::new().await;
    for address in ["/v1/chat?wait=10", "/chat?wait=1e9", "/chat?&wait=10.5"] {
        let reply = world.post(address, &json!({ "customer_id": "ann", "message": "hi" })).await;
        assert_eq!(reply.status, 200);
        let body = reply.json();
        assert_eq!(keys(&body), ["message_id", "reply", "session", "status", "turn_id"]);
        assert_eq!((&body["status"], &body["reply"]), (&json!("complete"), &json!("echo: hi")));
        let turn = world.get(&format!("/v1/turns/{}", body["turn_id"].as_str().unwrap())).await;
        assert_eq!(turn.json()["message_ids"], json!([body["message_id"]]));
    }
}

#[tokio::test]
async fn a_wait_that_runs_out_gives_what_is_known() {
    let world = World::new().await;
    let says = says("ann", "patient", "api", "hi");
    let reply = world.post("/v1/chat?wait=0.01", &says).await;
    assert_eq!((reply.status, &reply.json()["status"]), (202, &json!("processing")));
    let reply = world.post("/v1/chat?wait=0", &says).await;
    let body = reply.json();
    assert_eq!(reply.status, 202);
    assert_eq!((&body["status"], &body["action"]), (&json!("queued"), &json!("queued")));
    assert_eq!((&body["turn_id"], &body["queue_position"]), (&Value::Null, &json!(1)));
    assert_eq!(body["workflow_run_id"], Value::Null);
}

#[tokio::test]
async fn whoever_waits_is_told_that_they_are_asked() {
    let world = World::new().await;
    let first = json!({ "customer_id": "ann", "agent_id": "asker", "channel": "web",
        "message": "buy it", "id": "m1" });
    let asked = world.post("/v1/chat?wait=15", &first).await;
    assert_eq!(asked.status, 202);
    let body = asked.json();
    assert_eq!(
        keys(&body),
        [
            "action",
            "message_id",
            "question",
            "question_id",
            "seq",
            "session",
            "status",
            "turn_id",
            "workflow_run_id"
        ]
    );
    assert_eq!(
        (&body["status"], &body["question"]),
        (&json!("waiting_for_input"), &json!("which one?"))
    );
    // A twin that comes while it is open is told the same, out of the journal.
    let twin = world.post("/v1/chat?wait=15", &first).await;
    assert_eq!(twin.status, 202);
    let twin = twin.json();
    assert_eq!(twin["duplicate"], true);
    for field in ["status", "question", "question_id", "turn_id"] {
        assert_eq!(twin[field], body[field], "{field}");
    }
    let answer = world.ask(&says("ann", "asker", "web", "the red one")).await;
    assert_eq!(
        (&answer["reply"], &answer["turn_id"]),
        (&json!("you said the red one"), &body["turn_id"])
    );
    // And once it is over, how it ended.
    let settled = world.ask(&first).await;
    assert_eq!(settled["reply"], "you said the red one");
}

#[tokio::test]
async fn an_answer_is_for_the_question_that_it_names() {
    let world = World::new().await;
    let first = says("ann", "asker", "web", "buy it");
    let asked = world.post("/v1/chat?wait=15", &first).await.json();
    let question = asked["question_id"].as_u64().unwrap();
    let answer = |text: &str, question: u64| {
        let mut answer = says("ann", "asker", "web", text);
        (answer["question_id"], answer["id"]) = (question.into(), format!("m-{text}").into());
        answer
    };
    let refused = async |answer: &Value| {
        let reply = world.post("/v1/chat", answer).await;
        let body = reply.json();
        assert_eq!(
            (reply.status, &body["rejection_reason"], &body["type"]),
            (409, &json!("question_not_open"), &json!("urn:turnkeep:problem:question-not-open"))
        );
    };
    refused(&answer("the blue one", question + 1)).await;
    let taken = answer("the red one", question);
    let settled = world.ask(&taken).await;
    assert_eq!(
        (&settled["reply"], &settled["turn_id"]),
        (&json!("you said the red one"), &asked["turn_id"])
    );
    // Somebody was quicker; what is refused stands nowhere.
    refused(&answer("the green one", question)).await;
    let twin = world.post("/v1/chat", &taken).await;
    assert_eq!((twin.status, &twin.json()["duplicate"]), (202, &json!(true)));
    let page = world.get(&format!("{}/messages", path("asker", "web", "ann"))).await.json();
    assert_eq!(page["messages"].as_array().unwrap().len(), 4, "{page}");
    // The name of a request stands for the question too.
    let name = [("content-type", "application/json"), ("idempotency-key", "k-1")];
    let asked = world.post("/v1/chat?wait=15", &first).await.json();
    let question = asked["question_id"].as_u64().unwrap();
    let mut named = says("ann", "asker", "web", "the red one");
    for (question, status) in [(question, 202), (question, 202), (question + 1, 422)] {
        named["question_id"] = question.into();
        let reply = world.call("POST", "/v1/chat", &name, named.to_string()).await;
        assert_eq!(reply.status, status, "{}", reply.text());
    }
    world.end().await;
}

#[tokio::test]
async fn an_absorbed_message_gets_the_answer_of_its_turn() {
    let world = World::new().await;
    let (one, two) = (says("ann", "patient", "web", "one"), says("ann", "patient", "web", "two"));
    let (first, second) = tokio::join!(world.ask(&one), async {
        world.gate.begun().await;
        let reply = world.post("/v1/chat", &two).await.json();
        assert_eq!(reply["action"], "event_sent");
        let id = reply["message_id"].clone();
        let twin = json!({ "customer_id": "ann", "agent_id": "patient", "channel": "web",
            "message": "three", "id": "three" });
        let (third, ()) = tokio::join!(world.ask(&twin), async {
            let mut watch = world.watch(&events("patient", "web", "ann"), &[]).await;
            while watch.until("message.accepted").await.last().unwrap().data["text"] != "three" {}
            world.gate.open();
        });
        (id, third)
    });
    assert_eq!(first["reply"], "echo: one\ntwo\nthree");
    assert_eq!(second.1["reply"], first["reply"]);
    assert_eq!(second.1["turn_id"], first["turn_id"]);
    assert!(second.0.is_string());
}

#[tokio::test]
async fn a_superseded_message_gets_the_answer_of_the_turn_that_took_it_over() {
    let world = World::new().await;
    let (one, two) =
        (says("ann", "patient", "voice", "one"), says("ann", "patient", "voice", "two"));
    let (first, second) = tokio::join!(world.ask(&one), async {
        world.gate.begun().await;
        let (second, ()) = tokio::join!(world.ask(&two), async {
            world.gate.begun().await;
            world.gate.open();
        });
        second
    });
    assert_eq!(first["reply"], "echo: one\ntwo");
    assert_eq!(first["turn_id"], second["turn_id"]);
    let turns = world.get(&format!("{}/turns", path("patient", "voice", "ann"))).await.json();
    let statuses: Vec<&Value> =
        turns["turns"].as_array().unwrap().iter().map(|turn| &turn["status"]).collect();
    assert_eq!(statuses, ["complete", "superseded"]);
}

#[tokio::test]
async fn queued_messages_get_the_answer_of_a_later_turn() {
    let world = World::new().await;
    let said = |text| says("ann", "patient", "api", text);
    world.post("/v1/chat", &said("one")).await;
    world.gate.begun().await;
    let queued = world.post("/v1/chat", &said("two")).await.json();
    assert_eq!((&queued["status"], &queued["queue_position"]), (&json!("queued"), &json!(1)));
    let three = said("three");
    let (third, ()) = tokio::join!(world.ask(&three), async {
        let mut watch = world.watch(&events("patient", "api", "ann"), &[]).await;
        while watch.until("message.accepted").await.last().unwrap().data["text"] != "three" {}
        world.gate.open();
        world.gate.open();
    });
    assert_eq!(third["reply"], "echo: two\nthree");
}

#[tokio::test]
async fn a_twin_gets_the_answer_of_the_first() {
    let world = World::new().await;
    let one = json!({ "customer_id": "ann", "message": "hi", "id": "m1" });
    let first = world.ask(&one).await;
    let twin = world.ask(&one).await;
    assert_eq!(twin["duplicate"], true);
    for field in ["status", "reply", "turn_id", "session", "message_id"] {
        assert_eq!(twin[field], first[field], "{field}");
    }
    let at_once = world.post("/v1/chat", &one).await;
    assert_eq!((at_once.status, &at_once.json()["duplicate"]), (202, &json!(true)));
    let other = json!({ "customer_id": "ann", "message": "something else", "id": "m1" });
    let refused = world.post("/v1/chat", &other).await;
    assert_eq!(refused.status, 422);
    insta::assert_snapshot!(refused.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_twins_at_one_instant_are_one_message() {
    let world = std::sync::Arc::new(World::new().await);
    let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(16));
    let twins: Vec<_> = (0..16)
        .map(|_| {
            let (world, barrier) = (world.clone(), barrier.clone());
            tokio::spawn(async move {
                barrier.wait().await;
                world.ask(&json!({ "customer_id": "ann", "message": "hi", "id": "m1" })).await
            })
        })
        .collect();
    let mut turns = HashSet::new();
    let mut firsts = 0;
    for twin in twins {
        let body = soon(twin).await.unwrap();
        assert_eq!(body["reply"], "echo: hi");
        turns.insert(body["turn_id"].to_string());
        firsts += usize::from(body.get("duplicate").is_none());
    }
    assert_eq!((turns.len(), firsts), (1, 1));
}

#[tokio::test]
async fn a_turn_can_be_streamed() {
    let world = World::new().await;
    let body = says("ann", "talker", "api", "hi").to_string();
    let headers = [JSON, ("accept", "text/event-stream")];
    let mut watch = Watch::new(world.open("POST", "/v1/chat", &headers, body).await);
    let accepted = watch.next().await.unwrap();
    assert_eq!((accepted.event.as_str(), accepted.id), ("accepted", None));
    assert_eq!(accepted.data["status"], "processing");
    let first = watch.until("draft").await;
    assert_eq!(first.last().unwrap().data["text"], "Hel");
    world.gate.open();
    assert_eq!(watch.until("draft").await.last().unwrap().data["text"], "lo");
    world.gate.open();
    let rest = watch.rest().await;
    let settled = rest.last().unwrap();
    assert_eq!((settled.event.as_str(), settled.id), ("settled", None));
    assert_eq!(settled.data["reply"], "Hello");
    assert_eq!(settled.data["turn_id"], accepted.data["turn_id"]);
    assert_eq!(rest[rest.len() - 2].event, "turn.completed");
    assert_eq!(first[0].event, "message.accepted");
    assert!(!names(&rest).contains(&"draft"));
}

#[tokio::test]
async fn a_streamed_twin_is_told_how_the_first_ended() {
    let world = World::new().await;
    let one = json!({ "customer_id": "ann", "message": "hi", "id": "m1" });
    world.ask(&one).await;
    let headers = [JSON, ("accept", "text/event-stream, */*")];
    let mut watch = Watch::new(world.open("POST", "/v1/chat", &headers, one.to_string()).await);
    let heard = watch.rest().await;
    assert_eq!(
        names(&heard),
        [
            "accepted",
            "message.accepted",
            "turn.started",
            "turn.processing",
            "turn.completed",
            "settled"
        ]
    );
    let settled = &heard.last().unwrap().data;
    assert_eq!((&settled["duplicate"], &settled["reply"]), (&json!(true), &json!("echo: hi")));
}

#[tokio::test]
async fn a_session_may_be_named_instead_of_its_parts() {
    let world = World::new().await;
    let body = json!({ "session": "t%3A1:default:web:group:a%25b", "message": "hi",
        "customer_id": "ann", "metadata": { "a": [1, { "b": null }] } });
    let answer = world.ask(&body).await;
    assert_eq!(answer["session"], "t%3A1:default:web:group:a%25b");
    let session = world.get("/v1/sessions/t%253A1%3Adefault%3Aweb%3Agroup%3Aa%2525b").await.json();
    assert_eq!((&session["tenant_id"], &session["customer_id"]), (&json!("t:1"), &json!("a%b")));
}

#[tokio::test]
async fn a_failed_message_says_why() {
    let world = World::new().await;
    let answer = world.ask(&says("ann", "broken", "api", "hi")).await;
    assert_eq!(answer["status"], "failed");
    assert_eq!(
        (&answer["reply"], &answer["error"]),
        (&Value::Null, &json!("the model is on fire"))
    );
}

#[tokio::test]
async fn refusals_of_the_session_are_told_apart() {
    let world = World::new().await;
    let said = |text| says("ann", "patient", "api", text);
    world.post("/v1/chat", &said("one")).await;
    world.gate.begun().await;
    let queue = format!("{}/queue", path("patient", "api", "ann"));
    let set = world.post(&queue, &json!({ "busy_policy": "reject" })).await;
    assert_eq!((set.status, set.text()), (200, r#"{"result":"set","busy_policy":"reject"}"#));
    let busy = world.post("/v1/chat?wait=9", &said("two")).await;
    assert_eq!(busy.status, 409);
    insta::assert_snapshot!("busy", busy.text());

    let closed = world.post(&format!("{}/close", path("patient", "api", "ann")), &json!({})).await;
    assert_eq!(closed.json(), json!({ "result": "closed", "cancelled": 1 }));
    let closed = world.post("/v1/chat", &said("three")).await;
    assert_eq!(closed.status, 409);
    insta::assert_snapshot!("closed", closed.text());
    let new = world.post(&format!("{}/new", path("patient", "api", "ann")), &json!({})).await;
    assert_eq!(new.json(), json!({ "result": "reset", "cancelled": 0 }));
    assert_eq!(world.post("/v1/chat", &said("four")).await.status, 202);
    world.gate.begun().await;

    let small = |text: &str| json!({ "tenant_id": "small", "customer_id": "bob", "agent_id": "patient", "message": text });
    world.post("/v1/chat", &small("one")).await;
    world.gate.begun().await;
    assert_eq!(world.post("/v1/chat", &small("two")).await.status, 202);
    let full = world.post("/v1/chat", &small("three")).await;
    assert_eq!((full.status, full.header("retry-after")), (429, "1"));
    insta::assert_snapshot!("full", full.text());
}
