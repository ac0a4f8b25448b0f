//! Messages that disappear: their text and what was answered to them, wherever it stands.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, Semaphore, mpsc};
use turnkeep_agents::EchoAgent;
use turnkeep_core::care::fleeting::AGAIN_MS;
use turnkeep_core::listen::{Pattern, Selector};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::agent::Agent;
use turnkeep_core::ports::care::CareStore as _;
use turnkeep_core::ports::intake::{Chat, Heard, Said, Taken};
use turnkeep_core::ports::listeners::{Carried, Courier, Delivery, ListenerStore as _};
use turnkeep_core::session::{Control, Controlled};
use turnkeep_core::{SessionKey, Timestamp};
use turnkeep_gateway::intake::routing::{Strangers, Trigger};
use turnkeep_gateway::listeners::{Listener, ListenerParts};
use turnkeep_stores::MemoryStore;

use super::context::telling;
use super::meddled::{Between, Meddled};
use super::{House, dm, from, in_group, message, routing, says};
use crate::kit::{Scripted, failure, names, reply};

/// The chat's timer.
const MINUTE: u32 = 60;

fn fleeting(heard: Heard) -> Heard {
    Heard { disappears_s: Some(MINUTE), ..heard }
}

fn there(heard: Heard) -> Heard {
    Heard { chat: Chat::Group { id: "g1".into(), title: None }, ..heard }
}

/// Every text that is left of a session.
async fn left(house: &House, key: &SessionKey) -> String {
    let events = serde_json::to_string(&house.events(key).await).unwrap();
    let parts = house.gateway.store().parts(key, (turnkeep_core::Seq(0), 0), 100).await.unwrap();
    let parts: Vec<&str> = parts.iter().map(|part| &*part.text).collect();
    let turns = house.gateway.store().turns(key, None, 100).await.unwrap();
    let letters = house.gateway.care().letters(key).await.unwrap();
    format!("{events} {parts:?} {turns:?} {letters:?}")
}

/// When everything is over that was said until now.
async fn later(house: &House, key: &SessionKey) -> Timestamp {
    let events = house.events(key).await;
    events.last().unwrap().at + i64::from(MINUTE) * 1000
}

#[tokio::test]
async fn what_disappears_takes_its_answer_along_and_nothing_else() {
    let house = House::with(telling(), routing(Strangers::Deny, Trigger::Mention)).await;
    let key = dm("uuid-a");
    assert_eq!(house.hear(fleeting(says("uuid-a", "1", "sesame"))).await, Taken::Accepted);
    house.told(1).await;
    assert_eq!(house.hear(says("uuid-a", "2", "it stays")).await, Taken::Accepted);
    house.told(2).await;
    house.until(&key, "delivery.settled").await;
    let events = house.events(&key).await;
    // Nothing before its time: it counts from when it was taken.
    let before = events[0].at + i64::from(MINUTE) * 1000 - 1;
    assert_eq!(house.gateway.disappear(before).await.unwrap(), 0);
    assert!(left(&house, &key).await.contains("sesame after"));
    let now = later(&house, &key).await;
    assert_eq!(house.gateway.disappear(now).await.unwrap(), 2);
    let rest = left(&house, &key).await;
    // What the agent made of it later, in a message that has no timer, is another matter.
    let quoted = "it stays after sesame,sesame after";
    assert!(!rest.replace(quoted, "").contains("sesame") && rest.contains("it stays"), "{rest}");
    assert_eq!(house.gateway.disappear(now + 1).await.unwrap(), 0, "it is done with");
    assert!(house.gateway.care().disappearing(Timestamp::MAX, 9).await.unwrap().is_empty());
    // And whoever answers next sees none of it.
    house.hear(says("uuid-a", "3", "what was it?")).await;
    let told = house.told(3).await;
    assert_eq!(told[2], "what was it? after it stays,it stays after sesame,sesame after");
}

#[tokio::test]
async fn commands_context_and_their_answers_disappear_too() {
    let house = House::new(Strangers::Deny).await;
    let key = in_group();
    house.hear(fleeting(there(says("uuid-b", "1", "the key is under the mat")))).await;
    house.hear(fleeting(there(says("uuid-b", "2", "/status")))).await;
    house.until(&key, "session.notice").await;
    house.told(1).await;
    house.until(&key, "delivery.settled").await;
    assert!(left(&house, &key).await.contains("Messages while I work"));
    let now = later(&house, &key).await;
    assert_eq!(house.gateway.disappear(now).await.unwrap(), 3);
    let rest = left(&house, &key).await;
    for text in ["under the mat", "/status", "Messages while I work", "bob"] {
        assert!(!rest.contains(text), "{text}: {rest}");
    }
    assert_eq!(names(&house.events(&key).await)[..2], ["message.context", "message.command"]);
}

#[tokio::test]
async fn an_open_turn_keeps_what_it_answers() {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&begun), Arc::clone(&go));
    let agent = Scripted(Box::new(move |turn| {
        let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
        Box::pin(async move {
            tell.notify_one();
            wait.notified().await;
            reply(&turn.messages[0].body.text)
        })
    }));
    let house = House::with(Arc::new(agent), routing(Strangers::Deny, Trigger::Mention)).await;
    let key = dm("uuid-a");
    house.hear(fleeting(says("uuid-a", "1", "sesame"))).await;
    begun.notified().await;
    let over = later(&house, &key).await;
    assert_eq!(house.gateway.disappear(over).await.unwrap(), 0);
    assert!(left(&house, &key).await.contains("sesame"));
    go.notify_one();
    house.until(&key, "delivery.settled").await;
    assert_eq!(house.told(1).await, ["sesame"]);
    // Put off by a minute, and the answer has a minute of its own.
    let now = later(&house, &key).await + 2 * 60_000;
    assert_eq!(house.gateway.disappear(now).await.unwrap(), 2);
    assert!(!left(&house, &key).await.contains("sesame"));
}

#[tokio::test]
async fn a_dead_letter_goes_with_its_text() {
    let agent = Scripted(Box::new(|_| Box::pin(async { failure("the sesame burnt", false) })));
    let house = House::with(Arc::new(agent), routing(Strangers::Deny, Trigger::Mention)).await;
    let key = dm("uuid-a");
    house.hear(fleeting(says("uuid-a", "1", "sesame"))).await;
    house.until(&key, "turn.failed").await;
    assert!(left(&house, &key).await.contains("sesame burnt"));
    let shown = || {
        let row = house.gateway.switchboard().by_key(&key).unwrap();
        row.waiting.as_ref().map(|waiting| waiting.text.to_string())
    };
    assert_eq!(shown().as_deref(), Some("the sesame burnt"));
    let now = later(&house, &key).await;
    house.gateway.disappear(now).await.unwrap();
    let no_words = || shown().unwrap_or_default().is_empty();
    assert!(no_words(), "nor does the switchboard show it");
    house.gateway.board_find_out().await;
    assert!(no_words());
    assert!(!left(&house, &key).await.contains("sesame"), "{}", left(&house, &key).await);
    assert!(names(&house.events(&key).await).contains(&"message.discarded"));
}

#[tokio::test]
async fn an_edit_and_a_sign_have_the_timer_of_their_chat() {
    let house = House::new(Strangers::Deny).await;
    let edit = Said::Edit { of: "1".into(), text: "better".into(), mentions_us: false };
    house.hear(fleeting(from("uuid-a", "2", edit))).await;
    house.hear(fleeting(from("uuid-b", "2", message("hi")))).await;
    let due = house.gateway.care().disappearing(Timestamp::MAX, 9).await.unwrap();
    assert_eq!(due.len(), 2);
    assert!(due.iter().all(|row| row.seconds == MINUTE), "{due:?}");
}

/// A house over a store that is disturbed.
async fn meddled(meddled: Meddled, agent: Arc<dyn Agent>) -> House {
    let store = Arc::new(meddled.memory.clone());
    let routing = routing(Strangers::Deny, Trigger::Mention);
    House::built(store, agent, routing, |_| {}, |parts| parts.care = Arc::new(meddled)).await
}

#[tokio::test]
async fn a_session_that_can_not_be_read_keeps_nobody_else() {
    let (memory, at_letters) = (MemoryStore::new(), Mutex::default());
    let unreadable = Some(dm("uuid-a"));
    let broken = Meddled { memory: memory.clone(), unreadable, at_letters };
    let house = meddled(broken, Arc::new(EchoAgent::default())).await;
    for peer in ["uuid-a", "uuid-b"] {
        house.hear(fleeting(says(peer, "1", "sesame"))).await;
        house.until(&dm(peer), "delivery.settled").await;
    }
    let now = later(&house, &dm("uuid-b")).await;
    assert_eq!(house.gateway.disappear(now).await.unwrap(), 2);
    let texts = async |peer: &str| {
        let events = house.events(&dm(peer)).await;
        serde_json::to_string(&events).unwrap().matches("sesame").count()
    };
    assert_eq!((texts("uuid-a").await, texts("uuid-b").await), (2, 0));
    // Nobody looks at it every second.
    let due = memory.disappearing(Timestamp::MAX, 9).await.unwrap();
    assert_eq!((due.len(), due[0].due_at), (1, now + 3_600_000));
}

#[tokio::test]
async fn what_is_tried_again_meanwhile_goes_too() {
    let tries = AtomicU32::new(0);
    let agent = Scripted(Box::new(move |turn| {
        let first = tries.fetch_add(1, Ordering::SeqCst) == 0;
        Box::pin(async move {
            if first { failure("no", false) } else { reply(&turn.messages[0].body.text) }
        })
    }));
    let (memory, between) = (MemoryStore::new(), Between::default());
    let at_letters = Mutex::new(Some(between.clone()));
    let meddled_with = Meddled { memory: memory.clone(), unreadable: None, at_letters };
    let house = meddled(meddled_with, Arc::new(agent)).await;
    let key = dm("uuid-a");
    house.hear(fleeting(says("uuid-a", "1", "sesame"))).await;
    house.until(&key, "turn.failed").await;
    let now = later(&house, &key).await;
    let operator = async {
        between.reached.notified().await;
        let letter = memory.letters(&key).await.unwrap().remove(0);
        let group = turnkeep_core::TurnGroupId(turnkeep_gateway::clock::fresh_uuid());
        let (seq, trust) = (letter.seq, letter.trust);
        let retry = Control::Retry { seq, group, trust, body: letter.body };
        let retried = house.gateway.control(&key, retry).await.unwrap();
        assert!(matches!(retried, Controlled::Retried(_)), "{retried:?}");
        house.until(&key, "turn.completed").await;
        between.go.notify_one();
    };
    let (gone, ()) = tokio::join!(house.gateway.disappear(now), operator);
    assert!(gone.unwrap() > 0);
    assert!(left(&house, &key).await.contains("sesame"), "its copy was not there to be seen");
    let due = memory.disappearing(Timestamp::MAX, 9).await.unwrap();
    assert_eq!((due.len(), due[0].due_at), (1, now + AGAIN_MS));
    let now = later(&house, &key).await.max(now + AGAIN_MS);
    house.gateway.disappear(now).await.unwrap();
    assert!(!left(&house, &key).await.contains("sesame"), "{}", left(&house, &key).await);
    assert!(memory.disappearing(Timestamp::MAX, 9).await.unwrap().is_empty());
}

/// Waits with its answers until it may.
struct Slow {
    arrived: mpsc::UnboundedSender<String>,
    permits: Arc<Semaphore>,
}

impl Courier for Slow {
    fn carry(&self, delivery: Delivery) -> BoxFuture<'_, Carried> {
        Box::pin(async move {
            self.arrived.send(String::from_utf8(delivery.body).unwrap()).unwrap();
            self.permits.acquire().await.unwrap().forget();
            Carried::Delivered
        })
    }
}

#[tokio::test]
async fn a_slow_listener_is_not_told_what_has_disappeared() {
    let (memory, key) = (MemoryStore::new(), dm("uuid-a"));
    memory.enrol(vec!["crm".to_owned()], turnkeep_gateway::clock::now(), 0).await.unwrap();
    let (agent, strangers) = (Arc::new(EchoAgent::default()), Strangers::Deny);
    let routed = || routing(strangers, Trigger::Mention);
    let house = House::over(Arc::new(memory.clone()), agent.clone(), routed(), |_| {}).await;
    for (number, text) in ["one", "two", "three"].into_iter().enumerate() {
        house.hear(says("uuid-a", &number.to_string(), text)).await;
        house.told(number + 1).await;
    }
    house.hear(fleeting(says("uuid-a", "9", "sesame"))).await;
    house.told(4).await;
    let settled = async || {
        let events = house.events(&key).await;
        names(&events).iter().filter(|name| **name == "delivery.settled").count()
    };
    while settled().await < 4 {
        tokio::task::yield_now().await;
    }
    let (now, count) = (later(&house, &key).await, house.events(&key).await.len());
    house.gateway.drain().await;
    let store = Arc::new(memory.reopen());
    let (arrived, mut got) = mpsc::unbounded_channel();
    let permits = Arc::new(Semaphore::new(0));
    let pattern = Pattern::of(["*"]).unwrap();
    let crm = Listener {
        name: "crm".to_owned(),
        selector: Selector { pattern, tenant: None, agent: None },
        pattern: vec!["*".to_owned()],
        include_text: true,
        receiver: "https://receiver.example".to_owned(),
        courier: Arc::new(Slow { arrived, permits: Arc::clone(&permits) }),
    };
    let listeners = ListenerParts { store: store.clone(), listeners: vec![crm] };
    let house =
        House::built(store, agent, routed(), |_| {}, |parts| parts.listeners = listeners).await;
    // It has these in its hands; the pump holds the rest.
    let mut told = String::new();
    for _ in 0..8 {
        told += &got.recv().await.unwrap();
    }
    assert_eq!(house.gateway.disappear(now).await.unwrap(), 2);
    permits.add_permits(count);
    for _ in 8..count {
        told += &got.recv().await.unwrap();
    }
    assert!(told.contains("three") && !told.contains("sesame"), "{told}");
}
