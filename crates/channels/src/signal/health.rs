//! How the accounts are doing: whether signal-cli is there, whether it hears, whether it sends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use turnkeep_core::ids::Timestamp;
use turnkeep_core::ports::intake::{AccountHealth, Pulse};

use super::SignalAccount;

/// Envelopes in a row that signal-cli could not read, before receiving counts as broken.
const UNREADABLE_MAX: u32 = 10;

/// So long after it was met last, a trouble with sending is one no more: perhaps nobody tried since.
const SENDING_TROUBLE_MS: Timestamp = 600_000;

/// What signal-cli's log says each time that it has no connection to Signal's servers.
const CUT_OFF: [&str; 2] =
    ["Receiving messages failed, retrying", "Connection closed unexpectedly, reconnecting"];
/// So often it says so before it is believed: a connection that comes back at once is no trouble.
const CUT_OFF_MIN: u32 = 5;
/// It tries at least every minute, and is silent once it has a connection again.
const CUT_OFF_MS: Timestamp = 180_000;

/// Since when, and why.
#[derive(Clone)]
struct Trouble {
    since: Timestamp,
    /// When it was met last.
    met: Timestamp,
    why: Arc<str>,
}

/// What is known of one account.
#[derive(Default)]
struct Account {
    subscribed: bool,
    /// signal-cli does not know it.
    unknown: Option<Trouble>,
    hearing: Option<Trouble>,
    /// What it hears can't be made durable.
    offering: Option<Trouble>,
    sending: Option<Trouble>,
    /// Since when one envelope is being taken.
    taking: Option<Timestamp>,
    unreadable: u32,
    /// How often it heard and then did not.
    breaks: u64,
}

impl Account {
    fn met_sending(&self) -> Option<&Trouble> {
        self.sending.as_ref().filter(|trouble| is_recent(trouble, SENDING_TROUBLE_MS))
    }
}

#[derive(Default)]
struct State {
    /// None until it was tried; else why signal-cli is not there, if it is not.
    link: Option<Option<Trouble>>,
    /// How often it was there and then was not.
    breaks: u64,
    accounts: BTreeMap<Arc<str>, Account>,
    /// signal-cli has no connection, as its log said so often; the log names no account.
    cut_off: Option<(u32, Trouble)>,
}

/// Everybody tells it what they meet.
pub(super) struct Health {
    stuck: Duration,
    state: Mutex<State>,
}

impl Health {
    pub(super) fn new(accounts: &[SignalAccount], stuck: Duration) -> Self {
        let accounts = accounts
            .iter()
            .map(|account| (Arc::clone(&account.name), Account::default()))
            .collect();
        Self { stuck, state: Mutex::new(State { link: None, breaks: 0, accounts, cut_off: None }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn account(&self, name: &str, change: impl FnOnce(&mut Account)) {
        if let Some(account) = self.state().accounts.get_mut(name) {
            change(account);
        }
    }

    /// It is there.
    pub(super) fn reached(&self) {
        self.state().link = Some(None);
    }

    /// It is not there; nobody hears through it either, where `all` go with it.
    pub(super) fn lost(&self, why: &str, all: bool) {
        let mut state = self.state();
        state.breaks += u64::from(matches!(state.link, Some(None)));
        state.cut_off = None;
        let before = state.link.take().flatten();
        tracing::warn!(why, "signal-cli is out of reach");
        state.link = Some(Some(later(before, why)));
        if all {
            state.accounts.values_mut().for_each(|account| account.subscribed = false);
        }
    }

    /// A line of signal-cli's log.
    pub(super) fn logged(&self, line: &str) {
        if CUT_OFF.iter().any(|words| line.contains(words)) {
            let mut state = self.state();
            let before = state.cut_off.take().filter(|(_, trouble)| is_recent(trouble, CUT_OFF_MS));
            let (count, before) = before.map_or((0, None), |(count, before)| (count, Some(before)));
            let why = format!("signal-cli has no connection to Signal's servers: {}", line.trim());
            state.cut_off = Some((count.saturating_add(1), later(before, &why)));
        }
    }

    /// An envelope came just now: there is a connection.
    pub(super) fn connected(&self) {
        self.state().cut_off = None;
    }

    /// Messages of an account come in.
    pub(super) fn hears(&self, name: &str) {
        self.account(name, |account| {
            account.subscribed = true;
            account.hearing = None;
        });
    }

    /// Messages of an account don't come in.
    pub(super) fn deaf(&self, name: &str, why: &str) {
        self.account(name, |account| {
            tracing::warn!(account = name, why, "Signal: nothing is received");
            account.breaks += u64::from(account.subscribed && account.hearing.is_none());
            account.hearing = Some(later(account.hearing.take(), why));
        });
    }

    /// signal-cli knows an account, or does not.
    pub(super) fn known(&self, name: &str, problem: Option<&str>) {
        self.account(name, |account| {
            if problem.is_none() != account.unknown.is_none() {
                tracing::warn!(account = name, known = problem.is_none(), "Signal account");
            }
            account.unknown = problem.map(|why| later(account.unknown.take(), why));
        });
    }

    /// Whether signal-cli said that it does not know an account.
    pub(super) fn is_unknown(&self, name: &str) -> bool {
        self.state().accounts.get(name).is_some_and(|account| account.unknown.is_some())
    }

    /// An envelope could not be made durable, or can be again.
    pub(super) fn durable(&self, name: &str, problem: Option<&str>) {
        self.account(name, |account| {
            account.offering = problem.map(|why| later(account.offering.take(), why));
        });
    }

    /// An envelope is being taken, or no longer.
    pub(super) fn taking(&self, name: &str, taking: bool) {
        self.account(name, |account| account.taking = taking.then(now));
    }

    /// Whether an envelope is being taken.
    pub(super) fn is_taking(&self, name: &str) -> bool {
        self.state().accounts.get(name).is_some_and(|account| account.taking.is_some())
    }

    /// signal-cli could read an envelope, or not.
    pub(super) fn readable(&self, name: &str, problem: Option<&str>) {
        self.account(name, |account| match problem {
            None if account.unreadable > 0 => {
                account.unreadable = 0;
                account.hearing = None;
            }
            None => {}
            Some(problem) => {
                account.unreadable += 1;
                if account.unreadable >= UNREADABLE_MAX {
                    let why = format!("signal-cli reads no message any more: {problem}");
                    account.hearing = Some(later(account.hearing.take(), &why));
                }
            }
        });
    }

    /// A message went out, or did not for a reason that may hold for others too.
    pub(super) fn sends(&self, name: &str, problem: Option<&str>) {
        self.account(name, |account| {
            account.sending = problem.map(|why| later(account.sending.take(), why));
        });
    }

    pub(super) fn all(&self) -> Vec<AccountHealth> {
        let state = self.state();
        let told = |(name, account): (&Arc<str>, &Account)| AccountHealth {
            account: Arc::clone(name),
            receiving: self.receiving(&state, account),
            sending: match (&state.link, account.unknown.as_ref().or(account.met_sending())) {
                (None, _) => Pulse::Starting,
                (Some(Some(trouble)), _) | (Some(None), Some(trouble)) => failing(trouble),
                (Some(None), None) => Pulse::Working,
            },
            restarts: state.breaks + account.breaks,
        };
        state.accounts.iter().map(told).collect()
    }

    fn receiving(&self, state: &State, account: &Account) -> Pulse {
        let known = account.offering.as_ref().or(account.unknown.as_ref());
        if let Some(trouble) = known.or(account.hearing.as_ref()) {
            return failing(trouble);
        }
        if let Some(since) = account.taking {
            let waited = now().saturating_sub(since).try_into().unwrap_or_default();
            let waited = Duration::from_millis(waited);
            if waited >= self.stuck {
                let why = "an envelope is not taken: the messages behind it wait".into();
                return Pulse::Failing { since, why };
            }
        }
        if let Some((CUT_OFF_MIN.., trouble)) = &state.cut_off
            && account.subscribed
            && is_recent(trouble, CUT_OFF_MS)
        {
            return failing(trouble);
        }
        match &state.link {
            _ if account.subscribed => Pulse::Working,
            Some(Some(trouble)) => failing(trouble),
            _ => Pulse::Starting,
        }
    }
}

fn later(before: Option<Trouble>, why: &str) -> Trouble {
    let met = now();
    Trouble { since: before.map_or(met, |before| before.since), met, why: why.into() }
}

fn is_recent(trouble: &Trouble, for_ms: Timestamp) -> bool {
    now().saturating_sub(trouble.met) < for_ms
}

fn failing(trouble: &Trouble) -> Pulse {
    Pulse::Failing { since: trouble.since, why: Arc::clone(&trouble.why) }
}

/// The time, in milliseconds since the Unix epoch.
pub(super) fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::try_from(since_epoch.as_millis()).unwrap_or(Timestamp::MAX)
}
