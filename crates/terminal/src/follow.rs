//! Streams that outlive their connections: what is lost is tried again, behind the last event that
//! came, so that nothing is missed and nothing comes twice.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use crate::ports::{Failure, Server, SseEvent};

/// The pause before a lost stream is tried again; doubled for each try that fails.
pub(crate) const PAUSE_MIN: Duration = Duration::from_millis(250);
/// It grows to this.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What a stream tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It stands, for the first time or again.
    Stands,
    /// Something happened.
    Event(SseEvent),
    /// It is lost, and tried again in a moment.
    Lost {
        /// What went wrong.
        why: String,
        /// In how many milliseconds it is tried again.
        retry_ms: u64,
    },
    /// It was refused, and is not tried again.
    Refused(Failure),
}

/// A stream that is followed until this goes.
pub(crate) struct Following(AbortHandle);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One server whose streams know of each other: where one stands again, the others are tried at once.
#[derive(Clone)]
pub(crate) struct Streams {
    server: Arc<dyn Server>,
    reachable: Arc<Notify>,
}

impl Streams {
    pub(crate) fn new(server: Arc<dyn Server>) -> Self {
        Self { server, reachable: Arc::new(Notify::new()) }
    }

    /// Follows what `path` streams behind an event, or from where it begins by itself.
    pub(crate) fn follow<T: Send + 'static>(
        &self,
        path: String,
        behind: Option<String>,
        to: mpsc::Sender<T>,
        tell: impl Fn(Told) -> T + Send + Sync + 'static,
    ) -> Following {
        let streams = self.clone();
        let task = tokio::spawn(async move {
            // An error means that nobody listens any more.
            let _ = streams.keep(&path, behind, &to, &tell).await;
        });
        Following(task.abort_handle())
    }

    async fn keep<T: Send>(
        &self,
        path: &str,
        mut last: Option<String>,
        to: &mpsc::Sender<T>,
        tell: &(impl Fn(Told) -> T + Send + Sync),
    ) -> Result<(), mpsc::error::SendError<T>> {
        let mut pause = PAUSE_MIN;
        loop {
            let failure = match self.server.stream(path.to_owned(), last.clone()).await {
                Ok(mut events) => {
                    to.send(tell(Told::Stands)).await?;
                    self.reachable.notify_waiters();
                    loop {
                        match events.next().await {
                            Some(Ok(event)) => {
                                pause = PAUSE_MIN;
                                note(&mut last, &event);
                                to.send(tell(Told::Event(event))).await?;
                            }
                            Some(Err(failure)) => break failure,
                            None => break Failure::Unreachable("the server ended it".into()),
                        }
                    }
                }
                Err(failure) => failure,
            };
            if !passes(&failure) {
                return to.send(tell(Told::Refused(failure))).await;
            }
            let retry_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            to.send(tell(Told::Lost { why: failure.to_string(), retry_ms })).await?;
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
                () = self.reachable.notified() => pause = PAUSE_MIN,
            }
        }
    }
}

/// Whether it may go by: nobody there, or somebody who is busy or ending.
pub(crate) fn passes(failure: &Failure) -> bool {
    match failure {
        Failure::Unreachable(_) => true,
        Failure::Refused { status, .. } => matches!(status, 408 | 429 | 500..),
        Failure::Strange(_) | Failure::File(_) => false,
    }
}

/// Keeps the place behind which the stream is taken up again. A `reset` says where that is now: what
/// was known of the journal doesn't hold, and it goes on behind its end, or where it begins.
fn note(last: &mut Option<String>, event: &SseEvent) {
    if let Some(id) = &event.id {
        *last = Some(id.clone());
    } else if event.event == "reset" {
        let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
        let first = data["first_seq"].as_u64().map(|first| first.saturating_sub(1));
        *last = first.or_else(|| data["last_seq"].as_u64()).map(|place| place.to_string());
    }
}

#[cfg(test)]
mod tests;
