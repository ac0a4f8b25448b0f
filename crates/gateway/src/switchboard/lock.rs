//! The one lock, so small that a test can put another one in its place and try its schedules.

use std::sync::Mutex;

/// Something that only one at a time may touch.
pub(super) trait Guarded<T> {
    fn guarded(value: T) -> Self;

    /// Nobody else is in there meanwhile. It can't await, because it is given no way to.
    fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R;
}

/// Something that can be made whole again.
pub(super) trait Mend {
    /// Makes anew whatever follows from the rest.
    fn mend(&mut self);
}

/// What ships.
pub(super) struct OneLock<T>(Mutex<T>);

impl<T: Mend> Guarded<T> for OneLock<T> {
    fn guarded(value: T) -> Self {
        Self(Mutex::new(value))
    }

    fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        let mut value = self.0.lock().unwrap_or_else(|poisoned| {
            // Somebody panicked in the middle of a change.
            self.0.clear_poison();
            let mut value = poisoned.into_inner();
            value.mend();
            value
        });
        act(&mut value)
    }
}
