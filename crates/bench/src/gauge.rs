//! Reads what a run costs: the server's CPU time, memory and fsyncs, and our own CPU time.

use std::fs;
use std::io;
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;

use crate::Dial;
use crate::connection::{Line, LineError};
use crate::request::Requests;

/// Ticks a second in `/proc/PID/stat`: the kernel's USER_HZ, 100 on every Linux that
/// Rust runs on.
const TICKS_PER_S: u64 = 100;

/// All gauges at one moment; `None` where one can't be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reading {
    pub(crate) server_cpu: Option<Duration>,
    pub(crate) client_cpu: Option<Duration>,
    pub(crate) rss_bytes: Option<u64>,
    pub(crate) rss_peak_bytes: Option<u64>,
    pub(crate) fsyncs: Option<u64>,
    pub(crate) commits: Option<u64>,
    pub(crate) batches: Option<u64>,
    /// How often a transaction became durable within so many seconds, by these steps.
    pub(crate) syncs: Vec<(f64, u64)>,
    /// Messages refused as overload.
    pub(crate) overloads: Option<u64>,
    /// Customers that the guard remembers.
    pub(crate) guard_customers: Option<u64>,
}

impl Reading {
    /// Asks each server and, given its process, the kernel. An error means that one couldn't be
    /// reached; a server without counters is no error.
    pub(crate) async fn take<D: Dial>(
        dial: &D,
        requests: &Requests,
        server_pid: Option<u32>,
    ) -> io::Result<Self> {
        let mut reading = None;
        for one in dial.each() {
            let its = match fetch_metrics(one, requests).await? {
                Some(text) => Self::from_metrics(&text),
                None => Self::default(),
            };
            reading = Some(match reading {
                None => its,
                Some(others) => its.with(others),
            });
        }
        let mut reading = reading.unwrap_or_default();
        reading.read_processes(server_pid);
        Ok(reading)
    }

    /// What two servers used together; what one of them doesn't tell isn't known of both.
    fn with(self, other: Self) -> Self {
        let both = |one: Option<u64>, two: Option<u64>| Some(one? + two?);
        let steps = self.syncs.iter().zip(&other.syncs);
        Self {
            server_cpu: self.server_cpu.zip(other.server_cpu).map(|(one, two)| one + two),
            client_cpu: None,
            rss_bytes: both(self.rss_bytes, other.rss_bytes),
            rss_peak_bytes: None,
            fsyncs: both(self.fsyncs, other.fsyncs),
            commits: both(self.commits, other.commits),
            batches: both(self.batches, other.batches),
            syncs: steps.map(|(one, two)| (one.0, one.1 + two.1)).collect(),
            overloads: both(self.overloads, other.overloads),
            guard_customers: both(self.guard_customers, other.guard_customers),
        }
    }

    /// Only what the kernel knows, for a server that doesn't answer any more.
    pub(crate) fn of_processes(server_pid: Option<u32>) -> Self {
        let mut reading = Self::default();
        reading.read_processes(server_pid);
        reading
    }

    fn from_metrics(text: &str) -> Self {
        let whole = |name| sum(text, name).map(|value| value as u64);
        Self {
            server_cpu: sum(text, "process_cpu_seconds_total")
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            client_cpu: None,
            rss_bytes: whole("process_resident_memory_bytes"),
            rss_peak_bytes: None,
            fsyncs: whole("turnkeep_store_fsyncs_total"),
            commits: whole("turnkeep_store_commits_total"),
            batches: whole("turnkeep_store_batches_total"),
            syncs: steps(text, "turnkeep_store_sync_seconds_bucket"),
            overloads: whole("turn_gateway_overload_total"),
            guard_customers: whole("turn_gateway_guard_customers"),
        }
    }

    fn read_processes(&mut self, server_pid: Option<u32>) {
        let own_pid = std::process::id();
        if let Some(pid) = server_pid {
            self.server_cpu = read_cpu(pid).or(self.server_cpu);
            if let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) {
                self.rss_bytes = parse_status(&status, "VmRSS:").or(self.rss_bytes);
                self.rss_peak_bytes = parse_status(&status, "VmHWM:");
            }
        }
        // In one process the two can't be told apart.
        if server_pid != Some(own_pid) {
            self.client_cpu = read_cpu(own_pid);
        }
    }
}

async fn fetch_metrics<D: Dial>(dial: D, requests: &Requests) -> io::Result<Option<String>> {
    let mut line = Line::new(dial);
    let result = match line.open().await {
        Ok(_) => line.send(requests.metrics(), Bytes::new()).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(reply) if reply.status == StatusCode::OK => {
            Ok(Some(String::from_utf8_lossy(&reply.body).into_owned()))
        }
        Ok(_) => Ok(None),
        Err(LineError::Dial(error)) => Err(error),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// A metric's value, its label sets added up; `None` if it isn't there.
fn sum(text: &str, name: &str) -> Option<f64> {
    text.lines()
        .filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = match rest.strip_prefix('{') {
                Some(labels) => labels.rsplit_once('}')?.1,
                None => rest.strip_prefix(' ')?,
            };
            value.split_whitespace().next()?.parse::<f64>().ok()
        })
        .reduce(|total, value| total + value)
}

/// The steps of a histogram without labels of its own.
fn steps(text: &str, name: &str) -> Vec<(f64, u64)> {
    let each = text.lines().filter_map(|line| {
        let (end, count) = line.strip_prefix(name)?.strip_prefix("{le=\"")?.split_once("\"} ")?;
        Some((end.parse().ok()?, count.trim().parse::<f64>().ok()? as u64))
    });
    each.collect()
}

/// The median of what was counted between two readings of a histogram, in its own unit; within a
/// step it is taken for evenly spread.
pub(crate) fn median(before: &[(f64, u64)], after: &[(f64, u64)]) -> Option<f64> {
    let grown = |index: usize, count: u64| {
        let earlier = before.get(index).map_or(0, |step| step.1);
        count.saturating_sub(earlier) as f64
    };
    let counts: Vec<f64> = after.iter().enumerate().map(|(at, step)| grown(at, step.1)).collect();
    let half = counts.last().filter(|all| **all > 0.0)? / 2.0;
    let at = counts.iter().position(|count| *count >= half)?;
    let (from, below) = match at.checked_sub(1) {
        Some(one) => (after[one].0, counts[one]),
        None => (0.0, 0.0),
    };
    let end = if after[at].0.is_finite() { after[at].0 } else { from };
    Some(from + (end - from) * (half - below) / (counts[at] - below).max(f64::MIN_POSITIVE))
}

/// What a process holds in memory now.
pub(crate) fn rss_bytes(pid: u32) -> Option<u64> {
    parse_status(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:")
}

fn read_cpu(pid: u32) -> Option<Duration> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(stat: &str) -> Option<Duration> {
    // The program's name, second field, may hold spaces and brackets; after its last
    // bracket the fields count from the third, and user and system time are 14 and 15.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(14 - 3);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_millis((ticks()? + ticks()?) * 1000 / TICKS_PER_S))
}

fn parse_status(status: &str, name: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_from_the_text() {
        let text = "\
# TYPE turnkeep_store_fsyncs_total counter
turnkeep_store_fsyncs_total 12
turnkeep_store_fsyncs_total_other 99
turnkeep_store_commits_total{kind=\"a b\",of=\"}\"} 3
turnkeep_store_commits_total{kind=\"c\"} 4 1700000000
process_cpu_seconds_total 1.25
process_resident_memory_bytes 4.2e6
";
        let expect = Reading {
            server_cpu: Some(Duration::from_millis(1250)),
            rss_bytes: Some(4_200_000),
            fsyncs: Some(12),
            commits: Some(7),
            ..Reading::default()
        };
        assert_eq!(Reading::from_metrics(text), expect);
        assert_eq!(Reading::from_metrics("nothing of ours"), Reading::default());
    }

    #[test]
    fn what_two_servers_used_is_added_up_where_both_tell() {
        let one = Reading {
            server_cpu: Some(Duration::from_secs(2)),
            commits: Some(3),
            fsyncs: Some(1),
            syncs: vec![(0.1, 2), (0.2, 5)],
            ..Reading::default()
        };
        let two = Reading { fsyncs: None, ..one.clone() };
        let expect = Reading {
            server_cpu: Some(Duration::from_secs(4)),
            commits: Some(6),
            syncs: vec![(0.1, 4), (0.2, 10)],
            ..Reading::default()
        };
        assert_eq!(one.with(two), expect);
    }

    #[test]
    fn the_median_lies_within_its_step() {
        let text = "h_bucket{le=\"0.1\"} 2\nh_bucket{le=\"0.2\"} 10\nh_bucket{le=\"+Inf\"} 12\n";
        let after = steps(text, "h_bucket");
        assert_eq!(after, [(0.1, 2), (0.2, 10), (f64::INFINITY, 12)]);
        let check = |before: &[(f64, u64)], expect: Option<f64>| {
            let found = median(before, &after).map(|seconds| (seconds * 1e6).round() / 1e6);
            assert_eq!(found, expect);
        };
        check(&[], Some(0.15));
        check(&[(0.1, 2), (0.2, 4), (f64::INFINITY, 4)], Some(0.166_667));
        check(&[(0.1, 2), (0.2, 10), (f64::INFINITY, 10)], Some(0.2));
        check(&after, None);
        assert_eq!(median(&[], &[]), None);
    }

    #[test]
    fn the_kernels_files_are_read_whatever_the_program_is_called() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(parse_stat(stat), Some(Duration::from_secs(3)));
        assert_eq!(parse_stat("garbage"), None);
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(parse_status(status, "VmRSS:"), Some(1 << 20));
        assert_eq!(parse_status(status, "VmHWM:"), Some(2 << 20));
        assert_eq!(parse_status(status, "VmSwap:"), None);
    }

    #[test]
    fn a_server_in_our_own_process_leaves_no_figure_for_the_client() {
        let own = Reading::of_processes(Some(std::process::id()));
        assert_eq!(own.client_cpu, None);
        assert_eq!(own.rss_bytes.is_some(), cfg!(target_os = "linux"));
    }
}
