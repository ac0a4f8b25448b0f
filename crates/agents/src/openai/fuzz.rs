//! Bytes against what a model's server may say.

use turnkeep_fuzz::{Target, fuzz};

use super::assembly::Assembly;
use super::wire::{Chunk, Said, error_words};

#[test]
fn fuzz_answers() {
    let target = Target {
        name: "openai_answer",
        seeds: &[
            br#"{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}"#,
            br#"{"choices":[{"delta":{"content":[{"type":"thinking"},{"text":"b"}]}}]}"#,
            br#"{"error":{"message":"no such model","type":"invalid_request_error","code":404}}"#,
            br#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"x","arguments":"{}"}},{"index":1,"function":{"arguments":{"n":1}}}]}}]}"#,
            br#"{"detail":[{"msg":"missing"}]}"#,
            b"<html>\n  Bad   gateway",
        ],
        words: &[
            b"\"choices\":", b"\"delta\":", b"\"content\":", b"\"refusal\":", b"\"error\":",
            b"\"code\":", b"\"tool_calls\":",
            b"\"index\":", b"\"id\":\"a\"", b"\"function\":", b"\"arguments\":", b"null", b"[", b"]", b"{", b"}", b"\\u0000", b"\\ud83d", b"-1",
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
        let Said { text: said, calls, .. } = chunk.into_said();
        // Escapes only ever get shorter.
        assert!(said.len() <= input.len().max(text.len()), "more was read than was said");
        let mut assembly = Assembly::new(200);
        if calls.into_iter().try_for_each(|delta| assembly.add(delta)).is_ok() {
            let calls = assembly.whole();
            let bytes: usize = calls.iter().map(|call| call.arguments.len()).sum();
            assert!(bytes <= 200, "more was kept than may be");
            for (at, call) in calls.iter().enumerate() {
                assert!(calls[..at].iter().all(|other| other.id != call.id), "{calls:?}");
            }
        }
    });
}
