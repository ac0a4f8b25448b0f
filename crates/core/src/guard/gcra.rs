//! The arithmetic of a rate with a burst (the generic cell rate algorithm), in integers.
//!
//! A bucket is one number: when it will be full again. So a full bucket says nothing and may be
//! forgotten. Nothing is ever locked out for longer than a whole burst takes to come back, however
//! the clock jumps, because a time further away than that is taken for that.

use crate::ids::Timestamp;

const NANOS_PER_MINUTE: i64 = 60_000_000_000;
const NANOS_PER_MILLI: i64 = 1_000_000;
/// A burst that takes longer to come back is cut to this: one day.
const REFILL_NANOS_MAX: i64 = 86_400 * 1_000_000_000;

/// How much is let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Rate {
    /// In the long run, a minute; 0 means no limit.
    pub per_minute: u32,
    /// At once, after a rest; at least 1 is meant.
    pub burst: u32,
}

impl Rate {
    /// Everything is let through.
    pub const UNLIMITED: Self = Self { per_minute: 0, burst: 0 };

    /// So many a minute, so many at once.
    #[must_use]
    pub const fn new(per_minute: u32, burst: u32) -> Self {
        Self { per_minute, burst }
    }

    /// Nothing is ever refused.
    #[must_use]
    pub const fn is_unlimited(self) -> bool {
        self.per_minute == 0
    }

    /// How long an empty bucket takes to be full again, in milliseconds, rounded up.
    #[must_use]
    pub fn refill_ms(self) -> u64 {
        if self.is_unlimited() { 0 } else { to_millis(self.refill_nanos()) }
    }

    /// What one costs, in time.
    fn cost_nanos(self) -> i64 {
        NANOS_PER_MINUTE / i64::from(self.per_minute.max(1))
    }

    /// What the whole burst costs.
    fn refill_nanos(self) -> i64 {
        let burst = i64::from(self.burst.max(1));
        // At least one costs as much as itself, even where that is longer than a day.
        self.cost_nanos().saturating_mul(burst).min(REFILL_NANOS_MAX).max(self.cost_nanos())
    }
}

/// What somebody has used of a rate. A new one is full. It belongs to that rate alone: asked at
/// another one, it would forget what was used, or hold it against who used nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// When it will be full again, in nanoseconds since the Unix epoch.
    full_at: i64,
}

impl Bucket {
    /// Takes one, or says in how many milliseconds (at least 1) one would be let through; a refusal
    /// costs nothing.
    pub fn take(&mut self, rate: Rate, now: Timestamp) -> Result<(), u64> {
        match self.wait_ms(rate, now) {
            None => {
                self.spend(rate, now);
                Ok(())
            }
            Some(wait_ms) => Err(wait_ms),
        }
    }

    /// In how many milliseconds (at least 1) one would be let through; none if now. Takes nothing.
    ///
    /// But it is noted where the time was further away than a whole burst: that time would stay
    /// out of reach until a clock that stepped back has caught up.
    pub fn wait_ms(&mut self, rate: Rate, now: Timestamp) -> Option<u64> {
        if rate.is_unlimited() {
            return None;
        }
        let now = to_nanos(now);
        self.full_at = self.used_until(rate, now);
        let after = self.full_at.saturating_add(rate.cost_nanos());
        let over = after.saturating_sub(now.saturating_add(rate.refill_nanos()));
        (over > 0).then(|| to_millis(over))
    }

    /// Takes one without asking; below empty it does not go.
    pub fn spend(&mut self, rate: Rate, now: Timestamp) {
        if rate.is_unlimited() {
            return;
        }
        let now = to_nanos(now);
        let empty = now.saturating_add(rate.refill_nanos());
        let used = self.used_until(rate, now).saturating_add(rate.cost_nanos());
        self.full_at = used.min(empty);
    }

    /// Gives back one that was taken a moment ago.
    pub fn give_back(&mut self, rate: Rate) {
        if !rate.is_unlimited() {
            self.full_at = self.full_at.saturating_sub(rate.cost_nanos());
        }
    }

    /// Lets none through for so long, because others have used the rate up. At most what one costs
    /// is waited for.
    pub fn hold(&mut self, rate: Rate, wait_ms: u64, now: Timestamp) {
        if rate.is_unlimited() {
            return;
        }
        let now = to_nanos(now);
        let wait = to_nanos(Timestamp::try_from(wait_ms).unwrap_or(Timestamp::MAX));
        let empty = now.saturating_add(rate.refill_nanos());
        let until = empty.saturating_sub(rate.cost_nanos()).saturating_add(wait).min(empty);
        self.full_at = self.full_at.max(until);
    }

    /// Nothing has been used, so it may be forgotten.
    #[must_use]
    pub fn is_full(self, now: Timestamp) -> bool {
        self.full_at <= to_nanos(now)
    }

    /// When it will be full again, in milliseconds since the Unix epoch; the least harmful one to
    /// forget is the earliest.
    #[must_use]
    pub const fn full_at(self) -> Timestamp {
        self.full_at / NANOS_PER_MILLI
    }

    /// Never before now, and never further away than a whole burst, which is what a clock that
    /// stepped back, or a rate that was lowered, would make of it.
    fn used_until(self, rate: Rate, now: i64) -> i64 {
        self.full_at.clamp(now, now.saturating_add(rate.refill_nanos()))
    }
}

const fn to_nanos(at: Timestamp) -> i64 {
    at.saturating_mul(NANOS_PER_MILLI)
}

/// Rounded up, so that who waits that long is let through.
fn to_millis(nanos: i64) -> u64 {
    nanos.unsigned_abs().div_ceil(NANOS_PER_MILLI.unsigned_abs()).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Bucket, Rate};

    const NOW: i64 = 1_750_000_000_000;

    /// Sends at these milliseconds after `NOW`; says for each 0 if it was let through, or the wait.
    #[track_caller]
    fn check(rate: Rate, at: &[i64], expect: &[u64]) {
        let mut bucket = Bucket::default();
        let told: Vec<u64> =
            at.iter().map(|at| bucket.take(rate, NOW + at).err().unwrap_or(0)).collect();
        assert_eq!(told, expect);
    }

    #[test]
    fn what_is_given_back_was_not_used() {
        let rate = Rate::new(60, 2);
        let mut bucket = Bucket::default();
        for _ in 0..5 {
            assert_eq!(bucket.take(rate, NOW), Ok(()));
            bucket.give_back(rate);
        }
        assert!(bucket.is_full(NOW));
        assert_eq!([0; 3].map(|_| bucket.take(rate, NOW)), [Ok(()), Ok(()), Err(1000)]);
        bucket.give_back(rate);
        assert_eq!([0; 2].map(|_| bucket.take(rate, NOW)), [Ok(()), Err(1000)]);
    }

    #[test]
    fn what_others_used_up_is_waited_for_and_no_longer() {
        let rate = Rate::new(60, 2);
        let mut bucket = Bucket::default();
        bucket.hold(rate, 400, NOW);
        assert_eq!(bucket.take(rate, NOW), Err(400));
        assert_eq!(bucket.take(rate, NOW + 399), Err(1));
        assert_eq!(bucket.take(rate, NOW + 400), Ok(()));
        assert_eq!(bucket.take(rate, NOW + 400), Err(1000), "one, not the whole burst");
        bucket.hold(rate, 1, NOW + 400);
        assert_eq!(bucket.take(rate, NOW + 400), Err(1000), "what is waited for longer stays");
        bucket.hold(rate, u64::MAX, NOW + 400);
        assert_eq!(bucket.take(rate, NOW + 400), Err(1000), "never longer than one costs");
    }

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate() {
        let rate = Rate::new(60, 3);
        check(rate, &[0, 0, 0, 0], &[0, 0, 0, 1000]);
        check(rate, &[0, 0, 0, 400, 1000, 1000], &[0, 0, 0, 600, 0, 1000]);
        check(rate, &[0, 0, 0, 60_000, 60_000, 60_000, 60_000], &[0, 0, 0, 0, 0, 0, 1000]);
    }

    #[test]
    fn a_burst_of_none_means_one() {
        check(Rate::new(60, 0), &[0, 0, 1000], &[0, 1000, 0]);
    }

    #[test]
    fn no_rate_means_no_limit() {
        check(Rate::UNLIMITED, &[0; 500], &[0; 500]);
    }

    #[test]
    fn rates_above_one_a_millisecond_are_counted_too() {
        let mut bucket = Bucket::default();
        let rate = Rate::new(6_000_000, 100);
        let passed = (0..1000).filter(|_| bucket.take(rate, NOW).is_ok()).count();
        assert_eq!(passed, 100);
        let passed = (0..1000).filter(|_| bucket.take(rate, NOW + 1).is_ok()).count();
        assert_eq!(passed, 100);
    }

    #[test]
    fn a_clock_that_steps_back_locks_nobody_out_for_longer_than_the_burst() {
        let rate = Rate::new(60, 5);
        let mut bucket = Bucket::default();
        bucket.spend(rate, NOW + 86_400_000);
        assert_eq!(bucket.wait_ms(rate, NOW), Some(1000));
        assert_eq!(bucket.wait_ms(rate, NOW + 1000), None);
    }

    #[test]
    fn what_is_spent_unasked_is_never_a_debt() {
        let rate = Rate::new(60, 5);
        let mut bucket = Bucket::default();
        for _ in 0..100 {
            bucket.spend(rate, NOW);
        }
        assert_eq!(bucket.wait_ms(rate, NOW), Some(1000));
        assert!(!bucket.is_full(NOW + 4999));
        assert!(bucket.is_full(NOW + 5000));
    }

    #[test]
    fn the_greatest_numbers_overflow_nothing() {
        for (per_minute, burst) in [(1, u32::MAX), (u32::MAX, u32::MAX), (u32::MAX, 1), (1, 0)] {
            for now in [i64::MIN, -1, 0, NOW, i64::MAX] {
                let mut bucket = Bucket::default();
                let rate = Rate::new(per_minute, burst);
                bucket.spend(rate, now);
                assert!(bucket.wait_ms(rate, now).unwrap_or(0) <= rate.refill_ms().max(60_001));
            }
        }
    }

    proptest! {
        /// In any window of time no more passes than the burst and what the rate gives meanwhile,
        /// and who waits as long as he was told is let through.
        #[test]
        fn never_more_than_the_rate(
            per_minute in 1_u32..100_000,
            burst in 0_u32..200,
            steps in prop::collection::vec(0_i64..5000, 1..200),
        ) {
            let rate = Rate::new(per_minute, burst);
            let mut bucket = Bucket::default();
            let mut now = NOW;
            let mut passed = 0_u64;
            for step in steps {
                now += step;
                match bucket.take(rate, now) {
                    Ok(()) => passed += 1,
                    Err(wait_ms) => {
                        let mut later = bucket;
                        prop_assert!(later.take(rate, now + wait_ms.cast_signed()).is_ok());
                    }
                }
            }
            // A cost is rounded down to whole nanoseconds: at most one more in a million.
            let given = (now - NOW).unsigned_abs() * u64::from(per_minute) / 60_000;
            let allowed = given + u64::from(burst.max(1)) + 1 + given / 1_000_000;
            prop_assert!(passed <= allowed, "{passed} of {allowed}");
        }

        /// However the clock jumps, the wait is at most the whole burst's.
        #[test]
        fn no_wait_is_longer_than_the_burst(
            per_minute in 1_u32..10_000,
            burst in 0_u32..100,
            jumps in prop::collection::vec(-100_000_000_i64..100_000_000, 1..100),
        ) {
            let rate = Rate::new(per_minute, burst);
            let mut bucket = Bucket::default();
            for jump in jumps {
                let now = NOW + jump;
                if let Err(wait_ms) = bucket.take(rate, now) {
                    prop_assert!(wait_ms <= rate.refill_ms());
                }
            }
        }
    }
}
