//! How the sessions stand and what they take, as far as this process knows.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use serde::Serialize;
use turnkeep_core::switchboard::{Row, STATES, states::word};

use super::Switchboard;
use super::advice::{Recommendation, advice};
use crate::clock;
use crate::recent::bytes_max;
use crate::service::Gateway;

/// Beside what is kept of conversations, what is being written counts: one whole reply has room.
const DRAFT_BYTES: usize = 1024 * 1024;

/// What the sessions of a tenant take together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// Text that is kept in memory.
    pub buffer_bytes: u64,
    /// Messages that are kept in memory, and those that wait.
    pub messages: u64,
    /// Attempts of agents under way.
    pub runs: u64,
    /// Tokens that their runs used.
    pub tokens: u64,
}

/// What the process takes, whichever session it is for; zeros where the system does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProcessStats {
    /// Files and sockets that are open.
    pub open_files: u64,
    /// How many may be.
    pub open_files_limit: u64,
    /// Memory that is in use.
    pub memory_bytes: u64,
}

/// What follows from the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StatsLimits {
    /// Sessions on a tenant's board.
    pub sessions: u64,
    /// Idle for longer, a session is hibernated.
    pub hibernate_after_ms: u64,
    /// Text of conversations that is kept in memory of so many sessions, of all tenants together.
    pub buffer_bytes: u64,
    /// Attempts of agents at once, over all agents; none for no limit.
    pub runs: Option<u64>,
}

/// How the sessions of a tenant stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// How many there are: by state, by `waiting`, and in all by `total`.
    pub sessions: BTreeMap<&'static str, usize>,
    /// What they take.
    pub resources: Taken,
    /// What the process takes for all of them.
    pub process: ProcessStats,
    /// What they may take.
    pub limits: StatsLimits,
    /// What a person should look at.
    pub recommendations: Vec<Recommendation>,
}

impl Gateway {
    /// How the sessions of a tenant stand.
    pub async fn board_stats(&self, tenant: &str) -> Stats {
        let process = tokio::task::spawn_blocking(process).await.unwrap_or_default();
        let setup = self.setup();
        let slots = setup.agents.values().map(|agent| agent.slots.counts().limit);
        let runs: Option<usize> = slots.sum();
        let of_board = setup.settings.switchboard;
        let limits = StatsLimits {
            sessions: of_board.sessions_max as u64,
            hibernate_after_ms: of_board.hibernate_after_ms,
            buffer_bytes: bytes_max(of_board.sessions_max).max(DRAFT_BYTES) as u64,
            runs: runs.map(|runs| runs as u64),
        };
        self.switchboard().stats(tenant, process, limits)
    }
}

impl Switchboard {
    fn stats(&self, tenant: &str, process: ProcessStats, limits: StatsLimits) -> Stats {
        let list = self.list(tenant);
        let totals = self.totals(tenant);
        let rows: Vec<Arc<Row>> = list.iter().map(Arc::clone).collect();
        let mut resources = Taken::default();
        for taken in rows.iter().map(|row| &row.resources) {
            resources.buffer_bytes += taken.buffer_bytes;
            resources.messages += taken.messages;
            resources.runs += u64::from(taken.runs);
            resources.tokens += taken.tokens;
        }
        let by_state = STATES.into_iter().zip(totals.states);
        let mut sessions: BTreeMap<_, _> =
            by_state.map(|(state, count)| (word(state), count)).collect();
        sessions.insert("total", totals.sessions);
        sessions.insert("waiting", totals.waiting);
        let trends = self.trends.lock().unwrap_or_else(PoisonError::into_inner);
        let recommendations = advice((tenant, &rows), &trends, (&process, &limits), clock::now());
        Stats { sessions, resources, process, limits, recommendations }
    }

    /// Notes what grew since the last look.
    pub(super) fn look_for_trends(&self, tenant: &str) {
        let list = self.list(tenant);
        let mut trends = self.trends.lock().unwrap_or_else(PoisonError::into_inner);
        trends.look(tenant, list.iter());
    }
}

/// What the system says of this process, where it has `/proc`.
fn process() -> ProcessStats {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let open_files = std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64);
    ProcessStats {
        open_files,
        open_files_limit: limit_of(&read("/proc/self/limits")),
        memory_bytes: memory_of(&read("/proc/self/status")),
    }
}

fn limit_of(limits: &str) -> u64 {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

fn memory_of(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!((limit_of(limits), limit_of("")), (1024, 0));
        let status = "Name:\tturnkeep\nVmPeak:\t  9 kB\nVmRSS:\t   2048 kB\n";
        assert_eq!((memory_of(status), memory_of("no")), (2_097_152, 0));
        let process = process();
        assert!(process.memory_bytes > 0 && process.open_files_limit >= process.open_files);
    }
}
