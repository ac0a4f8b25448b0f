//! Forgetting with the real binary: nothing of somebody who was erased stands in any file, the
//! audit knows what went, and a kill in the middle of it costs nothing.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly, its helpers too")]

mod store_kit;
#[path = "store_kit/tables.rs"]
mod tables;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};

use assert_cmd::Command;
use serde_json::{Value, json};
use store_kit::store;

/// Nobody else writes this.
const SECRET: &str = "xylophonic marmalade";
/// A name that stands nowhere by chance.
const NAME: &str = "quetzalcoatlus";

/// A server with a folder of its own; killed at the end, as if the power had gone.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(dir: &Path, kill_at: Option<&str>) -> Self {
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_turnkeep"));
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(dir.join("turnkeep.toml"))
            .envs(store(&dir.join("data")))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        if let Some(place) = kill_at {
            command.env("TURNKEEP_KILL_AT", place);
        }
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
        Self { child, address }
    }

    /// Says something in a group and waits for the answer.
    fn say_to_team(&self, customer: &str, text: &str) {
        let session = "default:default:api:group:team";
        let body = json!({ "session": session, "customer_id": customer, "message": text });
        self.post("/v1/chat?wait=20", "", &body);
    }

    /// Posts it; it is answered well.
    fn post(&self, path: &str, header: &str, body: &Value) {
        let body = body.to_string();
        let length = body.len();
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{header}\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}",
            self.address
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    /// Waits for it to end by itself; whether it was killed.
    fn was_killed(&mut self) -> bool {
        self.child.wait().unwrap().signal() == Some(9)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn output(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_turnkeep"))
        .env_clear()
        .env("HOME", dir)
        .env("USER", "anna")
        .env("TURNKEEP_CONFIG", dir.join("turnkeep.toml"))
        .envs(store(&dir.join("data")))
        .current_dir(dir)
        .args(args)
        .output()
        .unwrap()
}

/// Types a command; its exit code, what it printed, what it complained of.
fn run(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let output = output(dir, args);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn told(dir: &Path, args: &[&str]) -> Value {
    let (code, out, said) = run(dir, args);
    assert_eq!((code, said.as_str()), (0, ""), "{args:?}");
    serde_json::from_str(&out).unwrap()
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = "data_dir = \"data\"\n[agents.default]\nkind = \"echo\"\n\
                  [agents.broken]\nkind = \"openai\"\nbase_url = \"http://127.0.0.1:9/v1\"\n\
                  model = \"none\"\nmax_retries = 0\nerrors_max = 1\n";
    std::fs::write(dir.path().join("turnkeep.toml"), config).unwrap();
    dir
}

/// A conversation with a secret in it and one of somebody else; a failed message and one to a group
/// hold it too.
fn talk(dir: &Path, server: &Server) {
    let secret = format!("my password is {SECRET}");
    for _ in 0..3 {
        assert_eq!(run(dir, &["send", "--as", NAME, &secret]).0, 0);
        assert_eq!(run(dir, &["send", "--as", "bob", "no matter"]).0, 0);
    }
    assert_eq!(run(dir, &["send", "--as", NAME, "--agent", "broken", &secret]).0, 1);
    server.say_to_team(NAME, &secret);
    server.say_to_team("bob", "no matter");
}

/// The files of the data folder that hold a text, as bytes; its database is one of them.
fn holding(dir: &Path, text: &str) -> Vec<PathBuf> {
    let data = dir.join("data");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|name| name == "sock") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
            found.push(path);
        }
    }
    found.extend(tables::keeps(&data, text).then(|| data.join("the database")));
    found
}

/// What an audit counts; it finds nothing.
fn audit(dir: &Path) -> Value {
    let report = told(dir, &["audit", "--json"]);
    assert_eq!(report["findings"].as_array().map(Vec::len), Some(0), "{report}");
    report
}

#[test]
fn who_was_erased_stands_in_no_file() {
    let home = folder();
    let dir = home.path();
    let server = Server::start(dir, None);
    talk(dir, &server);
    assert!(!holding(dir, SECRET).is_empty() && !holding(dir, NAME).is_empty());
    let (code, out, said) = run(dir, &["customers", "erase", "default", NAME]);
    assert_eq!((code, out.as_str()), (1, ""), "nobody is there to be asked");
    assert!(said.contains("--yes"), "{said}");
    let erased = told(dir, &["customers", "erase", "default", NAME, "--yes", "--json"]);
    let counts = ["sessions", "messages", "blanked"].map(|name| erased[name].as_u64().unwrap());
    assert_eq!(counts, [2, 4, 1], "{erased}");
    assert_eq!(erased["scrubbed"], true);
    for gone in [SECRET, NAME] {
        assert_eq!(holding(dir, gone), [] as [PathBuf; 0], "{gone}");
    }
    let log = std::fs::read_to_string(dir.join("log")).unwrap();
    assert!(!log.contains(SECRET), "{log}");
    // While it serves, and after it is gone.
    let report = audit(dir);
    assert_eq!((&report["accepted"], &report["forgotten_by_erasure"]), (&9.into(), &4.into()));
    let (_, said, _) = run(dir, &["audit"]);
    let line = "of these, 0 were forgotten for their age and 4 with their customer; all of them had \
                an ending";
    assert!(said.contains(line) && said.contains("+ 1 forgotten dead letters"), "{said}");
    drop(server);
    audit(dir);
    assert_eq!(holding(dir, SECRET), [] as [PathBuf; 0]);

    // Whoever comes back begins anew, and others have noticed nothing.
    let _server = Server::start(dir, None);
    assert_eq!(run(dir, &["send", "--as", NAME, "it is me"]).1, "echo: it is me\n");
    let session = format!("default:default:api:dm:{NAME}");
    assert_eq!(told(dir, &["sessions", "show", &session, "--json"])["last_seq"], 4);
    let bobs = told(dir, &["sessions", "show", "default:default:api:dm:bob", "--json"]);
    assert_eq!(bobs["last_seq"], 12);
    assert_eq!(audit(dir)["accepted"], 10);
}

/// How names and texts would be remembered without the store's secret.
fn guess(parts: &[&str]) -> [u8; 32] {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finish().as_ref().try_into().unwrap()
}

fn number(digest: &[u8]) -> String {
    i64::from_le_bytes(digest[..8].try_into().unwrap()).to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[test]
fn no_guess_at_names_finds_who_was_erased() {
    let home = folder();
    let dir = home.path();
    let server = Server::start(dir, None);
    let body = json!({ "customer_id": NAME, "message": SECRET, "id": "m-1" });
    server.post("/v1/chat?wait=20", "idempotency-key: order-18\r\n", &body);
    let erased = told(dir, &["customers", "erase", "default", NAME, "--yes", "--json"]);
    assert_eq!(erased["sessions"], 1);
    drop(server);
    let session = format!("default:default:api:dm:{NAME}");
    let keys = [
        guess(&["default", "default", "api", "", NAME, NAME, "m-1"]),
        guess(&["request", "default", "order-18"]),
    ];
    let plain = ring::digest::digest(&ring::digest::SHA256, SECRET.as_bytes());
    let bodies = [
        number(plain.as_ref()),
        number(&guess(&[SECRET])),
        number(&guess(&["chat", &session, NAME, SECRET, "m-1"])),
    ];
    let all = ["hex(key)", "replace(upper(key::text), '-', '')"]
        .map(|key| format!("SELECT {key} || ' ' || body_hash FROM seen"));
    let rows = tables::rows(&dir.join("data"), all.each_ref().map(String::as_str));
    assert_eq!(rows.len(), 2, "they are still known");
    for (key, body) in rows.iter().map(|row| row.split_once(' ').unwrap()) {
        assert_eq!(key.len(), 32);
        assert!(keys.iter().all(|guess| hex(&guess[..16]) != key), "a name was guessed");
        assert!(bodies.iter().all(|guess| guess != body), "a text was guessed");
    }
}

#[test]
fn an_erasure_that_was_killed_is_asked_for_again() {
    let places = [
        "erase.ended:2",
        "erase.forgotten:1",
        "erase.blanked:1",
        "erase.swept:1",
        "erase.scrubbed:1",
    ];
    for place in places {
        let home = folder();
        let dir = home.path();
        let mut server = Server::start(dir, Some(place));
        talk(dir, &server);
        let (code, _, said) = run(dir, &["customers", "erase", "default", NAME, "--yes"]);
        assert_eq!(code, 1, "{place}: {said}");
        assert!(server.was_killed(), "{place}");
        audit(dir);
        let _server = Server::start(dir, None);
        audit(dir);
        // Where little was left to do it may ask whether the name is right.
        let erase = ["customers", "erase", "default", NAME, "--yes", "--json"];
        let (code, out, said) = run(dir, &erase);
        assert_eq!(code, 0, "{place}: {said}");
        let erased: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(erased["scrubbed"], true, "{place}");
        for gone in [SECRET, NAME] {
            assert_eq!(holding(dir, gone), [] as [PathBuf; 0], "{place}: {gone}");
        }
        let report = audit(dir);
        assert_eq!((&report["accepted"], &report["forgotten_by_erasure"]), (&9.into(), &4.into()));
    }
}

#[test]
fn an_export_is_a_file_for_its_owner_only() {
    let home = folder();
    let dir = home.path();
    let server = Server::start(dir, None);
    talk(dir, &server);
    let file = dir.join("out.jsonl");
    let export = ["customers", "export", "default", NAME, "--out", "out.jsonl"];
    let (code, out, said) = run(dir, &export);
    assert_eq!((code, out.as_str()), (0, ""), "{said}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(said, format!("{} lines are in out.jsonl\n", text.lines().count()));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said = lines.iter().filter(|line| line["line"] == "message" && line["role"] == "user");
    assert_eq!(said.clone().count(), 5);
    assert!(said.clone().all(|line| line["text"].as_str().unwrap().contains(SECRET)));
    assert!(!text.contains("bob"));
    let (code, _, said) = run(dir, &export);
    assert_eq!(code, 1);
    assert!(said.contains("out.jsonl is there already"), "{said}");
    assert_eq!(run(dir, &[&export[..], &["--force"]].concat()).0, 0);
    let (code, out, _) = run(dir, &["customers", "export", "default", "nobody"]);
    assert_eq!((code, out.lines().count()), (0, 2));
}

/// Makes everything that is stored so many days older.
fn age(dir: &Path, days: i64) {
    let data = dir.join("data");
    let all = [
        "SELECT id || ' ' || CAST(events AS TEXT) FROM journal",
        "SELECT place || ' ' || convert_from(events, 'UTF8') FROM journal",
    ];
    let rows = tables::rows(&data, all);
    assert!(!rows.is_empty());
    for (id, events) in rows.iter().map(|row| row.split_once(' ').unwrap()) {
        let mut pieces = events.split("\"at\":");
        let mut aged = pieces.next().unwrap().to_owned();
        for piece in pieces {
            let (at, rest) = piece.split_at(13);
            let at = at.parse::<i64>().unwrap() - days * 24 * 3_600_000;
            aged.push_str(&format!("\"at\":{at}{rest}"));
        }
        let aged = aged.replace('\'', "''");
        let put = [
            format!("UPDATE journal SET events = CAST('{aged}' AS BLOB) WHERE id = {id}"),
            format!("UPDATE journal SET events = convert_to('{aged}', 'UTF8') WHERE place = {id}"),
        ];
        assert_eq!(tables::rows(&data, put.each_ref().map(String::as_str)), [""; 0]);
    }
}

#[test]
fn what_is_too_old_for_a_tenant_goes_by_itself() {
    let home = folder();
    let dir = home.path();
    let server = Server::start(dir, None);
    talk(dir, &server);
    let keeps = |name: &str| {
        assert_eq!(run(dir, &["send", "--tenant", "keeps", "--as", name, "for ever"]).0, 0);
    };
    keeps("carl");
    drop(server);
    age(dir, 40);
    let config = dir.join("turnkeep.toml");
    let mut text = std::fs::read_to_string(&config).unwrap();
    text.push_str("[tenants.default]\nretention_days = 30\n");
    std::fs::write(&config, text).unwrap();
    let server = Server::start(dir, None);
    let since = std::time::Instant::now();
    loop {
        let (code, out, said) = run(dir, &["audit", "--json"]);
        assert_eq!(code, 0, "{out}{said}");
        let report: Value = serde_json::from_str(&out).unwrap();
        if report["forgotten_by_retention"] == 9 {
            assert_eq!((&report["accepted"], &report["entries"]), (&10.into(), &4.into()));
            break;
        }
        assert!(since.elapsed().as_secs() < 60, "{report}");
    }
    assert_eq!(run(dir, &["send", "--as", "bob", "and on"]).1, "echo: and on\n");
    let bobs = ["sessions", "messages", "default:default:api:dm:bob", "--json"];
    let bobs = told(dir, &bobs);
    assert_eq!((&bobs["first_seq"], &bobs["messages"][0]["seq"]), (&13.into(), &13.into()));
    drop(server);
    assert_eq!(audit(dir)["accepted"], 11);
}

#[test]
fn a_lost_row_is_found_though_others_were_forgotten() {
    let home = folder();
    let dir = home.path();
    let server = Server::start(dir, None);
    talk(dir, &server);
    told(dir, &["customers", "erase", "default", NAME, "--yes", "--json"]);
    drop(server);
    let broken = |sql: &str| {
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(dir.join("data")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|name| name != "sock") {
                std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
            }
        }
        let connection = rusqlite::Connection::open(copy.path().join("turnkeep.db")).unwrap();
        assert!(connection.execute(sql, []).unwrap() > 0, "{sql}");
        drop(connection);
        let (code, out, said) = run(dir, &["audit", "--data-dir", copy.path().to_str().unwrap()]);
        assert_eq!(code, 1, "{sql}: {out}{said}");
    };
    broken("DELETE FROM forgotten");
    broken("DELETE FROM journal WHERE id = (SELECT max(id) FROM journal)");
    broken("UPDATE sessions SET last_seq = last_seq + 1 WHERE key NOT LIKE '%bob'");
}
