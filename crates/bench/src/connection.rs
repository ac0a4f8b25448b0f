//! One kept-alive HTTP/1.1 connection, driven by the task that uses it.
//!
//! The usual arrangement, a task for the connection and one for its user, wakes two
//! tasks a request. Here the user's task polls the connection itself while it waits.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::RETRY_AFTER;
use hyper::http::request::Parts;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::Dial;
use crate::request::WAIT_S;

/// A larger answer is an error; replies are short, the counters some kilobytes.
const BODY_BYTES_MAX: usize = 4 << 20;

/// Opening a connection takes no longer, or there's nobody.
const DIAL_LIMIT: Duration = Duration::from_secs(10);

/// The server promises an answer within the wait; after this much more it's dead.
const REPLY_LIMIT: Duration = Duration::from_secs(WAIT_S + 15);

/// An answer with everything in it that a run looks at.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Bytes,
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    /// No connection could be opened; nothing was sent.
    #[error(transparent)]
    Dial(#[from] io::Error),
    /// The connection broke after the request was handed to it: its fate is unknown.
    #[error("connection lost")]
    Lost,
    /// No answer within the limit.
    #[error("no answer in time")]
    TooSlow,
    /// The answer was larger than the limit, or broken off.
    #[error("answer broken off")]
    Broken,
}

impl LineError {
    /// A short name to count by.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Dial(error) if is_out_of_files(error) => {
                "cannot connect: too many open files (raise `ulimit -n`)".to_owned()
            }
            Self::Dial(error) => format!("cannot connect: {}", error.kind()),
            Self::Lost | Self::TooSlow | Self::Broken => self.to_string(),
        }
    }
}

fn is_out_of_files(error: &io::Error) -> bool {
    // ENFILE and EMFILE, which have no error kind of their own.
    matches!(error.raw_os_error(), Some(23 | 24))
}

/// A connection that is reopened when it's needed and gone.
#[derive(Debug)]
pub(crate) struct Line<D: Dial> {
    dial: D,
    open: Option<Open<D::Stream>>,
    opened_before: bool,
}

impl<D: Dial> Line<D> {
    /// Nothing is opened yet.
    pub(crate) fn new(dial: D) -> Self {
        Self { dial, open: None, opened_before: false }
    }

    /// Whether the connection is usable *now*.
    pub(crate) async fn is_ready(&mut self) -> bool {
        match &mut self.open {
            Some(open) => open.is_usable().await,
            None => false,
        }
    }

    /// Opens a new connection; true if that's in place of one that was lost.
    pub(crate) async fn open(&mut self) -> Result<bool, LineError> {
        self.open = None;
        let stream = timeout(DIAL_LIMIT, self.dial.dial())
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        let mut open = Open::handshake(stream).await?;
        if !open.is_usable().await {
            return Err(LineError::Dial(io::ErrorKind::ConnectionReset.into()));
        }
        self.open = Some(open);
        Ok(std::mem::replace(&mut self.opened_before, true))
    }

    /// Sends one request and reads its reply to the end. Call [`Self::is_ready`] first.
    pub(crate) async fn send(&mut self, head: &Parts, body: Bytes) -> Result<Reply, LineError> {
        let Some(open) = &mut self.open else { return Err(LineError::Lost) };
        let request = Request::from_parts(head.clone(), Full::new(body));
        let result = match timeout(REPLY_LIMIT, open.exchange(request)).await {
            Ok(result) => result,
            Err(_) => Err(LineError::TooSlow),
        };
        if result.is_err() {
            self.open = None;
        }
        result
    }
}

type Body = Full<Bytes>;

#[derive(Debug)]
struct Open<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static> {
    sender: SendRequest<Body>,
    connection: Pin<Box<http1::Connection<TokioIo<S>, Body>>>,
    /// The connection's future is done and must not be polled again.
    is_over: bool,
}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static> Open<S> {
    async fn handshake(stream: S) -> Result<Self, LineError> {
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|_| LineError::Lost)?;
        Ok(Self { sender, connection: Box::pin(connection), is_over: false })
    }

    async fn is_usable(&mut self) -> bool {
        let Self { sender, connection, is_over } = self;
        matches!(drive(connection, is_over, sender.ready()).await, Some(Ok(())))
    }

    async fn exchange(&mut self, request: Request<Body>) -> Result<Reply, LineError> {
        let Self { sender, connection, is_over } = self;
        let response = drive(connection, is_over, sender.send_request(request)).await;
        let Some(Ok(response)) = response else { return Err(LineError::Lost) };
        let status = response.status();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect();
        match drive(connection, is_over, body).await {
            Some(Ok(body)) => Ok(Reply { status, retry_after, body: body.to_bytes() }),
            Some(Err(_)) | None => Err(LineError::Broken),
        }
    }
}

/// Waits for `work`, which the connection does; `None` if the connection ended first.
async fn drive<C, F>(connection: &mut Pin<Box<C>>, is_over: &mut bool, work: F) -> Option<F::Output>
where
    C: Future,
    F: Future,
{
    let mut work = pin!(work);
    poll_fn(|context| {
        if !*is_over {
            *is_over = connection.as_mut().poll(context).is_ready();
        }
        match work.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if *is_over => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
