//! `turnkeep backup` and `turnkeep restore` with the real binary: while people write, where nobody
//! serves, on disks that fill up, through kills, and with files that are no backups.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(dead_code, reason = "the kit is shared with tests that need more of it")]

mod crash_kit;
#[path = "crash_kit/small_disk.rs"]
mod small_disk;
mod store_kit;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crash_kit::{Person, Server, audit, client, compare};
use serde_json::{Value, json};
use small_disk::SmallDisk;

const CONFIG: &str = "log_level = \"warn\"\n[gateway]\nrate_limiting_enabled = false\n\
                      [agents.default]\nkind = \"echo\"\ndelay_ms = 1\n\
                      [agents.slow]\nkind = \"echo\"\ndelay_ms = ";

/// A folder for everything of one test.
struct Home {
    dir: tempfile::TempDir,
    client: reqwest::Client,
}

impl Home {
    fn new() -> Self {
        let home = Self { dir: tempfile::tempdir().unwrap(), client: client() };
        home.slow(600_000);
        home
    }

    /// How long the slow agent takes from the next start on.
    fn slow(&self, delay_ms: u64) {
        std::fs::write(self.path("turnkeep.toml"), format!("{CONFIG}{delay_ms}\n")).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&self, data: &str, env: &[(&str, &str)]) -> Server {
        Server::start(&self.path("turnkeep.toml"), &self.path(data), env).unwrap()
    }

    /// Types a command; its exit code, what it printed, what it complained of.
    fn run(&self, data: &str, args: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_turnkeep"))
            .args(args)
            .env("TURNKEEP_DATA_DIR", self.path(data))
            .env_remove("TURNKEEP_SERVER")
            .current_dir(self.dir.path())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// Types a command that must work; what it printed.
    fn done(&self, data: &str, args: &[&str]) -> String {
        let (code, out, said) = self.run(data, args);
        assert_eq!((code, said.as_str()), (0, ""), "{args:?}: {out}");
        out
    }

    /// Types a command that must be refused, and says why.
    fn refused(&self, data: &str, args: &[&str], expect: &str) {
        let (code, out, said) = self.run(data, args);
        assert_eq!((code, out.as_str()), (1, ""), "{args:?}: {said}");
        assert!(said.contains(expect), "{args:?}: {said}");
    }

    /// A server with a few conversations, ended by force.
    async fn used(&self) {
        let mut server = self.start("data", &[]);
        people(&self.client, &server.address, 6, 60).await;
        server.kill();
    }
}

/// So many people write so many messages each, and get their answers.
async fn people(client: &reqwest::Client, address: &str, count: usize, messages: u64) {
    for number in 0..count {
        let person = Person::new(&format!("p{number}"), "api");
        person.write(client, address, messages).await;
        settle(client, address, &person).await;
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names
}

const CLEAN: &str = "every invariant holds\n";

async fn ask(client: &reqwest::Client, address: &str, body: &Value) -> Value {
    let url = format!("{address}/v1/chat?wait=60");
    client.post(url).json(body).send().await.unwrap().json().await.unwrap()
}

/// One more message, as soon as there is room for it, followed to its answer: everything before it
/// has its ending then.
async fn settle(client: &reqwest::Client, address: &str, person: &Person) {
    let (name, channel) = (&person.name, person.channel);
    let body = json!({"customer_id": name, "channel": channel, "id": format!("{name}-last"),
                      "message": "the last one"});
    let url = format!("{address}/v1/chat?wait=60");
    loop {
        let answer = client.post(&url).json(&body).send().await.unwrap();
        match answer.status().as_u16() {
            200 => return,
            429 => tokio::task::yield_now().await,
            other => panic!("{other}: {}", answer.text().await.unwrap()),
        }
    }
}

#[test]
fn what_is_no_backup_is_not_audited() {
    let home = Home::new();
    let refused = |name: &str, expect: &str| {
        let file = home.path(name);
        let expect = format!("{} {expect}", file.display());
        for args in [&["audit", "--backup"][..], &["restore"]] {
            let args = [args, &[file.to_str().unwrap()]].concat();
            let (code, out, said) = home.run("data", &args);
            assert_eq!((code, out.as_str()), (1, ""), "{args:?}: {said}");
            assert!(said.starts_with(&expect), "{args:?}: {said}");
        }
    };
    refused("nope", "is not there, or is no file");
    std::fs::create_dir(home.path("folder")).unwrap();
    refused("folder", "is not there, or is no file");
    std::fs::write(home.path("x.toml"), "listen = \"127.0.0.1:0\"\n".repeat(100)).unwrap();
    refused("x.toml", "is no backup of Turnkeep, or it is damaged");
    std::fs::write(home.path("empty.db"), "").unwrap();
    refused("empty.db", "is empty: it is no backup");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_before_a_backup_is_restored_from_it() {
    let home = Home::new();
    let mut server = home.start("data", &[]);
    let people: Vec<_> =
        (0..6).map(|n| Person::new(&format!("p{n}"), if n < 3 { "api" } else { "web" })).collect();
    // Somebody waits for an answer that does not come before the server ends.
    let open = json!({"customer_id": "open", "agent_id": "slow", "id": "o-1", "message": "still?"});
    let url = format!("{}/v1/chat", server.address);
    assert_eq!(home.client.post(url).json(&open).send().await.unwrap().status(), 202);
    let over = Arc::new(AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    for person in &people {
        person.write(&home.client, &server.address, 20).await;
        let (person, client, over) = (Arc::clone(person), home.client.clone(), Arc::clone(&over));
        let address = server.address.clone();
        writers.spawn(async move {
            while !over.load(Ordering::SeqCst) {
                person.write(&client, &address, 1).await;
            }
        });
    }
    let before: Vec<_> =
        people.iter().map(|person| person.acknowledged.lock().unwrap().clone()).collect();
    let said = tokio::task::block_in_place(|| home.done("data", &["backup", "copy.db"]));
    over.store(true, Ordering::SeqCst);
    while let Some(written) = writers.join_next().await {
        written.unwrap();
    }
    let first = format!("{} (", home.path("copy.db").display());
    assert!(said.starts_with(&first) && said.ends_with(CLEAN), "{said}");
    assert!(said.contains(") holds everything as it was when the copy began\n"), "{said}");
    let mode = std::fs::metadata(home.path("copy.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for person in &people {
        settle(&home.client, &server.address, person).await;
        compare(&home.client, &server.address, person).await;
    }
    server.kill();
    audit(&home.path("data")).unwrap();

    home.slow(1);
    let said = home.done("new", &["restore", "copy.db"]);
    let first = format!("{} holds the backup copy.db now\n", home.path("new").display());
    assert!(said.starts_with(&first) && said.ends_with(CLEAN), "{said}");
    let mut server = home.start("new", &[]);
    let answer = ask(&home.client, &server.address, &open).await;
    assert_eq!((&answer["reply"], &answer["duplicate"]), (&json!("echo: still?"), &json!(true)));
    for (person, before) in people.iter().zip(before) {
        assert!(before.len() >= 10, "{before:?}");
        settle(&home.client, &server.address, person).await;
        let then = Person::new(&person.name, person.channel);
        *then.acknowledged.lock().unwrap() = before;
        compare(&home.client, &server.address, &then).await;
    }
    server.kill();
    audit(&home.path("new")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_serves_the_command_does_it_itself() {
    let home = Home::new();
    home.used().await;
    // A kill leaves the socket, and nobody behind it.
    assert!(home.path("data/turnkeep.sock").exists());
    let said = home.done("data", &["backup", "copy.db"]);
    assert!(said.ends_with(CLEAN), "{said}");
    assert_eq!(
        home.done("data", &["audit", "--backup", "copy.db"]),
        said.split_once('\n').unwrap().1
    );
    home.refused("data", &["backup", "copy.db"], "or replace it with --force");
    home.done("data", &["backup", "copy.db", "--force"]);
    home.refused("none", &["backup", "other.db"], "there is no Turnkeep database");
    let said = home.done("data", &["restore", "copy.db", "--force"]);
    let kept = said.lines().nth(1).unwrap();
    let kept = kept.strip_prefix("what it held before is in ").unwrap();
    assert!(kept.starts_with(home.path("data/turnkeep.db.20").to_str().unwrap()), "{kept}");
    // Both hold the same.
    let audits = [kept, "copy.db"].map(|file| home.done("data", &["audit", "--backup", file]));
    assert_eq!(audits[0], audits[1]);
    let mut server = home.start("data", &[]);
    people(&home.client, &server.address, 1, 1).await;
    server.kill();
    audit(&home.path("data")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_do_harm_is_refused_and_nothing_has_changed() {
    let home = Home::new();
    home.used().await;
    home.done("data", &["backup", "copy.db"]);
    let whole = std::fs::read(home.path("copy.db")).unwrap();
    std::fs::write(home.path("short.db"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(home.path("text.db"), "no database, and rather long ".repeat(200)).unwrap();
    // SQLite keeps the version that a program wrote at byte 60, and the program's mark at 68.
    for (name, at) in [("newer.db", 60), ("foreign.db", 68)] {
        let mut changed = whole.clone();
        changed[at..at + 4].copy_from_slice(&1_000_000_u32.to_be_bytes());
        std::fs::write(home.path(name), changed).unwrap();
    }
    let before = names(home.dir.path());
    let check = |file: &str, expect: &str| {
        home.refused("other", &["restore", file], expect);
        home.refused("data", &["restore", file, "--force"], expect);
        assert!(home.run("data", &["audit", "--backup", file]).0 != 0, "{file}");
    };
    check("short.db", "damaged");
    check("text.db", "no backup of Turnkeep");
    check("newer.db", "has format 1000000");
    check("foreign.db", "another program's database");
    check("absent.db", "");
    home.refused("data", &["restore", "copy.db"], "holds data already");
    let mut server = home.start("data", &[]);
    for args in [&["restore", "copy.db"][..], &["restore", "copy.db", "--force"]] {
        home.refused("data", args, "another Turnkeep (process ");
    }
    home.refused("data", &["backup", "copy.db"], "or replace it with --force");
    home.refused("data", &["backup", "data/turnkeep.db", "--force"], "the server's own");
    home.refused("data", &["backup", "nowhere/copy.db"], "its folder is not there");
    let (code, _, said) = home.run("data", &["backup", "-"]);
    assert_eq!(code, 2);
    assert!(said.contains("can't be standard output"), "{said}");
    server.kill();
    let mut after = names(home.dir.path());
    // A refusal that comes late leaves the empty folder that it made.
    after.retain(|name| name != "other");
    assert_eq!(after, before);
    assert!(std::fs::read(home.path("copy.db")).unwrap() == whole, "the backup is another one");
    audit(&home.path("data")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_leaves_no_half_backup() {
    let home = Home::new();
    home.used().await;
    std::fs::create_dir(home.path("place")).unwrap();
    home.done("data", &["backup", "place/old.db"]);
    let old = std::fs::read(home.path("place/old.db")).unwrap();
    // At the first question nothing is copied yet, at the second something is.
    for kill in ["backup.copy:1", "backup.copy:2"] {
        for args in [&["backup", "place/new.db"][..], &["backup", "place/old.db", "--force"]] {
            let mut server = home.start("data", &[("TURNKEEP_KILL_AT", kill)]);
            let (code, out, said) = home.run("data", args);
            assert_eq!((code, out.as_str()), (1, ""), "{said}");
            assert!(said.contains("was lost") || said.contains("ended before"), "{said}");
            server.kill();
            let names = names(&home.path("place"));
            assert!(!names.iter().any(|name| name == "new.db"), "{names:?}");
            assert!(std::fs::read(home.path("place/old.db")).unwrap() == old, "{kill}");
        }
    }
    let mut server = home.start("data", &[]);
    home.done("data", &["backup", "place/new.db"]);
    home.done("data", &["backup", "place/old.db", "--force"]);
    assert_eq!(names(&home.path("place")), ["new.db", "old.db"]);
    server.kill();
    audit(&home.path("data")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_and_nothing_is_left_on_it() {
    let home = Home::new();
    let disk = SmallDisk::new("64k");
    let mut server = home.start("data", &[]);
    people(&home.client, &server.address, 6, 20).await;
    let file = disk.path().join("copy.db");
    let file = file.to_str().unwrap();
    home.refused("data", &["backup", file], "is full");
    assert_eq!(names(disk.path()), [] as [&str; 0]);
    people(&home.client, &server.address, 1, 1).await;
    disk.grow("64m");
    home.done("data", &["backup", file]);
    server.kill();
    // The same without a server.
    let disk = SmallDisk::new("64k");
    let other = disk.path().join("copy.db");
    home.refused("data", &["backup", other.to_str().unwrap()], "is full");
    let data = disk.path().join("data");
    let output = Command::new(env!("CARGO_BIN_EXE_turnkeep"))
        .args(["restore", file, "--data-dir"])
        .arg(&data)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("full"), "{said}");
    assert!(!data.join("turnkeep.db").exists() && !data.join("turnkeep.db.partial").exists());
}

#[test]
fn a_server_elsewhere_is_not_asked() {
    let home = Home::new();
    let output = Command::new(env!("CARGO_BIN_EXE_turnkeep"))
        .args(["backup", "copy.db"])
        .env("TURNKEEP_SERVER", "http://127.0.0.1:9")
        .env("TURNKEEP_DATA_DIR", home.path("data"))
        .current_dir(home.dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("on the server's own machine"), "{said}");
    assert!(!home.path("copy.db").exists());
}
