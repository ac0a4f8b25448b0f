//! What others write into sessions that a node has: heard of also where an answer was lost, and where
//! the node is ending.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use turnkeep_core::message::Pending;
use turnkeep_core::outbox::DeliveryOutcome;
use turnkeep_core::policy::channel_facts;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::agent::{Agent, TurnContext};
use turnkeep_core::ports::channel::Outgoing;
use turnkeep_core::ports::dispatch::{
    DispatchError, DispatchHealth, Dispatched, Dispatcher, Errand, Order, Orders,
};
use turnkeep_core::ports::store::TurnStatus;
use turnkeep_core::session::{Control, Finished, RunFailure};
use turnkeep_core::{BusyPolicy, SessionKey};
use turnkeep_gateway::ingress::OperatorReply;
use turnkeep_gateway::{Gateway, Parts, Settings};
use turnkeep_stores::MemoryStore;

use crate::door::node::{Hall, Node, Trouble};
use crate::kit::{Noted, history, names, parts, reply, says, texts};

/// Longer than anything here may take, and shorter than the time after which it is looked at anyway.
const SOON: Duration = Duration::from_secs(60);
/// How long an ending node waits for what runs.
const GRACE: Duration = Duration::from_secs(3600);

/// An agent that says where it began with what, and what mail it got; one that is told to wait does so
/// until it is stopped.
struct Telling {
    node: usize,
    told: mpsc::UnboundedSender<(usize, String)>,
}

impl Agent for Telling {
    fn kind(&self) -> &'static str {
        "telling"
    }

    fn run(&self, turn: TurnContext) -> BoxFuture<'_, Result<Finished, RunFailure>> {
        Box::pin(async move {
            let mut all = words(&turn.messages);
            self.told.send((self.node, all.join("|"))).unwrap();
            while all.first().is_some_and(|first| first == "wait") {
                turn.handle.mail_arrived().await;
                all.extend(words(&turn.handle.mail().await.unwrap()));
                self.told.send((self.node, all.join("|"))).unwrap();
            }
            reply("done")
        })
    }
}

fn words(messages: &[Pending]) -> Vec<String> {
    texts(messages).into_iter().map(str::to_owned).collect()
}

/// A gateway that runs no turns, and two nodes that do.
struct Three {
    hall: Arc<Hall>,
    gateway: Gateway,
    runners: [Gateway; 2],
    told: mpsc::UnboundedReceiver<(usize, String)>,
    sent: Arc<Mutex<Vec<Outgoing>>>,
    stop: CancellationToken,
}

impl Three {
    async fn new() -> Self {
        let (record, hall) = (MemoryStore::new(), Arc::<Hall>::default());
        hall.at_will();
        let (tell, told) = mpsc::unbounded_channel();
        let sent = Arc::<Mutex<Vec<_>>>::default();
        let open = async |number: usize, runs: bool| {
            let store = Node::open(&record, &hall, runs.then_some(number));
            let agent = Arc::new(Telling { node: number, told: tell.clone() });
            let parts = parts(Arc::new(record.clone()), agent, |policy| {
                policy.window_ms = 0;
                policy.busy = BusyPolicy::Absorb;
            });
            let noted = Noted {
                facts: *channel_facts("sms").unwrap(),
                sent: Arc::clone(&sent),
                outcome: |_| DeliveryOutcome::Sent,
            };
            let grace = GRACE.as_millis().try_into().unwrap();
            let gateway = Gateway::new(Parts {
                store: Arc::new(store),
                channels: [("sms".to_owned(), Arc::new(noted) as _)].into(),
                settings: Settings { shutdown_grace_ms: grace, ..parts.settings.clone() },
                runs,
                ..parts
            });
            gateway.start().await.unwrap();
            gateway
        };
        let gateway = open(9, false).await;
        let runners = [open(0, true).await, open(1, true).await];
        Self { hall, gateway, runners, told, sent, stop: CancellationToken::new() }
    }

    fn look_out(&self) {
        for runner in &self.runners {
            let (runner, stop) = (runner.clone(), self.stop.clone());
            tokio::spawn(async move { runner.sweep(stop).await });
        }
    }

    /// The first node has a session that waits for an operator, and no task for it.
    async fn waits_for_olga(&self, channel: &str) -> SessionKey {
        let key: SessionKey = format!("default:default:{channel}:dm:alice").parse().unwrap();
        let pause = Control::Pause { by: "Olga".into(), take_over: false };
        self.runners[0].control(&key, pause).await.unwrap();
        self.runners[0].submit(says("alice", channel, "hello"), false).await.unwrap();
        // Its task leaves.
        tokio::time::sleep(Duration::from_secs(1)).await;
        key
    }

    /// Olga answers at the gateway.
    async fn olga_says(&self, key: &SessionKey, text: &str) {
        let reply = OperatorReply { by: "Olga".into(), text: text.to_owned(), id: None };
        self.gateway.answer_as_operator(key, reply).await.unwrap();
    }

    /// Waits until so much was sent.
    async fn sent(&self, count: usize) {
        let sent = async {
            while self.sent.lock().unwrap().len() < count {
                tokio::task::yield_now().await;
                tokio::time::advance(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(SOON, sent).await.expect("nobody looks at the session");
    }

    async fn told(&mut self) -> (usize, String) {
        tokio::time::timeout(SOON, self.told.recv()).await.expect("nothing begins").unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_knocked_for_with_a_lost_answer_is_looked_at() {
    let three = Three::new().await;
    let key = three.waits_for_olga("sms").await;
    three.look_out();
    three.hall.trouble(Trouble::Answer);
    three.olga_says(&key, "here I am").await;
    three.sent(1).await;
    history(&three.gateway, &key).await;
    three.stop.cancel();
}

/// An engine that answers and gives nothing.
struct Idle;

impl Dispatcher for Idle {
    fn dispatch<'a>(&'a self, _: &'a Errand) -> BoxFuture<'a, Result<Dispatched, DispatchError>> {
        Box::pin(async { Ok(Dispatched::New) })
    }

    fn taken(&self, _: &Errand) {}

    fn cancel<'a>(&'a self, _: &'a Errand) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    fn health(&self) -> DispatchHealth {
        DispatchHealth::default()
    }
}

impl Orders for Idle {
    fn next(&mut self) -> BoxFuture<'_, Option<Order>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn where_an_engine_gives_turns_a_nodes_own_session_is_looked_at_though_a_load_failed() {
    let three = Three::new().await;
    let key = three.waits_for_olga("sms").await;
    let worker = three.runners[0].clone();
    tokio::spawn(async move { worker.work(Box::new(Idle), Arc::new(Idle), SOON * 100).await });
    three.look_out();
    three.hall.trouble(Trouble::Load);
    three.olga_says(&key, "here I am").await;
    three.sent(1).await;
    three.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_ending_lets_go_of_what_others_write_and_hears_of_what_runs_there() {
    let mut three = Three::new().await;
    let key = three.waits_for_olga("api").await;
    let long = three.runners[0].submit(says("bob", "api", "wait"), false).await.unwrap();
    assert_eq!(three.told().await, (0, "wait".to_owned()));
    three.look_out();
    let (ending, since) = (three.runners[0].clone(), tokio::time::Instant::now());
    let ends = tokio::spawn(async move { ending.drain().await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    three.gateway.control(&key, Control::HandBack { by: "Olga".into() }).await.unwrap();
    assert_eq!(three.told().await, (1, "hello".to_owned()), "begun by another node");
    three.gateway.submit(says("bob", "api", "more"), false).await.unwrap();
    assert_eq!(three.told().await, (0, "wait|more".to_owned()), "mail reaches the run");
    assert!(!ends.is_finished(), "it runs on");
    three.gateway.stop(&long.key, None).await.unwrap();
    ends.await.unwrap();
    assert!(since.elapsed() < GRACE, "a stop reaches the run");
    let events = history(&three.gateway, &long.key).await;
    assert_eq!(names(&events).last(), Some(&"turn.cancelled"));
    history(&three.gateway, &key).await;
    three.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn where_reading_takes_its_time_what_others_wrote_is_read_once() {
    let mut three = Three::new().await;
    let since = std::time::Instant::now();
    let (gateway, stop) = (three.gateway.clone(), three.stop.clone());
    tokio::spawn(async move { gateway.sweep(stop).await });
    three.look_out();
    let said = three.gateway.submit(says("bob", "api", "wait"), true).await.unwrap();
    let (node, text) = three.told().await;
    assert_eq!(text, "wait");
    // What was written so far is read.
    tokio::time::sleep(Duration::from_secs(1)).await;
    three.hall.loads_take(Duration::from_secs(3));
    three.runners[node].stop(&said.key, None).await.unwrap();
    let settled = tokio::time::timeout(SOON, said.follow.unwrap()).await.unwrap().unwrap();
    assert_eq!(settled.status, TurnStatus::Cancelled);
    tokio::time::sleep(Duration::from_secs(8)).await;
    // Every ten seconds, by the clock that nobody stops, it is looked at whatever was seen before.
    let rounds = usize::try_from(since.elapsed().as_secs() / 10).unwrap();
    let loads = three.hall.slow_loads();
    assert!((1..=1 + rounds).contains(&loads), "{loads}: looked at again while it was read");
    three.stop.cancel();
}
