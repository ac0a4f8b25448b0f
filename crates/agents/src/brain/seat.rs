//! The slot that a brain works in.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};
use turnkeep_core::ports::agent::{SlotGuard, TurnHandle};

type Slot = Box<dyn SlotGuard>;

/// A slot, and the right to leave it to somebody else while the brain only waits for its user.
pub(crate) struct Seat<'a> {
    slot: Mutex<Option<Slot>>,
    /// How many may wait outside: a brain that waits costs something, too.
    outside: &'a Semaphore,
}

impl<'a> Seat<'a> {
    /// Waits for a slot.
    pub(crate) async fn take(handle: &dyn TurnHandle, outside: &'a Semaphore) -> Self {
        Self { slot: Mutex::new(Some(handle.slot().await)), outside }
    }

    /// Gives the slot back, if one more may wait outside.
    pub(super) fn leave(&self) -> Option<SemaphorePermit<'a>> {
        let outside = self.outside.try_acquire().ok()?;
        let slot = self.lock().take();
        drop(slot);
        Some(outside)
    }

    /// Waits for a slot again, if it has none.
    pub(super) async fn come_back(
        &self,
        handle: &dyn TurnHandle,
        outside: Option<SemaphorePermit<'a>>,
    ) {
        if outside.is_some() && self.lock().is_none() {
            let slot = handle.slot().await;
            *self.lock() = Some(slot);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Slot>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
