//! Sessions as files, and their worktrees: the command line against a server that runs, with a store
//! on disk and the real git.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::store_kit::store;

const CONFIG: &str = r#"
data_dir = "data"
listen = "127.0.0.1:0"
[agents.default]
kind = "echo"
[agents.coder]
kind = "command"
command = ["sh", "-c", "echo mine > new.txt; printf '{\"type\":\"finished\",\"reply\":\"%s\"}\\n' \"$(pwd)\""]
worktree = { repository = "shop", base = "main" }
[agents.stubborn]
kind = "command"
command = ["sh", "-c", "trap '' TERM; sleep 60"]
worktree = { repository = "shop", base = "main" }
[agents.tidy]
kind = "command"
command = ["sh", "-c", "printf '{\"type\":\"finished\",\"reply\":\"done\"}\\n'"]
worktree = { repository = "shop", base = "main" }
"#;

struct Place {
    dir: tempfile::TempDir,
    server: Option<Child>,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("turnkeep.toml"), CONFIG).unwrap();
        let mut place = Self { dir, server: None };
        place.start();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_turnkeep"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("HOME", self.dir.path()).env("USER", "anna").env("PATH", path);
        command.current_dir(self.dir.path()).stdin(Stdio::null()).envs(store(&self.path("data")));
        command
    }

    fn start(&mut self) {
        let mut serve = self.command();
        serve.arg("serve").stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = serve.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.find(|line| line.as_ref().unwrap().starts_with("listening on"));
        assert!(ready.is_some(), "the server does not start");
        self.server = Some(child);
    }

    fn kill(&mut self) {
        let mut child = self.server.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Exit code, standard output and standard error.
    fn run(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let output = self.command().args(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    fn well(&self, args: &[&str]) -> String {
        let (code, out, said) = self.run(args);
        assert_eq!(code, Some(0), "{args:?}: {out}{said}");
        out
    }

    fn refused(&self, args: &[&str], expect: &str) {
        let (code, out, said) = self.run(args);
        assert!(code != Some(0) && said.contains(expect), "{args:?}: {out}{said}");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(child) = &mut self.server {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_session_is_saved_and_loaded_from_the_command_line() {
    let mut place = Place::new();
    let key = "default:default:api:dm:anna";
    place.well(&["send", "hello"]);
    let said = place.well(&["sessions", "save", key, "one.ndjson"]);
    assert!(said.starts_with("one.ndjson holds default:default:api:dm:anna as it was: "), "{said}");
    let mode = std::fs::metadata(place.path("one.ndjson")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let file = std::fs::read_to_string(place.path("one.ndjson")).unwrap();
    place.refused(&["sessions", "save", key, "one.ndjson"], "is there already");
    place.well(&["sessions", "save", key, "one.ndjson", "--force"]);
    // The same on standard output, but for the time and so the hash.
    let out = place.well(&["sessions", "save", key, "-"]);
    let inner = |file: &str| file.lines().skip(1).take(3).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(inner(&out), inner(&file));
    place.refused(&["sessions", "save", "nobody", "two.ndjson"], "there is no session");
    assert!(!place.path("two.ndjson").exists() && !place.path("two.ndjson.partial").exists());

    std::fs::write(place.path("cut.ndjson"), &file[..file.len() / 2]).unwrap();
    place.refused(&["sessions", "load", "cut.ndjson"], "in line");
    place.refused(&["sessions", "load", "none.ndjson"], "can't be read");
    let loaded = place.well(&["sessions", "load", "one.ndjson", "--name", "api work", "--json"]);
    let loaded: Value = serde_json::from_str(&loaded).unwrap();
    assert_eq!((&loaded["name"], &loaded["messages"]), (&"api work".into(), &2.into()));
    place.refused(&["sessions", "load", "one.ndjson", "--name", "api work"], "has this name");

    place.kill();
    place.start();
    let messages = place.well(&["sessions", "messages", "api work"]);
    assert!(messages.contains("hello") && messages.contains("echo: hello"), "{messages}");
    let audit = place.well(&["audit"]);
    assert!(audit.contains("sessions"), "{audit}");
}

fn git(dir: &Path, arguments: &[&str]) {
    let mut command = std::process::Command::new("git");
    let ran = command.args(arguments).current_dir(dir).output().unwrap();
    assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// A repository with one commit.
fn begin(shop: &Path) {
    let who = ["-c", "user.name=Test", "-c", "user.email=test@example.org"];
    git(shop, &[&who[..], &["commit", "--quiet", "--allow-empty", "-m", "begin"]].concat());
}

/// The worktrees, once they are as is asked for.
fn worktrees(place: &Place, wanted: impl Fn(&str) -> bool) -> String {
    loop {
        let list = place.well(&["sessions", "worktrees"]);
        if wanted(&list) {
            return list;
        }
    }
}

#[test]
fn a_worktree_goes_with_its_session_once_its_process_has_ended() {
    let place = Place::new();
    let shop = place.path("shop");
    std::fs::create_dir(&shop).unwrap();
    git(&shop, &["init", "--quiet", "--initial-branch=main"]);
    begin(&shop);
    place.well(&["send", "--agent", "stubborn", "--wait", "0", "go"]);
    worktrees(&place, |list| list.contains("\tin_use\t"));
    // It is at work when it is told to end, and takes its time.
    let closed = place.well(&["sessions", "close", "default:stubborn:api:dm:anna"]);
    assert!(closed.contains(" was removed"), "{closed}");
    worktrees(&place, |list| !list.contains("stubborn"));

    // Whoever is erased leaves nothing but what is in no commit.
    for agent in ["tidy", "coder"] {
        place.well(&["send", "--agent", agent, "go"]);
    }
    worktrees(&place, |list| list.contains("tidy") && !list.contains("\tin_use\t"));
    place.well(&["customers", "erase", "default", "anna", "--yes"]);
    let left = worktrees(&place, |list| !list.contains("tidy"));
    assert!(left.contains("new.txt is in no commit"), "{left}");
}

#[test]
fn worktrees_are_listed_and_removed_from_the_command_line() {
    let place = Place::new();
    let shop = place.path("shop");
    std::fs::create_dir(&shop).unwrap();
    git(&shop, &["init", "--quiet", "--initial-branch=main"]);
    place.refused(&["doctor"], "");
    begin(&shop);
    assert!(place.well(&["check"]).contains("a worktree of "));
    let (_, found, _) = place.run(&["doctor"]);
    assert!(found.contains("  worktrees of ") && !found.contains("no worktrees"), "{found}");

    let reply = place.well(&["send", "--agent", "coder", "go"]);
    let path = PathBuf::from(reply.trim_end());
    assert!(
        path.join("new.txt").exists()
            && path.starts_with(place.path("data").canonicalize().unwrap())
    );
    let id = path.file_name().unwrap().to_str().unwrap();
    // Its process ends a moment after its turn.
    let list = worktrees(&place, |list| !list.contains("\tin_use\t"));
    let row =
        format!("coder\t{id}\tdirty\tturnkeep/{id}\t{}\tnew.txt is in no commit\n", path.display());
    assert!(list.ends_with(&row), "{list}");
    let key = "default:coder:api:dm:anna";
    let closed = place.well(&["sessions", "close", key]);
    assert!(closed.contains("new.txt is in no commit"), "{closed}");
    place.refused(&["sessions", "worktrees", "remove", key, "--force"], "new.txt is in no commit");
    std::fs::remove_file(path.join("new.txt")).unwrap();
    // Closed, it is known by the beginning of its digits.
    let removed = place.well(&["sessions", "worktrees", "remove", &id[..6]]);
    assert_eq!(removed, format!("{} was removed\n", path.display()));
    assert!(!path.exists());
    place.refused(&["sessions", "worktrees", "remove", id], "names no session and no worktree");
}
