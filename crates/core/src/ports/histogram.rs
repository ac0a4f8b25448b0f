//! How often a quantity was how large, in fixed steps: small enough to be copied.

/// How many steps there are.
pub const STEPS: usize = 12;

/// Upper ends of the steps of how many jobs one transaction held.
pub const BATCH_JOBS_STEPS: [u64; STEPS] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024];

/// Upper ends of the steps of how long a transaction took to become durable, in microseconds.
pub const SYNC_US_STEPS: [u64; STEPS] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000];

/// What was counted; the upper ends of its steps stand beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many were at most as large as the end of their step and larger than the one before.
    pub counts: [u64; STEPS],
    /// How many were larger than the last end.
    pub larger: u64,
    /// All of them together.
    pub sum: u64,
}

/// The step that a value belongs to; none if it is larger than all of them.
#[must_use]
pub fn step_of(ends: &[u64; STEPS], value: u64) -> Option<usize> {
    ends.iter().position(|end| value <= *end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_belongs_to_the_first_end_that_reaches_it() {
        let check = |value: u64, expect: Option<usize>| {
            assert_eq!(step_of(&BATCH_JOBS_STEPS, value), expect, "{value}");
        };
        check(0, Some(0));
        check(1, Some(0));
        check(2, Some(1));
        check(3, Some(2));
        check(1024, Some(11));
        check(1025, None);
    }

    #[test]
    fn steps_rise() {
        for ends in [BATCH_JOBS_STEPS, SYNC_US_STEPS] {
            assert!(ends.is_sorted_by(|one, next| one < next), "{ends:?}");
        }
    }
}
