//! `GET /v1/events`: what happens in all sessions, as one stream, resumable without a gap.
//!
//! Like a session's stream it is pulled: nothing is buffered for a slow reader, which only gets
//! bigger pieces.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use futures_util::stream;
use hyper::body::Bytes;
use hyper::{HeaderMap, Uri};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use turnkeep_core::listen::{Pattern, Place, Selector, data, pattern_words};
use turnkeep_core::ports::listeners::{JournalRow, ListenerStore};
use turnkeep_core::ports::store::StoreError;

use super::access::Asker;
use super::entry::Shared;
use super::feed::{PIECE_BYTES_MAX, event_stream, write_event};
use super::problem::{Kind, Problem, ProblemBody};
use super::query::Query;
use super::reply::Answer;

/// Rows of the journal that are read at once.
const PAGE: usize = 32;
/// A silent stream says this often that it is alive, and how far it has read.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The watcher misses something: the journal is shorter than it thinks, because it watched another
/// store, or rows behind its place were forgotten.
#[derive(Serialize)]
struct Reset {
    /// Behind this row the stream goes on.
    position: u64,
    /// So many rows are gone before that.
    #[serde(skip_serializing_if = "Option::is_none")]
    forgotten: Option<u64>,
}

/// Streams what happens in all sessions.
///
/// `id` is the place, `ROW-SEQ`, among all events, `event` the type, and the data are
/// `{"type", "at", "session", "position", "seq", …}`. Without `Last-Event-ID` or `after` the stream
/// begins with what happens next; with one of them it goes on behind that place, and where the
/// journal ends before it, an event `reset` `{position}` says so and the stream goes on from there.
/// Where rows behind it were forgotten, `reset` `{position, forgotten}` stands in their place, once
/// until the stream has reached the end; whose they were nobody knows any more.
/// With `text=false` no text that people or agents wrote is shown.
#[utoipa::path(
    get,
    path = "/v1/events",
    tag = "listeners",
    params(
        ("pattern" = Option<String>, Query, description = "Which types, like `turn.*` or `turn.completed,turn.failed`; all if absent"),
        ("tenant" = Option<String>, Query, description = "Only of this tenant"),
        ("agent" = Option<String>, Query, description = "Only of this agent"),
        ("text" = Option<bool>, Query, description = "Whether texts are shown; true if absent"),
        ("after" = Option<String>, Query, description = "Go on behind this place; 0 is the beginning"),
        ("Last-Event-ID" = Option<String>, Header, description = "The same; it goes before `after`"),
    ),
    responses(
        (status = 200, description = "The stream", body = String, content_type = "text/event-stream",
         example = "id: 17-4\nevent: turn.completed\ndata: {\"at\":1700000000000,\"position\":17,\"seq\":4,\"session\":\"default:default:api:dm:anna\",\"type\":\"turn.completed\"}\n\n"),
        (status = 400, description = "`Last-Event-ID` is no place", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such tenant within reach", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A parameter is wrong", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The store is down or the server is ending", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn all_events(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    headers: HeaderMap,
    uri: Uri,
) -> Answer {
    let query = Query::of(&uri);
    let mut selector = selector_of(query)?;
    selector.tenant = asker.tenant(selector.tenant.take())?;
    let text = query.parsed("text", "true or false")?.unwrap_or(true);
    let after = query.parsed("after", "a place like 17-4 or 17")?;
    let after: Option<Place> = last_event_id(&headers)?.or(after);
    if shared.closing.is_cancelled() {
        return Err(Problem::new(Kind::Unavailable, "the server is ending"));
    }
    let listeners = &shared.gateway.0.listeners;
    // Followed before the end is asked for, so nothing that comes behind it is missed.
    let grown = listeners.follow();
    let end = listeners.store.journal_end().await?;
    let known = after.filter(|after| after.position <= end);
    let mut feed = AllFeed {
        store: Arc::clone(&listeners.store),
        grown,
        selector,
        text,
        after: known.unwrap_or(Place::end_of(end)),
        end,
        // Who begins at the beginning has missed nothing.
        told: known.is_some_and(|after| after.position == 0),
        spoke_at: Instant::now(),
        opening: Vec::new(),
    };
    if after.is_some() && known.is_none() {
        write_event(&mut feed.opening, None, "reset", &Reset { position: end, forgotten: None });
    }
    let pieces = stream::unfold((feed, shared.closing.clone()), |(mut feed, closing)| async move {
        let piece = feed.next(&closing).await?;
        Some((Ok::<_, Infallible>(piece), (feed, closing)))
    });
    Ok(event_stream(pieces))
}

fn selector_of(query: Query<'_>) -> Result<Selector, Problem> {
    let pattern = match query.get("pattern") {
        Some(text) => Pattern::of(text.split(',')).map_err(|unknown| {
            let known = pattern_words().join(", ");
            Problem::field("pattern", format!("{unknown}; there are {known}"))
        })?,
        None => Pattern::everything(),
    };
    let [tenant, agent] = ["tenant", "agent"].map(|name| query.get(name).map(Into::into));
    Ok(Selector { pattern, tenant, agent })
}

pub(super) fn last_event_id(headers: &HeaderMap) -> Result<Option<Place>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let text = value.to_str().unwrap_or("?").trim();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        let detail = format!("Last-Event-ID must be a place like 17-4 or 17, not {text:?}");
        Problem::new(Kind::BadRequest, detail)
    })
}

/// One watcher's place among all events.
struct AllFeed {
    store: Arc<dyn ListenerStore>,
    grown: watch::Receiver<u64>,
    selector: Selector,
    text: bool,
    /// The last event that went out or was passed over.
    after: Place,
    /// The journal's end when the stream began.
    end: u64,
    /// The watcher knows that something is missing before the journal's end.
    told: bool,
    /// When anything went out last.
    spoke_at: Instant,
    /// What goes out before anything else.
    opening: Vec<u8>,
}

impl AllFeed {
    /// The next piece, as soon as there is one; none at the end.
    async fn next(&mut self, closing: &CancellationToken) -> Option<Bytes> {
        loop {
            let mut out = std::mem::take(&mut self.opening);
            if closing.is_cancelled() {
                return (!out.is_empty()).then(|| out.into());
            }
            // Seen before the read, so that what comes during it is not slept over.
            self.grown.mark_unchanged();
            let more = match self.read(&mut out).await {
                Ok(more) => more,
                Err(error) => {
                    // Whoever watches comes back with the place of the last event it got.
                    tracing::warn!(%error, "a stream could not read the journal");
                    return None;
                }
            };
            if out.is_empty() && self.spoke_at.elapsed() >= KEEP_ALIVE {
                // The place alone, so that a watcher of rare events need not begin far back.
                out = format!(": alive\nid: {}\n\n", self.after).into_bytes();
            }
            if !out.is_empty() {
                self.spoke_at = Instant::now();
                return Some(out.into());
            }
            if more {
                continue;
            }
            tokio::select! {
                biased;
                () = closing.cancelled() => return None,
                // The sender lives as long as the gateway, so waiting can't fail.
                _ = self.grown.changed() => {}
                () = tokio::time::sleep_until(self.spoke_at + KEEP_ALIVE) => {}
            }
        }
    }

    /// Writes out what the next rows hold; false at the journal's end.
    async fn read(&mut self, out: &mut Vec<u8>) -> Result<bool, StoreError> {
        let rows = self.store.journal_after(self.after.read_after(), PAGE).await?;
        let before = self.after;
        if rows.is_empty() {
            if self.after.read_after() < self.end {
                self.note_gap(self.end + 1, out);
                self.after = Place::end_of(self.end);
            }
            self.told = false;
        }
        for row in rows {
            self.note_gap(row.position, out);
            self.write_row(row, out);
            if out.len() >= PIECE_BYTES_MAX {
                break;
            }
        }
        Ok(self.after > before)
    }

    /// Whatever stood between the watcher's place and `next` is gone.
    fn note_gap(&mut self, next: u64, out: &mut Vec<u8>) {
        let gone = next.saturating_sub(self.after.read_after() + 1);
        if gone > 0 && !self.told {
            self.told = true;
            let reset = Reset { position: next - 1, forgotten: Some(gone) };
            write_event(out, None, "reset", &reset);
        }
    }

    fn write_row(&mut self, row: JournalRow, out: &mut Vec<u8>) {
        let JournalRow { position, content } = row;
        match content {
            Ok((key, events)) if self.selector.takes(&key) => {
                for event in events {
                    let place = Place { position, seq: event.seq };
                    if place <= self.after || !self.selector.wants(&event) {
                        continue;
                    }
                    let mut fields = data(&key, position, &event, self.text);
                    fields.insert("type".to_owned(), event.body.name().into());
                    fields.insert("at".to_owned(), event.at.into());
                    out.extend_from_slice(format!("id: {place}\n").as_bytes());
                    write_event(out, None, event.body.name(), &Value::Object(fields));
                }
            }
            Ok(_) => {}
            Err(reason) => tracing::error!(position, reason, "a row can't be shown"),
        }
        self.after = Place::end_of(position);
    }
}
