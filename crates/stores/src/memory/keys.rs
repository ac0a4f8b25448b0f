//! The record of keys and sign-ins in memory.

use std::collections::HashMap;
use std::future::ready;

use turnkeep_core::Timestamp;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::keys::{
    Added, CODES_MAX, KEYS_MAX, KeyRow, Keys, Rotated, SecretHash, SignIn, VISITS_MAX,
};
use turnkeep_core::ports::store::StoreError;

use super::MemoryStore;

/// Keys in no order, and sign-ins by their secrets.
#[derive(Debug, Default)]
pub(super) struct KeyTable {
    keys: Vec<KeyRow>,
    codes: HashMap<SecretHash, SignIn>,
    visits: HashMap<SecretHash, SignIn>,
}

impl KeyTable {
    fn add(&mut self, row: KeyRow) -> Added {
        if self.keys.len() >= KEYS_MAX {
            return Added::Full;
        }
        if self.keys.iter().any(|known| known.key.id == row.key.id) {
            return Added::Taken;
        }
        self.keys.push(row);
        Added::Done
    }

    fn rotate(&mut self, id: &str, row: KeyRow, old_ends: Timestamp, now: Timestamp) -> Rotated {
        let old = self.keys.iter().position(|old| &*old.key.id == id && old.key.is_usable(now));
        let Some(old) = old else { return Rotated::Ended };
        match self.add(row) {
            Added::Full => return Rotated::Full,
            Added::Taken => return Rotated::Taken,
            Added::Done => {}
        }
        let expires_at = &mut self.keys[old].key.expires_at;
        *expires_at = Some(expires_at.map_or(old_ends, |end| end.min(old_ends)));
        Rotated::Done
    }

    fn revoke(&mut self, id: &str, at: Timestamp) -> bool {
        let Some(row) = self.keys.iter_mut().find(|row| &*row.key.id == id) else { return false };
        row.key.revoked_at.get_or_insert(at);
        let others = |_: &SecretHash, row: &mut SignIn| row.made_by.as_deref() != Some(id);
        self.codes.retain(others);
        self.visits.retain(others);
        true
    }

    fn add_code(&mut self, code: SignIn, now: Timestamp) -> Added {
        let waiting = self
            .codes
            .values()
            .filter(|other| other.visit.tenant == code.visit.tenant && other.until > now);
        if waiting.count() >= CODES_MAX {
            return Added::Full;
        }
        if self.codes.contains_key(&code.secret) {
            return Added::Taken;
        }
        self.codes.insert(code.secret, code);
        Added::Done
    }

    fn redeem(
        &mut self,
        code: &SecretHash,
        cookie: SecretHash,
        until: Timestamp,
        now: Timestamp,
    ) -> Option<SignIn> {
        self.codes.get(code).filter(|found| found.until > now)?;
        let found = self.codes.remove(code)?;
        let visit = SignIn { secret: cookie, until, ..found };
        let who = |row: &SignIn| (row.visit.tenant.clone(), row.visit.customer.clone());
        let of_customer = self.visits.values().filter(|other| who(other) == who(&visit));
        let mut ends: Vec<_> = of_customer.map(|other| (other.until, other.secret)).collect();
        ends.sort_unstable();
        let too_many = (ends.len() + 1).saturating_sub(VISITS_MAX);
        for (_, secret) in &ends[..too_many] {
            self.visits.remove(secret);
        }
        self.visits.insert(cookie, visit.clone());
        Some(visit)
    }

    fn forget(&mut self, now: Timestamp, limit: usize) -> usize {
        let all = self.codes.values().chain(self.visits.values());
        let over = all.filter(|row| row.until < now).map(|row| row.secret).take(limit);
        let over: Vec<_> = over.collect();
        for secret in &over {
            self.codes.remove(secret);
            self.visits.remove(secret);
        }
        over.len()
    }
}

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

impl MemoryStore {
    fn change_keys<'a, T: Send + 'a>(
        &self,
        change: impl FnOnce(&mut KeyTable) -> T,
    ) -> Answer<'a, T> {
        let mut tables = self.tables();
        let answer = if tables.closed {
            Err(StoreError::Unavailable("the store is closed".into()))
        } else {
            Ok(change(&mut tables.keys))
        };
        Box::pin(ready(answer))
    }
}

impl Keys for MemoryStore {
    fn keys(&self) -> Answer<'_, Vec<KeyRow>> {
        self.read(|tables| {
            let mut keys = tables.keys.keys.clone();
            keys.sort_by(|one, other| {
                let place = |row: &KeyRow| (row.key.created_at, row.key.id.clone());
                place(one).cmp(&place(other))
            });
            keys
        })
    }

    fn add_key(&self, row: KeyRow) -> Answer<'_, Added> {
        self.change_keys(|table| table.add(row))
    }

    fn revoke_key(&self, id: &str, at: Timestamp) -> Answer<'_, bool> {
        self.change_keys(|table| table.revoke(id, at))
    }

    fn rotate_key(
        &self,
        id: &str,
        row: KeyRow,
        old_ends: Timestamp,
        now: Timestamp,
    ) -> Answer<'_, Rotated> {
        self.change_keys(|table| table.rotate(id, row, old_ends, now))
    }

    fn forget_key(&self, id: &str, now: Timestamp) -> Answer<'_, bool> {
        self.change_keys(|table| {
            let before = table.keys.len();
            table.keys.retain(|row| &*row.key.id != id || row.key.is_usable(now));
            table.keys.len() < before
        })
    }

    fn add_code(&self, code: SignIn, now: Timestamp) -> Answer<'_, Added> {
        self.change_keys(|table| table.add_code(code, now))
    }

    fn redeem_code(
        &self,
        code: SecretHash,
        cookie: SecretHash,
        until: Timestamp,
        now: Timestamp,
    ) -> Answer<'_, Option<SignIn>> {
        self.change_keys(|table| table.redeem(&code, cookie, until, now))
    }

    fn visit(&self, cookie: SecretHash, now: Timestamp) -> Answer<'_, Option<SignIn>> {
        self.read(|tables| {
            tables.keys.visits.get(&cookie).filter(|visit| visit.until > now).cloned()
        })
    }

    fn end_visit(&self, cookie: SecretHash) -> Answer<'_, bool> {
        self.change_keys(|table| table.visits.remove(&cookie).is_some())
    }

    fn end_visits(&self, tenant: &str, customer: &str) -> Answer<'_, usize> {
        self.change_keys(|table| {
            let before = table.codes.len() + table.visits.len();
            let others = |_: &SecretHash, row: &mut SignIn| {
                (&*row.visit.tenant, &*row.visit.customer) != (tenant, customer)
            };
            table.codes.retain(others);
            table.visits.retain(others);
            before - table.codes.len() - table.visits.len()
        })
    }

    fn forget_sign_ins(&self, now: Timestamp, limit: usize) -> Answer<'_, usize> {
        self.change_keys(|table| table.forget(now, limit))
    }
}
