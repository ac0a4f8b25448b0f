//! A session as a file: saved whole, loaded as a new one, and nothing made of a broken file.

use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use turnkeep_core::ids::Seq;
use turnkeep_core::import::FILE_BYTES_MAX;
use turnkeep_core::ports::store::Store;
use turnkeep_gateway::Settings;
use turnkeep_stores::MemoryStore;

use crate::kit::{Reply, World, events, path, says, soon};
use crate::overload::GatedStore;

const LINES: &str = "application/x-ndjson";

/// A session saved.
async fn save(world: &World, session: &str) -> String {
    let path = format!("/v1/sessions/{}/file", session.replace(':', "%3A"));
    let reply = world.get(&path).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, LINES), "{}", reply.text());
    reply.text().to_owned()
}

async fn load(world: &World, query: &str, file: impl Into<hyper::body::Bytes>) -> Reply {
    let path = format!("/v1/sessions/file{query}");
    world.call("POST", &path, &[("content-type", LINES)], file).await
}

/// A conversation of a customer: a message, its answer, a new conversation, and one more of each.
async fn conversation(world: &World) -> String {
    world.ask(&says("ann", "default", "web", "before")).await;
    let new = world.post(&format!("{}/new", path("default", "web", "ann")), &json!({})).await;
    assert_eq!(new.status, 200);
    let answer = world.ask(&says("ann", "default", "web", "hello")).await;
    answer["session"].as_str().unwrap().to_owned()
}

async fn messages(world: &World, session: &str) -> Vec<Value> {
    let path = format!("/v1/sessions/{}/messages", session.replace(':', "%3A"));
    world.get(&path).await.json()["messages"].as_array().unwrap().clone()
}

fn texts(messages: &[Value]) -> Vec<(&str, &str)> {
    let one = |message: &'_ Value| {
        let part = |name: &str| message[name].as_str().unwrap().to_owned();
        (part("role"), part("text"))
    };
    let all: Vec<_> = messages.iter().map(one).collect();
    all.into_iter().map(|(role, text)| (&*String::leak(role), &*String::leak(text))).collect()
}

#[tokio::test]
async fn a_session_becomes_a_file_and_a_file_a_session() {
    let world = World::new().await;
    let session = conversation(&world).await;
    let file = save(&world, &session).await;
    let lines: Vec<Value> = file.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [header, entries @ .., end] = &lines[..] else { panic!("{file}") };
    assert_eq!(
        (&header["format"], &header["version"], &header["session"], &header["first_seq"]),
        (&json!("turnkeep.session"), &json!(1), &json!(session), &json!(1))
    );
    assert_eq!((&end["type"], &end["events"]), (&json!("end"), &json!(entries.len())));
    // The entries are those that the stream shows.
    let mut watch = world.watch(&events("default", "web", "ann"), &[]).await;
    for entry in entries {
        assert_eq!(*entry, watch.next().await.unwrap().data);
    }

    let reply = load(&world, "?agent=reciter", file).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let loaded = reply.json();
    let new = loaded["session"].as_str().unwrap();
    assert!(new.starts_with("default:reciter:terminal:main:"), "{new}");
    assert_eq!((&loaded["from"], &loaded["messages"]), (&json!(session), &json!(4)));
    let before = messages(&world, &session).await;
    let after = messages(&world, new).await;
    let expect = [
        ("user", "before"),
        ("agent", "echo: before"),
        ("user", "hello"),
        ("agent", "echo: hello"),
    ];
    assert_eq!(texts(&after), expect);
    let ats = |messages: &[Value]| messages.iter().map(|one| one["at"].clone()).collect::<Vec<_>>();
    assert_eq!(ats(&after), ats(&before), "each stands with the time at which it was said");
    assert!(
        after.iter().all(|message| message["imported"] == true && message["turn_id"].is_null())
    );
    let state = world.get(&format!("/v1/sessions/{}", new.replace(':', "%3A"))).await.json();
    assert_eq!(
        (&state["state"], &state["last_seq"], &state["queued"]),
        (&json!("idle"), &json!(5), &json!(0))
    );

    assert_eq!((&loaded["number"], &loaded["name"]), (&json!(2), &json!(null)));

    // The agent goes on behind the last new conversation.
    let goes_on = json!({ "session": new, "message": "and now?" });
    let answer = world.ask(&goes_on).await;
    assert_eq!(answer["reply"], "User: hello\nAgent: echo: hello");
    world.end().await;
}

/// What was imported is saved and loaded like anything else.
#[tokio::test]
async fn a_loaded_session_is_saved_again_with_what_came_later() {
    let world = World::new().await;
    let file = save(&world, &conversation(&world).await).await;
    let first = load(&world, "", file).await.json()["session"].as_str().unwrap().to_owned();
    world.ask(&json!({ "session": first, "message": "more" })).await;
    let again = load(&world, "?tenant=acme", save(&world, &first).await).await.json();
    let second = again["session"].as_str().unwrap();
    assert!(second.starts_with("acme:default:terminal:main:"), "{second}");
    assert_eq!(again["from"], json!(first));
    let all = messages(&world, second).await;
    let said: Vec<&str> = texts(&all).into_iter().map(|(_, text)| text).collect();
    assert_eq!(said, ["before", "echo: before", "hello", "echo: hello", "more", "echo: more"]);
    world.end().await;
}

#[tokio::test]
async fn nothing_is_made_of_a_broken_file() {
    let world = World::new().await;
    let file = save(&world, &conversation(&world).await).await;
    let count =
        async || world.get("/v1/sessions").await.json()["sessions"].as_array().unwrap().len();
    let before = count().await;
    let check = async |file: String, field: &str, said: &str| {
        let reply = load(&world, "", file).await;
        let problem = reply.json();
        assert_eq!((reply.status, &problem["field"]), (422, &json!(field)), "{problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(said), "{detail}");
    };
    let lines: Vec<&str> = file.lines().collect();
    let last = lines.len();
    check(
        file.replace("echo: hello", "echo: hallo"),
        "sha256",
        &format!("in line {last} is not the hash"),
    )
    .await;
    let cut = lines[..last - 1].join("\n");
    check(cut, "line", &format!("in line {last} is missing: the file was cut off")).await;
    let half = file[..file.len() - 30].to_owned();
    check(half, "line", &format!("in line {last} is no JSON")).await;
    let without_one = [&lines[..3], &lines[4..]].concat().join("\n");
    check(without_one, "seq", "in line 4 is 4, and 3 comes next").await;
    check(file.replacen("\"version\":1", "\"version\":2", 1), "version", "in line 1 is 2").await;
    let untyped = file.replacen("\"text\":\"before\"", "\"text\":7", 1);
    check(untyped, "text", "in line 2 can't be read").await;
    // The built-in limit of a reply, which is longer than that of a message.
    let long = "x".repeat((1 << 20) + 1);
    let text = file.replacen("\"text\":\"before\"", &format!("\"text\":\"{long}\""), 1);
    check(text, "text", "in line 2 has 1048577 bytes, and at most 1048576 are taken").await;
    let reply = file.replacen("echo: before", &long, 1);
    check(reply, "reply", "has 1048577 bytes").await;
    let sender =
        file.replacen("\"sender\":\"ann\"", &format!("\"sender\":\"{}\"", &long[..129]), 1);
    check(sender, "sender", "in line 2 has 129 bytes, and at most 128 are taken").await;
    check(String::new(), "line", "in line 1 is missing").await;

    let reply = load(&world, "?agent=nobody", file.clone()).await;
    assert_eq!((reply.status, &reply.json()["field"]), (422, &json!("agent")));
    let reply = world.post("/v1/sessions/file", &json!({})).await;
    assert_eq!(reply.status, 415, "{}", reply.text());
    assert_eq!(count().await, before, "nothing was made");
    world.end().await;
}

#[tokio::test]
async fn a_file_may_not_be_too_long() {
    let world = World::new().await;
    let reply = load(&world, "", vec![b'x'; FILE_BYTES_MAX + 1]).await;
    assert_eq!(reply.status, 413, "{}", reply.text());
    world.end().await;
}

#[tokio::test]
async fn a_loaded_session_can_be_given_a_name_that_is_free() {
    let world = World::new().await;
    let file = save(&world, &conversation(&world).await).await;
    let loaded = load(&world, "?name=api%20work", file.clone()).await;
    assert_eq!((loaded.status, &loaded.json()["name"]), (201, &json!("api work")));
    let again = save(&world, loaded.json()["session"].as_str().unwrap()).await;
    assert!(again.lines().next().unwrap().contains("\"name\":\"api work\""), "{again}");
    let taken = load(&world, "?name=api%20work", file.clone()).await;
    assert_eq!((taken.status, &taken.json()["field"]), (409, &json!("name")), "{}", taken.text());
    let wrong = load(&world, "?name=12", file).await;
    assert_eq!((wrong.status, &wrong.json()["field"]), (422, &json!("name")));
    let board = world.get("/v1/switchboard").await.json();
    assert_eq!(board["total"], 2, "{board}");
    world.end().await;
}

/// A long one is taken whole, and the journal can be read by pages.
#[tokio::test]
async fn a_long_file_is_taken_in_one_piece() {
    use sha2::{Digest as _, Sha256};
    const MESSAGES: u64 = 3000;
    let world = World::new().await;
    let mut file = json!({ "format": "turnkeep.session", "version": 1, "name": null,
        "saved_at": "2026-05-01T10:00:00Z", "session": "a:b:web:dm:c", "first_seq": 5,
        "last_seq": MESSAGES + 4 })
    .to_string();
    for seq in 5..MESSAGES + 5 {
        let entry = json!({ "seq": seq, "at": seq, "type": "message.accepted", "message_id": "m",
            "sender": "c", "text": format!("message {seq}"), "trust": "public",
            "action": "event_sent" });
        file += &format!("\n{entry}");
    }
    file.push('\n');
    let hash: String =
        Sha256::digest(file.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    file += &json!({ "type": "end", "events": MESSAGES, "sha256": hash }).to_string();
    let loaded = load(&world, "", file).await;
    assert_eq!(loaded.status, 201, "{}", loaded.text());
    let key = loaded.json()["session"].as_str().unwrap().parse().unwrap();
    let page = world.store.events(&key, Seq(2000), 10).await.unwrap();
    assert_eq!(page.first().unwrap().seq, Seq(2001));
    assert_eq!(loaded.json()["messages"], MESSAGES);
    world.end().await;
}

/// Whoever is erased is erased from what was imported, too.
#[tokio::test]
async fn an_erased_customer_is_gone_from_imported_conversations() {
    let world = World::new().await;
    let file = save(&world, &conversation(&world).await).await;
    let loaded = load(&world, "", file).await.json();
    let new = loaded["session"].as_str().unwrap();
    let erased = world.call("DELETE", "/v1/customers/default/ann", &[], "").await;
    assert_eq!(erased.status, 200, "{}", erased.text());
    let left = messages(&world, new).await;
    assert_eq!(left.len(), 4);
    assert!(left.iter().all(|message| message["text"] == ""), "{left:?}");
    let file = save(&world, new).await;
    assert!(!file.contains("ann") && !file.contains("hello"), "{file}");
    world.end().await;
}

/// The status is out by then, so the connection itself has to tell.
#[tokio::test]
async fn a_file_that_breaks_off_is_no_whole_answer() {
    let store = MemoryStore::new();
    let gated = GatedStore::new(&store);
    gated.open();
    let world = World::behind(gated.clone(), store, Settings::default()).await;
    let session = conversation(&world).await;
    save(&world, &session).await;
    gated.tear();
    for path in [
        format!("/v1/sessions/{}/file", session.replace(':', "%3A")),
        "/v1/customers/default/ann/export".to_owned(),
    ] {
        let response = world.open("GET", &path, &[], "").await;
        assert_eq!(response.status(), 200, "{path}");
        let body = soon(response.into_body().collect()).await;
        assert!(body.is_err(), "{path} ends as if it were whole");
    }
    world.end().await;
}
