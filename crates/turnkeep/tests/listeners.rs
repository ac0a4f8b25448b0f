//! The real binary tells a real receiver what happens: signed, without texts unless they are
//! allowed, again after a kill, and never to a closed address.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(dead_code, reason = "the kit is shared with tests that need more of it")]

mod crash_kit;
mod store_kit;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crash_kit::{Server, client};
use ring::hmac;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
/// What takes its place.
const NEW_KEY: &[u8] = b"fedcba9876543210fedcba9876543210";
/// Nothing here takes long; what does is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// A callback as it arrived.
#[derive(Debug)]
struct Callback {
    path: String,
    id: String,
    body: Value,
    /// The keys that it is signed with, in that order.
    signed_with: Vec<&'static [u8]>,
}

/// Checks what arrives as a customer's program would, and answers always the same.
struct Receiver {
    address: SocketAddr,
    arrived: mpsc::UnboundedReceiver<Callback>,
}

impl Receiver {
    async fn new(status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, arrived) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sender = sender.clone();
                tokio::spawn(async move {
                    // A connection that was cut off by a kill brings nothing.
                    if let Some(callback) = receive(stream, status).await {
                        let _ = sender.send(callback);
                    }
                });
            }
        });
        Self { address, arrived }
    }

    async fn next(&mut self) -> Callback {
        tokio::time::timeout(PATIENCE, self.arrived.recv()).await.expect("no callback").unwrap()
    }
}

async fn receive(stream: TcpStream, status: &str) -> Option<Callback> {
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    stream.read_line(&mut request).await.ok()?;
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers.get("content-length")?.parse().unwrap()];
    stream.read_exact(&mut body).await.ok()?;
    let mut signed = format!("{}.{}.", headers["webhook-id"], headers["webhook-timestamp"]);
    signed.push_str(std::str::from_utf8(&body).unwrap());
    let signer = |signature: &str| {
        let given = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
        let made_it = |key: &&[u8]| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key);
            hmac::verify(&key, signed.as_bytes(), &given).is_ok()
        };
        [KEY, NEW_KEY].into_iter().find(made_it).expect("a stranger signed")
    };
    let signed_with = headers["webhook-signature"].split(' ').map(signer).collect();
    let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.ok()?;
    let path = request.split(' ').nth(1)?.to_owned();
    let id = headers["webhook-id"].clone();
    Some(Callback { path, id, body: serde_json::from_slice(&body).unwrap(), signed_with })
}

/// A file that holds a key.
fn write_secret(path: PathBuf, key: &[u8]) -> PathBuf {
    std::fs::write(&path, format!("whsec_{}\n", STANDARD.encode(key))).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// A configuration whose listener `crm` and reply callback lead to the receiver.
fn configure(dir: &Path, host: &str, more: &str) -> PathBuf {
    let secret = write_secret(dir.join("secret"), KEY);
    let config = dir.join("turnkeep.toml");
    let text = format!(
        "log_level = \"debug\"\n[agents.default]\nkind = \"echo\"\n\
         callback_url = \"http://{host}/replies\"\ncallback_secret_file = {secret:?}\n\
         [listeners.crm]\nurl = \"http://{host}/crm?token=hidden\"\nsecret_file = {secret:?}\n\
         pattern = \"turn.*\"\n{more}"
    );
    std::fs::write(&config, text).unwrap();
    config
}

const LOOPBACK: &str = "[gateway]\ncallbacks_may_reach = [\"127.0.0.0/8\"]\n";

async fn say(server: &Server, text: &str) {
    let url = format!("{}/v1/chat?wait=60", server.address);
    let body = json!({ "customer_id": "anna", "message": text });
    let answer = client().post(url).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

/// `turnkeep listeners …` against the server of this data folder.
fn listeners(dir: &Path, args: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnkeep"));
    command.env_clear().env("HOME", dir).current_dir(dir).arg("listeners").args(args);
    let data = dir.join("data");
    command.arg("--data-dir").arg(&data).envs(store_kit::store(&data));
    let output = command.output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.success(), said)
}

/// Asks until a listener stands so.
async fn until(dir: &Path, listener: &str, is: impl Fn(&Value) -> bool) -> Value {
    let look = async {
        loop {
            let (_, said) = listeners(dir, &["--json"]);
            let page: Value = serde_json::from_str(&said).unwrap();
            let all = page["listeners"].as_array().unwrap();
            let one = all.iter().find(|one| one["name"] == listener).unwrap();
            if is(one) {
                return one.clone();
            }
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("it never stands so")
}

/// Asks until this line is among the server's numbers: they change a moment after the store.
async fn counted(server: &Server, line: &str) {
    let client = client();
    let look = async {
        loop {
            let answer = client.get(format!("{}/metrics", server.address)).send().await.unwrap();
            if answer.text().await.unwrap().contains(line) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("never says {line}"));
}

/// Whether a listener was told everything, and that is noted down.
fn is_done(listener: &Value) -> bool {
    listener["behind"] == 0 && listener["pending"] == 0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_is_told_and_can_check_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::new("204 No Content").await;
    let config = configure(dir.path(), &receiver.address.to_string(), LOOPBACK);
    let server = Server::start(&config, &dir.path().join("data"), &[]).unwrap();
    say(&server, "a secret thing").await;
    let mut crm = BTreeSet::new();
    for _ in 0..4 {
        let callback = receiver.next().await;
        let text = callback.body.to_string();
        if callback.path == "/replies" {
            assert_eq!(callback.body["type"], "turn.completed");
            assert_eq!(callback.body["data"]["reply"], "echo: a secret thing");
            assert!(callback.id.starts_with("msg_agents-default_"), "{}", callback.id);
        } else {
            assert_eq!(callback.path, "/crm?token=hidden");
            assert!(!text.contains("secret thing"), "{text}");
            crm.insert(callback.body["type"].as_str().unwrap().to_owned());
        }
    }
    let turns = ["turn.completed", "turn.processing", "turn.started"];
    assert!(crm.iter().map(String::as_str).eq(turns), "{crm:?}");
    for name in ["crm", "agents/default"] {
        until(dir.path(), name, is_done).await;
    }
    let (worked, said) = listeners(dir.path(), &[]);
    assert!(worked);
    let host = receiver.address;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [
            "name\tstate\tpattern\treceiver\tbehind\tpending\tdead",
            &format!("crm\ton\tturn.*\thttp://{host}\t0\t0\t0"),
            &format!("agents/default\ton\tturn.completed, turn.failed\thttp://{host}\t0\t0\t0"),
        ]
    );
    let log = std::fs::read_to_string(config.with_extension("log")).unwrap();
    for hidden in ["hidden", "secret thing", &STANDARD.encode(KEY), "0123456789abcdef"] {
        assert!(!log.contains(hidden), "{hidden} stands in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_before_a_kill_comes_again_under_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::new("200 OK").await;
    let config = configure(dir.path(), &receiver.address.to_string(), LOOPBACK);
    let data = dir.path().join("data");
    // Killed after the receiver answered and before that was noted down.
    let mut server = Server::start(&config, &data, &[("TURNKEEP_KILL_AT", "callback.tried:1")]);
    let server = server.as_mut().unwrap();
    let url = format!("{}/v1/chat", server.address);
    let body = json!({ "customer_id": "anna", "message": "hi" });
    // It may die before its answer arrives.
    let _ = client().post(url).json(&body).send().await;
    let first = receiver.next().await;
    server.child.wait().unwrap();
    let mut server = Server::start(&config, &data, &[]).unwrap();
    say(&server, "and again").await;
    let mut times: HashMap<String, u32> = HashMap::from([(first.id.clone(), 1)]);
    let mut completed = 0;
    while completed < 2 || times[&first.id] < 2 {
        let callback = receiver.next().await;
        *times.entry(callback.id).or_default() += 1;
        completed +=
            u32::from(callback.path != "/replies" && callback.body["type"] == "turn.completed");
    }
    until(dir.path(), "crm", is_done).await;
    server.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_takes_is_kept_counted_and_survives() {
    let dir = tempfile::tempdir().unwrap();
    // No second try comes while this test looks.
    let mut receiver = Receiver::new("500 Oh no\r\nretry-after: 3600").await;
    let config = configure(dir.path(), &receiver.address.to_string(), LOOPBACK);
    let data = dir.path().join("data");
    let mut server = Server::start(&config, &data, &[]).unwrap();
    say(&server, "hi").await;
    for _ in 0..4 {
        receiver.next().await;
    }
    until(dir.path(), "crm", |one| one["pending"] == 3).await;
    until(dir.path(), "agents/default", |one| one["pending"] == 1).await;
    for line in [
        "turn_gateway_callbacks_total{listener=\"crm\",outcome=\"failed\"} 3\n",
        "turn_gateway_callbacks_pending{listener=\"crm\"} 3\n",
        "turn_gateway_callbacks_pending{listener=\"agents/default\"} 1\n",
    ] {
        counted(&server, line).await;
    }
    server.kill();
    let _server = Server::start(&config, &data, &[]).unwrap();
    until(dir.path(), "crm", |one| one["pending"].as_u64() == Some(3)).await;
    let (worked, said) = listeners(dir.path(), &["dead", "crm"]);
    assert!(worked && said.contains("no dead callbacks"), "{said}");
    let (worked, said) = listeners(dir.path(), &["retry", "agents/default", "all"]);
    assert!(worked && said.contains("count\t0"), "{said}");
    let (worked, said) = listeners(dir.path(), &["discard", "crm", "7"]);
    assert_eq!((worked, said.as_str()), (false, "Not found: there is no dead callback 7\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_come_change_and_go_with_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::new("204 No Content").await;
    let host = receiver.address.to_string();
    let config = configure(dir.path(), &host, LOOPBACK);
    let server = Server::start(&config, &dir.path().join("data"), &[]).unwrap();
    say(&server, "one").await;
    for _ in 0..4 {
        receiver.next().await;
    }
    // What was not noted down yet would come once more after the reload.
    for name in ["crm", "agents/default"] {
        until(dir.path(), name, is_done).await;
    }
    let reload = || async {
        let url = format!("{}/v1/reload", server.address);
        let answer = client().post(url).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        answer.json::<Value>().await.unwrap()
    };
    // One is changed, one is new, and the agent's callback is gone.
    let before = std::fs::read_to_string(&config).unwrap();
    let secret = dir.path().join("secret");
    let late = format!(
        "[listeners.late]\nurl = \"http://{host}/late\"\nsecret_file = {secret:?}\n\
         pattern = \"turn.completed\"\n{LOOPBACK}"
    );
    let kept = before.lines().filter(|line| !line.starts_with("callback_"));
    let kept: String = kept.map(|line| format!("{line}\n")).collect();
    let kept = kept.replace("turn.*", "turn.completed").replace(LOOPBACK, &late);
    std::fs::write(&config, &kept).unwrap();
    let changed = reload().await["changed"].clone();
    assert_eq!(changed, json!(["agents.default", "listeners.crm", "listeners.late"]));
    say(&server, "two").await;
    let two = [receiver.next().await, receiver.next().await];
    let paths: BTreeSet<&str> = two.iter().map(|callback| &*callback.path).collect();
    assert_eq!(paths, BTreeSet::from(["/crm?token=hidden", "/late"]));
    assert!(two.iter().all(|callback| callback.body["type"] == "turn.completed"));
    for name in ["crm", "late"] {
        until(dir.path(), name, is_done).await;
    }
    assert!(receiver.arrived.try_recv().is_err(), "something else arrived");
    std::fs::write(&config, "").unwrap();
    reload().await;
    say(&server, "three").await;
    let (_, said) = listeners(dir.path(), &[]);
    assert!(!said.contains("crm"), "{said}");
    // Back again, it goes on where it was: nothing is left out.
    std::fs::write(&config, &kept).unwrap();
    reload().await;
    let three = [receiver.next().await, receiver.next().await];
    assert!(three.iter().all(|callback| callback.body["type"] == "turn.completed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_changed_and_no_callback_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::new("204 No Content").await;
    let config = configure(dir.path(), &receiver.address.to_string(), LOOPBACK);
    let server = Server::start(&config, &dir.path().join("data"), &[]).unwrap();
    let old = format!("{:?}", dir.path().join("secret"));
    let new = format!("{:?}", write_secret(dir.path().join("new-secret"), NEW_KEY));
    let before = std::fs::read_to_string(&config).unwrap();
    // Both sign, then whoever checks changes over, then the old one goes; and nothing restarts.
    let steps: [(String, &[&[u8]]); 3] =
        [(old.clone(), &[KEY]), (format!("[{new}, {old}]"), &[NEW_KEY, KEY]), (new, &[NEW_KEY])];
    for (at, (secrets, signers)) in steps.into_iter().enumerate() {
        if at > 0 {
            std::fs::write(&config, before.replace(&old, &secrets)).unwrap();
            let answer = client().post(format!("{}/v1/reload", server.address)).send().await;
            let reloaded: Value = answer.unwrap().json().await.unwrap();
            let changed = json!(["agents.default", "listeners.crm"]);
            assert_eq!(reloaded["changed"], changed, "{reloaded}");
        }
        say(&server, "hi").await;
        for _ in 0..4 {
            let callback = receiver.next().await;
            assert_eq!(callback.signed_with, signers, "{}", callback.path);
        }
        for name in ["crm", "agents/default"] {
            until(dir.path(), name, is_done).await;
        }
    }
}

#[test]
fn a_closed_address_is_a_mistake_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let config = configure(dir.path(), "localhost:80", "");
    assert!(Server::start(&config, &dir.path().join("data"), &[]).is_none());
    let said = std::fs::read_to_string(config.with_extension("log")).unwrap();
    for place in ["[listeners.crm]", "[agents.default]"] {
        let mistake = format!("in {place} leads to 127.0.0.1, which is not on the open internet");
        assert!(said.contains(&mistake), "{said}");
    }
    assert!(!said.contains("hidden"), "{said}");
}
