//! The numbers to watch. Handles are looked up once: the hot path only adds.

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use turnkeep_core::SessionKey;
use turnkeep_core::journal::{Event, EventBody};
use turnkeep_core::message::Action;

pub(crate) struct Metrics {
    decisions: [Counter; 4],
    duplicates: Counter,
    latency_ms: Histogram,
    turns: [Counter; 4],
    pub(crate) runs: Counter,
    pub(crate) panics: Counter,
    pub(crate) deliveries: Counter,
    pub(crate) guard_customers: Gauge,
    pub(crate) restrictions: Gauge,
    pub(crate) sessions: Gauge,
    pub(crate) without_agent: Gauge,
    pub(crate) slots_waiting: Gauge,
    pub(crate) fsyncs: Counter,
    pub(crate) commits: Counter,
    pub(crate) batches: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        describe_counter!("turn_gateway_decision_total", "Decisions on messages, by action");
        describe_histogram!(
            "turn_gateway_latency_ms",
            "Time from a message to its durable decision"
        );
        describe_counter!("turnkeep_turns_total", "Turns that ended, by status");
        describe_counter!("turnkeep_runs_total", "Attempts handed to an agent");
        describe_counter!("turnkeep_panics_total", "Panics of agents and session tasks");
        describe_counter!("turnkeep_duplicates_total", "Messages that came before");
        describe_counter!("turnkeep_deliveries_total", "Deliveries begun");
        describe_counter!(
            "turn_gateway_callbacks_total",
            "Tries of callbacks, by listener and outcome"
        );
        describe_gauge!(
            "turn_gateway_callbacks_pending",
            "Callbacks that wait for another try, by listener"
        );
        describe_gauge!(
            "turn_gateway_queue_depth",
            "Accepted messages that no running turn has taken, by sort of session"
        );
        describe_counter!(
            "turn_gateway_guard_total",
            "What the guard found, by check and by what followed"
        );
        describe_gauge!("turn_gateway_guard_customers", "Customers that the guard remembers");
        describe_gauge!("turn_gateway_restrictions", "Restrictions that the guard remembers");
        describe_gauge!("turnkeep_sessions_active", "Sessions with a task");
        describe_gauge!(
            "turnkeep_turns_without_agent",
            "Turns that wait because their agent is not configured any more"
        );
        describe_gauge!("turnkeep_slots_waiting", "Runs that wait for a provider slot");
        describe_counter!("turnkeep_store_fsyncs_total", "Syncs the store asked the disk for");
        describe_counter!("turnkeep_store_commits_total", "Session commits");
        describe_counter!("turnkeep_store_batches_total", "Transactions that carried them");
        let decision =
            |action: Action| counter!("turn_gateway_decision_total", "action" => action.as_str());
        let ended = |status: &'static str| counter!("turnkeep_turns_total", "status" => status);
        Self {
            decisions: [
                decision(Action::WorkflowStarted),
                decision(Action::EventSent),
                decision(Action::Queued),
                decision(Action::Rejected),
            ],
            duplicates: counter!("turnkeep_duplicates_total"),
            latency_ms: histogram!("turn_gateway_latency_ms"),
            turns: [ended("complete"), ended("superseded"), ended("cancelled"), ended("failed")],
            runs: counter!("turnkeep_runs_total"),
            panics: counter!("turnkeep_panics_total"),
            deliveries: counter!("turnkeep_deliveries_total"),
            guard_customers: gauge!("turn_gateway_guard_customers"),
            restrictions: gauge!("turn_gateway_restrictions"),
            sessions: gauge!("turnkeep_sessions_active"),
            without_agent: gauge!("turnkeep_turns_without_agent"),
            slots_waiting: gauge!("turnkeep_slots_waiting"),
            fsyncs: counter!("turnkeep_store_fsyncs_total"),
            commits: counter!("turnkeep_store_commits_total"),
            batches: counter!("turnkeep_store_batches_total"),
        }
    }

    pub(crate) fn decided(&self, action: Action, latency_ms: f64) {
        self.decisions[action as usize].increment(1);
        self.latency_ms.record(latency_ms);
    }

    /// The depth of the queues of one sort of session, which names no person.
    pub(crate) fn queue_depth(key: &SessionKey) -> Gauge {
        let pattern = format!("*:*:{}:{}:*", key.channel(), key.kind().as_str());
        gauge!("turn_gateway_queue_depth", "session_key_pattern" => pattern)
    }

    /// The guard found something; who it was is no label.
    pub(crate) fn guard(check: &'static str, outcome: &'static str) {
        counter!("turn_gateway_guard_total", "check" => check, "outcome" => outcome).increment(1);
    }

    pub(crate) fn duplicate(&self) {
        self.duplicates.increment(1);
    }

    pub(crate) fn turn_ended(&self, ending: Ending) {
        self.turns[ending as usize].increment(1);
    }
}

/// The numbers of one listener.
pub(crate) struct CallbackMetrics {
    listener: String,
    pending: Gauge,
}

impl CallbackMetrics {
    pub(crate) fn new(listener: &str) -> Self {
        let listener = listener.to_owned();
        let pending = gauge!("turn_gateway_callbacks_pending", "listener" => listener.clone());
        Self { listener, pending }
    }

    /// A try ended so.
    pub(crate) fn tried(&self, outcome: &'static str) {
        let listener = self.listener.clone();
        let labels = [("listener", listener), ("outcome", outcome.to_owned())];
        counter!("turn_gateway_callbacks_total", &labels).increment(1);
    }

    pub(crate) fn pending(&self, count: u64) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float by its protocol")]
        self.pending.set(count as f64);
    }
}

/// How a turn ended, for counting.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    Complete = 0,
    Superseded = 1,
    Cancelled = 2,
    Failed = 3,
}

impl Ending {
    pub(crate) const fn of(event: &Event) -> Option<Self> {
        match event.body {
            EventBody::TurnCompleted { .. } => Some(Self::Complete),
            EventBody::TurnSuperseded { .. } => Some(Self::Superseded),
            EventBody::TurnCancelled { .. } => Some(Self::Cancelled),
            EventBody::TurnFailed { .. } => Some(Self::Failed),
            _ => None,
        }
    }
}

/// Who was not let in.
pub(crate) struct AccessMetrics {
    pub(crate) failed: Counter,
    pub(crate) limited: Counter,
    pub(crate) forbidden: Counter,
}

impl AccessMetrics {
    pub(crate) fn new() -> Self {
        describe_counter!("turnkeep_access_refused_total", "Requests not let in, by reason");
        let refused =
            |reason: &'static str| counter!("turnkeep_access_refused_total", "reason" => reason);
        Self {
            failed: refused("failed"),
            limited: refused("limited"),
            forbidden: refused("forbidden"),
        }
    }
}
