//! How the process is: health, readiness, metrics, and the description of this API.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use serde::Serialize;
use utoipa::ToSchema;

use super::entry::Shared;
use super::reply::{Answer, json, read};
use super::shape::Moment;
use super::signal;
use crate::dispatch::Engine;

/// How the process is.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok` or `unavailable`.
    status: &'static str,
    /// Which version of the program it is; `/healthz` says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// `last reload failed`, if it did: then the file is not what the server lives by. The log tells
    /// what is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<&'static str>,
    /// What is wrong with the accounts of Signal, if something is; `GET /v1/signal` tells more.
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<String>,
    /// What is wrong with the place where nodes give each other hints, if something is. It costs
    /// time only, so messages are taken all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    hints: Option<String>,
    /// How the workflow engine is, where one gives turns to workers. Turns are run without it, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    dispatch: Option<Dispatching>,
}

/// How the workflow engine is.
#[derive(Serialize, ToSchema)]
pub(super) struct Dispatching {
    /// `ok`; `away`, if it does not answer or refuses this server; `stuck`, if it answers and does
    /// not give out what it is given.
    state: &'static str,
    /// Since when, where something is wrong.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Moment>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl From<Engine> for Dispatching {
    fn from(engine: Engine) -> Self {
        let (since, reason) = engine.amiss().map(|(at, why)| (Moment(at), why.to_owned())).unzip();
        Self { state: engine.state(), since, reason }
    }
}

/// Whether the process lives, and which version of the program it is: a client of another one says so.
#[utoipa::path(get, path = "/healthz", tag = "health", responses(
    (status = 200, description = "It does", body = Health),
))]
pub(super) async fn healthz() -> Answer {
    let version = Some(env!("CARGO_PKG_VERSION"));
    let (signal, hints, dispatch) = (None, None, None);
    read(&Health { status: "ok", version, reason: None, config: None, signal, hints, dispatch })
}

/// Whether it takes messages.
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, description = "It does", body = Health),
    (status = 503, description = "It doesn't, and why", body = Health),
))]
pub(super) async fn readyz(State(shared): State<Arc<Shared>>) -> Answer {
    let failed = shared.reload.as_ref().is_some_and(|reload| reload.has_failed());
    let config = failed.then_some("last reload failed");
    let signal = signal::trouble(&shared.gateway.accounts("signal"));
    let hints = shared.gateway.hints_health().and_then(|health| health.trouble());
    let dispatch = shared.gateway.engine().map(Dispatching::from);
    let reason = shared.gateway.readiness().err();
    let status = if reason.is_none() { "ok" } else { "unavailable" };
    let health = Health { status, version: None, reason, config, signal, hints, dispatch };
    match health.reason {
        None => read(&health),
        Some(_) => {
            let response = json(StatusCode::SERVICE_UNAVAILABLE, &health, 128);
            Ok(([(CACHE_CONTROL, "no-store"), (RETRY_AFTER, "1")], response).into_response())
        }
    }
}

/// What the process counted, in the Prometheus text format.
#[utoipa::path(get, path = "/metrics", tag = "health", responses(
    (status = 200, description = "The metrics", body = String, content_type = "text/plain; version=0.0.4"),
))]
pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let text = (shared.render_metrics)();
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store")], text).into_response()
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "health", responses(
    (status = 200, description = "The OpenAPI document of this API", body = Object),
))]
pub(super) async fn openapi_json(State(shared): State<Arc<Shared>>) -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")];
    (headers, shared.openapi.clone()).into_response()
}
