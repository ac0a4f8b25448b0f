//! How a run tells what it used. Each report has a number, so that one whose commit may have failed
//! can be offered again and is booked once.

use std::sync::{Arc, Mutex, PoisonError};

use turnkeep_core::SessionKey;
use turnkeep_core::ids::RunTag;
use turnkeep_core::session::{AgentInput, Report};
use turnkeep_core::usage::Usage;

use crate::mail::Mail;
use crate::service::Gateway;

/// The reports of one run.
pub(crate) struct Reports {
    last: Mutex<u32>,
    /// The agent that does the work, where it is not the session's own.
    stand_in: Option<Arc<str>>,
}

impl Reports {
    pub(crate) const fn new(stand_in: Option<Arc<str>>) -> Self {
        Self { last: Mutex::new(0), stand_in }
    }

    /// Whether another agent than the session's own does the work.
    pub(crate) const fn of_stand_in(&self) -> bool {
        self.stand_in.is_some()
    }

    /// Sends one to the session's task. The task may be gone, if the run was cancelled: then it is
    /// started again, because the money is spent.
    pub(crate) fn send(&self, gateway: &Gateway, key: &SessionKey, tag: RunTag, usage: Usage) {
        let usage = gateway.setup().settings.prices.priced(usage.within_bounds());
        let Some(policy) = gateway.policy_of_stored(key) else { return };
        // Held while it is sent: a report that came before one of a lower number would count as
        // that one's twin.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = last.saturating_add(1);
        let report = Report { number: *last, agent: self.stand_in.clone(), usage };
        let said = AgentInput::Used(Box::new(report));
        gateway.send(key, policy, Mail::Say(Box::new((tag, said))));
    }
}
