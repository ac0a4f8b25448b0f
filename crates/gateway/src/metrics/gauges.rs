//! What is read off when somebody looks: gauges, and what is told in the text format at once,
//! because others count it: the store its histograms, each agent's slots themselves.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use turnkeep_core::ids::Timestamp;
use turnkeep_core::ports::histogram::{BATCH_JOBS_STEPS, Histogram, STEPS, SYNC_US_STEPS};

use crate::clock;
use crate::service::Gateway;
use crate::slots::SlotCounts;

/// Dead letters are counted up to here; more would only cost more.
const DEAD_LETTERS_MAX: usize = 100_000;
/// The distance between two counts of dead letters.
const DEAD_LETTERS_EVERY_MS: i64 = 2_000;

/// A number of an agent's slots: its name, what it is about, and where it stands; none for no limit.
type OfSlots = (&'static str, &'static str, fn(&SlotCounts) -> Option<usize>);

const SLOTS: [OfSlots; 3] = [
    ("turnkeep_slots_limit", "Provider slots that there are, by agent", |counts| counts.limit),
    ("turnkeep_slots_used", "Provider slots that are taken, by agent", |counts| Some(counts.used)),
    ("turnkeep_slots_waiting", "Runs that wait for a provider slot, by agent", |counts| {
        Some(counts.waiting)
    }),
];

/// When dead letters were last counted, and after how many transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    at: Timestamp,
    batches: u64,
    ever: bool,
}

impl Counted {
    /// Whether there may be another number by now. A store that counts no transactions is asked
    /// again in any case.
    const fn is_due(self, now: Timestamp, batches: u64) -> bool {
        let changed = batches == 0 || batches != self.batches;
        !self.ever || changed && (now < self.at || now - self.at >= DEAD_LETTERS_EVERY_MS)
    }
}

impl Gateway {
    /// Counts dead letters, if there may be more or fewer than before.
    pub(crate) async fn count_dead_letters(&self, counted: &mut Counted) {
        let (now, batches) = (clock::now(), self.store().stats().batches);
        if !counted.is_due(now, batches) {
            return;
        }
        match self.store().dead_letters_count(DEAD_LETTERS_MAX).await {
            Ok(count) => {
                self.0.metrics.dead_letters.set(gauge_of(count));
                *counted = Counted { at: now, batches, ever: true };
            }
            Err(error) => tracing::warn!(%error, "dead letters could not be counted"),
        }
    }

    /// Brings the gauges up to date; also called before they are read.
    pub fn gauge(&self) {
        let metrics = &self.0.metrics;
        metrics.sessions.set(gauge_of(self.0.registry.len() as u64));
        let running = self.0.running.load(Ordering::Acquire);
        metrics.runs_active.set(gauge_of(running as u64));
        metrics.undecided_max.set(gauge_of(self.setup().settings.undecided_max as u64));
        let (customers, restrictions) = self.0.guard.counts();
        metrics.guard_customers.set(gauge_of(customers as u64));
        metrics.restrictions.set(gauge_of(restrictions as u64));
        let age_ms = self.0.standings.oldest().map_or(0, |since| clock::now() - since);
        metrics.outbox_oldest.set(gauge_of(age_ms.max(0).unsigned_abs()) / 1000.0);
        let on_board = self.0.switchboard.totals_of_all();
        for (gauge, count) in metrics.on_board.iter().zip(on_board.states) {
            gauge.set(gauge_of(count as u64));
        }
        metrics.waiting_on_board.set(gauge_of(on_board.waiting as u64));
        metrics.ready.set(one_if(self.readiness().is_ok()));
        metrics.draining.set(one_if(self.is_draining()));
        self.gauge_store();
        self.gauge_cluster();
    }

    fn gauge_store(&self) {
        let (metrics, stats) = (&self.0.metrics.store, self.store().stats());
        metrics.ready.set(one_if(self.store().health().is_ok()));
        metrics.fsyncs.absolute(stats.fsyncs);
        metrics.commits.absolute(stats.commits);
        metrics.conflicts.absolute(stats.conflicts);
        metrics.refusals.absolute(stats.refusals);
        // Whoever is told of a conflict steps on what is there now, and commits that.
        let retries = [stats.retries_lost, stats.retries_held, stats.conflicts];
        for (counter, count) in metrics.retries.iter().zip(retries) {
            counter.absolute(count);
        }
        metrics.batches.absolute(stats.batches);
        metrics.failures.absolute(stats.failures);
        metrics.checkpoints.absolute(stats.checkpoints);
        metrics.waiting.set(gauge_of(stats.waiting));
        metrics.wal_pages.set(gauge_of(stats.wal_pages));
    }

    /// Everything for one answer of `/metrics` that the recorder does not hold, in the Prometheus
    /// text format. The recorder's gauges are up to date afterwards.
    #[must_use]
    pub fn measure(&self) -> String {
        self.gauge();
        // Only here: it looks at every session that is watched.
        self.0.metrics.watchers.set(gauge_of(self.0.lives.watchers() as u64));
        let mut text = String::new();
        self.write_slots(&mut text);
        let stats = self.store().stats();
        let about = "Jobs that one transaction of the store carried";
        let batches = (&stats.batch_jobs, &BATCH_JOBS_STEPS, 1.0);
        write_histogram(&mut text, "turnkeep_store_batch_jobs", about, batches);
        let about = "How long a transaction of the store took to become durable";
        let syncs = (&stats.sync_us, &SYNC_US_STEPS, 1e6);
        write_histogram(&mut text, "turnkeep_store_sync_seconds", about, syncs);
        text
    }

    /// Written out rather than recorded, so that an agent that is not configured any more goes.
    fn write_slots(&self, text: &mut String) {
        let setup = self.setup();
        let counts = setup.agents.iter().map(|(name, agent)| (label(name), agent.slots.counts()));
        let mut counts: Vec<_> = counts.collect();
        counts.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        for (name, about, of) in SLOTS {
            let _ = writeln!(text, "# HELP {name} {about}\n# TYPE {name} gauge");
            for (agent, counts) in &counts {
                match of(counts) {
                    Some(count) => writeln!(text, "{name}{{agent=\"{agent}\"}} {count}"),
                    None => writeln!(text, "{name}{{agent=\"{agent}\"}} +Inf"),
                }
                .unwrap_or_default();
            }
        }
    }
}

/// A label's value as the text format has it.
fn label(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// One histogram; `per_unit` of what was counted make one of what is told.
fn write_histogram(
    text: &mut String,
    name: &str,
    about: &str,
    (counted, ends, per_unit): (&Histogram, &[u64; STEPS], f64),
) {
    let mut count = 0;
    let _ = writeln!(text, "# HELP {name} {about}\n# TYPE {name} histogram");
    for (end, more) in ends.iter().zip(counted.counts) {
        count += more;
        let end = gauge_of(*end) / per_unit;
        let _ = writeln!(text, "{name}_bucket{{le=\"{end}\"}} {count}");
    }
    count += counted.larger;
    let sum = gauge_of(counted.sum) / per_unit;
    let _ = writeln!(
        text,
        "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}"
    );
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float by its protocol")]
const fn gauge_of(count: u64) -> f64 {
    count as f64
}

const fn one_if(yes: bool) -> f64 {
    if yes { 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_told_as_sums() {
        let mut counted = Histogram { larger: 1, sum: 2_600_000, ..Histogram::default() };
        counted.counts[0] = 2;
        counted.counts[2] = 3;
        let mut text = String::new();
        write_histogram(&mut text, "some_seconds", "About it", (&counted, &SYNC_US_STEPS, 1e6));
        let expect = "# HELP some_seconds About it\n# TYPE some_seconds histogram\n\
                      some_seconds_bucket{le=\"0.0001\"} 2\nsome_seconds_bucket{le=\"0.00025\"} 2\n\
                      some_seconds_bucket{le=\"0.0005\"} 5\n";
        assert!(text.starts_with(expect), "{text}");
        let end = "some_seconds_bucket{le=\"1\"} 5\nsome_seconds_bucket{le=\"+Inf\"} 6\n\
                   some_seconds_sum 2.6\nsome_seconds_count 6\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn a_name_can_not_end_its_label() {
        assert_eq!(label("a\"} 1\nb\\"), "a\\\"} 1\\nb\\\\");
    }

    #[test]
    fn dead_letters_are_counted_when_something_was_written() {
        let check = |counted: Counted, now: Timestamp, batches: u64, expect: bool| {
            assert_eq!(counted.is_due(now, batches), expect, "{counted:?} {now} {batches}");
        };
        let counted = Counted { at: 10_000, batches: 5, ever: true };
        check(Counted::default(), 0, 0, true);
        check(counted, 60_000, 5, false);
        check(counted, 11_999, 6, false);
        check(counted, 12_000, 6, true);
        // A clock that stepped back.
        check(counted, 9_000, 6, true);
        // A store that doesn't count.
        check(counted, 12_000, 0, true);
    }
}
