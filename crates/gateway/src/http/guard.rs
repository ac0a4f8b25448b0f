//! `/v1/restrictions`: who is restricted or blocked, and how a person changes that.

use std::sync::Arc;

use axum::extract::{Request, State};
use hyper::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use turnkeep_core::guard::{AbuseKind, Severity};
use turnkeep_core::ports::guard::{NOTE_BYTES_MAX, Restriction, RestrictionFilter};
use turnkeep_core::session_key::SEGMENT_BYTES_MAX;
use utoipa::ToSchema;

use super::access::Asker;
use super::body;
use super::entry::Shared;
use super::list::{Limit, after_id};
use super::path::Segments;
use super::problem::{Kind, Problem, ProblemBody};
use super::query::Query;
use super::reply::{Answer, json, read};
use super::shape::Moment;
use crate::clock;
use crate::guard::NewRestriction;

/// The longest restriction that is not for ever: a year.
const HOURS_MAX: u32 = 8760;
const HOUR_MS: i64 = 3_600_000;

/// A customer's restriction.
#[derive(Serialize, ToSchema)]
#[schema(as = Restriction)]
pub(super) struct RestrictionShape<'a> {
    /// Names it below `/v1/restrictions`.
    id: u64,
    /// Whose customer.
    tenant_id: &'a str,
    /// Whose messages are restricted.
    customer_id: &'a str,
    /// `restrict`: 10 messages a minute; `block`: none; `permanent`: none until it is lifted.
    #[schema(value_type = String)]
    severity: Severity,
    /// `flooding`, `repeated_text`, `links`, `term`, `pattern`, or `manual` where a person made it.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    kind: AbuseKind,
    /// Why; never what was written.
    reason: &'a str,
    /// It counts now.
    in_force: bool,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    since: Moment,
    /// Until when; null if only a person ends it.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Moment>,
    /// What was said against it.
    appeal: Option<&'a str>,
    /// When that was said.
    #[schema(value_type = Option<String>, format = DateTime)]
    appealed_at: Option<Moment>,
    /// When it was lifted, or replaced by a later one.
    #[schema(value_type = Option<String>, format = DateTime)]
    lifted_at: Option<Moment>,
    /// By whom.
    lifted_by: Option<&'a str>,
}

/// A page of restrictions.
#[derive(Serialize, ToSchema)]
pub(super) struct RestrictionsPage<'a> {
    /// Oldest first.
    restrictions: Vec<RestrictionShape<'a>>,
    /// What to pass as `after` for the next page; null at the end.
    next: Option<u64>,
}

/// A restriction that a person makes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RestrictRequest {
    /// Whose customer; `default` if absent.
    tenant_id: Option<String>,
    /// Whose messages are restricted.
    customer_id: String,
    /// `restrict`, `block` or `permanent`.
    severity: String,
    /// Why.
    #[serde(default)]
    reason: String,
    /// For how long, from 1 to 8760; a day if absent. Not with `permanent`.
    hours: Option<u32>,
}

/// Who lifts it.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LiftRequest {
    /// By whom.
    by: Option<String>,
}

/// What is said against it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AppealRequest {
    /// In words.
    text: String,
}

pub(super) fn shape(restriction: &Restriction) -> RestrictionShape<'_> {
    RestrictionShape {
        id: restriction.id,
        tenant_id: &restriction.tenant,
        customer_id: &restriction.customer,
        severity: restriction.severity,
        kind: restriction.kind,
        reason: &restriction.reason,
        in_force: restriction.is_in_force(clock::now()),
        since: Moment(restriction.since),
        until: restriction.until.map(Moment),
        appeal: restriction.appeal.as_deref(),
        appealed_at: restriction.appealed_at.map(Moment),
        lifted_at: restriction.lifted_at.map(Moment),
        lifted_by: restriction.lifted_by.as_deref(),
    }
}

/// Lists restrictions.
#[utoipa::path(
    get,
    path = "/v1/restrictions",
    tag = "guard",
    params(
        ("tenant_id" = Option<String>, Query, description = "Only of this tenant's customers"),
        ("customer_id" = Option<String>, Query, description = "Only of this customer"),
        ("all" = Option<bool>, Query, description = "Also what is over or was lifted"),
        ("after" = Option<u64>, Query, description = "Only behind this id"),
        ("limit" = Option<usize>, Query, description = "How many, from 1 to 1000; 100 if absent"),
    ),
    responses(
        (status = 200, description = "A page", body = RestrictionsPage),
        (status = 404, description = "There is no such tenant within reach", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A parameter is wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn restrictions(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    uri: Uri,
) -> Answer {
    let query = Query::of(&uri);
    let after = after_id(query, "a restriction")?;
    let all: bool = query.parsed("all", "true or false")?.unwrap_or(false);
    let limit = Limit::of(query)?;
    let filter = RestrictionFilter {
        tenant: asker.tenant(query.get("tenant_id").map(std::borrow::Cow::into_owned))?,
        customer: query.get("customer_id").map(std::borrow::Cow::into_owned),
        lasting_at: (!all).then(clock::now),
    };
    let restrictions = shared.gateway.restrictions();
    let page = limit.page(restrictions.restrictions(filter, after, limit.and_one()).await?);
    let next = page.next(|row| row.id);
    read(&RestrictionsPage { restrictions: page.rows.iter().map(shape).collect(), next })
}

/// Shows a restriction.
#[utoipa::path(
    get,
    path = "/v1/restrictions/{id}",
    tag = "guard",
    params(("id" = u64, Path, description = "The restriction's id")),
    responses(
        (status = 200, description = "How it stands", body = RestrictionShape),
        (status = 404, description = "There is no such restriction", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It is no id", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn restriction(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    Segments(id): Segments<String>,
) -> Answer {
    let id = number(&id)?;
    read(&shape(&find(&shared, &asker, id).await?))
}

/// The restriction of this number, if its tenant is within reach.
async fn find(shared: &Shared, asker: &Asker, id: u64) -> Result<Restriction, Problem> {
    let found = shared.gateway.restrictions().restriction(id).await?;
    let found = found.ok_or_else(|| unknown(id))?;
    asker.reach_tenant(&found.tenant, || unknown(id))?;
    Ok(found)
}

/// Restricts or blocks a customer, in place of what was in force.
#[utoipa::path(
    post,
    path = "/v1/restrictions",
    tag = "guard",
    request_body = RestrictRequest,
    responses(
        (status = 201, description = "It counts from now on", body = RestrictionShape),
        (status = 400, description = "Malformed JSON or invalid UTF-8", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such tenant within reach", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A field is wrong", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The store is down", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn restrict(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let mut asked: RestrictRequest = body::json(&parts.headers, body, &shared.settings).await?;
    asked.tenant_id = asker.tenant(asked.tenant_id)?;
    let made = shared.gateway.restrict(new_of(asked)?).await?;
    Ok(json(StatusCode::CREATED, &shape(&made), 384))
}

/// Ends a restriction. One that was lifted before stays as it is.
#[utoipa::path(
    post,
    path = "/v1/restrictions/{id}/lift",
    tag = "guard",
    params(("id" = u64, Path, description = "The restriction's id")),
    request_body(content = LiftRequest, description = "May be left out"),
    responses(
        (status = 200, description = "How it stands now", body = RestrictionShape),
        (status = 400, description = "Malformed JSON or invalid UTF-8", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such restriction", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A field is wrong", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The store is down", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn lift(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    Segments(id): Segments<String>,
    request: Request,
) -> Answer {
    let id = number(&id)?;
    find(&shared, &asker, id).await?;
    let (parts, body) = request.into_parts();
    let asked: LiftRequest = body::json_or_default(&parts.headers, body, &shared.settings).await?;
    let by = note("by", asked.by.unwrap_or_else(|| "somebody".to_owned()))?;
    let lifted = shared.gateway.lift(id, by).await?.ok_or_else(|| unknown(id))?;
    Ok(json(StatusCode::OK, &shape(&lifted), 384))
}

/// Notes what is said against a restriction, for whoever may lift it.
#[utoipa::path(
    post,
    path = "/v1/restrictions/{id}/appeal",
    tag = "guard",
    params(("id" = u64, Path, description = "The restriction's id")),
    request_body = AppealRequest,
    responses(
        (status = 200, description = "It is noted", body = RestrictionShape),
        (status = 400, description = "Malformed JSON or invalid UTF-8", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such restriction", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A field is wrong", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The store is down", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn appeal(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    Segments(id): Segments<String>,
    request: Request,
) -> Answer {
    let id = number(&id)?;
    find(&shared, &asker, id).await?;
    let (parts, body) = request.into_parts();
    let asked: AppealRequest = body::json(&parts.headers, body, &shared.settings).await?;
    let text = note("text", asked.text)?;
    if text.trim().is_empty() {
        return Err(Problem::field("text", "must not be empty"));
    }
    let appealed = shared.gateway.appeal(id, text).await?.ok_or_else(|| unknown(id))?;
    Ok(json(StatusCode::OK, &shape(&appealed), 384))
}

fn new_of(asked: RestrictRequest) -> Result<NewRestriction, Problem> {
    let severity = match Severity::named(&asked.severity) {
        Some(severity) if severity > Severity::Monitor => severity,
        _ => {
            let why = format!("must be restrict, block or permanent, not {:?}", asked.severity);
            return Err(Problem::field("severity", why));
        }
    };
    let lasts_ms = match asked.hours {
        Some(_) if severity == Severity::Permanent => {
            return Err(Problem::field("hours", "a permanent block has no end"));
        }
        Some(hours) if !(1..=HOURS_MAX).contains(&hours) => {
            let why = format!("must be from 1 to {HOURS_MAX}, not {hours}");
            return Err(Problem::field("hours", why));
        }
        hours => hours.map(|hours| i64::from(hours) * HOUR_MS),
    };
    Ok(NewRestriction {
        tenant: name("tenant_id", asked.tenant_id.unwrap_or_else(|| "default".to_owned()))?,
        customer: name("customer_id", asked.customer_id)?,
        severity,
        lasts_ms,
        reason: note("reason", asked.reason)?,
    })
}

/// The same bounds that a message's customer has.
pub(super) fn name(field: &'static str, text: String) -> Result<String, Problem> {
    let wrong = if text.trim().is_empty() {
        "must not be empty".to_owned()
    } else if text.len() > SEGMENT_BYTES_MAX {
        format!("is longer than {SEGMENT_BYTES_MAX} bytes")
    } else if text.chars().any(char::is_control) {
        "holds a control character".to_owned()
    } else {
        return Ok(text);
    };
    Err(Problem::field(field, wrong))
}

fn note(field: &'static str, text: String) -> Result<String, Problem> {
    if text.len() > NOTE_BYTES_MAX {
        let why = format!("has {} bytes; the limit is {NOTE_BYTES_MAX}", text.len());
        return Err(Problem::field(field, why));
    }
    Ok(text)
}

fn number(text: &str) -> Result<u64, Problem> {
    text.parse()
        .map_err(|_| Problem::field("id", format!("{text:?} is not the id of a restriction")))
}

fn unknown(id: u64) -> Problem {
    Problem::new(Kind::NotFound, format!("there is no restriction {id}"))
}
