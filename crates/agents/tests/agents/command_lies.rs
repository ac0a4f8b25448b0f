//! Brains that break the contract, die or talk without end: each is told so, by line and field, and
//! never with what it said.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use turnkeep_agents::{CommandAgent, CommandSettings};
use turnkeep_core::ids::Seq;
use turnkeep_core::ports::agent::{Agent, Permission};

use crate::command::script;
use crate::handle::FakeHandle;

const PATIENCE: Duration = Duration::from_secs(60);

/// The brain that runs this script fails the attempt with this.
async fn check(text: &str, retry: bool, expect: &str) {
    let dir = tempfile::tempdir().unwrap();
    let handle = FakeHandle::new();
    handle.permissions.lock().unwrap().push_back(Permission::Call(Seq(8)));
    let agent = script(dir.path(), text);
    let answer = tokio::time::timeout(PATIENCE, agent.run(handle.turn(&["a"]))).await;
    let failure = answer.expect("the brain hangs").unwrap_err();
    assert_eq!((&*failure.error, failure.retry), (expect, retry), "for {text}");
    assert!(!failure.error.contains("SECRET"), "{failure:?}");
}

/// The same for a mistake in a line.
async fn check_broken(text: &str, expect: &str) {
    check(text, false, &format!("the brain broke its contract: {expect}")).await;
}

#[tokio::test]
async fn lines_that_are_none_are_refused() {
    check_broken("echo; echo SECRET", "line 2 is not JSON (at byte 1 of the line)").await;
    check_broken("echo '[\"SECRET\"]'", "line 1 is not a JSON object").await;
    check_broken("printf '{\"type\":\"say\",\"text\":\"\\377\"}\\n'", "line 1 is not UTF-8").await;
    check_broken(
        "echo '{\"type\":\"say\",\"text\":5}'",
        "line 1 has a \"text\" that is not a text",
    )
    .await;
    check_broken(
        "echo '{\"type\":\"SECRET\"}'",
        "line 1 has a \"type\" that is not one of say, take_mail, commit_point, ask, emit, intend, \
         returned, keep, recall, used, choose, finished, failed",
    )
    .await;
}

#[tokio::test]
async fn endless_brains_have_an_end() {
    check_broken("exec cat /dev/zero", "line 1 has more than 1048576 bytes").await;
    let megabyte = "x=$(head -c 900000 /dev/zero | tr '\\0' x)\n";
    let say = "printf '{\"type\":\"say\",\"text\":\"%s\"}\\n' \"$x\"";
    check_broken(
        &format!("{megabyte}while :; do {say}; done"),
        "line 5 makes its \"say\" more than 4194304 bytes",
    )
    .await;
    let emit = "echo '{\"type\":\"emit\",\"name\":\"a\"}'";
    check_broken(&format!("while :; do {emit}; done"), "line 1001 is \"emit\" number 1001").await;
    let used = "echo '{\"type\":\"used\",\"model\":\"m\",\"input_tokens\":1,\"output_tokens\":1}'";
    check_broken(&format!("while :; do {used}; done"), "line 1001 is \"used\" number 1001").await;
    // It asks without end and never reads what it is told.
    check_broken(
        "while :; do echo '{\"type\":\"take_mail\",\"id\":\"a\"}'; done; sleep 1000",
        "it does not read what it is told",
    )
    .await;
}

#[tokio::test]
async fn an_end_is_the_end() {
    // In one piece: nobody listens for long to who has finished.
    let finished = "{\"type\":\"finished\",\"reply\":\"SECRET\"}\\n";
    check_broken(&format!("printf '{finished}{finished}'"), "line 2 ends a turn that had ended")
        .await;
    check_broken(
        &format!("printf '{finished}\\n{{\"type\":\"say\",\"text\":\"SECRET\"}}\\n'"),
        "line 3 comes after the turn had ended",
    )
    .await;
    check_broken(
        "echo '{\"type\":\"ask\",\"id\":\"a\",\"text\":\"?\"}'; echo '{\"type\":\"finished\"}'",
        "line 2 says \"finished\" while a request of its is under way",
    )
    .await;
    check_broken(
        "echo '{\"type\":\"finished\",\"used\":2}'",
        "line 1 has a \"used\" that names no message of this turn",
    )
    .await;
}

#[tokio::test]
async fn calls_and_questions_that_are_not_open_are_refused() {
    let returned = "echo '{\"type\":\"returned\",\"id\":\"r\",\"call\":8,\"outcome\":\"done\"}'";
    check_broken(returned, "line 1 has a \"call\" that is not open, or not its own").await;
    let intend = "echo '{\"type\":\"intend\",\"id\":\"i\",\"tool\":\"t\"}'";
    check_broken(
        &format!("{intend}; {returned}; {returned}"),
        "line 3 has a \"call\" that is not open, or not its own",
    )
    .await;
    check_broken(
        "echo '{\"type\":\"choose\",\"question_id\":1,\"choice\":\"queue\"}'",
        "line 1 has a \"question_id\" that is not open",
    )
    .await;
}

#[tokio::test]
async fn requests_at_once_are_bounded() {
    let ask = |id: &str| format!("echo '{{\"type\":\"ask\",\"id\":\"'{id}'\",\"text\":\"?\"}}'");
    check_broken(
        &format!("{}; {}", ask("a"), ask("a")),
        "line 2 has the \"id\" of a request that is under way",
    )
    .await;
    // The first is let through, the others have no answer; of questions to the user there is one.
    let intend = "echo '{\"type\":\"intend\",\"id\":\"'$i'\",\"tool\":\"t\"}'";
    check_broken(
        &format!("i=0; while :; do i=$((i+1)); {intend}; done"),
        "line 18 is a request while 16 of its are under way",
    )
    .await;
}

#[tokio::test]
async fn a_brain_that_dies_is_tried_again() {
    check("exit 0", true, "the brain exited with status 0 before it had finished").await;
    check(
        "read -r turn; printf 'one\\n\\033[31mtwo\\a\\n' >&2; exit 3",
        true,
        "the brain exited with status 3 before it had finished; its last words: one | [31mtwo",
    )
    .await;
    check("kill -9 $$", true, "the brain was killed by signal 9 before it had finished").await;
    check("exec 1>&-; exec sleep 1000", true, "the brain closed its output before it had finished")
        .await;
    // Whoever it left behind doesn't keep the turn waiting.
    check("sleep 1000 & exit 4", true, "the brain exited with status 4 before it had finished")
        .await;
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let agent = CommandAgent::new(CommandSettings {
        command: vec!["/no/such/brain".to_owned()],
        dir: None,
        env: BTreeMap::from([("KEY".to_owned(), "SECRET".to_owned())]),
        processes_max: 1,
    });
    let failure = agent.run(FakeHandle::new().turn(&["a"])).await.unwrap_err();
    assert!(!failure.retry);
    let expect = "the brain \"/no/such/brain\" can't be started: No such file or directory";
    assert!(failure.error.starts_with(expect), "{failure:?}");
    assert!(!format!("{agent:?}").contains("SECRET"));
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let brain = dir.path().join("brain.py");
    // Nobody starts what this process has open, be it in a child that is about to be another program.
    let write = "echo '#! /no/such/python -u' > brain.py; chmod +x brain.py";
    let wrote = Command::new("sh").args(["-c", write]).current_dir(dir.path()).status();
    assert!(wrote.unwrap().success());
    let why = async |program: &str, dir: &Path| {
        let path = dir.parent().unwrap().display().to_string();
        let agent = CommandAgent::new(CommandSettings {
            command: vec![program.to_owned()],
            dir: Some(dir.to_owned()),
            env: BTreeMap::from([("PATH".to_owned(), format!("/bin:{path}"))]),
            processes_max: 1,
        });
        let agent = agent.with_name("mine");
        let failure = agent.run(FakeHandle::new().turn(&["a"])).await.unwrap_err();
        assert!(!failure.retry);
        let begins = format!("agent \"mine\": the brain {program:?} can't be started: ");
        failure.error.strip_prefix(&begins).unwrap_or_else(|| panic!("{failure:?}")).to_owned()
    };
    let gone = dir.path().join("gone");
    let nowhere = format!("there is no folder {}, where it would be started", gone.display());
    assert_eq!(why("sh", &gone).await, nowhere);
    let nowhere = format!("{}, where it would be started, is no folder", brain.display());
    assert_eq!(why("sh", &brain).await, nowhere);
    let lost = "it is there, but \"/no/such/python\" in its first line is not";
    assert_eq!(why("./brain.py", dir.path()).await, lost);
    let below = dir.path().join("below");
    std::fs::create_dir(&below).unwrap();
    assert_eq!(why("brain.py", &below).await, lost);
    assert_eq!(why("brain.js", &below).await, "No such file or directory (os error 2)");
}

#[tokio::test]
async fn a_history_that_cannot_be_read_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let handle = FakeHandle::new();
    *handle.history.lock().unwrap() = Err("disk on fire".to_owned());
    let failure = script(dir.path(), "exec cat").run(handle.turn(&["a"])).await.unwrap_err();
    assert_eq!(&*failure.error, "the history can't be read: disk on fire");
    assert!(failure.retry);
}
