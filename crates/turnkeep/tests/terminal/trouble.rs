//! What is said where something is not as it should be.

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::process::Output;

use crate::kit::{Home, said};

/// A user without rights.
const NOBODY: u32 = 65_534;
/// Another one.
const SOMEBODY: u32 = 65_533;

fn refused(output: &Output, words: &[&str]) {
    let said = said(output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said:?}");
    }
    assert!(!said.contains('\u{1b}'), "{said:?}");
}

#[test]
fn who_finds_no_server_is_told_what_to_type() {
    let home = Home::new();
    refused(&home.plain(&[], ""), &["no Turnkeep runs here", "turnkeep serve", "attach --start"]);
    std::fs::create_dir(home.path("data")).unwrap();
    // Its server is gone without a goodbye.
    drop(UnixListener::bind(home.path("data/turnkeep.sock")).unwrap());
    refused(&home.plain(&[], ""), &["is dead", "attach --start"]);
    std::fs::remove_file(home.path("data/turnkeep.sock")).unwrap();
    std::fs::write(home.path("data/turnkeep.sock"), "").unwrap();
    refused(&home.plain(&[], ""), &["is no socket"]);
    let away = ["--server", "http://127.0.0.1:1"];
    refused(&home.plain(&away, ""), &["no Turnkeep answers at http://127.0.0.1:1"]);
    let both = ["--start", "--server", "http://127.0.0.1:1"];
    refused(&home.plain(&both, ""), &["--start starts a server of this machine's data folder"]);
}

#[test]
fn what_keeps_a_server_from_starting_is_told() {
    let home = Home::new();
    std::fs::write(
        home.path("turnkeep.toml"),
        "listen = \"127.0.0.1:0\"\n[agents.x]\nkind = \"tea\"\n",
    )
    .unwrap();
    let output = home.plain(&["--start"], "");
    refused(&output, &["could not be started", "serve.log", "kind"]);
}

#[test]
fn a_full_screen_needs_a_terminal() {
    let home = Home::started();
    let output = home.turnkeep(&["attach"]).output().unwrap();
    refused(&output, &["no terminal", "--plain"]);
    let output = home.turnkeep(&["attach", "--plain", "--json"]).output().unwrap();
    refused(&output, &["attach has no --json"]);
    let output = home.turnkeep(&["attach", "--plain", "--seat", "a b"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}

#[test]
fn a_socket_of_somebody_else_gets_nothing_to_hear() {
    let home = Home::new();
    let at = tempfile::tempdir().unwrap();
    let socket = at.path().join("t.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(at.path(), Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&socket, Permissions::from_mode(0o777)).unwrap();
    // Only root may give a file away, and become somebody else.
    if chown(&socket, Some(SOMEBODY), None).is_err() {
        let ours = std::fs::metadata(&socket).unwrap();
        assert_ne!(ours.uid(), SOMEBODY);
        return;
    }
    // The build's own folder may be closed to that user.
    let program = at.path().join("turnkeep");
    std::fs::copy(env!("CARGO_BIN_EXE_turnkeep"), &program).unwrap();
    let mut command = std::process::Command::new(&program);
    command.args(["attach", "--plain", "--server", &format!("unix:{}", socket.display())]);
    command.env_clear().env("HOME", at.path()).current_dir(at.path()).uid(NOBODY).gid(NOBODY);
    let output = command.output().unwrap();
    refused(&output, &["belongs to user 65533, not to you"]);
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "it was connected to");
    drop(home);
}

/// Answers each request on a socket with the first of these bodies whose address is asked for.
fn stand_in(listener: UnixListener, answers: Vec<(&'static str, u16, &'static str)>) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let mut reader = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).unwrap_or(0) == 0 {
                    break;
                }
            }
            let found = answers.iter().find(|(path, ..)| head.contains(path));
            let (status, body) = found.map_or((404, "{}"), |(_, status, body)| (*status, *body));
            let kind = "content-type: application/json\r\nconnection: close";
            let text = format!(
                "HTTP/1.1 {status} x\r\n{kind}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = reader.into_inner().write_all(text.as_bytes());
        }
    });
}

#[test]
fn a_server_of_another_version_is_named() {
    let check = |answers: Vec<(&'static str, u16, &'static str)>, words: &[&str]| {
        let home = Home::new();
        std::fs::create_dir(home.path("data")).unwrap();
        stand_in(UnixListener::bind(home.path("data/turnkeep.sock")).unwrap(), answers);
        refused(&home.plain(&[], ""), words);
    };
    let ours = env!("CARGO_PKG_VERSION");
    let older = vec![("/healthz", 200, r#"{"status":"ok"}"#)];
    check(older, &["Turnkeep of an older version, and has no switchboard", ours]);
    let newer = r#"{"status":"ok","version":"9.9.9\u001b[2J"}"#;
    check(vec![("/healthz", 200, newer)], &["version 9.9.9[2J, and has no switchboard", ours]);
    check(vec![("/healthz", 200, "[]")], &["no Turnkeep"]);
    let refusing = r#"{"type":"urn:turnkeep:problem:field","title":"Wrong field","status":422,"detail":"no seat"}"#;
    let other = vec![
        ("/healthz", 200, newer),
        ("/v1/switchboard?limit=1&seat", 422, refusing),
        ("/v1/switchboard?limit=1", 200, r#"{"active":null,"sessions":[]}"#),
    ];
    check(other, &["note: the server is Turnkeep of version 9.9.9", "Wrong field: no seat"]);
}
