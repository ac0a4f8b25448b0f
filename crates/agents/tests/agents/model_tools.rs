//! A model that calls tools: what is asked for, what is called, what the model is told, and that
//! every call keeps its result.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Barrier, Notify};
use turnkeep_core::ids::Seq;
use turnkeep_core::ports::agent::{Permission, RecordedCall, ToolCall};
use turnkeep_core::tool::{SideEffects, ToolOutcome};

use crate::handle::FakeHandle;
use crate::openai::{Plain, agent_with, finished, model_agent};
use crate::server::{Request, Server, Step, answer, calls, delta, finish, refusal};
use crate::toolbox::{FakeTools, done, tool};

pub(crate) fn agent(server: &Server, tools: &Arc<FakeTools>) -> Plain {
    Plain(model_agent(server, |_, _| ()).with_tools(vec![Arc::clone(tools) as _]))
}

/// Every message of a request in a line: who, what, which calls.
pub(crate) fn told(request: &Request) -> Vec<String> {
    let message = |message: &Value| {
        let of_call = |call: &Value| {
            let function = &call["function"];
            let word = |value: &Value| value.as_str().unwrap().to_owned();
            format!(" [{} {}]", word(&function["name"]), word(&function["arguments"]))
        };
        let calls: String =
            message["tool_calls"].as_array().into_iter().flatten().map(of_call).collect();
        let id = message["tool_call_id"].as_str().map(|id| format!(" {id}")).unwrap_or_default();
        let (role, content) = (&message["role"], &message["content"]);
        format!("{}{id}: {}{calls}", role.as_str().unwrap(), content.as_str().unwrap())
    };
    request.body["messages"].as_array().unwrap().iter().map(message).collect()
}

pub(crate) fn permit(handle: &FakeHandle, permissions: impl IntoIterator<Item = Permission>) {
    handle.permissions.lock().unwrap().extend(permissions);
}

pub(crate) fn known(outcome: ToolOutcome, output: &str) -> RecordedCall {
    RecordedCall {
        call: Seq(7),
        tool: "refund".into(),
        effects: SideEffects::Irreversible,
        input: "{\"order\":\"17\"}".into(),
        outcome,
        output: output.into(),
        compensates: None,
        compensated_by: None,
    }
}

pub(crate) const REFUND: (&str, &str, &str) = ("r", "refund", "{\"order\": \"17\"}");
const LOOK: (&str, &str, &str) = ("l", "look", "{\"order\": \"17\"}");

#[tokio::test]
async fn a_call_is_made_once_it_is_on_record_and_its_result_is_given_back() {
    let server = Server::start([calls("Let me see.", &[REFUND]), answer(&["Done."])]).await;
    let handle = FakeHandle::new();
    permit(&handle, [Permission::Call(Seq(5))]);
    let slots = Arc::clone(&handle.slots);
    let tools = FakeTools::shop(move |_| {
        assert_eq!(slots.available_permits(), 1, "a slot is held while a tool works");
        done("paid back")
    });
    let ended = agent(&server, &tools).run(handle.turn(&["refund 17"])).await;
    assert_eq!(ended, finished("Let me see.\n\nDone.", 1));
    assert_eq!(tools.called(), ["refund {\"order\":\"17\"}"]);
    let intent = ToolCall {
        tool: "refund".into(),
        effects: SideEffects::Irreversible,
        key: Some("17".into()),
        input: "{\"order\":\"17\"}".into(),
        compensates: None,
    };
    assert_eq!(*handle.intents.lock().unwrap(), [intent]);
    let results = handle.results.lock().unwrap().clone();
    assert_eq!(results, [(Seq(5), ToolOutcome::Done, "paid back".to_owned())]);
    let requests = server.requests();
    let function = json!({
        "name": "look",
        "description": "does look",
        "parameters": {
            "type": "object",
            "properties": {"order": {"type": "string"}},
            "required": ["order"],
        },
    });
    assert_eq!(requests[0].body["tools"][0], json!({"type": "function", "function": function}));
    assert_eq!(requests[0].body.get("tool_choice"), None);
    assert_eq!(
        told(&requests[1]),
        [
            "user: refund 17",
            "assistant: Let me see. [refund {\"order\": \"17\"}]",
            "tool r: paid back",
        ]
    );
    assert_eq!(handle.slots_given.load(Ordering::Relaxed), 2);
}

/// The same behind the gate.
pub(crate) fn gated(mut steps: Vec<Step>) -> Vec<Step> {
    steps.insert(1, Step::Gate);
    steps
}

/// One answer with calls, and what the model is told of them.
async fn check(wanted: &[(&str, &str, &str)], said: &[Permission], expect: &[&str]) {
    let server = Server::start([calls("", wanted), answer(&["ok"])]).await;
    let handle = FakeHandle::new();
    permit(&handle, said.iter().cloned());
    let tools = FakeTools::shop(|_| {
        let output = "the line broke".to_owned();
        Box::pin(std::future::ready(turnkeep_agents::Said {
            outcome: ToolOutcome::Unknown,
            output,
        }))
    });
    let ended = agent(&server, &tools).run(handle.turn(&["hi"])).await;
    assert_eq!(ended, finished("ok", 1), "{wanted:?}");
    assert_eq!(handle.intents.lock().unwrap().len(), said.len(), "{wanted:?}");
    let calls = said.iter().filter(|said| matches!(said, Permission::Call(_))).count();
    assert_eq!(tools.called().len(), calls, "{wanted:?}");
    let told = told(&server.requests()[1]);
    let results: Vec<_> = told.iter().filter(|line| line.starts_with("tool ")).collect();
    assert_eq!(results.len(), wanted.len(), "{told:?}");
    for (result, part) in results.iter().zip(expect) {
        assert!(result.contains(part), "{result}\n{part}");
    }
}

#[tokio::test]
async fn a_model_is_told_why_a_call_was_not_made() {
    check(&[("x", "nothing", "{}")], &[], &["tool x: not done: there is no tool \"nothing\""])
        .await;
    check(&[("x", "refund", "{\"order")], &[], &["no valid JSON"]).await;
    check(&[("x", "refund", "{\"order\": 17}")], &[], &["must be of type string"]).await;
    check(&[("x", "refund", "")], &[], &["\"order\" is missing"]).await;
    check(&[("x", "refund", "{\"order\": \" \"}")], &[], &["it names what is done"]).await;
    check(&[REFUND], &[Permission::Refused("too many")], &["not done: too many"]).await;
}

#[tokio::test]
async fn what_was_done_before_is_not_done_again_and_what_nobody_knows_is_said() {
    let done = Permission::Known(known(ToolOutcome::Done, "paid back"));
    check(&[REFUND], &[done], &["done before, and not again now. What it said then: paid back"])
        .await;
    let unknown = Permission::Known(known(ToolOutcome::Unknown, ""));
    check(&[REFUND], &[unknown], &["nobody knows whether it was done; it was not called again"])
        .await;
    let call = Permission::Call(Seq(5));
    let lost = "nobody knows whether it was done: the line broke";
    check(&[REFUND], std::slice::from_ref(&call), &[lost]).await;
    check(&[LOOK], std::slice::from_ref(&call), &["tool l: the line broke"]).await;
    // One that goes wrong does not keep others from being made.
    let wrong = ("x", "nothing", "{}");
    check(&[wrong, REFUND, wrong], &[call], &["no tool", lost, "no tool"]).await;
}

#[tokio::test]
async fn mail_is_read_before_an_irreversible_call_and_the_model_decides_again() {
    let server = Server::start([
        gated(calls("", &[LOOK, REFUND, ("r2", "refund", "{\"order\":\"18\"}")])),
        answer(&["As you wish."]),
    ])
    .await;
    let handle = FakeHandle::new();
    // The last one is for whoever would go on in spite of it.
    let permissions = [Permission::Call(Seq(5)), Permission::MailFirst, Permission::Call(Seq(7))];
    permit(&handle, permissions);
    let tools = FakeTools::shop(|_| done("open"));
    let agent = agent(&server, &tools);
    let meanwhile = async {
        server.until_requests(1).await;
        handle.deliver(9, "no, don't");
        server.open_gate();
    };
    let (ended, ()) = tokio::join!(agent.run(handle.turn(&["refund both"])), meanwhile);
    assert_eq!(ended, finished("As you wish.", 9));
    assert_eq!(tools.called(), ["look {\"order\":\"17\"}"]);
    let told = told(&server.requests()[1]);
    let later = "not done: new messages of the user arrived first. Read them and decide again.";
    assert_eq!(
        told[2..],
        [
            "tool l: open".to_owned(),
            format!("tool r: {later}"),
            format!("tool r2: {later}"),
            "user: no, don't".to_owned(),
        ]
    );
}

#[tokio::test]
async fn a_question_about_the_mail_is_answered_before_the_call() {
    let server = Server::start([calls("", &[REFUND]), answer(&["ok"])]).await;
    let handle = FakeHandle::new();
    handle.mail_is_kept.send_replace(true);
    permit(&handle, [Permission::MailFirst, Permission::MailFirst, Permission::Call(Seq(5))]);
    let tools = FakeTools::shop(|_| done("paid back"));
    let agent = agent(&server, &tools);
    let meanwhile = async {
        for question in [1, 2] {
            while handle.intents.lock().unwrap().len() < question as usize {
                tokio::task::yield_now().await;
            }
            handle.ask(question);
        }
    };
    let (ended, ()) = tokio::join!(agent.run(handle.turn(&["hi"])), meanwhile);
    assert_eq!(ended, finished("ok", 1));
    assert_eq!(handle.answers.lock().unwrap().len(), 2);
    assert_eq!(handle.intents.lock().unwrap().len(), 3);
    assert_eq!(tools.called().len(), 1);
}

#[tokio::test]
async fn mail_that_comes_while_a_tool_works_is_read_with_its_result() {
    let server = Server::start([calls("", &[LOOK]), answer(&["ok"])]).await;
    let handle = FakeHandle::new();
    permit(&handle, [Permission::Call(Seq(5))]);
    let mail = Arc::clone(&handle);
    let tools = FakeTools::shop(move |_| {
        mail.deliver(9, "hurry");
        done("open")
    });
    let ended = agent(&server, &tools).run(handle.turn(&["hi"])).await;
    assert_eq!(ended, finished("ok", 9));
    assert_eq!(told(&server.requests()[1])[2..], ["tool l: open", "user: hurry"]);
}

#[tokio::test]
async fn pure_calls_work_side_by_side_and_others_in_their_order() {
    let wanted = [LOOK, ("l2", "look", "{\"order\":\"18\"}"), REFUND];
    let server = Server::start([calls("", &wanted), answer(&["ok"])]).await;
    let handle = FakeHandle::new();
    permit(&handle, (5..8).map(|call| Permission::Call(Seq(call))));
    // Neither of them ends without the other.
    let barrier = Arc::new(Barrier::new(2));
    let tools = FakeTools::shop(move |name| {
        let barrier = Arc::clone(&barrier);
        if name == "refund" {
            return done("paid back");
        }
        Box::pin(async move {
            barrier.wait().await;
            done("open").await
        })
    });
    let ended = agent(&server, &tools).run(handle.turn(&["hi"])).await;
    assert_eq!(ended, finished("ok", 1));
    let results: Vec<Seq> = handle.results.lock().unwrap().iter().map(|one| one.0).collect();
    assert_eq!(results[2], Seq(7), "the refund waited: {results:?}");
    let told = told(&server.requests()[1]);
    assert_eq!(told[2..], ["tool l: open", "tool l2: open", "tool r: paid back"]);
}

#[tokio::test]
async fn after_so_many_requests_the_model_has_to_answer() {
    let server =
        Server::start([calls("", &[LOOK]), calls("", &[LOOK]), calls("Enough.", &[LOOK])]).await;
    let handle = FakeHandle::new();
    permit(&handle, [Permission::Call(Seq(5)), Permission::Call(Seq(7))]);
    let tools = FakeTools::shop(|_| done("open"));
    let agent = model_agent(&server, |_, turn| turn.tool_rounds_max = 2);
    let agent = Plain(agent.with_tools(vec![Arc::clone(&tools) as _]));
    // What it wants in spite of that is not called.
    assert_eq!(agent.run(handle.turn(&["hi"])).await, finished("Enough.", 1));
    assert_eq!(tools.called().len(), 2);
    let requests = server.requests();
    assert_eq!(requests[1].body.get("tool_choice"), None);
    assert_eq!(requests[2].body["tool_choice"], "none");
    assert!(requests[2].body["tools"].is_array());
    let told = told(&requests[2]);
    assert!(told.last().unwrap().contains("no tool can be called any more"), "{told:?}");
}

#[tokio::test]
async fn asked_to_finish_it_makes_no_new_calls() {
    let wanted = [REFUND, ("r2", "refund", "{\"order\":\"18\"}")];
    let server = Server::start([calls("", &wanted), answer(&["Half of it."])]).await;
    let handle = FakeHandle::new();
    permit(&handle, [Permission::Call(Seq(5))]);
    let finish = Arc::clone(&handle);
    let tools = FakeTools::shop(move |_| {
        finish.finish_now.send_replace(true);
        done("paid back")
    });
    let ended = agent(&server, &tools).run(handle.turn(&["hi"])).await;
    assert_eq!(ended, finished("Half of it.", 1));
    let request = &server.requests()[1];
    assert_eq!(request.body["tool_choice"], "none");
    let told = told(request);
    assert_eq!(told[2], "tool r: paid back");
    assert!(told[3].starts_with("tool r2: not done: the turn has to end"), "{told:?}");
}

#[tokio::test]
async fn a_tool_that_takes_too_long_leaves_its_act_unknown() {
    let server = Server::start([calls("", &[REFUND]), answer(&["I don't know."])]).await;
    let handle = FakeHandle::new();
    permit(&handle, [Permission::Call(Seq(5))]);
    let working = Arc::new(Notify::new());
    let begun = Arc::clone(&working);
    let tools = FakeTools::shop(move |_| {
        begun.notify_one();
        Box::pin(std::future::pending())
    });
    let agent = agent(&server, &tools);
    let meanwhile = async {
        working.notified().await;
        // From here on the clock runs freely.
        tokio::time::pause();
        while handle.results.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        tokio::time::resume();
    };
    let (ended, ()) = tokio::join!(agent.run(handle.turn(&["hi"])), meanwhile);
    assert_eq!(ended, finished("I don't know.", 1));
    let results = handle.results.lock().unwrap().clone();
    assert_eq!(results, [(Seq(5), ToolOutcome::Unknown, "no answer within 60s".to_owned())]);
    let alive = handle.said().iter().filter(|said| said.is_empty()).count();
    assert!(alive >= 5, "{alive} signs of life within a minute");
    assert!(told(&server.requests()[1])[2].contains("nobody knows whether it was done"));
}

#[tokio::test]
async fn what_a_tool_did_goes_on_record_though_the_run_was_stopped() {
    let server = Server::start([calls("", &[REFUND, REFUND])]).await;
    let handle = FakeHandle::new();
    permit(&handle, [Permission::Call(Seq(5)), Permission::Refused("stopped")]);
    let stop = Arc::clone(&handle);
    let tools = FakeTools::shop(move |_| {
        stop.cancel();
        Box::pin(async {
            tokio::task::yield_now().await;
            done("paid back").await
        })
    });
    let ended = agent(&server, &tools).run(handle.turn(&["hi"])).await;
    assert_eq!(&*ended.unwrap_err().error, "the run was cancelled");
    assert_eq!(handle.results.lock().unwrap().len(), 1);
    assert_eq!(tools.called().len(), 1);
}

#[tokio::test]
async fn a_later_attempt_is_told_what_was_done() {
    let server = Server::start([answer(&["It was paid back."])]).await;
    let handle = FakeHandle::new();
    *handle.recorded.lock().unwrap() = vec![known(ToolOutcome::Unknown, "")];
    let tools = FakeTools::shop(|_| done(""));
    agent(&server, &tools).run(handle.turn(&["refund 17"])).await.unwrap();
    let told = told(&server.requests()[0]).join("\n");
    assert!(told.contains("user: refund 17\nNote of the system"), "{told}");
    assert!(told.contains("\"outcome\":\"unknown\"") && told.contains("refund"), "{told}");
}

#[tokio::test]
async fn what_a_tool_did_for_a_message_is_not_handed_on_with_it() {
    let first = vec![Step::Begin, delta("one"), Step::Gate, finish("stop"), Step::End];
    let server = Server::start([first, calls("", &[REFUND]), refusal(500, &[], "oops")]).await;
    let handle = FakeHandle::new();
    permit(&handle, [Permission::Call(Seq(6))]);
    let tools = FakeTools::shop(|_| done("paid back"));
    let agent = model_agent(&server, |_, turn| turn.retries_max = 0);
    let agent = Plain(agent.with_tools(vec![Arc::clone(&tools) as _]));
    let meanwhile = async {
        handle.until_said("one").await;
        handle.deliver(9, "refund 17");
        server.open_gate();
    };
    let run = async { tokio::join!(agent.run(handle.turn(&["hi"])), meanwhile).0 };
    // The answer to the first message alone would leave the refund to a turn that knows nothing.
    let failure = run.await.unwrap_err();
    assert!(failure.retry && failure.error.contains("oops"), "{failure:?}");
}

#[tokio::test]
async fn servers_that_are_away_are_told_and_names_that_are_taken_count_once() {
    let server = Server::start([answer(&["ok"])]).await;
    let handle = FakeHandle::new();
    let boxes = ["first", "second"].map(|_| {
        let mut tools = FakeTools::new(vec![tool("look", SideEffects::Pure)], |_| done(""));
        tools.away = vec!["shop (it does not start)".to_owned()];
        Arc::new(tools) as _
    });
    let agent = model_agent(&server, |_, turn| turn.system_prompt = Some("be kind".into()));
    Plain(agent.with_tools(boxes.into())).run(handle.turn(&["hi"])).await.unwrap();
    let request = &server.requests()[0];
    assert_eq!(request.body["tools"].as_array().unwrap().len(), 1);
    let told = told(request).join("\n");
    assert!(told.starts_with("system: be kind\n\nSome tools are away now: shop (it"), "{told}");
}

#[tokio::test]
async fn a_call_of_a_model_without_tools_is_not_heard() {
    let server = Server::start([calls("I'd look it up.", &[LOOK]), calls("", &[LOOK])]).await;
    let handle = FakeHandle::new();
    let agent = agent_with(&server, |_, _| ());
    assert_eq!(agent.run(handle.turn(&["hi"])).await, finished("I'd look it up.", 1));
    let failure = agent.run(handle.turn(&["hi"])).await.unwrap_err();
    assert!(failure.error.contains("empty answer (finish reason: tool_calls)"), "{failure:?}");
}

#[tokio::test]
async fn half_a_call_is_never_made() {
    let mut cut = calls("I refund", &[REFUND]);
    let end = cut.len() - 3;
    cut[end] = finish("length");
    let server = Server::start([cut]).await;
    let handle = FakeHandle::new();
    let tools = FakeTools::shop(|_| done("paid back"));
    let ended = agent(&server, &tools).run(handle.turn(&["hi"])).await;
    assert_eq!(ended, finished("I refund", 1));
    assert!(handle.intents.lock().unwrap().is_empty());
}

#[tokio::test]
async fn without_tools_nothing_is_said_of_them() {
    let server = Server::start([answer(&["ok"])]).await;
    let handle = FakeHandle::new();
    handle.finish_now.send_replace(true);
    let agent = agent_with(&server, |_, _| ());
    assert_eq!(agent.run(handle.turn(&["hi"])).await, finished("ok", 1));
    let request = &server.requests()[0];
    assert_eq!((request.body.get("tools"), request.body.get("tool_choice")), (None, None));
    assert_eq!(told(request), ["user: hi"]);
}
