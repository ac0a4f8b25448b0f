//! How fast a customer writes: the gaps between messages of one burst, and what is learnt of them.

use serde::{Deserialize, Serialize};

/// Gaps that are kept; older ones are forgotten, because people change.
pub const GAPS_MAX: usize = 32;
/// Samples of a customer's rhythm before it counts.
pub const RHYTHM_SAMPLES_MIN: u32 = 5;

/// What a customer's gaps come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rhythm {
    /// Gaps measured.
    pub samples: u32,
    /// The median gap.
    pub p50_ms: u32,
    /// The 95th percentile.
    pub p95_ms: u32,
}

impl Rhythm {
    /// How long this customer lets somebody wait for more; none before that is known.
    #[must_use]
    pub fn midpoint_ms(self) -> Option<u32> {
        (self.samples >= RHYTHM_SAMPLES_MIN).then(|| self.p50_ms.midpoint(self.p95_ms))
    }
}

/// The last gaps between messages of one burst, in milliseconds, oldest first. Stored as the bare
/// numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Gaps(Vec<u16>);

impl Gaps {
    /// Adds the newest one. No window is as long as the longest gap that fits.
    pub fn add(&mut self, gap_ms: u64) {
        let excess = (self.0.len() + 1).saturating_sub(GAPS_MAX);
        self.0.drain(..excess);
        self.0.push(u16::try_from(gap_ms).unwrap_or(u16::MAX));
    }

    /// Nothing is known yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, oldest first.
    #[must_use]
    pub fn as_slice(&self) -> &[u16] {
        &self.0
    }

    /// Becomes the same as another one, in the room that it has.
    pub fn copy_from(&mut self, other: &Self) {
        self.0.clear();
        self.0.extend_from_slice(&other.0);
    }

    /// What they come to. Percentiles by nearest rank: each is a gap that happened.
    #[must_use]
    pub fn rhythm(&self) -> Rhythm {
        let (mut sorted, mut count) = ([0; GAPS_MAX], 0);
        for (place, gap) in sorted.iter_mut().zip(self.0.iter().rev()) {
            *place = *gap;
            count += 1;
        }
        let Some(sorted) = sorted.get_mut(..count).filter(|sorted| !sorted.is_empty()) else {
            return Rhythm::default();
        };
        sorted.sort_unstable();
        let percentile = |percent: usize| {
            let rank = (count * percent).div_ceil(100);
            sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default().into()
        };
        Rhythm {
            samples: u32::try_from(count).unwrap_or(u32::MAX),
            p50_ms: percentile(50),
            p95_ms: percentile(95),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(gaps: impl IntoIterator<Item = u64>) -> Gaps {
        let mut all = Gaps::default();
        gaps.into_iter().for_each(|gap| all.add(gap));
        all
    }

    #[test]
    fn percentiles_are_gaps_that_happened() {
        let check = |gaps: &[u64], expect: (u32, u32, u32)| {
            let Rhythm { samples, p50_ms, p95_ms } = of(gaps.iter().copied()).rhythm();
            assert_eq!((samples, p50_ms, p95_ms), expect, "{gaps:?}");
        };
        check(&[], (0, 0, 0));
        check(&[700], (1, 700, 700));
        check(&[900, 100], (2, 100, 900));
        check(&[500, 100, 400, 200, 300], (5, 300, 500));
        check(&(1..=32).collect::<Vec<_>>(), (32, 16, 31));
        check(&[1_000_000], (1, 65_535, 65_535));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let many = of(0..100);
        assert_eq!(many.as_slice().len(), GAPS_MAX);
        assert_eq!(many.as_slice()[0], 68);
        assert_eq!(many.rhythm().p50_ms, 83);
    }

    #[test]
    fn they_are_stored_as_bare_numbers() {
        let text = serde_json::to_string(&of([640, 700])).unwrap();
        assert_eq!(text, "[640,700]");
        assert_eq!(serde_json::from_str::<Gaps>(&text).unwrap(), of([640, 700]));
        // More than are kept, as another version might: the last ones count.
        let long: Gaps =
            serde_json::from_str(&format!("{:?}", (0..40).collect::<Vec<_>>())).unwrap();
        assert_eq!(long.rhythm(), of(8..40).rhythm());
    }

    #[test]
    fn few_gaps_say_nothing() {
        assert_eq!(of([1, 2, 3, 4]).rhythm().midpoint_ms(), None);
        assert_eq!(of([1000, 1000, 1000, 1000, 2000]).rhythm().midpoint_ms(), Some(1500));
    }
}
