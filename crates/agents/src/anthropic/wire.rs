//! The protocol's JSON: what of the answers is understood, and what errors mean.
//!
//! New events, blocks and deltas may come at any time; what nobody here knows is passed over.

use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::model::provider::ProviderError;
use crate::provider_http::{Refusal, short};

/// What the words of an error say where the conversation is longer than the model takes.
const TOO_LONG: [&str; 2] = ["prompt is too long", "exceed context limit"];

/// One event of the stream.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Event {
    MessageStart {
        message: Start,
    },
    ContentBlockStart {
        index: usize,
        content_block: Map<String, Value>,
    },
    ContentBlockDelta {
        index: usize,
        delta: Delta,
    },
    ContentBlockStop {
        index: usize,
    },
    MessageDelta {
        #[serde(default)]
        delta: End,
        usage: Option<Counts>,
    },
    MessageStop,
    Error {
        #[serde(default)]
        error: ErrorBody,
    },
    /// A ping, or something new.
    #[serde(other)]
    Other,
}

/// How an answer begins.
#[derive(Deserialize)]
pub(super) struct Start {
    pub(super) usage: Option<Counts>,
}

/// More of a block.
#[derive(Deserialize)]
#[serde(tag = "type")]
pub(super) enum Delta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: String },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: String },
    #[serde(rename = "signature_delta")]
    Signature { signature: String },
    #[serde(rename = "citations_delta")]
    Citations { citation: Value },
    #[serde(other)]
    Other,
}

/// What is known at the end.
#[derive(Default, Deserialize)]
pub(super) struct End {
    pub(super) stop_reason: Option<String>,
}

/// What was counted so far, in tokens.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub(super) struct Counts {
    #[serde(default)]
    pub(super) input_tokens: Option<u64>,
    #[serde(default)]
    pub(super) output_tokens: Option<u64>,
    #[serde(default)]
    pub(super) cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    pub(super) cache_creation_input_tokens: Option<u64>,
}

impl Counts {
    /// Counts only grow; a server that leaves one out later, or says 0, did not take it back.
    pub(super) fn grow(&mut self, later: Self) {
        self.input_tokens = self.input_tokens.max(later.input_tokens);
        self.output_tokens = self.output_tokens.max(later.output_tokens);
        self.cache_read_input_tokens =
            self.cache_read_input_tokens.max(later.cache_read_input_tokens);
        self.cache_creation_input_tokens =
            self.cache_creation_input_tokens.max(later.cache_creation_input_tokens);
    }
}

/// An error, as a response or within a stream.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub(super) struct ErrorBody {
    /// Which.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// In words.
    message: Option<String>,
}

impl ErrorBody {
    /// In one short line.
    pub(super) fn words(&self) -> String {
        short(self.message.as_deref().or(self.kind.as_deref()).unwrap_or_default())
    }

    fn is_too_long(&self) -> bool {
        let words = self.message.as_deref().unwrap_or_default().to_ascii_lowercase();
        match self.kind.as_deref() {
            Some("request_too_large") => true,
            Some("invalid_request_error") => TOO_LONG.iter().any(|part| words.contains(part)),
            _ => false,
        }
    }

    /// What can be done about it; none where its type doesn't tell.
    fn remedy(&self) -> Option<Remedy> {
        if self.is_too_long() {
            return Some(Remedy::Shorten);
        }
        match self.kind.as_deref()? {
            "rate_limit_error" | "overloaded_error" | "api_error" | "timeout_error" => {
                Some(Remedy::Repeat)
            }
            "invalid_request_error"
            | "authentication_error"
            | "billing_error"
            | "permission_error"
            | "not_found_error" => Some(Remedy::None),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Remedy {
    /// The same request may be repeated.
    Repeat,
    /// A shorter conversation may help.
    Shorten,
    /// The same request would fail again.
    None,
}

/// An error's response.
#[derive(Deserialize)]
struct Wrapped {
    #[serde(default)]
    error: ErrorBody,
    request_id: Option<String>,
}

/// The words in an error response, with what the provider's support asks for.
pub(super) fn error_words(body: &str) -> String {
    let wrapped = serde_json::from_str::<Wrapped>(body).ok();
    let words = wrapped.as_ref().map(|it| it.error.words()).filter(|words| !words.is_empty());
    let Some(words) = words else { return short(body) };
    match wrapped.and_then(|it| it.request_id) {
        Some(id) => format!("{words} ({})", short(&id)),
        None => words,
    }
}

/// What a refusal means: by its type, and by its status where that says nothing.
pub(super) fn judge(refusal: &Refusal) -> ProviderError {
    let wrapped = serde_json::from_str::<Wrapped>(&refusal.body).ok();
    let error = wrapped.map(|it| it.error).unwrap_or_default();
    let message = refusal.message();
    let status = refusal.status;
    let passing = [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT];
    let by_status = || match status {
        StatusCode::PAYLOAD_TOO_LARGE => Remedy::Shorten,
        _ if status.is_server_error() || passing.contains(&status) => Remedy::Repeat,
        _ => Remedy::None,
    };
    match error.remedy().unwrap_or_else(by_status) {
        Remedy::Repeat => ProviderError::Busy { message, retry_after: refusal.retry_after },
        Remedy::Shorten => ProviderError::TooLong(message),
        Remedy::None => ProviderError::Refused(message),
    }
}

/// What an error within a stream means; `said` tells whether anything of an answer came before it.
pub(super) fn broke_off(error: &ErrorBody, said: bool) -> ProviderError {
    let message = format!("the provider broke off: {}", error.words());
    let retry_after: Option<Duration> = None;
    match error.remedy() {
        // Half an answer is on the screen: the same request would say it once more.
        Some(Remedy::Repeat) if !said => ProviderError::Busy { message, retry_after },
        Some(Remedy::Repeat) | None => ProviderError::Broken(message),
        Some(Remedy::Shorten) => ProviderError::TooLong(message),
        Some(Remedy::None) => ProviderError::Refused(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn judged(status: u16, body: &str) -> ProviderError {
        let status = StatusCode::from_u16(status).unwrap();
        let (body, words) = (body.to_owned(), error_words(body));
        judge(&Refusal { status, retry_after: None, body, words })
    }

    /// An error of this type; what is made of it, without the words.
    fn remedy(status: u16, kind: &str, words: &str) -> &'static str {
        let error = json!({"type": kind, "message": words});
        match judged(status, &json!({"type": "error", "error": error}).to_string()) {
            ProviderError::Busy { .. } => "busy",
            ProviderError::Broken(_) => "broken",
            ProviderError::TooLong(_) => "too long",
            ProviderError::Refused(_) => "refused",
        }
    }

    #[test]
    fn a_refusal_means_what_its_type_says_and_else_its_status() {
        for (status, kind, words, expect) in [
            (429, "rate_limit_error", "", "busy"),
            (529, "overloaded_error", "Overloaded", "busy"),
            // The type counts more than a status that somebody in between made of it.
            (400, "overloaded_error", "", "busy"),
            (500, "api_error", "", "busy"),
            (504, "timeout_error", "", "busy"),
            (400, "invalid_request_error", "Prompt is too long: 2 tokens > 1 maximum", "too long"),
            (
                400,
                "invalid_request_error",
                "input length and `max_tokens` exceed context limit: 1 + 2 > 2",
                "too long",
            ),
            (413, "request_too_large", "", "too long"),
            (413, "new_error", "", "too long"),
            (400, "invalid_request_error", "max_tokens: 9 > 8", "refused"),
            (401, "authentication_error", "", "refused"),
            (402, "billing_error", "", "refused"),
            (403, "permission_error", "", "refused"),
            (404, "not_found_error", "", "refused"),
            (418, "new_error", "", "refused"),
            (503, "new_error", "", "busy"),
            (408, "new_error", "", "busy"),
        ] {
            assert_eq!(remedy(status, kind, words), expect, "{status} {kind} {words}");
        }
    }

    #[test]
    fn a_refusal_is_told_in_its_own_words() {
        for (status, body, words) in [
            (529, r#"{"error":{"type":"overloaded_error","message":"Full"}}"#, "529: Full"),
            (
                500,
                r#"{"error":{"type":"api_error"},"request_id":"req_1"}"#,
                "500 Internal Server Error: api_error (req_1)",
            ),
            (502, "<h1>\n Bad gateway", "502 Bad Gateway: <h1> Bad gateway"),
            (307, "", "307 Temporary Redirect: "),
        ] {
            assert_eq!(judged(status, body).to_string(), format!("the provider said {words}"));
        }
    }

    #[test]
    fn counts_only_grow() {
        let counts = |input, output| Counts {
            input_tokens: input,
            output_tokens: output,
            ..Counts::default()
        };
        let mut seen = counts(Some(25), Some(1));
        seen.grow(counts(None, Some(15)));
        seen.grow(counts(Some(0), Some(3)));
        assert_eq!(seen, counts(Some(25), Some(15)));
    }
}
