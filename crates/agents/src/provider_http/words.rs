//! Errors as a person may see them: one line, bounded, without what could steer a terminal.

use std::error::Error;

/// Longest part of a server's error that is passed on.
const CHARS_MAX: usize = 300;

/// One line of bounded length, without characters that could steer whoever shows it.
pub(crate) fn short(text: &str) -> String {
    let parts = |one: char| one.is_whitespace() || one.is_control();
    let mut words = text.split(parts).filter(|word| !word.is_empty());
    let mut line = words.next().unwrap_or_default().to_owned();
    for word in words {
        line.push(' ');
        line.push_str(word);
        if line.len() > 4 * CHARS_MAX {
            break;
        }
    }
    match line.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// An error and what lies beneath it, without the address.
pub(super) fn beneath(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        cause = error.source();
    }
    if !text.is_empty() {
        return text;
    }
    if error.is_timeout() { "timed out".to_owned() } else { "the connection broke".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_becomes_one_short_line() {
        assert_eq!(short("<html>\n  Bad   gateway"), "<html> Bad gateway");
        assert_eq!(short("\u{1b}[31mred\u{9b}2J"), "[31mred 2J");
        assert_eq!(short(""), "");
        assert_eq!(short(&"é".repeat(5000)), format!("{}…", "é".repeat(CHARS_MAX)));
    }
}
