//! The openai agent when the server is busy, broken, rude or silent.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use turnkeep_core::ports::agent::Agent;
use turnkeep_core::session::input::RunFailure;

use crate::handle::FakeHandle;
use crate::openai::{agent, agent_with, finished, model_agent};
use crate::server::{
    SILENCE, Server, Step, answer, delta, done, event, finish, nobody, refusal, silence,
};
use crate::toolbox::{FakeTools, done as tool_done};

fn check_failure(case: &str, failure: RunFailure, words: &str, retry: bool, after: Option<u64>) {
    assert!(failure.error.contains(words), "{case}: {failure:?}");
    assert_eq!((failure.retry, failure.retry_after_ms), (retry, after), "{case}: {failure:?}");
}

/// One request, one failure.
async fn check(case: &str, script: Vec<Step>, words: &str, retry: bool, after: Option<u64>) {
    let server = Server::start([script]).await;
    let handle = FakeHandle::new();
    let agent = agent_with(&server, |_, turn| {
        turn.retries_max = 0;
        turn.reply_bytes_max = 1000;
    });
    let failure = agent.run(handle.turn(&["hi"])).await.unwrap_err();
    check_failure(case, failure, words, retry, after);
    assert_eq!(handle.slots.available_permits(), 1, "{case}");
}

#[tokio::test]
async fn a_busy_server_is_asked_again_with_a_new_slot() {
    let server = Server::start([
        refusal(429, &[("retry-after", "0")], "slow down"),
        refusal(500, &[], "oops"),
        answer(&["ok"]),
    ])
    .await;
    let handle = FakeHandle::new();
    assert_eq!(agent(&server).run(handle.turn(&["hi"])).await, finished("ok", 1));
    assert_eq!(server.requests().len(), 3);
    assert_eq!(handle.slots_given.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_server_that_stays_busy_is_left_to_the_gateway() {
    let busy = || refusal(429, &[("retry-after", "1"), ("retry-after-ms", "0")], "slow down");
    let server = Server::start([busy(), busy(), busy()]).await;
    let handle = FakeHandle::new();
    let failure = agent(&server).run(handle.turn(&["hi"])).await.unwrap_err();
    check_failure("busy", failure, "429 Too Many Requests: slow down", true, Some(0));
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_long_pause_is_the_gateways() {
    let server = Server::start([refusal(429, &[("retry-after", "3600")], "quota")]).await;
    let handle = FakeHandle::new();
    let failure = agent(&server).run(handle.turn(&["hi"])).await.unwrap_err();
    check_failure("long pause", failure, "quota", true, Some(3_600_000));
}

#[tokio::test]
async fn every_status_has_its_meaning() {
    let date = [
        ("date", "Wed, 04 Nov 2026 10:00:00 GMT"),
        ("retry-after", "Wed, 04 Nov 2026 10:00:07 GMT"),
    ];
    check("429, seconds", refusal(429, &[("retry-after", "7")], "slow"), "slow", true, Some(7000))
        .await;
    check("429, date", refusal(429, &date, "slow"), "slow", true, Some(7000)).await;
    check("500", refusal(500, &[], "oops"), "500 Internal Server Error: oops", true, None).await;
    check("503", refusal(503, &[("retry-after", "2")], "load"), "load", true, Some(2000)).await;
    check("408", refusal(408, &[], "late"), "late", true, None).await;
    check("400", refusal(400, &[], "bad model"), "400 Bad Request: bad model", false, None).await;
    check("401", refusal(401, &[], "who?"), "who?", false, None).await;
    check("404", refusal(404, &[], "no such model"), "no such model", false, None).await;
    let elsewhere = [("location", "http://127.0.0.1:1/")];
    check("307", refusal(307, &elsewhere, "there"), "307 Temporary Redirect", false, None).await;
    let page = vec![Step::Respond(502, Vec::new(), "<h1>Bad gateway</h1>".into())];
    check("a page", page, "502 Bad Gateway: <h1>Bad gateway</h1>", true, None).await;
    let endless = vec![Step::Respond(400, Vec::new(), "x".repeat(10_000_000))];
    check("an endless error", endless, "xxx…", false, None).await;
}

#[tokio::test]
async fn a_broken_answer_is_a_clear_failure() {
    let begin = |rest: Vec<Step>| std::iter::once(Step::Begin).chain(rest).collect::<Vec<_>>();
    let cut = begin(vec![delta("Hel"), Step::Cut]);
    check("cut off", cut, "cut off", true, None).await;
    let ended = begin(vec![delta("Hel"), Step::End]);
    check("ended without an end", ended, "cut off", true, None).await;
    let garbage = begin(vec![Step::Raw("what is this\n\n".into()), Step::End]);
    check("garbage", garbage, "no event stream", true, None).await;
    let binary =
        begin(vec![Step::Bytes(b"\xff\xfe\x00\x1b\n\ndata: \xff\n\n".to_vec()), Step::End]);
    check("bytes of any kind", binary, "the provider", true, None).await;
    let no_json = begin(vec![Step::Raw("data: {\"choices\":\n\n".into()), Step::End]);
    check("garbage in an event", no_json, "no chunk of an answer", true, None).await;
    let empty = begin(vec![finish("stop"), done(), Step::End]);
    check("empty", empty, "empty answer (finish reason: stop)", true, None).await;
    let blank = begin(vec![delta(" \n"), finish("stop"), done(), Step::End]);
    check("blank", blank, "empty answer", true, None).await;
    let filtered = begin(vec![finish("content_filter"), done(), Step::End]);
    check("filtered", filtered, "finish reason: content_filter", false, None).await;
    let json = vec![("content-type", "application/json".to_owned())];
    let whole = vec![Step::Respond(200, json, json!({"error": "no streams here"}).to_string())];
    check("no stream", whole, "application/json, not a stream: no streams here", true, None).await;
}

#[tokio::test]
async fn half_a_call_is_none() {
    for reason in ["length", "content_filter"] {
        let call = json!({"index": 0, "id": "a", "function": {"name": "look", "arguments": ""}});
        let begun = event(&json!({"choices": [{"delta": {"tool_calls": [call]}}]}));
        let server = Server::start([vec![
            Step::Begin,
            delta("Let me look."),
            begun,
            finish(reason),
            done(),
            Step::End,
        ]])
        .await;
        let tools = FakeTools::shop(|_| tool_done("there"));
        let agent = model_agent(&server, |_, _| ()).with_tools(vec![Arc::clone(&tools) as _]);
        let handle = FakeHandle::new();
        let ended = agent.run(handle.turn(&["hi"])).await.unwrap();
        assert_eq!(ended.reply.as_deref(), Some("Let me look."), "{reason}");
        assert_eq!((tools.called().len(), server.requests().len()), (0, 1), "{reason}");
    }
}

#[tokio::test]
async fn an_error_within_the_stream_is_the_servers_word() {
    for (error, words, retry) in [
        (json!({"message": "overloaded", "type": "server_error"}), "broke off: overloaded", true),
        (json!({"message": "late", "code": 502}), "late", true),
        (json!({"message": "too fast", "code": 429}), "too fast", true),
        (json!({"message": "too long", "type": "invalid_request_error"}), "too long", false),
        (json!({"message": "no credit", "code": 402}), "no credit", false),
        (json!("out of memory"), "out of memory", true),
    ] {
        let broken = event(&json!({"error": error}));
        let script = vec![Step::Begin, delta("Hel"), broken, Step::End];
        check(words, script, words, retry, None).await;
    }
}

#[tokio::test]
async fn an_answer_has_a_limit_wherever_it_grows() {
    let huge = "x".repeat(10_000_000);
    let limit = "longer than 1000 bytes";
    check("one event", vec![Step::Begin, delta(&huge)], "event of more than", false, None).await;
    let no_end = vec![Step::Begin, Step::Raw(huge.clone())];
    check("no line end", no_end, "event of more than", false, None).await;
    let lines = vec![Step::Begin, Step::Raw("data: x\n".repeat(1_000_000))];
    check("no blank line", lines, "event of more than", false, None).await;
    let many = std::iter::once(Step::Begin).chain((0..11).map(|_| delta(&"x".repeat(100))));
    check("many events", many.collect(), limit, false, None).await;
    let exactly = std::iter::once(Step::Begin).chain((0..10).map(|_| delta(&"x".repeat(100))));
    let cut = exactly.chain([Step::Cut]).collect();
    check("just within", cut, "cut off", true, None).await;
}

#[tokio::test]
async fn a_server_that_is_not_there() {
    let server = Server::start([]).await;
    let (_kept, address) = nobody();
    let agent =
        agent_with(&server, |settings, _| settings.base_url = format!("http://{address}/v1"));
    let handle = FakeHandle::new();
    let failure = agent.run(handle.turn(&["hi"])).await.unwrap_err();
    check_failure("refused", failure, "can't reach the provider", true, None);
}

async fn check_silence(script: Vec<Step>, said: &str) -> Result<String, RunFailure> {
    silence(script, said, |server| {
        model_agent(server, |settings, _| settings.silence_timeout = SILENCE)
    })
    .await
}

#[tokio::test]
async fn silence_has_a_limit() {
    let hang = vec![Step::UntilHungUp];
    let failure = check_silence(hang, "").await.unwrap_err();
    check_failure("no answer", failure, "silent for 60s", true, None);
    let hang = vec![Step::Begin, delta("Hel"), Step::UntilHungUp];
    let failure = check_silence(hang, "Hel").await.unwrap_err();
    check_failure("within", failure, "silent for 60s", true, None);
}

#[tokio::test]
async fn a_sign_of_life_is_no_silence() {
    let pause = || Step::Pause(Duration::from_secs(40));
    let comment = || Step::Raw(": working\n\n".into());
    let thought = || event(&json!({"choices": [{"delta": {"reasoning_content": "hm"}}]}));
    for life in [comment, thought] {
        let script = vec![
            Step::Begin,
            delta("Hel"),
            pause(),
            life(),
            pause(),
            delta("lo"),
            finish("stop"),
            done(),
            Step::End,
        ];
        assert_eq!(check_silence(script, "Hel").await.as_deref(), Ok("Hello"));
    }
}

#[tokio::test]
async fn an_answer_that_is_complete_does_not_wait_for_its_end() {
    let script = vec![Step::Begin, delta("Hello"), finish("stop"), Step::UntilHungUp];
    assert_eq!(check_silence(script, "Hello").await.as_deref(), Ok("Hello"));
}

/// What is said behind a complete answer costs neither its slot nor its turn.
#[tokio::test]
async fn a_server_that_goes_on_after_its_answer_is_not_listened_to() {
    let idle = || event(&json!({"choices": []}));
    let mut script = vec![Step::Begin, delta("Hello"), Step::Gate, finish("stop")];
    for _ in 0..1000 {
        script.extend([Step::Pause(Duration::from_millis(400)), idle()]);
    }
    let server = Server::start([script]).await;
    let handle = FakeHandle::new();
    let agent = agent(&server);
    let meanwhile = async {
        handle.until_said("Hello").await;
        tokio::time::pause();
        server.open_gate();
        Instant::now()
    };
    let (ended, paused) = tokio::join!(agent.run(handle.turn(&["hi"])), meanwhile);
    let waited = paused.elapsed();
    assert_eq!(ended, finished("Hello", 1));
    assert!(waited < Duration::from_secs(2), "{waited:?}");
}

#[tokio::test]
async fn what_stands_far_behind_an_answer_is_not_read() {
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}});
    for (events, counted) in [(10, 1), (100, 0)] {
        let idle = (0..events).map(|_| event(&json!({"choices": []})));
        let mut script = vec![Step::Begin, delta("Hello"), finish("stop")];
        script.extend(idle);
        script.extend([event(&usage), Step::End]);
        let server = Server::start([script]).await;
        let handle = FakeHandle::new();
        assert_eq!(agent(&server).run(handle.turn(&["hi"])).await, finished("Hello", 1));
        assert_eq!(handle.used.lock().unwrap().len(), counted, "{events}");
    }
}

/// The gateway has a limit of silence as well, and has to hear of it before that is reached.
#[tokio::test]
async fn a_comment_is_told_long_before_silence_would_be_over() {
    let mut script = vec![Step::Begin, delta("Hel")];
    for _ in 0..6 {
        script.extend([Step::Pause(Duration::from_secs(8)), Step::Raw(": working\n\n".into())]);
    }
    script.extend([delta("lo"), finish("stop"), done(), Step::End]);
    let server = Server::start([script]).await;
    let handle = FakeHandle::new();
    let agent =
        agent_with(&server, |settings, _| settings.silence_timeout = Duration::from_secs(60));
    let meanwhile = async {
        handle.until_said("Hel").await;
        tokio::time::pause();
    };
    let (ended, ()) = tokio::join!(agent.run(handle.turn(&["hi"])), meanwhile);
    tokio::time::resume();
    assert_eq!(ended, finished("Hello", 1));
    let alive = handle.said().iter().filter(|said| said.is_empty()).count();
    assert!((3..=5).contains(&alive), "{alive} signs of life in 48 seconds");
}
