//! Folders that agents keep for sessions: which there are, and when one goes. What may go is theirs
//! to say.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::timeout;
use turnkeep_core::SessionKey;
use turnkeep_core::ports::agent::Agent;
use turnkeep_core::ports::worktrees::{Removal, Worktree};
use turnkeep_core::session::SessionStatus;

use crate::service::Gateway;

/// How long whoever closes a session waits for its worktree; it goes on without them.
const LEAVE: Duration = Duration::from_secs(10);

impl Gateway {
    /// The worktrees of each agent that keeps any, or why they can't be told.
    pub(crate) async fn worktrees(&self) -> Vec<(String, Result<Vec<Worktree>, String>)> {
        let mut all = Vec::new();
        for (name, agent) in self.keepers() {
            let Some(worktrees) = agent.worktrees() else { continue };
            all.push((name, worktrees.list().await));
        }
        all
    }

    /// Removes the worktree of this name; says whose it was.
    pub(crate) async fn remove_worktree(
        &self,
        id: &str,
        force: bool,
    ) -> Option<(String, Result<Removal, String>)> {
        for (name, agent) in self.keepers() {
            let Some(worktrees) = agent.worktrees() else { continue };
            match worktrees.remove(id, force).await {
                Ok(Removal::None) => {}
                other => return Some((name, other)),
            }
        }
        None
    }

    /// A session was closed: its worktree goes if nothing is lost by that, once the process of its last
    /// turn has ended. What became of it, in words; none if there is none.
    pub(crate) async fn leave_worktree(&self, key: &SessionKey) -> Option<String> {
        let agent = Arc::clone(&self.setup().agents.get(&key.agent())?.agent);
        agent.worktrees()?;
        let (gateway, session) = (self.clone(), key.clone());
        let vacant = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&vacant);
        let leaving = tokio::spawn(async move {
            let worktrees = agent.worktrees()?;
            worktrees.vacant(&session).await;
            seen.store(true, Ordering::Relaxed);
            if !gateway.is_over(&session).await {
                return Some("the worktree stays: the session has begun again".to_owned());
            }
            let told = match worktrees.leave(&session).await {
                Ok(Removal::None) => return None,
                Ok(Removal::Removed(worktree)) => format!("{} was removed", worktree.path),
                Ok(Removal::Kept(worktree, why)) => format!("{} stays: {why}", worktree.path),
                Err(error) => format!("the worktree stays: {error}"),
            };
            // Without the session's key: it may have been erased, and names its customer.
            tracing::info!(told, "the session of a worktree is over");
            Some(told)
        });
        match timeout(LEAVE, leaving).await {
            Ok(Ok(told)) => told,
            Ok(Err(_)) => Some("the worktree stays: looking at it failed".to_owned()),
            Err(_) if vacant.load(Ordering::Relaxed) => {
                Some("git is still at work on the worktree; the log will tell".to_owned())
            }
            Err(_) => Some(
                "the worktree goes, if nothing is lost by that, as soon as the process in it has \
                 ended; the log will tell"
                    .to_owned(),
            ),
        }
    }

    /// The same where nobody waits for it.
    pub(crate) fn leave_worktree_behind(&self, key: &SessionKey) {
        let (gateway, key) = (self.clone(), key.clone());
        tokio::spawn(async move { gateway.leave_worktree(&key).await });
    }

    /// Whether a session is closed, or gone altogether. One that can't be read may be neither.
    async fn is_over(&self, key: &SessionKey) -> bool {
        match self.store().load(key).await {
            Ok(Some(loaded)) => loaded.session.status() == SessionStatus::Closed,
            Ok(None) => true,
            Err(error) => {
                tracing::warn!(%error, "the session of a worktree can't be read; both stay");
                false
            }
        }
    }

    /// Agents that keep worktrees, in the order of their names.
    fn keepers(&self) -> Vec<(String, Arc<dyn Agent>)> {
        let setup = self.setup();
        let keeps = setup.agents.iter().filter(|(_, one)| one.agent.worktrees().is_some());
        let mut all: Vec<_> =
            keeps.map(|(name, one)| (name.clone(), Arc::clone(&one.agent))).collect();
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        all
    }
}
