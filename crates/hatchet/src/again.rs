//! How long to wait before the next try.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Waits that double from a first to a longest one, each shortened by chance to no less than half:
/// many workers that lost the same engine don't come back as one.
#[derive(Debug)]
pub(crate) struct Again {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Again {
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// It went well: the next trouble is a first one.
    pub(crate) const fn reset(&mut self) {
        self.next = self.first;
    }

    /// How long to wait now.
    pub(crate) fn next(&mut self) -> Duration {
        let whole = self.next.min(self.longest);
        self.next = (whole * 2).min(self.longest);
        let chance = RandomState::new().build_hasher().finish() % 1000;
        let half = whole / 2;
        half + half * u32::try_from(chance).unwrap_or_default() / 1000
    }

    /// Waits.
    pub(crate) async fn wait(&mut self) {
        let wait = self.next();
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_start_anew() {
        let mut again = Again::new(Duration::from_millis(200), Duration::from_secs(5));
        let waits: Vec<_> = (0..9).map(|_| again.next()).collect();
        assert!(waits[0] >= Duration::from_millis(100) && waits[0] <= Duration::from_millis(200));
        assert!(waits[8] >= Duration::from_millis(2500) && waits[8] <= Duration::from_secs(5));
        again.reset();
        assert!(again.next() <= Duration::from_millis(200));
    }
}
