//! The one lock, so small that a test can put another one in its place and try its schedules.

use std::sync::{Mutex, PoisonError};

/// Something that only one at a time may touch.
pub(super) trait Guarded<T> {
    fn guarded(value: T) -> Self;

    /// Nobody else is in there meanwhile. It can't await, because it is given no way to.
    fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R;
}

/// What ships.
pub(super) struct OneLock<T>(Mutex<T>);

impl<T> Guarded<T> for OneLock<T> {
    fn guarded(value: T) -> Self {
        Self(Mutex::new(value))
    }

    fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        // A board is mended by the next cleanup, whatever a panic left of it.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
