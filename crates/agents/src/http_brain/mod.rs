//! A brain that is a server of a team's own: signed POSTs, and what it says as an event stream.
//!
//! | module | its job |
//! | --- | --- |
//! | `sign` | signs what is posted |
//! | `post` | one POST, and how its answer is judged |
//! | `call` | the POSTs of one attempt: named, tried again, and the last word when nobody listens any more |
//! | `listen` | reads the stream, and resumes it where it breaks |
//! | `sse` | bytes become events, within limits |
//!
//! The protocol is [`brain`](crate::brain)'s. The gateway always connects to the brain: the turn is
//! posted and answered by a stream, what the brain is told meanwhile is posted beside it. A slot is
//! held while it works, and left to others while it waits for its user. **Dropping an attempt closes
//! its connection**; that is how a brain learns of its end, whatever else it may be told.

mod call;
mod listen;
mod post;
mod sign;
mod sse;

#[cfg(test)]
mod fuzz;

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, WeakSender, channel};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::agent::{Agent, TurnContext};
use turnkeep_core::session::input::{Finished, RunFailure};

use crate::brain::{Ended, Events, Seat, UNREAD, UNREAD_MAX, pump};
use call::{Call, FAREWELLS_MAX, Farewell};
use listen::{Heard, listen};
use post::Poster;

/// Turns that may wait for their users, for each that may be worked on.
const WAITING_FACTOR: usize = 16;
/// What one attempt may say in all.
const OUTPUT_BYTES_MAX: usize = 64 << 20;
/// From here on what waits to be told is left to the next POST.
const TOLD_BYTES: usize = 1 << 20;
/// How long a brain that can't be told anything may take to finish: it may need to hear no more.
const DEAF_TIME: Duration = Duration::from_secs(2);

/// Which server, and how it is asked.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpBrainSettings {
    /// What the agent is called in errors; nothing if it is empty.
    pub name: String,
    /// Where everything is posted to.
    pub url: String,
    /// What is signed with, each of them: the bytes behind `whsec_`. At least one.
    pub secrets: Vec<Vec<u8>>,
    /// Turns that it may work on at once.
    pub connections_max: usize,
    /// How long a stream may take to begin.
    pub begin_timeout: Duration,
    /// Before something is tried again within an attempt; doubled for each later try.
    pub retry_pause: Duration,
}

impl HttpBrainSettings {
    /// The defaults for this server.
    #[must_use]
    pub fn new(url: impl Into<String>, secrets: Vec<Vec<u8>>) -> Self {
        Self {
            name: String::new(),
            url: url.into(),
            secrets,
            connections_max: 256,
            begin_timeout: Duration::from_secs(30),
            retry_pause: Duration::from_millis(250),
        }
    }
}

impl fmt::Debug for HttpBrainSettings {
    /// Without the secrets, and without the path, which may be one.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HttpBrainSettings")
            .field("connections_max", &self.connections_max)
            .finish_non_exhaustive()
    }
}

/// Why there is no agent.
#[derive(Debug, thiserror::Error)]
pub enum HttpBrainError {
    /// The address is none, or not one of `http` or `https`.
    #[error("the address is not one of http or https")]
    Address,
    /// Nobody could tell our POSTs from a stranger's.
    #[error("there is no secret to sign with")]
    NoSecret,
    /// Nobody chose how to speak TLS before.
    #[error("no TLS provider is installed in this process")]
    NoTlsProvider,
    /// The HTTP client can't be made.
    #[error("the HTTP client can't be made: {0}")]
    Client(String),
}

/// Answers with what a server says.
pub struct HttpBrainAgent {
    poster: Arc<Poster>,
    connections_max: usize,
    waiting: Semaphore,
    farewells: Arc<Semaphore>,
}

impl HttpBrainAgent {
    /// Nobody is asked before there is a turn.
    ///
    /// # Errors
    /// The settings are wrong, or no client can be made.
    pub fn new(settings: &HttpBrainSettings) -> Result<Self, HttpBrainError> {
        let connections_max = settings.connections_max;
        Ok(Self {
            poster: Arc::new(Poster::new(settings)?),
            connections_max,
            waiting: Semaphore::new(connections_max.saturating_mul(WAITING_FACTOR)),
            farewells: Arc::new(Semaphore::new(FAREWELLS_MAX)),
        })
    }

    async fn answer(&self, context: &TurnContext) -> Result<Finished, RunFailure> {
        let seat = Seat::take(&*context.handle, &self.waiting).await;
        let call = Call::new(&self.poster, context);
        let mut farewell = Farewell::new(&call, &self.farewells);
        let (told, unread) = channel(UNREAD_MAX);
        let (heard, said) = channel(1);
        let wanted = told.downgrade();
        let mut said = Said(said);
        let mut works = pin!(pump(context, &seat, &mut said, told));
        let mut carries = pin!(carry(&call, unread, heard, &wanted));
        let mut lost = None;
        let mut carrying = true;
        let ended = loop {
            tokio::select! {
                biased;
                ended = &mut works => break ended,
                // It may have finished all the same: what it said last is looked at first.
                carried = &mut carries, if carrying => {
                    carrying = false;
                    lost = carried.err();
                }
            }
        };
        match ended {
            Ok(finished) => {
                farewell.is_needless();
                Ok(finished)
            }
            Err(Ended::SaidFailed(failure)) => {
                farewell.is_needless();
                Err(failure)
            }
            Err(Ended::Failed(failure)) => Err(failure),
            // The network may be what holds it up.
            Err(Ended::Unread) => Err(self.named(RunFailure {
                error: format!("the brain is lost: {UNREAD}").into(),
                retry: true,
                retry_after_ms: None,
            })),
            Err(Ended::Silent) => Err(self.named(lost.unwrap_or_else(|| RunFailure {
                error: "the brain ended before it had finished".into(),
                retry: true,
                retry_after_ms: None,
            }))),
        }
    }

    /// With who it is about: what is wrong with a server or on the way to it is mended there.
    fn named(&self, failure: RunFailure) -> RunFailure {
        RunFailure { error: format!("{}: {}", self.poster.whom, failure.error).into(), ..failure }
    }
}

impl fmt::Debug for HttpBrainAgent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HttpBrainAgent")
            .field("connections_max", &self.connections_max)
            .finish_non_exhaustive()
    }
}

/// Where the pump hears the brain. A stream that is lost ends here; why is [`carry`]'s to say.
struct Said(Receiver<Result<Vec<u8>, String>>);

impl Events for Said {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, String> {
        self.0.recv().await.transpose()
    }
}

/// Carries everything both ways.
async fn carry(
    call: &Call,
    mut unread: Receiver<String>,
    heard: Heard,
    wanted: &WeakSender<String>,
) -> Result<(), RunFailure> {
    // The turn is the first of what is told.
    let Some(turn) = unread.recv().await else { return Ok(()) };
    let stream = call.begin(turn).await.map_err(|trouble| {
        let conflict = trouble.status == Some(reqwest::StatusCode::CONFLICT);
        let retry = trouble.passes() || conflict;
        trouble.failure(retry)
    })?;
    let over = Notify::new();
    let mut listens = pin!(listen(call, stream, heard, wanted, &over));
    let mut tells = pin!(tell(call, unread));
    tokio::select! {
        listened = &mut listens => return listened,
        told = &mut tells => if let Err(deaf) = told {
            // Whatever the stream says after this doesn't matter, if it doesn't say the end.
            let _ = timeout(DEAF_TIME, &mut listens).await;
            return Err(deaf);
        }
    }
    over.notify_one();
    listens.await
}

/// Tells the brain whatever there is, one POST at a time.
async fn tell(call: &Call, mut unread: Receiver<String>) -> Result<(), RunFailure> {
    let mut first = 1;
    while let Some(object) = unread.recv().await {
        let mut bytes = object.len();
        let mut objects = vec![object];
        while bytes < TOLD_BYTES && objects.len() < UNREAD_MAX {
            let Ok(object) = unread.try_recv() else { break };
            bytes += object.len();
            objects.push(object);
        }
        call.tell(first, &objects).await?;
        first += objects.len() as u64;
    }
    Ok(())
}

impl Agent for HttpBrainAgent {
    fn kind(&self) -> &'static str {
        "http"
    }

    fn run(&self, turn: TurnContext) -> BoxFuture<'_, Result<Finished, RunFailure>> {
        Box::pin(async move { self.answer(&turn).await })
    }

    fn slots(&self) -> Option<usize> {
        Some(self.connections_max)
    }
}
