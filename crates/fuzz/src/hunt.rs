//! The hunt: changed inputs against a check, until one breaks it or the effort is spent.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use crate::rng::Rng;
use crate::{Target, coverage, mutate};

/// Tries at making a failing input smaller.
const SHRINKS_MAX: usize = 5_000;
/// Inputs that are remembered for further changes.
const FOUND_MAX: usize = 20_000;

/// How much is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// So many inputs.
    Inputs(u64),
    /// As many as there is time for.
    Time(Duration),
}

/// An input that broke the check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The input, made smaller.
    pub input: Vec<u8>,
    /// What the check said.
    pub why: String,
}

/// What came of a hunt.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Inputs that were tried.
    pub inputs: u64,
    /// Edges of the code that were passed; 0 where nobody counts.
    pub edges: usize,
    /// Inputs that passed edges which none before them had.
    pub found: Vec<Vec<u8>>,
    /// What broke.
    pub failure: Option<Failure>,
}

/// Tries `first`, the target's seeds, and then what becomes of them.
pub fn hunt(
    target: &Target<'_>,
    first: &[Vec<u8>],
    effort: Effort,
    seed: u64,
    check: &dyn Fn(&[u8]),
) -> Outcome {
    // The counters are the whole process's, and so is the hook of panics.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    hush();
    let (mut rng, mut seen, mut outcome) =
        (Rng::new(seed), coverage::Seen::default(), Outcome::default());
    let seeds = target.seeds.iter().map(|seed| seed.to_vec());
    let mut pool: Vec<Vec<u8>> = first.iter().cloned().chain(seeds).collect();
    let given = pool.len();
    let began = Instant::now();
    let goes_on = |inputs: u64| match effort {
        Effort::Inputs(inputs_max) => inputs < inputs_max,
        Effort::Time(time) => began.elapsed() < time,
    };
    let mut next = 0;
    while next < given || goes_on(outcome.inputs) {
        let input = match pool.get(next).filter(|_| next < given) {
            Some(given) => given.clone(),
            None => {
                let from = choose(&pool, &mut rng);
                mutate::mutate(from, &pool, target, &mut rng)
            }
        };
        next += 1;
        outcome.inputs += 1;
        coverage::reset();
        let broke = breaks(check, &input);
        let new = seen.note();
        if let Some(why) = broke {
            let (input, why) = shrink(check, input, why);
            outcome.failure = Some(Failure { input, why });
            break;
        }
        if new && next > given && pool.len() < FOUND_MAX {
            outcome.found.push(input.clone());
            pool.push(input);
        }
    }
    outcome.edges = seen.edges();
    outcome
}

/// What was found last is the most promising.
fn choose<'a>(pool: &'a [Vec<u8>], rng: &mut Rng) -> &'a [u8] {
    const LAST: usize = 16;
    let last = &pool[pool.len().saturating_sub(LAST)..];
    let from = if rng.below(2) == 0 { last } else { pool };
    rng.one(from).map_or(&[], Vec::as_slice)
}

thread_local! {
    /// Whether a panic of this thread is only looked at here.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

/// Keeps the panics that are looked at here from being printed as well.
fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !WATCHED.get() {
                before(panic);
            }
        }));
    });
}

/// What the check says if this input breaks it.
fn breaks(check: &dyn Fn(&[u8]), input: &[u8]) -> Option<String> {
    WATCHED.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(|| check(input)));
    WATCHED.set(false);
    outcome.err().map(|payload| words(payload.as_ref()))
}

fn words(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").to_owned()
}

/// Leaves out what is not needed to break it.
fn shrink(check: &dyn Fn(&[u8]), mut input: Vec<u8>, mut why: String) -> (Vec<u8>, String) {
    let mut tries = 0;
    let mut piece = input.len().div_ceil(2);
    while piece > 0 {
        let mut at = 0;
        while at < input.len() && tries < SHRINKS_MAX {
            tries += 1;
            let mut smaller = input.clone();
            smaller.drain(at..(at + piece).min(input.len()));
            match breaks(check, &smaller) {
                Some(still) => (input, why) = (smaller, still),
                None => at += piece,
            }
        }
        piece /= 2;
    }
    (input, why)
}
