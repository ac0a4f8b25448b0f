//! What was done lately, so that it is not done too often: bounded, and forgotten with time.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use turnkeep_core::Timestamp;

/// So many within a while, of everybody and of each.
#[derive(Debug)]
pub(super) struct Lately {
    window_ms: i64,
    all_max: usize,
    each_max: usize,
    done: Mutex<VecDeque<(Timestamp, String)>>,
}

impl Lately {
    pub(super) const fn new(window_ms: i64, all_max: usize, each_max: usize) -> Self {
        Self { window_ms, all_max, each_max, done: Mutex::new(VecDeque::new()) }
    }

    /// Notes one more, unless there were too many.
    pub(super) fn take(&self, who: &str, now: Timestamp) -> bool {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        // What is of the future was noted before the clock stepped back.
        done.retain(|(at, _)| (now.saturating_sub(self.window_ms)..=now).contains(at));
        let own = done.iter().filter(|(_, other)| other == who).count();
        if done.len() >= self.all_max || own >= self.each_max {
            return false;
        }
        done.push_back((now, who.to_owned()));
        true
    }

    /// The last one of these was none after all.
    pub(super) fn excuse(&self, who: &str) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = done.iter().rposition(|(_, other)| other == who) {
            done.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_of_each_and_of_all() {
        let lately = Lately::new(1000, 5, 2);
        assert_eq!([0, 1, 2].map(|at| lately.take("ann", at)), [true, true, false]);
        assert_eq!([3, 4, 5].map(|at| lately.take("ben", at)), [true, true, false]);
        assert!(lately.take("cat", 6));
        assert!(!lately.take("dan", 7), "too many of all");
        lately.excuse("ben");
        lately.excuse("nobody");
        assert!(lately.take("dan", 8));
        assert_eq!([1000, 1001].map(|at| lately.take("ann", at)), [false, true]);
    }

    #[test]
    fn a_clock_that_stepped_back_locks_nobody_out() {
        let lately = Lately::new(1000, 5, 1);
        assert!(lately.take("ann", 1_000_000));
        assert!(lately.take("ann", 500));
    }
}
