//! The policy of a session: built-in, then each layer over it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use turnkeep_core::Policy;
use turnkeep_core::accumulation::Words;
use turnkeep_core::moderation::Moderation;
use turnkeep_core::policy::{BusyPolicy, ChannelFacts, channel_facts};

use super::budgets::BudgetLayers;
use super::notice::Notice;
use super::raw::{GatewayKeys, PolicyKeys};
use super::section::Section;
use super::value::{Set, Setting};

/// Who decides a key; a later one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decider {
    BuiltIn,
    Gateway,
    Tenant,
    Agent,
    Channel,
    Session,
}

impl Decider {
    /// Its name for programs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::Gateway => "gateway",
            Self::Tenant => "tenant",
            Self::Agent => "agent",
            Self::Channel => "channel",
            Self::Session => "session",
        }
    }
}

/// One line of the explanation: what a key is and which layer said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Explained {
    /// The key.
    pub(crate) key: &'static str,
    /// Its value, as it would be typed.
    pub(crate) value: String,
    /// Who decided.
    pub(crate) layer: Decider,
    /// The section of the file that says so, like `[channels.web]`, and where that is.
    pub(crate) typed: Option<(String, String)>,
}

impl Explained {
    /// Who decided, for people.
    pub(crate) fn decided_by(&self) -> String {
        match (&self.typed, self.layer) {
            (Some((section, place)), _) => format!("{section} ({place})"),
            (None, Decider::Session) => "the session itself".to_owned(),
            (None, _) => "built in".to_owned(),
        }
    }
}

/// One layer of the file, and its section.
pub(super) type Layer<'a> = (Decider, String, &'a PolicyKeys);

/// The layers of policy as typed.
#[derive(Clone, Debug, Default)]
pub(super) struct Policies {
    pub(super) gateway: PolicyKeys,
    pub(super) tenants: BTreeMap<String, PolicyKeys>,
    pub(super) agents: BTreeMap<String, PolicyKeys>,
    pub(super) channels: BTreeMap<&'static str, PolicyKeys>,
    /// What no layer says, because it is the same for everybody.
    pub(super) words: Option<Arc<Words>>,
    pub(super) moderation: Option<Moderation>,
    pub(super) budgets: BudgetLayers,
}

impl Policies {
    /// What concerns these sessions, the weakest first; none if there is no such channel.
    fn layers(
        &self,
        tenant: &str,
        agent: &str,
        channel: &str,
    ) -> Option<(ChannelFacts, Vec<Layer<'_>>)> {
        let facts = channel_facts(channel)?;
        let layers = [
            (Decider::Gateway, "[gateway]".to_owned(), Some(&self.gateway)),
            (Decider::Tenant, format!("[tenants.{tenant}]"), self.tenants.get(tenant)),
            (Decider::Agent, format!("[agents.{agent}]"), self.agents.get(agent)),
            (Decider::Channel, format!("[channels.{channel}]"), self.channels.get(channel)),
        ];
        let typed = layers.into_iter().filter_map(|(layer, name, keys)| Some((layer, name, keys?)));
        Some((*facts, typed.collect()))
    }

    /// The policy of such sessions, before what a session says itself.
    pub(super) fn resolve(&self, tenant: &str, agent: &str, channel: &str) -> Option<Policy> {
        let (facts, layers) = self.layers(tenant, agent, channel)?;
        let mut policy = Policy::built_in(facts);
        for (.., keys) in layers {
            apply(keys, &mut policy);
        }
        policy.words.clone_from(&self.words);
        policy.moderation = self.moderation;
        policy.budgets = self.budgets.resolve(tenant, agent, channel);
        Some(policy)
    }

    /// The same with the reasons.
    pub(super) fn explain(
        &self,
        tenant: &str,
        agent: &str,
        channel: &str,
    ) -> Option<Vec<Explained>> {
        let (facts, layers) = self.layers(tenant, agent, channel)?;
        let built_in = shown(&Policy::built_in(facts)).into_iter();
        let mut lines: Vec<Explained> = built_in
            .map(|(key, value)| Explained { key, value, layer: Decider::BuiltIn, typed: None })
            .collect();
        for (layer, section, keys) in layers {
            for (key, value, origin) in keys.shown() {
                if let Some(line) = lines.iter_mut().find(|line| line.key == key) {
                    let typed = Some((section.clone(), origin.to_string()));
                    *line = Explained { key, value, layer, typed };
                }
            }
        }
        lines.extend(self.budgets.explain(tenant, agent, channel));
        Some(lines)
    }
}

/// What a session chose itself stands over everything else.
pub(crate) fn with_choice(lines: &mut [Explained], busy: Option<BusyPolicy>) {
    let line = lines.iter_mut().find(|line| line.key == "busy_policy");
    if let (Some(line), Some(busy)) = (line, busy) {
        *line =
            Explained { key: line.key, value: busy.shown(), layer: Decider::Session, typed: None };
    }
}

/// The keys of `[gateway]` that every session's policy starts from.
pub(super) fn of_gateway(gateway: &GatewayKeys) -> PolicyKeys {
    PolicyKeys {
        max_queue_size: gateway.max_queue_size_per_session.clone(),
        message_queue_enabled: gateway.message_queue_enabled.clone(),
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
    set(&mut policy.queues, keys.message_queue_enabled.as_ref());
    set_seconds(&mut policy.queue_ttl_ms, keys.queue_ttl_seconds.as_ref());
    set(&mut policy.absorbed_max, keys.absorbed_max.as_ref());
    set(&mut policy.supersedes_max, keys.supersedes_max.as_ref());
    set(&mut policy.errors_max, keys.errors_max.as_ref());
    set(&mut policy.error_backoff_ms, keys.error_backoff_ms.as_ref());
    set(&mut policy.question_ms, keys.question_timeout_ms.as_ref());
    set_seconds(&mut policy.input_ms, keys.input_timeout_seconds.as_ref());
    if let Some(notice) = &keys.operator_notice {
        policy.operator_notice.clone_from(&notice.value.0);
    }
    set_seconds(&mut policy.operator_timeout_ms, keys.operator_timeout_seconds.as_ref());
    set_seconds(&mut policy.turn_ms, keys.turn_timeout_seconds.as_ref());
    set_seconds(&mut policy.silence_ms, keys.silence_timeout_seconds.as_ref());
    set(&mut policy.ambiguous, keys.on_unknown.as_ref());
    set(&mut policy.delivery_tries_max, keys.delivery_tries_max.as_ref());
    set(&mut policy.delivery_backoff_ms, keys.delivery_backoff_ms.as_ref());
    set(&mut policy.reply_bytes_max, keys.reply_bytes_max.as_ref());
    set(&mut policy.retention_days, keys.retention_days.as_ref());
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
        ("message_queue_enabled", policy.queues.shown()),
        ("queue_ttl_seconds", seconds(policy.queue_ttl_ms)),
        ("absorbed_max", policy.absorbed_max.shown()),
        ("supersedes_max", policy.supersedes_max.shown()),
        ("errors_max", policy.errors_max.shown()),
        ("error_backoff_ms", policy.error_backoff_ms.shown()),
        ("question_timeout_ms", policy.question_ms.shown()),
        ("input_timeout_seconds", seconds(policy.input_ms)),
        ("operator_notice", Notice(policy.operator_notice.clone()).shown()),
        ("operator_timeout_seconds", seconds(policy.operator_timeout_ms)),
        ("turn_timeout_seconds", seconds(policy.turn_ms)),
        ("silence_timeout_seconds", seconds(policy.silence_ms)),
        ("on_unknown", policy.ambiguous.shown()),
        ("delivery_tries_max", policy.delivery_tries_max.shown()),
        ("delivery_backoff_ms", policy.delivery_backoff_ms.shown()),
        ("reply_bytes_max", policy.reply_bytes_max.shown()),
        ("retention_days", policy.retention_days.shown()),
        ("rate_per_minute", policy.rate.per_minute.shown()),
        ("rate_burst", policy.rate.burst.shown()),
        ("tenant_rate_per_minute", policy.tenant_rate.per_minute.shown()),
        ("tenant_rate_burst", policy.tenant_rate.burst.shown()),
    ]
}
