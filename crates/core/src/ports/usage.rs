//! What was used, in sums. They are written with the commits that tell of it
//! ([`Rows::usage`](super::store::Rows::usage)), so they are what the journals come to.

use std::sync::Arc;

use super::BoxFuture;
use super::store::StoreError;
use crate::ids::TurnId;
use crate::session_key::SessionKey;
use crate::usage::{Day, Sums};

/// What is summed up in one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A tenant.
    Tenant,
    /// A customer of a tenant. What groups used is nobody's.
    Customer,
    /// A session.
    Session,
    /// The agent that did the work.
    Agent,
    /// The model that answered.
    Model,
    /// A day.
    Day,
}

impl By {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Tenant, Self::Customer, Self::Session, Self::Agent, Self::Model, Self::Day];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Customer => "customer",
            Self::Session => "session",
            Self::Agent => "agent",
            Self::Model => "model",
            Self::Day => "day",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.as_str() == name)
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageQuery {
    /// What makes a line.
    pub by: By,
    /// Only of this tenant.
    pub tenant: Option<Arc<str>>,
    /// Only of this customer of it.
    pub customer: Option<Arc<str>>,
    /// Only of this session.
    pub session: Option<SessionKey>,
    /// From this day on; none for all time, with what was so old that its days were put together.
    pub from: Option<Day>,
    /// Up to this day, which counts; without what was put together.
    pub to: Option<Day>,
}

/// One line of the answer; what it is not about is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageLine {
    /// Whose.
    pub tenant: Option<Arc<str>>,
    /// Which customer; none where the line is about nobody, or about somebody who was erased.
    pub customer: Option<Arc<str>>,
    /// Which session; none where it was erased.
    pub session: Option<SessionKey>,
    /// Which agent.
    pub agent: Option<Arc<str>>,
    /// Which model.
    pub model: Option<Arc<str>>,
    /// Which day; none for what was put together.
    pub day: Option<Day>,
    /// How much.
    pub sums: Sums,
}

/// The port.
pub trait UsageStore: Send + Sync + 'static {
    /// Sums, the most expensive first and then those with most tokens; days in their order.
    fn usage(
        &self,
        query: UsageQuery,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UsageLine>, StoreError>>;

    /// What these turns used, as far as they used anything and are not forgotten.
    fn usage_of_turns(
        &self,
        turns: Vec<TurnId>,
    ) -> BoxFuture<'_, Result<Vec<(TurnId, Sums)>, StoreError>>;

    /// Puts days before this one together, about `limit` rows of them: sums stay, the days are
    /// forgotten. Says how many rows it took.
    fn put_days_together(
        &self,
        before: Day,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, StoreError>>;
}
