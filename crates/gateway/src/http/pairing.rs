//! `/v1/pairing`: one-time codes that make somebody known, and who used them.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use hyper::header::{CACHE_CONTROL, HeaderValue};
use hyper::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use turnkeep_core::Trust;
use turnkeep_core::access::segment;
use turnkeep_core::ports::people::{CODES_WAITING_MAX, PAIRINGS_MAX, Pairing};
use utoipa::ToSchema;

use super::access::Asker;
use super::body;
use super::entry::Shared;
use super::list::Limit;
use super::path::Segments;
use super::problem::{Kind, Problem, ProblemBody};
use super::query::Query;
use super::reply::{Answer, json, read};
use super::shape::Moment;
use crate::clock;
use crate::intake::routing::Strangers;
use crate::people::{CODE_LASTS, CODE_LASTS_MAX, MadePairing, NewPairing, PairingError};

/// Whose users are meant where nobody says so.
const TENANT: &str = "default";

/// A pairing, without its code.
#[derive(Serialize, ToSchema)]
#[schema(as = Pairing)]
pub(super) struct PairingShape<'a> {
    /// Names it below `/v1/pairing`.
    id: &'a str,
    /// Where somebody is known by it.
    tenant_id: &'a str,
    /// As whom.
    user: &'a str,
    /// How far they are trusted; what the configuration says wins where it knows the user.
    #[schema(value_type = String)]
    trust: Trust,
    /// `waiting`, `paired` or `expired`.
    status: &'static str,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    made_at: Moment,
    /// The code counts until then.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Moment,
    /// The channel of whoever used the code.
    channel: Option<&'a str>,
    /// The channel's name of them.
    person: Option<&'a str>,
    /// When they did.
    #[schema(value_type = Option<String>, format = DateTime)]
    paired_at: Option<Moment>,
}

/// A pairing that was made.
#[derive(Serialize, ToSchema)]
pub(super) struct PairingMade<'a> {
    /// The code. It is shown this once and kept nowhere; letters in any case will do.
    code: &'a str,
    /// What keeps the code from being of use, if something does.
    note: Option<&'static str>,
    /// All else.
    #[serde(flatten)]
    shape: PairingShape<'a>,
}

/// A page of pairings.
#[derive(Serialize, ToSchema)]
pub(super) struct PairingsPage<'a> {
    /// In the order in which they were made.
    pairings: Vec<PairingShape<'a>>,
    /// What to pass as `after` for the next page; null at the end.
    next: Option<&'a str>,
}

/// A pairing that is over.
#[derive(Serialize, ToSchema)]
pub(super) struct PairingRevoked<'a> {
    /// `revoked`.
    result: &'static str,
    /// Which.
    id: &'a str,
}

/// A pairing that is wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PairingRequest {
    /// As whom somebody shall be known.
    #[schema(min_length = 1, max_length = 128, example = "alice")]
    user: String,
    /// Where; `default` if absent.
    tenant_id: Option<String>,
    /// How far they shall be trusted: `public`, `familiar`, `inner`, `full` or `owner`; `familiar` if
    /// absent. Where the configuration knows the user, what it says counts.
    trust: Option<String>,
    /// How many minutes the code counts, at most a week; an hour if absent.
    minutes: Option<u64>,
}

pub(super) fn shape(pairing: &Pairing) -> PairingShape<'_> {
    let with = pairing.with.as_ref();
    PairingShape {
        id: &pairing.id,
        tenant_id: &pairing.tenant,
        user: &pairing.user,
        trust: pairing.trust,
        status: match with {
            Some(_) => "paired",
            None if pairing.waits(clock::now()) => "waiting",
            None => "expired",
        },
        made_at: Moment(pairing.made_at),
        expires_at: Moment(pairing.until),
        channel: with.map(|with| &*with.channel),
        person: with.map(|with| &*with.person),
        paired_at: with.map(|with| Moment(with.at)),
    }
}

/// Lists codes that wait and people who are known by one, never the codes.
#[utoipa::path(
    get,
    path = "/v1/pairing",
    tag = "people",
    params(
        ("after" = Option<String>, Query, description = "Only behind this id"),
        ("limit" = Option<usize>, Query, description = "How many, from 1 to 1000; 100 if absent"),
    ),
    responses(
        (status = 200, description = "A page", body = PairingsPage),
        (status = 422, description = "A parameter is wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn pairings(State(shared): State<Arc<Shared>>, uri: Uri) -> Answer {
    let query = Query::of(&uri);
    let limit = Limit::of(query)?;
    let all = shared.gateway.pairings();
    let begin = match query.get("after") {
        // Behind one that is gone is nothing.
        Some(after) => all.iter().position(|row| *row.id == *after).map_or(all.len(), |at| at + 1),
        None => 0,
    };
    let rows = all.into_iter().skip(begin).take(limit.and_one()).collect();
    let page = limit.page(rows);
    let next = page.next(|pairing: &Pairing| &*pairing.id);
    read(&PairingsPage { pairings: page.rows.iter().map(shape).collect(), next })
}

/// Makes a one-time code. Whoever sends it to us as a message is known as that user from then on.
/// The answer is the only place where it is ever shown.
#[utoipa::path(
    post,
    path = "/v1/pairing",
    tag = "people",
    request_body = PairingRequest,
    responses(
        (status = 201, description = "It is made", body = PairingMade),
        (status = 400, description = "Malformed JSON or invalid UTF-8", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "There are too many", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A field is wrong", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The store is down", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn make(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let asked: PairingRequest = body::json(&parts.headers, body, &shared.settings).await?;
    let new = new_of(asked)?;
    let tenant = Arc::clone(&new.tenant);
    let MadePairing { pairing, code } = shared.gateway.make_pairing(new).await?;
    tracing::info!(by = &*asker.who().name, id = &*pairing.id, "a pairing code was made");
    let note = (!shared.gateway.takes_codes(&tenant))
        .then_some("no account of this tenant takes codes: set unknown = \"pair\" in [signal]");
    let made = PairingMade { code: &code, note, shape: shape(&pairing) };
    let mut response = json(StatusCode::CREATED, &made, 512);
    // The one answer that holds the code: nobody on the way may keep it.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn new_of(asked: PairingRequest) -> Result<NewPairing, Problem> {
    let name = |field, text: String| match segment(&text) {
        Ok(name) => Ok(name),
        Err(why) => Err(Problem::field(field, why)),
    };
    let trust = asked.trust.map(|word| {
        Trust::named(&word).ok_or_else(|| {
            let words = Trust::ALL.map(Trust::as_str).join(", ");
            Problem::field("trust", format!("is one of {words}, not {word:?}"))
        })
    });
    let most = CODE_LASTS_MAX.as_secs() / 60;
    let minutes = asked.minutes.unwrap_or(CODE_LASTS.as_secs() / 60);
    if !(1..=most).contains(&minutes) {
        return Err(Problem::field("minutes", format!("must be from 1 to {most}, not {minutes}")));
    }
    Ok(NewPairing {
        tenant: name("tenant_id", asked.tenant_id.unwrap_or_else(|| TENANT.to_owned()))?,
        user: name("user", asked.user)?,
        trust: trust.transpose()?,
        lasts: Duration::from_secs(minutes * 60),
    })
}

/// Ends a pairing: a code that waits opens nothing any more, and whoever used it is a stranger
/// again.
#[utoipa::path(
    post,
    path = "/v1/pairing/{id}/revoke",
    tag = "people",
    params(("id" = String, Path, description = "The pairing's id")),
    responses(
        (status = 200, description = "It is over", body = PairingRevoked),
        (status = 404, description = "There is no such pairing", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The store is down; nobody knows whether it is done", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn revoke(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    Segments(id): Segments<String>,
) -> Answer {
    if !shared.gateway.end_pairing(&id).await? {
        return Err(Problem::new(Kind::NotFound, format!("there is no pairing {id:?}")));
    }
    tracing::info!(by = &*asker.who().name, id, "a pairing was revoked");
    Ok(json(StatusCode::OK, &PairingRevoked { result: "revoked", id: &id }, 64))
}

impl crate::Gateway {
    /// Whether a code is of any use there.
    fn takes_codes(&self, tenant: &str) -> bool {
        let routing = Arc::clone(&self.setup().settings.routing);
        let account = routing.account_of(tenant, "signal");
        account.is_some_and(|account| account.strangers != Strangers::Deny)
    }
}

impl From<PairingError> for Problem {
    fn from(error: PairingError) -> Self {
        match error {
            PairingError::Field(error) => Self::field(error.field, error.why),
            PairingError::Full => Self::new(
                Kind::Full,
                format!(
                    "{CODES_WAITING_MAX} codes wait already, or {PAIRINGS_MAX} people are paired; \
                     `turnkeep pair revoke` makes room"
                ),
            ),
            PairingError::Store(error) => error.into(),
            PairingError::Unavailable(why) => Self::new(Kind::Unavailable, why),
        }
    }
}
