//! `POST /v1/chat`: takes a message, and where asked to, waits for its answer or streams it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::HttpBody;
use axum::extract::{Request as AxumRequest, State};
use axum::response::{IntoResponse, Response};
use hyper::body::Bytes;
use hyper::header::ACCEPT;
use hyper::{HeaderMap, Request, StatusCode};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use tokio_util::sync::CancellationToken;
use turnkeep_core::access::Scope;
use turnkeep_core::ids::{QuestionId, Seq, TurnId};
use turnkeep_core::ports::store::TurnStatus;
use utoipa::ToSchema;

use super::access::{Asker, until_nobody};
use super::body;
use super::entry::Shared;
use super::feed::{Feed, Until};
use super::idempotency;
use super::problem::{Problem, ProblemBody};
use super::query::Query;
use super::reply::{Answer, json};
use super::shape::Accepted;
use crate::follow::Settled;
use crate::ingress::Submission;
use crate::service::{Follow, Submitted};

/// A message for an agent. A field that is not listed is refused, so that a mistyped one is not
/// silently ignored; what the sender wants to note goes into `metadata`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChatRequest {
    /// Who owns the deployment slice; `default` if absent.
    tenant_id: Option<String>,
    /// Which agent answers; `default` if absent.
    agent_id: Option<String>,
    /// Who writes. May only be left out where `session` is given.
    #[schema(min_length = 1, max_length = 128, example = "anna")]
    customer_id: Option<String>,
    /// The way the message came; `api` if absent.
    channel: Option<String>,
    /// The text.
    #[schema(required = true, value_type = String, min_length = 1, example = "hello")]
    message: Option<String>,
    /// The sender's own id of the message. A message that comes twice under the same id is
    /// accepted once.
    #[schema(min_length = 1, max_length = 256, example = "m-1")]
    id: Option<String>,
    /// Whatever the sender wants to note; not read.
    #[schema(value_type = Option<Object>)]
    #[expect(dead_code, reason = "only its type is checked")]
    metadata: Option<Metadata>,
    /// A session key, instead of the parts above; those that are given must agree with it.
    session: Option<String>,
    /// Take it as the answer to this question, which stands open in the session, or not at all: once
    /// it is answered or over, the message is refused with `question_not_open`.
    question_id: Option<u32>,
}

/// An object of anything, which is not kept.
#[derive(Debug)]
struct Metadata;

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Anything;
        impl<'de> Visitor<'de> for Anything {
            type Value = Metadata;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Metadata)
            }
        }
        deserializer.deserialize_map(Anything)
    }
}

/// How a message ended.
#[derive(Serialize, ToSchema)]
#[schema(as = Settled)]
pub(super) struct SettledShape<'a> {
    /// `complete`, `failed` or `cancelled`.
    #[schema(value_type = String)]
    status: TurnStatus,
    /// The reply; null where the agent chose silence, or there is none.
    reply: Option<&'a str>,
    /// The operator who gave it in the agent's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'a str>,
    /// The turn that really ended it.
    #[schema(value_type = Option<uuid::Uuid>)]
    turn_id: Option<TurnId>,
    /// The session's key.
    session: &'a str,
    /// The message's id.
    message_id: &'a str,
    /// The same message came before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl<'a> SettledShape<'a> {
    pub(super) fn new(
        session: &'a str,
        message_id: &'a str,
        duplicate: bool,
        settled: &'a Settled,
    ) -> Self {
        Self {
            status: settled.status,
            reply: settled.reply.as_deref(),
            by: settled.by.as_deref(),
            turn_id: settled.turn,
            session,
            message_id,
            duplicate,
            error: settled.error.as_deref(),
        }
    }
}

/// Sends a message to an agent. Also at `/chat`.
///
/// Answers at once that the message is taken; it is durable by then. With `wait` it answers how
/// the message ended, if that is known in time; and as soon as its turn asks the user something, a
/// 202 with the `question`, which the user's next message answers. With `Accept: text/event-stream` it streams: first
/// an event `accepted` with the body of the 202, then the session's journal and drafts as in
/// `/v1/sessions/{session}/events`, and at last an event `settled` with the body of the 200. A key
/// without the scope `read` gets `accepted`, drafts and questions (`turn.waiting_for_input`) of the
/// turn that answers this message, and `settled`.
#[utoipa::path(
    post,
    path = "/v1/chat",
    tag = "chat",
    request_body = ChatRequest,
    params(
        ("wait" = Option<f64>, Query, description = "Wait this many seconds for the answer, at most 300"),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 257, pattern = "^[!-~]+$", description = "A name of this request, 1 to 255 visible ASCII characters, bare or as a quoted string. The same request under the same name is carried out once; another one is refused. Kept for at least 24 hours"),
    ),
    responses(
        (status = 200, description = "The message ended", content(
            (SettledShape = "application/json"),
            (String = "text/event-stream", example = "event: accepted\ndata: {\"status\":\"processing\"}\n\n"),
        )),
        (status = 202, description = "The message is taken; with `wait` it has no ending yet, or its turn waits for the user", body = Accepted),
        (status = 400, description = "Malformed JSON or invalid UTF-8", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "Taken for abuse", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such tenant or session within reach", body = ProblemBody, content_type = "application/problem+json"),
        (status = 408, description = "The body came too slowly", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The session is busy or closed, or the question that `question_id` names is not open", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A field is wrong", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "Too many messages, or too many wait", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "More comes than is decided (`overloaded`), the store is down, or the server is ending", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn chat(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    request: AxumRequest,
) -> Response {
    answer(&shared, &shared.closing, &asker, request).await
}

/// The same, past the router.
pub(super) async fn answer<B: HttpBody<Data = Bytes> + Unpin>(
    shared: &Shared,
    closing: &CancellationToken,
    asker: &Asker,
    request: Request<B>,
) -> Response {
    take(shared, closing, asker, request).await.unwrap_or_else(Problem::into_response)
}

async fn take<B: HttpBody<Data = Bytes> + Unpin>(
    shared: &Shared,
    closing: &CancellationToken,
    asker: &Asker,
    request: Request<B>,
) -> Answer {
    let (mut parts, body) = request.into_parts();
    let query = Query::of(&parts.uri);
    query.only(|name| name == "wait")?;
    let wait = wait_of(query, shared.settings.now().wait_seconds_max)?;
    let streams = wants_stream(&parts.headers);
    let chat: ChatRequest = body::json(&parts.headers, body, &shared.settings).await?;
    let mut submission = submission_of(chat, idempotency::name_of(&parts.headers)?)?;
    submission.trace = parts.extensions.remove();
    asker.confine(&mut submission)?;
    let follows = !streams && wait.is_some();
    let Submitted { key, message_id, decision, follow } =
        shared.gateway.submit(submission, follows).await?;
    let accepted = Accepted::new(key.as_str(), &message_id, &decision);
    if streams {
        let Some(subscription) = shared.gateway.subscribe(&key) else {
            return Ok(json(StatusCode::ACCEPTED, &accepted, 384));
        };
        let seq = decision.seq.unwrap_or_default();
        let store = Arc::clone(shared.gateway.store());
        let feed = Feed::new(store, key.clone(), subscription, Seq(seq.0.saturating_sub(1)));
        let mut feed = feed.without_use(asker.is_person());
        feed.open_with("accepted", &accepted);
        if !asker.who().may(Scope::Read) {
            feed = feed.narrowed();
        }
        let until =
            Until { seq, message_id: Arc::clone(&message_id), duplicate: decision.duplicate };
        return Ok(feed.until(until).response(shared.closing.clone()));
    }
    let _connection = follow.is_some().then(|| shared.gateway.connection_for(&key));
    if let (Some(wait), Some(follow)) = (wait, follow)
        && let Some(settled) = settled_within(follow, wait, closing, asker).await
    {
        if let Some(asked) = &settled.asked {
            let room = 384 + asked.text.len() + asked.text.len() / 8;
            return Ok(json(StatusCode::ACCEPTED, &accepted.asking(&settled), room));
        }
        let room = 384 + settled.reply.as_ref().map_or(0, |reply| reply.len() + reply.len() / 8);
        let shape = SettledShape::new(key.as_str(), &message_id, decision.duplicate, &settled);
        return Ok(json(StatusCode::OK, &shape, room));
    }
    Ok(json(StatusCode::ACCEPTED, &accepted, 384))
}

pub(super) fn submission_of(
    chat: ChatRequest,
    request_name: Option<String>,
) -> Result<Submission, Problem> {
    let Some(text) = chat.message else {
        return Err(Problem::field("message", "is missing: what is there to say?"));
    };
    Ok(Submission {
        tenant: chat.tenant_id,
        agent: chat.agent_id,
        customer: chat.customer_id,
        channel: chat.channel,
        session: chat.session,
        text,
        message_id: chat.id,
        request_name,
        request_of: None,
        question: chat.question_id.map(QuestionId),
        trace: None,
        heard: None,
    })
}

pub(super) fn wait_of(query: Query<'_>, seconds_max: u64) -> Result<Option<Duration>, Problem> {
    const WHAT: &str = "a number of seconds, 0 or more";
    let Some(seconds) = query.parsed::<f64>("wait", WHAT)? else { return Ok(None) };
    if !seconds.is_finite() || seconds.is_sign_negative() {
        return Err(Problem::field("wait", format!("must be {WHAT}, not {seconds}")));
    }
    let longest = Duration::from_secs(seconds_max);
    let wait = Duration::try_from_secs_f64(seconds).map_or(longest, |wait| wait.min(longest));
    Ok((!wait.is_zero()).then_some(wait))
}

fn wants_stream(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .any(|accept| accept.to_str().is_ok_and(|accept| accept.contains("text/event-stream")))
}

/// Turns have had their time when the connections are closed, so nobody waits on then: what is
/// settled by that moment is told, and everybody else knows at least that his message is safe. So
/// does whoever is nobody any more.
async fn settled_within(
    follow: Follow,
    wait: Duration,
    closing: &CancellationToken,
    asker: &Asker,
) -> Option<Settled> {
    tokio::select! {
        biased;
        () = until_nobody(&asker.0) => None,
        settled = follow => settled,
        () = tokio::time::sleep(wait) => None,
        () = closing.cancelled() => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Uri;

    #[test]
    fn waits_are_clamped_and_checked() {
        let check = |query: &str, expect: Option<Option<u64>>| {
            let uri: Uri = format!("/v1/chat?{query}").parse().unwrap();
            let wait = wait_of(Query::of(&uri), 300).ok();
            let expect = expect.map(|wait| wait.map(Duration::from_millis));
            assert_eq!(wait, expect, "{query}");
        };
        check("", Some(None));
        check("wait=0", Some(None));
        check("wait=1", Some(Some(1000)));
        check("wait=0.25", Some(Some(250)));
        check("wait=1e300", Some(Some(300_000)));
        check("wait=301", Some(Some(300_000)));
        for bad in ["wait=", "wait=-1", "wait=nan", "wait=inf", "wait=soon", "wait"] {
            check(bad, None);
        }
    }
}
