//! The rules of the house, as one fast test: what a reviewer would otherwise have to remember.
//!
//! Every rule is a plain function from a path and a text to failures, so that small strings show
//! that it can fail; one test a rule then runs it over the repository. A failure names the file and
//! the line. The rules read text and don't parse Rust: where one is an approximation, it says so.
//!
//! | module | its rules |
//! | --- | --- |
//! | [`code`] | headers, lengths, attributes, sleeps, no tests in doc comments |
//! | [`star`] | which crate may know which, and who may call what |
//! | [`documents`] | links, the changelog, and pages that must keep up with the code |
//! | [`left_out`] | which end-to-end tests run with one store only |

mod code;
mod documents;
mod left_out;
mod star;

use std::fmt;
use std::path::{Path, PathBuf};

/// A broken rule and where.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    path: String,
    /// From 1.
    line: usize,
    what: String,
}

impl Failure {
    fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// A file of the repository, by its path from the root.
struct Source {
    path: String,
    text: String,
}

/// Folders that hold nothing of ours.
const FOREIGN: [&str; 4] = ["target", ".git", ".cache", "node_modules"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every file of ours whose name ends so, in order of their paths.
fn sources(ending: &str) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root(), "", ending, &mut found);
    found.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(!found.is_empty(), "no file ends with {ending}: this looks at the wrong folder");
    found
}

fn collect(dir: &Path, prefix: &str, ending: &str, found: &mut Vec<Source>) {
    let entries =
        std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        if entry.path().is_dir() {
            if !FOREIGN.contains(&name.as_str()) {
                collect(&entry.path(), &path, ending, found);
            }
        } else if name.ends_with(ending) {
            // A file that vanished meanwhile, or that is no text, is nothing to judge.
            let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
            found.push(Source { path, text });
        }
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Fails with every failure at once, one a line.
#[track_caller]
fn expect_none(failures: &[Failure]) {
    let lines: Vec<String> = failures.iter().map(Failure::to_string).collect();
    assert!(failures.is_empty(), "{} broken:\n{}\n", failures.len(), lines.join("\n"));
}

/// Runs a rule over all Rust files.
#[track_caller]
fn over_rust(rule: impl Fn(&str, &str) -> Vec<Failure>) {
    let files = sources(".rs");
    let failures: Vec<Failure> =
        files.iter().flat_map(|file| rule(&file.path, &file.text)).collect();
    expect_none(&failures);
}

/// What a rule says of a small text: its failures as `line what`.
fn said(failures: &[Failure]) -> Vec<(usize, &str)> {
    failures.iter().map(|failure| (failure.line, failure.what.as_str())).collect()
}

#[test]
fn a_failure_names_the_file_and_the_line() {
    assert_eq!(Failure::new("a/b.rs", 7, "is wrong").to_string(), "a/b.rs:7: is wrong");
}
