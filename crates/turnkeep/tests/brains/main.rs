//! The real binary with brains that are programs: the Python examples, in everything that they show,
//! and one that leaves somebody behind.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(dead_code, reason = "the kit is shared with tests that need more of it")]

mod crash_kit;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crash_kit::{Server, client};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::unix::pipe::OpenOptions;
use tokio::time::{interval, timeout};

/// Nothing here takes long; what does is broken.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);
const SESSION: &str = "default%3Adefault%3Aweb%3Adm%3Aanna";

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Starts a server with this example as its agent, and these lines for the channel.
    fn start(&self, example: &str, env: &str, channel: &str) -> Server {
        let brain = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../examples/brains/python")
            .join(example);
        let env = format!("PYTHONDONTWRITEBYTECODE = \"1\"{env}");
        self.start_with(&format!("command = [\"python3\", {brain:?}]\nenv = {{ {env} }}"), channel)
    }

    fn start_with(&self, agent: &str, channel: &str) -> Server {
        let config = self.path().join("turnkeep.toml");
        let text =
            format!("[agents.default]\nkind = \"command\"\n{agent}\n[channels.web]\n{channel}\n");
        std::fs::write(&config, text).unwrap();
        Server::start(&config, &self.data(), &[]).unwrap()
    }

    fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    fn refunds(&self) -> String {
        std::fs::read_to_string(self.path().join("refunds.txt")).unwrap_or_default()
    }

    /// The promises hold for everything that is on record.
    fn audit(&self) {
        let mut audit = Command::new(env!("CARGO_BIN_EXE_turnkeep"));
        let said = audit.args(["audit", "--data-dir"]).arg(self.data()).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
    }
}

async fn say(server: &Server, text: &str, wait: &str) -> Value {
    let url = format!("{}/v1/chat{wait}", server.address);
    let body = json!({ "customer_id": "anna", "channel": "web", "message": text });
    let answer = client().post(url).json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    answer.json().await.unwrap()
}

/// Says it and waits for the reply.
async fn ask(server: &Server, text: &str) -> Value {
    let answer = say(server, text, "?wait=60").await;
    assert_eq!(answer["status"], "complete", "{answer}");
    answer
}

/// Waits until the session's journal has an event of this type; everything up to there.
async fn until(server: &Server, event: &str) -> String {
    let url = format!("{}/v1/sessions/{SESSION}/events", server.address);
    let mut events = client().get(url).header("last-event-id", "0").send().await.unwrap();
    let mut seen = String::new();
    let found = async {
        while !seen.contains(&format!("\"type\":\"{event}\"")) {
            let chunk = events.chunk().await.unwrap().expect("the stream ended");
            seen.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    if timeout(PATIENCE, found).await.is_err() {
        panic!("no {event} in\n{seen}");
    }
    seen
}

#[tokio::test]
async fn a_burst_is_answered_once() {
    let place = Place::new();
    let server = place.start("echo.py", "", "window_mode = \"fixed\"\nwindow_ms = 2000");
    let first = say(&server, "hello", "").await;
    let answer = ask(&server, "are you there?").await;
    assert_eq!(answer["reply"], "echo: hello\nare you there?");
    assert_eq!(answer["turn_id"], first["turn_id"]);
    let next = ask(&server, "fine").await;
    assert_eq!(next["reply"], "echo: fine");
    place.audit();
}

#[tokio::test]
async fn mail_is_absorbed_in_the_middle() {
    let place = Place::new();
    let server = place.start("echo.py", "", "window_ms = 0\nbusy_policy = \"absorb\"");
    let first = say(&server, "hello...", "").await;
    assert_eq!(first["action"], "workflow_started");
    until(&server, "turn.processing").await;
    let answer = ask(&server, "world").await;
    assert_eq!(
        (&answer["reply"], &answer["turn_id"]),
        (&json!("echo: hello...\nworld"), &first["turn_id"])
    );
    until(&server, "turn.message_absorbed").await;
    place.audit();
}

#[tokio::test]
async fn who_changes_their_mind_is_answered_anew() {
    let place = Place::new();
    let channel = "window_ms = 0\nbusy_policy = \"agent\"\nquestion_timeout_ms = 60000";
    let server = place.start("echo.py", "", channel);
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
    let server = place.start("refund.py", "", "window_ms = 0");
    say(&server, "I want my money back", "").await;
    let seen = until(&server, "turn.waiting_for_input").await;
    assert!(seen.contains("Which order shall I refund?"), "{seen}");
    assert_eq!(place.refunds(), "");
    let answer = ask(&server, "it is 17").await;
    assert_eq!(answer["reply"], "Order 17 is refunded.");
    assert_eq!(place.refunds(), "17\n");
    place.audit();
}

/// Passes once a process is gone, or dead and not yet fetched by the system. What it had open is
/// closed a moment before.
async fn gone(pid: &str) {
    let mut look = interval(LOOK);
    loop {
        look.tick().await;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
        if matches!(state, None | Some(Some('Z' | 'X'))) {
            return;
        }
    }
}

#[tokio::test]
async fn a_stop_ends_the_brain_and_whoever_it_started() {
    let place = Place::new();
    let alive = place.path().join("alive");
    assert!(Command::new("mkfifo").arg(&alive).status().unwrap().success());
    // Nobody has opened it for writing yet, so that it has no end either.
    let mut alive = OpenOptions::new().open_receiver(alive).unwrap();
    let script = "exec 9> alive; sleep 1000 & echo $$ $! >&9; wait";
    let agent = format!("command = [\"sh\", \"-c\", {script:?}]");
    let server = place.start_with(&agent, "window_ms = 0");
    say(&server, "hello", "").await;
    // Both are there.
    let mut pids = String::new();
    let mut told = BufReader::new(&mut alive);
    timeout(PATIENCE, told.read_line(&mut pids)).await.expect("no brain").unwrap();
    let url = format!("{}/v1/sessions/{SESSION}/stop", server.address);
    let stopped = client().post(url).json(&json!({})).send().await.unwrap();
    assert!(stopped.status().is_success(), "{}", stopped.text().await.unwrap());
    // Its end is the end of everybody who could write to it.
    let mut rest = Vec::new();
    timeout(PATIENCE, alive.read_to_end(&mut rest)).await.expect("somebody is left").unwrap();
    let pids: Vec<&str> = pids.split_whitespace().collect();
    assert_eq!(pids.len(), 2, "{pids:?}");
    for pid in pids {
        timeout(PATIENCE, gone(pid)).await.unwrap_or_else(|_| panic!("{pid} lives"));
    }
    until(&server, "turn.cancelled").await;
    place.audit();
}

#[tokio::test]
async fn nothing_is_refunded_twice_after_a_kill() {
    let place = Place::new();
    let mut server = place.start("refund.py", ", SHOP_SECONDS = \"1000\"", "window_ms = 0");
    say(&server, "please refund order 17", "").await;
    until(&server, "tool.intended").await;
    let paid = async {
        let mut look = interval(LOOK);
        while place.refunds() != "17\n" {
            look.tick().await;
        }
    };
    timeout(PATIENCE, paid).await.expect("nothing was paid");
    // Past the commit point nobody interferes.
    let next = say(&server, "and order 18", "").await;
    assert_eq!(next["action"], "queued");
    server.kill();
    drop(server);

    let server = place.start("refund.py", "", "window_ms = 0");
    let url = format!("{}/v1/sessions/{SESSION}/messages", server.address);
    let answer = ask(&server, "and 19, too").await;
    assert_eq!(answer["reply"], "Order 19 is refunded.");
    let said: Value = client().get(url).send().await.unwrap().json().await.unwrap();
    let lines = said["messages"].as_array().unwrap();
    let replies: Vec<&Value> =
        lines.iter().filter(|line| line["role"] == "agent").map(|line| &line["text"]).collect();
    let unknown = "I can't tell whether order 17 was refunded. A person will look.";
    assert!(replies.contains(&&json!(unknown)), "{said}");
    assert_eq!(place.refunds().matches("17\n").count(), 1, "{}", place.refunds());
    place.audit();
}

#[tokio::test]
async fn a_brain_that_fails_is_told_with_its_last_words() {
    let place = Place::new();
    let agent = "command = [\"python3\", \"-c\", \"raise SystemExit('no shop today')\"]\n\
                 error_backoff_ms = 0";
    let server = place.start_with(agent, "window_ms = 0");
    say(&server, "hello", "").await;
    let seen = until(&server, "turn.failed").await;
    let error =
        "the brain exited with status 1 before it had finished; its last words: no shop today";
    assert_eq!(seen.matches(error).count(), 3, "{seen}");
    place.audit();
}

#[tokio::test]
async fn a_silent_brain_is_ended() {
    let place = Place::new();
    let agent = "command = [\"sleep\", \"1000\"]\nsilence_timeout_seconds = 1\nerrors_max = 1";
    let server = place.start_with(agent, "window_ms = 0");
    say(&server, "hello", "").await;
    let seen = until(&server, "turn.failed").await;
    assert!(seen.contains("the agent was silent for too long"), "{seen}");
    place.audit();
}
