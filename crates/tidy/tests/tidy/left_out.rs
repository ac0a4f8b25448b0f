//! Which tests of the real binary are left out with another store than the file: each by a name that
//! is there, and with a reason.

use super::{Failure, expect_none, read, said, sources};

const LIST: &str = "crates/turnkeep/tests/store_kit/left_out.txt";
const TESTS: &str = "crates/turnkeep/tests/";

/// Lines that name nothing, or say no reason. It looks for the function's name, in the file that the
/// module's name leads to; whether that is a test and runs, the script asks the binary itself.
fn left_out(list: &str, tests: &[(&str, &str)]) -> Vec<Failure> {
    let mut failures = Vec::new();
    for (line, number) in list.lines().zip(1..) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut fail = |what: String| failures.push(Failure::new(LIST, number, what));
        let [binary, test, why] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else {
            fail("is no binary, test and reason".to_owned());
            continue;
        };
        let is_file = |path: &str, name: &str| {
            path == format!("{TESTS}{name}.rs") || path == format!("{TESTS}{name}/main.rs")
        };
        if why.trim().is_empty() {
            fail(format!("gives no reason for {test}"));
        }
        if !tests.iter().any(|(path, _)| is_file(path, binary)) {
            fail(format!("there is no test binary {binary}"));
        } else if test != "*" {
            let (module, name) = test.rsplit_once("::").unwrap_or(("", test));
            let module = module.replace("::", "/");
            let holds = |path: &str| match &*module {
                "" => is_file(path, binary),
                module => {
                    path.ends_with(&format!("/{module}.rs"))
                        || path.ends_with(&format!("/{module}/mod.rs"))
                }
            };
            let is_there = |text: &str| text.contains(&format!("fn {name}("));
            if !tests.iter().any(|(path, text)| holds(path) && is_there(text)) {
                fail(format!("{binary} has no test {test}"));
            }
        }
    }
    failures
}

#[test]
fn what_is_left_out_is_there_and_has_a_reason() {
    let files = sources(".rs");
    let tests = files.iter().filter(|file| file.path.starts_with(TESTS));
    let tests: Vec<_> = tests.map(|file| (&*file.path, &*file.text)).collect();
    expect_none(&left_out(&read(LIST), &tests));
}

#[test]
fn a_name_that_is_gone_is_found() {
    let tests = [
        ("crates/turnkeep/tests/care.rs", "#[test]\nfn is_there() {}\n"),
        ("crates/turnkeep/tests/signal/main.rs", "mod kills;\n"),
        ("crates/turnkeep/tests/signal/kills.rs", "#[test]\nfn dies() {}\n"),
    ];
    let list = "# why\n\ncare * all of it\ncare is_there for a reason\nsignal kills::dies too\n";
    assert_eq!(left_out(list, &tests), []);
    let list = "care is_gone x\ncar * x\nsignal dies x\nsignal people::dies x\ncare is_there\n";
    assert_eq!(
        said(&left_out(list, &tests)),
        [
            (1, "care has no test is_gone"),
            (2, "there is no test binary car"),
            (3, "signal has no test dies"),
            (4, "signal has no test people::dies"),
            (5, "is no binary, test and reason"),
        ]
    );
}
