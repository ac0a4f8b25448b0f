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
    assert!(out.contains("✗    signal-cli"), "{out}");
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
    let note = "note: not configured; it would need Java 21 and signal-cli, see docs/signal.md: \
                there is no program signal-cli; java: there is no java";
    assert_eq!(found(&told, "signal"), [note]);
    for part in ["java", "signal-cli"] {
        assert!(found(&told, part).is_empty(), "one line is enough: {told}");
    }
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

/// One fault is one, whoever meets it: an account that is not linked can neither send nor receive.
#[tokio::test(flavor = "multi_thread")]
async fn a_fault_is_counted_once() {
    let mut home = Household::new("[agents.default]\nkind = \"echo\"\n");
    home.link("+4915100000001");
    home.start();
    home.until("a reason why nothing comes in", async || {
        let told = home.ask("/v1/signal").await.unwrap();
        let fails = |half: &str| told["accounts"][0][half]["state"] == "failing";
        fails("receiving") && fails("sending")
    })
    .await;
    let (code, out, _) = home.run(&["doctor"]);
    assert_eq!(code, Some(1));
    assert!(out.ends_with("1 thing is missing\n"), "{out}");
    assert!(out.contains("note account default"), "{out}");
    home.end();
}

/// Whoever may not pass through a folder gets at nothing in it.
#[test]
fn a_folder_within_a_private_one_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Household::new("[agents.default]\nkind = \"echo\"\n");
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&home.data(), 0o755);
    mode(&home.data().join("signal/data"), 0o755);
    let above = home.data().parent().unwrap().to_owned();
    mode(&above, 0o700);
    let (_, told) = doctor(&home);
    assert!(found(&told, "data folder")[0].starts_with("ok: "), "{told}");
    assert!(!told.to_string().contains("open to everybody"), "{told}");
    mode(&above, 0o755);
    let (_, told) = doctor(&home);
    let open = found(&told, "data folder")[0].starts_with("note: ");
    // The folder above all of them may be private itself.
    let passes = above
        .ancestors()
        .all(|path| std::fs::metadata(path).unwrap().permissions().mode() & 0o001 != 0);
    assert_eq!(open, passes, "{told}");
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
