//! Strangers, codes, and commands in direct chats.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use turnkeep_agents::EchoAgent;
use turnkeep_core::ports::agent::Agent;
use turnkeep_core::ports::intake::{Said, Taken};
use turnkeep_core::{Policy, Trust};
use turnkeep_gateway::intake::routing::{Strangers, Trigger};
use turnkeep_gateway::{MadePairing, NewPairing};
use turnkeep_stores::MemoryStore;

use super::{House, accepted, dm, from, routing, says};
use crate::kit::{Scripted, names, reply};

fn wanted(user: &str, trust: Option<Trust>) -> NewPairing {
    let lasts = Duration::from_secs(60);
    NewPairing { tenant: "default".into(), user: user.into(), trust, lasts }
}

async fn code(house: &House, user: &str) -> MadePairing {
    house.gateway.make_pairing(wanted(user, None)).await.unwrap()
}

#[tokio::test]
async fn a_stranger_is_not_answered_where_nobody_wants_so() {
    let house = House::new(Strangers::Deny).await;
    let made = code(&house, "carol").await;
    for text in ["hello", "abcd-efgh", made.code.as_str()] {
        let taken = house.hear(says("uuid-x", text, text)).await;
        assert_eq!(taken, Taken::Ignored("from somebody unknown"), "{text}");
    }
    assert_eq!(house.sessions().await, [""; 0]);
}

#[tokio::test]
async fn a_stranger_is_asked_for_a_code_once_a_day() {
    let store = Arc::new(MemoryStore::new());
    let echo: Arc<dyn Agent> = Arc::new(EchoAgent::default());
    let house = || {
        let routing = routing(Strangers::Pair, Trigger::Mention);
        House::over(Arc::clone(&store), Arc::clone(&echo), routing, |_| {})
    };
    let first = house().await;
    for message_id in ["1", "2", "3"] {
        let taken = first.hear(says("uuid-x", message_id, "a secret of mine")).await;
        assert!(!matches!(taken, Taken::Accepted | Taken::Unavailable(_)), "{taken:?}");
    }
    assert_eq!(
        first.told(1).await,
        ["I don't know you yet. Ask whoever runs this for a code, and send it here."]
    );
    first.gateway.drain().await;
    // Who is asked again after a restart was asked already.
    let again = House::over(
        Arc::new(store.reopen()),
        Arc::clone(&echo),
        routing(Strangers::Pair, Trigger::Mention),
        |_| {},
    )
    .await;
    again.hear(says("uuid-x", "4", "hello?")).await;
    let events = again.events(&dm("uuid-x")).await;
    let notices = names(&events).iter().filter(|name| **name == "session.notice").count();
    assert_eq!(notices, 1, "{events:?}");
    assert!(!format!("{events:?}").contains("a secret of mine"));
}

#[tokio::test]
async fn a_code_makes_somebody_known_once() {
    let house = House::new(Strangers::Pair).await;
    let made = code(&house, "carol").await;
    let shouted = made.code.to_uppercase().replace('-', " ");
    assert_eq!(house.hear(says("uuid-x", "1", &shouted)).await, Taken::Accepted);
    assert_eq!(house.told(1).await, ["Hello carol, I know you now. What can I do for you?"]);
    assert_eq!(house.hear(says("uuid-x", "2", "hello")).await, Taken::Accepted);
    assert_eq!(house.told(2).await[1], "echo: hello");
    // Heard again, after a reconnect, it is no message to the agent, and no second greeting.
    assert_eq!(house.hear(says("uuid-x", "1", &made.code)).await, Taken::Accepted);
    // For anybody else it is a wrong one.
    let other = house.hear(says("uuid-y", "1", &made.code)).await;
    assert_eq!(other, Taken::Refused("a wrong code".into()));
    let events = house.events(&dm("uuid-x")).await;
    assert_eq!(accepted(&events), [("carol", "hello", Trust::Familiar)]);
    let journal = format!("{events:?}").to_lowercase();
    assert!(!journal.contains(&made.code.replace('-', "")) && !journal.contains(&made.code));
    let pairings = house.gateway.pairings();
    assert_eq!(pairings.len(), 1);
    assert_eq!(&*pairings[0].with.as_ref().unwrap().person, "uuid-x");
    // Once it is ended they are a stranger again.
    assert!(house.gateway.end_pairing(&made.pairing.id).await.unwrap());
    assert!(!house.gateway.end_pairing(&made.pairing.id).await.unwrap());
    let taken = house.hear(says("uuid-x", "3", "hello?")).await;
    assert!(!matches!(taken, Taken::Accepted), "{taken:?}");
}

#[tokio::test]
async fn whoever_is_known_stays_known_after_a_restart() {
    let store = Arc::new(MemoryStore::new());
    let echo: Arc<dyn Agent> = Arc::new(EchoAgent::default());
    let over = |store: MemoryStore| {
        let routing = routing(Strangers::Pair, Trigger::Mention);
        House::over(Arc::new(store), Arc::clone(&echo), routing, |_| {})
    };
    let first = over((*store).clone()).await;
    let made = code(&first, "carol").await;
    first.hear(says("uuid-x", "1", &made.code)).await;
    first.gateway.drain().await;
    let again = over(store.reopen()).await;
    assert_eq!(again.hear(says("uuid-x", "2", "hello")).await, Taken::Accepted);
    let told = again.told(1).await;
    assert!(told.contains(&"echo: hello".to_owned()), "{told:?}");
}

#[tokio::test]
async fn guesses_are_few() {
    let house = House::new(Strangers::Pair).await;
    let made = code(&house, "carol").await;
    for guess in 0..5 {
        let taken = house.hear(says("uuid-x", &format!("{guess}"), "aaaa-aaaa")).await;
        assert_eq!(taken, Taken::Refused("a wrong code".into()));
    }
    // The right one comes too late.
    let taken = house.hear(says("uuid-x", "9", &made.code)).await;
    assert_eq!(taken, Taken::Ignored("too many wrong codes"));
    assert_eq!(house.told(5).await.len(), 5);
    // Others may still guess, until there were fifty.
    for stranger in 0..45 {
        let id = format!("uuid-{stranger}");
        let taken = house.hear(says(&id, "1", "bbbb-bbbb")).await;
        assert_eq!(taken, Taken::Refused("a wrong code".into()), "{id}");
    }
    let taken = house.hear(says("uuid-z", "1", &made.code)).await;
    assert_eq!(taken, Taken::Ignored("too many wrong codes"));
}

#[tokio::test]
async fn a_code_that_is_too_old_opens_nothing() {
    let house = House::new(Strangers::Pair).await;
    let old = NewPairing { lasts: Duration::ZERO, ..wanted("carol", None) };
    let made = house.gateway.make_pairing(old).await.unwrap();
    let taken = house.hear(says("uuid-x", "1", &made.code)).await;
    assert_eq!(taken, Taken::Refused("a wrong code".into()));
    assert_eq!(house.told(1).await, ["This code is not right, or it is too old."]);
}

#[tokio::test]
async fn whom_the_configuration_names_needs_no_code() {
    let house = House::new(Strangers::Pair).await;
    let made = code(&house, "carol").await;
    assert_eq!(house.hear(says("uuid-a", "1", &made.code)).await, Taken::Accepted);
    assert!(house.told(1).await[0].contains("I know you already"));
    assert!(house.gateway.pairings()[0].with.is_none());
    // What looks like a code and is none is a message of theirs.
    assert_eq!(house.hear(says("uuid-a", "2", "standard")).await, Taken::Accepted);
    assert_eq!(house.told(2).await[1], "echo: standard");
}

#[tokio::test]
async fn trust_is_the_configurations_where_it_knows_the_user() {
    let house = House::new(Strangers::Pair).await;
    let refused = house.gateway.make_pairing(wanted("bob", Some(Trust::Full))).await.unwrap_err();
    assert!(refused.to_string().contains("familiar"), "{refused}");
    let made = house.gateway.make_pairing(wanted("bob", None)).await.unwrap();
    assert_eq!(made.pairing.trust, Trust::Familiar);
    let made = house.gateway.make_pairing(wanted("dora", Some(Trust::Full))).await.unwrap();
    assert_eq!(made.pairing.trust, Trust::Full);
    assert!(!format!("{made:?}").contains(&made.code));
}

/// An agent that works until it is let.
fn gated(gate: &Arc<Notify>) -> Arc<Scripted> {
    let gate = Arc::clone(gate);
    Arc::new(Scripted(Box::new(move |_| {
        let gate = Arc::clone(&gate);
        Box::pin(async move {
            gate.notified().await;
            reply("done")
        })
    })))
}

async fn at_work(gate: &Arc<Notify>, change: fn(&mut Policy)) -> House {
    let routing = routing(Strangers::Deny, Trigger::Mention);
    let house = House::over(Arc::new(MemoryStore::new()), gated(gate), routing, change).await;
    assert_eq!(house.hear(says("uuid-a", "0", "work")).await, Taken::Accepted);
    house.until(&dm("uuid-a"), "turn.processing").await;
    house
}

#[tokio::test]
async fn commands_are_answered_while_a_turn_runs() {
    let gate = Arc::new(Notify::new());
    let house = at_work(&gate, |_| {}).await;
    for (message_id, text) in
        [("1", "/status"), ("2", "/MODEL"), ("3", "/sessions"), ("4", "/queue"), ("5", "/help")]
    {
        assert_eq!(house.hear(says("uuid-a", message_id, text)).await, Taken::Accepted);
        // And once only.
        assert_eq!(house.hear(says("uuid-a", message_id, text)).await, Taken::Accepted);
    }
    let told = house.told(5).await;
    let worked = told[0].strip_prefix("I have been working for ").unwrap();
    let (seconds, _) = worked.split_once(" s.").unwrap();
    assert!(seconds.parse::<u64>().is_ok(), "{told:?}");
    assert!(told[1].starts_with("The agent default answers here (scripted)."), "{told:?}");
    assert!(told[2].starts_with("default on signal: I have been working"), "{told:?}");
    assert!(told[3].ends_with("Now it is absorb."), "{told:?}");
    assert!(told[4].starts_with("/new begins"), "{told:?}");
    assert_eq!(house.hear(says("uuid-a", "6", "/stop")).await, Taken::Accepted);
    assert_eq!(house.hear(says("uuid-a", "7", "/unknown")).await, Taken::Accepted);
    house.told(6).await;
    gate.notify_one();
    house.told(7).await;
    let events = house.events(&dm("uuid-a")).await;
    let texts: Vec<&str> = accepted(&events).iter().map(|(_, text, _)| *text).collect();
    assert_eq!(texts, ["work", "/unknown"]);
    let count = |name: &str| names(&events).iter().filter(|other| **other == name).count();
    assert_eq!((count("message.command"), count("turn.cancelled")), (6, 1));
}

#[tokio::test]
async fn a_full_inbox_is_told_and_not_more_than_once_a_minute() {
    let gate = Arc::new(Notify::new());
    let change = |policy: &mut Policy| {
        (policy.inbox_max, policy.busy) = (1, turnkeep_core::BusyPolicy::Collect);
    };
    let house = at_work(&gate, change).await;
    assert_eq!(house.hear(says("uuid-a", "1", "one")).await, Taken::Accepted);
    for message_id in ["2", "3", "4"] {
        let taken = house.hear(says("uuid-a", message_id, "more")).await;
        assert_eq!(taken, Taken::Refused("queue_full".into()));
    }
    assert!(house.told(1).await[0].starts_with("Too many of your messages wait already."));
    gate.notify_one();
    gate.notify_one();
    house.until(&dm("uuid-a"), "turn.completed").await;
    let events = house.events(&dm("uuid-a")).await;
    let notices = names(&events).iter().filter(|name| **name == "session.notice").count();
    assert_eq!(notices, 1);
}

#[tokio::test]
async fn a_thumb_answers_what_was_asked_before_it() {
    let agent = Scripted(Box::new(|turn| {
        Box::pin(async move {
            let answer = turn.handle.ask("Shall I?").await.unwrap();
            reply(&format!("you said {}", answer.body.text))
        })
    }));
    let house = House::with(Arc::new(agent), routing(Strangers::Deny, Trigger::Mention)).await;
    assert_eq!(house.hear(says("uuid-a", "0", "do it")).await, Taken::Accepted);
    house.until(&dm("uuid-a"), "turn.waiting_for_input").await;
    let sign = |sign: &str, of: String| Said::Reaction {
        sign: sign.into(),
        of: of.into(),
        author: "us".into(),
        to_us: true,
        removed: false,
    };
    // The question has left.
    house.until(&dm("uuid-a"), "delivery.settled").await;
    let events = house.events(&dm("uuid-a")).await;
    let at = |name: &str| events.iter().find(|event| event.body.name() == name).unwrap().at;
    let (asked, left) = (at("turn.waiting_for_input"), at("delivery.settled"));
    // A sign to something before it or behind it, or no yes and no no, answers nothing.
    let old = sign("👍", (asked - 1000).to_string());
    assert_eq!(house.hear(from("uuid-a", "1", old)).await, Taken::Accepted);
    let other = sign("👍", (left + 1).to_string());
    assert_eq!(house.hear(from("uuid-a", "2", other)).await, Taken::Accepted);
    let heart = sign("❤️", left.to_string());
    assert_eq!(house.hear(from("uuid-a", "3", heart)).await, Taken::Accepted);
    let thumb = sign("👎🏽", left.to_string());
    assert_eq!(house.hear(from("uuid-a", "4", thumb)).await, Taken::Accepted);
    assert_eq!(house.told(2).await, ["Shall I?", "you said no"]);
    let events = house.events(&dm("uuid-a")).await;
    let kept = names(&events).iter().filter(|name| **name == "message.context").count();
    assert_eq!(kept, 3);
}
