//! What is asked of the switchboard and done there, and what is refused.

use serde_json::{Value, json};
use turnkeep_core::switchboard::Limits;

use super::{Home, refused};
use crate::access::{call, key};
use crate::kit::{keys, soon};

#[tokio::test]
async fn a_session_is_opened_and_can_be_written_to() {
    let home = Home::new();
    let desk = home.open().await;
    let row = desk.create(json!({ "name": "  api work ", "seat": "tty1" })).await;
    let expected = [
        "active",
        "agent_id",
        "channel",
        "created_at",
        "customer_id",
        "id",
        "kind",
        "last_seq",
        "name",
        "number",
        "queued",
        "read_seq",
        "resources",
        "session",
        "state",
        "touched_at",
        "unread",
        "updated_at",
        "waiting",
    ];
    assert_eq!(keys(&row), expected);
    let of = |field: &str| row[field].clone();
    assert_eq!(
        (of("number"), of("name"), of("state")),
        (json!(1), json!("api work"), json!("idle"))
    );
    assert_eq!(
        (of("kind"), of("channel"), of("unread")),
        (json!("main"), json!("terminal"), json!(0))
    );
    assert_eq!((of("active"), of("waiting")), (json!(["tty1"]), json!(null)));
    let peer = row["customer_id"].as_str().unwrap();
    assert_eq!(row["session"], format!("default:default:terminal:main:{peer}"));
    assert_eq!(row["id"].as_str().unwrap().len(), 12);
    // It is a conversation like any other, from the beginning on.
    let path = format!("/v1/sessions/{}", row["session"].as_str().unwrap());
    let shown = desk.world.get(&path).await.json();
    assert_eq!((&shown["state"], &shown["number"]), (&json!("idle"), &json!(1)));
    assert_eq!(shown["name"], "api work");
    desk.say("1", "hello").await;
    let messages = desk.world.get(&format!("{path}/messages")).await.json();
    assert_eq!(messages["messages"][1]["text"], "echo: hello");
    let listed = desk.world.get("/v1/sessions").await.json();
    assert_eq!(listed["sessions"][0]["name"], "api work");
    let row = desk.row("1").await;
    assert_eq!(
        (&row["unread"], &row["last_seq"], &row["read_seq"]),
        (&json!(1), &json!(4), &json!(0))
    );
    desk.end().await;
}

#[tokio::test]
async fn who_writes_stands_on_the_switchboard() {
    let home = Home::new();
    let desk = home.open().await;
    desk.world.ask(&json!({ "customer_id": "ann", "message": "hi" })).await;
    desk.world.ask(&json!({ "customer_id": "ben", "message": "hi", "tenant_id": "acme" })).await;
    let page = desk.get("").await.json();
    assert_eq!(
        keys(&page),
        ["active", "next", "sessions", "total", "unread", "version", "waiting"]
    );
    assert_eq!(
        (&page["total"], &page["unread"], &page["waiting"]),
        (&json!(1), &json!(1), &json!(0))
    );
    assert_eq!(page["sessions"][0]["session"], "default:default:api:dm:ann");
    assert_eq!(page["sessions"][0]["name"], Value::Null);
    let page = desk.get("?tenant=acme").await.json();
    assert_eq!(page["sessions"][0]["session"], "acme:default:api:dm:ben");
    assert_eq!(page["sessions"][0]["number"], 1);
    // The operator need not say whose session a whole key is.
    let row = desk.row("acme%3Adefault%3Aapi%3Adm%3Aben").await;
    assert_eq!(row["customer_id"], "ben");
    assert_eq!(desk.get("?tenant=nobody").await.json()["sessions"], json!([]));
    desk.end().await;
}

#[tokio::test]
async fn a_session_is_found_by_what_it_is_called() {
    let home = Home::new();
    let desk = home.open().await;
    desk.named(&["api work", "a/b:c", "stats", "über"]).await;
    let row = desk.row("2").await;
    let id = row["id"].as_str().unwrap();
    let key = row["session"].as_str().unwrap();
    for which in ["2", "a%2Fb%3Ac", id, &id[..11], key] {
        assert_eq!(desk.row(which).await["number"], 2, "{which}");
    }
    assert_eq!(desk.row("api%20work").await["number"], 1);
    assert_eq!(desk.row("%C3%BCber").await["number"], 4);
    // Spelt out it is a name, else the address of its own.
    assert_eq!(desk.row("%73tats").await["number"], 3);
    assert!(desk.row("stats").await["sessions"].is_object());
    for which in ["9", "nobody", "%20", "%1b%5B31m", "default:default:api:dm:nobody"] {
        refused(&desk.get(&format!("/{which}")).await, 404, "not-found");
    }
    refused(&desk.get("/1?tenant=acme").await, 404, "not-found");
    desk.end().await;
}

#[tokio::test]
async fn what_may_be_several_is_refused_with_their_names() {
    let home = Home::new();
    let desk = home.open().await;
    // Of so many, two begin alike.
    let mut heads: Vec<(String, u64)> = Vec::new();
    let (head, both) = loop {
        let row = desk.create(json!({})).await;
        let head = row["id"].as_str().unwrap()[..2].to_owned();
        let number = row["number"].as_u64().unwrap();
        let digits = head.bytes().all(|byte| byte.is_ascii_digit());
        match heads.iter().find(|(known, _)| *known == head) {
            // All digits are a number.
            Some((_, first)) if !digits => break (head, [*first, number]),
            _ => heads.push((head, number)),
        }
    };
    let problem = refused(&desk.get(&format!("/{head}")).await, 409, "ambiguous");
    let candidates = problem["candidates"].as_array().unwrap();
    let mut numbers: Vec<u64> =
        candidates.iter().map(|one| one["number"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, both);
    assert_eq!(keys(&candidates[0]), ["id", "name", "number", "session"]);
    let body = json!({ "seat": "tty1" });
    for below in ["switch", "close", "touch", "read"] {
        let body = if below == "switch" { body.clone() } else { json!({}) };
        refused(&desk.post(&format!("/{head}/{below}"), &body).await, 409, "ambiguous");
    }
    refused(&desk.put_name(&head, json!("x")).await, 409, "ambiguous");
    desk.end().await;
}

#[tokio::test]
async fn names_are_checked_and_nobody_elses() {
    let home = Home::new();
    let desk = home.open().await;
    desk.named(&["one", "two"]).await;
    let long = "x".repeat(65);
    for name in ["", "  ", "42", "a\u{1b}[31m", "a\nb", "a\u{202e}b", "a\u{200b}b", &long] {
        let problem = refused(&desk.put_name("1", json!(name)).await, 422, "field");
        assert_eq!(problem["field"], "name", "{name:?}");
        let problem = refused(&desk.post("", &json!({ "name": name })).await, 422, "field");
        assert_eq!(problem["field"], "name", "{name:?}");
    }
    let problem = refused(&desk.put_name("1", json!("two")).await, 409, "name-taken");
    assert_eq!((&problem["field"], &problem["candidates"]), (&json!("name"), &Value::Null));
    refused(&desk.post("", &json!({ "name": "two" })).await, 409, "name-taken");
    // Nothing was opened by what was refused.
    assert_eq!(desk.numbers("").await, [1, 2]);
    assert_eq!(
        desk.world.get("/v1/sessions").await.json()["sessions"].as_array().unwrap().len(),
        2
    );
    let longest = "é".repeat(64);
    assert_eq!(desk.put_name("1", json!(longest)).await.json()["name"], longest);
    assert_eq!(desk.put_name("1", json!("one")).await.status, 200, "its own name again");
    assert_eq!(desk.put_name("1", Value::Null).await.json()["name"], Value::Null);
    assert_eq!(desk.put_name("2", json!("one")).await.json()["name"], "one");
    let other = json!({ "name": "one", "tenant_id": "acme" });
    assert_eq!(desk.create(other).await["number"], 1, "another tenant's names are its own");
    let head = [("content-type", "application/json")];
    let path = "/v1/switchboard/1/name";
    for (body, field) in [("{}", "name"), (r#"{"name":3}"#, "name"), (r#"{"name":"a","b":1}"#, "b")]
    {
        let reply = desk.world.call("PUT", path, &head, body).await;
        assert_eq!(refused(&reply, 422, "field")["field"], field);
    }
    refused(&desk.put_name("9", json!("nine")).await, 404, "not-found");
    let problem = refused(&desk.post("", &json!({ "agent_id": "nobody" })).await, 422, "field");
    assert_eq!(problem["field"], "agent_id");
    desk.end().await;
}

#[tokio::test]
async fn seats_look_and_are_told_what_comes_next() {
    let home = Home::new();
    let desk = home.open().await;
    desk.named(&["one", "two", "three", "four"]).await;
    for seat in ["", "a b", "é", &"x".repeat(65)] {
        let problem =
            refused(&desk.post("/1/switch", &json!({ "seat": seat })).await, 422, "field");
        assert_eq!(problem["field"], "seat");
        let problem = refused(&desk.post("/1/close", &json!({ "seat": seat })).await, 422, "field");
        assert_eq!(problem["field"], "seat");
        refused(&desk.post("", &json!({ "seat": seat })).await, 422, "field");
    }
    assert_eq!(desk.active("tty1").await, Value::Null);
    for which in ["three", "one", "four"] {
        let row = desk.post(&format!("/{which}/switch"), &json!({ "seat": "tty1" })).await;
        assert_eq!(row.json()["active"], json!(["tty1"]));
    }
    desk.post("/four/switch", &json!({ "seat": "other" })).await;
    assert_eq!(desk.row("4").await["active"], json!(["other", "tty1"]));
    assert_eq!(desk.row("1").await["active"], json!([]));
    // What it looked at before is there.
    let done = desk.post("/four/close", &json!({ "seat": "tty1" })).await.json();
    assert_eq!(
        (&done["closed"]["number"], &done["closed"]["state"]),
        (&json!(4), &json!("closed"))
    );
    assert_eq!(done["next"]["number"], 1);
    // The other seat knows no other one, and there is none behind: the one before.
    assert_eq!(desk.active("other").await, 3);
    // What it looked at before that is gone, then what it looked at even before.
    assert_eq!(desk.post("/one/close", &json!({})).await.json()["next"], Value::Null);
    assert_eq!(desk.active("tty1").await, 3);
    assert_eq!(desk.numbers("").await, [2, 3]);
    refused(&desk.get("/4").await, 404, "not-found");
    refused(&desk.post("/one/close", &json!({})).await, 404, "not-found");
    let problem = refused(&desk.post("/1/switch", &json!({})).await, 422, "field");
    assert_eq!(problem["field"], "seat");
    // Closed by its key, it leaves as well.
    let key = desk.row("3").await["session"].as_str().unwrap().to_owned();
    assert_eq!(desk.world.post(&format!("/v1/sessions/{key}/close"), &json!({})).await.status, 200);
    assert_eq!(desk.numbers("").await, [2]);
    assert_eq!(desk.active("tty1").await, 2);
    let closed = desk.world.get(&format!("/v1/sessions/{key}")).await.json();
    assert_eq!((&closed["state"], &closed["number"]), (&json!("closed"), &Value::Null));
    desk.end().await;
}

#[tokio::test]
async fn pages_and_what_is_wanted_of_them() {
    let home = Home::new();
    let desk = home.open().await;
    desk.named(&["one", "two", "three"]).await;
    let asks = json!({ "agent_id": "asker", "name": "asks" });
    desk.create(asks).await;
    let session = desk.row("4").await["session"].clone();
    let asked = json!({ "session": session, "message": "may I?" });
    assert_eq!(desk.world.post("/v1/chat?wait=15", &asked).await.status, 202);
    let page = desk.get("?limit=2").await.json();
    assert_eq!(
        (&page["next"], &page["total"], &page["waiting"]),
        (&json!(2), &json!(4), &json!(1))
    );
    assert_eq!(desk.numbers("?limit=2&after=2").await, [3, 4]);
    assert_eq!(desk.get("?limit=2&after=2").await.json()["next"], Value::Null);
    assert_eq!(desk.numbers("?waiting=true").await, [4]);
    assert_eq!(desk.numbers("?waiting=false&limit=2").await, [1, 2]);
    assert_eq!(desk.numbers("?state=waiting_for_input").await, [4]);
    assert_eq!(desk.numbers("?state=idle&waiting=false").await, [1, 2, 3]);
    let waiting = desk.row("asks").await["waiting"].clone();
    assert_eq!(keys(&waiting), ["kind", "question_id", "since", "text"]);
    assert_eq!(waiting["kind"], "question");
    for query in ["limit=0", "limit=x", "after=-1", "waiting=yes", "state=busy", "seat=a%20b"] {
        let problem = refused(&desk.get(&format!("?{query}")).await, 422, "field");
        assert_eq!(problem["field"], query.split('=').next().unwrap());
    }
    assert_eq!(refused(&desk.get("?x=1").await, 422, "field")["field"], "x");
    for tenant in ["", "a%00b", &"x".repeat(129)] {
        for below in ["", "/1", "/stats", "/events"] {
            let reply = desk.get(&format!("{below}?tenant={tenant}")).await;
            assert_eq!(refused(&reply, 422, "field")["field"], "tenant");
        }
        let reply = desk.post(&format!("/1/touch?tenant={tenant}"), &json!({})).await;
        assert_eq!(refused(&reply, 422, "field")["field"], "tenant");
    }
    let nobody = json!({ "tenant_id": "" });
    assert_eq!(refused(&desk.post("", &nobody).await, 422, "field")["field"], "tenant_id");
    desk.end().await;
}

#[tokio::test]
async fn what_was_read_stays_read() {
    let home = Home::new();
    let desk = home.open().await;
    desk.named(&["one"]).await;
    desk.say("1", "a").await;
    desk.say("1", "b").await;
    assert_eq!(desk.row("1").await["unread"], 2);
    let read = async |body: Value| desk.post("/1/read", &body).await.json();
    let row = read(json!({ "seq": 4 })).await;
    assert_eq!((&row["unread"], &row["read_seq"]), (&json!(1), &json!(4)));
    assert_eq!(read(json!({ "seq": 1 })).await["read_seq"], 4);
    let row = read(json!({ "seq": u64::MAX })).await;
    assert_eq!((&row["unread"], &row["read_seq"]), (&json!(0), &json!(8)));
    desk.say("1", "c").await;
    assert_eq!(read(json!({})).await["unread"], 0);
    assert_eq!(
        refused(&desk.post("/1/read", &json!({ "seq": -1 })).await, 422, "field")["field"],
        "seq"
    );
    refused(&desk.post("/2/read", &json!({})).await, 404, "not-found");
    refused(&desk.post("/2/touch", &json!({})).await, 404, "not-found");
    desk.end().await;
}

#[tokio::test]
async fn idle_sessions_are_put_to_sleep_and_woken() {
    let home = Home::new();
    // What is idle for a moment is idle for long.
    let desk = home.open_with(Limits { hibernate_after_ms: 0, ..Limits::default() }).await;
    desk.named(&["one", "two"]).await;
    let woken = async || desk.post("/1/touch", &json!({})).await.json()["state"].clone();
    // Each for so long as the clock of the machine tells apart.
    let asleep = async {
        while desk.numbers("?state=hibernated").await != [1, 2] {
            let done = desk.post("/cleanup", &json!({})).await.json();
            assert_eq!(done["repaired"], 0, "{done}");
        }
    };
    soon(asleep).await;
    assert_eq!(woken().await, "idle");
    desk.say("2", "good morning").await;
    assert_eq!(desk.row("2").await["state"], "idle");
    let stats = desk.get("/stats").await.json();
    let fields = ["limits", "most_open", "recommendations", "resources", "sessions"];
    assert_eq!(keys(&stats), fields);
    assert_eq!((&stats["sessions"]["total"], &stats["sessions"]["idle"]), (&json!(2), &json!(2)));
    assert_eq!(stats["limits"]["hibernate_after_ms"], 0);
    assert!(stats["resources"]["memory_bytes"].as_u64().is_some());
    desk.end().await;
}

#[tokio::test]
async fn a_full_switchboard_takes_what_makes_room() {
    let home = Home::new();
    let desk = home.open_with(Limits { sessions_max: 2, ..Limits::default() }).await;
    desk.named(&["one"]).await;
    desk.create(json!({})).await;
    // The one without a name leaves, and its conversation stays.
    desk.named(&["three"]).await;
    assert_eq!(desk.numbers("").await, [1, 3]);
    assert_eq!(
        desk.world.get("/v1/sessions").await.json()["sessions"].as_array().unwrap().len(),
        3
    );
    refused(&desk.post("", &json!({ "name": "four" })).await, 409, "full");
    desk.end().await;
}

#[tokio::test]
async fn keys_reach_their_tenants_switchboard_and_no_other() {
    let home = Home::new();
    let desk = home.open().await;
    desk.named(&["default's"]).await;
    desk.create(json!({ "tenant_id": "acme", "name": "acme's" })).await;
    let theirs = desk.row("1").await["session"].as_str().unwrap().to_owned();
    let world = &desk.world;
    let both = key(world, "acme", "read,send", None).await.0;
    let read = key(world, "acme", "read", None).await.0;
    let operator = key(world, "*", "read,send", None).await.0;
    let ask = async |key: &str, method: &str, below: &str, body: Option<Value>| {
        call(world, method, &format!("/v1/switchboard{below}"), key, body).await
    };
    let list = ask(&both, "GET", "", None).await.json();
    assert_eq!((&list["total"], &list["sessions"][0]["name"]), (&json!(1), &json!("acme's")));
    // Told in the same words as what nobody ever opened.
    let there = ask(&both, "GET", &format!("/{theirs}"), None).await;
    let nowhere = ask(&both, "GET", &format!("/{theirs}0"), None).await;
    assert_eq!((there.status, nowhere.status), (404, 404));
    assert_eq!(there.text(), nowhere.text().replace(&format!("{theirs}0"), &theirs));
    for below in ["?tenant=default", "/1?tenant=default", "/stats?tenant=default"] {
        assert_eq!(ask(&both, "GET", below, None).await.status, 404, "{below}");
    }
    assert_eq!(ask(&both, "GET", "/events?tenant=default", None).await.status, 404);
    let foreign = Some(json!({ "tenant_id": "default" }));
    assert_eq!(ask(&both, "POST", "", foreign).await.status, 404);
    let close = format!("/{theirs}/close");
    assert_eq!(ask(&both, "POST", &close, Some(json!({}))).await.status, 404);
    assert_eq!(ask(&both, "POST", "", Some(json!({}))).await.json()["number"], 2);
    refused(&ask(&read, "POST", "", Some(json!({}))).await, 403, "missing-scope");
    refused(&ask(&read, "POST", "/1/touch", None).await, 403, "missing-scope");
    refused(&ask("", "GET", "", None).await, 401, "unauthorized");
    assert_eq!(ask(&operator, "GET", "?tenant=acme", None).await.json()["total"], 2);
    assert_eq!(ask(&operator, "GET", &format!("/{theirs}"), None).await.status, 200);
    // Whoever signed in on the page is a customer, and sees nothing of it.
    let invited = json!({ "customer_id": "ann" });
    let invited = call(world, "POST", "/v1/sign-ins", &both, Some(invited)).await.json();
    let signed_in = world.post("/v1/sign-in", &json!({ "code": invited["code"] })).await;
    let cookie = signed_in.header("set-cookie").split(';').next().unwrap().to_owned();
    for below in ["", "/1", "/stats", "/events"] {
        let path = format!("/v1/switchboard{below}");
        let seen = world.call("GET", &path, &[("cookie", cookie.as_str())], "").await;
        refused(&seen, 403, "missing-scope");
    }
    desk.end().await;
}

#[tokio::test]
async fn where_a_worktree_stands_is_no_tenants_business() {
    let home = Home::new();
    let desk = home.open().await;
    let world = &desk.world;
    let acme = key(world, "acme", "read,send", None).await.0;
    let operator = key(world, "*", "read,send", None).await.0;
    for (asks, told) in [(&acme, false), (&operator, true)] {
        for by_board in [true, false] {
            let made = json!({ "tenant_id": "acme", "agent_id": "broken" });
            let made = call(world, "POST", "/v1/switchboard", &operator, Some(made)).await;
            let made = made.json();
            let session = made["session"].as_str().unwrap().replace(':', "%3A");
            let path = if by_board {
                format!("/v1/switchboard/{session}/close")
            } else {
                format!("/v1/sessions/{session}/close")
            };
            let closed = call(world, "POST", &path, asks, None).await;
            assert_eq!(closed.status, 200, "{}", closed.text());
            let stays = closed.json()["worktree"].as_str().map(str::to_owned);
            let expect = told.then(|| "/srv/secret/0123456789ab stays: it is new".to_owned());
            assert_eq!(stays, expect, "{path}");
        }
    }
    desk.end().await;
}
