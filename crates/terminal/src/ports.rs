//! What the terminal hears, what it wants done, and what it needs of a server.
//!
//! The app is pure: everything that happens reaches it as an [`Incoming`], with the time, and it
//! answers with [`Effect`]s. Whoever runs it keeps these rules:
//!
//! - Effects are acted on in their order. Requests may be answered in any order, each exactly once
//!   (an [`Incoming::Answer`] with the tag of its request), also where the server can't be reached.
//! - Requests are never sent twice by the runner. The app sends a message again itself, under the
//!   same id, once the server is back.
//! - One session is followed at a time; [`Effect::Follow`] ends the one before. A stream that broke
//!   is taken up again by the runner behind the last `id` that it passed on, and each time that it
//!   stands [`Incoming::Following`] says so before its first event.

use std::pin::Pin;

use futures_util::Stream;
use serde_json::Value;

/// An answer that comes later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Events of a server, until its connection ends.
pub type Events = Pin<Box<dyn Stream<Item = Result<SseEvent, Failure>> + Send>>;

/// A server, as the terminal needs it: the HTTP API, however it is reached.
pub trait Server: Send + Sync {
    /// Sends one request. A status that is no success is a [`Failure::Refused`].
    fn request(&self, request: Request) -> Later<'_, Result<Answer, Failure>>;

    /// Opens a stream of events, behind this one where one is named. It stands once this answers;
    /// behind a failure nothing comes.
    fn stream(
        &self,
        path: String,
        last_event_id: Option<String>,
    ) -> Later<'_, Result<Events, Failure>>;

    /// Writes what `GET path` answers into a new file; the answer's body is `{"bytes": N}`.
    fn save(&self, path: String, file: String) -> Later<'_, Result<Answer, Failure>>;

    /// Sends what a file holds with `POST path`.
    fn load(&self, path: String, file: String) -> Later<'_, Result<Answer, Failure>>;

    /// Where it is, for people: a path or a URL.
    fn place(&self) -> String;
}

/// How a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Does something.
    Post,
    /// Sets something.
    Put,
}

/// One request to the API.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// How.
    pub method: Method,
    /// Path and query, encoded.
    pub path: String,
    /// What is sent along, as JSON.
    pub body: Option<Value>,
}

impl Request {
    /// Whether it stops a turn that it names, so that it may overtake everything: it can't stop
    /// another one than is meant.
    pub(crate) fn stops_one_turn(&self) -> bool {
        let names_one = self.body.as_ref().is_some_and(|body| body["turn_id"].is_string());
        names_one && self.path.ends_with("/stop")
    }
}

/// What a server answered, with a status that is a success.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body; null where there is none.
    pub body: Value,
}

/// Why there is no answer, cut by what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nobody is there, or the connection was lost: worth trying again.
    #[error("{0}")]
    Unreachable(String),
    /// The server said no.
    #[error("{detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The last part of the problem's `type`, such as `name_taken`; empty where there is none.
        kind: String,
        /// The sentence for people.
        detail: String,
    },
    /// Something answered that this client doesn't understand: another version, or no Turnkeep.
    #[error("{0}")]
    Strange(String),
    /// A file of this machine could not be read or written.
    #[error("{0}")]
    File(String),
}

/// One event of a stream, as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// The `id` line, if the event has one.
    pub id: Option<String>,
    /// The `event` line; empty where there is none.
    pub event: String,
    /// The `data` lines, joined by line breaks.
    pub data: String,
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// A key, a paste, the mouse, a new size, the focus: as the terminal tells it.
    Terminal(ratatui_crossterm::crossterm::event::Event),
    /// Time went by. Once every [`TICK_MS`] is enough.
    Tick,
    /// The server can be reached, or not. Told when it changes, and on each failed attempt.
    Link(Link),
    /// An event of the switchboard's stream.
    Board(SseEvent),
    /// The stream of the followed session stands, for the first time or again.
    Following(String),
    /// An event of the followed session's stream.
    Session {
        /// Whose stream it is.
        session: String,
        /// The event.
        event: SseEvent,
    },
    /// The stream of the followed session was refused, so it is not tried again.
    Unfollowed {
        /// Whose stream it was.
        session: String,
        /// Why.
        failure: Failure,
    },
    /// What came of a request, a save or a load.
    Answer {
        /// The tag that the effect had.
        tag: u64,
        /// What came of it.
        result: Result<Answer, Failure>,
    },
    /// The process was told to end (a signal): say goodbye.
    Ending,
}

/// How often [`Incoming::Tick`] comes.
pub const TICK_MS: u64 = 250;

/// Whether the server can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// It is tried for the first time.
    Connecting,
    /// The switchboard's stream stands.
    Up,
    /// It is lost, and tried again in a moment.
    Down {
        /// What went wrong.
        why: String,
        /// In how many milliseconds it is tried again.
        retry_ms: u64,
    },
    /// It will not be tried again: no key, no right, another version.
    Refused {
        /// What went wrong.
        why: String,
    },
}

/// What the app wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send this, and tell the answer.
    Send {
        /// Names the answer.
        tag: u64,
        /// What to send.
        request: Request,
    },
    /// Follow this session's events behind a place of its journal; what was followed no longer is.
    Follow {
        /// The session's key.
        session: String,
        /// The place behind which it begins.
        after: u64,
    },
    /// Follow nobody.
    Unfollow,
    /// Write what `GET path` answers into a file; the answer's body is `{"bytes": N}`. A file that
    /// is there already is not written over.
    Save {
        /// Names the answer.
        tag: u64,
        /// Path and query, encoded.
        path: String,
        /// Where to write it, as it was typed.
        file: String,
    },
    /// Send a file's content with `POST path`; the answer is the server's.
    Load {
        /// Names the answer.
        tag: u64,
        /// Path and query, encoded.
        path: String,
        /// What to read, as it was typed.
        file: String,
    },
    /// Ring the terminal's bell.
    Bell,
    /// Show a notification on the desktop, through the terminal. The text holds nothing that could
    /// steer one.
    Notify(String),
    /// Draw everything anew, also what should stand there already.
    Redraw,
    /// Leave.
    Quit,
}

/// What a person chose at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The name of this place of watching.
    pub seat: String,
    /// The session to show first, as it was typed; else the seat's active one.
    pub session: Option<String>,
    /// Whether colours are used. Everything is told without them too.
    pub color: bool,
    /// Whether the mouse is heard.
    pub mouse: bool,
    /// Whether the bell rings when a session begins to wait.
    pub bell: bool,
    /// Whether the desktop is told when a session begins to wait.
    pub notify: bool,
    /// Where the server is, for people.
    pub place: String,
    /// Begins the ids of the messages of this run; nobody else may have it.
    pub nonce: String,
    /// How far local time is from UTC.
    pub utc_offset_s: i32,
}
