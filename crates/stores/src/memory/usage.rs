//! Sums of what runs used, in memory.

use std::collections::{BTreeMap, HashMap};
use std::future::ready;
use std::sync::Arc;

use turnkeep_core::care::is_tombstone;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::store::{StoreError, UsageRow};
use turnkeep_core::ports::usage::{By, UsageLine, UsageQuery, UsageStore};
use turnkeep_core::usage::{Day, Sums, customer_of};
use turnkeep_core::{SessionKey, TurnId};

use super::MemoryStore;
use crate::check::{MODELS_MAX, OTHER_MODELS, TOGETHER};

/// What makes a row: session, day, agent and model.
type Place = (SessionKey, Day, Arc<str>, Arc<str>);

#[derive(Clone, Debug, Default)]
struct Kept {
    customer: Option<Arc<str>>,
    sums: Sums,
}

/// Sums by their places, and by turns.
#[derive(Debug, Default)]
pub(super) struct UsageTables {
    rows: BTreeMap<Place, Kept>,
    turns: HashMap<TurnId, Sums>,
}

impl UsageTables {
    /// Adds what a commit tells of.
    /// Of a turn that there is no row of, only its session's sums know.
    pub(super) fn put(
        &mut self,
        key: &SessionKey,
        rows: Vec<UsageRow>,
        is_turn: impl Fn(TurnId) -> bool,
    ) {
        for row in rows {
            let agent = row.agent.unwrap_or_else(|| key.agent().into());
            let kept = Kept { customer: customer_of(key).map(Arc::from), sums: row.sums };
            self.add((key.clone(), Day::of(row.at), agent, row.model), &kept);
            if is_turn(row.turn) {
                self.turns.entry(row.turn).or_default().add(&row.sums);
            }
        }
    }

    fn add(&mut self, place: Place, more: &Kept) {
        let (key, day, agent, _) = &place;
        let models = self.rows.keys().filter(|known| (&known.0, &known.1) == (key, day)).count();
        let room = i64::try_from(models).unwrap_or(i64::MAX) < MODELS_MAX;
        let place = if room || self.rows.contains_key(&place) {
            place
        } else {
            (key.clone(), *day, Arc::clone(agent), OTHER_MODELS.into())
        };
        let kept = self.rows.entry(place).or_default();
        kept.customer.clone_from(&more.customer);
        kept.sums.add(&more.sums);
    }

    /// A turn is forgotten.
    pub(super) fn forget(&mut self, turn: TurnId) {
        self.turns.remove(&turn);
    }

    /// A session goes on under a name that tells nothing.
    pub(super) fn bury(&mut self, key: &SessionKey, alias: &SessionKey) {
        for ((owner, day, agent, model), kept) in std::mem::take(&mut self.rows) {
            let (owner, customer) =
                if owner == *key { (alias.clone(), None) } else { (owner, kept.customer) };
            self.rows.insert((owner, day, agent, model), Kept { customer, sums: kept.sums });
        }
    }

    fn lines(&self, query: &UsageQuery) -> Vec<UsageLine> {
        let mut lines: BTreeMap<_, UsageLine> = BTreeMap::new();
        for (place, kept) in self.rows.iter().filter(|(place, kept)| asked(query, place, kept)) {
            let (key, day, agent, model) = place;
            let tenant: Arc<str> = key.tenant().into();
            let name = |name: &Arc<str>| Some(Arc::clone(name));
            let none = UsageLine::default();
            let line = match query.by {
                By::Tenant => UsageLine { tenant: Some(tenant), ..none },
                By::Customer => {
                    UsageLine { tenant: Some(tenant), customer: kept.customer.clone(), ..none }
                }
                By::Session => UsageLine {
                    tenant: Some(tenant),
                    customer: kept.customer.clone(),
                    session: Some(key.clone()).filter(|key| !is_tombstone(key)),
                    ..none
                },
                By::Agent => UsageLine { tenant: Some(tenant), agent: name(agent), ..none },
                By::Model => UsageLine { model: name(model), ..none },
                By::Day => UsageLine { day: Some(*day).filter(|day| *day != TOGETHER), ..none },
            };
            let of = matches!(query.by, By::Session).then(|| key.clone());
            let sorted = (line.day, line.tenant.clone(), line.customer.clone(), of);
            let sorted = (sorted, line.agent.clone(), line.model.clone());
            lines.entry(sorted).or_insert(line).sums.add(&kept.sums);
        }
        let mut lines: Vec<UsageLine> = lines.into_values().collect();
        if query.by != By::Day {
            let weight = |line: &UsageLine| (line.sums.cost_micros, line.sums.tokens());
            lines.sort_by_key(|line| std::cmp::Reverse(weight(line)));
        }
        lines
    }

    fn put_together(&mut self, before: Day, limit: usize) -> usize {
        let old = self.rows.keys().filter(|place| place.1 > TOGETHER && place.1 < before);
        let old: Vec<Place> = old.take(limit).cloned().collect();
        for place in &old {
            if let Some(kept) = self.rows.remove(place) {
                let (key, _, agent, model) = place.clone();
                self.add((key, TOGETHER, agent, model), &kept);
            }
        }
        old.len()
    }
}

fn asked(query: &UsageQuery, (key, day, ..): &Place, kept: &Kept) -> bool {
    query.tenant.as_ref().is_none_or(|tenant| key.tenant() == **tenant)
        && query.customer.as_ref().is_none_or(|one| kept.customer.as_ref() == Some(one))
        && query.session.as_ref().is_none_or(|session| key == session)
        && query.from.is_none_or(|from| *day >= from)
        && query.to.is_none_or(|to| *day <= to)
        // What was put together is of no day that could be asked for.
        && (query.from.or(query.to).is_none() || *day != TOGETHER)
}

impl UsageStore for MemoryStore {
    fn usage(
        &self,
        query: UsageQuery,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UsageLine>, StoreError>> {
        self.read(|tables| {
            let mut lines = tables.usage.lines(&query);
            lines.truncate(limit);
            lines
        })
    }

    fn usage_of_turns(
        &self,
        turns: Vec<TurnId>,
    ) -> BoxFuture<'_, Result<Vec<(TurnId, Sums)>, StoreError>> {
        self.read(|tables| {
            let of = |turn: &TurnId| tables.usage.turns.get(turn).map(|sums| (*turn, *sums));
            turns.iter().filter_map(of).collect()
        })
    }

    fn put_days_together(
        &self,
        before: Day,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, StoreError>> {
        Box::pin(ready(Ok(self.tables().usage.put_together(before, limit))))
    }
}
