//! What can be wrong with a message: the kinds of abuse, and what is noted of a text so that its
//! repetition is found without keeping it.

use serde::{Deserialize, Serialize};

/// A kind of abuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AbuseKind {
    /// Far more messages than the rate allows.
    Flooding,
    /// The same text again and again.
    RepeatedText,
    /// Many links.
    Links,
    /// A term of the configured list.
    Term,
    /// A pattern of the configured list.
    Pattern,
    /// A person said so.
    Manual,
}

impl AbuseKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Flooding, Self::RepeatedText, Self::Links, Self::Term, Self::Pattern, Self::Manual];

    /// The wire name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Flooding => "flooding",
            Self::RepeatedText => "repeated_text",
            Self::Links => "links",
            Self::Term => "term",
            Self::Pattern => "pattern",
            Self::Manual => "manual",
        }
    }

    /// The kind of this wire name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The wire name of the refusal.
    #[must_use]
    pub const fn rejection(self) -> &'static str {
        match self {
            Self::Flooding => "abuse_detected:flooding",
            Self::RepeatedText => "abuse_detected:repeated_text",
            Self::Links => "abuse_detected:links",
            Self::Term => "abuse_detected:term",
            Self::Pattern => "abuse_detected:pattern",
            Self::Manual => "abuse_detected:manual",
        }
    }
}

/// So much of a text decides whether it is a repetition.
const SHAPE_BYTES_MAX: usize = 4096;

/// What is noted of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextShape {
    /// Alike for texts that differ in case, blanks, punctuation and invisible characters only.
    pub hash: u32,
    /// Addresses in it that could be followed.
    pub links: u32,
}

impl TextShape {
    /// Looks at a text once.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut end = text.len().min(SHAPE_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self { hash: hash_of(&text[..end]), links: links_in(text) }
    }
}

/// FNV-1a over letters and digits in lower case; over everything where there are none of them.
fn hash_of(text: &str) -> u32 {
    const BASIS: u64 = 0xCBF2_9CE4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01B3;
    let mix =
        |hash: u64, character: char| (hash ^ u64::from(u32::from(character))).wrapping_mul(PRIME);
    let mut hash = BASIS;
    for character in text.chars() {
        if character.is_ascii() {
            if character.is_ascii_alphanumeric() {
                hash = mix(hash, character.to_ascii_lowercase());
            }
        } else if character.is_alphanumeric() {
            hash = character.to_lowercase().fold(hash, mix);
        }
    }
    if hash == BASIS {
        hash = text.chars().fold(hash, mix);
    }
    #[expect(clippy::cast_possible_truncation, reason = "both halves go into it")]
    let short = (hash ^ (hash >> 32)) as u32;
    // 0 stands for "no text yet".
    short.max(1)
}

/// `scheme://…` and `www.…`; a link that has both counts once.
fn links_in(text: &str) -> u32 {
    let schemes = text.matches("://").count();
    let bare = text
        .match_indices("www.")
        .filter(|(at, _)| {
            let before = &text.as_bytes()[..*at];
            before.last().is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'/')
        })
        .count();
    u32::try_from(schemes + bare).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_that_look_alike_are_one() {
        let alike = |one: &str, other: &str, expect: bool| {
            let same = TextShape::of(one).hash == TextShape::of(other).hash;
            assert_eq!(same, expect, "{one:?} {other:?}");
        };
        alike("Buy now!", "buy   NOW", true);
        alike("Buy now", "b.u.y n-o-w", true);
        alike("buy now", "buy\u{200b} now\u{feff}", true);
        alike("ÜBER", "über", true);
        alike("buy now 1", "buy now 2", false);
        alike("buy", "sell", false);
        alike("👍👍", "👍👍", true);
        alike("👍", "👎", false);
        alike("!!!", "???", false);
    }

    #[test]
    fn links_are_counted_once() {
        let check =
            |text: &str, expect: u32| assert_eq!(TextShape::of(text).links, expect, "{text}");
        check("nothing here", 0);
        check("see https://example.org/a and http://b.example", 2);
        check("www.example.org", 1);
        check("(www.example.org, www.example.com)", 2);
        check("https://www.example.org", 1);
        check("https://example.org/www.html awww.", 1);
        check("1://2", 1);
    }

    #[test]
    fn names_are_told_apart_and_found_again() {
        for kind in AbuseKind::ALL {
            assert_eq!(AbuseKind::named(kind.as_str()), Some(kind));
            assert_eq!(kind.rejection(), format!("abuse_detected:{}", kind.as_str()));
        }
        assert_eq!(AbuseKind::named("Flooding"), None);
    }

    proptest! {
        #[test]
        fn any_text_has_a_shape(text in "\\PC{0,50}", times in 1_usize..200) {
            let long = text.repeat(times);
            prop_assert!(TextShape::of(&long).hash != 0);
        }
    }
}
