//! The protocol's JSON: what is sent, and what of the answers is understood.
//!
//! Servers differ in what they leave out, so every field of an answer is optional and unknown ones
//! are ignored.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::conversation::ChatMessage;

/// Ends a stream.
pub(super) const DONE: &str = "[DONE]";
/// Longest part of a server's error that is passed on.
const ERROR_CHARS_MAX: usize = 300;

/// A request for a streamed completion.
#[derive(Serialize)]
pub(super) struct ChatRequest<'a> {
    pub(super) model: &'a str,
    pub(super) messages: &'a [ChatMessage],
    pub(super) stream: bool,
    pub(super) stream_options: StreamOptions,
    #[serde(flatten)]
    pub(super) extra: &'a Map<String, Value>,
}

/// Asks for the chunk with the usage.
#[derive(Serialize)]
pub(super) struct StreamOptions {
    pub(super) include_usage: bool,
}

/// One event of the stream.
#[derive(Deserialize)]
pub(super) struct Chunk {
    choices: Option<Vec<Choice>>,
    pub(super) usage: Option<Usage>,
    pub(super) error: Option<ErrorBody>,
}

impl Chunk {
    /// The first choice's text and why it ended, if it did; no other choice was asked for.
    pub(super) fn into_choice(self) -> (String, Option<String>) {
        let first = self.choices.into_iter().flatten().find(|choice| choice.index == 0);
        let Some(Choice { delta, finish_reason, .. }) = first else { return (String::new(), None) };
        let Delta { content, refusal } = delta.unwrap_or_default();
        let text = content.map(Content::into_text).filter(|text| !text.is_empty());
        (text.or(refusal).unwrap_or_default(), finish_reason)
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

/// One line of bounded length, without characters that could steer whoever shows it.
fn short(text: &str) -> String {
    let parts = |one: char| one.is_whitespace() || one.is_control();
    let mut words = text.split(parts).filter(|word| !word.is_empty());
    let mut line = words.next().unwrap_or_default().to_owned();
    for word in words {
        line.push(' ');
        line.push_str(word);
        if line.len() > 4 * ERROR_CHARS_MAX {
            break;
        }
    }
    match line.char_indices().nth(ERROR_CHARS_MAX) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("\u{1b}[31mred\u{9b}2J", "[31mred 2J"),
            ("", ""),
        ] {
            assert_eq!(error_words(body), words, "{body}");
        }
        assert_eq!(error_words(&"é".repeat(5000)), format!("{}…", "é".repeat(ERROR_CHARS_MAX)));
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
            let (said, reason) = parsed.into_choice();
            assert_eq!((said.as_str(), reason.as_deref()), (text, finish), "{chunk}");
        }
    }
}
