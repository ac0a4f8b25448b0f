//! Calls that come in pieces, put together.

use super::wire::CallDelta;
use crate::model::provider::Call;

/// Calls of one answer; more is no answer.
const CALLS_MAX: usize = 128;

/// The calls of an answer, as far as they came.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    calls: Vec<Part>,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Part {
    index: Option<u64>,
    id: String,
    tool: String,
    arguments: String,
}

impl Assembly {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    /// Adds a piece; else says which limit it breaks.
    pub(super) fn add(&mut self, delta: CallDelta) -> Result<(), String> {
        let CallDelta { index, id, function } = delta;
        let (id, function) = (id.unwrap_or_default(), function.unwrap_or_default());
        let arguments = function.arguments();
        let tool = function.name.unwrap_or_default();
        self.bytes += id.len() + tool.len() + arguments.len();
        if self.bytes > self.bytes_max {
            return Err(format!("the calls of an answer are longer than {} bytes", self.bytes_max));
        }
        // Servers differ: some number their calls, some only begin each with a new name.
        let continues = |part: &Part| match index {
            Some(_) => part.index == index && (id.is_empty() || part.id == id),
            None => id.is_empty() || part.id == id,
        };
        let at = match self.calls.iter().rposition(continues) {
            Some(at) => at,
            None if self.calls.len() >= CALLS_MAX => {
                return Err(format!("an answer has more than {CALLS_MAX} calls"));
            }
            None => {
                self.calls.push(Part { index, id, ..Part::default() });
                self.calls.len() - 1
            }
        };
        let part = &mut self.calls[at];
        // Some servers say the name again with every piece.
        if part.tool.is_empty() {
            part.tool = tool;
        }
        part.arguments.push_str(&arguments);
        Ok(())
    }

    /// All of them, each with a name of its own.
    pub(super) fn whole(self) -> Vec<Call> {
        let mut calls: Vec<Call> = Vec::new();
        for (at, Part { mut id, tool, arguments, .. }) in self.calls.into_iter().enumerate() {
            if id.is_empty() || calls.iter().any(|call| call.id == id) {
                id = format!("call_{at}");
            }
            calls.push(Call { id, tool, arguments });
        }
        calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(deltas: &[Value], expect: &[(&str, &str, &str)]) {
        let mut assembly = Assembly::new(100);
        for delta in deltas {
            assembly.add(serde_json::from_value(delta.clone()).unwrap()).unwrap();
        }
        let calls = assembly.whole();
        let calls: Vec<_> = calls
            .iter()
            .map(|call| (call.id.as_str(), call.tool.as_str(), call.arguments.as_str()))
            .collect();
        assert_eq!(calls, expect, "{deltas:?}");
    }

    #[test]
    fn calls_are_put_together_in_every_shape() {
        let named = |name: &str, arguments: Value| json!({"name": name, "arguments": arguments});
        check(
            &[
                json!({"index": 0, "id": "a", "type": "function", "function": named("x", json!(""))}),
                json!({"index": 0, "function": {"arguments": "{\"n\""}}),
                json!({"index": 1, "id": "b", "function": named("y", json!("{}"))}),
                json!({"index": 0, "function": {"arguments": ":1}"}}),
            ],
            &[("a", "x", "{\"n\":1}"), ("b", "y", "{}")],
        );
        // All with one number, or with none, or without a name.
        check(
            &[
                json!({"index": 0, "id": "a", "function": named("x", json!("{}"))}),
                json!({"index": 0, "id": "b", "function": named("y", json!("{}"))}),
            ],
            &[("a", "x", "{}"), ("b", "y", "{}")],
        );
        check(
            &[
                json!({"id": "a", "function": named("x", json!("{"))}),
                json!({"id": null, "function": {"name": null, "arguments": "}"}}),
            ],
            &[("a", "x", "{}")],
        );
        check(&[json!({"function": named("x", json!({"n": 1}))})], &[("call_0", "x", "{\"n\":1}")]);
        check(
            &[
                json!({"index": 0, "id": "a", "function": named("x", json!("{}"))}),
                json!({"index": 1, "id": "a", "function": named("y", json!("{}"))}),
            ],
            &[("a", "x", "{}"), ("call_1", "y", "{}")],
        );
        check(&[json!({})], &[("call_0", "", "")]);
    }

    #[test]
    fn calls_have_limits() {
        let delta = |index: usize, arguments: &str| {
            serde_json::from_value(json!({"index": index, "function": {"arguments": arguments}}))
        };
        let mut assembly = Assembly::new(10);
        assembly.add(delta(0, "1234567890").unwrap()).unwrap();
        assert!(assembly.add(delta(0, "1").unwrap()).unwrap_err().contains("10 bytes"));
        let mut assembly = Assembly::new(10);
        for index in 0..CALLS_MAX {
            assembly.add(delta(index, "").unwrap()).unwrap();
        }
        assert!(assembly.add(delta(CALLS_MAX, "").unwrap()).unwrap_err().contains("128 calls"));
    }
}
