//! The real binary has messages checked by a real server that allows, refuses, talks rubbish, is
//! slow or is not there, and remembers what it held when it was killed.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(dead_code, reason = "the kit is shared with tests that need more of it")]

mod crash_kit;
mod store_kit;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crash_kit::{Server, client, logged};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

const SECRET: &str = "nobody-sees-this-key";
/// Nothing here takes long; what does is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// Checks messages by what they say: `rude` is refused, `rubbish` gets no answer that is one, and
/// `slow` none until the test wants it.
struct Checker {
    address: SocketAddr,
    asked: mpsc::UnboundedReceiver<Value>,
    /// What is slow is answered.
    slow: watch::Sender<bool>,
}

impl Checker {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, asked) = mpsc::unbounded_channel();
        let (slow, answered) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (sender, answered) = (sender.clone(), answered.clone());
                tokio::spawn(async move {
                    // A connection that was cut off by a kill asks nothing.
                    let _ = answer(stream, &sender, answered).await;
                });
            }
        });
        Self { address, asked, slow }
    }

    async fn next(&mut self) -> Value {
        tokio::time::timeout(PATIENCE, self.asked.recv()).await.expect("nobody asked").unwrap()
    }
}

async fn answer(
    stream: TcpStream,
    asked: &mpsc::UnboundedSender<Value>,
    mut slow: watch::Receiver<bool>,
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut headers = HashMap::new();
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    assert_eq!(headers["authorization"], format!("Bearer {SECRET}"));
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    stream.read_exact(&mut body).await.ok()?;
    let question: Value = serde_json::from_slice(&body).unwrap();
    let text = question["text"].as_str().unwrap().to_owned();
    asked.send(question).ok()?;
    if text.contains("slow") {
        slow.wait_for(|answered| *answered).await.ok()?;
    }
    let said = match () {
        () if text.contains("rubbish") => "<html>nginx</html>".to_owned(),
        () if text.contains("rude") => json!({ "allow": false, "reason": "rude" }).to_string(),
        () => json!({ "allow": true }).to_string(),
    };
    let length = said.len();
    let answer =
        format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{said}");
    stream.write_all(answer.as_bytes()).await.ok()
}

/// A configuration that has messages checked at this address.
fn configure(dir: &Path, address: SocketAddr, rule: &str) -> PathBuf {
    let secret = dir.join("secret");
    std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = dir.join("turnkeep.toml");
    let text = format!(
        "log_level = \"debug\"\n[agents.default]\nkind = \"echo\"\n\
         [guard]\nmoderation_url = \"http://{address}/check?token=hidden\"\n\
         moderation_secret_file = {secret:?}\n{rule}"
    );
    std::fs::write(&config, text).unwrap();
    config
}

async fn ask(server: &Server, text: &str) -> Value {
    let url = format!("{}/v1/chat?wait=60", server.address);
    let body = json!({ "customer_id": "anna", "message": text });
    let answer = client().post(url).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

/// What the agent repeated, once it is so many lines.
async fn told(server: &Server, lines: usize) -> Vec<String> {
    let client = client();
    let url = format!("{}/v1/sessions/default:default:api:dm:anna/messages", server.address);
    let look = async {
        loop {
            let page: Value = client.get(&url).send().await.unwrap().json().await.unwrap();
            let said = page["messages"].as_array().unwrap().iter();
            let replies = said.filter(|line| line["role"] == "agent");
            let replies = replies.map(|line| line["text"].as_str().unwrap());
            let told = replies.flat_map(|text| text.strip_prefix("echo: ").unwrap().lines());
            let told: Vec<String> = told.map(str::to_owned).collect();
            if told.len() >= lines {
                return told;
            }
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("not everything is answered")
}

fn audit(dir: &Path) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnkeep"));
    command.env_clear().env("HOME", dir).current_dir(dir).args(["audit", "--data-dir"]);
    let data = dir.join("data");
    let output = command.arg(&data).envs(store_kit::store(&data)).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.success(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_allowed_refused_or_left_to_the_default() {
    let dir = tempfile::tempdir().unwrap();
    let mut checker = Checker::new().await;
    let rule = |timeout_ms: u32| {
        format!("moderation_timeout_ms = {timeout_ms}\nmoderation_default = \"refuse\"\n")
    };
    let config = configure(dir.path(), checker.address, &rule(50_000));
    let server = Server::start(&config, &dir.path().join("data"), &[]).unwrap();
    assert_eq!(ask(&server, "hello").await["reply"], "echo: hello");
    let question = checker.next().await;
    assert_eq!(
        (&question["text"], &question["tenant"], &question["channel"]),
        (&json!("hello"), &json!("default"), &json!("api"))
    );
    assert!(question["message_id"].is_string(), "{question}");
    for text in ["rude words", "rubbish", "slow"] {
        if text == "rubbish" {
            // From here on nobody answers in time.
            configure(dir.path(), checker.address, &rule(700));
            let reloaded = client().post(format!("{}/v1/reload", server.address)).send().await;
            assert_eq!(reloaded.unwrap().status(), 200);
        }
        let settled = ask(&server, text).await;
        assert_eq!(
            (&settled["status"], &settled["reply"]),
            (&json!("failed"), &Value::Null),
            "{text}"
        );
    }
    let (clean, said) = audit(dir.path());
    assert!(clean, "{said}");
    let log = logged(&config, "a message could not be checked").await;
    for hidden in [SECRET, "token=hidden", "rude words"] {
        assert!(!log.contains(hidden), "{hidden} stands in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_is_there_the_default_holds() {
    let dir = tempfile::tempdir().unwrap();
    // Port 9 of this machine is reserved for a service that nobody runs.
    let address = SocketAddr::from(([127, 0, 0, 1], 9));
    let config = configure(dir.path(), address, "moderation_timeout_ms = 300\n");
    let server = Server::start(&config, &dir.path().join("data"), &[]).unwrap();
    assert_eq!(ask(&server, "hello").await["reply"], "echo: hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_outlives_a_kill_and_is_checked_again() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut silent = Checker::new().await;
    let rule = "moderation_timeout_ms = 50000\nmoderation_default = \"refuse\"\n";
    let config = configure(dir.path(), silent.address, rule);
    let mut server = Server::start(&config, &data, &[]).unwrap();
    let url = format!("{}/v1/chat", server.address);
    for text in ["slow one", "quick one"] {
        let body = json!({ "customer_id": "anna", "message": text });
        let answer = client().post(&url).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 202);
        assert_eq!(silent.next().await["text"], text);
    }
    server.kill();
    let mut patient = Checker::new().await;
    let config = configure(dir.path(), patient.address, rule);
    let server = Server::start(&config, &data, &[]).unwrap();
    // The kill may have come before the other one's answer was durable; then both are asked about
    // again, in any order.
    while patient.next().await["text"] != "slow one" {}
    // Whoever comes now stays behind those who wait.
    let url = format!("{}/v1/chat", server.address);
    let body = json!({ "customer_id": "anna", "message": "last one" });
    assert_eq!(client().post(url).json(&body).send().await.unwrap().status(), 202);
    while patient.next().await["text"] != "last one" {}
    patient.slow.send_replace(true);
    assert_eq!(told(&server, 3).await, ["slow one", "quick one", "last one"]);
    let (clean, said) = audit(dir.path());
    assert!(clean, "{said}");
}
