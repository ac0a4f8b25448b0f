//! The real binary with the examples in TypeScript as a server; and the types of all examples.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::crash_kit::client;
use crate::http::Brain;
use crate::kit::{Place, SESSION, ask, node, say, until};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/brains/typescript").join(name)
}

/// Starts one that listens.
fn as_server(place: &Place, name: &str, shop_seconds: &str) -> Brain {
    let mut command = Command::new(node());
    command.arg(example(name));
    Brain::of(place, command, "0", shop_seconds)
}

#[test]
fn the_types_of_the_examples_fit() {
    node();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/brains.sh");
    let output = Command::new(script).arg("check").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

const ASKS: &str = "window_ms = 0\nbusy_policy = \"agent\"\nquestion_timeout_ms = 60000";

#[tokio::test]
async fn a_change_of_mind_is_heard_by_a_server() {
    let place = Place::new();
    let brain = as_server(&place, "echo.ts", "0");
    let server = place.gateway(&brain, ASKS);
    let first = say(&server, "go to Rome...", "").await;
    until(&server, "turn.processing").await;
    let answer = ask(&server, "no, to Paris").await;
    assert_eq!(answer["reply"], "echo: go to Rome...\nno, to Paris");
    assert_ne!(answer["turn_id"], first["turn_id"]);
    let seen = until(&server, "turn.completed").await;
    assert!(seen.contains("\"choice\":\"supersede\""), "{seen}");
    place.audit();
}

#[tokio::test]
async fn a_server_refunds_once_though_the_gateway_is_killed() {
    let place = Place::new();
    let brain = as_server(&place, "refund.ts", "1000");
    let mut server = place.gateway(&brain, "window_ms = 0");
    say(&server, "please refund order 17", "").await;
    place.until_refunded("17\n").await;
    server.kill();
    drop(server);

    let server = place.gateway(&brain, "window_ms = 0");
    until(&server, "turn.completed").await;
    let url = format!("{}/v1/sessions/{SESSION}/messages", server.address);
    let said: Value = client().get(url).send().await.unwrap().json().await.unwrap();
    let unknown = "I can't tell whether order 17 was refunded. A person will look.";
    let mut lines = said["messages"].as_array().unwrap().iter();
    assert!(lines.any(|line| line["text"] == json!(unknown)), "{said}");
    assert_eq!(place.refunds(), "17\n");
    place.audit();
}
