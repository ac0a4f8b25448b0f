//! Who is let in: rates, abuse, and what a person can do about it.

use std::time::Instant;

use serde_json::{Value, json};
use turnkeep_core::guard::{Rate, Severity};
use turnkeep_gateway::guard::{GuardSettings, Words};
use turnkeep_stores::MemoryStore;

use crate::kit::{Reply, World, came_back, keys};

fn from(tenant: &str, customer: &str, text: &str) -> Value {
    json!({ "tenant_id": tenant, "customer_id": customer, "message": text })
}

fn named(tenant: &str, customer: &str, id: &str) -> Value {
    json!({ "tenant_id": tenant, "customer_id": customer, "message": id, "id": id })
}

/// What was said to it: the status, and the reason of a refusal.
fn told(reply: &Reply) -> (u16, String) {
    let reason = reply.json()["rejection_reason"].as_str().unwrap_or_default().to_owned();
    (reply.status, reason)
}

fn refused(status: u16, reason: &str) -> (u16, String) {
    (status, reason.to_owned())
}

impl World {
    async fn says(&self, tenant: &str, customer: &str, text: &str) -> (u16, String) {
        told(&self.post("/v1/chat", &from(tenant, customer, text)).await)
    }

    /// How much stands in a session's journal.
    async fn store_seq(&self, path: &str, key: &str) -> u64 {
        let session = crate::access::call(self, "GET", path, key, None).await;
        session.json()["last_seq"].as_u64().unwrap()
    }

    async fn restrictions(&self, query: &str) -> Vec<Value> {
        let page = self.get(&format!("/v1/restrictions{query}")).await;
        assert_eq!(page.status, 200, "{}", page.text());
        page.json()["restrictions"].as_array().unwrap().clone()
    }
}

fn strict() -> GuardSettings {
    GuardSettings {
        flood_factor: 2,
        repeats_max: 3,
        repeats_severity: Severity::Restrict,
        links_max: 3,
        links_severity: Severity::Block,
        words: Words::new(&["cheap pills".to_owned()], &[r"\b\d{16}\b".to_owned()]).unwrap(),
        terms_severity: Severity::Permanent,
        patterns_severity: Severity::Monitor,
        ..GuardSettings::default()
    }
}

async fn guarded(settings: GuardSettings) -> World {
    World::guarded(MemoryStore::new(), settings).await
}

#[tokio::test]
async fn a_customer_who_is_too_fast_is_told_when_to_come_back() {
    let world = World::new().await;
    for number in 0..3 {
        assert_eq!(world.says("slow", "mallory", &format!("{number}")).await, refused(202, ""));
    }
    let reply = world.post("/v1/chat", &from("slow", "mallory", "one more")).await;
    assert_eq!(told(&reply), refused(429, "rate_limit_exceeded"));
    let problem = reply.json();
    assert_eq!(
        (problem["action"].as_str(), problem["title"].as_str()),
        (Some("rejected"), Some("Rate limit exceeded"))
    );
    let after = problem["retry_after_s"].as_u64().unwrap();
    assert!((1..=60).contains(&after), "{after}");
    assert_eq!(reply.header("retry-after"), after.to_string());
    // Nobody else notices, not even of the same name elsewhere.
    assert_eq!(world.says("slow", "anna", "hi").await, refused(202, ""));
    assert_eq!(world.says("default", "mallory", "hi").await, refused(202, ""));
}

#[tokio::test]
async fn a_tenants_customers_share_its_rate() {
    let world = World::new().await;
    for customer in ["anna", "ben", "cleo"] {
        assert_eq!(world.says("crowd", customer, "hi").await, refused(202, ""));
    }
    assert_eq!(world.says("crowd", "dora", "hi").await, refused(429, "rate_limit_exceeded"));
    assert_eq!(world.says("default", "dora", "hi").await, refused(202, ""));
}

#[tokio::test]
async fn everybody_shares_one_rate_and_a_refusal_costs_nothing_elsewhere() {
    let settings = GuardSettings { global_rate: Rate::new(1, 4), ..GuardSettings::default() };
    let world = guarded(settings).await;
    for number in 0..3 {
        assert_eq!(world.says("slow", "mallory", &format!("{number}")).await, refused(202, ""));
    }
    // Her own rate refuses these, so everybody's still has one left.
    for number in 0..5 {
        let told = world.says("slow", "mallory", &format!("more {number}")).await;
        assert_eq!(told, refused(429, "rate_limit_exceeded"));
    }
    assert_eq!(world.says("slow", "anna", "hi").await, refused(202, ""));
    for number in 0..5 {
        // Everybody's rate refuses these, so her own keeps its three.
        let told = world.says("slow", "ben", &format!("{number}")).await;
        assert_eq!(told, refused(429, "rate_limit_exceeded"));
    }
}

#[tokio::test]
async fn a_twin_of_an_accepted_message_gets_its_first_decision_while_its_sender_is_limited() {
    let world = World::new().await;
    let first = world.post("/v1/chat", &named("slow", "mallory", "one")).await.json();
    for id in ["two", "three"] {
        assert_eq!(world.post("/v1/chat", &named("slow", "mallory", id)).await.status, 202);
    }
    let limited = world.post("/v1/chat", &named("slow", "mallory", "four")).await;
    assert_eq!(told(&limited), refused(429, "rate_limit_exceeded"));
    let twin = world.post("/v1/chat", &named("slow", "mallory", "one")).await;
    assert_eq!((twin.status, twin.json()["duplicate"].as_bool()), (202, Some(true)));
    assert_eq!(twin.json()["turn_id"], first["turn_id"]);
    // What was refused left no trace, and another body under a known id is still told so.
    let again = world.post("/v1/chat", &named("slow", "mallory", "four")).await;
    assert_eq!(told(&again), refused(429, "rate_limit_exceeded"));
    let forged =
        json!({ "tenant_id": "slow", "customer_id": "mallory", "message": "x", "id": "one" });
    assert_eq!(told(&world.post("/v1/chat", &forged).await), refused(422, "message_id_reused"));
    let messages = world.get("/v1/sessions/slow%3Adefault%3Aapi%3Adm%3Amallory/messages").await;
    let said = messages.json()["messages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|message| message["role"] == "user")
        .count();
    assert_eq!(said, 3);
}

#[tokio::test]
async fn who_is_refused_from_the_start_leaves_no_session() {
    let settings = GuardSettings { global_rate: Rate::new(1, 1), ..GuardSettings::default() };
    let world = guarded(settings).await;
    assert_eq!(world.says("default", "anna", "hi").await, refused(202, ""));
    let refusal = world.post("/v1/chat", &named("default", "ben", "one")).await;
    assert_eq!(told(&refusal), refused(429, "rate_limit_exceeded"));
    assert_eq!(world.says("default", "cleo", "hi").await, refused(429, "rate_limit_exceeded"));
    let sessions = world.get("/v1/sessions").await.json();
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 1, "{sessions}");
}

#[tokio::test]
async fn looking_up_twins_has_its_own_bound() {
    let world = World::new().await;
    for id in ["one", "two", "three"] {
        assert_eq!(world.post("/v1/chat", &named("slow", "mallory", id)).await.status, 202);
    }
    let (mut known, since) = (0, Instant::now());
    for _ in 0..40 {
        let twin = world.post("/v1/chat", &named("slow", "mallory", "one")).await;
        match twin.status {
            202 => known += 1,
            status => assert_eq!(status, 429),
        }
    }
    assert!((30..=30 + came_back(since, 2)).contains(&known), "{known}");
}

#[tokio::test]
async fn a_flood_is_restricted() {
    // Her rate lets four in in a minute; what comes faster than one a second is a flood.
    let world = guarded(strict()).await;
    let mut reasons = Vec::new();
    for number in 0..61 {
        reasons.push(world.says("slow", "mallory", &number.to_string()).await.1);
    }
    assert_eq!(reasons[..3], ["", "", ""]);
    assert!(reasons[3..60].iter().all(|reason| reason == "rate_limit_exceeded"), "{reasons:?}");
    assert_eq!(reasons[60], "abuse_detected:flooding");
    let [made] = &world.restrictions("").await[..] else { panic!() };
    assert_eq!(
        keys(made),
        [
            "appeal",
            "appealed_at",
            "customer_id",
            "id",
            "in_force",
            "lifted_at",
            "lifted_by",
            "reason",
            "severity",
            "since",
            "tenant_id",
            "type",
            "until"
        ]
    );
    assert_eq!(
        (made["severity"].as_str(), made["type"].as_str()),
        (Some("restrict"), Some("flooding"))
    );
    assert_eq!(made["reason"], "61 messages in a minute; the rate lets 4 in");
    assert_eq!(made["in_force"], true);
}

#[tokio::test]
async fn who_is_restricted_may_write_ten_a_minute() {
    let world = guarded(GuardSettings::default()).await;
    let body = json!({ "customer_id": "mallory", "severity": "restrict", "reason": "loud" });
    let made = world.post("/v1/restrictions", &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let mut last = Instant::now();
    assert_eq!(world.says("default", "mallory", "one").await, refused(202, ""));
    let second = world.limited(&from("default", "mallory", "two"), &mut last, 6).await;
    assert_eq!(told(&second), refused(429, "rate_limit_exceeded"));
    let after = second.json()["retry_after_s"].as_u64().unwrap();
    assert!((1..=6).contains(&after), "{after}");
    // Another channel of hers gives nothing more, whatever its own rate is.
    let elsewhere = json!({ "customer_id": "mallory", "channel": "web", "message": "three" });
    let told = told(&world.limited(&elsewhere, &mut last, 6).await);
    assert_eq!(told, refused(429, "rate_limit_exceeded"));
    assert_eq!(world.says("default", "anna", "hi").await, refused(202, ""));
}

#[tokio::test]
async fn a_finding_takes_nothing_from_what_a_person_decided() {
    let settings = GuardSettings {
        words: Words::new(&["cheap pills".to_owned()], &[]).unwrap(),
        terms_severity: Severity::Block,
        ..GuardSettings::default()
    };
    let world = guarded(settings).await;
    let body = json!({ "customer_id": "mallory", "severity": "restrict", "hours": 720 });
    let made = world.post("/v1/restrictions", &body).await.json();
    let told = world.says("default", "mallory", "cheap pills").await;
    assert_eq!(told, refused(403, "abuse_detected:term"));
    let [one] = &world.restrictions("").await[..] else { panic!() };
    assert_eq!((one["severity"].as_str(), &one["until"]), (Some("block"), &made["until"]));
}

/// The path of somebody's session, and the cookie of whoever signs in as that customer.
async fn visitor(world: &World, tenant: &str, customer: &str) -> (String, String) {
    let invite = json!({ "tenant_id": tenant, "customer_id": customer });
    let invited = world.post("/v1/sign-ins", &invite).await;
    assert_eq!(invited.status, 201, "{}", invited.text());
    let code = json!({ "code": invited.json()["code"] });
    let signed_in = world.post("/v1/sign-in", &code).await;
    let cookie = signed_in.header("set-cookie").split(';').next().unwrap().to_owned();
    (format!("/v1/sessions/{tenant}%3Adefault%3Aweb%3Adm%3A{customer}"), cookie)
}

/// Whoever signed in does something to their session.
async fn steers(world: &World, (path, cookie): &(String, String), what: &str) -> Reply {
    let body = if what == "queue" { r#"{"busy_policy": null}"# } else { "{}" };
    let site = ("sec-fetch-site", "same-origin");
    let headers = [("cookie", cookie.as_str()), site, ("content-type", "application/json")];
    world.call("POST", &format!("{path}/{what}"), &headers, body).await
}

#[tokio::test]
async fn a_blocked_visitor_can_only_stop() {
    let world = World::new().await;
    let mallory = visitor(&world, "default", "mallory").await;
    let (key, _) = crate::access::key(&world, "default", "admin", None).await;
    let call = async |path: &str, body: Value| {
        crate::access::call(&world, "POST", path, &key, Some(body)).await.status
    };
    assert_eq!(steers(&world, &mallory, "opt-in").await.status, 200);
    let body = json!({ "customer_id": "mallory", "severity": "permanent" });
    assert_eq!(call("/v1/restrictions", body).await, 201);
    let last = world.store_seq(&mallory.0, &key).await;
    for what in ["opt-in", "opt-out", "new", "close", "queue", "typing"] {
        let reply = steers(&world, &mallory, what).await;
        assert_eq!(told(&reply), refused(403, "abuse_detected:manual"), "{what}");
    }
    assert_eq!(steers(&world, &mallory, "stop").await.status, 200);
    assert_eq!(world.store_seq(&mallory.0, &key).await, last, "nothing was written");
    // Their backend isn't blocked.
    assert_eq!(call(&format!("{}/new", mallory.0), json!({})).await, 200);
}

#[tokio::test]
async fn steering_counts_on_the_rate_of_whoever_steers() {
    let world = World::new().await;
    let anna = visitor(&world, "slow", "anna").await;
    let (key, _) = crate::access::key(&world, "*", "admin", None).await;
    let call = async |path: &str, body: Value| {
        crate::access::call(&world, "POST", path, &key, Some(body)).await
    };
    for what in ["opt-in", "opt-out", "new"] {
        assert_eq!(steers(&world, &anna, what).await.status, 200, "{what}");
    }
    for what in ["opt-in", "opt-out", "new", "close", "queue"] {
        let reply = steers(&world, &anna, what).await;
        assert_eq!(told(&reply), refused(429, "rate_limit_exceeded"), "{what}");
        assert_eq!(reply.header("retry-after"), reply.json()["retry_after_s"].to_string());
    }
    // Typing is counted apart, so it takes nothing from what she has to say.
    let typed = [
        steers(&world, &anna, "typing").await.status,
        steers(&world, &anna, "typing").await.status,
        steers(&world, &anna, "typing").await.status,
        steers(&world, &anna, "typing").await.status,
    ];
    assert_eq!(typed, [204, 204, 204, 429]);
    // Whoever wrote too much can still stop what runs, as often as they may write.
    let mut stopped = Vec::new();
    for _ in 0..4 {
        stopped.push(steers(&world, &anna, "stop").await.status);
    }
    assert_eq!(stopped, [200, 200, 200, 429]);
    // A backend meets its tenant's rate alone, as does what it tells customers unasked.
    assert_eq!(call(&format!("{}/new", anna.0), json!({})).await.status, 200);
    let path = "/v1/sessions/crowd%3Adefault%3Aweb%3Adm%3Aben";
    assert_eq!(call(&format!("{path}/opt-in"), json!({})).await.status, 200);
    let tells = |id: &str| json!({ "tenant_id": "crowd", "customer_id": "ben", "channel": "web", "text": "hi", "id": id });
    for id in ["one", "two"] {
        assert_eq!(call("/v1/messages", tells(id)).await.status, 202);
    }
    for (path, body) in [
        ("/v1/messages".to_owned(), tells("three")),
        (format!("{path}/new"), json!({})),
        (format!("{path}/opt-out"), json!({})),
        ("/v1/chat".to_owned(), from("crowd", "cleo", "hi")),
    ] {
        let reply = call(&path, body).await;
        assert_eq!(told(&reply), refused(429, "rate_limit_exceeded"), "{path}");
    }
}

#[tokio::test]
async fn what_a_message_says_is_judged() {
    let world = guarded(strict()).await;
    let check = async |customer: &str, texts: &[&str], expect: (u16, &str)| {
        let mut last = refused(0, "");
        for text in texts {
            last = world.says("default", customer, text).await;
        }
        assert_eq!(last, refused(expect.0, expect.1), "{customer}");
    };
    check("bore", &["buy", "Buy!", "BUY"], (202, "")).await;
    check("bore", &["b.u.y."], (403, "abuse_detected:repeated_text")).await;
    check("linker", &["http://a.example http://b.example", "www.c.example"], (202, "")).await;
    check("linker", &["https://d.example"], (403, "abuse_detected:links")).await;
    check("linker", &["now something else"], (403, "abuse_detected:links")).await;
    check("seller", &["the CHEAP  pills!"], (403, "abuse_detected:term")).await;
    check("seller", &["hello"], (403, "abuse_detected:term")).await;
    check("payer", &["my card is 4111111111111111"], (202, "")).await;
    let made = world.restrictions("").await;
    let made: Vec<(&str, &str)> = made
        .iter()
        .map(|one| (one["customer_id"].as_str().unwrap(), one["severity"].as_str().unwrap()))
        .collect();
    assert_eq!(made, [("bore", "restrict"), ("linker", "block"), ("seller", "permanent")]);
}

#[tokio::test]
async fn what_was_written_stands_in_no_restriction() {
    let world = guarded(strict()).await;
    world.says("default", "seller", "secret cheap pills").await;
    let page = world.get("/v1/restrictions").await;
    assert!(page.text().contains("seller") && !page.text().contains("pills"), "{}", page.text());
}

#[tokio::test]
async fn a_block_survives_a_restart_until_it_is_lifted() {
    let store = MemoryStore::new();
    let world = World::guarded(store.clone(), GuardSettings::default()).await;
    assert_eq!(world.post("/v1/chat", &named("default", "mallory", "one")).await.status, 202);
    let body =
        json!({ "customer_id": "mallory", "severity": "block", "reason": "rude", "hours": 48 });
    let made = world.post("/v1/restrictions", &body).await.json();
    let blocked = refused(403, "abuse_detected:manual");
    assert_eq!(world.says("default", "mallory", "hi").await, blocked);
    world.end().await;

    let world = World::guarded(store.reopen(), GuardSettings::default()).await;
    assert_eq!(world.says("default", "mallory", "hi").await, blocked);
    assert_eq!(world.says("default", "anna", "hi").await, refused(202, ""));
    // What was accepted before stays accepted.
    let twin = world.post("/v1/chat", &named("default", "mallory", "one")).await;
    assert_eq!((twin.status, twin.json()["duplicate"].as_bool()), (202, Some(true)));

    let path = format!("/v1/restrictions/{}", made["id"]);
    let appeal = json!({ "text": "it was my brother" });
    let appealed = world.post(&format!("{path}/appeal"), &appeal).await;
    assert_eq!(
        (appealed.status, appealed.json()["appeal"].as_str()),
        (200, Some("it was my brother"))
    );
    assert_eq!(world.says("default", "mallory", "hi").await, blocked, "an appeal lifts nothing");
    let lifted = world.post(&format!("{path}/lift"), &json!({ "by": "anna" })).await.json();
    assert_eq!(
        (lifted["in_force"].as_bool(), lifted["lifted_by"].as_str()),
        (Some(false), Some("anna"))
    );
    assert_eq!(world.says("default", "mallory", "hi").await, refused(202, ""));
    assert!(world.restrictions("").await.is_empty());
    assert_eq!(world.restrictions("?all=true").await, std::slice::from_ref(&lifted));
    assert_eq!(world.get(&path).await.json(), lifted);
    world.end().await;

    let world = World::guarded(store.reopen(), GuardSettings::default()).await;
    assert_eq!(world.says("default", "mallory", "hi").await, refused(202, ""));
}

#[tokio::test]
async fn a_new_restriction_takes_the_place_of_the_old_one() {
    let world = World::new().await;
    let restrict = async |severity: &str| {
        let body = json!({ "customer_id": "mallory", "severity": severity });
        world.post("/v1/restrictions", &body).await.json()
    };
    let first = restrict("permanent").await;
    let second = restrict("restrict").await;
    assert_eq!(world.restrictions("").await, std::slice::from_ref(&second));
    let mut since = Instant::now();
    assert_eq!(world.says("default", "mallory", "hi").await, refused(202, ""));
    // The old one is over already; lifting it again takes nothing away from the new one.
    let old = world.post(&format!("/v1/restrictions/{}/lift", first["id"]), &json!({})).await;
    assert_eq!(old.json()["lifted_by"], format!("replaced by {}", second["id"]));
    let limited = world.limited(&from("default", "mallory", "x"), &mut since, 6).await;
    assert_eq!(told(&limited), refused(429, "rate_limit_exceeded"));
}

#[tokio::test]
async fn restrictions_come_in_pages_by_tenant_and_customer() {
    let world = World::new().await;
    for (tenant, customer) in [("one", "anna"), ("two", "anna"), ("one", "ben")] {
        let body = json!({ "tenant_id": tenant, "customer_id": customer, "severity": "block" });
        assert_eq!(world.post("/v1/restrictions", &body).await.status, 201);
    }
    let page = world.get("/v1/restrictions?limit=2").await.json();
    assert_eq!(page["restrictions"].as_array().unwrap().len(), 2);
    let rest = world.restrictions(&format!("?after={}", page["next"])).await;
    assert_eq!((rest.len(), rest[0]["customer_id"].as_str()), (1, Some("ben")));
    assert_eq!(world.restrictions("?tenant_id=one").await.len(), 2);
    assert_eq!(world.restrictions("?tenant_id=one&customer_id=anna").await.len(), 1);
    assert_eq!(world.restrictions("?tenant_id=three").await.len(), 0);
}

#[tokio::test]
async fn what_is_wrong_with_a_restriction_is_named() {
    let world = World::new().await;
    let check = async |body: Value, field: &str| {
        let reply = world.post("/v1/restrictions", &body).await;
        assert_eq!((reply.status, reply.json()["field"].as_str()), (422, Some(field)), "{body}");
    };
    check(json!({ "severity": "block" }), "customer_id").await;
    check(json!({ "customer_id": " ", "severity": "block" }), "customer_id").await;
    check(json!({ "customer_id": "x".repeat(129), "severity": "block" }), "customer_id").await;
    check(json!({ "customer_id": "x", "tenant_id": "", "severity": "block" }), "tenant_id").await;
    check(json!({ "customer_id": "x", "severity": "monitor" }), "severity").await;
    check(json!({ "customer_id": "x", "severity": "ban" }), "severity").await;
    check(json!({ "customer_id": "x", "severity": "block", "hours": 0 }), "hours").await;
    check(json!({ "customer_id": "x", "severity": "block", "hours": 8761 }), "hours").await;
    check(json!({ "customer_id": "x", "severity": "permanent", "hours": 1 }), "hours").await;
    check(json!({ "customer_id": "x", "severity": "block", "why": "y" }), "why").await;
    let long = "x".repeat(2001);
    check(json!({ "customer_id": "x", "severity": "block", "reason": long }), "reason").await;
    let body = json!({ "customer_id": "x", "severity": "block" });
    let id = world.post("/v1/restrictions", &body).await.json()["id"].clone();
    let appeal =
        world.post(&format!("/v1/restrictions/{id}/appeal"), &json!({ "text": " " })).await;
    assert_eq!(appeal.status, 422);
    for path in ["/v1/restrictions/99/lift", "/v1/restrictions/99"] {
        let reply = if path.ends_with("lift") {
            world.post(path, &json!({})).await
        } else {
            world.get(path).await
        };
        assert_eq!(reply.status, 404, "{path}");
    }
    assert_eq!(world.get("/v1/restrictions/x").await.status, 422);
}

#[tokio::test]
async fn the_switches_switch_it_off() {
    let off = GuardSettings { rate_limiting: false, abuse_detection: false, ..strict() };
    let world = guarded(off).await;
    for _ in 0..20 {
        let told = world.says("slow", "mallory", "cheap pills http://a.example").await;
        assert_eq!(told, refused(202, ""));
    }
    // What a person decided counts all the same.
    let body = json!({ "tenant_id": "slow", "customer_id": "mallory", "severity": "block" });
    world.post("/v1/restrictions", &body).await;
    assert_eq!(world.says("slow", "mallory", "hi").await, refused(403, "abuse_detected:manual"));
}
