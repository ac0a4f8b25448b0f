//! `/v1/deliveries` and `/v1/sessions/{session}/deliveries`: what became of replies to channels that
//! are pushed to.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::State;
use hyper::{StatusCode, Uri};
use serde::Serialize;
use turnkeep_core::SessionKey;
use turnkeep_core::ids::Seq;
use turnkeep_core::outbox::DeliveryState;
use turnkeep_core::ports::store::{PartPlace, PartRow};
use turnkeep_core::session::{Control, Controlled};
use utoipa::ToSchema;

use super::access::{Asker, nowhere};
use super::entry::Shared;
use super::list::Limit;
use super::path::{KeyPath, Segments};
use super::problem::{Kind, Problem, ProblemBody};
use super::query::Query;
use super::reply::{Answer, json, read};
use super::shape::{Moment, session_key};

/// One part of a reply.
#[derive(Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(super) struct DeliveryShape<'a> {
    /// The reply's place in the journal.
    #[schema(value_type = u64)]
    reply: Seq,
    /// Which part of it, from 0.
    part: u32,
    /// `pending`, `sending`, `sent`, `unknown` or `dead`.
    state: &'static str,
    /// Tries begun.
    tries: u32,
    /// The text.
    text: &'a str,
    /// What the channel said last.
    detail: Option<&'a str>,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    at: Moment,
}

/// A page of parts.
#[derive(Serialize, ToSchema)]
pub(super) struct DeliveriesPage<'a> {
    /// In the order in which they leave.
    deliveries: Vec<DeliveryShape<'a>>,
    /// What to pass as `after` for the next page; null at the end.
    next: Option<String>,
}

/// One part that a person has to look at.
#[derive(Serialize, ToSchema)]
#[schema(as = ParkedDelivery)]
pub(super) struct ParkedShape<'a> {
    /// Names it: `SESSION/REPLY/PART`, which is the key under which the channel got it, too.
    id: String,
    /// The session's key.
    session: &'a str,
    /// All else.
    #[serde(flatten)]
    part: DeliveryShape<'a>,
}

/// A page of parts of all sessions.
#[derive(Serialize, ToSchema)]
pub(super) struct ParkedPage<'a> {
    /// By session, then in the order in which they were to leave.
    deliveries: Vec<ParkedShape<'a>>,
    /// What to pass as `after` for the next page; null at the end.
    next: Option<String>,
}

/// A part that goes out again.
#[derive(Serialize, ToSchema)]
pub(super) struct Resent {
    /// `pending`.
    result: &'static str,
    /// The reply's place in the journal.
    #[schema(value_type = u64)]
    reply: Seq,
    /// Which part of it.
    part: u32,
}

/// A place in the list, `REPLY.PART`, or `REPLY` for everything of that reply.
struct Place(Seq, u32);

impl FromStr for Place {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once('.') {
            Some((reply, part)) => Self(Seq(reply.parse()?), part.parse()?),
            None => match text.parse()? {
                0 => Self(Seq(0), 0),
                reply => Self(Seq(reply), u32::MAX),
            },
        })
    }
}

/// Lists parts of all sessions that were given up (`dead`) or of which nobody knows whether they
/// arrived (`unknown`).
#[utoipa::path(
    get,
    path = "/v1/deliveries",
    tag = "deliveries",
    params(
        ("state" = Option<String>, Query, description = "Only `dead` or only `unknown` ones"),
        ("tenant" = Option<String>, Query, description = "Only of this tenant"),
        ("after" = Option<String>, Query, description = "Only behind the part with this id"),
        ("limit" = Option<usize>, Query, description = "How many, from 1 to 1000; 100 if absent"),
    ),
    responses(
        (status = 200, description = "A page", body = ParkedPage),
        (status = 404, description = "There is no such tenant within reach", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A parameter is wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn parked(State(shared): State<Arc<Shared>>, asker: Asker, uri: Uri) -> Answer {
    let query = Query::of(&uri);
    let limit = Limit::of(query)?;
    let state = query.get("state").map(|state| parked_state(&state)).transpose()?;
    let tenant = asker.tenant(query.get("tenant").map(Cow::into_owned))?;
    let after = query.get("after").map(|after| place_of(&after)).transpose()?;
    let store = shared.gateway.store();
    let rows = store.parked(tenant.as_deref(), state, after.as_ref(), limit.and_one()).await?;
    let page = limit.page(rows);
    let next = page.next(|(key, row)| id_of(key, row));
    let deliveries = page.rows.iter().map(|(key, row)| ParkedShape {
        id: id_of(key, row),
        session: key.as_str(),
        part: shape(row),
    });
    let deliveries = deliveries.collect();
    read(&ParkedPage { deliveries, next })
}

fn parked_state(text: &str) -> Result<DeliveryState, Problem> {
    let parked = [DeliveryState::Dead, DeliveryState::Unknown];
    let wrong = || Problem::field("state", format!("is dead or unknown, not {text:?}"));
    parked.into_iter().find(|state| state.as_str() == text).ok_or_else(wrong)
}

fn id_of(key: &SessionKey, row: &PartRow) -> String {
    format!("{key}/{}/{}", row.reply, row.part)
}

/// The other way round. A key may hold slashes itself.
fn place_of(id: &str) -> Result<PartPlace, Problem> {
    let place = || {
        let (rest, part) = id.rsplit_once('/')?;
        let (key, reply) = rest.rsplit_once('/')?;
        Some((key.parse().ok()?, Seq(reply.parse().ok()?), part.parse().ok()?))
    };
    place().ok_or_else(|| {
        Problem::field("after", format!("is an id like SESSION/REPLY/PART, not {id:?}"))
    })
}

/// Lists the deliveries of a session.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/deliveries",
    tag = "deliveries",
    params(
        ("session" = String, Path, description = "The session's key, percent-encoded"),
        ("after" = Option<String>, Query, description = "Only behind this place, `REPLY.PART` or `REPLY`"),
        ("limit" = Option<usize>, Query, description = "How many, from 1 to 1000; 100 if absent"),
    ),
    responses(
        (status = 200, description = "A page", body = DeliveriesPage),
        (status = 404, description = "Nobody has written there", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A parameter is wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn deliveries(
    State(shared): State<Arc<Shared>>,
    KeyPath(key): KeyPath,
    uri: Uri,
) -> Answer {
    let query = Query::of(&uri);
    let after = query.parsed("after", "a place like 12.0")?.unwrap_or(Place(Seq(0), 0));
    let limit = Limit::of(query)?;
    shared.loaded(&key).await?;
    let rows = shared.gateway.store().parts(&key, (after.0, after.1), limit.and_one()).await?;
    let page = limit.page(rows);
    let next = page.next(|row| format!("{}.{}", row.reply, row.part));
    let deliveries = page.rows.iter().map(shape).collect();
    read(&DeliveriesPage { deliveries, next })
}

pub(super) fn shape(row: &PartRow) -> DeliveryShape<'_> {
    DeliveryShape {
        reply: row.reply,
        part: row.part,
        state: row.state.as_str(),
        tries: row.tries,
        text: &row.text,
        detail: row.detail.as_deref(),
        at: Moment(row.at),
    }
}

/// Sends a part again that is parked or was given up.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/deliveries/{reply}/{part}/resend",
    tag = "deliveries",
    params(
        ("session" = String, Path, description = "The session's key, percent-encoded"),
        ("reply" = u64, Path, description = "The reply's place in the journal"),
        ("part" = u32, Path, description = "Which part of it, from 0"),
    ),
    responses(
        (status = 200, description = "It goes out again", body = Resent),
        (status = 404, description = "There is no such part", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It is neither `unknown` nor `dead`, or its text is gone, or somebody else was first", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A part of the path is wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn resend(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    Segments((key, reply, part)): Segments<(String, String, String)>,
) -> Answer {
    let key = session_key("session", &key)?;
    asker.reach(&key, || nowhere(&key))?;
    let reply = Seq(number("reply", &reply)?);
    let part: u32 = number("part", &part)?;
    shared.loaded(&key).await?;
    let row = find(&shared, &key, reply, part).await?;
    if !matches!(row.state, DeliveryState::Unknown | DeliveryState::Dead) {
        let detail = format!("the part is {}; only unknown and dead ones", row.state.as_str());
        return Err(Problem::new(Kind::NotParked, format!("{detail} are sent again")));
    }
    sendable(&row)?;
    let PartRow { state, tries, text, .. } = row;
    let control = Control::Resend { reply, part, state, tries, text };
    if shared.gateway.control(&key, control).await? == Controlled::Gone {
        let row = find(&shared, &key, reply, part).await?;
        sendable(&row)?;
        let (state, since) = (row.state.as_str(), Moment(row.at));
        let detail = format!("somebody else was first: the part is {state} since {since}");
        return Err(Problem::new(Kind::NotParked, detail));
    }
    Ok(json(StatusCode::OK, &Resent { result: "pending", reply, part }, 64))
}

fn sendable(row: &PartRow) -> Result<(), Problem> {
    if row.text.is_empty() {
        let detail = "what it said was erased or has disappeared; there is nothing to send";
        return Err(Problem::new(Kind::NotParked, detail));
    }
    Ok(())
}

async fn find(
    shared: &Shared,
    key: &SessionKey,
    reply: Seq,
    part: u32,
) -> Result<PartRow, Problem> {
    // The list is read from the place right before it.
    let before = match part.checked_sub(1) {
        Some(before) => (reply, before),
        None => (Seq(reply.0.saturating_sub(1)), u32::MAX),
    };
    let rows = shared.gateway.store().parts(key, before, 1).await?;
    let row = rows.into_iter().find(|row| (row.reply, row.part) == (reply, part));
    row.ok_or_else(|| Problem::new(Kind::NotFound, format!("the reply {reply} has no part {part}")))
}

fn number<T: FromStr>(field: &'static str, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|_| Problem::field(field, format!("must be a number, not {text:?}")))
}
