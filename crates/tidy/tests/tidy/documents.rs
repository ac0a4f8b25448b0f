//! What holds for the pages that people read.

use super::{Failure, expect_none, read, root, said, sources};

/// A link in a page: its line and where it leads.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (line, number) in text.lines().zip(1..) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        // Every second piece between backticks is code.
        let prose: Vec<&str> = line.split('`').step_by(2).collect();
        for piece in prose.join("").split("](").skip(1) {
            let target = piece.split([')', ' ']).next().unwrap_or_default();
            found.push((number, target.to_owned()));
        }
    }
    found
}

/// The name that a heading gets: small, without punctuation, blanks as hyphens.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter_map(|one| match one {
        ' ' => Some('-'),
        '-' | '_' => Some(one),
        one if one.is_alphanumeric() => Some(one),
        _ => None,
    });
    kept.flat_map(char::to_lowercase).collect()
}

fn anchors(text: &str) -> Vec<String> {
    let mut fenced = false;
    let headings = text.lines().filter_map(|line| {
        fenced ^= line.starts_with("```");
        let heading = line.strip_prefix('#')?.trim_start_matches('#').strip_prefix(' ')?;
        (!fenced).then(|| anchor(heading.trim()))
    });
    headings.collect()
}

/// The path from the root that a link in `page` means.
fn meant(page: &str, target: &str) -> String {
    let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// Links to other files of the repository lead somewhere, headings included. `text_of` gives a
/// file's text, none if there is no such file or folder.
fn dead_links(page: &str, text: &str, text_of: &dyn Fn(&str) -> Option<String>) -> Vec<Failure> {
    let mut failures = Vec::new();
    for (line, link) in links(text) {
        if link.contains("://") || link.starts_with("mailto:") {
            continue;
        }
        let (target, heading) = link.split_once('#').unwrap_or((&link, ""));
        let path = if target.is_empty() { page.to_owned() } else { meant(page, target) };
        match text_of(&path) {
            None => failures.push(Failure::new(page, line, format!("leads nowhere: {link}"))),
            Some(text)
                if !heading.is_empty() && !anchors(&text).iter().any(|one| one == heading) =>
            {
                let what = format!("{path} has no heading {heading}");
                failures.push(Failure::new(page, line, what));
            }
            Some(_) => {}
        }
    }
    failures
}

fn changelog(path: &str, text: &str) -> Vec<Failure> {
    if text.lines().any(|line| line.trim() == "## [Unreleased]" || line.trim() == "## Unreleased") {
        return Vec::new();
    }
    vec![Failure::new(path, 1, "has no `## [Unreleased]` section for the next change")]
}

/// The strings of `text` that begin so, with their lines: names that the code gives to the outside.
fn quoted(text: &str, beginning: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        for string in line.split('"').skip(1).step_by(2) {
            let known = found.iter().any(|(_, name)| name == string);
            let word = string.chars().all(|one| one.is_ascii_alphanumeric() || "_.".contains(one));
            if string.starts_with(beginning) && word && !known {
                found.push((number, string.to_owned()));
            }
        }
    }
    found
}

/// Every name that stands in the code stands in the page as well.
fn unexplained(path: &str, names: &[(usize, String)], page: &str, text: &str) -> Vec<Failure> {
    let missing = names.iter().filter(|(_, name)| {
        let mut rest = text;
        while let Some((_, behind)) = rest.split_once(name.as_str()) {
            if !behind.starts_with(|one: char| one.is_ascii_alphanumeric() || one == '_') {
                return false;
            }
            rest = behind;
        }
        true
    });
    missing
        .map(|(line, name)| Failure::new(path, *line, format!("{name} is not in {page}")))
        .collect()
}

fn expect_explained(path: &str, beginning: &str, page: &str) {
    let names = quoted(&read(path), beginning);
    assert!(!names.is_empty(), "{path} holds no name that begins with {beginning}");
    expect_none(&unexplained(path, &names, page, &read(page)));
}

#[test]
fn links_lead_somewhere() {
    let text_of = |path: &str| {
        let path = root().join(path);
        // A picture or a folder has no headings, but it is there.
        path.exists().then(|| std::fs::read_to_string(path).unwrap_or_default())
    };
    let pages = sources(".md");
    let failures = pages.iter().flat_map(|page| dead_links(&page.path, &page.text, &text_of));
    expect_none(&failures.collect::<Vec<_>>());
}

#[test]
fn the_changelog_awaits_the_next_change() {
    expect_none(&changelog("CHANGELOG.md", &read("CHANGELOG.md")));
}

#[test]
fn every_metric_is_explained() {
    for path in ["metrics.rs", "metrics/names.rs", "metrics/gauges.rs", "overload.rs"] {
        expect_explained(&format!("crates/gateway/src/{path}"), "turn", "docs/operations.md");
    }
}

#[test]
fn every_invariant_of_the_checker_is_explained() {
    let names = quoted(&read("crates/core/src/audit.rs"), "I");
    let numbered = |name: &str| name[1..].chars().all(|one| one.is_ascii_digit());
    let names: Vec<_> = names.into_iter().filter(|(_, name)| numbered(name)).collect();
    assert!(!names.is_empty());
    let page = "docs/invariants.md";
    expect_none(&unexplained("crates/core/src/audit.rs", &names, page, &read(page)));
}

#[test]
fn every_journal_event_is_explained() {
    let journal = read("crates/core/src/journal.rs");
    let page = read("docs/api.md");
    let names: Vec<_> =
        quoted(&journal, "").into_iter().filter(|(_, name)| name.contains('.')).collect();
    assert!(!names.is_empty());
    expect_none(&unexplained("crates/core/src/journal.rs", &names, "docs/api.md", &page));
}

/// The tests that a page names, as `module::test`, with their lines.
fn named_tests(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        for code in line.split('`').skip(1).step_by(2) {
            let plain = |one: char| one.is_ascii_alphanumeric() || "_:".contains(one);
            if let (Some((_, test)), true) = (code.rsplit_once("::"), code.chars().all(plain)) {
                found.push((number, test.to_owned()));
            }
        }
    }
    found
}

#[test]
fn every_test_of_the_threat_model_is_there() {
    let page = "docs/threat-model.md";
    let named = named_tests(&read(page));
    assert!(named.len() > 20, "{named:?}");
    let code: String = sources(".rs").into_iter().map(|file| file.text).collect();
    let gone = named.into_iter().filter(|(_, test)| !code.contains(&format!("fn {test}()")));
    let failure = |(line, test)| Failure::new(page, line, format!("there is no test {test}"));
    expect_none(&gone.map(failure).collect::<Vec<_>>());
}

#[test]
fn named_tests_are_read() {
    let text = "`a::b_c` and `make x`\n| `x.rs` | `d::e::f`, `g h::i` |\n";
    assert_eq!(named_tests(text), [(1, "b_c".to_owned()), (2, "f".to_owned())]);
}

#[test]
fn links_are_read() {
    let text = "See [a](b.md#c) and ![d](e.png \"title\").\n```\n[no](no.md)\n```\n`[no](no.md)` [f](g/)\n";
    let found: Vec<_> = links(text);
    let expect = [(1, "b.md#c"), (1, "e.png"), (5, "g/")].map(|(line, to)| (line, to.to_owned()));
    assert_eq!(found, expect);
    assert_eq!(meant("docs/adr/a.md", "../../crates/core"), "crates/core");
    assert_eq!(
        anchors("# One, two & `three`\n```\n# no\n```\n## A_b-c\n#no"),
        ["one-two--three", "a_b-c"]
    );
}

#[test]
fn a_dead_link_is_found() {
    let text_of = |path: &str| (path == "docs/a.md").then(|| "# There\n".to_owned());
    let text = "[ok](a.md#there) [ok](https://example.org/x)\n[bad](b.md)\n[bad](a.md#gone) [bad](#gone)\n";
    let failures = dead_links("docs/a.md", text, &text_of);
    let expect = [
        (2, "leads nowhere: b.md"),
        (3, "docs/a.md has no heading gone"),
        (3, "docs/a.md has no heading gone"),
    ];
    assert_eq!(said(&failures), expect);
}

#[test]
fn a_closed_changelog_is_found() {
    assert_eq!(changelog("c", "# Changelog\n\n## [Unreleased]\n"), []);
    assert_eq!(changelog("c", "# Changelog\n\n## 0.1.0\n").len(), 1);
}

#[test]
fn an_unexplained_name_is_found() {
    let names =
        quoted("a(\"turn_a\", \"turn_a_b\");\nb(\"turn_a\", \"Turn words\", \"turn it\");", "turn");
    assert_eq!(names, [(1, "turn_a".to_owned()), (1, "turn_a_b".to_owned())]);
    let failures = unexplained("m.rs", &names, "page.md", "about turn_a_b only");
    assert_eq!(said(&failures), [(1, "turn_a is not in page.md")]);
    assert_eq!(unexplained("m.rs", &names, "page.md", "turn_a_b, turn_a."), []);
}

/// A crate's first-level modules, by the paths of its files.
fn modules<'a>(paths: &[&'a str]) -> Vec<(&'a str, &'a str)> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    for path in paths {
        let Some((krate, file)) =
            path.strip_prefix("crates/").and_then(|it| it.split_once("/src/"))
        else {
            continue;
        };
        let module = file.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        if !matches!(module, "lib" | "main") && !found.contains(&(krate, module)) {
            found.push((krate, module));
        }
    }
    found
}

/// The part of the map that belongs to a crate names each of its modules.
fn unmapped(paths: &[&str], map: &str) -> Vec<Failure> {
    let mut failures = Vec::new();
    for (krate, module) in modules(paths) {
        let part = map.split(&format!("### crates/{krate}:")).nth(1).unwrap_or_default();
        let part = part.split("\n#").next().unwrap_or_default();
        let named = [format!("`{module}`"), format!("`{module}::")];
        if !named.iter().any(|name| part.contains(name)) {
            let what = format!("ARCHITECTURE.md's map of crates/{krate} has no `{module}`");
            failures.push(Failure::new(&format!("crates/{krate}/src/{module}"), 1, what));
        }
    }
    failures
}

#[test]
fn the_map_names_every_module() {
    let files = sources(".rs");
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    expect_none(&unmapped(&paths, &read("ARCHITECTURE.md")));
}

#[test]
fn a_module_without_a_place_on_the_map_is_found() {
    let paths =
        ["crates/a/src/lib.rs", "crates/a/src/b.rs", "crates/a/src/c/d.rs", "crates/e/src/b.rs"];
    assert_eq!(modules(&paths), [("a", "b"), ("a", "c"), ("e", "b")]);
    let failures =
        unmapped(&paths, "### crates/a: x\n`b` and `c::d`\n\n### crates/e: y\nnothing\n");
    assert_eq!(said(&failures), [(1, "ARCHITECTURE.md's map of crates/e has no `b`")]);
    assert_eq!(unmapped(&paths, "### crates/a: x\n`b`\n\n### crates/e: y\n`b`, `c`\n").len(), 1);
}
