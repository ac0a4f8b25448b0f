//! `/v1/listeners`: who is told of events, how they stand, and callbacks that nobody took.

use std::sync::Arc;

use axum::extract::State;
use hyper::{StatusCode, Uri};
use serde::Serialize;
use turnkeep_core::ids::Seq;
use turnkeep_core::ports::listeners::{Kept, Standing, Which};
use utoipa::ToSchema;

use super::entry::Shared;
use super::list::{Limit, after_id};
use super::path::Segments;
use super::problem::{Kind, Problem, ProblemBody};
use super::query::Query;
use super::reply::{Answer, json, read};
use super::shape::Moment;
use crate::clock;
use crate::listeners::Listening;

/// Dead callbacks that one change of the store goes through.
const AT_ONCE: usize = 1000;
/// Such changes for one request; more dead callbacks than they reach are not kept.
const CHANGES_MAX: usize = 20;

/// Whoever is told of events.
#[derive(Serialize, ToSchema)]
#[schema(as = Listener)]
pub(super) struct ListenerShape<'a> {
    /// As it is configured; an agent's reply callback is called `agents/NAME`.
    name: &'a str,
    /// Where its callbacks go, without a path, which may be a secret.
    receiver: &'a str,
    /// Which events it gets.
    pattern: &'a [String],
    /// Only of this tenant.
    tenant: Option<&'a str>,
    /// Only of this agent.
    agent: Option<&'a str>,
    /// Whether it sees what people and agents say.
    include_text: bool,
    /// `on`, or `gone` if its receiver answered that it wants no more; the next start tries again.
    state: &'static str,
    /// The row of the journal up to which it is done.
    position: u64,
    /// How many rows are left.
    behind: u64,
    /// Callbacks that wait for another try.
    pending: u64,
    /// Callbacks that a person has to look at.
    dead: u64,
}

/// All listeners.
#[derive(Serialize, ToSchema)]
pub(super) struct ListenersPage<'a> {
    /// In the order of the configuration.
    listeners: Vec<ListenerShape<'a>>,
}

/// A callback that nobody took.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadCallback)]
pub(super) struct CallbackShape<'a> {
    /// Names it below `/v1/listeners/{name}/dead`.
    id: u64,
    /// The event's type.
    #[serde(rename = "type")]
    event_type: &'a str,
    /// The session's key; null if the event is not kept any more.
    session: Option<&'a str>,
    /// The event's row in the journal.
    position: u64,
    /// The event's place in its session.
    #[schema(value_type = u64)]
    seq: Seq,
    /// Tries so far.
    tries: u32,
    /// What went wrong last.
    error: &'a str,
    /// When it failed first.
    #[schema(value_type = String, format = DateTime)]
    at: Moment,
}

/// A page of dead callbacks.
#[derive(Serialize, ToSchema)]
pub(super) struct CallbacksPage<'a> {
    /// Oldest first.
    callbacks: Vec<CallbackShape<'a>>,
    /// What to pass as `after` for the next page; null at the end.
    next: Option<u64>,
}

/// What was done to dead callbacks.
#[derive(Serialize, ToSchema)]
pub(super) struct CallbacksDone {
    /// `pending` or `discarded`.
    result: &'static str,
    /// How many.
    count: usize,
}

/// Lists listeners.
#[utoipa::path(
    get,
    path = "/v1/listeners",
    tag = "listeners",
    responses((status = 200, description = "All of them", body = ListenersPage)),
)]
pub(super) async fn listeners(State(shared): State<Arc<Shared>>) -> Answer {
    let listeners = &shared.gateway.0.listeners;
    let end = listeners.store.journal_end().await?;
    let all = listeners.all();
    let mut shapes = Vec::with_capacity(all.len());
    for listening in all.iter() {
        let standing = listeners.store.standing(&listening.listener.name).await?;
        shapes.push(shape(listening, standing.unwrap_or_default(), end));
    }
    read(&ListenersPage { listeners: shapes })
}

fn shape(listening: &Listening, standing: Standing, end: u64) -> ListenerShape<'_> {
    let listener = &listening.listener;
    ListenerShape {
        name: &listener.name,
        receiver: &listener.receiver,
        pattern: &listener.pattern,
        tenant: listener.selector.tenant.as_deref(),
        agent: listener.selector.agent.as_deref(),
        include_text: listener.include_text,
        state: if listening.is_gone() { "gone" } else { "on" },
        position: standing.position,
        behind: end.saturating_sub(standing.position),
        pending: standing.pending,
        dead: standing.dead,
    }
}

/// Lists a listener's dead callbacks.
#[utoipa::path(
    get,
    path = "/v1/listeners/{name}/dead",
    tag = "listeners",
    params(
        ("name" = String, Path, description = "The listener's name, percent-encoded"),
        ("after" = Option<u64>, Query, description = "Only behind this id"),
        ("limit" = Option<usize>, Query, description = "How many, from 1 to 1000; 100 if absent"),
    ),
    responses(
        (status = 200, description = "A page", body = CallbacksPage),
        (status = 404, description = "There is no such listener", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A parameter is wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn dead(
    State(shared): State<Arc<Shared>>,
    Segments(name): Segments<String>,
    uri: Uri,
) -> Answer {
    let query = Query::of(&uri);
    let after = after_id(query, "a callback")?;
    let limit = Limit::of(query)?;
    find(&shared, &name)?;
    let store = &shared.gateway.0.listeners.store;
    let page = limit.page(store.dead(&name, after, limit.and_one()).await?);
    let next = page.next(|kept| kept.id);
    read(&CallbacksPage { callbacks: page.rows.iter().map(callback).collect(), next })
}

fn callback(kept: &Kept) -> CallbackShape<'_> {
    CallbackShape {
        id: kept.id,
        event_type: &kept.event_type,
        session: kept.session.as_ref().map(turnkeep_core::SessionKey::as_str),
        position: kept.position,
        seq: kept.seq,
        tries: kept.failure.tries,
        error: &kept.failure.error,
        at: Moment(kept.at),
    }
}

/// Tries a dead callback again, or all of a listener.
///
/// It gets all its tries once more, under the same `webhook-id`; the first is made at once.
#[utoipa::path(
    post,
    path = "/v1/listeners/{name}/dead/{id}/retry",
    tag = "listeners",
    params(
        ("name" = String, Path, description = "The listener's name, percent-encoded"),
        ("id" = String, Path, description = "The callback's id, or `all`"),
    ),
    responses(
        (status = 202, description = "It is tried again", body = CallbacksDone),
        (status = 404, description = "There is no such listener, or no such dead callback", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It is no id", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn retry(
    State(shared): State<Arc<Shared>>,
    Segments((name, id)): Segments<(String, String)>,
) -> Answer {
    let listening = find(&shared, &name)?;
    let store = &shared.gateway.0.listeners.store;
    let count = on_each(&id, |which| store.revive(&name, which, clock::now())).await?;
    listening.wake();
    Ok(json(StatusCode::ACCEPTED, &CallbacksDone { result: "pending", count }, 64))
}

/// Gives a dead callback up, or all of a listener.
#[utoipa::path(
    post,
    path = "/v1/listeners/{name}/dead/{id}/discard",
    tag = "listeners",
    params(
        ("name" = String, Path, description = "The listener's name, percent-encoded"),
        ("id" = String, Path, description = "The callback's id, or `all`"),
    ),
    responses(
        (status = 200, description = "It is gone", body = CallbacksDone),
        (status = 404, description = "There is no such listener, or no such dead callback", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It is no id", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn discard(
    State(shared): State<Arc<Shared>>,
    Segments((name, id)): Segments<(String, String)>,
) -> Answer {
    find(&shared, &name)?;
    let store = &shared.gateway.0.listeners.store;
    let count = on_each(&id, |which| store.discard(&name, which)).await?;
    Ok(json(StatusCode::OK, &CallbacksDone { result: "discarded", count }, 64))
}

/// Does it to one, or to all in changes that hold up nobody.
async fn on_each<F>(id: &str, deed: impl Fn(Which) -> F) -> Result<usize, Problem>
where
    F: Future<Output = Result<usize, turnkeep_core::ports::store::StoreError>>,
{
    if id != "all" {
        let wrong = || Problem::field("id", format!("{id:?} is not the id of a callback, nor all"));
        let id: u64 = id.parse().map_err(|_| wrong())?;
        return match deed(Which::One(id)).await? {
            0 => Err(Problem::new(Kind::NotFound, format!("there is no dead callback {id}"))),
            count => Ok(count),
        };
    }
    let mut all = 0;
    for _ in 0..CHANGES_MAX {
        let count = deed(Which::Oldest(AT_ONCE)).await?;
        all += count;
        if count < AT_ONCE {
            break;
        }
    }
    Ok(all)
}

fn find(shared: &Shared, name: &str) -> Result<Arc<Listening>, Problem> {
    let found = shared.gateway.0.listeners.find(name);
    found.ok_or_else(|| Problem::new(Kind::NotFound, format!("no listener {name:?} is configured")))
}
