//! Configuration as used: every default filled in, every contradiction refused.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use turnkeep_core::Policy;
use turnkeep_core::network::Network;
use turnkeep_core::policy::CHANNELS;
use turnkeep_gateway::guard::GuardSettings;

use super::changes::Typed;
use super::command::{self, CommandSettings};
use super::layers::Env;
use super::listeners::ListenerSettings;
use super::moderation::{self, ModerationSettings};
use super::policy::{self, Explained, Policies};
use super::problem::Problems;
use super::raw::{AgentRaw, EchoKeys, GatewayKeys, OpenAiKeys, Raw, TopKeys};
use super::secret::{ApiKey, Named, Told, secret};
use super::section::Section;
use super::telemetry::{self, TelemetrySettings};
pub(crate) use super::value::LogFormat;
use super::value::{AgentKind, Set, Setting};
use super::{guard, listeners, paths, words};

/// The name of the agent that answers where none is named.
const DEFAULT_AGENT: &str = "default";

/// How long the built-in agent takes: long enough to be seen typing.
const BUILT_IN_DELAY: Duration = Duration::from_millis(400);

/// Where a server is or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Whereabouts {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// Names by which it may be called.
    pub(crate) hosts: Vec<String>,
    /// Where its data and its socket are.
    pub(crate) data_dir: PathBuf,
}

/// Everything the server needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    /// The file it came from, if there is one.
    pub(crate) source: Option<PathBuf>,
    /// Where the API is served.
    pub(crate) listen: SocketAddr,
    /// Names by which the server may be called.
    pub(crate) hosts: Vec<String>,
    /// Who is believed when it says for whom it asks.
    pub(crate) trusted_proxies: Vec<Network>,
    /// Where the store and the socket live; may not exist yet.
    pub(crate) data_dir: PathBuf,
    /// How long a shutdown waits for turns under way.
    pub(crate) shutdown_grace: Duration,
    /// What is logged and how.
    pub(crate) log: LogSettings,
    /// Limits and switches.
    pub(crate) gateway: GatewaySettings,
    /// What is refused as too much or as abuse.
    pub(crate) guard: GuardSettings,
    /// Who checks messages.
    pub(crate) moderation: Option<ModerationSettings>,
    /// Where spans are sent, if anywhere.
    pub(crate) telemetry: Option<TelemetrySettings>,
    /// The agents by name; never empty.
    pub(crate) agents: BTreeMap<String, AgentSettings>,
    /// Channels whose replies are appended to a file.
    pub(crate) spools: BTreeMap<&'static str, PathBuf>,
    /// Who is told of events by callbacks.
    pub(crate) listeners: Vec<ListenerSettings>,
    /// Networks that callbacks may reach beside the open internet.
    pub(crate) callbacks_may_reach: Vec<Network>,
    /// What the user should know though nothing is wrong.
    pub(crate) notes: Vec<String>,
    policies: Policies,
    pub(super) typed: Typed,
}

/// What is logged and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogSettings {
    /// For people or for machines.
    pub(crate) format: LogFormat,
    /// Levels, in the words of the subscriber's filter.
    pub(crate) level: String,
    /// Whether texts of messages may be logged.
    pub(crate) text: bool,
}

/// Limits and switches of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GatewaySettings {
    /// Longest text of a message.
    pub(crate) message_bytes_max: usize,
    /// Messages that may wait to be decided.
    pub(crate) undecided_max: usize,
    /// Longest body of a request.
    pub(crate) body_bytes_max: usize,
    /// Open connections at once.
    pub(crate) connections_max: usize,
    /// Of these from one address.
    pub(crate) connections_per_address_max: usize,
    /// For the head of a request to arrive.
    pub(crate) header_timeout: Duration,
    /// The longest wait that a client is granted.
    pub(crate) wait_max: Duration,
}

/// One agent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AgentSettings {
    /// Repeats what it is told.
    Echo(EchoSettings),
    /// Asks a model.
    OpenAi(OpenAiSettings),
    /// Asks a program.
    Command(CommandSettings),
}

/// An agent that repeats what it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EchoSettings {
    /// How long it works on a turn.
    pub(crate) delay: Duration,
    /// Shows what arrived meanwhile.
    pub(crate) show_mail: bool,
    /// Sends the reply word by word.
    pub(crate) stream: bool,
}

/// An agent that asks a server which speaks the `OpenAI` protocol.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OpenAiSettings {
    /// The server, without a slash at its end.
    pub(crate) base_url: String,
    /// Which model.
    pub(crate) model: String,
    /// What the model is told first.
    pub(crate) system_prompt: Option<String>,
    /// What the server wants to see.
    pub(crate) api_key: Option<ApiKey>,
    /// How freely the model writes.
    pub(crate) temperature: Option<f64>,
    /// Longest answer, in tokens.
    pub(crate) tokens_max: Option<u32>,
    /// Earlier messages shown, at most.
    pub(crate) history_messages_max: usize,
    /// Their estimated tokens, at most.
    pub(crate) history_tokens_max: usize,
    /// Requests under way at once; none for no limit.
    pub(crate) concurrency_max: Option<usize>,
    /// For one request.
    pub(crate) timeout: Duration,
    /// How often a request is sent again.
    pub(crate) retries_max: u32,
}

impl Resolved {
    /// The policy of sessions of this tenant, agent and channel, before what a session says
    /// itself; none if there is no such agent or channel.
    pub(crate) fn policy(&self, tenant: &str, agent: &str, channel: &str) -> Option<Policy> {
        self.agents.get(agent)?;
        self.policies.resolve(tenant, agent, channel)
    }

    /// The same of sessions that are there though their agent may not be configured any more.
    pub(crate) fn policy_left_behind(
        &self,
        tenant: &str,
        agent: &str,
        channel: &str,
    ) -> Option<Policy> {
        self.policies.resolve(tenant, agent, channel)
    }

    /// The policy key by key, with the layer that decided it.
    pub(crate) fn explain(
        &self,
        tenant: &str,
        agent: &str,
        channel: &str,
    ) -> Option<Vec<Explained>> {
        self.agents.get(agent)?;
        self.policies.explain(tenant, agent, channel)
    }
}

/// Fills in what was not typed and finds what can't be.
pub(super) fn resolve(
    raw: Raw,
    source: Option<PathBuf>,
    env: &Env,
    problems: &mut Problems,
) -> Resolved {
    let mut notes = Vec::new();
    let typed = Typed::of(&raw);
    listens_beyond(&raw.top, &mut notes);
    falls_back(&raw.gateway, &mut notes);
    let spools = spools(&raw, env, problems);
    let mut told = Told { env, problems, notes: &mut notes };
    let agents = agents(&raw.agents, &mut told);
    let listeners = listeners::listeners(&raw, &agents, &mut told);
    let callbacks_may_reach = listeners::allowed(&raw);
    let moderation = moderation::moderation(&raw.guard, &mut told);
    let telemetry = telemetry::telemetry(&raw.telemetry, &mut told);
    let guard = guard::guard(&raw, problems);
    let words = words::words(&raw, problems);
    let Whereabouts { listen, hosts, data_dir } = resolve_whereabouts(&raw.top, env);
    let policies = Policies {
        gateway: policy::of_gateway(&raw.gateway),
        tenants: raw.tenants,
        agents: raw.agents.into_iter().map(|(name, agent)| (name, agent.policy)).collect(),
        channels: raw.channels.into_iter().map(|(name, channel)| (name, channel.policy)).collect(),
        words,
        moderation: moderation.as_ref().map(|settings| settings.rule),
    };
    Resolved {
        source,
        listen,
        hosts,
        trusted_proxies: raw.top.trusted_proxies.map_or_else(Vec::new, |set| set.value.0),
        data_dir,
        shutdown_grace: seconds(raw.top.shutdown_grace_seconds.as_ref(), 10),
        log: LogSettings {
            format: or(raw.top.log_format.as_ref(), LogFormat::Text),
            level: raw.top.log_level.map_or_else(|| "info".to_owned(), |set| set.value.0),
            text: or(raw.top.log_text.as_ref(), false),
        },
        gateway: gateway(&raw.gateway, problems),
        guard,
        moderation,
        telemetry,
        agents,
        spools,
        listeners,
        callbacks_may_reach,
        notes,
        policies,
        typed,
    }
}

/// Where the server would be, whatever else is configured.
pub(super) fn resolve_whereabouts(top: &TopKeys, env: &Env) -> Whereabouts {
    let own = SocketAddr::from((Ipv4Addr::LOCALHOST, 7878));
    let data_dir = top.data_dir.as_ref().map(|set| paths::meant(set, env));
    Whereabouts {
        listen: top.listen.as_ref().map_or(own, |set| set.value.0),
        hosts: top.hosts.as_ref().map_or_else(Vec::new, |set| set.value.0.clone()),
        data_dir: data_dir.unwrap_or_else(|| paths::data_dir_default(env)),
    }
}

fn or<T: Copy>(set: Option<&Set<T>>, default: T) -> T {
    set.map_or(default, |set| set.value)
}

fn text(set: Option<&Set<String>>) -> Option<String> {
    set.map(|set| set.value.clone())
}

fn seconds(set: Option<&Set<u64>>, default: u64) -> Duration {
    Duration::from_secs(or(set, default))
}

/// Whether there are keys is known only once the store is open.
fn listens_beyond(top: &TopKeys, notes: &mut Vec<String>) {
    let Some(Set { value, origin }) = &top.listen else { return };
    if !value.0.ip().to_canonical().is_loopback() {
        notes.push(format!(
            "{origin}: other machines can reach {}, so the server starts only with an API key \
             (`turnkeep keys create`)",
            value.0
        ));
    }
}

/// Somebody may rely on it.
fn falls_back(keys: &GatewayKeys, notes: &mut Vec<String>) {
    if let Some(Set { value: true, origin }) = &keys.fallback_to_sync {
        notes.push(format!(
            "{origin}: \"fallback_to_sync\" has no effect yet: there is no workflow engine to fall \
             back from, every turn runs in this process"
        ));
    }
}

fn gateway(keys: &GatewayKeys, problems: &mut Problems) -> GatewaySettings {
    let message_bytes_max = or(keys.message_bytes_max.as_ref(), 65_536);
    let body_bytes_max = or(keys.body_bytes_max.as_ref(), 1 << 20);
    if message_bytes_max > body_bytes_max {
        let text = format!(
            "a message may have message_bytes_max = {message_bytes_max} bytes, but the request \
             that brings it only body_bytes_max = {body_bytes_max}"
        );
        for set in [&keys.message_bytes_max, &keys.body_bytes_max].into_iter().flatten().take(1) {
            problems.add(&set.origin, text.clone());
        }
    }
    let connections_max = or(keys.connections_max.as_ref(), 10_000);
    GatewaySettings {
        message_bytes_max,
        undecided_max: or(keys.undecided_max.as_ref(), turnkeep_gateway::UNDECIDED_MAX),
        body_bytes_max,
        connections_max,
        connections_per_address_max: or(keys.connections_per_address_max.as_ref(), connections_max),
        header_timeout: seconds(keys.header_timeout_seconds.as_ref(), 10),
        wait_max: seconds(keys.wait_seconds_max.as_ref(), 300),
    }
}

fn spools(raw: &Raw, env: &Env, problems: &mut Problems) -> BTreeMap<&'static str, PathBuf> {
    let mut spools = BTreeMap::new();
    for facts in &CHANNELS {
        let channel = raw.channels.get(facts.name);
        let Some(set) = channel.and_then(|channel| channel.own.spool.as_ref()) else { continue };
        if facts.pull {
            let name = facts.name;
            let push: Vec<&str> =
                CHANNELS.iter().filter(|facts| !facts.pull).map(|facts| facts.name).collect();
            let text = format!(
                "\"spool\" in [channels.{name}] would stay empty: clients of {name} fetch their \
                 replies themselves; it is for {}",
                push.join(", ")
            );
            problems.add(&set.origin, text);
        }
        spools.insert(facts.name, paths::meant(set, env));
    }
    spools
}

fn agents(
    raw: &BTreeMap<String, AgentRaw>,
    told: &mut Told<'_>,
) -> BTreeMap<String, AgentSettings> {
    if raw.is_empty() {
        let echo = EchoSettings { delay: BUILT_IN_DELAY, show_mail: false, stream: false };
        return BTreeMap::from([(DEFAULT_AGENT.to_owned(), AgentSettings::Echo(echo))]);
    }
    if !raw.contains_key(DEFAULT_AGENT) {
        told.notes.push(format!(
            "no agent is called \"{DEFAULT_AGENT}\": messages that name no agent are refused"
        ));
    }
    let each = raw.iter().filter_map(|(name, agent)| {
        let settings = agent_settings(name, agent, told)?;
        Some((name.clone(), settings))
    });
    each.collect()
}

fn agent_settings(name: &str, raw: &AgentRaw, told: &mut Told<'_>) -> Option<AgentSettings> {
    let Some(kind) = raw.own.kind.as_ref().map(|set| set.value) else {
        let text = format!("[agents.{name}] needs kind = \"echo\", \"openai\" or \"command\"");
        told.problems.add(&raw.at, text);
        return None;
    };
    let kinds: [(AgentKind, &dyn Section); 3] = [
        (AgentKind::Echo, &raw.echo),
        (AgentKind::OpenAi, &raw.openai),
        (AgentKind::Command, &raw.command),
    ];
    for (other, section) in kinds.iter().filter(|(other, _)| *other != kind) {
        let (word, other) = (kind.shown(), other.shown());
        for (key, _, origin) in section.shown() {
            let text = format!(
                "\"{key}\" in [agents.{name}] is for kind = {other}; this agent's kind is {word}"
            );
            told.problems.add(origin, text);
        }
    }
    match kind {
        AgentKind::Echo => Some(AgentSettings::Echo(echo(&raw.echo))),
        AgentKind::OpenAi => openai(name, raw, told).map(AgentSettings::OpenAi),
        AgentKind::Command => command::command(name, raw, told).map(AgentSettings::Command),
    }
}

fn echo(keys: &EchoKeys) -> EchoSettings {
    EchoSettings {
        delay: Duration::from_millis(or(keys.delay_ms.as_ref(), 0)),
        show_mail: or(keys.show_mail.as_ref(), false),
        stream: or(keys.stream.as_ref(), false),
    }
}

/// What the agent asks for, below its base address.
const COMPLETIONS: &str = "/chat/completions";

fn openai(name: &str, raw: &AgentRaw, told: &mut Told<'_>) -> Option<OpenAiSettings> {
    let keys = &raw.openai;
    for (key, missing) in [("base_url", keys.base_url.is_none()), ("model", keys.model.is_none())] {
        if missing {
            told.problems.add(&raw.at, format!("[agents.{name}] needs \"{key}\""));
        }
    }
    if let Some(url) = keys.base_url.as_ref().filter(|url| url.value.0.ends_with(COMPLETIONS)) {
        let text = format!(
            "\"base_url\" in [agents.{name}] must end before {COMPLETIONS}, which is put behind \
             it; it looks like \"https://api.openai.com/v1\""
        );
        told.problems.add(&url.origin, text);
    }
    let api_key = api_key(name, keys, told);
    let concurrency_max = or(keys.max_concurrency.as_ref(), 8);
    Some(OpenAiSettings {
        base_url: keys.base_url.as_ref()?.value.0.clone(),
        model: text(keys.model.as_ref())?,
        system_prompt: text(keys.system_prompt.as_ref()),
        api_key,
        temperature: keys.temperature.as_ref().map(|set| set.value),
        tokens_max: keys.max_tokens.as_ref().map(|set| set.value),
        history_messages_max: or(keys.history_messages.as_ref(), 50),
        history_tokens_max: or(keys.history_tokens.as_ref(), 8000),
        concurrency_max: Some(concurrency_max).filter(|limit| *limit > 0),
        timeout: seconds(keys.timeout_seconds.as_ref(), 120),
        retries_max: or(keys.max_retries.as_ref(), 2),
    })
}

fn api_key(name: &str, keys: &OpenAiKeys, told: &mut Told<'_>) -> Option<ApiKey> {
    let named = Named {
        place: &format!("[agents.{name}]"),
        file: ("api_key_file", keys.api_key_file.as_ref()),
        env: ("api_key_env", keys.api_key_env.as_ref()),
    };
    secret(&named, told).map(|(secret, _)| ApiKey(secret))
}
