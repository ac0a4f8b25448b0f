//! What of the board survives: written down in the order of its changes, by one at a time.
//!
//! Whoever waits for a change writes down everything that is not written yet, so many who wait share
//! one write, and two changes of one row can't overtake each other. Where a write fails nobody knows
//! what is durable: the board is read again, and whoever waited is told.

use std::sync::Arc;

use tokio::sync::Mutex;
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::ports::switchboard::{SwitchboardStore, Written};

use super::BoardError;
use super::lock::Guarded;
use super::shared::{Boards, Shared, Ticket};

/// Tenants that are read at once.
const PAGE: usize = 256;

/// The boards and where they are written down.
pub(super) struct Record<L> {
    pub(super) shared: Shared<L>,
    store: Arc<dyn SwitchboardStore>,
    /// Held by whoever writes.
    writing: Mutex<()>,
}

impl<L: Guarded<Boards>> Record<L> {
    pub(super) fn new(shared: Shared<L>, store: Arc<dyn SwitchboardStore>) -> Self {
        Self { shared, store, writing: Mutex::default() }
    }

    /// Reads every board.
    pub(super) async fn load(&self) -> Result<(), StoreError> {
        let mut after: Option<Arc<str>> = None;
        loop {
            let tenants = self.store.board_tenants(after.as_deref(), PAGE).await?;
            let full = tenants.len() == PAGE;
            after = tenants.last().map(Arc::clone);
            for tenant in tenants {
                let kept = self.store.board(&tenant).await?;
                self.shared.restore(&tenant, &kept);
            }
            if !full {
                return Ok(());
            }
        }
    }

    /// Resolves once what was changed then is durable, or is not any more. To be called by a task
    /// that nobody drops.
    pub(super) async fn settle(&self, tenant: &str, ticket: Ticket) -> Result<(), BoardError> {
        let written = self.write(tenant).await;
        if self.shared.holds(tenant, ticket) && written.is_ok() {
            return Ok(());
        }
        let why = written.err().map_or_else(
            || "the change could not be written down; it did not happen".to_owned(),
            |error| error.to_string(),
        );
        Err(BoardError::Unavailable(why))
    }

    /// Writes down everything that is not written yet.
    pub(super) async fn write(&self, tenant: &str) -> Result<(), StoreError> {
        let _alone = self.writing.lock().await;
        if self.shared.is_stale(tenant) {
            self.reload(tenant).await?;
        }
        while let Some(change) = self.shared.take_unsaved(tenant) {
            crate::killpoint::reached("switchboard.write.before");
            let written = self.store.write_board(change).await;
            crate::killpoint::reached("switchboard.write.after");
            let error = match written {
                Ok(Written::Done) => continue,
                Ok(Written::Taken(key)) => StoreError::Unavailable(format!(
                    "the record of the switchboard disagrees about {key}; it was read again"
                )),
                Err(error) => error,
            };
            tracing::warn!(tenant, %error, "the switchboard could not be written down");
            self.shared.doubt(tenant);
            // If not now, the next one who writes does it.
            if let Err(error) = self.reload(tenant).await {
                tracing::warn!(tenant, %error, "the switchboard could not be read again");
            }
            return Err(error);
        }
        Ok(())
    }

    async fn reload(&self, tenant: &str) -> Result<(), StoreError> {
        let kept = self.store.board(tenant).await?;
        self.shared.restore(tenant, &kept);
        Ok(())
    }

    /// The same for every tenant; what fails is tried again later.
    pub(super) async fn write_all(&self) {
        for tenant in self.shared.unsaved() {
            // Told where it failed.
            let _ = self.write(&tenant).await;
        }
    }
}
