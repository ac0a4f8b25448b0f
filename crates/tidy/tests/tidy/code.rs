//! What holds for every Rust file, and for tests.

use super::{Failure, expect_none, over_rust, said, sources};

/// Longest file: a longer one hides its architecture.
const LINES_MAX: usize = 500;

/// Marks a file that a program wrote.
const GENERATED: &str = "@generated";

fn is_generated(path: &str, text: &str) -> bool {
    path.ends_with("build.rs") || text.lines().take(5).any(|line| line.contains(GENERATED))
}

/// Every file opens with its job.
fn header(path: &str, text: &str) -> Vec<Failure> {
    if is_generated(path, text) || text.starts_with("//! ") {
        return Vec::new();
    }
    vec![Failure::new(path, 1, "must open with `//!`: the file's job, and what it leaves to whom")]
}

fn length(path: &str, text: &str) -> Vec<Failure> {
    let lines = text.lines().count();
    if lines <= LINES_MAX || is_generated(path, text) {
        return Vec::new();
    }
    vec![Failure::new(path, lines, format!("has {lines} lines; the limit is {LINES_MAX}"))]
}

/// A line without its strings and its comment. Approximate: a string that goes over several lines
/// is taken for code.
pub(crate) fn code_of(line: &str) -> String {
    let mut code = String::with_capacity(line.len());
    let mut characters = line.chars().peekable();
    let mut within = false;
    while let Some(character) = characters.next() {
        match character {
            '\\' if within => {
                characters.next();
            }
            // A quotation mark as a character, not the start of a string.
            '\'' if !within && characters.peek() == Some(&'"') => {
                characters.next();
            }
            '"' => within = !within,
            '/' if !within && characters.peek() == Some(&'/') => break,
            _ if within => {}
            other => code.push(other),
        }
    }
    code
}

/// Lines of code with their numbers.
pub(crate) fn code_lines(text: &str) -> impl Iterator<Item = (usize, String)> {
    text.lines().zip(1..).map(|(line, number)| (number, code_of(line)))
}

/// A lint is expected with a reason, never switched off; a test runs or is deleted.
fn attributes(path: &str, text: &str) -> Vec<Failure> {
    const FORBIDDEN: [(&str, &str); 3] = [
        ("#[allow(", "write #[expect(lint, reason = ...)]: an #[allow] outlives its reason"),
        ("#![allow(", "write #![expect(lint, reason = ...)]: an #![allow] outlives its reason"),
        ("#[ignore", "assert what happens today and say what should change; don't ignore a test"),
    ];
    let mut failures = Vec::new();
    for (line, code) in code_lines(text) {
        let broken = FORBIDDEN.iter().filter(|(attribute, _)| code.contains(attribute));
        failures.extend(broken.map(|(_, what)| Failure::new(path, line, *what)));
    }
    failures
}

/// The folder of a test target's file: `crates/x/tests/it/fake.rs` gives `crates/x/tests/it`.
fn test_folder(path: &str) -> Option<&str> {
    let (folder, _) = path.rsplit_once('/')?;
    folder.split('/').any(|part| part == "tests").then_some(folder)
}

fn pauses_clock(text: &str) -> bool {
    text.contains("start_paused = true") || text.contains("time::pause()")
}

/// Tests wait for what they wait for. Under a paused clock a sleep is an order of events, not a
/// wait; such a clock in one file counts for its whole folder, because helpers stand beside tests.
fn sleeps(path: &str, text: &str, virtual_clock: bool) -> Vec<Failure> {
    let mut failures = Vec::new();
    for (line, code) in code_lines(text) {
        if code.contains("thread::sleep") {
            failures.push(Failure::new(path, line, "a test waits for an event, not for a time"));
        } else if !virtual_clock && (code.contains("time::sleep") || code.contains(" sleep(")) {
            let what = "a test waits for an event, not for a time (or pauses its clock)";
            failures.push(Failure::new(path, line, what));
        }
    }
    failures
}

/// Code in a doc comment would be a test of a sort that nobody runs: examples stand in tests.
fn examples(path: &str, text: &str) -> Vec<Failure> {
    let mut failures = Vec::new();
    let mut within = false;
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim_start();
        let said = line.strip_prefix("//!").or_else(|| line.strip_prefix("///"));
        let Some(word) = said.and_then(|said| said.trim_start().strip_prefix("```")) else {
            continue;
        };
        if !within && word != "text" {
            failures.push(Failure::new(path, number, "a block in a doc comment begins ```text"));
        }
        within = !within;
    }
    failures
}

#[test]
fn no_doc_comment_holds_a_test() {
    over_rust(examples);
}

#[test]
fn a_test_in_a_doc_comment_is_found() {
    let found = |text: &str| examples("src/a.rs", text).len();
    assert_eq!(found("//! ```text\n//! a -> b\n//! ```\n"), 0);
    assert_eq!(found("    /// ```\n    /// f();\n    /// ```\n"), 1);
    assert_eq!(found("/// ```rust\n/// f();\n/// ```\n/// ```text\n/// a\n/// ```\n"), 1);
    assert_eq!(found("let text = \"```\";\n"), 0);
}

#[test]
fn every_file_says_what_it_is_for() {
    over_rust(header);
}

#[test]
fn no_file_is_too_long() {
    over_rust(length);
}

#[test]
fn no_lint_is_allowed_and_no_test_ignored() {
    over_rust(attributes);
}

#[test]
fn tests_do_not_sleep() {
    let files = sources(".rs");
    let tests = || files.iter().filter_map(|file| Some((test_folder(&file.path)?, file)));
    let paused: Vec<&str> =
        tests().filter(|(_, file)| pauses_clock(&file.text)).map(|(folder, _)| folder).collect();
    let failures =
        tests().flat_map(|(folder, file)| sleeps(&file.path, &file.text, paused.contains(&folder)));
    expect_none(&failures.collect::<Vec<_>>());
}

#[test]
fn a_missing_header_is_found() {
    let check = |path: &str, text: &str, broken: bool| {
        assert_eq!(!header(path, text).is_empty(), broken, "{path}: {text:?}");
    };
    check("src/a.rs", "//! Says what it does.\n", false);
    check("src/a.rs", "use std::fmt;\n", true);
    check("src/a.rs", "\n//! Too late.\n", true);
    check("src/a.rs", "//!\n", true);
    check("src/a.rs", "", true);
    check("src/a.rs", "// @generated by hand\n", false);
    check("build.rs", "fn main() {}\n", false);
}

#[test]
fn a_long_file_is_found() {
    assert_eq!(length("a.rs", &"x\n".repeat(LINES_MAX)), []);
    let failures = length("a.rs", &"x\n".repeat(LINES_MAX + 1));
    assert_eq!(said(&failures), [(501, "has 501 lines; the limit is 500")]);
}

#[test]
fn strings_and_comments_are_no_code() {
    let check = |line: &str, expect: &str| assert_eq!(code_of(line), expect, "{line}");
    check("let a = b; // and so on", "let a = b; ");
    check("say(\"// \\\" #[allow(x)]\") + c", "say() + c");
    check("split('\"') // x", "split(') ");
    check("a / b", "a / b");
}

#[test]
fn forbidden_attributes_are_found() {
    let lines = |text: &str| -> Vec<usize> {
        attributes("a.rs", text).iter().map(|failure| failure.line).collect()
    };
    assert_eq!(lines("\n#[allow(dead_code)]\nfn a() {}\n    #[ignore = \"slow\"]\n"), [2, 4]);
    assert_eq!(lines("#![allow(missing_docs)]\n"), [1]);
    assert_eq!(
        lines("#[expect(dead_code, reason = \"x\")]\n// #[allow(x)]\nf(\"#[ignore\");\n"),
        []
    );
}

#[test]
fn sleeps_are_found() {
    let lines = |text: &str, virtual_clock: bool| -> Vec<usize> {
        sleeps("a.rs", text, virtual_clock).iter().map(|failure| failure.line).collect()
    };
    let text =
        "std::thread::sleep(x);\ntokio::time::sleep(x).await;\n    sleep(x).await;\nasleep(x);";
    assert_eq!(lines(text, false), [1, 2, 3]);
    assert_eq!(lines(text, true), [1]);
    assert_eq!(test_folder("crates/x/tests/it/fake.rs"), Some("crates/x/tests/it"));
    assert_eq!(test_folder("crates/x/src/tests/fake.rs"), Some("crates/x/src/tests"));
    assert_eq!(test_folder("crates/x/src/sleep.rs"), None);
    assert!(pauses_clock("#[tokio::test(start_paused = true)]") && !pauses_clock("start_paused"));
}
