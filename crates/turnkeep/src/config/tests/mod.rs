//! Many small cases: what is typed, and what comes of it or what is said to it.

mod access;
mod agents;
mod budgets;
mod cron;
mod documents;
mod form;
mod fuzz;
mod guard;
mod hatchet;
mod listeners;
mod lookup;
mod moderation;
mod people;
mod policies;
mod redis;
mod reloads;
mod secrets;
mod signal;
mod store;
mod telemetry;
mod tools;
mod words;

use super::problem::Problems;
use super::{Env, Flags, Resolved, load};

/// What comes of this file, with nothing else set.
fn load_text(toml: &str) -> Result<Resolved, Problems> {
    load_layers(toml, &Env::default(), &[])
}

fn load_layers(toml: &str, env: &Env, keys: &[(&'static str, &str)]) -> Result<Resolved, Problems> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("turnkeep.toml");
    std::fs::write(&path, toml).unwrap();
    let keys = keys.iter().map(|(key, text)| (*key, (*text).to_owned())).collect();
    load(&Flags { config: Some(path), keys }, env)
}

/// The file as given makes these complaints, one a line; none if it is right. The folder of the
/// file is left out.
fn check(toml: &str, expect: &str) {
    let said = load_text(toml).map_or_else(|problems| problems.to_string(), |_| String::new());
    let dir_less: Vec<&str> = said
        .lines()
        .map(|line| line.find("turnkeep.toml:").map_or(line, |at| &line[at..]))
        .collect();
    assert_eq!(dir_less.join("\n"), expect, "for\n{toml}");
}
