//! Who works in which worktree, in this process: what is in use is not removed, and what is being
//! removed is not used. An agent that is replaced while its processes still work shares this with the
//! one that comes after it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Who works where.
#[derive(Debug, Default)]
pub(super) struct Used {
    all: Mutex<HashMap<PathBuf, Use>>,
    /// Told whenever the last one has left a place.
    left: Notify,
}

#[derive(Debug, Default)]
struct Use {
    processes: u32,
    removing: bool,
}

impl Used {
    /// Those of this process.
    pub(super) fn here() -> Arc<Self> {
        static HERE: LazyLock<Arc<Used>> = LazyLock::new(Arc::default);
        Arc::clone(&HERE)
    }

    fn all(&self) -> MutexGuard<'_, HashMap<PathBuf, Use>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves once nobody works there.
    pub(super) async fn vacant(&self, path: &Path) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            // Before the look, so that nobody leaves between it and the wait.
            left.as_mut().enable();
            if !self.is_in_use(path) {
                return;
            }
            left.await;
        }
    }

    /// None while it is being removed.
    pub(super) fn take(self: &Arc<Self>, path: &Path) -> Option<Place> {
        let mut all = self.all();
        let one = all.entry(path.to_owned()).or_default();
        if one.removing {
            return None;
        }
        one.processes += 1;
        Some(Place { used: Arc::clone(self), path: path.to_owned() })
    }

    pub(super) fn is_in_use(&self, path: &Path) -> bool {
        self.all().get(path).is_some_and(|one| one.processes > 0)
    }

    /// Keeps everybody out; none where somebody works there.
    pub(super) fn clear(self: &Arc<Self>, path: &Path) -> Option<Cleared> {
        let mut all = self.all();
        let one = all.entry(path.to_owned()).or_default();
        if one.processes > 0 {
            return None;
        }
        one.removing = true;
        Some(Cleared { used: Arc::clone(self), path: path.to_owned() })
    }
}

/// Somebody works in it.
#[derive(Debug)]
pub(super) struct Place {
    used: Arc<Used>,
    path: PathBuf,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.used.all();
        let Some(one) = all.get_mut(&self.path) else { return };
        one.processes = one.processes.saturating_sub(1);
        if one.processes > 0 {
            return;
        }
        if !one.removing {
            all.remove(&self.path);
        }
        drop(all);
        self.used.left.notify_waiters();
    }
}

/// Nobody begins to work in it.
#[derive(Debug)]
pub(super) struct Cleared {
    used: Arc<Used>,
    path: PathBuf,
}

impl Drop for Cleared {
    fn drop(&mut self) {
        self.used.all().remove(&self.path);
    }
}
