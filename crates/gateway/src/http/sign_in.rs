//! `/v1/sign-ins`, `/v1/sign-in`, `/v1/sign-out`: people on the web page.
//!
//! Whoever has a key makes a code for a customer; the page exchanges it for a cookie, which is that
//! customer until it ends and nobody else.

use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse, Response};
use hyper::header::{CACHE_CONTROL, HeaderValue, SET_COOKIE};
use hyper::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use turnkeep_core::access::{VISIT_CHANNEL, Visit};
use turnkeep_core::session_key::SessionKeyError;
use turnkeep_core::{SessionKey, SessionKind, Timestamp};
use utoipa::ToSchema;

use super::access::{Asker, cookie_in};
use super::body;
use super::entry::Shared;
use super::problem::{Problem, ProblemBody};
use super::reply::{Answer, json, read};
use super::settings::HttpSettings;
use super::shape::Moment;
use super::source::Source;
use crate::access::SignedIn;

/// The cookie's name.
pub(super) const COOKIE: &str = "turnkeep_visit";
/// Takes the cookie away.
pub(super) const NO_COOKIE: HeaderValue =
    HeaderValue::from_static("turnkeep_visit=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict");
/// What messages say where no agent or tenant is named.
const DEFAULT: &str = "default";

/// For whom a code is wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InviteRequest {
    /// Whose customer; the asker's own if absent, `default` for the operator.
    tenant_id: Option<String>,
    /// Who will sign in.
    customer_id: String,
    /// The only agent to talk to; any if absent, and the page asks `default`.
    agent_id: Option<String>,
}

/// A code.
#[derive(Serialize, ToSchema)]
pub(super) struct Invited<'a> {
    /// What the person shows, once.
    code: &'a str,
    /// The page with the code in it, to be opened or sent on.
    link: String,
    /// Until when it can be used.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Moment,
    /// Whose customer.
    tenant_id: &'a str,
    /// Who.
    customer_id: &'a str,
}

/// A code that a person shows.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignInRequest {
    /// What was sent to the person.
    code: String,
}

/// Who is signed in.
#[derive(Serialize, ToSchema)]
pub(super) struct Person<'a> {
    /// Whose customer.
    tenant_id: &'a str,
    /// Which agent the page talks to.
    agent_id: &'a str,
    /// Who.
    customer_id: &'a str,
    /// Until when.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Moment>,
}

/// Whether one has to sign in, and who did.
#[derive(Serialize, ToSchema)]
pub(super) struct SignInState<'a> {
    /// Without signing in the page can do nothing.
    needed: bool,
    /// Who is signed in; null if nobody is.
    person: Option<Person<'a>>,
}

/// Makes a code for a person.
///
/// It can be used once, for ten minutes, at the page `/`, and makes its bearer that customer there
/// for thirty days.
#[utoipa::path(
    post,
    path = "/v1/sign-ins",
    tag = "keys",
    request_body = InviteRequest,
    responses(
        (status = 201, description = "It is made", body = Invited),
        (status = 400, description = "Malformed JSON or invalid UTF-8", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such tenant within reach", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "Too many codes wait to be used", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A field is wrong", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The store is down", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn invite(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let asked: InviteRequest = body::json(&parts.headers, body, &shared.settings).await?;
    let tenant = asker.tenant(asked.tenant_id)?.unwrap_or_else(|| DEFAULT.to_owned());
    let visit = visit_of(&shared, &tenant, &asked.customer_id, asked.agent_id.as_deref())?;
    let invitation = shared.access.invite(asker.who(), visit).await?;
    let invited = Invited {
        code: &invitation.code,
        link: sign_in_link(&shared.settings.now(), &invitation.code),
        expires_at: Moment(invitation.until),
        tenant_id: &tenant,
        customer_id: &asked.customer_id,
    };
    let mut response = json(StatusCode::CREATED, &invited, 384);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn visit_of(
    shared: &Shared,
    tenant: &str,
    customer: &str,
    agent: Option<&str>,
) -> Result<Visit, Problem> {
    if customer.trim().is_empty() {
        return Err(Problem::field("customer_id", "must not be empty"));
    }
    let talks_to = agent.unwrap_or(DEFAULT);
    let key = SessionKey::new(tenant, talks_to, VISIT_CHANNEL, SessionKind::Dm, customer);
    let key = key.map_err(|error| {
        let field = match error {
            SessionKeyError::Empty(name)
            | SessionKeyError::TooLong(name)
            | SessionKeyError::Control(name)
            | SessionKeyError::Escape(name) => name,
            SessionKeyError::Parts(_) | SessionKeyError::Kind => "customer_id",
        };
        Problem::field(if field == "peer" { "customer_id" } else { field }, error.to_string())
    })?;
    if shared.gateway.policy_of(&key).is_none() {
        return Err(Problem::field("agent_id", format!("no agent {talks_to:?} is configured")));
    }
    let agent = agent.map(Arc::from);
    Ok(Visit { tenant: tenant.into(), customer: customer.into(), agent })
}

/// The address of the page with a code in it: behind the `#`, where no server and no log sees it.
#[must_use]
pub fn sign_in_link(settings: &HttpSettings, code: &str) -> String {
    let base = match (settings.hosts.first(), settings.listen) {
        // A name of its own means a proxy in front, and that means TLS.
        (Some(host), _) => format!("https://{host}"),
        (None, Some(own)) if own.ip().is_unspecified() => {
            format!("http://localhost:{}", own.port())
        }
        (None, Some(own)) => format!("http://{own}"),
        (None, None) => "http://localhost:7878".to_owned(),
    };
    format!("{base}/#code={code}")
}

/// Signs somebody in: a code becomes a cookie.
#[utoipa::path(
    post,
    path = "/v1/sign-in",
    tag = "keys",
    request_body = SignInRequest,
    responses(
        (status = 200, description = "The browser has a cookie now", body = Person),
        (status = 400, description = "Malformed JSON or invalid UTF-8", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "It is no code, or was used, or is too old", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A field is wrong", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "Too many wrong codes from this address", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The store is down", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn sign_in(
    State(shared): State<Arc<Shared>>,
    Extension(source): Extension<Source>,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let SignInRequest { code } = body::json(&parts.headers, body, &shared.settings).await?;
    let signed_in = shared.access.sign_in(&code, source.address).await?;
    let signed_in = signed_in.ok_or_else(Problem::wrong_code)?;
    let person = person(&signed_in.visit, Some(signed_in.until));
    let mut response = json(StatusCode::OK, &person, 256);
    response.headers_mut().insert(SET_COOKIE, cookie(&signed_in, source.secure));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn cookie(signed_in: &SignedIn, secure: bool) -> HeaderValue {
    let (token, seconds) = (&signed_in.cookie, signed_in.lasts.as_secs());
    let secure = if secure { "; Secure" } else { "" };
    let text =
        format!("{COOKIE}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    // It is made of letters and digits.
    HeaderValue::try_from(text).unwrap_or(NO_COOKIE)
}

fn person(visit: &Visit, until: Option<Timestamp>) -> Person<'_> {
    Person {
        tenant_id: &visit.tenant,
        agent_id: visit.agent.as_deref().unwrap_or(DEFAULT),
        customer_id: &visit.customer,
        expires_at: until.map(Moment),
    }
}

/// Tells the page whether one has to sign in, and who did.
#[utoipa::path(
    get,
    path = "/v1/sign-in",
    tag = "keys",
    responses(
        (status = 200, description = "How it stands", body = SignInState),
        (status = 429, description = "Too many wrong codes from this address", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The store is down", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn state(
    State(shared): State<Arc<Shared>>,
    Extension(source): Extension<Source>,
    headers: HeaderMap,
) -> Answer {
    let needed = shared.access.anybody().is_none() && source.address.is_some();
    let Some(cookie) = cookie_in(&headers).filter(|_| needed) else {
        return read(&SignInState { needed, person: None });
    };
    match shared.access.with_cookie(cookie, source.address).await? {
        Some(caller) => {
            let person = caller.principal.visit().map(|visit| person(visit, caller.until));
            read(&SignInState { needed, person })
        }
        None => {
            let mut response = read(&SignInState { needed, person: None })?;
            response.headers_mut().insert(SET_COOKIE, NO_COOKIE);
            Ok(response)
        }
    }
}

/// Signs out whoever is signed in.
#[utoipa::path(
    post,
    path = "/v1/sign-out",
    tag = "keys",
    responses(
        (status = 204, description = "Nobody is signed in with this cookie any more"),
        (status = 429, description = "Too many wrong cookies from this address", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The store is down", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn sign_out(
    State(shared): State<Arc<Shared>>,
    Extension(source): Extension<Source>,
    headers: HeaderMap,
) -> Answer {
    if let Some(cookie) = cookie_in(&headers) {
        shared.access.sign_out(cookie, source.address).await?;
    }
    let mut response: Response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().insert(SET_COOKIE, NO_COOKIE);
    Ok(response)
}
