//! The span of an attempt: part of its turn's, from the hand-over to the agent's last word.

use turnkeep_core::session::AgentInput;

use super::{RunShared, lock};
use crate::trace::{OpenSpan, names};

impl RunShared {
    /// Notes something of the attempt's span.
    pub(super) fn trace(&self, note: impl FnOnce(&mut OpenSpan)) {
        if let Some(span) = &mut lock(&self.rare).span {
            note(span);
        }
    }

    /// Ends the attempt's span. What the agent said went wrong stays out of it: it may quote what
    /// the user said.
    pub(super) fn end_span(&self, said: Option<&AgentInput>) {
        let Some(mut span) = lock(&self.rare).span.take() else { return };
        match said {
            Some(AgentInput::Failed(_)) => {
                span.set(names::OUTCOME, || "failed".into());
                span.fail("the agent failed");
            }
            Some(_) => span.set(names::OUTCOME, || "finished".into()),
            // It was cancelled, as it says already.
            None => {}
        }
    }
}
