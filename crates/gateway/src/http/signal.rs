//! `GET /v1/signal`: how the accounts of Signal are doing.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use turnkeep_core::ports::intake::{AccountHealth, Pulse};
use utoipa::ToSchema;

use super::entry::Shared;
use super::reply::{Answer, read};
use super::shape::Moment;

/// The channel's name.
const CHANNEL: &str = "signal";

/// How one half of an account is doing.
#[derive(Serialize, ToSchema)]
#[schema(as = Pulse)]
pub(super) struct PulseShape {
    /// `starting`, `working` or `failing`.
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
