//! What keeps a worker registered and listened to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic::Status;
use turnkeep_core::ports::dispatch::TurnStep;

use super::{Listening, Shared, WorkerSettings};
use crate::again::Again;
use crate::client::{HatchetClient, now};
use crate::dispatch::{self, Action, Order, Read};
use crate::report::Report;
use crate::trouble::HatchetError;
use crate::wire;

/// Heartbeats in a row that fail, before the stream is opened anew.
const MISSED_MAX: u32 = 3;
/// Unusable messages in a row, before a stream is closed.
const NONSENSE_MAX: u32 = 100;
/// How many refusals are on their way at once; a step whose refusal is not sent runs out of time.
const REFUSALS_MAX: usize = 8;
/// How long the engine is asked to forget a worker that leaves.
pub(super) const LEAVING: Duration = Duration::from_secs(5);

/// Why a stream is over.
enum End {
    /// Open it again.
    Lost(HatchetError),
    /// Somebody asked for a new one.
    Asked,
    /// The engine has forgotten the worker.
    Forgotten,
    /// Nobody reads the orders, or the worker is to leave.
    Over,
}

pub(super) struct Supervisor {
    client: HatchetClient,
    settings: WorkerSettings,
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
    refusals: Arc<Semaphore>,
    again: Again,
}

impl Supervisor {
    pub(super) fn new(
        client: HatchetClient,
        settings: WorkerSettings,
        shared: Arc<Shared>,
        orders: mpsc::Sender<Order>,
    ) -> Self {
        let again = Again::new(settings.again_first, settings.again_longest);
        let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
        Self { client, settings, shared, orders, refusals, again }
    }

    /// Until the worker leaves, or nobody reads its orders.
    pub(super) async fn run(mut self) {
        let mut leave = self.shared.leave.subscribe();
        loop {
            let id = tokio::select! {
                id = self.register() => id,
                _ = leave.wait_for(|leaves| *leaves) => break,
            };
            if !self.listen(&id).await {
                break;
            }
            // An engine that forgets whomever it registers is not to be asked in a circle.
            self.again.wait().await;
        }
        self.shared.does(Listening::Left);
    }

    /// Until the engine has given an id.
    async fn register(&mut self) -> Arc<str> {
        let workflow = self.client.workflow();
        let asked = wire::WorkerRegisterRequest {
            worker_name: self.settings.name.to_string(),
            actions: TurnStep::ALL.map(|step| workflow.action(step)).to_vec(),
            services: vec!["default".into()],
            slot_config: [("default".to_owned(), self.settings.slots.try_into().unwrap_or(1))]
                .into(),
        };
        loop {
            let told: Result<wire::WorkerRegisterResponse, _> =
                self.client.call("/Dispatcher/Register", asked.clone()).await;
            let trouble = match told {
                Ok(told) if told.worker_id.is_empty() => {
                    HatchetError::Unreadable("a worker was registered without an id".into())
                }
                Ok(told) => {
                    let id: Arc<str> = told.worker_id.into();
                    tracing::info!(worker = &*id, "Hatchet: registered");
                    self.shared.change(|state| {
                        state.id = Some(Arc::clone(&id));
                        state.registrations += 1;
                    });
                    return id;
                }
                Err(error) => error,
            };
            tracing::warn!(class = trouble.class(), %trouble, "Hatchet: not registered");
            self.shared.does(Listening::Registering(Some(trouble)));
            self.again.wait().await;
        }
    }

    /// One stream after the other, until the engine has forgotten the worker; `false` if it is over.
    async fn listen(&mut self, id: &Arc<str>) -> bool {
        loop {
            let opened = Instant::now();
            self.shared.change(|state| state.streams += 1);
            self.shared.does(Listening::Open);
            let end = self.one_stream(id, opened).await;
            let trouble = match end {
                End::Over => return false,
                End::Forgotten => HatchetError::UnknownWorker,
                End::Asked => {
                    tracing::info!(worker = &**id, "Hatchet: the stream is opened anew");
                    continue;
                }
                End::Lost(trouble) => trouble,
            };
            tracing::warn!(class = trouble.class(), %trouble, "Hatchet: the stream ended");
            if opened.elapsed() > self.settings.heartbeat * 2 {
                self.again.reset();
            }
            let is_forgotten = trouble == HatchetError::UnknownWorker;
            self.shared.does(Listening::Lost(trouble));
            if is_forgotten {
                return true;
            }
            self.again.wait().await;
            // For a worker that it does not know the engine ends a stream without a reason.
            let silent = *self.shared.silent.borrow();
            if !silent && self.heartbeat(id).await == Err(HatchetError::UnknownWorker) {
                return true;
            }
        }
    }

    /// Until this stream is over; when the worker leaves, not before the engine knows it, so that
    /// nothing is sent to a stream that nobody reads.
    async fn one_stream(&self, id: &Arc<str>, opened: Instant) -> End {
        let mut leave = self.shared.leave.subscribe();
        let hears = self.hear(id);
        tokio::pin!(hears);
        tokio::select! {
            end = &mut hears => return end,
            end = self.beat(id, opened) => return end,
            () = self.shared.reopen.notified() => return End::Asked,
            () = self.orders.closed() => {}
            _ = leave.wait_for(|leaves| *leaves) => {}
        }
        tokio::select! {
            _ = hears => {}
            () = self.unsubscribe(id) => {}
        }
        End::Over
    }

    async fn unsubscribe(&self, id: &Arc<str>) {
        let asked = wire::WorkerNamed { worker_id: id.to_string() };
        let asking = self.client.call::<_, wire::Nothing>("/Dispatcher/Unsubscribe", asked);
        match timeout(LEAVING, asking).await {
            Ok(Ok(_)) => tracing::info!(worker = &**id, "Hatchet: the worker has left"),
            Ok(Err(error)) => tracing::warn!(%error, "Hatchet: the worker left without a word"),
            Err(_) => tracing::warn!("Hatchet: the worker left without a word"),
        }
    }

    async fn heartbeat(&self, id: &Arc<str>) -> Result<(), HatchetError> {
        let asked = wire::HeartbeatRequest { worker_id: id.to_string(), heartbeat_at: Some(now()) };
        let _: wire::Nothing = self.client.call("/Dispatcher/Heartbeat", asked).await?;
        self.shared.change(|state| state.heartbeat = Some(Instant::now()));
        Ok(())
    }

    /// Says that the worker lives, until that shows that its stream does not.
    async fn beat(&self, id: &Arc<str>, opened: Instant) -> End {
        let mut ticks = interval(self.settings.heartbeat);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut missed = 0;
        loop {
            ticks.tick().await;
            if *self.shared.silent.borrow() {
                return std::future::pending().await;
            }
            match self.heartbeat(id).await {
                Ok(()) => missed = 0,
                Err(HatchetError::UnknownWorker) => return End::Forgotten,
                // The engine may not have seen a stream that was only just opened.
                Err(HatchetError::NotListening)
                    if opened.elapsed() < self.settings.heartbeat / 2 => {}
                Err(error @ HatchetError::NotListening) => return End::Lost(error),
                Err(error) => {
                    missed += 1;
                    tracing::warn!(class = error.class(), %error, missed, "Hatchet: no heartbeat");
                    if missed >= MISSED_MAX {
                        return End::Lost(error);
                    }
                }
            }
        }
    }

    /// Reads the stream to its end.
    async fn hear(&self, id: &Arc<str>) -> End {
        let lost = |status: &Status| {
            End::Lost(HatchetError::from_status(status, "/Dispatcher/ListenV2", 0))
        };
        let mut stream = match self.client.listen(id).await {
            Ok(stream) => stream,
            Err(status) => return lost(&status),
        };
        let mut nonsense = 0;
        loop {
            let told = match stream.message().await {
                Ok(Some(told)) => told,
                Ok(None) => {
                    let why = "it ended the stream";
                    return End::Lost(HatchetError::Unreachable(why.into()));
                }
                Err(status) => return lost(&status),
            };
            match dispatch::read(told, id, self.client.workflow(), self.client.cluster()) {
                Read::Order(order) => {
                    nonsense = 0;
                    if !self.heard(order).await {
                        return End::Over;
                    }
                    continue;
                }
                Read::Unknown(kind) => {
                    self.shared.change(|state| state.unknown += 1);
                    tracing::debug!(kind, "Hatchet: of a kind that is not known here");
                }
                Read::Broken { action, why, again } => {
                    self.shared.change(|state| state.refused += 1);
                    self.refuse(action, why, again);
                }
            }
            self.shared.changed.send_replace(());
            nonsense += 1;
            if nonsense >= NONSENSE_MAX {
                let why = format!("{nonsense} messages in a row are of no use");
                return End::Lost(HatchetError::Unreadable(why));
            }
        }
    }

    /// Passes an order on; `false` if nobody wants it.
    async fn heard(&self, order: Order) -> bool {
        match &order {
            Order::Start(dispatch) => {
                self.client.health().dispatched(dispatch.run.turn, dispatch.run.epoch);
                self.shared.change(|state| state.starts += 1);
            }
            Order::Cancel(_) => self.shared.change(|state| state.cancels += 1),
        }
        self.shared.changed.send_replace(());
        self.orders.send(order).await.is_ok()
    }

    /// Says that a step can't be run, beside everything else.
    fn refuse(&self, action: Box<Action>, why: String, again: bool) {
        let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() else { return };
        tracing::warn!(step = %action.task_run, why, "Hatchet: a step that can't be run");
        let client = self.client.clone();
        tokio::spawn(async move {
            if let Err(error) = client.report(&action, &Report::Failed { why, again }).await {
                tracing::warn!(%error, "Hatchet: it could not be told that a step can't be run");
            }
            drop(permit);
        });
    }
}
