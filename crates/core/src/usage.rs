//! What turns cost: what providers count, what it comes to, and prices, in whole numbers.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::ids::{RunTag, Timestamp, TurnId};
use crate::session_key::{SessionKey, SessionKind};

/// What one request to a provider used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Which model answered, as the provider calls it.
    pub model: Arc<str>,
    /// Tokens of the question that were not read from a cache.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// Tokens of the question that were read from the provider's cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cached_tokens: u64,
    /// Tokens of the question that were written to the provider's cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_write_tokens: u64,
    /// Its price in millionths of the currency, where whoever asked knows it better than a table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micros: Option<u64>,
}

/// The longest name of a model that is kept, in bytes.
pub const MODEL_BYTES_MAX: usize = 200;

/// More tokens of any kind than this in one report are no report: they are taken for this many, so
/// that no sum of what really happens comes near its bound.
pub const COUNT_MAX: u64 = 1 << 32;
/// The same for what a request costs, in millionths of the currency, whether that was reported or
/// computed: more than a million of it.
pub const COST_MAX: u64 = 1 << 40;
/// No sum grows beyond this: what is kept of it in a database has a sign.
pub const SUM_MAX: u64 = i64::MAX.unsigned_abs();

impl Usage {
    /// The same within bounds: whoever reports may be wrong, or lie.
    #[must_use]
    pub fn within_bounds(self) -> Self {
        let model = if self.model.len() > MODEL_BYTES_MAX {
            let mut end = MODEL_BYTES_MAX;
            while !self.model.is_char_boundary(end) {
                end -= 1;
            }
            self.model[..end].into()
        } else {
            self.model
        };
        Self {
            model,
            input_tokens: self.input_tokens.min(COUNT_MAX),
            output_tokens: self.output_tokens.min(COUNT_MAX),
            cached_tokens: self.cached_tokens.min(COUNT_MAX),
            cache_write_tokens: self.cache_write_tokens.min(COUNT_MAX),
            cost_micros: self.cost_micros.map(|cost| cost.min(COST_MAX)),
        }
    }

    /// What it adds to a sum.
    #[must_use]
    pub const fn sums(&self) -> Sums {
        let (cost_micros, unpriced) = match self.cost_micros {
            Some(cost) => (cost, 0),
            None => (0, 1),
        };
        Sums {
            requests: 1,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            cached_tokens: self.cached_tokens,
            cache_write_tokens: self.cache_write_tokens,
            cost_micros,
            unpriced,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What many requests used together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sums {
    /// How many there were.
    pub requests: u64,
    /// See [`Usage::input_tokens`].
    pub input_tokens: u64,
    /// See [`Usage::output_tokens`].
    pub output_tokens: u64,
    /// See [`Usage::cached_tokens`].
    #[serde(skip_serializing_if = "is_zero")]
    pub cached_tokens: u64,
    /// See [`Usage::cache_write_tokens`].
    #[serde(skip_serializing_if = "is_zero")]
    pub cache_write_tokens: u64,
    /// Millionths of the currency, of those whose price is known.
    #[serde(skip_serializing_if = "is_zero")]
    pub cost_micros: u64,
    /// Requests whose price nobody knows: their tokens are counted, their cost is not.
    #[serde(skip_serializing_if = "is_zero")]
    pub unpriced: u64,
}

impl Sums {
    /// All tokens, whatever they cost.
    #[must_use]
    pub const fn tokens(&self) -> u64 {
        self.input_tokens
            .saturating_add(self.output_tokens)
            .saturating_add(self.cached_tokens)
            .saturating_add(self.cache_write_tokens)
    }

    /// Adds others, each up to [`SUM_MAX`].
    pub fn add(&mut self, more: &Self) {
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more).min(SUM_MAX);
        add(&mut self.requests, more.requests);
        add(&mut self.input_tokens, more.input_tokens);
        add(&mut self.output_tokens, more.output_tokens);
        add(&mut self.cached_tokens, more.cached_tokens);
        add(&mut self.cache_write_tokens, more.cache_write_tokens);
        add(&mut self.cost_micros, more.cost_micros);
        add(&mut self.unpriced, more.unpriced);
    }
}

impl<'a> std::iter::Sum<&'a Self> for Sums {
    fn sum<I: Iterator<Item = &'a Self>>(all: I) -> Self {
        all.fold(Self::default(), |mut sum, one| {
            sum.add(one);
            sum
        })
    }
}

/// What a million tokens cost, in millionths of the currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// Of the question.
    pub input_micros: u64,
    /// Of the answer.
    pub output_micros: u64,
    /// Of the question, read from the provider's cache.
    pub cached_micros: u64,
    /// Of the question, written to it.
    pub cache_write_micros: u64,
}

impl Price {
    /// What a request costs, in millionths of the currency, up to [`COST_MAX`]; a part of one counts
    /// as one.
    #[must_use]
    pub fn of(&self, usage: &Usage) -> u64 {
        let parts = [
            (usage.input_tokens, self.input_micros),
            (usage.output_tokens, self.output_micros),
            (usage.cached_tokens, self.cached_micros),
            (usage.cache_write_tokens, self.cache_write_micros),
        ];
        let all = parts.map(|(tokens, micros)| u128::from(tokens) * u128::from(micros));
        let cost = all.iter().fold(0, |sum: u128, part| sum.saturating_add(*part));
        u64::try_from(cost.div_ceil(1_000_000)).unwrap_or(COST_MAX).min(COST_MAX)
    }
}

/// A day in UTC, counted from 1970-01-01.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Day(pub i32);

/// Milliseconds of a day.
pub const DAY_MS: i64 = 24 * 3_600_000;

impl Day {
    /// The day of a moment.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        Self(i32::try_from(at.div_euclid(DAY_MS)).unwrap_or(0))
    }

    /// When it begins.
    #[must_use]
    pub const fn start(self) -> Timestamp {
        self.0 as i64 * DAY_MS
    }

    /// So many days later.
    #[must_use]
    pub const fn plus(self, days: i32) -> Self {
        Self(self.0.saturating_add(days))
    }

    /// The first day of its month, and of the next one.
    #[must_use]
    pub fn month(self) -> (Self, Self) {
        let (year, month, day) = self.civil();
        let first = self.plus(1 - day);
        let (year, next) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        (first, Self::from_civil(year, next, 1))
    }

    /// Year, month and day of the Gregorian calendar. The arithmetic counts years from March, so that
    /// the leap day is the last of its year, and eras of 400 years, which all have 146097 days.
    #[must_use]
    pub fn civil(self) -> (i32, i32, i32) {
        let days = self.0.saturating_add(719_468);
        let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        (year_of_era + era * 400 + i32::from(month <= 2), month, day)
    }

    /// The day of a date of the Gregorian calendar.
    #[must_use]
    pub fn from_civil(year: i32, month: i32, day: i32) -> Self {
        let year = year - i32::from(month <= 2);
        let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let shifted = if month > 2 { month - 3 } else { month + 9 };
        let of_year = (153 * shifted + 2) / 5 + day - 1;
        Self(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (year, month, day) = self.civil();
        write!(formatter, "{year:04}-{month:02}-{day:02}")
    }
}

/// A text that is no date like `2026-11-21`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no date like 2026-11-21")]
pub struct NoDate;

impl std::str::FromStr for Day {
    type Err = NoDate;

    fn from_str(text: &str) -> Result<Self, NoDate> {
        let mut parts = text.split('-');
        let mut number = |width: usize| {
            let part = parts.next().filter(|part| part.len() == width);
            let part = part.filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
            part.and_then(|part| part.parse::<i32>().ok()).ok_or(NoDate)
        };
        let date = (number(4)?, number(2)?, number(2)?);
        let day = Self::from_civil(date.0, date.1, date.2);
        // What the calendar does not have comes back as another date.
        if parts.next().is_some() || day.civil() != date { Err(NoDate) } else { Ok(day) }
    }
}

/// The customer to whom a session's use is booked; what a group uses is nobody's.
#[must_use]
pub fn customer_of(key: &SessionKey) -> Option<String> {
    (key.kind() != SessionKind::Group).then(|| key.peer())
}

/// Runs of one node whose last report is remembered: enough for those that talk on after their end.
const RUNS_OF_A_NODE: usize = 4;
/// Runs of all nodes together. Those of nodes that are gone must not take the room of one that is not.
const RUNS_MAX: usize = 2 * RUNS_OF_A_NODE;

/// What a session remembers of what it cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spent {
    /// Everything, from its beginning on, whatever was forgotten of it since.
    pub sums: Sums,
    /// The turn of which a report came last, or the open one if one came of it, and what it used.
    #[serde(skip_serializing_if = "Option::is_none")]
    turn: Option<(TurnId, Sums)>,
    /// Runs and their last reports that are booked, so that none is booked twice.
    #[serde(skip_serializing_if = "SmallVec::is_empty")]
    runs: SmallVec<[(RunTag, u32); 1]>,
    /// When the user was last told that another agent answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degraded_on: Option<Day>,
    /// When the user was last told that a budget is used up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_on: Option<Day>,
}

impl Spent {
    /// Whether this report of this run is booked.
    #[must_use]
    pub fn is_booked(&self, run: RunTag, report: u32) -> bool {
        self.runs.iter().any(|(known, last)| *known == run && *last >= report)
    }

    /// Books it; says what the turn used before and uses now. What is known of the `open` turn does
    /// not make room for what a run of another one reports late.
    pub fn book(
        &mut self,
        run: RunTag,
        report: u32,
        sums: &Sums,
        open: Option<TurnId>,
    ) -> (Sums, Sums) {
        self.sums.add(sums);
        match self.runs.iter().position(|(known, _)| *known == run) {
            Some(at) => self.runs[at].1 = report,
            None => self.remember(run, report),
        }
        let before = self.of_turn(run.turn);
        let mut now = before;
        now.add(sums);
        let is_late = self.turn.is_some_and(|(known, _)| open == Some(known) && known != run.turn);
        if !is_late {
            self.turn = Some((run.turn, now));
        }
        (before, now)
    }

    /// A node offers a report again before those of its later runs; another one may have booked many
    /// meanwhile. So each has its own last runs remembered, and the oldest of all make room.
    fn remember(&mut self, run: RunTag, report: u32) {
        let same = |(known, _): &(RunTag, u32)| known.epoch.node() == run.epoch.node();
        if self.runs.iter().filter(|known| same(known)).count() >= RUNS_OF_A_NODE
            && let Some(first) = self.runs.iter().position(same)
        {
            self.runs.remove(first);
        }
        let too_many = (self.runs.len() + 1).saturating_sub(RUNS_MAX);
        self.runs.drain(..too_many);
        self.runs.push((run, report));
    }

    /// What is left of it when its session is erased: how much it was.
    #[must_use]
    pub fn buried(&self) -> Self {
        Self { sums: self.sums, ..Self::default() }
    }

    /// What this turn used, as far as it is the one that is remembered.
    #[must_use]
    pub fn of_turn(&self, turn: TurnId) -> Sums {
        self.turn.filter(|(known, _)| *known == turn).map_or_else(Sums::default, |(_, sums)| sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_rounded_up_once() {
        let price = Price {
            input_micros: 2_500_000,
            output_micros: 10_000_000,
            cached_micros: 1_250_000,
            cache_write_micros: 0,
        };
        let check = |input, output, cached, expect: u64| {
            let usage = Usage {
                input_tokens: input,
                output_tokens: output,
                cached_tokens: cached,
                ..Usage::default()
            };
            assert_eq!(price.of(&usage), expect, "{usage:?}");
        };
        check(0, 0, 0, 0);
        check(1, 0, 0, 3);
        check(1, 0, 1, 4);
        check(1_000_000, 1_000_000, 0, 12_500_000);
        check(COUNT_MAX, COUNT_MAX, COUNT_MAX, 59_055_800_320);
        let most = Price { input_micros: u64::MAX, output_micros: u64::MAX, ..price };
        let usage = Usage { input_tokens: u64::MAX, output_tokens: u64::MAX, ..Usage::default() };
        assert_eq!(most.of(&usage), COST_MAX);
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        let check = |days: i32, text: &str, month: (&str, &str)| {
            let day: Day = text.parse().unwrap();
            assert_eq!((day, day.to_string().as_str()), (Day(days), text));
            assert_eq!(day.month(), (month.0.parse().unwrap(), month.1.parse().unwrap()));
            assert_eq!(Day::of(day.start()), day);
            assert_eq!(Day::of(day.start() + DAY_MS - 1), day);
        };
        check(0, "1970-01-01", ("1970-01-01", "1970-02-01"));
        check(-1, "1969-12-31", ("1969-12-01", "1970-01-01"));
        check(11_016, "2000-02-29", ("2000-02-01", "2000-03-01"));
        check(20_778, "2026-11-21", ("2026-11-01", "2026-12-01"));
        check(20_818, "2026-12-31", ("2026-12-01", "2027-01-01"));
        for wrong in
            ["2026-02-29", "2026-13-01", "2026-11-0", "26-11-21", "2026-11-21-1", "+026-11-21", ""]
        {
            assert_eq!(wrong.parse::<Day>(), Err(NoDate), "{wrong}");
        }
    }

    #[test]
    fn a_report_is_booked_once_for_each_run() {
        let run = |attempt| RunTag { attempt: crate::Attempt(attempt), ..RunTag::default() };
        let (mut spent, one) = (Spent::default(), Usage::default().sums());
        for attempt in 1..=6 {
            for report in 1..=2 {
                assert!(!spent.is_booked(run(attempt), report));
                spent.book(run(attempt), report, &one, None);
                assert!(spent.is_booked(run(attempt), report));
            }
        }
        assert_eq!((spent.sums.requests, spent.sums.unpriced), (12, 12));
        assert_eq!(spent.of_turn(run(1).turn).requests, 12);
        assert_eq!(spent.runs.len(), RUNS_OF_A_NODE);
    }

    fn run(node: u64, attempt: u32) -> RunTag {
        let (epoch, attempt) = (crate::Epoch(node), crate::Attempt(attempt));
        RunTag { epoch, attempt, ..RunTag::default() }
    }

    #[test]
    fn what_another_node_books_makes_nobody_forgotten() {
        let (mut spent, one) = (Spent::default(), Usage::default().sums());
        spent.book(run(3, 1), 1, &one, None);
        for attempt in 1..=9 {
            spent.book(run(1, attempt), 1, &one, None);
        }
        assert!(spent.is_booked(run(3, 1), 1) && spent.is_booked(run(1, 9), 1));
        assert_eq!(spent.runs.len(), RUNS_OF_A_NODE + 1);
    }

    #[test]
    fn nodes_that_are_gone_make_nobody_forgotten() {
        let (mut spent, one) = (Spent::default(), Usage::default().sums());
        for node in 1..=9 {
            for attempt in 1..=4 {
                spent.book(run(node, attempt), 1, &one, None);
                let last = (1..=attempt).all(|attempt| spent.is_booked(run(node, attempt), 1));
                assert!(last, "of node {node} by attempt {attempt}");
            }
        }
        assert_eq!(spent.runs.len(), RUNS_MAX);
    }

    #[test]
    fn a_report_is_kept_within_bounds() {
        let usage = Usage {
            model: "é".repeat(200).into(),
            input_tokens: u64::MAX,
            cost_micros: Some(u64::MAX),
            ..Usage::default()
        };
        let kept = usage.within_bounds();
        assert_eq!(kept.model.len(), MODEL_BYTES_MAX);
        assert_eq!((kept.input_tokens, kept.cost_micros), (COUNT_MAX, Some(COST_MAX)));
    }
}
