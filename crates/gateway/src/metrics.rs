//! The numbers to watch. Handles are looked up once: the hot path only adds.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use turnkeep_core::SessionKey;
use turnkeep_core::budget::Scope;
use turnkeep_core::care::Why;
use turnkeep_core::guard::AbuseKind;
use turnkeep_core::journal::{Event, EventBody};
use turnkeep_core::message::{Action, Rejection};
use turnkeep_core::outbox::DeliveryOutcome;
use turnkeep_core::switchboard::STATES;
use turnkeep_core::switchboard::states::word;
use turnkeep_core::tool::ToolOutcome;
use turnkeep_core::usage::Sums;

mod gauges;
mod names;
mod standing;

pub(crate) use gauges::Counted;
pub(crate) use standing::{Standing, Standings};

/// The wire names of refusals that are no abuse.
const REJECTIONS: [&str; 8] = [
    "session_busy",
    "queue_full",
    "session_closed",
    "question_not_open",
    "message_id_reused",
    "idempotency_key_reused",
    "rate_limit_exceeded",
    "budget_exceeded",
];

pub(crate) struct Metrics {
    decisions: [Counter; Action::ALL.len()],
    /// Few, so looking through them is cheaper than making a name for each refusal.
    rejected: Vec<(&'static str, Counter)>,
    duplicates: Counter,
    latency_ms: Histogram,
    /// By the channel and the sort of session, as they stand in a session's key. Only what is
    /// configured has sessions, so there are few.
    queue_depths: RwLock<HashMap<Box<str>, Gauge>>,
    turns: [Counter; 4],
    turns_open: [Gauge; standing::STAGES.len()],
    pub(crate) runs: Counter,
    pub(crate) run_failures: Counter,
    runs_active: Gauge,
    pub(crate) panics: Counter,
    pub(crate) deliveries: Counter,
    delivered: [Counter; 3],
    tool_calls: [Counter; 3],
    outbox_parts: Gauge,
    outbox_oldest: Gauge,
    dead_letters: Gauge,
    forgotten: [Counter; 2],
    disappeared: Counter,
    guard_customers: Gauge,
    restrictions: Gauge,
    sessions: Gauge,
    sessions_paused: Gauge,
    undecided_max: Gauge,
    watchers: Gauge,
    /// By state.
    on_board: [Gauge; STATES.len()],
    waiting_on_board: Gauge,
    ready: Gauge,
    draining: Gauge,
    pub(crate) without_agent: Gauge,
    store: StoreMetrics,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        names::describe();
        for scope in Scope::ALL {
            refusals(scope).increment(0);
            degraded_runs(scope).increment(0);
        }
        let decision =
            |action: Action| counter!("turn_gateway_decision_total", "action" => action.as_str());
        let ended = |status: &'static str| counter!("turnkeep_turns_total", "status" => status);
        let rejected = |reason: &'static str| {
            (reason, counter!("turn_gateway_rejected_total", "reason" => reason))
        };
        let delivered = |outcome: &'static str| -> Counter {
            counter!("turnkeep_delivery_outcomes_total", "outcome" => outcome)
        };
        let forgotten =
            |why: &'static str| counter!("turnkeep_forgotten_messages_total", "why" => why);
        Self {
            decisions: Action::ALL.map(decision),
            rejected: REJECTIONS
                .into_iter()
                .chain(AbuseKind::ALL.map(AbuseKind::rejection))
                .map(rejected)
                .collect(),
            duplicates: counter!("turnkeep_duplicates_total"),
            latency_ms: histogram!("turn_gateway_latency_ms"),
            queue_depths: RwLock::default(),
            turns: [ended("complete"), ended("superseded"), ended("cancelled"), ended("failed")],
            turns_open: standing::STAGES
                .map(|stage| gauge!("turnkeep_turns_open", "stage" => stage)),
            runs: counter!("turnkeep_runs_total"),
            run_failures: counter!("turnkeep_run_failures_total"),
            runs_active: gauge!("turnkeep_runs_active"),
            panics: counter!("turnkeep_panics_total"),
            deliveries: counter!("turnkeep_deliveries_total"),
            delivered: [delivered("sent"), delivered("failed"), delivered("unknown")],
            tool_calls: [ToolOutcome::Done, ToolOutcome::Failed, ToolOutcome::Unknown]
                .map(tool_calls),
            outbox_parts: gauge!("turnkeep_outbox_parts"),
            outbox_oldest: gauge!("turnkeep_outbox_oldest_seconds"),
            dead_letters: gauge!("turnkeep_dead_letters"),
            forgotten: [forgotten("retention"), forgotten("erasure")],
            disappeared: counter!("turnkeep_disappeared_texts_total"),
            guard_customers: gauge!("turn_gateway_guard_customers"),
            restrictions: gauge!("turn_gateway_restrictions"),
            sessions: gauge!("turnkeep_sessions_active"),
            sessions_paused: gauge!("turnkeep_sessions_paused"),
            undecided_max: gauge!("turn_gateway_undecided_max"),
            watchers: gauge!("turnkeep_watchers"),
            on_board: STATES
                .map(|state| gauge!("turnkeep_switchboard_sessions", "state" => word(state))),
            waiting_on_board: gauge!("turnkeep_switchboard_waiting"),
            ready: gauge!("turnkeep_ready"),
            draining: gauge!("turnkeep_draining"),
            without_agent: gauge!("turnkeep_turns_without_agent"),
            store: StoreMetrics::new(),
        }
    }

    pub(crate) fn decided(&self, action: Action, rejection: Option<&Rejection>, latency_ms: f64) {
        self.decisions[action as usize].increment(1);
        self.latency_ms.record(latency_ms);
        let Some(rejection) = rejection else { return };
        let reason = rejection.as_str();
        if let Some((_, counter)) = self.rejected.iter().find(|(name, _)| *name == reason) {
            counter.increment(1);
        }
    }

    /// The queues of one sort of session got so much deeper. Which sort it is names no person.
    fn queue_depth(&self, key: &SessionKey, change: f64) {
        let sort = sort_of(key.as_str());
        let known = self.queue_depths.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(depth) = known.get(sort) {
            return depth.increment(change);
        }
        drop(known);
        let pattern = format!("*:*:{sort}:*");
        let depth = gauge!("turn_gateway_queue_depth", "session_key_pattern" => pattern);
        depth.increment(change);
        let mut known = self.queue_depths.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(sort.into(), depth);
    }

    /// The guard found something; who it was is no label.
    pub(crate) fn guard(check: &'static str, outcome: &'static str) {
        counter!("turn_gateway_guard_total", "check" => check, "outcome" => outcome).increment(1);
    }

    /// What an agent used. Only those that are configured run, so there are few names.
    pub(crate) fn used(agent: &str, sums: &Sums) {
        let kinds = [
            ("input", sums.input_tokens),
            ("output", sums.output_tokens),
            ("cached", sums.cached_tokens),
            ("cache_write", sums.cache_write_tokens),
        ];
        for (kind, tokens) in kinds {
            let labels = [("agent", agent.to_owned()), ("kind", kind.to_owned())];
            counter!("turn_gateway_tokens_total", &labels).increment(tokens);
        }
        let cost = counter!("turn_gateway_cost_micros_total", "agent" => agent.to_owned());
        cost.increment(sums.cost_micros);
    }

    /// A message is refused because a budget is used up.
    pub(crate) fn over_budget(scope: Scope) {
        refusals(scope).increment(1);
    }

    /// Another agent answers because a budget is used up.
    pub(crate) fn degraded(scope: Scope) {
        degraded_runs(scope).increment(1);
    }

    /// Messages went, for their age or with their customer.
    pub(crate) fn forgotten(&self, why: Why, messages: u64) {
        let why = match why {
            Why::Retention => 0,
            Why::Erasure => 1,
        };
        self.forgotten[why].increment(messages);
    }

    /// Texts went because the timer of their chat was over.
    pub(crate) fn disappeared(&self, texts: u64) {
        self.disappeared.increment(texts);
    }

    /// A channel was called, and said so.
    pub(crate) fn delivered(&self, outcome: &DeliveryOutcome) {
        let outcome = match outcome {
            DeliveryOutcome::Sent => 0,
            DeliveryOutcome::Failed { .. } => 1,
            DeliveryOutcome::Unknown { .. } => 2,
        };
        self.delivered[outcome].increment(1);
    }

    pub(crate) fn duplicate(&self) {
        self.duplicates.increment(1);
    }

    pub(crate) fn turn_ended(&self, ending: Ending) {
        self.turns[ending as usize].increment(1);
    }

    /// It is on record what came of a call.
    pub(crate) fn tool_returned(&self, outcome: ToolOutcome) {
        self.tool_calls[outcome as usize].increment(1);
    }
}

fn tool_calls(outcome: ToolOutcome) -> Counter {
    counter!("turn_gateway_tool_calls_total", "outcome" => outcome.as_str())
}

fn refusals(scope: Scope) -> Counter {
    counter!("turn_gateway_budget_refusals_total", "scope" => scope.as_str())
}

fn degraded_runs(scope: Scope) -> Counter {
    counter!("turn_gateway_degraded_runs_total", "scope" => scope.as_str())
}

/// Channel and sort of a session in its key, as one: `web:dm`.
fn sort_of(key: &str) -> &str {
    let mut colons = key.match_indices(':').map(|(at, _)| at);
    match (colons.nth(1), colons.nth(1)) {
        (Some(before), Some(behind)) => &key[before + 1..behind],
        _ => "",
    }
}

/// What the store counts, as of the last look.
struct StoreMetrics {
    ready: Gauge,
    fsyncs: Counter,
    commits: Counter,
    conflicts: Counter,
    refusals: Counter,
    /// By why.
    retries: [Counter; 3],
    batches: Counter,
    failures: Counter,
    checkpoints: Counter,
    waiting: Gauge,
    wal_pages: Gauge,
}

impl StoreMetrics {
    fn new() -> Self {
        let retries = |why: &'static str| counter!("turnkeep_store_retries_total", "why" => why);
        Self {
            ready: gauge!("turnkeep_store_ready"),
            fsyncs: counter!("turnkeep_store_fsyncs_total"),
            commits: counter!("turnkeep_store_commits_total"),
            conflicts: counter!("turnkeep_store_conflicts_total"),
            refusals: counter!("turnkeep_store_refusals_total"),
            retries: ["connection", "held_up", "version"].map(retries),
            batches: counter!("turnkeep_store_batches_total"),
            failures: counter!("turnkeep_store_failures_total"),
            checkpoints: counter!("turnkeep_store_checkpoints_total"),
            waiting: gauge!("turnkeep_store_waiting"),
            wal_pages: gauge!("turnkeep_store_wal_pages"),
        }
    }
}

/// Answers to requests, by the first digit of their status.
pub(crate) struct HttpMetrics([Counter; 5]);

impl HttpMetrics {
    pub(crate) fn new() -> Self {
        let class =
            |class: &'static str| counter!("turnkeep_http_responses_total", "class" => class);
        Self(["1xx", "2xx", "3xx", "4xx", "5xx"].map(class))
    }

    pub(crate) fn answered(&self, status: u16) {
        if let Some(class) = usize::from(status / 100).checked_sub(1).and_then(|at| self.0.get(at))
        {
            class.increment(1);
        }
    }
}

/// How tries of callbacks end.
const TRIED: [&str; 5] = ["delivered", "failed", "dead", "gone", "cut_off"];

/// The numbers of one listener.
pub(crate) struct CallbackMetrics {
    tried: [Counter; 5],
    forgotten: Counter,
    pending: Gauge,
}

impl CallbackMetrics {
    pub(crate) fn new(listener: &str) -> Self {
        // All of them at once: whoever counts how much a number grew has to know it from 0 on.
        let tried = TRIED.map(|outcome| {
            let labels = [("listener", listener.to_owned()), ("outcome", outcome.to_owned())];
            counter!("turn_gateway_callbacks_total", &labels)
        });
        let pending = gauge!("turn_gateway_callbacks_pending", "listener" => listener.to_owned());
        let forgotten =
            counter!("turn_gateway_callbacks_skipped_total", "listener" => listener.to_owned());
        Self { tried, forgotten, pending }
    }

    /// So much was forgotten before it was told.
    pub(crate) fn forgotten(&self, count: u64) {
        self.forgotten.increment(count);
    }

    /// A try ended so.
    pub(crate) fn tried(&self, outcome: &'static str) {
        if let Some(at) = TRIED.iter().position(|known| *known == outcome) {
            self.tried[at].increment(1);
        }
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
        let refused =
            |reason: &'static str| counter!("turnkeep_access_refused_total", "reason" => reason);
        Self {
            failed: refused("failed"),
            limited: refused("limited"),
            forbidden: refused("forbidden"),
        }
    }
}

#[cfg(test)]
mod tests {
    use turnkeep_core::SessionKind;
    use turnkeep_core::budget::{Exceeded, Window};

    use super::*;

    #[test]
    fn a_sort_of_session_names_no_person() {
        let key = SessionKey::new("t:1", "a", "web", SessionKind::Group, "a:b").unwrap();
        assert_eq!(sort_of(key.as_str()), "web:group");
        assert_eq!(sort_of("no:key"), "");
    }

    #[test]
    fn every_refusal_has_its_counter() {
        let metrics = Metrics::new();
        let all = [
            Rejection::SessionBusy,
            Rejection::QueueFull,
            Rejection::Closed,
            Rejection::QuestionNotOpen,
            Rejection::IdReused,
            Rejection::RequestReused,
            Rejection::RateLimited { retry_after_ms: 1 },
            Rejection::BudgetExceeded {
                budget: Exceeded { scope: Scope::Tenant, window: Window::Day },
                retry_after_ms: 1,
            },
        ];
        let abuse = AbuseKind::ALL.map(Rejection::Abuse);
        for rejection in all.iter().chain(&abuse) {
            let known = metrics.rejected.iter().filter(|(name, _)| *name == rejection.as_str());
            assert_eq!(known.count(), 1, "{rejection:?}");
        }
    }
}
