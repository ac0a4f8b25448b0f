//! Turns that an engine gives from a node that runs none to one that does.

mod left;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use turnkeep_agents::EchoAgent;
use turnkeep_core::ids::{Epoch, TurnId};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::agent::Agent;
use turnkeep_core::ports::dispatch::{
    DispatchError, DispatchHealth, Dispatched, Dispatcher, Errand, Order, Orders, StepOutcome,
    StepReport, Task, TurnStep,
};
use turnkeep_core::ports::store::TurnStatus;
use turnkeep_gateway::dispatch::{DispatchSettings, Engine as Is};
use turnkeep_gateway::{Gateway, Parts};
use turnkeep_stores::MemoryStore;

use crate::gated;
use crate::kit::{history, names, parts, says, started};

/// What an engine heard, and what a node told it.
#[derive(Debug, PartialEq)]
enum Heard {
    Handed(Errand),
    Taken(Errand),
    Cancelled(Errand),
    Ended(TurnStep, StepOutcome),
}

/// An engine that writes down what it hears.
struct Engine {
    away: AtomicBool,
    heard: mpsc::UnboundedSender<Heard>,
}

impl Engine {
    fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Heard>) {
        let (heard, hears) = mpsc::unbounded_channel();
        (Arc::new(Self { away: AtomicBool::new(false), heard }), hears)
    }
}

impl Dispatcher for Engine {
    fn dispatch<'a>(
        &'a self,
        errand: &'a Errand,
    ) -> BoxFuture<'a, Result<Dispatched, DispatchError>> {
        Box::pin(async {
            if self.away.load(Ordering::Acquire) {
                return Err(DispatchError::Away("it is gone".into()));
            }
            self.heard.send(Heard::Handed(errand.clone())).unwrap();
            Ok(Dispatched::New)
        })
    }

    fn taken(&self, errand: &Errand) {
        self.heard.send(Heard::Taken(errand.clone())).unwrap();
    }

    fn cancel<'a>(&'a self, errand: &'a Errand) -> BoxFuture<'a, ()> {
        self.heard.send(Heard::Cancelled(errand.clone())).unwrap();
        Box::pin(async {})
    }

    fn health(&self) -> DispatchHealth {
        DispatchHealth::default()
    }
}

/// What a worker is told, as a test says it.
struct Told(mpsc::UnboundedReceiver<Order>);

impl Orders for Told {
    fn next(&mut self) -> BoxFuture<'_, Option<Order>> {
        Box::pin(self.0.recv())
    }
}

struct Report {
    step: TurnStep,
    heard: mpsc::UnboundedSender<Heard>,
    /// It has begun.
    begun: Arc<Notify>,
}

impl StepReport for Report {
    fn begun(&self) -> BoxFuture<'_, ()> {
        self.begun.notify_one();
        Box::pin(async {})
    }

    fn ended(self: Box<Self>, outcome: StepOutcome) -> BoxFuture<'static, ()> {
        self.heard.send(Heard::Ended(self.step, outcome)).unwrap();
        Box::pin(async {})
    }
}

/// A gateway that runs no turns and one that does, with one store.
struct Two {
    gateway: Gateway,
    worker: Gateway,
    engine: Arc<Engine>,
    heard: mpsc::UnboundedReceiver<Heard>,
    orders: mpsc::UnboundedSender<Order>,
    begun: Arc<Notify>,
}

const TIMEOUT: Duration = Duration::from_secs(10);

async fn handing(
    parts: Parts,
    fallback: bool,
) -> (Gateway, Arc<Engine>, mpsc::UnboundedReceiver<Heard>) {
    let gateway = Gateway::new(Parts { runs: false, ..parts });
    let (engine, heard) = Engine::new();
    gateway.hand_over_by(engine.clone(), DispatchSettings { timeout: TIMEOUT, fallback });
    gateway.start().await.unwrap();
    let keeper = gateway.clone();
    tokio::spawn(async move { keeper.keep_dispatch(CancellationToken::new()).await });
    (gateway, engine, heard)
}

impl Two {
    async fn new(agent: Arc<dyn Agent>) -> Self {
        let store = Arc::new(MemoryStore::new());
        let later = Arc::new(store.reopen());
        let change = |policy: &mut turnkeep_core::Policy| policy.window_ms = 0;
        let (gateway, engine, heard) = handing(parts(store, agent.clone(), change), true).await;
        let worker = started(parts(later, agent, change)).await;
        let (orders, told) = mpsc::unbounded_channel();
        let (seat, dispatcher) = (worker.clone(), engine.clone());
        tokio::spawn(async move { seat.work(Box::new(Told(told)), dispatcher, TIMEOUT).await });
        Self { gateway, worker, engine, heard, orders, begun: Arc::default() }
    }

    /// Sends a message; what is handed over then.
    async fn handed(&mut self, text: &str) -> Errand {
        self.gateway.submit(says("alice", "api", text), false).await.unwrap();
        match self.heard.recv().await {
            Some(Heard::Handed(errand)) => errand,
            other => panic!("{other:?}"),
        }
    }

    /// Gives a step out.
    fn give(&self, errand: &Errand, step: TurnStep) {
        let heard = self.engine.heard.clone();
        let report = Box::new(Report { step, heard, begun: self.begun.clone() });
        let task = Task { errand: errand.clone(), step, again: 0, report };
        assert!(self.orders.send(Order::Start(task)).is_ok());
    }

    /// Waits for a step's ending, past what else is heard.
    async fn ended(&mut self) -> (TurnStep, StepOutcome) {
        loop {
            if let Heard::Ended(step, outcome) = self.heard.recv().await.unwrap() {
                return (step, outcome);
            }
        }
    }

    async fn step(&mut self, errand: &Errand, step: TurnStep) -> StepOutcome {
        self.give(errand, step);
        self.ended().await.1
    }
}

fn refused(why: &str) -> StepOutcome {
    StepOutcome::Refused(why.into())
}

#[tokio::test(start_paused = true)]
async fn a_turn_is_run_by_whom_the_engine_chooses() {
    let mut two = Two::new(Arc::new(EchoAgent::default())).await;
    let errand = two.handed("hello").await;
    for step in TurnStep::ALL {
        two.give(&errand, step);
        assert_eq!(two.ended().await, (step, StepOutcome::Done));
    }
    let (_, row) = two.worker.store().turn(errand.turn).await.unwrap().unwrap();
    assert_eq!(row.status, TurnStatus::Complete);
    assert_eq!(row.reply.as_deref(), Some("echo: hello"));
    let events = history(&two.worker, &errand.session).await;
    assert_eq!(names(&events).last(), Some(&"turn.completed"));
    // The gateway saw that it was taken.
    assert_eq!(two.heard.recv().await, Some(Heard::Taken(errand)));
    let awaiting = two.gateway.dispatch_view().unwrap().awaiting;
    assert_eq!((awaiting.turns, awaiting.handed, awaiting.taken, awaiting.failed), (0, 1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_step_that_comes_late_or_twice_is_refused() {
    let (gate, begun) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let mut two = Two::new(gated(gate.clone(), begun.clone())).await;
    let errand = two.handed("hello").await;
    let other = Errand { epoch: Epoch(77), ..errand.clone() };
    let outcome = two.step(&other, TurnStep::Acquire).await;
    assert_eq!(outcome, refused("the turn was taken since it was handed over"));
    let gone = Errand { turn: TurnId(uuid::Uuid::nil()), ..errand.clone() };
    assert_eq!(two.step(&gone, TurnStep::Acquire).await, refused("the turn is over"));
    assert_eq!(two.step(&errand, TurnStep::Acquire).await, StepOutcome::Done);
    begun.notified().await;
    // Given out again while it runs here, it is found to be here.
    assert_eq!(two.step(&errand, TurnStep::Acquire).await, StepOutcome::Done);
    assert_eq!(two.step(&errand, TurnStep::Accumulate).await, StepOutcome::Done);
    two.give(&errand, TurnStep::RunAgent);
    gate.notify_one();
    assert_eq!(two.ended().await, (TurnStep::RunAgent, StepOutcome::Done));
    assert_eq!(two.step(&errand, TurnStep::Acquire).await, refused("the turn is over"));
    assert_eq!(two.step(&errand, TurnStep::CommitAndRespond).await, StepOutcome::Done);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_is_stopped_ends_and_its_turn_goes_on() {
    let (gate, begun) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let mut two = Two::new(gated(gate.clone(), begun.clone())).await;
    let errand = two.handed("hello").await;
    assert_eq!(two.step(&errand, TurnStep::Acquire).await, StepOutcome::Done);
    begun.notified().await;
    two.begun.notified().await;
    two.give(&errand, TurnStep::RunAgent);
    two.begun.notified().await;
    assert!(two.orders.send(Order::Stop(errand.turn, errand.epoch)).is_ok());
    assert_eq!(two.ended().await, (TurnStep::RunAgent, StepOutcome::Stopped));
    two.give(&errand, TurnStep::CommitAndRespond);
    gate.notify_one();
    assert_eq!(two.ended().await, (TurnStep::CommitAndRespond, StepOutcome::Done));
    let (_, row) = two.worker.store().turn(errand.turn).await.unwrap().unwrap();
    assert_eq!(row.status, TurnStatus::Complete);
}

fn alone() -> Parts {
    let agent = Arc::new(EchoAgent::default());
    parts(Arc::new(MemoryStore::new()), agent, |policy| policy.window_ms = 0)
}

#[tokio::test(start_paused = true)]
async fn what_nobody_takes_is_run_by_the_gateway_under_a_new_epoch() {
    let (gateway, _engine, mut heard) = handing(alone(), true).await;
    let submitted = gateway.submit(says("alice", "api", "hello"), true).await.unwrap();
    let Some(Heard::Handed(errand)) = heard.recv().await else { panic!("it is handed over") };
    let settled = submitted.follow.unwrap().await.unwrap();
    assert_eq!(settled.reply.as_deref(), Some("echo: hello"));
    assert_eq!(heard.recv().await, Some(Heard::Cancelled(errand.clone())));
    let loaded = gateway.store().load(&errand.session).await.unwrap().unwrap();
    assert_eq!(loaded.session.epoch, errand.epoch.taken_by(errand.epoch));
    assert!(loaded.session.epoch > errand.epoch);
    let events = history(&gateway, &errand.session).await;
    assert_eq!(names(&events).last(), Some(&"turn.completed"));
    assert_eq!(gateway.dispatch_view().unwrap().awaiting.ran_here, 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_fallback_it_waits_until_the_engine_is_back() {
    let (gateway, engine, mut heard) = handing(alone(), false).await;
    assert_eq!(gateway.engine(), Some(Is::Ok));
    engine.away.store(true, Ordering::Release);
    let submitted = gateway.submit(says("alice", "api", "hello"), false).await.unwrap();
    tokio::time::timeout(TIMEOUT * 3, heard.recv()).await.unwrap_err();
    let awaiting = gateway.dispatch_view().unwrap().awaiting;
    assert_eq!((awaiting.turns, awaiting.open), (1, true));
    let Some(Is::Stuck(amiss)) = gateway.engine() else { panic!("{:?}", gateway.engine()) };
    assert_eq!(amiss.lasts_ms, awaiting.open_ms);
    assert!(amiss.why.contains("tried with one at a time"), "{amiss:?}");
    engine.away.store(false, Ordering::Release);
    let Some(Heard::Handed(errand)) = heard.recv().await else { panic!("it is handed over") };
    assert_eq!((&errand.session, Some(errand.turn)), (&submitted.key, submitted.decision.turn));
    // Nobody takes it for so long: the next time is another round.
    assert_eq!(heard.recv().await, Some(Heard::Cancelled(errand.clone())));
    let again = Errand { round: errand.round + 1, ..errand };
    assert_eq!(heard.recv().await, Some(Heard::Handed(again)));
}
