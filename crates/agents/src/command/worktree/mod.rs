//! A git worktree for each session, so that the processes of parallel sessions don't write into the
//! same files.
//!
//! | module | its job |
//! | --- | --- |
//! | `git` | runs git, within limits |
//! | `look` | what stands in a worktree |
//! | `used` | who works in which |
//!
//! It is made at the session's first turn, on a branch of its own, and used again by every later one,
//! also after a restart: its name is made from the session's key, and git's own records say what
//! there is. **What is in no commit is never removed.** What stands in a commit of its branch only is
//! removed by nobody but a person who says so, and then the branch stays.

mod git;
mod look;
mod used;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, watch};
use turnkeep_core::SessionKey;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::worktrees::{
    Removal, WORKTREE_ID_DIGITS, Worktree, WorktreeState, Worktrees,
};
use turnkeep_core::session::input::RunFailure;

use git::{GitError, git};
use look::Known;
use used::{Place, Used};

/// How long a worktree may take to be made or removed: all of its files are written.
const WRITE: Duration = Duration::from_secs(120);
/// How long a question to the repository may take.
const ASK: Duration = Duration::from_secs(20);
/// What every branch of ours begins with.
const BRANCH: &str = "turnkeep/";

/// Where worktrees come from, and where they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorktreeSettings {
    /// The repository.
    pub repository: PathBuf,
    /// What a new branch begins at; what the repository has checked out if none is named.
    pub base: Option<String>,
    /// The folder that they stand in, which is nobody else's.
    pub folder: PathBuf,
    /// How many there are at most.
    pub worktrees_max: usize,
}

/// The name of a session's worktree.
#[must_use]
pub fn worktree_id(session: &SessionKey) -> String {
    let hash = Sha256::digest(session.as_str().as_bytes());
    let mut id = hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    id.truncate(WORKTREE_ID_DIGITS);
    id
}

/// The worktrees of one agent.
#[derive(Debug)]
pub(super) struct SessionWorktrees {
    settings: WorktreeSettings,
    /// Where the repository keeps its records, once it was found.
    common: OnceCell<PathBuf>,
    /// Held while one is made or removed.
    changes: tokio::sync::Mutex<()>,
    used: Arc<Used>,
}

/// A worktree that a process is to work in; it is not removed while this is held.
#[derive(Debug)]
pub(super) struct Seated {
    pub(super) path: PathBuf,
    _place: Place,
}

/// Keeps a worktree in use until the process that works there has really ended, which is some time
/// after its turn has.
pub(super) struct Stay(Option<(watch::Receiver<Option<String>>, Seated)>);

impl Stay {
    pub(super) const fn until(ended: watch::Receiver<Option<String>>, seated: Seated) -> Self {
        Self(Some((ended, seated)))
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let (Some((mut ended, seated)), Ok(runtime)) = (self.0.take(), Handle::try_current())
        else {
            return;
        };
        runtime.spawn(async move {
            // An error says that nobody watches the process any more, because it is gone.
            let _ = ended.wait_for(Option::is_some).await;
            drop(seated);
        });
    }
}

/// Why there is no worktree to work in.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Git(#[from] GitError),
    #[error("{0}")]
    Lasting(String),
    #[error("the folder {0} can't be used: {1}")]
    Folder(String, std::io::Error),
}

impl SessionWorktrees {
    pub(super) fn new(settings: WorktreeSettings) -> Self {
        let (common, changes) = (OnceCell::new(), tokio::sync::Mutex::new(()));
        Self { settings, common, changes, used: Used::here() }
    }

    /// The session's own worktree, which is made if there is none.
    pub(super) async fn of(&self, session: &SessionKey) -> Result<Seated, RunFailure> {
        let id = worktree_id(session);
        self.seat(&id).await.map_err(|trouble| {
            let retry = match &trouble {
                Trouble::Git(error) => error.passes(),
                Trouble::Lasting(_) => false,
                Trouble::Folder(..) => true,
            };
            let error = format!("there is no worktree for this session: {trouble}");
            RunFailure { error: error.into(), retry, retry_after_ms: None }
        })
    }

    async fn seat(&self, id: &str) -> Result<Seated, Trouble> {
        let (path, common) = (self.path(id), self.common().await?);
        let place = self.used.take(&path);
        if let Some(place) = place
            && is_whole(common, &path)
        {
            return Ok(Seated { path, _place: place });
        }
        let _alone = self.changes.lock().await;
        // Nobody removes anything now.
        let lost = || Trouble::Lasting(format!("{} is being removed", path.display()));
        let place = self.used.take(&path).ok_or_else(lost)?;
        if !is_whole(common, &path) {
            self.make(id, &path, common).await?;
        }
        Ok(Seated { path, _place: place })
    }

    fn path(&self, id: &str) -> PathBuf {
        self.settings.folder.join(id)
    }

    async fn common(&self) -> Result<&Path, GitError> {
        let arguments = ["rev-parse", "--path-format=absolute", "--git-common-dir"];
        let find = || async {
            let found = git(&self.settings.repository, &arguments, ASK).await?;
            Ok(PathBuf::from(found))
        };
        Ok(self.common.get_or_try_init(find).await?)
    }

    /// The commit that a new branch begins at, and in which what is done counts as kept.
    async fn base(&self) -> Result<String, GitError> {
        let base = self.settings.base.as_deref().unwrap_or("HEAD");
        let commit = format!("{base}^{{commit}}");
        let arguments = ["rev-parse", "--verify", "--quiet", "--end-of-options", &commit];
        let found = git(&self.settings.repository, &arguments, ASK).await;
        found.map_err(|error| match error {
            GitError::Refused(_) => {
                let repository = self.settings.repository.display();
                GitError::Refused(format!("{repository} has no commit {base:?} to begin at"))
            }
            other => other,
        })
    }

    async fn make(&self, id: &str, path: &Path, common: &Path) -> Result<(), Trouble> {
        self.clear_away(path, common).await?;
        self.make_room().await?;
        let folder = &self.settings.folder;
        private_folder(folder)
            .map_err(|error| Trouble::Folder(folder.display().to_string(), error))?;
        let (branch, base) = (format!("{BRANCH}{id}"), self.base().await?);
        let named = format!("refs/heads/{branch}");
        let there = ["show-ref", "--verify", "--quiet", &named];
        let there = git(&self.settings.repository, &there, ASK).await.is_ok();
        let path = path.as_os_str();
        let mut arguments: Vec<&OsStr> = ["worktree", "add", "--quiet"].map(OsStr::new).into();
        if there {
            // Its work of before, whose worktree somebody removed.
            arguments.extend([path, OsStr::new(&branch)]);
        } else {
            let new = ["--no-track", "-b", branch.as_str()].map(OsStr::new);
            arguments.extend(new.into_iter().chain([path, OsStr::new(&base)]));
        }
        git(&self.settings.repository, &arguments, WRITE).await?;
        tracing::info!(path = %Path::new(path).display(), branch, "a worktree was made");
        Ok(())
    }

    /// What stands in the way and holds nobody's work: what git was ended over, and records of a
    /// folder that is gone.
    async fn clear_away(&self, path: &Path, common: &Path) -> Result<(), Trouble> {
        let there = std::fs::symlink_metadata(path).is_ok();
        let Some(known) = Known::find(common, path) else {
            if !there {
                return Ok(());
            }
            let path = path.display();
            let why = format!("{path} is there and no worktree of the repository; move it away");
            return Err(Trouble::Lasting(why));
        };
        let mut arguments: Vec<&OsStr> = ["worktree", "remove"].map(OsStr::new).into();
        if known.is_half_made() {
            arguments.extend([OsStr::new("--force"); 2]);
        } else if there {
            let path = path.display();
            let why = format!("{path} is there without its .git; mend it with git worktree repair");
            return Err(Trouble::Lasting(why));
        }
        arguments.push(path.as_os_str());
        git(&self.settings.repository, &arguments, WRITE).await?;
        Ok(())
    }

    /// Where there are as many as there may be, one goes in which nothing is lost. Its session lives,
    /// so what the repository ignores is no rubbish there either: settings, say, or what was built.
    async fn make_room(&self) -> Result<(), Trouble> {
        let ids = self.ids();
        let max = self.settings.worktrees_max;
        if ids.len() < max {
            return Ok(());
        }
        let common = self.common().await?;
        for id in &ids {
            let Some(known) = Known::find(common, &self.path(id)) else { continue };
            if !matches!(known.has_ignored().await, Ok(false)) {
                continue;
            }
            if matches!(self.remove_alone(id, false).await, Ok(Removal::Removed(_))) {
                return Ok(());
            }
        }
        Err(Trouble::Lasting(format!(
            "there are {} worktrees with work in them, and worktrees_max is {max}; `turnkeep sessions \
             worktrees` lists them",
            ids.len()
        )))
    }

    /// Those that stand in the folder, in order.
    fn ids(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.settings.folder).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut ids: Vec<String> = names.filter(|name| is_id(name)).collect();
        ids.sort_unstable();
        ids
    }

    async fn look(&self, id: &str, base: &str) -> Result<(Worktree, String), GitError> {
        let (path, common) = (self.path(id), self.common().await?);
        let one = |branch, state| Worktree {
            id: id.to_owned(),
            path: path.display().to_string(),
            branch,
            state,
        };
        let broken = |why: &str| (one(None, WorktreeState::Broken(why.to_owned())), String::new());
        let Some(known) = Known::find(common, &path) else {
            return Ok(broken("it is no worktree of the repository"));
        };
        if !path.join(".git").exists() {
            return Ok(broken("its .git is missing"));
        }
        if known.is_half_made() {
            return Ok(broken("git was ended while it was made"));
        }
        match known.look(base).await {
            Ok(seen) if self.used.is_in_use(&path) => {
                Ok((one(seen.branch, WorktreeState::InUse), seen.head))
            }
            Ok(seen) => Ok((one(seen.branch, seen.state), seen.head)),
            Err(error) => Ok(broken(&error.to_string())),
        }
    }

    /// Removes one while nobody else makes or removes any.
    async fn remove_alone(&self, id: &str, force: bool) -> Result<Removal, GitError> {
        if !is_id(id) || std::fs::symlink_metadata(self.path(id)).is_err() {
            return Ok(Removal::None);
        }
        let base = self.base().await?;
        let cleared = self.used.clear(&self.path(id));
        let (worktree, head) = self.look(id, &base).await?;
        if cleared.is_none() {
            let used = Worktree { state: WorktreeState::InUse, ..worktree };
            let why = advice(&used);
            return Ok(Removal::Kept(used, why));
        }
        let loses = match (&worktree.state, &worktree.branch) {
            (WorktreeState::Clean, _) => false,
            (WorktreeState::Unmerged(_), Some(_)) => !force,
            _ => true,
        };
        if loses {
            let why = advice(&worktree);
            return Ok(Removal::Kept(worktree, why));
        }
        // Without force, so that git looks once more for what is in no commit.
        let path = self.path(id);
        let arguments = [OsStr::new("worktree"), OsStr::new("remove"), path.as_os_str()];
        git(&self.settings.repository, &arguments, WRITE).await?;
        let own = format!("{BRANCH}{id}");
        if worktree.state == WorktreeState::Clean && worktree.branch.as_deref() == Some(&own) {
            // Only as it was when it was looked at.
            let named = format!("refs/heads/{own}");
            let arguments = ["update-ref", "-d", &named, &head];
            if let Err(error) = git(&self.settings.repository, &arguments, ASK).await {
                tracing::warn!(branch = own, %error, "a branch stays");
            }
        }
        tracing::info!(path = worktree.path, "a worktree was removed");
        Ok(Removal::Removed(worktree))
    }
}

/// What a person can do about one that stays.
fn advice(worktree: &Worktree) -> String {
    let Worktree { path, branch, state, .. } = worktree;
    match state {
        WorktreeState::Clean => "nothing is lost by removing it".to_owned(),
        WorktreeState::InUse => "a process works in it; stop the turn first".to_owned(),
        WorktreeState::Dirty(what) => format!(
            "{what}; commit it or throw it away there (cd {path}; git status), then remove it again"
        ),
        WorktreeState::Unmerged(count) => match branch {
            Some(branch) => format!(
                "{count} commits stand in {branch} only; merge or push it, or remove the worktree with \
                 --force, which keeps the branch"
            ),
            None => format!(
                "{count} commits stand in no branch; make one there (cd {path}; git switch -c NAME)"
            ),
        },
        WorktreeState::Broken(why) => {
            format!("{why}; look at {path}, and mend it with git worktree repair or prune")
        }
    }
}

/// Whether it can be worked in as it is.
fn is_whole(common: &Path, path: &Path) -> bool {
    path.join(".git").exists()
        && Known::find(common, path).is_some_and(|known| !known.is_half_made())
}

fn is_id(name: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    name.len() == WORKTREE_ID_DIGITS && name.bytes().all(digit)
}

/// What people work on is nobody else's business.
fn private_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

impl Worktrees for SessionWorktrees {
    fn list(&self) -> BoxFuture<'_, Result<Vec<Worktree>, String>> {
        Box::pin(async move {
            let ids = self.ids();
            if ids.is_empty() {
                return Ok(Vec::new());
            }
            let base = self.base().await.map_err(|error| error.to_string())?;
            let mut all = Vec::with_capacity(ids.len());
            for id in &ids {
                let (one, _) = self.look(id, &base).await.map_err(|error| error.to_string())?;
                all.push(one);
            }
            Ok(all)
        })
    }

    fn remove(&self, id: &str, force: bool) -> BoxFuture<'_, Result<Removal, String>> {
        let id = id.to_owned();
        Box::pin(async move {
            let _alone = self.changes.lock().await;
            self.remove_alone(&id, force).await.map_err(|error| error.to_string())
        })
    }

    fn vacant(&self, session: &SessionKey) -> BoxFuture<'_, ()> {
        let path = self.path(&worktree_id(session));
        Box::pin(async move { self.used.vacant(&path).await })
    }

    fn leave(&self, session: &SessionKey) -> BoxFuture<'_, Result<Removal, String>> {
        let id = worktree_id(session);
        Box::pin(async move { self.remove(&id, false).await })
    }
}
