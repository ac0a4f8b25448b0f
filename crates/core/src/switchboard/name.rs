//! How people may call sessions, and how seats are called.

use std::sync::Arc;

use super::WAITING_CHARS_MAX;

/// How long a name is at most, in characters.
pub const NAME_CHARS_MAX: usize = 64;

/// Why a text is no name for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing is left of it.
    #[error("a name must not be empty")]
    Empty,
    /// It is longer than [`NAME_CHARS_MAX`].
    #[error("a name has at most {NAME_CHARS_MAX} characters")]
    TooLong,
    /// It holds what is not seen, or turns around what is.
    #[error("a name must not hold control characters, or others that are not seen")]
    Unseen,
    /// It would be taken for a number.
    #[error("a name must not be all digits, for it would be taken for a number")]
    Digits,
}

/// Why a text is no name for a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a seat is named by 1 to {NAME_CHARS_MAX} of A-Z, a-z, 0-9, '.', '_' and '-'")]
pub struct SeatError;

/// The name without the blanks around it, if it is one.
pub fn check_name(text: &str) -> Result<Arc<str>, NameError> {
    let name = text.trim();
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.chars().nth(NAME_CHARS_MAX).is_some() {
        return Err(NameError::TooLong);
    }
    if name.chars().any(is_unseen) {
        return Err(NameError::Unseen);
    }
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NameError::Digits);
    }
    Ok(name.into())
}

/// Controls, marks that change the direction of writing, and characters without a width: two names
/// that look alike have to be alike.
fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// The name of a seat, if it is one.
pub fn check_seat(text: &str) -> Result<Arc<str>, SeatError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if text.is_empty() || text.len() > NAME_CHARS_MAX || !text.bytes().all(fits) {
        return Err(SeatError);
    }
    Ok(text.into())
}

/// A text as it is shown where a session waits: in one line, without anything that a terminal would
/// obey, and no longer than [`WAITING_CHARS_MAX`].
#[must_use]
pub fn in_one_line(text: &str) -> Arc<str> {
    one_line(text, WAITING_CHARS_MAX)
}

fn one_line(text: &str, chars_max: usize) -> Arc<str> {
    let mut line = String::new();
    let mut count = 0;
    for word in text.split(|c: char| c.is_whitespace() || is_unseen(c)).filter(|w| !w.is_empty()) {
        let blank = usize::from(!line.is_empty());
        let length = word.chars().count();
        if count + blank + length > chars_max {
            let room = chars_max.saturating_sub(count + blank + 1);
            if room > 0 && blank == 1 {
                line.push(' ');
            }
            line.extend(word.chars().take(room));
            line.push('…');
            break;
        }
        if blank == 1 {
            line.push(' ');
        }
        line.push_str(word);
        count += blank + length;
    }
    line.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        let check = |text: &str, expect: Result<&str, NameError>| {
            assert_eq!(check_name(text), expect.map(Arc::from), "{text:?}");
        };
        check("api", Ok("api"));
        check("  api work ", Ok("api work"));
        check("日本語 🚀", Ok("日本語 🚀"));
        check("3rd", Ok("3rd"));
        check("", Err(NameError::Empty));
        check(" \t", Err(NameError::Empty));
        check(&"é".repeat(64), Ok(&"é".repeat(64)));
        check(&"é".repeat(65), Err(NameError::TooLong));
        check("a\u{1b}[31m", Err(NameError::Unseen));
        check("a\nb", Err(NameError::Unseen));
        check("a\u{202e}b", Err(NameError::Unseen));
        check("a\u{200b}b", Err(NameError::Unseen));
        check("\u{2066}a", Err(NameError::Unseen));
        check("a\u{feff}b", Err(NameError::Unseen));
        check("42", Err(NameError::Digits));
    }

    #[test]
    fn seats_are_checked() {
        let check = |text: &str, expect: bool| {
            assert_eq!(check_seat(text).is_ok(), expect, "{text:?}");
        };
        check("tty1", true);
        check("ann@home", false);
        check("A.b_c-9", true);
        check("", false);
        check("a b", false);
        check("é", false);
        check(&"a".repeat(64), true);
        check(&"a".repeat(65), false);
    }

    #[test]
    fn a_line_is_one_line_of_its_length() {
        let check = |text: &str, expect: &str| assert_eq!(&*one_line(text, 8), expect, "{text:?}");
        check("", "");
        check("a\n\n b\tc", "a b c");
        check("\u{1b}[2Jhi", "[2Jhi");
        check("12345678", "12345678");
        check("123456789", "1234567…");
        check("1234 6789", "1234 67…");
        check("1234567 9", "1234567…");
        check("123456 89", "123456…");
        assert_eq!(one_line(&"é ".repeat(300), 200).chars().count(), 200);
    }
}
