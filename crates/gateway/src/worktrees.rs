//! Folders that agents keep for sessions: which there are, and when one goes. What may go is theirs
//! to say.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use turnkeep_core::SessionKey;
use turnkeep_core::ports::agent::Agent;
use turnkeep_core::ports::worktrees::{Removal, Worktree};

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

    /// A session was closed: its worktree goes if nothing is lost by that. What became of it, in
    /// words; none if there is none.
    pub(crate) async fn leave_worktree(&self, key: &SessionKey) -> Option<String> {
        let agent = Arc::clone(&self.setup().agents.get(&key.agent())?.agent);
        agent.worktrees()?;
        let session = key.clone();
        let leaving = tokio::spawn(async move {
            let removal = match agent.worktrees() {
                Some(worktrees) => worktrees.leave(&session).await,
                None => Ok(Removal::None),
            };
            let told = match removal {
                Ok(Removal::None) => return None,
                Ok(Removal::Removed(worktree)) => format!("{} was removed", worktree.path),
                Ok(Removal::Kept(worktree, why)) => format!("{} stays: {why}", worktree.path),
                Err(error) => format!("the worktree stays: {error}"),
            };
            tracing::info!(session_key = %session, told, "the session of a worktree was closed");
            Some(told)
        });
        match timeout(LEAVE, leaving).await {
            Ok(Ok(told)) => told,
            Ok(Err(_)) => Some("the worktree stays: looking at it failed".to_owned()),
            Err(_) => Some("git is still at work on the worktree; the log will tell".to_owned()),
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
