//! `turnkeep signal link`, `accounts` and `status`, and accounts that change while the server runs.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::kit::{Household, NUMBER, Phone};
use crate::port_kit::free_port;

const LINKED: &str = "+4915100000007";
const ANNA: Phone = Phone(1);

fn fresh() -> Household {
    let home = Household::new("");
    std::fs::write(home.path("phone/link.number"), LINKED).unwrap();
    home
}

#[test]
fn a_pipe_gets_the_address_and_the_section() {
    let home = fresh();
    let (code, out, said) = home.run(&["signal", "link", "--name", "Kitchen"]);
    assert_eq!(code, Some(0), "{said}");
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("sgnl://linkdevice?uuid="), "{out}");
    assert_eq!(lines[1..], ["[signal.accounts.NAME]", &format!("number = \"{LINKED}\"")]);
    assert!(said.contains(&format!("linked {LINKED}")), "{said}");
    // It is told its name.
    let start = home.noted("starts.jsonl").pop().unwrap();
    assert!(start["args"].as_array().unwrap().contains(&"Kitchen".into()), "{start}");
}

/// Where nothing is configured yet, the file is written that the next start reads.
#[test]
fn the_section_is_written_if_that_is_wanted() {
    let home = fresh();
    // signal-cli is looked for in PATH.
    let bin = home.path("bin");
    std::fs::create_dir(&bin).unwrap();
    let daemon = crate::kit::repository("crates/channels/tests/signal/daemon.py");
    let start = format!("#!/bin/sh\nexec python3 {daemon:?} \"$@\"\n");
    std::fs::write(bin.join("signal-cli"), start).unwrap();
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(bin.join("signal-cli"), mode).unwrap();
    std::fs::write(home.path("turnkeep.toml"), "log_text = true\n").unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let output = home.command(&["signal", "link", "--write"]).env("PATH", &path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let written = std::fs::read_to_string(home.path("turnkeep.toml")).unwrap();
    assert_eq!(written, format!("log_text = true\n\n[signal]\nnumber = \"{LINKED}\"\n"));
    // Twice changes nothing.
    let output = home.command(&["signal", "link", "--write"]).env("PATH", &path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_to_string(home.path("turnkeep.toml")).unwrap(), written);
}

/// Whoever says first how signal-cli is started does not know the number yet.
#[test]
fn the_number_comes_into_a_section_that_was_begun() {
    let home = fresh();
    let path = home.path("turnkeep.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let begun = text.replace(&format!("number = \"{NUMBER}\"\n"), "");
    std::fs::write(&path, &begun).unwrap();
    let (code, _, said) = home.run(&["check"]);
    assert_eq!(code, Some(1), "{said}");
    let (code, out, said) = home.run(&["signal", "link", "--write", "--no-qr"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(out.starts_with("sgnl://linkdevice?uuid="), "{out}");
    let written = std::fs::read_to_string(&path).unwrap();
    assert_eq!(written, begun.replace("[signal]\n", &format!("[signal]\nnumber = \"{LINKED}\"\n")));
    let (code, _, said) = home.run(&["check"]);
    assert_eq!(code, Some(0), "{said}");
}

/// One number is configured, and a phone with another one scans the code.
#[test]
fn another_number_is_not_written_over_the_one_that_is_there() {
    let home = fresh();
    let before = std::fs::read_to_string(home.path("turnkeep.toml")).unwrap();
    let (code, out, said) = home.run(&["signal", "link", "--write"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("names another number"), "{said}");
    assert!(out.ends_with(&format!("[signal.accounts.NAME]\nnumber = \"{LINKED}\"\n")), "{out}");
    assert_eq!(std::fs::read_to_string(home.path("turnkeep.toml")).unwrap(), before);
}

/// In the smallest window that there is the whole code is to be seen until it was scanned, and what
/// there is to say stands above it.
#[test]
fn the_code_fits_into_a_window_of_80_by_24() {
    const WINDOW: &str = "\
import fcntl, os, pty, re, struct, sys, termios
pid, screen = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
    os.execv(sys.argv[1], sys.argv[1:])
def whole(told):
    lines = re.sub(rb'\\x1b\\[[0-9;]*m', b'', told).split(b'\\r\\n')
    return len(lines) > 18 and lines[-1] == b'' and lines[-2].strip() == b''
told = b''
while True:
    try:
        piece = os.read(screen, 4096)
    except OSError:
        break
    if not piece:
        break
    told += piece
    if whole(told):
        try:
            os.unlink(os.environ['SIGNAL_STANDIN_DIR'] + '/link.wait')
        except FileNotFoundError:
            pass
sys.stdout.buffer.write(told)
";
    let home = fresh();
    // The phone waits until all of the code is there.
    std::fs::write(home.path("phone/link.wait"), "").unwrap();
    let linking = home.command(&["signal", "link"]);
    let mut window = std::process::Command::new("python3");
    window.args(["-c", WINDOW]).arg(linking.get_program()).args(linking.get_args());
    window.env("SIGNAL_STANDIN_DIR", home.path("phone"));
    let output = window.output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = told.lines().collect();
    let is_code = |line: &&str| line.starts_with('\u{1b}');
    let first = lines.iter().position(is_code).unwrap();
    assert_eq!(lines.iter().filter(|line| is_code(line)).count(), 23, "{told}");
    assert!(lines[first..first + 23].iter().all(is_code), "{told}");
    assert!(lines[..first].iter().any(|line| line.contains("Linked devices")), "{told}");
    assert!(lines[..first].iter().any(|line| line.contains("sgnl://linkdevice")), "{told}");
    assert!(!told.contains("too small"), "{told}");
    assert!(lines[first + 23].contains(&format!("linked {LINKED}")), "{told}");
}

#[test]
fn accounts_are_those_of_signal_cli() {
    let home = fresh();
    let (code, out, said) = home.run(&["signal", "accounts"]);
    assert_eq!(
        (code, &*out),
        (Some(0), &*format!("number\tconfigured as\n{NUMBER}\tdefault\n")),
        "{said}"
    );
    home.link(LINKED);
    let (code, out, said) = home.run(&["signal", "accounts", "--json"]);
    assert_eq!(code, Some(1), "{said}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["linked"][0]["number"], LINKED);
    assert_eq!(told["not_linked"][0], NUMBER);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_tells_how_its_accounts_are() {
    let mut home = Household::started("[agents.default]\nkind = \"echo\"\n");
    let works = |told: &Value| {
        let is = |half: &str| told["accounts"][0][half]["state"] == "working";
        is("receiving") && is("sending")
    };
    home.until("an account that works", async || {
        home.ask("/v1/signal").await.is_some_and(|told| works(&told))
    })
    .await;
    let (code, out, said) = home.run(&["signal", "status"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(out.contains("default\tworking"), "{out}");
    let told = home.ask("/v1/signal").await.unwrap();
    assert_eq!(told["accounts"][0]["restarts"], 0);
    home.kill_daemon();
    home.until("another start", async || {
        let told = home.ask("/v1/signal").await.unwrap();
        told["accounts"][0]["restarts"] == 1 && works(&told)
    })
    .await;
    assert!(home.ask("/readyz").await.unwrap()["signal"].is_null());
    home.end();
}

/// A reload lets a signal-cli go on of which nothing changed; one that is to be another is ended
/// first, and what is said meanwhile is heard by its successor.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_replaces_what_changed() {
    let mut home = Household::started("[agents.default]\nkind = \"echo\"\n");
    home.say(&[(ANNA, "one")]);
    home.until("an answer", async || home.got(ANNA) == ["echo: one"]).await;
    let change = |from: &str, to: &str| {
        let path = home.path("turnkeep.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace(from, to)).unwrap();
        let (code, out, said) = home.run(&["reload"]);
        assert_eq!(code, Some(0), "{said}");
        out
    };
    assert_eq!(
        change("kind = \"echo\"", "kind = \"echo\"\ndelay_ms = 1"),
        "changed: agents.default\n"
    );
    assert_eq!(home.noted("starts.jsonl").len(), 1);
    assert_eq!(change("unknown =", "receipts = false\nunknown ="), "changed: signal\n");
    home.say(&[(ANNA, "two")]);
    home.until("another answer", async || home.got(ANNA) == ["echo: one", "echo: two"]).await;
    home.until("another start", async || home.noted("starts.jsonl").len() == 2).await;
    let starts = home.noted("starts.jsonl");
    let is_gone = |start: &Value| !Path::new(&format!("/proc/{}", start["pid"])).exists();
    home.until("the end of the first one", async || is_gone(&starts[0])).await;
    // Without Signal nobody is left, and the server goes on.
    let path = home.path("turnkeep.toml");
    std::fs::write(&path, "[agents.default]\nkind = \"echo\"\n").unwrap();
    assert_eq!(home.run(&["reload"]).0, Some(0));
    assert_eq!(home.ask("/v1/signal").await.unwrap()["accounts"], serde_json::json!([]));
    home.until("the end of the other one", async || is_gone(&starts[1])).await;
    home.end();
}

/// A signal-cli that runs by itself, on each of its doors; it may end and come back.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_of_ones_own_is_reached() {
    for door in ["tcp", "http", "unix"] {
        let mut home = Household::of(
            "address = \"ADDRESS\"\nunknown = \"public\"",
            "[agents.default]\nkind = \"echo\"\n",
        );
        let socket = home.path("socket").display().to_string();
        // A port that nobody else is given while it is down.
        let place = if door == "unix" { socket } else { format!("127.0.0.1:{}", free_port()) };
        let mut daemon = home.daemon(door, &place);
        home.until("its door", async || home.noted("starts.jsonl").len() == 1).await;
        let address =
            if door == "unix" { format!("unix:{place}") } else { format!("{door}://{place}") };
        let path = home.path("turnkeep.toml");
        let text = std::fs::read_to_string(&path).unwrap().replace("ADDRESS", &address);
        std::fs::write(&path, text).unwrap();
        home.start();
        home.say(&[(ANNA, "one")]);
        home.until("an answer", async || home.got(ANNA) == ["echo: one"]).await;
        let (code, out, said) = home.run(&["doctor"]);
        assert_eq!(code, Some(0), "{door}: {out}{said}");
        assert!(out.contains(&format!("something answers at {address}")), "{out}");
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        let mut daemon = home.daemon(door, &place);
        home.say(&[(ANNA, "two")]);
        home.until("another answer", async || home.got(ANNA) == ["echo: one", "echo: two"]).await;
        home.end();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }
}
