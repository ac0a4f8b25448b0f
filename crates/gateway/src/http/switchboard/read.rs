//! `GET /v1/switchboard`: the list, one session, and what they all take.

use std::sync::Arc;

use axum::extract::State;
use hyper::Uri;
use serde::Serialize;
use turnkeep_core::session::SessionStatus;
use turnkeep_core::switchboard::states::word;
use turnkeep_core::switchboard::{Row, STATES, check_seat};
use utoipa::ToSchema;

use super::refuse::refused;
use super::rows::{RowShape, StatsShape, shapes};
use super::{tenant_of, tenant_of_session};
use crate::http::access::Asker;
use crate::http::entry::Shared;
use crate::http::list::Limit;
use crate::http::path::Segments;
use crate::http::problem::{Problem, ProblemBody};
use crate::http::query::Query;
use crate::http::reply::{Answer, read};

/// A page of the switchboard.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct SwitchboardPage<'a> {
    /// Grows with every change of the switchboard, as long as the process lives.
    version: u64,
    /// The number of the session that the seat looks at; null where it looks at none, or no seat was
    /// named.
    active: Option<u32>,
    /// Sessions on the switchboard.
    total: usize,
    /// Of these, those that wait for a person.
    waiting: usize,
    /// Replies and notices that nobody has read, in all of them together.
    unread: u64,
    /// In the order of their numbers.
    sessions: Vec<RowShape<'a>>,
    /// What to pass as `after` for the next page; null at the end.
    next: Option<u32>,
}

/// The seat that a query names.
pub(super) fn seat_of(uri: &Uri) -> Result<Option<Arc<str>>, Problem> {
    let seat = Query::of(uri).get("seat");
    let seat = seat.map(|seat| check_seat(&seat)).transpose();
    seat.map_err(|error| Problem::field("seat", error.to_string()))
}

fn state_of(uri: &Uri) -> Result<Option<SessionStatus>, Problem> {
    let Some(asked) = Query::of(uri).get("state") else { return Ok(None) };
    let state = STATES.into_iter().find(|state| word(*state) == asked);
    let wrong = || {
        let words = STATES.map(word).join(", ");
        Problem::field("state", format!("must be one of {words}, not {asked:?}"))
    };
    state.map(Some).ok_or_else(wrong)
}

/// Lists the sessions of the switchboard.
///
/// What a page tells of all sessions it tells of the whole switchboard, whichever are asked for.
#[utoipa::path(
    get,
    path = "/v1/switchboard",
    tag = "switchboard",
    params(
        ("tenant" = Option<String>, Query, description = "Whose; `default` if absent"),
        ("seat" = Option<String>, Query, description = "Tell what this seat looks at"),
        ("waiting" = Option<bool>, Query, description = "Only those that wait for a person, or only the others"),
        ("state" = Option<String>, Query, description = "Only those in this state"),
        ("after" = Option<u32>, Query, description = "Only behind this number"),
        ("limit" = Option<usize>, Query, description = "How many, from 1 to 1000; 100 if absent"),
    ),
    responses(
        (status = 200, description = "A page", body = SwitchboardPage),
        (status = 404, description = "There is no such tenant within reach", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A parameter is wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn list(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    uri: Uri,
) -> Answer {
    let query = Query::of(&uri);
    let (limit, tenant, seat) = (Limit::of(query)?, tenant_of(&asker, &uri)?, seat_of(&uri)?);
    let after = query.parsed("after", "the number of a session, 0 or more")?.unwrap_or(0);
    let waiting: Option<bool> = query.parsed("waiting", "true or false")?;
    let state = state_of(&uri)?;
    let keep = |row: &Row| {
        waiting.is_none_or(|waiting| row.waiting.is_some() == waiting)
            && state.is_none_or(|state| row.state == state)
    };
    let switchboard = shared.gateway.switchboard();
    switchboard.open_files().count().await;
    let (wanted, seat) = ((after, limit.get()), seat.as_deref());
    let (page, active) = if waiting.is_none() && state.is_none() {
        switchboard.page(&tenant, wanted, seat)
    } else {
        switchboard.page_of(&tenant, wanted, seat, keep)
    };
    read(&SwitchboardPage {
        version: page.version,
        active,
        total: page.totals.sessions,
        waiting: page.totals.waiting,
        unread: page.totals.unread,
        sessions: shapes(&page.rows, switchboard.open_files()),
        next: page.next,
    })
}

/// Shows a session of the switchboard.
#[utoipa::path(
    get,
    path = "/v1/switchboard/{which}",
    tag = "switchboard",
    params(
        ("which" = String, Path, description = "Its number, its name, at least two digits of its id, or its key; percent-encoded"),
        ("tenant" = Option<String>, Query, description = "Whose; that of the key, else `default`, if absent"),
    ),
    responses(
        (status = 200, description = "The session", body = RowShape),
        (status = 404, description = "There is no such session", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It may be any of several, which are named", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It can be no tenant's name", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn one(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    Segments(which): Segments<String>,
    uri: Uri,
) -> Answer {
    let tenant = tenant_of_session(&asker, &uri, &which)?;
    let switchboard = shared.gateway.switchboard();
    let row = switchboard.get(&tenant, &which).map_err(|error| refused(&which, error))?;
    switchboard.open_files().count().await;
    read(&RowShape::new(&row, switchboard.open_files()))
}

/// Tells what the sessions take, and what to do about it.
#[utoipa::path(
    get,
    path = "/v1/switchboard/stats",
    tag = "switchboard",
    params(("tenant" = Option<String>, Query, description = "Whose; `default` if absent")),
    responses(
        (status = 200, description = "The numbers", body = StatsShape),
        (status = 404, description = "There is no such tenant within reach", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It can be no tenant's name", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn stats(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    uri: Uri,
) -> Answer {
    let tenant = tenant_of(&asker, &uri)?;
    let stats = shared.gateway.board_stats(&tenant).await;
    read(&StatsShape::from(&stats))
}
