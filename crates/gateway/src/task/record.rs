//! What a session's task asks of the store: its state, and its commits.

use turnkeep_core::Epoch;
use turnkeep_core::ports::store::{Commit, Holder};

use super::SessionTask;
use super::news::News;
use crate::driver::Outcome;
use crate::killpoint;

impl SessionTask {
    pub(super) async fn load(&mut self, outcome: &mut Outcome) {
        let loaded = self.gateway.0.store.load(self.driver.key()).await;
        if let Err(error) = &loaded {
            tracing::warn!(session_key = %self.driver.key(), %error, "load failed");
        }
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
