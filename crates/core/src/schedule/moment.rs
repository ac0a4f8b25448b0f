//! Times as people say them.

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, ToSpan as _};

use super::calendar::{CalendarError, time_zone};
use crate::ids::Timestamp;

/// Why a text is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MomentError {
    /// It is no length of time.
    #[error("{0:?} is no time, like 20m, 2h or 1 day")]
    Length(String),
    /// It is no point in time.
    #[error("{0:?} is no time, like 18:30, 2030-01-01 18:30 or 2030-01-01T18:30:00+01:00")]
    Point(String),
    /// No such zone.
    #[error(transparent)]
    Zone(#[from] CalendarError),
}

/// So long after `now`: `20m`, `2h 30m`, `1 day`.
pub fn moment_in(text: &str, now: Timestamp) -> Result<Timestamp, MomentError> {
    let wrong = || MomentError::Length(text.to_owned());
    // A day is 24 hours here: whoever means a time of day says one.
    let text = text.trim();
    let days = text.strip_suffix("days").or_else(|| text.strip_suffix("day"));
    let days = days.or_else(|| text.strip_suffix('d')).and_then(|days| days.trim().parse().ok());
    let ahead = match days {
        Some(days) => SignedDuration::from_secs(86_400_i64.checked_mul(days).ok_or_else(wrong)?),
        None => text.parse::<SignedDuration>().map_err(|_| wrong())?,
    };
    let ahead = i64::try_from(ahead.as_millis()).map_err(|_| wrong())?;
    if ahead < 0 { Err(wrong()) } else { Ok(now.saturating_add(ahead)) }
}

/// A time of day is the next one after `now` in this zone, a date and a time that day; with an offset
/// it is that moment.
pub fn moment_at(text: &str, now: Timestamp, zone: &str) -> Result<Timestamp, MomentError> {
    let zone = time_zone(zone)?;
    let wrong = || MomentError::Point(text.to_owned());
    point(text.trim(), now, &zone).ok_or_else(wrong)
}

fn point(text: &str, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Some(moment.as_millisecond());
    }
    let of = |wall: DateTime| Some(wall.to_zoned(zone.clone()).ok()?.timestamp().as_millisecond());
    if text.len() > "18:30:00".len() {
        return of(text.parse().ok()?);
    }
    let time: Time = text.parse().ok()?;
    let today = jiff::Timestamp::from_millisecond(now).ok()?.to_zoned(zone.clone()).date();
    match of(today.to_datetime(time))? {
        at if at > now => Some(at),
        _ => of(today.checked_add(1.day()).ok()?.to_datetime(time)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> Timestamp {
        text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn points_are_meant_as_people_mean_them() {
        let now = moment("2026-03-28T12:00:00Z");
        let check = |text: &str, expect: &str| {
            assert_eq!(moment_at(text, now, "Europe/Berlin"), Ok(moment(expect)), "{text}");
        };
        check("18:30", "2026-03-28T17:30:00Z");
        // Passed today, and the clock is put forth in the night.
        check("09:00", "2026-03-29T07:00:00Z");
        check("02:30", "2026-03-29T01:30:00Z");
        check("2026-04-01 08:00", "2026-04-01T06:00:00Z");
        check(" 2026-04-01T08:00 ", "2026-04-01T06:00:00Z");
        check("2026-04-01T08:00:00+00:00", "2026-04-01T08:00:00Z");
        for wrong in ["soon", "", "25:00", "tomorrow"] {
            let expect = Err(MomentError::Point(wrong.to_owned()));
            assert_eq!(moment_at(wrong, now, "Europe/Berlin"), expect);
        }
        assert!(matches!(moment_at("18:30", now, "Mars"), Err(MomentError::Zone(_))));
    }

    #[test]
    fn lengths_are_read() {
        let check = |text: &str, seconds: i64| {
            assert_eq!(moment_in(text, 5000), Ok(5000 + seconds * 1000), "{text}");
        };
        check("20m", 1200);
        check("2h 30m", 9000);
        check("45 seconds", 45);
        check("1 day", 86_400);
        check("3d", 3 * 86_400);
        // More hours than there are in any length, more days, and more milliseconds.
        let long = ["106751991167300642 days", "9999999999999999999 days", "106751991167300 days"];
        for wrong in ["", "soon", "-5m", "99999999999999999 days"].into_iter().chain(long) {
            assert!(moment_in(wrong, 0).is_err(), "{wrong}");
        }
    }
}
