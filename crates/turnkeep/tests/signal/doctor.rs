//! `turnkeep doctor` before anything is there, and when everything is.

use serde_json::Value;

use crate::kit::{Household, NUMBER, repository};

/// The findings of this name, as `state: text`.
fn found(told: &Value, name: &str) -> Vec<String> {
    let all = told["findings"].as_array().unwrap().iter();
    let here = all.filter(|finding| finding["name"] == name);
    here.map(|finding| {
        format!("{}: {}", finding["state"].as_str().unwrap(), finding["text"].as_str().unwrap())
    })
    .collect()
}

fn doctor(home: &Household) -> (Option<i32>, Value) {
    let (code, out, said) = home.run(&["doctor", "--json"]);
    assert_eq!(said, "");
    (code, serde_json::from_str(&out).unwrap())
}

#[test]
fn a_newcomer_is_told_what_is_missing() {
    let home = Household::of(
        "command = \"no-such-signal-cli\"",
        "[agents.default]\nkind = \"anthropic\"\nmodel = \"claude\"\n\
         [agents.shop]\nkind = \"command\"\ncommand = [\"no-such-brain\"]\n",
    );
    let (code, told) = doctor(&home);
    assert_eq!(code, Some(1));
    assert_eq!(told["ok"], false);
    assert_eq!(found(&told, "signal-cli"), ["missing: there is no program no-such-signal-cli"]);
    assert_eq!(found(&told, "agent default"), ["missing: claude at api.anthropic.com has no key"]);
    assert_eq!(found(&told, "agent shop"), ["missing: there is no program no-such-brain"]);
    let (_, out, _) = home.run(&["doctor"]);
    assert!(out.contains("✗ signal-cli"), "{out}");
    assert!(out.contains("things are missing"), "{out}");
}

/// Who wants no Signal lacks nothing, and sees what it would need.
#[test]
fn what_nothing_depends_on_is_noted() {
    let home = Household::of("", "");
    std::fs::write(home.path("turnkeep.toml"), "").unwrap();
    let mut command = home.command(&["doctor", "--json"]);
    let output = command.env("PATH", "").env_remove("JAVA_HOME").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found(&told, "java"), ["note: there is no java"]);
    assert_eq!(found(&told, "signal-cli"), ["note: there is no program signal-cli"]);
}

#[test]
fn mistakes_of_the_file_are_told_with_their_lines() {
    let home = Household::of("nummer = 7", "");
    let (code, told) = doctor(&home);
    assert_eq!(code, Some(1));
    let mistakes = found(&told, "configuration");
    assert!(mistakes[0].contains("unknown key \"nummer\" in [signal]"), "{mistakes:?}");
    assert!(!found(&told, "data folder").is_empty(), "{told}");
}

#[test]
fn a_linked_account_and_a_server_that_runs_are_in_order() {
    let mut home = Household::new("[agents.default]\nkind = \"echo\"\n");
    let (code, told) = doctor(&home);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(found(&told, "account default"), [format!("ok: {NUMBER} is linked")]);
    home.link("+4915100000001");
    let (code, told) = doctor(&home);
    assert_eq!(code, Some(1));
    assert!(
        found(&told, "account default")[0].starts_with(&format!("missing: {NUMBER} is not linked")),
        "{told}"
    );
    home.link(NUMBER);
    home.start();
    let (code, told) = doctor(&home);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(found(&told, "server"), ["ok: it runs and takes messages"]);
    home.end();
}

/// Keys are never told.
#[test]
fn secrets_stay_secret() {
    let home = Household::new(
        "[agents.default]\nkind = \"anthropic\"\nmodel = \"claude\"\napi_key_env = \"THE_KEY\"\n",
    );
    let output = home.command(&["doctor"]).env("THE_KEY", "sk-marzipan").output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{out}");
    assert!(out.contains("claude at api.anthropic.com, with a key"), "{out}");
    assert!(!out.contains("marzipan"), "{out}");
}

/// The one that the tests bring along needs the Java that they bring along.
#[test]
fn the_real_one_is_found_with_its_version() {
    let program = repository("target/signal/bin/signal-cli");
    let home =
        Household::of(&format!("command = {program:?}"), "[agents.default]\nkind = \"echo\"\n");
    let (code, told) = doctor(&home);
    assert_eq!(code, Some(1));
    assert!(found(&told, "signal-cli")[0].starts_with("ok: signal-cli 0.13.19"), "{told}");
    let account = found(&told, "account default");
    assert!(account[0].starts_with(&format!("missing: {NUMBER} is not linked")), "{told}");
}
