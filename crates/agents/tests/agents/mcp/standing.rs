//! Servers of tools that come and go.

use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::OpenOptions;
use turnkeep_agents::{ToolServer, ToolWay, Toolbox as _};
use turnkeep_core::tool::SideEffects;
use turnkeep_core::tool::ToolOutcome::{Done, Failed, Unknown};

use super::{Liar, PATIENCE, all_of, arguments, liar, tool, until};

#[tokio::test]
async fn tools_have_names_for_models_and_the_rules_that_are_configured() {
    let liar = Liar::new(|settings| {
        settings.policy.effects = vec![("ec*".to_owned(), SideEffects::Pure)];
        settings.policy.keys = vec![("slow".to_owned(), "/after".to_owned())];
        settings.policy.approval = vec!["slow".to_owned()];
    });
    let echo = liar.tool("echo").await;
    assert_eq!(echo.spec.description, "does echo");
    assert_eq!(echo.spec.schema["properties"], json!({"text": {"type": "string"}}));
    assert_eq!((echo.effects, echo.key, echo.approval), (SideEffects::Pure, None, false));
    let slow = liar.tool("slow").await;
    let key = Some("/after".to_owned());
    assert_eq!((slow.effects, slow.key, slow.approval), (SideEffects::Irreversible, key, true));
    // Its list has four pages.
    let (tools, away) = liar.tools.tools().await;
    assert_eq!((tools.len(), away), (16, Vec::new()));
}

#[tokio::test]
async fn a_server_that_dies_in_a_call_is_started_again() {
    let liar = Liar::new(|_| ());
    let ended = "the connection to the tool server ended before it answered";
    liar.check("die", "{}", Unknown, ended).await;
    liar.check("echo", r#"{"text":"back"}"#, Done, "back").await;
    let begun = liar.noted().iter().filter(|message| message["method"] == "initialize").count();
    assert_eq!(begun, 2);
}

#[tokio::test]
async fn a_call_without_an_answer_has_an_end_and_the_server_is_told() {
    let liar = Liar::new(|settings| settings.timeout = Duration::from_millis(300));
    liar.check("hang", "{}", Unknown, "no answer within 0.3 seconds").await;
    let told = liar.noted_once("notifications/cancelled").await;
    let call = liar.noted_once("tools/call").await;
    assert_eq!(told["params"]["requestId"], call["id"]);
}

#[tokio::test]
async fn whoever_stops_waiting_has_the_server_told() {
    let liar = Liar::new(|_| ());
    let hang = liar.tool("hang").await;
    tokio::select! {
        _ = liar.tools.call(&hang, "{}") => panic!("it hangs"),
        _ = liar.noted_once("tools/call") => {}
    }
    liar.noted_once("notifications/cancelled").await;
    liar.check("echo", r#"{"text":"well"}"#, Done, "well").await;
}

#[tokio::test]
async fn a_tool_that_changed_is_not_called_as_it_was() {
    let liar = Liar::new(|_| ());
    let (echo, refuse) = (liar.tool("echo").await, liar.tool("refuse").await);
    liar.check("change", "{}", Done, "changed").await;
    let changed = until(async || Some(liar.tool("echo").await).filter(|now| *now != echo)).await;
    assert_eq!(changed.spec.schema["properties"], json!({"words": {"type": "string"}}));
    let said = liar.tools.call(&echo, r#"{"text":"a"}"#).await;
    let why = "the tool was changed in the meantime; it was not called";
    assert_eq!((said.outcome, said.output.as_str()), (Failed, why));
    let said = liar.tools.call(&refuse, "{}").await;
    let why = "the tool server shop has no such tool any more";
    assert_eq!((said.outcome, said.output.as_str()), (Failed, why));
    let calls = liar.noted().iter().filter(|told| told["method"] == "tools/call").count();
    assert_eq!(calls, 1, "only the one that changed them");
}

#[tokio::test]
async fn a_server_that_knows_only_the_newest_hello_gets_it() {
    let modern = Liar::new(|settings| {
        if let ToolWay::Command(program) = &mut settings.way {
            program.env.insert("MODERN".to_owned(), "1".to_owned());
        }
    });
    modern.check("echo", r#"{"text":"moin"}"#, Done, "moin").await;
    let methods: Vec<_> = modern.noted().iter().map(|told| told["method"].clone()).collect();
    assert_eq!(methods[..3], ["initialize", "server/discover", "tools/list"]);
    let report = ToolServer::start(liar(modern.dir.path(), &[("MODERN", "1")])).report().await;
    assert_eq!(report.state, Ok("modern liar 1".to_owned()));
}

#[tokio::test]
async fn a_server_that_does_not_start_is_away_and_says_why() {
    for (command, why) in [
        (
            vec!["/nowhere/at/all"],
            "the tool server \"/nowhere/at/all\" can't be started: No such file or directory (os error 2)",
        ),
        (
            vec!["sh", "-c", "echo no licence >&2; exit 3"],
            "its process exited with status 3; its last words: no licence",
        ),
        // What it says is no protocol, so nobody listens any more.
        (vec!["sh", "-c", "yes"], "its process "),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = liar(dir.path(), &[]);
        if let ToolWay::Command(program) = &mut settings.way {
            program.command = command.iter().map(|part| (*part).to_owned()).collect();
        }
        let server = ToolServer::start(settings.clone());
        let report = tokio::time::timeout(PATIENCE, server.report()).await.unwrap();
        let state = report.state.unwrap_err();
        assert!(state.starts_with(why), "{state}");
        let tools = all_of(settings);
        assert_eq!(tools.tools().await, (Vec::new(), vec!["shop".to_owned()]));
    }
}

#[tokio::test]
async fn a_call_to_a_server_that_went_away_is_not_made() {
    let liar = Liar::new(|_| ());
    let echo = liar.tool("echo").await;
    liar.call("die", "{}").await;
    // Between its end and its next start; where it was started already, the call was made.
    let said = liar.tools.call(&echo, &arguments(json!({"text": "a"}))).await;
    if said.outcome == Failed {
        assert_eq!(said.output, "the tool server shop is away; the tool was not called");
    } else {
        assert_eq!((said.outcome, said.output.as_str()), (Done, "a"));
    }
}

#[tokio::test]
async fn nothing_is_left_of_a_server_that_nobody_needs() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut settings = liar(dir.path(), &[("CHILD", "1")]);
    if let ToolWay::Command(program) = &mut settings.way {
        let script = program.command[1].clone();
        let open = format!("exec python3 {script} 9> {}", fifo.display());
        program.command = vec!["sh".to_owned(), "-c".to_owned(), open];
    }
    let mut held = OpenOptions::new().open_receiver(&fifo).unwrap();
    let tools = all_of(settings);
    tool(&tools, "echo").await;
    drop(tools);
    // The pipe ends when the last of them is gone.
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, held.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, Vec::<u8>::new());
}
