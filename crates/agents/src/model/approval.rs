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

/// Blanks in a row that are shown as they are; more could push words out of sight.
const BLANKS_MAX: usize = 8;

/// What is asked; else why nobody can be asked, for the model.
pub(super) fn question(tool: &str, arguments: &str) -> Result<String, String> {
    let arguments = visible(arguments);
    if arguments.len() > SHOWN_BYTES_MAX {
        return Err(format!(
            "not done: a person has to allow this call, and its arguments are longer than the \
             {SHOWN_BYTES_MAX} bytes that one can be shown"
        ));
    }
    Ok(format!("I want to call {tool} with {arguments}. Reply \"yes\" to allow it."))
}

/// A text in which everything can be seen, in the order in which it stands.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let behind = rest.trim_start_matches(is_blank);
        let blanks = &rest[..rest.len() - behind.len()];
        if blanks.is_empty() {
            show(next, &mut shown);
            rest = &rest[next.len_utf8()..];
            continue;
        }
        match blanks.chars().count() {
            few if few <= BLANKS_MAX => shown.push_str(blanks),
            many => shown.push_str(&format!(" … ({many} blanks) … ")),
        }
        rest = behind;
    }
    shown
}

fn is_blank(char: char) -> bool {
    char.is_whitespace() && !hides(char)
}

/// A character, or its number as JSON has it.
fn show(char: char, shown: &mut String) {
    if hides(char) {
        let mut units = [0; 2];
        for unit in char.encode_utf16(&mut units) {
            shown.push_str(&format!("\\u{unit:04x}"));
        }
    } else {
        shown.push(char);
    }
}

/// Control and format characters, among them those that turn the direction of words; what ends a
/// line; what takes no room or looks like none.
fn hides(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{AD}' | '\u{34F}' | '\u{600}'..='\u{605}' | '\u{61C}' | '\u{6DD}' | '\u{70F}'
            | '\u{890}'..='\u{891}' | '\u{8E2}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}'
            | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{2800}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}'
            | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}' | '\u{110BD}' | '\u{110CD}'
            | '\u{13430}'..='\u{1343F}' | '\u{1BCA0}'..='\u{1BCA3}'
            | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
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
        assert!(question("refund", &"\u{202e}".repeat(501)).is_err(), "as long as it is shown");
    }

    #[test]
    fn a_question_shows_what_would_not_be_seen() {
        let check = |text: &str, expect: &str| {
            let asked = question("refund", &format!("{{\"order\":\"{text}\"}}")).unwrap();
            assert!(asked.contains(&format!("\"order\":\"{expect}\"")), "{asked}");
        };
        check("ä 東京 👍 нет", "ä 東京 👍 нет");
        check("17\u{202e}71", r"17\u202e71");
        check("\u{2066}a\u{2069}", r"\u2066a\u2069");
        check("1\u{200b}7\u{feff}", r"1\u200b7\ufeff");
        check("a\u{2028}b\u{2029}c\u{85}d\u{7f}", r"a\u2028b\u2029c\u0085d\u007f");
        check("x\u{e0041}", r"x\udb40\udc41");
        check("a\u{2800}\u{3164}b", r"a\u2800\u3164b");
        check("a    b", "a    b");
        check(&format!("a{}b", " ".repeat(300)), "a … (300 blanks) … b");
        check(&format!("a{}b", "\u{a0}".repeat(300)), "a … (300 blanks) … b");
        check(&format!("a{}b", " \u{3000}".repeat(20)), "a … (40 blanks) … b");
    }
}
