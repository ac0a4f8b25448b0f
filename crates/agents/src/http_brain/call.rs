//! The POSTs of one attempt: named, and tried again where that may help.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use reqwest::Response;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use turnkeep_core::ids::TurnId;
use turnkeep_core::ports::agent::{Open, OpenGuard, TurnContext, TurnHandle};
use turnkeep_core::session::input::RunFailure;

use super::post::{Poster, Trouble};

/// How often something is told before the attempt is lost.
const TELLS_MAX: u32 = 5;
/// How often a broken stream is resumed without a new event.
const RESUMES_MAX: u32 = 5;
/// The longest pause that a server can ask for in the middle of an attempt.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long the brain is told that an attempt is over, and how many such words are under way.
const FAREWELL_TIME: Duration = Duration::from_secs(5);
pub(super) const FAREWELLS_MAX: usize = 64;

/// What the gateway says beside the turn itself.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Word {
    Resume { turn_id: TurnId, attempt: u32, last_event_id: u64 },
    Cancelled { turn_id: TurnId, attempt: u32 },
}

impl Word {
    fn text(&self) -> String {
        // Our own types always print.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A stream that answers; its connection counts as open for the session.
pub(super) struct Stream {
    pub(super) response: Response,
    _connection: Box<dyn OpenGuard>,
}

/// One attempt's way to its brain.
pub(super) struct Call {
    poster: Arc<Poster>,
    handle: Arc<dyn TurnHandle>,
    turn: TurnId,
    attempt: u32,
    trace: Option<String>,
    /// POSTs with names of their own so far.
    posts: AtomicU32,
}

impl Call {
    pub(super) fn new(poster: &Arc<Poster>, context: &TurnContext) -> Self {
        Self {
            poster: Arc::clone(poster),
            handle: Arc::clone(&context.handle),
            turn: context.tag.turn,
            attempt: context.tag.attempt.0,
            // Not what vendors noted on the way here: the brain may be a stranger to them.
            trace: context.handle.trace().map(|span| span.traceparent()),
            posts: AtomicU32::new(0),
        }
    }

    /// A name for the next POST.
    fn name(&self) -> String {
        let number = self.posts.fetch_add(1, Ordering::Relaxed) + 1;
        format!("turn_{}_{}_{number}", self.turn, self.attempt)
    }

    /// Begins the attempt. Never tried again: nobody can say whether the brain has begun.
    pub(super) async fn begin(&self, turn: String) -> Result<Stream, Trouble> {
        self.open(turn).await
    }

    async fn open(&self, word: String) -> Result<Stream, Trouble> {
        let connection = self.connection();
        let response = self.poster.open(&self.name(), word, self.trace.as_deref()).await?;
        Ok(Stream { response, _connection: connection })
    }

    fn connection(&self) -> Box<dyn OpenGuard> {
        self.handle.opened(Open::Here(1))
    }

    /// Goes on behind this event.
    pub(super) async fn resume(&self, last_event_id: u64) -> Result<Stream, Trouble> {
        let (turn_id, attempt) = (self.turn, self.attempt);
        let word = Word::Resume { turn_id, attempt, last_event_id };
        self.open(word.text()).await
    }

    /// More tries to resume the stream.
    pub(super) fn resumes(&self) -> Tries {
        Tries { what: RESUMING, left: RESUMES_MAX, pause: self.poster.retry_pause }
    }

    /// Tells these objects, of which the first has this number.
    pub(super) async fn tell(&self, first: u64, objects: &[String]) -> Result<(), RunFailure> {
        let body = format!(
            "{{\"type\":\"told\",\"turn_id\":\"{}\",\"attempt\":{},\"first\":{first},\"objects\":[{}]}}",
            self.turn,
            self.attempt,
            objects.join(",")
        );
        let name = self.name();
        let mut tries =
            Tries { what: TELLING, left: TELLS_MAX - 1, pause: self.poster.retry_pause };
        loop {
            let connection = self.connection();
            let told = self.poster.hand_over(&name, body.clone(), self.trace.as_deref()).await;
            drop(connection);
            let Err(trouble) = told else { return Ok(()) };
            if !trouble.passes() {
                let retry = trouble.knows_no_turn();
                return Err(trouble.during(TELLING).failure(retry));
            }
            tries.again(trouble).await?;
        }
    }
}

/// What an attempt may be lost over.
const TELLING: &str = "it was told something";
const RESUMING: &str = "its stream was resumed";

/// More tries of one thing.
pub(super) struct Tries {
    what: &'static str,
    left: u32,
    pause: Duration,
}

impl Tries {
    /// Waits until it may be tried again.
    ///
    /// # Errors
    /// It was tried often enough, or is unwelcome for too long: the attempt is lost.
    pub(super) async fn again(&mut self, trouble: Trouble) -> Result<(), RunFailure> {
        let wanted = trouble.retry_after.unwrap_or_default();
        if self.left == 0 || wanted > PAUSE_MAX {
            return Err(trouble.during(self.what).failure(true));
        }
        self.left -= 1;
        sleep(self.pause.max(wanted)).await;
        self.pause = self.pause.saturating_mul(2);
        Ok(())
    }
}

impl Trouble {
    fn during(mut self, what: &str) -> Self {
        self.error = format!("while {what}: {}", self.error);
        self
    }
}

/// Tells the brain that nobody listens any more, unless it ended the turn itself. That its connection
/// is closed is what counts; this reaches one that doesn't look.
pub(super) struct Farewell<'a> {
    call: &'a Call,
    under_way: &'a Arc<Semaphore>,
    needed: bool,
}

impl<'a> Farewell<'a> {
    pub(super) const fn new(call: &'a Call, under_way: &'a Arc<Semaphore>) -> Self {
        Self { call, under_way, needed: true }
    }

    pub(super) const fn is_needless(&mut self) {
        self.needed = false;
    }
}

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        let began = self.call.posts.load(Ordering::Relaxed) > 0;
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let Ok(permit) = Arc::clone(self.under_way).try_acquire_owned() else { return };
        if !self.needed || !began {
            return;
        }
        let Call { poster, turn, attempt, .. } = self.call;
        let (poster, name) = (Arc::clone(poster), self.call.name());
        let body = Word::Cancelled { turn_id: *turn, attempt: *attempt }.text();
        let trace = self.call.trace.clone();
        // Nobody waits for it: whoever cancels drops the attempt.
        runtime.spawn(async move {
            let _permit = permit;
            let _ = timeout(FAREWELL_TIME, poster.hand_over(&name, body, trace.as_deref())).await;
        });
    }
}
