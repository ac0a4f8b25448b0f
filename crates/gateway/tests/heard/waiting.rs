//! A turn that waits for its user, and those behind it; and what people of different trust may do in a
//! group.

use std::sync::Arc;

use turnkeep_core::policy::BusyPolicy;
use turnkeep_core::ports::intake::{Chat, Heard};
use turnkeep_gateway::intake::routing::{Strangers, Trigger};

use super::{House, dm, in_group, routing, says};
use crate::kit::{Scripted, reply};

fn there(heard: Heard) -> Heard {
    Heard { chat: Chat::Group { id: "g1".into(), title: None }, ..heard }
}

/// Asks which one before it answers.
fn asking() -> Arc<Scripted> {
    Arc::new(Scripted(Box::new(|turn| {
        Box::pin(async move {
            let answer = turn.handle.ask("Which one,\nthe red one?").await.unwrap();
            reply(&format!("{} it is", answer.body.text))
        })
    })))
}

#[tokio::test]
async fn who_waits_behind_a_question_is_told_which_one_it_is() {
    let house = House::with(asking(), routing(Strangers::Deny, Trigger::Always)).await;
    house.hear(there(says("uuid-b", "1", "buy it"))).await;
    house.until(&in_group(), "turn.waiting_for_input").await;
    // Somebody who is trusted otherwise can't answer it, so they wait.
    house.hear(there(says("uuid-a", "2", "and bread"))).await;
    house.told(1).await;
    house.hear(there(says("uuid-a", "3", "/status"))).await;
    let status = house.told(2).await.remove(1);
    assert!(status.contains("waits for an answer to: Which one, the red one?"), "{status}");
    assert!(status.contains("One message waits."), "{status}");
    house.hear(there(says("uuid-a", "4", "/queue"))).await;
    let queue = house.told(3).await.remove(2);
    let expect = "\nThe open turn waits for an answer to: Which one, the red one?";
    assert!(queue.ends_with(expect), "{queue}");
    house.hear(there(says("uuid-b", "5", "the blue one"))).await;
    house.told(4).await;
    house.hear(says("uuid-a", "6", "/queue")).await;
    let alone = house.told(6).await;
    assert!(alone.iter().any(|text| text.ends_with("Now it is absorb.")), "{alone:?}");
}

#[tokio::test]
async fn what_a_familiar_user_may_do_in_a_group() {
    let agent = Arc::new(Scripted(Box::new(|_| Box::pin(std::future::pending()))));
    let house = House::with(agent, routing(Strangers::Public, Trigger::Always)).await;
    let beyond =
        "Not done: in this group that is for somebody who is trusted further than you are.";
    let mut count = 0;
    let mut say = async |who: &str, text: &str| {
        count += 1;
        house.hear(there(says(who, &format!("m{count}"), text))).await;
    };
    let mut answers = Vec::new();
    // Nothing is open: somebody familiar may, anybody may not.
    say("uuid-b", "/queue collect").await;
    answers.push(house.told(1).await.remove(0));
    say("uuid-x", "/queue reject").await;
    answers.push(house.told(2).await.remove(1));
    say("uuid-x", "/new").await;
    answers.push(house.told(3).await.remove(2));
    say("uuid-b", "/new").await;
    answers.push(house.told(4).await.remove(3));
    // A turn of somebody who is trusted further is open.
    say("uuid-a", "a long one").await;
    house.until(&in_group(), "turn.processing").await;
    for (at, text) in ["/new", "/queue absorb", "/stop"].iter().enumerate() {
        say("uuid-b", text).await;
        answers.push(house.told(5 + at).await.remove(4 + at));
    }
    say("uuid-a", "/new").await;
    answers.push(house.told(8).await.remove(7));
    assert!(answers[0].starts_with("Queue policy: collect."), "{answers:?}");
    assert_eq!(answers[1..3], [beyond, beyond]);
    assert_eq!(answers[3], "A new conversation begins.");
    assert_eq!(answers[4..7], [beyond, beyond, beyond]);
    assert_eq!(answers[7], "A new conversation begins. 1 message was cancelled.");
    let session = house.gateway.store().load(&in_group()).await.unwrap().unwrap().session;
    assert_eq!(session.busy, Some(BusyPolicy::Collect), "it stays");
    // In their own chat everybody may.
    house.hear(says("uuid-x", "1", "/queue queue")).await;
    let told = house.told(9).await;
    assert!(told[8].starts_with("Queue policy: queue."), "{told:?}");
    let own = house.gateway.store().load(&dm("uuid-x")).await.unwrap().unwrap().session;
    assert_eq!(own.busy, Some(BusyPolicy::Queue));
}
