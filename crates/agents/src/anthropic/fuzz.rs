//! Bytes against what a model's server may say.

use reqwest::StatusCode;
use turnkeep_fuzz::{Target, fuzz};

use super::answer::{Draft, News, Wrong, input};
use super::wire::{error_words, judge};
use crate::model::provider::{Ending, ProviderError};
use crate::provider_http::Refusal;

/// Words that an answer may have here.
const REPLY_BYTES_MAX: usize = 1000;

/// Each line is an event's data.
#[test]
fn fuzz_messages_stream() {
    let target = Target {
        name: "messages_stream",
        seeds: &[
            b"{\"type\":\"message_start\",\"message\":{\"model\":\"m\",\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\
              {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\
              {\"type\":\"ping\"}\n\
              {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\
              {\"type\":\"content_block_stop\",\"index\":0}\n\
              {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":15}}\n\
              {\"type\":\"message_stop\"}",
            b"{\"type\":\"message_start\",\"message\":{}}\n\
              {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\"}}\n\
              {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}}\n\
              {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"s\"}}\n\
              {\"type\":\"content_block_stop\",\"index\":0}\n\
              {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"n\",\"input\":{}}}\n\
              {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"a\\\":1}\"}}\n\
              {\"type\":\"content_block_stop\",\"index\":1}\n\
              {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"}}\n\
              {\"type\":\"message_stop\"}",
            b"{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}",
        ],
        words: &[
            b"\"type\":", b"\"index\":", b"\"delta\":", b"\"content_block\":", b"\"tool_use\"",
            b"\"server_tool_use\"", b"\"redacted_thinking\"", b"\"stop_reason\":", b"\"max_tokens\"",
            b"\"refusal\"", b"null", b"\n", b"{", b"}", b"\\ud83d", b"-1", b"18446744073709551616",
        ],
        length_max: 8192,
    };
    fuzz(&target, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let mut draft = Draft::new(REPLY_BYTES_MAX);
        let mut said = 0;
        for line in text.lines() {
            match draft.take(line) {
                Ok(News::Text(words)) => said += words.len(),
                Ok(News::Life) => {}
                Ok(News::End) => break,
                Err(Wrong::Error(error)) => {
                    let words = error.words();
                    assert!(words.chars().count() <= 301, "{words:?}");
                    assert!(!words.chars().any(char::is_control), "{words:?}");
                    break;
                }
                Err(Wrong::Broken(_) | Wrong::TooMuch(_)) => break,
            }
        }
        assert!(said <= text.len(), "more was read than was said");
        let blocks = draft.blocks();
        assert!(blocks.iter().all(serde_json::Value::is_object));
        let calls: Vec<_> = std::iter::from_fn(|| draft.next_call()).collect();
        assert!(calls.is_empty() || draft.has_ended(), "a call of half an answer");
        assert!(calls.is_empty() || draft.ending() == Ending::Calls, "a call that was cut off");
        assert!(calls.iter().all(|call| input(&call.arguments).is_object()));
    });
}

#[test]
fn fuzz_messages_refusals() {
    let target = Target {
        name: "messages_refusal",
        seeds: &[
            br#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 2 > 1"},"request_id":"req_1"}"#,
            b"<html>\n  Bad   gateway",
        ],
        words: &[b"\"error\":", b"\"type\":", b"\"message\":", b"null", b"{", b"}", b"\\u0000", b"\\u001b"],
        length_max: 4096,
    };
    fuzz(&target, |bytes| {
        let body = String::from_utf8_lossy(bytes).into_owned();
        let status = StatusCode::BAD_REQUEST;
        let words = error_words(&body);
        let error = judge(&Refusal { status, retry_after: None, body, words });
        let words = error.to_string();
        // What is kept of it is short and stands on one line.
        assert!(words.chars().count() <= 700 && !words.chars().any(char::is_control), "{words:?}");
        assert!(!matches!(error, ProviderError::Broken(_)), "a refusal that is none");
    });
}
