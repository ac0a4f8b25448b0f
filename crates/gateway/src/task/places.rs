//! What says that a session is on its way into this node's hands, and that its turn is going to want
//! a slot: by both a node knows what else it can take.

use turnkeep_core::session::Stage;

use super::SessionTask;
use crate::slots::Coming;

impl SessionTask {
    /// Says that a slot is going to be wanted, for as long as that is so and no run asks for it.
    pub(super) fn await_slot(&mut self) {
        let turn = self.driver.session().and_then(|session| session.turn.as_ref());
        let accumulates = turn.is_some_and(|turn| matches!(turn.stage, Stage::Accumulating { .. }));
        let ours = accumulates && !self.driver.is_guest();
        self.coming = if ours { self.take_coming() } else { None };
        // What was on its way is here, or is another node's.
        self.taken = None;
    }

    /// What says that this session's turn is going to want a slot.
    pub(super) fn take_coming(&mut self) -> Option<Coming> {
        let brought = self.taken.as_mut().and_then(|taken| taken.coming.take());
        self.coming.take().or(brought).or_else(|| self.gateway.coming(self.driver.key()))
    }
}
