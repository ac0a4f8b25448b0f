//! Keeping and forgetting: exports, erasures, and what is too old.

use std::time::Duration;

use serde_json::{Value, json};
use turnkeep_core::access::{Principal, Visit};
use turnkeep_gateway::care::Aged;
use turnkeep_gateway::clock;

use crate::access::{ask, call, key, world};
use crate::kit::{Reply, Watch, World, events, names, path, says, soon};

const DAY_MS: i64 = 24 * 3_600_000;

fn customer(tenant: &str, customer: &str) -> String {
    format!("/v1/customers/{tenant}/{customer}")
}

fn lines(reply: &Reply) -> Vec<Value> {
    assert_eq!((reply.status, reply.header("content-type")), (200, "application/x-ndjson"));
    reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What is exported, between the first line and the last one.
async fn export(world: &World, tenant: &str, name: &str) -> Vec<Value> {
    let reply = world.get(&format!("{}/export", customer(tenant, name))).await;
    let mut all = lines(&reply);
    let end = all.pop().unwrap();
    assert_eq!((&end["line"], &end["lines"]), (&json!("end"), &json!(all.len())));
    let header = all.remove(0);
    assert_eq!(
        (&header["line"], &header["format"], &header["version"]),
        (&json!("header"), &json!("turnkeep-customer"), &json!(1))
    );
    assert_eq!((&header["tenant_id"], &header["customer_id"]), (&json!(tenant), &json!(name)));
    let counted: u64 =
        end["counts"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(counted, all.len() as u64);
    all
}

async fn erase(world: &World, tenant: &str, name: &str) -> Value {
    let reply = world.call("DELETE", &customer(tenant, name), &[], "").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let erased = reply.json();
    assert_eq!((&erased["tenant_id"], &erased["customer_id"]), (&json!(tenant), &json!(name)));
    assert_eq!(erased["scrubbed"], true);
    erased
}

fn texts(lines: &[Value], sort: &str) -> Vec<String> {
    let of_sort = lines.iter().filter(|line| line["line"] == sort);
    of_sort.map(|line| line["text"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn everything_of_a_customer_is_exported_and_nothing_else() {
    let world = World::new().await;
    world.ask(&says("ann", "default", "api", "hello")).await;
    world.ask(&says("ann", "default", "sms", "by phone")).await;
    world.ask(&says("ann", "broken", "api", "to the broken one")).await;
    world.ask(&says("bob", "default", "api", "of bob")).await;
    let team = |who: &str, text: &str| json!({ "session": "default:default:api:group:team", "customer_id": who, "message": text });
    world.ask(&team("ann", "to the team")).await;
    world.ask(&team("bob", "of bob to the team")).await;
    world.post("/v1/restrictions", &json!({ "customer_id": "ann", "severity": "restrict" })).await;
    let all = export(&world, "default", "ann").await;
    let said = texts(&all, "message");
    assert_eq!(
        said,
        [
            "to the broken one",
            "Sorry, I could not answer that. Please try again later.",
            "hello",
            "echo: hello",
            "by phone",
            "echo: by phone",
            "to the team",
            "echo: to the team"
        ]
    );
    let sessions: Vec<&str> = all
        .iter()
        .filter(|line| line["line"] == "session")
        .map(|line| line["session"].as_str().unwrap())
        .collect();
    let own =
        ["default:broken:api:dm:ann", "default:default:api:dm:ann", "default:default:sms:dm:ann"];
    assert_eq!(sessions, own);
    assert_eq!(texts(&all, "delivery"), ["echo: by phone"]);
    assert_eq!(texts(&all, "dead_letter"), ["to the broken one"]);
    assert_eq!(texts(&all, "turn").len(), 4);
    assert_eq!(texts(&all, "restriction").len(), 1);
    assert!(all.iter().all(|line| !line.to_string().contains("bob")), "{all:#?}");
    assert_eq!(export(&world, "default", "nobody").await, [] as [Value; 0]);
}

#[tokio::test]
async fn another_tenants_customers_are_not_there() {
    let world = world().await;
    let (acme, _) = key(&world, "acme", "admin", None).await;
    let (other, _) = key(&world, "other", "admin", None).await;
    for (tenant, key) in [("acme", &acme), ("other", &other)] {
        let says = json!({ "customer_id": "ann", "message": format!("a secret of {tenant}") });
        let path = "/v1/chat?wait=15";
        assert_eq!(call(&world, "POST", path, key, Some(says)).await.status, 200);
    }
    let export = "/v1/customers/acme/ann/export";
    let own = call(&world, "GET", export, &acme, None).await;
    assert!(own.text().contains("a secret of acme") && !own.text().contains("a secret of other"));
    assert_eq!(call(&world, "GET", export, &other, None).await.status, 404);
    assert_eq!(call(&world, "DELETE", "/v1/customers/acme/ann", &other, None).await.status, 404);
    assert_eq!(call(&world, "GET", export, &acme, None).await.text().lines().count(), 6);
    assert_eq!(call(&world, "DELETE", "/v1/customers/acme/ann", &acme, None).await.status, 200);
    assert_eq!(call(&world, "GET", export, &acme, None).await.text().lines().count(), 2);
    let left = call(&world, "GET", "/v1/customers/other/ann/export", &other, None).await;
    assert!(left.text().contains("a secret of other"));
    let blank = call(&world, "DELETE", "/v1/customers/acme/%20", &acme, None).await;
    assert_eq!((blank.status, blank.json()["field"].as_str()), (422, Some("customer")));
}

#[tokio::test]
async fn who_was_erased_is_gone_and_may_come_back() {
    let world = World::new().await;
    world.ask(&says("ann", "default", "api", "a secret")).await;
    let mut named = says("ann", "default", "web", "another secret");
    named["id"] = "m-1".into();
    world.ask(&named).await;
    world.ask(&says("ann", "broken", "api", "a third secret")).await;
    let opted = world.post(&format!("{}/opt-in", path("default", "api", "ann")), &json!({})).await;
    assert_eq!(opted.status, 200, "{}", opted.text());
    world.post("/v1/chat", &says("ann", "patient", "web", "is anybody there?")).await;
    world.gate.begun().await;
    let mut watch = world.watch(&events("patient", "web", "ann"), &[]).await;
    let mut other = world.watch(&events("default", "web", "ann"), &[("last-event-id", "4")]).await;
    let erased = erase(&world, "default", "ann").await;
    let counts = ["sessions", "messages", "cancelled", "blanked", "restrictions", "sign_ins"];
    assert_eq!(counts.map(|name| erased[name].as_u64().unwrap()), [4, 4, 1, 0, 0, 0]);

    // Nobody finds them, under any name.
    for (agent, channel) in [("default", "api"), ("default", "web"), ("broken", "api")] {
        assert_eq!(world.get(&path(agent, channel, "ann")).await.status, 404);
    }
    assert_eq!(export(&world, "default", "ann").await, [] as [Value; 0]);
    assert_eq!(world.get("/v1/deadletters").await.json()["dead_letters"], json!([]));
    let sessions = world.get("/v1/sessions").await.text().to_owned();
    assert!(!sessions.contains(":ann") && sessions.contains("erased"), "{sessions}");

    // Whoever watches is told so, and of what comes then.
    let heard = watch.until("reset").await;
    assert_eq!(heard.last().unwrap().data, json!({ "last_seq": 0 }));
    assert_eq!(other.until("reset").await.len(), 1);
    let back = world.ask(&says("ann", "default", "web", "it is me again")).await;
    assert_eq!(back["session"], "default:default:web:dm:ann");
    let heard = other.until("turn.completed").await;
    assert_eq!((heard[0].id, heard[0].event.as_str()), (Some(1), "message.accepted"));
    let page = world.get(&format!("{}/messages", path("default", "web", "ann"))).await.json();
    assert_eq!(page["messages"].as_array().unwrap().len(), 2);
    assert!(page["first_seq"].is_null(), "{page}");

    // What was sent before is not taken again.
    let twin = world.post("/v1/chat", &named).await;
    assert_eq!((twin.status, &twin.json()["duplicate"]), (202, &json!(true)));
    assert_eq!(erase(&world, "default", "ann").await["sessions"], 1);
    assert_eq!(erase(&world, "default", "ann").await["sessions"], 0);
}

#[tokio::test]
async fn who_waits_for_an_answer_is_told_that_there_is_none() {
    let world = World::new().await;
    let asks = says("ann", "patient", "api", "hi").to_string();
    let headers = [("content-type", "application/json"), ("accept", "text/event-stream")];
    let mut waits = Watch::new(world.open("POST", "/v1/chat", &headers, asks).await);
    world.gate.begun().await;
    assert_eq!(erase(&world, "default", "ann").await["cancelled"], 1);
    let heard = waits.rest().await;
    let settled = heard.last().unwrap();
    assert_eq!((settled.event.as_str(), &settled.data["status"]), ("settled", &json!("cancelled")));
}

#[tokio::test]
async fn what_comes_during_an_erasure_is_erased_or_begins_anew() {
    let world = World::new().await;
    let write = async |writer: usize| {
        for number in 0..30 {
            let agent = if number % 2 == 0 { "default" } else { "patient" };
            let mut says = says("ann", agent, "api", "hi");
            says["id"] = format!("{writer}-{number}").into();
            let taken = world.post("/v1/chat", &says).await;
            assert_eq!(taken.status, 202, "{}", taken.text());
            world.gate.open();
        }
    };
    let erase_often = async {
        let mut messages = 0;
        for _ in 0..15 {
            messages += erase(&world, "default", "ann").await["messages"].as_u64().unwrap();
        }
        messages
    };
    let (_, _, _, gone) = tokio::join!(write(1), write(2), write(3), erase_often);
    let mut left = 0;
    for line in export(&world, "default", "ann").await {
        left += u64::from(line["line"] == "message" && line["role"] == "user");
    }
    assert_eq!(gone + left, 90, "{gone} are gone, {left} are left");
    assert!(gone > 0);
}

#[tokio::test]
async fn of_a_group_only_ones_own_words_go() {
    let world = World::new().await;
    let team = |who: &str, text: &str| json!({ "session": "default:default:api:group:team", "customer_id": who, "message": text });
    for (who, text) in [("bob", "one"), ("ann", "a secret"), ("bob", "two")] {
        world.ask(&team(who, text)).await;
    }
    let erased = erase(&world, "default", "ann").await;
    assert_eq!((&erased["sessions"], &erased["blanked"]), (&json!(0), &json!(1)));
    let page = world.get("/v1/sessions/default%3Adefault%3Aapi%3Agroup%3Ateam/messages").await;
    let page = page.json();
    let said: Vec<&str> = page["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["text"].as_str().unwrap())
        .collect();
    assert_eq!(said, ["one", "echo: one", "", "", "two", "echo: two"]);
    assert_eq!(erase(&world, "default", "ann").await["blanked"], 0);
}

#[tokio::test]
async fn sign_ins_end_and_what_counts_against_somebody_stays() {
    let world = World::new().await;
    world.ask(&says("mallory", "default", "api", "hi")).await;
    let operator = Principal::operator();
    let visit = Visit { tenant: "default".into(), customer: "mallory".into(), agent: None };
    let code = world.access.invite(&operator, visit.clone()).await.unwrap().code;
    let cookie = world.access.sign_in(&code, None).await.unwrap().unwrap().cookie;
    world.access.invite(&operator, visit).await.unwrap();
    assert!(world.access.with_cookie(&cookie, None).await.unwrap().is_some());
    let block = json!({ "customer_id": "mallory", "severity": "block", "reason": "insults" });
    let id = world.post("/v1/restrictions", &block).await.json()["id"].clone();
    let appeal = json!({ "text": "my address is 4 Elm Street" });
    world.post(&format!("/v1/restrictions/{id}/appeal"), &appeal).await;
    let erased = erase(&world, "default", "mallory").await;
    let counts = ["sessions", "restrictions", "sign_ins"];
    assert_eq!(counts.map(|name| erased[name].as_u64().unwrap()), [1, 1, 2]);
    assert!(world.access.with_cookie(&cookie, None).await.unwrap().is_none());
    let left = export(&world, "default", "mallory").await;
    assert_eq!((left.len(), &left[0]["in_force"]), (1, &json!(true)));
    assert!(left[0]["appeal"].is_null(), "{left:?}");
    let refused = world.post("/v1/chat", &says("mallory", "default", "api", "hi")).await;
    assert_eq!(refused.status, 403);
}

#[tokio::test]
async fn an_erasure_tells_how_far_it_is() {
    let world = world().await;
    let (admin, _) = key(&world, "default", "admin", None).await;
    let says = json!({ "customer_id": "ann", "message": "hi" });
    call(&world, "POST", "/v1/chat?wait=15", &admin, Some(says)).await;
    let bearer = format!("Bearer {admin}");
    let headers = [("accept", "application/x-ndjson"), ("authorization", bearer.as_str())];
    let reply = world.call("DELETE", &customer("default", "ann"), &headers, "").await;
    let mut told = lines(&reply);
    let erased = told.pop().unwrap();
    assert_eq!((&erased["type"], &erased["sessions"]), (&json!("erased"), &json!(1)));
    assert!(told.iter().all(|line| line["type"] == "progress" && line["step"].is_string()));
    // Whoever may not is refused before anything begins.
    let (read, _) = key(&world, "default", "read", None).await;
    let refused = ask(&world, "DELETE", &customer("default", "ann"), &read, "").await;
    assert_eq!(refused.status(), 403);
}

#[tokio::test]
async fn what_is_too_old_is_forgotten_and_what_is_open_stays() {
    let world = World::new().await;
    let brief = |customer: &str, agent: &str, text: &str| {
        let mut says = says(customer, agent, "web", text);
        says["tenant_id"] = "brief".into();
        says
    };
    for text in ["one", "two"] {
        world.ask(&brief("ann", "default", text)).await;
        world.ask(&says("ann", "default", "web", text)).await;
    }
    world.ask(&brief("ann", "broken", "to the broken one")).await;
    world.post("/v1/chat", &brief("ann", "patient", "is anybody there?")).await;
    world.gate.begun().await;
    let now = clock::now();
    let look = async |days: i64| {
        let looked = world.gateway.forget_old(now + days * DAY_MS, Duration::ZERO);
        soon(looked).await.unwrap()
    };
    assert_eq!(look(29).await, Aged::default());
    assert_eq!(look(31).await, Aged { sessions: 2, messages: 3, broken: 0 });
    assert_eq!(look(31).await, Aged::default());
    assert_eq!(world.get("/v1/deadletters").await.json()["dead_letters"], json!([]));

    let session = "/v1/sessions/brief%3Adefault%3Aweb%3Adm%3Aann";
    assert_eq!(world.get(session).await.json()["last_seq"], 8);
    let page = world.get(&format!("{session}/messages")).await.json();
    assert_eq!(page, json!({ "messages": [], "next": null, "first_seq": 9 }));
    assert_eq!(world.get(&format!("{session}/turns")).await.json()["turns"], json!([]));
    let kept = world.get(&format!("{}/messages", path("default", "web", "ann"))).await.json();
    assert_eq!(kept["messages"].as_array().unwrap().len(), 4);
    let events = format!("{session}/events");
    let mut missed = world.watch(&events, &[("last-event-id", "3")]).await;
    let reset = missed.next().await.unwrap();
    assert_eq!(
        (reset.event.as_str(), reset.data),
        ("reset", json!({ "last_seq": 8, "first_seq": 9 }))
    );
    let mut first = world.watch(&events, &[]).await;
    world.ask(&brief("ann", "default", "three")).await;
    for watch in [&mut missed, &mut first] {
        let heard = watch.until("turn.completed").await;
        assert_eq!(heard[0].id, Some(9), "{:?}", names(&heard));
    }

    // How the first one ended is not known any more to whoever sends it again.
    let mut named = brief("bob", "default", "one");
    named["id"] = "m-1".into();
    world.ask(&named).await;
    look(31).await;
    let headers = [("content-type", "application/json"), ("accept", "text/event-stream")];
    let twin = world.open("POST", "/v1/chat", &headers, named.to_string()).await;
    assert_eq!(names(&Watch::new(twin).rest().await), ["accepted", "reset"]);

    world.gate.open();
    let open = "/v1/sessions/brief%3Apatient%3Aweb%3Adm%3Aann";
    let mut watch = world.watch(&format!("{open}/events"), &[]).await;
    let heard = watch.until("turn.completed").await;
    assert_eq!(
        (heard[0].id, &heard.last().unwrap().data["reply"]),
        (Some(1), &json!("echo: is anybody there?"))
    );
}
