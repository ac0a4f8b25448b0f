//! Jobs and reminders over the API.

use serde_json::{Value, json};

use crate::access::{call, key, world};
use crate::kit::{World, soon};

fn job(name: &str) -> Value {
    json!({ "name": name, "schedule": "0 7 * * mon-fri", "zone": "Europe/Berlin",
            "prompt": "what is new?", "customer_id": "ann", "channel": "web" })
}

/// What was told to Ann, once it is so many.
async fn told(world: &World, session: &str, count: usize) -> Vec<String> {
    let path = format!("/v1/sessions/{}/messages", session.replace(':', "%3A"));
    let read = async {
        loop {
            let page = world.get(&path).await;
            let page = if page.status == 200 { page.json() } else { json!({ "messages": [] }) };
            let found = page["messages"].as_array().unwrap().clone();
            if found.len() >= count {
                return found.iter().map(|one| one["text"].as_str().unwrap().to_owned()).collect();
            }
            tokio::task::yield_now().await;
        }
    };
    soon(read).await
}

#[tokio::test]
async fn a_job_is_made_run_paused_and_removed() {
    let world = World::new().await;
    let made = world.post("/v1/cron", &job("news")).await;
    assert_eq!(made.status, 201);
    let made = made.json();
    assert_eq!(made["session"], "default:default:web:dm:ann");
    assert_eq!(made["made_by"], "api");
    assert!(made["next_local"].as_str().unwrap().contains(" 07:00:00 +0"), "{made}");
    assert_eq!(world.post("/v1/cron", &job("news")).await.status, 201);
    let mut other = job("news");
    other["prompt"] = json!("and now?");
    let refused = world.post("/v1/cron", &other).await;
    assert_eq!(
        (refused.status, &refused.json()["type"]),
        (409, &json!("urn:turnkeep:problem:exists"))
    );

    let run = world.post("/v1/cron/news/run", &json!({})).await;
    assert_eq!((run.status, &run.json()["result"]), (202, &json!("started")));
    let session = made["session"].as_str().unwrap();
    assert_eq!(told(&world, session, 1).await, ["echo: what is new?"]);

    let paused = world.post("/v1/cron/news/pause", &json!({})).await.json();
    assert_eq!((&paused["paused"], &paused["next"]), (&json!(true), &Value::Null));
    let times = world.get("/v1/cron/news/times?limit=3").await.json();
    assert_eq!(times["next"].as_array().unwrap().len(), 3);
    assert_eq!((&times["zone"], &times["paused"]), (&json!("Europe/Berlin"), &json!(true)));
    let resumed = world.post("/v1/cron/news/resume", &json!({})).await.json();
    assert_eq!((&resumed["paused"], &resumed["next"]), (&json!(false), &made["next"]));
    let listed = world.get("/v1/cron").await.json();
    assert_eq!(listed["jobs"][0]["name"], "news");
    assert_eq!(listed["jobs"].as_array().unwrap().len(), 1);

    let gone = world.call("DELETE", "/v1/cron/news", &[], "").await;
    assert_eq!((gone.status, &gone.json()["result"]), (200, &json!("removed")));
    for (method, path) in [
        ("DELETE", "/v1/cron/news"),
        ("POST", "/v1/cron/news/run"),
        ("POST", "/v1/cron/news/pause"),
        ("GET", "/v1/cron/news/times"),
    ] {
        assert_eq!(world.call(method, path, &[], "").await.status, 404, "{method} {path}");
    }
}

#[tokio::test]
async fn a_reminder_is_made_told_and_cancelled() {
    let world = World::new().await;
    let wish = |more: Value| {
        let mut body = json!({ "text": "the oven", "customer_id": "ann", "channel": "web" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let soon_due = world.post("/v1/reminders", &wish(json!({ "in_seconds": 3600 }))).await;
    assert_eq!(soon_due.status, 201);
    let now = jiff::Timestamp::from_millisecond(turnkeep_gateway::clock::now()).unwrap();
    let year = now.to_zoned(jiff::tz::TimeZone::UTC).year() + 4;
    let far = wish(json!({ "at": format!("{year}-01-01T18:30:00+01:00") }));
    let far = world.post("/v1/reminders", &far).await.json();
    assert_eq!(far["next"], format!("{year}-01-01T17:30:00.000Z"));
    let listed = world.get("/v1/reminders").await.json();
    let names: Vec<&Value> =
        listed["reminders"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, [&soon_due.json()["name"], &far["name"]]);
    // They are no jobs.
    assert_eq!(world.get("/v1/cron").await.json()["jobs"], json!([]));
    let path = format!("/v1/reminders/{}", far["name"].as_str().unwrap());
    let as_job = path.replace("reminders", "cron");
    assert_eq!(world.call("DELETE", &as_job, &[], "").await.status, 404);
    let gone = world.call("DELETE", &path, &[], "").await.json();
    assert_eq!(gone["result"], "cancelled");
    assert_eq!(world.call("DELETE", &path, &[], "").await.status, 404);
    // Its time comes.
    world.gateway.look_at_schedule(turnkeep_gateway::clock::now() + 3_600_000).await;
    assert_eq!(told(&world, "default:default:web:dm:ann", 1).await, ["the oven"]);
}

#[tokio::test]
async fn mistakes_name_their_field() {
    let world = World::new().await;
    let check = async |path: &str, mut body: Value, change: Value, field: &str| {
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let refused = world.post(path, &body).await;
        assert_eq!(refused.status, 422, "{body}");
        assert_eq!(refused.json()["field"], field, "{body}");
    };
    for (change, field) in [
        (json!({ "name": "a b" }), "name"),
        (json!({ "schedule": "* *" }), "schedule"),
        (json!({ "schedule": "0 0 31 2 *" }), "schedule"),
        (json!({ "zone": "Mars" }), "zone"),
        (json!({ "text": "x" }), "text"),
        (json!({ "prompt": "" }), "prompt"),
        (json!({ "misfire": "maybe" }), "misfire"),
        (json!({ "overlap": "maybe" }), "overlap"),
        (json!({ "agent_id": "nobody" }), "agent_id"),
        (json!({ "to": "alice" }), "to"),
        (json!({ "channel": null }), "channel"),
        (json!({ "channel": "pigeon" }), "session"),
        (json!({ "customer_id": null, "to": "nobody" }), "to"),
        (json!({ "customer_id": null, "session": "nonsense" }), "session"),
        (json!({ "colour": "red" }), "colour"),
    ] {
        check("/v1/cron", job("news"), change, field).await;
    }
    let reminder = json!({ "text": "x", "customer_id": "ann", "channel": "web" });
    for (change, field) in [
        (json!({}), "at"),
        (json!({ "at": "tomorrow" }), "at"),
        (json!({ "at": "2001-01-01T00:00:00Z" }), "at"),
        (json!({ "at": "2031-01-01T00:00:00Z", "in_seconds": 5 }), "in_seconds"),
        (json!({ "in_seconds": 9_000_000_000_u64 }), "at"),
    ] {
        check("/v1/reminders", reminder.clone(), change, field).await;
    }
}

#[tokio::test]
async fn a_tenants_jobs_are_its_own() {
    let world = world().await;
    let (acme, _) = key(&world, "acme", "admin", None).await;
    let (other, _) = key(&world, "other", "admin", None).await;
    let made = call(&world, "POST", "/v1/cron", &acme, Some(job("news"))).await;
    assert_eq!((made.status, &made.json()["tenant_id"]), (201, &json!("acme")));
    let listed = async |key: &str| {
        let page = call(&world, "GET", "/v1/cron", key, None).await.json();
        page["jobs"].as_array().unwrap().len()
    };
    assert_eq!((listed(&acme).await, listed(&other).await), (1, 0));
    let (method, path) = ("POST", "/v1/cron/news/run");
    assert_eq!(call(&world, method, path, &other, None).await.status, 404);
    let asked = format!("{path}?tenant_id=acme");
    assert_eq!(call(&world, method, &asked, &other, None).await.status, 404);
    // Nobody tells another tenant's people anything.
    let mut theirs = job("theirs");
    theirs["customer_id"] = Value::Null;
    theirs["channel"] = Value::Null;
    theirs["session"] = json!("acme:default:web:dm:ann");
    let refused = call(&world, "POST", "/v1/cron", &other, Some(theirs)).await;
    assert_eq!((refused.status, &refused.json()["field"]), (422, &json!("session")));
    assert_eq!(call(&world, method, path, &acme, None).await.status, 202);
}
