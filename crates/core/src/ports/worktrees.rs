//! Folders of their own that an agent keeps for its sessions: git worktrees, so that two sessions on
//! one repository don't write into the same files.

use super::BoxFuture;
use crate::session_key::SessionKey;

/// Digits of the name of a session's worktree: the beginning of the SHA-256 of its key's text.
pub const WORKTREE_ID_DIGITS: usize = 12;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worktree {
    /// Its session, as 12 hexadecimal digits.
    pub id: String,
    /// Where it is.
    pub path: String,
    /// The branch that stands there; none where there is no branch.
    pub branch: Option<String>,
    /// What removing it would lose.
    pub state: WorktreeState,
}

/// What removing a worktree would lose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorktreeState {
    /// Nothing: all of it stands in the branch that it came from, or elsewhere.
    Clean,
    /// A process works in it.
    InUse,
    /// Changes that are in no commit, in words.
    Dirty(String),
    /// So many commits that stand in its branch only.
    Unmerged(u64),
    /// Nobody can say: what is wrong with it.
    Broken(String),
}

/// What came of removing one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is gone, and nothing with it; so is its branch, unless commits stand there only.
    Removed(Worktree),
    /// It stays: what is in it, and what a person can do about that.
    Kept(Worktree, String),
    /// There is none.
    None,
}

/// The port; an agent has one if its sessions get worktrees.
pub trait Worktrees: Send + Sync {
    /// All of them, by their ids.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Worktree>, String>>;
    /// Removes one if nothing is lost by that. With `force` also where commits stand in its branch
    /// only, which then stays; never what is in no commit, and never under a process.
    fn remove(&self, id: &str, force: bool) -> BoxFuture<'_, Result<Removal, String>>;
    /// Resolves once no process works in the worktree of this session, at once if there is none.
    fn vacant(&self, session: &SessionKey) -> BoxFuture<'_, ()>;
    /// Removes that of a session that was closed, if nothing is lost by that.
    fn leave(&self, session: &SessionKey) -> BoxFuture<'_, Result<Removal, String>>;
}
