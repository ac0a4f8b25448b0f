//! Every mistake a caller can make, and what it is told.

use std::fmt::Write;

use serde_json::json;

use crate::kit::World;

const JSON: (&str, &str) = ("content-type", "application/json");

/// Method, address, headers, body.
type Call<'a> = (&'a str, String, Vec<(&'a str, &'a str)>, &'a str);

/// Sends each body and prints what comes back.
async fn refusals(bodies: &[(&str, Vec<u8>)]) -> String {
    let world = World::new().await;
    let mut printed = String::new();
    for (name, body) in bodies {
        let reply = world.call("POST", "/v1/chat", &[JSON], body.clone()).await;
        assert_eq!(reply.header("content-type"), "application/problem+json", "{name}");
        assert_eq!(reply.json()["status"], reply.status, "{name}");
        writeln!(printed, "{name}\n  {}", reply.text()).unwrap();
    }
    printed
}

#[tokio::test]
async fn broken_bodies() {
    let broken = [
        ("empty", ""),
        ("not closed", r#"{"customer_id":"ann""#),
        ("more behind", r#"{"customer_id":"ann","message":"hi"} x"#),
        ("an array", r#"["default","default","ann","api","hi"]"#),
        ("a broken array", "[1,"),
        ("a word", "hi"),
        ("half a surrogate", r#"{"customer_id":"ann","message":"\ud800"}"#),
        ("a raw line break", "{\"customer_id\":\"ann\",\"message\":\"a\nb\"}"),
    ];
    let mut bodies: Vec<_> =
        broken.map(|(name, body)| (name, body.as_bytes().to_vec())).into_iter().collect();
    bodies.push(("not UTF-8", b"{\"customer_id\":\"ann\",\"message\":\"\xff\"}".to_vec()));
    bodies.push(("not UTF-8 where nobody looks", b"{\"x\":\"\xff\"}".to_vec()));
    bodies
        .push(("too deep", format!("{{\"metadata\":{{\"x\":{}", "[".repeat(100_000)).into_bytes()));
    insta::assert_snapshot!(refusals(&bodies).await);
}

#[tokio::test]
async fn wrong_fields() {
    let good = json!({ "customer_id": "ann", "message": "hi" });
    let with = |field: &str, value: serde_json::Value| {
        let mut body = good.clone();
        body[field] = value;
        body.to_string().into_bytes()
    };
    let session = |key: &str, field: &str, value: &str| {
        let mut body = json!({ "session": key, "message": "hi" });
        body[field] = json!(value);
        body.to_string().into_bytes()
    };
    let cases = [
        ("message missing", json!({ "customer_id": "ann" }).to_string().into_bytes()),
        ("message null", with("message", json!(null))),
        ("message a number", with("message", json!(5))),
        ("message empty", with("message", json!(""))),
        ("message blank", with("message", json!(" \n\t "))),
        ("message invisible", with("message", json!(" \u{200b}\u{200f}\u{2060}\u{feff}\n"))),
        ("message with a bell", with("message", json!("ding\u{7}"))),
        ("message with a zero", with("message", json!("a\u{0}b"))),
        ("message too long", with("message", json!("x".repeat(64 * 1024 + 1)))),
        ("customer_id missing", json!({ "message": "hi" }).to_string().into_bytes()),
        ("customer_id an object", with("customer_id", json!({}))),
        ("customer_id empty", with("customer_id", json!(""))),
        ("customer_id too long", with("customer_id", json!("x".repeat(129)))),
        ("customer_id with a line break", with("customer_id", json!("a\nb"))),
        ("customer_id blank", with("customer_id", json!("  "))),
        ("customer_id invisible", with("customer_id", json!("\u{200b}\u{feff}"))),
        ("tenant_id a list", with("tenant_id", json!(["a"]))),
        ("tenant_id too long", with("tenant_id", json!("x".repeat(129)))),
        ("agent_id unknown", with("agent_id", json!("nobody"))),
        ("agent_id true", with("agent_id", json!(true))),
        ("channel unknown", with("channel", json!("pigeon"))),
        ("channel a number", with("channel", json!(1.5))),
        ("id empty", with("id", json!(""))),
        ("id too long", with("id", json!("x".repeat(257)))),
        ("id with an escape", with("id", json!("\u{1b}[31m"))),
        ("id a number", with("id", json!(7))),
        ("metadata a text", with("metadata", json!("x"))),
        ("metadata a list", with("metadata", json!([]))),
        ("session no key", with("session", json!("a:b"))),
        ("session of no kind", with("session", json!("a:default:api:x:b"))),
        ("session of a blank peer", session("a:default:api:dm: ", "message", "hi")),
        ("session of another tenant", session("a:default:api:dm:b", "tenant_id", "b")),
        ("session of another agent", session("a:default:api:dm:b", "agent_id", "talker")),
        ("session of another channel", session("a:default:api:dm:b", "channel", "web")),
        ("session of another customer", session("a:default:api:dm:b", "customer_id", "c")),
        ("session and a blank customer_id", session("a:default:api:dm:b", "customer_id", "")),
        (
            "session and a customer_id with a bell",
            session("a:default:api:dm:b", "customer_id", "\u{7}"),
        ),
        ("a field nobody knows", with("mesage", json!("hi"))),
        ("a field nobody knows, deep", with("text", json!({ "metadata": 1 }))),
        ("twice", br#"{"message":"a","message":"b","customer_id":"ann"}"#.to_vec()),
    ];
    insta::assert_snapshot!(refusals(&cases).await);
}

#[tokio::test]
async fn wrong_requests() {
    let world = World::new().await;
    let unknown = "/v1/sessions/default%3Adefault%3Aapi%3Adm%3Anobody";
    let nowhere = "/v1/turns/00000000-0000-7000-8000-000000000000";
    let body = r#"{"customer_id":"ann","message":"hi"}"#;
    let form = ("content-type", "application/x-www-form-urlencoded");
    let calls: Vec<Call<'_>> = vec![
        ("GET", "/nothing/here".into(), vec![], ""),
        ("GET", "/v1/chat".into(), vec![], ""),
        ("DELETE", "/v1/sessions".into(), vec![], ""),
        ("POST", "/v1/chat".into(), vec![], body),
        ("POST", "/v1/chat".into(), vec![form], body),
        ("POST", "/v1/chat".into(), vec![("content-type", "application/jsonx")], body),
        ("POST", "/v1/chat?wait=soon".into(), vec![JSON], body),
        ("POST", "/v1/chat?wait=-1".into(), vec![JSON], body),
        ("POST", "/v1/chat?wait=NaN".into(), vec![JSON], body),
        ("GET", "/v1/sessions?limit=0".into(), vec![], ""),
        ("GET", "/v1/sessions?limit=1001".into(), vec![], ""),
        ("GET", "/v1/sessions?after=x".into(), vec![], ""),
        ("GET", "/v1/sessions/x".into(), vec![], ""),
        ("GET", "/v1/sessions/%ff".into(), vec![], ""),
        ("GET", unknown.into(), vec![], ""),
        ("GET", format!("{unknown}/messages"), vec![], ""),
        ("GET", format!("{unknown}/messages?after=x"), vec![], ""),
        ("GET", format!("{unknown}/turns"), vec![], ""),
        ("GET", format!("{unknown}/turns?before=x"), vec![], ""),
        ("GET", format!("{unknown}/deliveries"), vec![], ""),
        ("GET", format!("{unknown}/deliveries?after=1.x"), vec![], ""),
        ("GET", format!("{unknown}/events?after=-1"), vec![], ""),
        ("GET", format!("{unknown}/events"), vec![("last-event-id", "x")], ""),
        ("GET", "/v1/sessions/a%3Anobody%3Aapi%3Adm%3Ab/events".into(), vec![], ""),
        ("POST", format!("{unknown}/stop"), vec![], ""),
        ("POST", format!("{unknown}/stop"), vec![JSON], r#"{"turn_id":"x"}"#),
        ("POST", format!("{unknown}/stop"), vec![form], "turn_id=x"),
        ("POST", format!("{unknown}/new"), vec![], ""),
        ("POST", format!("{unknown}/close"), vec![], ""),
        ("POST", format!("{unknown}/queue"), vec![JSON], r#"{"busy_policy":"later"}"#),
        ("POST", format!("{unknown}/queue"), vec![JSON], "{}"),
        ("POST", format!("{unknown}/queue"), vec![JSON], r#"{"busy_policy":null}"#),
        ("POST", format!("{unknown}/queue"), vec![JSON], r#"{"busy_policy":null,"policy":1}"#),
        ("POST", "/v1/restrictions".into(), vec![JSON], r#"{"customer_id":"a","hours":-1}"#),
        ("POST", format!("{unknown}/deliveries/1/0/resend"), vec![], ""),
        ("POST", format!("{unknown}/deliveries/x/0/resend"), vec![], ""),
        ("GET", nowhere.into(), vec![], ""),
        ("GET", "/v1/turns/x".into(), vec![], ""),
        ("GET", "/v1/deadletters?after=x".into(), vec![], ""),
        ("POST", "/v1/deadletters/1/retry".into(), vec![], ""),
        ("POST", "/v1/deadletters/x/retry".into(), vec![], ""),
        ("POST", "/v1/deadletters/1/discard".into(), vec![], ""),
        ("GET", "/assets/nothing.js".into(), vec![], ""),
        ("GET", "/assets/index.html".into(), vec![], ""),
        ("GET", "/healthz".into(), vec![("host", "evil.example")], ""),
        ("POST", "/v1/chat".into(), vec![JSON, ("origin", "http://evil.example")], body),
        ("POST", "/v1/chat".into(), vec![JSON, ("origin", "null")], body),
    ];
    let mut printed = String::new();
    for (method, path, headers, body) in calls {
        let reply = world.call(method, &path, &headers, body).await;
        assert_eq!(reply.header("content-type"), "application/problem+json", "{method} {path}");
        assert_eq!(reply.json()["status"], reply.status, "{method} {path}");
        let allow = reply.header("allow");
        let allow = if allow.is_empty() { String::new() } else { format!(" (allow: {allow})") };
        writeln!(printed, "{method} {path}{allow}\n  {}", reply.text()).unwrap();
    }
    insta::assert_snapshot!(printed);
}

#[tokio::test]
async fn the_type_of_a_body_may_be_spelt_in_several_ways() {
    let world = World::new().await;
    let body = r#"{"customer_id":"ann","message":"hi"}"#;
    for spelt in ["Application/JSON; charset=utf-8", "application/vnd.x+json", "application/json;"]
    {
        let reply = world.call("POST", "/v1/chat", &[("content-type", spelt)], body).await;
        assert_eq!(reply.status, 202, "{spelt}");
    }
}

#[tokio::test]
async fn a_server_without_a_configuration_reloads_none() {
    let world = World::new().await;
    let reply = world.call("POST", "/v1/reload", &[], "").await;
    assert_eq!((reply.status, &reply.json()["title"]), (404, &json!("Not found")));
}
