//! The switchboard: every session at a glance, and which of them waits for a person. The rules stand
//! in `core::switchboard`; here is the one lock around them, and what feeds and keeps them.
//!
//! In reading order: [`lock`] is the lock, [`shared`] what is done under it; [`feed`] is what the
//! sessions' tasks tell, [`record`] writes down what has to survive, [`doors`] is what people ask
//! for, [`tend`] looks after it all ([`unreadable`] is what it could not read), and [`stats`] says how it stands, with [`advice`] on it. [`open`] counts
//! what is open for each session ([`processes`] asks the system, [`growth`] sees what grows), which
//! changes by itself and so stands in no row. [`load`] is for measuring.
//!
//! The lock is never held across IO or an await: an operation changes the board, lets go, has
//! written down what changed, and only then answers.

mod advice;
mod doors;
mod feed;
mod growth;
#[doc(hidden)]
pub mod load;
mod lock;
mod open;
mod processes;
mod record;
mod shared;
mod stats;
mod tend;
#[cfg(test)]
mod tests;
mod unreadable;

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::sync::watch;
use turnkeep_core::SessionKey;
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::ports::switchboard::SwitchboardStore;
use turnkeep_core::switchboard::{
    Changes, Limits, List, Missing, NameError, Noted, Observed, Page, Resources, Row, RowId,
    SeatError, Totals,
};

use crate::service::Refusal;
use advice::Trends;
use lock::OneLock;
use record::Record;
use shared::{Boards, Shared};
use unreadable::Unreadable;

pub use advice::Recommendation;
pub use doors::{ClosedSession, NewSession, TidiedUp};
pub(crate) use feed::{observed, resources};
pub(crate) use open::{Holds, OpenFiles};
pub use stats::{OpenFor, ProcessStats, Stats, StatsLimits};

/// Why something was not done on the switchboard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BoardError {
    /// There is no such session on the board.
    Unknown,
    /// The text could mean several sessions; these are the first of them.
    Ambiguous(Vec<Arc<Row>>),
    /// Another session is called so; its number.
    NameTaken(u32),
    /// The text is no name.
    Name(NameError),
    /// The text names no seat.
    Seat(SeatError),
    /// The board is full, and no session on it can make room.
    Full,
    /// The session did not do it.
    Refused(Refusal),
    /// It could not be written down, so it did not happen.
    Unavailable(String),
}

impl From<Missing> for BoardError {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Unknown => Self::Unknown,
            Missing::Ambiguous(candidates) => Self::Ambiguous(candidates),
        }
    }
}

impl From<Refusal> for BoardError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unavailable(why) => Self::Unavailable(why),
            other => Self::Refused(other),
        }
    }
}

/// The short name of a session: the beginning of what its key hashes to.
#[must_use]
pub fn id_of(key: &SessionKey) -> RowId {
    let digest = Sha256::digest(key.as_str().as_bytes());
    let mut hash = [0; 8];
    hash.copy_from_slice(&digest[..8]);
    RowId::of_hash(hash)
}

/// The sessions of every tenant as they stand now.
pub struct Switchboard {
    record: Arc<Record<OneLock<Boards>>>,
    trends: std::sync::Mutex<Trends>,
    unreadable: std::sync::Mutex<Unreadable>,
    open: Arc<OpenFiles>,
    /// Names this process.
    boot: String,
}

impl Switchboard {
    pub(crate) fn new(store: Arc<dyn SwitchboardStore>, limits: Limits) -> Self {
        Self {
            record: Arc::new(Record::new(Shared::new(limits, id_of), store)),
            trends: std::sync::Mutex::default(),
            unreadable: std::sync::Mutex::default(),
            open: Arc::default(),
            boot: crate::clock::fresh_uuid().simple().to_string(),
        }
    }

    /// What is open for each session.
    pub(crate) const fn open_files(&self) -> &Arc<OpenFiles> {
        &self.open
    }

    fn unreadable(&self) -> std::sync::MutexGuard<'_, Unreadable> {
        self.unreadable.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn shared(&self) -> &Shared<OneLock<Boards>> {
        &self.record.shared
    }

    /// Reads every board; to be called before any session has a task.
    pub(crate) async fn load(&self) -> Result<(), StoreError> {
        self.record.load().await
    }

    /// From now on this node keeps the boards of all.
    pub(crate) fn keep(&self) {
        self.record.keep();
    }

    /// Writes down whatever is not written yet; what fails is tried again later. It goes on where
    /// whoever waits for it is dropped: what was taken to be written counts as written.
    pub(crate) async fn write_all(&self) {
        let record = Arc::clone(&self.record);
        let written = tokio::spawn(async move { record.write_all().await });
        if let Err(error) = written.await {
            tracing::error!(%error, "the switchboard could not be written down");
        }
    }

    /// Names this process, so that nobody takes its versions for those of another one.
    #[must_use]
    pub fn boot(&self) -> &str {
        &self.boot
    }

    pub(crate) fn set_limits(&self, limits: Limits) {
        self.shared().set_limits(limits);
    }

    /// The session that a text means: its number, its exact name, the beginning of its id, or its
    /// key.
    pub fn get(&self, tenant: &str, which: &str) -> Result<Arc<Row>, BoardError> {
        let found = self.shared().read(tenant, |board| board.find(which));
        Ok(found.unwrap_or(Err(Missing::Unknown))?)
    }

    /// A session's row by its key.
    #[must_use]
    pub fn by_key(&self, key: &SessionKey) -> Option<Arc<Row>> {
        self.shared().read(&key.tenant(), |board| board.by_key(key))?
    }

    /// A page of the list, in its order: so many rows behind a number; and which of all sessions the
    /// seat looks at.
    #[must_use]
    pub fn page(
        &self,
        tenant: &str,
        page: (u32, usize),
        seat: Option<&str>,
    ) -> (Page, Option<u32>) {
        self.shared().page(tenant, page, seat)
    }

    /// The same of those sessions that are wanted, looked for outside of the lock.
    pub fn page_of(
        &self,
        tenant: &str,
        page: (u32, usize),
        seat: Option<&str>,
        wanted: impl Fn(&Row) -> bool,
    ) -> (Page, Option<u32>) {
        self.shared().page_of(tenant, page, seat, wanted)
    }

    /// The whole list; whoever asks at the same version gets the same.
    #[must_use]
    pub fn list(&self, tenant: &str) -> List {
        self.shared().list(tenant)
    }

    /// The sessions that wait for a person.
    #[must_use]
    pub fn waiting(&self, tenant: &str) -> Vec<Arc<Row>> {
        self.shared().read(tenant, |board| board.waiting()).unwrap_or_default()
    }

    /// What a seat looks at.
    #[must_use]
    pub fn active(&self, tenant: &str, seat: &str) -> Option<Arc<Row>> {
        self.shared().read(tenant, |board| board.active(seat))?
    }

    /// How many there are.
    #[must_use]
    pub fn totals(&self, tenant: &str) -> Totals {
        self.shared().read(tenant, |board| board.totals()).unwrap_or_default()
    }

    /// Of all tenants together.
    pub(crate) fn totals_of_all(&self) -> Totals {
        self.shared().totals()
    }

    /// What changed since a version; everything where nothing is said, or nothing is known of it. And
    /// what the seat looks at, whose row whoever has all changes has too.
    #[must_use]
    pub fn since(
        &self,
        tenant: &str,
        version: Option<u64>,
        seat: Option<&str>,
    ) -> (Changes, Option<u32>) {
        self.shared().since(tenant, version, seat)
    }

    /// Tells the board's version when it moves. What it tells is the latest state, so a slow reader
    /// misses steps and nothing else. None where there are too many tenants.
    #[must_use]
    pub fn subscribe(&self, tenant: &str) -> Option<watch::Receiver<u64>> {
        self.shared().subscribe(tenant)
    }

    /// What a session's task saw; told after each commit, before anybody is answered.
    pub(crate) fn observe(&self, key: &SessionKey, seen: &Observed<'_>) {
        let now = crate::clock::now();
        match self.shared().observe(key, seen, now) {
            Noted::Illegal(from, to) => tracing::warn!(
                session_key = %key, ?from, ?to,
                "the switchboard was told of a change that can't be, and left the state alone"
            ),
            Noted::Same | Noted::Changed | Noted::Entered(_) | Noted::Left(_) | Noted::LeftOut => {}
        }
    }

    /// What a session takes now.
    pub(crate) fn weigh(&self, key: &SessionKey, taken: Resources) {
        self.shared().weigh(key, taken);
    }

    /// A session's task leaves, and what it kept in memory with it.
    pub(crate) fn given_back(&self, key: &SessionKey) {
        self.shared().given_back(key);
    }

    /// Something of a session's past says something else now, or nothing: what is kept of it here is
    /// dropped and read again.
    pub(crate) fn look_again(&self, key: &SessionKey) {
        self.shared().redacted(key);
    }

    /// A session is gone altogether.
    pub(crate) fn forget(&self, key: &SessionKey) {
        self.shared().forget(key);
    }
}
