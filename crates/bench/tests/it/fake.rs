//! A small server that speaks the contract, in memory and on a virtual clock, with
//! whatever trouble a test asks for.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::sync::watch;
use tokio::time::sleep;
use turnkeep_bench::{Dial, Plan};

/// How long a message takes to be accepted. Virtual time only moves while everybody waits,
/// so a flood that never had to wait would make it stand still.
const COMMIT: Duration = Duration::from_millis(1);

/// What goes wrong with a message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    None,
    /// 429 with a Retry-After in seconds.
    RateLimited(u64),
    /// 503 with nothing else.
    Unavailable,
    /// The connection closes before the answer.
    Cut,
    /// The connection closes within the answer.
    CutInAnswer,
    /// 200, but not JSON.
    Garbage,
    /// The turn takes this long.
    Slow(Duration),
    /// The turn fails.
    Fails,
    /// The wait runs out at once.
    WaitRunsOut,
    /// There is never an answer.
    Hangs,
}

/// A message as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) customer: String,
    pub(crate) body: Value,
    /// Counts this customer's messages from 1.
    pub(crate) number: u64,
}

type Plot = dyn Fn(&Message) -> Trouble + Send + Sync;

#[derive(Clone)]
pub(crate) struct Fake {
    delay: Duration,
    plot: Arc<Plot>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    open: HashMap<String, Turn>,
    numbers: HashMap<String, u64>,
    received: Vec<Message>,
    connections: u64,
    turns: u64,
    refuses_connections: bool,
}

#[derive(Clone)]
struct Turn {
    id: String,
    over: watch::Receiver<bool>,
}

impl Fake {
    pub(crate) fn new(delay_ms: u64) -> Self {
        Self::with(delay_ms, |_| Trouble::None)
    }

    pub(crate) fn with(
        delay_ms: u64,
        plot: impl Fn(&Message) -> Trouble + Send + Sync + 'static,
    ) -> Self {
        let delay = Duration::from_millis(delay_ms);
        Self { delay, plot: Arc::new(plot), state: Arc::default() }
    }

    /// The same server with another plot.
    pub(crate) fn plotting(
        self,
        plot: impl Fn(&Message) -> Trouble + Send + Sync + 'static,
    ) -> Self {
        Self { plot: Arc::new(plot), ..self }
    }

    pub(crate) fn received(&self) -> Vec<Message> {
        self.state.lock().unwrap().received.clone()
    }

    /// The names of all customers, without the run's prefix.
    pub(crate) fn customers(&self) -> BTreeSet<String> {
        self.received().into_iter().map(|message| message.customer).collect()
    }

    /// Those of the gauges not counted.
    pub(crate) fn connections(&self) -> u64 {
        self.state.lock().unwrap().connections - 2
    }

    pub(crate) fn refuse_connections(&self) {
        self.state.lock().unwrap().refuses_connections = true;
    }

    pub(crate) async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = service_fn(|request| self.clone().answer(request));
        // A connection that a test breaks on purpose ends in an error.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(self, request: Request<Incoming>) -> io::Result<Response<FakeBody>> {
        if request.uri().path() == "/metrics" {
            return Ok(respond(200, self.metrics().into()));
        }
        let wait = request.uri().query() == Some("wait=60");
        let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        let message = self.receive(serde_json::from_slice(&body)?);
        let delay = match (self.plot)(&message) {
            Trouble::None | Trouble::Fails | Trouble::WaitRunsOut => self.delay,
            Trouble::Slow(delay) => delay,
            Trouble::RateLimited(seconds) => {
                sleep(COMMIT).await;
                return Ok(rate_limited(seconds));
            }
            Trouble::Unavailable => return Ok(respond(503, Bytes::new())),
            Trouble::Cut => return Err(io::ErrorKind::ConnectionReset.into()),
            Trouble::CutInAnswer => return Ok(Response::new(FakeBody::Half)),
            Trouble::Garbage => return Ok(respond(200, "<html>".into())),
            Trouble::Hangs => std::future::pending().await,
        };
        let mut turn = self.join_turn(&message.customer, delay);
        let turn_id = turn.id;
        if !wait || matches!((self.plot)(&message), Trouble::WaitRunsOut) {
            sleep(COMMIT).await;
            let answer =
                json!({"status": "processing", "action": "event_sent", "turn_id": turn_id});
            return Ok(respond(202, answer.to_string().into()));
        }
        turn.over.wait_for(|over| *over).await.map_err(io::Error::other)?;
        let failed = matches!((self.plot)(&message), Trouble::Fails);
        let status = if failed { "failed" } else { "complete" };
        let answer = json!({"reply": "echo: \"x\"", "status": status, "turn_id": turn_id});
        Ok(respond(200, answer.to_string().into()))
    }

    fn receive(&self, body: Value) -> Message {
        let customer = body["customer_id"].as_str().unwrap().to_owned();
        let mut state = self.state.lock().unwrap();
        let number = state.numbers.entry(customer.clone()).or_default();
        *number += 1;
        let message = Message { number: *number, customer, body };
        state.received.push(message.clone());
        message
    }

    fn join_turn(&self, customer: &str, delay: Duration) -> Turn {
        let mut state = self.state.lock().unwrap();
        if let Some(turn) = state.open.get(customer) {
            return turn.clone();
        }
        state.turns += 1;
        let (sender, over) = watch::channel(false);
        let turn = Turn { id: format!("turn-{}", state.turns), over };
        state.open.insert(customer.to_owned(), turn.clone());
        let (fake, customer) = (self.clone(), customer.to_owned());
        tokio::spawn(async move {
            sleep(delay).await;
            fake.state.lock().unwrap().open.remove(&customer);
            let _ = sender.send(true);
        });
        turn
    }

    fn metrics(&self) -> String {
        let State { turns, .. } = &*self.state.lock().unwrap();
        format!(
            "turnkeep_store_fsyncs_total {turns}\n\
             turnkeep_store_commits_total{{kind=\"turn\"}} {}\n\
             turnkeep_store_batches_total {turns}\n\
             process_cpu_seconds_total {}\n\
             process_resident_memory_bytes 52428800\n",
            turns * 2,
            *turns as f64 * 0.00025,
        )
    }
}

impl Dial for Fake {
    type Stream = DuplexStream;

    async fn dial(&self) -> io::Result<DuplexStream> {
        let mut state = self.state.lock().unwrap();
        if state.refuses_connections {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        state.connections += 1;
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        tokio::spawn(self.clone().serve(theirs));
        Ok(ours)
    }

    fn name(&self) -> String {
        "fake:1".to_owned()
    }
}

fn rate_limited(seconds: u64) -> Response<FakeBody> {
    let problem = json!({
        "status": 429, "title": "Too many requests", "action": "rejected",
        "rejection_reason": "rate_limit_exceeded",
    });
    let mut response = respond(429, problem.to_string().into());
    response.headers_mut().insert("retry-after", seconds.into());
    response
}

fn respond(status: u16, body: Bytes) -> Response<FakeBody> {
    let mut response = Response::new(FakeBody::Whole(Some(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// A body that may break off.
pub(crate) enum FakeBody {
    Whole(Option<Bytes>),
    Half,
    /// The first half is on its way; only after a pause is it really sent.
    HalfSent,
    Broken,
}

impl Body for FakeBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(match &mut *self {
            Self::Whole(body) => body.take().map(|body| Ok(Frame::data(body))),
            Self::Half => {
                *self = Self::HalfSent;
                Some(Ok(Frame::data("{\"sta".into())))
            }
            Self::HalfSent => {
                *self = Self::Broken;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Self::Broken => Some(Err(io::ErrorKind::BrokenPipe.into())),
        })
    }
}

/// So many users, each with so many messages.
pub(crate) fn plan(users: usize, messages: u64) -> Plan {
    Plan {
        users,
        messages: Some(messages),
        delay_ms: 50,
        prefix: Some("u".to_owned()),
        progress: false,
        ..Plan::default()
    }
}
