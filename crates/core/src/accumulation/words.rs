//! The words that lengthen or shorten a window, by language.
//!
//! Nobody tells the gateway which language a message is in, so the lists of all languages are
//! merged into one.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Serialize;

/// The words of one language, or of all of them together; lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Words {
    /// A message that is nothing but one of these says more will come.
    pub greetings: Vec<String>,
    /// A message that ends with one of these is complete.
    pub closings: Vec<String>,
    /// A message that ends with one of these, or with one of these and `#`, lacks its number.
    pub references: Vec<String>,
}

/// What is known of a language without being told: its code, greetings, closings, references.
type BuiltIn =
    (&'static str, &'static [&'static str], &'static [&'static str], &'static [&'static str]);

const BUILT_IN: [BuiltIn; 5] = [
    (
        "en",
        &["hi", "hello", "hey", "hiya", "yo", "good morning", "good afternoon", "good evening"],
        &["please", "thanks", "thank you"],
        &["order", "invoice", "ticket", "number", "nr", "no", "id"],
    ),
    (
        "de",
        &["hallo", "guten tag", "guten morgen", "moin", "servus"],
        &["bitte", "danke"],
        &["bestellung", "rechnung", "nummer"],
    ),
    ("es", &["hola"], &["gracias"], &[]),
    ("fr", &["bonjour", "salut"], &["merci"], &[]),
    ("it", &["ciao"], &[], &[]),
];

static ALL_BUILT_IN: LazyLock<Words> = LazyLock::new(|| merged(&built_in_languages()));

impl Words {
    /// What counts where nothing is configured.
    #[must_use]
    pub fn built_in() -> &'static Self {
        &ALL_BUILT_IN
    }

    /// Adds another list's words, each once.
    fn add(&mut self, other: &Self) {
        let lists = [
            (&mut self.greetings, &other.greetings),
            (&mut self.closings, &other.closings),
            (&mut self.references, &other.references),
        ];
        for (mine, theirs) in lists {
            for word in theirs {
                let word = word.trim().to_lowercase();
                if !word.is_empty() && !mine.contains(&word) {
                    mine.push(word);
                }
            }
        }
    }
}

/// The languages that are known without being told, by their codes.
#[must_use]
pub fn built_in_languages() -> BTreeMap<String, Words> {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let languages = BUILT_IN.iter().map(|(code, greetings, closings, references)| {
        let words = Words {
            greetings: owned(greetings),
            closings: owned(closings),
            references: owned(references),
        };
        ((*code).to_owned(), words)
    });
    languages.collect()
}

/// The lists of all languages as one.
#[must_use]
pub fn merged(languages: &BTreeMap<String, Words>) -> Words {
    let mut all = Words::default();
    languages.values().for_each(|words| all.add(words));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_merged_and_words_stand_once_in_lower_case() {
        let one = Words { greetings: vec!["Oi".into(), "hi".into()], ..Words::default() };
        let two = Words { greetings: vec!["HI ".into(), " ".into()], ..Words::default() };
        let all = merged(&BTreeMap::from([("a".to_owned(), one), ("b".to_owned(), two)]));
        assert_eq!(all.greetings, ["oi", "hi"]);
        assert!(Words::built_in().greetings.contains(&"moin".to_owned()));
        assert!(Words::built_in().references.contains(&"nr".to_owned()));
    }
}
