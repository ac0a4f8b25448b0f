//! What was used today and this month, by whom, as far as somebody asked: at most so many are
//! remembered, and whoever is forgotten is read from the store again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use turnkeep_core::SessionKey;
use turnkeep_core::budget::Scope;
use turnkeep_core::ids::Timestamp;
use turnkeep_core::journal::{Event, EventBody};
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::ports::usage::{By, UsageQuery, UsageStore};
use turnkeep_core::usage::{Day, Sums, customer_of};

/// Sums that are remembered, at most.
const KNOWN_MAX: usize = 100_000;
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
    /// The same as of this day; none if that is over: the clock was ahead, and what it counted then
    /// is not what counts now.
    fn as_of(self, today: Day) -> Option<Self> {
        (today >= self.day).then(|| self.on(today))
    }

    fn book(&mut self, day: Day, sums: &Sums) {
        *self = self.on(day);
        self.of_day.add(sums);
        self.of_month.add(sums);
    }

    /// The same with what was counted beside it.
    fn with(self, other: &Self) -> Self {
        let mut both = self.on(other.day);
        both.of_day.add(&other.of_day);
        both.of_month.add(&other.of_month);
        both
    }

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

/// A read that is under way.
struct Reading {
    /// What was booked since it began; none if what it finds is not to be built on.
    meanwhile: Option<Used>,
    /// Ends with what was read.
    found: watch::Sender<Option<Result<Used, StoreError>>>,
}

#[derive(Default)]
struct Known {
    sums: HashMap<Whose, Used>,
    /// One for each: whoever else asks waits for it.
    reading: HashMap<Whose, Reading>,
}

impl Known {
    fn way(&mut self, whose: &Whose, today: Day) -> Way {
        match self.reading.get(whose) {
            Some(reading) => Way::Waits(reading.found.subscribe()),
            None => {
                let meanwhile = Some(Used { day: today, ..Used::default() });
                let found = watch::Sender::new(None);
                self.reading.insert(whose.clone(), Reading { meanwhile, found });
                Way::Reads
            }
        }
    }

    fn book(&mut self, whose: &Whose, day: Day, sums: &Sums) {
        if let Some(used) = self.sums.get_mut(whose) {
            used.book(day, sums);
        }
        if let Some(used) = self.reading.get_mut(whose).and_then(|read| read.meanwhile.as_mut()) {
            used.book(day, sums);
        }
    }

    fn doubt(&mut self, whose: &Whose) {
        self.sums.remove(whose);
        if let Some(reading) = self.reading.get_mut(whose) {
            reading.meanwhile = None;
        }
    }
}

/// Every sum that somebody asked for.
pub(crate) struct Ledger {
    pub(super) store: Arc<dyn UsageStore>,
    known: Mutex<Known>,
}

/// Ends a read, also where whoever began it is gone.
struct Ends<'a> {
    ledger: &'a Ledger,
    whose: &'a Whose,
    done: bool,
}

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.ledger.lock().reading.remove(self.whose);
        }
    }
}

/// How somebody comes to know a sum.
enum Way {
    Reads,
    Waits(watch::Receiver<Option<Result<Used, StoreError>>>),
}

impl Ledger {
    pub(crate) fn new(store: Arc<dyn UsageStore>) -> Self {
        Self { store, known: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A commit is durable.
    pub(crate) fn book(&self, key: &SessionKey, booked: &Booked) {
        let day = Day::of(booked.at);
        let mut known = self.lock();
        for whose in Whose::all(key) {
            known.book(&whose, day, &booked.sums);
        }
    }

    /// Nobody knows whether a commit happened: whoever it was about is read again.
    pub(crate) fn doubt(&self, key: &SessionKey) {
        let mut known = self.lock();
        for whose in Whose::all(key) {
            known.doubt(&whose);
        }
    }

    /// Other nodes book in the same store: whoever asks next reads what stands there.
    pub(crate) fn read_again(&self) {
        self.lock().sums.clear();
    }

    /// A session is erased: its name and its customer's begin at nothing. What the tenant used
    /// stays as it is.
    pub(crate) fn erased(&self, key: &SessionKey) {
        let mut known = self.lock();
        for whose in Whose::all(key).filter(|whose| whose.scope != Scope::Tenant) {
            known.doubt(&whose);
        }
    }

    /// What was used up to now.
    pub(super) async fn used(&self, whose: &Whose, now: Timestamp) -> Result<Used, StoreError> {
        let today = Day::of(now);
        loop {
            let way = {
                let mut known = self.lock();
                match known.sums.get(whose).and_then(|used| used.as_of(today)) {
                    Some(used) => {
                        known.sums.insert(whose.clone(), used);
                        return Ok(used);
                    }
                    None => known.way(whose, today),
                }
            };
            let mut found = match way {
                Way::Reads => return self.read_for_all(whose, today).await,
                Way::Waits(found) => found,
            };
            // Whoever read may be gone before it was done: then the next one does.
            if let Ok(found) = found.wait_for(Option::is_some).await
                && let Some(found) = &*found
            {
                return found.clone();
            }
        }
    }

    /// Reads, and tells everybody who waits for it.
    async fn read_for_all(&self, whose: &Whose, today: Day) -> Result<Used, StoreError> {
        let mut ends = Ends { ledger: self, whose, done: false };
        let read = self.read(whose, today).await;
        let mut known = self.lock();
        ends.done = true;
        let Some(Reading { meanwhile, found }) = known.reading.remove(whose) else { return read };
        // A commit that came meanwhile may be in what was read, or not: it is counted, at worst
        // twice.
        let used = match (&read, meanwhile) {
            (Ok(used), Some(meanwhile)) => {
                let used = used.with(&meanwhile);
                make_room(&mut known.sums, today);
                known.sums.insert(whose.clone(), used);
                Ok(used)
            }
            _ => read,
        };
        drop(known);
        found.send_replace(Some(used.clone()));
        used
    }

    async fn read(&self, whose: &Whose, today: Day) -> Result<Used, StoreError> {
        let month = today.month();
        let name = |scope| (whose.scope == scope).then(|| Arc::clone(&whose.name));
        let query = UsageQuery {
            by: By::Day,
            tenant: Some(Arc::clone(&whose.tenant)),
            customer: name(Scope::Customer),
            session: name(Scope::Session).and_then(|key| key.parse().ok()),
            from: Some(month.0),
            // A clock that was ahead wrote of days that are still to come.
            to: Some(month.1.plus(-1)),
        };
        let lines = self.store.usage(query, DAYS_MAX).await?;
        let of_day = lines.iter().filter(|line| line.day == Some(today));
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

    use tokio::sync::Semaphore;
    use turnkeep_core::ports::BoxFuture;
    use turnkeep_core::ports::usage::UsageLine;
    use turnkeep_core::usage::DAY_MS;
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
        // A commit may tell of a day that is just over.
        check("2026-11-28", 1, 5);
        assert_eq!(used.as_of(day("2026-11-28")), None);
        assert_eq!(used.as_of(day("2026-11-30")), Some(used.on(day("2026-11-30"))));
    }

    /// A store that knows one sum, counts who asks, lets something happen meanwhile, and answers
    /// when it may.
    struct Slow {
        used: Sums,
        reads: AtomicU32,
        meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
        may: Semaphore,
    }

    impl UsageStore for Slow {
        fn usage(
            &self,
            query: UsageQuery,
            _: usize,
        ) -> BoxFuture<'_, Result<Vec<UsageLine>, StoreError>> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let ahead = Day::of(NOW).plus(1);
            let mut lines = vec![
                UsageLine { day: query.from, sums: sums(100), ..UsageLine::default() },
                UsageLine { day: Some(Day::of(NOW)), sums: self.used, ..UsageLine::default() },
                UsageLine { day: Some(ahead), sums: sums(1000), ..UsageLine::default() },
                UsageLine { day: Some(ahead.plus(40)), sums: sums(10_000), ..UsageLine::default() },
            ];
            lines.retain(|line| query.to.is_none() || line.day <= query.to);
            if let Some(happens) = self.meanwhile.lock().unwrap().take() {
                happens();
            }
            Box::pin(async move {
                let _may = self.may.acquire().await;
                Ok(lines)
            })
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
        let store = Arc::new(Slow { used: sums(5), reads, meanwhile, may: Semaphore::new(1) });
        let key = SessionKey::new("acme", "a", "api", SessionKind::Dm, "anna").unwrap();
        let name = "anna".into();
        let whose = Whose { scope: Scope::Customer, tenant: "acme".into(), name };
        (Arc::clone(&store), Arc::new(Ledger::new(store)), key, whose)
    }

    fn one() -> Booked {
        Booked { at: NOW, agent: None, sums: sums(1) }
    }

    /// What was used today and this month; a clock that was ahead wrote of tomorrow.
    async fn asks(ledger: &Ledger, whose: &Whose) -> (u64, u64) {
        let used = ledger.used(whose, NOW).await.unwrap();
        (used.of_day.requests, used.of_month.requests - 1000)
    }

    fn reads(store: &Slow) -> u32 {
        store.reads.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn a_sum_is_read_once_and_fed_from_then_on() {
        let (store, ledger, key, whose) = ledger();
        ledger.book(&key, &one());
        assert_eq!(asks(&ledger, &whose).await, (5, 105));
        ledger.book(&key, &one());
        assert_eq!((asks(&ledger, &whose).await, reads(&store)), ((6, 106), 1));
        ledger.doubt(&key);
        assert_eq!((asks(&ledger, &whose).await, reads(&store)), ((5, 105), 2));
        ledger.erased(&key);
        assert_eq!((asks(&ledger, &whose).await, reads(&store)), ((5, 105), 3));
        ledger.read_again();
        assert_eq!((asks(&ledger, &whose).await, reads(&store)), ((5, 105), 4));
    }

    #[tokio::test]
    async fn what_is_booked_while_it_is_read_counts_and_nothing_is_read_again() {
        let (store, ledger, key, whose) = ledger();
        let writes = Arc::clone(&ledger);
        *store.meanwhile.lock().unwrap() = Some(Box::new(move || writes.book(&key, &one())));
        for _ in 0..3 {
            assert_eq!((asks(&ledger, &whose).await, reads(&store)), ((6, 106), 1));
        }
    }

    #[tokio::test]
    async fn what_is_in_doubt_while_it_is_read_is_read_again() {
        let (store, ledger, key, whose) = ledger();
        let writes = Arc::clone(&ledger);
        *store.meanwhile.lock().unwrap() = Some(Box::new(move || writes.doubt(&key)));
        for expect in [1, 2, 2] {
            assert_eq!((asks(&ledger, &whose).await, reads(&store)), ((5, 105), expect));
        }
    }

    #[tokio::test]
    async fn an_erasure_leaves_the_sum_of_the_tenant() {
        let (store, ledger, key, whose) = ledger();
        let tenant = Whose { scope: Scope::Tenant, name: Arc::default(), ..whose };
        asks(&ledger, &tenant).await;
        ledger.erased(&key);
        assert_eq!((asks(&ledger, &tenant).await, reads(&store)), ((5, 105), 1));
    }

    #[tokio::test]
    async fn many_who_ask_at_once_share_one_read() {
        let (store, ledger, _, whose) = ledger();
        let may = store.may.acquire().await.unwrap();
        let mut all: Vec<_> = (0..20).map(|_| Box::pin(asks(&ledger, &whose))).collect();
        for one in &mut all {
            assert!(futures_util::poll!(one).is_pending());
        }
        assert_eq!(reads(&store), 1);
        // The one who reads goes away: the next one does.
        drop(all.remove(0));
        drop(may);
        for one in all {
            assert_eq!(one.await, (5, 105));
        }
        assert_eq!(reads(&store), 2);
        assert!(ledger.lock().reading.is_empty());
    }

    #[tokio::test]
    async fn a_clock_that_was_ahead_is_forgotten_when_it_is_right_again() {
        let (store, ledger, key, whose) = ledger();
        ledger.used(&whose, NOW + 40 * DAY_MS).await.unwrap();
        ledger.book(&key, &Booked { at: NOW + 40 * DAY_MS, ..one() });
        assert_eq!((asks(&ledger, &whose).await, reads(&store)), ((5, 105), 2));
        ledger.book(&key, &one());
        assert_eq!((asks(&ledger, &whose).await, reads(&store)), ((6, 106), 2));
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
