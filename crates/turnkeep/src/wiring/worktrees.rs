//! Agents that are programs, with the git worktrees of their sessions.

use std::path::PathBuf;

use super::{CommandAgent, WorktreeSettings};
use crate::config::Resolved;
use crate::config::command::CommandSettings;

/// The agent, with worktrees if it is to have any.
pub(super) fn command_agent(
    resolved: &Resolved,
    name: &str,
    program: &CommandSettings,
) -> CommandAgent {
    let agent = CommandAgent::new(super::command(program)).with_name(name);
    match settings(resolved, name, program) {
        Some(settings) => agent.with_worktrees(settings),
        None => agent,
    }
}

/// Where an agent's worktrees come from, and where they stand.
pub(crate) fn settings(
    resolved: &Resolved,
    name: &str,
    program: &CommandSettings,
) -> Option<WorktreeSettings> {
    let typed = program.worktrees.as_ref()?;
    let folder = typed.folder.clone().unwrap_or_else(|| own_folder(resolved, name));
    Some(WorktreeSettings {
        repository: typed.repository.clone(),
        base: typed.base.clone(),
        folder,
        worktrees_max: typed.worktrees_max,
    })
}

/// In the data folder, as git is told of it: from the root on.
fn own_folder(resolved: &Resolved, name: &str) -> PathBuf {
    let data_dir = &resolved.data_dir;
    let data_dir = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.clone());
    let plain = |one: char| if one.is_ascii_alphanumeric() || one == '-' { one } else { '_' };
    data_dir.join("worktrees").join(name.chars().map(plain).collect::<String>())
}
