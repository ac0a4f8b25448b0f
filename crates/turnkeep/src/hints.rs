//! How the place of hints is doing, as metrics.

use std::fmt::Write as _;

use turnkeep_core::ports::hints::{CONNECTIONS, HintsHealth, STATES};

/// What its counts are about, by the words that they are told under.
const COUNTS: [(&str, &str, &str); 10] = [
    ("answered", "turnkeep_redis_answered_total", "Calls of Redis that were answered"),
    ("late", "turnkeep_redis_late_total", "Calls of Redis that were not answered in time"),
    ("failed", "turnkeep_redis_failed_total", "Calls of Redis that ended with an error"),
    (
        "skipped",
        "turnkeep_redis_skipped_total",
        "Calls of Redis that were not made, because it was known to be away",
    ),
    ("connected", "turnkeep_redis_connected_total", "Connections to Redis that were made"),
    ("flushed", "turnkeep_redis_flushed_total", "How often the keys in Redis were found gone"),
    (
        "foreign",
        "turnkeep_redis_foreign_total",
        "How often a key of ours in Redis was found to hold what somebody else wrote",
    ),
    ("heard", "turnkeep_redis_heard_total", "Hints of other servers that arrived"),
    (
        "unreadable",
        "turnkeep_redis_unreadable_total",
        "Hints of other servers that could not be read",
    ),
    (
        "missed",
        "turnkeep_redis_missed_total",
        "How often hints may have been missed, so that the record was looked at",
    ),
];

/// All of it in the Prometheus text format, also where there are no hints: whoever counts how much
/// a number grew has to know it from 0 on.
pub(crate) fn metrics(health: Option<HintsHealth>) -> String {
    let mut text = String::new();
    let HintsHealth { connections, counts, .. } = health.unwrap_or_default();
    let name = "turnkeep_redis_state";
    let about = "1 for how a connection to Redis stands, by connection and state";
    // A String takes everything.
    let _ = writeln!(text, "# HELP {name} {about}\n# TYPE {name} gauge");
    for purpose in CONNECTIONS {
        let connection = connections.iter().find(|connection| connection.purpose == purpose);
        for state in STATES {
            let stands = u8::from(connection.is_some_and(|connection| connection.state == state));
            let _ = writeln!(text, "{name}{{connection=\"{purpose}\",state=\"{state}\"}} {stands}");
        }
    }
    for (word, name, about) in COUNTS {
        let count = counts.iter().find(|(counted, _)| *counted == word);
        let count = count.map_or(0, |(_, count)| *count);
        let _ = writeln!(text, "# HELP {name} {about}\n# TYPE {name} counter\n{name} {count}");
    }
    text
}
