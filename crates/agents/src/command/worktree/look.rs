//! What stands in a worktree: whether removing it would lose anything.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use turnkeep_core::ports::worktrees::WorktreeState;

use super::git::{GitError, HARMLESS, git};

/// How long git may look.
const LOOK: Duration = Duration::from_secs(30);
/// What stands beside a worktree's records while something is half done in it.
const UNFINISHED: [(&str, &str); 6] = [
    ("MERGE_HEAD", "a merge"),
    ("CHERRY_PICK_HEAD", "a cherry-pick"),
    ("REVERT_HEAD", "a revert"),
    ("rebase-merge", "a rebase"),
    ("rebase-apply", "a rebase"),
    ("BISECT_LOG", "a bisect"),
];

/// A worktree that git knows.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) path: PathBuf,
    /// Where the repository keeps its records of it. What stands in the worktree itself is not
    /// asked.
    pub(super) records: PathBuf,
}

/// What was seen.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) branch: Option<String>,
    pub(super) head: String,
    pub(super) state: WorktreeState,
}

impl Known {
    /// The one at this path, if the repository has any.
    pub(super) fn find(common: &Path, path: &Path) -> Option<Self> {
        let wanted = real(path)?;
        let records = std::fs::read_dir(common.join("worktrees")).ok()?;
        let mut all = records.filter_map(|entry| Some(entry.ok()?.path()));
        let records = all.find(|records| {
            let gitdir = std::fs::read_to_string(records.join("gitdir")).unwrap_or_default();
            // It may be written from there on.
            let place = records.join(gitdir.trim_end());
            place.parent().and_then(real).is_some_and(|place| place == wanted)
        })?;
        Some(Self { path: path.to_owned(), records })
    }

    /// Whether git was ended while it made it; nobody has worked there then.
    pub(super) fn is_half_made(&self) -> bool {
        let locked = std::fs::read_to_string(self.records.join("locked"));
        locked.is_ok_and(|why| why.trim_end() == "initializing")
    }

    async fn git(&self, arguments: &[&str]) -> Result<String, GitError> {
        let mut all: Vec<OsString> = HARMLESS.map(OsString::from).into();
        let own = |name: &str, path: &Path| {
            let mut argument = OsString::from(name);
            argument.push(path);
            argument
        };
        all.push(own("--git-dir=", &self.records));
        all.push(own("--work-tree=", &self.path));
        all.extend(arguments.iter().map(OsString::from));
        git(&self.path, &all, LOOK).await
    }

    /// Looks; `base` is the commit in which what is done counts as kept.
    pub(super) async fn look(&self, base: &str) -> Result<Seen, GitError> {
        let head = self.git(&["rev-parse", "--verify", "HEAD^{commit}"]).await?;
        let branch = self.git(&["symbolic-ref", "--quiet", "--short", "HEAD"]).await.ok();
        let state = self.state(&head, base).await?;
        Ok(Seen { branch, head, state })
    }

    /// Whether anything stands there that the repository ignores: git takes that for nobody's work.
    pub(super) async fn has_ignored(&self) -> Result<bool, GitError> {
        // Where somebody's configuration shows no untracked files, it shows no ignored ones either.
        let arguments = [
            "status",
            "--porcelain",
            "--ignored",
            "--untracked-files=normal",
            "--ignore-submodules=all",
        ];
        let found = self.git(&arguments).await?;
        Ok(found.lines().any(|line| line.starts_with("!!")))
    }

    async fn state(&self, head: &str, base: &str) -> Result<WorktreeState, GitError> {
        if let Some((_, what)) =
            UNFINISHED.iter().find(|(file, _)| self.records.join(file).exists())
        {
            return Ok(WorktreeState::Dirty(format!("{what} is not finished")));
        }
        // Submodules are repositories of their own inside; a worktree that has any git keeps.
        let arguments = [
            "status",
            "--porcelain",
            "--untracked-files=all",
            "--no-renames",
            "--ignore-submodules=all",
        ];
        let changed = self.git(&arguments).await?;
        if let Some(dirty) = in_words(&changed) {
            return Ok(WorktreeState::Dirty(dirty));
        }
        let own = ["rev-list", "--count", head, "--not", base, "--remotes"];
        let count = self.git(&own).await?;
        match count.parse() {
            Ok(0) => Ok(WorktreeState::Clean),
            Ok(count) => Ok(WorktreeState::Unmerged(count)),
            Err(_) => Err(GitError::Refused(format!("{count:?} instead of a number"))),
        }
    }
}

/// The path as git writes it down; what stands there may be gone.
fn real(path: &Path) -> Option<PathBuf> {
    Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?))
}

/// What `git status --porcelain` said, in words; none where it said nothing.
fn in_words(changed: &str) -> Option<String> {
    let lines = changed.lines().count();
    let first = changed.lines().next()?;
    let name = first.get(3..).unwrap_or(first);
    Some(match lines {
        1 => format!("{name} is in no commit"),
        _ => format!("{name} and {} more files are in no commit", lines - 1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_by_the_first_of_them() {
        let check = |changed: &str, expect: Option<&str>| {
            assert_eq!(in_words(changed).as_deref(), expect);
        };
        check("", None);
        check("?? new.txt\n", Some("new.txt is in no commit"));
        check(" M a b.rs\n?? x\nD  y\n", Some("a b.rs and 2 more files are in no commit"));
    }
}
