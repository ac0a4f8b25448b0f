//! `turnkeep attach --plain`: the conversation line by line.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use crate::full::SIZE;
use crate::kit::{Home, said, wrote};

#[test]
fn lines_from_a_pipe_are_answered_one_after_the_other() {
    let home = Home::started();
    let output = home.plain(&[], "hello\n\ntwo\\\nlines\n");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let expect = "you: hello\nagent: echo: hello\nyou: two\n  lines\nagent: echo: two\n  lines\n";
    assert_eq!(wrote(&output), expect);
    // The seat finds its session again, and what was read is not told twice.
    let output = home.plain(&[], "again\n");
    // The last answer may be told once more, where it was read before the switchboard knew of it.
    let wrote = wrote(&output);
    assert!(wrote.ends_with("you: again\nagent: echo: again\n"), "{wrote}");
    assert!(!wrote.contains("hello"), "{wrote}");
    assert!(said(&output).starts_with("session 1: "), "{}", said(&output));
}

#[test]
fn what_is_no_text_is_not_sent() {
    let home = Home::started();
    let output = home.plain(&[], b"bad\xff\nbegun\\\n\xfe\ngood\n");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(wrote(&output), "you: good\nagent: echo: good\n");
    let not_sent = "not sent: the line is not valid UTF-8";
    assert_eq!(said(&output).matches(not_sent).count(), 2, "{}", said(&output));
}

#[test]
fn a_question_waits_for_the_next_line() {
    let home = Home::started();
    let made = home.prints(&["sessions", "create", "--name", "old branches", "--agent", "careful"]);
    assert!(made.contains("old branches"), "{made}");
    let output = home.plain(&["--session", "old branches"], "tidy up\nyes\n");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(
        wrote(&output),
        "you: tidy up\nquestion: May I delete the branch old-api?\nyou: yes\n\
         agent: The branch old-api is deleted.\n"
    );
    let output = home.plain(&["--session", "old branches"], "tidy up\n");
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).ends_with("the conversation waits for an answer\n"), "{}", said(&output));
    // Whoever comes later is told, and may answer.
    let output = home.plain(&["--session", "old branches"], "no\n");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("it waits for you: May I delete"), "{}", said(&output));
    assert!(wrote(&output).ends_with("agent: I left it alone.\n"), "{}", wrote(&output));
}

#[test]
fn commands_are_done_in_their_turn() {
    let home = Home::started();
    let lines = "/new first\none\n/new second\n/rename the other\n/sessions\n/switch first\ntwo\n\
                 //three\n/close\n/quit\nnever said\n";
    let output = home.plain(&["--seat", "pipe"], lines);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let said = said(&output);
    for line in [
        "session 2 \"first\": idle",
        "session 3 \"second\": idle",
        "3 \"the other\": idle",
        "session 2 \"first\" is closed",
    ] {
        assert!(said.lines().any(|one| one == line), "{line}: {said}");
    }
    let wrote = wrote(&output);
    assert!(wrote.contains("agent: echo: two\n"), "{wrote}");
    assert!(!wrote.contains("never said"), "{wrote}");
}

#[tokio::test]
async fn lines_that_are_pasted_go_where_the_command_before_them_goes() {
    let home = Home::started();
    let terminal = home.attach(SIZE, &["--plain"]);
    terminal.shows("session 1: idle").await;
    terminal.paste("/new other\nfirst\n/switch 1\nsecond\n");
    terminal.shows("agent: echo: second").await;
    terminal.paste("/switch nope\nyes\n");
    terminal.shows("not sent: it may have been meant for another session").await;
    terminal.paste("/switch other\n/close\nthird\n");
    terminal.shows("agent: echo: third").await;
    terminal.enter("/quit");
    assert_eq!(terminal.ended().await, "1", "a switch failed");
    let said = |session: &str| home.prints(&["sessions", "messages", session]);
    let one = said("1");
    for (text, expect) in [("first", false), ("second", true), ("yes", false), ("third", true)] {
        assert_eq!(one.contains(text), expect, "{text}: {one}");
    }
}

#[tokio::test]
async fn who_types_answers_in_the_agents_place_while_it_is_paused() {
    let home = Home::started();
    let output = home.plain(&[], "hello\n");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    home.prints(&["sessions", "pause", "1", "--by", "Olga"]);
    // A pipe's lines are the user's all the same, and it is told who answers and how.
    let mut command = home.turnkeep(&["attach", "--plain", "--session", "1"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut piped = command.spawn().unwrap();
    writeln!(piped.stdin.take().unwrap(), "is anybody there?").unwrap();
    let terminal = home.attach(SIZE, &["--plain", "--session", "1"]);
    terminal.shows("what you type here is said in the agent's place, as an operator").await;
    terminal.shows("is anybody there?").await;
    terminal.enter("Yes, a person.");
    terminal.until("the answer", |screen| screen.matches("Yes, a person.").count() == 2).await;
    let output = piped.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("Olga has the agent's place, and answers"), "{}", said(&output));
    assert!(wrote(&output).contains(": Yes, a person.\n"), "{}", wrote(&output));
    home.prints(&["sessions", "hand-back", "1", "--by", "Olga"]);
    terminal.shows("the agent has its place again").await;
    terminal.enter("and you?");
    terminal.shows("agent: echo: and you?").await;
    terminal.enter("/quit");
    assert_eq!(terminal.ended().await, "0");
    assert!(home.prints(&["audit"]).contains("every invariant holds"));
}

#[test]
fn nothing_that_is_written_steers_the_terminal() {
    let home = Home::started();
    let output = home.plain(&[], "a\u{9b}2J\u{202e}b\n/rename x\u{1b}[31m\n");
    let all = wrote(&output) + &said(&output);
    let steers = |one: char| (one.is_control() && one != '\n') || one == '\u{202e}';
    assert!(!all.chars().any(steers), "{all:?}");
    assert_eq!(output.status.code(), Some(1), "{all}");
}

#[test]
fn who_has_seen_enough_may_go() {
    let home = Home::started();
    // Its standard output is closed before anything is written.
    let attach = format!("{} attach --plain", env!("CARGO_BIN_EXE_turnkeep"));
    let pipe = format!("(printf 'hello\\n' | {attach}; echo $? > code) | true");
    let mut command = home.turnkeep(&[]);
    let env: Vec<_> = command
        .get_envs()
        .map(|(name, value)| (name.to_owned(), value.unwrap().to_owned()))
        .collect();
    let mut shell = std::process::Command::new("bash");
    shell.args(["-c", &pipe]).env_clear().envs(env).current_dir(home.path(""));
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(std::fs::read_to_string(home.path("code")).unwrap(), "0\n", "{}", said(&output));
    command.arg("sessions");
    assert!(command.output().unwrap().status.success());
}

#[test]
fn a_tenant_has_sessions_of_its_own() {
    let home = Home::started();
    let output = home.plain(&["--tenant", "acme"], "hello\n");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(wrote(&output), "you: hello\nagent: echo: hello\n");
    let sessions = home.prints(&["sessions"]);
    assert!(sessions.contains("acme:default:terminal:main:"), "{sessions}");
    // The default tenant's begin with 1 as well.
    let output = home.plain(&[], "");
    assert!(said(&output).starts_with("session 1: idle\n"), "{}", said(&output));
}

#[test]
fn a_server_over_tcp_wants_a_key() {
    let home = Home::started();
    let made = home.prints(&["keys", "create", "--tenant", "acme", "--scope", "send,read"]);
    let key = made.split_whitespace().find(|word| word.starts_with("tk_")).unwrap().to_owned();
    std::fs::write(home.path("key"), &key).unwrap();
    std::fs::set_permissions(home.path("key"), Permissions::from_mode(0o600)).unwrap();
    let address = home.address();
    let output = home.plain(&["--server", &address], "hello\n");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("key"), "{}", said(&output));
    let file = home.path("key").display().to_string();
    let output = home.plain(&["--server", &address, "--key-file", &file], "hello\n");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(wrote(&output), "you: hello\nagent: echo: hello\n");
    let sessions = home.prints(&["sessions"]);
    assert!(sessions.contains("acme:default:terminal:main:"), "{sessions}");
}
