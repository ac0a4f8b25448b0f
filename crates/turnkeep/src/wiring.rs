//! The only place that names concrete adapters: makes a gateway out of a configuration.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, RwLock};

use anyhow::Context as _;
use turnkeep_agents::{EchoAgent, KeySource, OpenAiAgent};
use turnkeep_channels::{SpoolChannel, WebhookClient, WebhookCourier};
use turnkeep_core::Policy;
use turnkeep_core::policy::channel_facts;
use turnkeep_core::ports::agent::Agent;
use turnkeep_core::ports::channel::Channel;
use turnkeep_core::ports::keys::Keys;
use turnkeep_gateway::guard::GuardParts;
use turnkeep_gateway::listeners::{Listener, ListenerParts};
use turnkeep_gateway::{Gateway, Parts, Policies, Settings, UnknownPart};
use turnkeep_stores::{SqliteOptions, SqliteStore};

use crate::config::listeners::ListenerSettings;
use crate::config::resolved::OpenAiSettings;
use crate::config::{AgentSettings, Resolved};

/// Opens the store of this configuration's data folder.
pub(crate) fn open_store(resolved: &Resolved) -> anyhow::Result<Arc<SqliteStore>> {
    let options = SqliteOptions { kill_point: crate::killpoint::hook() };
    Ok(Arc::new(SqliteStore::open(&resolved.data_dir, options)?))
}

/// Opens the keys of a data folder that no server owns.
pub(crate) fn open_keys(data_dir: &Path) -> anyhow::Result<Arc<dyn Keys>> {
    Ok(Arc::new(SqliteStore::open(data_dir, SqliteOptions::default())?))
}

/// Puts a gateway together; nothing runs yet.
pub(crate) fn gateway(resolved: Resolved, store: Arc<SqliteStore>) -> anyhow::Result<Gateway> {
    let settings = Settings {
        message_bytes_max: resolved.gateway.message_bytes_max,
        shutdown_grace_ms: millis(resolved.shutdown_grace),
        log_text: resolved.log.text,
        ..Settings::default()
    };
    let agents = agents(&resolved)?;
    let channels = channels(&resolved)?;
    let listeners = ListenerParts { store: store.clone(), listeners: listeners(&resolved)? };
    let guard = GuardParts { settings: resolved.guard.clone(), record: store.clone() };
    let policies = Arc::new(ConfiguredPolicies { resolved, known: RwLock::default() });
    Ok(Gateway::new(Parts { store, agents, channels, policies, listeners, guard, settings }))
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn agents(resolved: &Resolved) -> anyhow::Result<HashMap<String, Arc<dyn Agent>>> {
    let make = |(name, settings): (&String, &AgentSettings)| {
        let agent: Arc<dyn Agent> = match settings {
            AgentSettings::Echo(echo) => Arc::new(EchoAgent {
                delay: echo.delay,
                stream: echo.stream,
                show_mail: echo.show_mail,
            }),
            AgentSettings::OpenAi(model) => Arc::new(
                OpenAiAgent::new(open_ai(model)).with_context(|| format!("[agents.{name}]"))?,
            ),
        };
        Ok((name.clone(), agent))
    };
    resolved.agents.iter().map(make).collect()
}

fn open_ai(model: &OpenAiSettings) -> turnkeep_agents::OpenAiSettings {
    let defaults = turnkeep_agents::OpenAiSettings::new(&model.base_url, &model.model);
    let mut extra = defaults.extra.clone();
    if let Some(temperature) = model.temperature {
        extra.insert("temperature".to_owned(), temperature.into());
    }
    if let Some(tokens_max) = model.tokens_max {
        extra.insert("max_tokens".to_owned(), tokens_max.into());
    }
    turnkeep_agents::OpenAiSettings {
        key: match &model.api_key {
            Some(key) => KeySource::given(key.expose()),
            None => KeySource::None,
        },
        system_prompt: model.system_prompt.clone(),
        history_messages: model.history_messages_max,
        history_tokens: u32::try_from(model.history_tokens_max).unwrap_or(u32::MAX),
        silence_timeout: model.timeout,
        retries_max: model.retries_max,
        slots: model.concurrency_max,
        extra,
        ..defaults
    }
}

fn channels(resolved: &Resolved) -> anyhow::Result<HashMap<String, Arc<dyn Channel>>> {
    let make = |(name, path): (&&'static str, &std::path::PathBuf)| {
        let facts = *channel_facts(name).context("a spool for an unknown channel")?;
        let spool = SpoolChannel::new(facts, path)
            .with_context(|| format!("[channels.{name}] spool = {path:?}"))?;
        let channel: Arc<dyn Channel> = Arc::new(spool);
        Ok(((*name).to_owned(), channel))
    };
    resolved.spools.iter().map(make).collect()
}

fn listeners(resolved: &Resolved) -> anyhow::Result<Vec<Listener>> {
    if resolved.listeners.is_empty() {
        return Ok(Vec::new());
    }
    let client = WebhookClient::new(&resolved.callbacks_may_reach)?;
    let make = |settings: &ListenerSettings| {
        let courier = WebhookCourier::new(&client, &settings.url, settings.secret.expose())
            .with_context(|| format!("the listener {}", settings.name))?;
        Ok(Listener {
            name: settings.name.clone(),
            selector: settings.selector.clone(),
            pattern: settings.pattern.clone(),
            include_text: settings.include_text,
            receiver: settings.receiver(),
            courier: Arc::new(courier),
        })
    };
    resolved.listeners.iter().map(make).collect()
}

/// Policies by (tenant, agent, channel), each resolved once.
struct ConfiguredPolicies {
    resolved: Resolved,
    known: RwLock<HashMap<String, Arc<Policy>>>,
}

/// Tenants are named by whoever sends, so what is remembered has a bound.
const POLICIES_MAX: usize = 10_000;

impl Policies for ConfiguredPolicies {
    fn policy(&self, tenant: &str, agent: &str, channel: &str) -> Result<Arc<Policy>, UnknownPart> {
        let name = format!("{}:{tenant}:{agent}:{channel}", tenant.len());
        let known = self.known.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(policy) = known.get(&name) {
            return Ok(Arc::clone(policy));
        }
        drop(known);
        if !self.resolved.agents.contains_key(agent) {
            return Err(UnknownPart::Agent);
        }
        let policy = self.resolved.policy(tenant, agent, channel).ok_or(UnknownPart::Channel)?;
        let policy = Arc::new(policy);
        let mut known = self.known.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if known.len() >= POLICIES_MAX {
            known.clear();
        }
        known.insert(name, Arc::clone(&policy));
        Ok(policy)
    }
}
