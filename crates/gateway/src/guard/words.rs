//! Terms and patterns that nobody may write, all looked for in one pass whose time grows with the
//! text's length only, whatever the patterns are.

use std::borrow::Cow;

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use turnkeep_core::guard::AbuseKind;

/// The longest list of terms.
pub const TERMS_MAX: usize = 1000;
/// The longest list of patterns.
pub const PATTERNS_MAX: usize = 100;
/// The longest term or pattern, in bytes.
pub const WORD_BYTES_MAX: usize = 1000;
/// What one of them may become, in bytes.
const COMPILED_BYTES_MAX: usize = 1 << 20;
/// What all of them may become together, in bytes.
const SET_BYTES_MAX: usize = 32 << 20;

/// What is looked for; nothing by default.
#[derive(Clone, Debug, Default)]
pub struct Words {
    /// None where nothing is looked for.
    set: Option<RegexSet>,
    /// Terms come first, patterns follow.
    terms: usize,
}

/// Why a list is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// One of the terms.
    #[error("the term {0:?} {1}")]
    Term(String, String),
    /// One of the patterns.
    #[error("the pattern {0:?} {1}")]
    Pattern(String, String),
    /// The list of terms.
    #[error("the list {0}")]
    Terms(String),
    /// The list of patterns.
    #[error("the list {0}")]
    Patterns(String),
    /// All of them together.
    #[error("all terms and patterns together are too large: {0}")]
    Set(String),
}

impl Words {
    /// Takes terms, which are found as whole words in any case, and patterns as they are written.
    pub fn new(terms: &[String], patterns: &[String]) -> Result<Self, WordsError> {
        if terms.is_empty() && patterns.is_empty() {
            return Ok(Self::default());
        }
        let too_long = |list: &[String], max: usize| {
            let why = format!("has {} entries; the limit is {max}", list.len());
            (list.len() > max).then_some(why)
        };
        if let Some(why) = too_long(terms, TERMS_MAX) {
            return Err(WordsError::Terms(why));
        }
        if let Some(why) = too_long(patterns, PATTERNS_MAX) {
            return Err(WordsError::Patterns(why));
        }
        let mut all = Vec::with_capacity(terms.len() + patterns.len());
        for term in terms {
            let wrong = |why: String| WordsError::Term(term.clone(), why);
            check(term).map_err(wrong)?;
            let pattern = pattern_of(term);
            compile(&pattern).map_err(wrong)?;
            all.push(pattern);
        }
        for pattern in patterns {
            let wrong = |why: String| WordsError::Pattern(pattern.clone(), why);
            check(pattern).map_err(wrong)?;
            if compile(pattern).map_err(wrong)?.is_match("") {
                return Err(wrong("is found in every text, even in an empty one".to_owned()));
            }
            all.push(pattern.clone());
        }
        let mut builder = RegexSetBuilder::new(all);
        let built = builder.size_limit(SET_BYTES_MAX).dfa_size_limit(SET_BYTES_MAX).build();
        let set = built.map_err(|error| WordsError::Set(error.to_string()))?;
        Ok(Self { set: Some(set), terms: terms.len() })
    }

    /// Nothing is looked for.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.set.is_none()
    }

    /// What of it is in the text: a term, a pattern or both.
    #[must_use]
    pub fn found(&self, text: &str) -> Vec<AbuseKind> {
        let Some(set) = &self.set else { return Vec::new() };
        let matches = set.matches(&visible(text));
        let mut kinds: Vec<AbuseKind> = matches
            .iter()
            .map(|index| if index < self.terms { AbuseKind::Term } else { AbuseKind::Pattern })
            .collect();
        kinds.dedup();
        kinds
    }
}

fn check(word: &str) -> Result<(), String> {
    if word.trim().is_empty() {
        return Err("is empty".to_owned());
    }
    if word.len() > WORD_BYTES_MAX {
        return Err(format!("has {} bytes; the limit is {WORD_BYTES_MAX}", word.len()));
    }
    Ok(())
}

fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).size_limit(COMPILED_BYTES_MAX).build().map_err(|error| {
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
        format!("can't be used: {last}")
    })
}

/// Whole words where the term begins or ends with one; any blanks between its words.
fn pattern_of(term: &str) -> String {
    let words: Vec<String> = term.split_whitespace().map(regex::escape).collect();
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let edge = |is: Option<char>| if is.is_some_and(is_word) { r"\b" } else { "" };
    let term = term.trim();
    let (before, after) = (edge(term.chars().next()), edge(term.chars().next_back()));
    format!("(?i){before}{}{after}", words.join(r"\s+"))
}

/// The text without characters that take no room: they would hide a word from us and not from a
/// reader.
fn visible(text: &str) -> Cow<'_, str> {
    let hides = |character: char| {
        matches!(character,
            '\u{00AD}' | '\u{034F}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}')
    };
    if text.is_ascii() || !text.contains(hides) {
        return Cow::Borrowed(text);
    }
    text.chars().filter(|character| !hides(*character)).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(terms: &[&str], patterns: &[&str]) -> Result<Words, WordsError> {
        let owned = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        Words::new(&owned(terms), &owned(patterns))
    }

    #[test]
    fn terms_are_whole_words_in_any_case() {
        let check = |term: &str, text: &str, expect: bool| {
            let found = words(&[term], &[]).unwrap().found(text);
            assert_eq!(
                found,
                if expect { vec![AbuseKind::Term] } else { vec![] },
                "{term} in {text}"
            );
        };
        check("spam", "this is SPAM.", true);
        check("spam", "spammer", false);
        check("spam", "s\u{200b}p\u{ad}am", true);
        check("cheap pills", "CHEAP \n  pills!", true);
        check("cheap pills", "cheappills", false);
        check("große", "GROẞE", true);
        check("große", "GROSSE", false);
        check("straße", "STRAßE", true);
        check("$$$", "a$$$b", true);
        check("a.b", "axb", false);
        check("c++", "c++ or c", true);
    }

    #[test]
    fn patterns_are_as_they_are_written() {
        let words = words(&["spam"], &[r"\b\d{16}\b", "(?i)casino"]).unwrap();
        assert_eq!(words.found("4111111111111111"), [AbuseKind::Pattern]);
        assert_eq!(
            words.found("Casino, 4111111111111111, spam"),
            [AbuseKind::Term, AbuseKind::Pattern]
        );
        assert_eq!(words.found("nothing"), []);
        assert!(Words::default().found("spam").is_empty());
        assert!(super::tests::words(&[], &[]).unwrap().is_empty());
    }

    #[test]
    fn what_can_not_be_used_is_named() {
        let check = |terms: &[&str], patterns: &[&str], expect: &str| {
            assert_eq!(words(terms, patterns).unwrap_err().to_string(), expect);
        };
        check(&["ok", " "], &[], "the term \" \" is empty");
        check(&[], &["a("], "the pattern \"a(\" can't be used: unclosed group");
        check(&[], &["a*"], "the pattern \"a*\" is found in every text, even in an empty one");
        check(
            &[],
            &[&"a".repeat(1001)],
            &format!("the pattern {:?} has 1001 bytes; the limit is 1000", "a".repeat(1001)),
        );
        let many = vec!["term"; 1001];
        check(&many, &[], "the list has 1001 entries; the limit is 1000");
        let huge = words(&[], &["(a{1000}){1000}"]).unwrap_err().to_string();
        assert!(huge.starts_with("the pattern \"(a{1000}){1000}\" can't be used"), "{huge}");
    }

    #[test]
    fn a_hostile_pattern_takes_no_longer() {
        let words = words(&[], &["(a+)+$", "(x|xx)+y"]).unwrap();
        assert_eq!(words.found(&format!("{}!", "a".repeat(60_000))), []);
        assert_eq!(words.found(&"x".repeat(60_000)), []);
    }
}
