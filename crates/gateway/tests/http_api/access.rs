//! Who is let in: every address with every kind of key, and no tenant with another's things.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hyper::Response;
use hyper::body::Incoming;
use serde_json::{Value, json};
use turnkeep_core::access::{Principal, key_tenant};
use turnkeep_core::journal::DeadReason;
use turnkeep_core::message::MessageBody;
use turnkeep_core::ports::store::{Commit, DeadLetter, Rows, Store};
use turnkeep_core::{Seq, Session, SessionKey, SessionKind, Trust, TurnGroupId, Version};
use turnkeep_gateway::access::NewKey;
use turnkeep_gateway::http::HttpSettings;

use crate::kit::{Reply, World, soon};

/// A world in which every request can come from an address of its own.
pub(crate) async fn world() -> World {
    let settings = HttpSettings {
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        hosts: vec!["chat.example.org".to_owned()],
        ..HttpSettings::default()
    };
    World::with(settings).await
}

/// The text of a new key and its id.
pub(crate) async fn key(
    world: &World,
    tenant: &str,
    scopes: &str,
    lasts: Option<Duration>,
) -> (String, String) {
    let new = NewKey {
        tenant: key_tenant(tenant).unwrap(),
        scopes: scopes.parse().unwrap(),
        label: None,
        lasts,
    };
    let made = world.access.create(&Principal::operator(), new).await.unwrap();
    (made.text, made.key.id.to_string())
}

/// One request with a key, from an address that nobody had before.
pub(crate) async fn ask(
    world: &World,
    method: &str,
    path: &str,
    key: &str,
    body: &str,
) -> Response<Incoming> {
    static NEXT: AtomicU32 = AtomicU32::new(0x0a00_0000);
    let from = std::net::Ipv4Addr::from(NEXT.fetch_add(1, Ordering::Relaxed)).to_string();
    let bearer = format!("Bearer {key}");
    let mut headers = vec![("x-forwarded-for", from.as_str())];
    if !key.is_empty() {
        headers.push(("authorization", &bearer));
    }
    if !body.is_empty() {
        headers.push(("content-type", "application/json"));
    }
    world.open(method, path, &headers, body.to_owned()).await
}

/// The same, with the whole answer.
pub(crate) async fn call(
    world: &World,
    method: &str,
    path: &str,
    key: &str,
    body: Option<Value>,
) -> Reply {
    let body = body.map_or_else(String::new, |body| body.to_string());
    whole(ask(world, method, path, key, &body).await).await
}

async fn whole(response: Response<Incoming>) -> Reply {
    let (parts, body) = response.into_parts();
    let body = soon(http_body_util::BodyExt::collect(body)).await.unwrap().to_bytes();
    Reply { status: parts.status.as_u16(), headers: parts.headers, body }
}

/// One of each sort of thing that belongs to the tenant `acme`.
struct Things {
    session: String,
    turn: String,
    letter: u64,
    reply: u64,
    key: String,
    restriction: u64,
    pairing: String,
}

impl Things {
    async fn new(world: &World) -> Self {
        let says = |agent: &str, channel: &str| {
            json!({ "tenant_id": "acme", "customer_id": "ann", "agent_id": agent,
                    "channel": channel, "message": "hi" })
        };
        let answer = world.ask(&says("default", "sms")).await;
        let session = answer["session"].as_str().unwrap().replace(':', "%3A");
        let turn = answer["turn_id"].as_str().unwrap().to_owned();
        world.ask(&says("broken", "api")).await;
        let letters = world.get("/v1/deadletters").await.json();
        let letter = letters["dead_letters"][0]["id"].as_u64().unwrap();
        let parts = async || {
            let page = world.get(&format!("/v1/sessions/{session}/deliveries")).await.json();
            page["deliveries"][0].clone()
        };
        let parked = async {
            while parts().await["state"] != "unknown" {
                tokio::task::yield_now().await;
            }
        };
        soon(parked).await;
        let reply = parts().await["reply"].as_u64().unwrap();
        let restrict =
            json!({ "tenant_id": "acme", "customer_id": "mallory", "severity": "block" });
        let restriction = world.post("/v1/restrictions", &restrict).await;
        let restriction = restriction.json()["id"].as_u64().unwrap();
        let pairing = world.post("/v1/pairing", &json!({ "user": "bob" })).await;
        let pairing = pairing.json()["id"].as_str().unwrap().to_owned();
        let job = json!({ "tenant_id": "acme", "name": "crm", "schedule": "@daily", "text": "hi",
                          "customer_id": "ann", "channel": "sms" });
        assert_eq!(world.post("/v1/cron", &job).await.status, 201);
        let (_, key) = key(world, "acme", "read", None).await;
        Self { session, turn, letter, reply, key, restriction, pairing }
    }

    /// An address with all of its names filled in.
    fn fill(&self, path: &str) -> String {
        let id = match path.split('/').nth(2).unwrap_or_default() {
            "deadletters" => self.letter.to_string(),
            "keys" => self.key.clone(),
            "restrictions" => self.restriction.to_string(),
            "pairing" => self.pairing.clone(),
            _ => "1".to_owned(),
        };
        // The things of whoever is erased would be gone for the addresses behind it.
        let names = [
            ("{session}", self.session.clone()),
            ("{which}", self.session.clone()),
            ("{turn_id}", self.turn.clone()),
            ("{id}", id),
            ("{reply}", self.reply.to_string()),
            ("{part}", "0".to_owned()),
            ("{name}", "crm".to_owned()),
            ("{tenant}", "acme".to_owned()),
            ("{customer}", "zoe".to_owned()),
        ];
        let filled = names.iter().fold(path.to_owned(), |path, (name, to)| path.replace(name, to));
        assert!(!filled.contains('{'), "give the test a value for every name in {path}");
        filled
    }
}

/// A body that the address takes, so that nothing but the key is wrong.
fn body(path: &str) -> &'static str {
    match path {
        "/v1/cron" => {
            r#"{"name": "x", "schedule": "@daily", "text": "hi", "customer_id": "a", "channel": "web"}"#
        }
        "/v1/reminders" => {
            r#"{"in_seconds": 60, "text": "hi", "customer_id": "a", "channel": "web"}"#
        }
        "/v1/backup" => r#"{"file": "/nowhere/copy.db"}"#,
        "/v1/chat" => r#"{"customer_id": "ann", "message": "hi"}"#,
        "/v1/keys" => r#"{"scopes": ["read"]}"#,
        "/v1/pairing" => r#"{"user": "carol"}"#,
        "/v1/signal/trust" => r#"{"who": "+4915112345678"}"#,
        "/v1/restrictions" => r#"{"customer_id": "eve", "severity": "restrict"}"#,
        "/v1/restrictions/{id}/appeal" => r#"{"text": "sorry"}"#,
        "/v1/sessions/{session}/reply" => r#"{"text": "hello"}"#,
        "/v1/sessions/{session}/queue" => r#"{"busy_policy": null}"#,
        "/v1/sign-ins" => r#"{"customer_id": "ann"}"#,
        "/v1/switchboard/{which}/name" => r#"{"name": "x"}"#,
        "/v1/switchboard/{which}/switch" => r#"{"seat": "tty1"}"#,
        "/v1/sign-in" => r#"{"code": "x"}"#,
        _ => "",
    }
}

/// Every address of the document: method, path, and what it says that it needs.
async fn addresses(world: &World) -> Vec<(String, String, String)> {
    let document = world.get("/openapi.json").await.json();
    let mut addresses = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let needs = operation["x-needs"].as_str().unwrap_or_else(|| {
                panic!("{method} {path} is missing in the table of what addresses need")
            });
            addresses.push((method.to_uppercase(), path.clone(), needs.to_owned()));
        }
    }
    addresses
}

/// What comes of one address with one key; `has` are the scopes of the key, `everything` is the
/// operator's reach, `own` the reach to the things.
struct Kind {
    name: &'static str,
    key: String,
    has: &'static [&'static str],
    everything: bool,
    own: bool,
}

#[tokio::test]
async fn every_address_is_tried_with_every_kind_of_key() {
    let world = world().await;
    let things = Things::new(&world).await;
    let (send, _) = key(&world, "acme", "send", None).await;
    let (revoked, id) = key(&world, "acme", "admin", None).await;
    world.access.revoke(&Principal::operator(), &id).await.unwrap();
    let wrong = format!("{}x", &send[..send.len() - 1]);
    let kind = |name, key: &str, has, everything, own| Kind {
        name,
        key: key.to_owned(),
        has,
        everything,
        own,
    };
    let expired = key(&world, "acme", "admin", Some(Duration::ZERO)).await.0;
    let read = key(&world, "acme", "read", None).await.0;
    let admin = key(&world, "acme", "admin", None).await.0;
    let other = key(&world, "other", "admin", None).await.0;
    let operator_read = key(&world, "*", "read", None).await.0;
    let operator = key(&world, "*", "admin", None).await.0;
    let all: &[&str] = &["send", "read", "admin"];
    let kinds = [
        kind("no key", "", &[], false, false),
        kind("a wrong key", &wrong, &[], false, false),
        kind("no key's text", "nonsense", &[], false, false),
        kind("a revoked key", &revoked, &[], false, false),
        kind("an expired key", &expired, &[], false, false),
        kind("send", &send, &["send"], false, true),
        kind("read", &read, &["read"], false, true),
        kind("admin", &admin, all, false, true),
        kind("another tenant's admin", &other, all, false, false),
        kind("the operator's read", &operator_read, &["read"], true, true),
        kind("the operator's admin", &operator, all, true, true),
    ];
    for (method, path, needs) in addresses(&world).await {
        for kind in &kinds {
            try_one(&world, &things, (&method, &path, &needs), kind).await;
        }
    }
}

async fn try_one(
    world: &World,
    things: &Things,
    (method, path, needs): (&str, &str, &str),
    kind: &Kind,
) {
    let response = ask(world, method, &things.fill(path), &kind.key, body(path)).await;
    let status = response.status().as_u16();
    let what = format!("{method} {path} with {}: {status}", kind.name);
    if needs == "nobody" {
        // To sign in with a wrong code is refused for another reason.
        let code = (method, path) == ("POST", "/v1/sign-in");
        assert!(code || !matches!(status, 401 | 403), "{what}");
        return;
    }
    if kind.has.is_empty() {
        assert_eq!(status, 401, "{what}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"turnkeep\"", "{what}");
        return;
    }
    if needs == "the unix socket" {
        let refusal = whole(response).await.json();
        assert_eq!(status, 403, "{what}");
        assert_eq!(refusal["type"], "urn:turnkeep:problem:socket-only", "{what}");
        return;
    }
    let (who, scope) = needs.split_once(": ").unwrap();
    if !kind.has.contains(&scope) || (who == "key of the operator" && !kind.everything) {
        let refusal = whole(response).await.json();
        assert_eq!(status, 403, "{what}");
        assert_eq!(refusal["type"], "urn:turnkeep:problem:missing-scope", "{what}");
        assert_eq!(refusal["scope"], scope, "{what}");
    } else if !kind.own && path.contains('{') {
        assert_eq!(status, 404, "{what}");
    } else {
        assert!(!matches!(status, 401 | 403 | 500), "{what}");
    }
}

#[tokio::test]
async fn what_is_open_stays_open_and_the_rest_does_not() {
    let world = world().await;
    let (key, _) = key(&world, "acme", "admin", None).await;
    for path in ["/", "/assets/app.js", "/healthz", "/readyz", "/openapi.json", "/v1/sign-in"] {
        assert_eq!(call(&world, "GET", path, "", None).await.status, 200, "{path}");
        assert_eq!(call(&world, "HEAD", path, "", None).await.status, 200, "{path}");
    }
    assert_eq!(call(&world, "HEAD", "/v1/sessions", "", None).await.status, 401);
    assert_eq!(call(&world, "HEAD", "/v1/sessions", &key, None).await.status, 200);
    assert_eq!(call(&world, "GET", "/v1/nothing", "", None).await.status, 404);
    assert_eq!(call(&world, "PUT", "/v1/sessions", "", None).await.status, 401);
    assert_eq!(call(&world, "PUT", "/v1/sessions", &key, None).await.status, 405);
    let says = json!({ "customer_id": "ann", "message": "hi" });
    for path in ["/chat", "/v1/chat"] {
        let refused = call(&world, "POST", path, "", Some(says.clone())).await;
        assert_eq!(refused.status, 401);
        assert_eq!(refused.json()["rejection_reason"], "unauthorized");
        assert_eq!(call(&world, "POST", path, &key, Some(says.clone())).await.status, 202);
    }
}

#[tokio::test]
async fn a_message_is_its_keys_tenants() {
    let world = world().await;
    let (acme, _) = key(&world, "acme", "send,read", None).await;
    let (other, _) = key(&world, "other", "send,read", None).await;
    let (operator, _) = key(&world, "*", "send,read", None).await;
    let send = async |key: &str, body: Value| {
        let reply = call(&world, "POST", "/v1/chat", key, Some(body)).await;
        (reply.status, reply.json()["session"].as_str().unwrap_or_default().to_owned())
    };
    let says = json!({ "customer_id": "ann", "message": "hi" });
    let (_, session) = send(&acme, says.clone()).await;
    assert_eq!(session, "acme:default:api:dm:ann");
    assert_eq!(send(&operator, says.clone()).await.1, "default:default:api:dm:ann");
    let named =
        |tenant: &str| json!({ "tenant_id": tenant, "customer_id": "ann", "message": "hi" });
    assert_eq!(send(&acme, named("acme")).await.0, 202);
    assert_eq!(send(&acme, named("other")).await.0, 404);
    assert_eq!(send(&acme, named("*")).await.0, 404);
    assert_eq!(send(&operator, named("other")).await.1, "other:default:api:dm:ann");
    let into = |session: &str| json!({ "session": session, "message": "hi" });
    assert_eq!(send(&acme, into(&session)).await.0, 202);
    assert_eq!(send(&other, into(&session)).await.0, 404);
    assert_eq!(send(&other, into("acme:default:api:dm:nobody")).await.0, 404);
    assert_eq!(send(&other, into("nonsense")).await.0, 422);
}

#[tokio::test]
async fn what_is_out_of_reach_is_not_there() {
    let world = world().await;
    let (acme, _) = key(&world, "acme", "admin", None).await;
    let (other, _) = key(&world, "other", "admin", None).await;
    let says = |tenant: &str| json!({ "tenant_id": tenant, "customer_id": "ann", "message": "hi" });
    for (tenant, key) in [("acme", &acme), ("other", &other)] {
        let path = "/v1/chat?wait=15";
        assert_eq!(call(&world, "POST", path, key, Some(says(tenant))).await.status, 200);
    }
    // Told in the same words as what nobody ever wrote.
    let there = call(&world, "GET", "/v1/sessions/acme:default:api:dm:ann", &other, None).await;
    let nowhere = call(&world, "GET", "/v1/sessions/acme:default:api:dm:bob", &other, None).await;
    assert_eq!(there.status, 404);
    assert_eq!(there.text().replace("dm:ann", "dm:bob"), nowhere.text());
    let list = call(&world, "GET", "/v1/sessions", &acme, None).await.json();
    let sessions: Vec<&str> = list["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|session| session["session"].as_str().unwrap())
        .collect();
    assert_eq!(sessions, ["acme:default:api:dm:ann"]);
    assert_eq!(call(&world, "GET", "/v1/sessions?tenant=other", &acme, None).await.status, 404);
    assert_eq!(call(&world, "GET", "/v1/events?tenant=other", &acme, None).await.status, 404);
    let restrictions = "/v1/restrictions?tenant_id=other";
    assert_eq!(call(&world, "GET", restrictions, &acme, None).await.status, 404);
    let keys = call(&world, "GET", "/v1/keys", &acme, None).await.json();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1, "{keys}");
    assert_eq!(keys["keys"][0]["tenant_id"], "acme");
}

/// A dead letter of this customer.
async fn bury(world: &World, tenant: &str, customer: &str) {
    let key = SessionKey::new(tenant, "default", "api", SessionKind::Dm, customer).unwrap();
    let body = MessageBody { message_id: "m".into(), sender: customer.into(), text: "hi".into() };
    let letter = DeadLetter {
        seq: Seq(1),
        group: TurnGroupId(uuid::Uuid::nil()),
        trust: Trust::Public,
        reason: DeadReason::AgentFailed,
        at: 0,
        body: Arc::new(body),
    };
    let commit = Commit {
        key,
        expected: Version(0),
        session: Arc::new(Session::new()),
        wake_at: None,
        rows: Rows { dead_letters: vec![letter], ..Rows::default() },
    };
    world.store.commit(commit).await.unwrap();
}

#[tokio::test]
async fn dead_letters_are_shown_to_their_tenant() {
    let world = world().await;
    let (acme, _) = key(&world, "acme", "admin", None).await;
    let (operator, _) = key(&world, "*", "admin", None).await;
    for (number, tenant) in ["other", "acme", "other", "acme", "acme", "other"].iter().enumerate() {
        bury(&world, tenant, &number.to_string()).await;
    }
    let page = async |key: &str, query: &str| {
        let page = call(&world, "GET", &format!("/v1/deadletters{query}"), key, None).await.json();
        let letters = page["dead_letters"].as_array().unwrap().clone();
        let ids: Vec<u64> = letters.iter().map(|letter| letter["id"].as_u64().unwrap()).collect();
        (ids, page["next"].clone())
    };
    let (all, _) = page(&operator, "").await;
    assert_eq!(all.len(), 6);
    let own = vec![all[1], all[3], all[4]];
    assert_eq!(page(&acme, "").await, (own.clone(), Value::Null));
    let (first, next) = page(&acme, "?limit=2").await;
    assert_eq!(first, own[..2]);
    let rest = page(&acme, &format!("?limit=2&after={next}")).await;
    assert_eq!(rest, (vec![own[2]], Value::Null));
    let retry = format!("/v1/deadletters/{}/retry", all[0]);
    assert_eq!(call(&world, "POST", &retry, &acme, None).await.status, 404);
}
