//! Text from elsewhere, made so that it can't steer a terminal, and measured in its columns.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// The longest thing that is taken for one character, in bytes. Longer ones are marks piled upon
/// marks; the rest of them is left out.
const GRAPHEME_BYTES_MAX: usize = 64;

/// How many columns a tab goes on to a multiple of.
const TAB: usize = 4;

/// Text that may stand on a screen: what steers a terminal is shown as a sign, what can't be seen
/// or would turn the order of the text around is left out. Line breaks stay.
pub(crate) fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut column = 0;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\r' if characters.peek() == Some(&'\n') => {}
            '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                out.push('\n');
                column = 0;
                continue;
            }
            '\t' => {
                let spaces = TAB - column % TAB;
                out.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
                continue;
            }
            _ => out.extend(seen(character)),
        }
        column += 1;
    }
    out
}

/// The same on one line.
pub(crate) fn one_line(text: &str) -> String {
    harmless(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What stands for a character on the screen.
fn seen(character: char) -> Option<char> {
    match character {
        // The signs that Unicode has for them.
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(character)),
        '\u{7f}' => Some('\u{2421}'),
        '\u{80}'..='\u{9f}' => Some('\u{fffd}'),
        // Turns the order of what follows around.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            None
        }
        // Has no width, and is no part of an emoji.
        '\u{ad}' | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{206a}'..='\u{206f}' => {
            None
        }
        '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}' => None,
        // As wide as a letter here, and wider in many terminals.
        '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' => Some(' '),
        _ => Some(character),
    }
}

/// The characters of a text as people count them, each within bounds.
pub(crate) fn graphemes(text: &str) -> impl Iterator<Item = &str> {
    text.graphemes(true).map(bounded)
}

/// The beginning of a character that marks were piled upon.
fn bounded(grapheme: &str) -> &str {
    if grapheme.len() <= GRAPHEME_BYTES_MAX {
        return grapheme;
    }
    let mut end = GRAPHEME_BYTES_MAX;
    while !grapheme.is_char_boundary(end) {
        end -= 1;
    }
    &grapheme[..end]
}

/// How many columns a text takes.
pub(crate) fn width(text: &str) -> usize {
    // Most text is plain, and then this is its length.
    if text.bytes().all(|byte| matches!(byte, 0x20..0x7f)) {
        return text.len();
    }
    graphemes(text).map(grapheme_width).sum()
}

/// How many columns one character takes.
pub(crate) fn grapheme_width(grapheme: &str) -> usize {
    grapheme.width().min(2)
}

/// A text in at most so many columns, with a sign where it was cut.
pub(crate) fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    if columns == 0 {
        return String::new();
    }
    let mut out = String::new();
    let mut used = 0;
    for grapheme in graphemes(text) {
        let wide = grapheme_width(grapheme);
        if used + wide > columns - 1 {
            break;
        }
        out.push_str(grapheme);
        used += wide;
    }
    out.push('…');
    out
}

/// The same, filled up with spaces.
pub(crate) fn padded(text: &str, columns: usize) -> String {
    let mut out = fit(text, columns);
    let used = width(&out);
    out.extend(std::iter::repeat_n(' ', columns.saturating_sub(used)));
    out
}

/// A text as one segment of a path.
#[must_use]
pub fn segment(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        let check = |text: &str, expect: &str| assert_eq!(harmless(text), expect, "{text:?}");
        check("plain, é and 日本", "plain, é and 日本");
        check("red \u{1b}[31m\u{7}", "red ␛[31m␇");
        check("\u{9b}2J and \u{7f}", "\u{fffd}2J and ␡");
        check("one\r\ntwo\rthree\u{2028}four", "one\ntwo\nthree\nfour");
        check("a\tb\n\tc", "a   b\n    c");
        check("user\u{202e}txt.exe\u{2066}", "usertxt.exe");
        check("zero\u{200b}width", "zerowidth");
        check("👩\u{200d}🚀 stays", "👩\u{200d}🚀 stays");
        assert_eq!(one_line(" a\n b\u{1b} "), "a b␛");
    }

    #[test]
    fn columns_are_counted_as_they_are_seen() {
        let check = |text: &str, expect: usize| assert_eq!(width(text), expect, "{text}");
        check("abc", 3);
        check("日本", 4);
        check("e\u{301}", 1);
        check("👩\u{200d}🚀", 2);
        check("🇩🇪", 2);
        let piled = format!("a{}", "\u{301}".repeat(10_000));
        assert!(graphemes(&piled).all(|grapheme| grapheme.len() <= GRAPHEME_BYTES_MAX));
    }

    #[test]
    fn what_is_too_long_is_cut_by_columns() {
        let check = |text: &str, columns: usize, expect: &str| {
            assert_eq!(fit(text, columns), expect, "{text} in {columns}");
        };
        check("abc", 3, "abc");
        check("abcd", 3, "ab…");
        check("日本語", 5, "日本…");
        check("日本語", 4, "日…");
        check("abc", 0, "");
        assert_eq!(padded("日本語", 4), "日… ");
    }
}
