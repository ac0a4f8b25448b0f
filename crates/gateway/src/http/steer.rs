//! What a person does to a session: stop, begin anew, close, type, choose a busy policy.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use turnkeep_core::SessionKey;
use turnkeep_core::ids::TurnId;
use turnkeep_core::policy::BusyPolicy;
use turnkeep_core::session::{Control, Controlled};
use utoipa::ToSchema;

use super::access::Asker;
use super::body;
use super::entry::Shared;
use super::path::KeyPath;
use super::problem::{Kind, Problem, ProblemBody};
use super::reply::{Answer, json};
use super::shape::turn_id;
use crate::guard::Steering;

/// Which turn to stop. A mistyped field is refused: ignored, it would stop whatever runs.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StopRequest {
    /// Only this one; whichever is open if absent.
    #[schema(value_type = Option<uuid::Uuid>)]
    turn_id: Option<String>,
}

/// Which busy policy a session shall have.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct QueueRequest {
    /// `absorb`, `supersede`, `collect`, `queue`, `reject` or `agent`; null for the configured one.
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    busy_policy: Option<BusyPolicy>,
}

/// A field that may be null but not missing.
fn present<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BusyPolicy>, D::Error> {
    Option::deserialize(deserializer)
}

/// What came of it.
#[derive(Default, Serialize, ToSchema)]
pub(super) struct Steered {
    /// `stopped`, `stopping` (after the call in flight), `nothing_runs`, `other_turn`, `reset`,
    /// `closed` or `set`.
    result: &'static str,
    /// The turn that was stopped, or that is open instead of the named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<uuid::Uuid>)]
    turn_id: Option<TurnId>,
    /// Accepted messages that were cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelled: Option<u32>,
    /// The busy policy that was set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    busy_policy: Option<Option<BusyPolicy>>,
    /// What became of the session's git worktree, if it had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    worktree: Option<String>,
}

impl Steered {
    fn of(controlled: &Controlled) -> Self {
        let (result, turn_id, cancelled) = match controlled {
            Controlled::Stopped(id) => ("stopped", Some(*id), None),
            Controlled::Stopping(id) => ("stopping", Some(*id), None),
            Controlled::OtherTurn(id) => ("other_turn", Some(*id), None),
            Controlled::NothingRuns => ("nothing_runs", None, None),
            Controlled::Reset(count) => ("reset", None, Some(*count)),
            Controlled::Closed(count) => ("closed", None, Some(*count)),
            // The rest answers what is not asked here.
            Controlled::Done
            | Controlled::Noticed { .. }
            | Controlled::NotOptedIn
            | Controlled::NoticesFull
            | Controlled::NoticeReused
            | Controlled::IsClosed
            | Controlled::PausedByOther(_)
            | Controlled::Retried(_)
            | Controlled::Paused
            | Controlled::HandedBack
            | Controlled::NotPaused
            | Controlled::Replied { .. }
            | Controlled::Gone
            | Controlled::QueueFull
            | Controlled::Imported(_)
            | Controlled::NotNew
            | Controlled::Busy => ("done", None, None),
        };
        Self { result, turn_id, cancelled, busy_policy: None, worktree: None }
    }

    fn response(&self) -> Response {
        json(StatusCode::OK, self, 128)
    }
}

/// Has the guard let the asker steer a session. Whoever signed in on the page is asked as a customer.
pub(super) fn check(
    shared: &Shared,
    asker: &Asker,
    key: &SessionKey,
    steering: Steering,
) -> Result<(), Problem> {
    let customer = asker.who().visit().map(|visit| &*visit.customer);
    Ok(shared.gateway.may_steer(key, customer, steering)?)
}

/// Steers a session that is there, if the guard lets the asker.
pub(super) async fn control(
    shared: &Shared,
    asker: &Asker,
    key: &SessionKey,
    control: Control,
) -> Result<Controlled, Problem> {
    check(shared, asker, key, Steering::Other)?;
    shared.loaded(key).await?;
    Ok(shared.gateway.control(key, control).await?)
}

/// Stops the open turn.
///
/// Ends it and its mailbox, not the queue. Where another turn is open than the one named, nothing
/// happens and the result is `other_turn`.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/stop",
    tag = "sessions",
    params(("session" = String, Path, description = "The session's key, percent-encoded")),
    request_body = Option<StopRequest>,
    responses(
        (status = 200, description = "What came of it", body = Steered),
        (status = 404, description = "Nobody has written there", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It is no id of a turn", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "Too much of it by this customer or, with a key, by its tenant; or too many wrong keys from this address", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn stop(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    KeyPath(key): KeyPath,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let request: StopRequest =
        body::json_or_default(&parts.headers, body, &shared.settings).await?;
    let turn = request.turn_id.map(|id| turn_id("turn_id", &id)).transpose()?;
    check(&shared, &asker, &key, Steering::Stop)?;
    shared.loaded(&key).await?;
    let controlled = shared.gateway.stop(&key, turn).await?;
    Ok(Steered::of(&controlled).response())
}

/// Begins a new conversation: stops the turn and cancels everything accepted before.
///
/// A closed session is open again after it.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/new",
    tag = "sessions",
    params(("session" = String, Path, description = "The session's key, percent-encoded")),
    responses(
        (status = 200, description = "How many messages were cancelled", body = Steered),
        (status = 403, description = "The customer who asks is blocked; or the key lacks the scope, which is named; or a foreign page asks", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "Nobody has written there", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It is no session's key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "Too much of it by this customer or, with a key, by its tenant; or too many wrong keys from this address", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn new(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    KeyPath(key): KeyPath,
) -> Answer {
    let controlled = control(&shared, &asker, &key, Control::New).await?;
    Ok(Steered::of(&controlled).response())
}

/// Closes a session: stops the turn and cancels everything accepted before.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/close",
    tag = "sessions",
    params(("session" = String, Path, description = "The session's key, percent-encoded")),
    responses(
        (status = 200, description = "How many messages were cancelled", body = Steered),
        (status = 403, description = "The customer who asks is blocked; or the key lacks the scope, which is named; or a foreign page asks", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "Nobody has written there", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It is no session's key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "Too much of it by this customer or, with a key, by its tenant; or too many wrong keys from this address", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn close(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    KeyPath(key): KeyPath,
) -> Answer {
    let controlled = control(&shared, &asker, &key, Control::Close).await?;
    // Where it stands on this machine is no customer's business, and no tenant's.
    let worktree = shared.gateway.leave_worktree(&key).await;
    let worktree = worktree.filter(|_| asker.who().tenant().is_none());
    Ok(Steered { worktree, ..Steered::of(&controlled) }.response())
}

/// Chooses what happens to messages that arrive while a turn is running.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/queue",
    tag = "sessions",
    params(("session" = String, Path, description = "The session's key, percent-encoded")),
    request_body = QueueRequest,
    responses(
        (status = 200, description = "It is set", body = Steered),
        (status = 403, description = "The customer who asks is blocked; or the key lacks the scope, which is named; or a foreign page asks", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "Nobody has written there", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "There is no such policy", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "Too much of it by this customer or, with a key, by its tenant; or too many wrong keys from this address", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn queue(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    KeyPath(key): KeyPath,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let QueueRequest { busy_policy } = body::json(&parts.headers, body, &shared.settings).await?;
    control(&shared, &asker, &key, Control::SetBusy(busy_policy)).await?;
    let busy_policy = Some(busy_policy);
    Ok(Steered { result: "set", busy_policy, ..Steered::default() }.response())
}

/// Tells that the user is typing: a gathering burst waits a little longer.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/typing",
    tag = "sessions",
    params(("session" = String, Path, description = "The session's key, percent-encoded")),
    responses(
        (status = 204, description = "Noted"),
        (status = 403, description = "The customer who asks is blocked; or the key lacks the scope, which is named; or a foreign page asks", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It is no session's key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "Too much of it by this customer or, with a key, by its tenant; or too many wrong keys from this address", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn typing(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    KeyPath(key): KeyPath,
) -> Answer {
    check(&shared, &asker, &key, Steering::Typing)?;
    if let Err(why) = shared.gateway.readiness() {
        return Err(Problem::new(Kind::Unavailable, why));
    }
    shared.gateway.user_typing(&key);
    Ok(StatusCode::NO_CONTENT.into_response())
}
