//! Brains that are programs, as they should be: what they are told, what comes of what they say, and
//! that nothing of them is left.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::{OpenOptions, Receiver};
use turnkeep_agents::{CommandAgent, CommandSettings};
use turnkeep_core::accumulation::Hint;
use turnkeep_core::artifact::Stale;
use turnkeep_core::ids::{QuestionId, Seq};
use turnkeep_core::journal::SupersedeChoice;
use turnkeep_core::ports::agent::{
    Agent, Artifact, Inputs, Permission, Recalled, RecordedCall, Role, ToolCall,
};
use turnkeep_core::session::input::{Finished, RunFailure};
use turnkeep_core::tool::{SideEffects, ToolOutcome};
use turnkeep_core::trace::SpanContext;
use turnkeep_core::usage::Usage;

use crate::handle::{FakeHandle, message};

/// Nothing here takes long; what does is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// An agent that is a script of the shell, in this folder.
pub(crate) fn script(dir: &Path, script: &str) -> CommandAgent {
    CommandAgent::new(CommandSettings {
        command: ["sh", "-c", script].map(String::from).to_vec(),
        dir: Some(dir.to_owned()),
        env: BTreeMap::from([("GREETING".to_owned(), "moin".to_owned())]),
        processes_max: 2,
    })
}

async fn answer(agent: &CommandAgent, handle: &Arc<FakeHandle>) -> Result<Finished, RunFailure> {
    let answer = agent.run(handle.turn(&["a", "b"]));
    tokio::time::timeout(PATIENCE, answer).await.expect("the brain hangs")
}

/// What the script noted of what it was told, one object a line.
fn noted(dir: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join("noted")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Reads one line and notes it.
const NOTE: &str = "note() { read -r line; printf '%s\\n' \"$line\" >> noted; }\n";

#[tokio::test]
async fn a_brain_is_told_everything_of_its_turn() {
    let dir = tempfile::tempdir().unwrap();
    let handle = FakeHandle::new();
    handle.remember(&[(Role::User, "before"), (Role::Agent, "yes?")]);
    handle.recorded.lock().unwrap().push(RecordedCall {
        call: Seq(7),
        tool: "refund".into(),
        effects: SideEffects::Irreversible,
        input: "17".into(),
        outcome: ToolOutcome::Unknown,
        output: "".into(),
        compensates: None,
        compensated_by: Some(Seq(9)),
    });
    let agent = script(
        dir.path(),
        &format!(
            "{NOTE}note; echo '{{\"type\":\"finished\",\"reply\":\"'$GREETING$SHELL_SECRET'\"}}'"
        ),
    );
    let finished = answer(&agent, &handle).await.unwrap();
    assert_eq!(finished.reply.as_deref(), Some("moin"));
    let told = noted(dir.path());
    let nil = "00000000-0000-0000-0000-000000000000";
    let said = |seq: u64, text: &str| json!({"seq": seq, "message_id": seq.to_string(), "sender": "ann", "text": text, "at": 0});
    let expected = json!({
        "type": "turn", "version": 1, "turn_id": nil, "attempt": 0, "turn_group_id": nil,
        "session": "acme:default:api:dm:ann", "tenant_id": "acme", "agent_id": "default",
        "channel": "api", "trust": "public", "resume": false,
        "facts": {"chars_max": null, "markdown": true, "media": true, "typing": false},
        "messages": [said(1, "a"), said(2, "b")],
        "history": [
            {"seq": 1, "role": "user", "text": "before"},
            {"seq": 2, "role": "agent", "text": "yes?"},
        ],
        "recorded": [{
            "call": 7, "tool": "refund", "effects": "irreversible", "input": "17",
            "outcome": "unknown", "output": "", "compensated_by": 9,
        }],
    });
    assert_eq!(told, [expected]);
}

#[tokio::test]
async fn a_brain_is_told_of_its_span() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let dir = tempfile::tempdir().unwrap();
    let handle = FakeHandle::new();
    *handle.span.lock().unwrap() = SpanContext::read(PARENT, None);
    let agent = script(dir.path(), &format!("{NOTE}note; echo '{{\"type\":\"finished\"}}'"));
    answer(&agent, &handle).await.unwrap();
    assert_eq!(noted(dir.path())[0]["traceparent"], PARENT);
}

#[tokio::test]
async fn drafts_records_and_results_reach_the_turn() {
    let dir = tempfile::tempdir().unwrap();
    let handle = FakeHandle::new();
    let agent = script(
        dir.path(),
        r#"echo '{"type":"say","text":"hel"}'
           echo '{"type":"say","text":"lo"}'
           echo '{"type":"emit","name":"shop.asked","detail":"17"}'
           echo
           printf '{"type":"finished","reply":"hello","used":2,"hint":"followup_expected"}'"#,
    );
    let finished = answer(&agent, &handle).await.unwrap();
    let hint = Hint::FollowupExpected;
    let expected =
        Finished { reply: Some("hello".into()), used: Some(Seq(2)), hint, version: None };
    assert_eq!(finished, expected);
    assert_eq!(handle.said(), ["hel", "lo"]);
    assert_eq!(*handle.emitted.lock().unwrap(), [("shop.asked".to_owned(), "17".to_owned())]);
}

#[tokio::test]
async fn a_brain_fails_in_its_own_words() {
    let dir = tempfile::tempdir().unwrap();
    let line = r#"{"type":"failed","error":"the shop is closed","retry":false,"retry_after_s":2}"#;
    let agent = script(dir.path(), &format!("echo '{line}'; exec sleep 1000"));
    let failure = answer(&agent, &FakeHandle::new()).await.unwrap_err();
    let error = "the shop is closed".into();
    assert_eq!(failure, RunFailure { error, retry: false, retry_after_ms: Some(2000) });
}

#[tokio::test]
async fn mail_is_told_of_and_taken() {
    let dir = tempfile::tempdir().unwrap();
    let handle = FakeHandle::new();
    let agent = script(
        dir.path(),
        &format!(
            r#"{NOTE}read -r turn; echo '{{"type":"say","text":"ready"}}'
               note; echo '{{"type":"take_mail","id":"m"}}'; note
               echo '{{"type":"finished","used":5}}'"#
        ),
    );
    let deliver = async {
        handle.until_said("ready").await;
        handle.deliver(5, "c");
    };
    let (finished, ()) = tokio::join!(answer(&agent, &handle), deliver);
    assert_eq!(finished.unwrap().used, Some(Seq(5)));
    let mail = json!([{"seq": 5, "message_id": "5", "sender": "ann", "text": "c", "at": 0}]);
    let expected =
        [json!({"type": "mail_waiting"}), json!({"type": "mail", "id": "m", "messages": mail})];
    assert_eq!(noted(dir.path()), expected);
}

#[tokio::test]
async fn a_brain_that_waits_for_its_user_leaves_its_slot() {
    let dir = tempfile::tempdir().unwrap();
    let handle = FakeHandle::new();
    let agent = script(
        dir.path(),
        &format!(
            r#"{NOTE}read -r turn; echo '{{"type":"ask","id":"q","text":"Which order?"}}'; note
               echo '{{"type":"finished","used":9}}'"#
        ),
    );
    let user = async {
        handle.asked.subscribe().wait_for(|asked| *asked == ["Which order?"]).await.unwrap();
        assert_eq!(handle.slots.available_permits(), 1, "the only slot is free meanwhile");
        handle.user.send_replace(Some(message(9, "17")));
    };
    let (finished, ()) = tokio::join!(answer(&agent, &handle), user);
    assert_eq!(finished.unwrap().used, Some(Seq(9)));
    assert_eq!(handle.slots_given.load(Ordering::Relaxed), 2);
    let [answer] = &noted(dir.path())[..] else { panic!("one answer") };
    assert_eq!((&answer["type"], &answer["message"]["text"]), (&json!("answer"), &json!("17")));
}

#[tokio::test]
async fn a_second_question_to_the_user_waits_for_the_answer_to_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let handle = FakeHandle::new();
    let agent = script(
        dir.path(),
        &format!(
            r#"{NOTE}read -r turn
               echo '{{"type":"ask","id":"1","text":"Which?"}}'
               echo '{{"type":"ask","id":"2","text":"And when?"}}'; note
               echo '{{"type":"say","text":"refused"}}'; note
               echo '{{"type":"ask","id":"2","text":"When?"}}'; note
               echo '{{"type":"finished","used":9}}'"#
        ),
    );
    let user = async {
        handle.until_said("refused").await;
        assert_eq!(*handle.asked.borrow(), ["Which?"]);
        assert_eq!(handle.slots.available_permits(), 1, "the refusal took the slot");
        handle.user.send_replace(Some(message(9, "17")));
    };
    let (finished, ()) = tokio::join!(answer(&agent, &handle), user);
    assert_eq!(finished.unwrap().used, Some(Seq(9)));
    assert_eq!(*handle.asked.borrow(), ["Which?", "When?"]);
    assert_eq!(handle.slots.available_permits(), 1);
    let reason = "the user is being asked already; ask again after the answer";
    let [refused, first, second] = &noted(dir.path())[..] else { panic!("three answers") };
    assert_eq!(*refused, json!({"type": "refused", "id": "2", "reason": reason}));
    assert_eq!((&first["type"], &first["id"]), (&json!("answer"), &json!("1")));
    assert_eq!((&second["type"], &second["id"]), (&json!("answer"), &json!("2")));
}

#[tokio::test]
async fn questions_of_the_gateway_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let handle = FakeHandle::new();
    handle.ask(3);
    let agent = script(
        dir.path(),
        &format!(
            r#"{NOTE}read -r turn; note
               echo '{{"type":"choose","question_id":3,"choice":"force_complete"}}'; note
               echo '{{"type":"commit_point","id":"c"}}'; note
               echo '{{"type":"finished"}}'"#
        ),
    );
    answer(&agent, &handle).await.unwrap();
    let chosen = (QuestionId(3), SupersedeChoice::ForceComplete);
    assert_eq!(*handle.answers.lock().unwrap(), [chosen]);
    let [question, finish, refused] = &noted(dir.path())[..] else { panic!("three lines") };
    // The reason is the session's own.
    assert_eq!(*refused, json!({"type": "refused", "id": "c", "reason": "it finishes now"}));
    assert_eq!((&question["type"], &question["question_id"]), (&json!("question"), &json!(3)));
    assert_eq!(question["message"]["text"], "and another thing");
    assert_eq!(*finish, json!({"type": "finish_now", "reason": "force_complete"}));
}

#[tokio::test]
async fn who_is_to_wind_up_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let handle = FakeHandle::new();
    handle.cancel();
    let commit = r#"{"type":"commit_point","id":"c"}"#;
    let agent = script(
        dir.path(),
        &format!(
            "{NOTE}read -r turn; note; echo '{commit}'; note; echo '{{\"type\":\"finished\"}}'"
        ),
    );
    answer(&agent, &handle).await.unwrap();
    let reason = "the turn was stopped, or this run of it was replaced";
    let expected = [
        json!({"type": "finish_now", "reason": "stopped"}),
        json!({"type": "refused", "id": "c", "reason": reason}),
    ];
    assert_eq!(noted(dir.path()), expected);
}

#[tokio::test]
async fn tools_are_asked_for_and_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let handle = FakeHandle::new();
    let known = RecordedCall {
        call: Seq(4),
        tool: "refund".into(),
        effects: SideEffects::Irreversible,
        input: "16".into(),
        outcome: ToolOutcome::Done,
        output: "ok".into(),
        compensates: Some(Seq(3)),
        compensated_by: None,
    };
    handle.permissions.lock().unwrap().extend([
        Permission::MailFirst,
        Permission::Refused("too many"),
        Permission::Known(known),
        Permission::Call(Seq(8)),
    ]);
    let intend = r#"{"type":"intend","id":"i","tool":"refund","key":"17","input":"{}"}"#;
    let returned = r#"{"type":"returned","id":"r","call":8,"outcome":"done","output":"paid"}"#;
    let four = format!("echo '{intend}'; note\n").repeat(4);
    let agent = script(
        dir.path(),
        &format!(
            "{NOTE}read -r t\n{four}echo '{returned}'; note; echo '{{\"type\":\"finished\"}}'"
        ),
    );
    answer(&agent, &handle).await.unwrap();
    let known = json!({
        "type": "known", "id": "i", "call": 4, "tool": "refund", "effects": "irreversible",
        "input": "16", "outcome": "done", "output": "ok", "compensates": 3,
    });
    let expected = [
        json!({"type": "mail_first", "id": "i"}),
        json!({"type": "refused", "id": "i", "reason": "too many"}),
        known,
        json!({"type": "call", "id": "i", "call": 8}),
        json!({"type": "recorded", "id": "r"}),
    ];
    assert_eq!(noted(dir.path()), expected);
    let (effects, key) = (SideEffects::Irreversible, Some("17".into()));
    let (input, compensates) = ("{}".into(), None);
    let call = ToolCall { tool: "refund".into(), effects, key, input, compensates };
    assert_eq!(*handle.intents.lock().unwrap(), vec![call; 4]);
    let result = (Seq(8), ToolOutcome::Done, "paid".to_owned());
    assert_eq!(*handle.results.lock().unwrap(), [result]);
}

#[tokio::test]
async fn what_is_kept_recalled_undone_and_used_reaches_the_turn() {
    let dir = tempfile::tempdir().unwrap();
    let handle = FakeHandle::new();
    handle.recalls.lock().unwrap().extend([
        Recalled::Kept("the plan".into()),
        Recalled::Stale(Stale::InputsChanged),
        Recalled::Refused("no"),
        Recalled::Kept("".into()),
    ]);
    handle.permissions.lock().unwrap().push_back(Permission::Refused("no"));
    let inputs = r#""name":"plan","inputs":{"messages":[1,2],"text":"v1"}"#;
    let recall = format!("echo '{{\"type\":\"recall\",\"id\":\"r\",{inputs}}}'; note\n");
    let keep = format!(r#"{{"type":"keep","id":"k",{inputs},"depends":["a"],"content":"c"}}"#);
    let undo = r#"{"type":"intend","id":"i","tool":"cancel","compensates":7}"#;
    let used = r#"{"type":"used","model":"m","input_tokens":7,"output_tokens":2,"cost_micros":9}"#;
    let agent = script(
        dir.path(),
        &format!(
            "{NOTE}read -r t\n{}echo '{keep}'; note; echo '{undo}'; note; echo '{used}'\n\
             echo '{{\"type\":\"finished\",\"version\":\"v2\"}}'",
            recall.repeat(3)
        ),
    );
    let finished = answer(&agent, &handle).await.unwrap();
    assert_eq!(finished.version.as_deref(), Some("v2"));
    let expected = [
        json!({"type": "kept", "id": "r", "content": "the plan"}),
        json!({"type": "none", "id": "r", "why": "inputs_changed"}),
        json!({"type": "refused", "id": "r", "reason": "no"}),
        json!({"type": "recorded", "id": "k"}),
        json!({"type": "refused", "id": "i", "reason": "no"}),
    ];
    assert_eq!(noted(dir.path()), expected);
    let inputs = Inputs { messages: vec![Seq(1), Seq(2)], text: "v1".into() };
    let (name, content): (Arc<str>, _) = ("plan".into(), "".into());
    let recalled = Artifact { name, inputs, depends: Vec::new(), content };
    let kept = Artifact { depends: vec!["a".into()], content: "c".into(), ..recalled.clone() };
    let mut asked = vec![recalled; 3];
    asked.push(kept);
    assert_eq!(*handle.artifacts.lock().unwrap(), asked);
    assert_eq!(handle.intents.lock().unwrap()[0].compensates, Some(Seq(7)));
    let (input_tokens, output_tokens, cost_micros) = (7, 2, Some(9));
    let model = "m".into();
    let usage = Usage { model, input_tokens, output_tokens, cost_micros, ..Usage::default() };
    assert_eq!(*handle.used.lock().unwrap(), [usage]);
}

/// A pipe with a name, which says when everybody who holds it is gone.
fn watched(dir: &Path) -> Receiver {
    let path = dir.join("alive");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    OpenOptions::new().open_receiver(path).unwrap()
}

/// It must have been opened by somebody before.
async fn until_gone(mut alive: Receiver) {
    let mut rest = Vec::new();
    let gone = alive.read_to_end(&mut rest);
    tokio::time::timeout(PATIENCE, gone).await.expect("somebody is left").unwrap();
}

/// A brain that started somebody else; both hold the pipe.
const FAMILY: &str = r#"exec 9> alive
sleep 1000 & echo '{"type":"say","text":"ready"}'
"#;

#[tokio::test]
async fn a_cancelled_brain_ends_with_whoever_it_started() {
    // Somebody in the second one doesn't listen to the first signal.
    for how in ["wait", "trap '' TERM; sleep 1000 & wait"] {
        let dir = tempfile::tempdir().unwrap();
        let handle = FakeHandle::new();
        let agent = script(dir.path(), &format!("{FAMILY}{how}"));
        let alive = watched(dir.path());
        tokio::select! {
            () = handle.until_said("ready") => {}
            ended = agent.run(handle.turn(&["a"])) => panic!("{ended:?}"),
        }
        until_gone(alive).await;
        assert_eq!(handle.slots.available_permits(), 1, "{how}");
    }
}

#[tokio::test]
async fn whoever_a_brain_leaves_behind_ends_after_its_reply() {
    let dir = tempfile::tempdir().unwrap();
    let agent = script(dir.path(), &format!("{FAMILY}echo '{{\"type\":\"finished\"}}'"));
    let handle = FakeHandle::new();
    let alive = watched(dir.path());
    assert_eq!(answer(&agent, &handle).await, Ok(Finished::default()));
    until_gone(alive).await;
}

#[test]
fn no_brain_outlives_the_runtime() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let (brains, watchers) = (runtime(), runtime());
    let agent = script(dir.path(), &format!("{FAMILY}wait"));
    let handle = FakeHandle::new();
    let turn = handle.turn(&["a"]);
    let alive = watchers.block_on(async { watched(dir.path()) });
    brains.spawn(async move { agent.run(turn).await });
    watchers.block_on(handle.until_said("ready"));
    drop(brains);
    watchers.block_on(until_gone(alive));
    assert_eq!(handle.slots.available_permits(), 1);
}
