//! A model that does what its user says: a line `TOOL {…}` is a call, anything else is repeated. What
//! tools said it repeats, too.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Answers from now on; the keys of an agent that asks it.
pub(crate) async fn start() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    format!("kind = \"openai\"\nbase_url = \"http://{address}/v1\"\nmodel = \"parrot\"")
}

/// One request and its answer. Whoever asks may be killed in the middle.
async fn answer(stream: TcpStream) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let line = line.trim().to_ascii_lowercase();
        if let Some(said) = line.strip_prefix("content-length:") {
            length = said.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let body: Value = serde_json::from_slice(&body).unwrap();
    let mut text = String::from(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n",
    );
    for choice in said(&body) {
        text += &format!("data: {}\n\n", json!({"choices": [choice]}));
    }
    text += "data: [DONE]\n\n";
    stream.get_mut().write_all(text.as_bytes()).await.ok()?;
    stream.get_mut().shutdown().await.ok()
}

/// What it says to a conversation.
fn said(body: &Value) -> [Value; 2] {
    let messages = body["messages"].as_array().unwrap();
    let last = messages.iter().rev().take_while(|message| message["role"] == "tool");
    let results: Vec<&str> = last.map(|message| message["content"].as_str().unwrap()).collect();
    let user = messages.iter().rev().find(|message| message["role"] == "user").unwrap();
    let user = user["content"].as_str().unwrap();
    let call = user.lines().last().unwrap().split_once(' ');
    let of_it = |name: &str| {
        let mut tools = body["tools"].as_array().into_iter().flatten();
        tools.any(|tool| tool["function"]["name"] == name)
    };
    let done = |why: &str| json!({"index": 0, "delta": {}, "finish_reason": why});
    match call {
        Some((name, arguments)) if results.is_empty() && of_it(name) => {
            let function = json!({"name": name, "arguments": arguments});
            let call =
                json!({"index": 0, "id": "call_1", "type": "function", "function": function});
            [json!({"index": 0, "delta": {"tool_calls": [call]}}), done("tool_calls")]
        }
        _ => {
            let words = if results.is_empty() { user.to_owned() } else { results.join("\n") };
            [json!({"index": 0, "delta": {"content": words}}), done("stop")]
        }
    }
}
