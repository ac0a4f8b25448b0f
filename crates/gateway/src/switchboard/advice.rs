//! What a person should look at, out of how the sessions and the process stand. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use turnkeep_core::ids::{Seq, Timestamp};
use turnkeep_core::switchboard::{Row, WaitingKind};

use super::stats::{ProcessStats, StatsLimits};

/// How long a session may wait for a person before that is worth a word.
const WAITS_LONG_MS: i64 = 3_600_000;
/// Looks in a row that something has to grow for.
const GROWS: u32 = 3;
/// Sessions that one piece of advice names.
const NAMED_MAX: usize = 20;
/// Sessions of a tenant whose growth is watched.
const WATCHED_MAX: usize = 10_000;

/// One thing that a person should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recommendation {
    /// What sort of thing, as one word.
    pub code: &'static str,
    /// What it is and what to do.
    pub text: String,
    /// The sessions that it is about, by their numbers; at most twenty.
    pub sessions: Vec<u32>,
}

/// How something grew from look to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Trend {
    queued: u32,
    queued_up: u32,
    bytes: u64,
    bytes_up: u32,
    last_seq: Seq,
}

/// What grows, by tenant and number. Only what is not at rest is remembered.
#[derive(Debug, Default)]
pub(super) struct Trends(BTreeMap<Arc<str>, BTreeMap<u32, Trend>>);

impl Trends {
    /// Looks again, a minute after the last time.
    pub(super) fn look<'a>(&mut self, tenant: &str, rows: impl Iterator<Item = &'a Arc<Row>>) {
        let before = self.0.remove(tenant).unwrap_or_default();
        let mut now = BTreeMap::new();
        for row in rows {
            let bytes = row.resources.buffer_bytes;
            if now.len() == WATCHED_MAX || row.queued == 0 && bytes == 0 {
                continue;
            }
            let known = before.get(&row.number).copied().unwrap_or_default();
            let grows = |more: bool, count: u32| if more { count + 1 } else { 0 };
            // Nothing was said meanwhile, and still more is kept.
            let leaks = row.last_seq == known.last_seq && bytes > known.bytes;
            now.insert(
                row.number,
                Trend {
                    queued: row.queued,
                    queued_up: grows(row.queued > known.queued, known.queued_up),
                    bytes,
                    bytes_up: grows(leaks, known.bytes_up),
                    last_seq: row.last_seq,
                },
            );
        }
        if !now.is_empty() {
            self.0.insert(tenant.into(), now);
        }
    }

    fn growing(&self, tenant: &str, count: impl Fn(&Trend) -> u32) -> Vec<u32> {
        let trends = self.0.get(tenant).into_iter().flatten();
        let growing = trends.filter(|(_, trend)| count(trend) >= GROWS);
        growing.map(|(number, _)| *number).collect()
    }
}

/// What was seen by looking again and again.
pub(super) struct Seen<'a> {
    pub(super) trends: &'a Trends,
    /// Sessions for which more is open turn after turn, by their numbers.
    pub(super) leaks: Vec<u32>,
}

/// What there is to say of a tenant's sessions.
pub(super) fn advice(
    (tenant, rows): (&str, &[Arc<Row>]),
    Seen { trends, leaks }: Seen<'_>,
    (process, limits): (&ProcessStats, &StatsLimits),
    now: Timestamp,
) -> Vec<Recommendation> {
    let mut told = Vec::new();
    let mut tell = |code, sessions: Vec<u32>, text: &dyn Fn(usize) -> String| {
        if !sessions.is_empty() {
            let text = text(sessions.len());
            let sessions = sessions.into_iter().take(NAMED_MAX).collect();
            told.push(Recommendation { code, text, sessions });
        }
    };
    let those = |wanted: &dyn Fn(&Row) -> bool| -> Vec<u32> {
        rows.iter().filter(|row| wanted(row)).map(|row| row.number).collect()
    };
    let waits_long = |row: &Row| {
        let asks = row.waiting.as_ref().filter(|waiting| waiting.kind != WaitingKind::Error);
        asks.is_some_and(|waiting| now - waiting.since > WAITS_LONG_MS)
    };
    tell("waiting", those(&waits_long), &|count| {
        format!("{count} wait for a person for more than an hour: answer, or /stop them")
    });
    let failed =
        |row: &Row| row.waiting.as_ref().is_some_and(|waiting| waiting.kind == WaitingKind::Error);
    tell("failed", those(&failed), &|count| {
        format!("{count} gave up: read why, and retry or discard the dead letters")
    });
    tell("queue", trends.growing(tenant, |trend| trend.queued_up), &|count| {
        format!("the queues of {count} grow: more is written there than their agents answer")
    });
    tell("leak", trends.growing(tenant, |trend| trend.bytes_up), &|count| {
        format!("{count} keep more and more in memory although nothing is said there")
    });
    tell("open_files_leak", leaks, &|count| {
        format!("more files are open turn after turn in {count}: their agents may not close them")
    });
    let alone = |yes: bool, code, text: String| {
        yes.then_some(Recommendation { code, text, sessions: Vec::new() })
    };
    let buffers: u64 = rows.iter().map(|row| row.resources.buffer_bytes).sum();
    let over = |used: u64, of: u64| of > 0 && used.saturating_mul(5) > of.saturating_mul(4);
    let (files, files_limit) =
        (process.open_files.unwrap_or(0), process.open_files_limit.unwrap_or(0));
    let of_all = [
        alone(
            over(buffers, limits.buffer_bytes),
            "buffers",
            format!(
                "{buffers} of {} bytes of conversations are kept in memory",
                limits.buffer_bytes
            ),
        ),
        alone(
            over(files, files_limit),
            "open_files",
            format!(
                "{files} of {files_limit} files are open: raise the limit, or serve fewer at once"
            ),
        ),
        alone(
            over(rows.len() as u64, limits.sessions),
            "full",
            format!(
                "{} of {} places are taken: close what is over, or raise switchboard.sessions_max",
                rows.len(),
                limits.sessions
            ),
        ),
    ];
    told.extend(of_all.into_iter().flatten());
    told
}

#[cfg(test)]
mod tests {
    use turnkeep_core::SessionKind;
    use turnkeep_core::session::SessionStatus;
    use turnkeep_core::switchboard::{Resources, Waiting};

    use super::*;

    fn row(number: u32) -> Row {
        let peer = number.to_string();
        let key = turnkeep_core::SessionKey::new("t", "a", "api", SessionKind::Dm, &peer).unwrap();
        Row {
            number,
            id: super::super::id_of(&key),
            name: None,
            key,
            state: SessionStatus::Idle,
            waiting: None,
            unread: 0,
            queued: 0,
            last_seq: Seq(5),
            read_seq: Seq(5),
            active: smallvec::SmallVec::new(),
            created_at: 0,
            updated_at: 0,
            touched_at: 0,
            resources: Resources::default(),
        }
    }

    fn waits(number: u32, kind: WaitingKind, since: Timestamp) -> Row {
        let waiting = Waiting { kind, text: "?".into(), since, question_id: None };
        Row { waiting: Some(waiting), ..row(number) }
    }

    fn told(
        rows: Vec<Row>,
        trends: &Trends,
        process: ProcessStats,
    ) -> Vec<(&'static str, Vec<u32>)> {
        let rows: Vec<Arc<Row>> = rows.into_iter().map(Arc::new).collect();
        let limits = StatsLimits { sessions: 10, buffer_bytes: 1000, ..StatsLimits::default() };
        let seen = Seen { trends, leaks: Vec::new() };
        let advice = advice(("t", &rows), seen, (&process, &limits), 4_000_000);
        advice.into_iter().map(|advice| (advice.code, advice.sessions)).collect()
    }

    fn process(open_files: u64) -> ProcessStats {
        ProcessStats {
            open_files: Some(open_files),
            open_files_limit: Some(100),
            memory_bytes: None,
        }
    }

    #[test]
    fn what_a_person_should_look_at_is_told() {
        let none = Trends::default();
        assert_eq!(told(vec![row(1)], &none, process(80)), []);
        let rows = vec![
            waits(1, WaitingKind::Question, 0),
            waits(2, WaitingKind::Approval, 3_000_000),
            waits(3, WaitingKind::Error, 0),
            waits(4, WaitingKind::Operator, 1),
        ];
        let expect = [("waiting", vec![1, 4]), ("failed", vec![3]), ("open_files", vec![])];
        assert_eq!(told(rows, &none, process(81)), expect);
        let resources = Resources { buffer_bytes: 100, ..Resources::default() };
        let many = (1..=9).map(|number| Row { resources, ..row(number) }).collect();
        assert_eq!(told(many, &none, process(0)), [("buffers", vec![]), ("full", vec![])]);
    }

    #[test]
    fn what_grows_three_times_in_a_row_is_told() {
        let check = |looks: &[(u32, u64, u64)], expect: &[&str]| {
            let mut trends = Trends::default();
            for (queued, buffer_bytes, last) in looks {
                let resources = Resources { buffer_bytes: *buffer_bytes, ..Resources::default() };
                let (queued, last_seq) = (*queued, Seq(*last));
                let row = Arc::new(Row { queued, last_seq, resources, ..row(7) });
                trends.look("t", std::iter::once(&row));
            }
            let told = told(vec![row(7)], &trends, process(0));
            assert_eq!(told.iter().map(|(code, _)| *code).collect::<Vec<_>>(), expect, "{looks:?}");
        };
        check(&[(1, 0, 1), (2, 0, 2)], &[]);
        check(&[(1, 0, 1), (2, 0, 2), (3, 0, 3)], &["queue"]);
        check(&[(1, 0, 1), (2, 0, 2), (2, 0, 3), (3, 0, 4)], &[]);
        check(&[(0, 10, 1), (0, 20, 1), (0, 30, 1)], &[]);
        check(&[(0, 10, 1), (0, 20, 1), (0, 30, 1), (0, 40, 1)], &["leak"]);
        check(&[(0, 10, 1), (0, 20, 2), (0, 30, 3), (0, 40, 4)], &[]);
        check(&[(1, 0, 1), (2, 0, 2), (0, 0, 3), (3, 0, 3)], &[]);
    }
}
