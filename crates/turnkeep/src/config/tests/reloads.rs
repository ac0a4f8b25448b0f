//! What a reload would change, and what of it needs a restart.

use super::{load_layers, load_text};
use crate::config::{Changes, Env};

/// Started with the first, running with the second, and the third is read.
fn check(files: [&str; 3], changed: &[&str], needs_restart: &[&str]) {
    let [began, before, now] = files.map(|toml| load_text(toml).unwrap());
    let changes = Changes::between(&began, &before, &now);
    assert_eq!(changes.changed, changed, "{files:?}");
    assert_eq!(changes.needs_restart, needs_restart, "{files:?}");
}

#[test]
fn what_changed_is_told_by_section() {
    check(["", "", ""], &[], &[]);
    check(["", "", "log_level = \"debug\"\nhosts = [\"a.example\"]"], &["hosts", "log_level"], &[]);
    let agents = "[agents.default]\nkind = \"echo\"\n[agents.two]\nkind = \"echo\"\n";
    check(["", "", agents], &["agents.default", "agents.two"], &[]);
    check([agents, agents, "[agents.default]\nkind = \"echo\""], &["agents.two"], &[]);
    check(
        [agents, agents, &format!("{agents}window_ms = 3\n[tenants.a]\nerrors_max = 1")],
        &["agents.two", "tenants.a"],
        &[],
    );
    check(
        ["[guard]\nterms = [\"a\"]", "[guard]\nterms = [\"a\"]", "[guard]\nterms = [\"b\"]"],
        &["guard"],
        &[],
    );
}

/// What can't be changed is told until it is as it was at the start.
#[test]
fn what_needs_a_restart_is_held_against_the_start() {
    let moved = "listen = \"127.0.0.1:9\"\n[gateway]\nconnections_max = 7\nwait_seconds_max = 5";
    check(["", "", moved], &["gateway"], &["listen", "gateway.connections_max"]);
    check(["", moved, moved], &[], &["listen", "gateway.connections_max"]);
    check(["", moved, ""], &["gateway"], &[]);
    let traced = "[telemetry]\notlp_endpoint = \"http://h\"\nservice_name = \"s\"";
    check(["", "", traced], &[], &["telemetry.otlp_endpoint", "telemetry.service_name"]);
}

#[test]
fn a_secret_changes_its_agent_without_a_key_that_does() {
    let toml = "[agents.default]\nkind = \"openai\"\nmodel = \"m\"\nbase_url = \"http://h\"\n\
                api_key_env = \"K\"";
    let with = |secret| load_layers(toml, &Env::from([("K", secret)]), &[]).unwrap();
    let (one, two) = (with("one"), with("two"));
    assert_eq!(Changes::between(&one, &one, &two).changed, ["agents.default"]);
}
