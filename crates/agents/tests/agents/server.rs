//! A server that speaks the documented protocol over plain HTTP/1.1, as scripted.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use turnkeep_core::ports::agent::Agent;
use turnkeep_core::session::input::RunFailure;

use crate::handle::FakeHandle;

/// What it does with one request, step by step.
pub(crate) enum Step {
    /// Sends a whole response with a body of known length.
    Respond(u16, Vec<(&'static str, String)>, String),
    /// Begins an event stream.
    Begin,
    /// Sends raw bytes within the stream.
    Raw(String),
    /// The same, of bytes that are no text.
    Bytes(Vec<u8>),
    /// Waits for [`Server::open_gate`].
    Gate,
    /// Waits in tokio's time.
    Pause(Duration),
    /// Ends the stream properly.
    End,
    /// Breaks the connection in the middle of whatever it is.
    Cut,
    /// Waits until the client is gone, and tells [`Server::until_hung_up`].
    UntilHungUp,
}

/// One request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Value,
    /// The body as it came.
    pub(crate) text: String,
    pub(crate) connection: usize,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// `role: text` of every message.
    pub(crate) fn messages(&self) -> Vec<String> {
        let messages = self.body["messages"].as_array().unwrap().iter();
        messages
            .map(|message| {
                format!(
                    "{}: {}",
                    message["role"].as_str().unwrap(),
                    message["content"].as_str().unwrap()
                )
            })
            .collect()
    }
}

pub(crate) struct Server {
    pub(crate) base_url: String,
    shared: Arc<Shared>,
    hung_up: tokio::sync::Mutex<mpsc::UnboundedReceiver<()>>,
    requests_seen: watch::Receiver<usize>,
}

/// What is done with a request; none if there is no script for it.
type Script = dyn FnMut(&Request) -> Option<Vec<Step>> + Send;

struct Shared {
    script: Mutex<Box<Script>>,
    requests: Mutex<Vec<Request>>,
    seen: watch::Sender<usize>,
    gate: Notify,
    hung_up: mpsc::UnboundedSender<()>,
}

impl Server {
    /// Answers one request a script, in order.
    pub(crate) async fn start(scripts: impl IntoIterator<Item = Vec<Step>>) -> Self {
        let mut scripts: std::collections::VecDeque<_> = scripts.into_iter().collect();
        Self::start_by(move |_| scripts.pop_front()).await
    }

    /// Answers each request as this says.
    pub(crate) async fn start_by(
        script: impl FnMut(&Request) -> Option<Vec<Step>> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let (hang_up, hung_up) = mpsc::unbounded_channel();
        let (seen, requests_seen) = watch::channel(0);
        let shared = Arc::new(Shared {
            script: Mutex::new(Box::new(script)),
            requests: Mutex::default(),
            seen,
            gate: Notify::new(),
            hung_up: hang_up,
        });
        let accepting = Arc::clone(&shared);
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(Arc::clone(&accepting), stream, connection));
            }
        });
        Self { base_url, shared, hung_up: tokio::sync::Mutex::new(hung_up), requests_seen }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub(crate) fn open_gate(&self) {
        self.shared.gate.notify_one();
    }

    pub(crate) async fn until_requests(&self, count: usize) {
        self.requests_seen.clone().wait_for(|seen| *seen >= count).await.unwrap();
    }

    /// Resolves when a connection in [`Step::UntilHungUp`] saw its end.
    pub(crate) async fn until_hung_up(&self) {
        self.hung_up.lock().await.recv().await.unwrap();
    }
}

async fn serve(shared: Arc<Shared>, stream: TcpStream, connection: usize) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream, connection).await {
        let script = (shared.script.lock().unwrap())(&request);
        shared.requests.lock().unwrap().push(request);
        shared.seen.send_modify(|seen| *seen += 1);
        for step in script.expect("a request that the script doesn't know") {
            if !play(&shared, &mut stream, step).await {
                return;
            }
        }
    }
}

/// Plays one step; false when the connection is over.
async fn play(shared: &Shared, stream: &mut BufReader<TcpStream>, step: Step) -> bool {
    let text = match step {
        Step::Respond(status, headers, body) => {
            let headers: String =
                headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let length = body.len();
            format!("HTTP/1.1 {status} Status\r\n{headers}content-length: {length}\r\n\r\n{body}")
        }
        Step::Begin => "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                        transfer-encoding: chunked\r\n\r\n"
            .to_owned(),
        Step::Raw(text) => format!("{:x}\r\n{text}\r\n", text.len()),
        Step::Bytes(bytes) => {
            let head = format!("{:x}\r\n", bytes.len());
            let whole = [head.as_bytes(), &bytes, b"\r\n"].concat();
            return stream.get_mut().write_all(&whole).await.is_ok();
        }
        Step::End => "0\r\n\r\n".to_owned(),
        Step::Gate => {
            shared.gate.notified().await;
            return true;
        }
        Step::Pause(pause) => {
            tokio::time::sleep(pause).await;
            return true;
        }
        Step::Cut => return false,
        Step::UntilHungUp => {
            let mut rest = Vec::new();
            // A reset is an end as well.
            let _ = stream.read_to_end(&mut rest).await;
            assert!(rest.is_empty(), "more than one request at once");
            shared.hung_up.send(()).unwrap();
            return false;
        }
    };
    stream.get_mut().write_all(text.as_bytes()).await.is_ok()
}

async fn read_request(stream: &mut BufReader<TcpStream>, connection: usize) -> Option<Request> {
    let mut line = String::new();
    if stream.read_line(&mut line).await.ok()? == 0 {
        return None;
    }
    let path = line.split(' ').nth(1).unwrap().to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length =
        headers.iter().find(|(name, _)| name == "content-length").unwrap().1.parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let text = String::from_utf8(body).unwrap();
    Some(Request { path, headers, body: serde_json::from_str(&text).unwrap(), text, connection })
}

/// An address where nobody listens, nor anybody else can, while the socket is there.
pub(crate) fn nobody() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// An event of the stream.
pub(crate) fn event(data: &Value) -> Step {
    Step::Raw(format!("data: {data}\n\n"))
}

/// A piece of the answer.
pub(crate) fn delta(text: &str) -> Step {
    event(&json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]}))
}

/// The end of the answer.
pub(crate) fn finish(reason: &str) -> Step {
    event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}))
}

pub(crate) fn done() -> Step {
    Step::Raw("data: [DONE]\n\n".to_owned())
}

/// A whole answer as hosted servers give it.
pub(crate) fn answer(pieces: &[&str]) -> Vec<Step> {
    let role = json!({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]});
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}});
    let mut steps = vec![Step::Begin, event(&role)];
    steps.extend(pieces.iter().map(|piece| delta(piece)));
    steps.extend([finish("stop"), event(&usage), done(), Step::End]);
    steps
}

/// An answer that says `words` and wants calls: name, tool, arguments.
pub(crate) fn calls(words: &str, calls: &[(&str, &str, &str)]) -> Vec<Step> {
    let mut steps = vec![Step::Begin];
    if !words.is_empty() {
        steps.push(delta(words));
    }
    for (index, (id, tool, arguments)) in calls.iter().enumerate() {
        // In two pieces, as they come.
        let begun = json!({"name": tool, "arguments": ""});
        let more = json!({"arguments": arguments});
        for piece in [
            json!({"index": index, "id": id, "type": "function", "function": begun}),
            json!({"index": index, "function": more}),
        ] {
            let delta = json!({"tool_calls": [piece]});
            steps.push(event(&json!({"choices": [{"index": 0, "delta": delta}]})));
        }
    }
    steps.extend([finish("tool_calls"), done(), Step::End]);
    steps
}

/// An error as OpenAI words it.
pub(crate) fn refusal(status: u16, headers: &[(&'static str, &str)], message: &str) -> Vec<Step> {
    let body = json!({"error": {"message": message, "type": "some_error", "code": null}});
    let mut all = vec![("content-type", "application/json".to_owned())];
    all.extend(headers.iter().map(|(name, value)| (*name, (*value).to_owned())));
    vec![Step::Respond(status, all, body.to_string())]
}

/// How long an agent lets its server be silent in [`silence`].
pub(crate) const SILENCE: Duration = Duration::from_secs(60);

/// What comes of a turn with this server, whose agent has said this before it falls silent. The clock
/// runs freely once the server has the request, so that silence costs no time.
pub(crate) async fn silence<A: Agent>(
    script: Vec<Step>,
    said: &str,
    agent: impl FnOnce(&Server) -> A,
) -> Result<String, RunFailure> {
    let server = Server::start([script]).await;
    let handle = FakeHandle::new();
    let agent = agent(&server);
    let meanwhile = async {
        server.until_requests(1).await;
        handle.until_said(said).await;
        tokio::time::pause();
        Instant::now()
    };
    let (ended, paused) = tokio::join!(agent.run(handle.turn(&["hi"])), meanwhile);
    let waited = paused.elapsed();
    tokio::time::resume();
    if ended.is_err() {
        let second = Duration::from_secs(1);
        assert!(waited > SILENCE - second && waited < SILENCE + second, "{waited:?}");
    }
    ended.map(|finished| finished.reply.unwrap().to_string())
}
