//! `GET /v1/sessions/{session}/events`: a session as it lives, resumable without a gap.

use std::sync::Arc;

use axum::extract::State;
use hyper::{HeaderMap, Uri};
use turnkeep_core::ids::Seq;

use super::access::Asker;
use super::entry::Shared;
use super::feed::{Feed, Reset};
use super::path::KeyPath;
use super::problem::{Kind, Problem, ProblemBody};
use super::query::Query;
use super::reply::Answer;

/// Streams a session.
///
/// The events are the session's journal: `id` is the place, `event` the type, and the data are
/// `{"seq", "at", "type", ...}`. Without an id there are `draft` `{turn_id, attempt, text}` with new
/// text only, `draft.reset` `{turn_id, attempt}` when a draft begins anew, and `typing` `{on}`. With
/// `Last-Event-ID` or `after` the stream goes on behind that place; where the journal ends before
/// it, an event `reset` `{last_seq}` says so and the stream goes on from there; where what stood
/// behind it was forgotten, `reset` `{last_seq, first_seq}` says where the journal begins now. So
/// does a `reset` later on; after one with `last_seq` 0 the session begins anew. The session need not
/// exist yet.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/events",
    tag = "sessions",
    params(
        ("session" = String, Path, description = "The session's key, percent-encoded"),
        ("after" = Option<u64>, Query, description = "Go on behind this place of the journal"),
        ("Last-Event-ID" = Option<u64>, Header, description = "The same; it goes before `after`"),
    ),
    responses(
        (status = 200, description = "The stream", body = String, content_type = "text/event-stream",
         example = "id: 1\nevent: message.accepted\ndata: {\"seq\":1,\"at\":1700000000000,\"type\":\"message.accepted\"}\n\n"),
        (status = 400, description = "`Last-Event-ID` is no place", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A parameter is wrong", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The store is down or the server is ending", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn events(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    KeyPath(key): KeyPath,
    headers: HeaderMap,
    uri: Uri,
) -> Answer {
    let after = Query::of(&uri).parsed::<u64>("after", "a place of the journal, 0 or more")?;
    let after = Seq(last_event_id(&headers)?.or(after).unwrap_or(0));
    if shared.closing.is_cancelled() {
        return Err(Problem::new(Kind::Unavailable, "the server is ending"));
    }
    let subscription = shared
        .gateway
        .subscribe(&key)
        .ok_or_else(|| Problem::field("session", "its agent or channel is not configured"))?;
    // The subscription stands by now, so nothing that comes behind this end is missed.
    let loaded = shared.gateway.store().load(&key).await?;
    let last_seq = loaded.map_or(Seq(0), |loaded| loaded.session.last_seq);
    let store = Arc::clone(shared.gateway.store());
    let forgotten = shared.gateway.care().forgotten(&key).await?;
    let forgotten = forgotten.map_or(Seq(0), |forgotten| forgotten.through);
    // Who begins at the beginning has missed nothing.
    let first_seq = (after > Seq(0) && after < forgotten).then(|| forgotten.next());
    let feed = Feed::new(store, key, subscription, after.max(forgotten).min(last_seq));
    let mut feed = feed.without_use(asker.is_person());
    if after > last_seq || first_seq.is_some() {
        feed.open_with("reset", &Reset { last_seq, first_seq });
    }
    Ok(feed.response(shared.closing.clone()))
}

pub(super) fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let text = value.to_str().unwrap_or("?").trim();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        let detail = format!("Last-Event-ID must be a place of the journal, not {text:?}");
        Problem::new(Kind::BadRequest, detail)
    })
}
