//! What was used today and this month, by whom, as far as somebody asked: at most so many are
//! remembered, and whoever is forgotten is read from the store again.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use turnkeep_core::SessionKey;
use turnkeep_core::budget::Scope;
use turnkeep_core::ids::Timestamp;
use turnkeep_core::journal::{Event, EventBody};
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::ports::usage::{By, UsageQuery, UsageStore};
use turnkeep_core::usage::{Day, Sums, customer_of};

/// Sums that are remembered, at most.
const KNOWN_MAX: usize = 100_000;
/// Commits are told apart by this many marks.
const MARKS: usize = 256;
/// Days of a month, and some.
const DAYS_MAX: usize = 64;

/// Whose sums.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Whose {
    pub(super) scope: Scope,
    pub(super) tenant: Arc<str>,
    /// The customer's name or the session's key; empty for the tenant.
    pub(super) name: Arc<str>,
}

impl Whose {
    /// Everybody whom a session's use is counted for.
    fn all(key: &SessionKey) -> impl Iterator<Item = Self> {
        let tenant: Arc<str> = key.tenant().into();
        let customer = customer_of(key).map(Arc::from);
        Scope::ALL.into_iter().filter_map(move |scope| {
            let name = match scope {
                Scope::Session => key.as_str().into(),
                Scope::Customer => customer.clone()?,
                Scope::Tenant => Arc::default(),
            };
            Some(Self { scope, tenant: Arc::clone(&tenant), name })
        })
    }
}

/// Sums of a day and of its month.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    day: Day,
    pub(super) of_day: Sums,
    pub(super) of_month: Sums,
}

impl Used {
    /// The same as of a later day.
    fn on(self, day: Day) -> Self {
        if day <= self.day {
            return self;
        }
        let same_month = day.month().0 == self.day.month().0;
        let of_month = if same_month { self.of_month } else { Sums::default() };
        Self { day, of_day: Sums::default(), of_month }
    }
}

/// What a commit told of.
#[derive(Clone, Debug)]
pub(crate) struct Booked {
    at: Timestamp,
    agent: Option<Arc<str>>,
    sums: Sums,
}

impl Booked {
    pub(crate) fn of(event: &Event) -> Option<Self> {
        match &event.body {
            EventBody::UsageRecorded { agent, usage, .. } => {
                Some(Self { at: event.at, agent: agent.clone(), sums: usage.sums() })
            }
            _ => None,
        }
    }

    /// The agent that did the work, and how much.
    pub(crate) fn by(&self, key: &SessionKey) -> (String, &Sums) {
        let agent = self.agent.as_deref().map_or_else(|| key.agent(), str::to_owned);
        (agent, &self.sums)
    }
}

struct Known {
    sums: HashMap<Whose, Used>,
    /// Grow with each commit, so that who reads from the store sees whether one came meanwhile.
    marks: [u64; MARKS],
}

/// Every sum that somebody asked for.
pub(crate) struct Ledger {
    pub(super) store: Arc<dyn UsageStore>,
    hasher: RandomState,
    known: Mutex<Known>,
}

impl Ledger {
    pub(crate) fn new(store: Arc<dyn UsageStore>) -> Self {
        let known = Known { sums: HashMap::new(), marks: [0; MARKS] };
        Self { store, hasher: RandomState::new(), known: Mutex::new(known) }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self, whose: &Whose) -> usize {
        usize::try_from(self.hasher.hash_one(whose) % MARKS as u64).unwrap_or(0)
    }

    /// A commit is durable.
    pub(crate) fn book(&self, key: &SessionKey, booked: &Booked) {
        let day = Day::of(booked.at);
        let mut known = self.lock();
        for whose in Whose::all(key) {
            known.marks[self.mark(&whose)] += 1;
            if let Some(used) = known.sums.get_mut(&whose) {
                *used = used.on(day);
                used.of_day.add(&booked.sums);
                used.of_month.add(&booked.sums);
            }
        }
    }

    /// Nobody knows whether a commit happened: whoever it was about is read again.
    pub(crate) fn doubt(&self, key: &SessionKey) {
        let mut known = self.lock();
        for whose in Whose::all(key) {
            known.marks[self.mark(&whose)] += 1;
            known.sums.remove(&whose);
        }
    }

    /// What was used up to now.
    pub(super) async fn used(&self, whose: &Whose, now: Timestamp) -> Result<Used, StoreError> {
        let today = Day::of(now);
        let before = {
            let mut known = self.lock();
            if let Some(used) = known.sums.get_mut(whose) {
                *used = used.on(today);
                return Ok(*used);
            }
            known.marks[self.mark(whose)]
        };
        let used = self.read(whose, today).await?;
        let mut known = self.lock();
        // A commit that came meanwhile may be in what was read, or not: it is good enough for now,
        // and not to build on.
        if known.marks[self.mark(whose)] == before {
            make_room(&mut known.sums, today);
            known.sums.insert(whose.clone(), used);
        }
        Ok(used)
    }

    async fn read(&self, whose: &Whose, today: Day) -> Result<Used, StoreError> {
        let name = |scope| (whose.scope == scope).then(|| Arc::clone(&whose.name));
        let query = UsageQuery {
            by: By::Day,
            tenant: Some(Arc::clone(&whose.tenant)),
            customer: name(Scope::Customer),
            session: name(Scope::Session).and_then(|key| key.parse().ok()),
            from: Some(today.month().0),
            to: None,
        };
        let lines = self.store.usage(query, DAYS_MAX).await?;
        let of_day = lines.iter().filter(|line| line.day >= Some(today));
        Ok(Used {
            day: today,
            of_day: of_day.map(|line| &line.sums).sum(),
            of_month: lines.iter().map(|line| &line.sums).sum(),
        })
    }
}

/// Who used nothing today goes first; if that is not enough, everybody.
fn make_room(sums: &mut HashMap<Whose, Used>, today: Day) {
    if sums.len() < KNOWN_MAX {
        return;
    }
    sums.retain(|_, used| used.day >= today);
    if sums.len() >= KNOWN_MAX {
        sums.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use turnkeep_core::ports::BoxFuture;
    use turnkeep_core::ports::usage::UsageLine;
    use turnkeep_core::{SessionKind, TurnId};

    use super::*;

    fn sums(requests: u64) -> Sums {
        Sums { requests, ..Sums::default() }
    }

    #[test]
    fn a_day_ends_and_a_month_ends() {
        let day = |text: &str| text.parse::<Day>().unwrap();
        let used = Used { day: day("2026-11-29"), of_day: sums(1), of_month: sums(5) };
        let check = |at: &str, of_day, of_month| {
            let now = used.on(day(at));
            assert_eq!((now.of_day.requests, now.of_month.requests), (of_day, of_month), "{at}");
        };
        check("2026-11-29", 1, 5);
        check("2026-11-30", 0, 5);
        check("2026-12-01", 0, 0);
        // A clock that stepped back gives nothing back.
        check("2026-11-28", 1, 5);
    }

    /// A store that knows one sum, counts who asks, and lets something happen meanwhile.
    struct Slow {
        used: Sums,
        reads: AtomicU32,
        meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    }

    impl UsageStore for Slow {
        fn usage(
            &self,
            query: UsageQuery,
            _: usize,
        ) -> BoxFuture<'_, Result<Vec<UsageLine>, StoreError>> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let lines = vec![
                UsageLine { day: query.from, sums: sums(100), ..UsageLine::default() },
                UsageLine { day: Some(Day::of(NOW)), sums: self.used, ..UsageLine::default() },
            ];
            if let Some(happens) = self.meanwhile.lock().unwrap().take() {
                happens();
            }
            Box::pin(std::future::ready(Ok(lines)))
        }

        fn usage_of_turns(
            &self,
            _: Vec<TurnId>,
        ) -> BoxFuture<'_, Result<Vec<(TurnId, Sums)>, StoreError>> {
            Box::pin(std::future::ready(Ok(Vec::new())))
        }

        fn put_days_together(&self, _: Day, _: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
            Box::pin(std::future::ready(Ok(0)))
        }
    }

    /// The twenty-first of November 2026.
    const NOW: Timestamp = 1_795_219_200_000;

    fn ledger() -> (Arc<Slow>, Arc<Ledger>, SessionKey, Whose) {
        let (reads, meanwhile) = (AtomicU32::new(0), Mutex::new(None));
        let store = Arc::new(Slow { used: sums(5), reads, meanwhile });
        let key = SessionKey::new("acme", "a", "api", SessionKind::Dm, "anna").unwrap();
        let name = "anna".into();
        let whose = Whose { scope: Scope::Customer, tenant: "acme".into(), name };
        (Arc::clone(&store), Arc::new(Ledger::new(store)), key, whose)
    }

    fn one() -> Booked {
        Booked { at: NOW, agent: None, sums: sums(1) }
    }

    async fn asks(ledger: &Ledger, whose: &Whose) -> (u64, u64) {
        let used = ledger.used(whose, NOW).await.unwrap();
        (used.of_day.requests, used.of_month.requests)
    }

    #[tokio::test]
    async fn a_sum_is_read_once_and_fed_from_then_on() {
        let (store, ledger, key, whose) = ledger();
        ledger.book(&key, &one());
        assert_eq!(asks(&ledger, &whose).await, (5, 105));
        ledger.book(&key, &one());
        assert_eq!(asks(&ledger, &whose).await, (6, 106));
        assert_eq!(store.reads.load(Ordering::Relaxed), 1);
        ledger.doubt(&key);
        assert_eq!(asks(&ledger, &whose).await, (5, 105));
        assert_eq!(store.reads.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn what_was_read_while_somebody_wrote_is_read_again() {
        let (store, ledger, key, whose) = ledger();
        let writes = Arc::clone(&ledger);
        *store.meanwhile.lock().unwrap() = Some(Box::new(move || writes.book(&key, &one())));
        for expect in [1, 2, 2] {
            asks(&ledger, &whose).await;
            assert_eq!(store.reads.load(Ordering::Relaxed), expect);
        }
    }

    #[test]
    fn however_many_ask_it_stays_bounded() {
        let mut known = HashMap::new();
        let today = Day(20_000);
        for number in 0..2 * KNOWN_MAX {
            let name = number.to_string().into();
            let whose = Whose { scope: Scope::Customer, tenant: Arc::default(), name };
            make_room(&mut known, today);
            known.insert(whose, Used { day: today, ..Used::default() });
            assert!(known.len() <= KNOWN_MAX);
        }
    }
}
