//! What a refusal looks like: `application/problem+json` (RFC 9457).

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use hyper::header::{
    CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE,
};
use hyper::{Method, StatusCode, Uri};
use serde::Serialize;
use turnkeep_core::budget::{Exceeded, Scope, Window};
use turnkeep_core::message::{Action, Rejection};
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::session::Controlled;
use utoipa::ToSchema;

use super::idempotency;
use super::sign_in::NO_COOKIE;
use crate::service::Refusal;

/// When to try again where nothing better is known, in seconds.
const RETRY_AFTER_S: u32 = 1;

/// What sort of refusal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    BadRequest,
    MalformedJson,
    Unauthorized,
    MissingScope,
    SocketOnly,
    ForeignOrigin,
    NotFound,
    MethodNotAllowed,
    TooSlow,
    SessionBusy,
    SessionClosed,
    QuestionNotOpen,
    NotParked,
    WrongState,
    Full,
    NameTaken,
    Ambiguous,
    Exists,
    TooLarge,
    NotJson,
    Misdirected,
    Field,
    Configuration,
    QueueFull,
    RateLimited,
    BudgetExceeded,
    Abuse,
    NotOptedIn,
    Internal,
    Overloaded,
    Unavailable,
    DiskFull,
}

impl Kind {
    const fn parts(self) -> (StatusCode, &'static str, &'static str) {
        let (urn, title) = self.words();
        (self.status(), urn, title)
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest | Self::MalformedJson => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::MissingScope
            | Self::SocketOnly
            | Self::ForeignOrigin
            | Self::Abuse
            | Self::NotOptedIn => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::SessionBusy
            | Self::SessionClosed
            | Self::QuestionNotOpen
            | Self::NotParked
            | Self::WrongState
            | Self::Full
            | Self::NameTaken
            | Self::Ambiguous
            | Self::Exists => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Field | Self::Configuration => StatusCode::UNPROCESSABLE_ENTITY,
            Self::QueueFull | Self::RateLimited | Self::BudgetExceeded => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Overloaded | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
        }
    }

    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::BadRequest => ("urn:turnkeep:problem:bad-request", "Bad request"),
            Self::MalformedJson => ("urn:turnkeep:problem:malformed-json", "Malformed JSON"),
            Self::Unauthorized => ("urn:turnkeep:problem:unauthorized", "Unauthorized"),
            Self::MissingScope => ("urn:turnkeep:problem:missing-scope", "Missing scope"),
            Self::SocketOnly => ("urn:turnkeep:problem:socket-only", "Over the socket only"),
            Self::ForeignOrigin => ("urn:turnkeep:problem:foreign-origin", "Foreign origin"),
            Self::NotFound => ("urn:turnkeep:problem:not-found", "Not found"),
            Self::MethodNotAllowed => {
                ("urn:turnkeep:problem:method-not-allowed", "Method not allowed")
            }
            Self::TooSlow => ("urn:turnkeep:problem:too-slow", "Too slow"),
            Self::SessionBusy => ("urn:turnkeep:problem:session-busy", "Session busy"),
            Self::SessionClosed => ("urn:turnkeep:problem:session-closed", "Session closed"),
            Self::QuestionNotOpen => {
                ("urn:turnkeep:problem:question-not-open", "Question not open")
            }
            Self::NotParked => ("urn:turnkeep:problem:not-parked", "Not parked"),
            Self::WrongState => ("urn:turnkeep:problem:wrong-state", "Wrong state"),
            Self::Full => ("urn:turnkeep:problem:full", "Full"),
            Self::NameTaken => ("urn:turnkeep:problem:name-taken", "Name taken"),
            Self::Ambiguous => ("urn:turnkeep:problem:ambiguous", "Ambiguous"),
            Self::Exists => ("urn:turnkeep:problem:exists", "Already there"),
            Self::DiskFull => ("urn:turnkeep:problem:disk-full", "Disk full"),
            Self::TooLarge => ("urn:turnkeep:problem:too-large", "Too large"),
            Self::NotJson => ("urn:turnkeep:problem:not-json", "Not JSON"),
            Self::Misdirected => ("urn:turnkeep:problem:misdirected", "Misdirected request"),
            Self::Field => ("urn:turnkeep:problem:field", "Wrong field"),
            Self::Configuration => ("urn:turnkeep:problem:configuration", "Wrong configuration"),
            Self::QueueFull => ("urn:turnkeep:problem:queue-full", "Queue full"),
            Self::RateLimited => ("urn:turnkeep:problem:rate-limited", "Rate limit exceeded"),
            Self::BudgetExceeded => ("urn:turnkeep:problem:budget-exceeded", "Budget exceeded"),
            Self::Abuse => ("urn:turnkeep:problem:abuse", "Abuse detected"),
            Self::NotOptedIn => ("urn:turnkeep:problem:not-opted-in", "Not opted in"),
            Self::Internal => ("urn:turnkeep:problem:internal", "Internal error"),
            Self::Overloaded => ("urn:turnkeep:problem:overloaded", "Overloaded"),
            Self::Unavailable => ("urn:turnkeep:problem:unavailable", "Unavailable"),
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
    /// When to try again, where that is known better than by the kind.
    retry_after_s: Option<u32>,
    /// The scope that is missing.
    scope: Option<&'static str>,
    /// The sessions that may be meant.
    candidates: Vec<Candidate>,
    /// The browser shall forget its cookie.
    forget_cookie: bool,
    /// The connection ends with the answer.
    close: bool,
}

/// A session that may be meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Candidate {
    /// Its number on the switchboard.
    pub(super) number: u32,
    /// Its short id.
    pub(super) id: String,
    /// What people call it.
    pub(super) name: Option<String>,
    /// Its key.
    pub(super) session: String,
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
    /// The scope that is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    /// The sessions that may be meant, where it is not clear which one is.
    #[serde(skip_serializing_if = "<[Candidate]>::is_empty")]
    #[schema(value_type = Vec<Candidate>)]
    candidates: &'a [Candidate],
    /// When to try again, in seconds; also in the `Retry-After` header.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_s: Option<u32>,
}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            field: None,
            rejection: None,
            retry_after_s: None,
            scope: None,
            candidates: Vec::new(),
            forget_cookie: false,
            close: false,
        }
    }

    /// A wrong field, by its name.
    pub(super) fn field(
        field: impl Into<Cow<'static, str>>,
        why: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { field: Some(field.into()), ..Self::new(Kind::Field, why) }
    }

    /// No key, or none that opens: whoever guesses is told nothing else.
    pub(super) fn unauthorized() -> Self {
        Self::new(Kind::Unauthorized, "this needs an API key: Authorization: Bearer KEY")
    }

    /// No code, or none that opens.
    pub(super) fn wrong_code() -> Self {
        Self::new(Kind::Unauthorized, "this code is not known, or was used already, or is too old")
    }

    /// The key lacks this scope, or reaches not far enough.
    pub(super) fn scope(scope: &'static str, detail: String) -> Self {
        Self { scope: Some(scope), ..Self::new(Kind::MissingScope, detail) }
    }

    /// Nothing answers this method there.
    pub(super) fn method(method: &Method, uri: &Uri) -> Self {
        Self::new(Kind::MethodNotAllowed, format!("{} doesn't take {method}", uri.path()))
    }

    /// The same of one field.
    pub(super) fn of_field(self, field: &'static str) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// Any of these may be meant.
    pub(super) fn with_candidates(self, candidates: Vec<Candidate>) -> Self {
        Self { candidates, ..self }
    }

    /// The browser shall forget its cookie.
    pub(super) fn without_cookie(self) -> Self {
        Self { forget_cookie: true, ..self }
    }

    /// Whoever may not ask has its message rejected.
    pub(super) fn of_message(self) -> Self {
        let rejection = match self.kind {
            Kind::Unauthorized | Kind::MissingScope => Some("unauthorized"),
            _ => self.rejection,
        };
        Self { rejection, ..self }
    }

    /// More than the machine takes.
    fn overloaded() -> Self {
        let detail = "more messages come than are decided; nothing was taken, send it again";
        Self { rejection: Some("overloaded"), ..Self::new(Kind::Overloaded, detail) }
    }

    /// The request's body is not read any more, so the next request could not be found.
    pub(super) fn and_close(self) -> Self {
        Self { close: true, ..self }
    }

    /// Too much of something; one more would pass in so many milliseconds.
    pub(super) fn rate_limited(detail: &'static str, retry_after_ms: u64) -> Self {
        let retry_after_s = Some(whole_seconds(retry_after_ms));
        Self { retry_after_s, ..Self::new(Kind::RateLimited, detail) }
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
                "the session is closed and its channel doesn't reopen it; a POST to its /new does",
                None,
            ),
            Rejection::QuestionNotOpen => (
                Kind::QuestionNotOpen,
                "the question that this was to answer is not open, or is not the sender's to answer; \
                 nothing was taken",
                None,
            ),
            Rejection::IdReused => {
                (Kind::Field, "the same id came before with another message", Some("id"))
            }
            Rejection::RequestReused => (
                Kind::Field,
                "the same key came before with another request",
                Some(idempotency::HEADER),
            ),
            Rejection::RateLimited { .. } => {
                (Kind::RateLimited, "too many messages; slow down", None)
            }
            Rejection::BudgetExceeded { budget, .. } => {
                (Kind::BudgetExceeded, used_up(*budget), None)
            }
            Rejection::Abuse(_) => (
                Kind::Abuse,
                "this was taken for abuse; whoever runs the gateway can lift what follows from it",
                None,
            ),
        };
        let retry_after_s = match rejection {
            Rejection::RateLimited { retry_after_ms }
            | Rejection::BudgetExceeded { retry_after_ms, .. } => {
                Some(whole_seconds(*retry_after_ms))
            }
            _ => None,
        };
        let (field, rejection) = (field.map(Cow::Borrowed), Some(rejection.as_str()));
        Self { field, rejection, retry_after_s, ..Self::new(kind, detail) }
    }

    /// A message to a customer that their session did not take.
    pub(super) fn of_notice(told: &Controlled) -> Self {
        let (kind, detail, rejection) = match told {
            Controlled::NotOptedIn => (
                Kind::NotOptedIn,
                "the customer takes no messages that nobody asked for; a POST to the session's \
                 /opt-in notes that they do",
                "not_opted_in",
            ),
            Controlled::NoticesFull => (
                Kind::QueueFull,
                "too many messages wait to be told to this customer or to be delivered",
                Rejection::QueueFull.as_str(),
            ),
            Controlled::NoticeReused => return Self::rejected(&Rejection::IdReused),
            // The rest answers what is not asked here.
            _ => return Self::rejected(&Rejection::Closed),
        };
        Self { rejection: Some(rejection), ..Self::new(kind, detail) }
    }

    /// A dead letter that can't be retried while the inbox is full.
    pub(super) fn queue_full() -> Self {
        Self::rejected(&Rejection::QueueFull)
    }

    /// A dead letter that would have to wait where nothing may.
    pub(super) fn session_busy() -> Self {
        Self::rejected(&Rejection::SessionBusy)
    }
}

/// Which budget, and until when.
const fn used_up(Exceeded { scope, window }: Exceeded) -> &'static str {
    match (scope, window) {
        (Scope::Session, Window::Day) => "this conversation's budget for today is used up",
        (Scope::Session, Window::Month) => "this conversation's budget for this month is used up",
        (Scope::Customer, Window::Day) => "the customer's budget for today is used up",
        (Scope::Customer, Window::Month) => "the customer's budget for this month is used up",
        (Scope::Tenant, Window::Day) => "the tenant's budget for today is used up",
        (Scope::Tenant, Window::Month) => "the tenant's budget for this month is used up",
    }
}

/// Rounded up: who waits that long is let in.
fn whole_seconds(ms: u64) -> u32 {
    u32::try_from(ms.div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Field(error) => Self::field(error.field, error.why),
            Refusal::Rejected(rejection) => Self::rejected(&rejection),
            Refusal::Overloaded => Self::overloaded(),
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

impl Problem {
    /// What is told of it.
    pub(super) fn body(&self) -> ProblemBody<'_> {
        let (status, kind, title) = self.kind.parts();
        let passes = matches!(
            self.kind,
            Kind::QueueFull | Kind::RateLimited | Kind::Overloaded | Kind::Unavailable
        );
        ProblemBody {
            kind,
            title,
            status: status.as_u16(),
            detail: &self.detail,
            field: self.field.as_deref(),
            action: self.rejection.map(|_| Action::Rejected.as_str()),
            rejection_reason: self.rejection,
            scope: self.scope,
            candidates: &self.candidates,
            retry_after_s: self.retry_after_s.or_else(|| passes.then_some(RETRY_AFTER_S)),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = self.body();
        let retry_after_s = body.retry_after_s;
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = Response::new(body.into());
        *response.status_mut() = self.kind.status();
        let headers = response.headers_mut();
        let problem_json = HeaderValue::from_static("application/problem+json");
        headers.insert(CONTENT_TYPE, problem_json);
        if let Some(seconds) = retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.kind == Kind::Unauthorized {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"turnkeep\""));
        }
        if self.forget_cookie {
            headers.insert(SET_COOKIE, NO_COOKIE);
        }
        if self.close || matches!(self.kind, Kind::TooLarge | Kind::TooSlow) {
            // The rest of the body is not read, so the next request could not be found.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
