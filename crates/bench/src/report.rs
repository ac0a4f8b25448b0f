//! What a run showed, as data; [`crate::table`] turns it into text.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::book::{Book, Totals};
use crate::gauge::Reading;
use crate::{Plan, SlowFigures, Verdict, gauge, table};

/// Everything that a run showed. Times are in milliseconds unless the name says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The server's address.
    pub target: String,
    /// Whether answers were awaited.
    pub mode: Mode,
    /// Why the run ended.
    pub ended: Ended,
    /// From the first message to the last one that was answered (open: accepted).
    pub elapsed_s: f64,
    /// As planned.
    pub users: usize,
    /// As planned.
    pub channel: String,
    /// As planned.
    pub delay_ms: u64,
    /// The delay, the channel's window and the pauses within a burst.
    pub expected_ms: u64,
    /// As planned.
    pub burst: u64,
    /// Over how many tenants the users were spread.
    pub tenants: Option<usize>,
    /// As planned, in messages.
    pub rate_per_second: Option<f64>,
    /// `sent` by the time in which messages were sent. Less than planned: there were too few users
    /// for the rate, or this process was too slow.
    pub sent_per_second: f64,
    /// Messages handed to a connection.
    pub sent: u64,
    /// Messages that the server accepted.
    pub accepted: u64,
    /// Different turns that the server named. In an open run that is the turns that were
    /// open when the messages were accepted.
    pub turns: u64,
    /// `turns` by `elapsed_s`.
    pub turns_per_second: f64,
    /// `accepted` by `elapsed_s`.
    pub messages_per_second: f64,
    /// More than one shows that bursts were joined.
    pub messages_per_turn: f64,
    /// Bursts that ended with an answer.
    pub complete: u64,
    /// Bursts that ended with a failed turn.
    pub failed: u64,
    /// Bursts that ended with a stopped turn.
    pub cancelled: u64,
    /// Bursts whose wait ran out.
    pub unanswered: u64,
    /// Bursts that the end of the run cut off.
    pub cut_off: u64,
    /// From a burst's first message to its answer; completed turns only.
    pub latency: Percentiles,
    /// At a rate: from the moment a message was really sent, which is later than it was due where
    /// its connection, or this process, was not free. Completed turns only.
    pub latency_since_sent: Option<Percentiles>,
    /// `latency` without the `expected_ms`.
    pub overhead: Percentiles,
    /// How long messages took to be accepted that didn't wait for an answer.
    pub acceptance: Percentiles,
    /// The users' own p99 latencies, compared.
    pub user_p99: Option<Spread>,
    /// Whether any user waited.
    pub verdict: Verdict,
    /// Refused messages by status and reason, like `429 queue_full`.
    pub refused: BTreeMap<String, u64>,
    /// Lost messages and failed attempts to connect, by what happened.
    pub errors: BTreeMap<String, u64>,
    /// Lost connections that were replaced.
    pub reconnects: u64,
    /// Users who stopped because they couldn't connect for long.
    pub gave_up: u64,
    /// What the server used.
    pub server: ServerFigures,
    /// CPU time of this process a turn (open: a message).
    pub client_cpu_ms_per_turn: Option<f64>,
    /// The flooding user, if there was one.
    pub flood: Option<FloodFigures>,
    /// The attack of slow connections, if there was one.
    pub slow: Option<SlowFigures>,
    /// What one fsync takes on the server's disk, at p50, where whoever started the server measured
    /// it.
    pub disk_fsync_p50_ms: Option<f64>,
    /// Where the picture is.
    pub picture: Option<PathBuf>,
    /// What else the reader must know.
    pub notes: Vec<String>,
}

/// Whether answers were awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Each burst was followed to its answer.
    Closed,
    /// Only acceptance was measured.
    Open,
}

impl Mode {
    /// What costs are counted by.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Closed => "turn",
            Self::Open => "message",
        }
    }
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// All messages were sent.
    AllSent,
    /// The planned time was over.
    TimeOver,
    /// The caller stopped it; the report covers what was done until then.
    Stopped,
}

/// The usual points of a distribution, in milliseconds; all 0 if there's nothing in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// How many were measured.
    pub count: u64,
    /// Half are faster.
    pub p50_ms: f64,
    /// One in ten is slower.
    pub p90_ms: f64,
    /// One in a hundred is slower.
    pub p99_ms: f64,
    /// One in a thousand is slower.
    pub p999_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

/// How far apart users' own figures are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The luckiest user's.
    pub least_ms: f64,
    /// The user's in the middle.
    pub median_ms: f64,
    /// The unluckiest user's.
    pub most_ms: f64,
}

/// What the server used during the run. "A turn" is, in an open run, an accepted message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ServerFigures {
    /// CPU time.
    pub cpu_ms: Option<f64>,
    /// CPU time a turn.
    pub cpu_ms_per_turn: Option<f64>,
    /// CPU time by wall time: how many cores were busy.
    pub cores_busy: Option<f64>,
    /// Times that the store made the disk write through.
    pub fsyncs: Option<u64>,
    /// The same a turn.
    pub fsyncs_per_turn: Option<f64>,
    /// Session commits a turn.
    pub commits_per_turn: Option<f64>,
    /// Session commits that shared a transaction.
    pub commits_per_batch: Option<f64>,
    /// How long a transaction of the store took to become durable, at p50.
    pub sync_p50_ms: Option<f64>,
    /// Messages that it refused because too many others waited to be decided.
    pub overloads: Option<u64>,
    /// Customers that its guard remembers after the run.
    pub guard_customers: Option<u64>,
    /// Memory before the run.
    pub rss_before_bytes: Option<u64>,
    /// The most memory that was seen in the run, four times a second.
    pub rss_run_max_bytes: Option<u64>,
    /// Memory after the run.
    pub rss_bytes: Option<u64>,
    /// The most memory that the process ever had.
    pub rss_peak_bytes: Option<u64>,
}

/// What the flooding user saw.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FloodFigures {
    /// Over how many connections.
    pub connections: usize,
    /// Messages handed to a connection.
    pub sent: u64,
    /// The same by the second.
    pub sent_per_second: f64,
    /// Messages that the server accepted.
    pub accepted: u64,
    /// How long that took.
    pub acceptance: Percentiles,
    /// Refused messages by reason.
    pub refused: BTreeMap<String, u64>,
    /// Lost messages and failed attempts to connect.
    pub errors: BTreeMap<String, u64>,
}

/// What the conductor saw of a run, besides the books.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) target: String,
    pub(crate) ended: Ended,
    pub(crate) elapsed: Duration,
    pub(crate) cut_off: u64,
    pub(crate) before: Reading,
    pub(crate) after: Reading,
    pub(crate) rss_max_bytes: Option<u64>,
    pub(crate) notes: Vec<String>,
}

impl Observed {
    /// When time is over nothing more is sent, while turns in flight may go on.
    fn sent_per_second(&self, plan: &Plan, sent: u64) -> f64 {
        let over = plan.duration.filter(|_| self.ended == Ended::TimeOver);
        let seconds = over.unwrap_or(self.elapsed).as_secs_f64();
        ratio(sent as f64, seconds).unwrap_or(0.0)
    }
}

impl Report {
    /// Adds everything up.
    pub(crate) fn new(plan: &Plan, book: &Book, flood_book: &Book, observed: Observed) -> Self {
        let totals = book.totals();
        let elapsed = match totals.last_success_at {
            Some(last_at) => last_at.duration_since(book.started_at()),
            None => observed.elapsed,
        };
        let elapsed_s = elapsed.as_secs_f64();
        let acceptance = Percentiles::of(&totals.acceptance);
        let unit = if plan.wait { totals.turns } else { totals.accepted };
        let client_cpu = spent(observed.before.client_cpu, observed.after.client_cpu);
        let mut report = Self {
            mode: if plan.wait { Mode::Closed } else { Mode::Open },
            ended: observed.ended,
            elapsed_s,
            users: plan.users,
            channel: plan.channel.clone(),
            delay_ms: plan.delay_ms,
            expected_ms: plan.expected_ms(),
            burst: plan.burst,
            tenants: plan.tenants,
            rate_per_second: plan.rate_per_second,
            sent_per_second: observed.sent_per_second(plan, totals.sent),
            sent: totals.sent,
            accepted: totals.accepted,
            turns: totals.turns,
            turns_per_second: ratio(totals.turns as f64, elapsed_s).unwrap_or(0.0),
            messages_per_second: ratio(totals.accepted as f64, elapsed_s).unwrap_or(0.0),
            messages_per_turn: ratio(totals.accepted as f64, totals.turns as f64).unwrap_or(0.0),
            complete: totals.complete,
            failed: totals.failed,
            cancelled: totals.cancelled,
            unanswered: totals.unanswered,
            cut_off: observed.cut_off,
            latency: Percentiles::of(&totals.latency),
            latency_since_sent: plan
                .rate_per_second
                .filter(|_| plan.wait)
                .map(|_| Percentiles::of(&totals.since_sent)),
            overhead: Percentiles::of(&totals.overhead),
            acceptance,
            user_p99: Spread::of(book),
            verdict: Verdict::reach(plan, book, acceptance.max_ms),
            refused: totals.refused,
            errors: totals.errors,
            reconnects: totals.reconnects,
            gave_up: totals.gave_up,
            server: ServerFigures::between(&observed, unit),
            client_cpu_ms_per_turn: client_cpu.and_then(|ms| ratio(ms, unit as f64)),
            flood: plan
                .flood_connections
                .map(|connections| FloodFigures::new(connections, flood_book, observed.elapsed)),
            slow: None,
            disk_fsync_p50_ms: None,
            picture: None,
            notes: observed.notes,
            target: observed.target,
        };
        report.note_shared_cost();
        report.note_lateness();
        report
    }

    /// The table as text, or the whole report as JSON.
    pub fn render(&self, json: bool) -> String {
        if json {
            serde_json::to_string_pretty(self).unwrap_or_else(|error| format!("\"{error}\""))
        } else {
            self.to_string()
        }
    }

    /// The table alone, without what surrounds it.
    pub fn table(&self) -> String {
        table::table(self)
    }

    fn note_lateness(&mut self) {
        let Some(wanted) = self.rate_per_second else { return };
        if self.ended == Ended::TimeOver && self.sent_per_second < 0.9 * wanted {
            let (sent, wanted) =
                (crate::figures::rate(self.sent_per_second), crate::figures::rate(wanted));
            self.notes.push(format!(
                "only {sent} of {wanted} messages a second were sent: there are too few users for \
                 the rate, or this load generator is too slow for it; latencies hold its own \
                 lateness too, except those since the sending"
            ));
        }
    }

    fn note_shared_cost(&mut self) {
        if let Some(flood) = &self.flood {
            let messages = crate::figures::count(flood.sent);
            self.notes.push(format!(
                "CPU, commits and fsyncs a turn include the flood's {messages} messages"
            ));
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", table::headline(self), self.table(), self.verdict.sentence)?;
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        match &self.picture {
            Some(path) => writeln!(f, "picture: {}", path.display()),
            None => Ok(()),
        }
    }
}

impl Percentiles {
    fn of(histogram: &Histogram<u64>) -> Self {
        let max = histogram.max();
        // A quantile is rounded up to the histogram's precision, past the true maximum even.
        let at = |quantile| histogram.value_at_quantile(quantile).min(max) as f64 / 1000.0;
        Self {
            count: histogram.len(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: max as f64 / 1000.0,
        }
    }
}

impl Spread {
    fn of(book: &Book) -> Option<Self> {
        let mut all: Vec<Duration> = book.users().filter_map(|user| user.p99()).collect();
        all.sort_unstable();
        let ms = |time: &Duration| time.as_secs_f64() * 1000.0;
        Some(Self {
            least_ms: ms(all.first()?),
            median_ms: ms(&all[all.len() / 2]),
            most_ms: ms(all.last()?),
        })
    }
}

impl ServerFigures {
    fn between(observed: &Observed, turns: u64) -> Self {
        let Observed { before, after, elapsed, .. } = observed;
        let grown = |before: Option<u64>, after: Option<u64>| after?.checked_sub(before?);
        let a_turn = |amount: f64| ratio(amount, turns as f64);
        let cpu_ms = spent(before.server_cpu, after.server_cpu);
        let fsyncs = grown(before.fsyncs, after.fsyncs);
        let commits = grown(before.commits, after.commits).map(|commits| commits as f64);
        let batches = grown(before.batches, after.batches).map(|batches| batches as f64);
        Self {
            cpu_ms,
            cpu_ms_per_turn: cpu_ms.and_then(a_turn),
            cores_busy: cpu_ms.and_then(|ms| ratio(ms, elapsed.as_secs_f64() * 1000.0)),
            fsyncs,
            fsyncs_per_turn: fsyncs.and_then(|fsyncs| a_turn(fsyncs as f64)),
            commits_per_turn: commits.and_then(a_turn),
            commits_per_batch: commits.zip(batches).and_then(|(all, by)| ratio(all, by)),
            sync_p50_ms: gauge::median(&before.syncs, &after.syncs).map(|seconds| seconds * 1000.0),
            overloads: grown(before.overloads, after.overloads),
            guard_customers: after.guard_customers,
            rss_before_bytes: before.rss_bytes,
            rss_run_max_bytes: observed.rss_max_bytes,
            rss_bytes: after.rss_bytes,
            rss_peak_bytes: after.rss_peak_bytes,
        }
    }
}

impl FloodFigures {
    fn new(connections: usize, book: &Book, elapsed: Duration) -> Self {
        let Totals { sent, accepted, acceptance, refused, errors, .. } = book.totals();
        Self {
            connections,
            sent,
            sent_per_second: ratio(sent as f64, elapsed.as_secs_f64()).unwrap_or(0.0),
            accepted,
            acceptance: Percentiles::of(&acceptance),
            refused,
            errors,
        }
    }
}

/// Milliseconds between two readings; `None` too if the process is another one since.
fn spent(before: Option<Duration>, after: Option<Duration>) -> Option<f64> {
    Some(after?.checked_sub(before?)?.as_secs_f64() * 1000.0)
}

fn ratio(amount: f64, by: f64) -> Option<f64> {
    (by > 0.0).then(|| amount / by)
}
