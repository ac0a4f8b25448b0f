//! What the crash tests share: the real binary, people who write to it whatever happens, and the
//! comparison of what they were told with what is there afterwards.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::store_kit::store;

/// The real binary, running.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) address: String,
}

impl Server {
    /// Starts it; none if it died before it was ready, as a kill point may have it.
    pub(crate) fn start(config: &Path, data: &Path, env: &[(&str, &str)]) -> Option<Self> {
        Self::start_as(&["serve"], config, data, env)
    }

    /// The same for what these words make of it.
    pub(crate) fn start_as(
        words: &[&str],
        config: &Path,
        data: &Path,
        env: &[(&str, &str)],
    ) -> Option<Self> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(config.with_extension("log"))
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_turnkeep"));
        command
            .args(words)
            .args(["--listen", "127.0.0.1:0", "--config"])
            .arg(config)
            .arg("--data-dir")
            .arg(data)
            .envs(store(data))
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Some(address) = line.trim().strip_prefix("listening on ") else {
            child.wait().unwrap();
            return None;
        };
        Some(Self { child, address: address.to_owned() })
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What stands in a server's log once it says this: a thread of its own writes the lines, a moment
/// after what they tell of.
pub(crate) async fn logged(config: &Path, what: &str) -> String {
    let (since, mut looks) = (Instant::now(), tokio::time::interval(Duration::from_millis(20)));
    loop {
        looks.tick().await;
        let told = std::fs::read_to_string(config.with_extension("log")).unwrap();
        if told.contains(what) {
            return told;
        }
        assert!(since.elapsed() < Duration::from_secs(60), "{what:?} is not in {told}");
    }
}

/// A client of its own for each server: connections of one that died are of no use to the next.
pub(crate) fn client() -> reqwest::Client {
    // The client insists on a TLS provider though nothing here is encrypted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// A person who writes numbered messages and notes which of them were acknowledged.
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) channel: &'static str,
    next: AtomicU64,
    /// Message ids that were answered with 202.
    pub(crate) acknowledged: Mutex<BTreeSet<String>>,
}

impl Person {
    pub(crate) fn new(name: &str, channel: &'static str) -> Arc<Self> {
        let (next, acknowledged) = (AtomicU64::new(1), Mutex::default());
        Arc::new(Self { name: name.to_owned(), channel, next, acknowledged })
    }

    pub(crate) fn session(&self) -> String {
        format!("default:default:{}:dm:{}", self.channel, self.name)
    }

    /// Writes until the server is gone or `limit` messages are through. A message without an
    /// answer is sent again under its own id, by the next call too.
    pub(crate) async fn write(&self, client: &reqwest::Client, address: &str, limit: u64) {
        for _ in 0..limit {
            let number = self.next.load(Ordering::Relaxed);
            let id = format!("{}-{number}", self.name);
            let body = json!({"customer_id": self.name, "channel": self.channel, "id": id,
                              "message": format!("text {number}")});
            let sent = client.post(format!("{address}/v1/chat")).json(&body).send().await;
            let Ok(answer) = sent else { return };
            match answer.status().as_u16() {
                202 => {
                    self.acknowledged.lock().unwrap().insert(id);
                    self.next.fetch_add(1, Ordering::Relaxed);
                }
                // The inbox is full: it is said, and nothing was taken.
                429 => {}
                503 => return,
                other => panic!("{other}: {}", answer.text().await.unwrap_or_default()),
            }
        }
    }

    /// One more message, followed to its answer: everything before it has its ending then.
    pub(crate) async fn settle(&self, client: &reqwest::Client, address: &str) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}-{number}", self.name);
        let body = json!({"customer_id": self.name, "channel": self.channel, "id": id,
                          "message": format!("text {number}")});
        let url = format!("{address}/v1/chat?wait=120");
        // The inbox may still be full of what was written before; then it is asked again, as the
        // answer says.
        let mut again = tokio::time::interval(Duration::from_secs(1));
        let follow = async {
            loop {
                again.tick().await;
                let answer = client.post(&url).json(&body).send().await.unwrap();
                if answer.status() != 429 {
                    return answer;
                }
            }
        };
        let answer = tokio::time::timeout(Duration::from_secs(120), follow).await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        self.acknowledged.lock().unwrap().insert(id);
    }
}

/// One line of a conversation, as the API tells it.
pub(crate) struct Line {
    pub(crate) role: String,
    pub(crate) text: String,
    pub(crate) message_id: Option<String>,
    turn_id: Option<String>,
}

pub(crate) async fn conversation(
    client: &reqwest::Client,
    address: &str,
    session: &str,
) -> Vec<Line> {
    let (mut lines, mut after) = (Vec::new(), 0);
    loop {
        let key = session.replace(':', "%3A");
        let url = format!("{address}/v1/sessions/{key}/messages?after={after}&limit=500");
        let page: Value = client.get(url).send().await.unwrap().json().await.unwrap();
        for message in page["messages"].as_array().unwrap() {
            let text = |name: &str| message[name].as_str().map(str::to_owned);
            lines.push(Line {
                role: text("role").unwrap(),
                text: text("text").unwrap(),
                message_id: text("message_id"),
                turn_id: text("turn_id"),
            });
        }
        match page["next"].as_u64() {
            Some(next) => after = next,
            None => return lines,
        }
    }
}

/// Holds what a person was told against what is there: every acknowledged message once, in a
/// committed turn, and one reply a turn with exactly that turn's texts, in order.
pub(crate) async fn compare(client: &reqwest::Client, address: &str, person: &Person) {
    let lines = conversation(client, address, &person.session()).await;
    let mut times: HashMap<&str, u32> = HashMap::new();
    let mut turns: BTreeMap<&str, (Vec<&str>, Vec<&str>)> = BTreeMap::new();
    for line in &lines {
        let turn = line.turn_id.as_deref();
        match line.role.as_str() {
            "user" => {
                let id = line.message_id.as_deref().unwrap();
                *times.entry(id).or_default() += 1;
                let turn = turn.unwrap_or_else(|| panic!("{id} is in no committed turn"));
                turns.entry(turn).or_default().0.push(&line.text);
            }
            "agent" => turns.entry(turn.unwrap()).or_default().1.push(&line.text),
            other => panic!("{}: an unexpected {other}: {}", person.name, line.text),
        }
    }
    for id in person.acknowledged.lock().unwrap().iter() {
        assert_eq!(times.get(id.as_str()), Some(&1), "{id} was acknowledged");
    }
    assert!(times.values().all(|count| *count == 1), "{times:?}");
    for (turn, (texts, replies)) in turns {
        assert_eq!(replies, [format!("echo: {}", texts.join("\n"))], "turn {turn}");
    }
}

/// What `turnkeep audit` says of a data folder.
pub(crate) fn audit(data: &Path) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_turnkeep"))
        .args(["audit", "--data-dir"])
        .arg(data)
        .envs(store(data))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(said) } else { Err(said + &complained) }
}

/// The preloaded disk that keeps only what was synced, built with the system's C compiler.
pub(crate) fn build_shim(dir: &Path) -> PathBuf {
    let library = dir.join("disk.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shim/disk.c");
    let built = Command::new("cc")
        .args(["-O1", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(source)
        .args(["-ldl", "-lpthread"])
        .status()
        .unwrap();
    assert!(built.success(), "the C compiler that built SQLite can build this too");
    library
}
