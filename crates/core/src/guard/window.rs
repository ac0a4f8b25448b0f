//! Counts what happened lately, in three numbers instead of a list.
//!
//! Time is cut into spans. What happened in the span before counts for as much of it as still lies
//! within one span before now, as if it had been spread evenly.

use crate::ids::Timestamp;

/// A count over the last so many seconds. A new one is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// When the current span began, in seconds since the Unix epoch; enough until the year 2106.
    began_s: u32,
    current: u32,
    before: u32,
}

impl Window {
    /// Adds `count` and says how many there were in the last `span_s` seconds. A clock that stepped
    /// back begins anew: what was counted may be forgotten, and nobody is accused by a jump.
    pub fn add(&mut self, count: u32, span_s: u32, now: Timestamp) -> u32 {
        let (now_s, span_s) = (seconds(now), span_s.max(1));
        match now_s.checked_sub(self.began_s) {
            Some(passed) if passed < span_s => {}
            Some(passed) if passed < span_s.saturating_mul(2) => {
                self.began_s += span_s;
                self.before = std::mem::take(&mut self.current);
            }
            _ => *self = Self { began_s: now_s, current: 0, before: 0 },
        }
        self.current = self.current.saturating_add(count);
        let left = u64::from(span_s - (now_s - self.began_s));
        let before = u64::from(self.before) * left / u64::from(span_s);
        self.current.saturating_add(u32::try_from(before).unwrap_or(u32::MAX))
    }

    /// What is counted, without fading.
    pub(super) const fn held(self) -> u32 {
        self.current.saturating_add(self.before)
    }

    /// Nothing of it counts any more.
    #[must_use]
    pub fn is_over(self, span_s: u32, now: Timestamp) -> bool {
        seconds(now)
            .checked_sub(self.began_s)
            .is_none_or(|passed| passed >= span_s.max(1).saturating_mul(2))
    }
}

/// Whole seconds; a time that no window can hold is its end.
pub(super) fn seconds(at: Timestamp) -> u32 {
    u32::try_from(at.max(0) / 1000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Window;

    const NOW: i64 = 1_750_000_000_000;

    /// Adds one at each of these seconds; says what was counted each time.
    #[track_caller]
    fn check(at: &[i64], expect: &[u32]) {
        let mut window = Window::default();
        let counted: Vec<u32> = at.iter().map(|at| window.add(1, 60, NOW + at * 1000)).collect();
        assert_eq!(counted, expect);
    }

    #[test]
    fn what_is_older_than_a_span_fades() {
        check(&[0, 0, 0], &[1, 2, 3]);
        check(&[0, 59, 60], &[1, 2, 3]);
        check(&[0, 0, 0, 0, 90], &[1, 2, 3, 4, 3]);
        check(&[0, 0, 0, 0, 119], &[1, 2, 3, 4, 1]);
        check(&[0, 0, 0, 0, 120], &[1, 2, 3, 4, 1]);
    }

    #[test]
    fn a_clock_that_steps_back_begins_anew() {
        check(&[0, 0, -1, -1], &[1, 2, 1, 2]);
        check(&[0, 0, -86_400, 0], &[1, 2, 1, 1]);
    }

    #[test]
    fn it_is_over_when_nothing_counts() {
        let mut window = Window::default();
        assert!(window.is_over(60, NOW));
        window.add(1, 60, NOW);
        assert!(!window.is_over(60, NOW + 119_000));
        assert!(window.is_over(60, NOW + 120_000));
        assert!(window.is_over(60, NOW - 1000));
    }

    proptest! {
        /// Never more than twice what really was within the span (two neighbouring spans), and
        /// never less than what the current one holds.
        #[test]
        fn close_to_the_truth(steps in prop::collection::vec(0_i64..40, 1..200)) {
            let mut window = Window::default();
            let (mut now, mut at) = (0, Vec::new());
            for step in steps {
                now += step;
                at.push(now);
                let counted = window.add(1, 60, NOW + now * 1000);
                let within = |span: i64| at.iter().filter(|at| **at > now - span).count();
                prop_assert!(usize::try_from(counted).unwrap() <= within(121));
                prop_assert!(counted >= 1);
            }
        }

        /// Any clock and any count.
        #[test]
        fn nothing_overflows(times in prop::collection::vec(any::<i64>(), 1..20), span: u32) {
            let mut window = Window::default();
            for at in times {
                prop_assert!(window.add(u32::MAX, span, at) > 0);
            }
        }
    }
}
