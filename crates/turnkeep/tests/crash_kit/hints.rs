//! Servers on one database with a Redis beside it, which is emptied, stopped, killed, or somebody
//! else's: messages go on, and how it stands is told.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Instant;

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::crash_kit::{Server, client, logged};
use crate::database::{config, run, try_run};
use crate::{LIMIT, postgres_server, redis_server};

/// Three messages at once, and then one a day or so: whatever time a test takes is nothing.
const RATES: &str = "rate_per_minute = 1\nrate_burst = 3\n";

/// A database with a Redis beside it.
struct Place {
    dir: tempfile::TempDir,
    database: postgres_server::Server,
    redis: redis_server::Server,
}

impl Place {
    fn new() -> Self {
        let (dir, database) = (tempfile::tempdir().unwrap(), postgres_server::Server::start(""));
        Self { dir, database, redis: redis_server::Server::new() }
    }

    /// The configuration of a server.
    fn config(&self, name: &str) -> (PathBuf, PathBuf) {
        let home = self.dir.path().join(name);
        if !home.exists() {
            std::fs::create_dir(&home).unwrap();
        }
        let secret = home.join("redis.url");
        std::fs::write(&secret, format!("{}\n", self.redis.address())).unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        let more = format!(
            "node = \"{name}\"\n[redis]\nurl_file = \"redis.url\"\ncall_timeout_ms = 1000\n\
             limit_timeout_ms = 1000\nconnect_timeout_ms = 20000\n"
        );
        let config = config(&home, &self.database, &more);
        let text = std::fs::read_to_string(&config).unwrap();
        let text = text.replace("rate_limiting_enabled = false\n", "");
        // Long enough to be seen elsewhere, whatever else the machine does.
        let agent = format!("delay_ms = 20000\nstream = true\n{RATES}");
        let text = text.replace("delay_ms = 1\n", &agent);
        std::fs::write(&config, text).unwrap();
        (config, home.join("data"))
    }

    fn start(&self, name: &str) -> Server {
        let (config, data) = self.config(name);
        Server::start(&config, &data, &[]).unwrap()
    }

    /// What Redis answers to a line.
    fn asked(&self, line: &str) -> String {
        let mut redis = UnixStream::connect(self.redis.socket()).unwrap();
        redis.write_all(format!("{line}\r\nQUIT\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        redis.read_to_string(&mut answer).unwrap();
        answer
    }
}

/// One message of a customer; says with what it was answered.
async fn sends(client: &reqwest::Client, server: &Server, customer: &str) -> u16 {
    let body = json!({"customer_id": customer, "channel": "api", "message": "one two three four"});
    let url = format!("{}/v1/chat", server.address);
    client.post(url).json(&body).send().await.unwrap().status().as_u16()
}

async fn readiness(client: &reqwest::Client, server: &Server) -> Value {
    let answer = client.get(format!("{}/readyz", server.address)).send().await.unwrap();
    assert_eq!(answer.status(), 200, "hints are no reason not to be ready");
    answer.json().await.unwrap()
}

/// Asks until readiness says what is wrong with the hints as it is wanted.
async fn hints_are(client: &reqwest::Client, server: &Server, wanted: Option<&str>) {
    let since = Instant::now();
    loop {
        let said = readiness(client, server).await;
        let hints = said["hints"].as_str();
        match wanted {
            None if hints.is_none() => return,
            Some(wanted) if hints.is_some_and(|hints| hints.contains(wanted)) => return,
            _ => assert!(since.elapsed() < LIMIT, "readiness stays {said}, not {wanted:?}"),
        }
    }
}

async fn metric(client: &reqwest::Client, server: &Server, name: &str) -> u64 {
    let text = client.get(format!("{}/metrics", server.address)).send().await.unwrap();
    let text = text.text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not among {text}")).parse().unwrap()
}

/// Asks until so much was counted.
async fn counted(client: &reqwest::Client, server: &Server, name: &str, wanted: u64) {
    let since = Instant::now();
    while metric(client, server, name).await < wanted {
        assert!(since.elapsed() < LIMIT, "{name} stays below {wanted}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_are_those_of_all_servers_and_redis_may_go_at_any_time() {
    let (mut place, client) = (Place::new(), client());
    let (one, two) = (place.start("one"), place.start("two"));
    for (server, expect) in [(&one, 202), (&two, 202), (&one, 202), (&two, 429), (&one, 429)] {
        assert_eq!(sends(&client, server, "anna").await, expect);
    }
    drop(one);
    let one = place.start("one");
    assert_eq!(sends(&client, &one, "anna").await, 429, "a new process knows it, too");
    let rates = place.asked("KEYS *:limit:*");
    assert!(rates.contains(":customer:") && !rates.contains("anna"), "no name: {rates}");

    assert!(place.asked("FLUSHALL").starts_with("+OK"));
    for expect in [202, 202, 202, 429] {
        assert_eq!(sends(&client, &one, "ben").await, expect);
    }
    assert_eq!(sends(&client, &two, "ben").await, 429);

    place.redis.stop();
    for expect in [202, 202, 202, 429] {
        assert_eq!(sends(&client, &two, "carla").await, expect, "its own count decides");
    }
    hints_are(&client, &two, Some("Redis: ")).await;
    assert_eq!(
        metric(&client, &two, "turnkeep_redis_state{connection=\"calls\",state=\"up\"}").await,
        0
    );
    place.redis.go_on();
    hints_are(&client, &two, None).await;
    assert_eq!(
        metric(&client, &two, "turnkeep_redis_state{connection=\"calls\",state=\"up\"}").await,
        1
    );

    place.redis.kill();
    hints_are(&client, &one, Some("Redis: down: ")).await;
    assert_eq!(sends(&client, &one, "dora").await, 202);
    let (config, _) = place.config("one");
    let (told, _, code) = try_run(&config, &["doctor"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("servers go on without it meanwhile"), "{told}");
    // Nor is it a reason not to start.
    drop(two);
    let two = place.start("two");
    assert_eq!(sends(&client, &two, "dora").await, 202);
    place.redis.begin();
    for server in [&one, &two] {
        hints_are(&client, server, None).await;
    }
    assert_eq!(sends(&client, &two, "emil").await, 202);
    assert!(metric(&client, &one, "turnkeep_redis_flushed_total").await >= 1);
    let told = run(&config, &["doctor"]);
    assert!(told.contains("keys under turnkeep are those of default-"), "{told}");
    assert!(run(&config, &["check"]).contains("Redis, keys under turnkeep"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_is_seen_on_another_server_and_so_is_its_end() {
    let (place, client) = (Place::new(), client());
    let (one, two) = (place.start("one"), place.start("two"));
    assert_eq!(sends(&client, &one, "anna").await, 202);
    let url = format!("{}/v1/sessions/default%3Adefault%3Aapi%3Adm%3Aanna", two.address);
    let watched = client.get(format!("{url}/events")).send().await.unwrap();
    assert_eq!(watched.status(), 200);
    let (mut pieces, mut seen) = (watched.bytes_stream(), String::new());
    while !seen.contains("event: draft\n") {
        assert!(!seen.contains("turn.completed"), "its end came first: {seen}");
        let piece = tokio::time::timeout(LIMIT, pieces.next()).await.unwrap();
        seen.push_str(&String::from_utf8_lossy(&piece.unwrap().unwrap()));
    }
    assert!(seen.contains("echo: "), "{seen}");
    let stopped = client.post(format!("{url}/stop")).json(&json!({})).send().await.unwrap();
    assert_eq!(stopped.status(), 200, "{}", stopped.text().await.unwrap());
    while !seen.contains("event: turn.cancelled\n") {
        let piece = tokio::time::timeout(LIMIT, pieces.next()).await.unwrap();
        seen.push_str(&String::from_utf8_lossy(&piece.unwrap().unwrap()));
    }
    // It was told that somebody wants something, though it may have seen that before it heard it.
    counted(&client, &one, "turnkeep_redis_heard_total", 1).await;
}

#[tokio::test]
async fn the_keys_of_another_deployment_are_refused() {
    let place = Place::new();
    assert!(place.asked("SET turnkeep:cluster other-0123").starts_with("+OK"));
    let (config, data) = place.config("one");
    assert!(Server::start(&config, &data, &[]).is_none());
    let said = std::fs::read_to_string(config.with_extension("log")).unwrap();
    let expect = "the keys under \"turnkeep\" belong to another deployment (other-0123)";
    assert!(said.contains(expect) && said.contains("remove its key turnkeep:cluster"), "{said}");
    assert!(!place.asked("KEYS *").contains("since"), "nothing was written");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("[redis]\n", "[redis]\nprefix = \"shop\"\n")).unwrap();
    let server = Server::start(&config, &data, &[]).unwrap();
    hints_are(&client(), &server, None).await;
    assert!(place.asked("KEYS *").contains("shop:cluster"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_keeps_in_redis_stays_and_messages_go_on() {
    let (place, client) = (Place::new(), client());
    let ours = "turnkeep:{default:default:api:dm:anna}:turn";
    for line in ["RPUSH shop:cart one two", &format!("RPUSH {ours} theirs")] {
        assert!(place.asked(line).starts_with(':'), "{line}");
    }
    let server = place.start("one");
    hints_are(&client, &server, None).await;
    // The rates of whoever writes next are of a type that no rate has.
    assert_eq!(sends(&client, &server, "ben").await, 202);
    let rates = place.asked("KEYS *:limit:*");
    let rates: Vec<&str> = rates.lines().filter(|line| line.contains(":limit:")).collect();
    assert!(!rates.is_empty());
    for key in &rates {
        assert!(place.asked(&format!("DEL {key}")).starts_with(':'));
        assert!(place.asked(&format!("HSET {key} a b")).starts_with(':'), "{key}");
    }
    for (customer, expect) in [("ben", 202), ("ben", 202), ("ben", 429), ("anna", 202)] {
        assert_eq!(sends(&client, &server, customer).await, expect, "its own count decides");
    }
    hints_are(&client, &server, Some("somebody else wrote")).await;
    let name = "turnkeep_redis_foreign_total";
    let before = metric(&client, &server, name).await;
    assert!(before >= 2 * rates.len() as u64, "{before}");
    // Nobody writes any more: this is who runs anna's turn, which is said again and again.
    counted(&client, &server, name, before + 1).await;
    assert!(place.asked("LRANGE shop:cart 0 -1").contains("two"));
    assert!(place.asked(&format!("LRANGE {ours} 0 -1")).contains("theirs"));
    for key in rates {
        assert!(place.asked(&format!("HGETALL {key}")).contains('b'), "{key}");
    }
    logged(&place.config("one").0, "holds what somebody else wrote").await;
}
