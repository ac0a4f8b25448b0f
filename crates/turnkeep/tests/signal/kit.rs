//! A household: a server in a folder of its own, a stand-in for signal-cli, and people with phones.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{interval, timeout};

use crate::crash_kit::{Server, client};
use crate::store_kit::store;

/// Nothing here takes long; what does is broken.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at what came of something.
const LOOK: Duration = Duration::from_millis(10);
/// The account's number.
pub(crate) const NUMBER: &str = "+4915100000000";
/// Any moment will do; each message has one of its own.
const EPOCH: u64 = 1_790_000_000_000;

/// Somebody with a phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Phone(pub(crate) u32);

impl Phone {
    pub(crate) fn number(self) -> String {
        format!("+49170{:07}", self.0)
    }

    /// Signal's own name of them.
    pub(crate) fn uuid(self) -> String {
        format!("00000000-0000-4000-8000-{:012}", self.0)
    }

    pub(crate) fn session(self) -> String {
        format!("default:default:signal:dm:{}", self.uuid())
    }
}

pub(crate) struct Household {
    dir: tempfile::TempDir,
    pub(crate) server: Option<Server>,
    client: reqwest::Client,
    clock: AtomicU64,
}

impl Household {
    /// A household of this configuration, whose server does not run yet. Whoever writes is let in.
    pub(crate) fn new(more: &str) -> Self {
        let daemon = repository("crates/channels/tests/signal/daemon.py");
        let signal = format!("command = [\"python3\", {daemon:?}]\nunknown = \"public\"");
        let home = Self::of(&signal, more);
        home.link(NUMBER);
        home
    }

    /// From here on this is the number that signal-cli is linked to.
    pub(crate) fn link(&self, number: &str) {
        let linked = json!({"accounts": [{"path": "0", "environment": "LIVE", "number": number}]});
        let folder = self.data().join("signal/data");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("accounts.json"), linked.to_string()).unwrap();
        std::fs::write(self.path("phone/accounts"), format!("{number}\n")).unwrap();
    }

    /// The same with these keys in its `[signal]`.
    pub(crate) fn of(signal: &str, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "log_level = \"info,turnkeep_channels=debug\"\nshutdown_grace_seconds = 2\n\
             [gateway]\nrate_limiting_enabled = false\n\
             [signal]\nnumber = \"{NUMBER}\"\n{signal}\n\
             [channels.signal]\nwindow_ms = 0\n{more}\n"
        );
        std::fs::write(dir.path().join("turnkeep.toml"), text).unwrap();
        std::fs::create_dir(dir.path().join("phone")).unwrap();
        Self { dir, server: None, client: client(), clock: AtomicU64::new(EPOCH) }
    }

    /// The same, running.
    pub(crate) fn started(more: &str) -> Self {
        let mut household = Self::new(more);
        household.start();
        household
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    pub(crate) fn start(&mut self) {
        let phone = self.path("phone").display().to_string();
        let env = [("SIGNAL_STANDIN_DIR", &*phone)];
        let server = Server::start(&self.path("turnkeep.toml"), &self.data(), &env);
        self.server = Some(server.expect("it starts"));
        // Connections to the one before are of no use.
        self.client = client();
    }

    /// A stand-in that runs by itself, with this door open.
    pub(crate) fn daemon(&self, door: &str, place: &str) -> std::process::Child {
        let door = if door == "unix" { "--socket".to_owned() } else { format!("--{door}") };
        let daemon = repository("crates/channels/tests/signal/daemon.py");
        let mut command = Command::new("python3");
        command.arg(daemon).args(["daemon", &door, place, "--receive-mode=manual"]);
        command.env("SIGNAL_STANDIN_DIR", self.path("phone")).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// `kill -9` of the server.
    pub(crate) fn kill(&mut self) {
        self.server = None;
    }

    /// `kill -9` of whoever speaks for signal-cli now.
    pub(crate) fn kill_daemon(&self) {
        if let Some(start) = self.noted("starts.jsonl").last() {
            // One that is gone already needs no killing.
            let _ = Command::new("kill").args(["-9", &start["pid"].to_string()]).output();
        }
    }

    /// `kill -9` of the process that the server started as its signal-cli.
    pub(crate) fn kill_child(&self) {
        let folder = std::fs::read_dir(self.data().join("signal")).unwrap();
        let mut cards = folder.map(|entry| entry.unwrap().path());
        let card = cards.find(|path| path.extension().is_some_and(|end| end == "pid")).unwrap();
        let card = std::fs::read_to_string(card).unwrap();
        let pid = card.split_whitespace().next().unwrap();
        assert!(Command::new("kill").args(["-9", pid]).status().unwrap().success());
    }

    /// Ends the server as whoever runs it would.
    pub(crate) fn end(&mut self) {
        let mut server = self.server.take().unwrap();
        let pid = server.child.id().to_string();
        assert!(Command::new("kill").arg(&pid).status().unwrap().success());
        assert!(server.child.wait().unwrap().success());
    }

    /// Everybody's phones send at once; the ids that the messages have.
    pub(crate) fn say(&self, messages: &[(Phone, &str)]) {
        let mut lines = String::new();
        for (phone, text) in messages {
            lines += &format!(
                "{}\n",
                json!({"account": NUMBER, "envelope": self.envelope(*phone, text)})
            );
        }
        let path = self.path("phone/inject.jsonl");
        let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
        // In one piece, so that nobody is a moment behind.
        file.write_all(lines.as_bytes()).unwrap();
    }

    fn envelope(&self, phone: Phone, text: &str) -> Value {
        let at = self.clock.fetch_add(1, Ordering::Relaxed);
        json!({
            "source": phone.number(),
            "sourceNumber": phone.number(),
            "sourceUuid": phone.uuid(),
            "sourceName": format!("Person {}", phone.0),
            "sourceDevice": 1,
            "timestamp": at,
            "serverReceivedTimestamp": at + 1,
            "serverDeliveredTimestamp": at + 2,
            "dataMessage": {
                "timestamp": at,
                "message": text,
                "expiresInSeconds": 0,
                "isExpirationUpdate": false,
                "viewOnce": false
            }
        })
    }

    /// What the stand-in wrote into one of its files.
    pub(crate) fn noted(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("phone").join(name)).unwrap_or_default();
        // The last line may be half there.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Texts that this phone got, oldest first.
    pub(crate) fn got(&self, phone: Phone) -> Vec<String> {
        let calls = self.calls("send", phone).into_iter();
        calls.map(|params| params["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Whether "typing" was shown to this phone or hidden, each time, oldest first.
    pub(crate) fn typing(&self, phone: Phone) -> Vec<bool> {
        let calls = self.calls("sendTyping", phone).into_iter();
        calls.map(|params| params["stop"] != true).collect()
    }

    fn calls(&self, method: &str, phone: Phone) -> Vec<Value> {
        let mut calls = self.noted("sent.jsonl");
        calls.retain(|call| call["method"] == method && call["refused"].is_null());
        let for_phone = |params: &Value| {
            let to = &params["recipient"];
            let is = |one: &Value| one == &json!(phone.uuid()) || one == &json!(phone.number());
            is(to) || to.as_array().is_some_and(|all| all.iter().any(is))
        };
        calls.into_iter().map(|call| call["params"].clone()).filter(for_phone).collect()
    }

    /// An answer of the server's API; none while nobody answers.
    pub(crate) async fn ask(&self, path: &str) -> Option<Value> {
        let url = format!("{}{path}", self.server.as_ref()?.address);
        let answer = self.client.get(url).send().await.ok()?;
        answer.json().await.ok()
    }

    /// All that is told of a list, page by page.
    pub(crate) async fn list(&self, path: &str, name: &str) -> Vec<Value> {
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let asked = format!("{path}?limit=500{after}");
            let Some(mut page) = self.ask(&asked).await else { return all };
            let Some(rows) = page[name].as_array_mut() else { return all };
            all.append(rows);
            match &page["next"] {
                Value::Null => return all,
                Value::String(next) => after = format!("&after={next}"),
                next => after = format!("&after={next}"),
            }
        }
    }

    /// What was said in a session, by this role.
    pub(crate) async fn said(&self, phone: Phone, role: &str) -> Vec<Value> {
        let path = format!("/v1/sessions/{}/messages", phone.session().replace(':', "%3A"));
        let mut lines = self.list(&path, "messages").await;
        lines.retain(|line| line["role"] == role);
        lines
    }

    pub(crate) async fn deliveries(&self, phone: Phone) -> Vec<Value> {
        let path = format!("/v1/sessions/{}/deliveries", phone.session().replace(':', "%3A"));
        self.list(&path, "deliveries").await
    }

    /// The journals of all sessions, in the order in which they were written, as far as they go now.
    pub(crate) async fn journal(&self) -> Vec<Value> {
        let sessions = self.list("/v1/sessions", "sessions").await.into_iter();
        let end = |row: Value| (row["session"].to_string(), row["last_seq"].as_u64().unwrap());
        let mut ends: HashMap<String, u64> =
            sessions.map(end).filter(|(_, last)| *last > 0).collect();
        let url = format!("{}/v1/events?after=0", self.server.as_ref().unwrap().address);
        let mut answer = self.client.get(url).send().await.unwrap();
        let (mut events, mut rest) = (Vec::new(), Vec::new());
        let told = async {
            while !ends.is_empty() {
                rest.extend_from_slice(&answer.chunk().await.unwrap().unwrap());
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    let Some(data) = line.strip_prefix(b"data: ") else { continue };
                    let event: Value = serde_json::from_slice(data).unwrap();
                    let (session, seq) = (event["session"].to_string(), event["seq"].as_u64());
                    if ends.get(&session).is_some_and(|last| seq >= Some(*last)) {
                        ends.remove(&session);
                    }
                    events.push(event);
                }
            }
        };
        assert!(timeout(PATIENCE, told).await.is_ok(), "the stream never tells all: {ends:?}");
        events
    }

    /// Looks again and again until it is so.
    pub(crate) async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let mut look = interval(LOOK);
        let looked = async {
            while !is_so().await {
                look.tick().await;
            }
        };
        if timeout(PATIENCE, looked).await.is_err() {
            let log = std::fs::read_to_string(self.path("turnkeep.log")).unwrap_or_default();
            let end: Vec<&str> = log.lines().rev().take(40).collect();
            let end: Vec<&str> = end.into_iter().rev().collect();
            panic!("{what} never came to be\n{}", end.join("\n"));
        }
    }

    /// The program, with these arguments, in this household's folder.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_turnkeep"));
        command
            .args(args)
            .arg("--config")
            .arg(self.path("turnkeep.toml"))
            .arg("--data-dir")
            .arg(self.data())
            .env("SIGNAL_STANDIN_DIR", self.path("phone"))
            .envs(store(&self.data()))
            .current_dir(self.dir.path());
        command
    }

    /// Runs it; its exit code, what it printed and what it said beside that.
    pub(crate) fn run(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = self.command(args);
        if args.first() == Some(&"doctor") {
            // Somebody else may listen where nothing is configured.
            command.env("TURNKEEP_LISTEN", "127.0.0.1:0");
        }
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}

/// A file of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path).canonicalize().unwrap()
}
