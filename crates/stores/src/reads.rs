//! What is read of a store that nobody has to own: by the audit, and by people who look something
//! up beside a running server.

use turnkeep_core::care::Forgotten;
use turnkeep_core::ports::store::{DeadLetter, Loaded, StoreError};
use turnkeep_core::usage::Sums;
use turnkeep_core::{Event, Seq, SessionKey};

/// The reads of the ports, at once and on the caller's thread.
pub trait Reads {
    /// Runs several reads that all see the same moment. Keep it short beside a running server: as
    /// long as it lasts, what was changed meanwhile is kept twice.
    fn moment(&self, reads: &mut dyn FnMut(&dyn Reads)) -> Result<(), StoreError>;

    /// See [`turnkeep_core::ports::store::Store::load`].
    fn load(&self, key: &SessionKey) -> Result<Option<Loaded>, StoreError>;

    /// See [`turnkeep_core::ports::care::CareStore::forgotten`].
    fn forgotten(&self, key: &SessionKey) -> Result<Option<Forgotten>, StoreError>;

    /// See [`turnkeep_core::ports::store::Store::sessions`].
    fn sessions(
        &self,
        tenant: Option<&str>,
        after: Option<&SessionKey>,
        limit: usize,
    ) -> Result<Vec<(SessionKey, Loaded)>, StoreError>;

    /// See [`turnkeep_core::ports::store::Store::events`].
    fn events(&self, key: &SessionKey, after: Seq, limit: usize) -> Result<Vec<Event>, StoreError>;

    /// Everything that a session used, by the sums.
    fn usage_of_session(&self, key: &SessionKey) -> Result<Sums, StoreError>;

    /// See [`turnkeep_core::ports::store::Store::dead_letters`].
    fn dead_letters(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, SessionKey, DeadLetter)>, StoreError>;

    /// What is wrong with the store as a whole, beside its sessions.
    fn wrong(&self) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }
}
