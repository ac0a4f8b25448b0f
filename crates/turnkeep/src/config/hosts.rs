//! Names by which the server may be called.

use serde_json::{Value, json};

use super::value::{Range, Scalar, Setting};

/// The longest name, as DNS has it.
const NAME_BYTES_MAX: usize = 253;

/// Names of hosts, in small letters, without ports.
#[derive(Clone, Debug)]
pub(super) struct HostNames(pub(super) Vec<String>);

impl Setting for HostNames {
    fn expected(_: Range) -> String {
        "a list of names, like [\"chat.example.org\"], without https:// and without a port".into()
    }

    fn schema(_: Range) -> Value {
        let name = json!({"type": "string", "pattern": "^[0-9A-Za-z.-]+$"});
        json!({"anyOf": [name, {"type": "array", "items": name}]})
    }

    fn read(scalar: &Scalar, _: Range) -> Option<Self> {
        let names = scalar.texts()?.iter().map(|text| host_name(text)).collect();
        Option::map(names, Self)
    }

    fn shown(&self) -> String {
        format!("{:?}", self.0)
    }
}

fn host_name(text: &str) -> Option<String> {
    let letter = |one: char| one.is_ascii_alphanumeric() || one == '-';
    let label = |label: &str| !label.is_empty() && label.chars().all(letter);
    let usable = text.len() <= NAME_BYTES_MAX && text.split('.').all(label);
    usable.then(|| text.to_ascii_lowercase())
}
