//! What came of a check, for people and as JSON.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::rules::Rule;

/// What was found about a rule, in words.
#[derive(Debug)]
pub(crate) enum Found {
    /// It is kept.
    Right(String),
    /// It is not.
    Wrong(String),
    /// It could not be seen, for this reason.
    Open(String),
}

/// A rule and what was found about it.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) rule: &'static Rule,
    pub(crate) found: Found,
}

impl Check {
    /// For people.
    pub(crate) fn lines(&self) -> String {
        let Rule { expected, .. } = self.rule;
        match &self.found {
            Found::Right(came) => format!("✓ {expected}: {came}"),
            Found::Open(why) => format!("– {expected}: not seen, {why}"),
            Found::Wrong(came) => format!(
                "✗ {expected}\n    expected  it {expected}\n    came      {came}\n    see       {}",
                self.rule.see()
            ),
        }
    }

    fn json(&self) -> Value {
        let (result, came) = match &self.found {
            Found::Right(came) => ("right", came),
            Found::Wrong(came) => ("wrong", came),
            Found::Open(why) => ("not_seen", why),
        };
        let Rule { name, expected, .. } = self.rule;
        json!({
            "name": name, "result": result, "expected": expected, "came": came,
            "see": self.rule.see(),
        })
    }
}

/// Everything that was checked.
pub(crate) struct Report {
    pub(crate) subject: String,
    pub(crate) checks: Vec<Check>,
}

impl Report {
    /// How many rules are kept, broken and not seen.
    pub(crate) fn counts(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for check in &self.checks {
            let which = match check.found {
                Found::Right(_) => 0,
                Found::Wrong(_) => 1,
                Found::Open(_) => 2,
            };
            counts[which] += 1;
        }
        counts
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_right(&self) -> bool {
        self.counts()[1] == 0
    }

    /// The last line for people.
    pub(crate) fn summary(&self) -> String {
        let [right, wrong, open] = self.counts();
        format!("{}: {right} right, {wrong} wrong, {open} not seen", self.subject)
    }

    pub(crate) fn json(&self) -> Value {
        let [right, wrong, open] = self.counts();
        let checks: Vec<Value> = self.checks.iter().map(Check::json).collect();
        json!({
            "brain": self.subject, "right": right, "wrong": wrong, "not_seen": open,
            "checks": checks,
        })
    }
}

/// A short time, for people.
pub(super) fn shown(time: Duration) -> String {
    if time < Duration::from_secs(10) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{} s", time.as_secs())
    }
}

/// Somebody else's text in quotes, short and on one line.
pub(super) fn quoted(text: &str) -> String {
    const CHARS_MAX: usize = 200;
    let tidy = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let tidy: String = tidy.chars().filter(|one| !one.is_control()).collect();
    match tidy.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("“{}…”", &tidy[..end]),
        None => format!("“{tidy}”"),
    }
}

/// A word of the contract, as it is written there.
pub(super) fn word_of(word: &impl Serialize) -> String {
    let word = serde_json::to_value(word).unwrap_or_default();
    word.as_str().unwrap_or_default().to_owned()
}
