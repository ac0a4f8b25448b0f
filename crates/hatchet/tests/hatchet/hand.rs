//! Clients of a real engine, workers and what they hear.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;
use turnkeep_core::ports::dispatch::TurnStep;
use turnkeep_hatchet::{
    Cancelled, Dispatch, HatchetClient, Order, Report, TurnRun, Worker, WorkerSettings,
};
use uuid::Uuid;

use crate::kit::{PATIENCE, settings};

/// A client of an engine that answers and knows the workflow.
pub(crate) async fn client(engine: &crate::engine::Engine, space: &str) -> HatchetClient {
    let client = HatchetClient::new(settings(engine.token(), space)).unwrap();
    client.reach(PATIENCE).await.unwrap();
    client.put_workflow().await.unwrap();
    client
}

/// A worker and what it hears.
pub(crate) struct Hand {
    pub(crate) worker: Worker,
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) name: &'static str,
    client: HatchetClient,
}

impl Hand {
    pub(crate) fn new(client: &HatchetClient, name: &'static str) -> Self {
        let settings = WorkerSettings::new(name, 10);
        let (worker, orders) = Worker::start(client.clone(), settings).unwrap();
        Self { worker, orders, name, client: client.clone() }
    }

    pub(crate) async fn order(&mut self) -> Order {
        timeout(PATIENCE, self.orders.recv()).await.expect("nothing came").expect("it has left")
    }

    pub(crate) async fn start(&mut self) -> Dispatch {
        match self.order().await {
            Order::Start(dispatch) => *dispatch,
            Order::Cancel(cancelled) => panic!("{cancelled:?}"),
        }
    }

    pub(crate) async fn cancelled(&mut self) -> Cancelled {
        match self.order().await {
            Order::Cancel(cancelled) => *cancelled,
            Order::Start(dispatch) => panic!("{dispatch:?}"),
        }
    }

    pub(crate) async fn report(&self, dispatch: &Dispatch, report: &Report) {
        self.client.report_within(&dispatch.action, report, PATIENCE).await.unwrap();
    }

    /// Says that a step is done.
    pub(crate) async fn complete(&self, dispatch: &Dispatch) {
        self.report(dispatch, &Report::Started).await;
        let output = json!({"said": dispatch.step.as_str()});
        self.report(dispatch, &Report::Completed(output.as_object().unwrap().clone())).await;
    }

    /// Runs all that comes until this turn is done; the steps that it had, in their order.
    pub(crate) async fn run_through(&mut self, turn: Uuid) -> Vec<(Uuid, TurnStep, u32)> {
        let mut steps = Vec::new();
        loop {
            let dispatch = self.start().await;
            self.complete(&dispatch).await;
            steps.push((dispatch.run.turn, dispatch.step, dispatch.retry));
            if (dispatch.run.turn, dispatch.step) == (turn, TurnStep::CommitAndRespond) {
                return steps;
            }
        }
    }
}

/// All steps of a turn, none of them twice.
pub(crate) fn whole(turn: Uuid) -> Vec<(Uuid, TurnStep, u32)> {
    TurnStep::ALL.map(|step| (turn, step, 0)).to_vec()
}

/// A run's id.
pub(crate) async fn trigger(client: &HatchetClient, run: &TurnRun) -> Arc<str> {
    Arc::clone(client.trigger(run).await.unwrap().run().unwrap())
}
