//! `/v1/reminders`: what is told once, at its time.

use std::sync::Arc;

use axum::extract::{Request, State};
use hyper::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use turnkeep_core::schedule::When;
use utoipa::ToSchema;

use super::access::Asker;
use super::body;
use super::entry::Shared;
use super::jobs::{JobShape, Wish, last_of, tenant_of};
use super::path::Segments;
use super::problem::{Kind, Problem, ProblemBody};
use super::query::Query;
use super::reply::{Answer, json, read};
use crate::access::secret;
use crate::clock;

/// All reminders.
#[derive(Serialize, ToSchema)]
pub(super) struct RemindersPage {
    /// Those that could not be told, then the next one first.
    reminders: Vec<JobShape>,
}

/// A reminder that is gone.
#[derive(Serialize, ToSchema)]
pub(super) struct ReminderGone<'a> {
    /// `cancelled`.
    result: &'static str,
    /// Which.
    name: &'a str,
}

/// A reminder that is wanted. A field that is not listed is refused.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReminderRequest {
    /// When, with its offset. This or `in_seconds`.
    #[schema(format = DateTime, example = "2030-01-01T18:30:00+01:00")]
    at: Option<String>,
    /// In how many seconds.
    in_seconds: Option<u64>,
    /// Whose it is; `default` if absent.
    tenant_id: Option<String>,
    /// What an agent is asked; its answer is told. This or `text`.
    prompt: Option<String>,
    /// What is told as it stands.
    text: Option<String>,
    /// Which agent is asked; `default` if absent.
    agent_id: Option<String>,
    /// Which user is told. This, `customer_id` or `session`.
    to: Option<String>,
    /// On which channel; with `to` the one that they used last if absent, with `customer_id`
    /// required.
    channel: Option<String>,
    /// Which customer is told.
    customer_id: Option<String>,
    /// In which session it is told.
    session: Option<String>,
}

/// Lists reminders that are still to come, and those that could not be told.
#[utoipa::path(
    get,
    path = "/v1/reminders",
    tag = "schedule",
    params(("tenant_id" = Option<String>, Query, description = "Only this tenant's")),
    responses(
        (status = 200, description = "All of them", body = RemindersPage),
        (status = 404, description = "There is no such tenant within reach", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn reminders(State(shared): State<Arc<Shared>>, asker: Asker, uri: Uri) -> Answer {
    let asked = Query::of(&uri).get("tenant_id").map(std::borrow::Cow::into_owned);
    let tenant = asker.tenant(asked)?;
    let mut found = shared.gateway.jobs(tenant.as_deref());
    found.retain(|view| view.kept.job.is_reminder());
    found.sort_by_key(|view| view.next);
    let mut reminders = Vec::with_capacity(found.len());
    for view in found {
        // Only one that could not be told has a time behind it.
        let over = view.next.is_none() && view.open == 0;
        let last = if over { last_of(&shared.gateway, &view).await? } else { None };
        reminders.push(JobShape::of(view, last));
    }
    read(&RemindersPage { reminders })
}

/// Makes a reminder: a text that is told, or a question whose answer is.
#[utoipa::path(
    post,
    path = "/v1/reminders",
    tag = "schedule",
    request_body = ReminderRequest,
    responses(
        (status = 201, description = "It is kept", body = JobShape),
        (status = 400, description = "Malformed JSON or invalid UTF-8", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such tenant within reach", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "There are too many", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A field is wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn remind(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let asked: ReminderRequest = body::json(&parts.headers, body, &shared.settings).await?;
    let at = match (&asked.at, asked.in_seconds) {
        (Some(text), None) => {
            text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_millisecond).map_err(|_| {
                let why = format!(
                    "must be a time with its offset, like 2030-01-01T18:30:00+01:00, not {text:?}"
                );
                Problem::field("at", why)
            })?
        }
        (None, Some(seconds)) => {
            let ahead = i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
            clock::now().saturating_add(ahead)
        }
        (None, None) => return Err(Problem::field("at", "is missing, and so is in_seconds")),
        (Some(_), Some(_)) => return Err(Problem::field("in_seconds", "excludes at")),
    };
    let name =
        secret::name().map_err(|error| Problem::new(Kind::Unavailable, error.to_string()))?;
    let wish = Wish {
        tenant: asked.tenant_id,
        prompt: asked.prompt,
        text: asked.text,
        agent: asked.agent_id,
        to: asked.to,
        channel: asked.channel,
        customer: asked.customer_id,
        session: asked.session,
    };
    let job = wish.job(&asker, name, When::Once(at))?;
    let view = shared.gateway.add_job(job).await?;
    Ok(json(StatusCode::CREATED, &JobShape::of(view, None), 512))
}

/// Cancels a reminder.
#[utoipa::path(
    delete,
    path = "/v1/reminders/{name}",
    tag = "schedule",
    params(
        ("name" = String, Path, description = "The reminder's name"),
        ("tenant_id" = Option<String>, Query, description = "Whose; `default` if absent"),
    ),
    responses(
        (status = 200, description = "It is gone", body = ReminderGone),
        (status = 404, description = "There is no such reminder", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn cancel(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    Segments(name): Segments<String>,
    uri: Uri,
) -> Answer {
    let tenant = tenant_of(&asker, &uri)?;
    let found = shared.gateway.job(&tenant, &name).filter(|view| view.kept.job.is_reminder());
    if found.is_none() {
        return Err(Problem::new(Kind::NotFound, format!("there is no reminder {name:?}")));
    }
    shared.gateway.drop_job(&tenant, &name).await?;
    Ok(json(StatusCode::OK, &ReminderGone { result: "cancelled", name: &name }, 128))
}
