//! Plays many schedules, over several threads, and hunts planted mistakes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use turnkeep_gateway::panic_text;

use crate::coverage::Coverage;
use crate::mutants::{MUTANTS, Mutant};
use crate::stock::Stock;
use crate::world::{Verdict, World};

/// Schedules that a thread takes at a time.
const CHUNK: u64 = 256;
/// Failing seeds that are kept; one fault shows in many.
pub const FAILURES_MAX: usize = 20;

/// A seed whose schedule broke a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Plays it again.
    pub seed: u64,
    /// What was broken.
    pub violations: Vec<String>,
}

/// What many schedules came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Played.
    pub schedules: u64,
    /// Inputs stepped, over all of them.
    pub steps: u64,
    /// How many schedules had so many steps; the last place holds all longer ones.
    pub step_counts: Vec<u64>,
    /// The same of different messages.
    pub message_counts: Vec<u64>,
    /// The first failing seeds.
    pub failures: Vec<Failure>,
    /// Reached branches.
    pub coverage: Coverage,
    /// Time that all threads together took.
    pub busy: Duration,
}

/// A mistake that was hunted.
#[derive(Clone, Debug)]
pub struct Hunted {
    /// In words.
    pub name: &'static str,
    /// How many schedules it may take.
    pub bound: u64,
    /// How many it took; none if it got away.
    pub schedules: Option<u64>,
    /// The seed that found it.
    pub seed: u64,
    /// The first promise that it broke.
    pub violation: String,
    /// How long that took.
    pub took: Duration,
}

const STEPS_COUNTED: usize = 400;
const MESSAGES_COUNTED: usize = 32;

impl Report {
    fn new() -> Self {
        Self {
            step_counts: vec![0; STEPS_COUNTED],
            message_counts: vec![0; MESSAGES_COUNTED],
            ..Self::default()
        }
    }

    fn add(&mut self, seed: u64, verdict: Verdict) {
        self.schedules += 1;
        self.steps += u64::from(verdict.steps);
        count(&mut self.step_counts, verdict.steps);
        count(&mut self.message_counts, verdict.messages);
        if !verdict.violations.is_empty() && self.failures.len() < FAILURES_MAX {
            self.failures.push(Failure { seed, violations: verdict.violations });
        }
    }

    fn merge(&mut self, other: Self) {
        self.schedules += other.schedules;
        self.steps += other.steps;
        for (mine, theirs) in [
            (&mut self.step_counts, &other.step_counts),
            (&mut self.message_counts, &other.message_counts),
        ] {
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
        }
        self.failures.extend(other.failures);
        self.failures.sort_by_key(|failure| failure.seed);
        self.failures.truncate(FAILURES_MAX);
        self.coverage.add(&other.coverage);
        self.busy += other.busy;
    }
}

fn count(counts: &mut [u64], value: u32) {
    let last = counts.len() - 1;
    let at = usize::try_from(value).unwrap_or(last).min(last);
    counts[at] += 1;
}

/// The value in the middle of what was counted.
#[must_use]
pub fn median(counts: &[u64]) -> usize {
    let all: u64 = counts.iter().sum();
    let mut below = 0;
    counts
        .iter()
        .position(|count| {
            below += count;
            below * 2 >= all
        })
        .unwrap_or(0)
}

/// Plays the schedules of so many seeds from the first on, on a thread for each stock: threads that
/// counted the same handles would wait for each other all the time. `progress` hears how many are
/// done.
pub fn run(
    stocks: &[Stock],
    first: u64,
    schedules: u64,
    progress: &(dyn Fn(u64) + Sync),
) -> Report {
    let (taken, enough) = (AtomicU64::new(0), AtomicBool::new(false));
    let work = |stock| {
        let mut world = World::new(stock);
        let mut report = Report::new();
        let began = Instant::now();
        while !enough.load(Ordering::Relaxed) {
            let from = taken.fetch_add(CHUNK, Ordering::Relaxed);
            if from >= schedules {
                break;
            }
            let until = schedules.min(from + CHUNK);
            for seed in (from..until).map(|offset| first.wrapping_add(offset)) {
                let played = AssertUnwindSafe(|| world.play(seed, None));
                let verdict = catch_unwind(played).unwrap_or_else(|panic| {
                    // What a panic left behind is of no use; the seed plays it again.
                    world = World::new(stock);
                    panicked(&*panic)
                });
                report.add(seed, verdict);
            }
            if report.failures.len() >= FAILURES_MAX {
                enough.store(true, Ordering::Relaxed);
            }
            progress(until - from);
        }
        report.coverage = world.coverage().clone();
        report.busy = began.elapsed();
        report
    };
    let mut all = Report::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = stocks.iter().map(|stock| scope.spawn(move || work(stock))).collect();
        for thread in threads {
            match thread.join() {
                Ok(report) => all.merge(report),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    all
}

/// A schedule that ended in a panic is a failure like any other.
fn panicked(panic: &(dyn std::any::Any + Send)) -> Verdict {
    Verdict { violations: vec![panic_text(panic)], steps: 0, messages: 0 }
}

/// Plants every mistake that this build can plant, one after the other, until it is found.
pub fn hunt(stock: &Stock, first: u64) -> Vec<Hunted> {
    let mut world = World::new(stock);
    let available = MUTANTS.iter().filter(|(mutant, ..)| mutant.is_available());
    available
        .map(|(mutant, name, bound)| hunt_one(&mut world, first, *mutant, name, *bound))
        .collect()
}

fn hunt_one(
    world: &mut World<'_>,
    first: u64,
    mutant: Mutant,
    name: &'static str,
    bound: u64,
) -> Hunted {
    let began = Instant::now();
    for offset in 0..bound {
        let seed = first.wrapping_add(offset);
        let verdict = world.play(seed, Some(mutant));
        if let Some(violation) = verdict.violations.into_iter().next() {
            let (schedules, took) = (Some(offset + 1), began.elapsed());
            return Hunted { name, bound, schedules, seed, violation, took };
        }
    }
    let (violation, took) = (String::new(), began.elapsed());
    Hunted { name, bound, schedules: None, seed: first, violation, took }
}
