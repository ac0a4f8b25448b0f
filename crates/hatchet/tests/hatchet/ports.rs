//! The gateway's ports, through a real engine.

use std::sync::Arc;

use tokio::time::timeout;
use turnkeep_core::SessionKey;
use turnkeep_core::ids::{Epoch, TurnId};
use turnkeep_core::ports::dispatch::{
    Dispatched, Dispatcher as _, Errand, Order, Orders as _, StepOutcome, Task, TurnStep,
};
use turnkeep_core::session_key::SessionKind;
use turnkeep_hatchet::{
    HatchetClient, HatchetDispatcher, HatchetOrders, Listening, Worker, WorkerSettings, take_part,
};
use uuid::Uuid;

use crate::engine::shared;
use crate::kit::{PATIENCE, settings, until};

/// A node that hands over and takes part.
struct Node {
    dispatcher: HatchetDispatcher,
    worker: Arc<Worker>,
    orders: HatchetOrders,
}

impl Node {
    async fn new(space: &str) -> Self {
        let client = HatchetClient::new(settings(shared().token(), space)).unwrap();
        client.reach(PATIENCE).await.unwrap();
        let (worker, orders) = take_part(&client, WorkerSettings::new("node", 8)).unwrap();
        let dispatcher = HatchetDispatcher::new(client).beside(Arc::clone(&worker));
        let told = until(&worker, |told| told.listening == Listening::Open).await;
        assert_eq!(told.registrations, 1);
        Self { dispatcher, worker, orders }
    }

    async fn order(&mut self) -> Order {
        timeout(PATIENCE, self.orders.next()).await.expect("nothing came").expect("it has left")
    }

    async fn task(&mut self) -> Task {
        match self.order().await {
            Order::Start(task) => task,
            Order::Stop(turn, epoch) => panic!("stop {turn} {epoch}"),
        }
    }
}

fn errand(peer: &str) -> Errand {
    let session = SessionKey::new("home", "default", "api", SessionKind::Dm, peer).unwrap();
    // Greater than what a floating-point number holds.
    Errand { session, turn: TurnId(Uuid::now_v7()), epoch: Epoch((1 << 60) + 1), round: 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_is_handed_over_comes_step_by_step() {
    // Nobody has told the engine of the workflow: whoever hands over does.
    let mut node = Node::new("ports").await;
    let errand = errand("a:b%c d");
    assert_eq!(node.dispatcher.dispatch(&errand).await, Ok(Dispatched::New));
    assert_eq!(node.dispatcher.dispatch(&errand).await, Ok(Dispatched::Before));
    for step in TurnStep::ALL {
        let task = node.task().await;
        assert_eq!((&task.errand, task.step, task.again), (&errand, step, 0));
        task.report.begun().await;
        task.report.ended(StepOutcome::Done).await;
    }
    node.dispatcher.taken(&errand);
    assert_eq!(node.dispatcher.health().link, None);
    assert_eq!(node.dispatcher.health().steps, None);
    // Another round is another run.
    let again = Errand { round: 1, ..errand };
    assert_eq!(node.dispatcher.dispatch(&again).await, Ok(Dispatched::New));
    assert_eq!(node.task().await.errand, again);
    node.worker.leave().await;
    assert!(node.orders.next().await.is_none());
    assert!(node.dispatcher.health().steps.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_has_no_more_steps_and_what_failed_comes_again() {
    let mut node = Node::new("refuses").await;
    let (first, second) = (errand("a"), errand("a"));
    node.dispatcher.dispatch(&first).await.unwrap();
    let task = node.task().await;
    task.report.ended(StepOutcome::Failed("not now".into())).await;
    let task = node.task().await;
    assert_eq!((&task.errand, task.step, task.again), (&first, TurnStep::Acquire, 1));
    task.report.ended(StepOutcome::Refused("stale".into())).await;
    // The steps behind it are answered without anybody here, so the session's next run comes.
    node.dispatcher.dispatch(&second).await.unwrap();
    let task = node.task().await;
    assert_eq!((&task.errand, task.step), (&second, TurnStep::Acquire));
    node.dispatcher.cancel(&second).await;
    match node.order().await {
        Order::Stop(turn, epoch) => assert_eq!((turn, epoch), (second.turn, second.epoch)),
        Order::Start(task) => panic!("{:?}", task.step),
    }
    task.report.ended(StepOutcome::Stopped).await;
}
