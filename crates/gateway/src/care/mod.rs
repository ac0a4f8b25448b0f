//! Keeping and forgetting: what is too old goes, a customer is erased, everything can be copied.
//!
//! Nothing is decided here either: how much of a history may go is the core's
//! ([`turnkeep_core::care`]), removing it is the store's. This part looks for it, in an order that a
//! crash or a message between two steps can't harm.

mod disappear;
mod erase;
mod files;
mod find;
mod retention;

use std::sync::{Arc, OnceLock};

use serde::Serialize;
use turnkeep_core::ports::care::{CareStore, Forget, Forgot, Redaction};
use turnkeep_core::ports::store::StoreError;

pub use erase::{EraseError, Erased};
pub use files::FilesError;
pub use retention::Aged;

use crate::service::{Gateway, Refusal};
use files::Files;

/// Entries that are read and forgotten in one step.
const STEP: usize = 256;
/// Rows that one change removes.
const SWEEP_ROWS: usize = 256;
/// How often a session is read again that was written to meanwhile.
const TRIES_MAX: u32 = 50;

/// How far something long is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// What is being done.
    pub step: &'static str,
    /// How much of it is done.
    pub done: u64,
    /// How much there is, as far as that is known; 0 where it is not.
    pub of: u64,
}

/// Whoever wants to know.
pub type Tell<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// What the gateway holds for it.
pub(crate) struct Care {
    pub(crate) store: Arc<dyn CareStore>,
    /// One erasure at a time: a scan of everything is enough for the disk.
    alone: tokio::sync::Mutex<()>,
    /// The store's secret, read once at the start.
    salt: OnceLock<Vec<u8>>,
    /// Attachments that were stored.
    files: Files,
}

impl Care {
    pub(crate) fn new(store: Arc<dyn CareStore>) -> Self {
        let (alone, salt) = (tokio::sync::Mutex::default(), OnceLock::new());
        Self { store, alone, salt, files: Files::default() }
    }
}

impl Gateway {
    /// What keeps and forgets.
    #[must_use]
    pub fn care(&self) -> &Arc<dyn CareStore> {
        &self.0.care.store
    }

    /// Reads the store's secret; nobody is let in before.
    pub(crate) async fn load_salt(&self) -> Result<(), StoreError> {
        let salt = self.care().salt().await?;
        self.0.care.salt.get_or_init(|| salt);
        Ok(())
    }

    /// What keeps guesses away from the hashes of names.
    pub(crate) fn salt(&self) -> Result<&[u8], Refusal> {
        let salt = self.0.care.salt.get().map(Vec::as_slice);
        salt.ok_or_else(|| Refusal::Unavailable("the server is starting".to_owned()))
    }

    /// Forgets the beginning of a history, also where tasks remember it.
    async fn forget(&self, forget: Forget) -> Result<Forgot, StoreError> {
        let buried = forget.bury_as.is_some().then(|| forget.key.clone());
        let key = forget.key.clone();
        let forgot = self.care().forget(forget).await;
        self.switchboard().look_again(&key);
        if let Some(key) = buried.filter(|_| matches!(forgot, Ok(Forgot::Done(_)))) {
            // What was to be written down of it before must not bring its name back.
            self.switchboard().forget(&key);
            self.switchboard().write_all().await;
        }
        self.0.kept.forget(&key);
        self.0.care.files.look_soon();
        forgot
    }

    /// Blanks what stands in some places, also where tasks and listeners remember it.
    async fn redact(&self, redaction: Redaction) -> Result<(), StoreError> {
        let key = redaction.key.clone();
        let redacted = self.care().redact(redaction).await;
        self.switchboard().look_again(&key);
        self.0.kept.forget(&key);
        self.0.listeners.redacted();
        redacted
    }

    /// Removes every row that nobody reads any more; says how many.
    async fn sweep_forgotten(&self, tell: Tell<'_>) -> Result<u64, StoreError> {
        let mut done = 0;
        loop {
            let swept = self.care().sweep(SWEEP_ROWS).await?;
            done += swept.rows;
            tell(Progress { step: "removing", done, of: 0 });
            if !swept.more {
                return Ok(done);
            }
        }
    }
}
