//! What signal-cli says on a line or in a body: an answer, or something that was received.

use serde_json::{Value, json};

/// An error that signal-cli answered with.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    /// Which kind: signal-cli's own from -1 down, JSON-RPC's from -32000 down.
    pub(super) code: i64,
    /// What it says of it.
    pub(super) message: String,
    /// What it says beside it.
    pub(super) data: Value,
}

/// One message.
#[derive(Debug, PartialEq)]
pub(super) enum Told {
    /// The answer to a call.
    Answer { id: String, result: Result<Value, Refusal> },
    /// Something was received, on which account.
    Received { account: Option<String>, params: Value },
    /// Nothing that we know.
    Other(&'static str),
}

/// A call, as a line.
pub(super) fn request(id: &str, method: &str, params: &Value) -> Vec<u8> {
    let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    let mut line = request.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// How each message begins. Within a text its quotes would be escaped.
const BEGINNING: &[u8] = br#"{"jsonrpc""#;

/// Reads one message. What was broken off before it, on the same line, is passed over.
pub(super) fn read(bytes: &[u8]) -> Told {
    read_line(bytes).0
}

/// The same; also whether something on the line was broken off. What is no message and no beginning of
/// one was said by somebody else: a start script, or Java with a warning.
pub(super) fn read_line(bytes: &[u8]) -> (Told, bool) {
    match serde_json::from_slice(bytes) {
        Ok(value) => (told(value), false),
        Err(error) => {
            let begins = bytes.windows(BEGINNING.len()).rposition(|window| window == BEGINNING);
            let whole = begins.filter(|begins| *begins > 0);
            let told = match whole.and_then(|begins| serde_json::from_slice(&bytes[begins..]).ok())
            {
                Some(value) => told(value),
                None if error.is_eof() => Told::Other("half a line"),
                None => Told::Other("no JSON"),
            };
            let is_half = bytes.trim_ascii_start().starts_with(b"{");
            (told, is_half || begins.is_some())
        }
    }
}

fn told(mut value: Value) -> Told {
    if value.get("method").and_then(Value::as_str) == Some("receive") {
        return received(value["params"].take());
    }
    let Some(id) = value.get("id").and_then(Value::as_str).map(str::to_owned) else {
        return Told::Other("no answer and nothing received");
    };
    match value.get_mut("error").filter(|error| !error.is_null()) {
        Some(error) => Told::Answer { id, result: Err(refusal(error)) },
        None => Told::Answer { id, result: Ok(value["result"].take()) },
    }
}

/// What stands in `params`, with or without a subscription around it.
pub(super) fn received(mut params: Value) -> Told {
    if params.get("subscription").is_some() {
        params = params["result"].take();
    }
    if !params.is_object() {
        return Told::Other("something received without content");
    }
    let account = params.get("account").and_then(Value::as_str).map(str::to_owned);
    Told::Received { account, params }
}

fn refusal(error: &mut Value) -> Refusal {
    Refusal {
        code: error.get("code").and_then(Value::as_i64).unwrap_or(-32_603),
        message: error.get("message").and_then(Value::as_str).unwrap_or_default().to_owned(),
        data: error.get_mut("data").map(Value::take).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expect: Told) {
        assert_eq!(read(line.as_bytes()), expect, "{line}");
    }

    #[test]
    fn messages() {
        let answer = |result| Told::Answer { id: "a-1".into(), result };
        check(r#"{"jsonrpc":"2.0","result":0,"id":"a-1"}"#, answer(Ok(json!(0))));
        check(
            r#"{"jsonrpc":"2.0","error":{"code":-1,"message":"no","data":{"x":1}},"id":"a-1"}"#,
            answer(Err(Refusal { code: -1, message: "no".into(), data: json!({"x": 1}) })),
        );
        let params = json!({"envelope": {}, "account": "+49"});
        let received = || Told::Received { account: Some("+49".into()), params: params.clone() };
        let line = json!({"jsonrpc": "2.0", "method": "receive", "params": params});
        check(&line.to_string(), received());
        // A full disk, a kill: what was broken off takes nothing with it.
        for length in 1..line.to_string().len() {
            check(&format!("{}{line}", &line.to_string()[..length]), received());
        }
        let wrapped = json!({"subscription": 0, "result": params});
        let line = json!({"jsonrpc": "2.0", "method": "receive", "params": wrapped});
        check(&line.to_string(), received());
    }

    #[test]
    fn only_half_a_message_was_broken_off() {
        let whole = r#"{"jsonrpc":"2.0","result":0,"id":"a-1"}"#;
        let check = |line: &str, expect: bool| {
            assert_eq!(read_line(line.as_bytes()).1, expect, "{line}");
        };
        check(whole, false);
        check("{}", false);
        for half in [&whole[..1], &whole[..12], &whole[..30]] {
            check(half, true);
            check(&format!("{half}{whole}"), true);
        }
        check("[0.01s][warning][gc] -XX:+UseG1GC is ignored", false);
        check("starting signal-cli", false);
        check("7", false);
        // It stands before what was said, or in the middle of it.
        check(&format!("starting {whole}"), true);
        check(&format!("{}WARN", &whole[..20]), true);
    }

    #[test]
    fn what_is_none() {
        let deep = "[".repeat(1000) + &"]".repeat(1000);
        let cases = [
            (r#"{"jsonrpc":"2.0","method":"rece"#, "half a line"),
            ("INFO something", "no JSON"),
            (&deep, "no JSON"),
            ("7", "no answer and nothing received"),
            (r#"{"id":7,"result":1}"#, "no answer and nothing received"),
            (r#"{"method":"receive"}"#, "something received without content"),
            (r#"{"method":"receive","params":[]}"#, "something received without content"),
            (
                r#"{"method":"receive","params":{"subscription":1}}"#,
                "something received without content",
            ),
        ];
        for (line, why) in cases {
            check(line, Told::Other(why));
        }
    }
}
