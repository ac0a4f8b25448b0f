//! Listeners on the journal: whoever is told of events by a callback.
//!
//! Each listener has a [`pump`] of its own, so a receiver that is slow or down holds up nobody
//! else. A pump follows the journal behind the commits, never ahead of them, and nobody waits for
//! it. Who gets what, and when a failed callback is tried again, are rules of the core
//! ([`turnkeep_core::listen`]); what is kept is the store's business, how a callback travels the
//! courier's.

mod pump;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{Notify, RwLock, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use turnkeep_core::listen::{FORGOTTEN_AFTER_MS, Selector};
use turnkeep_core::ports::listeners::{Courier, ListenerStore};
use turnkeep_core::ports::store::StoreError;

use crate::clock;
use crate::setup::Current;
use pump::Pump;

/// How long a shutdown waits for callbacks that are under way before they are laid down.
const GRACE: Duration = Duration::from_secs(2);
/// How long an erasure waits for callbacks that are under way. A courier gives up before that.
const UNDER_WAY_MAX: Duration = Duration::from_secs(15);
/// How long it waits for the pumps to note down where they are.
const END_WITHIN: Duration = Duration::from_secs(4);

/// A configured listener.
#[derive(Clone)]
pub struct Listener {
    /// Its name, which its place in the journal is kept under.
    pub name: String,
    /// Which events it gets.
    pub selector: Selector,
    /// The pattern as it was typed, to be shown.
    pub pattern: Vec<String>,
    /// Whether it may see what people and agents say.
    pub include_text: bool,
    /// Where its callbacks go, as far as that may be shown.
    pub receiver: String,
    /// Who carries them there.
    pub courier: Arc<dyn Courier>,
}

/// What wiring gives for listeners.
#[derive(Clone)]
pub struct ListenerParts {
    /// The journal's order and what is kept.
    pub store: Arc<dyn ListenerStore>,
    /// Whoever is configured.
    pub listeners: Vec<Listener>,
}

impl ListenerParts {
    /// With nobody who listens.
    #[must_use]
    pub fn none(store: Arc<dyn ListenerStore>) -> Self {
        Self { store, listeners: Vec::new() }
    }
}

/// A listener and how it stands in this process.
pub(crate) struct Listening {
    pub(crate) listener: Listener,
    /// Its receiver wants no callbacks any more; so it stays until the next start.
    gone: AtomicBool,
    /// The last row of the journal that its pump has looked through in this process. It is noted
    /// down less often.
    looked: AtomicU64,
    /// Shared by the callbacks that are under way; an erasure takes it alone to wait for them.
    under_way: RwLock<()>,
    /// Counts erasures: what was read before the last one may be gone.
    erasures: Arc<AtomicU64>,
    /// Something is due that the pump does not know of.
    woken: Notify,
    /// It is not configured any more, or the process ends.
    stop: CancellationToken,
    /// Its pump has ended.
    ended: CancellationToken,
}

impl Listening {
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// The last row of the journal that it has looked through.
    pub(crate) fn looked(&self) -> u64 {
        self.looked.load(Ordering::Acquire)
    }

    /// How often something was erased.
    fn erasures(&self) -> u64 {
        self.erasures.load(Ordering::SeqCst)
    }

    /// Dead callbacks were revived.
    pub(crate) fn wake(&self) {
        self.woken.notify_one();
    }
}

impl Listener {
    /// Whether it goes on as this one.
    fn is(&self, other: &Self) -> bool {
        self.name == other.name
            && self.selector == other.selector
            && self.include_text == other.include_text
            && Arc::ptr_eq(&self.courier, &other.courier)
    }
}

/// All of them.
pub(crate) struct Listeners {
    pub(crate) store: Arc<dyn ListenerStore>,
    all: Current<Vec<Arc<Listening>>>,
    /// Counts commits, while somebody follows them.
    grown: watch::Sender<u64>,
    /// Callbacks are sent from this node, and no other.
    lead: watch::Sender<bool>,
    erasures: Arc<AtomicU64>,
    stop: CancellationToken,
    pumps: TaskTracker,
}

impl Listeners {
    pub(crate) fn new(parts: ListenerParts) -> Self {
        let stop = CancellationToken::new();
        let erasures = Arc::default();
        let all = parts.listeners.into_iter().map(|listener| listening(listener, &stop, &erasures));
        Self {
            store: parts.store,
            all: all.collect::<Vec<_>>().into(),
            grown: watch::Sender::new(0),
            lead: watch::Sender::new(false),
            erasures,
            stop,
            pumps: TaskTracker::new(),
        }
    }

    /// As they are now.
    pub(crate) fn all(&self) -> Arc<Vec<Arc<Listening>>> {
        self.all.now()
    }

    /// The listener of this name.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Listening>> {
        self.all().iter().find(|listening| listening.listener.name == name).cloned()
    }

    /// From now on callbacks are sent from this node.
    pub(crate) fn lead(&self) {
        self.lead.send_replace(true);
    }

    /// A commit that journalled something is durable.
    pub(crate) fn journal_grew(&self) {
        // Where nobody follows the journal as a whole, a commit shall not pay for it.
        if self.grown.receiver_count() > 0 {
            self.grown.send_modify(|commits| *commits += 1);
        }
    }

    /// Changes with every commit from now on.
    pub(crate) fn follow(&self) -> watch::Receiver<u64> {
        self.grown.subscribe()
    }

    /// Texts were taken out: what pumps hold in memory is looked for again before it is carried out.
    pub(crate) fn redacted(&self) {
        self.erasures.fetch_add(1, Ordering::SeqCst);
    }

    /// Something was erased: what pumps hold in memory is not carried out before it was looked for
    /// again. Waits for callbacks that are under way.
    pub(crate) async fn erased(&self) {
        self.redacted();
        let all = self.all();
        let under_way = all.iter().map(|listening| listening.under_way.write());
        if tokio::time::timeout(UNDER_WAY_MAX, join_all(under_way)).await.is_err() {
            tracing::warn!("callbacks that were under way before an erasure still are");
        }
    }

    /// Makes them known to the store. A listener that is new begins with what comes next.
    pub(crate) async fn enrol(&self, listeners: &[Listener]) -> Result<(), StoreError> {
        let names = listeners.iter().map(|listener| listener.name.clone()).collect();
        let now = clock::now();
        self.store.enrol(names, now, now - FORGOTTEN_AFTER_MS).await
    }

    /// Starts a pump for each listener.
    pub(crate) async fn start(&self) -> Result<(), StoreError> {
        let all = self.all();
        let listeners: Vec<Listener> =
            all.iter().map(|listening| listening.listener.clone()).collect();
        self.enrol(&listeners).await?;
        for listening in all.iter() {
            self.pump(listening);
        }
        Ok(())
    }

    fn pump(&self, listening: &Arc<Listening>) {
        let (store, listening) = (Arc::clone(&self.store), Arc::clone(listening));
        let ended = listening.ended.clone().drop_guard();
        let stop = listening.stop.clone();
        let pump = Pump::new(store, listening, self.follow(), stop.clone());
        let mut lead = self.lead.subscribe();
        self.pumps.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                // The sender lives as long as the gateway, so waiting can't fail.
                () = async { drop(lead.wait_for(|ours| *ours).await) } => pump.run().await,
            }
            drop(ended);
        });
    }

    /// From now on these listen; they are enrolled already. Who is the same goes on; who is not
    /// configured any more, or otherwise, ends where it is, and goes on from there as it is now.
    pub(crate) async fn replace(&self, listeners: Vec<Listener>) {
        let before = self.all();
        let same = |listener: &Listener| before.iter().find(|one| one.listener.is(listener));
        let mut begins = Vec::new();
        let now = listeners.into_iter().map(|listener| match same(&listener) {
            Some(same) => Arc::clone(same),
            None => {
                let listening = listening(listener, &self.stop, &self.erasures);
                begins.push(Arc::clone(&listening));
                listening
            }
        });
        let now: Vec<Arc<Listening>> = now.collect();
        let stays = |one: &&Arc<Listening>| now.iter().any(|other| Arc::ptr_eq(one, other));
        let ends: Vec<_> = before.iter().filter(|one| !stays(one)).cloned().collect();
        self.all.replace(now);
        for listening in &ends {
            listening.stop.cancel();
        }
        // Two pumps of one name would each note down a place of their own.
        for listening in &ends {
            listening.ended.cancelled().await;
        }
        for listening in &begins {
            self.pump(listening);
        }
    }

    /// Lets callbacks that are under way arrive for a moment, and notes down where each listener
    /// is. What was cut off is sent again by the next start, under the same name.
    pub(crate) async fn end(&self) {
        self.stop.cancel();
        self.pumps.close();
        if tokio::time::timeout(END_WITHIN, self.pumps.wait()).await.is_err() {
            tracing::warn!("some callbacks will be sent twice: their end could not be noted down");
        }
    }
}

fn listening(
    listener: Listener,
    stop: &CancellationToken,
    erasures: &Arc<AtomicU64>,
) -> Arc<Listening> {
    Arc::new(Listening {
        listener,
        gone: AtomicBool::new(false),
        looked: AtomicU64::new(0),
        under_way: RwLock::new(()),
        erasures: Arc::clone(erasures),
        woken: Notify::new(),
        stop: stop.child_token(),
        ended: CancellationToken::new(),
    })
}
