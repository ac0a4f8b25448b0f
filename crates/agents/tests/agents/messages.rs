//! What a server of the Messages API says, event by event, and an agent that asks one.

use serde_json::{Value, json};
use turnkeep_agents::{AnthropicSettings, ModelAgent, TurnSettings};

use crate::server::{Server, Step};

/// An agent for the server, with settings that make no test wait.
pub(crate) fn agent_with(
    server: &Server,
    change: impl FnOnce(&mut AnthropicSettings, &mut TurnSettings),
) -> ModelAgent {
    crate::prepare::prepare();
    let mut settings = AnthropicSettings::new("claude-test");
    server.base_url.trim_end_matches("/v1").clone_into(&mut settings.base_url);
    let mut turn =
        TurnSettings { retry_pause: std::time::Duration::ZERO, ..TurnSettings::default() };
    change(&mut settings, &mut turn);
    settings.agent(turn).unwrap()
}

pub(crate) fn agent(server: &Server) -> ModelAgent {
    agent_with(server, |_, _| ())
}

/// An event, as the documented stream has it: named, and with its name in the data.
pub(crate) fn event(data: &Value) -> Step {
    Step::Raw(format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap()))
}

/// The beginning of an answer whose question was this many tokens.
pub(crate) fn start(input_tokens: u64) -> Step {
    let usage = json!({
        "input_tokens": input_tokens,
        "cache_creation_input_tokens": 100,
        "cache_read_input_tokens": 2000,
        "output_tokens": 1,
    });
    event(&json!({"type": "message_start", "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "content": [],
        "model": "claude-test-20260101", "stop_reason": null, "stop_sequence": null, "usage": usage,
    }}))
}

pub(crate) fn ping() -> Step {
    event(&json!({"type": "ping"}))
}

/// A block, with these pieces of it.
pub(crate) fn block(index: usize, block: &Value, deltas: &[Value]) -> Vec<Step> {
    let open = json!({"type": "content_block_start", "index": index, "content_block": block});
    let mut steps = vec![event(&open)];
    steps.extend(deltas.iter().map(|delta| {
        event(&json!({"type": "content_block_delta", "index": index, "delta": delta}))
    }));
    steps.push(event(&json!({"type": "content_block_stop", "index": index})));
    steps
}

pub(crate) fn text_delta(text: &str) -> Value {
    json!({"type": "text_delta", "text": text})
}

/// Words in pieces.
pub(crate) fn text(index: usize, pieces: &[&str]) -> Vec<Step> {
    let deltas: Vec<Value> = pieces.iter().map(|piece| text_delta(piece)).collect();
    block(index, &json!({"type": "text", "text": ""}), &deltas)
}

/// A call, its arguments in pieces.
pub(crate) fn call(index: usize, id: &str, tool: &str, pieces: &[&str]) -> Vec<Step> {
    let deltas: Vec<Value> = pieces
        .iter()
        .map(|piece| json!({"type": "input_json_delta", "partial_json": piece}))
        .collect();
    block(index, &json!({"type": "tool_use", "id": id, "name": tool, "input": {}}), &deltas)
}

/// A thought with its signature.
pub(crate) fn thought(index: usize, thought: &str) -> Vec<Step> {
    let deltas = [
        json!({"type": "thinking_delta", "thinking": thought}),
        json!({"type": "signature_delta", "signature": "c2lnbmVk"}),
    ];
    block(index, &json!({"type": "thinking", "thinking": "", "signature": ""}), &deltas)
}

/// The end of an answer.
pub(crate) fn end(stop_reason: &str, output_tokens: u64) -> Vec<Step> {
    let delta = json!({"stop_reason": stop_reason, "stop_sequence": null});
    let usage = json!({"output_tokens": output_tokens});
    vec![
        event(&json!({"type": "message_delta", "delta": delta, "usage": usage})),
        event(&json!({"type": "message_stop"})),
        Step::End,
    ]
}

/// A whole answer of these blocks.
pub(crate) fn whole(stop_reason: &str, blocks: Vec<Vec<Step>>) -> Vec<Step> {
    let mut steps = vec![Step::Begin, start(25), ping()];
    steps.extend(blocks.into_iter().flatten());
    steps.extend(end(stop_reason, 15));
    steps
}

/// A whole answer of words.
pub(crate) fn answer(pieces: &[&str]) -> Vec<Step> {
    whole("end_turn", vec![text(0, pieces)])
}

/// A refusal as the documents show it.
pub(crate) fn refusal(
    status: u16,
    kind: &str,
    message: &str,
    headers: &[(&'static str, &str)],
) -> Vec<Step> {
    let body = json!({
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": "req_011",
    });
    let mut all = vec![("content-type", "application/json".to_owned())];
    all.extend(headers.iter().map(|(name, value)| (*name, (*value).to_owned())));
    vec![Step::Respond(status, all, body.to_string())]
}
