//! How things are shown: lines, tables for people, tab-separated columns for pipes.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde_json::Value;

/// Prints a line of its own. Whatever it is and wherever it is from, it cannot steer the terminal.
pub(super) fn line(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(without_controls(text.trim_end_matches('\n')).as_bytes())?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// Prints as it is.
pub(super) fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Says something to the person, apart from the result. There is nobody to tell if that fails.
pub(super) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{}", without_controls(text));
}

/// Prints rows under a header, as a drawn table on a terminal.
pub(super) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> anyhow::Result<()> {
    if !io::stdout().is_terminal() {
        let rows = rows.iter().map(|row| row.join("\t"));
        let all: Vec<String> = std::iter::once(header.join("\t")).chain(rows).collect();
        return line(&all.join("\n"));
    }
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(header);
    table.add_rows(rows.iter().map(|row| row.iter()));
    line(&table.to_string())
}

/// A field of the server's answer on one line; empty where it is missing or null.
pub(super) fn cell(value: &Value, field: &str) -> String {
    match &value[field] {
        Value::Null => String::new(),
        Value::String(text) => one_line(text),
        Value::Array(items) => {
            let texts =
                items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), one_line));
            texts.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// The same, cut to a length that leaves room for the other columns.
pub(super) fn short_cell(value: &Value, field: &str) -> String {
    const CHARS_MAX: usize = 60;
    let text = cell(value, field);
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A point in time, in this machine's time zone; the server may say it as text or milliseconds.
pub(super) fn time_cell(value: &Value, field: &str) -> String {
    let timestamp = match &value[field] {
        Value::Number(number) => {
            number.as_i64().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        }
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    match timestamp {
        Some(timestamp) => {
            let zoned = timestamp.to_zoned(jiff::tz::TimeZone::system());
            zoned.strftime("%Y-%m-%d %H:%M:%S").to_string()
        }
        None => cell(value, field),
    }
}

/// The last look at what goes to a terminal. JSON may hold the controls beyond ASCII as they are, and
/// means the same where they are spelt out, so they are; the others it holds as escapes only.
fn without_controls(text: &str) -> Cow<'_, str> {
    let keeps = |one: char| !one.is_control() || matches!(one, '\n' | '\t');
    if text.chars().all(keeps) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for one in text.chars() {
        if keeps(one) {
            out.push(one);
        } else if one >= '\u{7f}' {
            let _ = write!(out, "\\u{:04x}", u32::from(one));
        }
    }
    Cow::Owned(out)
}

/// Text from elsewhere without the control characters that could steer this terminal; line breaks
/// and tabs stay.
pub(super) fn harmless(text: &str) -> String {
    let keeps = |character: &char| !character.is_control() || matches!(character, '\n' | '\t');
    text.chars().filter(keeps).collect()
}

fn one_line(text: &str) -> String {
    harmless(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells_are_one_harmless_line() {
        let check = |value: Value, expect: &str| {
            assert_eq!(cell(&json!({ "field": value }), "field"), expect);
        };
        check(json!(null), "");
        check(json!(7), "7");
        check(json!("two\nlines\tand  gaps"), "two lines and gaps");
        check(json!("red \u{1b}[31m and \u{7} bell"), "red [31m and bell");
        check(json!(["a", "b\n"]), "a, b");
        assert_eq!(cell(&json!({}), "absent"), "");
    }

    #[test]
    fn nothing_steers_the_terminal() {
        let check = |text: &str, expect: &str| assert_eq!(without_controls(text), expect);
        check("two\nlines\tas they are é", "two\nlines\tas they are é");
        check("\u{1b}[31mred\u{7}\r", "[31mred");
        check("{\"a\":\"\u{9b}2J\u{7f}\"}", "{\"a\":\"\\u009b2J\\u007f\"}");
    }

    #[test]
    fn long_cells_are_cut_between_characters() {
        let text = "é".repeat(61);
        let expect = format!("{}…", "é".repeat(60));
        assert_eq!(short_cell(&json!({ "field": text }), "field"), expect);
    }

    #[test]
    fn times_are_read_both_ways() {
        let both = json!({ "ms": 1_700_000_000_000_i64, "text": "2023-11-14T22:13:20Z" });
        assert_eq!(time_cell(&both, "ms"), time_cell(&both, "text"));
        assert_eq!(time_cell(&json!({ "at": "soon" }), "at"), "soon");
    }
}
