//! Which version of an agent answered: its prompt, model, parameters and tools, in one short word.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Bytes of the name before the mark.
const NAME_BYTES_MAX: usize = 80;

/// What makes two versions of an agent differ.
pub(super) struct Ingredients<'a> {
    pub(super) kind: &'a str,
    pub(super) model: &'a str,
    pub(super) parameters: &'a Value,
    pub(super) system_prompt: Option<&'a str>,
    /// What is configured of the tools.
    pub(super) tools: &'a str,
}

/// `NAME#` and eight digits that change with anything that makes the agent answer otherwise.
pub(super) fn version(name: &str, ingredients: &Ingredients<'_>) -> Arc<str> {
    let Ingredients { kind, model, parameters, system_prompt, tools } = ingredients;
    let mut hash = Sha256::new();
    let mut add = |part: &str| {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    };
    add(kind);
    add(model);
    add(&parameters.to_string());
    // A prompt of no words and no prompt are the same to a model.
    add(system_prompt.unwrap_or_default());
    add(tools);
    let digest = hash.finalize();
    let mut end = name.len().min(NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let mut text = format!("{}#", &name[..end]);
    for byte in &digest[..4] {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_version_changes_with_whatever_makes_it_answer_otherwise() {
        let parameters = json!({"temperature": 0.5});
        let none = json!({});
        let first = || Ingredients {
            kind: "openai",
            model: "m",
            parameters: &parameters,
            system_prompt: Some("be kind"),
            tools: "shop.*",
        };
        let seen = [
            version("m", &first()),
            version("m", &Ingredients { kind: "anthropic", ..first() }),
            version("m", &Ingredients { model: "n", ..first() }),
            version("m", &Ingredients { parameters: &none, ..first() }),
            version("m", &Ingredients { system_prompt: None, ..first() }),
            version("m", &Ingredients { tools: "", ..first() }),
        ];
        for (at, one) in seen.iter().enumerate() {
            assert!(!seen[..at].contains(one), "{seen:?}");
            assert!(one.starts_with("m#") && one.len() == 10, "{one}");
        }
        assert_eq!(version("m", &first()), seen[0]);
        let long = version(&"é".repeat(200), &first());
        assert!(long.len() <= 100 && long.starts_with("éé"), "{long}");
    }
}
