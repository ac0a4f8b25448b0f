//! What a refusal looks like: `application/problem+json` (RFC 9457).

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use serde::Serialize;
use turnkeep_core::message::{Action, Rejection};
use turnkeep_core::ports::store::StoreError;
use utoipa::ToSchema;

use crate::service::Refusal;

/// When to try again where nothing better is known, in seconds.
const RETRY_AFTER_S: u32 = 1;

/// What sort of refusal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    BadRequest,
    MalformedJson,
    ForeignOrigin,
    NotFound,
    MethodNotAllowed,
    TooSlow,
    SessionBusy,
    SessionClosed,
    NotParked,
    TooLarge,
    NotJson,
    Misdirected,
    Field,
    QueueFull,
    Internal,
    Unavailable,
}

impl Kind {
    const fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadRequest => {
                (StatusCode::BAD_REQUEST, "urn:turnkeep:problem:bad-request", "Bad request")
            }
            Self::MalformedJson => {
                (StatusCode::BAD_REQUEST, "urn:turnkeep:problem:malformed-json", "Malformed JSON")
            }
            Self::ForeignOrigin => {
                (StatusCode::FORBIDDEN, "urn:turnkeep:problem:foreign-origin", "Foreign origin")
            }
            Self::NotFound => {
                (StatusCode::NOT_FOUND, "urn:turnkeep:problem:not-found", "Not found")
            }
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "urn:turnkeep:problem:method-not-allowed",
                "Method not allowed",
            ),
            Self::TooSlow => {
                (StatusCode::REQUEST_TIMEOUT, "urn:turnkeep:problem:too-slow", "Too slow")
            }
            Self::SessionBusy => {
                (StatusCode::CONFLICT, "urn:turnkeep:problem:session-busy", "Session busy")
            }
            Self::SessionClosed => {
                (StatusCode::CONFLICT, "urn:turnkeep:problem:session-closed", "Session closed")
            }
            Self::NotParked => {
                (StatusCode::CONFLICT, "urn:turnkeep:problem:not-parked", "Not parked")
            }
            Self::TooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "urn:turnkeep:problem:too-large", "Too large")
            }
            Self::NotJson => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "urn:turnkeep:problem:not-json", "Not JSON")
            }
            Self::Misdirected => (
                StatusCode::MISDIRECTED_REQUEST,
                "urn:turnkeep:problem:misdirected",
                "Misdirected request",
            ),
            Self::Field => {
                (StatusCode::UNPROCESSABLE_ENTITY, "urn:turnkeep:problem:field", "Wrong field")
            }
            Self::QueueFull => {
                (StatusCode::TOO_MANY_REQUESTS, "urn:turnkeep:problem:queue-full", "Queue full")
            }
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "urn:turnkeep:problem:internal",
                "Internal error",
            ),
            Self::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "urn:turnkeep:problem:unavailable", "Unavailable")
            }
        }
    }
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    kind: Kind,
    detail: Cow<'static, str>,
    field: Option<Cow<'static, str>>,
    rejection: Option<&'static str>,
}

/// The body of every refusal.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody<'a> {
    /// Names the sort of refusal.
    #[serde(rename = "type")]
    kind: &'a str,
    /// The sort of refusal in words.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// What was wrong this time, and what would be right.
    detail: &'a str,
    /// The field of the request that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    /// `rejected`, where a message was not accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'a str>,
    /// Why it was not accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    rejection_reason: Option<&'a str>,
    /// When to try again, in seconds; also in the `Retry-After` header.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_s: Option<u32>,
}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: detail.into(), field: None, rejection: None }
    }

    /// A wrong field, by its name.
    pub(super) fn field(
        field: impl Into<Cow<'static, str>>,
        why: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { field: Some(field.into()), ..Self::new(Kind::Field, why) }
    }

    fn rejected(rejection: &Rejection) -> Self {
        let (kind, detail, field) = match rejection {
            Rejection::SessionBusy => (
                Kind::SessionBusy,
                "a turn is running and this session takes no message then",
                None,
            ),
            Rejection::QueueFull => {
                (Kind::QueueFull, "too many messages of this session are waiting", None)
            }
            Rejection::Closed => (
                Kind::SessionClosed,
                "the session is closed and its channel doesn't reopen it",
                None,
            ),
            Rejection::IdReused => {
                (Kind::Field, "the same id came before with another message", Some("id"))
            }
        };
        let field = field.map(Cow::Borrowed);
        Self { field, rejection: Some(rejection.as_str()), ..Self::new(kind, detail) }
    }

    /// A dead letter that can't be retried while the inbox is full.
    pub(super) fn queue_full() -> Self {
        Self::rejected(&Rejection::QueueFull)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Field(error) => Self::field(error.field, error.why),
            Refusal::Rejected(rejection) => Self::rejected(&rejection),
            Refusal::Unavailable(why) => Self::new(Kind::Unavailable, why),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Unavailable(_) => Self::new(Kind::Unavailable, error.to_string()),
            StoreError::Corrupt(_) => {
                tracing::error!(%error, "a request met it");
                Self::new(Kind::Internal, "what is stored can't be read; see the server's log")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, kind, title) = self.kind.parts();
        let retry_after_s =
            matches!(self.kind, Kind::QueueFull | Kind::Unavailable).then_some(RETRY_AFTER_S);
        let body = ProblemBody {
            kind,
            title,
            status: status.as_u16(),
            detail: &self.detail,
            field: self.field.as_deref(),
            action: self.rejection.map(|_| Action::Rejected.as_str()),
            rejection_reason: self.rejection,
            retry_after_s,
        };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = Response::new(body.into());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let problem_json = HeaderValue::from_static("application/problem+json");
        headers.insert(CONTENT_TYPE, problem_json);
        if let Some(seconds) = retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if matches!(self.kind, Kind::TooLarge | Kind::TooSlow) {
            // The rest of the body is not read, so the next request could not be found.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
