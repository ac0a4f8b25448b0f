//! Asks a person before a call: the words of the question, and what the model is told of the answer.
//!
//! Most of those who show the question take it for markdown, so what could be a mark of markdown
//! stands in a code span: a mark is shown as something else than itself, or as nothing.

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::telling;
use crate::tools::Tool;

/// The longest arguments that a person can be asked about: nobody allows what nobody was shown.
const SHOWN_BYTES_MAX: usize = 3000;

/// What of one argument is shown, in characters; the question says what is missing.
const VALUE_CHARS_MAX: usize = 200;

/// How often somebody is asked again whose answer was neither a yes nor a no.
pub(super) const AGAIN_MAX: usize = 2;

/// Blanks in a row that are shown as they are; more could push words out of sight.
const BLANKS_MAX: usize = 8;

/// What is asked; else why nobody can be asked, for the model. `arguments` in their canonical form.
pub(super) fn question(tool: &Tool, arguments: &str) -> Result<String, String> {
    let name = match &tool.origin {
        Some(origin) => {
            format!("{} (server {})", of_text(&origin.name), of_text(&origin.server))
        }
        None => of_text(&tool.spec.name),
    };
    let arguments: Map<String, Value> = serde_json::from_str(arguments)
        .map_err(|_| "not done: the arguments must be a JSON object".to_owned())?;
    let shown = arguments.iter().map(|(name, value)| format!("{}: {}", of_text(name), of(value)));
    let shown = shown.collect::<Vec<_>>().join(", ");
    if shown.len() > SHOWN_BYTES_MAX {
        return Err(format!(
            "not done: a person has to allow this call, and its arguments are longer than the \
             {SHOWN_BYTES_MAX} bytes that one can be shown"
        ));
    }
    let shown = if shown.is_empty() { "(no arguments)" } else { &shown };
    Ok(format!("May I call {name}? {shown}\nReply \"yes\" to allow it, \"no\" to refuse it."))
}

/// The same question for somebody whose answer was neither.
pub(super) fn again(question: &str) -> String {
    format!("I did not understand that as a yes or a no. {question}")
}

/// A value as a person reads it; one that is made of others as JSON.
fn of(value: &Value) -> String {
    match value {
        Value::String(text) => of_text(text),
        other => cut(&other.to_string(), ""),
    }
}

/// A text; between marks where it could be taken for anything else.
fn of_text(text: &str) -> String {
    let is_plain = |one: char| one.is_alphanumeric() || " -_./@+#%&€$£".contains(one);
    let plain = !text.is_empty() && text.trim() == text && text.chars().all(is_plain);
    if plain {
        return cut(text, "");
    }
    let written = Value::from(text).to_string();
    let between = written.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    cut(between.unwrap_or(&written), "\"")
}

/// Not more of it than a person reads, and everything of that in sight.
fn cut(written: &str, mark: &str) -> String {
    let shown = |part: &str| verbatim(format!("{mark}{}{mark}", visible(part)));
    let length = written.chars().count();
    let Some((at, _)) = written.char_indices().nth(VALUE_CHARS_MAX) else {
        return shown(written);
    };
    let whole = Sha256::digest(written.as_bytes());
    let whole: String = whole.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!(
        "{} … (cut: {VALUE_CHARS_MAX} of {length} characters; the whole has the mark {whole})",
        shown(&written[..at])
    )
}

/// What is shown as it stands, also by whoever takes it for markdown: in a code span where it could
/// be taken for marks. As `CommonMark` has it, the fence is longer than any run of backticks within,
/// and a blank keeps a backtick at an end from becoming part of it.
pub(super) fn verbatim(shown: String) -> String {
    if !holds_marks(&shown) {
        return shown;
    }
    let longest = shown.split(|one| one != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(longest + 1);
    let ends_in = |one: char| (shown.starts_with(one), shown.ends_with(one));
    // Of a blank at both ends one is taken away.
    let apart = matches!(ends_in('`'), (true, _) | (_, true)) || ends_in(' ') == (true, true);
    let apart = if apart { " " } else { "" };
    format!("{fence}{apart}{shown}{apart}{fence}")
}

/// Whether markdown could take any of it for a mark. Nothing of it begins a line, so that a dash or a
/// number is none; a `\n` is none either, and nobody minds an underscore within `order_id`.
pub(super) fn holds_marks(shown: &str) -> bool {
    let in_word = |one: Option<char>| one.is_some_and(|one| one.is_ascii_alphanumeric());
    let mut before = None;
    shown.char_indices().any(|(at, one)| {
        let behind = &shown[at + one.len_utf8()..];
        let next = behind.chars().next();
        let marks = match one {
            '*' | '`' | '~' | '[' | ']' | '<' | '>' | '#' | '|' | '!' | '&' => true,
            '_' => !(in_word(before) && in_word(next)),
            '\\' => !in_word(next),
            // An address becomes a link.
            ':' => behind.starts_with("//"),
            _ => false,
        };
        before = Some(one);
        marks
    })
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

/// What the model is told of answers that are a no.
pub(super) fn refused(answers: &[String]) -> String {
    format!("not done: the user was asked and did not allow it; they said: {}", said(answers))
}

/// What it is told where the user said something else than yes or no.
pub(super) fn left_open(answers: &[String]) -> String {
    format!(
        "not done: the user was asked and said neither yes nor no, but: {}\nRead that and decide \
         again. If it still is to be done, call it again, and the user is asked once more.",
        said(answers)
    )
}

fn said(answers: &[String]) -> String {
    telling::within(&answers.join("\n"), telling::RESULT_BYTES_MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::{Origin, ToolSpec};
    use serde_json::json;
    use std::time::Duration;
    use turnkeep_core::tool::SideEffects;

    fn tool(origin: Option<(&str, &str)>) -> Tool {
        let name =
            |(server, name): (&str, &str)| Origin { server: server.into(), name: name.into() };
        Tool {
            spec: ToolSpec {
                name: "shop__refund".into(),
                description: String::new(),
                schema: Value::Null,
            },
            origin: origin.map(name),
            effects: SideEffects::Irreversible,
            key: None,
            approval: true,
            timeout: Duration::from_secs(1),
        }
    }

    fn asked(arguments: &Value) -> String {
        let asked = question(&tool(Some(("shop", "refund"))), &arguments.to_string()).unwrap();
        let (asked, _) = asked.split_once("\nReply").unwrap();
        asked.strip_prefix("May I call refund (server shop)? ").unwrap().to_owned()
    }

    #[test]
    fn a_question_is_made_for_people() {
        let text = question(&tool(Some(("shop", "refund"))), r#"{"amount":30,"order":"42"}"#);
        assert_eq!(
            text.unwrap(),
            "May I call refund (server shop)? amount: 30, order: 42\nReply \"yes\" to allow it, \
             \"no\" to refuse it."
        );
        let without = question(&tool(None), "{}").unwrap();
        assert!(without.starts_with("May I call `shop__refund`? (no arguments)\n"), "{without}");
        assert_eq!(
            asked(
                &json!({"a": "late, and broken", "b": [1, {"c": null}], "d": true, "e": "", "f": 0.5})
            ),
            r#"a: "late, and broken", b: `[1,{"c":null}]`, d: true, e: "", f: 0.5"#
        );
    }

    #[test]
    fn no_text_passes_for_another_argument_or_another_tool() {
        assert_eq!(asked(&json!({"order": "42, amount: 1"})), r#"order: "42, amount: 1""#);
        assert_eq!(asked(&json!({"order": "a\nReply"})), r#"order: "a\nReply""#);
        assert_eq!(asked(&json!({"a: 1, b": 2})), r#""a: 1, b": 2"#);
        let odd = question(&tool(Some(("shop", "look? (server bank)"))), "{}").unwrap();
        assert!(odd.starts_with(r#"May I call "look? (server bank)" (server shop)? "#), "{odd}");
    }

    #[test]
    fn no_argument_is_taken_for_marks_of_markdown() {
        let asked_all = asked(&json!({
            "path": "/data/*.bak, /data/*.tmp",
            "to": "[anna@example.org](https://evil.example/?iban=DE99)",
            "note": "keep __init__ and `x`",
        }));
        assert_eq!(
            asked_all,
            "note: ``\"keep __init__ and `x`\"``, path: `\"/data/*.bak, /data/*.tmp\"`, to: \
             `\"[anna@example.org](https://evil.example/?iban=DE99)\"`"
        );
        let check = |value: &Value, expect: &str| {
            assert_eq!(asked(&json!({"a": value})), format!("a: {expect}"));
        };
        for same in ["order_id", "a-1", "1. 5", "+ 5%", "1/2", "anna@example.org", "2026-11-22"] {
            check(&json!(same), same);
        }
        check(&json!("- 1"), "- 1");
        check(&json!("> 1"), r#"`"> 1"`"#);
        check(&json!("_x_"), "`_x_`");
        check(&json!("a__b"), "`a__b`");
        check(&json!("a _b"), "`a _b`");
        check(&json!("R&D"), "`R&D`");
        check(&json!("# 1"), "`# 1`");
        check(&json!("a\\b"), r#"`"a\\b"`"#);
        check(&json!("say \"yes\""), r#"`"say \"yes\""`"#);
        check(&json!("https://x.org"), r#"`"https://x.org"`"#);
        check(&json!("a```b`"), r#"````"a```b`"````"#);
        check(&json!(["*", -1]), r#"`["*",-1]`"#);
        check(&json!({"*": {"_x": 1}}), r#"`{"*":{"_x":1}}`"#);
        // Names are no safer than values, and what is cut is not either.
        assert_eq!(asked(&json!({"*a*": 1})), r#"`"*a*"`: 1"#);
        let odd = question(&tool(Some(("__bank", "re*fund*"))), "{}").unwrap();
        assert!(odd.starts_with(r#"May I call `"re*fund*"` (server `__bank`)? "#), "{odd}");
        let long = asked(&json!({"why": "*".repeat(300)}));
        let shown = format!("why: `\"{}\"` … (cut: 200 of 300 characters; ", "*".repeat(200));
        assert!(long.starts_with(&shown), "{long}");
    }

    #[test]
    fn a_code_span_keeps_what_its_ends_are() {
        let check = |shown: &str, expect: &str| assert_eq!(verbatim(shown.to_owned()), expect);
        check("`", "`` ` ``");
        check("``a", "``` ``a ```");
        check("a`", "`` a` ``");
        check(" * ", "`  *  `");
        check(" *", "` *`");
        check("plain", "plain");
    }

    #[test]
    fn a_long_value_is_cut_and_the_question_says_so() {
        let long = asked(&json!({"why": "x".repeat(4312), "z": 1}));
        let (shown, rest) = long.split_once(" … (cut: 200 of 4312 characters; ").unwrap();
        assert_eq!(shown, format!("why: {}", "x".repeat(200)));
        assert!(rest.ends_with("), z: 1"), "{rest}");
        // What is not shown still tells two questions apart.
        let other = asked(&json!({"why": format!("{}y", "x".repeat(4311)), "z": 1}));
        assert_ne!(long, other);
        let quoted = asked(&json!({"why": "a,".repeat(200)}));
        assert!(quoted.contains(",\" … (cut: 200 of "), "{quoted}");
    }

    #[test]
    fn nobody_is_asked_about_what_can_not_be_shown() {
        let many = |count: usize, value: &str| {
            let many = (0..count).map(|at| (format!("n{at}"), json!(value)));
            question(&tool(None), &Value::Object(many.collect()).to_string())
        };
        assert!(many(10, "abc").is_ok());
        assert!(many(20, &"ä".repeat(150)).unwrap_err().contains("3000 bytes"));
        assert!(many(10, &"\u{202e}".repeat(90)).is_err(), "as long as it is shown");
    }

    #[test]
    fn a_question_shows_what_would_not_be_seen() {
        let check = |text: &str, expect: &str| {
            assert_eq!(asked(&json!({"order": text})), format!("order: {expect}"));
        };
        check("ä 東京 нет", "ä 東京 нет");
        check("👍", r#""👍""#);
        check("17\u{202e}71", r#""17\u202e71""#);
        check("\u{2066}a\u{2069}", r#""\u2066a\u2069""#);
        check("1\u{200b}7\u{feff}", r#""1\u200b7\ufeff""#);
        check("a\u{2028}b\u{2029}c\u{85}d\u{7f}", r#""a\u2028b\u2029c\u0085d\u007f""#);
        check("x\u{e0041}", r#""x\udb40\udc41""#);
        check("a\u{2800}\u{3164}b", r#""a\u2800\u3164b""#);
        check("a    b", "a    b");
        check(&format!("a{}b", " ".repeat(190)), "a … (190 blanks) … b");
        check(&format!("a{}b", "\u{a0}".repeat(190)), "\"a … (190 blanks) … b\"");
        check(&format!("a{}b", " \u{3000}".repeat(20)), "\"a … (40 blanks) … b\"");
    }
}
