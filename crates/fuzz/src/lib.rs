//! Throws bytes at a parser until it gives way: a small fuzzer that needs nothing but stable Rust.
//!
//! A target is a test beside the parser that it tries. It names some right inputs and some words,
//! and a check that panics when something is wrong; [`fuzz`] changes the inputs and calls the check
//! with each. An input that breaks it is made smaller, written to a file, and named in the failure.
//! A copy of that file in `kept/TARGET/` is tried first from then on.
//!
//! - Under `cargo test` every target gets a fixed number of inputs from a fixed seed, so the same
//!   ones every time.
//! - With `TURNKEEP_FUZZ_SECONDS` it runs for so long, from another seed every time.
//! - Built as `make fuzz` does it, the compiler counts which edges of the code were reached, and an
//!   input that reaches something new is kept and changed further. That finds its way into nested
//!   conditions that chance alone would not pass.
//!
//! `mutate` changes inputs, `coverage` reads the compiler's counters, `hunt` puts them together.
//! This crate knows none of our others, and only tests use it.

mod coverage;
mod hunt;
mod mutate;
mod rng;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use coverage::is_counted;
pub use hunt::{Effort, Failure, Outcome, hunt};

/// Inputs for each target where no time is given.
const INPUTS: u64 = 10_000;
/// How long to go on, instead.
const SECONDS_VARIABLE: &str = "TURNKEEP_FUZZ_SECONDS";

/// What is tried, and with what to begin.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its name, which becomes the name of a folder.
    pub name: &'a str,
    /// Right inputs, to be changed.
    pub seeds: &'a [&'a [u8]],
    /// What means something to the parser.
    pub words: &'a [&'a [u8]],
    /// The longest input, in bytes.
    pub length_max: usize,
}

/// Tries one target, as long as the environment says.
///
/// # Panics
/// The check panicked with an input; the message names the file that holds it.
#[track_caller]
pub fn fuzz(target: &Target<'_>, check: impl Fn(&[u8])) {
    let kept = read_all(&root().join("kept").join(target.name));
    let (effort, seed) = match seconds() {
        Some(seconds) => (Effort::Time(Duration::from_secs_f64(seconds)), rng::any_seed()),
        None => (Effort::Inputs(INPUTS), 1),
    };
    let found = work().join("found").join(target.name);
    // What long runs have found so far is where the next one goes on.
    let found_before =
        if matches!(effort, Effort::Time(_)) { read_all(&found) } else { Vec::new() };
    let first: Vec<Vec<u8>> = kept.into_iter().chain(found_before).collect();
    let outcome = hunt(target, &first, effort, seed, &check);
    if matches!(effort, Effort::Time(_)) {
        for input in &outcome.found {
            keep(&found, input);
        }
        println!(
            "{}: {} inputs, {} edges, {} worth keeping",
            target.name,
            outcome.inputs,
            outcome.edges,
            outcome.found.len()
        );
    }
    if let Some(Failure { input, why }) = outcome.failure {
        let path = keep(&work().join("failures").join(target.name), &input);
        panic!(
            "{}: {why}\n  with {:?}\n  which is in {}; copy it to crates/fuzz/kept/{}/ to keep it",
            target.name,
            String::from_utf8_lossy(&input),
            path.display(),
            target.name,
        );
    }
}

fn seconds() -> Option<f64> {
    std::env::var(SECONDS_VARIABLE).ok()?.parse().ok().filter(|seconds| *seconds >= 0.0)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where files go that nobody has decided to keep.
fn work() -> PathBuf {
    root().join("../../target/fuzz")
}

/// The files of a folder in the order of their names; none if there is no such folder.
fn read_all(folder: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}

/// Writes an input to a file that is named after what it holds.
fn keep(folder: &Path, input: &[u8]) -> PathBuf {
    let hash = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let path = folder.join(format!("{hash:016x}"));
    // A file that can't be written is no reason to lose the failure itself.
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, input));
    if let Err(error) = written {
        eprintln!("{} can't be written: {error}", path.display());
    }
    path
}
