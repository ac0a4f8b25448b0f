//! What the program says of itself, and what it does where it was typed wrongly.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly, its helpers too")]

use assert_cmd::Command;

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnkeep"));
    let dir = tempfile::tempdir().unwrap();
    command.env_clear().env("HOME", dir.path()).current_dir(dir.path());
    let output = command.args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

const COMMANDS: [&str; 21] = [
    "serve",
    "attach",
    "send",
    "sessions",
    "turns",
    "deadletters",
    "listeners",
    "guard",
    "pair",
    "keys",
    "brain",
    "check",
    "signal",
    "doctor",
    "reload",
    "audit",
    "backup",
    "restore",
    "migrate",
    "bench",
    "completions",
];

#[test]
fn alone_it_helps() {
    let (code, out, said) = run(&[]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let (_, help, _) = run(&["--help"]);
    for command in COMMANDS {
        assert!(out.contains(&format!("\n  {command} ")), "{command} is missing:\n{out}");
        assert!(help.contains(&format!("\n  {command} ")), "{command} is missing:\n{help}");
    }
}

#[test]
fn every_command_has_help() {
    for command in COMMANDS {
        let (code, out, said) = run(&[command, "--help"]);
        assert_eq!((code, said.as_str()), (Some(0), ""), "{command}");
        assert!(out.contains("Usage: turnkeep"), "{command}:\n{out}");
        assert!(out.lines().all(|line| line.chars().count() <= 100), "{command} is wide:\n{out}");
    }
}

#[test]
fn attach_lists_nothing_that_it_refuses() {
    let (_, out, _) = run(&["attach", "--help"]);
    assert!(out.contains("--server") && !out.contains("--json"), "{out}");
    let (code, _, said) = run(&["attach", "--json"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("attach has no --json"), "{said}");
}

#[test]
fn shells_get_their_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, out, _) = run(&["completions", shell]);
        assert_eq!(code, Some(0), "{shell}");
        assert!(out.contains("deadletters"), "{shell}");
    }
    assert_eq!(run(&["completions", "dos"]).0, Some(2));
}

#[test]
fn what_is_typed_wrongly_is_two() {
    let check = |args: &[&str], expect: &str| {
        let (code, out, said) = run(args);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}");
        assert!(said.contains(expect), "{args:?}: {said}");
    };
    check(&["sned"], "send");
    check(&["send"], "<MESSAGE>");
    // Like "$NAME" where the variable is not set: nobody is somebody else.
    check(&["send", "--as", "", "hi"], "--as <NAME> is empty");
    check(&["send", "--tenant=", "hi"], "--tenant <NAME> is empty");
    check(&["sessions", "list", "--tenant", ""], "--tenant <NAME> is empty");
    check(&["sessions", "stop", ""], "<WHICH> is empty");
    check(&["sessions", "pause", "3", "--by", ""], "--by <NAME> is empty");
    check(&["attach", "--session", ""], "is empty");
    check(&["customers", "erase", "default", "", "--yes"], "<CUSTOMER> is empty");
    check(&["usage", "--customer", ""], "--customer <NAME> is empty");
    check(&["send", "--wait", "301", "hi"], "301 is not in 0..=300");
    check(&["send", "--channel", "pigeon", "hi"], "[possible values: web, api]");
    check(&["turns", "list", "anna"], "a session key has five parts");
    check(&["sessions", "show"], "<WHICH>");
    check(&["sessions", "rename", "3"], "<NAME>");
    check(&["sessions", "switch", "3"], "--seat <SEAT>");
    check(&["turns", "show", "7"], "must be the id of a turn, like 01a1");
    check(&["guard", "lift", "x"], "must be the number of a restriction");
    check(&["keys", "create", "--scope", "send"], "<--tenant <NAME>|--operator>");
    check(&["keys", "create", "--tenant", "a", "--operator", "--scope", "send"], "cannot be used");
    check(&["check", "--saying", "hi"], "--explain <SESSION>");
    check(&["check", "--explain", "a:b"], "or TENANT:AGENT:CHANNEL");
    check(&["serve", "--log-level", "loud"], "must be one of off, error, warn");
    check(&["serve", "--role", "worker"], "a worker is started with `turnkeep worker`");
    check(&["serve", "--role", "walker"], "[possible values: all, gateway]");
    check(&["bench", "--channel", "pigeon"], "possible values");
    for flag in ["--users", "--flood"] {
        check(&["bench", flag, "0"], "must be a whole number, 1 or more");
        check(&["bench", flag, "many"], "must be a whole number, 1 or more");
    }
    for flag in ["--tenants", "--slow-connections", "--senders"] {
        check(&["bench", flag, "0"], "must be a whole number, 1 or more");
    }
    for flag in ["--rate", "--over-limit"] {
        check(&["bench", flag, "0"], "must be a number above 0");
        check(&["bench", flag, "inf"], "must be a number above 0");
    }
    check(&["bench", "--senders", "9", "--users", "9"], "cannot be used with");
    check(&["bench", "--over-limit", "9", "--server", "http://127.0.0.1:9"], "cannot be used with");
    check(&["bench", "--messages", "0"], "0 is not in 1..");
    check(&["bench", "--burst", "0"], "0 is not in 1..");
}

#[test]
fn a_picture_that_cannot_be_written_is_a_failure() {
    let run = |path: &str| {
        run(&["bench", "--users", "1", "--messages", "1", "--delay-ms", "0", "--picture", path])
    };
    // Said before anything runs, where that can be known,
    let (code, out, said) = run("/no/such/folder/run.svg");
    assert_eq!((code, out.as_str()), (Some(1), ""), "{said}");
    assert!(said.starts_with("--picture: can't write /no/such/folder/run.svg: "), "{said}");
    // and else when the run is over and its numbers are told.
    let (code, out, said) = run("/dev/full");
    assert_eq!(code, Some(1), "{said}");
    assert!(out.contains("turns a second") && out.contains("no picture at /dev/full: "), "{out}");
}

#[test]
fn a_server_that_is_not_there_is_said_so() {
    // Port 9 of this machine is reserved for a service that nobody runs.
    for command in [&["send", "hi"][..], &["sessions"], &["deadletters"]] {
        let args: Vec<&str> =
            command.iter().chain(&["--server", "http://127.0.0.1:9"]).copied().collect();
        let (code, out, said) = run(&args);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{command:?}");
        assert_eq!(
            said,
            "no Turnkeep answers at http://127.0.0.1:9; start one with `turnkeep serve`\n"
        );
    }
    let (code, _, said) = run(&["sessions", "--server", "nonsense"]);
    assert_eq!(code, Some(1));
    assert!(said.starts_with("--server: must be like http://127.0.0.1:7878"), "{said}");
}
