//! The real binary with an agent that asks a model: a server that plays one, and a shop as a server
//! of tools.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::crash_kit::{Server, client};
use crate::kit::{Place, SESSION, ask, say, until};

/// A model that wants a refund whenever it reads of one, and else says what it was told last.
async fn model() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                while serve(&mut stream).await.is_some() {}
            });
        }
    });
    address
}

async fn serve(stream: &mut BufReader<TcpStream>) -> Option<()> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let body: Value = serde_json::from_slice(&body).unwrap();
    let messages = body["messages"].as_array().unwrap();
    let last = messages.last().unwrap();
    let said = last["content"].as_str().unwrap();
    // A yes is about what was said before it.
    let wanted = if said == "yes please" { &messages[messages.len() - 2] } else { last };
    // It does not care what it is told of earlier attempts.
    let wanted = wanted["content"].as_str().unwrap_or_default();
    let order = wanted.split("refund order ").nth(1).map(|rest| &rest[..2]);
    let (delta, reason) = match order.filter(|_| last["role"] == "user") {
        Some(order) => {
            let arguments = json!({ "order": order }).to_string();
            let function = json!({ "name": "shop__refund", "arguments": arguments });
            let call = json!({ "index": 0, "id": "c", "type": "function", "function": function });
            (json!({ "tool_calls": [call] }), "tool_calls")
        }
        None => (json!({ "content": format!("I was told: {said}") }), "stop"),
    };
    let chunk = json!({ "choices": [{ "delta": delta, "finish_reason": reason }] });
    let usage = json!({ "choices": [], "usage": { "prompt_tokens": 9, "completion_tokens": 3 } });
    let answer = format!("data: {chunk}\n\ndata: {usage}\n\ndata: [DONE]\n\n");
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\r\n",
        answer.len()
    );
    stream.write_all((head + &answer).as_bytes()).await.ok()
}

/// A server whose agent asks this model and may refund, with these lines for the shop.
async fn start(place: &Place, model: SocketAddr, seconds: &str, shop: &str) -> Server {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/brains/shop_tools.py");
    let agent = format!(
        "kind = \"openai\"\nbase_url = \"http://{model}/v1\"\nmodel = \"m\"\ntools = [\"shop.*\"]"
    );
    let shop = format!(
        "[tools.shop]\ncommand = [\"python3\", {script:?}]\nenv = {{ SHOP_SECONDS = \"{seconds}\" }}\n\
         keys = {{ refund = \"/order\" }}\n{shop}"
    );
    place.serve_with_tools(&agent, &format!("window_ms = 0\n{shop}")).await
}

#[tokio::test]
async fn nothing_is_refunded_twice_though_the_model_wants_it() {
    check_killed("").await;
}

/// Who is asked after the kill would say no to what was done, and hear that it was not.
#[tokio::test]
async fn nobody_is_asked_about_what_was_allowed_and_begun_before_a_kill() {
    check_killed("approval = [\"refund\"]").await;
}

async fn check_killed(shop: &str) {
    let (place, model) = (Place::new(), model().await);
    let mut server = start(&place, model, "1000", shop).await;
    say(&server, "please refund order 17", "").await;
    if !shop.is_empty() {
        until(&server, "turn.waiting_for_input").await;
        say(&server, "yes", "").await;
    }
    until(&server, "tool.intended").await;
    place.until_refunded("17\n").await;
    server.kill();
    drop(server);

    let server = start(&place, model, "0", shop).await;
    let next = ask(&server, "thank you").await;
    assert_eq!(next["reply"], "I was told: thank you");
    let url = format!("{}/v1/sessions/{SESSION}/messages", server.address);
    let said: Value = client().get(url).send().await.unwrap().json().await.unwrap();
    let unknown = "nobody knows whether it was done; it was not called again";
    assert!(said.to_string().contains(unknown), "{said}");
    assert_eq!(place.refunds(), "17\n");
    place.audit();
}

/// The process is killed between question and answer; the next one has the answer.
#[tokio::test]
async fn an_approval_that_was_open_at_a_kill_is_not_asked_for_twice() {
    let (place, model) = (Place::new(), model().await);
    let shop = "approval = [\"refund\"]";
    let mut server = start(&place, model, "0", shop).await;
    let asked = say(&server, "please refund order 17", "?wait=60").await;
    assert_eq!(asked["status"], "waiting_for_input", "{asked}");
    server.kill();
    drop(server);
    let server = start(&place, model, "0", shop).await;
    assert_eq!(ask(&server, "yes please").await["reply"], "I was told: paid back 17");
    assert_eq!(place.refunds(), "17\n");
    let seen = until(&server, "turn.completed").await;
    assert_eq!(seen.matches("event: turn.waiting_for_input").count(), 1, "{seen}");
    assert_eq!(seen.matches("event: turn.processing").count(), 2, "{seen}");
    place.audit();
}

/// A refund that a person has to allow, and what the person says.
async fn check_approval(said: &str, reply: &str, refunds: &str) {
    let (place, model) = (Place::new(), model().await);
    let server = start(&place, model, "0", "approval = [\"refund\"]").await;
    // Who waits for the reply is asked at once.
    let asked = say(&server, "please refund order 17", "?wait=60").await;
    assert_eq!(asked["status"], "waiting_for_input", "{asked}");
    let question = "May I call refund (server shop)? order: 17\nReply \"yes\" to allow it, \"no\" to \
                    refuse it.";
    assert_eq!(asked["question"], question);
    let seen = until(&server, "turn.waiting_for_input").await;
    assert!(!seen.contains("tool.intended"), "{seen}");
    assert_eq!(ask(&server, said).await["reply"], reply);
    assert_eq!(place.refunds(), refunds);
    place.audit();
}

#[tokio::test]
async fn a_person_says_yes_before_a_refund_and_anything_else_is_heard() {
    check_approval("Yes, please.", "I was told: paid back 17", "17\n").await;
    let heard =
        "I was told: not done: the user was asked and did not allow it; they said: rather not";
    check_approval("rather not", heard, "").await;
}

#[tokio::test]
async fn another_model_answers_where_the_first_is_away_and_the_turn_says_which() {
    let (place, model) = (Place::new(), model().await);
    // Nobody listens on that port.
    let nobody = "127.0.0.1:1";
    let agent = format!(
        "kind = \"openai\"\nbase_url = \"http://{nobody}/v1\"\nmodel = \"m\"\nfallback = \"spare\""
    );
    let spare = format!(
        "window_ms = 0\n[agents.spare]\nkind = \"openai\"\nbase_url = \"http://{model}/v1\"\n\
         model = \"small\"\nversion = \"spare-2\""
    );
    let server = place.serve(&agent, &spare);
    let answer = ask(&server, "hello").await;
    assert_eq!(answer["reply"], "I was told: hello");
    let seen = until(&server, "turn.completed").await;
    assert!(seen.contains("\"version\":\"small#"), "{seen}");
    assert!(seen.contains("fallback_model"), "{seen}");
    let mut check = Command::new(env!("CARGO_BIN_EXE_turnkeep"));
    let config = place.path().join("turnkeep.toml");
    let said = check.args(["check", "--config"]).arg(config).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("spare: small at") && said.contains("version spare-2#"), "{said}");
    assert!(said.contains(", version m#"), "{said}");
    place.audit();
}
