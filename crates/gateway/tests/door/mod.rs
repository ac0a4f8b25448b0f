//! What is offered to all who run turns: two nodes that look in turns, and what each of them takes.

pub(crate) mod node;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use turnkeep_core::Policy;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::agent::{Agent, TurnContext};
use turnkeep_core::session::{Finished, RunFailure};
use turnkeep_gateway::{Gateway, Parts};
use turnkeep_stores::MemoryStore;

use crate::kit::{parts, reply, says};
use node::{Hall, Node};

/// An agent that says on which node it began, and goes on when the test says so.
struct Slow {
    node: usize,
    slots: Option<usize>,
    begun: mpsc::UnboundedSender<usize>,
    gate: Arc<Notify>,
}

impl Agent for Slow {
    fn kind(&self) -> &'static str {
        "slow"
    }

    fn slots(&self) -> Option<usize> {
        self.slots
    }

    fn run(&self, turn: TurnContext) -> BoxFuture<'_, Result<Finished, RunFailure>> {
        Box::pin(async move {
            self.begun.send(self.node).unwrap();
            let _slot = turn.handle.slot().await;
            self.gate.notified().await;
            reply("done")
        })
    }
}

/// A gateway that runs no turns, and two nodes that do.
struct Three {
    hall: Arc<Hall>,
    gateway: Gateway,
    runners: [Gateway; 2],
    begun: mpsc::UnboundedReceiver<usize>,
    stop: CancellationToken,
}

impl Three {
    async fn new(slots: Option<usize>, change: fn(&mut Policy)) -> Self {
        let (record, hall) = (MemoryStore::new(), Arc::<Hall>::default());
        let (said, begun) = mpsc::unbounded_channel();
        let open = async |number: usize, runs: bool| {
            let store = Node::open(&record, &hall, runs.then_some(number));
            let gate = Arc::default();
            let agent = Arc::new(Slow { node: number, slots, begun: said.clone(), gate });
            let parts = parts(Arc::new(record.clone()), agent, change);
            let gateway = Gateway::new(Parts { store: Arc::new(store), runs, ..parts });
            gateway.start().await.unwrap();
            gateway
        };
        let gateway = open(9, false).await;
        let runners = [open(0, true).await, open(1, true).await];
        Self { hall, gateway, runners, begun, stop: CancellationToken::new() }
    }

    /// So many people write, one message each.
    async fn write(&self, people: usize) {
        for person in 0..people {
            self.gateway.submit(says(&format!("p{person}"), "api", "hello"), false).await.unwrap();
        }
    }

    fn look_out(&self) {
        for runner in &self.runners {
            let (runner, stop) = (runner.clone(), self.stop.clone());
            tokio::spawn(async move { runner.sweep(stop).await });
        }
    }

    /// Where so many turns began.
    async fn begin(&mut self, turns: usize) -> [usize; 2] {
        let mut began = [0; 2];
        for _ in 0..turns {
            began[self.begun.recv().await.unwrap()] += 1;
        }
        began
    }
}

#[tokio::test(start_paused = true)]
async fn who_looks_first_does_not_get_it_all() {
    let mut three = Three::new(None, |policy| policy.window_ms = 0).await;
    three.write(400).await;
    three.look_out();
    let began = three.begin(400).await;
    // Half, a little more for who looked first, and some of what was on its way to the other one when
    // it was looked for what is left.
    assert!(began.iter().all(|began| *began <= 300), "{began:?}");
    three.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_node_takes_what_it_has_slots_for_and_shares_the_rest() {
    // Nothing asks for a slot before its window is over, and none is given back after it.
    let mut three = Three::new(Some(4), |policy| policy.window_ms = 200).await;
    three.write(40).await;
    three.look_out();
    let began = three.begin(40).await;
    assert!(began.iter().all(|began| *began <= 24), "{began:?}");
    let full = vec!["default".to_owned()];
    let asked = three.hall.asked(0);
    // The first slots, half of its part of the others, and no more at once.
    assert_eq!(asked[..3], [(4, vec![]), (9, vec![]), (256, full)]);
    three.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_with_a_lost_answer_is_offered_again() {
    let mut three = Three::new(None, |policy| policy.window_ms = 0).await;
    three.write(3).await;
    three.hall.lose_an_answer();
    let since = tokio::time::Instant::now();
    three.look_out();
    let began = three.begin(3).await;
    assert_eq!(began.iter().sum::<usize>(), 3);
    // At the next beats, and not with the next round.
    assert!(since.elapsed() < Duration::from_secs(2));
    three.stop.cancel();
}
