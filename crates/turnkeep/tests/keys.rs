//! `turnkeep keys` and the real server: who is let in, from the first key to the last.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly, its helpers too")]

mod store_kit;
#[expect(dead_code, reason = "other tests look further")]
#[path = "store_kit/tables.rs"]
mod tables;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_turnkeep"));
        command.env_clear().env("HOME", self.0.path()).env("TURNKEEP_DATA_DIR", self.data());
        command.current_dir(self.0.path()).envs(store_kit::store(&self.data()));
        command
    }

    fn output(&self, args: &[&str], env: &[(&str, &str)]) -> Output {
        self.command().args(args).envs(env.iter().copied()).output().unwrap()
    }

    /// What a command prints that works.
    fn run(&self, args: &[&str]) -> String {
        let output = self.output(args, &[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command says that fails.
    fn fail(&self, args: &[&str], code: i32) -> String {
        let output = self.output(args, &[]);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(code), &b""[..]));
        String::from_utf8(output.stderr).unwrap()
    }

    fn create(&self, args: &[&str]) -> String {
        let printed = self.run(&[&["keys", "create"], args].concat());
        printed.trim_end().to_owned()
    }

    fn keys(&self) -> Vec<Value> {
        let listed: Value = serde_json::from_str(&self.run(&["keys", "list", "--json"])).unwrap();
        listed["keys"].as_array().unwrap().clone()
    }

    fn serve(&self, listen: &str) -> Server {
        let log = std::fs::File::create(self.0.path().join("log")).unwrap();
        let mut child = self
            .command()
            .args(["serve", "--log-level", "trace", "--listen", listen])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").map(str::to_owned);
        let address = address.unwrap_or_else(|| panic!("it did not start: {}", self.log()));
        Server { child, address }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.0.path().join("log")).unwrap()
    }
}

struct Server {
    child: Child,
    address: String,
}

impl Server {
    /// The status and the body of one request.
    fn ask(&self, head: &str, key: &str, body: &str) -> (u16, String) {
        let port = self.address.rsplit(':').next().unwrap();
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        let bearer =
            if key.is_empty() { String::new() } else { format!("authorization: Bearer {key}\r\n") };
        let length = body.len();
        write!(
            stream,
            "{head} HTTP/1.1\r\nhost: 127.0.0.1\r\n{bearer}connection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn status(&self, key: &str) -> u16 {
        self.ask("GET /v1/sessions", key, "").0
    }

    fn stop(mut self) {
        self.kill();
    }

    /// Ends as it should, so that the log is whole.
    fn end(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn id(key: &str) -> &str {
    key.split('_').nth(1).unwrap()
}

#[test]
fn a_tenant_that_looks_misspelt_is_asked_about_and_has_its_key() {
    let home = Home::new();
    let config = home.0.path().join("tenants.toml");
    let text = "[tenants.acme]\ntenant_rate_per_minute = 100\n[tenants.team-1]\nwindow_ms = 0\n\
                [users.anna]\ntenant = \"northwind\"\nsignal = \"+4915112345678\"\n";
    std::fs::write(&config, text).unwrap();
    let check = |tenant: &str, meant: Option<&str>| {
        let words = ["keys", "create", "--tenant", tenant, "--scope", "send", "--config"];
        let output = home.output(&[&words[..], &[config.to_str().unwrap()]].concat(), &[]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(output.stdout.starts_with(b"tk_"), "{tenant}");
        let asked = said.lines().find(|line| line.starts_with("note: "));
        let expect = meant.map(|meant| format!("did you mean {meant:?}?"));
        assert_eq!(asked.is_some(), expect.is_some(), "{said}");
        assert!(asked.unwrap_or_default().contains(&expect.unwrap_or_default()), "{said}");
    };
    check("acmee", Some("acme"));
    check("nortwind", Some("northwind"));
    check("defualt", Some("default"));
    // Whoever is known, and whoever is new.
    for fine in ["acme", "default", "northwind", "globex", "acme-shop", "team-2", "*"] {
        check(fine, None);
    }
    // Another server may have another configuration.
    let away = ["keys", "create", "--tenant", "acmee", "--scope", "send", "--config"];
    let away = [&away[..], &[config.to_str().unwrap(), "--server", "http://127.0.0.1:9"]].concat();
    assert!(!home.fail(&away, 1).contains("did you mean"));
}

#[test]
fn a_key_is_printed_bare_and_once() {
    let home = Home::new();
    let server = home.serve("127.0.0.1:0");
    assert_eq!(server.status(""), 200, "without any key as ever");
    let args = ["keys", "create", "--tenant", "acme", "--scope", "send,read", "--label", "shop"];
    let output = home.output(&args, &[]);
    let key = String::from_utf8(output.stdout).unwrap();
    let key = key.strip_suffix('\n').unwrap();
    assert!(key.starts_with("tk_") && key.split('_').count() == 3 && !key.contains('\n'), "{key}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("of tenant acme (send, read)") && said.contains("this once"), "{said}");
    assert!(!said.contains(key), "{said}");
    assert_eq!((server.status(""), server.status(key)), (401, 200));
    let listed = home.run(&["keys"]);
    assert!(listed.contains(&format!("{}\tacme\tsend, read\tactive\tshop\t", id(key))), "{listed}");
    let secret = key.rsplit('_').next().unwrap();
    assert!(!listed.contains(secret) && !home.run(&["keys", "--json"]).contains(secret));

    // The socket is the operator, without a key and with a wrong one.
    assert_eq!(home.run(&["send", "hello"]), "echo: hello\n");
    let wrong = [("TURNKEEP_KEY", "tk_wrong_wrong")];
    assert_eq!(home.output(&["sessions"], &wrong).status.code(), Some(0));
    // Over TCP the command line shows the key that it is given.
    let over_tcp =
        ["sessions", "list", "--json", "--server", &format!("http://{}", server.address)];
    let refused = home.output(&over_tcp, &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("needs an API key"));
    assert_eq!(home.output(&over_tcp, &[("TURNKEEP_KEY", key)]).status.code(), Some(0));
    let file = home.0.path().join("acme.key");
    std::fs::write(&file, format!("{key}\n")).unwrap();
    let with_file = [&over_tcp[..], &["--key-file", file.to_str().unwrap()]].concat();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let refused = home.output(&with_file, &[]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("open to everybody on this machine"));
    for (mode, warned) in [(0o640, true), (0o600, false)] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&file, mode).unwrap();
        let sent = home.output(&with_file, &[]);
        let said = String::from_utf8_lossy(&sent.stderr);
        assert_eq!(sent.status.code(), Some(0), "{said}");
        assert_eq!(said.contains("is open to its group"), warned, "{said}");
    }

    let new = home.run(&["keys", "rotate", id(key), "--grace", "1h"]);
    let new = new.trim_end();
    assert_eq!((server.status(key), server.status(new)), (200, 200));
    home.run(&["keys", "revoke", id(key)]);
    assert_eq!((server.status(key), server.status(new)), (401, 200));
    assert!(home.fail(&["keys", "revoke", "nobody"], 1).contains("there is no key \"nobody\""));
    let server_again = {
        server.stop();
        home.serve("127.0.0.1:0")
    };
    assert_eq!((server_again.status(key), server_again.status(new)), (401, 200));
}

#[test]
fn no_folder_is_made_for_a_look() {
    let home = Home::new();
    assert!(home.fail(&["keys", "list"], 1).contains("there is no data folder"));
    assert!(!home.data().exists());
}

#[test]
fn without_a_server_the_folder_is_used() {
    let home = Home::new();
    let key = home.create(&["--operator", "--scope", "admin", "--expires-in", "90d"]);
    let [listed] = &home.keys()[..] else { panic!() };
    assert_eq!((&listed["id"], &listed["tenant_id"]), (&json!(id(&key)), &json!("*")));
    let new = home.run(&["keys", "rotate", id(&key), "--grace", "0s"]);
    let new = new.trim_end();
    let link = home.run(&["keys", "sign-in", "--tenant", "acme", "--customer", "anna"]);
    let (page, code) = link.trim_end().split_once("#code=").unwrap();
    assert_eq!(page, "http://127.0.0.1:7878/");

    let server = home.serve("127.0.0.1:0");
    assert_eq!((server.status(""), server.status(&key), server.status(new)), (401, 401, 200));
    let (status, person) = server.ask("POST /v1/sign-in", "", &json!({ "code": code }).to_string());
    assert_eq!(status, 200, "{person}");
    // While a server runs nobody else touches its folder.
    assert_eq!(
        home.run(&["keys", "forget", id(&key)]),
        format!("field\tvalue\nid\t{}\nresult\tforgotten\n", id(&key))
    );
    server.stop();
    // The socket of a server that was killed is still there.
    assert!(home.data().join("turnkeep.sock").exists());
    home.run(&["keys", "revoke", id(new)]);
    home.run(&["keys", "forget", id(new)]);
    assert_eq!(home.keys(), Vec::<Value>::new());
}

#[test]
fn only_a_key_opens_the_server_to_other_machines() {
    let home = Home::new();
    let said = home.fail(&["serve", "--listen", "0.0.0.0:0"], 1);
    assert!(said.contains("turnkeep keys create --tenant TENANT --scope send,read"), "{said}");
    assert!(said.contains("listen on 127.0.0.1:"), "{said}");
    let ended = home.create(&["--tenant", "acme", "--scope", "read"]);
    home.run(&["keys", "revoke", id(&ended)]);
    let said = home.fail(&["serve", "--listen", "0.0.0.0:0"], 1);
    assert!(said.contains("no API key that opens"), "{said}");
    let key = home.create(&["--tenant", "acme", "--scope", "read"]);
    let server = home.serve("0.0.0.0:0");
    assert_eq!((server.status(""), server.status(&key)), (401, 200));
    // Not even the last key's end lets everybody in.
    for id in [id(&ended), id(&key)] {
        home.run(&["keys", "revoke", id]);
        home.run(&["keys", "forget", id]);
    }
    assert_eq!((server.status(""), server.status(&key)), (401, 401));
}

#[test]
fn what_is_typed_wrongly_is_told() {
    let home = Home::new();
    let check = |args: &[&str], expect: &str| {
        let said = home.fail(&[&["keys"], args].concat(), 2);
        assert!(said.contains(expect), "{args:?}: {said}");
    };
    let label = "x".repeat(65);
    check(&["create", "--scope", "read"], "--tenant");
    check(&["create", "--tenant", "acme"], "--scope");
    check(&["create", "--tenant", "acme", "--scope", "write"], "send, read and admin");
    check(&["create", "--tenant", "acme", "--operator", "--scope", "read"], "cannot be used with");
    check(&["create", "--tenant", "", "--scope", "read"], "must not be empty");
    let labelled = ["create", "--tenant", "a", "--scope", "read", "--label", &label];
    check(&labelled, "longer than 64 characters");
    check(&["create", "--tenant", "a", "--scope", "read", "--expires-in", "soon"], "like 90d");
    check(&["rotate", "x", "--grace", "1"], "like 90d");
    check(&["sign-in", "--tenant", "acme"], "--customer");
}

#[test]
fn no_secret_is_in_a_log_an_error_or_a_file() {
    let home = Home::new();
    let server = home.serve("127.0.0.1:0");
    let key = home.create(&["--tenant", "acme", "--scope", "admin"]);
    let made = server.ask("POST /v1/keys", &key, r#"{"scopes": ["read"]}"#);
    let made: Value = serde_json::from_str(&made.1).unwrap();
    let link = home.run(&["keys", "sign-in", "--tenant", "acme", "--customer", "anna"]);
    let code = link.trim_end().split_once("#code=").unwrap().1.to_owned();
    let body = json!({ "code": code }).to_string();
    assert_eq!(server.ask("POST /v1/sign-in", "", &body).0, 200);
    let mut secrets = vec![key.clone(), made["key"].as_str().unwrap().to_owned(), code];
    // What is nearly right, or asked of the wrong place, is told without being repeated.
    let nearly = format!("{}x", &key[..key.len() - 1]);
    let errors = [
        server.ask("GET /v1/sessions", &nearly, ""),
        server.ask("GET /v1/sessions", &format!("{key} {key}"), ""),
        server.ask("POST /v1/sign-in", "", &body),
        server.ask("GET /metrics", &key, ""),
        server.ask("POST /v1/chat", &key, "{"),
    ];
    secrets.push(nearly);
    let over_tcp = ["sessions", "--server", &format!("http://{}", server.address)];
    let said = home.output(&over_tcp, &[("TURNKEEP_KEY", &secrets[3])]);
    server.end();
    let log = home.log();
    assert!(log.contains("a key was made"), "{log}");
    assert!(tables::keeps(&home.data(), id(&key)), "the key is there");
    for secret in secrets.iter().map(|text| text.rsplit('_').next().unwrap()) {
        assert!(!log.contains(secret), "in the log");
        assert!(!tables::keeps(&home.data(), secret), "in the store");
        assert!(!String::from_utf8_lossy(&said.stderr).contains(secret), "on the terminal");
        for (status, text) in &errors {
            assert!(!text.contains(secret), "{status}: {text}");
        }
    }
    let statuses: Vec<u16> = errors.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [401, 401, 401, 403, 400]);
}
