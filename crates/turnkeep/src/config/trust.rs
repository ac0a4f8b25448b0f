//! How much somebody is trusted, and what becomes of strangers, as words of the file.

use serde_json::{Value, json};
use turnkeep_core::policy::Trust;

use super::value::{Range, Scalar, Setting};

const LEVELS: [(&str, Trust); 5] = [
    ("owner", Trust::Owner),
    ("full", Trust::Full),
    ("inner", Trust::Inner),
    ("familiar", Trust::Familiar),
    ("public", Trust::Public),
];

impl Setting for Trust {
    fn expected(_: Range) -> String {
        format!("one of {}", LEVELS.map(|(word, _)| word).join(", "))
    }

    fn schema(_: Range) -> Value {
        json!({"enum": LEVELS.map(|(word, _)| word)})
    }

    fn read(scalar: &Scalar, _: Range) -> Option<Self> {
        let typed = scalar.text()?;
        LEVELS.into_iter().find_map(|(word, trust)| (word == typed).then_some(trust))
    }

    fn shown(&self) -> String {
        let word = LEVELS.into_iter().find_map(|(word, trust)| (trust == *self).then_some(word));
        format!("{:?}", word.unwrap_or_default())
    }
}

/// What becomes of somebody unknown who writes to us alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// Nothing is answered.
    #[default]
    Deny,
    /// A one-time code makes them known.
    Pair,
    /// They are answered with the least trust.
    Public,
}

const UNKNOWN: [(&str, Unknown); 3] =
    [("deny", Unknown::Deny), ("pair", Unknown::Pair), ("public", Unknown::Public)];

impl Setting for Unknown {
    fn expected(_: Range) -> String {
        format!("one of {}", UNKNOWN.map(|(word, _)| word).join(", "))
    }

    fn schema(_: Range) -> Value {
        json!({"enum": UNKNOWN.map(|(word, _)| word)})
    }

    fn read(scalar: &Scalar, _: Range) -> Option<Self> {
        let typed = scalar.text()?;
        UNKNOWN.into_iter().find_map(|(word, unknown)| (word == typed).then_some(unknown))
    }

    fn shown(&self) -> String {
        let word = UNKNOWN.into_iter().find_map(|(word, one)| (one == *self).then_some(word));
        format!("{:?}", word.unwrap_or_default())
    }
}
