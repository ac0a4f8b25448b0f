//! What rates hold up and what they let alone; what it costs to be asked whether something is for us.

use std::sync::Arc;

use turnkeep_core::Policy;
use turnkeep_core::budget::{Budgets, Limit, OnExceeded, Scope, Window};
use turnkeep_core::guard::Rate;
use turnkeep_core::ports::intake::{Chat, Heard, Taken};
use turnkeep_core::ports::usage::{By, UsageQuery};
use turnkeep_core::usage::Usage;
use turnkeep_gateway::intake::routing::{Strangers, Trigger};
use turnkeep_stores::MemoryStore;

use super::{House, PATIENCE, dm, in_group, routing, says};
use crate::kit::{Scripted, names, reply};

fn there(heard: Heard) -> Heard {
    Heard { chat: Chat::Group { id: "g1".into(), title: None }, ..heard }
}

/// Two at once, and no more for a long while.
fn two(policy: &mut Policy) {
    policy.rate = Rate::new(1, 2);
}

async fn strict() -> House {
    let store = Arc::new(MemoryStore::new());
    let agent = Arc::new(Scripted(Box::new(|_| Box::pin(std::future::pending()))));
    House::over(store, agent, routing(Strangers::Deny, Trigger::Mention), two).await
}

#[tokio::test]
async fn whoever_writes_too_much_can_still_stop() {
    let house = strict().await;
    let mut taken = Vec::new();
    for number in 0..4 {
        taken.push(house.hear(says("uuid-b", &number.to_string(), &format!("no {number}"))).await);
    }
    assert!(matches!(taken.last(), Some(Taken::Refused(_))), "{taken:?}");
    let status = house.hear(says("uuid-b", "8", "/status")).await;
    assert!(matches!(status, Taken::Refused(_)), "{status:?}");
    assert_eq!(house.hear(says("uuid-b", "9", "/stop")).await, Taken::Accepted);
    house.until(&dm("uuid-b"), "turn.cancelled").await;
    assert!(names(&house.events(&dm("uuid-b")).await).contains(&"message.command"));
}

#[tokio::test]
async fn what_is_said_to_others_is_counted_by_itself() {
    let house = strict().await;
    for number in 0..4 {
        let chatter = there(says("uuid-b", &format!("c{number}"), &format!("lunch {number}?")));
        let taken = house.hear(chatter).await;
        // It has a limit of its own, for it is kept.
        assert_eq!(taken == Taken::Accepted, number < 2, "{number}: {taken:?}");
    }
    let for_us = house.hear(there(says("uuid-b", "1", "Turnkeep, are you there?"))).await;
    assert_eq!(for_us, Taken::Accepted);
    let events = house.events(&in_group()).await;
    let kept = names(&events).iter().filter(|name| **name == "message.context").count();
    assert_eq!(kept, 2);
    assert_eq!(house.sent.lock().unwrap().len(), 0, "nobody is told of what was not for us");
}

/// Ten tokens a day for the group.
fn ten_a_day(policy: &mut Policy) {
    let mut budgets = Budgets { on_exceeded: OnExceeded::Refuse, ..Budgets::default() };
    let limit = Limit { tokens: 10, cost_micros: 0 };
    budgets.limits[Scope::Session as usize][Window::Day as usize] = limit;
    policy.budgets = Some(Arc::new(budgets));
}

#[tokio::test]
async fn what_a_trigger_costs_is_the_groups() {
    let judge = Scripted(Box::new(|turn| {
        Box::pin(async move {
            if &*turn.session.agent() == "judge" {
                turn.handle.used(Usage {
                    model: "small".into(),
                    output_tokens: 6,
                    ..Usage::default()
                });
                return reply("no");
            }
            reply("here")
        })
    }));
    let store = Arc::new(MemoryStore::new());
    let routing = routing(Strangers::Deny, Trigger::Llm("judge".into()));
    let house = House::over(Arc::clone(&store), Arc::new(judge), routing, ten_a_day).await;
    for number in 1..=2 {
        house.hear(there(says("uuid-b", &number.to_string(), &format!("lunch {number}?")))).await;
        booked(&house, number * 6).await;
    }
    // The budget is used up: nobody is asked any more.
    let refused = house.hear(there(says("uuid-b", "3", "lunch 3?"))).await;
    assert!(matches!(refused, Taken::Refused(_)), "{refused:?}");
    let query = UsageQuery {
        by: By::Agent,
        tenant: None,
        customer: None,
        session: Some(in_group()),
        from: None,
        to: None,
    };
    let lines = house.gateway.usage().usage(query, 10).await.unwrap();
    assert_eq!(lines.len(), 1);
    assert_eq!((lines[0].agent.as_deref(), lines[0].sums.tokens()), (Some("judge"), 12));
    assert!(names(&house.events(&in_group()).await).contains(&"usage.recorded"));
}

/// Waits until the group's sums say so.
async fn booked(house: &House, tokens: u64) {
    let key = in_group();
    let so = async {
        loop {
            let loaded = house.gateway.store().load(&key).await.unwrap();
            let spent = loaded.and_then(|loaded| loaded.session.spent.clone());
            let ruled = house.events(&key).await;
            let ruled = names(&ruled).iter().filter(|name| **name == "message.context").count();
            if spent.is_some_and(|spent| spent.sums.tokens() >= tokens)
                && ruled as u64 >= tokens / 6
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, so).await.unwrap();
}
