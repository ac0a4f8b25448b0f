//! A call that a person has to allow: when one is asked, what allows it, and what becomes of any
//! other answer.

use std::sync::Arc;

use turnkeep_core::ids::Seq;
use turnkeep_core::ports::agent::Permission;
use turnkeep_core::session::input::{Finished, RunFailure};
use turnkeep_core::tool::{SideEffects, ToolOutcome};

use crate::handle::{FakeHandle, message};
use crate::model_tools::{REFUND, agent, gated, known, permit, told};
use crate::openai::finished;
use crate::server::{Server, answer, calls};
use crate::toolbox::{FakeTools, done, tool};

/// One call that a person has to allow, and what the person says.
async fn check_approval(
    said: &str,
    permissions: &[Permission],
) -> (Result<Finished, RunFailure>, Vec<String>, Vec<String>, Arc<FakeHandle>) {
    let server = Server::start([calls("", &[REFUND, REFUND]), answer(&["ok"])]).await;
    let handle = FakeHandle::new();
    permit(&handle, permissions.iter().cloned());
    let refund = crate::toolbox::tool("refund", SideEffects::Irreversible);
    let refund = turnkeep_agents::Tool { approval: true, ..refund };
    let tools = Arc::new(FakeTools::new(vec![refund], |_| done("paid back")));
    let agent = agent(&server, &tools);
    let meanwhile = async {
        let mut asked = handle.asked.subscribe();
        asked.wait_for(|asked| !asked.is_empty()).await.unwrap();
        assert_eq!(handle.slots.available_permits(), 1, "a slot is held while a person thinks");
        assert!(handle.intents.lock().unwrap().is_empty(), "something has begun already");
        handle.user.send_replace(Some(message(4, said)));
    };
    let (ended, ()) = tokio::join!(agent.run(handle.turn(&["hi"])), meanwhile);
    let told = told(&server.requests()[1]);
    (ended, told, tools.called(), handle)
}

#[tokio::test]
async fn a_person_allows_a_call_with_a_plain_yes() {
    let permissions = [Permission::Call(Seq(5)), Permission::Known(known(ToolOutcome::Done, "x"))];
    let (ended, told, called, handle) = check_approval("Ja!", &permissions).await;
    assert_eq!(ended, finished("ok", 4));
    assert_eq!(called.len(), 1);
    let question = "I want to call refund with {\"order\":\"17\"}. Reply \"yes\" to allow it.";
    assert_eq!(*handle.asked.borrow(), [question, question]);
    assert_eq!(told[2], "tool r: paid back");
}

#[tokio::test]
async fn anything_else_than_yes_allows_nothing_and_is_heard() {
    let (ended, told, called, handle) = check_approval("yes, but only half", &[]).await;
    assert_eq!(ended, finished("ok", 4));
    assert_eq!(called, [""; 0]);
    assert_eq!(handle.asked.borrow().len(), 1, "the next call waits for another decision");
    assert_eq!(
        told[2],
        "tool r: not done: the user was asked and did not allow it; they said: yes, but only half"
    );
    assert!(told[3].contains("Decide again"), "{told:?}");
}

#[tokio::test]
async fn what_was_said_before_the_question_is_no_answer_to_it() {
    let server = Server::start([gated(calls("", &[REFUND])), answer(&["ok"])]).await;
    let handle = FakeHandle::new();
    // For whoever would ask in spite of it.
    handle.user.send_replace(Some(message(5, "yes")));
    permit(&handle, [Permission::Call(Seq(6))]);
    let refund =
        turnkeep_agents::Tool { approval: true, ..tool("refund", SideEffects::Irreversible) };
    let tools = Arc::new(FakeTools::new(vec![refund], |_| done("paid back")));
    let agent = agent(&server, &tools);
    let meanwhile = async {
        server.until_requests(1).await;
        handle.deliver(4, "yes");
        server.open_gate();
    };
    let (ended, ()) = tokio::join!(agent.run(handle.turn(&["hi"])), meanwhile);
    assert_eq!(ended, finished("ok", 4));
    assert_eq!(*handle.asked.borrow(), [""; 0]);
    assert_eq!(tools.called(), [""; 0]);
}
