//! Shows a run to the other nodes: that it is here, and its draft to whoever watches there.
//!
//! Most runs are over before anybody could look, so nothing is said of the first moment. A draft
//! that nobody watches costs one message; who comes later asks for all of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::{CancellationToken, DropGuard};
use turnkeep_core::SessionKey;
use turnkeep_core::draft::{DRAFT_BYTES_MAX, Piece};
use turnkeep_core::ports::hints::{Heard, Hints};

use super::{RunShared, lock};
use crate::service::Gateway;

/// What is said of a run comes after this.
const BRIEF: Duration = Duration::from_millis(100);
/// How often it is said that a run is here; a third of how long that is remembered.
const HOLD: Duration = Duration::from_secs(5);
/// The pause between two pieces of a draft.
const PACE: Duration = Duration::from_millis(50);
/// The pause after a piece that could not be shown.
const REST: Duration = Duration::from_secs(1);

/// What makes a run tell the others something.
#[derive(Default)]
pub(crate) struct Shown {
    /// The draft has grown.
    pub(super) grown: Notify,
    /// Somebody needs all of it.
    pub(crate) wanted: Notify,
}

/// A run that is shown, and where its draft stands with those who watch.
struct Showing {
    gateway: Gateway,
    port: Arc<dyn Hints>,
    key: SessionKey,
    run: Arc<RunShared>,
    /// Pieces so far.
    number: u64,
    /// How much of the draft they have.
    sent: usize,
    /// The next one has to be all of it.
    whole: bool,
    /// Nobody watches.
    unseen: bool,
}

/// Shows a run until what comes back is dropped.
pub(super) fn begin(
    gateway: &Gateway,
    key: &SessionKey,
    run: &Arc<RunShared>,
) -> Option<DropGuard> {
    let port = Arc::clone(gateway.0.hints.port()?);
    let over = CancellationToken::new();
    let showing = Showing {
        gateway: gateway.clone(),
        port,
        key: key.clone(),
        run: Arc::clone(run),
        number: 0,
        sent: 0,
        whole: false,
        unseen: false,
    };
    tokio::spawn(showing.show(over.clone()));
    Some(over.drop_guard())
}

impl Showing {
    async fn show(mut self, over: CancellationToken) {
        if tokio::time::timeout(BRIEF, over.cancelled()).await.is_ok() {
            return;
        }
        let shown = &self.gateway.0.hints.shown;
        shown.insert(self.key.clone(), Arc::downgrade(&self.run));
        let mut beat = tokio::time::interval(HOLD);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !over.is_cancelled() {
            let rest = self.tell(&mut beat, &over).await;
            // It would not be heard any sooner.
            let _ = tokio::time::timeout(rest, over.cancelled()).await;
        }
        let own = Arc::downgrade(&self.run);
        self.gateway.0.hints.shown.remove_if(&self.key, |_, run| run.ptr_eq(&own));
        // What is not taken back is forgotten by itself.
        let _ = self.port.release(&self.key, self.run.tag).await;
    }

    /// Waits for something to tell, and tells it; says how long to rest then.
    async fn tell(&mut self, beat: &mut Interval, over: &CancellationToken) -> Duration {
        tokio::select! {
            biased;
            () = over.cancelled() => Duration::ZERO,
            _ = beat.tick() => {
                if self.port.hold(&self.key, self.run.tag).await == Ok(false) {
                    // Somebody else says that it is theirs: the record knows.
                    self.gateway.0.cluster.hint();
                }
                Duration::ZERO
            }
            () = self.run.shown.wanted.notified() => {
                (self.whole, self.unseen) = (true, false);
                self.show_draft().await
            }
            () = self.run.shown.grown.notified(), if !self.unseen => self.show_draft().await,
        }
    }

    async fn show_draft(&mut self) -> Duration {
        let from = if self.whole { 0 } else { self.sent };
        let (text, len) = {
            let draft = lock(&self.run.draft);
            let text = draft.get(from..).filter(|_| draft.len() <= DRAFT_BYTES_MAX);
            (text.map(str::to_owned), draft.len())
        };
        let Some(text) = text.filter(|text| !text.is_empty()) else { return PACE };
        self.number += 1;
        let piece = Piece { run: self.run.tag, number: self.number, whole: self.whole, text };
        let heard = self.port.show(&self.key, &piece).await;
        (self.sent, self.whole, self.unseen) = (len, false, heard == Ok(Heard::Nobody));
        if heard.is_ok() {
            return PACE;
        }
        // Nobody knows what of it arrived.
        self.whole = true;
        self.run.shown.grown.notify_one();
        REST
    }
}
