//! The shell through its handle, over the memory store: bursts, panics, drains, deliveries.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod away;
mod conversations;
mod dispatch;
mod door;
mod heard;
mod hearing;
mod hints;
mod kit;
mod knocks;
mod owned;
mod schedule;
mod typing;
mod visits;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use kit::{
    Noted, Scripted, action, answered, failure, history, names, parts, reply, says, started, texts,
};
use tokio::sync::Notify;
use turnkeep_agents::EchoAgent;
use turnkeep_core::message::Action;
use turnkeep_core::outbox::DeliveryOutcome;
use turnkeep_core::policy::channel_facts;
use turnkeep_core::ports::store::{Store as _, TurnStatus};
use turnkeep_core::session::{Control, Controlled};
use turnkeep_core::{BusyPolicy, SessionKey};
use turnkeep_gateway::Gateway;
use turnkeep_gateway::ingress::OperatorReply;
use turnkeep_stores::MemoryStore;

fn scripted<F, R>(script: F) -> Arc<Scripted>
where
    F: Fn(turnkeep_core::ports::agent::TurnContext) -> R + Send + Sync + 'static,
    R: Future<
            Output = Result<turnkeep_core::session::Finished, turnkeep_core::session::RunFailure>,
        > + Send
        + 'static,
{
    Arc::new(Scripted(Box::new(move |turn| Box::pin(script(turn)))))
}

#[tokio::test]
async fn a_message_is_answered_and_followed() {
    let store = Arc::new(MemoryStore::new());
    let gateway = started(parts(store, Arc::new(EchoAgent::default()), |_| {})).await;
    let submitted = gateway.submit(says("alice", "api", "hello"), true).await.unwrap();
    assert_eq!(action(&submitted), (Action::WorkflowStarted, false));
    let settled = submitted.follow.unwrap().await.unwrap();
    assert_eq!(settled.status, TurnStatus::Complete);
    assert_eq!(settled.reply.as_deref(), Some("echo: hello"));
    assert_eq!(settled.turn, submitted.decision.turn);
    let events = history(&gateway, &submitted.key).await;
    assert_eq!(
        names(&events),
        ["message.accepted", "turn.started", "turn.processing", "turn.completed"]
    );
}

/// A run that waits to be let go, so that the test can act while it works.
fn gated(gate: Arc<Notify>, begun: Arc<Notify>) -> Arc<Scripted> {
    scripted(move |turn| {
        let (gate, begun) = (Arc::clone(&gate), Arc::clone(&begun));
        async move {
            begun.notify_one();
            gate.notified().await;
            let mut all = turn.messages.clone();
            if turn.handle.has_mail() {
                all.extend(turn.handle.mail().await.unwrap());
            }
            reply(&texts(&all).join("|"))
        }
    })
}

async fn busy(change: fn(&mut turnkeep_core::Policy)) -> (Gateway, Arc<Notify>, Arc<Notify>) {
    let (gate, begun) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let agent = gated(Arc::clone(&gate), Arc::clone(&begun));
    let gateway = started(parts(Arc::new(MemoryStore::new()), agent, change)).await;
    (gateway, gate, begun)
}

#[tokio::test]
async fn mail_joins_the_running_turn() {
    let (gateway, gate, begun) = busy(|policy| policy.busy = BusyPolicy::Absorb).await;
    let first = gateway.submit(says("alice", "api", "one"), true).await.unwrap();
    begun.notified().await;
    let second = gateway.submit(says("alice", "api", "two"), true).await.unwrap();
    assert_eq!(action(&second), (Action::EventSent, false));
    gate.notify_one();
    let settled = first.follow.unwrap().await.unwrap();
    assert_eq!(settled.reply.as_deref(), Some("one|two"));
    assert_eq!(second.follow.unwrap().await.unwrap(), settled);
    history(&gateway, &first.key).await;
}

#[tokio::test]
async fn one_session_does_not_wait_for_another() {
    let (gateway, gate, begun) = busy(|_| {}).await;
    let alice = gateway.submit(says("alice", "api", "slow"), true).await.unwrap();
    begun.notified().await;
    let bob = gateway.submit(says("bob", "api", "quick"), true).await.unwrap();
    // Bob's turn begins while Alice's is still held.
    begun.notified().await;
    gate.notify_waiters();
    for submitted in [alice, bob] {
        assert_eq!(submitted.follow.unwrap().await.unwrap().status, TurnStatus::Complete);
    }
}

#[tokio::test]
async fn collected_messages_share_a_later_turn() {
    let (gateway, gate, begun) = busy(|policy| policy.busy = BusyPolicy::Collect).await;
    let first = gateway.submit(says("alice", "api", "one"), true).await.unwrap();
    begun.notified().await;
    let second = gateway.submit(says("alice", "api", "two"), true).await.unwrap();
    let third = gateway.submit(says("alice", "api", "three"), true).await.unwrap();
    assert_eq!(action(&second).0, Action::Queued);
    assert_eq!((second.decision.queue_position, third.decision.queue_position), (Some(1), Some(1)));
    gate.notify_one();
    assert_eq!(first.follow.unwrap().await.unwrap().reply.as_deref(), Some("one"));
    begun.notified().await;
    gate.notify_one();
    let settled = second.follow.unwrap().await.unwrap();
    assert_eq!(settled.reply.as_deref(), Some("two|three"));
    assert_eq!(third.follow.unwrap().await.unwrap().turn, settled.turn);
}

#[tokio::test]
async fn supersede_starts_over_with_everything() {
    let (gateway, gate, begun) = busy(|policy| policy.busy = BusyPolicy::Supersede).await;
    let first = gateway.submit(says("alice", "api", "one"), true).await.unwrap();
    begun.notified().await;
    let second = gateway.submit(says("alice", "api", "two"), true).await.unwrap();
    assert_eq!(action(&second).0, Action::WorkflowStarted);
    begun.notified().await;
    gate.notify_waiters();
    gate.notify_one();
    let settled = second.follow.unwrap().await.unwrap();
    assert_eq!(settled.reply.as_deref(), Some("one|two"));
    assert_eq!(first.follow.unwrap().await.unwrap().turn, settled.turn);
    assert!(names(&history(&gateway, &second.key).await).contains(&"turn.superseded"));
}

#[tokio::test]
async fn stop_ends_the_turn_and_commits_what_was_shown() {
    let begun = Arc::new(Notify::new());
    let told = Arc::clone(&begun);
    let agent = scripted(move |turn| {
        let begun = Arc::clone(&told);
        async move {
            turn.handle.say("half an ans");
            begun.notify_one();
            std::future::pending::<()>().await;
            reply("never")
        }
    });
    let gateway = started(parts(Arc::new(MemoryStore::new()), agent, |_| {})).await;
    let submitted = gateway.submit(says("alice", "api", "one"), true).await.unwrap();
    begun.notified().await;
    let other = turnkeep_core::TurnId::default();
    let mismatch = gateway.stop(&submitted.key, Some(other)).await.unwrap();
    assert_eq!(mismatch, Controlled::OtherTurn(submitted.decision.turn.unwrap()));
    let stopped = gateway.stop(&submitted.key, submitted.decision.turn).await.unwrap();
    assert_eq!(stopped, Controlled::Stopped(submitted.decision.turn.unwrap()));
    let settled = submitted.follow.unwrap().await.unwrap();
    assert_eq!(settled.status, TurnStatus::Cancelled);
    assert_eq!(settled.reply.as_deref(), Some("half an ans"));
    history(&gateway, &submitted.key).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_wedges_nothing_and_three_failures_make_a_dead_letter() {
    let agent = scripted(|turn| async move {
        assert!(&*turn.messages[0].body.text != "bad", "no such luck");
        reply("fine")
    });
    let gateway = started(parts(Arc::new(MemoryStore::new()), agent, |_| {})).await;
    let settled = answered(&gateway, says("alice", "api", "bad")).await;
    assert_eq!(settled.status, TurnStatus::Failed);
    assert_eq!(settled.error.as_deref(), Some("it panicked: no such luck"));
    let letters = gateway.store().dead_letters(0, 10).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(
        answered(&gateway, says("alice", "api", "good")).await.reply.as_deref(),
        Some("fine")
    );
    let events = history(&gateway, &letters[0].1).await;
    let tries = names(&events).iter().filter(|name| **name == "turn.processing").count();
    assert_eq!(tries, 4);
}

#[tokio::test]
async fn the_history_holds_what_was_said_while_a_message_waited() {
    let (gate, begun) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (opened, began) = (Arc::clone(&gate), Arc::clone(&begun));
    let agent = scripted(move |turn| {
        let (opened, began) = (Arc::clone(&opened), Arc::clone(&began));
        async move {
            began.notify_one();
            opened.notified().await;
            let lines = turn.handle.history(100).await.unwrap();
            let lines: Vec<&str> = lines.iter().map(|line| &*line.text).collect();
            reply(&format!("[{}]+{}", lines.join(","), texts(&turn.messages).join(",")))
        }
    });
    let gateway = started(parts(Arc::new(MemoryStore::new()), agent, |policy| {
        policy.busy = BusyPolicy::Collect;
    }))
    .await;
    let first = gateway.submit(says("alice", "api", "one"), true).await.unwrap();
    gateway.control(&first.key, Control::OptIn(true)).await.unwrap();
    begun.notified().await;
    let second = gateway.submit(says("alice", "api", "two"), true).await.unwrap();
    assert_eq!(action(&second), (Action::Queued, false));
    let told = gateway.notify(says("alice", "api", "news")).await.unwrap().told;
    assert!(matches!(told, Controlled::Noticed { waits: true, .. }), "{told:?}");
    gate.notify_one();
    assert_eq!(first.follow.unwrap().await.unwrap().reply.as_deref(), Some("[]+one"));
    gate.notify_one();
    let settled = second.follow.unwrap().await.unwrap();
    assert_eq!(settled.reply.as_deref(), Some("[one,[]+one,news]+two"));
}

#[tokio::test(start_paused = true)]
async fn the_agent_sees_what_an_operator_said() {
    let agent = scripted(|turn| async move {
        let lines = turn.handle.history(100).await.unwrap();
        let lines: Vec<String> =
            lines.iter().map(|line| format!("{:?} {}", line.role, line.text)).collect();
        reply(&format!("[{}]+{}", lines.join(", "), texts(&turn.messages).join(",")))
    });
    let gateway = started(parts(Arc::new(MemoryStore::new()), agent, |_| {})).await;
    let first = answered(&gateway, says("alice", "api", "one")).await;
    assert_eq!(first.reply.as_deref(), Some("[]+one"));
    let key: SessionKey = "default:default:api:dm:alice".parse().unwrap();
    gateway.control(&key, Control::Pause { by: "Olga".into(), take_over: false }).await.unwrap();
    let says_as_olga = async |text: &str| {
        let reply = OperatorReply { by: "Olga".into(), text: text.to_owned(), id: None };
        gateway.answer_as_operator(&key, reply).await.unwrap().1
    };
    let waits = gateway.submit(says("alice", "api", "two"), true).await.unwrap();
    assert!(matches!(says_as_olga("hello").await, Controlled::Replied { turn: Some(_), .. }));
    let settled = waits.follow.unwrap().await.unwrap();
    assert_eq!(settled.reply.as_deref(), Some("hello"));
    assert!(matches!(says_as_olga("bye").await, Controlled::Replied { turn: None, .. }));
    let waits = gateway.submit(says("alice", "api", "three"), true).await.unwrap();
    gateway.control(&key, Control::HandBack { by: "Olga".into() }).await.unwrap();
    let settled = waits.follow.unwrap().await.unwrap().reply.unwrap();
    let expect = "User two, Operator hello, Operator bye]+three";
    assert!(settled.ends_with(expect), "{settled}");
    history(&gateway, &key).await;
}

#[tokio::test(start_paused = true)]
async fn a_retried_message_stands_once_in_the_history() {
    // Fails where it is told to, and says else what it knows of the conversation.
    let fails = Arc::new(AtomicU32::new(0));
    let failing = Arc::clone(&fails);
    let agent = scripted(move |turn| {
        let fails = failing.load(Ordering::Relaxed) > 0;
        async move {
            if fails {
                return failure("not now", false);
            }
            let lines = turn.handle.history(100).await.unwrap();
            let lines: Vec<&str> = lines.iter().map(|line| &*line.text).collect();
            reply(&format!("[{}]+{}", lines.join(","), texts(&turn.messages).join(",")))
        }
    });
    let gateway = started(parts(Arc::new(MemoryStore::new()), agent, |_| {})).await;
    let says = |text| answered(&gateway, says("alice", "api", text));
    assert_eq!(says("one").await.reply.as_deref(), Some("[]+one"));
    fails.store(1, Ordering::Relaxed);
    assert_eq!(says("two").await.status, TurnStatus::Failed);
    assert_eq!(says("three").await.status, TurnStatus::Failed);
    fails.store(0, Ordering::Relaxed);
    let letters = gateway.store().dead_letters(0, 10).await.unwrap();
    let [(_, key, letter), _] = &letters[..] else { panic!("{letters:?}") };
    let turnkeep_core::ports::store::DeadLetter { seq, group, trust, body, .. } = letter.clone();
    let retry = turnkeep_core::session::Control::Retry { seq, group, trust, body };
    let Controlled::Retried(decision) = gateway.control(key, retry).await.unwrap() else {
        panic!("it was there")
    };
    let again = gateway.follow(key.clone(), decision.seq.unwrap()).await.unwrap();
    // What was tried again is not said before; what still lies there is.
    assert_eq!(again.reply.as_deref(), Some("[one,[]+one,three]+two"));
    let after = says("four").await.reply.unwrap();
    assert_eq!(&*after, "[one,[]+one,three,two,[one,[]+one,three]+two]+four");
    history(&gateway, key).await;
}

#[tokio::test(start_paused = true)]
async fn a_hanging_agent_is_ended_by_its_limit() {
    let agent = scripted(|_| async move {
        std::future::pending::<()>().await;
        reply("never")
    });
    let gateway = started(parts(Arc::new(MemoryStore::new()), agent, |policy| {
        policy.errors_max = 1;
    }))
    .await;
    let settled = answered(&gateway, says("alice", "api", "one")).await;
    assert_eq!(settled.error.as_deref(), Some("the agent was silent for too long"));
}

#[tokio::test]
async fn a_drained_process_loses_nothing_and_counts_nothing() {
    let store = Arc::new(MemoryStore::new());
    let begun = Arc::new(Notify::new());
    let told = Arc::clone(&begun);
    let hanging = scripted(move |_| {
        let begun = Arc::clone(&told);
        async move {
            begun.notify_one();
            std::future::pending::<()>().await;
            reply("never")
        }
    });
    let first = started(parts(store.clone(), hanging, |_| {})).await;
    let submitted = first.submit(says("alice", "api", "one"), true).await.unwrap();
    begun.notified().await;
    // Somebody waits for the answer all the while; the drain must not begin the turn again for them.
    let waiting = tokio::spawn(submitted.follow.unwrap());
    first.drain().await;
    assert_eq!(waiting.await.unwrap(), None);
    let tries = store.events(&submitted.key, turnkeep_core::Seq(0), 100).await.unwrap();
    assert_eq!(names(&tries).iter().filter(|name| **name == "turn.processing").count(), 1);
    assert!(first.submit(says("alice", "api", "two"), false).await.is_err());
    let store = Arc::new(store.reopen());
    let second = started(parts(store, Arc::new(EchoAgent::default()), |_| {})).await;
    let settled =
        second.follow(submitted.key.clone(), submitted.decision.seq.unwrap()).await.unwrap();
    assert_eq!(settled.reply.as_deref(), Some("echo: one"));
    let events = history(&second, &submitted.key).await;
    assert!(!names(&events).contains(&"turn.recovered"), "{events:#?}");
}

#[tokio::test]
async fn replies_are_pushed_in_order_and_settled() {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let mut parts = parts(Arc::new(MemoryStore::new()), Arc::new(EchoAgent::default()), |policy| {
        policy.window_ms = 0;
    });
    let facts = *channel_facts("sms").unwrap();
    let noted = Noted { facts, sent: Arc::clone(&sent), outcome: |_| DeliveryOutcome::Sent };
    parts.channels.insert("sms".to_owned(), Arc::new(noted));
    let gateway = started(parts).await;
    let long = "word ".repeat(60);
    let submitted = gateway.submit(says("alice", "sms", &long), true).await.unwrap();
    let mut watch = gateway.subscribe(&submitted.key).unwrap();
    submitted.follow.unwrap().await.unwrap();
    let delivered = loop {
        watch.changed().await;
        let events = history(&gateway, &submitted.key).await;
        let count = names(&events).iter().filter(|name| **name == "delivery.settled").count();
        if count == 2 {
            break sent.lock().unwrap().clone();
        }
    };
    let keys: Vec<&str> = delivered.iter().map(|part| part.idempotency_key.as_str()).collect();
    assert_eq!(keys, ["default:default:sms:dm:alice/4/0", "default:default:sms:dm:alice/4/1"]);
    assert!(delivered[0].text.starts_with("echo: word"));
}

#[tokio::test(start_paused = true)]
async fn an_ambiguous_send_is_parked_and_a_failed_one_retried() {
    static TRIES: AtomicU32 = AtomicU32::new(0);
    let sent = Arc::new(Mutex::new(Vec::new()));
    let mut parts = parts(Arc::new(MemoryStore::new()), Arc::new(EchoAgent::default()), |policy| {
        policy.window_ms = 0;
    });
    let outcome = |part: &turnkeep_core::ports::channel::Outgoing| match &*part.text {
        "echo: lost" => DeliveryOutcome::Unknown { error: "reset".into() },
        _ if TRIES.fetch_add(1, Ordering::Relaxed) == 0 => {
            DeliveryOutcome::Failed { error: "busy".into(), retry: true, retry_after_ms: None }
        }
        _ => DeliveryOutcome::Sent,
    };
    let facts = *channel_facts("sms").unwrap();
    let noted = Noted { facts, sent: Arc::clone(&sent), outcome };
    parts.channels.insert("sms".to_owned(), Arc::new(noted));
    let gateway = started(parts).await;
    let first = gateway.submit(says("alice", "sms", "lost"), true).await.unwrap();
    first.follow.unwrap().await.unwrap();
    answered(&gateway, says("alice", "sms", "again")).await;
    let mut watch = gateway.subscribe(&first.key).unwrap();
    let parts = loop {
        watch.changed().await;
        let parts = gateway.store().parts(&first.key, Default::default(), 10).await.unwrap();
        let states: Vec<_> = parts.iter().map(|part| part.state.as_str()).collect();
        if states == ["unknown", "sent"] {
            break parts;
        }
    };
    assert_eq!(parts[1].tries, 2);
    assert_eq!(sent.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn the_user_is_asked_and_answers() {
    let agent = scripted(|turn| async move {
        let answer = turn.handle.ask("which one?").await.unwrap();
        reply(&format!("you said {}", answer.body.text))
    });
    let gateway = started(parts(Arc::new(MemoryStore::new()), agent, |_| {})).await;
    let first = gateway.submit(says("alice", "api", "do it"), true).await.unwrap();
    let mut watch = gateway.subscribe(&first.key).unwrap();
    loop {
        watch.changed().await;
        if names(&history(&gateway, &first.key).await).contains(&"turn.waiting_for_input") {
            break;
        }
    }
    let second = gateway.submit(says("alice", "api", "the red one"), true).await.unwrap();
    assert_eq!(action(&second).0, Action::EventSent);
    let settled = second.follow.unwrap().await.unwrap();
    assert_eq!(settled.reply.as_deref(), Some("you said the red one"));
    assert_eq!(first.follow.unwrap().await.unwrap().turn, settled.turn);
    history(&gateway, &first.key).await;
}

#[tokio::test]
async fn sixteen_twins_are_one_message() {
    let (gateway, gate, begun) = busy(|_| {}).await;
    let twin = || turnkeep_gateway::Submission {
        message_id: Some("same".to_owned()),
        ..says("alice", "api", "once")
    };
    let sends = (0..16).map(|_| gateway.submit(twin(), true));
    let all: Vec<_> =
        futures_util::future::join_all(sends).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(all.iter().filter(|one| !one.decision.duplicate).count(), 1);
    begun.notified().await;
    gate.notify_one();
    let turn = all[0].decision.turn;
    for one in all {
        assert_eq!(one.decision.turn, turn);
        assert_eq!(one.follow.unwrap().await.unwrap().turn, turn);
    }
    let other = turnkeep_gateway::Submission { text: "other".to_owned(), ..twin() };
    assert!(gateway.submit(other, false).await.is_err());
}

#[tokio::test]
async fn a_refusal_that_may_not_be_retried_fails_at_once() {
    let agent = scripted(|_| async move { failure("no such model", false) });
    let gateway = started(parts(Arc::new(MemoryStore::new()), agent, |_| {})).await;
    let settled = answered(&gateway, says("alice", "api", "one")).await;
    assert_eq!(settled.error.as_deref(), Some("no such model"));
}
