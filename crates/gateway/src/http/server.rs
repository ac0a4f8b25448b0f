//! The accept loop: takes connections, holds them to their limits, and ends them at the shutdown.
//!
//! The shutdown comes after the gateway's drain, during which readiness can still be asked for and
//! whoever waits for a running turn gets his answer. Then no connection is accepted any more, every
//! stream and every wait ends, an idle connection is closed at once and a busy one after its
//! answer. What is still open after [`CLOSE_WITHIN`] is dropped.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::caps::{Caps, Seat};
use super::entry::Entry;
use super::patient::Patient;
use super::settings::Http;

/// Longest request head, in bytes.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// What is buffered of one connection in each direction, in bytes.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// The pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Refused connections that are told so at once; more of them are just closed.
const REFUSALS_MAX: usize = 64;
/// How long a refused connection is kept for its peer to read why.
const REFUSAL_LINGER: Duration = Duration::from_secs(1);
/// How long connections may go on after the shutdown.
const CLOSE_WITHIN: Duration = Duration::from_secs(3);

/// Serves the API over TCP until `shutdown`; returns once the connections have ended.
pub async fn serve(http: Http, listener: TcpListener, shutdown: CancellationToken) {
    run(http, listener, shutdown).await;
}

/// Serves the API over a unix socket until `shutdown`; returns once the connections have ended.
pub async fn serve_unix(http: Http, listener: UnixListener, shutdown: CancellationToken) {
    run(http, listener, shutdown).await;
}

/// Where connections come in.
trait Door {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection and whom it is from; safe to be cancelled.
    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<IpAddr>)>> + Send;
}

impl Door for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<(TcpStream, Option<IpAddr>)> {
        let (stream, address) = self.accept().await?;
        // An answer is one write; waiting for a fuller packet would only delay it.
        let _ = stream.set_nodelay(true);
        Ok((stream, Some(address.ip())))
    }
}

impl Door for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<(UnixStream, Option<IpAddr>)> {
        Ok((self.accept().await?.0, None))
    }
}

async fn run<D: Door>(http: Http, door: D, shutdown: CancellationToken) {
    let settings = http.settings.now();
    let caps = Arc::new(Caps::new(settings.connections_max, settings.connections_per_address_max));
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    let entry = Arc::new(Entry::new(http, shutdown.clone()));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX);
    let conversations = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = door.next() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                rest_after(&error).await;
                continue;
            }
        };
        match caps.take(address) {
            Some(seat) => {
                let stream = Patient::new(stream, settings.write_timeout);
                let closing = shutdown.child_token();
                let conversation =
                    converse(stream, builder.clone(), Arc::clone(&entry), closing, address, seat);
                conversations.spawn(conversation);
            }
            None => {
                if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
                    conversations.spawn(async move {
                        let _ = tokio::time::timeout(REFUSAL_LINGER, refuse(stream)).await;
                        drop(permit);
                    });
                }
            }
        }
    }
    drop(door);
    conversations.close();
    conversations.wait().await;
}

/// One connection, from its first request to its end.
async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: Patient<S>,
    builder: http1::Builder,
    entry: Arc<Entry>,
    closing: CancellationToken,
    peer: Option<IpAddr>,
    _seat: Seat,
) {
    // Each connection has a token of its own, so that polling it contends with nobody.
    let service_closing = closing.clone();
    let service = service_fn(move |request| {
        let (entry, closing) = (Arc::clone(&entry), service_closing.clone());
        async move { Ok::<_, Infallible>(entry.answer(request, &closing, peer).await) }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => Some(ended),
        () = closing.cancelled() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(CLOSE_WITHIN, connection).await {
                Ok(ended) => ended,
                Err(_) => return tracing::debug!("a connection outlived the shutdown"),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

/// Says that there are too many connections, and waits until the peer has had it.
async fn refuse(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    const BODY: &str = concat!(
        r#"{"type":"urn:turnkeep:problem:too-many-connections","title":"Too many connections","#,
        r#""status":503,"detail":"too many connections are open; try again later","#,
        r#""retry_after_s":1}"#
    );
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
         content-length: {}\r\nretry-after: 1\r\nconnection: close\r\n\r\n{BODY}",
        BODY.len()
    );
    if stream.write_all(head.as_bytes()).await.is_err() || stream.shutdown().await.is_err() {
        return;
    }
    let mut scratch = [0; 1024];
    while stream.read(&mut scratch).await.is_ok_and(|read| read > 0) {}
}

/// A failed accept ends nothing: some concern only the one connection, the others pass.
async fn rest_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
    {
        return;
    }
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}
