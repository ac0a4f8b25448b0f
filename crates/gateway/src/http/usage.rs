//! What was used: `GET /v1/usage`, and how sums look wherever they are shown.

use std::sync::Arc;

use axum::extract::State;
use hyper::Uri;
use serde::Serialize;
use turnkeep_core::ports::usage::{By, UsageLine, UsageQuery};
use turnkeep_core::usage::{Day, Sums};
use utoipa::ToSchema;

use super::access::Asker;
use super::entry::Shared;
use super::list::Limit;
use super::problem::{Problem, ProblemBody};
use super::query::Query;
use super::reply::{Answer, read};
use super::shape::session_key;

/// What requests to providers used.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[schema(as = Usage)]
pub(super) struct UsageShape {
    /// How many requests.
    requests: u64,
    /// Tokens of the questions that were not read from a cache.
    input_tokens: u64,
    /// Tokens of the answers.
    output_tokens: u64,
    /// Tokens of the questions that were read from the provider's cache.
    cached_tokens: u64,
    /// Tokens of the questions that were written to it.
    cache_write_tokens: u64,
    /// What that cost, in millionths of the currency; null where the price of no request is known.
    cost_micros: Option<u64>,
    /// Requests whose price nobody knows: they are not in the cost.
    unpriced_requests: u64,
}

impl From<&Sums> for UsageShape {
    fn from(sums: &Sums) -> Self {
        Self {
            requests: sums.requests,
            input_tokens: sums.input_tokens,
            output_tokens: sums.output_tokens,
            cached_tokens: sums.cached_tokens,
            cache_write_tokens: sums.cache_write_tokens,
            cost_micros: Some(sums.cost_micros).filter(|_| sums.requests > sums.unpriced),
            unpriced_requests: sums.unpriced,
        }
    }
}

/// A line of what was used. It names what it is about; of the rest nothing.
#[derive(Serialize, ToSchema)]
pub(super) struct UsageRow<'a> {
    /// Whose.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<&'a str>,
    /// Which customer. Absent where it was a group, or somebody who was erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_id: Option<&'a str>,
    /// Which session. Absent where it was erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    /// The agent that did the work.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<&'a str>,
    /// The model that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    /// Which day, in UTC. Absent where old days were put together.
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<String>,
    #[serde(flatten)]
    usage: UsageShape,
}

impl<'a> UsageRow<'a> {
    fn of(line: &'a UsageLine) -> Self {
        Self {
            tenant_id: line.tenant.as_deref(),
            customer_id: line.customer.as_deref(),
            session: line.session.as_ref().map(|key| key.as_str()),
            agent_id: line.agent.as_deref(),
            model: line.model.as_deref(),
            day: line.day.map(|day| day.to_string()),
            usage: (&line.sums).into(),
        }
    }
}

/// What was used, in lines.
#[derive(Serialize, ToSchema)]
pub(super) struct UsagePage<'a> {
    /// What makes a line.
    by: &'a str,
    /// In what `cost_micros` are.
    currency: &'a str,
    /// The most expensive first; days in their order.
    rows: Vec<UsageRow<'a>>,
    /// There are more lines than were asked for.
    more: bool,
}

/// Shows what was used, in tokens and money.
#[utoipa::path(
    get,
    path = "/v1/usage",
    tag = "usage",
    params(
        ("by" = Option<String>, Query, description = "What makes a line: `tenant`, `customer`, `session`, `agent`, `model` or `day`; `agent` if absent"),
        ("tenant_id" = Option<String>, Query, description = "Only of this tenant"),
        ("customer_id" = Option<String>, Query, description = "Only of this customer; needs `tenant_id`, unless the key is a tenant's"),
        ("session" = Option<String>, Query, description = "Only of this session"),
        ("from" = Option<String>, Query, description = "From this day on, in UTC, like 2026-11-21; all time if absent"),
        ("to" = Option<String>, Query, description = "Up to this day, which counts"),
        ("limit" = Option<usize>, Query, description = "How many lines, from 1 to 1000; 100 if absent"),
    ),
    responses(
        (status = 200, description = "The lines", body = UsagePage),
        (status = 404, description = "There is no such tenant within reach", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A parameter is wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn usage(State(shared): State<Arc<Shared>>, asker: Asker, uri: Uri) -> Answer {
    let query = Query::of(&uri);
    let limit = Limit::of(query)?;
    let asked = asked(&asker, query)?;
    let by = asked.by.as_str();
    let mut lines = shared.gateway.usage().usage(asked, limit.and_one()).await?;
    let more = lines.len() > limit.get();
    lines.truncate(limit.get());
    let prices = Arc::clone(&shared.gateway.setup().settings.prices);
    let rows = lines.iter().map(UsageRow::of).collect();
    read(&UsagePage { by, currency: &prices.currency, rows, more })
}

fn asked(asker: &Asker, query: Query<'_>) -> Result<UsageQuery, Problem> {
    let by = match query.get("by") {
        None => By::Agent,
        Some(name) => By::named(&name).ok_or_else(|| {
            let known = By::ALL.map(By::as_str).join(", ");
            Problem::field("by", format!("must be one of {known}, not {name:?}"))
        })?,
    };
    let tenant = asker.tenant(query.get("tenant_id").map(std::borrow::Cow::into_owned))?;
    let customer = query.get("customer_id");
    if customer.is_some() && tenant.is_none() {
        return Err(Problem::field("tenant_id", "whose customer is meant?"));
    }
    let session = query.get("session").map(|key| session_key("session", &key)).transpose()?;
    let day = |name| query.parsed::<Day>(name, "a date like 2026-11-21");
    Ok(UsageQuery {
        by,
        tenant: tenant.map(Arc::from),
        customer: customer.map(|customer| Arc::from(&*customer)),
        session,
        from: day("from")?,
        to: day("to")?,
    })
}
