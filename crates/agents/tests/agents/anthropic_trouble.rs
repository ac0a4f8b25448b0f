//! The anthropic agent when the server is busy, broken, rude or silent.

use std::time::Duration;

use serde_json::json;
use turnkeep_core::ports::agent::{Agent, Role};
use turnkeep_core::session::input::RunFailure;

use crate::handle::FakeHandle;
use crate::messages::{
    agent, agent_with, answer, end, event, ping, refusal, start, text, text_delta, whole,
};
use crate::server::{SILENCE, Server, Step, silence};

/// One request, one failure; what was used is told if the server told it.
async fn check(case: &str, script: Vec<Step>, words: &str, retry: bool, after: Option<u64>) {
    let server = Server::start([script]).await;
    let handle = FakeHandle::new();
    let agent = agent_with(&server, |_, turn| {
        turn.retries_max = 0;
        turn.reply_bytes_max = 1000;
    });
    let failure = agent.run(handle.turn(&["hi"])).await.unwrap_err();
    assert!(failure.error.contains(words), "{case}: {failure:?}");
    assert_eq!((failure.retry, failure.retry_after_ms), (retry, after), "{case}: {failure:?}");
    assert_eq!(handle.slots.available_permits(), 1, "{case}");
}

fn begun(rest: Vec<Vec<Step>>) -> Vec<Step> {
    [Step::Begin, start(25)].into_iter().chain(rest.into_iter().flatten()).collect()
}

/// Words that go on.
fn open(pieces: &[&str]) -> Vec<Step> {
    let mut steps = text(0, pieces);
    steps.pop();
    steps
}

fn error(kind: &str, message: &str) -> Vec<Step> {
    vec![event(&json!({"type": "error", "error": {"type": kind, "message": message}})), Step::End]
}

#[tokio::test]
async fn a_busy_provider_is_asked_again() {
    let server = Server::start([
        refusal(429, "rate_limit_error", "slow down", &[("retry-after", "0")]),
        refusal(529, "overloaded_error", "Overloaded", &[]),
        refusal(500, "api_error", "oops", &[]),
        [vec![Step::Begin], error("overloaded_error", "Overloaded")]
            .into_iter()
            .flatten()
            .collect(),
        answer(&["ok"]),
    ])
    .await;
    let handle = FakeHandle::new();
    let agent = agent_with(&server, |_, turn| turn.retries_max = 4);
    let ended = agent.run(handle.turn(&["hi"])).await.unwrap();
    assert_eq!(ended.reply.as_deref(), Some("ok"));
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn every_refusal_has_its_meaning() {
    let plain = |status, kind, message| refusal(status, kind, message, &[]);
    let after = [("retry-after", "7")];
    let slow = refusal(429, "rate_limit_error", "slow", &after);
    check("429", slow, "429 Too Many Requests: slow (req_011)", true, Some(7000)).await;
    let full = plain(529, "overloaded_error", "Overloaded");
    check("529", full, "said 529: Overloaded", true, None).await;
    check("500", plain(500, "api_error", "x"), "500 Internal Server Error: x", true, None).await;
    check("504", plain(504, "timeout_error", "x"), "504 Gateway Timeout: x", true, None).await;
    check("400", plain(400, "invalid_request_error", "x"), "400 Bad Request: x", false, None).await;
    check("401", plain(401, "authentication_error", "x"), "401 Unauthorized", false, None).await;
    check("403", plain(403, "permission_error", "x"), "403 Forbidden", false, None).await;
    check("404", plain(404, "not_found_error", "model: x"), "model: x", false, None).await;
    let page = vec![Step::Respond(502, Vec::new(), "<h1>Bad gateway</h1>".into())];
    check("a page", page, "502 Bad Gateway: <h1>Bad gateway</h1>", true, None).await;
    let endless = vec![Step::Respond(400, Vec::new(), "x".repeat(10_000_000))];
    check("an endless error", endless, "xxx…", false, None).await;
    let json = vec![("content-type", "application/json".to_owned())];
    let body = json!({"type": "message", "content": []}).to_string();
    let no_stream = vec![Step::Respond(200, json, body)];
    check("no stream", no_stream, "application/json, not a stream", true, None).await;
}

#[tokio::test]
async fn a_conversation_that_is_too_long_is_shortened_once() {
    let long = || {
        let words = "prompt is too long: 200251 tokens > 200000 maximum";
        refusal(400, "invalid_request_error", words, &[])
    };
    let server = Server::start([long(), answer(&["ok"]), long(), long()]).await;
    let handle = FakeHandle::new();
    let earlier = "x".repeat(400);
    handle.remember(&[(Role::User, &earlier), (Role::Agent, &earlier)]);
    let agent = agent(&server);
    let ended = agent.run(handle.turn(&["hi"])).await.unwrap();
    assert_eq!(ended.reply.as_deref(), Some("ok"));
    let lengths: Vec<usize> = server
        .requests()
        .iter()
        .map(|request| request.body["messages"].as_array().unwrap().len())
        .collect();
    assert_eq!(lengths, [3, 1]);
    let failure = agent.run(handle.turn(&["hi"])).await.unwrap_err();
    assert!(failure.error.contains("prompt is too long") && !failure.retry, "{failure:?}");
}

#[tokio::test]
async fn a_broken_answer_is_a_clear_failure() {
    let cut = "cut off";
    let stop = || end("end_turn", 1);
    check("cut", begun(vec![open(&["Hel"]), vec![Step::Cut]]), cut, true, None).await;
    check("ended", begun(vec![open(&["Hel"]), vec![Step::End]]), cut, true, None).await;
    // Everything was said but that it is everything.
    let mut unstopped = whole("end_turn", vec![text(0, &["Hello"])]);
    let at = unstopped.len() - 2;
    unstopped.remove(at);
    check("no message_stop", unstopped, cut, true, None).await;
    check("an open block", begun(vec![open(&["Hel"]), stop()]), "not whole", true, None).await;
    let headless = std::iter::once(Step::Begin).chain(stop()).collect();
    check("no beginning", headless, "not whole", true, None).await;
    check("twice", begun(vec![vec![start(1)]]), "twice", true, None).await;
    check("out of order", begun(vec![text(1, &["Hel"])]), "out of order", true, None).await;
    let lost = json!({"type": "content_block_delta", "index": 3, "delta": text_delta("x")});
    check("lost", begun(vec![vec![event(&lost)]]), "not open", true, None).await;
    let mixed = json!({"type": "input_json_delta", "partial_json": "{"});
    let mixed = json!({"type": "content_block_delta", "index": 0, "delta": mixed});
    check("mixed", begun(vec![open(&[]), vec![event(&mixed)]]), "mixed up", true, None).await;
    let raw = |text: &str| begun(vec![vec![Step::Raw(text.into()), Step::End]]);
    check("garbage", raw("what is this\n\n"), "no event stream", true, None).await;
    check("no JSON", raw("data: {\"type\":\n\n"), "no event of an answer", true, None).await;
    check("no event", raw("data: [1]\n\n"), "no event of an answer", true, None).await;
    let binary = vec![Step::Bytes(b"data: {\"type\":\"\xff\xfe\"}\n\n".to_vec()), Step::End];
    check("invalid UTF-8", begun(vec![binary]), "no event stream", true, None).await;
    check("empty", begun(vec![stop()]), "empty answer (finish reason: stop)", true, None).await;
    let refused = begun(vec![end("refusal", 1)]);
    check("refused", refused, "finish reason: content_filter", false, None).await;
    let short = begun(vec![end("max_tokens", 1)]);
    check("no room", short, "finish reason: length", false, None).await;
}

#[tokio::test]
async fn an_error_within_the_stream_is_the_providers_word() {
    for (kind, retry) in [
        ("overloaded_error", true),
        ("api_error", true),
        ("new_error", true),
        ("invalid_request_error", false),
        ("authentication_error", false),
    ] {
        let script = begun(vec![open(&["Hel"]), error(kind, "no more")]);
        check(kind, script, "the provider broke off: no more", retry, None).await;
    }
}

#[tokio::test]
async fn what_an_answer_used_is_told_also_where_it_broke_off() {
    let server = Server::start([begun(vec![open(&["Hel"]), vec![Step::Cut]])]).await;
    let handle = FakeHandle::new();
    agent(&server).run(handle.turn(&["hi"])).await.unwrap_err();
    let used = handle.used.lock().unwrap();
    assert_eq!(used.iter().map(|used| used.input_tokens).collect::<Vec<_>>(), [25]);
}

#[tokio::test]
async fn an_answer_has_a_limit_wherever_it_grows() {
    let huge = "x".repeat(10_000_000);
    let event_limit = "event of more than";
    check("one event", begun(vec![open(&[&huge])]), event_limit, false, None).await;
    let no_end = begun(vec![vec![Step::Raw(huge.clone())]]);
    check("no line end", no_end, event_limit, false, None).await;
    let lines = begun(vec![vec![Step::Raw("data: x\n".repeat(1_000_000))]]);
    check("no blank line", lines, event_limit, false, None).await;
    let hundred = "x".repeat(100);
    let words = begun(vec![open(&[&*hundred; 11])]);
    check("many events", words, "longer than 1000 bytes", false, None).await;
    // Thoughts and arguments are no words of the reply, but they end as well.
    let large = "x".repeat(60_000);
    let piece = |delta| {
        let delta = json!({"type": "content_block_delta", "index": 0, "delta": delta});
        event(&delta)
    };
    for (kind, delta) in [
        ("thinking", json!({"type": "thinking_delta", "thinking": large})),
        ("tool_use", json!({"type": "input_json_delta", "partial_json": large})),
    ] {
        let start = json!({"type": "content_block_start", "index": 0, "content_block": {
            "type": kind, "id": "t", "name": "n", "input": {},
        }});
        let pieces = (0..80).map(|_| piece(delta.clone())).collect();
        let script = begun(vec![vec![event(&start)], pieces]);
        check(kind, script, "the answer is longer than", false, None).await;
    }
    let many = (0..1025).flat_map(|index| text(index, &[])).collect();
    check("many parts", begun(vec![many]), "more than 1024 parts", false, None).await;
}

async fn check_silence(script: Vec<Step>, said: &str) -> Result<String, RunFailure> {
    silence(script, said, |server| {
        agent_with(server, |settings, _| settings.silence_timeout = SILENCE)
    })
    .await
}

#[tokio::test]
async fn silence_has_a_limit_and_a_ping_is_none() {
    let failure = check_silence(vec![Step::UntilHungUp], "").await.unwrap_err();
    assert!(failure.retry && failure.error.contains("silent for 60s"), "{failure:?}");
    let hang = begun(vec![open(&["Hel"]), vec![Step::UntilHungUp]]);
    let failure = check_silence(hang, "Hel").await.unwrap_err();
    assert!(failure.retry && failure.error.contains("silent for 60s"), "{failure:?}");
    let pause = || vec![Step::Pause(Duration::from_secs(40))];
    let lo = json!({"type": "content_block_delta", "index": 0, "delta": text_delta("lo")});
    let stop = json!({"type": "content_block_stop", "index": 0});
    let script = begun(vec![
        open(&["Hel"]),
        pause(),
        vec![ping()],
        pause(),
        vec![event(&lo), event(&stop)],
        end("end_turn", 3),
    ]);
    assert_eq!(check_silence(script, "Hel").await.as_deref(), Ok("Hello"));
}

#[tokio::test]
async fn a_cancel_closes_the_connection() {
    let server = Server::start([begun(vec![open(&["Hel"]), vec![Step::UntilHungUp]])]).await;
    let handle = FakeHandle::new();
    let agent = agent(&server);
    let meanwhile = async {
        handle.until_said("Hel").await;
        handle.cancel();
    };
    let (ended, ()) = tokio::join!(agent.run(handle.turn(&["hi"])), meanwhile);
    ended.unwrap_err();
    server.until_hung_up().await;
    assert_eq!(handle.slots.available_permits(), 1);
    assert_eq!(handle.used.lock().unwrap().len(), 1);
}
