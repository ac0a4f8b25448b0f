//! The client behind the gateway's ports.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, json};
use tokio::sync::{OnceCell, mpsc};
use turnkeep_core::ids::{Epoch, TurnId};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::dispatch::{
    Amiss, DispatchError, DispatchHealth, Dispatched, Dispatcher, Errand, Order, Orders,
    StepOutcome, StepReport, Task, Worker,
};

use crate::again::Again;
use crate::client::{HatchetClient, Triggered};
use crate::dispatch::{self, Action, Dispatch};
use crate::health::Link;
use crate::report::Report;
use crate::trouble::HatchetError;
use crate::worker::{self, Listening, WorkerSettings};
use crate::workflow::TurnRun;

/// How many runs are remembered, to be cancelled by their ids.
const RUNS_MAX: usize = 10_000;
/// How long it is tried to tell the engine what became of a step. Behind that it gives the step out
/// again.
const TELL: Duration = Duration::from_secs(60);
/// How often it is asked whether it is there.
const LOOK: Duration = Duration::from_secs(5);
/// In a step's output: the steps behind it are not to be run.
const REFUSED: &str = "refused";

/// What tells errands apart.
type Named = (TurnId, Epoch, u32);

const fn named(errand: &Errand) -> Named {
    (errand.turn, errand.epoch, errand.round)
}

/// Hands turns to the workers of one engine.
pub struct HatchetDispatcher {
    client: HatchetClient,
    runs: Mutex<BTreeMap<Named, Arc<str>>>,
    worker: Option<Arc<worker::Worker>>,
    /// The engine was told of the workflow.
    known: OnceCell<()>,
}

impl HatchetDispatcher {
    /// One that speaks through this client.
    #[must_use]
    pub fn new(client: HatchetClient) -> Self {
        Self { client, runs: Mutex::default(), worker: None, known: OnceCell::new() }
    }

    /// One on a node that takes part as this worker, too.
    #[must_use]
    pub fn beside(self, worker: Arc<worker::Worker>) -> Self {
        Self { worker: Some(worker), ..self }
    }

    /// Asks the engine now and then whether it is there, so that [`Dispatcher::health`] says so also
    /// where nothing is handed over.
    pub async fn look_after(&self) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if let Err(error) = self.client.version().await {
                tracing::debug!(class = error.class(), %error, "Hatchet: it does not answer");
            }
        }
    }

    /// Tells the engine of the workflow, as soon as it can be reached. Whoever hands over does that at
    /// its start, since what the engine has may be of an earlier version.
    pub async fn make_known(&self) {
        let mut again = Again::new(Duration::from_millis(500), Duration::from_secs(10));
        while let Err(error) = self.known().await {
            tracing::debug!(class = error.class(), %error, "Hatchet: it does not know the workflow");
            again.wait().await;
        }
    }

    async fn known(&self) -> Result<(), HatchetError> {
        let put = async || self.client.put_workflow().await.map(drop);
        self.known.get_or_try_init(put).await.copied()
    }

    fn runs(&self) -> MutexGuard<'_, BTreeMap<Named, Arc<str>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run_of(&self, errand: &Errand) -> TurnRun {
        TurnRun {
            turn: errand.turn.0,
            epoch: errand.epoch.0,
            round: errand.round,
            session: errand.session.as_str().into(),
            tenant: errand.session.tenant().into(),
            cluster: Arc::clone(self.client.cluster()),
        }
    }
}

impl Dispatcher for HatchetDispatcher {
    fn dispatch<'a>(
        &'a self,
        errand: &'a Errand,
    ) -> BoxFuture<'a, Result<Dispatched, DispatchError>> {
        Box::pin(async move {
            // Before the first run: an engine that was asked for a workflow which it doesn't know
            // remembers that for minutes, also once it is told. It takes runs then and gives none out.
            self.known().await.map_err(told)?;
            let run = self.run_of(errand);
            let mut triggered = self.client.trigger(&run).await;
            // An engine that was set up anew meanwhile.
            if let Err(HatchetError::UnknownWorkflow(_)) = triggered {
                self.client.put_workflow().await.map_err(told)?;
                triggered = self.client.trigger(&run).await;
            }
            let triggered = triggered.map_err(told)?;
            if let Some(id) = triggered.run() {
                let mut runs = self.runs();
                if runs.len() >= RUNS_MAX {
                    runs.pop_first();
                }
                runs.insert(named(errand), Arc::clone(id));
            }
            Ok(match triggered {
                Triggered::New(_) => Dispatched::New,
                Triggered::Before(_) => Dispatched::Before,
            })
        })
    }

    fn taken(&self, errand: &Errand) {
        self.runs().remove(&named(errand));
        self.client.health().dispatched(errand.turn.0, errand.epoch.0);
    }

    fn cancel<'a>(&'a self, errand: &'a Errand) -> BoxFuture<'a, ()> {
        self.client.health().forget(errand.turn.0, errand.epoch.0);
        let run = self.runs().remove(&named(errand));
        Box::pin(async move {
            let Some(run) = run else { return };
            if let Err(error) = self.client.cancel(&[run]).await {
                tracing::debug!(class = error.class(), %error, "Hatchet: a run was not cancelled");
            }
        })
    }

    fn health(&self) -> DispatchHealth {
        let link = match self.client.health().report().link {
            Link::Untried | Link::Working => None,
            Link::Failing { lasts, why } => Some(amiss(&why, lasts)),
        };
        DispatchHealth { link, steps: self.worker.as_deref().and_then(trouble) }
    }
}

fn told(error: HatchetError) -> DispatchError {
    match error {
        error if error.is_passing() || error.may_be_done() => {
            DispatchError::Away(error.to_string())
        }
        error => DispatchError::Refused(error.to_string()),
    }
}

/// Makes this node one of an engine's workers; what it is told.
///
/// # Errors
/// If the settings can't be used.
pub fn take_part(
    client: &HatchetClient,
    settings: WorkerSettings,
) -> Result<(Arc<worker::Worker>, HatchetOrders), HatchetError> {
    let (worker, orders) = worker::Worker::start(client.clone(), settings)?;
    Ok((Arc::new(worker), HatchetOrders { orders, client: client.clone() }))
}

/// Why a worker hears nothing, if so.
fn trouble(worker: &worker::Worker) -> Option<Amiss> {
    let report = worker.report();
    match report.listening {
        Listening::Open => None,
        Listening::Registering(None) => Some(amiss(&"it is being registered", report.lasts)),
        Listening::Registering(Some(why)) | Listening::Lost(why) => Some(amiss(&why, report.lasts)),
        Listening::Left => Some(amiss(&"it has left", report.lasts)),
    }
}

fn amiss(why: &dyn Display, lasts: Duration) -> Amiss {
    let lasts_ms = lasts.as_millis().try_into().unwrap_or(u64::MAX);
    Amiss { why: why.to_string().into(), lasts_ms }
}

impl Worker for worker::Worker {
    fn drain(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.drain())
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.leave())
    }
}

/// What such a worker is told.
pub struct HatchetOrders {
    orders: mpsc::Receiver<dispatch::Order>,
    client: HatchetClient,
}

impl Orders for HatchetOrders {
    fn next(&mut self) -> BoxFuture<'_, Option<Order>> {
        Box::pin(async {
            loop {
                match self.orders.recv().await? {
                    dispatch::Order::Start(given) => {
                        if let Some(task) = self.task(*given) {
                            return Some(Order::Start(task));
                        }
                    }
                    dispatch::Order::Cancel(cancelled) => {
                        if let Some((turn, epoch)) = cancelled.turn {
                            return Some(Order::Stop(TurnId(turn), Epoch(epoch)));
                        }
                    }
                }
            }
        })
    }
}

impl HatchetOrders {
    /// The step, if somebody has to see to it; else it is answered here.
    fn task(&self, given: Dispatch) -> Option<Task> {
        let Dispatch { run, step, retry, outputs, action, .. } = given;
        let report = Told { client: self.client.clone(), action };
        let refused = outputs.values().find_map(|output| output.get(REFUSED)?.as_str());
        if let Some(why) = refused {
            let outcome = StepOutcome::Refused(why.into());
            tokio::spawn(Box::new(report).ended(outcome));
            return None;
        }
        let Ok(session) = run.session.parse() else {
            let outcome = StepOutcome::Refused("there is no such session".into());
            tokio::spawn(Box::new(report).ended(outcome));
            return None;
        };
        let (turn, epoch, round) = (TurnId(run.turn), Epoch(run.epoch), run.round);
        let errand = Errand { session, turn, epoch, round };
        Some(Task { errand, step, again: retry, report: Box::new(report) })
    }
}

/// Tells the engine what became of one step.
struct Told {
    client: HatchetClient,
    action: Action,
}

impl StepReport for Told {
    fn begun(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Err(error) = self.client.report(&self.action, &Report::Started).await {
                tracing::debug!(class = error.class(), %error, "Hatchet: a beginning was not told");
            }
        })
    }

    fn ended(self: Box<Self>, outcome: StepOutcome) -> BoxFuture<'static, ()> {
        let report = match outcome {
            StepOutcome::Done => Report::Completed(Map::new()),
            StepOutcome::Refused(why) => {
                Report::Completed(Map::from_iter([(REFUSED.to_owned(), json!(&*why))]))
            }
            StepOutcome::Failed(why) => Report::Failed { why: why.to_string(), again: true },
            StepOutcome::Stopped => Report::Cancelled,
        };
        Box::pin(async move {
            if let Err(error) = self.client.report_within(&self.action, &report, TELL).await {
                tracing::warn!(class = error.class(), %error, "Hatchet: an ending was not told");
            }
        })
    }
}
