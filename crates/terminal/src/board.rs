//! What is known of the switchboard: the sessions in their order, which one is active here, and
//! which ones wait.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Deserialize;
use serde_json::Value;

use crate::text::one_line;
use crate::theme::Look;

/// More sessions than this are not kept; the server's own limit is below it.
const ROWS_MAX: usize = 50_000;

/// An answer is not later than so many sessions that left.
const GONE_MAX: usize = 64;

/// What a session waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Waiting {
    /// `question`, `approval`, `error` or `operator`.
    pub(crate) kind: String,
    /// What is asked, shortened.
    pub(crate) text: String,
    /// Which question; none where none is open.
    pub(crate) question_id: Option<u64>,
    /// Since when, as the server writes it.
    pub(crate) since: String,
}

impl Waiting {
    /// Whether a person is asked something.
    pub(crate) fn asks(&self) -> bool {
        matches!(self.kind.as_str(), "question" | "approval")
    }

    /// Whether both are about one question. Its words may come later than itself.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self.question_id, other.question_id) {
            (Some(one), Some(another)) => one == another,
            _ => self == other,
        }
    }
}

/// One session as the switchboard shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Row {
    pub(crate) number: u32,
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    /// The session's key.
    pub(crate) session: String,
    pub(crate) agent_id: String,
    pub(crate) channel: String,
    pub(crate) customer_id: String,
    pub(crate) state: String,
    pub(crate) unread: u32,
    pub(crate) queued: u32,
    pub(crate) waiting: Option<Waiting>,
    pub(crate) last_seq: u64,
    pub(crate) read_seq: u64,
    /// The seats that show it.
    pub(crate) active: Vec<String>,
}

impl Row {
    /// What it is called: its name, else whose it is.
    pub(crate) fn label(&self) -> String {
        match &self.name {
            Some(name) => one_line(name),
            None if self.channel == "terminal" => format!("({})", one_line(&self.agent_id)),
            None => one_line(&format!("{}@{}", self.customer_id, self.channel)),
        }
    }

    /// Number and name, in quotes where the name holds spaces.
    pub(crate) fn title(&self) -> String {
        let label = self.label();
        let quotes = self.name.is_some() && label.contains(' ');
        if quotes {
            format!("{} \"{label}\"", self.number)
        } else {
            format!("{} {label}", self.number)
        }
    }

    /// A sign, a word, and how they look.
    pub(crate) fn standing(&self) -> (char, &'static str, Look) {
        match self.waiting.as_ref().map(|waiting| waiting.kind.as_str()) {
            Some("approval") => return ('!', "approve", Look::Waits),
            Some("question") => return ('?', "asks", Look::Waits),
            Some("operator") => return ('@', "person", Look::Waits),
            Some("error") => return ('x', "failed", Look::Wrong),
            _ => {}
        }
        match self.state.as_str() {
            "accumulating" => ('…', "hears", Look::Works),
            "processing" => ('»', "works", Look::Works),
            "waiting_for_input" => ('?', "asks", Look::Waits),
            "waiting_for_operator" => ('@', "person", Look::Waits),
            "hibernated" => ('z', "asleep", Look::Dim),
            "closed" => ('-', "closed", Look::Dim),
            "failed" => ('x', "failed", Look::Wrong),
            _ => ('·', "idle", Look::Dim),
        }
    }

    /// What is unread, as it is shown.
    pub(crate) fn unread_shown(&self) -> String {
        match self.unread {
            0 => String::new(),
            1..100 => self.unread.to_string(),
            _ => "99+".to_owned(),
        }
    }
}

/// The sessions, as the switchboard told last.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// In the order of their numbers.
    rows: Vec<Row>,
    /// What the sessions waited for last, by their keys.
    rung: BTreeMap<String, Rung>,
    /// Numbers of sessions that left lately, the latest last.
    gone: VecDeque<u32>,
    /// The session that the server says is active at this seat.
    pub(crate) active: Option<u32>,
    /// How many messages are unread in all.
    pub(crate) unread: u64,
    /// Whether the server told of its sessions at all.
    pub(crate) known: bool,
}

/// What a session waited for last, so that a person is called once for each thing.
#[derive(Debug)]
struct Rung {
    waiting: Waiting,
    /// The server said that it is settled. A list of everything that doesn't know of it says less:
    /// a server that was started again finds out by and by what waits.
    settled: bool,
}

impl Rung {
    /// Whether a session that waits now waits for this still, or for this again.
    fn is_for(&self, now: &Waiting) -> bool {
        match (self.waiting.question_id, now.question_id) {
            (Some(one), Some(another)) => one == another,
            (None, None) if self.waiting.kind == now.kind => {
                // Since when a person is waited for is no more than a guess after a restart.
                let person = now.kind == "operator" && !self.settled;
                person || self.waiting.since == now.since
            }
            _ => false,
        }
    }
}

/// An event of the switchboard's stream.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Told {
    active: Option<u32>,
    unread: u64,
    sessions: Vec<Row>,
    gone: Vec<u32>,
    whole: bool,
}

/// What an event changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Sessions that wait for something for which nobody was called yet, by number.
    pub(crate) began_to_wait: Vec<u32>,
    /// Keys of sessions that are gone.
    pub(crate) gone: Vec<String>,
}

impl Board {
    /// Takes what the server told. None where it can't be read.
    pub(crate) fn apply(&mut self, data: &str) -> Option<Changes> {
        let told: Told = serde_json::from_str(data).ok()?;
        let mut changes = Changes::default();
        // Who comes to see them for the first time is not rung for.
        let rings = self.known;
        // Under another number a session is still the same.
        let here: BTreeSet<String> = told.sessions.iter().map(|row| row.session.clone()).collect();
        if told.whole {
            changes.gone.extend(self.rows.iter().map(|row| row.session.clone()));
            self.rung.retain(|session, _| here.contains(session));
            // It may be another process, whose numbers mean other sessions.
            self.gone.clear();
            self.rows.clear();
            for row in told.sessions {
                self.call(&row, true, rings, &mut changes);
                self.put(row, &mut changes);
            }
        } else {
            for number in told.gone {
                if let Ok(at) = self.rows.binary_search_by_key(&number, |row| row.number) {
                    let row = self.rows.remove(at);
                    self.rung.remove(&row.session);
                    changes.gone.push(row.session);
                }
                if self.gone.len() >= GONE_MAX {
                    self.gone.pop_front();
                }
                self.gone.push_back(number);
            }
            for row in told.sessions {
                self.call(&row, false, rings, &mut changes);
                self.put(row, &mut changes);
            }
        }
        changes.gone.retain(|session| !here.contains(session));
        self.active = told.active;
        self.unread = told.unread;
        self.known = true;
        Some(changes)
    }

    /// Takes a page of the list as long as the stream has told nothing; false where it has.
    pub(crate) fn preview(&mut self, page: &Value) -> bool {
        if self.known {
            return false;
        }
        for value in page["sessions"].as_array().into_iter().flatten() {
            let row = serde_json::from_value::<Row>(value.clone());
            if let Some(row) = row.ok().filter(|row| row.number > 0 && !row.session.is_empty()) {
                self.put(row, &mut Changes::default());
            }
        }
        self.active = page["active"].as_u64().and_then(|number| u32::try_from(number).ok());
        self.unread = page["unread"].as_u64().unwrap_or(0);
        true
    }

    /// Takes a row that an answer held. The stream's word is the newer one where it told of the
    /// session already; and who is gone doesn't come back. What it waits for the stream tells.
    pub(crate) fn take(&mut self, value: &Value) -> Option<Row> {
        let row: Row = serde_json::from_value(value.clone()).ok()?;
        if row.number == 0 || row.session.is_empty() || self.gone.contains(&row.number) {
            return None;
        }
        if self.row(row.number).is_none() {
            let quiet = Row { waiting: None, ..row.clone() };
            self.put(quiet, &mut Changes::default());
        }
        Some(row)
    }

    /// Notes what a session waits for, and whether somebody is to be called for it.
    fn call(&mut self, row: &Row, whole: bool, rings: bool, changes: &mut Changes) {
        let known = self.rung.get_mut(&row.session);
        let Some(waiting) = &row.waiting else {
            if let Some(known) = known {
                known.settled |= !whole;
            }
            return;
        };
        if !known.is_some_and(|known| known.is_for(waiting)) && rings {
            changes.began_to_wait.push(row.number);
        }
        let rung = Rung { waiting: waiting.clone(), settled: false };
        self.rung.insert(row.session.clone(), rung);
    }

    fn put(&mut self, row: Row, changes: &mut Changes) {
        match self.rows.binary_search_by_key(&row.number, |row| row.number) {
            Ok(at) => {
                // Another session has its number by now.
                let before = std::mem::replace(&mut self.rows[at], row);
                if before.session != self.rows[at].session {
                    self.rung.remove(&before.session);
                    changes.gone.push(before.session);
                }
            }
            Err(at) if self.rows.len() < ROWS_MAX => self.rows.insert(at, row),
            Err(_) => {}
        }
    }

    /// All sessions, in order.
    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// One session, by its number.
    pub(crate) fn row(&self, number: u32) -> Option<&Row> {
        find(&self.rows, number)
    }

    /// One session, by its key.
    pub(crate) fn by_session(&self, session: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.session == session)
    }

    /// What a session asks a person.
    pub(crate) fn asked_in(&self, session: &str) -> Option<&Waiting> {
        let row = self.by_session(session)?;
        row.waiting.as_ref().filter(|waiting| waiting.asks())
    }

    /// The sessions that wait for a person, in order.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.waiting.is_some())
    }

    /// The next session behind a number, going round, of those that pass.
    pub(crate) fn next(&self, from: u32, passes: impl Fn(&Row) -> bool) -> Option<&Row> {
        let split = self.rows.partition_point(|row| row.number <= from);
        let (before, behind) = self.rows.split_at(split);
        behind.iter().chain(before).find(|row| passes(row))
    }

    /// The session before a number, going round.
    pub(crate) fn previous(&self, from: u32) -> Option<&Row> {
        let split = self.rows.partition_point(|row| row.number < from);
        self.rows[..split].last().or_else(|| self.rows.last())
    }
}

fn find(rows: &[Row], number: u32) -> Option<&Row> {
    rows.binary_search_by_key(&number, |row| row.number).ok().map(|at| &rows[at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(number: u32, waiting: Option<&str>) -> Value {
        let waiting = waiting.map(|kind| json!({ "kind": kind, "text": "may I?" }));
        json!({ "number": number, "session": format!("k{number}"), "waiting": waiting })
    }

    fn numbers(board: &Board) -> Vec<u32> {
        board.rows().iter().map(|row| row.number).collect()
    }

    #[test]
    fn changes_are_taken_and_waiting_is_told_once() {
        let mut board = Board::default();
        let whole = json!({ "whole": true, "active": 2, "sessions": [row(2, None), row(1, Some("question"))] });
        assert_eq!(board.apply(&whole.to_string()), Some(Changes::default()));
        assert_eq!((numbers(&board), board.active), (vec![1, 2], Some(2)));
        let more = json!({ "active": 2, "sessions": [row(2, Some("approval")), row(3, None)] });
        let changes = board.apply(&more.to_string()).unwrap();
        assert_eq!(changes.began_to_wait, [2]);
        let again = json!({ "sessions": [row(2, Some("approval"))], "gone": [1] });
        let changes = board.apply(&again.to_string()).unwrap();
        assert_eq!((changes.began_to_wait.len(), changes.gone), (0, vec!["k1".to_owned()]));
        let whole = json!({ "whole": true, "sessions": [row(3, Some("error"))] });
        let changes = board.apply(&whole.to_string()).unwrap();
        assert_eq!(changes, Changes { began_to_wait: vec![3], gone: vec!["k2".to_owned()] });
        assert_eq!(board.apply("nonsense"), None);
    }

    #[test]
    fn each_thing_that_waits_is_rung_for_once() {
        let waits = |number: u32, waiting: Value| json!({ "number": number, "session": format!("k{number}"), "waiting": waiting });
        let question = |id: u32| json!({ "kind": "question", "text": "", "question_id": id });
        let other = |kind: &str, since: &str| json!({ "kind": kind, "text": "x", "since": since });
        let mut board = Board::default();
        let mut rung = |whole: bool, waiting: Value| {
            let told = json!({ "whole": whole, "sessions": [waits(1, waiting)] });
            board.apply(&told.to_string()).unwrap().began_to_wait.len()
        };
        assert_eq!(rung(true, json!(null)), 0);
        assert_eq!(rung(false, question(1)), 1);
        // Its words come later, and it is an approval.
        let words = json!({ "kind": "approval", "text": "may I?", "question_id": 1 });
        assert_eq!(rung(false, words.clone()), 0);
        // It was answered, and the next one asked, within one event.
        assert_eq!(rung(false, question(2)), 1);
        // A server that was started again knows it a moment later only.
        assert_eq!((rung(true, json!(null)), rung(false, json!(null))), (0, 0));
        assert_eq!((rung(false, question(2)), rung(true, question(2))), (0, 0));
        assert_eq!((rung(true, json!(null)), rung(false, question(3))), (0, 1));
        // It failed, was tried again, and failed again.
        assert_eq!(rung(false, other("error", "10:00")), 1);
        assert_eq!((rung(false, json!(null)), rung(false, other("error", "10:00"))), (0, 0));
        assert_eq!(rung(false, other("error", "10:01")), 1);
        // An operator is waited for; since when is not known for sure after a restart.
        assert_eq!(rung(false, other("operator", "10:02")), 1);
        assert_eq!((rung(true, json!(null)), rung(false, other("operator", "10:03"))), (0, 0));
        assert_eq!((rung(false, json!(null)), rung(false, other("operator", "10:04"))), (0, 1));
    }

    #[test]
    fn a_number_that_means_another_session_means_no_longer_the_old_one() {
        let told = |whole: bool, session: &str| {
            let row = json!({ "number": 3, "session": session, "waiting": null });
            json!({ "whole": whole, "sessions": [row] }).to_string()
        };
        for whole in [true, false] {
            let mut board = Board::default();
            board.apply(&told(true, "k3")).unwrap();
            let changes = board.apply(&told(whole, "other")).unwrap();
            assert_eq!(changes.gone, ["k3"], "whole: {whole}");
            assert_eq!(board.row(3).unwrap().session, "other");
        }
    }

    #[test]
    fn neighbours_go_round() {
        let mut board = Board::default();
        let rows = [row(1, None), row(4, Some("question")), row(9, None)];
        board.apply(&json!({ "whole": true, "sessions": rows }).to_string());
        let next = |from| board.next(from, |_| true).map(|row| row.number);
        assert_eq!([next(1), next(4), next(9)], [Some(4), Some(9), Some(1)]);
        let previous = |from| board.previous(from).map(|row| row.number);
        assert_eq!([previous(9), previous(1)], [Some(4), Some(9)]);
        assert_eq!(board.next(4, |row| row.waiting.is_some()).map(|row| row.number), Some(4));
    }

    #[test]
    fn names_are_quoted_where_they_hold_spaces() {
        let named = |name: &str| Row { number: 3, name: Some(name.into()), ..Row::default() };
        assert_eq!(named("api work").title(), "3 \"api work\"");
        assert_eq!(named("docs").title(), "3 docs");
        let other =
            Row { number: 4, customer_id: "anna".into(), channel: "web".into(), ..Row::default() };
        assert_eq!(other.title(), "4 anna@web");
    }
}
