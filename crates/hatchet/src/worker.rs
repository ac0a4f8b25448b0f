//! A worker that keeps itself registered and hears dispatches, whatever becomes of the engine.
//!
//! It opens its stream again the moment that it ends: an engine that was killed goes on taking the
//! heartbeats of workers that it can't reach. Who reads the orders has to be quick, since a stream
//! that is not read for a quarter of a second has its dispatches given to others.

mod supervisor;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{sleep, timeout};

use self::supervisor::{LEAVING, Supervisor};
use crate::client::HatchetClient;
use crate::dispatch::Order;
use crate::trouble::HatchetError;

/// How many steps a worker may run at once.
const SLOTS_MAX: u32 = 10_000;
/// Room for what comes besides starts: cancellations, and steps that were given out twice.
const SPARE_ORDERS: usize = 64;
/// How long it takes the engine's scheduler to leave a worker out that is silent: 5 seconds until it
/// counts as that, 5 until the list is made again, and some more.
const FORGETTING: Duration = Duration::from_secs(12);

/// What a worker needs to know.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// Its name, for people.
    pub name: Arc<str>,
    /// How many steps it runs at once.
    pub slots: u32,
    /// How often it says that it lives. After 5 seconds without it gets nothing, after 30 its steps
    /// are given out again.
    pub heartbeat: Duration,
    /// The first wait before a stream that ended is opened again.
    pub again_first: Duration,
    /// The longest such wait.
    pub again_longest: Duration,
}

impl WorkerSettings {
    /// One of this name that runs so many steps at once.
    #[must_use]
    pub fn new(name: &str, slots: u32) -> Self {
        Self {
            name: name.into(),
            slots,
            heartbeat: Duration::from_secs(4),
            again_first: Duration::from_millis(200),
            again_longest: Duration::from_secs(5),
        }
    }

    fn check(&self) -> Result<(), HatchetError> {
        let wrong = |why: String| Err(HatchetError::Settings(why));
        let name = &self.name;
        if name.is_empty() || name.len() > 100 || name.contains(char::is_control) {
            return wrong(format!("the worker's name {name:?} has to be 1 to 100 plain bytes"));
        }
        if self.slots == 0 || self.slots > SLOTS_MAX {
            let slots = self.slots;
            return wrong(format!("a worker has 1 to {SLOTS_MAX} slots, not {slots}"));
        }
        let times = [self.heartbeat, self.again_first, self.again_longest];
        if times.contains(&Duration::ZERO) {
            return wrong("a worker's heartbeat and waits have to be longer than nothing".into());
        }
        Ok(())
    }
}

/// What a worker is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listening {
    /// It makes itself known to the engine; the last trouble in that.
    Registering(Option<HatchetError>),
    /// It has an open stream, as far as anybody can know.
    Open,
    /// Its stream ended for this reason, and is opened again.
    Lost(HatchetError),
    /// It has left, or nobody reads its orders.
    Left,
}

/// What is known of a worker at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerReport {
    /// What it does.
    pub listening: Listening,
    /// Since when.
    pub lasts: Duration,
    /// What the engine calls it.
    pub id: Option<Arc<str>>,
    /// How long ago its last heartbeat was taken.
    pub heartbeat: Option<Duration>,
    /// How often it registered.
    pub registrations: u64,
    /// How often it opened its stream.
    pub streams: u64,
    /// Steps that it was given.
    pub starts: u64,
    /// Cancellations that it was given.
    pub cancels: u64,
    /// Steps that it could not read or that are not its own; they are answered as failed.
    pub refused: u64,
    /// Messages of a kind that is not known here.
    pub unknown: u64,
}

#[derive(Debug)]
struct State {
    listening: Listening,
    since: Instant,
    id: Option<Arc<str>>,
    heartbeat: Option<Instant>,
    registrations: u64,
    streams: u64,
    starts: u64,
    cancels: u64,
    refused: u64,
    unknown: u64,
}

struct Shared {
    state: Mutex<State>,
    /// Tells whoever waits that what it does has changed.
    changed: watch::Sender<()>,
    /// The stream is to be opened anew.
    reopen: Notify,
    /// It says no more that it lives.
    silent: watch::Sender<bool>,
    leave: watch::Sender<bool>,
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn does(&self, listening: Listening) {
        self.change(|state| {
            state.since = Instant::now();
            state.listening = listening;
        });
        self.changed.send_replace(());
    }

    fn report(&self) -> WorkerReport {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        WorkerReport {
            listening: state.listening.clone(),
            lasts: state.since.elapsed(),
            id: state.id.clone(),
            heartbeat: state.heartbeat.map(|at| at.elapsed()),
            registrations: state.registrations,
            streams: state.streams,
            starts: state.starts,
            cancels: state.cancels,
            refused: state.refused,
            unknown: state.unknown,
        }
    }
}

/// A worker at work. Dropping it is dying: the engine is told nothing.
pub struct Worker {
    shared: Arc<Shared>,
    /// What is waited for when it leaves; none once somebody does.
    task: Mutex<Option<JoinHandle<()>>>,
    abort: AbortHandle,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

impl Worker {
    /// Starts one, and what it hears. It registers, listens and comes back by itself until it leaves
    /// or nobody reads its orders any more.
    ///
    /// # Errors
    /// If the settings can't be used.
    pub fn start(
        client: HatchetClient,
        settings: WorkerSettings,
    ) -> Result<(Self, mpsc::Receiver<Order>), HatchetError> {
        settings.check()?;
        let room = 2 * settings.slots as usize + SPARE_ORDERS;
        let (orders, heard) = mpsc::channel(room);
        let state = State {
            listening: Listening::Registering(None),
            since: Instant::now(),
            id: None,
            heartbeat: None,
            registrations: 0,
            streams: 0,
            starts: 0,
            cancels: 0,
            refused: 0,
            unknown: 0,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
            reopen: Notify::new(),
            silent: watch::Sender::new(false),
            leave: watch::Sender::new(false),
        });
        let supervisor = Supervisor::new(client, settings, Arc::clone(&shared), orders);
        let task = tokio::spawn(supervisor.run());
        let abort = task.abort_handle();
        Ok((Self { shared, task: Mutex::new(Some(task)), abort }, heard))
    }

    /// How it is doing.
    #[must_use]
    pub fn report(&self) -> WorkerReport {
        self.shared.report()
    }

    /// Waits until what is known of it is so.
    pub async fn until(&self, is_so: impl Fn(&WorkerReport) -> bool) -> WorkerReport {
        let mut changed = self.shared.changed.subscribe();
        loop {
            let report = self.report();
            if is_so(&report) || changed.changed().await.is_err() {
                return report;
            }
        }
    }

    /// Opens its stream anew: for one that looks open and brings nothing though something is due.
    pub fn reopen(&self) {
        self.shared.reopen.notify_one();
    }

    /// Has the engine give it nothing more, which takes some seconds: until this returns, steps
    /// come that somebody has to run, by preference those of turns that it has begun. What runs may
    /// go on for 15 seconds more, then the engine counts the worker as lost.
    ///
    /// A worker that leaves without this is given steps for some seconds that it can't hear, and of
    /// each the engine makes no more than ten such tries.
    pub async fn drain(&self) {
        self.shared.silent.send_replace(true);
        sleep(FORGETTING).await;
    }

    /// Goes, best after [`Self::drain`]. What it heard stands in its orders, which end then; steps
    /// that run may still report.
    pub async fn leave(&self) {
        self.shared.leave.send_replace(true);
        let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        let limit = LEAVING * 2;
        if timeout(limit, task).await.is_err() {
            tracing::warn!(?limit, "Hatchet: the worker could not leave in time");
        }
    }
}
