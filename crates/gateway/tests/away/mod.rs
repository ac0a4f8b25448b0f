//! A store that does not answer: how often a session asks it.

use std::sync::Arc;
use std::time::Duration;

use turnkeep_agents::EchoAgent;
use turnkeep_core::message::Action;
use turnkeep_gateway::{Gateway, Parts, Refusal};
use turnkeep_stores::MemoryStore;

use crate::door::node::{Hall, Node};
use crate::kit::{action, parts, says, started};

/// More loads than anybody tries.
const ALL: usize = 1_000_000;

async fn gateway() -> (Arc<Hall>, Gateway) {
    let (record, hall) = (MemoryStore::new(), Arc::<Hall>::default());
    let store = Arc::new(Node::open(&record, &hall, Some(0)));
    let parts = parts(Arc::new(record), Arc::new(EchoAgent::default()), |_| {});
    (hall, started(Parts { store, ..parts }).await)
}

async fn is_refused(gateway: &Gateway) {
    let refused = gateway.submit(says("alice", "api", "hello"), false).await;
    assert!(matches!(refused, Err(Refusal::Unavailable(_))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_session_asks_less_and_less_often() {
    let (hall, gateway) = gateway().await;
    hall.fail_loads(ALL);
    is_refused(&gateway).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let tried = ALL - hall.fail_loads(0);
    assert!((20..40).contains(&tried), "every two seconds in the end: {tried}");
}

#[tokio::test(start_paused = true)]
async fn who_writes_is_not_made_to_wait_for_the_end_of_a_long_pause() {
    let (hall, gateway) = gateway().await;
    hall.fail_loads(ALL);
    is_refused(&gateway).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    // What comes is looked at within the shortest pause, though the longest one may have just begun.
    for _ in 0..8 {
        let since = tokio::time::Instant::now();
        is_refused(&gateway).await;
        assert!(since.elapsed() <= Duration::from_millis(250), "{:?}", since.elapsed());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    hall.fail_loads(0);
    let submitted = gateway.submit(says("alice", "api", "hello"), false).await.unwrap();
    assert_eq!(action(&submitted), (Action::WorkflowStarted, false));
}
