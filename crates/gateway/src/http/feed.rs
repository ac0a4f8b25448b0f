//! A session's journal and drafts as a stream of server-sent events, pulled by the connection.
//!
//! Nothing is buffered for a slow reader: when it has taken what there was, the next piece is read
//! from the journal and the draft as they are then, so a slow one gets bigger pieces.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use futures_util::{Stream, stream};
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use turnkeep_core::SessionKey;
use turnkeep_core::ids::{Attempt, Seq, TurnId};
use turnkeep_core::journal::{Event, EventBody};
use turnkeep_core::ports::store::{Store, StoreError, TurnStatus};

use super::chat::SettledShape;
use crate::follow::{Settled, ending};
use crate::live::{Subscription, Tick};

/// Journal entries that are read at once.
const PAGE: usize = 32;
/// A piece that is longer than this waits for its reader before more is read, in bytes.
pub(super) const PIECE_BYTES_MAX: usize = 256 * 1024;
/// A silent stream says this often that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A message whose ending ends the stream.
pub(super) struct Until {
    pub(super) seq: Seq,
    pub(super) message_id: Arc<str>,
    pub(super) duplicate: bool,
}

/// One watcher's place in a session.
pub(super) struct Feed {
    store: Arc<dyn Store>,
    key: SessionKey,
    subscription: Subscription,
    /// The last journal entry that went out.
    after: Seq,
    /// There may be more in the journal.
    behind: bool,
    /// The draft that the watcher has, and how much of it.
    shown: Option<(TurnId, Attempt, usize)>,
    /// The last turn whose ending went out: its draft is over, even if it still lies around.
    ended: Option<TurnId>,
    tick: Tick,
    /// How often the session had been erased, as far as the watcher knows.
    anew: u32,
    typing: bool,
    until: Option<Until>,
    /// Nobody has looked yet whether the message that is waited for is there.
    unseen: bool,
    /// The watcher may see nothing but what answers its own message.
    narrow: bool,
    /// The watcher may not see what it costs.
    frugal: bool,
    /// The turn that the awaited message is part of; only its draft is a narrow watcher's.
    own: Option<TurnId>,
    /// What goes out before anything else.
    opening: Vec<u8>,
    done: bool,
}

/// What the watcher knows of the journal doesn't hold any more.
#[derive(Serialize)]
pub(super) struct Reset {
    /// Where the journal ends.
    pub(super) last_seq: Seq,
    /// Where it begins, if its beginning was forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_seq: Option<Seq>,
}

#[derive(Serialize)]
struct DraftShape<'a> {
    turn_id: TurnId,
    attempt: Attempt,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

#[derive(Serialize)]
struct TypingShape {
    on: bool,
}

impl Feed {
    /// A stream of everything behind `after`.
    pub(super) fn new(
        store: Arc<dyn Store>,
        key: SessionKey,
        subscription: Subscription,
        after: Seq,
    ) -> Self {
        Self {
            store,
            key,
            anew: subscription.anew(),
            subscription,
            after,
            behind: true,
            shown: None,
            ended: None,
            tick: Tick::default(),
            typing: false,
            until: None,
            unseen: false,
            narrow: false,
            frugal: false,
            own: None,
            opening: Vec::new(),
            done: false,
        }
    }

    /// For somebody who may write but not read: only drafts and questions of the turn that answers
    /// the awaited message, and how that ended. What others wrote and were answered stays in the
    /// journal.
    pub(super) fn narrowed(self) -> Self {
        Self { narrow: true, ..self }
    }

    /// For a customer: what the answers cost is not theirs to see.
    pub(super) fn without_use(self, yes: bool) -> Self {
        Self { frugal: yes, ..self }
    }

    fn may_show(&self, body: &EventBody) -> bool {
        if self.narrow {
            return matches!(body, EventBody::TurnWaitingForInput { turn_id, .. }
                if self.own == Some(*turn_id));
        }
        let of_use = matches!(body, EventBody::UsageRecorded { .. });
        !self.frugal || !of_use
    }

    /// Says something first.
    pub(super) fn open_with(&mut self, name: &str, data: &impl Serialize) {
        write_event(&mut self.opening, None, name, data);
    }

    /// Ends with the ending of one message, which is the first thing that it reads.
    pub(super) fn until(self, until: Until) -> Self {
        Self { until: Some(until), unseen: true, ..self }
    }

    /// The stream as an answer; it ends when `closing` is cancelled.
    pub(super) fn response(self, closing: CancellationToken) -> Response {
        let pieces = stream::unfold((self, closing), |(mut feed, closing)| async move {
            let piece = feed.next(&closing).await?;
            Some((Ok::<_, Infallible>(piece), (feed, closing)))
        });
        event_stream(pieces)
    }

    /// The next piece, as soon as there is one; none at the end.
    async fn next(&mut self, closing: &CancellationToken) -> Option<Bytes> {
        loop {
            if self.done {
                return None;
            }
            let mut out = std::mem::take(&mut self.opening);
            if closing.is_cancelled() {
                return (!out.is_empty()).then(|| out.into());
            }
            if self.behind
                && let Err(error) = self.read_journal(&mut out).await
            {
                // Whoever watches comes back with the number of the last entry it got.
                tracing::warn!(%error, session_key = %self.key, "a stream could not read the journal");
                return None;
            }
            if !self.behind && !self.done {
                self.read_draft(&mut out);
                self.read_typing(&mut out);
            }
            if !out.is_empty() {
                return Some(out.into());
            }
            if self.behind {
                continue;
            }
            self.tick = tokio::select! {
                biased;
                () = closing.cancelled() => return None,
                tick = self.subscription.changed() => tick,
                () = tokio::time::sleep(KEEP_ALIVE) => {
                    return Some(Bytes::from_static(b": alive\n\n"));
                }
            };
            self.behind = self.tick.last_seq > self.after;
            if self.anew != self.tick.anew {
                self.begin_anew();
            }
        }
    }

    /// The session was erased: places are counted from 1 again. Whoever waits for a message looks
    /// whether it is there, for it may have come after that.
    fn begin_anew(&mut self) {
        self.anew = self.tick.anew;
        (self.behind, self.shown, self.ended, self.own) = (true, None, None, None);
        self.unseen = self.until.is_some();
        self.after = match &self.until {
            Some(until) => Seq(until.seq.0.saturating_sub(1)),
            None => {
                self.open_with("reset", &Reset { last_seq: Seq(0), first_seq: None });
                Seq(0)
            }
        };
    }

    /// Whether this is the message that is waited for.
    fn is_awaited(&self, event: &Event) -> bool {
        self.until.as_ref().is_none_or(|until| {
            event.seq == until.seq && event.body.written_id() == Some(&until.message_id)
        })
    }

    /// It is forgotten. One that was open was cancelled for that; how the twin of an older one
    /// ended is not known any more.
    fn lose_awaited(&mut self, out: &mut Vec<u8>) {
        if self.until.as_ref().is_some_and(|until| until.duplicate) {
            let last_seq = self.tick.last_seq;
            write_event(out, None, "reset", &Reset { last_seq, first_seq: None });
            self.done = true;
            return;
        }
        self.end_with(out, &Settled::plain(TurnStatus::Cancelled, None));
    }

    fn end_with(&mut self, out: &mut Vec<u8>, settled: &Settled) {
        if let Some(Until { message_id, duplicate, .. }) = &self.until {
            let shape = SettledShape::new(self.key.as_str(), message_id, *duplicate, settled);
            write_event(out, None, "settled", &shape);
        }
        self.done = true;
    }

    /// Entries that the watcher has not got are gone.
    fn note_gap(&mut self, first: Seq, out: &mut Vec<u8>) {
        if self.after > Seq(0) && first > self.after.next() {
            let last_seq = self.tick.last_seq.max(first);
            write_event(out, None, "reset", &Reset { last_seq, first_seq: Some(first) });
        }
    }

    async fn read_journal(&mut self, out: &mut Vec<u8>) -> Result<(), StoreError> {
        let events = self.store.events(&self.key, self.after, PAGE).await?;
        self.behind = events.len() == PAGE;
        if std::mem::take(&mut self.unseen)
            && !events.first().is_some_and(|event| self.is_awaited(event))
        {
            self.lose_awaited(out);
            return Ok(());
        }
        if let Some(first) = events.first() {
            self.note_gap(first.seq, out);
        }
        for event in &events {
            self.after = event.seq;
            self.note_ended(&event.body);
            self.note_own(&event.body);
            if self.may_show(&event.body) {
                write_event(out, Some(event.seq), event.body.name(), event);
            }
            if let EventBody::TurnWaitingForOperator { turn_id, .. } = &event.body {
                self.drop_draft(*turn_id, out);
            }
            if let Some(settled) = self.settled_by(event) {
                self.end_with(out, &settled);
                return Ok(());
            }
            if out.len() >= PIECE_BYTES_MAX {
                self.behind = true;
                return Ok(());
            }
        }
        Ok(())
    }

    fn settled_by(&self, event: &Event) -> Option<Settled> {
        let until = self.until.as_ref()?;
        let (messages, settled) = ending(event)?;
        messages.contains(&until.seq).then_some(settled)
    }

    fn note_ended(&mut self, body: &EventBody) {
        if let EventBody::TurnCompleted { turn_id, .. }
        | EventBody::TurnCancelled { turn_id, .. }
        | EventBody::TurnFailed { turn_id, .. }
        | EventBody::TurnSuperseded { turn_id, .. } = body
        {
            self.ended = Some(*turn_id);
        }
    }

    /// Which turn the awaited message is part of.
    fn note_own(&mut self, body: &EventBody) {
        let Some(until) = self.until.as_ref().map(|until| until.seq) else { return };
        match body {
            EventBody::TurnProcessing { turn_id, messages, .. } => {
                if messages.contains(&until) {
                    self.own = Some(*turn_id);
                } else if self.own == Some(*turn_id) {
                    self.own = None;
                }
            }
            EventBody::TurnMessageAbsorbed { turn_id, messages } if messages.contains(&until) => {
                self.own = Some(*turn_id);
            }
            EventBody::TurnAnswered { turn_id, message, .. } if *message == until => {
                self.own = Some(*turn_id);
            }
            EventBody::MessageRequeued { messages } if messages.contains(&until) => self.own = None,
            _ => {}
        }
    }

    /// A person answers instead of the agent, so what it began to say is void.
    fn drop_draft(&mut self, turn: TurnId, out: &mut Vec<u8>) {
        let Some((turn_id, attempt, _)) = self.shown.take_if(|shown| shown.0 == turn) else {
            return;
        };
        write_event(out, None, "draft.reset", &DraftShape { turn_id, attempt, text: None });
    }

    fn read_draft(&mut self, out: &mut Vec<u8>) {
        let Some(draft) = self.subscription.draft(self.shown) else { return };
        if self.ended == Some(draft.turn) || (self.narrow && self.own != Some(draft.turn)) {
            return;
        }
        let (turn_id, attempt) = (draft.turn, draft.attempt);
        let (same, had_text) = match self.shown {
            Some((turn, attempt, len)) => ((turn, attempt) == (draft.turn, draft.attempt), len > 0),
            None => (false, false),
        };
        if !same && (had_text || draft.len > 0) {
            write_event(out, None, "draft.reset", &DraftShape { turn_id, attempt, text: None });
        }
        if !draft.text.is_empty() {
            let text = Some(draft.text.as_str());
            write_event(out, None, "draft", &DraftShape { turn_id, attempt, text });
        }
        self.shown = Some((turn_id, attempt, draft.len));
    }

    fn read_typing(&mut self, out: &mut Vec<u8>) {
        let on = self.tick.typing;
        if std::mem::replace(&mut self.typing, on) != on && !self.narrow {
            write_event(out, None, "typing", &TypingShape { on });
        }
    }
}

/// Pieces of server-sent events as an answer.
pub(super) fn event_stream(
    pieces: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static,
) -> Response {
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    // A proxy that collects the answer would hold back the draft.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Writes one event. JSON holds no line break, so its data is always one line.
pub(super) fn write_event(out: &mut Vec<u8>, id: Option<Seq>, name: &str, data: &impl Serialize) {
    use std::io::Write;
    // Writing to a vector can't fail, and our own shapes always serialise.
    if let Some(id) = id {
        let _ = writeln!(out, "id: {id}");
    }
    let _ = write!(out, "event: {name}\ndata: ");
    let _ = serde_json::to_writer(&mut *out, data);
    out.extend_from_slice(b"\n\n");
}
