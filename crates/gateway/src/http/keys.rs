//! `/v1/keys`: who may ask at all.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use hyper::header::{CACHE_CONTROL, HeaderValue};
use hyper::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use turnkeep_core::access::{Key, Scope, Scopes, key_label, key_tenant};
use utoipa::ToSchema;

use super::access::Asker;
use super::body;
use super::entry::Shared;
use super::list::Limit;
use super::path::Segments;
use super::problem::{Problem, ProblemBody};
use super::query::Query;
use super::reply::{Answer, json, read};
use super::shape::Moment;
use crate::access::{LASTS_MAX, MadeKey, NewKey};
use crate::clock;

/// How long a key that was replaced goes on, unless said otherwise: a day.
pub const GRACE_S: u64 = 86_400;

/// A key, without its secret.
#[derive(Serialize, ToSchema)]
#[schema(as = Key)]
pub(super) struct KeyShape<'a> {
    /// Names it below `/v1/keys`.
    id: &'a str,
    /// Whose it is; `*` is every tenant's.
    tenant_id: &'a str,
    /// What it allows: `send`, `read`, `admin`.
    #[schema(value_type = Vec<String>)]
    scopes: Vec<Scope>,
    /// What a person called it.
    label: Option<&'a str>,
    /// `active`, `expired` or `revoked`.
    status: &'static str,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Moment,
    /// When it ends by itself; null if it doesn't.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Moment>,
    /// When a person ended it.
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Moment>,
}

/// A key that was made.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyMade<'a> {
    /// The whole key. It is shown this once and kept nowhere.
    key: &'a str,
    /// All else.
    #[serde(flatten)]
    shape: KeyShape<'a>,
}

/// A page of keys.
#[derive(Serialize, ToSchema)]
pub(super) struct KeysPage<'a> {
    /// In the order in which they were made.
    keys: Vec<KeyShape<'a>>,
    /// What to pass as `after` for the next page; null at the end.
    next: Option<&'a str>,
}

/// A key that is gone from the list.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyForgotten<'a> {
    /// `forgotten`.
    result: &'static str,
    /// Which.
    id: &'a str,
}

/// A key that is wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyRequest {
    /// Whose it shall be; `*` for every tenant. The asker's own if absent.
    tenant_id: Option<String>,
    /// What it shall allow: `send`, `read`, `admin`, which implies the others.
    scopes: Vec<String>,
    /// What a person calls it, at most 64 characters.
    label: Option<String>,
    /// How many seconds it lasts; for ever if absent.
    expires_in_s: Option<u64>,
}

/// How a key is replaced.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateRequest {
    /// How many seconds the old one goes on; a day if absent.
    grace_s: Option<u64>,
}

fn shape(key: &Key) -> KeyShape<'_> {
    KeyShape {
        id: &key.id,
        tenant_id: key.tenant_name(),
        scopes: key.scopes.named().collect(),
        label: key.label.as_deref(),
        status: key.status(clock::now()).as_str(),
        created_at: Moment(key.created_at),
        expires_at: key.expires_at.map(Moment),
        revoked_at: key.revoked_at.map(Moment),
    }
}

/// A key as the API shows it, for whoever opens the store without a server.
#[must_use]
pub fn key_as_json(key: &Key) -> Value {
    serde_json::to_value(shape(key)).unwrap_or_default()
}

/// Lists keys, never their secrets.
#[utoipa::path(
    get,
    path = "/v1/keys",
    tag = "keys",
    params(
        ("after" = Option<String>, Query, description = "Only behind this id"),
        ("limit" = Option<usize>, Query, description = "How many, from 1 to 1000; 100 if absent"),
    ),
    responses(
        (status = 200, description = "A page", body = KeysPage),
        (status = 422, description = "A parameter is wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn keys(State(shared): State<Arc<Shared>>, asker: Asker, uri: Uri) -> Answer {
    let query = Query::of(&uri);
    let limit = Limit::of(query)?;
    let after = query.get("after");
    let page = limit.page(shared.access.list(asker.who(), after.as_deref(), limit.and_one())?);
    let next = page.next(|key| &*key.id);
    read(&KeysPage { keys: page.rows.iter().map(shape).collect(), next })
}

/// Makes a key. The answer is the only place where it is ever shown.
#[utoipa::path(
    post,
    path = "/v1/keys",
    tag = "keys",
    request_body = KeyRequest,
    responses(
        (status = 201, description = "It is made", body = KeyMade),
        (status = 400, description = "Malformed JSON or invalid UTF-8", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such tenant within reach", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "There are too many keys", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A field is wrong", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The store is down", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let asked: KeyRequest = body::json(&parts.headers, body, &shared.settings).await?;
    let new = new_of(&asker, asked)?;
    Ok(made(&shared.access.create(asker.who(), new).await?))
}

fn new_of(asker: &Asker, asked: KeyRequest) -> Result<NewKey, Problem> {
    let Some(tenant) = asker.tenant(asked.tenant_id)? else {
        return Err(Problem::field(
            "tenant_id",
            "is missing: whose key is it? `*` is every tenant",
        ));
    };
    let tenant = key_tenant(&tenant).map_err(|why| Problem::field("tenant_id", why))?;
    let scopes = scopes(&asked.scopes)?;
    let label = asked.label.filter(|label| !label.is_empty());
    let label = label.map(|label| key_label(&label)).transpose();
    let label = label.map_err(|why| Problem::field("label", why))?;
    let lasts = asked.expires_in_s.map(|seconds| span("expires_in_s", seconds, 1)).transpose()?;
    Ok(NewKey { tenant, scopes, label, lasts })
}

fn scopes(words: &[String]) -> Result<Scopes, Problem> {
    let scopes: Result<Scopes, _> =
        words.iter().map(|word| Scope::named(word).ok_or(word)).collect();
    match scopes {
        Ok(scopes) if scopes.is_empty() => {
            Err(Problem::field("scopes", "name at least one of send, read, admin"))
        }
        Ok(scopes) => Ok(scopes),
        Err(word) => {
            Err(Problem::field("scopes", format!("are send, read and admin, not {word:?}")))
        }
    }
}

fn span(field: &'static str, seconds: u64, least: u64) -> Result<Duration, Problem> {
    let most = LASTS_MAX.as_secs();
    if (least..=most).contains(&seconds) {
        return Ok(Duration::from_secs(seconds));
    }
    Err(Problem::field(field, format!("must be from {least} to {most} seconds, not {seconds}")))
}

/// The one answer that holds a secret: nobody on the way may keep it.
fn made(made: &MadeKey) -> Response {
    let body = KeyMade { key: &made.text, shape: shape(&made.key) };
    let mut response = json(StatusCode::CREATED, &body, 512);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Ends a key at once, and every sign-in on the web page that was made with it.
#[utoipa::path(
    post,
    path = "/v1/keys/{id}/revoke",
    tag = "keys",
    params(("id" = String, Path, description = "The key's id")),
    responses(
        (status = 200, description = "It opens nothing any more", body = KeyShape),
        (status = 404, description = "There is no such key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The store is down; nobody knows whether it is done", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn revoke(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    Segments(id): Segments<String>,
) -> Answer {
    let key = shared.access.revoke(asker.who(), &id).await?;
    Ok(json(StatusCode::OK, &shape(&key), 384))
}

/// Makes another key like this one, which ends after the grace.
#[utoipa::path(
    post,
    path = "/v1/keys/{id}/rotate",
    tag = "keys",
    params(("id" = String, Path, description = "The old key's id")),
    request_body = Option<RotateRequest>,
    responses(
        (status = 201, description = "The new one is made", body = KeyMade),
        (status = 400, description = "Malformed JSON or invalid UTF-8", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The old one has ended already, or there are too many", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A field is wrong", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The store is down", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn rotate(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    Segments(id): Segments<String>,
    request: Request,
) -> Answer {
    // Asked first, so that nothing is told of a key that is out of reach.
    shared.access.key(asker.who(), &id)?;
    let (parts, body) = request.into_parts();
    let asked: RotateRequest =
        body::json_or_default(&parts.headers, body, &shared.settings).await?;
    let grace = span("grace_s", asked.grace_s.unwrap_or(GRACE_S), 0)?;
    Ok(made(&shared.access.rotate(asker.who(), &id, grace).await?))
}

/// Takes a key that has ended from the list.
///
/// As long as there is any key in the list, one is needed; so without the last of them, everybody
/// on this machine is let in again.
#[utoipa::path(
    post,
    path = "/v1/keys/{id}/forget",
    tag = "keys",
    params(("id" = String, Path, description = "The key's id")),
    responses(
        (status = 200, description = "It is gone", body = KeyForgotten),
        (status = 404, description = "There is no such key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It still opens something", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The store is down", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn forget(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    Segments(id): Segments<String>,
) -> Answer {
    shared.access.forget(asker.who(), &id).await?;
    Ok(json(StatusCode::OK, &KeyForgotten { result: "forgotten", id: &id }, 64))
}
