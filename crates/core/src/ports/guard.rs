//! Where restrictions of customers live. Whether one counts is asked of memory, for every message;
//! this is the record, read at boot and by people.

use serde::{Deserialize, Serialize};

use super::BoxFuture;
use super::store::StoreError;
use crate::guard::{AbuseKind, Severity, Standing};
use crate::ids::Timestamp;

/// The longest text of a reason or an appeal, in bytes.
pub const NOTE_BYTES_MAX: usize = 2000;

/// One customer's restriction, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restriction {
    /// Its number; 0 until it is recorded. Grows with time.
    pub id: u64,
    /// Whose customer.
    pub tenant: String,
    /// Whose messages are restricted.
    pub customer: String,
    /// How much.
    pub severity: Severity,
    /// For what.
    pub kind: AbuseKind,
    /// Since when.
    pub since: Timestamp,
    /// Until when; none if only a person ends it.
    pub until: Option<Timestamp>,
    /// Why, in words; never what was written.
    pub reason: String,
    /// What was said against it.
    pub appeal: Option<String>,
    /// When that was said.
    pub appealed_at: Option<Timestamp>,
    /// When it was lifted, or replaced by a later one.
    pub lifted_at: Option<Timestamp>,
    /// By whom.
    pub lifted_by: Option<String>,
}

impl Restriction {
    /// As it is held against its customer.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing::new(self.severity, self.kind, self.since, self.until)
    }

    /// Whether it counts now.
    #[must_use]
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.lifted_at.is_none() && self.until.is_none_or(|until| now < until)
    }
}

/// Which restrictions are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestrictionFilter {
    /// Only this tenant's.
    pub tenant: Option<String>,
    /// Only this customer's.
    pub customer: Option<String>,
    /// Only what is not lifted and did not end before this time.
    pub lasting_at: Option<Timestamp>,
}

/// The record of restrictions.
pub trait Restrictions: Send + Sync + 'static {
    /// Records one and gives it its number. Whatever else of the same customer was not lifted yet
    /// counts as lifted from then on, by "replaced by" and the new number: one at a time is in
    /// force. Answered once it is durable.
    fn add_restriction(
        &self,
        restriction: Restriction,
    ) -> BoxFuture<'_, Result<Restriction, StoreError>>;

    /// The restriction of this number.
    fn restriction(&self, id: u64) -> BoxFuture<'_, Result<Option<Restriction>, StoreError>>;

    /// Restrictions behind `after`, by number.
    fn restrictions(
        &self,
        filter: RestrictionFilter,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Restriction>, StoreError>>;

    /// Lifts one and says how it stands then; one that was lifted before stays as it is. None if
    /// there is no such restriction. Answered once it is durable.
    fn lift_restriction(
        &self,
        id: u64,
        at: Timestamp,
        by: String,
    ) -> BoxFuture<'_, Result<Option<Restriction>, StoreError>>;

    /// Notes what is said against one, in place of what was said before; none if there is no such
    /// restriction. Answered once it is durable.
    fn appeal_restriction(
        &self,
        id: u64,
        at: Timestamp,
        text: String,
    ) -> BoxFuture<'_, Result<Option<Restriction>, StoreError>>;

    /// Forgets restrictions of a customer that do not count at this time any more, and what was
    /// said against the one that does; says how many still count. Answered once it is durable.
    fn erase_restrictions(
        &self,
        tenant: &str,
        customer: &str,
        at: Timestamp,
    ) -> BoxFuture<'_, Result<usize, StoreError>>;

    /// Forgets restrictions that were lifted or ended before this time, at most `limit` of them;
    /// says how many.
    fn forget_restrictions(
        &self,
        ended_before: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, StoreError>>;
}
