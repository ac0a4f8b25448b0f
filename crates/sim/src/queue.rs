//! The switch of the queue: in some sessions nothing may wait, and whatever would have to is
//! refused. It is drawn from a source of its own, so a schedule without it is what it was before.

use std::sync::Arc;

use turnkeep_core::Policy;
use turnkeep_core::journal::{Event, EventBody};
use turnkeep_core::message::Action;

use crate::rng::Rng;
use crate::stock::SESSIONS;

/// Tells its source from that of everything else. With this number every seed on record has its
/// queues, so each of them still shows what it once showed.
const OWN: u64 = 17 << 33;

/// Switches the queue off in some sessions.
pub(crate) fn switch(seed: u64, policies: &mut [Arc<Policy>; SESSIONS]) {
    let mut rng = Rng::new(seed ^ OWN);
    for policy in policies {
        if rng.permille(120) {
            Arc::make_mut(policy).queues = false;
        }
    }
}

/// No message is told to wait where none may. (A retried dead letter is a message like any other.)
pub(crate) fn hold(event: &Event, policy: &Policy, violations: &mut Vec<String>) {
    // What is held waits for its check; it may still be refused to wait behind others.
    let waits = matches!(
        event.body,
        EventBody::MessageAccepted { action: Action::Queued, held: false, .. }
    );
    if waits && !policy.queues {
        violations.push(format!("I13: {} waits where nothing may", event.seq));
    }
}
