//! Asks a person before a call: the words of the question, and which answers mean yes.

use super::telling;

/// The longest arguments that a person can be asked about: nobody allows what nobody was shown.
const SHOWN_BYTES_MAX: usize = 3000;

/// Yes in the languages that people are likely to answer in. Nothing else allows a call: who says
/// "yes, but …" has something to say that the model should hear first.
const YES: [&str; 36] = [
    "yes", "y", "yep", "yeah", "ok", "okay", "sure", "allow", "approve", "approved", "go ahead",
    "ja", "jo", "jawohl", "erlaubt", "oui", "ouais", "d'accord", "sí", "si", "vale", "claro",
    "sim", "sì", "va bene", "tak", "ano", "igen", "da", "да", "evet", "はい", "好", "是", "네",
    "👍",
];

/// What is asked; else why nobody can be asked, for the model.
pub(super) fn question(tool: &str, arguments: &str) -> Result<String, String> {
    if arguments.len() > SHOWN_BYTES_MAX {
        return Err(format!(
            "not done: a person has to allow this call, and its arguments are longer than the \
             {SHOWN_BYTES_MAX} bytes that one can be shown"
        ));
    }
    Ok(format!("I want to call {tool} with {arguments}. Reply \"yes\" to allow it."))
}

/// Whether an answer allows the call.
pub(super) fn allows(answer: &str) -> bool {
    let answer = answer.trim().trim_end_matches(['.', '!', ' ']).to_lowercase();
    // Apostrophes are typed in two ways.
    YES.contains(&answer.replace('’', "'").as_str())
}

/// What the model is told of an answer that does not.
pub(super) fn refused(answer: &str) -> String {
    let answer = telling::within(answer, telling::RESULT_BYTES_MAX / 2);
    format!("not done: the user was asked and did not allow it; they said: {answer}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_yes_allows() {
        for yes in ["yes", " Yes! ", "JA.", "Sí", "d’accord", "Да", "👍", "OK"] {
            assert!(allows(yes), "{yes}");
        }
        for no in ["", "no", "yes, but only 5", "yes?", "not ok", "ja nein", "!", "stop"] {
            assert!(!allows(no), "{no}");
        }
    }

    #[test]
    fn nobody_is_asked_about_what_can_not_be_shown() {
        let asked = question("refund", r#"{"order":"17"}"#).unwrap();
        assert_eq!(asked, r#"I want to call refund with {"order":"17"}. Reply "yes" to allow it."#);
        assert!(question("refund", &"ä".repeat(1501)).unwrap_err().contains("3000 bytes"));
    }
}
