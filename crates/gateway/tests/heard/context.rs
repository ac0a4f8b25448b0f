//! What was said in a group and not to the agent: the next turn reads the newest of it, and a new
//! conversation none.

use std::sync::Arc;

use turnkeep_core::ports::intake::{Chat, Heard};
use turnkeep_gateway::intake::routing::{Strangers, Trigger};

use super::{House, routing, says};
use crate::kit::{Scripted, reply, texts};

/// Answers with what it was told of the conversation.
pub(super) fn telling() -> Arc<Scripted> {
    Arc::new(Scripted(Box::new(|turn| {
        Box::pin(async move {
            let lines = turn.handle.history(100).await.unwrap();
            let lines: Vec<_> = lines.iter().map(|line| line.text.replace("bob: ", "")).collect();
            reply(&format!("{} after {}", texts(&turn.messages).join(","), lines.join(",")))
        })
    })))
}

fn there(number: usize, text: &str) -> Heard {
    let chat = Chat::Group { id: "g1".into(), title: None };
    Heard { chat, ..says("uuid-b", &format!("{number}-{text}"), text) }
}

async fn family() -> House {
    House::with(telling(), routing(Strangers::Deny, Trigger::Mention)).await
}

#[tokio::test]
async fn the_next_turn_reads_what_was_not_said_to_the_agent() {
    let house = family().await;
    for (number, text) in ["lunch?", "at one", "Turnkeep, where?"].iter().enumerate() {
        house.hear(there(number, text)).await;
    }
    assert_eq!(house.told(1).await, ["bob: Turnkeep, where? after lunch?,at one"]);
    house.hear(there(4, "soup")).await;
    house.hear(there(5, "Turnkeep, what?")).await;
    let before = "lunch?,at one,Turnkeep, where?,Turnkeep, where? after lunch?,at one";
    let expect = format!("bob: Turnkeep, what? after {before},soup");
    assert_eq!(house.told(2).await[1], expect);
    house.hear(there(6, "/new")).await;
    house.hear(there(7, "again")).await;
    house.hear(there(8, "Turnkeep, and now?")).await;
    let told = house.told(4).await;
    assert_eq!(told[2], "A new conversation begins.");
    assert_eq!(told[3], "bob: Turnkeep, and now? after again");
}

#[tokio::test]
async fn only_the_newest_of_it_is_read_and_it_crowds_nothing_out() {
    let house = family().await;
    house.hear(there(0, "Turnkeep, hello")).await;
    house.told(1).await;
    // More than the session's task remembers, so the journal is read.
    for number in 1..=150 {
        house.hear(there(number, &format!("l{number}"))).await;
    }
    house.hear(there(151, "Turnkeep, well?")).await;
    let told = house.told(2).await;
    let lines: Vec<&str> = told[1].split(',').collect();
    assert_eq!(lines.iter().filter(|line| line.starts_with('l')).count(), 50, "{told:?}");
    assert_eq!((lines.last(), lines.contains(&"l100")), (Some(&"l150"), false), "{told:?}");
    assert!(told[1].contains("hello after"), "{told:?}");
}
