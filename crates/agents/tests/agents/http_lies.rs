//! Servers that break the contract, answer nonsense or never: each is told so, by line and field, and
//! none keeps a turn for ever.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use turnkeep_agents::{HttpBrainAgent, HttpBrainError, HttpBrainSettings};
use turnkeep_core::ports::agent::Agent as _;

use crate::brain_server::{Brain, event, finished, refused, say};
use crate::handle::FakeHandle;
use crate::server::Step::{self, Begin, End, Gate, Raw, Respond};
use crate::server::nobody;

/// A brain that answers the turn so fails the attempt with this.
async fn check(steps: Vec<Step>, retry: bool, expect: &str) {
    let brain = Brain::start([("turn", steps)]).await;
    let failure = brain.run().await.unwrap_err();
    assert_eq!((&*brain.said_of(&failure), failure.retry), (expect, retry));
}

/// The same for a mistake in what it says.
async fn check_broken(steps: Vec<Step>, expect: &str) {
    let brain = Brain::start([("turn", steps)]).await;
    let failure = brain.run().await.unwrap_err();
    let expect = format!("the brain broke its contract: {expect}");
    assert_eq!((&*failure.error, failure.retry), (&*expect, false));
    assert!(!failure.error.contains("SECRET"), "{failure:?}");
    brain.until_posted("cancelled").await;
}

fn raw(data: &str) -> Step {
    Raw(data.to_owned())
}

#[tokio::test]
async fn events_that_say_nothing_right_are_refused() {
    let nothing = vec![Begin, say(1, "a"), raw("id: 2\ndata: SECRET\n\n"), Gate];
    check_broken(nothing, "line 2 is not JSON (at byte 1 of the line)").await;
    check_broken(vec![Begin, raw("data: [\"SECRET\"]\n\n"), Gate], "line 1 is not a JSON object")
        .await;
    let unknown = json!({"type": "finished", "used": 9});
    check_broken(
        vec![Begin, event(1, &unknown), Gate],
        "line 1 has a \"used\" that names no message of this turn",
    )
    .await;
    let call = json!({"type": "returned", "id": "r", "call": 8, "outcome": "done"});
    check_broken(
        vec![Begin, event(1, &call), Gate],
        "line 1 has a \"call\" that is not open, or not its own",
    )
    .await;
}

#[tokio::test]
async fn numbers_are_their_own() {
    check_broken(
        vec![Begin, raw("id: first\ndata: {}\n\n"), Gate],
        "line 1 has an \"id\" that is not its number",
    )
    .await;
    check_broken(
        vec![Begin, say(1, "a"), say(3, "b"), Gate],
        "line 2 has the \"id\" 3 where 2 comes next",
    )
    .await;
    check_broken(
        vec![Begin, say(1, "a"), say(1, "a"), Gate],
        "line 2 has the \"id\" 1 where 2 comes next",
    )
    .await;
    // Of another turn, or of an attempt that is not this one.
    check_broken(vec![Begin, say(7, "SECRET"), Gate], "line 1 has the \"id\" 7 where 1 comes next")
        .await;
}

#[tokio::test]
async fn an_end_is_the_end() {
    check_broken(
        vec![Begin, finished(1, "SECRET"), finished(2, "SECRET"), Gate],
        "line 2 ends a turn that had ended",
    )
    .await;
    let commit = event(2, &json!({"type": "commit_point", "id": "c"}));
    check_broken(
        vec![Begin, finished(1, "SECRET"), commit, Gate],
        "line 2 comes after the turn had ended",
    )
    .await;
}

#[tokio::test]
async fn a_network_that_holds_up_what_it_is_told_is_no_breach() {
    // More than one POST holds, and than may wait for the next.
    let asks = (1..=200).map(|id| event(id, &json!({"type": "take_mail", "id": "m"})));
    let steps = std::iter::once(Begin).chain(asks).chain([Gate]).collect();
    let brain = Brain::start([("turn", steps), ("told", vec![Gate])]).await;
    let failure = brain.run().await.unwrap_err();
    let error = "the brain is lost: it does not read what it is told";
    assert_eq!((&*brain.said_of(&failure), failure.retry), (error, true));
    brain.until_posted("cancelled").await;
}

#[tokio::test]
async fn a_commit_point_after_a_stop_is_refused() {
    let commit = event(1, &json!({"type": "commit_point", "id": "c"}));
    let brain = Brain::start([("turn", vec![Begin, commit, Gate, finished(2, "a"), End])]).await;
    brain.handle.cancel();
    let meanwhile = async {
        while brain.told().len() < 2 {
            brain.server.until_requests(brain.server.requests().len() + 1).await;
        }
        brain.server.open_gate();
    };
    let (done, ()) = tokio::join!(brain.run(), meanwhile);
    assert_eq!(done.unwrap().reply.as_deref(), Some("a"));
    let mut told = brain.told();
    told.sort_by_key(|said| said["type"].to_string());
    let reason = "the turn was stopped, or this run of it was replaced";
    let expected = [
        json!({"type": "finish_now", "reason": "stopped"}),
        json!({"type": "refused", "id": "c", "reason": reason}),
    ];
    assert_eq!(told, expected);
}

/// A server that sends this head and then these bytes again and again.
async fn endless(head: &'static str, bytes: Vec<u8>, expect: &str) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let bytes = bytes.clone();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"}") {
                    stream.read_buf(&mut request).await.unwrap();
                }
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{head}");
                stream.write_all(head.as_bytes()).await.unwrap();
                while stream.write_all(&bytes).await.is_ok() {}
            });
        }
    };
    let agent = HttpBrainAgent::new(&HttpBrainSettings::new(url, vec![b"x".to_vec()])).unwrap();
    let handle = FakeHandle::new();
    let failure = tokio::select! {
        () = server => panic!("the server ends"),
        answer = tokio::time::timeout(crate::brain_server::PATIENCE, agent.run(handle.turn(&["a"]))) => {
            answer.expect("it has no end").unwrap_err()
        }
    };
    let expect = format!("the brain broke its contract: {expect}");
    assert_eq!((&*failure.error, failure.retry), (&*expect, false));
}

#[tokio::test]
async fn endless_brains_have_an_end() {
    let much = |byte| vec![byte; 65_536];
    endless("data: ", much(b'x'), "line 1 has more than 1048576 bytes").await;
    endless("", much(b':'), "line 1 has more than 1048576 bytes").await;
    let lines = b": alive\n\n".repeat(1000);
    endless("", lines, "line 1 makes its output more than 67108864 bytes").await;
    let emit = b"data: {\"type\":\"emit\",\"name\":\"a\"}\n\n".to_vec();
    endless("", emit, "line 1001 is \"emit\" number 1001").await;
    let invalid = b"data: {\"type\":\"say\",\"text\":\"\xff\"}\n\n".to_vec();
    endless("", invalid, "line 1 is not UTF-8").await;
}

#[tokio::test]
async fn answers_that_are_no_stream_are_refused() {
    let html = vec![("content-type", "text/html; charset=utf-8".to_owned())];
    check(
        vec![Respond(200, html, "<h1>\n\u{7}Hello</h1>".to_owned())],
        false,
        "the brain answered 200 OK with text/html; charset=utf-8 instead of text/event-stream: \
         <h1> Hello</h1>",
    )
    .await;
    check(
        vec![Respond(204, vec![], String::new())],
        false,
        "the brain answered 204 No Content with nothing instead of text/event-stream",
    )
    .await;
    for (status, retry, words) in [
        (400, false, "400 Bad Request"),
        (401, false, "401 Unauthorized"),
        (403, false, "403 Forbidden"),
        (404, false, "404 Not Found"),
        (408, true, "408 Request Timeout"),
        (409, true, "409 Conflict"),
        (410, false, "410 Gone"),
        (500, true, "500 Internal Server Error"),
        (799, false, "799 <unknown status code>"),
    ] {
        check(refused(status, "no"), retry, &format!("the brain said {words}: no")).await;
    }
    let elsewhere = vec![("location", "http://127.0.0.1:1/".to_owned())];
    check(
        vec![Respond(307, elsewhere, String::new())],
        false,
        "the brain said 307 Temporary Redirect; redirects are not followed, configure the final \
         address",
    )
    .await;
    let long = "x".repeat(5000);
    let told = format!("the brain said 400 Bad Request: {}", "x".repeat(300));
    check(refused(400, &long), false, &told).await;
}

#[tokio::test]
async fn who_is_not_there_or_does_not_speak_is_tried_again() {
    check(vec![Step::Cut], true, "the brain was lost: connection closed before message completed")
        .await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let url = format!("{origin}/SECRET");
    let settings = HttpBrainSettings {
        begin_timeout: Duration::from_millis(1),
        ..HttpBrainSettings::new(url, vec![b"x".to_vec()])
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let agent = HttpBrainAgent::new(&settings).unwrap();
    // It takes the connection and says nothing.
    let failure = agent.run(FakeHandle::new().turn(&["a"])).await.unwrap_err();
    // Who has no name is told by the address.
    let error = format!("{origin}: the brain did not begin to answer within 1ms");
    assert_eq!((&*failure.error, failure.retry), (&*error, true));
    let (_kept, address) = nobody();
    let origin = format!("http://{address}");
    let agent = HttpBrainAgent::new(&HttpBrainSettings {
        begin_timeout: Duration::from_secs(30),
        url: format!("{origin}/SECRET"),
        ..settings
    });
    let failure = agent.unwrap().run(FakeHandle::new().turn(&["a"])).await.unwrap_err();
    let error = format!("{origin}: the brain can't be reached: Connection refused");
    assert!(failure.error.starts_with(&error), "{failure:?}");
    assert!(failure.retry && !failure.error.contains("SECRET"));
    // It may be being started again.
    assert_eq!(failure.retry_after_ms, Some(5000));
}

#[tokio::test]
async fn who_answers_too_late_is_not_heard() {
    let late = vec![Gate, Begin, say(1, "SECRET"), finished(2, "SECRET"), End];
    let brain = Brain::start([("turn", late)]).await;
    let agent = brain.agent_within(Duration::from_millis(1));
    let failure = agent.run(brain.handle.turn(&["a"])).await.unwrap_err();
    assert_eq!(brain.said_of(&failure), "the brain did not begin to answer within 1ms");
    brain.server.open_gate();
    brain.until_posted("cancelled").await;
    assert_eq!(brain.handle.said(), [""; 0]);
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let check = |url: &str, secrets: Vec<Vec<u8>>, expect: &str| {
        let error = HttpBrainAgent::new(&HttpBrainSettings::new(url, secrets)).unwrap_err();
        assert_eq!(error.to_string(), expect);
        assert!(matches!(error, HttpBrainError::Address | HttpBrainError::NoSecret));
    };
    let secret = || vec![b"x".to_vec()];
    check("brain.example.org", secret(), "the address is not one of http or https");
    check("ftp://brain.example.org", secret(), "the address is not one of http or https");
    check("https://brain.example.org", vec![], "there is no secret to sign with");
}
