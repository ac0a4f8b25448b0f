//! What agents report to have used, through the real gateway over SQLite: a turn's budget, and runs
//! that are over.

use std::collections::HashMap;

use turnkeep_core::budget::{Budgets, Limit, Scope, Window};
use turnkeep_core::message::Rejection;
use turnkeep_core::session::FinishReason;
use turnkeep_core::usage::{COST_MAX, Price, Sums, Usage};
use turnkeep_gateway::money::Prices;
use turnkeep_gateway::{Refusal, Submission};

use super::*;

fn tokens(tokens: u64) -> Usage {
    Usage { model: "m".into(), output_tokens: tokens, ..Usage::default() }
}

fn ten_a_turn(policy: &mut Policy) {
    let turn = Limit { tokens: 10, cost_micros: 0 };
    policy.budgets = Some(Arc::new(Budgets { turn, ..Budgets::default() }));
}

async fn used(gateway: &Gateway) -> Sums {
    let key = "default:default:api:dm:anna".parse().unwrap();
    let loaded = gateway.store().load(&key).await.unwrap().unwrap();
    loaded.session.spent.as_ref().map_or_else(Sums::default, |spent| spent.sums)
}

#[tokio::test]
async fn a_turn_at_its_budget_is_asked_to_finish() {
    let agent = agent(&Arc::new(()), |turn, _| async move {
        turn.handle.used(tokens(4));
        turn.handle.used(tokens(6));
        assert_eq!(turn.handle.finishing().await, FinishReason::Budget);
        assert!(turn.handle.finish_now());
        let refused = turn.handle.intend(refund()).await.unwrap();
        assert!(matches!(refused, Permission::Refused(_)), "{refused:?}");
        reply("in short")
    });
    let (gateway, _folder) = over_sqlite(agent, ten_a_turn).await;
    let settled = ask(&gateway, "a long story, please").await;
    assert_eq!(settled.reply.as_deref(), Some("in short"));
    assert_eq!(used(&gateway).await.tokens(), 10);
}

#[tokio::test]
async fn a_turn_at_twice_its_budget_is_given_up() {
    let agent = agent(&Arc::new(()), |turn, _| async move {
        turn.handle.used(tokens(20));
        std::future::pending().await
    });
    let (gateway, _folder) = over_sqlite(agent, ten_a_turn).await;
    assert_eq!(ask(&gateway, "a long story, please").await.status, TurnStatus::Failed);
    let letters = gateway.store().dead_letters(0, 10).await.unwrap();
    assert_eq!((letters.len(), used(&gateway).await.tokens()), (1, 20));
}

#[tokio::test]
async fn what_a_run_used_that_was_stopped_is_booked() {
    let kept = Arc::new((Notify::new(), Mutex::new(None)));
    let agent = agent(&kept, |turn, kept| async move {
        turn.handle.used(tokens(1));
        *kept.1.lock().unwrap() = Some(Arc::clone(&turn.handle));
        kept.0.notify_one();
        std::future::pending().await
    });
    let (gateway, _folder) = over_sqlite(agent, |_| ()).await;
    gateway.submit(says("anna", "api", "hello"), false).await.unwrap();
    kept.0.notified().await;
    let key = "default:default:api:dm:anna".parse().unwrap();
    let Controlled::Stopped(turn) = gateway.stop(&key, None).await.unwrap() else {
        panic!("nothing was stopped")
    };
    let handle = kept.1.lock().unwrap().take().unwrap();
    handle.used(tokens(2));
    handle.used(tokens(4));
    let booked = async {
        while used(&gateway).await.tokens() < 7 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), booked).await.unwrap();
    let of_turn = gateway.usage().usage_of_turns(vec![turn]).await.unwrap();
    assert_eq!(of_turn, [(turn, Sums { requests: 3, unpriced: 3, ..tokens(7).sums() })]);
    let journal = journal(&gateway, "anna").await;
    assert_eq!(names(&journal)[4..], ["turn.cancelled", "usage.recorded", "usage.recorded"]);
}

/// A budget of ten tokens a day.
fn ten_a_day(policy: &mut Policy, scope: Scope) {
    let mut budgets = Budgets { refused_text: "tomorrow".into(), ..Budgets::default() };
    budgets.limits[scope as usize][Window::Day as usize] = Limit { tokens: 10, cost_micros: 0 };
    policy.budgets = Some(Arc::new(budgets));
}

fn spends(spends: u64) -> Arc<Scripted> {
    agent(&Arc::new(()), move |turn, _| async move {
        turn.handle.used(tokens(spends));
        reply("hello")
    })
}

async fn is_over_budget(gateway: &Gateway, submission: Submission) -> bool {
    let refused = gateway.submit(submission, false).await.err();
    matches!(refused, Some(Refusal::Rejected(Rejection::BudgetExceeded { .. })))
}

#[tokio::test]
async fn who_comes_when_the_budget_is_used_up_leaves_no_session() {
    let (gateway, _folder) =
        over_sqlite(spends(10), |policy| ten_a_day(policy, Scope::Tenant)).await;
    answered(&gateway, says("anna", "web", "hi")).await;
    for number in 0..20 {
        assert!(is_over_budget(&gateway, says(&format!("new{number}"), "web", "hi")).await);
    }
    // Who is refused without end is told, and asks the store no more often than others may.
    for _ in 0..40 {
        assert!(is_over_budget(&gateway, says("anna", "web", "hi")).await);
    }
    let sessions = gateway.store().sessions(None, None, 100).await.unwrap();
    let keys: Vec<&str> = sessions.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["default:default:web:dm:anna"]);
    let events = history(&gateway, &keys[0].parse().unwrap()).await;
    let told = names(&events).iter().filter(|name| **name == "session.notice").count();
    assert_eq!(told, 1);
}

#[tokio::test]
async fn a_budget_is_that_of_the_customer_to_whom_use_is_booked() {
    let (gateway, _folder) =
        over_sqlite(spends(10), |policy| ten_a_day(policy, Scope::Customer)).await;
    let session = "default:default:api:main:anna";
    let of = |customer: &str| Submission {
        session: Some(session.to_owned()),
        channel: None,
        ..says(customer, "", "hi")
    };
    answered(&gateway, of("ben")).await;
    // Whoever writes there, it is anna's; ben used nothing of his own.
    assert!(is_over_budget(&gateway, of("ben")).await);
    assert!(!is_over_budget(&gateway, says("ben", "api", "hi")).await);
}

#[tokio::test]
async fn a_price_beyond_all_reason_stops_nothing() {
    let agent = agent(&Arc::new(()), |turn, _| async move {
        for _ in 0..3 {
            turn.handle.used(tokens(u64::MAX));
        }
        reply("hello")
    });
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path(), SqliteOptions::default()).unwrap();
    let mut parts = parts(Arc::new(store), agent, |_| ());
    let price = Price { output_micros: u64::MAX, ..Price::default() };
    let by_model = HashMap::from([("m".into(), price)]);
    parts.settings.prices = Arc::new(Prices { by_model, ..Prices::default() });
    let gateway = started(parts).await;
    ask(&gateway, "hi").await;
    let sums = used(&gateway).await;
    assert_eq!((sums.requests, sums.cost_micros), (3, 3 * COST_MAX));
    ask(&gateway, "again").await;
}
