//! Every key in memory, as of one reading of the store. Never changed, only replaced.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use turnkeep_core::Timestamp;
use turnkeep_core::access::{Key, KeyText, Principal};
use turnkeep_core::ports::keys::{KeyRow, SecretHash};

use super::{Caller, secret};

/// Compared with where there is no such key, so that this takes as long.
const NOBODY: SecretHash = [0; 32];

/// The keys.
#[derive(Default)]
pub(super) struct Keyring {
    /// Which reading it is.
    pub(super) number: u64,
    /// Whoever comes, as long as there is no key.
    pub(super) anybody: Option<Arc<Caller>>,
    /// In the order in which they were made.
    keys: Vec<Held>,
    by_id: HashMap<Arc<str>, usize>,
}

struct Held {
    key: Key,
    secret: SecretHash,
    caller: Arc<Caller>,
}

impl Keyring {
    /// What was read. Whose key is as it was stays who it is; everybody else's streams end, and
    /// whoever still may comes back.
    pub(super) fn new(number: u64, rows: Vec<KeyRow>, before: &Self) -> Self {
        let hold = |KeyRow { key, secret }: KeyRow| {
            let known = before.held(&key.id).filter(|held| held.key == key);
            let caller = match known {
                Some(held) => Arc::clone(&held.caller),
                None => Caller::new(key.principal(), key.expires_at),
            };
            Held { key, secret, caller }
        };
        let keys: Vec<Held> = rows.into_iter().map(hold).collect();
        let by_id = keys.iter().enumerate().map(|(at, held)| (Arc::clone(&held.key.id), at));
        let by_id = by_id.collect();
        let known = before.anybody.clone();
        let anybody = || known.unwrap_or_else(|| Caller::new(Principal::operator(), None));
        let anybody = keys.is_empty().then(anybody);
        let keyring = Self { number, anybody, keys, by_id };
        keyring.end_others(before);
        keyring
    }

    fn end_others(&self, before: &Self) {
        let now = self.keys.iter().map(|held| &held.caller).chain(&self.anybody);
        let now: HashSet<*const Caller> = now.map(Arc::as_ptr).collect();
        let then = before.keys.iter().map(|held| &held.caller).chain(&before.anybody);
        for caller in then.filter(|caller| !now.contains(&Arc::as_ptr(caller))) {
            caller.ended.cancel();
        }
    }

    fn held(&self, id: &str) -> Option<&Held> {
        self.keys.get(*self.by_id.get(id)?)
    }

    pub(super) fn get(&self, id: &str) -> Option<&Key> {
        self.held(id).map(|held| &held.key)
    }

    pub(super) fn list(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().map(|held| &held.key)
    }

    /// Whose key this is, if it opens now.
    pub(super) fn find(&self, presented: &str, now: Timestamp) -> Option<Arc<Caller>> {
        let text = KeyText::read(presented).unwrap_or(KeyText { id: "", secret: "" });
        let held = self.held(text.id);
        let kept = held.map_or(&NOBODY, |held| &held.secret);
        let right = secret::are_equal(kept, &secret::hash(text.secret));
        let held = held.filter(|held| held.key.is_usable(now) && right)?;
        Some(Arc::clone(&held.caller))
    }
}
