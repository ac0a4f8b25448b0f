//! When something recurs: a cron expression in a time zone, and the next moment that it means.
//!
//! The expression is matched against the clock on the wall (`croner`), and what the wall shows is
//! made a moment here, because daylight saving is a rule of ours: see [`Calendar::next`].

mod fields;

use std::str::FromStr as _;

use croner::Cron;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};

use crate::ids::Timestamp;

/// The longest expression, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 200;
/// Changes of the clock that one search goes past at most; there are two a year.
const CHANGES_MAX: usize = 400;
/// Times on the wall that one search passes over at most: a clock that is put back by a day
/// repeats that many seconds.
const REPEATED_MAX: usize = 90_000;

/// Why an expression or a zone is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// It has another number of fields.
    #[error(
        "has {0} fields; it takes 5 (minute, hour, day, month, weekday), or 6 with the second before \
         them"
    )]
    Fields(usize),
    /// It is too long.
    #[error("is longer than {EXPRESSION_BYTES_MAX} bytes")]
    TooLong,
    /// One of its fields makes no sense.
    #[error("{0}")]
    Expression(String),
    /// No time ever fits it.
    #[error("names a day that never comes")]
    Never,
    /// No such time zone.
    #[error("no time zone is called {0:?}")]
    Zone(String),
}

/// A cron expression in a time zone.
#[derive(Clone, Debug)]
pub struct Calendar {
    cron: Cron,
    zone: TimeZone,
    /// It fires through every change of the clock, because its hour is `*`.
    through: bool,
}

impl Calendar {
    /// Reads an expression of 5 fields, or 6 with the second before them, or `@daily` and its like.
    pub fn new(expression: &str, zone: &str) -> Result<Self, CalendarError> {
        let zone = time_zone(zone)?;
        if expression.len() > EXPRESSION_BYTES_MAX {
            return Err(CalendarError::TooLong);
        }
        let fields: Vec<&str> = expression.split_whitespace().collect();
        let through = match fields[..] {
            [nickname] if nickname.starts_with('@') => nickname.eq_ignore_ascii_case("@hourly"),
            [_, hour, _, _, _] | [_, _, hour, _, _, _] => hour.starts_with(['*', '?']),
            _ => return Err(CalendarError::Fields(fields.len())),
        };
        let cron = Cron::from_str(expression).map_err(|error| {
            let theirs = || error.to_string().trim_end_matches('.').to_owned();
            CalendarError::Expression(fields::mistake(&fields).unwrap_or_else(theirs))
        })?;
        let calendar = Self { cron, zone, through };
        let comes = calendar.next_on_the_wall(DateTime::constant(2024, 1, 1, 0, 0, 0, 0), true);
        if comes.is_none() {
            return Err(CalendarError::Never);
        }
        Ok(calendar)
    }

    /// What the expression says, in plain English.
    #[must_use]
    pub fn describe(&self) -> String {
        self.cron.describe()
    }

    /// The first moment after `after`, at a whole second.
    ///
    /// A time that the wall clock skips fires once, when it goes on behind the gap. A time that it
    /// shows twice fires the first time only. Where the hour is `*` (or `*/2`), every moment that
    /// the wall clock fits fires: nothing is made good for in a gap, and what it shows twice fires
    /// twice.
    #[must_use]
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let after = jiff::Timestamp::from_second(after.div_euclid(1000)).ok()?;
        let next = if self.through { self.next_through(after) } else { self.next_fixed(after) };
        next.map(jiff::Timestamp::as_millisecond)
    }

    fn next_on_the_wall(&self, from: DateTime, inclusive: bool) -> Option<DateTime> {
        let from = from.with().subsec_nanosecond(0).build().ok()?;
        let next = self.cron.find_next_occurrence(&from, inclusive).ok()?;
        Some(next)
    }

    /// What the wall shows grows with the moment it stands for, so everything before is passed.
    fn next_fixed(&self, after: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let mut wall = self.zone.to_datetime(after);
        for _ in 0..REPEATED_MAX {
            wall = self.next_on_the_wall(wall, false)?;
            let moment = self.moment(wall)?;
            if moment > after {
                return Some(moment);
            }
        }
        None
    }

    /// When the wall shows this for the first time; where it never does, when it goes on.
    fn moment(&self, wall: DateTime) -> Option<jiff::Timestamp> {
        match self.zone.to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(wall).ok(),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(wall).ok(),
            AmbiguousOffset::Gap { after, .. } => {
                let before_the_gap = after.to_timestamp(wall).ok()?;
                self.zone.following(before_the_gap).next().map(|change| change.timestamp())
            }
        }
    }

    /// Between two changes of the clock, wall and moment go alike.
    fn next_through(&self, after: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let (mut from, mut inclusive) = (after, false);
        for _ in 0..CHANGES_MAX {
            let offset = self.zone.to_offset(from);
            let wall = self.next_on_the_wall(offset.to_datetime(from), inclusive)?;
            let moment = offset.to_timestamp(wall).ok()?;
            match self.zone.following(from).next() {
                Some(change) if change.timestamp() <= moment => {
                    (from, inclusive) = (change.timestamp(), true);
                }
                _ => return Some(moment),
            }
        }
        None
    }
}

/// The zone of this name, from the table that is part of the program.
pub fn time_zone(name: &str) -> Result<TimeZone, CalendarError> {
    TimeZoneDatabase::bundled().get(name).map_err(|_| CalendarError::Zone(name.to_owned()))
}

/// The names of all zones.
#[must_use]
pub fn zone_names() -> Vec<String> {
    TimeZoneDatabase::bundled().available().map(|name| name.as_str().to_owned()).collect()
}

/// A moment as the wall of this zone shows it, like `2026-03-29 03:00:00 +02:00`; in UTC where
/// there is no such zone.
#[must_use]
pub fn on_the_wall(at: Timestamp, zone: &str) -> String {
    let zone = time_zone(zone).unwrap_or(TimeZone::UTC);
    let moment = jiff::Timestamp::from_millisecond(at).unwrap_or_default().to_zoned(zone);
    moment.strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
}

/// A moment in UTC, like `2026-03-29T01:00:00Z`.
#[must_use]
pub fn in_utc(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at).unwrap_or_default().to_string()
}
