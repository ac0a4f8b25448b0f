//! Drafts of runs on other nodes, for who watches here.
//!
//! Listened to is only for sessions that somebody watches and whose turn doesn't run here. Who was
//! not there from the beginning, or missed something, asks the node that has the run for the whole
//! draft; while nobody answers, nothing is shown, and in the end the journal tells the reply.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use turnkeep_core::SessionKey;
use turnkeep_core::draft::Read;
use turnkeep_core::ports::hints::{Hints, News, Watched, Watching, Without};

use crate::live::Live;
use crate::service::Gateway;

/// How long an answer is waited for before the draft is asked for again.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it takes to watch again where there was no room.
const AGAIN: Duration = Duration::from_secs(10);
/// A sleep that something else ends.
const FAR: Duration = Duration::from_secs(3600);

/// One session that is watched.
struct Elsewhere {
    gateway: Gateway,
    port: Arc<dyn Hints>,
    key: SessionKey,
    live: Weak<Live>,
    moved: Arc<Notify>,
    /// When the draft is asked for, if it has to be.
    ask_at: Option<Instant>,
}

impl Gateway {
    /// From now on the session is watched here.
    pub(crate) fn watch_elsewhere(&self, key: &SessionKey, live: &Arc<Live>) {
        let Some(port) = self.0.hints.port() else { return };
        let Some(moved) = live.watched_elsewhere() else { return };
        let elsewhere = Elsewhere {
            gateway: self.clone(),
            port: Arc::clone(port),
            key: key.clone(),
            live: Arc::downgrade(live),
            moved,
            ask_at: None,
        };
        tokio::spawn(elsewhere.watch());
    }
}

impl Elsewhere {
    /// Ends when nobody cares for the session any more.
    async fn watch(mut self) {
        while let Some(live) = self.live.upgrade() {
            let here = live.runs_here();
            drop(live);
            if here {
                self.moved.notified().await;
                continue;
            }
            match self.port.watch(&self.key) {
                Ok(mut watching) => self.follow(&mut *watching).await,
                Err(error) => {
                    tracing::debug!(session_key = %self.key, %error, "drafts of other nodes are not seen");
                    let _ = tokio::time::timeout(AGAIN, self.moved.notified()).await;
                }
            }
        }
    }

    /// Until something changed that matters.
    async fn follow(&mut self, watching: &mut dyn Watching) {
        loop {
            let ask_at = self.ask_at.unwrap_or_else(|| Instant::now() + FAR);
            tokio::select! {
                biased;
                () = self.moved.notified() => return,
                watched = watching.next() => {
                    let Some(live) = self.live.upgrade() else { return };
                    self.heard(&live, &watched);
                }
                () = tokio::time::sleep_until(ask_at) => {
                    let asked = self.ask().await;
                    // Where nobody has a run there is nothing to be had.
                    self.ask_at = (asked != Ok(false)).then(|| Instant::now() + PATIENCE);
                }
            }
        }
    }

    fn heard(&mut self, live: &Live, watched: &Watched) {
        let read = match watched {
            Watched::Missed => {
                live.missed_elsewhere();
                Read::Gap
            }
            Watched::Piece(piece) => live.read_elsewhere(piece),
        };
        match read {
            Read::Gap => self.ask_at = Some(Instant::now()),
            Read::Grown | Read::Anew | Read::Mended | Read::Full => self.ask_at = None,
            Read::Ignored => {}
        }
    }

    /// Asks for the whole draft; false if no node is known that has a run.
    async fn ask(&self) -> Result<bool, Without> {
        let Some(node) = self.port.active(&self.key).await? else { return Ok(false) };
        if node != self.gateway.store().epoch().node() {
            self.port.tell(node, News::Resend(self.key.clone())).await?;
        }
        Ok(true)
    }
}
