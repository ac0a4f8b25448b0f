//! How the sessions stand and what they take, as far as this process knows.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError};

use serde::Serialize;
use turnkeep_core::SessionKey;
use turnkeep_core::session::SessionStatus;
use turnkeep_core::switchboard::{Row, STATES, states::word};

use super::Switchboard;
use super::advice::{Recommendation, Seen, advice};
use super::processes::own_files;
use crate::clock;
use crate::recent::bytes_max;
use crate::service::Gateway;

/// Beside what is kept of conversations, what is being written counts: one whole reply has room.
const DRAFT_BYTES: usize = 1024 * 1024;

/// Sessions that are named with what is open for them.
const MOST_OPEN_MAX: usize = 20;

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
    /// Files and sockets that are open for them, in the processes of their agents too; none where
    /// nobody can tell for one of them.
    pub open_files: Option<u64>,
}

/// A session for which something is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OpenFor {
    /// Its number.
    pub number: u32,
    /// Files and sockets; none where nobody can tell.
    pub open_files: Option<u32>,
}

/// What the process takes, whichever session it is for; none where the system does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProcessStats {
    /// Files and sockets that are open.
    pub open_files: Option<u64>,
    /// How many may be.
    pub open_files_limit: Option<u64>,
    /// Memory that is in use.
    pub memory_bytes: Option<u64>,
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
    /// The sessions for which most is open, those first of which nobody can tell; at most twenty.
    pub most_open: Vec<OpenFor>,
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
        self.switchboard().open_files().count().await;
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
        let most_open = self.most_open(&rows);
        let mut resources = Taken { open_files: Some(0), ..Taken::default() };
        for session in &most_open {
            let sum = resources.open_files.zip(session.open_files);
            resources.open_files = sum.map(|(sum, files)| sum + u64::from(files));
        }
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
        let growing = self.open.growing();
        let leaks = rows.iter().filter(|row| growing.contains(&row.key));
        let leaks = leaks.map(|row| row.number).collect();
        let trends = self.trends.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = Seen { trends: &trends, leaks };
        let recommendations = advice((tenant, &rows), seen, (&process, &limits), clock::now());
        let most_open = most_open.into_iter().take(MOST_OPEN_MAX).collect();
        Stats { sessions, resources, most_open, process, limits, recommendations }
    }

    /// What is open for these sessions, the most first.
    fn most_open(&self, rows: &[Arc<Row>]) -> Vec<OpenFor> {
        let numbers: HashMap<&SessionKey, u32> =
            rows.iter().map(|row| (&row.key, row.number)).collect();
        let open = self.open.all(|key| numbers.contains_key(key)).into_iter();
        let of = |(key, open_files)| Some(OpenFor { number: *numbers.get(&key)?, open_files });
        let mut open: Vec<OpenFor> = open.filter_map(of).collect();
        let unknown_first = |one: &OpenFor| (one.open_files.unwrap_or(u32::MAX), one.number);
        open.sort_by_key(|one| std::cmp::Reverse(unknown_first(one)));
        open
    }

    /// Notes what grew since the last look.
    pub(super) fn look_for_trends(&self, tenant: &str) {
        let list = self.list(tenant);
        let mut trends = self.trends.lock().unwrap_or_else(PoisonError::into_inner);
        trends.look(tenant, list.iter());
        drop(trends);
        // Of other tenants' sessions this list says nothing.
        let tenant_of = |key: &SessionKey| *key.tenant() == *tenant;
        let here: HashSet<&SessionKey> = list
            .iter()
            .filter(|row| row.state != SessionStatus::Hibernated)
            .map(|row| &row.key)
            .collect();
        self.open.retain(|key| !tenant_of(key) || here.contains(key));
    }
}

/// What the system says of this process, where it has `/proc`.
fn process() -> ProcessStats {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    ProcessStats {
        open_files: own_files(),
        open_files_limit: limit_of(&read("/proc/self/limits")),
        memory_bytes: memory_of(&read("/proc/self/status")),
    }
}

fn limit_of(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line?.split_whitespace().next()?.parse().ok()
}

fn memory_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line?.split_whitespace().next()?.parse::<u64>().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!((limit_of(limits), limit_of("")), (Some(1024), None));
        let status = "Name:\tturnkeep\nVmPeak:\t  9 kB\nVmRSS:\t   2048 kB\n";
        assert_eq!((memory_of(status), memory_of("no")), (Some(2_097_152), None));
        let process = process();
        assert!(process.memory_bytes > Some(0) && process.open_files > Some(0));
        assert!(process.open_files_limit >= process.open_files);
    }
}
