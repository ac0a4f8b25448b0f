//! The protocol's JSON: what is sent, and what of the answers is understood.
//!
//! Servers differ in what they leave out, so every field of an answer is optional and unknown ones
//! are ignored.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::model::provider::{Call, Line, Question};
use crate::provider_http::short;

/// Ends a stream.
pub(super) const DONE: &str = "[DONE]";
/// How servers say that the conversation is longer than the model takes. In lower case.
const TOO_LONG: [&str; 9] = [
    "context_length_exceeded",
    "exceed_context_size",
    "maximum context length",
    "available context size",
    "prompt is too long",
    "input is too long",
    "maximum prompt length",
    "input token count",
    "reduce the length of the messages",
];

/// A request for a streamed completion.
pub(super) fn request(model: &str, extra: &Map<String, Value>, question: &Question<'_>) -> Value {
    let mut request = extra.clone();
    let mut set = |name: &str, value: Value| request.insert(name.to_owned(), value);
    set("model", model.into());
    set("messages", messages(question.system, question.lines));
    set("stream", true.into());
    set("stream_options", json!({"include_usage": true}));
    if !question.tools.is_empty() {
        let tool = |tool: &crate::tools::ToolSpec| {
            let function = json!({
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.schema,
            });
            json!({"type": "function", "function": function})
        };
        set("tools", question.tools.iter().map(tool).collect());
        if question.answer_only {
            set("tool_choice", "none".into());
        }
    }
    Value::Object(request)
}

/// The conversation as the protocol has it. Neighbours of one role are joined into one message: many
/// models at home were trained on strictly alternating roles, and their servers refuse anything
/// else; a burst is several user messages in a row.
fn messages(system: Option<&str>, lines: &[Line]) -> Value {
    let mut messages: Vec<Value> = Vec::with_capacity(lines.len() + 1);
    if let Some(system) = system {
        messages.push(json!({"role": "system", "content": system}));
    }
    let mut said: Option<(&'static str, String)> = None;
    for line in lines {
        let (role, text) = match line {
            Line::User(text) => ("user", text),
            Line::Agent(text) => ("assistant", text),
            Line::Calls { said: words, calls, .. } => {
                messages.extend(said.take().map(message));
                let calls: Vec<Value> = calls.iter().map(call).collect();
                messages.push(json!({"role": "assistant", "content": words, "tool_calls": calls}));
                continue;
            }
            Line::Results(results) => {
                messages.extend(said.take().map(message));
                messages.extend(results.iter().map(|result| {
                    json!({"role": "tool", "tool_call_id": result.id, "content": result.content})
                }));
                continue;
            }
        };
        match &mut said {
            Some((last, words)) if *last == role => {
                words.push('\n');
                words.push_str(text);
            }
            _ => messages.extend(said.replace((role, text.clone())).map(message)),
        }
    }
    messages.extend(said.map(message));
    Value::Array(messages)
}

fn message((role, content): (&str, String)) -> Value {
    json!({"role": role, "content": content})
}

fn call(call: &Call) -> Value {
    let Call { id, tool, arguments } = call;
    // Some servers read these, and refuse a conversation in which a model once wrote nonsense.
    let valid = serde_json::from_str::<Map<String, Value>>(arguments).is_ok();
    let arguments = if valid { arguments } else { "{}" };
    json!({"id": id, "type": "function", "function": {"name": tool, "arguments": arguments}})
}

/// Whether an error says that the conversation is too long.
pub(super) fn says_too_long(error: &str) -> bool {
    let error = error.to_lowercase();
    TOO_LONG.iter().any(|words| error.contains(words))
}

/// One event of the stream.
#[derive(Deserialize)]
pub(super) struct Chunk {
    choices: Option<Vec<Choice>>,
    pub(super) usage: Option<Usage>,
    pub(super) error: Option<ErrorBody>,
}

/// What one event says.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) calls: Vec<CallDelta>,
    /// Why it ended, if it did.
    pub(super) finish_reason: Option<String>,
}

impl Chunk {
    /// What the first choice says; no other was asked for.
    pub(super) fn into_said(self) -> Said {
        let first = self.choices.into_iter().flatten().find(|choice| choice.index == 0);
        let Some(Choice { delta, finish_reason, .. }) = first else { return Said::default() };
        let Delta { content, refusal, tool_calls } = delta.unwrap_or_default();
        let text = content.map(Content::into_text).filter(|text| !text.is_empty());
        Said {
            text: text.or(refusal).unwrap_or_default(),
            calls: tool_calls.unwrap_or_default(),
            finish_reason,
        }
    }
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u32,
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<Content>,
    /// A refusal of the model is an answer to the user, too.
    refusal: Option<String>,
    tool_calls: Option<Vec<CallDelta>>,
}

/// A piece of a call.
#[derive(Debug, Default, Deserialize)]
pub(super) struct CallDelta {
    pub(super) index: Option<u64>,
    pub(super) id: Option<String>,
    pub(super) function: Option<FunctionDelta>,
}

/// What is called.
#[derive(Debug, Default, Deserialize)]
pub(super) struct FunctionDelta {
    pub(super) name: Option<String>,
    /// JSON within a string; of some servers the JSON itself.
    arguments: Option<Value>,
}

impl FunctionDelta {
    pub(super) fn arguments(&self) -> String {
        match &self.arguments {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    /// Models that think aloud send typed parts; those without text are their thoughts.
    Parts(Vec<Part>),
}

impl Content {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Parts(parts) => parts.into_iter().filter_map(|part| part.text).collect(),
        }
    }
}

#[derive(Deserialize)]
struct Part {
    text: Option<String>,
}

/// What a request cost.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Usage {
    #[serde(default)]
    pub(super) prompt_tokens: u64,
    #[serde(default)]
    pub(super) completion_tokens: u64,
    prompt_tokens_details: Option<PromptTokens>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct PromptTokens {
    cached_tokens: Option<u64>,
}

impl Usage {
    /// Of the prompt's tokens those that were read from a cache.
    pub(super) fn cached_tokens(&self) -> u64 {
        let cached = self.prompt_tokens_details.and_then(|details| details.cached_tokens);
        cached.unwrap_or_default().min(self.prompt_tokens)
    }
}

/// An error as servers put it.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum ErrorBody {
    /// Only words.
    Text(String),
    /// OpenAI's shape.
    Object {
        /// In words.
        message: Option<String>,
        /// A class of errors.
        #[serde(rename = "type")]
        kind: Option<String>,
        /// A word or an HTTP status.
        code: Option<Value>,
    },
}

impl ErrorBody {
    pub(super) fn message(&self) -> String {
        match self {
            Self::Text(text) => short(text),
            Self::Object { message, kind, code } => {
                let words = message.as_deref().or(kind.as_deref()).map(short);
                words
                    .or_else(|| code.as_ref().map(|code| short(&code.to_string())))
                    .unwrap_or_default()
            }
        }
    }

    /// Whether the same request would be refused again.
    pub(super) fn is_final(&self) -> bool {
        let Self::Object { kind, code, .. } = self else { return false };
        let status = code.as_ref().and_then(Value::as_u64);
        let refused = status
            .is_some_and(|status| (400..500).contains(&status) && status != 429 && status != 408);
        refused || kind.as_deref() == Some("invalid_request_error")
    }
}

/// The words in an error response, in whichever of the usual shapes it comes.
pub(super) fn error_words(body: &str) -> String {
    #[derive(Deserialize)]
    struct Wrapped {
        error: Option<ErrorBody>,
        message: Option<String>,
        detail: Option<Value>,
    }
    let Ok(wrapped) = serde_json::from_str::<Wrapped>(body) else { return short(body) };
    let Wrapped { error, message, detail } = wrapped;
    error
        .map(|error| error.message())
        .or_else(|| message.as_deref().map(short))
        .or_else(|| detail.map(|detail| short(detail.as_str().unwrap_or(&detail.to_string()))))
        .unwrap_or_else(|| short(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::provider::CallResult;

    #[test]
    fn the_words_of_an_error_are_found_in_every_shape() {
        for (body, words) in [
            (
                r#"{"error":{"message":"no such model","type":"invalid_request_error"}}"#,
                "no such model",
            ),
            (r#"{"error":"model 'x' not found"}"#, "model 'x' not found"),
            (r#"{"object":"error","message":"too long","code":400}"#, "too long"),
            (r#"{"detail":"Not Found"}"#, "Not Found"),
            (r#"{"detail":[{"msg":"missing"}]}"#, r#"[{"msg":"missing"}]"#),
            (r#"{"error":{"code":"overloaded"}}"#, "\"overloaded\""),
            ("<html>\n  Bad   gateway", "<html> Bad gateway"),
        ] {
            assert_eq!(error_words(body), words, "{body}");
        }
    }

    #[test]
    fn a_choice_is_read_in_every_shape() {
        for (chunk, text, finish) in [
            (
                r#"{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}"#,
                "a",
                None,
            ),
            (r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#, "", Some("stop")),
            (r#"{"choices":[{"delta":{"content":null,"refusal":"no"}}]}"#, "no", None),
            (
                r#"{"choices":[{"delta":{"content":[{"type":"thinking"},{"text":"b"}]}}]}"#,
                "b",
                None,
            ),
            (r#"{"choices":[{"index":1,"delta":{"content":"other"}}]}"#, "", None),
            (r#"{"choices":[{"delta":{"role":"assistant","reasoning_content":"hm"}}]}"#, "", None),
            (r#"{"choices":[],"usage":{"prompt_tokens":1}}"#, "", None),
            (r#"{"choices":null}"#, "", None),
        ] {
            let parsed: Chunk = serde_json::from_str(chunk).unwrap();
            let said = parsed.into_said();
            assert_eq!((&*said.text, said.finish_reason.as_deref()), (text, finish), "{chunk}");
        }
    }

    #[test]
    fn a_conversation_is_told_with_its_calls() {
        let calls = |arguments: &str| Line::Calls {
            said: "let me see".into(),
            calls: vec![Call { id: "a".into(), tool: "t".into(), arguments: arguments.into() }],
            raw: None,
        };
        let result = CallResult { id: "a".into(), content: "7".into(), is_error: true };
        let lines = [
            Line::User("one".into()),
            Line::User("two".into()),
            calls("{\"n\":1}"),
            Line::Results(vec![result]),
            calls("{"),
            Line::Results(Vec::new()),
            Line::User("three".into()),
            Line::Agent("four".into()),
        ];
        let call = |arguments: &str| {
            let function = json!({"name": "t", "arguments": arguments});
            let calls = [json!({"id": "a", "type": "function", "function": function})];
            json!({"role": "assistant", "content": "let me see", "tool_calls": calls})
        };
        assert_eq!(
            messages(Some("be kind"), &lines),
            json!([
                {"role": "system", "content": "be kind"},
                {"role": "user", "content": "one\ntwo"},
                call("{\"n\":1}"),
                {"role": "tool", "tool_call_id": "a", "content": "7"},
                call("{}"),
                {"role": "user", "content": "three"},
                {"role": "assistant", "content": "four"},
            ])
        );
    }

    #[test]
    fn what_is_too_long_is_known_in_the_servers_words() {
        for error in [
            r#"{"error":{"message":"…","type":"invalid_request_error","code":"context_length_exceeded"}}"#,
            "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
            r#"{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error"}}"#,
            "Prompt is too long",
        ] {
            assert!(says_too_long(error), "{error}");
        }
        for error in ["model not found", "Rate limit reached: 5000 tokens per minute", ""] {
            assert!(!says_too_long(error), "{error}");
        }
    }
}
