//! A table of names and texts, as one value.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::value::{Range, Scalar, Setting};

/// Names of environment variables and a text for each.
#[derive(Clone, Debug)]
pub(super) struct Pairs(pub(super) BTreeMap<String, String>);

impl Setting for Pairs {
    fn expected(_: Range) -> String {
        "a table of names of variables and texts, like { NAME = \"value\" }".into()
    }

    fn schema(_: Range) -> Value {
        json!({
            "type": "object",
            "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
            "additionalProperties": {"type": "string"},
        })
    }

    fn read(scalar: &Scalar, _: Range) -> Option<Self> {
        let Scalar::Pairs(pairs) = scalar else { return None };
        let usable = |(name, text): &(String, String)| is_variable(name) && !text.contains('\0');
        pairs.iter().all(usable).then(|| Self(pairs.iter().cloned().collect()))
    }

    /// What stands there may be secret, and is not shown.
    fn wrong_row(_: usize, name: &str, value: &Scalar) -> Option<String> {
        if !is_variable(name) {
            return Some("is no name of a variable: letters, digits and _, no digit first".into());
        }
        let usable = value.text().is_some_and(|text| !text.contains('\0'));
        (!usable).then(|| "must be a text without zero bytes, in quotes".into())
    }

    fn shown(&self) -> String {
        let pairs: Vec<String> =
            self.0.iter().map(|(name, text)| format!("{name} = {text:?}")).collect();
        format!("{{ {} }}", pairs.join(", "))
    }
}

/// Whether a shell would take it for the name of a variable.
fn is_variable(name: &str) -> bool {
    let part = |one: char| one == '_' || one.is_ascii_alphanumeric();
    name.chars().all(part) && name.starts_with(|first: char| !first.is_ascii_digit())
}
