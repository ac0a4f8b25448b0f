//! The events of an answer, one after the other, each of bounded length.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use reqwest::Response;
use sse_stream::{Sse, SseStream};
use tokio::time::{Instant, timeout};

use super::server::Server;
use super::words::beneath;
use crate::model::provider::ProviderError;

/// After the answer is complete, how long its last words and the end of the stream are waited for.
/// The end lets the connection be used again.
const TAIL: Duration = Duration::from_millis(500);
/// Events of those last words that are read.
const TAIL_EVENTS_MAX: usize = 32;
/// How often comments are told as a sign of life: others have limits of silence, too.
const LIFE_STEP: Duration = Duration::from_secs(10);

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// An event's data; empty where it has none.
    Data(String),
    /// Comments are what servers send to keep a connection alive; they are no events.
    Life,
    /// The stream ended.
    End,
}

/// An answer on its way. Dropping it closes the connection.
pub(crate) struct Events<'a> {
    stream: Pin<Box<dyn Stream<Item = Result<Sse, sse_stream::Error>> + Send>>,
    server: &'a Server,
    /// Bytes that came since the last whole event: what the parser may be holding.
    held: Arc<AtomicUsize>,
}

impl<'a> Events<'a> {
    pub(super) fn new(response: Response, server: &'a Server) -> Self {
        let held = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&held);
        let limit = server.event_bytes_max;
        let body = response.bytes_stream().map(move |chunk| {
            let chunk = chunk.map_err(BodyError::Transport)?;
            let before = counter.fetch_add(chunk.len(), Ordering::Relaxed);
            if before.saturating_add(chunk.len()) > limit {
                Err(BodyError::TooLong)
            } else {
                Ok(chunk)
            }
        });
        Self { stream: Box::pin(SseStream::from_bytes_stream(Box::pin(body))), server, held }
    }

    /// What comes next. May be dropped and called again.
    ///
    /// # Errors
    /// The stream broke, is none, or is silent for too long.
    pub(crate) async fn next(&mut self) -> Result<Heard, ProviderError> {
        let (held, begun) = (self.held.load(Ordering::Relaxed), Instant::now());
        let event = loop {
            let left = self.server.silence.saturating_sub(begun.elapsed());
            match timeout(left.min(LIFE_STEP), self.stream.next()).await {
                Ok(Some(Ok(event))) => break event,
                Ok(Some(Err(error))) => return Err(self.trouble(&error)),
                Ok(None) => return Ok(Heard::End),
                Err(_) if self.held.load(Ordering::Relaxed) > held => return Ok(Heard::Life),
                Err(_) if begun.elapsed() >= self.server.silence => {
                    return Err(self.server.silent());
                }
                Err(_) => {}
            }
        };
        self.held.store(0, Ordering::Relaxed);
        Ok(Heard::Data(event.data.unwrap_or_default()))
    }

    /// Hears what comes behind a complete answer: for a short while in all, a few events, and
    /// however it ends.
    pub(crate) async fn tail(&mut self, mut hear: impl FnMut(&str)) {
        let tail = async {
            for _ in 0..TAIL_EVENTS_MAX {
                let Some(Ok(event)) = self.stream.next().await else { return };
                self.held.store(0, Ordering::Relaxed);
                hear(&event.data.unwrap_or_default());
            }
        };
        // Whatever is not said by then is not needed.
        let _ = timeout(TAIL, tail).await;
    }

    fn trouble(&self, error: &sse_stream::Error) -> ProviderError {
        let sse_stream::Error::Body(body) = error else {
            return self.server.broken("the provider sent something that is no event stream");
        };
        match body.downcast_ref::<BodyError>() {
            Some(BodyError::TooLong) => ProviderError::Refused(format!(
                "the provider sent an event of more than {} bytes",
                self.server.event_bytes_max
            )),
            Some(BodyError::Transport(error)) => {
                let error = beneath(error);
                self.server.broken(&format!("the provider's answer was cut off: {error}"))
            }
            None => self.server.broken("the provider's answer was cut off"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum BodyError {
    #[error("the connection broke")]
    Transport(#[source] reqwest::Error),
    #[error("the event is too long")]
    TooLong,
}
