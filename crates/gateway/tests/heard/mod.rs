//! What adapters hear, through the way in that they are given: who it is, where it goes, what
//! becomes of it.

mod codes;
mod context;
mod disappear;
mod groups;
mod meddled;
mod models;
mod rates;
mod waiting;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use turnkeep_agents::EchoAgent;
use turnkeep_core::journal::EventBody;
use turnkeep_core::outbox::DeliveryOutcome;
use turnkeep_core::policy::channel_facts;
use turnkeep_core::ports::agent::Agent;
use turnkeep_core::ports::channel::{Channel, Outgoing};
use turnkeep_core::ports::intake::{Attachment, Chat, Heard, Person, Quoted, Said, Taken};
use turnkeep_core::{Event, Policy, Seq, SessionKey, SessionKind, Trust};
use turnkeep_gateway::intake::routing::{Account, Group, Routing, Strangers, Trigger, User};
use turnkeep_gateway::{Gateway, Parts, Settings};
use turnkeep_stores::MemoryStore;

use crate::kit::{Noted, history, names, parts, started};

/// Nothing here takes long; what does is broken.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway that hears, and what it sent.
pub(super) struct House {
    pub(super) gateway: Gateway,
    pub(super) sent: Arc<Mutex<Vec<Outgoing>>>,
}

pub(super) fn user(name: &str, trust: Trust, ids: &[&str]) -> User {
    let ids = ids.iter().map(|id| ("signal".into(), (*id).into())).collect();
    User { name: name.into(), tenant: "default".into(), trust, agent: None, ids }
}

pub(super) fn group(trigger: Trigger) -> Group {
    Group {
        name: "family".into(),
        tenant: "default".into(),
        channel: "signal".into(),
        id: "g1".into(),
        agent: None,
        trigger,
        names: vec!["Turnkeep".to_owned()],
        ceiling: Trust::Inner,
    }
}

/// Alice is the owner, the germans are familiar.
pub(super) fn routing(strangers: Strangers, trigger: Trigger) -> Routing {
    let account = Account {
        channel: "signal".into(),
        name: "home".into(),
        tenant: "default".into(),
        agent: "default".into(),
        strangers,
        stores_from: Trust::Familiar,
    };
    let users = vec![
        user("alice", Trust::Owner, &["uuid-a"]),
        user("bob", Trust::Familiar, &["uuid-b"]),
        user("germans", Trust::Familiar, &["+49*"]),
    ];
    Routing::new(vec![account], users, vec![group(trigger)])
}

impl House {
    pub(super) async fn new(strangers: Strangers) -> Self {
        Self::with(Arc::new(EchoAgent::default()), routing(strangers, Trigger::Mention)).await
    }

    pub(super) async fn with(agent: Arc<dyn Agent>, routing: Routing) -> Self {
        Self::over(Arc::new(MemoryStore::new()), agent, routing, |_| {}).await
    }

    pub(super) async fn over(
        store: Arc<MemoryStore>,
        agent: Arc<dyn Agent>,
        routing: Routing,
        change: fn(&mut Policy),
    ) -> Self {
        Self::built(store, agent, routing, change, |_| {}).await
    }

    pub(super) async fn built(
        store: Arc<MemoryStore>,
        agent: Arc<dyn Agent>,
        routing: Routing,
        change: fn(&mut Policy),
        alter: impl FnOnce(&mut Parts),
    ) -> Self {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let channel: Arc<dyn Channel> = Arc::new(Noted {
            facts: *channel_facts("signal").unwrap(),
            sent: Arc::clone(&sent),
            outcome: |_| DeliveryOutcome::Sent,
        });
        let mut parts = Parts {
            people: store.clone(),
            channels: [("signal".to_owned(), channel)].into(),
            ..parts(store, Arc::clone(&agent), change)
        };
        parts.agents.insert("judge".to_owned(), agent);
        parts.policies = Arc::new(NoWindow(change));
        parts.settings = Settings { routing: Arc::new(routing), ..parts.settings };
        alter(&mut parts);
        Self { gateway: started(parts).await, sent }
    }

    pub(super) async fn hear(&self, heard: Heard) -> Taken {
        self.gateway.intake().take(heard).await
    }

    /// Waits until so many parts were sent, and gives their texts.
    pub(super) async fn told(&self, count: usize) -> Vec<String> {
        let told = async {
            loop {
                let texts: Vec<String> =
                    self.sent.lock().unwrap().iter().map(|part| part.text.to_string()).collect();
                if texts.len() >= count {
                    return texts;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.unwrap()
    }

    pub(super) async fn events(&self, key: &SessionKey) -> Vec<Event> {
        history(&self.gateway, key).await
    }

    /// Waits until an event of this name stands in the journal.
    pub(super) async fn until(&self, key: &SessionKey, name: &str) {
        let seen = async {
            loop {
                let events = self.gateway.store().events(key, Seq(0), 10_000).await.unwrap();
                if events.iter().any(|event| event.body.name() == name) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.unwrap();
    }

    pub(super) async fn sessions(&self) -> Vec<String> {
        let all = self.gateway.store().sessions(None, None, 100).await.unwrap();
        all.iter().map(|(key, _)| key.to_string()).collect()
    }
}

/// Nobody is waited for, so that a test need not wait either.
struct NoWindow(fn(&mut Policy));

impl turnkeep_gateway::Policies for NoWindow {
    fn policy(
        &self,
        _: &str,
        _: &str,
        channel: &str,
    ) -> Result<Arc<Policy>, turnkeep_gateway::UnknownPart> {
        let facts = channel_facts(channel).ok_or(turnkeep_gateway::UnknownPart::Channel)?;
        let mut policy = Policy::built_in(*facts);
        policy.window_ms = 0;
        (self.0)(&mut policy);
        Ok(Arc::new(policy))
    }
}

pub(super) fn dm(peer: &str) -> SessionKey {
    SessionKey::new("default", "default", "signal", SessionKind::Dm, peer).unwrap()
}

pub(super) fn in_group() -> SessionKey {
    SessionKey::new("default", "default", "signal", SessionKind::Group, "g1").unwrap()
}

pub(super) fn from(id: &str, message_id: &str, said: Said) -> Heard {
    Heard {
        channel: "signal",
        account: "home".into(),
        chat: Chat::Direct,
        sender: Person { id: id.into(), also: Vec::new(), name: Some("Somebody".into()) },
        message_id: message_id.into(),
        sent_at: 4_102_444_800_000,
        disappears_s: None,
        said,
    }
}

pub(super) fn says(id: &str, message_id: &str, text: &str) -> Heard {
    from(id, message_id, message(text))
}

pub(super) fn message(text: &str) -> Said {
    Said::Message {
        text: text.into(),
        mentions_us: false,
        quoted: None,
        quotes_us: false,
        attachments: Vec::new(),
    }
}

fn accepted(events: &[Event]) -> Vec<(&str, &str, Trust)> {
    let each = events.iter().filter_map(|event| match &event.body {
        EventBody::MessageAccepted { sender, text, trust, .. } => {
            Some((&**sender, &**text, *trust))
        }
        _ => None,
    });
    each.collect()
}

#[tokio::test]
async fn who_somebody_is_decides_where_it_goes_and_how_far_they_are_trusted() {
    let house = House::new(Strangers::Public).await;
    let mut number = says("uuid-x", "1", "hallo");
    number.sender.also = vec!["+4930".into()];
    assert_eq!(house.hear(says("uuid-a", "1", "hello")).await, Taken::Accepted);
    assert_eq!(house.hear(number).await, Taken::Accepted);
    assert_eq!(house.hear(says("uuid-y", "1", "hi")).await, Taken::Accepted);
    let mut told = house.told(3).await;
    told.sort();
    assert_eq!(told, ["echo: hallo", "echo: hello", "echo: hi"]);
    let check = async |peer: &str, expect: (&str, &str, Trust)| {
        assert_eq!(accepted(&house.events(&dm(peer)).await), [expect]);
    };
    check("uuid-a", ("alice", "hello", Trust::Owner)).await;
    check("uuid-x", ("uuid-x", "hallo", Trust::Familiar)).await;
    check("uuid-y", ("uuid-y", "hi", Trust::Public)).await;
}

#[tokio::test]
async fn a_message_that_is_heard_twice_is_taken_once() {
    let house = House::new(Strangers::Deny).await;
    assert_eq!(house.hear(says("uuid-a", "1", "hello")).await, Taken::Accepted);
    assert_eq!(house.hear(says("uuid-a", "1", "hello")).await, Taken::Accepted);
    // What came along may be told in other words the second time.
    assert_eq!(house.hear(says("uuid-a", "1", "hello [photo]")).await, Taken::Accepted);
    // Another person's message of that id is another one.
    assert_eq!(house.hear(says("uuid-b", "1", "me too")).await, Taken::Accepted);
    assert_eq!(house.hear(says("uuid-a", "2", "more")).await, Taken::Accepted);
    house.told(3).await;
    let events = house.events(&dm("uuid-a")).await;
    let texts: Vec<&str> = accepted(&events).iter().map(|(_, text, _)| *text).collect();
    assert_eq!(texts, ["hello", "more"]);
}

#[tokio::test]
async fn an_account_that_nobody_configured_hears_nothing() {
    let house = House::new(Strangers::Public).await;
    let other = Heard { account: "work".into(), ..says("uuid-a", "1", "hello") };
    assert_eq!(house.hear(other).await, Taken::Ignored("no such account is configured"));
    assert_eq!(house.sessions().await, [""; 0]);
}

#[tokio::test]
async fn who_is_named_in_a_new_configuration_is_known_from_then_on() {
    let house = House::new(Strangers::Deny).await;
    assert_eq!(
        house.hear(says("uuid-c", "1", "hello")).await,
        Taken::Ignored("from somebody unknown")
    );
    let account = routing(Strangers::Deny, Trigger::Mention).account("signal", "home").cloned();
    let users = vec![user("carol", Trust::Full, &["uuid-c"])];
    let routing = Routing::new(account.into_iter().collect(), users, Vec::new());
    let replacement = turnkeep_gateway::Replacement {
        agents: [("default".to_owned(), Arc::new(EchoAgent::default()) as Arc<dyn Agent>)].into(),
        channels: std::collections::HashMap::new(),
        policies: Arc::new(NoWindow(|_| {})),
        guard: turnkeep_gateway::guard::GuardSettings::default(),
        moderator: None,
        listeners: Vec::new(),
        settings: Settings { routing: Arc::new(routing), ..Settings::default() },
    };
    house.gateway.replace(replacement).await.unwrap();
    assert_eq!(house.hear(says("uuid-c", "2", "hello")).await, Taken::Accepted);
    let gone = house.hear(says("uuid-a", "1", "hello")).await;
    assert_eq!(gone, Taken::Ignored("from somebody unknown"));
    house.until(&dm("uuid-c"), "turn.completed").await;
    assert_eq!(accepted(&house.events(&dm("uuid-c")).await), [("carol", "hello", Trust::Full)]);
}

#[tokio::test]
async fn what_comes_along_is_told() {
    let house = House::new(Strangers::Deny).await;
    let said = Said::Message {
        text: " \u{7} ".into(),
        mentions_us: false,
        quoted: Some(Quoted {
            message_id: "7".into(),
            author: "uuid-b".into(),
            text: "look at\nthis".into(),
        }),
        quotes_us: false,
        attachments: vec![Attachment {
            name: Some("photo.jpg".into()),
            media_type: "image/jpeg".into(),
            bytes: 120_000,
            hash: Some("ab".into()),
            left_out: None,
        }],
    };
    assert_eq!(house.hear(from("uuid-a", "1", said)).await, Taken::Accepted);
    let edit = Said::Edit { of: "1".into(), text: "better".into(), mentions_us: false };
    assert_eq!(house.hear(from("uuid-a", "2", edit)).await, Taken::Accepted);
    house.told(2).await;
    let events = house.events(&dm("uuid-a")).await;
    let texts: Vec<&str> = accepted(&events).iter().map(|(_, text, _)| *text).collect();
    assert_eq!(
        texts,
        [
            "> look at this\n[photo.jpg, image/jpeg, 120 kB, sha256 ab]",
            "(edit of an earlier message) better"
        ]
    );
}

#[tokio::test]
async fn what_says_nothing_is_ignored_and_what_is_too_long_is_answered() {
    let house = House::new(Strangers::Deny).await;
    let blank = house.hear(says("uuid-a", "1", "\u{200B}\u{202E} \u{7}\n")).await;
    assert_eq!(blank, Taken::Ignored("nothing was said"));
    assert_eq!(house.hear(says("uuid-a", "2", "")).await, Taken::Ignored("nothing was said"));
    assert_eq!(house.sessions().await, [""; 0]);
    let long = house.hear(says("uuid-a", "3", &"x".repeat(70_000))).await;
    assert_eq!(long, Taken::Refused("it is too long".into()));
    let told = house.told(1).await;
    assert!(told[0].contains("70000 bytes"), "{told:?}");
    // Heard again it is not told again.
    house.hear(says("uuid-a", "3", &"x".repeat(70_000))).await;
    let nameless = house.hear(says(&"x".repeat(200), "1", "hi")).await;
    assert!(matches!(nameless, Taken::Ignored(_)), "{nameless:?}");
    assert_eq!(names(&house.events(&dm("uuid-a")).await).len(), 3);
}

#[tokio::test]
async fn typing_and_foreign_signs_are_nothing_to_keep() {
    let house = House::new(Strangers::Deny).await;
    assert_eq!(house.hear(from("uuid-a", "1", Said::Typing)).await, Taken::Ignored("typing"));
    let sign = |to_us: bool, removed: bool| Said::Reaction {
        sign: "👍".into(),
        of: "1".into(),
        author: "uuid-z".into(),
        to_us,
        removed,
    };
    for (to_us, removed) in [(false, false), (true, true), (false, true)] {
        let taken = house.hear(from("uuid-a", "1", sign(to_us, removed))).await;
        assert!(matches!(taken, Taken::Ignored(_)), "{taken:?}");
    }
    assert_eq!(house.sessions().await, [""; 0]);
    // To one of ours, while nothing is asked: kept, and it starts nothing.
    assert_eq!(house.hear(from("uuid-a", "1", sign(true, false))).await, Taken::Accepted);
    assert_eq!(names(&house.events(&dm("uuid-a")).await), ["message.context"]);
}

#[tokio::test]
async fn attachments_are_stored_of_those_who_are_trusted() {
    let house = House::new(Strangers::Public).await;
    let intake = house.gateway.intake();
    let person = |id: &str| Person { id: id.into(), also: Vec::new(), name: None };
    let check = |chat: Chat, id: &str, expect: bool| {
        assert_eq!(intake.may_store("signal", "home", &chat, &person(id)), expect, "{id}");
    };
    let group = |id: &str| Chat::Group { id: id.into(), title: None };
    check(Chat::Direct, "uuid-a", true);
    check(Chat::Direct, "+4930", true);
    check(Chat::Direct, "uuid-x", false);
    check(group("g1"), "uuid-a", true);
    check(group("g1"), "uuid-x", false);
    check(group("elsewhere"), "uuid-a", false);
    assert!(!intake.may_store("signal", "work", &Chat::Direct, &person("uuid-a")));
}
