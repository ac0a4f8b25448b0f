//! Secrets and terminal escapes where a person looks: logs, errors, process lists, tables.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::Output;

use serde_json::{Value, json};

use super::kit::{Home, Request, attacker};

/// Steers a terminal: colours, a title, a bell, C1's control sequence, a line drawn over.
const HOSTILE: &str = "a\u{1b}[31mred\u{1b}]0;title\u{7}\u{9b}2J\u{8}\u{8}\r\u{7f}\u{85}z";

fn controls(text: &str) -> Vec<char> {
    text.chars().filter(|one| one.is_control() && !matches!(one, '\n' | '\t')).collect()
}

/// Answers everything with this, whoever asks for whatever.
fn liar(status: u16, body: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut scratch = [0; 16 * 1024];
            let _ = stream.read(&mut scratch);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

/// Everything that any command looks for in an answer, all of it hostile.
fn hostile_answer() -> Value {
    let fields = "id session tenant_id agent_id customer_id channel kind state label status created_at \
                  expires_at text reply role at seq turn_id error reason severity type since until \
                  appeal name url last_error key link code message_id result queued last_seq \
                  updated_at action attempt lifted_by";
    let mut one = json!({ "in_force": true, "scopes": [HOSTILE, "read"] });
    for field in fields.split_whitespace() {
        one[field] = json!(HOSTILE);
    }
    for list in ["message_ids", "pattern", "changed", "needs_restart", "notes"] {
        one[list] = json!([HOSTILE]);
    }
    let mut all = one.clone();
    for list in [
        "sessions",
        "messages",
        "turns",
        "dead_letters",
        "keys",
        "restrictions",
        "listeners",
        "dead",
        "deliveries",
        "callbacks",
    ] {
        all[list] = json!([one]);
    }
    all["next"] = json!(HOSTILE);
    all
}

const COMMANDS: [&[&str]; 24] = [
    &["sessions"],
    &["sessions", "show", "a:b:c:dm:d"],
    &["sessions", "messages", "a:b:c:dm:d"],
    &["sessions", "stop", "a:b:c:dm:d"],
    &["sessions", "new", "a:b:c:dm:d"],
    &["turns", "list", "a:b:c:dm:d"],
    &["turns", "show", "01a1b2c3-0000-7000-8000-000000000000"],
    &["deadletters"],
    &["deadletters", "retry", "1"],
    &["listeners"],
    &["listeners", "dead", "x"],
    &["guard"],
    &["guard", "show", "1"],
    &["guard", "block", "x"],
    &["guard", "lift", "1"],
    &["guard", "appeal", "1", "text"],
    &["keys"],
    &["keys", "create", "--tenant", "a", "--scope", "read"],
    &["keys", "rotate", "x"],
    &["keys", "revoke", "x"],
    &["keys", "sign-in", "--tenant", "a", "--customer", "b"],
    &["reload"],
    &["send", "hello"],
    &["send", "--wait", "0", "hello"],
];

fn check(args: &[&str], output: &Output) {
    for (what, bytes) in [("printed", &output.stdout), ("said", &output.stderr)] {
        let text = String::from_utf8_lossy(bytes);
        assert_eq!(controls(&text), [], "{args:?} {what} {text:?}");
    }
}

#[test]
fn a_server_can_steer_nobodys_terminal() {
    let home = Home::new("");
    let refusal = json!({
        "type": HOSTILE, "title": HOSTILE, "status": 422, "detail": HOSTILE, "field": HOSTILE,
        "rejection_reason": HOSTILE,
    });
    let liars = [
        liar(200, &hostile_answer().to_string()),
        liar(202, &hostile_answer().to_string()),
        liar(422, &refusal.to_string()),
        liar(200, HOSTILE),
        liar(500, HOSTILE),
    ];
    let mut shown = 0;
    for address in liars {
        let server = format!("http://{address}");
        for args in COMMANDS {
            for json in [&[][..], &["--json"]] {
                let args = [args, &["--server", &server], json].concat();
                let output = home.output(&args);
                assert_ne!(output.status.code(), Some(2), "{args:?} is typed wrongly");
                check(&args, &output);
                shown += usize::from(String::from_utf8_lossy(&output.stdout).contains("31mred"));
            }
        }
    }
    assert!(shown > COMMANDS.len(), "{shown}: what is hostile was hardly shown at all");
}

#[test]
fn a_file_can_steer_nobodys_terminal() {
    // A file may hold such characters in its values only as escapes, and in its comments not at all.
    let escaped = "\\u001b[31mred\\u009b2J\\u0007";
    for config in [
        format!("listen = \"{escaped}\"\n"),
        format!("\"{escaped}\" = 1\n"),
        format!("[agents.\"{escaped}\"]\nkind = \"{escaped}\"\n"),
        format!("[guard]\nterms = [\"{escaped}\"]\npatterns = [\"({escaped}\"]\n"),
        format!("[tenants.\"{escaped}\"]\nbusy_policy = \"{escaped}\"\n"),
        format!("log_text = {HOSTILE}\n"),
    ] {
        let home = Home::new(&config);
        for args in [&["check"][..], &["check", "--explain", "a:b:web"], &["serve"]] {
            if args == ["serve"] && home.output(&["check"]).status.success() {
                continue;
            }
            check(args, &home.output(args));
        }
    }
}

#[tokio::test]
async fn nobody_writes_lines_of_their_own_into_the_log() {
    let home = Home::new("");
    let server = home.serve("trace", &[]);
    let forged = "x%0AFORGED%1b[31m%0d%c2%9b";
    let text = r#"{"customer_id": "a", "message": "one\nFORGED two", "id": "b"}"#;
    for request in [
        Request::of(&format!("GET /{forged}"), ""),
        Request::of(&format!("GET /v1/sessions/{forged}/messages"), ""),
        Request::of(&format!("GET /v1/sessions?after={forged}"), ""),
        Request::of("GET /healthz", "").with("user-agent", "x\u{9b}2J\tFORGED"),
        Request::of("GET /healthz", "").with("referer", "\u{85}FORGED"),
        Request::of("GET /healthz", "").with("origin", "http://\u{9b}FORGED"),
        Request::post("/v1/chat?wait=30", "", text),
        Request::post(
            "/v1/chat",
            "",
            "{\"customer_id\": \"\\u001b[31m\\nFORGED\", \"message\": \"x\"}",
        ),
    ] {
        assert_ne!(server.ask(attacker(1), &request).await.status, 500);
    }
    let raw =
        server.raw(attacker(1), b"GET /\x1b[31m HTTP/1.1\r\nx: \x1b]0;FORGED\x07\r\n\r\n").await;
    assert_eq!(raw.status, 400);
    server.end();
    let log = home.log();
    assert!(log.contains("gateway_decision"), "it logs: {log}");
    assert_eq!(controls(&log), [], "{log:?}");
    assert!(!log.lines().any(|line| line.starts_with("FORGED")), "{log}");
    assert!(!log.contains("two"), "texts are not logged");
}

/// Names that are SQL, a path, a pattern or a shell's command somewhere else.
#[tokio::test]
async fn what_would_be_code_elsewhere_is_a_name() {
    let home = Home::new("");
    let server = home.serve("warn", &[]);
    let names = [
        "Robert'); DROP TABLE sessions;--",
        "\" OR 1=1 --",
        "../../../etc/passwd",
        "$(touch owned) `touch owned` | touch owned",
        "%' AND '1'='1",
        "*:*:*",
        "<script>alert(1)</script>",
        "{{7*7}} ${7*7} %s%n",
    ];
    for (number, name) in names.iter().enumerate() {
        let body = json!({ "customer_id": name, "message": name, "id": name }).to_string();
        let request = Request::post("/v1/chat?wait=30", "", &body);
        let answer = server.ask(attacker(number), &request).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let said = answer.json();
        assert_eq!(
            (&said["reply"], &said["message_id"]),
            (&json!(format!("echo: {name}")), &json!(name))
        );
        let session = said["session"].as_str().unwrap();
        let shown = home.run(&["sessions", "show", session, "--json"]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["customer_id"], json!(name));
    }
    let listed: Value = serde_json::from_str(&home.run(&["sessions", "--json"])).unwrap();
    assert_eq!(listed["sessions"].as_array().unwrap().len(), names.len());
    assert!(!home.path("owned").exists() && !home.path("data/owned").exists());
    assert!(home.run(&["audit"]).contains("every invariant holds"));
}

/// Neither the process list nor the log nor any answer holds what opens something.
#[tokio::test]
async fn secrets_stay_where_they_are() {
    let provider = "sk-0123456789abcdef0123456789abcdef";
    let signing = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqrTwjU";
    let home = Home::new(
        "[agents.default]\nkind = \"openai\"\nbase_url = \"http://127.0.0.1:9/v1\"\nmodel = \"m\"\n\
         api_key_env = \"PROVIDER\"\nmax_retries = 0\nerrors_max = 1\n\
         [gateway]\ncallbacks_may_reach = [\"127.0.0.0/8\"]\n\
         [listeners.x]\nurl = \"http://127.0.0.1:9/hook?token=in-the-address\"\nsecret_env = \"SIGNING\"\n",
    );
    let server = home.serve("trace", &[("PROVIDER", provider), ("SIGNING", signing)]);
    let key = home.key(&["--operator", "--scope", "admin"]);
    let mut said = vec![
        ("the process list", read(&format!("/proc/{}/cmdline", server.child.id()))),
        ("turnkeep listeners", home.run(&["listeners"])),
        ("turnkeep check", String::from_utf8_lossy(&home.output(&["check"]).stderr).into_owned()),
    ];
    let body = r#"{"customer_id": "a", "message": "hello"}"#;
    for line in ["POST /v1/chat?wait=30", "GET /v1/listeners", "GET /metrics", "GET /v1/keys"] {
        let body = if line.starts_with("POST") { body } else { "" };
        let answer = server.ask(attacker(2), &Request { body, ..Request::of(line, &key) }).await;
        assert_eq!(answer.status, 200, "{line}: {}", answer.text);
        said.push((line, answer.text));
    }
    for nearly in [format!("{key} "), format!("{key}{key}"), key.to_uppercase()] {
        let answer = server.ask(attacker(3), &Request::of("GET /v1/keys", &nearly)).await;
        said.push(("a refusal", answer.text));
    }
    server.end();
    said.push(("the log", home.log()));
    let key_secret = key.rsplit('_').next().unwrap();
    for secret in [provider, &signing[6..], key_secret, "in-the-address"] {
        for (what, text) in &said {
            assert!(!text.contains(secret), "{secret} is in {what}: {text}");
        }
    }
    // Its environment is for its owner's eyes only, as the system has it.
    use std::os::unix::fs::PermissionsExt as _;
    let files = std::fs::read_dir(home.path("data")).unwrap().map(|entry| entry.unwrap().path());
    for path in files.chain([home.path("data")]) {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} is open to others: {mode:o}", path.display());
    }
}

fn read(path: &str) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}
