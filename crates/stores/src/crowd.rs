//! Whether it is worth waiting a moment for more before the disk is asked.
//!
//! One sync serves everybody who is in its transaction. Where few people write, nobody else comes,
//! and waiting would only make them slower. Where many do, a moment's patience brings several
//! together, and halves what a turn costs. `PostgreSQL` knows the same pair of rules as
//! `commit_delay` and `commit_siblings`.

use std::time::{Duration, Instant};

/// How long a batch waits for more.
pub(crate) const PATIENCE: Duration = Duration::from_millis(1);
/// A batch that has so many has enough.
const ENOUGH: usize = 8;
/// How long jobs are counted before it is said again whether there are many.
const COUNTED: Duration = Duration::from_millis(100);
/// So many within that time are many. One person in front of a quick agent makes a tenth of it.
const MANY: usize = 40;

/// Counts the jobs that come.
#[derive(Debug)]
pub(crate) struct Crowd {
    since: Instant,
    jobs: usize,
    many: bool,
}

impl Crowd {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { since: now, jobs: 0, many: false }
    }

    /// Whether the batch, which has so many now, should wait for more.
    pub(crate) fn brings_more(&self, jobs: usize) -> bool {
        self.many && jobs < ENOUGH
    }

    /// Counts a batch.
    pub(crate) fn count(&mut self, jobs: usize, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        if passed >= COUNTED {
            // A pause longer than twice the time is no sign of a crowd, however many end it.
            self.many = self.jobs >= MANY && passed < 2 * COUNTED;
            (self.since, self.jobs) = (now, 0);
        }
        self.jobs += jobs;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches of `jobs` jobs, `every` so often, for a second; whether the next one waits.
    fn waits(jobs: usize, every: Duration) -> bool {
        let began = Instant::now();
        let mut crowd = Crowd::new(began);
        let mut now = began;
        while now < began + Duration::from_secs(1) {
            now += every;
            crowd.count(jobs, now);
        }
        crowd.brings_more(1)
    }

    #[test]
    fn only_a_crowd_is_waited_for() {
        let ms = Duration::from_millis;
        assert!(!waits(1, ms(20)), "one person in front of a quick agent");
        assert!(!waits(2, ms(10)), "five of them");
        assert!(waits(1, ms(2)), "two hundred people");
        assert!(waits(100, ms(5)), "a flood");
        assert!(!waits(1000, ms(500)), "bursts with nothing between them");
    }

    #[test]
    fn a_batch_that_is_full_waits_for_nobody() {
        let began = Instant::now();
        let mut crowd = Crowd::new(began);
        crowd.count(MANY, began);
        crowd.count(1, began + COUNTED);
        assert!(crowd.brings_more(ENOUGH - 1));
        assert!(!crowd.brings_more(ENOUGH));
    }

    #[test]
    fn a_crowd_that_left_is_not_waited_for() {
        let began = Instant::now();
        let mut crowd = Crowd::new(began);
        crowd.count(MANY, began);
        crowd.count(1, began + COUNTED);
        assert!(crowd.brings_more(1));
        crowd.count(1, began + 2 * COUNTED);
        assert!(!crowd.brings_more(1));
    }
}
