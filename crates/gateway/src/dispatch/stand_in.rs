//! Turns that this node runs in the place of those that run turns, because nobody took them.
//!
//! Each of their sessions has a post for as long as it is open here. While there is one, the node has
//! a second number, by which others leave such sessions to it ([`Store::stand_in`]); it gives that
//! back once the engine is trusted again, somebody else runs turns, and no post was held for a while.
//!
//! [`Store::stand_in`]: turnkeep_core::ports::store::Store::stand_in

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedRwLockReadGuard, RwLock};
use tokio::time::Instant;
use turnkeep_core::ids::Epoch;
use turnkeep_core::ports::store::Holder;
use turnkeep_core::{Policy, SessionKey};

use super::Desk;
use crate::mail::Mail;
use crate::service::Gateway;

/// How long no post has to be held before the number is given back: each time one is drawn it is
/// another, and everybody hears of it.
const REST: Duration = Duration::from_secs(15);
/// The pause before a session is looked at again for which no number was to be had.
const PAUSE: Duration = Duration::from_secs(1);

/// As long as somebody has one, the number is not given back.
pub(crate) type Post = OwnedRwLockReadGuard<()>;

/// The posts.
#[derive(Default)]
pub(crate) struct Posts {
    held: Arc<RwLock<()>>,
    /// The number was drawn.
    drawn: AtomicBool,
}

/// Since when nobody has a post and the engine is trusted.
#[derive(Default)]
pub(super) struct Rest(Option<Instant>);

impl Gateway {
    /// Whether this node runs turns in the place of others.
    pub(crate) fn stands_in(&self) -> bool {
        self.0.dispatch.posts.drawn.load(Ordering::Acquire)
    }

    /// A post for a session that may stand under the second number; none where there is no such
    /// number, or where it is being given back.
    pub(crate) fn post(&self) -> Option<Post> {
        let held = &self.0.dispatch.posts.held;
        self.stands_in().then(|| Arc::clone(held).try_read_owned().ok()).flatten()
    }

    /// Who has what stands under an epoch. What stands under the second number is this node's only
    /// for who has a post.
    pub(crate) fn holder(&self, epoch: Epoch, has_post: bool) -> Holder {
        match self.store().holder(epoch) {
            Holder::Us if !has_post && epoch.node() != self.store().epoch().node() => {
                Holder::Nobody
            }
            holder => holder,
        }
    }

    /// Has this node run what nobody took.
    pub(super) async fn run_here(&self, session: &SessionKey, policy: Arc<Policy>) {
        tracing::warn!(session_key = %session, "nobody took it in time; it is run here");
        let posts = &self.0.dispatch.posts;
        let post = Arc::clone(&posts.held).read_owned().await;
        match self.store().stand_in().await {
            Ok(number) => {
                posts.drawn.store(true, Ordering::Release);
                self.send(session, policy, Mail::RunHere(Box::new((number, post))));
            }
            Err(error) => {
                tracing::warn!(session_key = %session, %error, "it can't be run here");
                drop(post);
                tokio::time::sleep(PAUSE).await;
                // Its task finds that it still waits, and it is handed over, or run here, again.
                self.send(session, policy, Mail::Look);
            }
        }
    }

    /// Gives the second number back where nobody needs it any more.
    pub(super) fn step_back(&self, desk: &Desk, rest: &mut Rest) {
        let posts = &self.0.dispatch.posts;
        if !self.stands_in() {
            return;
        }
        let all = Arc::clone(&posts.held).try_write_owned().ok();
        let [others, _] = self.store().neighbours();
        // Where nobody else runs turns there is nobody to leave them to.
        let Some(all) = all.filter(|_| others > 0 && !desk.board().is_broken()) else {
            rest.0 = None;
            return;
        };
        if rest.0.get_or_insert_with(Instant::now).elapsed() < REST {
            return;
        }
        rest.0 = None;
        posts.drawn.store(false, Ordering::Release);
        let gateway = self.clone();
        tokio::spawn(async move {
            match gateway.store().step_back().await {
                Ok(()) => tracing::info!("turns are left to those that run turns again"),
                // It gives no sign any more, so others put it out.
                Err(error) => tracing::warn!(%error, "a second number was not given back"),
            }
            drop(all);
        });
    }
}
