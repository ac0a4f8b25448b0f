//! What is wrong with an expression that makes no sense, by its field.

/// A field: what it is called, its least and its greatest number, and the names that stand for some.
type Field = (&'static str, u32, u32, &'static [&'static str]);

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Field; 6] = [
    ("second", 0, 59, &[]),
    ("minute", 0, 59, &[]),
    ("hour", 0, 23, &[]),
    ("day", 1, 31, &[]),
    ("month", 1, 12, &MONTHS),
    ("weekday", 0, 7, &DAYS),
];

/// The first field that is wrong, in words; none where nothing is found wrong here.
pub(super) fn mistake(fields: &[&str]) -> Option<String> {
    if let [nickname] = fields {
        return Some(format!(
            "{nickname:?} is none of @hourly, @daily, @weekly, @monthly and @yearly"
        ));
    }
    let from = FIELDS.len().checked_sub(fields.len())?;
    fields.iter().zip(FIELDS.iter().skip(from)).find_map(|(text, field)| of_field(text, field))
}

fn of_field(text: &str, field: &Field) -> Option<String> {
    let (name, least, most, _) = field;
    for item in text.split(',') {
        let (range, step) = item.split_once('/').map_or((item, None), |(of, by)| (of, Some(by)));
        if let Some(step) = step
            && step.parse::<u32>().map_or(true, |step| step == 0)
        {
            return Some(format!("the {name}'s step {step:?} is no number from 1 on"));
        }
        // What stands behind a # is which of a month's weekdays is meant.
        let range = range.split_once('#').map_or(range, |(day, _)| day);
        if matches!(range, "*" | "?") {
            continue;
        }
        let ends: Vec<&str> = range.split('-').collect();
        for end in &ends {
            match number(end, field) {
                Ok(end) if (*least..=*most).contains(&end) => {}
                Ok(_) => {
                    return Some(format!("the {name} {end:?} is not within {least} to {most}"));
                }
                Err(()) => return Some(format!("the {name} {end:?} is {}", no_number(field))),
            }
        }
        if let [first, last] = ends[..]
            && let (Ok(first), Ok(last)) = (number(first, field), number(last, field))
            && first > last
        {
            return Some(format!("the {name}s {range:?} go backwards"));
        }
    }
    None
}

/// A number, or what a name stands for. Letters that say "the last", or "on a working day", belong to
/// the number before them.
fn number(text: &str, (_, least, most, names): &Field) -> Result<u32, ()> {
    let text = text.to_ascii_lowercase();
    if let Some(at) = names.iter().position(|name| *name == text) {
        return u32::try_from(at).map(|at| at + least).map_err(drop);
    }
    let bare = text.trim_end_matches(['l', 'w']);
    if bare.is_empty() && !text.is_empty() {
        return Ok(*most);
    }
    bare.parse().map_err(drop)
}

fn no_number((_, least, most, names): &Field) -> String {
    match names {
        [first, .., last] => format!("neither a number nor a name, like {first} or {last}"),
        _ => format!("no number within {least} to {most}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str, expect: &str) {
        let fields: Vec<&str> = expression.split_whitespace().collect();
        assert_eq!(mistake(&fields).as_deref(), Some(expect), "{expression}");
    }

    #[test]
    fn the_field_is_named() {
        check("61 * * * *", "the minute \"61\" is not within 0 to 59");
        check("60 * * * * *", "the second \"60\" is not within 0 to 59");
        check("0 25 * * *", "the hour \"25\" is not within 0 to 23");
        check("0 7,24 * * *", "the hour \"24\" is not within 0 to 23");
        check("0 7 0 * *", "the day \"0\" is not within 1 to 31");
        check("0 7 * 13 *", "the month \"13\" is not within 1 to 12");
        check("0 7 * foo *", "the month \"foo\" is neither a number nor a name, like jan or dec");
        check("0 7 * * 8", "the weekday \"8\" is not within 0 to 7");
        check(
            "0 7 * * mon-someday",
            "the weekday \"someday\" is neither a number nor a name, like sun or sat",
        );
        check("0 seven * * *", "the hour \"seven\" is no number within 0 to 23");
        check("*/0 * * * *", "the minute's step \"0\" is no number from 1 on");
        check("*/x * * * *", "the minute's step \"x\" is no number from 1 on");
        check("0 9-7 * * *", "the hours \"9-7\" go backwards");
        check("@reboot", "\"@reboot\" is none of @hourly, @daily, @weekly, @monthly and @yearly");
    }

    #[test]
    fn nothing_is_said_of_what_is_right() {
        for right in ["0 7 * * mon-fri", "*/20 0 7 L jan,dec fri#2", "0 7 15W * 5L", "? ? ? ? ?"] {
            let fields: Vec<&str> = right.split_whitespace().collect();
            assert_eq!(mistake(&fields), None, "{right}");
        }
    }
}
