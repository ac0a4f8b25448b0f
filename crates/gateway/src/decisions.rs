//! What was decided is counted, and told to the log: a line for every message.

use std::time::Instant;

use turnkeep_core::SessionKey;
use turnkeep_core::ids::TurnId;
use turnkeep_core::message::{Decision, MessageBody, Rejection};
use turnkeep_core::ports::store::FirstDecision;

use crate::driver::duplicate_of;
use crate::service::Gateway;

impl Gateway {
    /// Counts a decision and writes its line of the log.
    pub(crate) fn note_decision(
        &self,
        key: &SessionKey,
        body: &MessageBody,
        decision: &Decision,
        since: Instant,
    ) {
        let latency_ms = since.elapsed().as_secs_f64() * 1000.0;
        self.0.metrics.decided(decision.action, decision.rejection.as_ref(), latency_ms);
        self.log_decision(key, body, decision.action.as_str(), decision, latency_ms);
    }

    /// Counts a message that came before, and writes its line of the log.
    pub(crate) fn note_duplicate(&self, body: &MessageBody, first: &FirstDecision, since: Instant) {
        let latency_ms = since.elapsed().as_secs_f64() * 1000.0;
        self.0.metrics.duplicate();
        self.log_decision(&first.session, body, "duplicate", &duplicate_of(first), latency_ms);
    }

    /// Every line has every field, but the reason of what was not refused.
    fn log_decision(
        &self,
        key: &SessionKey,
        body: &MessageBody,
        action: &'static str,
        decision: &Decision,
        latency_ms: f64,
    ) {
        tracing::info!(
            session_key = key.as_str(),
            action,
            message_id = &*body.message_id,
            workflow_run_id = %RunId(decision.turn),
            reason = decision.rejection.as_ref().map(Rejection::as_str),
            latency_ms,
            text = self.setup().settings.log_text.then_some(&*body.text),
            "gateway_decision"
        );
    }
}

/// A turn in a line of the log: empty for a message that has none yet.
struct RunId(Option<TurnId>);

impl std::fmt::Display for RunId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |turn| turn.fmt(formatter))
    }
}
