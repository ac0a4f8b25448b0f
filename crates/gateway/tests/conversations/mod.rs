//! The conversation that an agent is told of: the same whether its session's task remembers it or the
//! journal is read, without what was erased, and begun by another agent where the chat is the same.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use turnkeep_core::moderation::{Moderation, Ruling};
use turnkeep_core::outbox::DeliveryOutcome;
use turnkeep_core::policy::channel_facts;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::care::Redaction;
use turnkeep_core::ports::moderator::{Checked, Checkup, Moderator};
use turnkeep_core::ports::store::DeadLetter;
use turnkeep_core::session::{Control, Controlled};
use turnkeep_core::{Policy, SessionKey};
use turnkeep_gateway::{Gateway, Policies, UnknownPart};
use turnkeep_stores::MemoryStore;

use crate::kit::{Noted, answered, failure, history, parts, reply, says, started, texts};
use crate::scripted;

/// Says what it was told of the conversation and what it answers; fails where it is told to.
fn telling(fails: &Arc<AtomicBool>) -> Arc<crate::kit::Scripted> {
    let fails = Arc::clone(fails);
    scripted(move |turn| {
        let fails = fails.load(Ordering::Relaxed);
        async move {
            if fails {
                return failure("not now", false);
            }
            let lines = turn.handle.history(100).await.unwrap();
            let lines: Vec<String> =
                lines.iter().map(|line| format!("{:?} {}", line.role, line.text)).collect();
            reply(&format!("[{}]+{}", lines.join(", "), texts(&turn.messages).join(",")))
        }
    })
}

async fn with_idle(idle_ms: u64, fails: &Arc<AtomicBool>) -> (Gateway, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::new());
    let mut parts = parts(store.clone(), telling(fails), |_| {});
    parts.settings.idle_ms = idle_ms;
    (started(parts).await, store)
}

async fn replied(gateway: &Gateway, text: &str) -> Option<String> {
    answered(gateway, says("alice", "api", text)).await.reply.map(|reply| reply.to_string())
}

/// A conversation with whatever may stand in one; its last reply holds all of it.
async fn conversation(idle_ms: u64) -> String {
    let fails = Arc::new(AtomicBool::new(false));
    let (gateway, _store) = with_idle(idle_ms, &fails).await;
    let key: SessionKey = "default:default:api:dm:alice".parse().unwrap();
    replied(&gateway, "one").await;
    gateway.control(&key, Control::New).await.unwrap();
    replied(&gateway, "two").await;
    fails.store(true, Ordering::Relaxed);
    replied(&gateway, "three").await;
    replied(&gateway, "four").await;
    fails.store(false, Ordering::Relaxed);
    replied(&gateway, "five").await;
    let letters = gateway.store().dead_letters(0, 10).await.unwrap();
    let DeadLetter { seq, group, trust, body, .. } = letters[0].2.clone();
    let retry = Control::Retry { seq, group, trust, body };
    let Controlled::Retried(decision) = gateway.control(&key, retry).await.unwrap() else {
        panic!("it was there")
    };
    gateway.follow(key.clone(), decision.seq.unwrap()).await.unwrap();
    gateway.control(&key, Control::OptIn(true)).await.unwrap();
    gateway.notify(says("alice", "api", "news")).await.unwrap();
    gateway.control(&key, Control::Pause { by: "Olga".into(), take_over: false }).await.unwrap();
    let waits = gateway.submit(says("alice", "api", "six"), true).await.unwrap();
    gateway.control(&key, Control::HandBack { by: "Olga".into() }).await.unwrap();
    waits.follow.unwrap().await.unwrap();
    let last = replied(&gateway, "seven").await.unwrap();
    history(&gateway, &key).await;
    last
}

#[tokio::test(start_paused = true)]
async fn what_a_task_remembers_is_what_the_journal_says() {
    let remembered = conversation(60_000).await;
    // Nothing of a task is left when the next message comes.
    let read = conversation(0).await;
    assert_eq!(remembered, read);
    for said in ["User two", "Agent []+two", "User four", "User three", "Agent news", "User six"] {
        assert!(read.contains(&format!("{said}, ")), "{said}: {read}");
    }
    assert!(!read.contains("one"), "{read}");
}

#[tokio::test(start_paused = true)]
async fn the_journal_is_not_read_for_what_is_remembered_and_what_is_erased_is_forgotten() {
    let fails = Arc::new(AtomicBool::new(false));
    let (gateway, _store) = with_idle(60_000, &fails).await;
    let key: SessionKey = "default:default:api:group:team".parse().unwrap();
    let by = |who: &str, text: &str| {
        let mut submission = says(who, "api", text);
        submission.session = Some(key.to_string());
        submission
    };
    answered(&gateway, by("bob", "of bob")).await;
    // Behind the gateway's back, so the task doesn't know.
    let events = gateway.store().events(&key, turnkeep_core::Seq(0), 100).await.unwrap();
    let places = events.iter().map(|event| event.seq).collect();
    let redaction = Redaction { key: key.clone(), places, turns: Vec::new() };
    gateway.care().redact(redaction).await.unwrap();
    let told = answered(&gateway, by("alice", "two")).await.reply.unwrap();
    assert!(told.contains("User of bob"), "the task remembers: {told}");
    gateway.erase("default", "bob", &|_| {}).await.unwrap();
    answered(&gateway, by("bob", "again of bob")).await;
    gateway.erase("default", "bob", &|_| {}).await.unwrap();
    let told = answered(&gateway, by("alice", "three")).await.reply.unwrap();
    assert!(!told.contains("again of bob"), "{told}");
    assert!(told.contains("two"), "{told}");
}

/// Two agents on one channel that is pushed to.
struct Two;

impl Policies for Two {
    fn policy(&self, _: &str, agent: &str, channel: &str) -> Result<Arc<Policy>, UnknownPart> {
        if !["first", "second"].contains(&agent) {
            return Err(UnknownPart::Agent);
        }
        let facts = channel_facts(channel).ok_or(UnknownPart::Channel)?;
        let mut policy = Policy { window_ms: 0, ..Policy::built_in(*facts) };
        // Replies leave at the pace of the real clock.
        policy.facts.out_per_minute = None;
        Ok(Arc::new(policy))
    }
}

async fn two_agents() -> Gateway {
    let fails = Arc::new(AtomicBool::new(false));
    let mut parts = parts(Arc::new(MemoryStore::new()), telling(&fails), |_| {});
    parts.agents.insert("first".to_owned(), scripted(|_| async { reply("well") }));
    parts.agents.insert("second".to_owned(), telling(&fails));
    let noted = Noted {
        facts: *channel_facts("signal").unwrap(),
        sent: Arc::new(Mutex::new(Vec::new())),
        outcome: |_| DeliveryOutcome::Sent,
    };
    parts.channels.insert("signal".to_owned(), Arc::new(noted));
    parts.policies = Arc::new(Two);
    started(parts).await
}

async fn asked(gateway: &Gateway, agent: &str, channel: &str, text: &str) -> String {
    let mut submission = says("alice", channel, text);
    submission.agent = Some(agent.to_owned());
    answered(gateway, submission).await.reply.unwrap().to_string()
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_new_to_a_chat_is_told_what_was_said_in_it() {
    let gateway = two_agents().await;
    asked(&gateway, "first", "signal", "one").await;
    let told = asked(&gateway, "second", "signal", "two").await;
    assert_eq!(told, "[User one, Agent well]+two");
    // From here on it has a conversation of its own.
    let told = asked(&gateway, "second", "signal", "three").await;
    assert_eq!(told, "[User two, Agent [User one, Agent well]+two]+three");
}

#[tokio::test(start_paused = true)]
async fn at_most_twenty_lines_are_taken_over() {
    let gateway = two_agents().await;
    for number in 0..15 {
        asked(&gateway, "first", "signal", &format!("#{number}")).await;
    }
    let told = asked(&gateway, "second", "signal", "two").await;
    assert_eq!(told.matches("Agent well").count(), 10, "{told}");
    assert!(
        told.starts_with("[User #5, ") && told.ends_with("User #14, Agent well]+two"),
        "{told}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_begun_anew_is_not_brought_back() {
    let gateway = two_agents().await;
    asked(&gateway, "first", "signal", "one").await;
    let second: SessionKey = "default:second:signal:dm:alice".parse().unwrap();
    gateway.control(&second, Control::OptIn(true)).await.unwrap();
    gateway.control(&second, Control::New).await.unwrap();
    assert_eq!(asked(&gateway, "second", "signal", "two").await, "[]+two", "begun anew here");
    let gateway = two_agents().await;
    asked(&gateway, "first", "signal", "one").await;
    let first: SessionKey = "default:first:signal:dm:alice".parse().unwrap();
    gateway.control(&first, Control::New).await.unwrap();
    asked(&gateway, "first", "signal", "two").await;
    let told = asked(&gateway, "second", "signal", "three").await;
    assert_eq!(told, "[User two, Agent well]+three", "begun anew there");
}

#[tokio::test(start_paused = true)]
async fn whoever_names_the_agent_gets_no_other_ones_conversation() {
    let gateway = two_agents().await;
    asked(&gateway, "first", "api", "one").await;
    assert_eq!(asked(&gateway, "second", "api", "two").await, "[]+two");
}

/// Lets everything through but what is rude.
struct Polite;

impl Moderator for Polite {
    fn check<'a>(&'a self, message: Checked<'a>) -> BoxFuture<'a, Result<Checkup, String>> {
        let rude = message.text.contains("rude");
        let ruling = if rude { Ruling::Refuse } else { Ruling::Allow };
        Box::pin(std::future::ready(Ok(Checkup { ruling, reason: None })))
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_let_through_is_told_to_no_agent() {
    for idle_ms in [60_000, 0] {
        let mut parts = parts(Arc::new(MemoryStore::new()), telling(&Arc::default()), |policy| {
            policy.moderation = Some(Moderation { timeout_ms: 5000, default: Ruling::Refuse });
        });
        parts.settings.idle_ms = idle_ms;
        parts.moderator = Some(Arc::new(Polite));
        let gateway = started(parts).await;
        assert_eq!(replied(&gateway, "one").await.as_deref(), Some("[]+one"));
        assert_eq!(replied(&gateway, "rude").await, None);
        let told = replied(&gateway, "two").await.unwrap();
        assert_eq!(told, "[User one, Agent []+one]+two", "{idle_ms}");
    }
}
