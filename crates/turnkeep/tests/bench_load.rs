//! `turnkeep bench` against its own server, pressed in each of the ways that it knows: what is
//! asserted is who is let in and what is told of it, never how long it took.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly, its helpers too")]

mod store_kit;

use assert_cmd::Command;
use serde_json::Value;

fn bench(args: &[&str]) -> Value {
    bench_with(args, &[])
}

/// The bench's own server has the bench's environment.
fn bench_with(args: &[&str], variables: &[(&str, &str)]) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnkeep"));
    command.env_clear().env("HOME", dir.path()).current_dir(dir.path());
    command.envs(store_kit::store(dir.path())).envs(variables.iter().copied());
    let output = command.args(["bench", "--json", "--delay-ms", "1"]).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn is_empty(value: &Value) -> bool {
    value.as_object().unwrap().is_empty()
}

#[test]
fn users_of_many_tenants_pass_the_guard() {
    let report = bench(&["--users", "20", "--messages", "2", "--tenants", "5", "--guard"]);
    assert_eq!((&report["complete"], &report["tenants"]), (&40.into(), &5.into()));
    assert!(is_empty(&report["refused"]), "{report}");
    assert!(report["disk_fsync_p50_ms"].as_f64().unwrap() > 0.0, "{report}");
}

#[test]
fn a_tenant_over_its_limit_is_refused_and_the_others_are_not() {
    let report = bench(&["--users", "5", "--tenants", "5", "--over-limit", "5", "--duration", "3"]);
    assert!(is_empty(&report["refused"]) && is_empty(&report["errors"]), "{report}");
    let flood = &report["flood"];
    let refused = flood["refused"]["429 rate_limit_exceeded"].as_u64().unwrap();
    let accepted = flood["accepted"].as_u64().unwrap();
    assert_eq!(flood["refused"].as_object().unwrap().len(), 1, "{flood}");
    assert!(refused > 0 && accepted >= 100, "{flood}");
}

#[test]
fn messages_come_at_a_rate_beside_slow_connections() {
    let args = ["--users", "10", "--messages", "5", "--rate", "100", "--slow-connections", "20"];
    let report = bench(&args);
    assert_eq!((&report["complete"], &report["rate_per_second"]), (&50.into(), &100.0.into()));
    assert_eq!((&report["slow"]["opened"], &report["slow"]["failed"]), (&20.into(), &0.into()));
}

#[test]
fn more_than_may_be_undecided_is_refused_and_counted() {
    let args = ["--users", "50", "--messages", "20", "--impatient"];
    let report = bench_with(&args, &[("TURNKEEP_GATEWAY_UNDECIDED_MAX", "1")]);
    let refused = report["refused"]["503 overloaded"].as_u64().unwrap();
    assert_eq!(report["refused"].as_object().unwrap().len(), 1, "{report}");
    assert_eq!(report["server"]["overloads"], refused, "{report}");
    assert_eq!(report["complete"].as_u64().unwrap() + refused, 1000, "{report}");
    assert_eq!((&report["reconnects"], &report["gave_up"]), (&0.into(), &0.into()), "{report}");
}

#[test]
fn the_guard_remembers_senders_whom_it_refuses() {
    let report = bench(&["--senders", "500"]);
    assert_eq!((&report["sent"], &report["mode"]), (&500.into(), &"open".into()));
    assert!(report["refused"]["429 rate_limit_exceeded"].as_u64().unwrap() >= 490, "{report}");
    assert_eq!(report["server"]["guard_customers"], 500, "{report}");
}
