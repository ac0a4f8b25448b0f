//! `/v1/cron`: jobs that are run at their times.

use std::sync::Arc;

use axum::extract::{Request, State};
use hyper::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use turnkeep_core::ports::schedule::TickState;
use turnkeep_core::schedule::{Job, Misfire, Overlap, When, on_the_wall};
use utoipa::ToSchema;

use super::access::Asker;
use super::body;
use super::entry::Shared;
use super::jobs::{JobShape, TickShape, Wish, last_of, tenant_of};
use super::list::Limit;
use super::path::Segments;
use super::problem::{Kind, Problem, ProblemBody};
use super::query::Query;
use super::reply::{Answer, json, read};
use super::shape::Moment;
use crate::schedule::JobView;
use crate::service::Gateway;

/// The zone that is meant where none is named.
const ZONE: &str = "UTC";
/// Times that are told unless asked for more or fewer.
const NEXT: usize = 5;

/// All jobs.
#[derive(Serialize, ToSchema)]
pub(super) struct JobsPage {
    /// In the order of their names.
    jobs: Vec<JobShape>,
}

/// The times of a job.
#[derive(Serialize, ToSchema)]
pub(super) struct TimesPage {
    /// The time zone that is meant.
    zone: String,
    /// It rests, so none of the next ones counts before it is resumed.
    paused: bool,
    /// The next ones.
    next: Vec<TimeShape>,
    /// What became of the last ones, the newest first.
    last: Vec<TickShape>,
}

/// A time that comes.
#[derive(Serialize, ToSchema)]
pub(super) struct TimeShape {
    /// Which.
    #[schema(value_type = String, format = DateTime)]
    at: Moment,
    /// The same as the wall of the job's zone shows it.
    local: String,
}

/// What was done to a job.
#[derive(Serialize, ToSchema)]
pub(super) struct JobDone<'a> {
    /// `removed` or `started`.
    result: &'static str,
    /// Which job.
    name: &'a str,
    /// Under which time it was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Moment>,
}

/// A job that is wanted. A field that is not listed is refused.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JobRequest {
    /// Its name: 1 to 64 of a-z, A-Z, 0-9, - and _.
    #[schema(min_length = 1, max_length = 64, example = "news")]
    name: String,
    /// When: a cron expression of five fields, or six with the second before them.
    #[schema(example = "0 7 * * mon-fri")]
    schedule: String,
    /// The time zone that is meant; `UTC` if absent.
    #[schema(example = "Europe/Berlin")]
    zone: Option<String>,
    /// `skip`, `once` or `all`; `once` if absent.
    misfire: Option<String>,
    /// `skip` or `queue`; `skip` if absent.
    overlap: Option<String>,
    /// Whether it rests from the beginning.
    paused: Option<bool>,
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

/// A job that is none of the reminders.
fn find(gateway: &Gateway, tenant: &str, name: &str) -> Result<JobView, Problem> {
    let found = gateway.job(tenant, name).filter(|view| !view.kept.job.is_reminder());
    found.ok_or_else(|| Problem::new(Kind::NotFound, format!("there is no job {name:?}")))
}

/// Lists jobs.
#[utoipa::path(
    get,
    path = "/v1/cron",
    tag = "schedule",
    params(("tenant_id" = Option<String>, Query, description = "Only this tenant's")),
    responses(
        (status = 200, description = "All of them", body = JobsPage),
        (status = 404, description = "There is no such tenant within reach", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn jobs(State(shared): State<Arc<Shared>>, asker: Asker, uri: Uri) -> Answer {
    let asked = Query::of(&uri).get("tenant_id").map(std::borrow::Cow::into_owned);
    let tenant = asker.tenant(asked)?;
    let mut jobs = Vec::new();
    for view in shared.gateway.jobs(tenant.as_deref()) {
        if !view.kept.job.is_reminder() {
            let last = last_of(&shared.gateway, &view).await?;
            jobs.push(JobShape::of(view, last));
        }
    }
    read(&JobsPage { jobs })
}

/// Makes a job. The same one twice is one.
#[utoipa::path(
    post,
    path = "/v1/cron",
    tag = "schedule",
    request_body = JobRequest,
    responses(
        (status = 201, description = "It is kept", body = JobShape),
        (status = 400, description = "Malformed JSON or invalid UTF-8", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such tenant within reach", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "There is another job of that name, or there are too many", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A field is wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn add(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let asked: JobRequest = body::json(&parts.headers, body, &shared.settings).await?;
    let word = |field, word: Option<String>, words: &str| match word {
        Some(word) => Problem::field(field, format!("is one of {words}, not {word:?}")),
        None => Problem::field(field, "is missing"),
    };
    let misfire = match asked.misfire.as_deref().map(Misfire::named) {
        Some(None) => return Err(word("misfire", asked.misfire, "skip, once, all")),
        found => found.flatten().unwrap_or_default(),
    };
    let overlap = match asked.overlap.as_deref().map(Overlap::named) {
        Some(None) => return Err(word("overlap", asked.overlap, "skip, queue")),
        found => found.flatten().unwrap_or_default(),
    };
    let zone = asked.zone.unwrap_or_else(|| ZONE.to_owned());
    let when = When::Cron { schedule: asked.schedule, zone };
    let paused = asked.paused.unwrap_or(false);
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
    let job = wish.job(&asker, asked.name, when)?;
    let (tenant, name) = (job.tenant.clone(), job.name.clone());
    let mut view = shared.gateway.add_job(Job { misfire, overlap, ..job }).await?;
    if paused {
        view = shared.gateway.hold_job(&tenant, &name, true).await?;
    }
    Ok(json(StatusCode::CREATED, &JobShape::of(view, None), 512))
}

/// Forgets a job. What of it is under way is not told any more.
#[utoipa::path(
    delete,
    path = "/v1/cron/{name}",
    tag = "schedule",
    params(
        ("name" = String, Path, description = "The job's name"),
        ("tenant_id" = Option<String>, Query, description = "Whose job; `default` if absent"),
    ),
    responses(
        (status = 200, description = "It is gone", body = JobDone),
        (status = 404, description = "There is no such job", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It stands in the configuration", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    Segments(name): Segments<String>,
    uri: Uri,
) -> Answer {
    let tenant = tenant_of(&asker, &uri)?;
    find(&shared.gateway, &tenant, &name)?;
    shared.gateway.drop_job(&tenant, &name).await?;
    Ok(json(StatusCode::OK, &JobDone { result: "removed", name: &name, at: None }, 128))
}

/// Lets a job rest.
#[utoipa::path(
    post,
    path = "/v1/cron/{name}/pause",
    tag = "schedule",
    params(
        ("name" = String, Path, description = "The job's name"),
        ("tenant_id" = Option<String>, Query, description = "Whose job; `default` if absent"),
    ),
    responses(
        (status = 200, description = "It rests", body = JobShape),
        (status = 404, description = "There is no such job", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn pause(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    Segments(name): Segments<String>,
    uri: Uri,
) -> Answer {
    hold(&shared, &asker, &name, &uri, true).await
}

/// Lets a job go on. The times that passed while it rested don't count.
#[utoipa::path(
    post,
    path = "/v1/cron/{name}/resume",
    tag = "schedule",
    params(
        ("name" = String, Path, description = "The job's name"),
        ("tenant_id" = Option<String>, Query, description = "Whose job; `default` if absent"),
    ),
    responses(
        (status = 200, description = "It goes on", body = JobShape),
        (status = 404, description = "There is no such job", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The configuration wants it to rest", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn resume(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    Segments(name): Segments<String>,
    uri: Uri,
) -> Answer {
    hold(&shared, &asker, &name, &uri, false).await
}

async fn hold(shared: &Shared, asker: &Asker, name: &str, uri: &Uri, held: bool) -> Answer {
    let tenant = tenant_of(asker, uri)?;
    find(&shared.gateway, &tenant, name)?;
    let view = shared.gateway.hold_job(&tenant, name, held).await?;
    let last = last_of(&shared.gateway, &view).await?;
    read(&JobShape::of(view, last))
}

/// Runs a job now, beside its times.
#[utoipa::path(
    post,
    path = "/v1/cron/{name}/run",
    tag = "schedule",
    params(
        ("name" = String, Path, description = "The job's name"),
        ("tenant_id" = Option<String>, Query, description = "Whose job; `default` if absent"),
    ),
    responses(
        (status = 202, description = "It is started", body = JobDone),
        (status = 404, description = "There is no such job", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It is under way, and does not want two", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn run(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    Segments(name): Segments<String>,
    uri: Uri,
) -> Answer {
    let tenant = tenant_of(&asker, &uri)?;
    find(&shared.gateway, &tenant, &name)?;
    let at = shared.gateway.run_job(&tenant, &name).await?;
    let done = JobDone { result: "started", name: &name, at: Some(Moment(at)) };
    Ok(json(StatusCode::ACCEPTED, &done, 128))
}

/// The next times of a job, and what became of the last ones.
#[utoipa::path(
    get,
    path = "/v1/cron/{name}/times",
    tag = "schedule",
    params(
        ("name" = String, Path, description = "The job's name"),
        ("tenant_id" = Option<String>, Query, description = "Whose job; `default` if absent"),
        ("limit" = Option<usize>, Query, description = "How many of each, from 1 to 1000; 5 if absent"),
    ),
    responses(
        (status = 200, description = "They are these", body = TimesPage),
        (status = 404, description = "There is no such job", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn times(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    Segments(name): Segments<String>,
    uri: Uri,
) -> Answer {
    let tenant = tenant_of(&asker, &uri)?;
    let query = Query::of(&uri);
    let asked = query.get("limit").is_some();
    let limit = if asked { Limit::of(query)?.get() } else { NEXT };
    let view = find(&shared.gateway, &tenant, &name)?;
    let zone = view.kept.job.zone().to_owned();
    let next = shared.gateway.next_times(&tenant, &name, limit).unwrap_or_default();
    let next =
        next.into_iter().map(|at| TimeShape { at: Moment(at), local: on_the_wall(at, &zone) });
    let last = shared.gateway.job_ticks(&tenant, &name, limit).await?;
    let over = last.into_iter().filter(|tick| tick.state != TickState::Claimed);
    let (next, last) = (next.collect(), over.map(TickShape::from).collect());
    let page = TimesPage { paused: view.kept.job.paused || view.kept.held, next, last, zone };
    read(&page)
}
