//! What somebody else wrote under a name of ours: it is left alone, not used, and told.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For so long it is told that something was met; whoever still writes there is met again.
const TOLD: Duration = Duration::from_secs(60);

/// When something of somebody else's was met last.
#[derive(Debug, Default)]
pub(crate) struct Strange(Mutex<Option<Instant>>);

impl Strange {
    /// Notes that this key holds what is not ours.
    pub(crate) fn met(&self, key: &str) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_fresh(last.replace(Instant::now())) {
            tracing::warn!(key, "Redis: a key holds what somebody else wrote, and is not used");
        }
    }

    /// Whether there was any a moment ago.
    pub(crate) fn is_told(&self) -> bool {
        is_fresh(*self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn is_fresh(met: Option<Instant>) -> bool {
    met.is_some_and(|met| met.elapsed() < TOLD)
}
