//! A text that the customer is told, or nothing.

use std::sync::Arc;

use serde_json::{Value, json};

use super::value::{Range, Scalar, Setting};

/// The longest one.
const CHARS_MAX: usize = 1000;

/// What is told; none where the key holds an empty text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice(pub(super) Option<Arc<str>>);

impl Setting for Notice {
    fn expected(_: Range) -> String {
        format!("a text of at most {CHARS_MAX} characters; an empty one for none")
    }

    fn schema(_: Range) -> Value {
        json!({"type": "string", "maxLength": CHARS_MAX})
    }

    fn read(scalar: &Scalar, _: Range) -> Option<Self> {
        let text = scalar.text()?.trim();
        let control = |letter: char| letter.is_control() && letter != '\n';
        let fits = text.chars().count() <= CHARS_MAX && !text.contains(control);
        fits.then(|| Self((!text.is_empty()).then(|| text.into())))
    }

    fn shown(&self) -> String {
        format!("{:?}", self.0.as_deref().unwrap_or_default())
    }
}
