//! Moments as the API tells them, as milliseconds since 1970, and as people read them.

use serde_json::Value;

/// A moment: milliseconds in the journal, RFC 3339 in UTC elsewhere. None where it is neither.
pub(crate) fn moment(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => rfc3339(text),
        _ => None,
    }
}

fn rfc3339(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z')?;
    let (date, time) = text.split_once('T')?;
    let mut parts = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut parts = time.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let in_order = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    if !in_order {
        return None;
    }
    let millis: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(seconds * 1000 + millis)
}

/// Days since 1970 (the usual way to count them: years that begin in March).
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The time of the day; with the day where that is another one than today.
pub(crate) fn clock(at: i64, now: i64, utc_offset_s: i32) -> String {
    const DAY_MS: i64 = 86_400_000;
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let local = |at: i64| at.saturating_add(i64::from(utc_offset_s) * 1000);
    let (at, now) = (local(at), local(now));
    let minutes = at.rem_euclid(DAY_MS) / 60_000;
    let time = format!("{:02}:{:02}", minutes / 60, minutes % 60);
    let day = at.div_euclid(DAY_MS);
    if day == now.div_euclid(DAY_MS) {
        return time;
    }
    // The way back from days.
    let shifted = day.saturating_add(719_468);
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let month = (month + 2) % 12;
    let year = year + era.saturating_mul(400) + i64::from(month < 2);
    let name = usize::try_from(month).ok().and_then(|month| MONTHS.get(month)).unwrap_or(&"?");
    format!("{of_month} {name} {year} {time}")
}

/// How long something took, or how long ago it was.
pub(crate) fn span(millis: i64) -> String {
    let seconds = millis.max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn moments_are_read_and_shown() {
        let at = moment(&json!("2026-11-21T16:04:05.678Z"));
        assert_eq!(at, Some(1_795_277_045_678));
        assert_eq!(moment(&json!(5)), Some(5));
        assert_eq!(moment(&json!("2026-11-21T16:04:05Z")), Some(1_795_277_045_000));
        for wrong in [json!(null), json!("soon"), json!("2026-13-01T00:00:00Z"), json!("2026-1T")] {
            assert_eq!(moment(&wrong), None, "{wrong}");
        }
        let at = 1_795_277_045_678;
        assert_eq!(clock(at, at, 0), "16:04");
        assert_eq!(clock(at, at, 3600), "17:04");
        assert_eq!(clock(at, at + 86_400_000, 0), "21 Nov 2026 16:04");
        assert_eq!(clock(951_782_400_000, at, 0), "29 Feb 2000 00:00");
        assert!(!clock(i64::MIN, i64::MAX, 0).is_empty());
    }

    #[test]
    fn spans_are_short() {
        let check = |millis: i64, expect: &str| assert_eq!(span(millis), expect);
        check(-5, "0 s");
        check(59_999, "59 s");
        check(60_000, "1 min");
        check(7_200_000, "2 h");
        check(172_800_000, "2 days");
    }
}
