//! The Python examples as servers: what they show, and what becomes of a turn when the brain or the
//! gateway is killed.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::time::{interval, timeout};

use crate::crash_kit::{Server, client};
use crate::kit::{BURST, LOOK, PATIENCE, Place, SESSION, ask, example_path, say, until};
use crate::port_kit::free_port;

const SECRET: &[u8] = b"the secret that both sides know";

/// An example, listening.
pub(super) struct Brain {
    child: Child,
    port: String,
}

impl Brain {
    /// Starts it in this folder; port 0 is any.
    fn start(place: &Place, example: &str, port: &str, shop_seconds: &str) -> Self {
        let mut command = Command::new("python3");
        command.arg(example_path(example));
        Self::of(place, command, port, shop_seconds)
    }

    /// The same with any program.
    pub(super) fn of(place: &Place, mut command: Command, port: &str, shop_seconds: &str) -> Self {
        command.args(["--http", port]).current_dir(place.path());
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("SHOP_SECONDS", shop_seconds);
        command
            .env("BRAIN_SECRET", format!("whsec_{} {}", STANDARD.encode("an older one"), secret()));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().strip_prefix("listening on http://127.0.0.1:").unwrap().to_owned();
        Self { child, port }
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// `kill -9`.
    fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// The status that it answers to this, signed by somebody at this distance from now.
    async fn post(&self, key: &[u8], seconds_ago: u64, name: &str, body: &Value) -> u16 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let at = since_epoch.as_secs() - seconds_ago;
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
        let signed = ring::hmac::sign(&key, format!("{name}.{at}.{body}").as_bytes());
        let request = client()
            .post(self.url())
            .header("webhook-id", name)
            .header("webhook-timestamp", at)
            .header("webhook-signature", format!("v1,{}", STANDARD.encode(signed)))
            .body(body.to_string());
        timeout(PATIENCE, request.send()).await.expect("no answer").unwrap().status().as_u16()
    }
}

impl Drop for Brain {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What somebody needs who measures their own: never how long it took here.
#[test]
fn a_bench_of_a_brain_tells_what_it_costs_the_server() {
    let place = Place::new();
    let brain = Brain::start(&place, "echo.py", "0", "0");
    let server = place.gateway(&brain, "window_ms = 0");
    let bench = |more: &[&str]| {
        let mut bench = Command::new(env!("CARGO_BIN_EXE_turnkeep"));
        bench.args(["bench", "--server", &server.address, "--users", "3", "--messages", "2"]);
        let output = bench.args(["--delay-ms", "1"]).args(more).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let report: Value = serde_json::from_str(&bench(&["--json"])).unwrap();
    assert_eq!((&report["latency"]["count"], &report["errors"]), (&json!(6), &json!({})));
    let overhead = &report["overhead"];
    for figure in [&overhead["p50_ms"], &overhead["p99_ms"], &report["server"]["cpu_ms_per_turn"]] {
        assert!(figure.is_number(), "{report:#}");
    }
    let table = bench(&[]);
    let line = |begin: &str| table.lines().find(|line| line.trim_start().starts_with(begin));
    let over = line("over the agent's 1 ms, p50").unwrap_or_else(|| panic!("{table}"));
    assert!(over.contains("p99 "), "{table}");
    assert!(line("server CPU a turn").is_some() && !table.contains("is not known"), "{table}");
}

pub(super) fn secret() -> String {
    format!("whsec_{}", STANDARD.encode(SECRET))
}

impl Place {
    /// Starts a gateway whose agent is this brain.
    pub(super) fn gateway(&self, brain: &Brain, channel: &str) -> Server {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path().join("brain.secret");
        std::fs::write(&path, secret()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let agent = format!(
            "kind = \"http\"\nurl = {:?}\nsecret_file = \"brain.secret\"\nerror_backoff_ms = 0",
            brain.url()
        );
        self.serve(&agent, channel)
    }
}

#[tokio::test]
async fn a_burst_is_answered_once() {
    let place = Place::new();
    let brain = Brain::start(&place, "echo.py", "0", "0");
    let server = place.gateway(&brain, BURST);
    let first = say(&server, "hello", "").await;
    let answer = ask(&server, "are you there?").await;
    assert_eq!(answer["reply"], "echo: hello\nare you there?");
    assert_eq!(answer["turn_id"], first["turn_id"]);
    place.audit();
}

#[tokio::test]
async fn many_are_answered_at_once() {
    let place = Place::new();
    let brain = Brain::start(&place, "echo.py", "0", "0");
    let server = place.gateway(&brain, "window_ms = 0\nbusy_policy = \"absorb\"");
    let url = format!("{}/v1/chat?wait=60", server.address);
    let client = client();
    let write = |name: usize, text: &'static str, wait: bool| {
        let url = if wait { url.clone() } else { url.replace("?wait=60", "") };
        let body = json!({"customer_id": format!("c{name}"), "channel": "web", "message": text});
        let request = client.post(url).json(&body);
        async move { request.send().await.unwrap().json::<Value>().await.unwrap() }
    };
    // Each waits for more, and all of them at the same time.
    for name in 0..40 {
        assert_eq!(write(name, "hello...", false).await["action"], "workflow_started");
    }
    let answers = futures_util::future::join_all((0..40).map(|name| write(name, "world", true)));
    for answer in timeout(PATIENCE, answers).await.expect("somebody waits") {
        assert_eq!(answer["reply"], "echo: hello...\nworld", "{answer}");
    }
    place.audit();
}

#[tokio::test]
async fn who_changes_their_mind_is_answered_anew() {
    let place = Place::new();
    let brain = Brain::start(&place, "echo.py", "0", "0");
    let channel = "window_ms = 0\nbusy_policy = \"agent\"\nquestion_timeout_ms = 60000";
    let server = place.gateway(&brain, channel);
    let first = say(&server, "go to Rome...", "").await;
    until(&server, "turn.processing").await;
    let answer = ask(&server, "no, to Paris").await;
    assert_eq!(answer["reply"], "echo: go to Rome...\nno, to Paris");
    assert_ne!(answer["turn_id"], first["turn_id"]);
    let seen = until(&server, "turn.completed").await;
    assert!(seen.contains("\"choice\":\"supersede\""), "{seen}");
    place.audit();
}

#[tokio::test]
async fn a_user_is_asked_and_answers() {
    let place = Place::new();
    let brain = Brain::start(&place, "refund.py", "0", "0");
    let server = place.gateway(&brain, "window_ms = 0");
    say(&server, "I want my money back", "").await;
    until(&server, "turn.waiting_for_input").await;
    let answer = ask(&server, "it is 17").await;
    assert_eq!(answer["reply"], "Order 17 is refunded.");
    assert_eq!(place.refunds(), "17\n");
    place.audit();
}

#[tokio::test]
async fn nothing_is_refunded_twice_after_the_gateway_was_killed() {
    let place = Place::new();
    let brain = Brain::start(&place, "refund.py", "0", "1000");
    let mut server = place.gateway(&brain, "window_ms = 0");
    say(&server, "please refund order 17", "").await;
    place.until_refunded("17\n").await;
    server.kill();
    drop(server);

    // The same brain, which is still at it.
    let server = place.gateway(&brain, "window_ms = 0");
    let seen = until(&server, "turn.completed").await;
    assert!(
        seen.contains("I can't tell whether order 17 was refunded. A person will look."),
        "{seen}"
    );
    assert_eq!(place.refunds(), "17\n");
    place.audit();
}

#[tokio::test]
async fn a_brain_that_was_killed_starts_over() {
    let place = Place::new();
    let mut brain = Brain::start(&place, "echo.py", &free_port().to_string(), "0");
    let server = place.gateway(&brain, "window_ms = 0\nbusy_policy = \"absorb\"");
    let first = say(&server, "hello...", "").await;
    until(&server, "turn.processing").await;
    brain.kill();
    let _next = Brain::start(&place, "echo.py", &brain.port, "0");
    let seen = until(&server, "turn.retrying").await;
    assert!(seen.contains("the brain"), "{seen}");
    let answer = ask(&server, "world").await;
    assert_eq!(answer["reply"], "echo: hello...\nworld");
    assert_eq!(answer["turn_id"], first["turn_id"]);
    place.audit();
}

#[tokio::test]
async fn nothing_is_refunded_twice_after_the_brain_was_killed() {
    let place = Place::new();
    let mut brain = Brain::start(&place, "refund.py", &free_port().to_string(), "1000");
    let server = place.gateway(&brain, "window_ms = 0");
    say(&server, "please refund order 17", "").await;
    place.until_refunded("17\n").await;
    brain.kill();
    let _next = Brain::start(&place, "refund.py", &brain.port, "1000");
    let seen = until(&server, "turn.completed").await;
    assert!(
        seen.contains("I can't tell whether order 17 was refunded. A person will look."),
        "{seen}"
    );
    assert_eq!(place.refunds(), "17\n");
    place.audit();
}

/// A turn as the gateway posts it.
fn turn(attempt: u32) -> Value {
    let message = json!({"seq": 1, "message_id": "1", "sender": "ann", "text": "a...", "at": 0});
    json!({"type": "turn", "turn_id": "t", "attempt": attempt, "messages": [message],
           "history": [], "recorded": []})
}

#[tokio::test]
async fn strangers_replays_and_older_attempts_are_refused() {
    let place = Place::new();
    let brain = Brain::start(&place, "echo.py", "0", "0");
    let word = |kind: &str, attempt: u32| {
        json!({"type": kind, "turn_id": "t", "attempt": attempt, "last_event_id": 0, "first": 1,
               "objects": [{"type": "from_a_later_version", "id": "9"}]})
    };
    assert_eq!(brain.post(b"a stranger's secret", 0, "n1", &turn(2)).await, 401);
    assert_eq!(brain.post(SECRET, 301, "n1", &turn(2)).await, 401);
    assert_eq!(brain.post(SECRET, 0, "n1", &word("told", 2)).await, 404);
    assert_eq!(brain.post(SECRET, 0, "n0", &json!({"type": "turn"})).await, 400);
    assert_eq!(brain.post(SECRET, 0, "n1", &turn(2)).await, 200);
    assert_eq!(brain.post(SECRET, 0, "n1", &turn(3)).await, 409, "a name that it knows");
    assert_eq!(brain.post(SECRET, 0, "n2", &turn(2)).await, 409, "an attempt that it knows");
    assert_eq!(brain.post(SECRET, 0, "n3", &turn(1)).await, 409, "an older attempt");
    assert_eq!(brain.post(SECRET, 0, "n4", &word("told", 2)).await, 204);
    assert_eq!(brain.post(SECRET, 0, "n5", &word("resume", 2)).await, 200);
    assert_eq!(brain.post(SECRET, 0, "n5", &word("resume", 2)).await, 409, "a replay");
    assert_eq!(brain.post(SECRET, 0, "n6", &word("from_a_later_version", 2)).await, 400);
    assert_eq!(brain.post(SECRET, 0, "n7", &turn(3)).await, 200, "a newer attempt");
    assert_eq!(
        brain.post(SECRET, 0, "n8", &word("resume", 2)).await,
        404,
        "it ended the older one"
    );
    assert_eq!(brain.post(SECRET, 0, "n9", &word("cancelled", 3)).await, 204);
    assert_eq!(brain.post(SECRET, 0, "n10", &word("resume", 3)).await, 404);
}

#[tokio::test]
async fn a_stop_ends_the_brains_work() {
    let place = Place::new();
    let brain = Brain::start(&place, "echo.py", "0", "0");
    let server = place.gateway(&brain, "window_ms = 0");
    let first = say(&server, "hello...", "").await;
    until(&server, "turn.processing").await;
    let url = format!("{}/v1/sessions/{SESSION}/stop", server.address);
    let stopped = client().post(url).json(&json!({})).send().await.unwrap();
    assert!(stopped.status().is_success(), "{}", stopped.text().await.unwrap());
    until(&server, "turn.cancelled").await;
    let resume =
        json!({"type": "resume", "turn_id": first["turn_id"], "attempt": 1, "last_event_id": 0});
    let ended = async {
        let mut look = interval(LOOK);
        let mut name = 0;
        while brain.post(SECRET, 0, &format!("n{name}"), &resume).await != 404 {
            look.tick().await;
            name += 1;
        }
    };
    timeout(PATIENCE, ended).await.expect("the brain works on");
    place.audit();
}
