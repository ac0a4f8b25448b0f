//! What the tests of brains share: a server in a folder of its own, a person who writes to it, and
//! what is on record.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{interval, timeout};

use crate::crash_kit::{self, Server, client, logged};

/// Nothing here takes long; what does is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const LOOK: Duration = Duration::from_millis(20);
/// A channel that waits so long for more that nobody comes too late, however slow the machine is.
pub(crate) const BURST: &str = "window_mode = \"fixed\"\nwindow_ms = 6000\nwindow_total_ms = 60000";
pub(crate) const SESSION: &str = "default%3Adefault%3Aweb%3Adm%3Aanna";

pub(crate) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Starts a server with this example as its agent, and these lines for the channel.
    pub(crate) fn start(&self, example: &str, env: &str, channel: &str) -> Server {
        let brain = example_path(example);
        let env = format!("PYTHONDONTWRITEBYTECODE = \"1\"{env}");
        self.start_with(&format!("command = [\"python3\", {brain:?}]\nenv = {{ {env} }}"), channel)
    }

    /// The same for the example of this name in either language.
    pub(crate) fn start_in(&self, language: Language, example: &str, channel: &str) -> Server {
        match language {
            Language::Python => self.start(&format!("{example}.py"), "", channel),
            Language::TypeScript => {
                let brain = example_path(&format!("../typescript/{example}.ts"));
                self.start_with(&format!("command = [{:?}, {brain:?}]", node()), channel)
            }
        }
    }

    pub(crate) fn start_with(&self, agent: &str, channel: &str) -> Server {
        self.serve(&format!("kind = \"command\"\n{agent}"), channel)
    }

    /// Starts a server with these lines for its agent and for the channel.
    pub(crate) fn serve(&self, agent: &str, channel: &str) -> Server {
        let config = self.write(agent, channel);
        Server::start(&config, &self.data(), &[]).unwrap()
    }

    /// The same where a server of tools is there: a turn waits only so long for one that starts.
    pub(crate) async fn serve_with_tools(&self, agent: &str, channel: &str) -> Server {
        let config = self.config();
        // What the one before it said of its own is not meant.
        drop(std::fs::remove_file(config.with_extension("log")));
        let server = self.serve(agent, channel);
        logged(&config, "a tool server is there").await;
        server
    }

    /// Writes these lines into the configuration.
    pub(crate) fn write(&self, agent: &str, channel: &str) -> PathBuf {
        let config = self.config();
        let text = format!("[agents.default]\n{agent}\n[channels.web]\n{channel}\n");
        std::fs::write(&config, text).unwrap();
        config
    }

    fn config(&self) -> PathBuf {
        self.path().join("turnkeep.toml")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub(crate) fn refunds(&self) -> String {
        std::fs::read_to_string(self.path().join("refunds.txt")).unwrap_or_default()
    }

    /// Waits until these are the refunds that were paid.
    pub(crate) async fn until_refunded(&self, refunds: &str) {
        let paid = async {
            let mut look = interval(LOOK);
            while self.refunds() != refunds {
                look.tick().await;
            }
        };
        timeout(PATIENCE, paid).await.expect("nothing was paid");
    }

    /// The promises hold for everything that is on record.
    pub(crate) fn audit(&self) {
        let said = crash_kit::audit(&self.data());
        assert!(said.is_ok(), "{said:?}");
    }
}

/// What the examples are written in. Each shows the same in both.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Language {
    Python,
    TypeScript,
}

pub(crate) const LANGUAGES: [Language; 2] = [Language::Python, Language::TypeScript];

/// Where an example in Python stands.
pub(crate) fn example_path(example: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/brains/python").join(example)
}

/// Node, as the project's own scripts install it.
pub(crate) fn node() -> String {
    let node = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/brains/bin/node");
    assert!(node.exists(), "there is no {}: `make setup` installs it", node.display());
    node.display().to_string()
}

pub(crate) async fn say(server: &Server, text: &str, wait: &str) -> Value {
    let url = format!("{}/v1/chat{wait}", server.address);
    let body = json!({ "customer_id": "anna", "channel": "web", "message": text });
    let answer = client().post(url).json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    answer.json().await.unwrap()
}

/// Says it and waits for the reply.
pub(crate) async fn ask(server: &Server, text: &str) -> Value {
    let answer = say(server, text, "?wait=60").await;
    assert_eq!(answer["status"], "complete", "{answer}");
    answer
}

/// Waits until the session's journal has an event of this type; everything up to there.
pub(crate) async fn until(server: &Server, event: &str) -> String {
    let url = format!("{}/v1/sessions/{SESSION}/events", server.address);
    let mut events = client().get(url).header("last-event-id", "0").send().await.unwrap();
    let mut seen = String::new();
    // A piece may end within an event.
    let is_whole = |seen: &str| {
        let from = seen.find(&format!("\"type\":\"{event}\""));
        from.is_some_and(|from| seen[from..].contains("\n\n"))
    };
    let found = async {
        while !is_whole(&seen) {
            let chunk = events.chunk().await.unwrap().expect("the stream ended");
            seen.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    if timeout(PATIENCE, found).await.is_err() {
        panic!("no {event} in\n{seen}");
    }
    seen
}

/// Passes once a process is gone, or dead and not yet fetched by the system. What it had open is
/// closed a moment before.
pub(crate) async fn gone(pid: &str) {
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
