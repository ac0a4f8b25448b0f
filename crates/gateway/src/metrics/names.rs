//! What every number is about, for whoever reads `/metrics`.

use metrics::{describe_counter, describe_gauge, describe_histogram};

const COUNTERS: [(&str, &str); 32] = [
    ("turn_gateway_decision_total", "Decisions on messages, by action"),
    ("turn_gateway_rejected_total", "Messages that were not accepted, by reason"),
    ("turn_gateway_guard_total", "What the guard found, by check and by what followed"),
    (
        "turn_gateway_budget_refusals_total",
        "Messages refused because a budget is used up, by scope",
    ),
    (
        "turn_gateway_degraded_runs_total",
        "Attempts handed to another agent because a budget is used up, by scope",
    ),
    ("turn_gateway_tool_calls_total", "Calls of tools that are on record, by what came of them"),
    ("turn_gateway_tokens_total", "Tokens that providers counted, by agent and kind"),
    ("turn_gateway_cost_micros_total", "What requests to providers cost, in millionths, by agent"),
    ("turn_gateway_callbacks_total", "Tries of callbacks, by listener and outcome"),
    (
        "turn_gateway_callbacks_skipped_total",
        "Rows of the journal and callbacks that were forgotten before they were told, by listener",
    ),
    ("turnkeep_cluster_looks_total", "Sessions looked at because of other servers, by why"),
    ("turnkeep_deliveries_total", "Deliveries begun"),
    ("turnkeep_delivery_outcomes_total", "Deliveries that ended, by what the channel said"),
    ("turnkeep_duplicates_total", "Messages that came before"),
    ("turnkeep_forgotten_messages_total", "Messages forgotten, by reason"),
    ("turnkeep_disappeared_texts_total", "Texts taken out because their chat's timer was over"),
    ("turnkeep_http_responses_total", "Answers to requests, by class of status"),
    ("turnkeep_panics_total", "Panics of agents and session tasks"),
    ("turnkeep_run_failures_total", "Attempts of agents that ended in an error"),
    ("turnkeep_runs_total", "Attempts handed to an agent"),
    ("turnkeep_schedule_claimed_total", "Times of jobs and reminders that came and were begun"),
    ("turnkeep_schedule_ticks_total", "Times of jobs and reminders that ended, by outcome"),
    ("turnkeep_turns_total", "Turns that ended, by status"),
    ("turnkeep_store_batches_total", "Transactions of the store"),
    ("turnkeep_store_checkpoints_total", "Passes that moved the store's log into the database"),
    ("turnkeep_store_commits_total", "Session commits"),
    ("turnkeep_store_conflicts_total", "Commits of sessions that somebody else wrote meanwhile"),
    ("turnkeep_store_failures_total", "Transactions whose outcome nobody knows"),
    ("turnkeep_store_fsyncs_total", "Syncs the store asked the disk for"),
    ("turnkeep_store_refusals_total", "Commits that were not made because of a condition"),
    ("turnkeep_store_retries_total", "Commits and other changes that were made again, by why"),
    ("turnkeep_access_refused_total", "Requests not let in, by reason"),
];

const GAUGES: [(&str, &str); 27] = [
    ("turn_gateway_callbacks_pending", "Callbacks that wait for another try, by listener"),
    ("turn_gateway_guard_customers", "Customers that the guard remembers"),
    (
        "turn_gateway_queue_depth",
        "Accepted messages that no running turn has taken, by sort of session",
    ),
    ("turn_gateway_restrictions", "Restrictions that the guard remembers"),
    ("turn_gateway_undecided_max", "Messages that may wait to be decided"),
    ("turnkeep_cluster_leads", "1 for what this server does for all, by lease"),
    ("turnkeep_cluster_nodes", "Other servers of the database, by whether turns run there"),
    ("turnkeep_cluster_waiting", "Sessions that wait for any server to run their turns"),
    ("turnkeep_dead_letters", "Dead letters that nobody has dealt with"),
    ("turnkeep_draining", "1 while the process is ending"),
    ("turnkeep_outbox_oldest_seconds", "How long the oldest part of a reply has been undelivered"),
    ("turnkeep_outbox_parts", "Parts of replies that are not delivered yet"),
    ("turnkeep_ready", "1 while messages are taken"),
    ("turnkeep_runs_active", "Attempts of agents under way"),
    ("turnkeep_schedule_jobs", "Jobs and reminders that are kept"),
    ("turnkeep_schedule_lag_seconds", "How late the last time of a job was begun"),
    ("turnkeep_schedule_ticks_open", "Times of jobs that are under way or wait"),
    ("turnkeep_sessions_active", "Sessions with a task"),
    ("turnkeep_sessions_paused", "Sessions in which an operator has the agent's place"),
    ("turnkeep_store_ready", "1 while the store can write"),
    ("turnkeep_store_waiting", "Jobs that wait for the store's writer"),
    ("turnkeep_store_wal_pages", "Pages in the store's log"),
    ("turnkeep_switchboard_sessions", "Sessions on the switchboard, by state"),
    ("turnkeep_switchboard_waiting", "Sessions on the switchboard that wait for a person"),
    ("turnkeep_turns_open", "Open turns, by where they stand"),
    (
        "turnkeep_turns_without_agent",
        "Turns that wait because their agent is not configured any more",
    ),
    ("turnkeep_watchers", "Event streams of single sessions that are open"),
];

/// Tells the recorder.
pub(super) fn describe() {
    for (name, about) in COUNTERS {
        describe_counter!(name, about);
    }
    for (name, about) in GAUGES {
        describe_gauge!(name, about);
    }
    describe_histogram!("turn_gateway_latency_ms", "Time from a message to its durable decision");
}
