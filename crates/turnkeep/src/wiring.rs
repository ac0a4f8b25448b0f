//! The only place that names concrete adapters: makes a gateway out of a configuration.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, RwLock};

use anyhow::Context as _;
use turnkeep_agents::{CommandAgent, EchoAgent, KeySource, OpenAiAgent};
use turnkeep_channels::{HttpModerator, SpoolChannel, WebhookClient, WebhookCourier};
use turnkeep_core::policy::channel_facts;
use turnkeep_core::ports::agent::Agent;
use turnkeep_core::ports::channel::Channel;
use turnkeep_core::ports::keys::Keys;
use turnkeep_core::ports::moderator::Moderator;
use turnkeep_core::{Policy, Session, SessionKey};
use turnkeep_gateway::guard::GuardParts;
use turnkeep_gateway::listeners::{Listener, ListenerParts};
use turnkeep_gateway::{Gateway, Parts, Policies, Replacement, Settings, UnknownPart};
use turnkeep_stores::{SqliteOptions, SqliteReader, SqliteStore};

use crate::config::command::CommandSettings;
use crate::config::listeners::{ListenerSettings, SigningSecret};
use crate::config::resolved::OpenAiSettings;
use crate::config::{AgentSettings, ApiKey, Resolved};
use crate::telemetry::Telemetry;

/// Opens the store of this configuration's data folder.
pub(crate) fn open_store(resolved: &Resolved) -> anyhow::Result<Arc<SqliteStore>> {
    let options = SqliteOptions { kill_point: crate::killpoint::hook() };
    Ok(Arc::new(SqliteStore::open(&resolved.data_dir, options)?))
}

/// Opens the keys of a data folder that no server owns.
pub(crate) fn open_keys(data_dir: &Path) -> anyhow::Result<Arc<dyn Keys>> {
    Ok(Arc::new(SqliteStore::open(data_dir, SqliteOptions::default())?))
}

/// What a session of this data folder stored last; also while a server owns the folder.
pub(crate) fn stored_session(
    data_dir: &Path,
    key: &SessionKey,
) -> anyhow::Result<Option<Arc<Session>>> {
    Ok(SqliteReader::open(data_dir)?.load(key)?.map(|loaded| loaded.session))
}

/// Everything that a configuration was made into, kept so that the next one can take over what is
/// the same: an agent, a channel or a listener that nobody changed goes on as it is.
pub(crate) struct Wired {
    pub(crate) resolved: Arc<Resolved>,
    agents: HashMap<String, Arc<dyn Agent>>,
    channels: HashMap<String, Arc<dyn Channel>>,
    listeners: Vec<Listener>,
    moderator: Option<Arc<dyn Moderator>>,
}

/// Makes what is configured, or takes it over.
pub(crate) fn wire(resolved: Resolved, before: Option<&Wired>) -> anyhow::Result<Wired> {
    let agents = agents(&resolved, before)?;
    let channels = channels(&resolved, before)?;
    let listeners = listeners(&resolved, before)?;
    let moderator = moderator(&resolved, before)?;
    Ok(Wired { resolved: Arc::new(resolved), agents, channels, listeners, moderator })
}

impl Wired {
    /// Puts a gateway together; nothing runs yet.
    pub(crate) fn gateway(
        &self,
        store: Arc<SqliteStore>,
        telemetry: Option<&Telemetry>,
    ) -> Gateway {
        let Replacement { agents, channels, policies, guard, moderator, listeners, settings } =
            self.replacement();
        let listeners = ListenerParts { store: store.clone(), listeners };
        let guard = GuardParts { settings: guard, record: store.clone() };
        Gateway::new(Parts {
            care: store.clone(),
            store,
            agents,
            channels,
            policies,
            listeners,
            guard,
            moderator,
            tracer: telemetry.map(|telemetry| telemetry.exporter.clone() as _),
            settings,
        })
    }

    /// For a gateway that runs already.
    pub(crate) fn replacement(&self) -> Replacement {
        let resolved = &self.resolved;
        Replacement {
            agents: self.agents.clone(),
            channels: self.channels.clone(),
            policies: Arc::new(ConfiguredPolicies {
                resolved: Arc::clone(resolved),
                known: RwLock::default(),
            }),
            guard: resolved.guard.clone(),
            moderator: self.moderator.clone(),
            listeners: self.listeners.clone(),
            settings: Settings {
                message_bytes_max: resolved.gateway.message_bytes_max,
                undecided_max: resolved.gateway.undecided_max,
                shutdown_grace_ms: millis(resolved.shutdown_grace),
                log_text: resolved.log.text,
                ..Settings::default()
            },
        }
    }
}

/// Begins to send spans, where that is configured.
pub(crate) fn telemetry(resolved: &Resolved) -> anyhow::Result<Option<Telemetry>> {
    resolved.telemetry.as_ref().map(Telemetry::start).transpose()
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn agents(
    resolved: &Resolved,
    before: Option<&Wired>,
) -> anyhow::Result<HashMap<String, Arc<dyn Agent>>> {
    let make = |(name, settings): (&String, &AgentSettings)| {
        let same = before.filter(|before| before.resolved.agents.get(name) == Some(settings));
        if let Some(agent) = same.and_then(|before| before.agents.get(name)) {
            return Ok((name.clone(), Arc::clone(agent)));
        }
        let agent: Arc<dyn Agent> = match settings {
            AgentSettings::Echo(echo) => Arc::new(EchoAgent {
                delay: echo.delay,
                stream: echo.stream,
                show_mail: echo.show_mail,
            }),
            AgentSettings::OpenAi(model) => Arc::new(
                OpenAiAgent::new(open_ai(model)).with_context(|| format!("[agents.{name}]"))?,
            ),
            AgentSettings::Command(program) => Arc::new(CommandAgent::new(command(program))),
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

fn command(program: &CommandSettings) -> turnkeep_agents::CommandSettings {
    let secrets = program.secrets.iter();
    let secrets = secrets.map(|(name, secret)| (name.clone(), secret.expose().to_owned()));
    turnkeep_agents::CommandSettings {
        command: program.command.clone(),
        dir: Some(program.dir.clone()),
        env: program.env.clone().into_iter().chain(secrets).collect(),
        processes_max: program.processes_max,
    }
}

/// Who checks messages; the same as before where nothing of it changed.
fn moderator(
    resolved: &Resolved,
    before: Option<&Wired>,
) -> anyhow::Result<Option<Arc<dyn Moderator>>> {
    let Some(settings) = &resolved.moderation else { return Ok(None) };
    let same = before.filter(|before| before.resolved.moderation == resolved.moderation);
    if let Some(moderator) = same.and_then(|before| before.moderator.clone()) {
        return Ok(Some(moderator));
    }
    let secret = settings.secret.as_ref().map(ApiKey::expose);
    let moderator = HttpModerator::new(&settings.url, secret).context("[guard] moderation_url")?;
    Ok(Some(Arc::new(moderator)))
}

fn channels(
    resolved: &Resolved,
    before: Option<&Wired>,
) -> anyhow::Result<HashMap<String, Arc<dyn Channel>>> {
    let make = |(name, path): (&&'static str, &std::path::PathBuf)| {
        let same = before.filter(|before| before.resolved.spools.get(name) == Some(path));
        if let Some(channel) = same.and_then(|before| before.channels.get(*name)) {
            return Ok(((*name).to_owned(), Arc::clone(channel)));
        }
        let facts = *channel_facts(name).context("a spool for an unknown channel")?;
        let spool = SpoolChannel::new(facts, path)
            .with_context(|| format!("[channels.{name}] spool = {path:?}"))?;
        let channel: Arc<dyn Channel> = Arc::new(spool);
        Ok(((*name).to_owned(), channel))
    };
    resolved.spools.iter().map(make).collect()
}

fn listeners(resolved: &Resolved, before: Option<&Wired>) -> anyhow::Result<Vec<Listener>> {
    if resolved.listeners.is_empty() {
        return Ok(Vec::new());
    }
    let reach = &resolved.callbacks_may_reach;
    let before = before.filter(|before| before.resolved.callbacks_may_reach == *reach);
    let client = WebhookClient::new(reach)?;
    let make = |settings: &ListenerSettings| {
        let same = before.filter(|before| before.resolved.listeners.contains(settings));
        let kept = same.and_then(|before| {
            before.listeners.iter().find(|listener| listener.name == settings.name)
        });
        if let Some(listener) = kept {
            return Ok(listener.clone());
        }
        let secrets: Vec<&[u8]> = settings.secrets.iter().map(SigningSecret::expose).collect();
        let courier = WebhookCourier::new(&client, &settings.url, &secrets)
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
    resolved: Arc<Resolved>,
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

    fn left_behind(&self, tenant: &str, agent: &str, channel: &str) -> Option<Arc<Policy>> {
        match self.policy(tenant, agent, channel) {
            Ok(policy) => Some(policy),
            Err(UnknownPart::Agent) => {
                self.resolved.policy_left_behind(tenant, agent, channel).map(Arc::new)
            }
            Err(UnknownPart::Channel) => None,
        }
    }
}
