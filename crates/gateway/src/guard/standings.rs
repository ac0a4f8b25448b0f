//! The restrictions that count now, and those that are held against a second time. A projection of
//! the record, so that no message has to ask the store.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use turnkeep_core::guard::{AbuseKind, Bucket, Severity, Standing, follows};
use turnkeep_core::ids::Timestamp;

use super::table::{ByName, Name};

/// Restrictions that the guard makes by itself, at most; a person can always make one more.
pub(super) const STANDINGS_MAX: usize = 100_000;

/// What came of a finding.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// This, from now on; it has to be recorded.
    New(Standing),
    /// Nothing: what is in force covers it.
    Covered,
    /// Nothing: there is no room for another one.
    Full,
}

#[derive(Debug)]
struct Held {
    standing: Standing,
    /// When it was made; names it, because no customer has two of the same moment.
    made_at: Timestamp,
    /// What is used of the rate of somebody restricted, which is one for all channels.
    used: Bucket,
}

/// Restrictions by customers.
#[derive(Debug, Default)]
pub(super) struct Standings {
    held: Mutex<ByName<Held>>,
    /// So that the lock is not even taken where there are none.
    count: AtomicUsize,
}

impl Standings {
    /// What is in force for somebody.
    pub(super) fn in_force(&self, name: Name, now: Timestamp) -> Option<(Severity, AbuseKind)> {
        if self.len() == 0 {
            return None;
        }
        let mut held = self.lock();
        let standing = &mut held.get_mut(&name)?.standing;
        standing.is_in_force(now).then_some((standing.severity, standing.kind))
    }

    /// Works with what somebody restricted has used. Must be short: everybody's restrictions are
    /// locked meanwhile, before any part of a table is.
    pub(super) fn using<T>(&self, name: Name, work: impl FnOnce(&mut Bucket) -> T) -> T {
        let mut held = self.lock();
        match held.get_mut(&name) {
            Some(held) => work(&mut held.used),
            // It was lifted this very moment.
            None => work(&mut Bucket::default()),
        }
    }

    /// Somebody was found out. What follows is in force at once.
    pub(super) fn found(
        &self,
        name: Name,
        severity: Severity,
        kind: AbuseKind,
        now: Timestamp,
    ) -> Outcome {
        let mut held = self.lock();
        let before = held.get_mut(&name).map(|held| &mut held.standing);
        let is_new = before.is_none();
        let Some(standing) = follows(severity, kind, before, now) else { return Outcome::Covered };
        if is_new && held.len() >= STANDINGS_MAX {
            return Outcome::Full;
        }
        self.enter(&mut held, name, standing);
        Outcome::New(standing)
    }

    /// Holds something against somebody, in place of what was before.
    pub(super) fn put(&self, name: Name, standing: Standing) {
        self.enter(&mut self.lock(), name, standing);
    }

    /// Whether what was made then stands there.
    pub(super) fn stands(&self, name: Name, made_at: Timestamp) -> bool {
        self.lock().get(&name).is_some_and(|held| held.made_at == made_at)
    }

    /// Forgets what was made then; false if it is not what stands there.
    pub(super) fn lift(&self, name: Name, made_at: Timestamp) -> bool {
        let mut held = self.lock();
        let stands = held.get(&name).is_some_and(|held| held.made_at == made_at);
        if stands {
            held.remove(&name);
            self.count.store(held.len(), Ordering::Release);
        }
        stands
    }

    /// Forgets what nothing follows from any more.
    pub(super) fn tidy(&self, now: Timestamp) {
        let mut held = self.lock();
        held.retain(|_, held| held.standing.is_remembered(now));
        self.count.store(held.len(), Ordering::Release);
    }

    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    fn enter(&self, held: &mut ByName<Held>, name: Name, standing: Standing) {
        let used = held.get(&name).map_or_else(Bucket::default, |held| held.used);
        held.insert(name, Held { standing, made_at: standing.since, used });
        self.count.store(held.len(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, ByName<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::table::Names;

    const NOW: Timestamp = 1_750_000_000_000;
    const DAY_MS: i64 = 24 * 3_600_000;

    #[test]
    fn what_follows_counts_at_once_until_it_ends_or_is_lifted() {
        let (standings, names) = (Standings::default(), Names::default());
        let name = names.of("acme", Some("mallory"));
        let in_force = |at| standings.in_force(name, at);
        assert_eq!(in_force(NOW), None);
        let found = |severity, at| standings.found(name, severity, AbuseKind::Flooding, at);
        let Outcome::New(standing) = found(Severity::Restrict, NOW) else { panic!() };
        assert_eq!(standing.until, Some(NOW + DAY_MS));
        assert_eq!(in_force(NOW), Some((Severity::Restrict, AbuseKind::Flooding)));
        assert_eq!(found(Severity::Restrict, NOW + 1), Outcome::Covered);
        assert_eq!(in_force(NOW + DAY_MS), None);
        let Outcome::New(second) = found(Severity::Restrict, NOW + 2 * DAY_MS) else { panic!() };
        assert_eq!(second.severity, Severity::Block);
        assert!(!standings.lift(name, NOW), "that one is gone already");
        assert!(standings.lift(name, NOW + 2 * DAY_MS));
        assert_eq!((in_force(NOW + 2 * DAY_MS), standings.len()), (None, 0));
    }

    #[test]
    fn a_finding_ends_no_longer_restriction_of_a_person() {
        let (standings, names) = (Standings::default(), Names::default());
        let put = |customer: &str, severity| {
            let name = names.of("acme", Some(customer));
            let until = Some(NOW + 30 * DAY_MS);
            standings.put(name, Standing::new(severity, AbuseKind::Manual, NOW, until));
            (name, standings.found(name, Severity::Restrict, AbuseKind::Term, NOW + 2 * 60_000))
        };
        let (_, Outcome::New(worse)) = put("restricted", Severity::Restrict) else { panic!() };
        assert_eq!((worse.severity, worse.until), (Severity::Block, Some(NOW + 30 * DAY_MS)));
        let (blocked, outcome) = put("blocked", Severity::Block);
        assert_eq!(outcome, Outcome::Covered);
        let in_force = standings.in_force(blocked, NOW + 29 * DAY_MS);
        assert_eq!(in_force, Some((Severity::Block, AbuseKind::Manual)));
    }

    #[test]
    fn what_is_over_is_forgotten_after_a_while() {
        let (standings, names) = (Standings::default(), Names::default());
        for (customer, severity) in [("one", Severity::Block), ("two", Severity::Permanent)] {
            let name = names.of("acme", Some(customer));
            standings
                .put(name, Standing::new(severity, AbuseKind::Manual, NOW, severity.until(NOW)));
        }
        standings.tidy(NOW + 6 * DAY_MS);
        assert_eq!(standings.len(), 2);
        standings.tidy(NOW + 7 * DAY_MS);
        assert_eq!(standings.len(), 1);
    }

    #[test]
    fn there_is_a_bound_for_all_but_people() {
        let (standings, names) = (Standings::default(), Names::default());
        let found = |customer: usize| {
            let name = names.of("acme", Some(&customer.to_string()));
            standings.found(name, Severity::Restrict, AbuseKind::Term, NOW)
        };
        for customer in 0..STANDINGS_MAX {
            assert!(matches!(found(customer), Outcome::New(_)), "{customer}");
        }
        assert_eq!(found(STANDINGS_MAX), Outcome::Full);
        assert_eq!(found(0), Outcome::Covered);
        let standing = Standing::new(Severity::Permanent, AbuseKind::Manual, NOW, None);
        standings.put(names.of("acme", Some("by hand")), standing);
        assert_eq!(standings.len(), STANDINGS_MAX + 1);
    }
}
