//! A node that is ending, and what others write meanwhile into sessions that it has: what runs here
//! hears of it, and the rest is let go. So nobody waits here until other people's turns are over.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use turnkeep_core::ports::store::{Commit, CommitOutcome, Holder, Loaded, Rows, StoreError};
use turnkeep_core::session::{Session, Stage};
use turnkeep_core::{Epoch, Seq, SessionKey};

use crate::clock;
use crate::mail::Mail;
use crate::service::Gateway;

/// Sessions that are let go at once.
const AT_ONCE: usize = 32;

impl Gateway {
    /// What a node that is ending has to see of others. `parting` are sessions that are to be let go.
    pub(super) async fn look_when_ending(
        &self,
        parting: &mut BTreeSet<SessionKey>,
        seen: &mut HashMap<SessionKey, Seq>,
    ) -> Result<(), StoreError> {
        self.each_knock(|key| {
            parting.insert(key);
        })
        .await?;
        let doubts = &self.0.cluster.doubts;
        if doubts.load(Ordering::Acquire) {
            // Nobody is going to name those sessions again: what runs here has a task, and of the rest
            // somebody waits for what is due.
            parting.extend(self.0.registry.keys());
            self.each_own(clock::now(), |key| {
                parting.insert(key);
            })
            .await?;
            doubts.store(false, Ordering::Release);
        }
        let keys: Vec<SessionKey> = parting.iter().cloned().collect();
        for keys in keys.chunks(AT_ONCE) {
            let gone = join_all(keys.iter().map(|key| self.let_go(key))).await;
            for (key, gone) in keys.iter().zip(gone) {
                if gone? {
                    parting.remove(key);
                }
            }
        }
        self.look_at_watched(seen).await
    }

    /// Lets go of a session that another node wrote, unless its turn runs here. Says whether there is
    /// nothing left to do.
    async fn let_go(&self, key: &SessionKey) -> Result<bool, StoreError> {
        let Some(policy) = self.policy_of_stored(key) else { return Ok(true) };
        let loaded = self.store().load(key).await?;
        let open = loaded.filter(|Loaded { session, .. }| {
            let ours = self.store().holder(session.epoch) == Holder::Us;
            ours && session.has_open_work() && !has_run(session)
        });
        let Some(Loaded { session, version }) = open else {
            // Its run is told, or finds that it is over.
            self.look_at(key);
            return Ok(true);
        };
        if self.0.registry.has(key) {
            // Not a look, by which it might begin what is due.
            self.send(key, policy, Mail::Release);
            return Ok(false);
        }
        // No step: nothing changes but whose it is, and whoever wrote it meanwhile makes this conflict.
        let wake_at = session.wake_at(&policy);
        let epoch = session.epoch.taken_by(Epoch::NOBODY);
        let session = Arc::new(Session { epoch, ..Arc::unwrap_or_clone(session) });
        let commit =
            Commit { key: key.clone(), expected: version, session, wake_at, rows: Rows::default() };
        let gone = matches!(self.store().commit(commit).await?, CommitOutcome::Committed(_));
        if gone {
            tracing::debug!(session_key = %key, "is left to others, because this node is ending");
            self.knocked(None, key);
        }
        Ok(gone)
    }
}

/// Whether a run of its turn is under way with whoever has the session.
fn has_run(session: &Session) -> bool {
    let stage = session.turn.as_ref().map(|turn| turn.stage);
    matches!(stage, Some(Stage::Processing | Stage::Waiting { live: true, .. }))
}
