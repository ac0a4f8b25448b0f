//! Keys and sign-ins as the API makes, shows and ends them.

use std::time::Duration;

use hyper::header::SET_COOKIE;
use serde_json::{Value, json};
use turnkeep_core::access::Principal;

use crate::access::{call, key, world};
use crate::kit::{Reply, World, keys, soon};

#[tokio::test]
async fn a_key_is_made_shown_once_replaced_and_ended() {
    let world = world().await;
    let (operator, _) = key(&world, "*", "admin", None).await;
    let post =
        async |path: &str, body: Value| call(&world, "POST", path, &operator, Some(body)).await;
    let asked = json!({ "tenant_id": "acme", "scopes": ["read", "send"], "label": "web shop",
                        "expires_in_s": 3600 });
    let made = post("/v1/keys", asked).await;
    assert_eq!((made.status, made.header("cache-control")), (201, "no-store"));
    let made = made.json();
    let fields = [
        "created_at",
        "expires_at",
        "id",
        "key",
        "label",
        "revoked_at",
        "scopes",
        "status",
        "tenant_id",
    ];
    assert_eq!(keys(&made), fields);
    assert_eq!((&made["tenant_id"], &made["label"]), (&json!("acme"), &json!("web shop")));
    assert_eq!((&made["scopes"], &made["status"]), (&json!(["send", "read"]), &json!("active")));
    let (text, id) = (made["key"].as_str().unwrap(), made["id"].as_str().unwrap());
    let secret = text.strip_prefix(&format!("tk_{id}_")).unwrap();
    assert_eq!(secret.len(), 52, "256 bits at five a letter");
    assert_eq!(call(&world, "GET", "/v1/sessions", text, None).await.status, 200);

    let list = call(&world, "GET", "/v1/keys", &operator, None).await;
    assert!(!list.text().contains(secret), "{}", list.text());
    assert_eq!(list.json()["keys"][1]["id"], id);

    let rotated = post(&format!("/v1/keys/{id}/rotate"), json!({ "grace_s": 60 })).await;
    assert_eq!((rotated.status, rotated.header("cache-control")), (201, "no-store"));
    let rotated = rotated.json();
    let new = rotated["key"].as_str().unwrap();
    assert!(new != text && rotated["label"] == "web shop" && rotated["scopes"] == made["scopes"]);
    for usable in [text, new] {
        assert_eq!(call(&world, "GET", "/v1/sessions", usable, None).await.status, 200);
    }
    let again = post(&format!("/v1/keys/{id}/rotate"), json!({ "grace_s": 0 })).await;
    assert_eq!(again.status, 201);
    assert_eq!(call(&world, "GET", "/v1/sessions", text, None).await.status, 401, "no grace");
    assert_eq!(post(&format!("/v1/keys/{id}/rotate"), json!({})).await.status, 409);

    let id = rotated["id"].as_str().unwrap();
    let revoked = post(&format!("/v1/keys/{id}/revoke"), json!({})).await.json();
    assert_eq!(revoked["status"], "revoked");
    let twice = post(&format!("/v1/keys/{id}/revoke"), json!({})).await.json();
    assert_eq!(twice, revoked);
    assert_eq!(call(&world, "GET", "/v1/sessions", new, None).await.status, 401);
    assert_eq!(post(&format!("/v1/keys/{id}/forget"), json!({})).await.status, 200);
    assert_eq!(post(&format!("/v1/keys/{id}/forget"), json!({})).await.status, 404);
}

#[tokio::test]
async fn wrong_fields_are_named() {
    let world = world().await;
    let (operator, _) = key(&world, "*", "admin", None).await;
    let (acme, id) = key(&world, "acme", "admin", None).await;
    let check = async |key: &str, path: &str, body: Value, field: &str| {
        let reply = call(&world, "POST", path, key, Some(body.clone())).await;
        assert_eq!(reply.status, 422, "{body}: {}", reply.text());
        assert_eq!(reply.json()["field"], field, "{body}: {}", reply.text());
    };
    let make = async |changes: Value, field: &str| {
        let mut body = json!({ "tenant_id": "acme", "scopes": ["read"] });
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        check(&operator, "/v1/keys", body, field).await;
    };
    make(json!({ "scopes": [] }), "scopes").await;
    make(json!({ "scopes": ["write"] }), "scopes").await;
    make(json!({ "scopes": "read" }), "scopes").await;
    make(json!({ "tenant_id": "" }), "tenant_id").await;
    make(json!({ "tenant_id": "x".repeat(129) }), "tenant_id").await;
    make(json!({ "label": "x".repeat(65) }), "label").await;
    make(json!({ "label": "a\nb" }), "label").await;
    make(json!({ "expires_in_s": 0 }), "expires_in_s").await;
    make(json!({ "expires_in_s": u64::MAX }), "expires_in_s").await;
    make(json!({ "expires_in_s": -1 }), "expires_in_s").await;
    make(json!({ "expire_in_s": 1 }), "expire_in_s").await;
    check(&operator, "/v1/keys", json!({ "scopes": ["read"] }), "tenant_id").await;
    check(&operator, "/v1/keys", json!({ "tenant_id": "acme" }), "scopes").await;
    let rotate = format!("/v1/keys/{id}/rotate");
    check(&acme, &rotate, json!({ "grace_s": u64::MAX }), "grace_s").await;
    check(&acme, "/v1/sign-ins", json!({}), "customer_id").await;
    check(&acme, "/v1/sign-ins", json!({ "customer_id": " " }), "customer_id").await;
    check(&acme, "/v1/sign-ins", json!({ "customer_id": "x".repeat(129) }), "customer_id").await;
    let unknown = json!({ "customer_id": "ann", "agent_id": "nobody" });
    check(&acme, "/v1/sign-ins", unknown, "agent_id").await;
    check("", "/v1/sign-in", json!({}), "code").await;
    let after = call(&world, "GET", "/v1/keys?after=nobody", &acme, None).await;
    assert_eq!((after.status, after.json()["field"].clone()), (422, json!("after")));
}

#[tokio::test]
async fn a_tenants_admin_looks_after_its_own_keys() {
    let world = world().await;
    let (acme, _) = key(&world, "acme", "admin", None).await;
    let (_, operators) = key(&world, "*", "read", None).await;
    let make = async |tenant: Value| {
        let mut body = json!({ "scopes": ["send"] });
        if !tenant.is_null() {
            body["tenant_id"] = tenant;
        }
        call(&world, "POST", "/v1/keys", &acme, Some(body)).await
    };
    assert_eq!(make(Value::Null).await.json()["tenant_id"], "acme");
    assert_eq!(make(json!("acme")).await.status, 201);
    assert_eq!(make(json!("other")).await.status, 404);
    assert_eq!(make(json!("*")).await.status, 404, "nobody reaches further than it does");
    for deed in ["revoke", "rotate", "forget"] {
        let path = format!("/v1/keys/{operators}/{deed}");
        assert_eq!(call(&world, "POST", &path, &acme, None).await.status, 404, "{deed}");
    }
    let page = call(&world, "GET", "/v1/keys?limit=2", &acme, None).await.json();
    assert_eq!(page["keys"].as_array().unwrap().len(), 2);
    let next = page["next"].as_str().unwrap();
    let rest = call(&world, "GET", &format!("/v1/keys?after={next}"), &acme, None).await.json();
    assert_eq!((rest["keys"].as_array().unwrap().len(), &rest["next"]), (1, &Value::Null));
}

/// A browser with the page open.
struct Browser<'a> {
    world: &'a World,
    cookie: String,
}

impl Browser<'_> {
    async fn ask(&self, method: &str, path: &str, more: &[(&str, &str)], body: &str) -> Reply {
        let mut headers = vec![("cookie", self.cookie.as_str())];
        headers.extend_from_slice(more);
        if !body.is_empty() {
            headers.push(("content-type", "application/json"));
        }
        self.world.call(method, path, &headers, body.to_owned()).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[("sec-fetch-site", "same-origin")], "").await
    }

    async fn post(&self, path: &str, body: Value) -> Reply {
        let origin = format!("http://{}", self.world.address);
        self.ask("POST", path, &[("origin", &origin)], &body.to_string()).await
    }
}

/// Signs somebody in; the browser with the cookie, and how that was set.
async fn sign_in<'a>(world: &'a World, key: &str, body: Value) -> (Browser<'a>, String) {
    let invited = call(world, "POST", "/v1/sign-ins", key, Some(body)).await;
    assert_eq!((invited.status, invited.header("cache-control")), (201, "no-store"));
    let invited = invited.json();
    let code = invited["code"].as_str().unwrap();
    let link = invited["link"].as_str().unwrap();
    assert_eq!(link, format!("https://chat.example.org/#code={code}"));
    let signed_in = world.post("/v1/sign-in", &json!({ "code": code })).await;
    assert_eq!(signed_in.status, 200, "{}", signed_in.text());
    let set = signed_in.header("set-cookie").to_owned();
    let cookie = set.split(';').next().unwrap().to_owned();
    let again = world.post("/v1/sign-in", &json!({ "code": code })).await;
    assert_eq!(again.status, 401, "a code is used once");
    (Browser { world, cookie }, set)
}

#[tokio::test]
async fn a_person_is_one_customer_on_the_page_and_nothing_else() {
    let world = world().await;
    let (key, _) = key(&world, "acme", "send,read", None).await;
    let (ann, set) = sign_in(&world, &key, json!({ "customer_id": "ann" })).await;
    assert!(set.ends_with("; Path=/; Max-Age=2592000; HttpOnly; SameSite=Strict"), "{set}");
    let state = ann.get("/v1/sign-in").await.json();
    assert_eq!(state["needed"], true);
    assert_eq!(state["person"]["customer_id"], "ann");
    assert_eq!(state["person"]["tenant_id"], "acme");
    assert_eq!(state["person"]["agent_id"], "default");

    let said = ann.post("/v1/chat?wait=15", json!({ "message": "hi" })).await;
    assert_eq!(said.status, 200, "{}", said.text());
    assert_eq!(said.json()["session"], "acme:default:web:dm:ann");
    let turn = said.json()["turn_id"].as_str().unwrap().to_owned();
    let own = "/v1/sessions/acme:default:web:dm:ann";
    for path in [
        own.to_owned(),
        format!("{own}/messages"),
        format!("{own}/turns"),
        format!("/v1/turns/{turn}"),
    ] {
        assert_eq!(ann.get(&path).await.status, 200, "{path}");
    }
    for deed in ["stop", "new", "typing", "close"] {
        let steered = ann.post(&format!("{own}/{deed}"), json!({})).await;
        assert!(matches!(steered.status, 200 | 204), "{deed}: {}", steered.text());
    }
    for wrong in [
        json!({ "customer_id": "bob", "message": "hi" }),
        json!({ "channel": "api", "message": "hi" }),
        json!({ "tenant_id": "other", "message": "hi" }),
        json!({ "session": "acme:default:web:dm:bob", "message": "hi" }),
        json!({ "session": "acme:default:api:dm:ann", "message": "hi" }),
        json!({ "session": "acme:default:web:group:ann", "message": "hi" }),
        json!({ "session": "acme:default:web:dm:ann", "customer_id": "bob", "message": "hi" }),
    ] {
        assert_eq!(ann.post("/v1/chat", wrong.clone()).await.status, 404, "{wrong}");
    }
    for path in
        ["/v1/sessions/acme:default:web:dm:bob", "/v1/sessions/acme:default:api:dm:ann/events"]
    {
        assert_eq!(ann.get(path).await.status, 404, "{path}");
    }
    for path in ["/v1/sessions", "/v1/keys", "/v1/deadletters", "/v1/events", "/metrics"] {
        assert_eq!(ann.get(path).await.status, 403, "{path}");
    }
    let invite = ann.post("/v1/sign-ins", json!({ "customer_id": "ann" })).await;
    assert_eq!(invite.status, 403, "nobody signs in others from the page");
}

#[tokio::test]
async fn a_sign_in_can_be_for_one_agent() {
    let world = world().await;
    let (key, _) = key(&world, "acme", "send", None).await;
    let asked = json!({ "customer_id": "ann", "agent_id": "talker" });
    let (ann, _) = sign_in(&world, &key, asked).await;
    let state = ann.get("/v1/sign-in").await.json();
    assert_eq!(state["person"]["agent_id"], "talker");
    let said = ann.post("/v1/chat", json!({ "message": "hi" })).await.json();
    assert_eq!(said["session"], "acme:talker:web:dm:ann");
    let other = json!({ "agent_id": "default", "message": "hi" });
    assert_eq!(ann.post("/v1/chat", other).await.status, 404);
}

#[tokio::test]
async fn a_cookie_counts_on_its_own_page_only() {
    let world = world().await;
    let (key, _) = key(&world, "acme", "send", None).await;
    let (ann, _) = sign_in(&world, &key, json!({ "customer_id": "ann" })).await;
    let path = "/v1/sessions/acme:default:web:dm:ann/events";
    let own = format!("http://{}", world.address);
    let elsewhere = [
        ("GET", "origin", "http://evil.example"),
        ("GET", "origin", "null"),
        ("GET", "sec-fetch-site", "cross-site"),
        ("GET", "sec-fetch-site", "same-site"),
        ("POST", "origin", "http://127.0.0.1:1"),
    ];
    for (method, name, value) in elsewhere {
        let path = if method == "POST" { "/v1/sign-out" } else { path };
        let refused = ann.ask(method, path, &[(name, value)], "").await;
        assert_eq!(refused.status, 403, "{method} {name}: {value}");
        assert_eq!(refused.json()["type"], "urn:turnkeep:problem:foreign-origin");
    }
    let headers = [("cookie", ann.cookie.as_str()), ("origin", own.as_str())];
    assert_eq!(world.open("GET", path, &headers, "").await.status(), 200);
}

#[tokio::test]
async fn signing_out_ends_it_at_once() {
    let world = world().await;
    let (key, id) = key(&world, "acme", "send", None).await;
    let path = "/v1/sessions/acme:default:web:dm:ann/events";
    let stream = async |browser: &Browser<'_>| {
        let headers = [("cookie", browser.cookie.as_str())];
        world.open("GET", path, &headers, "").await
    };
    let ended = async |stream: hyper::Response<hyper::body::Incoming>| {
        let mut body = stream.into_body();
        soon(async { while http_body_util::BodyExt::frame(&mut body).await.is_some() {} }).await;
    };
    let (ann, _) = sign_in(&world, &key, json!({ "customer_id": "ann" })).await;
    let watched = stream(&ann).await;
    assert_eq!(watched.status(), 200);
    let out = ann.post("/v1/sign-out", json!({})).await;
    assert_eq!(out.status, 204);
    let gone = "turnkeep_visit=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict";
    assert_eq!(out.header("set-cookie"), gone);
    ended(watched).await;
    let refused = ann.get("/v1/sessions/acme:default:web:dm:ann").await;
    assert_eq!((refused.status, refused.header("set-cookie")), (401, gone));
    let state = ann.get("/v1/sign-in").await;
    assert_eq!(state.json(), json!({ "needed": true, "person": null }));

    // And so does the end of the key that let the person in.
    let (ann, _) = sign_in(&world, &key, json!({ "customer_id": "ann" })).await;
    let watched = stream(&ann).await;
    assert_eq!(watched.status(), 200);
    world.access.revoke(&Principal::operator(), &id).await.unwrap();
    ended(watched).await;
    assert_eq!(ann.get("/v1/sessions/acme:default:web:dm:ann").await.status, 401);
}

#[tokio::test]
async fn a_cookie_behind_tls_stays_there() {
    let world = world().await;
    let (key, _) = key(&world, "acme", "send", None).await;
    let invited = json!({ "customer_id": "ann" });
    let code = call(&world, "POST", "/v1/sign-ins", &key, Some(invited)).await.json();
    let headers = [
        ("content-type", "application/json"),
        ("host", "chat.example.org"),
        ("origin", "https://chat.example.org"),
        ("x-forwarded-for", "198.51.100.7"),
        ("x-forwarded-proto", "https"),
    ];
    let body = json!({ "code": code["code"] }).to_string();
    let signed_in = world.call("POST", "/v1/sign-in", &headers, body).await;
    assert!(signed_in.headers[SET_COOKIE].to_str().unwrap().ends_with("; Secure"));
}

#[tokio::test]
async fn the_page_knows_that_nobody_has_to_sign_in() {
    let world = world().await;
    let state = world.get("/v1/sign-in").await.json();
    assert_eq!(state, json!({ "needed": false, "person": null }));
    // Keys that ended don't open the door again.
    key(&world, "acme", "send", Some(Duration::ZERO)).await;
    assert_eq!(world.get("/v1/sign-in").await.json()["needed"], true);
}
