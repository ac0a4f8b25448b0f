//! Keys, tenants, names, origins, forwarded headers, guessing.

use serde_json::Value;

use super::kit::{Answer, HEALTHY, Home, Request, Server, attacker};

/// One address of each sort: what it needs, and where another tenant's things would be.
const ADDRESSES: [(&str, &str); 14] = [
    ("GET /v1/sessions", ""),
    ("GET /v1/sessions/{session}", ""),
    ("GET /v1/sessions/{session}/messages", ""),
    ("GET /v1/sessions/{session}/events", ""),
    ("POST /v1/sessions/{session}/stop", ""),
    (
        "POST /v1/chat",
        r#"{"customer_id": "anna", "message": "what only acme knows", "tenant_id": "acme"}"#,
    ),
    ("GET /v1/turns/{turn}", ""),
    ("GET /v1/deadletters", ""),
    ("GET /v1/restrictions/{restriction}", ""),
    ("POST /v1/restrictions/{restriction}/lift", ""),
    ("POST /v1/keys/{key}/revoke", ""),
    ("POST /v1/sign-ins", r#"{"customer_id": "anna", "tenant_id": "acme"}"#),
    ("GET /v1/events?tenant=acme", ""),
    ("GET /metrics", ""),
];

/// A server with two tenants, of which one has something to hide.
struct Town {
    home: Home,
    server: Server,
    acme: String,
    globex: String,
    /// The addresses above, filled in with what is the first tenant's.
    addresses: Vec<(String, &'static str)>,
}

impl Town {
    async fn new(config: &str) -> Self {
        let home = Home::new(config);
        let server = home.serve("warn", &[]);
        let acme = home.key(&["--tenant", "acme", "--scope", "admin"]);
        let globex = home.key(&["--tenant", "globex", "--scope", "admin"]);
        let said = ask(&server, "POST /v1/chat?wait=30", &acme, ADDRESSES[5].1).await.json();
        let wrong = r#"{"customer_id": "mallory", "severity": "block"}"#;
        let restriction = ask(&server, "POST /v1/restrictions", &acme, wrong).await.json();
        let key = ask(&server, "POST /v1/keys", &acme, r#"{"scopes": ["read"]}"#).await.json();
        let text = |value: &Value, field: &str| {
            value[field].as_str().map_or_else(|| value[field].to_string(), str::to_owned)
        };
        let known = [
            ("{session}", text(&said, "session")),
            ("{turn}", text(&said, "turn_id")),
            ("{restriction}", text(&restriction, "id")),
            ("{key}", text(&key, "id")),
        ];
        let fill = |line: &str| {
            known.iter().fold(line.to_owned(), |line, (name, id)| line.replace(name, id))
        };
        let addresses = ADDRESSES.map(|(line, body)| (fill(line), body)).into();
        Self { home, server, acme, globex, addresses }
    }

    /// Every address with this key, in turn from every address; what is not answered so is told.
    async fn all_answer(&self, key: &str, expect: impl Fn(&str) -> &'static [u16]) {
        for (number, (line, body)) in self.addresses.iter().enumerate() {
            let request = Request { body, ..Request::of(line, key) };
            let answer = self.server.ask(attacker(number), &request).await;
            assert!(expect(line).contains(&answer.status), "{line}: {}", answer.text);
            assert!(!answer.text.contains("only acme"), "{line} tells it: {}", answer.text);
        }
    }
}

async fn ask(server: &Server, line: &str, key: &str, body: &str) -> Answer {
    server.ask(HEALTHY, &Request { body, ..Request::of(line, key) }).await
}

#[tokio::test]
async fn every_sort_of_address_is_shut_to_every_sort_of_wrong_key() {
    let town = Town::new("").await;
    let revoked = town.home.key(&["--tenant", "acme", "--scope", "admin"]);
    let id = revoked.split('_').nth(1).unwrap();
    town.home.run(&["keys", "revoke", id]);
    let nearly = format!("{}x", &town.acme[..town.acme.len() - 1]);
    for key in ["", revoked.as_str(), nearly.as_str(), "nonsense"] {
        town.all_answer(key, |_| &[401]).await;
    }
    // A key that opens, for too little: it is told what is missing.
    let reads = town.home.key(&["--tenant", "acme", "--scope", "read"]);
    for (line, body) in town.addresses.iter().filter(|(line, _)| !line.contains("/events")) {
        let request = Request { body, ..Request::of(line, &reads) };
        let status = town.server.ask(attacker(0), &request).await.status;
        let may = line.starts_with("GET") && !line.ends_with("/metrics");
        assert!(may != (status == 403), "{line}: {status}");
    }
    town.server.is_well(&town.acme).await;
}

#[tokio::test]
async fn what_is_another_tenants_is_not_there() {
    let town = Town::new("").await;
    town.all_answer(&town.globex, |line| match line {
        // Lists show what is one's own: nothing.
        "GET /v1/sessions" | "GET /v1/deadletters" => &[200],
        "GET /metrics" => &[403],
        _ => &[404],
    })
    .await;
    // In the same words as what never was.
    for (line, never) in [
        ("GET /v1/sessions/acme:default:api:dm:anna", "GET /v1/sessions/acme:default:api:dm:zoe"),
        ("GET /v1/restrictions/1", "GET /v1/restrictions/999"),
    ] {
        let there = ask(&town.server, line, &town.globex, "").await.json();
        let gone = ask(&town.server, never, &town.globex, "").await.json();
        let name = |line: &str| line.rsplit(['/', ':']).next().unwrap().to_owned();
        let blank = |value: &Value, line: &str| value.to_string().replace(&name(line), "X");
        assert_eq!(blank(&there, line), blank(&gone, never));
    }
}

#[tokio::test]
async fn names_and_origins_are_checked_before_anything_else() {
    let town = Town::new("").await;
    let key = town.acme.as_str();
    let open = [("GET /healthz".to_owned(), ""), ("GET /v1/sign-in".to_owned(), "")];
    for (line, body) in town.addresses.iter().chain(&open) {
        for (host, expect) in [
            ("evil.example", 421),
            ("localhost.evil.example", 421),
            ("localhost@evil.example", 421),
            ("10.0.0.1", 421),
            ("", 421),
        ] {
            let mut request = Request { body, ..Request::of(line, key) };
            request.headers = vec![("host", host)];
            let answer = town.server.ask(attacker(1), &request).await;
            // Some of these are no names at all.
            let refused = [expect, 400].contains(&answer.status);
            assert!(refused, "{line} as {host:?}: {}", answer.text);
        }
        for origin in ["http://evil.example", "null", "http://localhost.evil.example", "file://"] {
            let request = Request { body, ..Request::of(line, key) }.with("origin", origin);
            let answer = town.server.ask(attacker(2), &request).await;
            assert_eq!(answer.status, 403, "{line} from {origin}: {}", answer.text);
            assert!(answer.header("access-control-allow-origin").is_none());
        }
    }
    let two = Request::of("GET /healthz", key).with("host", "evil.example");
    assert_eq!(town.server.ask(attacker(3), &two).await.status, 400);
    let absolute = Request::of("GET http://evil.example/healthz", key);
    assert_eq!(town.server.ask(attacker(3), &absolute).await.status, 421);
    let none = town.server.raw(attacker(3), b"GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n");
    assert_eq!(none.await.status, 400);
}

/// So many wrong keys from one address, each naming another client; what they were answered.
async fn guess(server: &Server, number: usize, count: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for guess in 0..count {
        let client = format!("198.51.100.{guess}");
        let key = format!("tk_aaaaaaaa_{guess}");
        let request = Request::of("GET /v1/sessions", &key).with("x-forwarded-for", &client);
        statuses.push(server.ask(attacker(number), &request).await.status);
    }
    statuses
}

#[tokio::test]
async fn whoever_guesses_is_stopped_and_nobody_else() {
    let town = Town::new("").await;
    let (server, key) = (&town.server, town.acme.as_str());
    // Forwarded headers of just anybody change nothing.
    let statuses = guess(server, 0, 30).await;
    assert_eq!(statuses[..10], [401; 10]);
    assert!(statuses.iter().filter(|status| **status == 429).count() >= 18, "{statuses:?}");
    // Not even the right key is tried from there now, and sign-in codes count alike.
    let right = server.ask(attacker(0), &Request::of("GET /v1/sessions", key)).await;
    assert_eq!(right.status, 429);
    assert!(right.header("retry-after").is_some(), "{}", right.text);
    let code = Request::post("/v1/sign-in", "", r#"{"code": "guessed"}"#);
    assert_eq!(server.ask(attacker(0), &code).await.status, 429);
    // Whoever comes from elsewhere is not held up.
    let other = server.ask(attacker(1), &Request::of("GET /v1/sessions", key)).await;
    assert_eq!(other.status, 200);
    server.is_well(key).await;
}

#[tokio::test]
async fn a_trusted_proxy_speaks_for_others() {
    let town = Town::new("trusted_proxies = [\"127.0.0.2\"]").await;
    let statuses = guess(&town.server, 0, 30).await;
    assert_eq!(statuses, [401; 30], "each client has guessed once");
    let statuses = guess(&town.server, 1, 30).await;
    assert!(statuses.contains(&429), "it is no proxy");
    // Who comes through it is known by its own address, and what it makes up does not count.
    let mut last = 0;
    for number in 0..15 {
        let made_up = format!("203.0.113.{number}, 198.51.100.200");
        let request = Request::of("GET /v1/sessions", "tk_wrong_one");
        let request = request.with("x-forwarded-for", &made_up);
        last = town.server.ask(attacker(0), &request).await.status;
    }
    assert_eq!(last, 429);
}
