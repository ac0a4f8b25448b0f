//! What of the board survives: a tenant's is written down in the order of its changes, by one at a
//! time; no tenant waits for another one.
//!
//! Whoever waits for a change writes down what anybody waits for, so many who wait share one write,
//! and two changes of one row can't overtake each other. What came by itself waits for the next beat,
//! and whoever writes much of it lets others in between. Where a write fails nobody knows
//! what is durable: the board is read again, and whoever waited is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use turnkeep_core::ports::store::StoreError;
use turnkeep_core::ports::switchboard::{SwitchboardStore, Written};

use super::BoardError;
use super::lock::Guarded;
use super::shared::{Boards, Shared, Ticket, Which};

/// Tenants that are read at once.
const PAGE: usize = 256;

/// The boards and where they are written down.
pub(super) struct Record<L> {
    pub(super) shared: Shared<L>,
    store: Arc<dyn SwitchboardStore>,
    /// It is this node that keeps it; else nothing is written.
    kept: AtomicBool,
}

impl<L: Guarded<Boards>> Record<L> {
    pub(super) fn new(shared: Shared<L>, store: Arc<dyn SwitchboardStore>) -> Self {
        Self { shared, store, kept: AtomicBool::new(false) }
    }

    /// From now on this node keeps it.
    pub(super) fn keep(&self) {
        self.kept.store(true, Ordering::Release);
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
        let written = self.write(tenant, Which::Wanted).await;
        if self.shared.holds(tenant, ticket) && written.is_ok() {
            return Ok(());
        }
        let why = written.err().map_or_else(
            || "the change could not be written down; it did not happen".to_owned(),
            |error| error.to_string(),
        );
        Err(BoardError::Unavailable(why))
    }

    /// Writes down what is not written yet.
    pub(super) async fn write(&self, tenant: &str, which: Which) -> Result<(), StoreError> {
        if !self.kept.load(Ordering::Acquire) {
            return Ok(());
        }
        let Some(writing) = self.shared.writing(tenant) else { return Ok(()) };
        loop {
            // For one batch: a person does not wait behind all that came by itself.
            let _alone = writing.lock().await;
            if !self.write_next(tenant, which).await? {
                return Ok(());
            }
        }
    }

    /// One batch; false if there is nothing to write.
    async fn write_next(&self, tenant: &str, which: Which) -> Result<bool, StoreError> {
        if self.shared.is_stale(tenant) {
            self.reload(tenant).await?;
        }
        let Some(change) = self.shared.take_unsaved(tenant, which) else { return Ok(false) };
        crate::killpoint::reached("switchboard.write.before");
        let written = self.store.write_board(change).await;
        crate::killpoint::reached("switchboard.write.after");
        let error = match written {
            Ok(Written::Done) => return Ok(true),
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
        Err(error)
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
            let _ = self.write(&tenant, Which::All).await;
        }
    }
}
