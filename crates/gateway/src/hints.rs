//! What this node tells the others beside the record, and what it hears from them.
//!
//! All of it may be lost: then the next look at the record finds what a hint would have told
//! sooner ([`crate::cluster`]). So nothing here is waited for but the guard's rates, and those for
//! a moment only. `elsewhere` puts together the drafts of runs on other nodes; [`crate::run`] shows
//! them ours, and the guard asks for the rates that all share.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use turnkeep_core::SessionKey;
use turnkeep_core::ids::Epoch;
use turnkeep_core::ports::hints::{Hints, HintsHealth, Listening, News};

use crate::run::RunShared;
use crate::service::Gateway;

mod elsewhere;

/// Nodes that wait to be told something, at most; whoever comes on top of it finds out by itself.
const NODES_MAX: usize = 1000;
/// What is knocked for within this time after the last news is told together: whoever hears it has
/// to look at the record.
const PACE: Duration = Duration::from_millis(20);
/// How long it takes to listen again where there was no room.
const AGAIN: Duration = Duration::from_secs(10);

/// What the gateway holds for hints.
pub(crate) struct Hinting {
    port: Arc<dyn Hints>,
    /// There is somebody to tell something.
    used: bool,
    doors: Mutex<Doors>,
    knocked: Notify,
    /// Runs that others may watch, or may want to.
    pub(crate) shown: DashMap<SessionKey, Weak<RunShared>>,
}

/// Who is to be told that something was written.
#[derive(Default)]
struct Doors {
    /// By node: the first of the sessions. A node looks at all that it has to look at in any case.
    nodes: BTreeMap<Epoch, SessionKey>,
    /// Whoever runs turns.
    anybody: bool,
}

impl Hinting {
    pub(crate) fn new(port: Arc<dyn Hints>) -> Self {
        let (used, doors) = (port.health().is_some(), Mutex::default());
        Self { port, used, doors, knocked: Notify::new(), shown: DashMap::new() }
    }

    /// The port; none where nobody would hear anything.
    pub(crate) fn port(&self) -> Option<&Arc<dyn Hints>> {
        self.used.then_some(&self.port)
    }

    fn doors(&self) -> MutexGuard<'_, Doors> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gateway {
    /// How the hints are; none where there are none.
    #[must_use]
    pub fn hints_health(&self) -> Option<HintsHealth> {
        self.0.hints.port()?.health()
    }

    /// A session was written that `holder` has, or that nobody has who runs turns: they shall look
    /// soon. To be called after the commit; never waits.
    pub(crate) fn knocked(&self, holder: Option<Epoch>, key: &SessionKey) {
        let hinting = &self.0.hints;
        if !hinting.used {
            return;
        }
        let mut doors = hinting.doors();
        match holder.map(Epoch::node) {
            None => doors.anybody = true,
            Some(node) => {
                let room = doors.nodes.len() < NODES_MAX;
                match doors.nodes.entry(node) {
                    Entry::Vacant(door) if room => {
                        door.insert(key.clone());
                    }
                    _ => {}
                }
            }
        }
        drop(doors);
        hinting.knocked.notify_one();
    }

    /// Tells the others, and hears them, until `shutdown`.
    pub(crate) async fn share_hints(&self, shutdown: &CancellationToken) {
        let Some(port) = self.0.hints.port() else { return };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.tell_knocks(&**port) => {}
            () = self.hear_hints(&**port) => {}
        }
    }

    async fn tell_knocks(&self, port: &dyn Hints) {
        loop {
            self.0.hints.knocked.notified().await;
            let Doors { nodes, anybody } = std::mem::take(&mut *self.0.hints.doors());
            for (node, key) in nodes {
                // Whoever was not told looks by itself, a little later.
                let _ = port.tell(node, News::Mail(key)).await;
            }
            if anybody {
                let _ = port.tell_all(News::Work).await;
            }
            tokio::time::sleep(PACE).await;
        }
    }

    async fn hear_hints(&self, port: &dyn Hints) {
        loop {
            match port.listen() {
                Ok(mut listening) => self.heed(&mut *listening).await,
                Err(error) => tracing::warn!(%error, "other nodes can't be listened to"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Never ends by itself.
    async fn heed(&self, listening: &mut dyn Listening) {
        loop {
            self.hinted(&listening.next().await);
        }
    }

    /// Whoever has the place's password may have said it, so it is only a reason to look.
    fn hinted(&self, news: &News) {
        match news {
            News::Missed | News::Mail(_) | News::Work => self.0.cluster.hint(),
            News::Resend(key) => {
                let shown = self.0.hints.shown.get(key).and_then(|run| run.upgrade());
                if let Some(run) = shown {
                    run.shown.wanted.notify_one();
                }
            }
        }
    }
}
