//! How the accounts are doing: whether signal-cli is there, whether it hears, whether it sends.

use std::collections::{BTreeMap, BTreeSet};
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

/// What its log says where the thread ended that hears, on a full disk for instance: it goes on
/// answering then.
const UNHEARD: &str = "Exception in thread \"receive";

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
    /// What it hears may not reach us any more, though it runs.
    broken: Option<Broken>,
}

/// What signal-cli hears may not reach us any more.
struct Broken {
    trouble: Trouble,
    /// The accounts of which something has to come whole before it is over; none where only another
    /// start helps.
    silent: Option<BTreeSet<Arc<str>>>,
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
        Self { stuck, state: Mutex::new(State { accounts, ..State::default() }) }
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
        (state.cut_off, state.broken) = (None, None);
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
        } else if line.contains(UNHEARD) {
            self.breaks(&format!("it says: {}", line.trim()), true);
        }
    }

    /// Something that it said did not reach us whole. It may hear on: that is known once something of
    /// each account comes that is whole.
    pub(super) fn broke(&self, why: &str) {
        self.breaks(why, false);
    }

    fn breaks(&self, why: &str, for_good: bool) {
        let mut state = self.state();
        let before = state.broken.take();
        if before.is_none() {
            tracing::warn!(why, "signal-cli may hear nothing any more");
        }
        let for_good = for_good || before.as_ref().is_some_and(|before| before.silent.is_none());
        let hearing = state.accounts.iter().filter(|(_, account)| account.subscribed);
        let silent = (!for_good).then(|| hearing.map(|(name, _)| Arc::clone(name)).collect());
        let trouble = later(before.map(|before| before.trouble), why);
        state.broken = Some(Broken { trouble, silent });
    }

    /// An envelope of an account came whole.
    pub(super) fn came(&self, name: &str) {
        let mut state = self.state();
        let Some(silent) = state.broken.as_mut().and_then(|broken| broken.silent.as_mut()) else {
            return;
        };
        silent.remove(name);
        if silent.is_empty() {
            tracing::info!("signal-cli hears, though something was broken off");
            state.broken = None;
        }
    }

    /// Why it has to be started again: something broke so long ago, or it is without a connection
    /// for so long.
    pub(super) fn is_hopeless(&self, broken: Duration, cut_off: Duration) -> Option<String> {
        let lasts = |trouble: &Trouble, limit: Duration| {
            let since = now().saturating_sub(trouble.since).try_into().unwrap_or_default();
            Duration::from_millis(since) >= limit
        };
        let state = self.state();
        let broke = state.broken.as_ref().map(|broken| &broken.trouble);
        if let Some(trouble) = broke.filter(|one| lasts(one, broken)) {
            return Some(format!("signal-cli may hear nothing any more: {}", trouble.why));
        }
        match &state.cut_off {
            Some((CUT_OFF_MIN.., trouble))
                if is_recent(trouble, CUT_OFF_MS) && lasts(trouble, cut_off) =>
            {
                Some(trouble.why.to_string())
            }
            _ => None,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> Health {
        let account = |name: &str| SignalAccount {
            name: name.into(),
            number: "+491".into(),
            tenant: name.into(),
        };
        let health = Health::new(&["home", "shop", "unlinked"].map(account), Duration::ZERO);
        health.hears("home");
        health.hears("shop");
        health
    }

    fn is_hopeless(health: &Health) -> bool {
        health.is_hopeless(Duration::ZERO, Duration::MAX).is_some()
    }

    /// Each account is heard by a thread of its own: of two one may have ended.
    #[test]
    fn what_was_broken_off_is_over_once_every_account_is_heard() {
        let health = health();
        health.came("home");
        assert!(!is_hopeless(&health));
        health.broke("half a line");
        health.came("home");
        health.came("home");
        assert!(is_hopeless(&health));
        // Whatever came before the last one says nothing.
        health.broke("half a line");
        health.came("shop");
        assert!(is_hopeless(&health));
        health.came("home");
        assert!(!is_hopeless(&health));
    }

    #[test]
    fn a_thread_that_ended_does_not_come_back() {
        let health = health();
        health.logged("Exception in thread \"receive-0\" java.lang.AssertionError");
        health.broke("half a line");
        health.came("home");
        health.came("shop");
        assert!(is_hopeless(&health));
        health.lost("it was started again", true);
        assert!(!is_hopeless(&health));
    }
}
