//! What the real binary tells of itself: its metrics, held against dashboard, alert rules and the
//! pages that explain them, and its line of the log for each decision.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(dead_code, reason = "the kit is shared with tests that need more of it")]

mod asked;
mod cluster;
#[path = "../crash_kit/mod.rs"]
mod crash_kit;
mod deployed;
mod log;
mod scrape;
#[path = "../store_kit/mod.rs"]
mod store_kit;
mod told;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use crash_kit::{Server, client};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use told::Told;

/// Nothing here takes long; what does is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// What every message here says; it must never be told.
const TEXT: &str = "marzipan";

/// A server that has everything: a guard, a channel that is pushed to, an account of Signal,
/// callbacks, traces, an agent that works for ever, and one whose provider is not there.
struct Home {
    dir: tempfile::TempDir,
    server: Server,
    client: reqwest::Client,
}

impl Home {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let receiver = receiver().await;
        let config = dir.path().join("turnkeep.toml");
        std::fs::write(&config, configuration(dir.path(), receiver)).unwrap();
        let phone = dir.path().join("phone").display().to_string();
        let env = [("SIGNAL_STANDIN_DIR", &*phone)];
        let server = Server::start(&config, &dir.path().join("data"), &env).unwrap();
        Self { dir, server, client: client() }
    }

    /// Sends a message; how it was answered.
    async fn say(&self, path: &str, mut fields: Value) -> Value {
        if fields["message"].is_null() {
            fields["message"] = TEXT.into();
        }
        let url = format!("{}{path}", self.server.address);
        self.client.post(url).json(&fields).send().await.unwrap().json().await.unwrap()
    }

    async fn told(&self) -> Told {
        let url = format!("{}/metrics", self.server.address);
        Told::read(&self.client.get(url).send().await.unwrap().text().await.unwrap())
    }

    /// Asks again and again until what is told is so.
    async fn until(&self, what: &str, is_so: impl Fn(&Told) -> bool) -> Told {
        let asked = async {
            loop {
                let told = self.told().await;
                if is_so(&told) {
                    return told;
                }
            }
        };
        let asked = tokio::time::timeout(PATIENCE, asked).await;
        asked.unwrap_or_else(|_| panic!("{what} never came to be"))
    }

    /// Has everything happen that is counted.
    async fn live_through_everything(&self) -> Told {
        let anna = json!({ "customer_id": "anna", "id": "m-1" });
        assert_eq!(self.say("/v1/chat?wait=60", anna.clone()).await["status"], "complete");
        assert_eq!(self.say("/v1/chat", anna).await["duplicate"], true);
        let busy = json!({ "customer_id": "bert", "agent_id": "slow" });
        assert_eq!(self.say("/v1/chat", busy.clone()).await["action"], "workflow_started");
        assert_eq!(self.say("/v1/chat", busy).await["action"], "queued");
        let joins = json!({ "customer_id": "cleo", "agent_id": "slow", "channel": "web" });
        assert_eq!(self.say("/v1/chat", joins.clone()).await["action"], "workflow_started");
        assert_eq!(self.say("/v1/chat", joins).await["action"], "event_sent");
        let abuse = json!({ "customer_id": "mallory", "message": "cheap pills" });
        let refused = self.say("/v1/chat", abuse).await;
        assert_eq!(refused["rejection_reason"], "abuse_detected:term");
        let quick = json!({ "customer_id": "dora", "tenant_id": "tight" });
        assert_eq!(self.say("/v1/chat", quick.clone()).await["action"], "workflow_started");
        let refused = self.say("/v1/chat", quick).await;
        assert_eq!(refused["rejection_reason"], "rate_limit_exceeded");
        let pushed = json!({ "customer_id": "emil", "channel": "sms" });
        assert_eq!(self.say("/v1/chat?wait=60", pushed).await["status"], "complete");
        let hopeless = json!({ "customer_id": "fred", "agent_id": "broken" });
        assert_eq!(self.say("/v1/chat?wait=60", hopeless).await["status"], "failed");
        self.until("all that happened", |told| {
            told.value("turnkeep_dead_letters", &[]) == 1.0
                && told.value("turn_gateway_callbacks_total", &[("outcome", "delivered")]) > 0.0
                && told.value("turnkeep_delivery_outcomes_total", &[("outcome", "sent")]) == 1.0
                && told.value("turnkeep_turns_open", &[("stage", "processing")]) == 2.0
                && told.value("turnkeep_turns_total", &[("status", "complete")]) == 3.0
                && told.value("turnkeep_runs_active", &[]) == 2.0
                && told.value("turnkeep_outbox_parts", &[]) == 0.0
                && told.value("turnkeep_outbox_oldest_seconds", &[]) == 0.0
        })
        .await
    }

    /// Ends the server as whoever runs it would, so that its last lines are written; its log.
    fn end(mut self) -> Vec<Value> {
        let pid = self.server.child.id().to_string();
        assert!(std::process::Command::new("kill").arg(&pid).status().unwrap().success());
        assert!(self.server.child.wait().unwrap().success());
        let log = std::fs::read_to_string(self.dir.path().join("turnkeep.log")).unwrap();
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn configuration(dir: &Path, receiver: SocketAddr) -> String {
    let secret = dir.join("secret");
    std::fs::write(&secret, "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let spool = dir.join("sms.jsonl");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../channels/tests");
    let signal_cli = tests.join("signal/daemon.py");
    format!(
        "log_format = \"json\"\nlog_level = \"debug\"\nshutdown_grace_seconds = 0\n\
         [telemetry]\notlp_endpoint = \"http://{receiver}\"\n\
         [gateway]\ncallbacks_may_reach = [\"127.0.0.0/8\"]\n\
         [guard]\nterms = [\"cheap pills\"]\n\
         [tenants.tight]\nrate_per_minute = 1\nrate_burst = 1\n\
         [channels.web]\nwindow_ms = 0\n[channels.sms]\nwindow_ms = 0\nspool = {spool:?}\n\
         [signal]\nnumber = \"+4915100000000\"\ncommand = [\"python3\", {signal_cli:?}]\n\
         [prices.echo]\noutput_per_million = 1\n\
         [agents.default]\nkind = \"echo\"\ntokens = true\ncallback_url = \"http://{receiver}/replies\"\n\
         callback_secret_file = {secret:?}\n\
         [agents.slow]\nkind = \"echo\"\ndelay_ms = 3600000\n\
         [agents.broken]\nkind = \"openai\"\nbase_url = \"http://{receiver}\"\nmodel = \"none\"\n\
         max_retries = 0\nerrors_max = 1\n"
    )
}

/// Takes callbacks; whoever wants a model's answer gets none.
async fn receiver() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A connection that breaks wants nothing.
            tokio::spawn(async move { drop(receive(stream).await) });
        }
    });
    address
}

async fn receive(stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    while stream.read_line(&mut head).await? > 0 && !head.ends_with("\r\n\r\n") {
        let line = head.lines().last().unwrap_or_default().to_ascii_lowercase();
        if let Some(given) = line.strip_prefix("content-length: ") {
            length = given.parse().unwrap();
        }
    }
    stream.read_exact(&mut vec![0; length]).await?;
    let status = if head.starts_with("POST /replies ") { "204 No Content" } else { "400 No" };
    let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(answer.as_bytes()).await
}

/// A file of the repository.
fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::read_to_string(root.join(path)).unwrap()
}
