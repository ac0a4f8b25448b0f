//! Reads what the compiler counts: how often each edge of the code was passed.
//!
//! Built with `-Cpasses=sancov-module` and inline counters, every module tells at the start of the
//! process where its counters are. Built without, there are none, and nothing here does anything.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Ranges of counters that are looked at; a binary has one.
const RANGES_MAX: usize = 16;

static STARTS: [AtomicUsize; RANGES_MAX] = [const { AtomicUsize::new(0) }; RANGES_MAX];
static ENDS: [AtomicUsize; RANGES_MAX] = [const { AtomicUsize::new(0) }; RANGES_MAX];

/// Called by what the compiler adds to each module, before `main`.
#[expect(unsafe_code, reason = "the compiler calls it by this name")]
// SAFETY: no other function has this name; it is the fuzzer's to define.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, end: *mut u8) {
    let (start, end) = (start.expose_provenance(), end.expose_provenance());
    if start == end
        || start == 0
        || STARTS.iter().any(|known| known.load(Ordering::Relaxed) == start)
    {
        return;
    }
    for (known, known_end) in STARTS.iter().zip(&ENDS) {
        if known.compare_exchange(0, start, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            known_end.store(end, Ordering::Relaxed);
            return;
        }
    }
}

/// Whether the compiler counts.
#[must_use]
pub fn is_counted() -> bool {
    STARTS[0].load(Ordering::Relaxed) != 0
}

/// Which counts of which edges were seen.
#[derive(Default)]
pub(crate) struct Seen(Vec<u8>);

impl Seen {
    /// Notes what was passed since [`reset`], and says whether anything of it is new.
    pub(crate) fn note(&mut self) -> bool {
        let mut new = false;
        let mut start = 0;
        for range in ranges() {
            self.0.resize(self.0.len().max(start + range.len() * 8), 0);
            for (word, at) in range.iter().zip((start..).step_by(8)) {
                let counts = word.load(Ordering::Relaxed);
                // Nearly every edge of a program is far from the parser that is tried.
                if counts == 0 {
                    continue;
                }
                for (count, seen) in counts.to_ne_bytes().iter().zip(&mut self.0[at..at + 8]) {
                    let passed = bucket(*count);
                    new |= passed & !*seen != 0;
                    *seen |= passed;
                }
            }
            start += range.len() * 8;
        }
        new
    }

    pub(crate) fn edges(&self) -> usize {
        self.0.iter().filter(|passed| **passed != 0).count()
    }
}

/// Sets every counter to zero.
pub(crate) fn reset() {
    for range in ranges() {
        for word in range {
            word.store(0, Ordering::Relaxed);
        }
    }
}

/// The counters, eight in a word; up to seven at each end of a range are left out.
fn ranges() -> impl Iterator<Item = &'static [AtomicU64]> {
    STARTS.iter().zip(&ENDS).filter_map(|(start, end)| {
        let start = start.load(Ordering::Relaxed).next_multiple_of(8);
        let end = end.load(Ordering::Relaxed);
        let words = end.checked_sub(start)? / 8;
        if words == 0 {
            return None;
        }
        let first = std::ptr::with_exposed_provenance::<AtomicU64>(start);
        #[expect(unsafe_code, reason = "the counters are where the compiler put them")]
        // SAFETY: the range is of bytes that live as long as the process and may be written, and
        // it is aligned. Others write them without atomics, which costs at most a count.
        let range = unsafe { std::slice::from_raw_parts(first, words) };
        Some(range)
    })
}

/// A bit for each sort of "how often": once more is nothing new for long.
fn bucket(count: u8) -> u8 {
    match count {
        0 => 0,
        1 => 1,
        2 => 2,
        3 => 4,
        4..=7 => 8,
        8..=15 => 16,
        16..=31 => 32,
        32..=127 => 64,
        128.. => 128,
    }
}
