//! What is logged.

use serde_json::Value;

use super::value::{Range, Scalar, Setting, text_schema};

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// What is logged: a level, and `part=level` for single parts of the program.
#[derive(Clone, Debug)]
pub(super) struct LogLevel(pub(super) String);

impl Setting for LogLevel {
    fn expected(_: Range) -> String {
        format!("one of {}, or like \"info,turnkeep_gateway=debug\"", LEVELS.join(", "))
    }

    fn schema(_: Range) -> Value {
        text_schema()
    }

    // The subscriber takes a mistyped level for the name of a part and then logs nothing; so the
    // words are checked here.
    fn read(scalar: &Scalar, _: Range) -> Option<Self> {
        let text = scalar.text()?.trim().to_ascii_lowercase();
        let known = text.split(',').all(|piece| {
            let level = match piece.split_once('=') {
                Some((target, level)) if !target.trim().is_empty() => level,
                Some(_) => return false,
                None => piece,
            };
            LEVELS.contains(&level.trim())
        });
        known.then_some(Self(text))
    }

    fn shown(&self) -> String {
        format!("{:?}", self.0)
    }
}
