//! A store that is disturbed while messages disappear.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use turnkeep_core::care::Forgotten;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::care::{
    BackupError, BackupOrder, CareStore, Disappearing, Forget, Forgot, Found, Hashes, Redaction,
    Swept,
};
use turnkeep_core::ports::store::{DeadLetter, StoreError};
use turnkeep_core::{Seq, SessionKey, Timestamp};
use turnkeep_stores::MemoryStore;

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Somebody does something between two steps.
#[derive(Clone, Default)]
pub(super) struct Between {
    pub(super) reached: Arc<Notify>,
    pub(super) go: Arc<Notify>,
}

/// A store of which one session can't be read, or which waits for somebody.
pub(super) struct Meddled {
    pub(super) memory: MemoryStore,
    pub(super) unreadable: Option<SessionKey>,
    /// Before the dead letters are looked at for the first time.
    pub(super) at_letters: Mutex<Option<Between>>,
}

impl CareStore for Meddled {
    fn letters(&self, key: &SessionKey) -> Answer<'_, Vec<DeadLetter>> {
        if self.unreadable.as_ref() == Some(key) {
            return Box::pin(async { Err(StoreError::Corrupt("a row is broken".into())) });
        }
        let (key, between) = (key.clone(), self.at_letters.lock().unwrap().take());
        Box::pin(async move {
            if let Some(Between { reached, go }) = between {
                reached.notify_one();
                go.notified().await;
            }
            self.memory.letters(&key).await
        })
    }

    fn forgotten(&self, key: &SessionKey) -> Answer<'_, Option<Forgotten>> {
        self.memory.forgotten(key)
    }

    fn keys(
        &self,
        tenant: Option<&str>,
        after: Option<&SessionKey>,
        limit: usize,
    ) -> Answer<'_, Vec<SessionKey>> {
        self.memory.keys(tenant, after, limit)
    }

    fn forget(&self, forget: Forget) -> Answer<'_, Forgot> {
        self.memory.forget(forget)
    }

    fn sweep(&self, limit: usize) -> Answer<'_, Swept> {
        self.memory.sweep(limit)
    }

    fn redact(&self, redaction: Redaction) -> Answer<'_, ()> {
        self.memory.redact(redaction)
    }

    fn disappearing(&self, until: Timestamp, limit: usize) -> Answer<'_, Vec<Disappearing>> {
        self.memory.disappearing(until, limit)
    }

    fn put_off(
        &self,
        key: &SessionKey,
        looked_at: Vec<(Seq, Option<Timestamp>)>,
    ) -> Answer<'_, ()> {
        self.memory.put_off(key, looked_at)
    }

    fn find_sender(&self, tenant: &str, sender: &str, from: u64) -> Answer<'_, Found> {
        self.memory.find_sender(tenant, sender, from)
    }

    fn find_hashes(&self, from: u64) -> Answer<'_, Hashes> {
        self.memory.find_hashes(from)
    }

    fn is_unscrubbed(&self) -> Answer<'_, bool> {
        self.memory.is_unscrubbed()
    }

    fn scrub(&self) -> Answer<'_, bool> {
        self.memory.scrub()
    }

    fn salt(&self) -> Answer<'_, Vec<u8>> {
        self.memory.salt()
    }

    fn backup(&self, order: BackupOrder) -> BoxFuture<'_, Result<u64, BackupError>> {
        self.memory.backup(order)
    }
}
