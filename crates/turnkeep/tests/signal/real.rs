//! The real signal-cli, without Signal's servers: it starts, tells what it knows, refuses what is
//! wrong, dies and is started again.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use turnkeep_channels::signal::{self, Trusting, Way};

use crate::kit::{Household, repository};
use crate::port_kit::free_port;

const STRANGE: &str = "+4915100000099";

fn real() -> String {
    let program = repository("target/signal/bin/signal-cli");
    format!("command = {program:?}")
}

/// Its account is known to nobody, so nothing can come in; everything else works.
#[tokio::test(flavor = "multi_thread")]
async fn it_runs_as_a_child_and_is_started_again() {
    let mut home = Household::of(&real(), "[agents.default]\nkind = \"echo\"\n");
    home.start();
    let receiving = |told: &Value| told["accounts"][0]["receiving"].clone();
    home.until("a reason why nothing comes in", async || {
        home.ask("/v1/signal").await.is_some_and(|told| receiving(&told)["state"] == "failing")
    })
    .await;
    let told = home.ask("/v1/signal").await.unwrap();
    let why = receiving(&told)["why"].as_str().unwrap().to_owned();
    assert!(why.contains("account"), "{why}");
    let (code, out, _) = home.run(&["signal", "status"]);
    assert_eq!(code, Some(1));
    assert!(out.contains("failing since"), "{out}");
    // It dies, and another one takes its place.
    home.kill_child();
    home.until("another start", async || {
        let told = home.ask("/v1/signal").await.unwrap();
        told["accounts"][0]["restarts"] == 1 && receiving(&told)["state"] == "failing"
    })
    .await;
    // Whatever Signal does, the server takes messages, and says what is wrong beside it.
    let ready = home.ask("/readyz").await.unwrap();
    assert_eq!(ready["status"], "ok");
    assert_eq!(ready["signal"], "1 of 1 accounts can't receive, 1 can't send");
    home.end();
}

/// It unpacks its library at every start. Killed with its server, again and again, it leaves one
/// behind, in the data folder.
#[tokio::test(flavor = "multi_thread")]
async fn what_it_unpacks_does_not_add_up() {
    let mut home = Household::of(&real(), "[agents.default]\nkind = \"echo\"\n");
    let libraries = |home: &Household| {
        let mut found = Vec::new();
        let mut folders = vec![home.data()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|end| end == "so") {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    };
    let mut before = Vec::new();
    for _ in 0..2 {
        home.start();
        home.until("a library that is unpacked", async || {
            let told = home.ask("/v1/signal").await;
            let fails =
                told.is_some_and(|told| told["accounts"][0]["receiving"]["state"] == "failing");
            fails && !libraries(&home).is_empty()
        })
        .await;
        let now = libraries(&home);
        let folder = home.data().join("signal/unpacked/server");
        assert!(now.iter().all(|path| path.starts_with(&folder)), "{now:?}");
        assert!(before.iter().all(|path| !now.contains(path)), "{before:?} {now:?}");
        before = now;
        home.kill_child();
        home.kill();
    }
    // And one that is started for a command leaves nothing.
    let one = libraries(&home);
    let (code, _, said) = home.run(&["signal", "accounts"]);
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(libraries(&home), one);
}

#[test]
fn it_knows_no_account() {
    let home = Household::of(&real(), "");
    let (code, out, said) = home.run(&["signal", "accounts"]);
    assert_eq!((code, &*out), (Some(1), "number\tconfigured as\n"), "{said}");
    assert!(said.contains("is configured and not linked"), "{said}");
}

/// The adapter's own client, over each way that there is to reach it.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_asked_as_a_program_and_as_a_daemon() {
    // The adapter's HTTP client insists on a TLS provider though nothing here is encrypted.
    drop(crate::crash_kit::client());
    let dir = tempfile::tempdir().unwrap();
    let program = repository("target/signal/bin/signal-cli").display().to_string();
    let config_dir = dir.path().join("one");
    let child = Way::Child { command: vec![program.clone()], config_dir };
    let socket = dir.path().join("socket");
    let [tcp, http] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    let daemon = Command::new(&program)
        .arg("--config")
        .arg(dir.path().join("two"))
        .args(["daemon", "--receive-mode=manual", "--socket"])
        .arg(&socket)
        .args(["--tcp", &tcp, "--http", &http])
        .env("SIGNAL_CLI_OPTS", unpacks_in(dir.path()))
        .stderr(Stdio::piped())
        .spawn();
    let mut daemon = Ended(daemon.unwrap());
    // It tells when each of its doors is open; whoever stops listening there would break it.
    let mut log = BufReader::new(daemon.0.stderr.take().unwrap());
    let mut told = String::new();
    while told.matches("Started ").count() < 3 {
        assert!(log.read_line(&mut told).unwrap() > 0, "it ended: {told}");
    }
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    let ways = [child, Way::Unix(socket), Way::Tcp(tcp), Way::Http(format!("http://{http}"))];
    for way in ways {
        assert_eq!(signal::version(&way).await.unwrap(), "0.13.19", "{way:?}");
        assert_eq!(signal::list_accounts(&way).await.unwrap(), [""; 0], "{way:?}");
        // An account that it does not know.
        let trusted = signal::trust(&way, STRANGE, STRANGE, &Trusting::AllKnownKeys).await;
        let why = trusted.unwrap_err().to_string();
        assert!(why.contains("account") || why.contains("registered"), "{way:?}: {why}");
        // Signal's servers are out of reach; it says so instead of waiting.
        let linked = signal::link(&way, "Kitchen", |_| ()).await;
        assert!(linked.is_err(), "{way:?}: {linked:?}");
    }
}

/// What is malformed is refused, by the codes that the adapter goes by, and what follows is answered.
#[test]
fn it_refuses_what_is_malformed_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let child = Command::new(repository("target/signal/bin/signal-cli"))
        .arg("--config")
        .arg(dir.path())
        .args(["--output", "json", "jsonRpc", "--receive-mode=manual"])
        .env("SIGNAL_CLI_OPTS", unpacks_in(dir.path()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = Ended(child.unwrap());
    let mut answers = BufReader::new(child.0.stdout.take().unwrap());
    let mut calls = child.0.stdin.take().unwrap();
    let mut ask = |line: String| {
        calls.write_all(line.as_bytes()).unwrap();
        answer(&mut answers)
    };
    let call = |method: &str, params: Value| {
        format!("{}\n", json!({"jsonrpc": "2.0", "id": "1", "method": method, "params": params}))
    };
    assert_eq!(ask("not json\n".to_owned())["error"]["code"], -32700);
    assert_eq!(ask("{\"id\": 1}\n".to_owned())["error"]["code"], -32600);
    assert_eq!(ask(call("nothing", json!({})))["error"]["code"], -32601);
    let send = json!({"account": STRANGE, "recipient": [STRANGE], "message": "hello"});
    assert_eq!(ask(call("send", send))["error"]["code"], -32602);
    assert_eq!(ask(call("subscribeReceive", json!({})))["result"], 0);
    let unknown = json!({"subscription": 7});
    assert!(ask(call("unsubscribeReceive", unknown))["error"]["code"].is_number());
    assert_eq!(ask(call("listAccounts", json!({})))["result"], json!([]));
    assert_eq!(ask(call("version", json!({})))["result"]["version"], "0.13.19");
    // Whoever closes its standard input ends it.
    drop(calls);
    assert!(child.0.wait().unwrap().success());
}

fn answer(answers: &mut BufReader<ChildStdout>) -> Value {
    let mut line = String::new();
    answers.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

/// Killed ones leave what they unpacked behind; here it goes with the test.
fn unpacks_in(folder: &Path) -> String {
    format!("-Djava.io.tmpdir={}", folder.display())
}

/// A process that does not outlive its test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
