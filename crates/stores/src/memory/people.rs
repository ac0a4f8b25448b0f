//! The record of who became known by a code, in memory.

use turnkeep_core::Timestamp;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::keys::{Added, SecretHash};
use turnkeep_core::ports::people::{CODES_WAITING_MAX, PAIRINGS_MAX, PairedWith, Pairing, People};
use turnkeep_core::ports::store::StoreError;

use super::MemoryStore;

/// Pairings in no order.
#[derive(Debug, Default)]
pub(super) struct PairingTable(Vec<Pairing>);

impl PairingTable {
    fn add(&mut self, pairing: Pairing, now: Timestamp) -> Added {
        let waiting = self.0.iter().filter(|other| other.waits(now)).count();
        if self.0.len() >= PAIRINGS_MAX || waiting >= CODES_WAITING_MAX {
            return Added::Full;
        }
        let twin = |other: &Pairing| {
            other.id == pairing.id || (other.code.is_some() && other.code == pairing.code)
        };
        if self.0.iter().any(twin) {
            return Added::Taken;
        }
        self.0.push(pairing);
        Added::Done
    }

    fn pair(&mut self, code: SecretHash, with: PairedWith) -> Option<Pairing> {
        let counts = |row: &Pairing| row.code == Some(code) && row.until > with.at;
        let found = self.0.iter().find(|row| counts(row))?.clone();
        let is_same = |one: &PairedWith| one.channel == with.channel && one.person == with.person;
        if let Some(before) = &found.with {
            return is_same(before).then_some(found);
        }
        self.0.retain(|row| row.tenant != found.tenant || !row.with.as_ref().is_some_and(is_same));
        let row = self.0.iter_mut().find(|row| row.id == found.id)?;
        row.with = Some(with);
        Some(row.clone())
    }

    fn end(&mut self, goes: impl Fn(&Pairing) -> bool) -> usize {
        let before = self.0.len();
        self.0.retain(|row| !goes(row));
        before - self.0.len()
    }

    fn forget(&mut self, now: Timestamp, limit: usize) -> usize {
        let over = self.0.iter_mut().filter(|row| row.code.is_some() && row.until <= now);
        let mut count = 0;
        for row in over.take(limit) {
            row.code = None;
            count += 1;
        }
        self.0.retain(|row| row.code.is_some() || row.with.is_some());
        count
    }
}

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

impl MemoryStore {
    fn change_pairings<'a, T: Send + 'a>(
        &self,
        change: impl FnOnce(&mut PairingTable) -> T,
    ) -> Answer<'a, T> {
        let mut tables = self.tables();
        let answer = if tables.closed {
            Err(StoreError::Unavailable("the store is closed".into()))
        } else {
            Ok(change(&mut tables.pairings))
        };
        Box::pin(std::future::ready(answer))
    }
}

impl People for MemoryStore {
    fn pairings(&self) -> Answer<'_, Vec<Pairing>> {
        self.read(|tables| {
            let mut all = tables.pairings.0.clone();
            all.sort_by(|one, other| (one.made_at, &one.id).cmp(&(other.made_at, &other.id)));
            all
        })
    }

    fn add_pairing(&self, pairing: Pairing, now: Timestamp) -> Answer<'_, Added> {
        self.change_pairings(|table| table.add(pairing, now))
    }

    fn pair(&self, code: SecretHash, with: PairedWith) -> Answer<'_, Option<Pairing>> {
        self.change_pairings(|table| table.pair(code, with))
    }

    fn end_pairing(&self, id: &str) -> Answer<'_, bool> {
        self.change_pairings(|table| table.end(|row| &*row.id == id) > 0)
    }

    fn end_pairings(&self, tenant: &str, customer: &str) -> Answer<'_, usize> {
        let person =
            |row: &Pairing| row.with.as_ref().is_some_and(|with| &*with.person == customer);
        self.change_pairings(|table| {
            table.end(|row| &*row.tenant == tenant && (&*row.user == customer || person(row)))
        })
    }

    fn forget_codes(&self, now: Timestamp, limit: usize) -> Answer<'_, usize> {
        self.change_pairings(|table| table.forget(now, limit))
    }
}
