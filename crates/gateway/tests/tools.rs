//! What agents do with tools, through the real gateway over SQLite: every call is on record before it
//! is made, and nothing that can't be undone is done twice.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(dead_code, reason = "the kit is shared with tests that need more of it")]

mod artifacts;
mod kit;
mod money;
mod questions;
mod switchboard;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kit::{Scripted, answered, failure, history, names, parts, reply, says, started, texts};
use tempfile::TempDir;
use tokio::sync::Notify;
use turnkeep_core::journal::{EventBody, SupersedeChoice};
use turnkeep_core::ports::agent::{Permission, RecordedCall, ToolCall, TurnContext};
use turnkeep_core::ports::store::{DeadLetter, TurnStatus};
use turnkeep_core::session::{Control, Controlled, Finished, RunFailure};
use turnkeep_core::tool::{CALLS_OPEN_MAX, SideEffects, ToolOutcome};
use turnkeep_core::{BusyPolicy, Event, Policy, Seq};
use turnkeep_gateway::{Gateway, Settled};
use turnkeep_stores::{MemoryStore, SqliteOptions, SqliteStore};

type Ended = Result<Finished, RunFailure>;

/// An agent that is told of its turn and of what the test shares with it.
fn agent<S, F, R>(shared: &Arc<S>, script: F) -> Arc<Scripted>
where
    S: Send + Sync + 'static,
    F: Fn(TurnContext, Arc<S>) -> R + Send + Sync + 'static,
    R: Future<Output = Ended> + Send + 'static,
{
    let shared = Arc::clone(shared);
    Arc::new(Scripted(Box::new(move |turn| Box::pin(script(turn, Arc::clone(&shared))))))
}

/// A gateway over a database of its own, which goes with the folder.
async fn over_sqlite(agent: Arc<Scripted>, change: fn(&mut Policy)) -> (Gateway, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path(), SqliteOptions::default()).unwrap();
    (started(parts(Arc::new(store), agent, change)).await, folder)
}

/// What an agent saw, and when it may go on.
#[derive(Default)]
struct Seen {
    begun: Notify,
    gate: Notify,
    recorded: Mutex<Vec<Vec<RecordedCall>>>,
    answers: Mutex<Vec<Permission>>,
}

impl Seen {
    /// Asks, and notes the answer.
    async fn intend(&self, turn: &TurnContext, call: ToolCall) -> Permission {
        let answer = turn.handle.intend(call).await.unwrap();
        self.answers.lock().unwrap().push(answer.clone());
        answer
    }

    /// Notes what was done before.
    async fn note_recorded(&self, turn: &TurnContext) {
        let recorded = turn.handle.recorded().await.unwrap();
        self.recorded.lock().unwrap().push(recorded);
    }

    fn recorded(&self) -> Vec<Vec<RecordedCall>> {
        self.recorded.lock().unwrap().clone()
    }

    fn answers(&self) -> Vec<Permission> {
        self.answers.lock().unwrap().clone()
    }
}

fn call(tool: &str, effects: SideEffects, input: &str) -> ToolCall {
    ToolCall { tool: tool.into(), effects, input: input.into(), ..ToolCall::default() }
}

fn refund() -> ToolCall {
    let key = Some("A-17".into());
    ToolCall { key, ..call("refund", SideEffects::Irreversible, "{\"order\":\"A-17\"}") }
}

/// What is known of [`refund`].
fn refunded(call: u64, outcome: ToolOutcome, output: &str) -> RecordedCall {
    let ToolCall { tool, effects, input, .. } = refund();
    let (call, output, compensates, compensated_by) = (Seq(call), output.into(), None, None);
    RecordedCall { call, tool, effects, input, outcome, output, compensates, compensated_by }
}

/// The place of a call that was let through.
fn let_through(answer: &Permission) -> Seq {
    let Permission::Call(call) = answer else { panic!("{answer:?}") };
    *call
}

/// Asks for a call, makes it, and tells of it.
async fn make(turn: &TurnContext, call: ToolCall, output: &str) {
    let call = let_through(&turn.handle.intend(call).await.unwrap());
    turn.handle.returned(call, ToolOutcome::Done, output).await.unwrap();
}

/// The whole journal of the one who was answered, checked.
async fn journal(gateway: &Gateway, customer: &str) -> Vec<Event> {
    let key = format!("default:default:api:dm:{customer}").parse().unwrap();
    history(gateway, &key).await
}

async fn ask(gateway: &Gateway, text: &str) -> Settled {
    answered(gateway, says("anna", "api", text)).await
}

#[tokio::test]
async fn what_cannot_be_undone_is_on_record_before_it_is_done() {
    let seen = Arc::new(Seen::default());
    let agent = agent(&seen, |turn, seen| async move {
        let call = let_through(&seen.intend(&turn, refund()).await);
        turn.handle.returned(call, ToolOutcome::Done, "paid back").await.unwrap();
        seen.intend(&turn, refund()).await;
        // Whatever it is called with, the key says that it is the same act.
        seen.intend(&turn, ToolCall { input: "{}".into(), ..refund() }).await;
        reply("done")
    });
    let (gateway, _folder) = over_sqlite(agent, |_| {}).await;
    ask(&gateway, "my money, please").await;
    let known = Permission::Known(refunded(5, ToolOutcome::Done, "paid back"));
    assert_eq!(seen.answers(), [Permission::Call(Seq(5)), known.clone(), known]);
    let events = journal(&gateway, "anna").await;
    let expected = [
        "message.accepted",
        "turn.started",
        "turn.processing",
        "commit.reached",
        "tool.intended",
        "tool.returned",
        "turn.completed",
    ];
    assert_eq!(names(&events), expected);
    let EventBody::ToolIntended { tool, effects, input, act, .. } = &events[4].body else {
        panic!("{:?}", events[4])
    };
    assert_eq!((&**tool, *effects), ("refund", SideEffects::Irreversible));
    assert_eq!(&**input, "{\"order\":\"A-17\"}");
    assert_eq!(act.to_string().len(), 32);
}

#[tokio::test]
async fn nobody_knows_what_came_of_a_call_whose_attempt_died() {
    let seen = Arc::new(Seen::default());
    let agent = agent(&seen, |turn, seen| async move {
        seen.note_recorded(&turn).await;
        let answer = seen.intend(&turn, refund()).await;
        assert!(turn.resume, "it dies with the call under way: {answer:?}");
        reply("somebody will look")
    });
    let (gateway, _folder) = over_sqlite(agent, |policy| policy.error_backoff_ms = 1).await;
    assert_eq!(ask(&gateway, "my money").await.reply.as_deref(), Some("somebody will look"));
    let unknown = refunded(5, ToolOutcome::Unknown, "");
    assert_eq!(seen.recorded(), [vec![], vec![unknown.clone()]]);
    assert_eq!(seen.answers(), [Permission::Call(Seq(5)), Permission::Known(unknown)]);
    journal(&gateway, "anna").await;
}

#[tokio::test]
async fn another_process_is_told_unknown_and_calls_nothing_again() {
    let seen = Arc::new(Seen::default());
    let hanging = agent(&seen, |turn, seen| async move {
        let_through(&seen.intend(&turn, refund()).await);
        seen.begun.notify_one();
        std::future::pending().await
    });
    let store = Arc::new(MemoryStore::new());
    let first = started(parts(store.clone(), hanging, |_| {})).await;
    let submitted = first.submit(says("anna", "api", "my money"), false).await.unwrap();
    seen.begun.notified().await;
    first.drain().await;
    let careful = agent(&seen, |turn, seen| async move {
        seen.note_recorded(&turn).await;
        seen.intend(&turn, refund()).await;
        reply("somebody will look")
    });
    let second = started(parts(Arc::new(store.reopen()), careful, |_| {})).await;
    second.follow(submitted.key.clone(), submitted.decision.seq.unwrap()).await.unwrap();
    let unknown = refunded(5, ToolOutcome::Unknown, "");
    assert_eq!(seen.recorded(), [vec![unknown.clone()]]);
    assert_eq!(seen.answers()[1..], [Permission::Known(unknown)]);
    history(&second, &submitted.key).await;
}

#[tokio::test]
async fn what_failed_may_be_tried_again_and_what_was_done_may_not() {
    let seen = Arc::new(Seen::default());
    let agent = agent(&seen, |turn, seen| async move {
        for (outcome, said) in [(ToolOutcome::Failed, "no line"), (ToolOutcome::Done, "paid")] {
            let call = let_through(&seen.intend(&turn, refund()).await);
            turn.handle.returned(call, outcome, said).await.unwrap();
            // Told once, it is told for good.
            assert!(turn.handle.returned(call, ToolOutcome::Failed, "").await.is_err());
        }
        seen.intend(&turn, refund()).await;
        reply("done")
    });
    let (gateway, _folder) = over_sqlite(agent, |_| {}).await;
    ask(&gateway, "my money").await;
    let known = Permission::Known(refunded(7, ToolOutcome::Done, "paid"));
    assert_eq!(seen.answers(), [Permission::Call(Seq(5)), Permission::Call(Seq(7)), known]);
    let events = journal(&gateway, "anna").await;
    let calls = ["tool.intended", "tool.returned", "tool.intended", "tool.returned"];
    assert_eq!(names(&events)[4..8], calls);
}

/// Anna has more to say while the agent works: it is told so before it may act, and answers that.
async fn mail_comes_first(gateway: &Gateway, seen: &Seen) {
    let first = gateway.submit(says("anna", "api", "my money"), true).await.unwrap();
    seen.begun.notified().await;
    gateway.submit(says("anna", "api", "all of it"), false).await.unwrap();
    seen.gate.notify_one();
    assert_eq!(first.follow.unwrap().await.unwrap().reply.as_deref(), Some("all of it"));
    assert_eq!(seen.answers(), [Permission::MailFirst]);
}

#[tokio::test]
async fn mail_is_read_before_what_cannot_be_undone() {
    let seen = Arc::new(Seen::default());
    let agent = agent(&seen, |turn, seen| async move {
        seen.begun.notify_one();
        seen.gate.notified().await;
        // What can be done twice need not wait.
        make(&turn, call("look up", SideEffects::Idempotent, "A-17"), "paid").await;
        seen.intend(&turn, refund()).await;
        assert!(turn.handle.has_mail());
        let mail = turn.handle.mail().await.unwrap();
        make(&turn, refund(), "paid back").await;
        reply(&texts(&mail).join("|"))
    });
    let (gateway, _folder) = over_sqlite(agent, |policy| policy.busy = BusyPolicy::Absorb).await;
    mail_comes_first(&gateway, &seen).await;
    journal(&gateway, "anna").await;
}

#[tokio::test]
async fn a_question_about_mail_is_answered_before_what_cannot_be_undone() {
    let seen = Arc::new(Seen::default());
    let agent = agent(&seen, |turn, seen| async move {
        seen.begun.notify_one();
        seen.gate.notified().await;
        seen.intend(&turn, refund()).await;
        turn.handle.mail_arrived().await;
        assert_eq!(turn.handle.mail().await.unwrap(), []);
        let question = turn.handle.question().await;
        turn.handle.answer(question.id, SupersedeChoice::AbsorbContinue);
        turn.handle.mail_arrived().await;
        let mail = turn.handle.mail().await.unwrap();
        make(&turn, refund(), "paid back").await;
        reply(&texts(&mail).join("|"))
    });
    // Nobody decides in its place, however long it takes.
    let change = |policy: &mut Policy| {
        (policy.busy, policy.question_ms) = (BusyPolicy::Agent, 600_000);
    };
    let (gateway, _folder) = over_sqlite(agent, change).await;
    mail_comes_first(&gateway, &seen).await;
}

#[tokio::test]
async fn a_stop_waits_for_the_call_in_flight_and_keeps_its_result() {
    let seen = Arc::new(Seen::default());
    let agent = agent(&seen, |turn, seen| async move {
        let call = let_through(&turn.handle.intend(refund()).await.unwrap());
        seen.begun.notify_one();
        turn.handle.cancelled().await;
        seen.intend(&turn, self::call("mail", SideEffects::Idempotent, "")).await;
        turn.handle.returned(call, ToolOutcome::Done, "paid back").await.unwrap();
        reply("your money is on its way")
    });
    let (gateway, _folder) = over_sqlite(agent, |_| {}).await;
    let submitted = gateway.submit(says("anna", "api", "my money"), true).await.unwrap();
    seen.begun.notified().await;
    let stopped = gateway.stop(&submitted.key, None).await.unwrap();
    assert!(matches!(stopped, Controlled::Stopping(_)), "{stopped:?}");
    assert_eq!(submitted.follow.unwrap().await.unwrap().status, TurnStatus::Cancelled);
    let [Permission::Refused(reason)] = seen.answers()[..] else { panic!() };
    assert!(reason.contains("stopped"), "{reason}");
    let events = journal(&gateway, "anna").await;
    let outcome = |event: &Event| match event.body {
        EventBody::ToolReturned { outcome, .. } => Some(outcome),
        _ => None,
    };
    assert_eq!(events.iter().find_map(outcome), Some(ToolOutcome::Done));
    let told = ["session.notice", "tool.returned", "turn.cancelled", "session.notice"];
    assert_eq!(names(&events)[5..], told);
    let notice = |event: &Event| match &event.body {
        EventBody::SessionNotice { text, .. } => Some(text.to_string()),
        _ => None,
    };
    let notices: Vec<String> = events.iter().filter_map(notice).collect();
    assert!(notices[0].starts_with("Stopping. "), "{notices:?}");
    assert_eq!(notices[1], "Stopped. What had been begun was done.");
}

#[tokio::test]
async fn a_retried_dead_letter_keeps_what_was_done_for_its_group() {
    let seen = Arc::new(Seen::default());
    let agent = agent(&seen, |turn, seen| async move {
        seen.note_recorded(&turn).await;
        let Permission::Call(call) = seen.intend(&turn, refund()).await else {
            return reply("it was paid back before");
        };
        turn.handle.returned(call, ToolOutcome::Done, "paid back").await.unwrap();
        failure("the model is gone", false)
    });
    let (gateway, _folder) = over_sqlite(agent, |_| {}).await;
    assert_eq!(ask(&gateway, "my money").await.status, TurnStatus::Failed);
    let letters = gateway.store().dead_letters(0, 10).await.unwrap();
    let [(_, key, letter)] = &letters[..] else { panic!("{letters:?}") };
    let DeadLetter { seq, group, trust, body, .. } = letter.clone();
    let retry = Control::Retry { seq, group, trust, body };
    let Controlled::Retried(decision) = gateway.control(key, retry).await.unwrap() else {
        panic!("it was there")
    };
    let settled = gateway.follow(key.clone(), decision.seq.unwrap()).await.unwrap();
    assert_eq!(settled.reply.as_deref(), Some("it was paid back before"));
    let done = refunded(5, ToolOutcome::Done, "paid back");
    assert_eq!(seen.recorded(), [vec![], vec![done.clone()]]);
    assert_eq!(seen.answers()[1..], [Permission::Known(done)]);
    // Somebody else's money is another act, though, and so is the next time.
    assert_eq!(ask(&gateway, "once more").await.status, TurnStatus::Failed);
    assert!(matches!(seen.answers()[2], Permission::Call(_)));
    journal(&gateway, "anna").await;
}

/// What becomes of a message where the agent says nothing to the question, after a call like this.
async fn default_choice(effects: SideEffects) -> SupersedeChoice {
    let seen = Arc::new(Seen::default());
    let agent = agent(&seen, move |turn, seen| async move {
        if turn.messages[0].seq == Seq(1) {
            make(&turn, call("note", effects, "A-17"), "noted").await;
            seen.begun.notify_one();
            seen.gate.notified().await;
        }
        reply("done")
    });
    let (gateway, _folder) =
        over_sqlite(agent, |policy| (policy.busy, policy.question_ms) = (BusyPolicy::Agent, 1))
            .await;
    let first = gateway.submit(says("anna", "api", "one"), true).await.unwrap();
    seen.begun.notified().await;
    let mut watch = gateway.subscribe(&first.key).unwrap();
    gateway.submit(says("anna", "api", "two"), false).await.unwrap();
    let choice = loop {
        let chosen = |event: &Event| match event.body {
            EventBody::SupersedeDecided { choice, by_default: true, .. } => Some(choice),
            _ => None,
        };
        let events = gateway.store().events(&first.key, Seq(0), 100).await.unwrap();
        if let Some(choice) = events.iter().find_map(chosen) {
            break choice;
        }
        watch.changed().await;
    };
    seen.gate.notify_one();
    first.follow.unwrap().await.unwrap();
    choice
}

#[tokio::test]
async fn after_an_act_a_new_message_waits_unless_the_agent_says_otherwise() {
    assert_eq!(default_choice(SideEffects::Pure).await, SupersedeChoice::AbsorbContinue);
    assert_eq!(default_choice(SideEffects::Idempotent).await, SupersedeChoice::Queue);
}

#[tokio::test]
async fn tools_leave_nothing_in_the_conversation_and_crowd_nothing_out() {
    let seen = Arc::new(Seen::default());
    let agent = agent(&seen, |turn, _| async move {
        let lines = turn.handle.history(4).await.unwrap();
        if &*turn.messages[0].body.text == "two" {
            for number in 0..40 {
                make(&turn, call("look up", SideEffects::Pure, &number.to_string()), "-").await;
            }
            assert_eq!(turn.handle.recorded().await.unwrap(), []);
        }
        let lines: Vec<&str> = lines.iter().map(|line| &*line.text).collect();
        reply(&format!("[{}]", lines.join(",")))
    });
    let (gateway, _folder) = over_sqlite(agent, |_| {}).await;
    ask(&gateway, "one").await;
    ask(&gateway, "two").await;
    let third = ask(&gateway, "three").await.reply.unwrap();
    assert_eq!(&*third, "[one,[],two,[one,[]]]");
    let fourth = ask(&gateway, "four").await.reply.unwrap();
    assert_eq!(&*fourth, "[two,[one,[]],three,[one,[],two,[one,[]]]]");
}

#[tokio::test]
async fn what_is_out_of_bounds_is_refused_or_cut() {
    let seen = Arc::new(Seen::default());
    let agent = agent(&seen, |turn, seen| async move {
        let long = "x".repeat(64 << 10);
        seen.intend(&turn, call("note", SideEffects::Pure, &format!("{long}x"))).await;
        make(&turn, call("note", SideEffects::Idempotent, &long), &format!("{long}x")).await;
        for number in 0..CALLS_OPEN_MAX {
            let number = number.to_string();
            turn.handle.intend(call("note", SideEffects::Pure, &number)).await.unwrap();
        }
        seen.intend(&turn, call("note", SideEffects::Pure, "")).await;
        seen.intend(&turn, call("note", SideEffects::Idempotent, &long)).await;
        reply("done")
    });
    let (gateway, _folder) = over_sqlite(agent, |_| {}).await;
    ask(&gateway, "note it").await;
    let [Permission::Refused(input), Permission::Refused(open), Permission::Refused(_)] =
        &seen.answers()[..]
    else {
        panic!("{:?}", seen.answers())
    };
    assert!(input.contains("65536") && open.contains("the limit is 16"), "{input}, {open}");
    let events = journal(&gateway, "anna").await;
    let output = events.iter().find_map(|event| match &event.body {
        EventBody::ToolReturned { output, .. } => Some(output.clone()),
        _ => None,
    });
    let output = output.unwrap();
    assert!(output.len() == 64 << 10 && output.ends_with("x … (cut)"), "{}", output.len());
}

#[tokio::test]
async fn the_next_attempt_is_told_everything_in_order() {
    let seen = Arc::new(Seen::default());
    let agent = agent(&seen, |turn, seen| async move {
        if turn.tag.attempt.0 > 1 {
            seen.note_recorded(&turn).await;
            return reply("done");
        }
        for number in 0..100 {
            let number = number.to_string();
            make(&turn, call("note", SideEffects::Idempotent, &number), &number).await;
            make(&turn, call("look up", SideEffects::Pure, &number), &number).await;
        }
        failure("gone", true)
    });
    let (gateway, _folder) = over_sqlite(agent, |policy| policy.error_backoff_ms = 1).await;
    ask(&gateway, "note it").await;
    let told = seen.recorded().remove(0);
    let told = told.iter().map(|call| (&*call.tool, call.input.to_string(), &*call.output));
    let expected: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    assert!(told.eq(expected.iter().map(|number| ("note", number.clone(), number.as_str()))));
}

/// How a turn ends whose tool takes longer than an agent may be silent.
async fn after_a_slow_tool(says_something: bool) -> Settled {
    let agent = agent(&Arc::new(says_something), |turn, says_something| async move {
        let call = let_through(&turn.handle.intend(refund()).await.unwrap());
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_secs(50)).await;
            if *says_something {
                turn.handle.say("");
            }
        }
        turn.handle.returned(call, ToolOutcome::Done, "paid back").await.unwrap();
        reply("done")
    });
    let gateway = started(parts(Arc::new(MemoryStore::new()), agent, |policy| {
        policy.errors_max = 1;
    }))
    .await;
    let settled = ask(&gateway, "my money").await;
    let outcomes = journal(&gateway, "anna").await;
    let expected = if says_something { ToolOutcome::Done } else { ToolOutcome::Unknown };
    assert!(outcomes.iter().any(|event| {
        matches!(event.body, EventBody::ToolReturned { outcome, .. } if outcome == expected)
    }));
    settled
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_tool_says_that_it_lives() {
    let silent = after_a_slow_tool(false).await;
    assert_eq!(silent.error.as_deref(), Some("the agent was silent for too long"));
    assert_eq!(after_a_slow_tool(true).await.reply.as_deref(), Some("done"));
}
