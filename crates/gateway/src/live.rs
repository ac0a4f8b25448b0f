//! Who watches a session right now: where its journal ends, whether the agent types, and the draft.
//!
//! Watchers pull: they are told that something changed and read it themselves, so a slow one costs
//! nothing but its own time and there is no buffer to overflow.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use dashmap::DashMap;
use tokio::sync::{Notify, watch};
use turnkeep_core::SessionKey;
use turnkeep_core::draft;
use turnkeep_core::ids::{Attempt, RunTag, Seq, TurnId};

use crate::run::RunShared;
use crate::switchboard::Holds;

/// What a watcher is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tick {
    /// Where the journal ends.
    pub last_seq: Seq,
    /// The agent is at work.
    pub typing: bool,
    /// Grows with every piece of streamed text.
    pub draft: u64,
    /// Grows each time that the session is erased and its places are counted from 1 again.
    pub anew: u32,
}

/// The shared side of all watchers of one session.
pub(crate) struct Live {
    tick: watch::Sender<Tick>,
    run: Mutex<Option<Arc<RunShared>>>,
    elsewhere: Mutex<Elsewhere>,
    /// Who watches other nodes has to look again: a run began or ended here, or nobody cares any
    /// more.
    moved: Arc<Notify>,
}

/// What another node shows of its run.
#[derive(Default)]
struct Elsewhere {
    /// Somebody listens to other nodes.
    watched: bool,
    draft: Option<Box<draft::Draft>>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.moved.notify_one();
    }
}

impl Live {
    fn new() -> Self {
        Self {
            tick: watch::Sender::new(Tick::default()),
            run: Mutex::new(None),
            elsewhere: Mutex::default(),
            moved: Arc::default(),
        }
    }

    pub(crate) fn journal(&self, last_seq: Seq) {
        self.tick.send_if_modified(|tick| {
            let newer = last_seq > tick.last_seq;
            tick.last_seq = tick.last_seq.max(last_seq);
            newer
        });
    }

    /// The session is gone; whoever writes there again begins at place 1.
    pub(crate) fn begin_anew(&self) {
        self.tick.send_modify(|tick| {
            tick.last_seq = Seq(0);
            tick.anew += 1;
        });
    }

    /// The session as it was read just now. Where it is shorter than what was told, it was erased.
    pub(crate) fn loaded(&self, last_seq: Seq) {
        self.tick.send_if_modified(|tick| {
            tick.anew += u32::from(last_seq < tick.last_seq);
            std::mem::replace(&mut tick.last_seq, last_seq) != last_seq
        });
    }

    pub(crate) fn typing(&self, on: bool) {
        self.tick.send_if_modified(|tick| std::mem::replace(&mut tick.typing, on) != on);
    }

    pub(crate) fn drafted(&self) {
        self.tick.send_modify(|tick| tick.draft += 1);
    }

    pub(crate) fn set_run(&self, run: Option<Arc<RunShared>>) {
        if run.is_some() {
            // Whatever other nodes showed was of a run before this one.
            self.elsewhere().draft = None;
        }
        *lock(&self.run) = run;
        self.moved.notify_one();
        self.drafted();
    }

    /// The turn that is open now, as it was read just now; what another node showed of any other
    /// one is over.
    pub(crate) fn open_turn(&self, turn: Option<TurnId>) {
        let mut elsewhere = self.elsewhere();
        let shown = elsewhere.draft.as_ref().and_then(|draft| draft.run()).map(|run| run.turn);
        if shown != turn {
            // Should that be wrong, the next piece has a gap before it, and all of it is asked for.
            elsewhere.draft = None;
        }
    }

    /// Whoever asks first is to watch other nodes, and look again whenever it is told to.
    pub(crate) fn watched_elsewhere(&self) -> Option<Arc<Notify>> {
        let watched = std::mem::replace(&mut self.elsewhere().watched, true);
        (!watched).then(|| Arc::clone(&self.moved))
    }

    pub(crate) fn runs_here(&self) -> bool {
        lock(&self.run).is_some()
    }

    /// Another node shows a piece of its draft.
    pub(crate) fn read_elsewhere(&self, piece: &draft::Piece) -> draft::Read {
        let mut elsewhere = self.elsewhere();
        let new = || Box::new(draft::Draft::new(draft::DRAFT_BYTES_MAX));
        let read = elsewhere.draft.get_or_insert_with(new).read(piece);
        drop(elsewhere);
        if matches!(read, draft::Read::Grown | draft::Read::Anew | draft::Read::Mended) {
            self.drafted();
        }
        read
    }

    /// Pieces may be missing.
    pub(crate) fn missed_elsewhere(&self) {
        if let Some(draft) = &mut self.elsewhere().draft {
            draft.miss();
        }
    }

    fn elsewhere(&self) -> MutexGuard<'_, Elsewhere> {
        lock(&self.elsewhere)
    }
}

/// All sessions that somebody watches.
#[derive(Default)]
pub(crate) struct Lives(DashMap<SessionKey, Weak<Live>>);

impl Lives {
    pub(crate) fn open(&self, key: &SessionKey) -> Arc<Live> {
        let mut entry = self.0.entry(key.clone()).or_default();
        if let Some(live) = entry.upgrade() {
            return live;
        }
        let live = Arc::new(Live::new());
        *entry = Arc::downgrade(&live);
        live
    }

    pub(crate) fn get(&self, key: &SessionKey) -> Option<Arc<Live>> {
        if self.0.is_empty() { None } else { self.0.get(key)?.upgrade() }
    }

    /// Where the journals of all that are watched end, as the watchers know.
    pub(crate) fn ends(&self) -> BTreeMap<SessionKey, Seq> {
        let watched = self.0.iter().filter_map(|entry| {
            let live = entry.value().upgrade()?;
            let last_seq = live.tick.borrow().last_seq;
            Some((entry.key().clone(), last_seq))
        });
        watched.collect()
    }

    /// How many watch.
    pub(crate) fn watchers(&self) -> usize {
        self.0.iter().filter_map(|live| Some(live.upgrade()?.tick.receiver_count())).sum()
    }

    /// Forgets sessions that nobody watches any more.
    pub(crate) fn tidy(&self) {
        self.0.retain(|_, live| live.strong_count() > 0);
    }
}

/// One watcher.
pub struct Subscription {
    live: Arc<Live>,
    ticks: watch::Receiver<Tick>,
    anew: u32,
    /// Its connection counts as open for the session.
    _connection: Holds,
}

/// Streamed text that is not committed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Whose.
    pub turn: TurnId,
    /// A new attempt starts a new draft.
    pub attempt: Attempt,
    /// Everything from `from` on.
    pub text: String,
    /// How long the whole draft is, in bytes.
    pub len: usize,
}

impl Subscription {
    pub(crate) fn new(live: Arc<Live>, connection: Holds) -> Self {
        let mut ticks = live.tick.subscribe();
        ticks.mark_changed();
        let anew = ticks.borrow().anew;
        Self { live, ticks, anew, _connection: connection }
    }

    /// [`Tick::anew`] as it was when this began.
    #[must_use]
    pub const fn anew(&self) -> u32 {
        self.anew
    }

    /// Resolves once something changed since the last call; at once the first time.
    pub async fn changed(&mut self) -> Tick {
        // The sender lives as long as this subscription, so waiting can't fail.
        let _ = self.ticks.changed().await;
        *self.ticks.borrow_and_update()
    }

    /// The draft of the running attempt, from byte `from` on if it is still the one of `seen`.
    #[must_use]
    pub fn draft(&self, seen: Option<(TurnId, Attempt, usize)>) -> Option<Draft> {
        let Some(run) = lock(&self.live.run).clone() else {
            let elsewhere = self.live.elsewhere();
            let draft = elsewhere.draft.as_ref()?;
            return Some(unseen(draft.run()?, draft.text(), seen));
        };
        let text = lock(&run.draft);
        Some(unseen(run.tag, &text, seen))
    }
}

/// What of a draft was not seen yet.
fn unseen(run: RunTag, text: &str, seen: Option<(TurnId, Attempt, usize)>) -> Draft {
    let RunTag { turn, attempt, .. } = run;
    let from = match seen {
        Some((seen_turn, seen_attempt, len)) if (seen_turn, seen_attempt) == (turn, attempt) => len,
        _ => 0,
    };
    let rest = text.get(from..).unwrap_or_default().to_owned();
    Draft { turn, attempt, text: rest, len: text.len() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
