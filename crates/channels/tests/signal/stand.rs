//! The stand-in, a channel over it, and ways to wait for both.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use turnkeep_channels::signal::{
    Attachments, Patience, SignalAccount, SignalChannel, SignalSettings, Way,
};
use turnkeep_core::outbox::DeliveryOutcome;
use turnkeep_core::ports::channel::{Channel as _, Outgoing};
use turnkeep_core::ports::intake::{AccountHealth, Listener as _, Pulse};

use crate::intake::Desk;

/// Our number, as the stand-in has it without being told.
pub(crate) const US: &str = "+4915100000000";
/// Anna's lasting name.
pub(crate) const ANNA: &str = "0a1b2c3d-0000-4000-8000-00000000a99a";
/// Anna's number.
pub(crate) const ANNAS_NUMBER: &str = "+4917000000001";
/// When the first message was sent.
pub(crate) const FIRST: i64 = 1_760_000_000_000;

/// Nothing here takes long; what does is broken.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(5);

/// Looks again and again.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looks = async {
        let mut beat = tokio::time::interval(LOOK);
        loop {
            beat.tick().await;
            if let Some(seen) = look().await {
                return seen;
            }
        }
    };
    tokio::time::timeout(PATIENCE, looks).await.unwrap_or_else(|_| panic!("never: {what}"))
}

/// For everything in this process that waits for an hour, so much time goes by at once.
pub(crate) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
    // Whoever waited goes on before more of it goes by.
    tokio::task::yield_now().await;
}

/// The folder of one stand-in, and ours.
pub(crate) struct Stand {
    folder: TempDir,
    accounts: Vec<SignalAccount>,
    pub(crate) patience: Patience,
    pub(crate) attachments_bytes_max: u64,
    pub(crate) attachments: Arc<Attachments>,
    pub(crate) receipts: bool,
}

impl Stand {
    pub(crate) fn new() -> Self {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let short = |milliseconds| Duration::from_millis(milliseconds);
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let stand = Self {
            folder,
            accounts: Vec::new(),
            patience: Patience {
                again: (short(20), short(200)),
                offer: (short(10), short(50)),
                ping_every: short(100),
                ..Patience::default()
            },
            attachments_bytes_max: 1000,
            attachments: Arc::new(Attachments::new(&data, 5000)),
            receipts: true,
        };
        fs::create_dir(stand.dir()).unwrap();
        stand.with(&[("home", US, "default")])
    }

    /// The same with other accounts: name, number and tenant of each.
    pub(crate) fn with(mut self, accounts: &[(&str, &str, &str)]) -> Self {
        let account = |(name, number, tenant): &(&str, &str, &str)| SignalAccount {
            name: (*name).into(),
            number: (*number).into(),
            tenant: (*tenant).into(),
        };
        self.accounts = accounts.iter().map(account).collect();
        let numbers: Vec<&str> = accounts.iter().map(|(_, number, _)| *number).collect();
        fs::write(self.dir().join("accounts"), numbers.join("\n")).unwrap();
        self
    }

    /// What the stand-in is steered through.
    pub(crate) fn dir(&self) -> PathBuf {
        self.folder.path().join("phone")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    pub(crate) fn command(&self) -> Vec<String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/signal/daemon.py");
        let steered = format!("SIGNAL_STANDIN_DIR={}", self.dir().display());
        vec!["env".into(), steered, "python3".into(), script.to_str().unwrap().into()]
    }

    pub(crate) fn child(&self) -> Way {
        Way::Child { command: self.command(), config_dir: self.config() }
    }

    /// A daemon that runs by itself; ended with what is returned.
    pub(crate) fn daemon(&self, arguments: &[&str]) -> Child {
        let command = self.command();
        Command::new(&command[0])
            .args(&command[1..])
            .arg("--config")
            .arg(self.config())
            .arg("daemon")
            .args(arguments)
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// A channel over it, with nobody listening yet.
    pub(crate) fn channel(&self, way: Way) -> Arc<SignalChannel> {
        let settings = SignalSettings {
            accounts: self.accounts.clone(),
            way,
            data_dir: self.data(),
            attachments_bytes_max: self.attachments_bytes_max,
            attachments: Arc::clone(&self.attachments),
            receipts: self.receipts,
            patience: self.patience,
        };
        Arc::new(SignalChannel::new(settings).unwrap())
    }

    /// A channel that listens.
    pub(crate) fn listen(&self, way: Way, desk: &Arc<Desk>) -> Listening {
        let channel = self.channel(way);
        let (listener, desk) = (Arc::clone(&channel), Arc::clone(desk));
        let task = tokio::spawn(async move { listener.listen(desk).await });
        Listening { channel, task }
    }

    /// Adds to a file that the stand-in reads.
    fn append(&self, name: &str, line: &Value) {
        let mut file =
            fs::OpenOptions::new().create(true).append(true).open(self.dir().join(name)).unwrap();
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Something is there to be heard.
    pub(crate) fn inject(&self, line: &Value) {
        self.append("inject.jsonl", line);
    }

    /// Anna sends something.
    pub(crate) fn anna(&self, at: i64, data: Value) {
        self.inject(&json!({"envelope": envelope(at, &data_message(at, data))}));
    }

    /// Anna writes something.
    pub(crate) fn says(&self, at: i64, text: &str) {
        self.anna(at, json!({"message": text}));
    }

    pub(crate) fn faults(&self, faults: &Value) {
        let path = self.dir().join("faults.json");
        fs::write(path.with_extension("new"), json!({"faults": faults}).to_string()).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }

    pub(crate) fn mark(&self, name: &str, there: bool) {
        let path = self.dir().join(name);
        if there { fs::write(path, "").unwrap() } else { fs::remove_file(path).unwrap() }
    }

    fn lines(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.dir().join(name)).unwrap_or_default();
        // The last line may be half there.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The parameters of each call of one method so far.
    pub(crate) fn called(&self, method: &str) -> Vec<Value> {
        let calls = self.lines("sent.jsonl");
        let these = calls.into_iter().filter(|call| call["method"] == method);
        these.map(|mut call| call["params"].take()).collect()
    }

    /// Waits for so many calls of one method.
    pub(crate) async fn calls(&self, method: &str, count: usize) -> Vec<Value> {
        until(method, async || Some(self.called(method)).filter(|calls| calls.len() >= count)).await
    }

    /// Waits for so many starts.
    pub(crate) async fn starts(&self, count: usize) -> Vec<Value> {
        let enough = async || Some(self.lines("starts.jsonl")).filter(|all| all.len() >= count);
        until("a start", enough).await
    }

    /// Kills the one that started last.
    pub(crate) async fn kill(&self) {
        let starts = self.starts(1).await;
        let number = i32::try_from(starts.last().unwrap()["pid"].as_i64().unwrap()).unwrap();
        let pid = rustix::process::Pid::from_raw(number).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    /// The files in which it says what it received.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let Ok(all) = fs::read_dir(self.config()) else { return Vec::new() };
        let paths = all.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|kind| kind == "jsonl")).collect()
    }
}

/// A channel that listens for as long as this lives.
pub(crate) struct Listening {
    pub(crate) channel: Arc<SignalChannel>,
    task: JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listening {
    pub(crate) async fn send(&self, text: &str) -> DeliveryOutcome {
        self.channel.send(part(&format!("default:default:signal:dm:{ANNA}"), text)).await
    }

    pub(crate) fn health(&self) -> Vec<AccountHealth> {
        self.channel.health()
    }

    /// Waits until the first account receives and sends.
    pub(crate) async fn works(&self) {
        let mut health = None;
        let works = async || {
            let first = self.health().remove(0);
            let works = (&first.receiving, &first.sending) == (&Pulse::Working, &Pulse::Working);
            health = Some(first);
            works.then_some(())
        };
        let working = tokio::time::timeout(PATIENCE / 2, until("works", works));
        assert!(working.await.is_ok(), "{health:?}");
    }

    /// Waits until the first account does not receive, for a reason with these words.
    pub(crate) async fn is_deaf(&self, words: &str) {
        until(words, async || {
            let Pulse::Failing { why, .. } = self.health().remove(0).receiving else { return None };
            why.contains(words).then_some(())
        })
        .await;
    }
}

pub(crate) fn part(session: &str, text: &str) -> Outgoing {
    Outgoing {
        session: session.parse().unwrap(),
        idempotency_key: "k".to_owned(),
        attempt: 1,
        text: text.into(),
        quote: None,
    }
}

/// An envelope of Anna's, as signal-cli's `JsonMessageEnvelope` has it, with something in it.
pub(crate) fn envelope(at: i64, content: &Value) -> Value {
    let mut envelope = json!({
        "source": ANNAS_NUMBER,
        "sourceNumber": ANNAS_NUMBER,
        "sourceUuid": ANNA,
        "sourceName": "Anna",
        "sourceDevice": 1,
        "timestamp": at,
        "serverReceivedTimestamp": at + 5,
        "serverDeliveredTimestamp": at + 9,
    });
    merge(&mut envelope, content);
    envelope
}

/// A `dataMessage` as `JsonDataMessage` has it, with something in it.
pub(crate) fn data_message(at: i64, content: Value) -> Value {
    let mut data =
        json!({"timestamp": at, "message": null, "expiresInSeconds": 0, "viewOnce": false});
    merge(&mut data, &content);
    json!({"dataMessage": data})
}

fn merge(into: &mut Value, from: &Value) {
    for (key, value) in from.as_object().unwrap() {
        into[key] = value.clone();
    }
}
