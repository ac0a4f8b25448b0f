//! The record of restrictions in memory.

use std::collections::BTreeMap;
use std::future::ready;

use turnkeep_core::Timestamp;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::guard::{Restriction, RestrictionFilter, Restrictions};
use turnkeep_core::ports::store::StoreError;

use super::MemoryStore;

/// Restrictions by their numbers.
#[derive(Debug, Default)]
pub(super) struct RestrictionTable {
    rows: BTreeMap<u64, Restriction>,
    last_id: u64,
}

impl RestrictionTable {
    fn add(&mut self, mut restriction: Restriction) -> Restriction {
        self.last_id += 1;
        restriction.id = self.last_id;
        for other in self.rows.values_mut() {
            let same =
                (&other.tenant, &other.customer) == (&restriction.tenant, &restriction.customer);
            if same && other.lifted_at.is_none() {
                other.lifted_at = Some(restriction.since);
                other.lifted_by = Some(format!("replaced by {}", restriction.id));
            }
        }
        self.rows.insert(restriction.id, restriction.clone());
        restriction
    }

    fn erase(&mut self, tenant: &str, customer: &str, at: Timestamp) -> usize {
        let theirs = |row: &Restriction| row.tenant == tenant && row.customer == customer;
        self.rows.retain(|_, row| !theirs(row) || row.is_in_force(at));
        let left = self.rows.values_mut().filter(|row| theirs(row));
        left.map(|row| (row.appeal, row.appealed_at) = (None, None)).count()
    }

    fn forget(&mut self, ended_before: Timestamp, limit: usize) -> usize {
        let ended = |row: &Restriction| row.lifted_at.or(row.until);
        let rows = self.rows.values();
        let mut over: Vec<_> = rows.filter_map(|row| Some((ended(row)?, row.id))).collect();
        over.retain(|(at, _)| *at < ended_before);
        over.sort_unstable();
        over.truncate(limit);
        for (_, id) in &over {
            self.rows.remove(id);
        }
        over.len()
    }
}

fn asked_for(row: &Restriction, filter: &RestrictionFilter) -> bool {
    let lasts =
        |at: Timestamp| row.lifted_at.is_none() && row.until.is_none_or(|until| until >= at);
    filter.tenant.as_ref().is_none_or(|tenant| *tenant == row.tenant)
        && filter.customer.as_ref().is_none_or(|customer| *customer == row.customer)
        && filter.lasting_at.is_none_or(lasts)
}

impl Restrictions for MemoryStore {
    fn add_restriction(
        &self,
        restriction: Restriction,
    ) -> BoxFuture<'_, Result<Restriction, StoreError>> {
        Box::pin(ready(Ok(self.tables().restrictions.add(restriction))))
    }

    fn restriction(&self, id: u64) -> BoxFuture<'_, Result<Option<Restriction>, StoreError>> {
        self.read(|tables| tables.restrictions.rows.get(&id).cloned())
    }

    fn restrictions(
        &self,
        filter: RestrictionFilter,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Restriction>, StoreError>> {
        self.read(|tables| {
            let rows = tables.restrictions.rows.range(after.saturating_add(1)..);
            let asked = rows.map(|(_, row)| row).filter(|row| asked_for(row, &filter));
            asked.take(limit).cloned().collect()
        })
    }

    fn lift_restriction(
        &self,
        id: u64,
        at: Timestamp,
        by: String,
    ) -> BoxFuture<'_, Result<Option<Restriction>, StoreError>> {
        let mut tables = self.tables();
        let row = tables.restrictions.rows.get_mut(&id).map(|row| {
            if row.lifted_at.is_none() {
                (row.lifted_at, row.lifted_by) = (Some(at), Some(by));
            }
            row.clone()
        });
        Box::pin(ready(Ok(row)))
    }

    fn appeal_restriction(
        &self,
        id: u64,
        at: Timestamp,
        text: String,
    ) -> BoxFuture<'_, Result<Option<Restriction>, StoreError>> {
        let mut tables = self.tables();
        let row = tables.restrictions.rows.get_mut(&id).map(|row| {
            (row.appealed_at, row.appeal) = (Some(at), Some(text));
            row.clone()
        });
        Box::pin(ready(Ok(row)))
    }

    fn erase_restrictions(
        &self,
        tenant: &str,
        customer: &str,
        at: Timestamp,
    ) -> BoxFuture<'_, Result<usize, StoreError>> {
        Box::pin(ready(Ok(self.tables().restrictions.erase(tenant, customer, at))))
    }

    fn forget_restrictions(
        &self,
        ended_before: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, StoreError>> {
        Box::pin(ready(Ok(self.tables().restrictions.forget(ended_before, limit))))
    }
}
