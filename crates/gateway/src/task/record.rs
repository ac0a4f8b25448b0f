//! What a session's task asks of the store: its state, and its commits; and what it does while the
//! store does not answer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use turnkeep_core::Epoch;
use turnkeep_core::ports::store::{Commit, Holder, StoreError};

use super::SessionTask;
use super::news::News;
use crate::driver::Outcome;
use crate::killpoint;

/// How long a session waits after a store failure before it loads again, whatever comes.
const PAUSE: Duration = Duration::from_millis(250);
/// It waits twice as long after each load that failed, so often: two seconds at most.
const DOUBLINGS_MAX: u32 = 3;

/// How many sessions the store did not answer when they were loaded last.
#[derive(Default)]
pub(crate) struct Away(AtomicUsize);

/// How the loads of one session go.
#[derive(Default)]
pub(super) struct Loads {
    /// So many failed, one after the other.
    failed: u32,
    /// The store did not answer the last one.
    away: bool,
    /// What the last one found can't be read.
    torn: bool,
}

impl SessionTask {
    pub(super) async fn load(&mut self, outcome: &mut Outcome) {
        let loaded = self.gateway.0.store.load(self.driver.key()).await;
        self.note_load(loaded.as_ref().err());
        // Held before it is known whose the session is: the number stays as long as it is.
        let post = self.post.take().or_else(|| self.gateway.post());
        let holder = |epoch| self.gateway.holder(epoch, post.is_some());
        self.driver.on_loaded(loaded, holder, outcome);
        self.post = post.filter(|_| self.driver.stands_in());
        // What was asked before the state was known is asked again, and whoever watches
        // may have missed entries of a commit that only seemed to have failed.
        self.refollow();
        if let Some(session) = self.driver.session() {
            self.memory.loaded(session.last_seq);
            if let Some(live) = &self.live {
                live.loaded(session.last_seq);
                live.open_turn(session.turn.as_ref().map(|turn| turn.id));
            }
        }
        self.show_loaded();
    }

    /// A store that is away is told of once for all sessions, and so is its return; a session that
    /// can't be read is told of once, too.
    fn note_load(&mut self, error: Option<&StoreError>) {
        let (session_key, away) = (self.driver.key(), &self.gateway.0.away.0);
        let now = Loads {
            failed: error.map_or(0, |_| self.loads.failed.saturating_add(1)),
            away: matches!(error, Some(StoreError::Unavailable(_))),
            torn: matches!(error, Some(StoreError::Corrupt(_))),
        };
        let before = std::mem::replace(&mut self.loads, now);
        match error {
            Some(error @ StoreError::Corrupt(_)) if !before.torn => {
                tracing::warn!(%session_key, %error, "a session can't be loaded");
            }
            Some(error @ StoreError::Unavailable(_))
                if !before.away && away.fetch_add(1, Ordering::Relaxed) == 0 =>
            {
                tracing::warn!(%session_key, %error, "sessions can't be loaded");
            }
            Some(error) => tracing::debug!(%session_key, %error, "load failed"),
            None => {}
        }
        if before.away && !self.loads.away && away.fetch_sub(1, Ordering::Relaxed) == 1 {
            tracing::info!("sessions can be loaded again");
        }
    }

    /// Waits before the session is loaded again. What comes by mail ends all but the first of it.
    pub(super) async fn pause(&mut self) {
        tokio::time::sleep(PAUSE).await;
        let doublings = self.loads.failed.saturating_sub(1).min(DOUBLINGS_MAX);
        let rest = PAUSE * (2_u32.pow(doublings) - 1);
        if let Ok(Some(mail)) = tokio::time::timeout(rest, self.mail.recv()).await {
            self.take(mail);
        }
    }

    /// Nobody loads it any more.
    pub(super) fn end_loads(&mut self) {
        if std::mem::take(&mut self.loads).away {
            self.gateway.0.away.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Says what there is to tell of it, once it is durable.
    pub(super) async fn commit(&mut self, commit: Commit, outcome: &mut Outcome) -> Option<News> {
        let mut news = News::of(&commit.rows.events, self.spans.is_some());
        killpoint::before(&news.kinds);
        let written = (commit.session.epoch, commit.wake_at.is_some());
        let result = self.gateway.0.store.commit(commit).await;
        if let Err(error) = &result {
            tracing::warn!(session_key = %self.driver.key(), %error, "commit failed");
        }
        self.driver.on_committed(result, outcome);
        if outcome.committed {
            killpoint::after(&news.kinds);
            self.remember(&mut news);
            self.knock(written);
            self.trace(outcome, std::mem::take(&mut news.traced));
            return Some(news);
        }
        if !news.booked.is_empty() {
            self.gateway.0.ledger.doubt(self.driver.key());
        }
        None
    }

    /// The store notes who has to look at what was written in their place; here they hear of it
    /// sooner.
    fn knock(&self, (epoch, is_open): (Epoch, bool)) {
        if !self.driver.is_guest() {
            return;
        }
        let holder = match self.gateway.0.store.holder(epoch) {
            Holder::Another => Some(epoch),
            _ if is_open => None,
            _ => return,
        };
        self.gateway.knocked(holder, self.driver.key());
    }
}
