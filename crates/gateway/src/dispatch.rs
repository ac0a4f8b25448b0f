//! Turns that something outside gives to one of several nodes.
//!
//! Both ends of it: a node that runs no turns hands over what nobody has who does (`board` says what
//! to do and when), and a node that runs turns sees to the steps that it is given (`work`). Neither
//! decides whose a session is; that stands in the store. Where no dispatcher is named, nothing here
//! does anything.

mod board;
mod engine;
mod left;
mod owed;
mod stand_in;
mod work;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use turnkeep_core::ids::TurnId;
use turnkeep_core::ports::dispatch::{DispatchHealth, Dispatcher, Errand};
use turnkeep_core::ports::store::Holder;
use turnkeep_core::session::{Session, Stage, Turn};
use turnkeep_core::{Policy, SessionKey};

use crate::clock;
use crate::service::Gateway;
use board::{Act, Board};
pub use engine::Engine;
use left::Looks;
use owed::is_owed;
pub(crate) use stand_in::Post;
use stand_in::{Posts, Rest};
use work::Giver;

/// How often it is looked at what is late.
const BEAT: Duration = Duration::from_millis(250);
/// Calls of the dispatcher, and looks into the store, that may be under way at once.
const CALLS_MAX: usize = 1000;

/// What handing over lives by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DispatchSettings {
    /// How long a turn may wait to be taken.
    pub timeout: Duration,
    /// Whether this node runs a turn that nobody took; else it goes on waiting.
    pub fallback: bool,
}

/// How what was handed over stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Awaiting {
    /// Turns that nobody has taken yet.
    pub turns: usize,
    /// How long the longest of them waits, in milliseconds.
    pub longest_ms: u64,
    /// The engine is tried with one turn at a time.
    pub open: bool,
    /// For how long it has been, in milliseconds.
    pub open_ms: u64,
    /// Turns that were handed over.
    pub handed: u64,
    /// Turns that somebody took in time.
    pub taken: u64,
    /// How long those waited together, in milliseconds.
    pub taken_ms: u64,
    /// Turns that nobody took in time, or of which the engine did not hear.
    pub failed: u64,
    /// Turns that this node ran in the engine's place.
    pub ran_here: u64,
}

/// How handing over stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DispatchView {
    /// What is awaited, and what became of the rest.
    pub awaiting: Awaiting,
    /// What the dispatcher says of itself.
    pub health: DispatchHealth,
}

/// Both ends, as far as they are in use.
#[derive(Default)]
pub(crate) struct Dispatch {
    desk: OnceLock<Arc<Desk>>,
    /// What is known of sessions whose steps this node sees to.
    seen: Mutex<HashMap<SessionKey, watch::Sender<Option<Seen>>>>,
    /// How many steps that are: in most programs none, and nobody locks anything.
    steps: AtomicUsize,
    /// Who gives this node steps, if somebody does.
    giver: OnceLock<Giver>,
    /// What this node runs in the place of others.
    posts: Posts,
}

/// Where turns are handed over.
struct Desk {
    dispatcher: Arc<dyn Dispatcher>,
    board: Mutex<Board>,
    /// What nobody takes is run here.
    fallback: bool,
    started: Instant,
    /// What the board wants done.
    acts: mpsc::UnboundedSender<Act>,
    /// Taken by whoever does it.
    wanted: Mutex<Option<mpsc::UnboundedReceiver<Act>>>,
}

impl Desk {
    /// Tells the board something, and has done what follows. What waits to be done is bounded by
    /// what the board remembers.
    fn change(&self, change: impl FnOnce(&mut Board, u64, &mut Vec<Act>)) {
        let now = self.started.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
        let mut acts = Vec::new();
        let mut board = self.board();
        change(&mut board, now, &mut acts);
        // Under the lock, so that they come in the board's order.
        for act in acts {
            let _ = self.acts.send(act);
        }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a session's task knew after its last commit or load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    turn: Option<TurnId>,
    /// How far it is.
    progress: Progress,
    /// This node has it.
    here: bool,
}

/// How far a turn is, by its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Accumulates,
    Runs,
    /// Answered, or waiting for a person.
    Answered,
}

impl Progress {
    const fn of(stage: Stage) -> Self {
        match stage {
            Stage::Accumulating { .. } => Self::Accumulates,
            Stage::Processing | Stage::Backoff { .. } | Stage::Quarantined => Self::Runs,
            Stage::Operator | Stage::Waiting { .. } => Self::Answered,
        }
    }
}

impl Seen {
    fn of(session: &Session, here: bool) -> Self {
        let turn = session.turn.as_ref();
        let progress = turn.map_or(Progress::Answered, |turn| Progress::of(turn.stage));
        Self { turn: turn.map(|turn| turn.id), progress, here }
    }
}

/// The turn that somebody has to be found for, if nobody has the session.
fn handed(session: &Session) -> Option<&Turn> {
    session.turn.as_deref().filter(|turn| Progress::of(turn.stage) < Progress::Answered)
}

impl Gateway {
    /// Has turns handed over that nobody has who runs turns. To be said before [`Gateway::start`],
    /// and once; [`Gateway::keep_dispatch`] does it.
    pub fn hand_over_by(&self, dispatcher: Arc<dyn Dispatcher>, settings: DispatchSettings) {
        let timeout = settings.timeout.as_millis().try_into().unwrap_or(u64::MAX);
        let (acts, wanted) = mpsc::unbounded_channel();
        let desk = Desk {
            dispatcher,
            board: Mutex::new(Board::new(timeout, settings.fallback)),
            fallback: settings.fallback,
            started: Instant::now(),
            acts,
            wanted: Mutex::new(Some(wanted)),
        };
        let _ = self.0.dispatch.desk.set(Arc::new(desk));
    }

    /// How handing over stands, where turns are handed over by this node or to it.
    #[must_use]
    pub fn dispatch_view(&self) -> Option<DispatchView> {
        let Some(desk) = self.0.dispatch.desk.get() else {
            let health = self.0.dispatch.giver.get()?.health();
            return Some(DispatchView { awaiting: Awaiting::default(), health });
        };
        let now = desk.started.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
        let awaiting = desk.board().standing(now);
        Some(DispatchView { awaiting, health: desk.dispatcher.health() })
    }

    /// A session's task says what it knows, after each commit and each load: `here` if this node
    /// does what the session asks for, and not another one.
    pub(crate) fn stands(&self, key: &SessionKey, session: &Session, here: bool) {
        if self.0.dispatch.steps.load(Ordering::Acquire) > 0 {
            let seen = self.0.dispatch.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(watched) = seen.get(key) {
                watched.send_replace(Some(Seen::of(session, here)));
            }
        }
        let Some(desk) = self.0.dispatch.desk.get() else { return };
        if self.is_owned(key) {
            // Only one node may run it, and looks for it by itself.
            return desk.change(|board, now, acts| board.settled(key, false, now, acts));
        }
        // Also of a turn that was over before anybody looked.
        let another = matches!(self.store().holder(session.epoch), Holder::Another | Holder::Later);
        match handed(session) {
            Some(turn) if !here && !another => {
                let (turn, epoch) = (turn.id, session.epoch);
                desk.change(|board, now, acts| board.opened(key, turn, epoch, now, acts));
            }
            _ if !here && !another && self.owes(desk, key, session) => {
                desk.change(|board, now, acts| board.owed(key, now, acts));
            }
            _ => desk.change(|board, now, acts| board.settled(key, another, now, acts)),
        }
    }

    /// Whether something besides a turn is this node's to do in the end.
    fn owes(&self, desk: &Desk, key: &SessionKey, session: &Session) -> bool {
        let policy = || self.policy_of_stored(key);
        let owed = |policy: Arc<Policy>| is_owed(session, &policy, clock::now());
        session.has_open_work() && self.is_left_to_us(desk) && policy().is_some_and(owed)
    }

    /// Hands over what has to be, until `shutdown`.
    pub async fn keep_dispatch(&self, shutdown: CancellationToken) {
        let Some(desk) = self.0.dispatch.desk.get() else { return };
        let wanted = desk.wanted.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut wanted) = wanted else { return };
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (places, mut rest) = (Arc::new(Semaphore::new(CALLS_MAX)), Rest::default());
        let mut looks = Looks::default();
        loop {
            let act = tokio::select! {
                () = shutdown.cancelled() => return,
                _ = beat.tick() => {
                    desk.change(Board::tick);
                    self.step_back(desk, &mut rest);
                    self.look_for_left(desk, &mut looks);
                    continue;
                }
                Some(act) = wanted.recv() => act,
            };
            let act = match act {
                Act::Taken(errand) => {
                    desk.dispatcher.taken(&errand);
                    continue;
                }
                Act::RunHere(session) => {
                    if let Some(policy) = self.policy_of_stored(&session) {
                        let gateway = self.clone();
                        tokio::spawn(async move { gateway.run_here(&session, policy).await });
                    }
                    continue;
                }
                act => act,
            };
            let (gateway, desk) = (self.clone(), Arc::clone(desk));
            match (Arc::clone(&places).try_acquire_owned(), act) {
                (Ok(place), act) => drop(tokio::spawn(async move {
                    gateway.call(&desk, act).await;
                    drop(place);
                })),
                // So many hang that this one would wait for nothing.
                (Err(_), Act::Dispatch(errand)) => {
                    desk.change(|board, now, acts| board.told(&errand, false, now, acts));
                }
                // A courtesy, or done again soon.
                (Err(_), _) => {}
            }
        }
    }

    /// What may take its time.
    async fn call(&self, desk: &Desk, act: Act) {
        match act {
            Act::Dispatch(errand) => {
                let told = desk.dispatcher.dispatch(&errand).await;
                if let Err(error) = &told {
                    let (turn, session_key) = (errand.turn, &errand.session);
                    tracing::warn!(%session_key, %turn, %error, "the turn was not handed over");
                }
                desk.change(|board, now, acts| board.told(&errand, told.is_ok(), now, acts));
            }
            Act::Cancel(errand) => desk.dispatcher.cancel(&errand).await,
            Act::Look(Errand { session, turn, .. }) => {
                self.look_for(desk, &session, Some(turn)).await;
            }
            Act::See(session) => self.look_for(desk, &session, None).await,
            Act::Taken(_) | Act::RunHere(_) => {}
        }
    }

    /// Sees in the store whether somebody took it.
    async fn look_for(&self, desk: &Desk, session_key: &SessionKey, turn: Option<TurnId>) {
        match self.store().load(session_key).await {
            Ok(Some(loaded)) => self.stands(session_key, &loaded.session, false),
            // Whom it belonged to is forgotten: nobody is going to take it.
            Ok(None) => {
                desk.change(|board, now, acts| board.erased(session_key, turn, now, acts));
            }
            Err(error) => {
                tracing::debug!(%session_key, %error, "whether it was taken can't be seen");
            }
        }
    }
}
