//! Budgets, asked before a message is let in and before a run begins. What runs is never ended for
//! one, so they may be overstepped by what is under way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use turnkeep_core::budget::{Budgets, Exceeded, OnExceeded, Scope};
use turnkeep_core::message::{Decision, Inbound, InboundKind, Rejection};
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::ports::usage::UsageStore;
use turnkeep_core::usage::{Day, customer_of};
use turnkeep_core::{Policy, SessionKey, Timestamp};

use super::Reports;
use super::ledger::{Booked, Whose};
use crate::clock;
use crate::metrics::Metrics;
use crate::service::{Gateway, Refusal};
use crate::setup::Configured;

/// Rows that one change puts together.
const TOGETHER_ROWS: usize = 256;

impl Gateway {
    /// What was used, in sums.
    #[must_use]
    pub fn usage(&self) -> &Arc<dyn UsageStore> {
        &self.0.ledger.store
    }

    /// Commits are durable that told of what was used.
    pub(crate) fn book(&self, key: &SessionKey, booked: &[Booked]) {
        for one in booked {
            self.0.ledger.book(key, one);
            let (agent, sums) = one.by(key);
            Metrics::used(&agent, sums);
        }
    }

    /// The budget that is used up, if one is: of several the one whose window ends last.
    async fn exceeded(
        &self,
        budgets: &Budgets,
        key: &SessionKey,
        customer: Option<&str>,
        now: Timestamp,
    ) -> Result<Option<Exceeded>, StoreError> {
        let tenant: Arc<str> = key.tenant().into();
        let mut found: Option<Exceeded> = None;
        for scope in Scope::ALL.into_iter().filter(|scope| budgets.watches(*scope)) {
            let name: Arc<str> = match (scope, customer) {
                (Scope::Session, _) => key.as_str().into(),
                (Scope::Customer, Some(customer)) => customer.into(),
                (Scope::Customer, None) => continue,
                (Scope::Tenant, _) => Arc::default(),
            };
            let whose = Whose { scope, tenant: Arc::clone(&tenant), name };
            let used = self.0.ledger.used(&whose, now).await?;
            let over = budgets.exceeded(scope, &used.of_day, &used.of_month);
            let end = |exceeded: &Exceeded| exceeded.window.end(Day::of(now));
            let later = |over: &Exceeded| found.as_ref().is_none_or(|found| end(over) > end(found));
            found = over.filter(later).or(found);
        }
        Ok(found)
    }

    /// Refuses a message whose budget is used up. Where it may be a twin of what was accepted, or
    /// its sender has to be told where it was written, it goes on with the refusal, as often as the
    /// guard lets its sender ask.
    pub(crate) async fn within_budget(
        &self,
        key: &SessionKey,
        policy: &Policy,
        inbound: &mut Inbound,
        since: Instant,
    ) -> Result<(), Refusal> {
        let refuses = |budgets: &&Arc<Budgets>| budgets.on_exceeded == OnExceeded::Refuse;
        let Some(budgets) = policy.budgets.as_ref().filter(refuses) else { return Ok(()) };
        // What asks no agent for anything costs nothing.
        let free = matches!(inbound.kind, InboundKind::Command(_) | InboundKind::Context);
        if free || inbound.refused.is_some() {
            return Ok(());
        }
        let (now, sender) = (clock::now(), Arc::clone(&inbound.body.sender));
        let customer = customer_of(key);
        let exceeded = self.exceeded(budgets, key, customer.as_deref(), now).await;
        let exceeded = exceeded.map_err(|error| Refusal::Unavailable(error.to_string()))?;
        let Some(budget) = exceeded else { return Ok(()) };
        Metrics::over_budget(budget.scope);
        let end = budget.window.end(Day::of(now));
        let retry_after_ms = end.saturating_sub(now).max(0).unsigned_abs();
        let rejection = Rejection::BudgetExceeded { budget, retry_after_ms };
        let tells = policy.facts.reopens && !budgets.refused_text.is_empty();
        let tenant = key.tenant();
        let asks = tells || inbound.is_named();
        if asks && self.0.guard.may_ask_again(&tenant, &sender, now) {
            inbound.refused = Some(rejection);
            return Ok(());
        }
        let decision = Decision::rejected(rejection.clone());
        self.note_decision(key, &inbound.body, &decision, since);
        Err(Refusal::Rejected(rejection))
    }

    /// Puts together what was used on days that are too old.
    pub(crate) async fn put_days_together(
        &self,
        now: Timestamp,
        pace: Duration,
    ) -> Result<(), StoreError> {
        let days = self.setup().settings.prices.days_kept;
        let Some(days) = i32::try_from(days).ok().filter(|days| *days > 0) else { return Ok(()) };
        // What counts for a budget is kept by its days.
        let today = Day::of(now);
        let before = today.plus(-days).min(today.month().0);
        while self.usage().put_days_together(before, TOGETHER_ROWS).await? == TOGETHER_ROWS {
            tokio::time::sleep(pace).await;
        }
        Ok(())
    }
}

/// Who does the work of a run: its own agent, or another one if a budget is used up and the policy
/// says so. The reports say which.
pub(crate) async fn appoint(
    gateway: &Gateway,
    key: &SessionKey,
    budgets: Option<&Budgets>,
    own: Configured,
) -> (Configured, Reports) {
    match stand_in(gateway, key, budgets).await {
        Some((name, other)) => (other, Reports::new(Some(name))),
        None => (own, Reports::new(None)),
    }
}

async fn stand_in(
    gateway: &Gateway,
    key: &SessionKey,
    budgets: Option<&Budgets>,
) -> Option<(Arc<str>, Configured)> {
    let budgets = budgets.filter(|budgets| budgets.on_exceeded == OnExceeded::Degrade)?;
    let name = budgets.degrade_to.as_ref().filter(|name| key.agent() != ***name)?;
    let configured = gateway.setup().agents.get(&**name).cloned()?;
    match gateway.exceeded(budgets, key, customer_of(key).as_deref(), clock::now()).await {
        Ok(Some(budget)) => {
            Metrics::degraded(budget.scope);
            let (scope, window) = (budget.scope.as_str(), budget.window.as_str());
            tracing::info!(session_key = key.as_str(), scope, window, agent = &**name, "degraded");
            Some((Arc::clone(name), configured))
        }
        Ok(None) => None,
        Err(error) => {
            tracing::warn!(session_key = key.as_str(), %error, "budgets could not be read");
            None
        }
    }
}
