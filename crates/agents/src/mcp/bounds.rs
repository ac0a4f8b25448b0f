//! What goes between a tool server and the SDK, within bounds: the SDK starts a task for whatever a
//! server asks and keeps each answer until it is written, so too much of that is not read at all.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use rmcp::RoleClient;
use rmcp::model::{JsonRpcMessage, RequestId, ServerNotification};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, sleep_until};

/// Requests of a server whose answers are not written yet.
const UNANSWERED_MAX: usize = 16;
/// What a server may say in a second that nobody asked for.
const UNASKED_MAX: u32 = 1000;
const SECOND: Duration = Duration::from_secs(1);

/// Resolves once the connection is gone.
pub(super) type Gone = oneshot::Receiver<Infallible>;

/// A transport over which a server can ask only so much, and whose end can be seen from outside.
pub(super) struct Bounded<T> {
    inner: T,
    /// For one more request each.
    room: Arc<Semaphore>,
    /// The room that each request takes until its answer is written.
    unanswered: HashMap<RequestId, OwnedSemaphorePermit>,
    /// When what follows began to be counted.
    since: Instant,
    unasked: u32,
    _alive: oneshot::Sender<Infallible>,
}

impl<T> Bounded<T> {
    pub(super) fn new(inner: T) -> (Self, Gone) {
        let (alive, gone) = oneshot::channel();
        let bounded = Self {
            inner,
            room: Arc::new(Semaphore::new(UNANSWERED_MAX)),
            unanswered: HashMap::new(),
            since: Instant::now(),
            unasked: 0,
            _alive: alive,
        };
        (bounded, gone)
    }

    fn count(&mut self) {
        if self.since.elapsed() >= SECOND {
            (self.since, self.unasked) = (Instant::now(), 0);
        }
        self.unasked += 1;
    }

    /// What the SDK is to hear of it.
    fn heard(
        &mut self,
        message: RxJsonRpcMessage<RoleClient>,
        room: OwnedSemaphorePermit,
    ) -> Option<RxJsonRpcMessage<RoleClient>> {
        match &message {
            JsonRpcMessage::Request(request) => {
                self.count();
                match self.unanswered.entry(request.id.clone()) {
                    // Two answers under one id would be no use to the server either.
                    Entry::Occupied(_) => return None,
                    Entry::Vacant(free) => free.insert(room),
                };
            }
            JsonRpcMessage::Notification(told) => {
                self.count();
                // Nobody listens to any other. Nor may a request be taken back: the SDK would not
                // answer it, and it would take its room for ever.
                let ServerNotification::ToolListChangedNotification(_) = told.notification else {
                    return None;
                };
            }
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => {}
        }
        Some(message)
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Bounded<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let answers = match &item {
            JsonRpcMessage::Response(response) => Some(&response.id),
            JsonRpcMessage::Error(error) => error.id.as_ref(),
            JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => None,
        };
        let room = answers.and_then(|id| self.unanswered.remove(id));
        let sent = self.inner.send(item);
        async move {
            let sent = sent.await;
            drop(room);
            sent
        }
    }

    /// Dropping the future loses nothing.
    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            if self.unasked >= UNASKED_MAX {
                sleep_until(self.since + SECOND).await;
            }
            let room = Arc::clone(&self.room).acquire_owned().await.ok()?;
            let message = self.inner.receive().await?;
            if let Some(message) = self.heard(message, room) {
                return Some(message);
            }
        }
    }

    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.inner.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::client::Client;
    use crate::mcp::connection::Hello;
    use crate::mcp::stdio::Stdio;
    use std::fmt::Write as _;
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, duplex};
    use tokio::sync::Notify;
    use tokio::time::timeout;

    /// Longer than anything takes that ends at all; the clock is not a real one.
    const LONG: Duration = Duration::from_secs(100_000);

    /// A server that said hello: what it says, and what it is told.
    struct Server {
        says: DuplexStream,
        told: BufReader<DuplexStream>,
        changed: Arc<Notify>,
    }

    async fn serve<T>(test: impl AsyncFnOnce(Server) -> T) -> T {
        let (says, stdout) = duplex(1024);
        let (stdin, told) = duplex(1024);
        let (bounded, _gone) = Bounded::new(Stdio::new(stdout, stdin));
        let changed = Arc::new(Notify::new());
        let client = Client { changed: Arc::clone(&changed) };
        let mut server = Server { says, told: BufReader::new(told), changed };
        let hello = async {
            assert_eq!(server.hears().await["method"], "initialize");
            let result = r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},
                "serverInfo":{"name":"s","version":"1"}}"#;
            let said = format!(r#"{{"jsonrpc":"2.0","id":0,"result":{result}}}"#);
            server.says(&(said.replace('\n', "") + "\n")).await;
            assert_eq!(server.hears().await["method"], "notifications/initialized");
        };
        let (service, ()) = tokio::join!(Hello::Initialize.say(client, bounded), hello);
        let _service = service.unwrap();
        timeout(2 * LONG, test(server)).await.expect("it hangs")
    }

    impl Server {
        async fn says(&mut self, text: &str) {
            self.says.write_all(text.as_bytes()).await.unwrap();
        }

        async fn hears(&mut self) -> serde_json::Value {
            let mut line = String::new();
            self.told.read_line(&mut line).await.unwrap();
            serde_json::from_str(&line).unwrap()
        }
    }

    fn pings(ids: std::ops::Range<u32>) -> String {
        let mut text = String::new();
        for id in ids {
            writeln!(text, r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#).unwrap();
        }
        text
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_reads_no_answers_is_not_read_either() {
        serve(async |mut server: Server| {
            // What waits between the two ends is far less than this.
            let flood = timeout(LONG, server.says(&pings(0..10_000))).await;
            assert!(flood.is_err(), "all of it was taken in");
            // It goes on once it reads.
            for id in 0..40 {
                assert_eq!(server.hears().await["id"], id);
            }
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_are_taken_back_or_asked_twice_keep_nobody_from_asking() {
        serve(async |server: Server| {
            let mut text = String::new();
            for id in 0..1000 {
                text += &pings(id..id + 1);
                text += &pings(id..id + 1);
                let back = format!(r#""params":{{"requestId":{id}}}}}"#);
                text += r#"{"jsonrpc":"2.0","method":"notifications/cancelled","#;
                text += &format!("{back}\n{}", pings(id + 10_000..id + 10_001));
            }
            let Server { mut says, mut told, .. } = server;
            let asks = async {
                says.write_all(text.as_bytes()).await.unwrap();
                says.write_all(pings(99_999..100_000).as_bytes()).await.unwrap();
            };
            let hears = async {
                let mut line = String::new();
                while !line.contains("99999") {
                    line.clear();
                    assert!(told.read_line(&mut line).await.unwrap() > 0, "it ended");
                }
            };
            let both = timeout(LONG, async { tokio::join!(asks, hears) }).await;
            assert!(both.is_ok(), "nobody reads any more");
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_asked_for_is_heard_at_a_bounded_rate() {
        serve(async |mut server: Server| {
            let begun = Instant::now();
            let logged = "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\
                          \"params\":{\"level\":\"info\",\"data\":1}}\n";
            let changed = "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n";
            server.says(&(logged.repeat(5 * UNASKED_MAX as usize) + changed)).await;
            server.changed.notified().await;
            // The clock moves only where somebody waits for it.
            assert_eq!(begun.elapsed().as_secs(), 5);
        })
        .await;
    }
}
