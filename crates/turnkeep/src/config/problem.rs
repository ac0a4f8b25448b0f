//! A user's mistake: where it stands, what it is and how to mend it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where a value was typed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// In the file, on this line (from 1).
    File(Arc<str>, usize),
    /// In this environment variable.
    Env(String),
    /// With this flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, line) => write!(formatter, "{path}:{line}"),
            Self::Env(name) => formatter.write_str(name),
            Self::Flag(name) => formatter.write_str(name),
        }
    }
}

/// Every mistake that was found; never shown while it is empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Problems {
    told: Vec<(Option<Origin>, String)>,
    /// Keys that were typed and are wrong, by their section.
    mistyped: BTreeSet<(String, String)>,
}

impl Problems {
    /// Notes a mistake at its place.
    pub(super) fn add(&mut self, origin: &Origin, text: impl Into<String>) {
        self.told.push((Some(origin.clone()), text.into()));
    }

    /// Notes that this key of `[section]` was typed and is wrong, which is told besides.
    pub(super) fn mistyped(&mut self, section: &str, key: &str) {
        self.mistyped.insert((section.to_owned(), key.to_owned()));
    }

    /// Notes that a section needs one of these keys. Whoever typed one of them wrongly made one
    /// mistake, not two.
    pub(super) fn lacks(&mut self, section: &str, keys: &[&str], at: &Origin, text: &str) {
        if !keys.iter().any(|key| self.is_mistyped(section, key)) {
            self.add(at, text);
        }
    }

    /// Whether this key of `[section]` was typed and is wrong.
    pub(super) fn is_mistyped(&self, section: &str, key: &str) -> bool {
        self.mistyped.contains(&(section.to_owned(), key.to_owned()))
    }

    /// Notes a mistake that stands nowhere in particular.
    pub(super) fn add_general(&mut self, text: impl Into<String>) {
        self.told.push((None, text.into()));
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.told.len()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted: Vec<_> = self.told.iter().collect();
        sorted.sort_by(|one, two| one.0.cmp(&two.0));
        for (index, (origin, text)) in sorted.into_iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            match origin {
                Some(origin) => write!(formatter, "{origin}: {text}")?,
                None => formatter.write_str(text)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Knows which line of a file a byte stands on.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    path: Arc<str>,
    starts: Vec<usize>,
}

impl Lines {
    pub(super) fn new(path: &Path, text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect();
        Self { path: path.display().to_string().into(), starts }
    }

    pub(super) fn origin(&self, offset: usize) -> Origin {
        let line = self.starts.partition_point(|start| *start <= offset);
        Origin::File(self.path.clone(), line)
    }
}

/// The known name that was probably meant.
pub(super) fn nearest<'a>(
    typed: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    const LIKENESS_MIN: f64 = 0.8;
    let typed = typed.to_lowercase().replace('-', "_");
    let likeness = |name: &str| {
        let part = typed.len() > 3 && (name.contains(&typed) || typed.contains(name));
        strsim::jaro_winkler(&typed, name).max(if part { 0.85 } else { 0.0 })
    };
    known
        .into_iter()
        .map(|name| (likeness(name), name))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|one, two| one.0.total_cmp(&two.0))
        .map(|(_, name)| name)
}

/// `; did you mean "…"?`, or nothing.
pub(super) fn did_you_mean(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| format!("; did you mean \"{name}\"?"))
}

/// `; did you mean "…"?`, or what there is to choose from.
pub(super) fn suggestion(typed: &str, known: &[&str]) -> String {
    match nearest(typed, known.iter().copied()) {
        None if !known.is_empty() => format!("; known are {}", known.join(", ")),
        near => did_you_mean(near),
    }
}
