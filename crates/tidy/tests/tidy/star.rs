//! The star of crates: who may know whom, who may name an adapter, who may call what.

use super::code::code_lines;
use super::{Failure, expect_none, over_rust, read, said, sources};

/// Our crates, and the siblings that their code may know. Tests may know more.
const STAR: [(&str, &[&str]); 13] = [
    ("core", &[]),
    ("gateway", &["turnkeep-core"]),
    ("stores", &["turnkeep-core"]),
    ("channels", &["turnkeep-core"]),
    ("agents", &["turnkeep-core"]),
    ("hatchet", &["turnkeep-core"]),
    ("redis", &["turnkeep-core"]),
    // Knows the server by its HTTP contract only.
    ("bench", &[]),
    // The same.
    ("terminal", &[]),
    // Drives the rules and the driver that ships, with doubles of everything else.
    ("sim", &["turnkeep-core", "turnkeep-gateway"]),
    // Only tests use it, so nobody's dependencies name it.
    ("fuzz", &[]),
    ("tidy", &[]),
    (
        "turnkeep",
        &[
            "turnkeep-core",
            "turnkeep-gateway",
            "turnkeep-stores",
            "turnkeep-channels",
            "turnkeep-agents",
            "turnkeep-hatchet",
            "turnkeep-redis",
            "turnkeep-bench",
            "turnkeep-terminal",
        ],
    ),
];

/// All that the core may lean on: data and its forms, nothing that does anything.
const CORE_MAY_USE: [&str; 7] =
    ["serde", "serde_json", "thiserror", "uuid", "smallvec", "croner", "jiff"];

/// What pure code can't need. The clippy.toml of the core bans the same by type; this also holds
/// where nobody runs clippy.
const IMPURE: [&str; 14] = [
    "tokio::",
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "std::process",
    "SystemTime",
    "Instant::now",
    "now_v7",
    "Timestamp::now",
    "Zoned::now",
    "TimeZone::system",
    "tz::db(",
    ".await",
];

/// The crates of concrete adapters.
const ADAPTERS: [&str; 5] = [
    "turnkeep_stores",
    "turnkeep_channels",
    "turnkeep_agents",
    "turnkeep_hatchet",
    "turnkeep_redis",
];

/// Who may name them, and why. Everybody else gets them through a port.
const MAY_NAME_ADAPTERS: [(&str, &str); 11] = [
    ("crates/turnkeep/src/wiring.rs", "puts the parts together"),
    ("crates/turnkeep/src/wiring/stores.rs", "opens the store that is configured"),
    ("crates/turnkeep/src/wiring/tools.rs", "puts the servers of tools together"),
    ("crates/turnkeep/src/wiring/signal.rs", "puts Signal together"),
    ("crates/turnkeep/src/wiring/hatchet.rs", "puts the workflow engine's client together"),
    ("crates/turnkeep/src/wiring/moving.rs", "moves everything from one store to another"),
    ("crates/turnkeep/src/wiring/hints.rs", "connects the place of hints that is configured"),
    ("crates/turnkeep/src/audit.rs", "reads a store that servers may use"),
    ("crates/turnkeep/src/cli/backup.rs", "copies a data folder where no server does"),
    ("crates/turnkeep/src/cli/restore.rs", "puts a copy where no server may be"),
    ("crates/turnkeep/src/bench.rs", "fills a store with idle sessions before a run"),
];

/// The dependencies of a manifest's section, with their lines: `dependencies` also finds
/// `[dependencies.name]` and `[target.….dependencies]`.
fn dependencies(manifest: &str, section: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut within = false;
    for (line, number) in manifest.lines().zip(1..) {
        let line = line.trim();
        if let Some(head) = line.strip_prefix('[') {
            let head = head.trim_end_matches(']');
            within = head == section || head.ends_with(&format!(".{section}"));
            let single = head.strip_prefix(section).and_then(|rest| rest.strip_prefix('.'));
            found.extend(single.map(|name| (number, name.to_owned())));
        } else if within && !line.starts_with('#') {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            if !name.is_empty() && line.contains('=') {
                found.push((number, name.trim_matches('"').to_owned()));
            }
        }
    }
    found
}

fn siblings(path: &str, manifest: &str, may_know: &[&str]) -> Vec<Failure> {
    let mut failures = Vec::new();
    for section in ["dependencies", "build-dependencies"] {
        for (line, name) in dependencies(manifest, section) {
            if name.starts_with("turnkeep-") && !may_know.contains(&name.as_str()) {
                let what = format!("must not depend on {name}: the crates form a star");
                failures.push(Failure::new(path, line, what));
            }
        }
    }
    failures
}

fn core_dependencies(path: &str, manifest: &str) -> Vec<Failure> {
    let used = dependencies(manifest, "dependencies").into_iter();
    let foreign = used.filter(|(_, name)| !CORE_MAY_USE.contains(&name.as_str()));
    let what = |name| format!("the core is pure and may not depend on {name}");
    foreign.map(|(line, name)| Failure::new(path, line, what(name))).collect()
}

/// Approximate: words, not types.
fn purity(path: &str, text: &str) -> Vec<Failure> {
    if !path.starts_with("crates/core/src/") {
        return Vec::new();
    }
    let mut failures = Vec::new();
    for (line, code) in code_lines(text) {
        let async_fn = code.contains("async fn") || code.contains("async move");
        let word = IMPURE.iter().copied().find(|word| code.contains(word));
        let word = word.or(async_fn.then_some("async"));
        let what = |word| format!("the core has no IO, clock, randomness or await: `{word}`");
        failures.extend(word.map(|word| Failure::new(path, line, what(word))));
    }
    failures
}

/// Whether it is code that ships: no tests, no examples.
fn ships(path: &str) -> bool {
    path.starts_with("crates/") && path.split('/').nth(2) == Some("src")
}

fn adapters(path: &str, text: &str) -> Vec<Failure> {
    let may = MAY_NAME_ADAPTERS.iter().any(|(allowed, _)| *allowed == path);
    if may || !ships(path) {
        return Vec::new();
    }
    let mut failures = Vec::new();
    for (line, code) in code_lines(text) {
        if let Some(named) = ADAPTERS.iter().find(|adapter| code.contains(**adapter)) {
            let what = format!("{named} is named by the binary's wiring only; use its port");
            failures.push(Failure::new(path, line, what));
        }
    }
    failures
}

/// Only the outbox calls `Channel::send`. Approximate: such a call needs an `Outgoing`, so nobody
/// else may speak of one, nor call `send` on something called a channel.
fn sends(path: &str, text: &str) -> Vec<Failure> {
    let its_own = path == "crates/gateway/src/outbox.rs"
        || path.starts_with("crates/core/src/ports/")
        || path.starts_with("crates/channels/src/");
    if its_own || !ships(path) {
        return Vec::new();
    }
    let mut failures = Vec::new();
    for (line, code) in code_lines(text) {
        let calls = ["Outgoing", "Channel::send", "channel.send("];
        if let Some(call) = calls.iter().find(|call| code.contains(**call)) {
            let what = format!("only the gateway's outbox sends over a channel: `{call}`");
            failures.push(Failure::new(path, line, what));
        }
    }
    failures
}

/// Only the driver calls `step`. Approximate: a free call of that name, or its import.
fn steps(path: &str, text: &str) -> Vec<Failure> {
    let its_own =
        path == "crates/gateway/src/driver.rs" || path.starts_with("crates/core/src/session/");
    if its_own || !ships(path) {
        return Vec::new();
    }
    let mut failures = Vec::new();
    for (line, code) in code_lines(text) {
        let called = code.match_indices("step(").any(|(at, _)| {
            let before = code[..at].chars().next_back();
            let free = !before.is_some_and(|one| one.is_alphanumeric() || "_.".contains(one));
            free && !code[..at].ends_with("fn ")
        });
        if called || code.contains("session::step;") {
            failures.push(Failure::new(path, line, "only the driver calls `step`"));
        }
    }
    failures
}

fn inherits_lints(path: &str, manifest: &str) -> Vec<Failure> {
    let lines: Vec<&str> = manifest.lines().map(str::trim).collect();
    let head = lines.iter().position(|line| *line == "[lints]");
    match head {
        Some(at) if lines.get(at + 1) == Some(&"workspace = true") => Vec::new(),
        Some(at) => vec![Failure::new(path, at + 1, "[lints] must say `workspace = true`")],
        None => vec![Failure::new(path, 1, "must inherit the lints: [lints] workspace = true")],
    }
}

fn manifests() -> Vec<(String, String, String)> {
    let found = sources("Cargo.toml").into_iter().filter_map(|file| {
        let name = file.path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")?.to_owned();
        Some((name, file.path, file.text))
    });
    found.collect()
}

#[test]
fn crates_form_a_star() {
    let mut failures = Vec::new();
    for (name, path, text) in manifests() {
        match STAR.iter().find(|(known, _)| *known == name) {
            Some((_, may_know)) => failures.extend(siblings(&path, &text, may_know)),
            None => failures.push(Failure::new(&path, 1, "give this crate its place in STAR")),
        }
    }
    expect_none(&failures);
}

#[test]
fn every_crate_inherits_the_lints() {
    let manifests = manifests();
    let failures = manifests.iter().flat_map(|(_, path, text)| inherits_lints(path, text));
    expect_none(&failures.collect::<Vec<_>>());
}

#[test]
fn the_core_is_pure() {
    let path = "crates/core/Cargo.toml";
    expect_none(&core_dependencies(path, &read(path)));
    over_rust(purity);
}

#[test]
fn only_wiring_names_adapters() {
    over_rust(adapters);
}

#[test]
fn only_the_outbox_sends() {
    over_rust(sends);
}

#[test]
fn only_the_driver_steps() {
    over_rust(steps);
}

#[test]
fn dependencies_are_read() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\na.workspace = true\n# b = \"1\"\n\
                    c = { path = \"../c\" }\n[dependencies.d]\nversion = \"1\"\n\
                    [target.'cfg(unix)'.dependencies]\ne = \"1\"\n[dev-dependencies]\nf = \"1\"\n";
    let of = |section: &str| -> Vec<String> {
        dependencies(manifest, section).into_iter().map(|(_, name)| name).collect()
    };
    assert_eq!(of("dependencies"), ["a", "c", "d", "e"]);
    assert_eq!(of("dev-dependencies"), ["f"]);
}

#[test]
fn a_broken_star_is_found() {
    let manifest = "[dependencies]\nturnkeep-core.workspace = true\nturnkeep-stores.workspace = true\n\
                    [dev-dependencies]\nturnkeep-agents.workspace = true\n";
    let failures = siblings("crates/gateway/Cargo.toml", manifest, &["turnkeep-core"]);
    assert_eq!(
        said(&failures),
        [(3, "must not depend on turnkeep-stores: the crates form a star")]
    );
}

#[test]
fn an_impure_core_is_found() {
    let failures =
        core_dependencies("c", "[dependencies]\nserde = \"1\"\ntokio.workspace = true\n");
    assert_eq!(said(&failures), [(3, "the core is pure and may not depend on tokio")]);
    let lines = |path: &str, text: &str| -> Vec<usize> {
        purity(path, text).iter().map(|failure| failure.line).collect()
    };
    let text = "use tokio::time;\n// std::fs is not for us\nlet x = y.await;\nasync fn f() {}\n";
    assert_eq!(lines("crates/core/src/a.rs", text), [1, 3, 4]);
    assert_eq!(lines("crates/gateway/src/a.rs", text), []);
}

#[test]
fn a_named_adapter_is_found() {
    let text = "//! Like turnkeep_stores.\nuse turnkeep_stores::SqliteStore;\n";
    assert_eq!(adapters("crates/turnkeep/src/serve.rs", text).len(), 1);
    assert_eq!(adapters("crates/gateway/src/service.rs", text)[0].line, 2);
    assert_eq!(adapters("crates/turnkeep/src/wiring.rs", text), []);
    assert_eq!(adapters("crates/gateway/tests/shell.rs", text), []);
}

#[test]
fn a_stray_send_or_step_is_found() {
    let text = "let part = Outgoing { text };\nself.channel.send(part).await;\ntask.send(mail);\n";
    let lines: Vec<usize> =
        sends("crates/gateway/src/task.rs", text).iter().map(|failure| failure.line).collect();
    assert_eq!(lines, [1, 2]);
    assert_eq!(sends("crates/gateway/src/outbox.rs", text), []);
    let text = "let next = step(session, input);\nself.step(x);\nfn step() {}\nuse a::session::step;\nlast_step(x)";
    let lines: Vec<usize> =
        steps("crates/gateway/src/task.rs", text).iter().map(|failure| failure.line).collect();
    assert_eq!(lines, [1, 4]);
    assert_eq!(steps("crates/gateway/src/driver.rs", text), []);
}

#[test]
fn missing_lints_are_found() {
    assert_eq!(inherits_lints("c", "[lints]\nworkspace = true\n"), []);
    assert_eq!(inherits_lints("c", "[package]\n")[0].line, 1);
    assert_eq!(inherits_lints("c", "\n[lints]\nrust = {}\n")[0].line, 2);
}
