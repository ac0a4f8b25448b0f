//! Groups: what is for us, how far somebody is trusted there, what replies quote.

use std::sync::Arc;

use turnkeep_agents::EchoAgent;
use turnkeep_core::Trust;
use turnkeep_core::journal::EventBody;
use turnkeep_core::ports::intake::{Chat, Heard, Said, Taken};
use turnkeep_gateway::intake::routing::{Strangers, Trigger};

use super::{House, accepted, dm, from, in_group, message, routing, says};
use crate::kit::{Scripted, names, reply};

fn there(heard: Heard) -> Heard {
    let title = Some("Fam\u{202E}ily".into());
    Heard { chat: Chat::Group { id: "g1".into(), title }, ..heard }
}

fn mentions(text: &str) -> Said {
    match message(text) {
        Said::Message { text, quoted, quotes_us, attachments, .. } => {
            Said::Message { text, mentions_us: true, quoted, quotes_us, attachments }
        }
        other => other,
    }
}

#[tokio::test]
async fn what_is_not_for_us_is_kept_and_starts_nothing() {
    let house = House::new(Strangers::Deny).await;
    assert_eq!(house.hear(there(says("uuid-b", "1", "lunch?"))).await, Taken::Accepted);
    assert_eq!(house.hear(there(says("uuid-b", "1", "lunch?"))).await, Taken::Accepted);
    // Ids are of their senders: the same one of somebody else is another message.
    assert_eq!(house.hear(there(says("uuid-x", "1", "soon"))).await, Taken::Accepted);
    let asks = there(from("uuid-b", "2", mentions("@Turnkeep when is lunch?")));
    assert_eq!(house.hear(asks).await, Taken::Accepted);
    let told = house.told(1).await;
    assert_eq!(told, ["echo: bob: @Turnkeep when is lunch?"]);
    let events = house.events(&in_group()).await;
    assert_eq!(
        names(&events)[..4],
        ["message.context", "message.context", "message.accepted", "turn.started"]
    );
    let EventBody::MessageContext { text, sender, trust, .. } = &events[0].body else {
        panic!("{events:?}");
    };
    assert_eq!((&**text, &**sender, *trust), ("bob: lunch?", "bob", Trust::Familiar));
}

#[tokio::test]
async fn a_reply_in_a_group_quotes_what_it_answers() {
    let house = House::new(Strangers::Deny).await;
    let first = there(from("uuid-b", "111", mentions("Turnkeep: how are you?")));
    assert_eq!(house.hear(first).await, Taken::Accepted);
    house.told(1).await;
    let quote = house.sent.lock().unwrap()[0].quote.clone().unwrap();
    assert_eq!((&*quote.message_id, &*quote.author), ("111", "uuid-b"));
    assert_eq!(&*quote.text, "Turnkeep: how are you?");
    // A direct chat needs none.
    house.hear(says("uuid-b", "112", "hello")).await;
    house.told(2).await;
    assert_eq!(house.sent.lock().unwrap()[1].quote, None);
}

#[tokio::test]
async fn nobody_is_trusted_more_than_the_group_allows_nor_than_they_are() {
    let house = House::new(Strangers::Deny).await;
    for (id, message_id) in [("uuid-a", "1"), ("uuid-b", "2"), ("uuid-x", "3")] {
        let heard = there(from(id, message_id, mentions("hello")));
        assert_eq!(house.hear(heard).await, Taken::Accepted);
    }
    house.told(3).await;
    let events = house.events(&in_group()).await;
    assert_eq!(
        accepted(&events),
        [
            ("alice", "alice: hello", Trust::Inner),
            ("bob", "bob: hello", Trust::Familiar),
            ("uuid-x", "Somebody: hello", Trust::Public),
        ]
    );
}

#[tokio::test]
async fn nobody_is_called_like_somebody_else() {
    let house = House::new(Strangers::Deny).await;
    let says_as = async |message_id: &str, name: Option<&str>| {
        let mut heard = there(from("uuid-x", message_id, mentions("hello")));
        heard.sender.name = name.map(Arc::from);
        assert_eq!(house.hear(heard).await, Taken::Accepted);
    };
    says_as("1", Some("Ali\u{200B}ce")).await;
    says_as("2", Some("\u{202E}Carl: owner\n")).await;
    says_as("3", Some("\u{200B}")).await;
    says_as("4", None).await;
    house.told(4).await;
    let events = house.events(&in_group()).await;
    let texts: Vec<&str> = accepted(&events).iter().map(|(_, text, _)| *text).collect();
    assert_eq!(
        texts,
        ["Alice (somebody else): hello", "Carl owner: hello", "uuid-x: hello", "uuid-x: hello"]
    );
}

#[tokio::test]
async fn a_group_that_is_not_listed_is_not_heard() {
    let house = House::new(Strangers::Public).await;
    let elsewhere = Heard {
        chat: Chat::Group { id: "g2".into(), title: None },
        ..from("uuid-a", "1", mentions("hello"))
    };
    let taken = house.hear(elsewhere).await;
    assert_eq!(taken, Taken::Ignored("from a group that is not listed"));
    assert_eq!(house.sessions().await, [""; 0]);
    assert_eq!(house.gateway.store().load(&dm("uuid-a")).await, Ok(None));
}

#[tokio::test]
async fn an_agent_says_whether_something_is_for_us() {
    let agent = Scripted(Box::new(|turn| {
        let text = turn.messages[0].body.text.to_string();
        let asked = &*turn.session.agent() == "judge";
        Box::pin(async move {
            if !asked {
                return reply(&format!("heard {text}"));
            }
            reply(if text.contains("weather") { "Yes." } else { "no" })
        })
    }));
    let routing = routing(Strangers::Deny, Trigger::Llm("judge".into()));
    let house = House::with(Arc::new(agent), routing).await;
    for (message_id, text) in [("1", "see you"), ("2", "how is the weather?"), ("3", "bye")] {
        assert_eq!(house.hear(there(says("uuid-b", message_id, text))).await, Taken::Accepted);
    }
    assert_eq!(house.told(1).await, ["heard bob: how is the weather?"]);
    let house = House::with(
        Arc::new(EchoAgent::default()),
        super::routing(Strangers::Deny, Trigger::Llm("nobody".into())),
    )
    .await;
    // A mention is for us, whoever is asked otherwise.
    assert_eq!(house.hear(there(says("uuid-b", "1", "Turnkeep, hello"))).await, Taken::Accepted);
    assert_eq!(house.told(1).await, ["echo: bob: Turnkeep, hello"]);
}

#[tokio::test]
async fn always_and_patterns_need_no_mention() {
    let echo = || Arc::new(EchoAgent::default());
    let house = House::with(echo(), routing(Strangers::Deny, Trigger::Always)).await;
    house.hear(there(says("uuid-b", "1", "lunch?"))).await;
    assert_eq!(house.told(1).await, ["echo: bob: lunch?"]);
    let pattern = Trigger::regex("(?i)^bot").unwrap();
    let house = House::with(echo(), routing(Strangers::Deny, pattern)).await;
    house.hear(there(says("uuid-b", "1", "robot?"))).await;
    house.hear(there(says("uuid-b", "2", "Bot?"))).await;
    assert_eq!(house.told(1).await, ["echo: bob: Bot?"]);
    assert!(Trigger::regex("(").is_err());
}

#[tokio::test]
async fn a_command_in_a_group_needs_no_mention_and_may_have_one() {
    let house = House::new(Strangers::Deny).await;
    assert_eq!(house.hear(there(says("uuid-b", "1", "/help"))).await, Taken::Accepted);
    let with_mention = there(from("uuid-b", "2", mentions("@+4915100 /status")));
    assert_eq!(house.hear(with_mention).await, Taken::Accepted);
    assert_eq!(house.hear(there(says("uuid-b", "3", "/sessions"))).await, Taken::Accepted);
    let told = house.told(3).await;
    assert!(told[0].starts_with("/new begins"), "{told:?}");
    assert!(told[1].contains("Messages while I work: absorb"), "{told:?}");
    assert!(told[2].contains("alone"), "{told:?}");
    let events = house.events(&in_group()).await;
    let commands = names(&events).iter().filter(|name| **name == "message.command").count();
    assert_eq!(commands, 3);
    assert!(accepted(&events).is_empty(), "{events:?}");
}
