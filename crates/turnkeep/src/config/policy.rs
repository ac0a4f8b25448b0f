//! The policy of a session: built-in, then each layer over it.

use std::time::Duration;

use turnkeep_core::Policy;
use turnkeep_core::policy::ChannelFacts;

use super::raw::{GatewayKeys, PolicyKeys};
use super::section::Section;
use super::value::{Set, Setting};

/// One line of the explanation: what a key is and which layer said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Explained {
    /// The key.
    pub(crate) key: &'static str,
    /// Its value, as it would be typed.
    pub(crate) value: String,
    /// Who decided, and where that stands.
    pub(crate) layer: String,
}

/// One layer, and what it is called in explanations.
pub(super) type Layer<'a> = (String, &'a PolicyKeys);

/// The policy that these layers give, the weakest first.
pub(super) fn resolve(facts: ChannelFacts, layers: &[Layer<'_>]) -> Policy {
    let mut policy = Policy::built_in(facts);
    for (_, keys) in layers {
        apply(keys, &mut policy);
    }
    policy
}

/// The same with the reasons.
pub(super) fn explain(facts: ChannelFacts, layers: &[Layer<'_>]) -> Vec<Explained> {
    let built_in = shown(&Policy::built_in(facts)).into_iter();
    let mut lines: Vec<Explained> =
        built_in.map(|(key, value)| Explained { key, value, layer: "built in".into() }).collect();
    for (name, keys) in layers {
        for (key, value, origin) in keys.shown() {
            if let Some(line) = lines.iter_mut().find(|line| line.key == key) {
                *line = Explained { key, value, layer: format!("{name} ({origin})") };
            }
        }
    }
    lines
}

/// The two keys of `[gateway]` that every session's policy starts from.
pub(super) fn of_gateway(gateway: &GatewayKeys) -> PolicyKeys {
    PolicyKeys {
        max_queue_size: gateway.max_queue_size_per_session.clone(),
        queue_ttl_seconds: gateway.queue_ttl_seconds.clone(),
        ..PolicyKeys::default()
    }
}

fn set<T: Copy>(field: &mut T, key: Option<&Set<T>>) {
    if let Some(set) = key {
        *field = set.value;
    }
}

fn set_seconds(field_ms: &mut u64, key: Option<&Set<u64>>) {
    if let Some(set) = key {
        *field_ms = set.value.saturating_mul(1000);
    }
}

fn apply(keys: &PolicyKeys, policy: &mut Policy) {
    set(&mut policy.window_ms, keys.window_ms.as_ref());
    set(&mut policy.window_mode, keys.window_mode.as_ref());
    set(&mut policy.window_total_ms, keys.window_total_ms.as_ref());
    set(&mut policy.busy, keys.busy_policy.as_ref());
    set(&mut policy.inbox_max, keys.max_queue_size.as_ref());
    set_seconds(&mut policy.queue_ttl_ms, keys.queue_ttl_seconds.as_ref());
    set(&mut policy.absorbed_max, keys.absorbed_max.as_ref());
    set(&mut policy.supersedes_max, keys.supersedes_max.as_ref());
    set(&mut policy.errors_max, keys.errors_max.as_ref());
    set(&mut policy.error_backoff_ms, keys.error_backoff_ms.as_ref());
    set(&mut policy.question_ms, keys.question_timeout_ms.as_ref());
    set_seconds(&mut policy.input_ms, keys.input_timeout_seconds.as_ref());
    set_seconds(&mut policy.turn_ms, keys.turn_timeout_seconds.as_ref());
    set_seconds(&mut policy.silence_ms, keys.silence_timeout_seconds.as_ref());
    set(&mut policy.ambiguous, keys.on_unknown.as_ref());
    set(&mut policy.delivery_tries_max, keys.delivery_tries_max.as_ref());
    set(&mut policy.delivery_backoff_ms, keys.delivery_backoff_ms.as_ref());
    set(&mut policy.reply_bytes_max, keys.reply_bytes_max.as_ref());
    set(&mut policy.rate.per_minute, keys.rate_per_minute.as_ref());
    set(&mut policy.rate.burst, keys.rate_burst.as_ref());
    set(&mut policy.tenant_rate.per_minute, keys.tenant_rate_per_minute.as_ref());
    set(&mut policy.tenant_rate.burst, keys.tenant_rate_burst.as_ref());
}

/// A policy as it would be typed; the mirror image of [`apply`].
pub(super) fn shown(policy: &Policy) -> Vec<(&'static str, String)> {
    let seconds = |ms: u64| Duration::from_millis(ms).as_secs().shown();
    vec![
        ("window_ms", policy.window_ms.shown()),
        ("window_mode", policy.window_mode.shown()),
        ("window_total_ms", policy.window_total_ms.shown()),
        ("busy_policy", policy.busy.shown()),
        ("max_queue_size", policy.inbox_max.shown()),
        ("queue_ttl_seconds", seconds(policy.queue_ttl_ms)),
        ("absorbed_max", policy.absorbed_max.shown()),
        ("supersedes_max", policy.supersedes_max.shown()),
        ("errors_max", policy.errors_max.shown()),
        ("error_backoff_ms", policy.error_backoff_ms.shown()),
        ("question_timeout_ms", policy.question_ms.shown()),
        ("input_timeout_seconds", seconds(policy.input_ms)),
        ("turn_timeout_seconds", seconds(policy.turn_ms)),
        ("silence_timeout_seconds", seconds(policy.silence_ms)),
        ("on_unknown", policy.ambiguous.shown()),
        ("delivery_tries_max", policy.delivery_tries_max.shown()),
        ("delivery_backoff_ms", policy.delivery_backoff_ms.shown()),
        ("reply_bytes_max", policy.reply_bytes_max.shown()),
        ("rate_per_minute", policy.rate.per_minute.shown()),
        ("rate_burst", policy.rate.burst.shown()),
        ("tenant_rate_per_minute", policy.tenant_rate.per_minute.shown()),
        ("tenant_rate_burst", policy.tenant_rate.burst.shown()),
    ]
}
