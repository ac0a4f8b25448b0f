//! A board to measure: what `examples/switchboard_load.rs` does to it goes the way of everything
//! that ships, up to the lock and back, without the store.

use std::sync::Arc;

use turnkeep_core::ids::{Seq, Timestamp};
use turnkeep_core::session::SessionStatus;
use turnkeep_core::switchboard::{Heard, Limits, Observed, Resources, Row};
use turnkeep_core::{SessionKey, SessionKind};

use super::lock::OneLock;
use super::shared::{Boards, Shared};

const TENANT: &str = "default";

/// A board of so many sessions, and nothing around it.
pub struct Load {
    shared: Shared<OneLock<Boards>>,
    keys: Vec<SessionKey>,
}

impl Load {
    /// A board of so many sessions, each with a name.
    #[must_use]
    pub fn new(sessions: usize) -> Self {
        let shared =
            Shared::new(Limits { sessions_max: sessions * 2, ..Limits::default() }, super::id_of);
        let key = |at: usize| {
            SessionKey::new(TENANT, "default", "terminal", SessionKind::Main, &format!("s{at:06}"))
        };
        let keys: Vec<SessionKey> = (0..sessions).filter_map(|at| key(at).ok()).collect();
        for (at, key) in keys.iter().enumerate() {
            let name: Arc<str> = format!("session {at}").into();
            shared.wanted(TENANT, |board| drop(board.create(key, Some(&name), 1)));
        }
        Self { shared, keys }
    }

    /// One session by its number.
    #[must_use]
    pub fn point(&self, number: u32) -> Option<Arc<Row>> {
        self.shared.read(TENANT, |board| board.find(&number.to_string()).ok())?
    }

    /// A hundred sessions behind a number; says how many there were.
    #[must_use]
    pub fn page(&self, after: u32) -> usize {
        self.shared.page(TENANT, (after, 100), None).0.rows.len()
    }

    /// Everything; says how many there were in it.
    #[must_use]
    pub fn list(&self) -> usize {
        let list = self.shared.list(TENANT);
        usize::from(list.iter().next().is_some())
    }

    /// What a session's task tells after a commit.
    pub fn observe(&self, at: usize, commit: u64, now: Timestamp) {
        let heard = Heard { said: vec![Seq(commit)], ..Heard::default() };
        let states = [SessionStatus::Processing, SessionStatus::Idle];
        let seen = Observed {
            state: states[usize::from(commit.is_multiple_of(2))],
            queued: 0,
            after: Seq(commit - 1),
            last_seq: Seq(commit),
            updated_at: now,
            heard: &heard,
            question: None,
            for_operator: None,
            resources: Resources::default(),
            loaded: true,
        };
        self.shared.observe(&self.keys[at % self.keys.len()], &seen, now);
    }

    /// A seat looks at a session.
    pub fn switch(&self, seat: &Arc<str>, number: u32, now: Timestamp) {
        self.shared.wanted(TENANT, |board| board.switch(seat, number, now));
    }

    /// A session gets another name.
    pub fn rename(&self, number: u32, name: &Arc<str>) {
        self.shared.wanted(TENANT, |board| board.rename(number, Some(name)));
    }
}
