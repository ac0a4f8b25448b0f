//! Which layer decides a key, and that every key reaches its field.

use turnkeep_core::policy::{AmbiguousDelivery, BusyPolicy, CHANNELS, WindowMode};

use super::{check, load_text};
use crate::config::{policy, raw};

fn check_policy(toml: &str, session: &str, expect: &[(&str, &str, &str)]) {
    let resolved = load_text(toml).unwrap();
    let parts: Vec<&str> = session.split(':').collect();
    let lines = resolved.explain(parts[0], parts[1], parts[2]).unwrap();
    for (key, value, layer) in expect {
        let line = lines.iter().find(|line| line.key == *key).unwrap();
        assert_eq!(line.value, *value, "{key} of {session}");
        let decided = line.decided_by();
        assert!(decided.starts_with(layer), "{key} of {session}: {decided}");
    }
}

const LAYERS: &str = r#"
[gateway]
max_queue_size_per_session = 7
queue_ttl_seconds = 60
[tenants.acme]
busy_policy = "queue"
errors_max = 1
max_queue_size = 8
[agents.default]
kind = "echo"
busy_policy = "reject"
[agents.default.policy]
window_ms = 42
[agents.other]
kind = "echo"
[channels.web]
window_ms = 43
"#;

#[test]
fn channel_wins_over_agent_over_tenant_over_gateway() {
    check_policy(
        LAYERS,
        "acme:default:web",
        &[
            ("window_ms", "43", "[channels.web] ("),
            ("busy_policy", "\"reject\"", "[agents.default] ("),
            ("errors_max", "1", "[tenants.acme] ("),
            ("max_queue_size", "8", "[tenants.acme] ("),
            ("queue_ttl_seconds", "60", "[gateway] ("),
            ("window_mode", "\"adaptive\"", "built in"),
        ],
    );
    check_policy(
        LAYERS,
        "someone:other:api",
        &[
            ("window_ms", "0", "built in"),
            ("busy_policy", "\"collect\"", "built in"),
            ("max_queue_size", "7", "[gateway] ("),
        ],
    );
    let resolved = load_text(LAYERS).unwrap();
    assert!(resolved.policy("acme", "nobody", "web").is_none());
    assert!(resolved.policy("acme", "default", "pigeon").is_none());
    let policy = resolved.policy("acme", "default", "web").unwrap();
    assert_eq!((policy.window_ms, policy.busy), (43, BusyPolicy::Reject));
    assert_eq!((policy.queue_ttl_ms, policy.inbox_max), (60_000, 8));
    // What is there though its agent is gone lives on by what the other layers say.
    let left = resolved.policy_left_behind("acme", "nobody", "web").unwrap();
    assert_eq!((left.window_ms, left.busy), (43, BusyPolicy::Queue));
    check(
        "[agents.a]\nkind = \"echo\"\nwindow_ms = 1\n[agents.a.policy]\nwindow_ms = 2",
        "turnkeep.toml:5: \"window_ms\" in [agents.a.policy] is set twice",
    );
}

/// Every policy key reaches the field it is named after: what is shown of a policy, typed into a
/// file, gives the same policy on any channel.
#[test]
fn shown_policies_can_be_typed_again() {
    for facts in CHANNELS {
        let mut policy = turnkeep_core::Policy::built_in(facts);
        policy.busy = BusyPolicy::Agent;
        policy.window_mode = WindowMode::Fixed;
        policy.ambiguous = AmbiguousDelivery::Dead;
        policy.queues = false;
        let numbers: [&mut u32; 9] = [
            &mut policy.window_ms,
            &mut policy.window_total_ms,
            &mut policy.inbox_max,
            &mut policy.absorbed_max,
            &mut policy.supersedes_max,
            &mut policy.errors_max,
            &mut policy.delivery_tries_max,
            &mut policy.reply_bytes_max,
            &mut policy.retention_days,
        ];
        for (number, value) in numbers.into_iter().zip(71..) {
            *number = value;
        }
        policy.operator_notice = Some("A \"person\" answers.\nHello!".into());
        let times: [&mut u64; 8] = [
            &mut policy.operator_timeout_ms,
            &mut policy.queue_ttl_ms,
            &mut policy.error_backoff_ms,
            &mut policy.question_ms,
            &mut policy.input_ms,
            &mut policy.turn_ms,
            &mut policy.silence_ms,
            &mut policy.delivery_backoff_ms,
        ];
        for (time, value) in times.into_iter().zip(11..) {
            *time = value * 1000;
        }
        let lines = policy::shown(&policy);
        let mut toml = format!("[channels.{}]\n", facts.name);
        for (key, value) in &lines {
            toml.push_str(&format!("{key} = {value}\n"));
        }
        let again = load_text(&toml).unwrap().policy("t", "default", facts.name).unwrap();
        assert_eq!(again, policy);
        let keys: Vec<&str> = raw::PolicyKeys::KEYS.iter().map(|key| key.name).collect();
        assert_eq!(lines.iter().map(|line| line.0).collect::<Vec<_>>(), keys);
    }
}

#[test]
fn a_session_has_the_last_word() {
    let resolved = load_text(LAYERS).unwrap();
    let mut lines = resolved.explain("acme", "default", "web").unwrap();
    policy::with_choice(&mut lines, None);
    let decided = |lines: &[policy::Explained]| {
        let line = lines.iter().find(|line| line.key == "busy_policy").unwrap();
        (line.value.clone(), line.layer.as_str(), line.decided_by())
    };
    assert_eq!(decided(&lines).1, "agent");
    policy::with_choice(&mut lines, Some(BusyPolicy::Absorb));
    let own = ("\"absorb\"".to_owned(), "session", "the session itself".to_owned());
    assert_eq!(decided(&lines), own);
}

#[test]
fn the_queue_is_switched_by_every_layer() {
    let queues =
        |toml: &str| load_text(toml).unwrap().policy("acme", "default", "web").unwrap().queues;
    let off = "[gateway]\nmessage_queue_enabled = false\n";
    assert!(queues(""));
    assert!(!queues(off));
    assert!(queues(&format!("{off}[tenants.acme]\nmessage_queue_enabled = true")));
    assert!(!queues("[channels.web]\nmessage_queue_enabled = false"));
}
