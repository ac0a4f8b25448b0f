//! A person in the agent's place, through the API.

use serde_json::{Value, json};
use turnkeep_gateway::guard::GuardSettings;

use crate::access::{call, key};
use crate::kit::{Reply, World, events, keys, names, path, says, soon};

struct Desk<'w> {
    world: &'w World,
    agent: &'static str,
}

impl<'w> Desk<'w> {
    fn of(world: &'w World, agent: &'static str) -> Self {
        Self { world, agent }
    }

    fn address(&self) -> String {
        path(self.agent, "web", "ann")
    }

    async fn does(&self, deed: &str, body: Value) -> Reply {
        self.world.post(&format!("{}/{deed}", self.address()), &body).await
    }

    async fn pause(&self) -> Value {
        let reply = self.does("pause", json!({ "by": "Olga" })).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    async fn reply(&self, text: &str) -> Reply {
        self.does("reply", json!({ "by": "Olga", "text": text })).await
    }

    async fn hand_back(&self) -> Value {
        self.does("hand_back", json!({})).await.json()
    }

    async fn session(&self) -> Value {
        self.world.get(&self.address()).await.json()
    }

    async fn says(&self, text: &str) -> Value {
        self.world.post("/v1/chat", &says("ann", self.agent, "web", text)).await.json()
    }

    /// Role and text of everything that was said.
    async fn said(&self) -> Vec<String> {
        let page = self.world.get(&format!("{}/messages", self.address())).await.json();
        let lines = page["messages"].as_array().unwrap().iter();
        lines
            .map(|line| {
                let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
                format!("{}{}: {}", text("role"), text("by"), text("text"))
            })
            .collect()
    }
}

#[tokio::test]
async fn a_person_answers_and_hands_back() {
    let world = World::new().await;
    let desk = Desk::of(&world, "default");
    world.ask(&says("ann", "default", "web", "one")).await;
    let paused = desk.pause().await;
    assert_eq!(keys(&paused), ["open_turn_id", "paused", "result", "state"]);
    assert_eq!((&paused["result"], &paused["state"]), (&json!("paused"), &json!("idle")));
    let session = desk.session().await;
    assert_eq!(session["paused"]["by"], "Olga");
    assert!(session["paused"]["since"].as_str().unwrap().ends_with('Z'));

    // Who waits for the answer is told what the person said.
    let waits = says("ann", "default", "web", "two");
    let (asked, ()) = tokio::join!(world.post("/v1/chat?wait=15", &waits), async {
        while desk.session().await["state"] != "waiting_for_operator" {
            tokio::task::yield_now().await;
        }
        let joined = desk.says("three").await;
        assert_eq!(
            (&joined["action"], &joined["status"]),
            (&json!("event_sent"), &json!("processing"))
        );
        let turn = world.get(&format!("/v1/turns/{}", joined["turn_id"].as_str().unwrap())).await;
        assert_eq!(turn.json()["status"], "waiting_for_operator");
        let said = desk.reply("a person").await;
        assert_eq!((said.status, &said.json()["result"]), (200, &json!("answered")));
        assert_eq!(said.json()["turn_id"], joined["turn_id"]);
    });
    let asked = asked.json();
    assert_eq!((&asked["status"], &asked["reply"]), (&json!("complete"), &json!("a person")));
    assert_eq!(asked["by"], "Olga");
    let turn = world.get(&format!("/v1/turns/{}", asked["turn_id"].as_str().unwrap())).await;
    assert_eq!((&turn.json()["by"], &turn.json()["reply"]), (&json!("Olga"), &json!("a person")));

    let told = desk.reply("anything else?").await.json();
    assert_eq!((&told["result"], &told["turn_id"]), (&json!("told"), &Value::Null));
    assert_eq!(keys(&told), ["message_id", "result", "seq", "session", "turn_id"]);
    assert_eq!(desk.hand_back().await["result"], "handed_back");
    assert_eq!(desk.hand_back().await["result"], "not_paused");
    assert_eq!(desk.session().await["paused"], Value::Null);
    let after = world.ask(&says("ann", "default", "web", "four")).await;
    assert_eq!(after["reply"], "echo: four");
    let said = [
        "user: one",
        "agent: echo: one",
        "user: two",
        "user: three",
        "operatorOlga: a person",
        "operatorOlga: anything else?",
        "user: four",
        "agent: echo: four",
    ];
    assert_eq!(desk.said().await, said);
}

#[tokio::test]
async fn whoever_works_is_ended_and_its_draft_is_void() {
    let world = World::new().await;
    let desk = Desk::of(&world, "talker");
    let mut watch = world.watch(&events("talker", "web", "ann"), &[]).await;
    desk.says("one").await;
    world.gate.begun().await;
    watch.until("draft").await;
    assert_eq!(desk.pause().await["state"], "waiting_for_operator");
    let heard = watch.until("draft.reset").await;
    assert!(names(&heard).contains(&"turn.waiting_for_operator"), "{heard:?}");
    // Nobody types, as far as the user sees.
    watch.until("typing").await;
    desk.reply("a person").await;
    let done = watch.until("turn.completed").await.pop().unwrap().data;
    assert_eq!((&done["by"], &done["reply"]), (&json!("Olga"), &json!("a person")));

    // What it gets back it answers.
    desk.says("two").await;
    desk.hand_back().await;
    world.gate.begun().await;
    for _ in 0..3 {
        world.gate.open();
    }
    let done = watch.until("turn.completed").await.pop().unwrap().data;
    assert_eq!((&done["by"], &done["reply"]), (&Value::Null, &json!("Hello")));
}

#[tokio::test]
async fn a_reply_is_said_once_under_its_id_also_after_a_restart() {
    let world = World::new().await;
    let desk = Desk::of(&world, "default");
    desk.says("one").await;
    let named = |text: &str| json!({ "text": text, "id": "r-1" });
    let refused = desk.does("reply", named("hello")).await;
    assert_eq!(
        (refused.status, &refused.json()["type"]),
        (409, &json!("urn:turnkeep:problem:wrong-state"))
    );
    desk.pause().await;
    desk.says("two").await;
    let twins = (0..8).map(|_| desk.does("reply", named("hello")));
    let twins = soon(futures_util::future::join_all(twins)).await;
    let answers: Vec<Value> = twins.iter().map(Reply::json).collect();
    let first: Vec<_> = answers.iter().filter(|one| one["duplicate"].is_null()).collect();
    assert_eq!((first.len(), &first[0]["result"]), (1, &json!("answered")));
    assert!(answers.iter().all(|one| one["turn_id"] == first[0]["turn_id"]), "{answers:?}");
    let other = desk.does("reply", named("other")).await;
    assert_eq!((other.status, &other.json()["field"]), (422, &json!("id")));

    desk.says("three").await;
    let store = world.store.clone();
    world.end().await;
    let world = World::guarded(store, GuardSettings::default()).await;
    let desk = Desk::of(&world, "default");
    let session = desk.session().await;
    assert_eq!(session["state"], "waiting_for_operator");
    // The key has no other name while there is none.
    assert_eq!(session["paused"]["by"], "Olga");
    desk.does("reply", json!({ "text": "good morning" })).await;
    desk.hand_back().await;
    let again = desk.does("reply", named("hello")).await;
    assert_eq!((again.status, &again.json()["duplicate"]), (200, &json!(true)));
    let said = desk.said().await;
    assert_eq!(
        said[3..],
        ["operatoroperator: hello", "user: three", "operatoroperator: good morning"]
    );
}

#[tokio::test]
async fn a_key_names_whoever_gives_no_name_and_visitors_take_nobodys_place() {
    let world = crate::access::world().await;
    let (send, id) = key(&world, "acme", "send", None).await;
    let (read, _) = key(&world, "acme", "read", None).await;
    let says = json!({ "customer_id": "ann", "message": "hi" });
    let said = call(&world, "POST", "/v1/chat", &send, Some(says)).await.json();
    let address = format!("/v1/sessions/{}", said["session"].as_str().unwrap().replace(':', "%3A"));
    let pause = format!("{address}/pause");
    assert_eq!(call(&world, "POST", &pause, &read, None).await.status, 403);
    let paused = call(&world, "POST", &pause, &send, None).await.json();
    assert_eq!(paused["paused"]["by"], format!("key {id}"));
    let document = world.get("/openapi.json").await.json();
    for deed in ["pause", "hand_back", "reply"] {
        let operation = &document["paths"][format!("/v1/sessions/{{session}}/{deed}")]["post"];
        assert_eq!(operation["x-needs"], "key: send", "{deed}");
    }
}

#[tokio::test]
async fn nobody_takes_a_session_from_another_operator_by_mistake() {
    let world = World::new().await;
    let desk = Desk::of(&world, "default");
    desk.says("one").await;
    desk.pause().await;
    let refused = desk.does("pause", json!({ "by": "Bob" })).await;
    assert_eq!(refused.status, 409);
    let problem = refused.json();
    assert!(problem["type"].as_str().unwrap().ends_with("wrong-state"), "{problem}");
    assert!(problem["detail"].as_str().unwrap().starts_with("Olga has this session"), "{problem}");
    assert_eq!(desk.session().await["paused"]["by"], "Olga");
    // She herself may say it again.
    desk.pause().await;
    let taken = desk.does("pause", json!({ "by": "Bob", "take_over": true })).await;
    assert_eq!((taken.status, &taken.json()["paused"]["by"]), (200, &json!("Bob")));
    let mut watch = world.watch(&events("default", "web", "ann"), &[("last-event-id", "0")]).await;
    watch.until("session.paused").await;
    let paused = watch.until("session.paused").await.pop().unwrap().data;
    assert_eq!((&paused["by"], &paused["from"]), (&json!("Bob"), &json!("Olga")));
    assert_eq!(desk.does("pause", json!({ "by": "Olga" })).await.status, 409);
}

#[tokio::test]
async fn mistakes_name_their_field() {
    let world = World::new().await;
    let desk = Desk::of(&world, "default");
    assert_eq!(desk.does("pause", json!({})).await.status, 404);
    desk.says("one").await;
    let check = async |deed: &str, body: Value, field: &str| {
        let reply = desk.does(deed, body.clone()).await;
        assert_eq!((reply.status, &reply.json()["field"]), (422, &json!(field)), "{deed} {body}");
    };
    check("pause", json!({ "by": "" }), "by").await;
    check("pause", json!({ "by": "x".repeat(65) }), "by").await;
    check("pause", json!({ "who": "Olga" }), "who").await;
    check("hand_back", json!({ "take_over": true }), "take_over").await;
    check("hand_back", json!({ "by": "a\u{7}" }), "by").await;
    check("reply", json!({ "by": "Olga" }), "text").await;
    check("reply", json!({ "text": " " }), "text").await;
    check("reply", json!({ "text": "hi", "by": " " }), "by").await;
    check("reply", json!({ "text": "hi", "id": "" }), "id").await;
    let name = ("idempotency-key", "k");
    let headers = [("content-type", "application/json"), name];
    let address = format!("{}/reply", desk.address());
    let reply = world.call("POST", &address, &headers, r#"{"text":"hi"}"#).await;
    assert_eq!((reply.status, &reply.json()["field"]), (422, &json!("Idempotency-Key")));
}
