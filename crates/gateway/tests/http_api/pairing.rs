//! Codes that make somebody known, as the API makes, lists and ends them.

use serde_json::{Value, json};

use crate::access::{call, key, world};
use crate::kit::{World, keys};

async fn made(world: &World, operator: &str, body: Value) -> Value {
    let made = call(world, "POST", "/v1/pairing", operator, Some(body)).await;
    assert_eq!((made.status, made.header("cache-control")), (201, "no-store"), "{}", made.text());
    made.json()
}

#[tokio::test]
async fn a_code_is_made_shown_once_and_ended() {
    let world = world().await;
    let (operator, _) = key(&world, "*", "admin", None).await;
    let first = made(&world, &operator, json!({ "user": "carol" })).await;
    let second = json!({ "user": "dora", "trust": "inner", "minutes": 5, "tenant_id": "acme" });
    let second = made(&world, &operator, second).await;
    assert_eq!((&first["trust"], &first["status"]), (&json!("familiar"), &json!("waiting")));
    assert_eq!((&second["trust"], &second["tenant_id"]), (&json!("inner"), &json!("acme")));
    // Nobody listens here, so the code is of no use yet.
    assert!(first["note"].as_str().unwrap().contains("unknown = \"pair\""), "{first}");
    let code = first["code"].as_str().unwrap();
    assert_eq!(code.len(), 9, "{code}");
    let list = call(&world, "GET", "/v1/pairing", &operator, None).await;
    let text = list.text();
    assert!(!text.contains(code) && !text.contains(&code.replace('-', "")), "{text}");
    let list = list.json();
    assert_eq!(list["pairings"].as_array().unwrap().len(), 2);
    let fields = [
        "channel",
        "expires_at",
        "id",
        "made_at",
        "paired_at",
        "person",
        "status",
        "tenant_id",
        "trust",
        "user",
    ];
    assert_eq!(keys(&list["pairings"][0]), fields);
    // The oldest first, but two may be of one millisecond.
    let ids = [0, 1].map(|at| list["pairings"][at]["id"].as_str().unwrap());
    assert!([&first, &second].iter().all(|made| ids.contains(&made["id"].as_str().unwrap())));
    let page = call(&world, "GET", "/v1/pairing?limit=1", &operator, None).await.json();
    assert_eq!((&page["pairings"][0]["id"], &page["next"]), (&json!(ids[0]), &json!(ids[0])));
    let after = format!("/v1/pairing?after={}", ids[0]);
    let page = call(&world, "GET", &after, &operator, None).await.json();
    assert_eq!((&page["pairings"][0]["id"], &page["next"]), (&json!(ids[1]), &Value::Null));
    let revoke = format!("/v1/pairing/{}/revoke", first["id"].as_str().unwrap());
    let revoked = call(&world, "POST", &revoke, &operator, Some(json!({}))).await;
    assert_eq!(revoked.json(), json!({ "result": "revoked", "id": first["id"] }));
    assert_eq!(call(&world, "POST", &revoke, &operator, Some(json!({}))).await.status, 404);
    let export = call(&world, "GET", "/v1/customers/acme/dora/export", &operator, None).await;
    assert!(export.text().contains("\"line\":\"pairing\""), "{}", export.text());
    // Whoever is erased is known no longer.
    let erased = call(&world, "DELETE", "/v1/customers/acme/dora", &operator, None).await;
    assert_eq!(erased.json()["pairings"], 1, "{}", erased.text());
    let list = call(&world, "GET", "/v1/pairing", &operator, None).await.json();
    assert_eq!(list, json!({ "pairings": [], "next": null }));
}

#[tokio::test]
async fn mistakes_name_their_field() {
    let world = world().await;
    let (operator, _) = key(&world, "*", "admin", None).await;
    let check = async |body: Value, field: &str| {
        let refused = call(&world, "POST", "/v1/pairing", &operator, Some(body.clone())).await;
        assert_eq!(refused.status, 422, "{body}");
        assert_eq!(refused.json()["field"], field, "{body}: {}", refused.text());
    };
    check(json!({ "user": "" }), "user").await;
    check(json!({ "user": "x".repeat(129) }), "user").await;
    check(json!({ "user": "a\u{7}" }), "user").await;
    check(json!({ "user": "a", "trust": "boss" }), "trust").await;
    check(json!({ "user": "a", "minutes": 0 }), "minutes").await;
    check(json!({ "user": "a", "minutes": 10_081 }), "minutes").await;
    check(json!({ "user": "a", "tenant_id": " " }), "tenant_id").await;
}

#[tokio::test]
async fn so_many_codes_wait_and_no_more() {
    let world = world().await;
    let (operator, _) = key(&world, "*", "admin", None).await;
    for number in 0..100 {
        made(&world, &operator, json!({ "user": format!("u{number}") })).await;
    }
    let full = json!({ "user": "one more" });
    let full = call(&world, "POST", "/v1/pairing", &operator, Some(full)).await;
    assert_eq!(full.status, 409, "{}", full.text());
}

#[tokio::test]
async fn commands_are_typed_where_people_chat_and_nowhere_else() {
    let world = world().await;
    let says = |channel: &str, text: &str| json!({ "customer_id": "ann", "channel": channel, "message": text });
    let post = async |body: Value| {
        let path = "/v1/chat?wait=15";
        let reply = call(&world, "POST", path, "", Some(body)).await;
        (reply.status, reply.json())
    };
    assert_eq!(post(says("api", "/help")).await.1["reply"], "echo: /help");
    assert_eq!(post(says("web", "/etc/passwd")).await.1["reply"], "echo: /etc/passwd");
    let (status, answer) = post(says("web", "/Help")).await;
    assert_eq!((status, &answer["status"]), (200, &json!("complete")), "{answer}");
    assert!(answer["reply"].as_str().unwrap().contains("/sessions"), "{answer}");
    let session = "/v1/sessions/default%3Adefault%3Aweb%3Adm%3Aann/messages";
    let messages = call(&world, "GET", session, "", None).await.json();
    let told: Vec<&str> = messages["messages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|message| message["role"] == "notice")
        .map(|message| message["text"].as_str().unwrap())
        .collect();
    assert_eq!(told.len(), 1, "{messages}");
    assert!(told[0].starts_with("/new begins a new conversation"), "{told:?}");
}
