//! A call that a person has to allow: when one is asked, what allows it, and what becomes of any
//! other answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use turnkeep_core::ids::Seq;
use turnkeep_core::ports::agent::{Permission, RecordedCall};
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
async fn a_person_allows_a_call_with_a_yes() {
    let permissions = [Permission::Call(Seq(5)), Permission::Known(known(ToolOutcome::Done, "x"))];
    let (ended, told, called, handle) = check_approval("Ja, bitte!", &permissions).await;
    assert_eq!(ended, finished("ok", 4));
    assert_eq!(called.len(), 1);
    let question = "May I call refund? order: 17\nReply \"yes\" to allow it, \"no\" to refuse it.";
    // The second call is the same act, and nobody is asked about what was done.
    assert_eq!(*handle.asked.borrow(), [question]);
    assert_eq!(told[2], "tool r: paid back");
    let before = "it was done before, and not again now. What it said then: x";
    assert!(told[3].ends_with(before), "{told:?}");
}

#[tokio::test]
async fn the_question_hides_nothing_from_who_reads_markdown() {
    let sly = r#"{"order":"/data/*.bak, [a@b.c](https://evil.example) __init__ and `x`"}"#;
    let server = Server::start([calls("", &[("r", "refund", sly)]), answer(&["ok"])]).await;
    let handle = FakeHandle::new();
    handle.user.send_replace(Some(message(4, "no")));
    let refund = tool("refund", SideEffects::Irreversible);
    let refund = turnkeep_agents::Tool { approval: true, ..refund };
    let tools = Arc::new(FakeTools::new(vec![refund], |_| done("paid back")));
    agent(&server, &tools).run(handle.turn(&["hi"])).await.unwrap();
    let asked = handle.asked.borrow().clone();
    let shown = "``\"/data/*.bak, [a@b.c](https://evil.example) __init__ and `x`\"``";
    let begins = format!("May I call refund? order: {shown}\nReply ");
    assert!(asked[0].starts_with(&begins), "{asked:?}");
}

#[tokio::test]
async fn anything_else_than_yes_allows_nothing_and_is_heard() {
    let (ended, told, called, handle) = check_approval("yes, but only half", &[]).await;
    assert_eq!(ended, finished("ok", 4));
    assert_eq!(called, [""; 0]);
    assert_eq!(handle.asked.borrow().len(), 1, "the next call waits for another decision");
    let open = "tool r: not done: the user was asked and said neither yes nor no, but: yes, but only half\n";
    assert!(told[2].starts_with(open), "{told:?}");
    assert!(told[3].contains("Decide again"), "{told:?}");
    let (_, told, called, handle) = check_approval("please don’t", &[]).await;
    assert_eq!((called.len(), handle.asked.borrow().len()), (0, 1));
    let refused =
        "tool r: not done: the user was asked and did not allow it; they said: please don’t";
    assert_eq!(told[2], refused);
}

/// What somebody says who is asked again and again.
async fn check_unclear(says: &'static [&'static str]) -> (Vec<String>, Vec<String>, Vec<String>) {
    let server = Server::start([calls("", &[REFUND]), answer(&["ok"])]).await;
    let handle = FakeHandle::new();
    permit(&handle, [Permission::Call(Seq(9))]);
    let refund = tool("refund", SideEffects::Irreversible);
    let refund = turnkeep_agents::Tool { approval: true, ..refund };
    let tools = Arc::new(FakeTools::new(vec![refund], |_| done("paid back")));
    let agent = agent(&server, &tools);
    let meanwhile = async {
        let mut asked = handle.asked.subscribe();
        for (at, said) in says.iter().enumerate() {
            asked.wait_for(|asked| asked.len() == at + 1).await.unwrap();
            handle.user.send_replace(Some(message(4 + at as u64, said)));
        }
    };
    let (ended, ()) = tokio::join!(agent.run(handle.turn(&["hi"])), meanwhile);
    assert_eq!(ended, finished("ok", 3 + says.len() as u64));
    let asked = handle.asked.borrow().clone();
    (told(&server.requests()[1]), tools.called(), asked)
}

#[tokio::test]
async fn who_is_not_understood_is_asked_again_but_not_for_ever() {
    let (told, called, asked) = check_unclear(&["hmm", "yes please"]).await;
    assert_eq!((told[2].as_str(), called.len(), asked.len()), ("tool r: paid back", 1, 2));
    assert_eq!(asked[1], format!("I did not understand that as a yes or a no. {}", asked[0]));
    let (told, called, asked) = check_unclear(&["hmm", "maybe", "well"]).await;
    assert_eq!((called.len(), asked.len()), (0, 3));
    assert!(told[2].contains("neither yes nor no, but: hmm\nmaybe\nwell\n"), "{told:?}");
    let (told, called, _) = check_unclear(&["hmm", "no"]).await;
    assert_eq!(called.len(), 0);
    assert!(told[2].ends_with("did not allow it; they said: hmm\nno"), "{told:?}");
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

/// A call that a person has to allow, and won't; what is on record, and what the gateway says.
async fn check_record(
    key: Option<&str>,
    recorded: RecordedCall,
    permissions: &[Permission],
    asked: bool,
    expect: &str,
) -> Arc<FakeHandle> {
    let server = Server::start([calls("", &[REFUND]), answer(&["ok"])]).await;
    let handle = FakeHandle::new();
    handle.user.send_replace(Some(message(4, "no")));
    permit(&handle, permissions.iter().cloned());
    *handle.recorded.lock().unwrap() = vec![recorded];
    let refund = tool("refund", SideEffects::Irreversible);
    let key = key.map(str::to_owned);
    let refund = turnkeep_agents::Tool { approval: true, key, ..refund };
    let tools = Arc::new(FakeTools::new(vec![refund], |_| done("paid back")));
    agent(&server, &tools).run(handle.turn(&["hi"])).await.unwrap();
    assert_eq!(tools.called(), [""; 0], "{expect}");
    assert_eq!(!handle.asked.borrow().is_empty(), asked, "{expect}");
    let told = told(&server.requests()[1]);
    let result = told.iter().find(|line| line.starts_with("tool r: ")).unwrap();
    assert!(result.contains(expect), "{result}\n{expect}");
    handle
}

#[tokio::test]
async fn nobody_is_asked_about_what_an_earlier_attempt_did() {
    let paid = known(ToolOutcome::Done, "paid back");
    let lost = known(ToolOutcome::Unknown, "");
    let is = |call: &RecordedCall| [Permission::Known(call.clone())];
    check_record(None, paid.clone(), &is(&paid), false, "What it said then: paid back").await;
    check_record(None, lost.clone(), &is(&lost), false, "nobody knows whether it was done").await;
    // What else was said of the same order does not matter.
    let more = RecordedCall { input: r#"{"order":"17","why":"late"}"#.into(), ..paid.clone() };
    check_record(Some("/order"), more.clone(), &is(&more), false, "done before").await;

    let denied = "the user was asked and did not allow it";
    check_record(None, more.clone(), &[], true, denied).await;
    let failed = known(ToolOutcome::Failed, "no money");
    check_record(None, failed, &[], true, denied).await;
    let idempotent = RecordedCall { effects: SideEffects::Idempotent, ..lost };
    check_record(None, idempotent, &[], true, denied).await;
    let undone = RecordedCall { compensated_by: Some(Seq(9)), ..paid.clone() };
    check_record(None, undone, &[], true, denied).await;
    let other = RecordedCall { tool: "cancel".into(), ..paid.clone() };
    check_record(None, other, &[], true, denied).await;
    let undoing = RecordedCall { compensates: Some(Seq(3)), ..paid };
    check_record(None, undoing, &[], true, denied).await;
}

#[tokio::test]
async fn what_only_looked_as_if_it_was_done_needs_a_yes() {
    let paid = known(ToolOutcome::Done, "paid back");
    let denied = "the user was asked and did not allow it";
    // It was another act then: say, its tool had another key.
    let handle = check_record(None, paid, &[Permission::Call(Seq(8))], true, denied).await;
    let results = handle.results.lock().unwrap().clone();
    assert_eq!(
        results,
        [(Seq(8), ToolOutcome::Failed, "not called: nobody has allowed it yet".to_owned())]
    );
}

#[tokio::test]
async fn a_yes_that_comes_with_mail_is_told_to_the_model() {
    let server =
        Server::start([calls("", &[REFUND, ("r2", "refund", "{}")]), answer(&["ok"])]).await;
    let handle = FakeHandle::new();
    let refund = tool("refund", SideEffects::Irreversible);
    let refund = turnkeep_agents::Tool { approval: true, ..refund };
    let tools = Arc::new(FakeTools::new(vec![refund], |_| done("paid back")));
    let agent = agent(&server, &tools);
    let meanwhile = async {
        let mut asked = handle.asked.subscribe();
        asked.wait_for(|asked| !asked.is_empty()).await.unwrap();
        handle.deliver(5, "and order 18?");
        handle.user.send_replace(Some(message(4, "yes")));
    };
    let (ended, ()) = tokio::join!(agent.run(handle.turn(&["hi"])), meanwhile);
    assert_eq!(ended, finished("ok", 5));
    assert_eq!(tools.called(), [""; 0]);
    let told = told(&server.requests()[1]);
    assert!(told[2].starts_with("tool r: not done yet: the user allowed it, but"), "{told:?}");
    assert!(told[3].starts_with("tool r2: not done: "), "{told:?}");
    assert_eq!(told[4], "user: and order 18?");
}

/// A question that is not put so often, because a message is held back.
async fn check_held(refusals: usize) -> (Vec<String>, Vec<String>) {
    let server = Server::start([calls("", &[REFUND]), answer(&["ok"])]).await;
    let handle = FakeHandle::new();
    handle.confirms_to_refuse.store(refusals, Ordering::Relaxed);
    handle.user.send_replace(Some(message(4, "yes")));
    permit(&handle, [Permission::Call(Seq(5))]);
    let refund = tool("refund", SideEffects::Irreversible);
    let refund = turnkeep_agents::Tool { approval: true, ..refund };
    let tools = Arc::new(FakeTools::new(vec![refund], |_| done("paid back")));
    let agent = agent(&server, &tools);
    let meanwhile = async {
        let mut refused = handle.confirms_refused.subscribe();
        refused.wait_for(|refused| *refused > 0).await.unwrap();
        // From here on the clock runs freely.
        tokio::time::pause();
        refused.wait_for(|refused| *refused == refusals).await.unwrap();
        let mut asked = handle.asked.subscribe();
        if refusals < 3 {
            asked.wait_for(|asked| !asked.is_empty()).await.unwrap();
        }
        tokio::time::resume();
    };
    let (ended, ()) = tokio::join!(agent.run(handle.turn(&["hi"])), meanwhile);
    ended.unwrap();
    (told(&server.requests()[1]), tools.called())
}

#[tokio::test]
async fn a_message_that_is_held_is_waited_for_and_is_no_mail() {
    let (told, called) = check_held(2).await;
    assert_eq!((told[2].as_str(), called.len()), ("tool r: paid back", 1));
    let (told, called) = check_held(3).await;
    assert!(told[2].starts_with("tool r: not done: a message"), "{told:?}");
    assert!(told[2].contains("still being checked"), "{told:?}");
    assert_eq!(called.len(), 0);
}
