//! Bytes against what a model's server may say.

use turnkeep_fuzz::{Target, fuzz};

use super::wire::{Chunk, error_words};

#[test]
fn fuzz_answers() {
    let target = Target {
        name: "openai_answer",
        seeds: &[
            br#"{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}"#,
            br#"{"choices":[{"delta":{"content":[{"type":"thinking"},{"text":"b"}]}}]}"#,
            br#"{"error":{"message":"no such model","type":"invalid_request_error","code":404}}"#,
            br#"{"detail":[{"msg":"missing"}]}"#,
            b"<html>\n  Bad   gateway",
        ],
        words: &[
            b"\"choices\":", b"\"delta\":", b"\"content\":", b"\"refusal\":", b"\"error\":",
            b"\"code\":", b"null", b"[", b"]", b"{", b"}", b"\\u0000", b"\\ud83d", b"-1",
        ],
        length_max: 4096,
    };
    fuzz(&target, |input| {
        let text = String::from_utf8_lossy(input);
        let words = error_words(&text);
        // What is kept of it is short and stands on one line.
        assert!(words.chars().count() <= 301 && !words.chars().any(char::is_control), "{words:?}");
        let Ok(chunk) = serde_json::from_str::<Chunk>(&text) else { return };
        if let Some(error) = &chunk.error {
            let said = error.message();
            assert!(said.chars().count() <= 301 && !said.chars().any(char::is_control), "{said:?}");
            let _ = error.is_final();
        }
        let (said, _) = chunk.into_choice();
        // Escapes only ever get shorter.
        assert!(said.len() <= input.len().max(text.len()), "more was read than was said");
    });
}
