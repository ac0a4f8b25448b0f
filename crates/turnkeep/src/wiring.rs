//! The only place that names concrete adapters: makes a gateway out of a configuration.

pub(crate) mod hatchet;
pub(crate) mod hints;
pub(crate) mod moving;
mod routing;
pub(crate) mod signal;
pub(crate) mod stores;
pub(crate) mod tools;
pub(crate) mod worktrees;

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use anyhow::Context as _;
use turnkeep_agents::{
    CommandAgent, EchoAgent, HttpBrainAgent, KeySource, ModelAgent, TurnSettings, WorktreeSettings,
};
use turnkeep_channels::signal::{Attachments, Removable};
use turnkeep_channels::{
    HttpModerator, SignalChannel, SpoolChannel, WebhookClient, WebhookCourier,
};
use turnkeep_core::Policy;
use turnkeep_core::policy::channel_facts;
use turnkeep_core::ports::agent::Agent;
use turnkeep_core::ports::channel::Channel;
use turnkeep_core::ports::intake::Listener as Hears;
use turnkeep_core::ports::moderator::Moderator;
use turnkeep_gateway::guard::GuardParts;
use turnkeep_gateway::listeners::{Listener, ListenerParts};
use turnkeep_gateway::{
    Gateway, Parts, Policies, ReminderDesk, Replacement, Settings, UnknownPart,
};

/// The name of a session's git worktree.
pub(crate) use turnkeep_agents::command::{LastWords, why_not_started};
pub(crate) use turnkeep_agents::worktree_id;

use crate::brain_check::{Address, Program, Subject, Way};
use crate::config::command::CommandSettings;
use crate::config::http_brain::HttpBrainSettings;
use crate::config::listeners::{ListenerSettings, SigningSecret};
use crate::config::model::{AnthropicSettings, ModelSettings, Thinking};
use crate::config::tools::ToolServerSettings;
use crate::config::{AgentSettings, ApiKey, Resolved};
use crate::role::Role;
use crate::telemetry::Telemetry;
use stores::Stores;

/// Everything that a configuration was made into, kept so that the next one can take over what is
/// the same: an agent, a channel or a listener that nobody changed goes on as it is.
pub(crate) struct Wired {
    pub(crate) resolved: Arc<Resolved>,
    tools: tools::ToolServers,
    /// Where reminders of agents are made, by whichever gateway there is.
    reminders: Arc<ReminderDesk>,
    agents: HashMap<String, Arc<dyn Agent>>,
    channels: HashMap<String, Arc<dyn Channel>>,
    signal: Option<Arc<SignalChannel>>,
    /// What came along with messages.
    attachments: Arc<Attachments>,
    listeners: Vec<Listener>,
    moderator: Option<Arc<dyn Moderator>>,
}

/// Makes what is configured, or takes it over.
pub(crate) fn wire(resolved: Resolved, before: Option<&Wired>) -> anyhow::Result<Wired> {
    let tools = tools::servers(&resolved, before);
    let own = || Arc::new(ReminderDesk::new(crate::config::machine_zone()));
    let reminders = before.map_or_else(own, |before| Arc::clone(&before.reminders));
    let agents = agents(&resolved, (&tools, &reminders), before)?;
    let mut channels = channels(&resolved, before)?;
    let attachments = signal::attachments(&resolved, before);
    let signal = signal::channel(&resolved, &attachments, before)?;
    channels.extend(signal.iter().map(|signal| ("signal".to_owned(), Arc::clone(signal) as _)));
    let listeners = listeners(&resolved, before)?;
    let moderator = moderator(&resolved, before)?;
    let resolved = Arc::new(resolved);
    Ok(Wired {
        resolved,
        tools,
        reminders,
        agents,
        channels,
        signal,
        attachments,
        listeners,
        moderator,
    })
}

impl Wired {
    /// Puts a gateway together; nothing runs yet.
    pub(crate) fn gateway(
        &self,
        stores: &Stores,
        telemetry: Option<&Telemetry>,
        role: Role,
    ) -> Gateway {
        let Replacement { agents, channels, policies, guard, moderator, listeners, settings } =
            self.replacement();
        let listeners = ListenerParts { store: stores.listeners.clone(), listeners };
        let guard = GuardParts { settings: guard, record: stores.guard.clone() };
        let gateway = Gateway::new(Parts {
            store: stores.store.clone(),
            care: stores.care.clone(),
            usage: stores.usage.clone(),
            people: stores.people.clone(),
            schedule: stores.schedule.clone(),
            switchboard: stores.switchboard.clone(),
            agents,
            channels,
            policies,
            listeners,
            guard,
            moderator,
            tracer: telemetry.map(|telemetry| telemetry.exporter.clone() as _),
            hints: stores.hints.clone(),
            runs: role.runs(),
            settings,
        });
        if role == Role::Worker {
            gateway.lead_nothing();
        }
        self.reminders.serve(&gateway);
        gateway.look_after(Arc::new(Removable(Arc::clone(&self.attachments))));
        gateway
    }

    /// Adapters that hear what comes in by itself: where turns run that answer it, and where there is
    /// an API to ask how that goes.
    pub(crate) fn hears(&self, role: Role) -> Vec<Arc<dyn Hears>> {
        if role != Role::All {
            if self.signal.is_some() {
                let role = role.as_str();
                tracing::info!(role, "[signal] is left to servers of the role all");
            }
            return Vec::new();
        }
        self.signal.iter().map(|signal| Arc::clone(signal) as _).collect()
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
                prices: Arc::clone(&resolved.prices),
                routing: Arc::new(routing::routing(resolved)),
                jobs: resolved.jobs.clone().into(),
                switchboard: resolved.switchboard,
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
    (tools, reminders): (&tools::ToolServers, &Arc<ReminderDesk>),
    before: Option<&Wired>,
) -> anyhow::Result<HashMap<String, Arc<dyn Agent>>> {
    let make = |(name, settings): (&String, &AgentSettings)| {
        let mut others = settings.model().into_iter().flat_map(ModelSettings::others);
        let is_same = |name| {
            let before = before.and_then(|before| before.resolved.agents.get(name));
            before.is_some() && before == resolved.agents.get(name)
        };
        let same = before.filter(|before| {
            is_same(name) && others.all(is_same) && tools::are_same(settings, tools, before)
        });
        if let Some(agent) = same.and_then(|before| before.agents.get(name)) {
            return Ok((name.clone(), Arc::clone(agent)));
        }
        let agent: Arc<dyn Agent> = match settings {
            AgentSettings::Echo(echo) => Arc::new(EchoAgent {
                delay: echo.delay,
                stream: echo.stream,
                show_mail: echo.show_mail,
                tokens: echo.tokens,
            }),
            AgentSettings::OpenAi(_) | AgentSettings::Anthropic(_) => {
                let wanted = settings.model().map_or(&[][..], |model| &model.tools);
                let toolboxes = tools::toolboxes(name, wanted, tools, reminders);
                let agent = model_agent(resolved, name)?.with_tools(toolboxes);
                tracing::info!(agent = name, version = agent.version(), "an agent is ready");
                Arc::new(agent)
            }
            AgentSettings::Command(program) => {
                Arc::new(worktrees::command_agent(resolved, name, program))
            }
            AgentSettings::Http(brain) => Arc::new(
                HttpBrainAgent::new(&http_brain(name, brain))
                    .with_context(|| format!("[agents.{name}]"))?,
            ),
        };
        Ok((name.clone(), agent))
    };
    resolved.agents.iter().map(make).collect()
}

/// Which version of an agent answers, if it asks a model and can be made.
pub(crate) fn version(resolved: &Resolved, name: &str) -> Option<String> {
    let agent = model_agent(resolved, name).ok()?;
    Some(agent.version().to_owned())
}

/// An agent that asks a model, with the other that stands in for it; without its tools.
fn model_agent(resolved: &Resolved, name: &str) -> anyhow::Result<ModelAgent> {
    let agent = bare_model_agent(resolved, name)?;
    let Some(settings) = resolved.agents.get(name).and_then(AgentSettings::model) else {
        return Ok(agent);
    };
    let others = settings.models.iter();
    let others = others.map(|other| Ok((other.as_str(), bare_model_agent(resolved, other)?)));
    let others = others.collect::<anyhow::Result<Vec<_>>>()?;
    let others: Vec<(&str, &ModelAgent)> = others.iter().map(|(name, one)| (*name, one)).collect();
    let agent = agent.with_choices(name, &others);
    match settings.fallback.as_deref() {
        Some(fallback) => Ok(agent.with_fallback(&bare_model_agent(resolved, fallback)?)),
        None => Ok(agent),
    }
}

fn bare_model_agent(resolved: &Resolved, name: &str) -> anyhow::Result<ModelAgent> {
    let agent = match resolved.agents.get(name) {
        Some(AgentSettings::OpenAi(model)) => open_ai(model).agent(habits(resolved, model)),
        Some(AgentSettings::Anthropic(model)) => {
            anthropic(model).agent(habits(resolved, &model.model))
        }
        _ => anyhow::bail!("[agents.{name}] asks no model"),
    };
    agent.with_context(|| format!("[agents.{name}]"))
}

/// How turns are answered with a model.
fn habits(resolved: &Resolved, model: &ModelSettings) -> TurnSettings {
    TurnSettings {
        system_prompt: model.system_prompt.clone(),
        version: model.version.clone(),
        tools: tool_rules(resolved, &model.tools),
        history_messages: model.history_messages_max,
        history_tokens: u32::try_from(model.history_tokens_max).unwrap_or(u32::MAX),
        retries_max: model.retries_max,
        slots: model.concurrency_max,
        ..TurnSettings::default()
    }
}

/// Which tools, and what is said of them: where that changes, another version of the agent answers.
fn tool_rules(resolved: &Resolved, wanted: &[String]) -> String {
    let mut rules = wanted.join(" ");
    for (name, server) in &resolved.tools {
        if wanted.iter().any(|wanted| wanted.split_once('.').is_some_and(|(of, _)| of == name)) {
            let ToolServerSettings { effects, keys, approval, .. } = server;
            let ToolServerSettings { trust_annotations, errors_mean_not_done, .. } = server;
            rules.push_str(&format!(
                "\n{name} {effects:?} {keys:?} {approval:?} {trust_annotations} {errors_mean_not_done}"
            ));
        }
    }
    rules
}

fn key_source(key: Option<&ApiKey>) -> KeySource {
    key.map_or(KeySource::None, |key| KeySource::given(key.expose()))
}

fn open_ai(model: &ModelSettings) -> turnkeep_agents::OpenAiSettings {
    let defaults = turnkeep_agents::OpenAiSettings::new(&model.base_url, &model.model);
    let mut extra = defaults.extra.clone();
    if let Some(temperature) = model.temperature {
        extra.insert("temperature".to_owned(), temperature.into());
    }
    if let Some(tokens_max) = model.tokens_max {
        extra.insert("max_tokens".to_owned(), tokens_max.into());
    }
    turnkeep_agents::OpenAiSettings {
        key: key_source(model.api_key.as_ref()),
        silence_timeout: model.timeout,
        extra,
        ..defaults
    }
}

fn anthropic(settings: &AnthropicSettings) -> turnkeep_agents::AnthropicSettings {
    let AnthropicSettings { model, cache, thinking } = settings;
    let defaults = turnkeep_agents::AnthropicSettings::new(&model.model);
    turnkeep_agents::AnthropicSettings {
        base_url: model.base_url.clone(),
        key: key_source(model.api_key.as_ref()),
        tokens_max: model.tokens_max.unwrap_or(defaults.tokens_max),
        temperature: model.temperature,
        thinking: match thinking {
            Thinking::Unsaid => turnkeep_agents::Thinking::Unsaid,
            Thinking::Adaptive => turnkeep_agents::Thinking::Adaptive,
            Thinking::Budget(tokens) => turnkeep_agents::Thinking::Budget(*tokens),
        },
        cache: *cache,
        silence_timeout: model.timeout,
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

fn http_brain(name: &str, brain: &HttpBrainSettings) -> turnkeep_agents::HttpBrainSettings {
    let secrets = brain.secrets.iter().map(|secret| secret.expose().to_vec());
    turnkeep_agents::HttpBrainSettings {
        name: name.to_owned(),
        connections_max: brain.connections_max,
        ..turnkeep_agents::HttpBrainSettings::new(&*brain.url, secrets.collect())
    }
}

/// A brain, to be checked; none if the agent is none.
pub(crate) fn brain(name: String, settings: &AgentSettings) -> anyhow::Result<Option<Subject>> {
    let (agent, way): (Arc<dyn Agent>, Way) = match settings {
        AgentSettings::Command(program) => {
            let settings = command(program);
            let (command, env) = (settings.command.clone(), settings.env.clone());
            let way = Way::Process(Program { command, dir: program.dir.clone(), env });
            (Arc::new(CommandAgent::new(settings)), way)
        }
        AgentSettings::Http(brain) => {
            // Its address will do: what is checked may have no name.
            let settings = http_brain("", brain);
            let (url, secrets) = (settings.url.clone(), settings.secrets.clone());
            let way = Way::Http(Address { url, secrets });
            (Arc::new(HttpBrainAgent::new(&settings)?), way)
        }
        _ => return Ok(None),
    };
    Ok(Some(Subject { name, agent, way }))
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
