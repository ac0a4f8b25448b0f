//! `/v1/signal`: how the accounts of Signal are doing, which groups they are in, and whom they trust.

use std::sync::Arc;

use axum::extract::{Request, State};
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use turnkeep_core::ports::intake::{AccountHealth, KnownGroup, Pulse, Undone};
use utoipa::ToSchema;

use super::access::Asker;
use super::body;
use super::entry::Shared;
use super::problem::{Kind, Problem, ProblemBody};
use super::reply::{Answer, json, read};
use super::shape::Moment;

/// The channel's name.
const CHANNEL: &str = "signal";
/// Longest text of what names somebody or something, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// How one half of an account is doing.
#[derive(Serialize, ToSchema)]
#[schema(as = Pulse)]
pub(super) struct PulseShape {
    /// `starting`, `working` or `failing`, or `elsewhere` where another server of the cluster has it.
    state: &'static str,
    /// Since when it fails.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Moment>,
    /// Why, in words.
    #[schema(value_type = Option<String>)]
    why: Option<Arc<str>>,
}

impl From<Pulse> for PulseShape {
    fn from(pulse: Pulse) -> Self {
        match pulse {
            Pulse::Starting => Self { state: "starting", since: None, why: None },
            Pulse::Elsewhere => Self { state: "elsewhere", since: None, why: None },
            Pulse::Working => Self { state: "working", since: None, why: None },
            Pulse::Failing { since, why } => {
                Self { state: "failing", since: Some(Moment(since)), why: Some(why) }
            }
        }
    }
}

/// An account.
#[derive(Serialize, ToSchema)]
#[schema(as = SignalAccount)]
pub(super) struct AccountShape {
    /// Its name in the configuration.
    #[schema(value_type = String)]
    account: Arc<str>,
    /// Whether messages come in.
    receiving: PulseShape,
    /// Whether messages go out.
    sending: PulseShape,
    /// How often the way to signal-cli broke and was made again.
    restarts: u64,
}

/// Every account.
#[derive(Serialize, ToSchema)]
pub(super) struct SignalAccounts {
    /// In the order of the configuration; empty where there is no Signal.
    accounts: Vec<AccountShape>,
}

/// How the accounts of Signal are doing.
///
/// Sending may work while receiving is stuck, and the other way round.
#[utoipa::path(
    get,
    path = "/v1/signal",
    tag = "health",
    responses((status = 200, description = "All of them", body = SignalAccounts)),
)]
pub(super) async fn accounts(State(shared): State<Arc<Shared>>) -> Answer {
    let shape = |health: AccountHealth| {
        let AccountHealth { account, receiving, sending, restarts } = health;
        AccountShape { account, receiving: receiving.into(), sending: sending.into(), restarts }
    };
    let accounts = shared.gateway.accounts(CHANNEL).into_iter().map(shape).collect();
    read(&SignalAccounts { accounts })
}

/// A group.
#[derive(Serialize, ToSchema)]
#[schema(as = SignalGroup)]
pub(super) struct GroupShape {
    /// The account that knows it, by its name in the configuration.
    #[schema(value_type = String)]
    account: Arc<str>,
    /// What `id` in `[groups.NAME]` has to be.
    id: String,
    /// What its members call it.
    #[schema(value_type = Option<String>)]
    title: Option<Arc<str>>,
    /// How many members it has.
    members: usize,
    /// Whether the account is one of them; a group that it left is still known.
    member: bool,
    /// Whether the account blocked it.
    blocked: bool,
}

/// Every group.
#[derive(Serialize, ToSchema)]
pub(super) struct SignalGroups {
    /// Account by account.
    groups: Vec<GroupShape>,
}

/// Somebody whose safety number changed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TrustRequest {
    /// Their telephone number or Signal's own id of them.
    #[schema(min_length = 1, max_length = 128, example = "+4915112345678")]
    who: String,
    /// The safety number that was compared with theirs; whatever it is now if absent.
    #[schema(min_length = 1, max_length = 128)]
    safety_number: Option<String>,
    /// Which account of ours, by its name in the configuration; may be absent where there is one.
    #[schema(min_length = 1, max_length = 128)]
    account: Option<String>,
}

/// Somebody who is trusted again.
#[derive(Serialize, ToSchema)]
#[schema(as = SignalTrusted)]
pub(super) struct Trusted<'a> {
    /// `trusted`.
    result: &'static str,
    /// Who.
    who: &'a str,
    /// By which account.
    account: &'a str,
}

/// Which groups the accounts of Signal are in.
#[utoipa::path(
    get,
    path = "/v1/signal/groups",
    tag = "people",
    responses(
        (status = 200, description = "All of them", body = SignalGroups),
        (status = 409, description = "signal-cli refuses", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "signal-cli does not run or does not answer", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn groups(State(shared): State<Arc<Shared>>) -> Answer {
    let mut groups = Vec::new();
    for (account, known) in shared.gateway.groups(CHANNEL).await? {
        groups.extend(known.into_iter().map(|group| {
            let KnownGroup { id, title, members, member, blocked } = group;
            let (account, id) = (Arc::clone(&account), format!("{CHANNEL}:{id}"));
            GroupShape { account, id, title, members, member, blocked }
        }));
    }
    read(&SignalGroups { groups })
}

/// Trusts somebody again whose safety number changed: they have a new phone, or are somebody else.
///
/// What died meanwhile is sent again by `resend`, see the deliveries.
#[utoipa::path(
    post,
    path = "/v1/signal/trust",
    tag = "people",
    request_body = TrustRequest,
    responses(
        (status = 200, description = "They are trusted", body = Trusted),
        (status = 400, description = "Malformed JSON or invalid UTF-8", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such account", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "signal-cli refuses", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A field is wrong", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "signal-cli does not run or does not answer", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn trust(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let asked: TrustRequest = body::json(&parts.headers, body, &shared.settings).await?;
    let TrustRequest { who, safety_number, account } = &asked;
    usable("who", Some(who))?;
    usable("safety_number", safety_number.as_ref())?;
    usable("account", account.as_ref())?;
    // Elsewhere everybody has the name of their channel before theirs.
    let who = who.strip_prefix("signal:").unwrap_or(who);
    let safety_number = safety_number.as_deref();
    let account = shared.gateway.trust(CHANNEL, account.as_deref(), who, safety_number).await?;
    let by = &*asker.who().name;
    tracing::info!(
        by,
        who,
        account = &*account,
        compared = safety_number.is_some(),
        "Signal: trusted"
    );
    let trusted = Trusted { result: "trusted", who, account: &account };
    Ok(json(StatusCode::OK, &trusted, 128))
}

/// Neither empty nor endless, and without what could be taken for anything else.
fn usable(field: &'static str, text: Option<&String>) -> Result<(), Problem> {
    match text {
        Some(text) if text.is_empty() || text.len() > NAME_BYTES_MAX => {
            Err(Problem::field(field, format!("has 1 to {NAME_BYTES_MAX} bytes")))
        }
        Some(text) if text.contains(char::is_control) => {
            Err(Problem::field(field, "holds no control characters"))
        }
        _ => Ok(()),
    }
}

impl From<Undone> for Problem {
    fn from(undone: Undone) -> Self {
        let detail = undone.to_string();
        match undone {
            Undone::NoAccount(_) => Self::new(Kind::NotFound, detail),
            Undone::Refused(_) => Self::new(Kind::WrongState, detail),
            Undone::Unreachable(_) => Self::new(Kind::Unavailable, detail),
        }
    }
}

/// What is wrong with them in one line that tells no names; none if nothing is.
pub(super) fn trouble(accounts: &[AccountHealth]) -> Option<String> {
    let fails = |pulse: &Pulse| matches!(pulse, Pulse::Failing { .. });
    let receiving = accounts.iter().filter(|account| fails(&account.receiving)).count();
    let sending = accounts.iter().filter(|account| fails(&account.sending)).count();
    let all = accounts.len();
    match (receiving, sending) {
        (0, 0) => None,
        (receiving, 0) => Some(format!("{receiving} of {all} accounts can't receive")),
        (0, sending) => Some(format!("{sending} of {all} accounts can't send")),
        (receiving, sending) => {
            Some(format!("{receiving} of {all} accounts can't receive, {sending} can't send"))
        }
    }
}
