//! How handing turns over to workers is doing, as metrics.

use std::fmt::Write as _;

use turnkeep_gateway::dispatch::DispatchView;

/// All of it in the Prometheus text format; as if nothing had happened where no turns are handed over.
pub(crate) fn metrics(view: Option<&DispatchView>) -> String {
    let mut text = String::new();
    let DispatchView { awaiting, health } = view.cloned().unwrap_or_default();
    let gauges: [(&str, &str, u64); 5] = [
        (
            "turnkeep_dispatch_waiting",
            "Turns that were handed over and nobody has taken yet",
            u64::try_from(awaiting.turns).unwrap_or(u64::MAX),
        ),
        (
            "turnkeep_dispatch_oldest_ms",
            "How long the longest of them waits, in milliseconds",
            awaiting.longest_ms,
        ),
        (
            "turnkeep_dispatch_broken",
            "1 while the workflow engine does not give turns out and is tried with one at a time",
            u64::from(awaiting.open),
        ),
        (
            "turnkeep_dispatch_answers",
            "0 while the workflow engine does not answer",
            u64::from(health.link.is_none()),
        ),
        (
            "turnkeep_dispatch_hears",
            "0 while this worker is given no steps by the workflow engine",
            u64::from(health.steps.is_none()),
        ),
    ];
    let counters: [(&str, &str, u64); 5] = [
        ("turnkeep_dispatch_handed_total", "Turns handed over", awaiting.handed),
        ("turnkeep_dispatch_taken_total", "Turns that a worker took in time", awaiting.taken),
        (
            "turnkeep_dispatch_taken_ms_total",
            "How long those waited to be taken, together, in milliseconds",
            awaiting.taken_ms,
        ),
        (
            "turnkeep_dispatch_failed_total",
            "Turns that no worker took in time, or that the engine did not hear of",
            awaiting.failed,
        ),
        (
            "turnkeep_dispatch_fallback_total",
            "Turns that the gateway ran itself for want of a worker",
            awaiting.ran_here,
        ),
    ];
    for (kind, numbers) in [("gauge", &gauges[..]), ("counter", &counters[..])] {
        for (name, about, number) in numbers {
            // A String takes everything.
            let _ = writeln!(text, "# HELP {name} {about}\n# TYPE {name} {kind}\n{name} {number}");
        }
    }
    text
}
