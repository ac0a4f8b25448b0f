//! The words of windows.

use super::*;
use turnkeep_core::accumulation::Words;

fn words(toml: &str) -> Words {
    let policy = load_text(toml).unwrap().policy("default", "default", "web").unwrap();
    policy.words.map_or_else(|| Words::built_in().clone(), |words| (*words).clone())
}

#[test]
fn what_is_typed_for_a_language_takes_its_place_and_others_stay() {
    assert_eq!(words(""), *Words::built_in());
    let known = words(
        "[accumulation]\nclosings = \"cheers\"\n\
         [accumulation.de]\ngreetings = [\"Tach\", \"moin\"]\n\
         [accumulation.pt]\ngreetings = [\"oi\"]\nreferences = [\"pedido\"]",
    );
    let has = |list: &[String], word: &str| list.iter().any(|one| one == word);
    assert!(has(&known.greetings, "tach") && has(&known.greetings, "moin"));
    assert!(!has(&known.greetings, "servus"));
    assert!(has(&known.greetings, "oi") && has(&known.greetings, "hello"));
    assert!(has(&known.closings, "cheers") && has(&known.closings, "bitte"));
    assert!(has(&known.references, "pedido") && has(&known.references, "rechnung"));
}

#[test]
fn mistakes_are_told() {
    check(
        "[accumulation]\ngreeting = \"hi\"",
        "turnkeep.toml:2: unknown key \"greeting\" in [accumulation]; did you mean \"greetings\"?",
    );
    check(
        "[accumulation.de]\nhello = \"hi\"",
        "turnkeep.toml:2: unknown key \"hello\" in [accumulation.de]; known are greetings, closings, references",
    );
    check(
        "[accumulation.de]\ngreetings = 7",
        "turnkeep.toml:2: \"greetings\" in [accumulation.de] must be a text or a list of texts, not 7",
    );
    let long = "x".repeat(101);
    check(
        &format!("[accumulation]\nclosings = [\"{long}\"]"),
        "turnkeep.toml:2: \"closings\" in [accumulation] holds up to 1000 words, of up to 100 characters each",
    );
}
