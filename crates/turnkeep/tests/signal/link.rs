//! `turnkeep signal link`, `accounts` and `status`.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::kit::{Household, NUMBER};

const LINKED: &str = "+4915100000007";

fn fresh() -> Household {
    let home = Household::new("");
    std::fs::write(home.path("phone/link.number"), LINKED).unwrap();
    home
}

#[test]
fn a_pipe_gets_the_address_and_the_section() {
    let home = fresh();
    let (code, out, said) = home.run(&["signal", "link", "--name", "Kitchen"]);
    assert_eq!(code, Some(0), "{said}");
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("sgnl://linkdevice?uuid="), "{out}");
    assert_eq!(lines[1..], ["[signal]", &format!("number = \"{LINKED}\"")]);
    assert!(said.contains(&format!("linked {LINKED}")), "{said}");
    // It is told its name.
    let start = home.noted("starts.jsonl").pop().unwrap();
    assert!(start["args"].as_array().unwrap().contains(&"Kitchen".into()), "{start}");
}

/// Where nothing is configured yet, the file is written that the next start reads.
#[test]
fn the_section_is_written_if_that_is_wanted() {
    let home = fresh();
    // signal-cli is looked for in PATH.
    let bin = home.path("bin");
    std::fs::create_dir(&bin).unwrap();
    let daemon = crate::kit::repository("crates/channels/tests/signal/daemon.py");
    let start = format!("#!/bin/sh\nexec python3 {daemon:?} \"$@\"\n");
    std::fs::write(bin.join("signal-cli"), start).unwrap();
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(bin.join("signal-cli"), mode).unwrap();
    std::fs::write(home.path("turnkeep.toml"), "log_text = true\n").unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let output = home.command(&["signal", "link", "--write"]).env("PATH", &path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let written = std::fs::read_to_string(home.path("turnkeep.toml")).unwrap();
    assert_eq!(written, format!("log_text = true\n\n[signal]\nnumber = \"{LINKED}\"\n"));
    // Twice would be a mistake in the file.
    let (code, _, said) = home.run(&["signal", "link", "--write"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("has a [signal] already"), "{said}");
}

#[test]
fn accounts_are_those_of_signal_cli() {
    let home = fresh();
    let (code, out, said) = home.run(&["signal", "accounts"]);
    assert_eq!(
        (code, &*out),
        (Some(0), &*format!("number\tconfigured as\n{NUMBER}\tdefault\n")),
        "{said}"
    );
    home.link(LINKED);
    let (code, out, said) = home.run(&["signal", "accounts", "--json"]);
    assert_eq!(code, Some(1), "{said}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["linked"][0]["number"], LINKED);
    assert_eq!(told["not_linked"][0], NUMBER);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_tells_how_its_accounts_are() {
    let mut home = Household::started("[agents.default]\nkind = \"echo\"\n");
    let works = |told: &Value| told["accounts"][0]["receiving"]["state"] == "working";
    home.until("an account that works", async || {
        home.ask("/v1/signal").await.is_some_and(|told| works(&told))
    })
    .await;
    let (code, out, said) = home.run(&["signal", "status"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(out.contains("default\tworking"), "{out}");
    let told = home.ask("/v1/signal").await.unwrap();
    assert_eq!(told["accounts"][0]["restarts"], 0);
    home.kill_daemon();
    home.until("another start", async || {
        let told = home.ask("/v1/signal").await.unwrap();
        told["accounts"][0]["restarts"] == 1 && works(&told)
    })
    .await;
    assert!(home.ask("/readyz").await.unwrap()["signal"].is_null());
    home.end();
}
