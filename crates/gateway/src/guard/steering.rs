//! What is asked of those who steer a session instead of writing in it.
//!
//! A customer who steers meets what a message of theirs would meet, but for abuse: nothing is said.
//! Stopping is left to whoever is blocked. A key belongs to a backend that answers for its customers,
//! so only its tenant's rate is asked. Stopping is counted by itself, so that whoever wrote too much can
//! still end what runs, and so is typing, because it comes again and again while one message is
//! written.

use turnkeep_core::SessionKey;
use turnkeep_core::guard::Severity;
use turnkeep_core::message::Rejection;

use super::admission::Guard;
use super::rates::{Charge, Wait, What};
use crate::clock;
use crate::metrics::Metrics;
use crate::service::{Gateway, Refusal};

/// What somebody does to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Steering {
    /// Ends what runs.
    Stop,
    /// Tells that a message is being written.
    Typing,
    /// Anything else.
    Other,
}

impl Steering {
    /// What rates count it as.
    pub(super) const fn counted_as(self) -> What {
        match self {
            Self::Stop => What::Stop,
            Self::Typing => What::Typing,
            Self::Other => What::Sent,
        }
    }
}

impl Gateway {
    /// Lets somebody steer a session, or says why not: the customer who does it, or a key if none.
    pub(crate) fn may_steer(
        &self,
        key: &SessionKey,
        customer: Option<&str>,
        steering: Steering,
    ) -> Result<(), Refusal> {
        // Where no such channel is configured, that is what has to be told.
        let Some(policy) = self.policy_of_stored(key) else { return Ok(()) };
        let (setup, tenant) = (self.setup(), key.tenant());
        let charge = Charge {
            tenant: &tenant,
            policy: &policy,
            settings: &setup.guard,
            what: steering.counted_as(),
            now: clock::now(),
        };
        self.0.guard.steered(&charge, customer, steering).map_err(Refusal::Rejected)
    }
}

impl Guard {
    pub(super) fn steered(
        &self,
        charge: &Charge<'_>,
        customer: Option<&str>,
        steering: Steering,
    ) -> Result<(), Rejection> {
        let waits = match customer {
            None => self.charge_tenant(charge),
            Some(customer) => {
                let name = self.names.of(charge.tenant, Some(customer));
                let restricted = match self.standings.in_force(name, charge.now) {
                    Some((Severity::Block | Severity::Permanent, kind))
                        if steering != Steering::Stop =>
                    {
                        Metrics::guard("restriction", "refused");
                        return Err(Rejection::Abuse(kind));
                    }
                    in_force => in_force.is_some(),
                };
                self.charge_rates(name, charge, restricted)
            }
        };
        waits.map_err(|Wait { level, ms }| {
            Metrics::guard(level, "refused");
            Rejection::RateLimited { retry_after_ms: ms }
        })
    }
}
