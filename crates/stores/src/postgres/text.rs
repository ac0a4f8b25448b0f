//! Texts in columns: PostgreSQL's can't hold a zero character, ours may.
//!
//! `\0` is written as `\x01 0` and `\x01` as `\x01 1`: nothing else changes, no two texts become
//! one, and their order by bytes stays. Blobs need none of it, nor do session keys, which hold no
//! such characters.

use std::borrow::Cow;

use super::trouble::{Result, Trouble};

/// As it is stored.
pub(super) fn put(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte <= 1) {
        return Cow::Borrowed(text);
    }
    let mut stored = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\0' => stored.push_str("\u{1}0"),
            '\u{1}' => stored.push_str("\u{1}1"),
            other => stored.push(other),
        }
    }
    Cow::Owned(stored)
}

/// The same for one that may be absent.
pub(super) fn put_some(text: Option<&str>) -> Option<Cow<'_, str>> {
    text.map(put)
}

/// As it was.
pub(super) fn get(stored: String) -> Result<String> {
    if !stored.contains('\u{1}') {
        return Ok(stored);
    }
    let mut text = String::with_capacity(stored.len());
    let mut characters = stored.chars();
    while let Some(character) = characters.next() {
        match (character, character == '\u{1}') {
            (other, false) => text.push(other),
            (_, true) => match characters.next() {
                Some('0') => text.push('\0'),
                Some('1') => text.push('\u{1}'),
                _ => return Err(Trouble::Corrupt("a text ends within a written zero".into())),
            },
        }
    }
    Ok(text)
}

/// The same for one that may be absent.
pub(super) fn get_some(stored: Option<String>) -> Result<Option<String>> {
    stored.map(get).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_and_keeps_its_order() {
        let texts =
            ["", "a", "a\0", "a\0b", "a\0\0", "a\u{1}", "a\u{1}0", "a\u{1}1", "a\u{2}", "b"];
        let mut stored = texts.map(|text| put(text).into_owned()).to_vec();
        for (text, stored) in texts.iter().zip(&stored) {
            assert!(!stored.contains('\0'));
            assert_eq!(get(stored.clone()).unwrap(), *text);
        }
        let mut sorted = texts.to_vec();
        sorted.sort_unstable();
        stored.sort_unstable();
        let back: Vec<String> = stored.into_iter().map(|text| get(text).unwrap()).collect();
        assert_eq!(back, sorted);
    }

    #[test]
    fn most_texts_are_not_copied() {
        assert!(matches!(put("an Ärger, 😀\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn what_nobody_wrote_is_refused() {
        assert!(get("a\u{1}".into()).is_err());
        assert!(get("a\u{1}2".into()).is_err());
    }
}
