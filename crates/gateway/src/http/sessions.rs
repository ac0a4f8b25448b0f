//! `GET /v1/sessions` and what can be read below it.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::State;
use hyper::Uri;
use serde::Serialize;
use turnkeep_core::care::is_tombstone;
use utoipa::ToSchema;

use super::access::Asker;
use super::entry::Shared;
use super::list::Limit;
use super::path::KeyPath;
use super::problem::ProblemBody;
use super::query::Query;
use super::reply::{Answer, read};
use super::shape::{SessionShape, TurnShape, session_key, turn_id};

/// A page of sessions.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionsPage<'a> {
    /// In the order of their keys.
    sessions: Vec<SessionShape<'a>>,
    /// What to pass as `after` for the next page; null at the end.
    next: Option<&'a str>,
}

/// A page of turns.
#[derive(Serialize, ToSchema)]
pub(super) struct TurnsPage<'a> {
    /// Newest first.
    turns: Vec<TurnShape<'a>>,
    /// What to pass as `before` for the next page; null at the end.
    next: Option<String>,
}

/// Lists sessions.
#[utoipa::path(
    get,
    path = "/v1/sessions",
    tag = "sessions",
    params(
        ("tenant" = Option<String>, Query, description = "Only of this tenant"),
        ("after" = Option<String>, Query, description = "Only behind this session's key"),
        ("limit" = Option<usize>, Query, description = "How many, from 1 to 1000; 100 if absent"),
    ),
    responses(
        (status = 200, description = "A page", body = SessionsPage),
        (status = 404, description = "There is no such tenant within reach", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A parameter is wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn sessions(State(shared): State<Arc<Shared>>, asker: Asker, uri: Uri) -> Answer {
    let query = Query::of(&uri);
    let limit = Limit::of(query)?;
    let tenant = asker.tenant(query.get("tenant").map(Cow::into_owned))?;
    let after = query.get("after").map(|after| session_key("after", &after)).transpose()?;
    let store = shared.gateway.store();
    let rows = store.sessions(tenant.as_deref(), after.as_ref(), limit.and_one()).await?;
    let page = limit.page(rows);
    let next = page.next(|(key, _)| key.as_str());
    // What stands for an erased session is there for the audit only.
    let there = page.rows.iter().filter(|(key, _)| !is_tombstone(key));
    let board = shared.gateway.switchboard();
    let shape = |key, loaded| SessionShape::new(key, loaded).on_the_board(board.by_key(key));
    let sessions = there.map(|(key, loaded)| shape(key, loaded)).collect();
    read(&SessionsPage { sessions, next })
}

/// Shows a session.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}",
    tag = "sessions",
    params(("session" = String, Path, description = "The session's key, percent-encoded")),
    responses(
        (status = 200, description = "The session", body = SessionShape),
        (status = 404, description = "Nobody has written there", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It is no session key", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn session(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    KeyPath(key): KeyPath,
) -> Answer {
    let loaded = shared.loaded(&key).await?;
    let shape = SessionShape::new(&key, &loaded).without_use(asker.is_person());
    // What people at the switchboard call it is not a customer's business.
    let row = shared.gateway.switchboard().by_key(&key).filter(|_| !asker.is_person());
    read(&shape.on_the_board(row))
}

/// Lists a session's turns.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/turns",
    tag = "sessions",
    params(
        ("session" = String, Path, description = "The session's key, percent-encoded"),
        ("before" = Option<uuid::Uuid>, Query, description = "Only older ones than this turn"),
        ("limit" = Option<usize>, Query, description = "How many, from 1 to 1000; 100 if absent"),
    ),
    responses(
        (status = 200, description = "A page", body = TurnsPage),
        (status = 404, description = "Nobody has written there", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A parameter is wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn session_turns(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    KeyPath(key): KeyPath,
    uri: Uri,
) -> Answer {
    let query = Query::of(&uri);
    let limit = Limit::of(query)?;
    let before = query.get("before").map(|before| turn_id("before", &before)).transpose()?;
    shared.loaded(&key).await?;
    let rows = shared.gateway.store().turns(&key, before, limit.and_one()).await?;
    let page = limit.page(rows);
    let next = page.next(|row| row.id.to_string());
    let ids = page.rows.iter().map(|row| row.id).collect();
    let used = shared.usage_of_turns(&asker, ids).await?;
    let turns = page.rows.iter().map(|row| TurnShape::new(&key, row).using(&used)).collect();
    read(&TurnsPage { turns, next })
}
