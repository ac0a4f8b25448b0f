//! The real binary, killed between a request and its twins: a key is kept as surely as what it
//! stands for.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(dead_code, reason = "the kit is shared with tests that need more of it")]

mod crash_kit;
mod store_kit;

use std::path::Path;
use std::sync::Arc;

use crash_kit::{Server, audit, client};
use serde_json::{Value, json};
use tokio::sync::Barrier;

/// Sixteen requests of that customer at one instant, under one key; who was told what.
async fn sixteen(server: &Server, customer: impl Fn(usize) -> String) -> Vec<(u16, Value)> {
    let (client, barrier) = (client(), Arc::new(Barrier::new(16)));
    let mut requests = tokio::task::JoinSet::new();
    for number in 0..16 {
        let body = json!({ "customer_id": customer(number), "message": "hi" });
        let request = client
            .post(format!("{}/v1/chat?wait=60", server.address))
            .header("idempotency-key", "the-key")
            .json(&body);
        let barrier = Arc::clone(&barrier);
        requests.spawn(async move {
            barrier.wait().await;
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.json().await.unwrap())
        });
    }
    let mut answers = Vec::new();
    while let Some(answer) = requests.join_next().await {
        answers.push(answer.unwrap());
    }
    answers
}

fn start(dir: &Path) -> Server {
    let config = dir.join("turnkeep.toml");
    std::fs::write(&config, "log_level = \"warn\"\n").unwrap();
    Server::start(&config, &dir.join("data"), &[]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn twins_are_one_before_and_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = start(dir.path());
    let before = sixteen(&server, |_| "ann".to_owned()).await;
    let firsts = before.iter().filter(|(_, body)| body.get("duplicate").is_none());
    assert_eq!(firsts.count(), 1, "{before:?}");
    server.kill();

    let mut server = start(dir.path());
    let after = sixteen(&server, |_| "ann".to_owned()).await;
    assert!(after.iter().all(|(_, body)| body["duplicate"] == true), "{after:?}");
    for (status, body) in before.iter().chain(&after) {
        assert_eq!((*status, &body["reply"]), (200, &json!("echo: hi")), "{body}");
        assert_eq!(body["turn_id"], before[0].1["turn_id"]);
        assert_eq!(body["message_id"], before[0].1["message_id"]);
    }
    // And whoever asks for something else under that key is still told so.
    for (status, body) in sixteen(&server, |number| format!("customer {number}")).await {
        assert_eq!((status, &body["field"]), (422, &json!("Idempotency-Key")));
    }
    server.kill();
    audit(&dir.path().join("data")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_twins_in_different_sessions_one_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = start(dir.path());
    let answers = sixteen(&server, |number| format!("customer {number}")).await;
    let taken: Vec<_> = answers.iter().filter(|(status, _)| *status == 200).collect();
    let [(_, first)] = taken[..] else { panic!("{answers:?}") };
    for (status, body) in answers.iter().filter(|(status, _)| *status != 200) {
        assert_eq!((*status, &body["field"]), (422, &json!("Idempotency-Key")), "{body}");
    }
    server.kill();
    // The same ones again, past a kill: the first is known, the others still come too late.
    let mut server = start(dir.path());
    let again = sixteen(&server, |number| format!("customer {number}")).await;
    let twins: Vec<_> = again.iter().filter(|(status, _)| *status == 200).collect();
    let [(_, twin)] = twins[..] else { panic!("{again:?}") };
    assert_eq!((&twin["duplicate"], &twin["turn_id"]), (&json!(true), &first["turn_id"]));
    server.kill();
    let said = audit(&dir.path().join("data")).unwrap();
    assert!(said.starts_with("1 sessions, ") || said.starts_with("1 session, "), "{said}");
}
