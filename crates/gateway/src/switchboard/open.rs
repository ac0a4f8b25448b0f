//! What is open for each session: files, pipes and connections of this process, which whoever opens
//! them tells, and what the processes of its agents have open, which the system is asked for.
//!
//! Nothing is counted before somebody asks, then at most once a second, outside of async threads and
//! of every lock but the one of a single session.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use smallvec::SmallVec;
use tokio::time::Instant;
use turnkeep_core::SessionKey;
use turnkeep_core::ids::TurnId;
use turnkeep_core::ports::agent::{Open, OpenGuard};

use super::growth::Growth;
use super::processes;
use crate::service::Gateway;

/// Two counts of what processes have open are this far apart at least.
const COUNTS_APART: Duration = Duration::from_secs(1);

/// What is open for all sessions.
#[derive(Default)]
pub(crate) struct OpenFiles {
    sessions: DashMap<SessionKey, Held>,
    /// How much is held in all of them, and process groups of that: where there is nothing nobody
    /// looks.
    holds: AtomicUsize,
    groups: AtomicUsize,
    /// When it was counted last; held while it is counted.
    counted: tokio::sync::Mutex<Option<Instant>>,
    growth: Mutex<Growth>,
}

/// What is open for one session.
#[derive(Debug, Default)]
struct Held {
    here: u32,
    groups: SmallVec<[Group; 1]>,
    /// The turn that opened something last.
    turn: Option<TurnId>,
}

#[derive(Debug)]
struct Group {
    leader: u32,
    /// What it had open at the last count; none before the first one, and where nobody can tell.
    files: Option<u32>,
}

impl Held {
    fn files(&self) -> Option<u32> {
        self.groups.iter().try_fold(self.here, |sum, group| Some(sum.saturating_add(group.files?)))
    }

    fn open(&mut self, open: Open) {
        match open {
            Open::Here(files) => self.here = self.here.saturating_add(files),
            Open::Group(leader) => self.groups.push(Group { leader, files: None }),
        }
    }

    fn close(&mut self, open: Open) {
        match open {
            Open::Here(files) => self.here = self.here.saturating_sub(files),
            Open::Group(leader) => {
                if let Some(at) = self.groups.iter().rposition(|group| group.leader == leader) {
                    self.groups.swap_remove(at);
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.here == 0 && self.groups.is_empty()
    }
}

/// Something is open for a session until this is dropped.
pub(crate) struct Holds {
    of: Arc<OpenFiles>,
    key: SessionKey,
    open: Open,
}

impl OpenGuard for Holds {}

impl Drop for Holds {
    fn drop(&mut self) {
        if let Some(mut held) = self.of.sessions.get_mut(&self.key) {
            held.close(self.open);
        }
        self.of.sessions.remove_if(&self.key, |_, held| held.is_over());
        self.of.holds.fetch_sub(1, Ordering::AcqRel);
        if matches!(self.open, Open::Group(_)) {
            self.of.groups.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Gateway {
    /// Counts a connection as open for a session, for as long as the answer lives.
    pub(crate) fn connection_for(&self, key: &SessionKey) -> Holds {
        self.switchboard().open_files().hold(key, None, Open::Here(1))
    }
}

impl OpenFiles {
    /// Notes what is opened for a session, and by which turn if it is one.
    pub(crate) fn hold(
        self: &Arc<Self>,
        key: &SessionKey,
        turn: Option<TurnId>,
        open: Open,
    ) -> Holds {
        self.holds.fetch_add(1, Ordering::AcqRel);
        if matches!(open, Open::Group(_)) {
            self.groups.fetch_add(1, Ordering::AcqRel);
        }
        let mut held = self.sessions.entry(key.clone()).or_default();
        held.open(open);
        held.turn = turn.or(held.turn);
        Holds { of: Arc::clone(self), key: key.clone(), open }
    }

    /// What is open for a session now; what its processes have open as of the last count. None where
    /// nobody can tell, or they were not counted yet.
    pub(crate) fn of(&self, key: &SessionKey) -> Option<u32> {
        if self.holds.load(Ordering::Acquire) == 0 {
            return Some(0);
        }
        self.sessions.get(key).map_or(Some(0), |held| held.files())
    }

    /// The sessions for which something is open, that pass.
    pub(super) fn all(
        &self,
        passes: impl Fn(&SessionKey) -> bool,
    ) -> Vec<(SessionKey, Option<u32>)> {
        let open = self.sessions.iter().filter(|held| passes(held.key()));
        open.map(|held| (held.key().clone(), held.files())).collect()
    }

    /// Sessions for which more and more was open, turn after turn.
    pub(super) fn growing(&self) -> BTreeSet<SessionKey> {
        self.growth().growing().cloned().collect()
    }

    /// Forgets what is known of the past of sessions that don't pass.
    pub(super) fn retain(&self, passes: impl Fn(&SessionKey) -> bool) {
        self.growth().retain(passes);
    }

    /// Counts what processes have open, unless that was done a moment ago.
    pub(crate) async fn count(self: &Arc<Self>) {
        if self.groups.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut counted = self.counted.lock().await;
        if counted.is_some_and(|at| at.elapsed() < COUNTS_APART) {
            return;
        }
        let all = Arc::clone(self);
        if tokio::task::spawn_blocking(move || all.ask_the_system()).await.is_ok() {
            *counted = Some(Instant::now());
        }
    }

    fn ask_the_system(&self) {
        let leaders =
            |held: &Held| held.groups.iter().map(|group| group.leader).collect::<Vec<_>>();
        let leaders: BTreeSet<u32> =
            self.sessions.iter().flat_map(|held| leaders(held.value())).collect();
        let files = processes::files_of_groups(&leaders);
        for mut held in self.sessions.iter_mut() {
            held.take(&files);
        }
        let mut growth = self.growth();
        for held in self.sessions.iter().filter(|held| !held.groups.is_empty()) {
            if let (Some(turn), Some(files)) = (held.turn, held.files()) {
                growth.note(held.key(), turn, files);
            }
        }
    }

    fn growth(&self) -> MutexGuard<'_, Growth> {
        self.growth.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Takes a count; a group that began during it has none yet.
    fn take(&mut self, files: &BTreeMap<u32, Option<u32>>) {
        for group in &mut self.groups {
            if let Some(files) = files.get(&group.leader) {
                group.files = *files;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use turnkeep_core::SessionKind;

    use super::*;

    fn key(peer: &str) -> SessionKey {
        SessionKey::new("t", "a", "api", SessionKind::Dm, peer).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_counts_for_its_session_until_it_is_let_go() {
        let (files, ann, bob) = (Arc::<OpenFiles>::default(), key("ann"), key("bob"));
        let (one, two) =
            (files.hold(&ann, None, Open::Here(1)), files.hold(&ann, None, Open::Here(2)));
        assert_eq!((files.of(&ann), files.of(&bob)), (Some(3), Some(0)));
        // The test itself is a process like any other.
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let group = Open::Group(processes::group_in(&stat).unwrap());
        let run = files.hold(&bob, Some(TurnId::default()), group);
        assert_eq!((files.of(&ann), files.of(&bob)), (Some(3), None));
        files.count().await;
        assert!(files.of(&bob) >= Some(3), "{:?}", files.of(&bob));
        // A second has not gone by, so this one is not counted yet.
        let again = files.hold(&bob, None, group);
        files.count().await;
        assert_eq!(files.of(&bob), None);
        drop(again);
        assert!(files.of(&bob) >= Some(3));
        assert_eq!(files.all(|key| *key == ann), [(ann.clone(), Some(3))]);
        drop((one, run));
        assert_eq!((files.of(&ann), files.of(&bob)), (Some(2), Some(0)));
        drop(two);
        assert_eq!((files.all(|_| true), files.of(&ann)), (Vec::new(), Some(0)));
        assert_eq!(files.growing(), BTreeSet::new());
    }
}
