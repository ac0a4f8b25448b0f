//! The real binary on a PostgreSQL database: it is killed, the database loses its power, and a
//! server of the same name takes the other's place.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::crash_kit::{Person, Server, client, compare};
use crate::postgres_server;
use crate::ready_is;

/// A server's configuration in a folder, with everything in this database.
pub(crate) fn config(dir: &Path, database: &postgres_server::Server, more: &str) -> PathBuf {
    let secret = dir.join("postgres.url");
    let socket = database.folder().to_str().unwrap().replace('/', "%2F");
    std::fs::write(&secret, format!("postgres://turnkeep@{socket}/postgres\n")).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = dir.join("database.toml");
    let store = "[store]\nkind = \"postgres\"\nurl_file = \"postgres.url\"\n";
    std::fs::write(&config, format!("{}{store}{more}", crate::CONFIG)).unwrap();
    config
}

/// What a command says that goes well.
pub(crate) fn run(config: &Path, command: &[&str]) -> String {
    let (said, complained, code) = try_run(config, command);
    assert_eq!(code, Some(0), "{command:?}: {said}{complained}");
    said
}

/// What a command says and complains of, and how it ends.
pub(crate) fn try_run(config: &Path, command: &[&str]) -> (String, String, Option<i32>) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_turnkeep"));
    let data = config.with_file_name("data");
    let output = program.args(command).arg("--config").arg(config).arg("--data-dir").arg(data);
    let output = output.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

pub(crate) fn audit(config: &Path) -> String {
    run(config, &["audit"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_finds_everything_in_its_database() {
    let (dir, database) = (tempfile::tempdir().unwrap(), postgres_server::Server::start(""));
    let (config, data) = (config(dir.path(), &database, ""), dir.path().join("data"));
    let people: Vec<_> = (0..3).map(|n| Person::new(&format!("p{n}"), "api")).collect();
    let kills = ["store.commit.before:9", "store.commit.after:9", "store.answer:9", "no.place:1"];
    for kill in kills {
        let env = [("TURNKEEP_KILL_AT", kill)];
        let mut server = Server::start(&config, &data, &env).unwrap();
        let client = client();
        for person in &people {
            person.write(&client, &server.address, 20).await;
        }
        server.kill();
        audit(&config);
    }
    let mut server = Server::start(&config, &data, &[]).unwrap();
    let client = client();
    for person in &people {
        person.settle(&client, &server.address).await;
        compare(&client, &server.address, person).await;
    }
    server.kill();
    let said = audit(&config);
    assert!(said.starts_with("3 sessions, "), "{said}");
    assert!(said.ends_with("every invariant holds\n"), "{said}");
    assert!(!data.join("turnkeep.db").exists(), "everything is in the database");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_loses_its_power_loses_nothing() {
    let (dir, database) = (tempfile::tempdir().unwrap(), postgres_server::Server::start(""));
    let (config, data) = (config(dir.path(), &database, ""), dir.path().join("data"));
    let mut server = Server::start(&config, &data, &[]).unwrap();
    let (client, person) = (client(), Person::new("writer", "api"));
    person.write(&client, &server.address, 20).await;
    database.stop();
    while client.get(format!("{}/readyz", server.address)).send().await.unwrap().status() != 503 {
        person.write(&client, &server.address, 1).await;
    }
    database.begin();
    ready_is(&client, &server.address, 200).await;
    person.settle(&client, &server.address).await;
    compare(&client, &server.address, &person).await;
    server.kill();
    audit(&config);
}

/// The agent of all these servers.
pub(crate) const ECHO: &str = "kind = \"echo\"\ntokens = true\ndelay_ms = 1\n";
/// Repeats what it was told, as that one does, once there is a gate.
const GATED: &str = r#"
import os, sys, time
sys.path.insert(0, sys.argv[1])
from brain import run

def answer(turn):
    while not os.path.exists(sys.argv[2]):
        time.sleep(0.02)
    return "echo: " + "\n".join(message.text for message in turn.messages)

run(answer)
"#;

/// An agent that comes to an end when this file is made.
fn gated(dir: &Path, gate: &Path) -> String {
    let program = dir.join("gated.py");
    std::fs::write(&program, GATED).unwrap();
    let brains = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/brains/python");
    format!("kind = \"command\"\ncommand = [\"python3\", {program:?}, {brains:?}, {gate:?}]\n")
}

/// How many lines of the log hold this, as they come in while somebody looks.
async fn lines_until(log: &Path, what: &str, enough: usize) -> usize {
    let (since, mut looks) = (Instant::now(), tokio::time::interval(Duration::from_millis(50)));
    loop {
        looks.tick().await;
        let told = std::fs::read_to_string(log).unwrap();
        let lines = told.lines().filter(|line| line.contains(what)).count();
        if lines >= enough {
            return lines;
        }
        assert!(since.elapsed() < crate::LIMIT, "{what:?} is {lines} times in {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_told_of_once_for_all_sessions() {
    let (dir, database) = (tempfile::tempdir().unwrap(), postgres_server::Server::start(""));
    let (config, data) = (config(dir.path(), &database, ""), dir.path().join("data"));
    let gate = dir.path().join("gate");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace(ECHO, &gated(dir.path(), &gate));
    std::fs::write(&config, text.replace("\"warn\"", "\"info,turnkeep_gateway=debug\"")).unwrap();
    let log = config.with_extension("log");
    let server = Server::start(&config, &data, &[]).unwrap();
    let client = client();
    let people: Vec<_> = (0..3).map(|n| Person::new(&format!("p{n}"), "api")).collect();
    for person in &people {
        person.write(&client, &server.address, 1).await;
    }
    // The answers of all three come while nothing can be written.
    database.stop();
    std::fs::write(&gate, "").unwrap();
    for person in &people {
        let again = format!("load failed session_key={}", person.session());
        lines_until(&log, &again, 3).await;
    }
    database.begin();
    ready_is(&client, &server.address, 200).await;
    for person in &people {
        person.settle(&client, &server.address).await;
        compare(&client, &server.address, person).await;
    }
    assert_eq!(lines_until(&log, "sessions can be loaded again", 1).await, 1);
    assert_eq!(lines_until(&log, "sessions can't be loaded", 1).await, 1);
    drop(server);
    audit(&config);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_under_the_same_name_takes_the_others_place() {
    let (dir, database) = (tempfile::tempdir().unwrap(), postgres_server::Server::start(""));
    let config = config(dir.path(), &database, "node = \"tk-1\"\n");
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let mut server = Server::start(&config, &first, &[]).unwrap();
    let (before, person) = (client(), Person::new("writer", "api"));
    person.settle(&before, &server.address).await;
    let successor = Server::start(&config, &second, &[]).unwrap();
    let ended = tokio::task::spawn_blocking(move || server.child.wait().unwrap().code());
    assert_eq!(ended.await.unwrap(), Some(75), "it is for whoever starts it to start it again");
    let after = client();
    person.settle(&after, &successor.address).await;
    compare(&after, &successor.address, &person).await;
    drop(successor);
    audit(&config);
}

#[test]
fn the_command_line_works_on_a_database() {
    let (dir, database) = (tempfile::tempdir().unwrap(), postgres_server::Server::start(""));
    let (config, data) = (config(dir.path(), &database, ""), dir.path().join("data"));
    // Nothing is counted, so the sums are of no rows.
    let text = std::fs::read_to_string(&config).unwrap().replace("tokens = true\n", "");
    std::fs::write(&config, text).unwrap();
    let (_, complained, code) = try_run(&config, &["audit"]);
    assert_eq!(code, Some(1));
    assert!(complained.contains("start a server on it once"), "{complained}");
    let told = run(&config, &["doctor"]);
    assert!(told.contains("the tables are made in turnkeep at the first start"), "{told}");
    // No server runs, so the key is made by hand.
    run(&config, &["keys", "create", "--tenant", "acme", "--scope", "send", "--label", "shop"]);
    assert!(run(&config, &["keys", "list"]).contains("shop"));
    let (_, complained, _) = try_run(&config, &["keys", "revoke", "nobody"]);
    assert!(complained.contains("there is no key"), "{complained}");
    let told = run(&config, &["doctor"]);
    assert!(told.contains("no server is in"), "whoever made it is no server: {told}");
    let server = Server::start(&config, &data, &[]).unwrap();
    assert_eq!(run(&config, &["send", "--as", "ann", "hello"]), "echo: hello\n");
    assert!(run(&config, &["keys", "list"]).contains("shop"), "the server has it, too");
    let told = run(&config, &["check", "--explain", "default:default:api:dm:ann"]);
    assert!(told.contains("window_ms"), "{told}");
    let told = run(&config, &["doctor"]);
    assert!(told.contains("it can be reached, and the schema turnkeep is in order"), "{told}");
    assert!(audit(&config).starts_with("1 sessions, "));
    let backup = dir.path().join("backup.db");
    let backup = backup.to_str().unwrap();
    for command in [["backup", backup], ["restore", backup]] {
        let (_, complained, code) = try_run(&config, &command);
        assert_eq!(code, Some(1), "{complained}");
        assert!(complained.contains("own tools"), "{command:?}: {complained}");
    }
    drop(server);
    database.stop();
    let (told, _, code) = try_run(&config, &["doctor"]);
    assert_eq!(code, Some(1));
    assert!(told.contains("can't be reached"), "{told}");
}
