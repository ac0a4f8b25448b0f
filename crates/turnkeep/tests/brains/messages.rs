//! The real binary with a model behind the Messages API: a server here that speaks it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::kit::{Place, ask, until};

/// A request's head and body.
type Asked = (String, Value);

/// Gives these answers, one a request: a status and a body.
struct Provider {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Provider {
    async fn start(answers: Vec<(u16, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answers) = (Arc::clone(&asked), Arc::new(Mutex::new(VecDeque::from(answers))));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, answers) = (Arc::clone(&log), Arc::clone(&answers));
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    while let Some(request) = read(&mut stream).await {
                        log.lock().unwrap().push(request);
                        let next = answers.lock().unwrap().pop_front();
                        let (status, body) = next.expect("one request too many");
                        write(&mut stream, status, &body).await;
                    }
                });
            }
        });
        Self { address, asked }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let length = head.split("content-length: ").nth(1)?.split("\r\n").next()?.parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, serde_json::from_slice(&body).unwrap()))
}

async fn write(stream: &mut BufReader<TcpStream>, status: u16, body: &str) {
    let kind = if status == 200 { "text/event-stream" } else { "application/json" };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Status\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes()).await.unwrap();
}

/// A whole answer, as the documents of the protocol show one.
fn says(text: &str) -> (u16, String) {
    let usage = json!({"input_tokens": 25, "cache_read_input_tokens": 2000, "output_tokens": 1});
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "content": [],
                         "model": "claude-test", "stop_reason": null, "usage": usage});
    let delta = json!({"stop_reason": "end_turn", "stop_sequence": null});
    let events = [
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "ping"}),
        json!({"type": "content_block_delta", "index": 0,
               "delta": {"type": "text_delta", "text": text}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 15}}),
        json!({"type": "message_stop"}),
    ];
    let event = |data: &Value| {
        let name = data["type"].as_str().unwrap();
        format!("event: {name}\ndata: {data}\n\n")
    };
    (200, events.iter().map(event).collect())
}

fn refuses(status: u16, kind: &str) -> (u16, String) {
    (status, json!({"type": "error", "error": {"type": kind, "message": "no"}}).to_string())
}

#[tokio::test]
async fn a_model_answers_over_the_messages_api() {
    let provider = Provider::start(vec![
        says("Hello Anna"),
        refuses(529, "overloaded_error"),
        says("Fine, thanks"),
        refuses(401, "authentication_error"),
    ])
    .await;
    let place = Place::new();
    let key = place.path().join("key");
    std::fs::write(&key, "sk-ant-0815\n").unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let agent = format!(
        "kind = \"anthropic\"\nmodel = \"claude-test\"\nbase_url = \"http://{}\"\n\
         api_key_file = {key:?}\nsystem_prompt = \"be kind\"",
        provider.address
    );
    let server = place.serve(&agent, "window_ms = 0\nerrors_max = 1");
    assert_eq!(ask(&server, "hello").await["reply"], "Hello Anna");
    // The first time it is told that everybody comes at once.
    assert_eq!(ask(&server, "how are you?").await["reply"], "Fine, thanks");
    let asked = provider.asked.lock().unwrap().clone();
    for (head, _) in &asked {
        assert!(head.starts_with("POST /v1/messages HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("x-api-key: sk-ant-0815\r\n"), "{head}");
        assert!(head.contains("anthropic-version: 2023-06-01\r\n"), "{head}");
    }
    let ephemeral = json!({"type": "ephemeral"});
    let said = |text: &str| json!({"type": "text", "text": text});
    let last = json!({"type": "text", "text": "how are you?", "cache_control": ephemeral});
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[2].1["system"][0]["text"], "be kind");
    assert_eq!(
        asked[2].1["messages"],
        json!([
            {"role": "user", "content": [said("hello")]},
            {"role": "assistant", "content": [said("Hello Anna")]},
            {"role": "user", "content": [last]},
        ])
    );
    let seen = until(&server, "turn.completed").await;
    assert!(seen.contains("\"version\":\"claude-test#"), "{seen}");
    let answer = crate::kit::say(&server, "and now?", "?wait=60").await;
    assert_eq!(answer["status"], "failed", "{answer}");
    let seen = until(&server, "turn.failed").await;
    assert!(seen.contains("401 Unauthorized: no") && !seen.contains("sk-ant-0815"), "{seen}");
    place.audit();
}
