//! Bytes against what a brain may say.

use turnkeep_fuzz::{Target, fuzz};

use super::incoming::{FromBrain, read};

#[test]
fn fuzz_brain() {
    let target = Target {
        name: "brain",
        seeds: &[
            br#"{"type":"say","text":"a"}"#,
            br#"{"type":"intend","id":"1","tool":"refund","effects":"irreversible","key":"7","input":"{}"}"#,
            br#"{"type":"returned","id":"2","call":9,"outcome":"done","output":"ok"}"#,
            br#"{"type":"choose","question_id":1,"choice":"absorb_continue"}"#,
            br#"{"type":"intend","id":"3","tool":"cancel","effects":"idempotent","compensates":9}"#,
            br#"{"type":"keep","id":"4","name":"plan","inputs":{"messages":[1,2],"text":"v1"},"depends":["a"],"content":"c"}"#,
            br#"{"type":"recall","id":"5","name":"plan","inputs":{"messages":[1]}}"#,
            br#"{"type":"used","model":"m","input_tokens":7,"output_tokens":2,"cached_tokens":1,"cost_micros":9}"#,
            br#"{"type":"finished","reply":"a","used":3,"hint":"awaiting_field","version":"v2"}"#,
            br#"{"type":"failed","error":"a","retry":false,"retry_after_s":1.5}"#,
        ],
        words: &[
            b"\"type\":", b"\"id\":", b"\"call\":", b"\"used\":", b"\"take_mail\"", b"\"ask\"",
            b"\"emit\"", b"\"keep\"", b"\"recall\"", b"\"used\"", b"\"compensates\":", b"\"inputs\":",
            b"\"depends\":", b"\"version\":", b"null", b"-1", b"1e400", b"\\u0000", b"\\ud83d", b"{", b"[",
        ],
        length_max: 4096,
    };
    fuzz(&target, |input| match read(input) {
        Ok(Some(FromBrain::Request(id, _))) => assert!((1..=100).contains(&id.len())),
        Ok(Some(FromBrain::Failed(failure))) => {
            assert!(failure.error.chars().count() <= 1000);
            assert!(!failure.error.chars().any(char::is_control));
            assert!(failure.retry_after_ms.is_none_or(|ms| ms <= 86_400_000));
        }
        Ok(_) => {}
        // One line, and short whatever was read.
        Err(wrong) => assert!(wrong.len() < 200 && !wrong.contains('\n'), "{wrong:?}"),
    });
}
