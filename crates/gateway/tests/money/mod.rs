//! What agents report to have used, through the real gateway over SQLite: a turn's budget, and runs
//! that are over.

use turnkeep_core::budget::{Budgets, Limit};
use turnkeep_core::session::FinishReason;
use turnkeep_core::usage::{Sums, Usage};

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
