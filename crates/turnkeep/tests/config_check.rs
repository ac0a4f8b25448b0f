//! `turnkeep check` as a person sees it, and the documents that are made from the keys.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly, its helpers too")]

use std::path::{Path, PathBuf};

use assert_cmd::Command;

/// The program with nothing of the surroundings.
fn turnkeep(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnkeep"));
    command.env_clear().env("HOME", dir).current_dir(dir);
    command
}

/// With this file in the working directory: what is printed, what is said, and the exit code.
fn check(toml: &str, args: &[&str], code: i32, said: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("turnkeep.toml"), toml).unwrap();
    let output = turnkeep(dir.path()).arg("check").args(args).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), said, "for\n{toml}");
    assert_eq!(output.status.code(), Some(code), "for\n{toml}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn wrong_keys_are_named_with_their_line() {
    check(
        "[channels.web]\n\nwindow_m = 1\n",
        &[],
        1,
        "turnkeep.toml:3: unknown key \"window_m\" in [channels.web]; did you mean \
         \"window_ms\"?\n1 mistake\n",
    );
    check(
        "listen = 1\n[gateway]\nqueue_ttl_seconds = -1\n",
        &[],
        1,
        "turnkeep.toml:1: \"listen\" must be an address and a port, like \"127.0.0.1:7878\", not \
         1\n\
         turnkeep.toml:3: \"queue_ttl_seconds\" in [gateway] must be a whole number from 0 to \
         31536000, not -1\n2 mistakes\n",
    );
}

#[test]
fn one_mistake_is_counted_once() {
    check(
        "[agents.default]\nkind = \"htp\"\nurl = \"ftp://h\"\n[tools.shop]\ncommand = \"x\"\n\
         effects = { pay = \"irreversable\" }\n",
        &[],
        1,
        "turnkeep.toml:2: \"kind\" in [agents.default] must be one of echo, openai, anthropic, command, \
         http, not \"htp\"; did you mean \"http\"?\n\
         turnkeep.toml:3: \"url\" in [agents.default] must be an address that begins with http:// or \
         https://, without a password in it, not \"ftp://h\"\n\
         turnkeep.toml:6: \"pay\" in [tools.shop.effects] must be pure, idempotent, compensatable or \
         irreversible, not \"irreversable\"; did you mean \"irreversible\"?\n3 mistakes\n",
    );
    check(
        "[agents.default]\nkind = \"command\"\ncomand = \"true\"\n[tools.four]\ncomand = \"true\"\n\
         [agents.b]\nkid = \"echo\"\n[tools.five]\ncommand = \"/bin/true\"\nkind = \"stdio\"\n",
        &[],
        1,
        "turnkeep.toml:3: unknown key \"comand\" in [agents.default]; did you mean \"command\"?\n\
         turnkeep.toml:5: unknown key \"comand\" in [tools.four]; did you mean \"command\"?\n\
         turnkeep.toml:7: unknown key \"kid\" in [agents.b]; did you mean \"kind\"?\n\
         turnkeep.toml:10: unknown key \"kind\" in [tools.five]; it belongs in [store] or in \
         [agents.NAME]\n4 mistakes\n",
    );
}

#[test]
fn what_stands_there_twice_is_named_once() {
    check(
        "[agents.default]\nkind = \"echo\"\n\n[agents.default] # again\nkind = \"echo\"\n\n[gateway]\n\
         errors_max = 1\nerrors_max = 2\n",
        &[],
        1,
        "turnkeep.toml:4: duplicate key: [agents.default] stands there twice\n\
         turnkeep.toml:9: duplicate key: \"errors_max\" is set twice\n2 mistakes\n",
    );
}

#[test]
fn a_folder_that_is_not_there_is_noted() {
    let toml = "[agents.default]\nkind = \"command\"\ncommand = \"/bin/true\"\ndir = \"/gone\"\n\
                [tools.shop]\ncommand = \"/bin/true\"\ndir = \"/bin/true\"\n\
                [agents.b]\nkind = \"command\"\ncommand = \"/bin/true\"\ndir = \"/gone\"\n\
                worktree = { repository = \"/\" }\n";
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("turnkeep.toml"), toml).unwrap();
    let output = turnkeep(dir.path()).arg("check").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    for expect in [
        "note: turnkeep.toml:4: \"dir\" in [agents.default]: there is no folder /gone\n",
        "note: turnkeep.toml:7: \"dir\" in [tools.shop]: /bin/true is no folder\n",
    ] {
        assert!(said.contains(expect), "{said}");
    }
    assert!(!said.contains("[agents.b]"), "it is started in worktrees: {said}");
    assert!(output.status.success(), "it may be there by then");
}

#[test]
fn a_program_that_is_not_in_the_path_is_noted() {
    let dir = tempfile::tempdir().unwrap();
    let toml = "[agents.default]\nkind = \"command\"\ncommand = [\"brian\", \"x\"]\n";
    std::fs::write(dir.path().join("turnkeep.toml"), toml).unwrap();
    let output = turnkeep(dir.path()).env("PATH", "/a:/b").arg("check").output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "note: turnkeep.toml:3: \"command\" in [agents.default]: no program \"brian\" is in the PATH, \
         which is \"/a:/b\"\n"
    );
    assert!(output.status.success(), "it may be there by then");
}

#[test]
fn what_is_right_is_summed_up() {
    let printed = check(
        "listen = \"127.0.0.1:1234\"\ndata_dir = \"data\"\n[agents.default]\nkind = \"echo\"\n\
         delay_ms = 5\n[gateway]\nfallback_to_sync = true\n",
        &[],
        0,
        "note: turnkeep.toml:7: \"fallback_to_sync\" has no effect without [hatchet]: there is no \
         workflow engine to fall back from\n",
    );
    // The folder is told whole, wherever the test runs.
    let (before, rest) = printed.split_once("data in     /").unwrap();
    let (folder, after) = rest.split_once('\n').unwrap();
    assert_eq!(before, "turnkeep.toml is in order\nlistens on  http://127.0.0.1:1234\n");
    assert!(folder.ends_with("/data"), "{folder}");
    assert_eq!(after, "agent       default: echo, 5 ms\n");
}

#[test]
fn an_address_is_shown_without_its_password() {
    let agent = |url: &str| {
        format!("[agents.default]\nkind = \"openai\"\nmodel = \"m\"\nbase_url = {url:?}\n")
    };
    let printed = check(&agent("https://ann:hunter2@example.org/v1"), &[], 0, "");
    assert!(printed.ends_with("default: m at https://ann:***@example.org/v1\n"), "{printed}");
    let printed = check(&agent("http://ann@example.org"), &[], 0, "");
    assert!(printed.ends_with("default: m at http://ann@example.org\n"), "{printed}");
}

#[test]
fn policies_are_explained() {
    let printed = check(
        "[tenants.acme]\nerrors_max = 7\n[channels.web]\nwindow_ms = 9\n",
        &["--explain", "acme:default:web"],
        0,
        "",
    );
    assert!(printed.contains("window_ms\t9\t[channels.web] (turnkeep.toml:4)\n"), "{printed}");
    assert!(printed.contains("errors_max\t7\t[tenants.acme] (turnkeep.toml:2)\n"), "{printed}");
    assert!(printed.contains("absorbed_max\t50\tbuilt in\n"), "{printed}");
    let agent = "no agent \"nobody\" is configured; agents are default\n";
    check("", &["--explain", "acme:nobody:web"], 1, agent);
    let channel = "there is no channel \"fax\"; channels are signal, web, terminal, whatsapp, sms, \
                   email, voice, api\n";
    check("", &["--explain", "acme:default:fax"], 1, channel);
    check("", &["--explain", "acme:nobody:fax"], 1, &format!("{agent}{channel}"));
    // Nobody has written yet, so only the channel's own window counts.
    let printed = check("", &["--explain", "acme:default:web", "--saying", "hi"], 0, "");
    assert!(printed.contains("\nbase\t600\twindow_ms is built in\n"), "{printed}");
    assert!(printed.contains("\nrhythm\t+0\tnot known yet\n"), "{printed}");
    assert!(printed.contains("\nwindow\t1300\t"), "{printed}");
    let fixed = "[channels.web]\nwindow_mode = \"fixed\"\n";
    let printed = check(fixed, &["--explain", "acme:default:web"], 0, "");
    assert!(printed.ends_with("window\t600\twindow_mode is fixed; window_ms is built in\n"));
    let printed = check("", &["--explain", "acme:default:api", "--json"], 0, "");
    let window = serde_json::json!({"mode": "adaptive", "window_ms": 0, "total_ms": 5000,
                                    "adaptive": null});
    assert_eq!(json(&printed)["window"], window);
}

#[test]
fn policies_are_explained_to_programs() {
    let toml = "[tenants.acme]\nerrors_max = 7\n[channels.web]\nbusy_policy = \"queue\"\n";
    let explained = json(&check(toml, &["--explain", "acme:default:web", "--json"], 0, ""));
    assert_eq!(explained["tenant_id"], "acme");
    let key = |name: &str| {
        let keys = explained["keys"].as_array().unwrap();
        keys.iter().find(|line| line["key"] == name).cloned().unwrap()
    };
    assert_eq!(
        key("errors_max"),
        serde_json::json!({"key": "errors_max", "value": 7, "layer": "tenant",
                           "section": "[tenants.acme]", "at": "turnkeep.toml:2"})
    );
    assert_eq!((key("busy_policy")["value"].as_str()), Some("queue"));
    assert_eq!(
        key("window_ms"),
        serde_json::json!({"key": "window_ms", "value": 600, "layer": "built-in",
                           "section": null, "at": null})
    );
    let strange = turnkeep(Path::new("/")).args(["check", "--explain", "acme"]).output().unwrap();
    assert_eq!(strange.status.code(), Some(2));
}

#[test]
fn flags_and_variables_are_named_when_they_are_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let run = |variable: (&str, &str), args: &[&str]| {
        let mut command = turnkeep(dir.path());
        let output = command.env(variable.0, variable.1).arg("check").args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = run(("TURNKEEP_LISTEN", "nowhere"), &[]);
    assert_eq!(code, Some(1));
    assert!(said.starts_with("TURNKEEP_LISTEN: must be an address and a port"), "{said}");
    let (code, said) = run(("TURNKEEP_LISTEN", "nowhere"), &["--listen", "127.0.0.1:1"]);
    assert_eq!(code, Some(1), "a wrong variable is a mistake even where a flag wins: {said}");
    let (code, said) = run(("UNRELATED", ""), &["--listen", "nowhere"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("--listen"), "{said}");
    let (code, said) = run(("UNRELATED", ""), &["--listen", "0.0.0.0:80"]);
    assert_eq!(code, Some(0));
    let note = "note: --listen: other machines can reach 0.0.0.0:80, so the server starts only";
    assert!(said.starts_with(note), "{said}");
}

fn repository(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file)
}

/// The documents in the repository are what the program prints.
#[test]
fn documents_are_up_to_date() {
    let documents = [
        ("--example", "turnkeep.example.toml"),
        ("--reference", "docs/configuration.md"),
        ("--schema", "docs/turnkeep.schema.json"),
    ];
    for (flag, file) in documents {
        let dir = tempfile::tempdir().unwrap();
        let output = turnkeep(dir.path()).args(["check", flag]).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let stored = std::fs::read_to_string(repository(file)).unwrap();
        // The order of a schema's keys may differ from build to build.
        let same =
            if flag == "--schema" { json(&printed) == json(&stored) } else { printed == stored };
        assert!(same, "{file} is old; run `turnkeep check {flag} > {file}`");
    }
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_example_is_in_order() {
    let stored = std::fs::read_to_string(repository("turnkeep.example.toml")).unwrap();
    check(&stored, &[], 0, "");
}
