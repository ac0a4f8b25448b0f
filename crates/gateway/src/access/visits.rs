//! Visits that were seen lately, so that a request of a page costs no read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use turnkeep_core::Timestamp;
use turnkeep_core::access::Principal;
use turnkeep_core::ports::keys::{SecretHash, SignIn};

use super::Caller;

/// Visits that are remembered. Beyond that only those in use are, and these hold a connection each.
const VISITS_MAX: usize = 10_000;

#[derive(Default)]
pub(super) struct Visits(Mutex<Table>);

#[derive(Default)]
struct Table {
    known: HashMap<SecretHash, Known>,
    /// Grows with every ending, so that what was read before one is not remembered after it.
    endings: u64,
}

struct Known {
    caller: Arc<Caller>,
    made_by: Option<Arc<str>>,
}

impl Visits {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The visitor, if it is remembered, else what to hand to [`Visits::remember`].
    pub(super) fn find(&self, cookie: &SecretHash, now: Timestamp) -> Result<Arc<Caller>, u64> {
        let table = self.table();
        match table.known.get(cookie) {
            Some(known) if known.caller.until.is_none_or(|until| now < until) => {
                Ok(Arc::clone(&known.caller))
            }
            _ => Err(table.endings),
        }
    }

    /// Remembers what was read; none if something was ended meanwhile, which may have been this.
    pub(super) fn remember(&self, visit: SignIn, endings: u64) -> Option<Arc<Caller>> {
        let mut table = self.table();
        if table.endings != endings {
            return None;
        }
        if let Some(known) = table.known.get(&visit.secret) {
            return Some(Arc::clone(&known.caller));
        }
        if table.known.len() >= VISITS_MAX {
            table.known.retain(|_, known| Arc::strong_count(&known.caller) > 1);
        }
        let caller = Caller::new(Principal::visitor(visit.visit), Some(visit.until));
        let known = Known { caller: Arc::clone(&caller), made_by: visit.made_by };
        table.known.insert(visit.secret, known);
        Some(caller)
    }

    /// One visit is over.
    pub(super) fn end(&self, cookie: &SecretHash) {
        let mut table = self.table();
        table.endings += 1;
        if let Some(known) = table.known.remove(cookie) {
            known.caller.ended.cancel();
        }
    }

    /// Every visit is over that this key made.
    pub(super) fn end_made_by(&self, key: &str) {
        self.end_where(|known| known.made_by.as_deref() == Some(key));
    }

    /// Every visit of a customer is over.
    pub(super) fn end_of(&self, tenant: &str, customer: &str) {
        self.end_where(|known| {
            let visit = known.caller.principal.visit();
            visit.is_some_and(|visit| (&*visit.tenant, &*visit.customer) == (tenant, customer))
        });
    }

    fn end_where(&self, over: impl Fn(&Known) -> bool) {
        let mut table = self.table();
        table.endings += 1;
        table.known.retain(|_, known| {
            let over = over(known);
            if over {
                known.caller.ended.cancel();
            }
            !over
        });
    }

    /// Some may have been ended elsewhere. Those that nobody uses are forgotten, so that they are
    /// read when they come; these are in use.
    pub(super) fn doubt(&self) -> Vec<SecretHash> {
        let mut table = self.table();
        table.endings += 1;
        table.known.retain(|_, known| Arc::strong_count(&known.caller) > 1);
        table.known.keys().copied().collect()
    }

    /// Forgets what has ended by itself.
    pub(super) fn tidy(&self, now: Timestamp) {
        let lasts = |known: &Known| known.caller.until.is_none_or(|until| now < until);
        self.table().known.retain(|_, known| lasts(known));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use turnkeep_core::access::Visit;

    fn visit(number: u32) -> SignIn {
        let mut secret = [0; 32];
        secret[..4].copy_from_slice(&number.to_le_bytes());
        let visit = Visit { tenant: "a".into(), customer: "ann".into(), agent: None };
        SignIn { secret, visit, made_by: Some("k".into()), until: 100 }
    }

    #[test]
    fn what_ended_meanwhile_is_not_remembered() {
        let visits = Visits::default();
        let Err(endings) = visits.find(&visit(1).secret, 0) else { panic!() };
        visits.end(&visit(1).secret);
        assert!(visits.remember(visit(1), endings).is_none());
        let Err(endings) = visits.find(&visit(1).secret, 0) else { panic!() };
        let caller = visits.remember(visit(1), endings).unwrap();
        assert!(Arc::ptr_eq(&visits.find(&visit(1).secret, 99).unwrap(), &caller));
        assert!(visits.find(&visit(1).secret, 100).is_err(), "its time is over");
        visits.end_made_by("other");
        assert!(!caller.ended.is_cancelled());
        visits.end_made_by("k");
        assert!(caller.ended.is_cancelled() && visits.find(&visit(1).secret, 0).is_err());
    }

    #[test]
    fn only_those_in_use_are_kept_beyond_the_bound() {
        let visits = Visits::default();
        let endings = visits.table().endings;
        let used = visits.remember(visit(0), endings).unwrap();
        for number in 1..30_000 {
            visits.remember(visit(number), endings).unwrap();
        }
        assert!(visits.table().known.len() <= VISITS_MAX);
        assert!(Arc::ptr_eq(&visits.find(&visit(0).secret, 0).unwrap(), &used));
    }
}
