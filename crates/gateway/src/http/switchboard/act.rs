//! What a person does on the switchboard: create, name, switch, close, touch, read, tidy up.

use std::sync::Arc;

use axum::extract::{Request, State};
use hyper::{StatusCode, Uri};
use serde::{Deserialize, Deserializer, Serialize};
use turnkeep_core::ids::Seq;
use turnkeep_core::switchboard::Row;
use utoipa::ToSchema;

use super::refuse::refused;
use super::rows::RowShape;
use super::{meant, tenant_of, tenant_of_session};
use crate::guard::Steering;
use crate::http::access::Asker;
use crate::http::body;
use crate::http::entry::Shared;
use crate::http::path::Segments;
use crate::http::problem::ProblemBody;
use crate::http::reply::{Answer, json};
use crate::http::steer;
use crate::switchboard::{BoardError, NewSession};

/// A session that is wanted.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct CreateRequest {
    /// What it shall be called: 1 to 64 characters, not all digits, nothing that is not seen.
    #[schema(min_length = 1, example = "api work")]
    name: Option<String>,
    /// Which agent answers; `default` if absent.
    agent_id: Option<String>,
    /// Whose it is; `default` if absent.
    tenant_id: Option<String>,
    /// The seat that looks at it from now on.
    #[schema(example = "tty1")]
    seat: Option<String>,
}

/// What a session shall be called.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NameRequest {
    /// 1 to 64 characters, not all digits, nothing that is not seen; null takes the name away.
    #[serde(deserialize_with = "present")]
    #[schema(example = "api work")]
    name: Option<String>,
}

/// A field that may be null but not missing.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer)
}

/// Who shall look at a session.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct SwitchRequest {
    /// The seat's name: 1 to 64 of A-Z, a-z, 0-9, `.`, `_` and `-`.
    #[schema(example = "tty1")]
    seat: String,
}

/// Who closes a session.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct CloseRequest {
    /// The seat that is told what it looks at next.
    #[schema(example = "tty1")]
    seat: Option<String>,
}

/// How far a session was read.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ReadRequest {
    /// The last place that was read; everything that is there if absent.
    seq: Option<u64>,
}

/// A session that left the switchboard.
#[derive(Serialize, ToSchema)]
#[schema(as = SwitchboardClosed)]
pub(in crate::http) struct ClosedShape<'a> {
    /// As it was at last.
    closed: RowShape<'a>,
    /// What the seat looks at now; null where there is nothing, or no seat was named.
    next: Option<RowShape<'a>>,
    /// What became of the session's git worktree, if it had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    worktree: Option<String>,
}

/// What was tidied up.
#[derive(Serialize, ToSchema)]
#[schema(as = SwitchboardCleaned)]
pub(in crate::http) struct CleanedShape {
    /// Idle sessions that are on disk only from now on.
    hibernated: usize,
    /// What did not fit together and was mended.
    repaired: usize,
}

/// The row of a session to which something was done.
fn row_of(shared: &Shared, which: &str, done: Result<Arc<Row>, BoardError>) -> Answer {
    let row = done.map_err(|error| refused(which, error))?;
    let open = shared.gateway.switchboard().open_files();
    Ok(json(StatusCode::OK, &RowShape::new(&row, open), 768))
}

/// Opens a session.
///
/// It is an empty conversation of kind `main` on the channel `terminal`; its key can be used at once
/// wherever a session's key is asked for.
#[utoipa::path(
    post,
    path = "/v1/switchboard",
    tag = "switchboard",
    request_body = Option<CreateRequest>,
    responses(
        (status = 201, description = "It is there", body = RowShape),
        (status = 400, description = "Malformed JSON or invalid UTF-8", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such tenant within reach", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "Another session has the name, or the switchboard is full", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A field is wrong", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The store is down or the server is ending; nothing was opened", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn create(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let asked: CreateRequest =
        body::json_or_default(&parts.headers, body, &shared.settings).await?;
    let tenant = meant("tenant_id", &asker, asked.tenant_id)?;
    let new = NewSession { name: asked.name, agent: asked.agent_id, seat: asked.seat };
    let made = shared.gateway.board_create(&tenant, new).await;
    let row = made.map_err(|error| refused("", error))?;
    let open = shared.gateway.switchboard().open_files();
    Ok(json(StatusCode::CREATED, &RowShape::new(&row, open), 768))
}

/// Names a session, or takes its name away.
#[utoipa::path(
    put,
    path = "/v1/switchboard/{which}/name",
    tag = "switchboard",
    params(
        ("which" = String, Path, description = "Its number, its name, at least two digits of its id, or its key; percent-encoded"),
        ("tenant" = Option<String>, Query, description = "Whose; that of the key, else `default`, if absent"),
    ),
    request_body = NameRequest,
    responses(
        (status = 200, description = "The session", body = RowShape),
        (status = 400, description = "Malformed JSON or invalid UTF-8", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such session", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "Another session has the name; or it may be any of several, which are named", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It is no name", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The store is down; nothing was changed", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn name(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    Segments(which): Segments<String>,
    uri: Uri,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let asked: NameRequest = body::json(&parts.headers, body, &shared.settings).await?;
    let tenant = tenant_of_session(&asker, &uri, &which)?;
    row_of(
        &shared,
        &which,
        shared.gateway.board_rename(&tenant, &which, asked.name.as_deref()).await,
    )
}

/// Has a seat look at a session.
#[utoipa::path(
    post,
    path = "/v1/switchboard/{which}/switch",
    tag = "switchboard",
    params(
        ("which" = String, Path, description = "Its number, its name, at least two digits of its id, or its key; percent-encoded"),
        ("tenant" = Option<String>, Query, description = "Whose; that of the key, else `default`, if absent"),
    ),
    request_body = SwitchRequest,
    responses(
        (status = 200, description = "The session", body = RowShape),
        (status = 400, description = "Malformed JSON or invalid UTF-8", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such session", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It may be any of several, which are named", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It is no name of a seat", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The store is down; nothing was changed", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn switch(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    Segments(which): Segments<String>,
    uri: Uri,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let asked: SwitchRequest = body::json(&parts.headers, body, &shared.settings).await?;
    let tenant = tenant_of_session(&asker, &uri, &which)?;
    row_of(&shared, &which, shared.gateway.board_switch(&tenant, &which, &asked.seat).await)
}

/// Closes a session, which leaves the switchboard.
///
/// Its conversation is closed as by `/v1/sessions/{session}/close` and stays in the store. A seat that
/// looked at it looks at what it looked at before, if that is still there; else at the next number,
/// else at the one before.
#[utoipa::path(
    post,
    path = "/v1/switchboard/{which}/close",
    tag = "switchboard",
    params(
        ("which" = String, Path, description = "Its number, its name, at least two digits of its id, or its key; percent-encoded"),
        ("tenant" = Option<String>, Query, description = "Whose; that of the key, else `default`, if absent"),
    ),
    request_body = Option<CloseRequest>,
    responses(
        (status = 200, description = "What was closed, and what comes next", body = ClosedShape),
        (status = 400, description = "Malformed JSON or invalid UTF-8", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such session", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It may be any of several, which are named", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It is no name of a seat", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "Too much of it by the key's tenant; or too many wrong keys from this address", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The store is down or the server is ending", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn close(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    Segments(which): Segments<String>,
    uri: Uri,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let asked: CloseRequest = body::json_or_default(&parts.headers, body, &shared.settings).await?;
    let tenant = tenant_of_session(&asker, &uri, &which)?;
    let gateway = &shared.gateway;
    let refuse = |error| refused(&which, error);
    let row = gateway.switchboard().get(&tenant, &which).map_err(refuse)?;
    steer::check(&shared, &asker, &row.key, Steering::Other)?;
    let done = gateway.board_close(&tenant, &which, asked.seat.as_deref()).await.map_err(refuse)?;
    let open = gateway.switchboard().open_files();
    let next = done.next.as_deref().map(|row| RowShape::new(row, open));
    let closed = RowShape::new(&done.closed, open);
    // Where it stands on this machine is no tenant's business.
    let worktree = gateway.leave_worktree(&row.key).await;
    let worktree = worktree.filter(|_| asker.who().tenant().is_none());
    Ok(json(StatusCode::OK, &ClosedShape { closed, next, worktree }, 1536))
}

/// Notes that somebody has to do with a session: it wakes up, and counts as used.
#[utoipa::path(
    post,
    path = "/v1/switchboard/{which}/touch",
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
pub(in crate::http) async fn touch(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    Segments(which): Segments<String>,
    uri: Uri,
) -> Answer {
    let tenant = tenant_of_session(&asker, &uri, &which)?;
    row_of(&shared, &which, shared.gateway.board_touch(&tenant, &which).await)
}

/// Notes how far a session was read, for every seat.
///
/// What was read stays read: an earlier place than the noted one changes nothing.
#[utoipa::path(
    post,
    path = "/v1/switchboard/{which}/read",
    tag = "switchboard",
    params(
        ("which" = String, Path, description = "Its number, its name, at least two digits of its id, or its key; percent-encoded"),
        ("tenant" = Option<String>, Query, description = "Whose; that of the key, else `default`, if absent"),
    ),
    request_body = Option<ReadRequest>,
    responses(
        (status = 200, description = "The session", body = RowShape),
        (status = 400, description = "Malformed JSON or invalid UTF-8", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such session", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It may be any of several, which are named", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It is no place", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The store is down; nothing was changed", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn mark_read(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    Segments(which): Segments<String>,
    uri: Uri,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let asked: ReadRequest = body::json_or_default(&parts.headers, body, &shared.settings).await?;
    let tenant = tenant_of_session(&asker, &uri, &which)?;
    let seq = Seq(asked.seq.unwrap_or(u64::MAX));
    row_of(&shared, &which, shared.gateway.board_read(&tenant, &which, seq).await)
}

/// Tidies the switchboard up, as it is done every minute: what is idle for long goes to sleep.
///
/// No conversation is deleted, and none that is at work is touched.
#[utoipa::path(
    post,
    path = "/v1/switchboard/cleanup",
    tag = "switchboard",
    params(("tenant" = Option<String>, Query, description = "Whose; `default` if absent")),
    responses(
        (status = 200, description = "What was done", body = CleanedShape),
        (status = 404, description = "There is no such tenant within reach", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It can be no tenant's name", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn cleanup(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    uri: Uri,
) -> Answer {
    let tenant = tenant_of(&asker, &uri)?;
    let cleaned = shared.gateway.board_cleanup(&tenant);
    let shape = CleanedShape { hibernated: cleaned.hibernated, repaired: cleaned.repaired };
    Ok(json(StatusCode::OK, &shape, 64))
}
