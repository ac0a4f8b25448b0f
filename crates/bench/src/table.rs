//! The report as a table for people.

use std::collections::BTreeMap;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};

use crate::figures::{count, mebibytes, ms, plural, rate};
use crate::report::{Ended, FloodFigures, Mode, Percentiles, Report, ServerFigures};

/// Who did what against which server, and how it ended.
pub(crate) fn headline(report: &Report) -> String {
    let users = plural(report.users as u64, "user");
    let ended = match report.ended {
        Ended::AllSent => "all sent",
        Ended::TimeOver => "time over",
        Ended::Stopped => "STOPPED, partial figures",
    };
    let Report { target, channel, elapsed_s, .. } = report;
    format!("{users} on channel {channel} against {target}: {} s, {ended}", rate(*elapsed_s))
}

/// All figures, one a line: what, the figure itself, and what stands behind it.
pub(crate) fn table(report: &Report) -> String {
    let mut rows = Rows::default();
    throughput(report, &mut rows);
    latencies(report, &mut rows);
    troubles(report, &mut rows);
    server(&report.server, report.mode, &mut rows);
    disk(report, &mut rows);
    if let Some(cpu_ms) = report.client_cpu_ms_per_turn {
        let what = format!("client CPU a {}", report.mode.unit());
        rows.add(&what, ms(cpu_ms), "of this load generator".to_owned());
    }
    if let Some(flood) = &report.flood {
        flooding(flood, &mut rows);
    }
    if let Some(slow) = &report.slow {
        let detail = format!(
            "{} opened, {} cut off by the server, {} failed",
            count(slow.opened),
            count(slow.cut_off),
            count(slow.failed)
        );
        rows.add("slow connections", count(slow.connections as u64), detail);
    }
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).add_rows(rows.0);
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    // The preset rules off every row; these few belong together.
    table.remove_style(comfy_table::TableComponent::HorizontalLines);
    table.remove_style(comfy_table::TableComponent::MiddleIntersections);
    table.trim_fmt()
}

#[derive(Default)]
struct Rows(Vec<[String; 3]>);

impl Rows {
    fn add(&mut self, what: &str, figure: String, detail: String) {
        self.0.push([what.to_owned(), figure, detail]);
    }
}

fn throughput(report: &Report, rows: &mut Rows) {
    let messages = format!(
        "{} of {} sent were accepted",
        count(report.accepted),
        plural(report.sent, "message")
    );
    if let Some(wanted) = report.rate_per_second {
        let detail = format!("of the {} that were planned", rate(wanted));
        rows.add("sent a second", rate(report.sent_per_second), detail);
    }
    match report.mode {
        Mode::Closed => {
            rows.add("turns a second", rate(report.turns_per_second), plural(report.turns, "turn"));
            rows.add("messages a turn", rate(report.messages_per_turn), messages);
        }
        Mode::Open => {
            rows.add("messages a second", rate(report.messages_per_second), messages);
            let turns = format!("turns in {}", plural(report.users as u64, "session"));
            rows.add("turns opened", count(report.turns), turns);
        }
    }
}

fn latencies(report: &Report, rows: &mut Rows) {
    if report.latency.count > 0 {
        percentiles("latency", &report.latency, rows);
        if let Some(since_sent) = &report.latency_since_sent {
            percentiles("since the sending", since_sent, rows);
        }
        let over = format!("over {}", expectation(report));
        percentiles(&over, &report.overhead, rows);
    }
    if report.acceptance.count > 0 {
        percentiles("acceptance", &report.acceptance, rows);
    }
    if let Some(spread) = &report.user_p99 {
        let range = format!("from {} to {}", ms(spread.least_ms), ms(spread.most_ms));
        rows.add("users' own p99, median", ms(spread.median_ms), range);
    }
}

fn expectation(report: &Report) -> String {
    match (report.delay_ms, report.expected_ms) {
        (delay_ms, expected_ms) if delay_ms == expected_ms => {
            format!("the agent's {} ms", count(delay_ms))
        }
        (_, expected_ms) => format!("the expected {} ms", count(expected_ms)),
    }
}

fn percentiles(what: &str, figures: &Percentiles, rows: &mut Rows) {
    let detail = format!(
        "p90 {}, p99 {}, p99.9 {}, max {}",
        ms(figures.p90_ms),
        ms(figures.p99_ms),
        ms(figures.p999_ms),
        ms(figures.max_ms)
    );
    rows.add(&format!("{what}, p50"), ms(figures.p50_ms), detail);
}

fn troubles(report: &Report, rows: &mut Rows) {
    let endings = [
        ("failed turns", report.failed, "the server gave up on them"),
        ("stopped turns", report.cancelled, "somebody stopped them"),
        ("unanswered", report.unanswered, "the wait ran out first"),
        ("cut off", report.cut_off, "still running at the end"),
        ("reconnects", report.reconnects, "connections lost and replaced"),
        ("users who left", report.gave_up, "no connection to be had"),
    ];
    for (what, number, detail) in endings {
        if number > 0 {
            rows.add(what, count(number), detail.to_owned());
        }
    }
    by_reason("refused", &report.refused, rows);
    by_reason("errors", &report.errors, rows);
}

fn by_reason(what: &str, reasons: &BTreeMap<String, u64>, rows: &mut Rows) {
    if reasons.is_empty() {
        return;
    }
    let detail: Vec<_> =
        reasons.iter().map(|(reason, number)| format!("{reason} {}", count(*number))).collect();
    rows.add(what, count(reasons.values().sum()), detail.join(", "));
}

fn server(server: &ServerFigures, mode: Mode, rows: &mut Rows) {
    let unit = mode.unit();
    if let (Some(cpu_ms), Some(all_ms)) = (server.cpu_ms_per_turn, server.cpu_ms) {
        let cores = server
            .cores_busy
            .map_or(String::new(), |cores| format!(", {} cores busy", rate(cores)));
        let detail = format!("{} s in all{cores}", rate(all_ms / 1000.0));
        rows.add(&format!("server CPU a {unit}"), ms(cpu_ms), detail);
    }
    if let (Some(a_turn), Some(all)) = (server.fsyncs_per_turn, server.fsyncs) {
        let sharing = server
            .commits_per_batch
            .map_or(String::new(), |commits| format!(", {} commits a batch", rate(commits)));
        rows.add(
            &format!("fsyncs a {unit}"),
            rate(a_turn),
            format!("{} in all{sharing}", count(all)),
        );
    }
    if let Some(commits) = server.commits_per_turn {
        rows.add(&format!("commits a {unit}"), rate(commits), String::new());
    }
    if let Some(p50_ms) = server.sync_p50_ms {
        rows.add("made durable, p50", ms(p50_ms), "a transaction of the store".to_owned());
    }
    for (what, number) in
        [("refused as overload", server.overloads), ("guard remembers", server.guard_customers)]
    {
        if let Some(number) = number.filter(|number| *number > 0) {
            let detail = "as the server counts".to_owned();
            rows.add(what, count(number), detail);
        }
    }
    if let Some(rss_bytes) = server.rss_bytes {
        rows.add("server memory", mebibytes(rss_bytes), memory(server));
    }
}

fn memory(server: &ServerFigures) -> String {
    let seen =
        server.rss_run_max_bytes.map(|bytes| format!("at most {} in the run", mebibytes(bytes)));
    let before = server
        .rss_before_bytes
        .filter(|_| seen.is_some())
        .map(|bytes| format!("{} before it", mebibytes(bytes)));
    let peak = server.rss_peak_bytes.map(|bytes| format!("at most {} ever", mebibytes(bytes)));
    let all: Vec<String> = [seen, before, peak].into_iter().flatten().collect();
    all.join(", ")
}

/// One user's turn has two commits on its way, each with an fsync of its own.
fn disk(report: &Report, rows: &mut Rows) {
    let Some(fsync_ms) = report.disk_fsync_p50_ms else { return };
    rows.add("an fsync of its disk, p50", ms(fsync_ms), "of 8 KiB, after the run".to_owned());
    if report.users == 1 && report.overhead.count > 0 {
        let rest_ms = (report.overhead.p50_ms - 2.0 * fsync_ms).max(0.0);
        let detail = format!("{} are two fsyncs + this", ms(report.overhead.p50_ms));
        rows.add("over two fsyncs, p50", ms(rest_ms), detail);
    }
}

fn flooding(flood: &FloodFigures, rows: &mut Rows) {
    let detail = format!(
        "{} over {}, {} accepted",
        plural(flood.sent, "message"),
        plural(flood.connections as u64, "connection"),
        count(flood.accepted)
    );
    rows.add("flood, messages a second", rate(flood.sent_per_second), detail);
    if flood.acceptance.count > 0 {
        percentiles("flood, acceptance", &flood.acceptance, rows);
    }
    by_reason("flood, refused", &flood.refused, rows);
    by_reason("flood, errors", &flood.errors, rows);
}
