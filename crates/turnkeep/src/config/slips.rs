//! Slips of the pen in the file: what the parser can't read, and keys that nobody knows.

use std::fmt;

use super::problem::{Lines, Problems, did_you_mean, nearest, suggestion};
use super::read::{HOMES, TABLES};
use super::section::find;

/// How the parser calls a key or a section that stands there twice.
const DUPLICATE: &str = "duplicate key";

/// Tells what the parser could not read. Where a section stands there twice its keys may do so, too;
/// that only follows, and is not told.
pub(super) fn form(text: &str, errors: &[toml::de::Error], lines: &Lines, problems: &mut Problems) {
    let mut told_until = 0;
    for error in errors {
        let span = error.span().unwrap_or_default();
        let origin = lines.origin(span.start);
        let key = text.get(span.clone()).filter(|_| error.message() == DUPLICATE);
        let Some(key) = key else {
            problems.add(&origin, error.message().replace('\n', ", "));
            continue;
        };
        if let Some(section) = section_around(text, span.start, span.end) {
            problems.add(&origin, format!("{DUPLICATE}: {section} stands there twice"));
            told_until = text[span.end..].find("\n[").map_or(text.len(), |at| span.end + at);
        } else if span.start >= told_until {
            problems.add(&origin, format!("{DUPLICATE}: \"{key}\" is set twice"));
        }
    }
}

/// The head of a section, if this key stands in one.
fn section_around(text: &str, begin: usize, end: usize) -> Option<&str> {
    let line = text[..begin].rfind('\n').map_or(0, |at| at + 1);
    let before = text[line..begin].trim_start();
    if !before.starts_with('[') || before.contains(['=', '{']) {
        return None;
    }
    let close = if before.starts_with("[[") { "]]" } else { "]" };
    let end = end + text[end..].find(close)? + close.len();
    Some(text[line..end].trim_start())
}

/// What to do about an unknown key.
pub(super) enum Mend<'a> {
    /// This is its name.
    Name(&'a str),
    /// These words say it.
    Words(String),
}

impl fmt::Display for Mend<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => formatter.write_str(&did_you_mean(Some(name))),
            Self::Words(words) => formatter.write_str(words),
        }
    }
}

/// The right name of an unknown key, or the right place.
pub(super) fn mend<'a>(typed: &str, known: &[&'a str]) -> Mend<'a> {
    let mut homes: Vec<&str> = Vec::new();
    for (home, _) in HOMES.iter().filter(|home| find(home.1, typed).is_some()) {
        // Keys of one table may be declared in several parts.
        if !homes.contains(home) {
            homes.push(home);
        }
    }
    if !homes.is_empty() {
        return Mend::Words(format!("; it belongs {}", homes.join(" or ")));
    }
    if TABLES.contains(&typed) {
        return Mend::Words(format!("; [{typed}] is a section of its own, at the top of the file"));
    }
    match nearest(typed, known.iter().copied()) {
        Some(name) => Mend::Name(name),
        None => Mend::Words(suggestion(typed, known)),
    }
}
