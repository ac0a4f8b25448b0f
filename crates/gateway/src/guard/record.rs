//! Restrictions as people see, make and lift them, and their way into the record and back.

use std::sync::PoisonError;

use turnkeep_core::guard::severity::REMEMBERED_MS;
use turnkeep_core::guard::{AbuseKind, Severity};
use turnkeep_core::ids::Timestamp;
use turnkeep_core::ports::guard::{Restriction, RestrictionFilter, Restrictions};
use turnkeep_core::ports::store::StoreError;

use super::standings::STANDINGS_MAX;
use crate::clock;
use crate::service::Gateway;

/// Restrictions that one read names.
const PAGE: usize = 1000;
/// What could not be recorded and is kept to be tried again, at most.
const UNRECORDED_MAX: usize = 1000;
/// For so long after its end a restriction stays on record: 90 days.
const KEPT_MS: i64 = 90 * 24 * 3_600_000;

/// A restriction that a person makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRestriction {
    /// Whose customer.
    pub tenant: String,
    /// Whose messages are restricted.
    pub customer: String,
    /// How much; monitoring is no restriction.
    pub severity: Severity,
    /// For how long, if not for as long as its severity has it.
    pub lasts_ms: Option<i64>,
    /// Why.
    pub reason: String,
}

impl Gateway {
    /// The record, for reads.
    #[must_use]
    pub fn restrictions(&self) -> &dyn Restrictions {
        &*self.0.guard.record
    }

    /// Restricts a customer by hand, in place of what was in force. It counts once it is durable.
    pub async fn restrict(&self, new: NewRestriction) -> Result<Restriction, StoreError> {
        let now = clock::now();
        let until = match new.lasts_ms {
            Some(lasts_ms) => Some(now.saturating_add(lasts_ms)),
            None => new.severity.until(now),
        };
        let restriction = Restriction {
            id: 0,
            tenant: new.tenant,
            customer: new.customer,
            severity: new.severity,
            kind: AbuseKind::Manual,
            since: now,
            until,
            reason: new.reason,
            appeal: None,
            appealed_at: None,
            lifted_at: None,
            lifted_by: None,
        };
        let restriction = self.0.guard.record.add_restriction(restriction).await?;
        self.hold(&restriction);
        said(&restriction, "a customer was restricted by hand");
        Ok(restriction)
    }

    /// Ends a restriction; its customer is as good as new. None if there is no such restriction.
    pub async fn lift(&self, id: u64, by: String) -> Result<Option<Restriction>, StoreError> {
        let before = self.0.guard.record.restriction(id).await?;
        if before.as_ref().is_none_or(|before| before.lifted_at.is_some()) {
            // What was replaced must take nothing away from what replaced it.
            return Ok(before);
        }
        let lifted = self.0.guard.record.lift_restriction(id, clock::now(), by).await?;
        if let Some(restriction) = &lifted {
            let guard = &self.0.guard;
            let name = guard.names.of(&restriction.tenant, Some(&restriction.customer));
            if guard.standings.lift(name, restriction.since) {
                guard.customers.forget(name);
                said(restriction, "a restriction was lifted");
            }
        }
        Ok(lifted)
    }

    /// Notes what is said against a restriction. None if there is no such restriction.
    pub async fn appeal(&self, id: u64, text: String) -> Result<Option<Restriction>, StoreError> {
        let appealed = self.0.guard.record.appeal_restriction(id, clock::now(), text).await?;
        if let Some(restriction) = &appealed {
            said(restriction, "a restriction was appealed");
        }
        Ok(appealed)
    }

    /// Records what the guard found; it counts already. A store that fails is tried again later.
    pub(crate) async fn record(&self, restriction: Restriction) {
        let gateway = self.clone();
        // Whoever sent the message may hang up; the record is made all the same.
        let recorded = tokio::spawn(async move {
            if let Err(error) = gateway.0.guard.record.add_restriction(restriction.clone()).await {
                tracing::error!(%error, "a restriction could not be recorded yet");
                let mut waiting =
                    gateway.0.guard.unrecorded.lock().unwrap_or_else(PoisonError::into_inner);
                if waiting.len() < UNRECORDED_MAX {
                    waiting.push(restriction);
                }
            }
        });
        drop(recorded.await);
    }

    /// Brings what is on record into force, at the start.
    pub(crate) async fn load_restrictions(&self) -> Result<(), StoreError> {
        let now = clock::now();
        let filter = RestrictionFilter {
            lasting_at: Some(now.saturating_sub(REMEMBERED_MS)),
            ..RestrictionFilter::default()
        };
        let mut after = 0;
        let mut loaded = 0;
        loop {
            let page = self.0.guard.record.restrictions(filter.clone(), after, PAGE).await?;
            let full = page.len() == PAGE;
            after = page.last().map_or(after, |last| last.id);
            for restriction in page {
                if restriction.standing().is_remembered(now) {
                    self.hold(&restriction);
                    loaded += 1;
                }
            }
            if !full {
                return Ok(());
            }
            if loaded >= STANDINGS_MAX {
                tracing::warn!(loaded, "more restrictions are on record than can be in force");
                return Ok(());
            }
        }
    }

    /// Tries again what could not be recorded, and forgets what is over.
    pub(crate) async fn tidy_guard(&self, now: Timestamp) {
        let guard = &self.0.guard;
        guard.standings.tidy(now);
        let waiting =
            std::mem::take(&mut *guard.unrecorded.lock().unwrap_or_else(PoisonError::into_inner));
        for restriction in waiting {
            self.record(restriction).await;
        }
        if let Err(error) = guard.record.forget_restrictions(now - KEPT_MS, PAGE).await {
            tracing::warn!(%error, "old restrictions could not be forgotten");
        }
    }

    /// Forgets what is on record of a customer, and how fast they wrote; says how many restrictions
    /// still count and stay.
    pub(crate) async fn erase_restrictions(
        &self,
        tenant: &str,
        customer: &str,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let guard = &self.0.guard;
        let left = guard.record.erase_restrictions(tenant, customer, now).await?;
        if left == 0 {
            guard.customers.forget(guard.names.of(tenant, Some(customer)));
        }
        Ok(left as u64)
    }

    fn hold(&self, restriction: &Restriction) {
        let guard = &self.0.guard;
        let name = guard.names.of(&restriction.tenant, Some(&restriction.customer));
        guard.standings.put(name, restriction.standing());
    }
}

fn said(restriction: &Restriction, what: &'static str) {
    tracing::info!(
        restriction = restriction.id,
        tenant = restriction.tenant,
        customer = restriction.customer,
        severity = restriction.severity.as_str(),
        "{what}"
    );
}
