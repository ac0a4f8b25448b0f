//! `GET /v1/switchboard/events`: the switchboard as it changes.
//!
//! What is told is always how things are now. A slow reader is told less often and more at once, so
//! nothing is kept for it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use futures_util::stream;
use hyper::body::Bytes;
use hyper::{HeaderMap, Uri};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::read::seat_of;
use super::rows::{RowShape, shapes};
use super::tenant_of;
use crate::Gateway;
use crate::http::access::Asker;
use crate::http::entry::Shared;
use crate::http::feed::{event_stream, write_event};
use crate::http::problem::{Kind, Problem, ProblemBody};
use crate::http::reply::Answer;

/// A silent stream says this often that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Two events are this far apart at least: what changes in between is told together.
const PAUSE: Duration = Duration::from_millis(20);

/// What changed.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct SwitchboardChanges<'a> {
    /// The version of the switchboard that this leads to.
    version: u64,
    /// These are all sessions, and what was told before counts no more.
    whole: bool,
    /// The number of the session that the seat looks at; null where it looks at none, or no seat was
    /// named.
    active: Option<u32>,
    /// Sessions on the switchboard.
    total: usize,
    /// Of these, those that wait for a person.
    waiting: usize,
    /// Replies and notices that nobody has read, in all of them together.
    unread: u64,
    /// Sessions that changed, as they are now, in the order of their numbers.
    sessions: Vec<RowShape<'a>>,
    /// The numbers of those that left.
    gone: Vec<u32>,
}

/// Streams the switchboard.
///
/// Every event is called `board`, its data are the sessions that changed. The first one comes at once
/// and is about all of them (`whole`), unless `Last-Event-ID` names a version that this process still
/// knows: then it is about what changed since. `id` is `PROCESS-VERSION`.
#[utoipa::path(
    get,
    path = "/v1/switchboard/events",
    tag = "switchboard",
    params(
        ("tenant" = Option<String>, Query, description = "Whose; `default` if absent"),
        ("seat" = Option<String>, Query, description = "Tell what this seat looks at"),
        ("Last-Event-ID" = Option<String>, Header, description = "Go on behind this event"),
    ),
    responses(
        (status = 200, description = "The stream; its events are `board`, their data are `SwitchboardChanges`", body = String, content_type = "text/event-stream",
         example = "id: 018f-12\nevent: board\ndata: {\"version\":12,\"whole\":false,\"active\":1,\"total\":3,\"waiting\":0,\"unread\":1,\"sessions\":[],\"gone\":[2]}\n\n"),
        (status = 400, description = "`Last-Event-ID` is no event's", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such tenant within reach", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A parameter is wrong", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The server is ending, or has too many tenants", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn events(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    headers: HeaderMap,
    uri: Uri,
) -> Answer {
    let (tenant, seat) = (tenant_of(&asker, &uri)?, seat_of(&uri)?);
    let last = last_event_id(&headers)?;
    if shared.closing.is_cancelled() {
        return Err(Problem::new(Kind::Unavailable, "the server is ending"));
    }
    let gateway = shared.gateway.clone();
    let switchboard = gateway.switchboard();
    // What another process counted says nothing here.
    let known = last.filter(|(boot, _)| boot == switchboard.boot()).map(|(_, version)| version);
    let grown = switchboard.subscribe(&tenant).ok_or_else(|| {
        Problem::new(Kind::Unavailable, "there are switchboards of too many tenants")
    })?;
    let feed = BoardFeed { gateway, tenant, seat, grown, known, opened: false };
    let pieces = stream::unfold((feed, shared.closing.clone()), |(mut feed, closing)| async move {
        let piece = feed.next(&closing).await?;
        Some((Ok::<_, Infallible>(piece), (feed, closing)))
    });
    Ok(event_stream(pieces))
}

/// The process and the version that an event's id names.
pub(in crate::http) fn last_event_id(
    headers: &HeaderMap,
) -> Result<Option<(String, u64)>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let text = value.to_str().unwrap_or("?").trim();
    if text.is_empty() {
        return Ok(None);
    }
    let parts = text.rsplit_once('-');
    let parsed = parts.and_then(|(boot, version)| Some((boot.to_owned(), version.parse().ok()?)));
    parsed.map(Some).ok_or_else(|| {
        let detail = format!("Last-Event-ID must be like PROCESS-VERSION, not {text:?}");
        Problem::new(Kind::BadRequest, detail)
    })
}

/// One watcher of a switchboard.
struct BoardFeed {
    gateway: Gateway,
    tenant: String,
    seat: Option<Arc<str>>,
    grown: watch::Receiver<u64>,
    /// The version that the watcher has.
    known: Option<u64>,
    /// The first event is out.
    opened: bool,
}

impl BoardFeed {
    /// The next piece, as soon as there is one; none at the end.
    async fn next(&mut self, closing: &CancellationToken) -> Option<Bytes> {
        if !self.opened {
            self.opened = true;
            return Some(self.tell().await);
        }
        // What comes now is told together with what comes meanwhile.
        closing.run_until_cancelled(tokio::time::sleep(PAUSE)).await?;
        tokio::select! {
            biased;
            () = closing.cancelled() => None,
            // The sender lives as long as the gateway, so waiting can't fail.
            _ = self.grown.changed() => Some(self.tell().await),
            () = tokio::time::sleep(KEEP_ALIVE) => Some(Bytes::from_static(b": alive\n\n")),
        }
    }

    /// What the watcher has not got.
    async fn tell(&mut self) -> Bytes {
        self.gateway.switchboard().open_files().count().await;
        // Before the look, so that what comes during it is not slept over.
        self.grown.mark_unchanged();
        let switchboard = self.gateway.switchboard();
        let (changes, active) = switchboard.since(&self.tenant, self.known, self.seat.as_deref());
        self.known = Some(changes.version);
        let shape = SwitchboardChanges {
            version: changes.version,
            whole: changes.whole,
            active,
            total: changes.totals.sessions,
            waiting: changes.totals.waiting,
            unread: changes.totals.unread,
            sessions: shapes(&changes.rows, switchboard.open_files()),
            gone: changes.gone.clone(),
        };
        let mut out = format!("id: {}-{}\n", switchboard.boot(), changes.version).into_bytes();
        write_event(&mut out, None, "board", &shape);
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_a_process_and_a_version() {
        let check = |text: &'static str, expect: Result<Option<(&str, u64)>, ()>| {
            let mut headers = HeaderMap::new();
            headers.insert("last-event-id", text.parse().unwrap());
            let expect = expect.map(|id| id.map(|(boot, version)| (boot.to_owned(), version)));
            assert_eq!(last_event_id(&headers).map_err(drop), expect, "{text}");
        };
        check("", Ok(None));
        check("a-1", Ok(Some(("a", 1))));
        check("a-b-12", Ok(Some(("a-b", 12))));
        check("12", Err(()));
        check("a-", Err(()));
        check("a--1", Ok(Some(("a-", 1))));
        check("a-x", Err(()));
        assert_eq!(last_event_id(&HeaderMap::new()), Ok(None));
    }
}
