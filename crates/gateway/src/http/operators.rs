//! A person in the agent's place: pauses a session's agent, answers there, and hands it back.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use turnkeep_core::SessionKey;
use turnkeep_core::ids::{Seq, TurnId};
use turnkeep_core::session::{Control, Controlled, SessionStatus};
use utoipa::ToSchema;

use super::access::Asker;
use super::body;
use super::entry::Shared;
use super::idempotency;
use super::path::KeyPath;
use super::problem::{Kind, Problem, ProblemBody};
use super::reply::{Answer, json};
use super::shape::{PausedShape, paused_of};
use super::steer;
use crate::guard::Steering;
use crate::ingress::{OperatorReply, check_operator};
use crate::service::Refusal;

/// Who takes the agent's place. A field that is not listed is refused.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PauseRequest {
    /// The operator's name, for the customer and the journal; what the key is called if absent.
    by: Option<String>,
    /// Also if another operator has it, who loses it then.
    #[serde(default)]
    take_over: bool,
}

/// Who gives the agent's place back. A field that is not listed is refused.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OperatorRequest {
    /// The operator's name, for the customer and the journal; what the key is called if absent.
    by: Option<String>,
}

/// What an operator says. A field that is not listed is refused.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplyRequest {
    /// The text.
    #[schema(required = true)]
    text: Option<String>,
    /// The sender's own id of it. What comes twice under the same id is said once.
    id: Option<String>,
    /// The operator's name; what the key is called if absent.
    by: Option<String>,
}

/// Who has the session now.
#[derive(Serialize, ToSchema)]
pub(super) struct OperatorShape {
    /// `paused`, `handed_back`, or `not_paused` where the agent had it already.
    result: &'static str,
    /// Who has it in the agent's place; null for nobody.
    paused: Option<PausedShape>,
    /// The turn that is open; while it is paused, it waits for the operator's reply, or its agent
    /// ends what it can't lay down.
    #[schema(value_type = Option<uuid::Uuid>)]
    open_turn_id: Option<TurnId>,
    /// The session's state.
    #[schema(value_type = String)]
    state: SessionStatus,
}

/// What an operator said is the gateway's; it is durable by now.
#[derive(Serialize, ToSchema)]
pub(super) struct Replied<'a> {
    /// `answered` where it completed a turn, `told` where nothing waited for an answer.
    result: &'static str,
    /// The session's key.
    session: &'a str,
    /// The turn that it completed.
    #[schema(value_type = Option<uuid::Uuid>)]
    turn_id: Option<TurnId>,
    /// Its id, which the gateway made if the sender did not.
    message_id: &'a str,
    /// Its place in the session's journal.
    #[schema(value_type = u64)]
    seq: Seq,
    /// The same came before, and this is the answer it got then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

/// The operator's name: as given, or as the key goes by.
fn name_of(asker: &Asker, given: Option<String>) -> Result<Arc<str>, Problem> {
    let Some(name) = given else { return Ok(Arc::clone(&asker.who().name)) };
    check_operator(&name).map_err(|error| Problem::from(Refusal::Field(error)))?;
    Ok(name.into())
}

/// What a control came to, and how the session stands after it.
async fn control(
    shared: &Shared,
    asker: &Asker,
    key: &SessionKey,
    control: Control,
) -> Result<Response, Problem> {
    let result = match steer::control(shared, asker, key, control).await? {
        Controlled::PausedByOther(other) => {
            let why = format!("{other} has this session; take_over takes it from them");
            return Err(Problem::new(Kind::WrongState, why));
        }
        Controlled::Paused => "paused",
        Controlled::HandedBack => "handed_back",
        _ => "not_paused",
    };
    let loaded = shared.loaded(key).await?;
    let session = &loaded.session;
    let shape = OperatorShape {
        result,
        paused: paused_of(session),
        open_turn_id: session.turn.as_ref().map(|turn| turn.id),
        state: session.status(),
    };
    Ok(json(StatusCode::OK, &shape, 256))
}

/// Takes the agent's place in a session.
///
/// From here on no attempt of the agent begins there. A turn that is open waits for the operator's
/// reply, unless its agent is past the commit point or in the middle of a call that acts: that it
/// may end. Messages are taken as ever and join the turn that waits.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/pause",
    tag = "sessions",
    params(("session" = String, Path, description = "The session's key, percent-encoded")),
    request_body = Option<PauseRequest>,
    responses(
        (status = 200, description = "The session is the operator's", body = OperatorShape),
        (status = 404, description = "Nobody has written there", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "Another operator has it, who is named, and `take_over` is not true", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The name is no name", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "Too much of it by the key's tenant, or too many wrong keys from this address", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn pause(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    KeyPath(key): KeyPath,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let request: PauseRequest =
        body::json_or_default(&parts.headers, body, &shared.settings).await?;
    let by = name_of(&asker, request.by)?;
    control(&shared, &asker, &key, Control::Pause { by, take_over: request.take_over }).await
}

/// Gives the agent its place again.
///
/// A turn that waits for the operator begins with all of its messages. The agent's history holds
/// what the operator said.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/hand_back",
    tag = "sessions",
    params(("session" = String, Path, description = "The session's key, percent-encoded")),
    request_body = Option<OperatorRequest>,
    responses(
        (status = 200, description = "The session is the agent's, as it may have been before", body = OperatorShape),
        (status = 404, description = "Nobody has written there", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The name is no name", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "Too much of it by the key's tenant, or too many wrong keys from this address", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn hand_back(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    KeyPath(key): KeyPath,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let request: OperatorRequest =
        body::json_or_default(&parts.headers, body, &shared.settings).await?;
    let by = name_of(&asker, request.by)?;
    control(&shared, &asker, &key, Control::HandBack { by }).await
}

/// Answers in the agent's place.
///
/// Completes the turn that waits, with all of its messages; the next one in the queue waits, too.
/// Where no turn waits it is told as a notice. Either way its channel delivers it as a reply.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/reply",
    tag = "sessions",
    params(("session" = String, Path, description = "The session's key, percent-encoded")),
    request_body = ReplyRequest,
    responses(
        (status = 200, description = "It is said", body = Replied),
        (status = 404, description = "Nobody has written there", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The session is not paused, or it is closed", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A field is wrong", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "Too many wait to be delivered, too much of it by the key's tenant, or too many wrong keys from this address", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn reply(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    KeyPath(key): KeyPath,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let instead = "is not taken here; name the reply by its id";
    idempotency::none_of(&parts.headers, instead)?;
    let request: ReplyRequest = body::json(&parts.headers, body, &shared.settings).await?;
    let Some(text) = request.text else {
        return Err(Problem::field("text", "is missing: what is there to say?"));
    };
    let by = name_of(&asker, request.by)?;
    steer::check(&shared, &asker, &key, Steering::Other)?;
    shared.loaded(&key).await?;
    let reply = OperatorReply { by, text, id: request.id };
    let (message_id, told) = shared.gateway.answer_as_operator(&key, reply).await?;
    let Controlled::Replied { seq, turn, duplicate } = told else {
        return Err(match told {
            Controlled::NotPaused => {
                Problem::new(Kind::WrongState, "the agent has this session; pause it first")
            }
            other => Problem::of_notice(&other),
        });
    };
    let result = if turn.is_some() { "answered" } else { "told" };
    let (session, message_id) = (key.as_str(), &*message_id);
    let shape = Replied { result, session, turn_id: turn, message_id, seq, duplicate };
    Ok(json(StatusCode::OK, &shape, 256))
}
