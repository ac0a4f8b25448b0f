//! The client commands against a server that answers by script.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly, its helpers too")]

mod files;
#[path = "../store_kit/mod.rs"]
mod store_kit;
mod switchboard;
mod whom;

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;

use assert_cmd::Command;
use serde_json::{Value, json};

/// What the server does with one request.
enum Answer {
    /// Answers with this status and body.
    Say(u16, Value),
    /// Answers with this text, which is no JSON.
    Babble(u16, &'static str),
    /// Reads the request and hangs up.
    HangUp,
}

/// A request as it arrived: method and path, and the body.
type Seen = (String, Value);

fn serve_one(stream: impl std::io::Read + Write, answer: Answer) -> Seen {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "the client hung up");
    }
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    let mut stream = reader.into_inner();
    let (status, text) = match answer {
        Answer::Say(status, value) => (status, value.to_string()),
        Answer::Babble(status, text) => (status, text.to_owned()),
        Answer::HangUp => (0, String::new()),
    };
    if status > 0 {
        let length = text.len();
        let head = format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}");
        stream.write_all(format!("{head}\r\n\r\n{text}").as_bytes()).unwrap();
    }
    let what = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
    (what, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// Serves these answers one after another, then says what it was asked.
fn serve(answers: Vec<Answer>) -> (String, JoinHandle<Vec<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut answers = VecDeque::from(answers);
    let serve = move || {
        let mut seen = Vec::new();
        while let Some(answer) = answers.pop_front() {
            let (stream, _) = listener.accept().unwrap();
            seen.push(serve_one(stream, answer));
        }
        seen
    };
    (url, std::thread::spawn(serve))
}

fn turnkeep(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnkeep"));
    // No zone is named, so that times are shown in UTC on every machine.
    command.env_clear().env("HOME", dir).env("USER", "anna").env("TZ", "UTC").current_dir(dir);
    command
}

struct Ran {
    code: Option<i32>,
    out: String,
    said: String,
    seen: Vec<Seen>,
}

fn run(args: &[&str], answers: Vec<Answer>) -> Ran {
    run_with(args, "", answers)
}

fn run_with(args: &[&str], stdin: &str, answers: Vec<Answer>) -> Ran {
    let dir = tempfile::tempdir().unwrap();
    let (url, server) = serve(answers);
    let mut command = turnkeep(dir.path());
    let output =
        command.env("TURNKEEP_SERVER", url).args(args).write_stdin(stdin).output().unwrap();
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        said: String::from_utf8(output.stderr).unwrap(),
        seen: server.join().unwrap(),
    }
}

fn complete(reply: &str) -> Answer {
    Answer::Say(200, json!({ "status": "complete", "reply": reply, "turn_id": "t" }))
}

#[test]
fn a_question_is_printed_and_has_a_code_of_its_own() {
    let body = json!({ "status": "waiting_for_input", "question": "May I?\u{1b}[2J",
        "question_id": 1, "turn_id": "t", "session": "default:default:api:dm:anna" });
    let ran = run(&["send", "pay it back"], vec![Answer::Say(202, body.clone())]);
    assert_eq!(ran.code, Some(3), "{}", ran.said);
    assert_eq!(ran.out, "May I?[2J\n");
    assert!(ran.said.contains("the turn waits for your answer"), "{}", ran.said);
    let ran = run(&["send", "--json", "pay it back"], vec![Answer::Say(202, body.clone())]);
    assert_eq!(ran.code, Some(3), "{}", ran.said);
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap(), body);
}

#[test]
fn a_message_gets_its_reply() {
    let ran = run(
        &["send", "--channel", "web", "--tenant", "acme", "hello", "there"],
        vec![complete("echo: hello there")],
    );
    assert_eq!(
        (ran.code, ran.out.as_str(), ran.said.as_str()),
        (Some(0), "echo: hello there\n", "")
    );
    let (what, body) = &ran.seen[0];
    assert_eq!(what, "POST /v1/chat?wait=60");
    assert_eq!(body["message"], "hello there");
    assert_eq!(body["customer_id"], "anna");
    assert_eq!((&body["channel"], &body["tenant_id"]), (&json!("web"), &json!("acme")));
    assert!(body.get("agent_id").is_none(), "{body}");
    assert_eq!(body["id"].as_str().unwrap().len(), 36);
}

#[test]
fn a_dash_reads_standard_input() {
    let ran = run_with(&["send", "-"], "one\ntwo\n", vec![complete("x")]);
    assert_eq!(ran.seen[0].1["message"], "one\ntwo");
    let dir = tempfile::tempdir().unwrap();
    let output = turnkeep(dir.path()).args(["send", "-"]).write_stdin("\n").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "there is no message to send\n");
}

#[test]
fn a_lost_connection_sends_the_same_message_again() {
    let busy = Answer::Say(503, json!({ "title": "draining", "status": 503 }));
    let ran = run(&["send", "hi"], vec![Answer::HangUp, busy, complete("once")]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "once\n"));
    assert_eq!(ran.seen.len(), 3);
    assert!(ran.seen.iter().all(|seen| seen == &ran.seen[0]), "{:?}", ran.seen);
}

#[test]
fn what_may_have_been_taken_can_be_asked_again() {
    let stranger = Answer::Babble(404, "nobody here");
    let ran = run(&["send", "--id", "m1", "hi"], vec![Answer::HangUp, stranger]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(ran.said.contains("sending it again with --id m1 can't double it"), "{}", ran.said);
    let full = Answer::Say(429, json!({ "title": "refused", "status": 429 }));
    let ran = run(&["send", "hi"], vec![Answer::HangUp, full]);
    assert_eq!(ran.said, "refused\n");
}

#[test]
fn other_endings_are_told_apart() {
    let check = |args: &[&str], status: u16, body: Value, code: i32, out: &str, said: &str| {
        let ran = run(args, vec![Answer::Say(status, body)]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(code), out), "{}", ran.said);
        assert!(ran.said.contains(said), "{}", ran.said);
    };
    let send = &["send", "hi"];
    check(send, 200, json!({ "status": "complete", "reply": null }), 0, "", "say nothing");
    check(send, 200, json!({ "status": "failed", "turn_id": "t7" }), 1, "", "turns show t7");
    check(send, 200, json!({ "status": "cancelled", "reply": "half" }), 1, "half\n", "cancelled");
    let queued = json!({ "status": "queued", "session": "a:b:api:dm:c", "queue_position": 2 });
    check(send, 202, queued.clone(), 1, "", "no reply within 60 s; the message is safe (queued, 2");
    check(&["send", "--wait", "0", "hi"], 202, queued, 0, "", "taken (queued, 2 turns ahead");
    // No turn took it up, so there is none to look at, and no dead letter.
    let refused = json!({ "status": "failed", "turn_id": null, "error": "it was not passed on" });
    let ran = run(send, vec![Answer::Say(200, refused)]);
    assert_eq!(
        (ran.code, ran.said.as_str()),
        (Some(1), "there is no reply: it was not passed on\n")
    );
    let full = json!({ "title": "refused", "status": 429, "rejection_reason": "queue_full",
                       "retry_after_s": 3 });
    check(send, 429, full.clone(), 1, "", "refused (queue_full); try again in 3 s");
    let printed = format!("{full}\n");
    check(&["send", "--json", "hi"], 429, full, 1, &printed, "refused (queue_full)");
}

#[test]
fn strangers_are_recognised() {
    let ran = run(&["sessions"], vec![Answer::Babble(404, "<html>nginx</html>")]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.said.contains("is no Turnkeep: it says 404"), "{}", ran.said);
    let ran = run(&["sessions"], vec![Answer::Babble(200, "hello")]);
    assert!(ran.said.contains("is no Turnkeep: "), "{}", ran.said);
}

#[test]
fn who_speaks_no_tls_is_said_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""] {
            let (mut stream, _) = listener.accept().unwrap();
            assert_ne!(stream.read(&mut [0; 16]).unwrap(), 0, "the client said nothing");
            stream.write_all(answer).unwrap();
        }
    });
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let output = turnkeep(dir.path()).args(["send", "hi", "--server", &url]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with(&format!("no TLS connection to {url}: ")), "{said}");
        assert!(
            said.ends_with(
                "; Turnkeep itself speaks plain http://, https:// needs a proxy in front of it\n"
            ),
            "{said}"
        );
    }
    server.join().unwrap();
}

#[test]
fn replies_can_not_steer_the_terminal() {
    let ran = run(&["send", "hi"], vec![complete("a\u{1b}[2Jb\nc\td")]);
    assert_eq!(ran.out, "a[2Jb\nc\td\n");
}

const KEY: &str = "default:a%3Ab:web:dm:anna";
const KEY_PATH: &str = "/v1/sessions/default%3Aa%253Ab%3Aweb%3Adm%3Aanna";

#[test]
fn sessions_are_listed() {
    let page = json!({ "sessions": [{ "session": KEY, "state": "idle", "queued": 0, "last_seq": 4,
        "updated_at": "2026-01-02T03:04:05Z", "paused": { "by": "Olga" },
        "number": 3, "name": "api work" }], "next": KEY });
    let ran = run(&["sessions"], vec![Answer::Say(200, page.clone())]);
    assert_eq!(ran.seen[0].0, "GET /v1/sessions");
    assert_eq!(
        ran.out,
        format!(
            "session\tstate\tqueued\tseq\tupdated\toperator\tnumber\tname\n\
             {KEY}\tidle\t0\t4\t2026-01-02 03:04:05\tOlga\t3\t\"api work\"\n"
        )
    );
    assert_eq!(ran.said, format!("there are more: --after {KEY}\n"));
    let args = ["sessions", "list", "--json", "--limit", "5", "--after", "a:b"];
    let ran = run(&args, vec![Answer::Say(200, page.clone())]);
    assert_eq!(ran.seen[0].0, "GET /v1/sessions?after=a%3Ab&limit=5");
    assert_eq!(ran.out, format!("{page}\n"));
}

#[test]
fn sessions_are_steered() {
    let turn = "0190a5b4-0000-7000-8000-000000000000";
    let check = |args: &[&str], path: &str, body: Value| {
        let ran = run(args, vec![Answer::Say(200, json!({ "cancelled": 2 }))]);
        assert_eq!(ran.seen, [(format!("POST {KEY_PATH}{path}"), body)]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(0), "field\tvalue\ncancelled\t2\n"));
    };
    check(&["sessions", "stop", KEY], "/stop", json!({}));
    check(&["sessions", "stop", KEY, "--turn", turn], "/stop", json!({ "turn_id": turn }));
    check(&["sessions", "new", KEY], "/new", json!({}));
    check(&["sessions", "close", KEY], "/close", json!({}));
    check(&["sessions", "opt-in", KEY], "/opt-in", json!({}));
    check(&["sessions", "opt-out", KEY], "/opt-out", json!({}));
    check(&["sessions", "pause", KEY], "/pause", json!({}));
    check(
        &["sessions", "pause", "--take-over", "--by", "Bob", KEY],
        "/pause",
        json!({ "by": "Bob", "take_over": true }),
    );
    check(&["sessions", "hand-back", KEY, "--by", "Olga"], "/hand_back", json!({ "by": "Olga" }));
    let said = json!({ "text": "hello there", "id": "r-1", "by": "Olga" });
    let args = ["sessions", "reply", KEY, "hello", "there", "--id", "r-1", "--by", "Olga"];
    check(&args, "/reply", said);
}

#[test]
fn a_refusal_names_what_can_be_typed() {
    let body = json!({ "title": "wrong state", "status": 409,
                       "detail": "take_over has this session; take_over takes it from them" });
    let ran = run(&["sessions", "pause", KEY], vec![Answer::Say(409, body)]);
    let expect = "wrong state: take_over has this session; --take-over takes it from them\n";
    assert_eq!((ran.code, ran.said.as_str()), (Some(1), expect));
}

#[test]
fn a_session_tells_its_customers_rhythm() {
    let check = |samples: u32, expect: &str| {
        let rhythm = json!({ "samples": samples, "p50_ms": 640, "p95_ms": 1200 });
        let session = json!({ "session": KEY, "opted_in": true, "rhythm": rhythm });
        let ran = run(&["sessions", "show", KEY], vec![Answer::Say(200, session)]);
        assert!(ran.out.contains(&format!("\nrhythm\t{expect}\n")), "{}", ran.out);
        assert!(ran.out.contains("\nopted_in\ttrue\n"), "{}", ran.out);
    };
    check(0, "not known yet");
    check(12, "12 gaps in bursts: half within 640 ms, 95 % within 1200 ms");
}

#[test]
fn messages_are_a_transcript() {
    let page = json!({ "messages": [
        { "seq": 1, "role": "user", "text": "two\nlines", "at": 0 },
        { "seq": 2, "role": "operator", "by": "Olga", "text": "yes", "at": 61_000 },
    ], "next": null });
    let ran = run(&["sessions", "messages", KEY], vec![Answer::Say(200, page)]);
    assert_eq!(ran.seen[0].0, format!("GET {KEY_PATH}/messages"));
    assert_eq!(
        ran.out,
        "1970-01-01 00:00:00 user (1)\n    two\n    lines\n1970-01-01 00:01:01 operator Olga (2)\n    yes\n"
    );
}

#[test]
fn turns_and_dead_letters_are_shown() {
    let id = "0190a5b4-0000-7000-8000-000000000000";
    let turn = json!({ "turn_id": id, "status": "complete", "message_ids": ["a", "b"],
                       "reply": "done" });
    let ran = run(&["turns", "show", id], vec![Answer::Say(200, turn.clone())]);
    assert_eq!(ran.seen[0].0, format!("GET /v1/turns/{id}"));
    assert!(
        ran.out.contains("message_ids\ta, b\n") && ran.out.ends_with("\n\ndone\n"),
        "{}",
        ran.out
    );
    let ran = run(
        &["turns", "list", KEY, "--limit", "3"],
        vec![Answer::Say(200, json!({ "turns": [turn] }))],
    );
    assert_eq!(ran.seen[0].0, format!("GET {KEY_PATH}/turns?limit=3"));
    assert!(ran.out.contains(&format!("{id}\tcomplete\t\t2\t\tdone\n")), "{}", ran.out);

    let letters = json!({ "dead_letters": [{ "id": 7, "session": KEY, "text": "hi", "at": 0,
                          "reason": "agent_failed" }], "next": null });
    let ran = run(&["deadletters"], vec![Answer::Say(200, letters)]);
    assert!(ran.out.contains("7\tdefault"), "{}", ran.out);
    let ran = run(&["deadletters", "retry", "7"], vec![Answer::Say(200, json!({}))]);
    assert_eq!(
        (ran.seen[0].0.as_str(), ran.out.as_str()),
        ("POST /v1/deadletters/7/retry", "done\n")
    );
}

#[test]
fn the_socket_in_the_data_folder_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("turnkeep.sock")).unwrap();
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        serve_one(stream, complete("over the socket"))
    });
    let mut command = turnkeep(dir.path());
    let output =
        command.env("TURNKEEP_DATA_DIR", dir.path()).args(["send", "hi"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "over the socket\n");
    assert_eq!(server.join().unwrap().0, "POST /v1/chat?wait=60");
}

#[test]
fn a_socket_that_nobody_serves_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("turnkeep.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let mut command = turnkeep(dir.path());
    let output =
        command.env("TURNKEEP_DATA_DIR", dir.path()).args(["send", "hi"]).output().unwrap();
    let expect = format!(
        "no Turnkeep answers at unix:{}; start one with `turnkeep serve`\n",
        socket.display()
    );
    assert_eq!(String::from_utf8_lossy(&output.stderr), expect);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn whoever_names_a_folder_means_its_server_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let listen = listener.local_addr().unwrap().to_string();
    let nowhere = dir.path().join("nowhere");
    let named: [(&[&str], Option<&Path>); 2] =
        [(&["--data-dir", nowhere.to_str().unwrap()], None), (&[], Some(&nowhere))];
    for (flags, variable) in named {
        let mut command = turnkeep(dir.path());
        command.env("TURNKEEP_LISTEN", &listen).args(["sessions"]).args(flags);
        command.envs(variable.map(|dir| ("TURNKEEP_DATA_DIR", dir)));
        let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
        assert!(said.starts_with(&format!("no Turnkeep answers at unix:{}", nowhere.display())));
    }
    assert!(listener.accept().is_err(), "somebody else's server was asked");
}

#[test]
fn a_wrong_file_keeps_nobody_from_asking_the_server() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("turnkeep.toml"), "[gatway]\nx = 1\n").unwrap();
    let listener = UnixListener::bind(dir.path().join("turnkeep.sock")).unwrap();
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        serve_one(stream, Answer::Say(200, json!({ "changed": [] })))
    });
    let mut command = turnkeep(dir.path());
    let output = command.env("TURNKEEP_DATA_DIR", dir.path()).arg("reload").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("note: the configuration has mistakes"), "{said}");
    assert_eq!(server.join().unwrap().0, "POST /v1/reload");
}
