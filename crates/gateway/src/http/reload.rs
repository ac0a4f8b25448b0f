//! `POST /v1/reload`: the configuration is read anew.

use std::sync::Arc;

use axum::extract::State;
use hyper::StatusCode;
use serde::Serialize;
use turnkeep_core::ports::BoxFuture;
use utoipa::ToSchema;

use super::entry::Shared;
use super::problem::{Kind, Problem, ProblemBody};
use super::reply::{Answer, json};

/// Who reads the configuration anew.
pub trait Reload: Send + Sync + 'static {
    /// Reads, checks and applies it; if it is wrong nothing changes, and every mistake is told. Goes
    /// on to its end even if nobody waits for it.
    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, String>>;

    /// Whether the last time failed, so that the file is not what the server lives by.
    fn has_failed(&self) -> bool;
}

/// What a reload came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reloaded {
    /// What is different now, by section.
    pub changed: Vec<String>,
    /// Keys that are different in the file and need a restart.
    pub needs_restart: Vec<String>,
    /// What the user should know though nothing is wrong.
    pub notes: Vec<String>,
}

/// Reads the configuration anew, as SIGHUP does.
///
/// A wrong one changes nothing.
#[utoipa::path(
    post,
    path = "/v1/reload",
    tag = "health",
    responses(
        (status = 200, description = "It holds from here on", body = Reloaded),
        (status = 404, description = "This server has no configuration to read", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It is wrong; every mistake is told", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn reload(State(shared): State<Arc<Shared>>) -> Answer {
    let Some(reload) = &shared.reload else {
        return Err(Problem::new(Kind::NotFound, "this server has no configuration to read anew"));
    };
    match reload.reload().await {
        Ok(reloaded) => Ok(json(StatusCode::OK, &reloaded, 256)),
        Err(mistakes) => Err(Problem::new(Kind::Configuration, mistakes)),
    }
}
