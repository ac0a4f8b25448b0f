//! `POST /v1/messages`: tells a customer something that nobody asked for; and whether they want so.

use std::sync::Arc;

use axum::extract::{Request, State};
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use turnkeep_core::ids::Seq;
use turnkeep_core::session::{Control, Controlled};
use utoipa::ToSchema;

use super::access::Asker;
use super::body;
use super::entry::Shared;
use super::idempotency;
use super::path::KeyPath;
use super::problem::{Problem, ProblemBody};
use super::reply::{Answer, json};
use super::steer;
use crate::guard::Steering;
use crate::ingress::Submission;
use crate::unasked::Notified;

/// A message to a customer. A field that is not listed is refused.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UnaskedRequest {
    /// Who owns the deployment slice; `default` if absent.
    tenant_id: Option<String>,
    /// In whose conversation it stands; `default` if absent.
    agent_id: Option<String>,
    /// Whom it is for.
    #[schema(required = true)]
    customer_id: Option<String>,
    /// The way it goes.
    #[schema(required = true)]
    channel: Option<String>,
    /// The text.
    #[schema(required = true)]
    text: Option<String>,
    /// The sender's own id of it. What comes twice under the same id is told once.
    id: Option<String>,
}

/// Whether the customer was told by now.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum TellingStatus {
    /// It stands in the conversation and is on its way.
    Sent,
    /// It waits for the open turn's end.
    Waiting,
}

/// A message to a customer became the gateway's; it is durable by now.
#[derive(Serialize, ToSchema)]
pub(super) struct Telling<'a> {
    /// Whether the customer was told by now.
    status: TellingStatus,
    /// The session's key.
    session: &'a str,
    /// The message's id, which the gateway made if the sender did not.
    message_id: &'a str,
    /// Its place in the session's journal.
    #[schema(value_type = u64)]
    seq: Seq,
    /// The same message came before, and this is the answer it got then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

/// What a customer wants.
#[derive(Serialize, ToSchema)]
pub(super) struct OptedShape {
    /// `opted_in` or `opted_out`.
    result: &'static str,
}

/// Tells a customer something that nobody asked for.
///
/// Only a customer who opted in gets it. It starts no turn: it is told at once, or after the open
/// turn's end, and its channel delivers it in order with the replies.
#[utoipa::path(
    post,
    path = "/v1/messages",
    tag = "chat",
    request_body = UnaskedRequest,
    responses(
        (status = 202, description = "It is taken", body = Telling),
        (status = 400, description = "Malformed JSON or invalid UTF-8", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The customer did not opt in", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such tenant within reach", body = ProblemBody, content_type = "application/problem+json"),
        (status = 408, description = "The body came too slowly", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The session is closed", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A field is wrong", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "Too many wait to be told or delivered, or the tenant sends too many", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "More comes than is decided (`overloaded`), the store is down, or the server is ending", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn send(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let instead = "is not taken here; name the message by its id, which counts for its session";
    idempotency::none_of(&parts.headers, instead)?;
    let request: UnaskedRequest = body::json(&parts.headers, body, &shared.settings).await?;
    let Some(text) = request.text else {
        return Err(Problem::field("text", "is missing: what is there to say?"));
    };
    let mut submission = Submission {
        tenant: request.tenant_id,
        agent: request.agent_id,
        customer: request.customer_id,
        channel: request.channel,
        text,
        message_id: request.id,
        ..Submission::default()
    };
    asker.confine(&mut submission)?;
    let Notified { key, message_id, told } = shared.gateway.notify(submission).await?;
    let Controlled::Noticed { seq, waits, duplicate } = told else {
        return Err(Problem::of_notice(&told));
    };
    let status = if waits { TellingStatus::Waiting } else { TellingStatus::Sent };
    let (session, message_id) = (key.as_str(), &*message_id);
    let telling = Telling { status, session, message_id, seq, duplicate };
    Ok(json(StatusCode::ACCEPTED, &telling, 256))
}

/// The customer takes messages that nobody asked for.
///
/// The session need not exist yet.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/opt-in",
    tag = "sessions",
    params(("session" = String, Path, description = "The session's key, percent-encoded")),
    responses(
        (status = 200, description = "It is noted", body = OptedShape),
        (status = 403, description = "The customer who asks is blocked; or the key lacks the scope, which is named; or a foreign page asks", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It is no session key, or its agent or channel is not configured", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "Too much of it by this customer or, with a key, by its tenant; or too many wrong keys from this address", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn opt_in(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    KeyPath(key): KeyPath,
) -> Answer {
    steer::check(&shared, &asker, &key, Steering::Other)?;
    shared.gateway.control(&key, Control::OptIn(true)).await?;
    Ok(json(StatusCode::OK, &OptedShape { result: "opted_in" }, 64))
}

/// The customer takes no message any more that nobody asked for; what waits is not told either.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/opt-out",
    tag = "sessions",
    params(("session" = String, Path, description = "The session's key, percent-encoded")),
    responses(
        (status = 200, description = "It is noted", body = OptedShape),
        (status = 403, description = "The customer who asks is blocked; or the key lacks the scope, which is named; or a foreign page asks", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It is no session key, or its agent or channel is not configured", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "Too much of it by this customer or, with a key, by its tenant; or too many wrong keys from this address", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn opt_out(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    KeyPath(key): KeyPath,
) -> Answer {
    steer::check(&shared, &asker, &key, Steering::Other)?;
    shared.gateway.control(&key, Control::OptIn(false)).await?;
    Ok(json(StatusCode::OK, &OptedShape { result: "opted_out" }, 64))
}
