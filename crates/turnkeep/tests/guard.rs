//! The guard of the real binary: a limit hit, an abuser blocked, a restart, and the block lifted.
//! Beside it, `money`: budgets.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly, its helpers too")]

mod money;
mod pairing;
mod store_kit;
#[expect(dead_code, reason = "other tests look further")]
#[path = "store_kit/tables.rs"]
mod tables;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use assert_cmd::Command;
use serde_json::Value;
use store_kit::store;

/// A server with a folder of its own; killed at the end, as if the power had gone.
struct Server {
    child: Child,
}

impl Server {
    fn start(dir: &Path) -> Self {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_turnkeep"))
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(dir.join("turnkeep.toml"))
            .envs(store(&dir.join("data")))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening on "), "{line}");
        Self { child }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Types a command; its exit code, what it printed, what it complained of.
fn run(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_turnkeep"))
        .env_clear()
        .env("HOME", dir)
        .env("USER", "anna")
        .env("TZ", "UTC")
        .envs(store(&dir.join("data")))
        .current_dir(dir)
        .args(args)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn json(dir: &Path, args: &[&str]) -> Value {
    let (code, out, said) = run(dir, &[args, &["--json"]].concat());
    assert_eq!((code, said.as_str()), (0, ""), "{args:?}");
    serde_json::from_str(&out).unwrap()
}

fn folder(toml: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = format!("data_dir = \"data\"\n{toml}");
    std::fs::write(dir.path().join("turnkeep.toml"), config).unwrap();
    dir
}

const ECHO: &str = "[agents.default]\nkind = \"echo\"\n";

#[test]
fn a_block_by_hand_survives_the_server_and_is_lifted() {
    let home = folder(ECHO);
    let dir = home.path();
    let server = Server::start(dir);
    let (_, _, said) = run(dir, &["guard"]);
    assert_eq!(said, "nobody is restricted\n");
    let made = json(dir, &["guard", "block", "mallory", "--reason", "insults", "--hours", "48"]);
    assert_eq!(
        (made["severity"].as_str(), made["reason"].as_str()),
        (Some("block"), Some("insults"))
    );
    let (code, _, said) = run(dir, &["send", "--as", "mallory", "hi"]);
    assert_eq!(code, 1);
    assert!(said.contains("Abuse detected") && said.contains("(abuse_detected:manual)"), "{said}");
    drop(server);

    let _server = Server::start(dir);
    assert_eq!(run(dir, &["send", "--as", "mallory", "hi"]).0, 1);
    assert_eq!(run(dir, &["send", "--as", "anna", "hi"]).1, "echo: hi\n");
    let id = made["id"].to_string();
    let appealed = json(dir, &["guard", "appeal", &id, "it was my brother"]);
    assert_eq!(
        (appealed["appeal"].as_str(), appealed["in_force"].as_bool()),
        (Some("it was my brother"), Some(true))
    );
    let (_, listed, _) = run(dir, &["guard", "list"]);
    let line = listed.lines().nth(1).unwrap();
    assert!(line.starts_with("1\tdefault\tmallory\tblock\tmanual\t"), "{line}");
    assert!(line.ends_with("\tinsults\tit was my brother"), "{line}");
    let lifted = json(dir, &["guard", "lift", &id]);
    assert_eq!(
        (lifted["in_force"].as_bool(), lifted["lifted_by"].as_str()),
        (Some(false), Some("anna"))
    );
    assert_eq!(run(dir, &["send", "--as", "mallory", "hi"]).1, "echo: hi\n");
    let (_, all, _) = run(dir, &["guard", "list", "--all", "--customer", "mallory"]);
    assert!(all.contains("block (lifted: anna)"), "{all}");
    let (_, shown, _) = run(dir, &["guard", "show", &id]);
    assert!(shown.contains("lifted_by\tanna"), "{shown}");
    let (code, _, said) = run(dir, &["guard", "lift", "99"]);
    assert_eq!((code, said.as_str()), (1, "Not found: there is no restriction 99\n"));
}

#[test]
fn what_is_found_is_on_record_after_a_restart() {
    let home = folder(&format!(
        "{ECHO}[guard]\nterms = [\"cheap pills\"]\nterms_severity = \"block\"\n\
         [tenants.slow]\nrate_per_minute = 1\nrate_burst = 2\n"
    ));
    let dir = home.path();
    let server = Server::start(dir);
    let (code, _, said) = run(dir, &["send", "--as", "seller", "buy CHEAP pills"]);
    assert!(code == 1 && said.contains("(abuse_detected:term)"), "{said}");
    for text in ["one", "two"] {
        let told = run(dir, &["send", "--tenant", "slow", "--as", "anna", text]);
        assert_eq!(told.1, format!("echo: {text}\n"));
    }
    let (code, _, said) = run(dir, &["send", "--tenant", "slow", "--as", "anna", "three"]);
    assert!(code == 1 && said.contains("(rate_limit_exceeded); try again in "), "{said}");
    drop(server);

    let _server = Server::start(dir);
    let (code, _, said) = run(dir, &["send", "--as", "seller", "sorry"]);
    assert!(code == 1 && said.contains("(abuse_detected:term)"), "{said}");
    let listed = json(dir, &["guard"]);
    let [one] = &listed["restrictions"].as_array().unwrap()[..] else { panic!("{listed}") };
    assert_eq!((one["type"].as_str(), one["severity"].as_str()), (Some("term"), Some("block")));
    assert_eq!(one["reason"], "something of the list of terms");
}

#[test]
fn what_was_typed_wrongly_is_said() {
    let home = folder(ECHO);
    for args in [
        &["guard", "lift"][..],
        &["guard", "lift", "x"],
        &["guard", "block"],
        &["guard", "block", "mallory", "--hours", "0"],
        &["guard", "block", "mallory", "--hours", "1", "--permanent"],
        &["guard", "forgive"],
    ] {
        assert_eq!(run(home.path(), args).0, 2, "{args:?}");
    }
}
