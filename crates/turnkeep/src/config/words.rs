//! The words that lengthen or shorten a window: built in by language, then what is typed.

use std::sync::Arc;

use turnkeep_core::accumulation::{Words, built_in_languages, merged};

use super::problem::Problems;
use super::raw::{Raw, WordKeys};
use super::value::{Set, Texts};

/// Words of one list, at most.
const WORDS_MAX: usize = 1000;
/// Longest of them, in characters.
const WORD_CHARS_MAX: usize = 100;
/// Languages, at most.
const LANGUAGES_MAX: usize = 100;

/// All words together; none where nothing is typed, so that the built-in ones hold.
pub(super) fn words(raw: &Raw, problems: &mut Problems) -> Option<Arc<Words>> {
    let typed = |keys: &WordKeys| {
        keys.greetings.is_some() || keys.closings.is_some() || keys.references.is_some()
    };
    if !typed(&raw.words) && raw.languages.is_empty() {
        return None;
    }
    let mut languages = built_in_languages();
    for (name, language) in &raw.languages {
        let section = format!("accumulation.{name}");
        replace(
            languages.entry(name.to_lowercase()).or_default(),
            &language.keys,
            &section,
            problems,
        );
        if languages.len() > LANGUAGES_MAX {
            let text =
                format!("[{section}] is one language too many; up to {LANGUAGES_MAX} are kept");
            problems.add(&language.at, text);
            break;
        }
    }
    // No language is called so: what is typed without one counts beside all of them.
    replace(languages.entry(String::new()).or_default(), &raw.words, "accumulation", problems);
    Some(Arc::new(merged(&languages)))
}

/// What is typed takes the place of what was known.
fn replace(words: &mut Words, keys: &WordKeys, section: &str, problems: &mut Problems) {
    let lists = [
        ("greetings", &keys.greetings, &mut words.greetings),
        ("closings", &keys.closings, &mut words.closings),
        ("references", &keys.references, &mut words.references),
    ];
    for (key, typed, list) in lists {
        let Some(Set { value: Texts(typed), origin }) = typed else { continue };
        let long = |word: &String| word.chars().count() > WORD_CHARS_MAX;
        if typed.len() > WORDS_MAX || typed.iter().any(long) {
            let text = format!(
                "\"{key}\" in [{section}] holds up to {WORDS_MAX} words, of up to {WORD_CHARS_MAX} \
                 characters each"
            );
            problems.add(origin, text);
        }
        list.clone_from(typed);
    }
}
