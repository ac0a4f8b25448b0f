//! Configuration as used: every default filled in, every contradiction refused.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use turnkeep_core::Policy;
use turnkeep_core::network::Network;
use turnkeep_core::policy::CHANNELS;
use turnkeep_core::schedule::Job;
use turnkeep_core::switchboard::Limits;
use turnkeep_gateway::guard::GuardSettings;
use turnkeep_gateway::money::Prices;

use super::budgets;
use super::changes::Typed;
use super::command::{self, CommandSettings};
use super::hatchet::{self, HatchetSettings};
use super::http_brain::{self, HttpBrainSettings};
use super::layers::Env;
use super::listeners::ListenerSettings;
use super::model::{self, AnthropicSettings, ModelSettings};
use super::moderation::{self, ModerationSettings};
use super::people::{self, PeopleSettings};
use super::policy::{self, Explained, Policies};
use super::problem::Problems;
use super::raw::{AgentRaw, EchoKeys, GatewayKeys, Raw, TopKeys};
use super::redis::{self, RedisSettings};
use super::secret::Told;
use super::section::Section;
use super::signal::{self, SignalSettings};
use super::store::{self, StoreSettings, Stored};
use super::telemetry::{self, TelemetrySettings};
use super::tools::{self, ToolServerSettings};
pub(crate) use super::value::LogFormat;
use super::value::{AgentKind, Set, Setting};
use super::{cron, guard, listeners, paths, switchboard, words};

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
    /// Which store, and where.
    pub(crate) store: StoreSettings,
    /// Where servers give each other hints, if they do.
    pub(crate) redis: Option<RedisSettings>,
    /// Who gives turns to workers, if not everybody takes what comes.
    pub(crate) hatchet: Option<HatchetSettings>,
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
    /// How many sessions the switchboard shows, and when they go to sleep.
    pub(crate) switchboard: Limits,
    /// Where spans are sent, if anywhere.
    pub(crate) telemetry: Option<TelemetrySettings>,
    /// The agents by name; never empty.
    pub(crate) agents: BTreeMap<String, AgentSettings>,
    /// Servers of tools by name.
    pub(crate) tools: BTreeMap<String, ToolServerSettings>,
    /// What requests to providers cost.
    pub(crate) prices: Arc<Prices>,
    /// Channels whose replies are appended to a file.
    pub(crate) spools: BTreeMap<&'static str, PathBuf>,
    /// Who is known by name, and in which groups we take part.
    pub(crate) people: PeopleSettings,
    /// What is done at its time.
    pub(crate) jobs: Vec<Job>,
    /// Signal, if it is configured.
    pub(crate) signal: Option<SignalSettings>,
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
    /// Asks a model over `OpenAI`'s protocol.
    OpenAi(ModelSettings),
    /// Asks a model over the Messages API.
    Anthropic(AnthropicSettings),
    /// Asks a program.
    Command(CommandSettings),
    /// Asks a server of somebody's own.
    Http(HttpBrainSettings),
}

impl AgentSettings {
    /// What of it concerns the model that it asks, if it asks one.
    pub(crate) const fn model(&self) -> Option<&ModelSettings> {
        match self {
            Self::OpenAi(model) | Self::Anthropic(AnthropicSettings { model, .. }) => Some(model),
            Self::Echo(_) | Self::Command(_) | Self::Http(_) => None,
        }
    }
}

/// An agent that repeats what it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EchoSettings {
    /// How long it works on a turn.
    pub(crate) delay: Duration,
    /// Shows what arrived meanwhile.
    pub(crate) show_mail: bool,
    /// Sends the reply word by word.
    pub(crate) stream: bool,
    /// Counts words as tokens.
    pub(crate) tokens: bool,
}

impl Resolved {
    /// Where the data are.
    pub(crate) fn stored(&self) -> Stored {
        Stored { data_dir: self.data_dir.clone(), store: self.store.clone() }
    }

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
    let spools = spools(&raw, env, problems);
    let Whereabouts { listen, hosts, data_dir } = resolve_whereabouts(&raw.top, env);
    let mut told = Told { env, problems, notes: &mut notes };
    let store = store::store(&raw.store, &mut told);
    let kind = store::kind(&raw.store, told.problems);
    let redis = redis::redis(&raw.redis, kind, &mut told);
    let hatchet = hatchet::hatchet(&raw.hatchet, &raw.gateway, kind, &mut told);
    let agents = agents(&raw.agents, &mut told);
    let tools = tools(&raw, &mut told);
    let signal = signal::signal(&raw.signal, &agents, &data_dir, &mut told);
    let names = agent_names(&raw.agents);
    let listeners = listeners::listeners(&raw, &names, &mut told);
    let callbacks_may_reach = listeners::allowed(&raw);
    let moderation = moderation::moderation(&raw.guard, &mut told);
    let telemetry = telemetry::telemetry(&raw.telemetry, &mut told);
    let guard = guard::guard(&raw, problems);
    let words = words::words(&raw, problems);
    let people = people::people(&raw.people, &names, problems);
    let jobs = cron::jobs(&raw.cron, &raw.people, &names, problems);
    raw.money.budgets.check(names.iter().map(String::as_str), problems);
    budgets::unpriced(&raw, &mut notes);
    let prices = Arc::new(budgets::prices(&raw.money));
    let policies = Policies {
        gateway: policy::of_gateway(&raw.gateway),
        tenants: raw.tenants,
        agents: raw.agents.into_iter().map(|(name, agent)| (name, agent.policy)).collect(),
        channels: raw.channels.into_iter().map(|(name, channel)| (name, channel.policy)).collect(),
        words,
        moderation: moderation.as_ref().map(|settings| settings.rule),
        budgets: raw.money.budgets,
    };
    Resolved {
        source,
        listen,
        hosts,
        trusted_proxies: raw.top.trusted_proxies.map_or_else(Vec::new, |set| set.value.0),
        data_dir,
        store,
        redis,
        hatchet,
        shutdown_grace: seconds(raw.top.shutdown_grace_seconds.as_ref(), 10),
        log: LogSettings {
            format: or(raw.top.log_format.as_ref(), LogFormat::Text),
            level: raw.top.log_level.map_or_else(|| "info".to_owned(), |set| set.value.0),
            text: or(raw.top.log_text.as_ref(), false),
        },
        gateway: gateway(&raw.gateway, problems),
        guard,
        moderation,
        switchboard: switchboard::limits(&raw.switchboard),
        telemetry,
        agents,
        prices,
        tools,
        spools,
        people,
        jobs,
        signal,
        listeners,
        callbacks_may_reach,
        notes,
        policies,
        typed,
    }
}

/// Servers of tools, and whether those that agents name are there.
fn tools(raw: &Raw, told: &mut Told<'_>) -> BTreeMap<String, ToolServerSettings> {
    for (name, agent) in &raw.agents {
        tools::wanted(name, agent.model.tools.as_ref(), &raw.tools, told.problems);
    }
    tools::unused(&raw.tools, &raw.agents, told.notes);
    tools::servers(&raw.tools, told)
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

pub(super) fn or<T: Copy>(set: Option<&Set<T>>, default: T) -> T {
    set.map_or(default, |set| set.value)
}

pub(super) fn text(set: Option<&Set<String>>) -> Option<String> {
    set.map(|set| set.value.clone())
}

pub(super) fn seconds(set: Option<&Set<u64>>, default: u64) -> Duration {
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
        if facts.name == "signal" {
            signal::spooled(&raw.signal, set, problems);
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
        let echo = EchoSettings { delay: BUILT_IN_DELAY, ..EchoSettings::default() };
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
    let agents = each.collect();
    model::check_others(raw, &agents, told);
    agents
}

/// What the agents are called that are typed, those with mistakes included: whoever names one of
/// these made no mistake.
fn agent_names(raw: &BTreeMap<String, AgentRaw>) -> Vec<String> {
    if raw.is_empty() {
        return vec![DEFAULT_AGENT.to_owned()];
    }
    raw.keys().cloned().collect()
}

fn agent_settings(name: &str, raw: &AgentRaw, told: &mut Told<'_>) -> Option<AgentSettings> {
    let Some(kind) = raw.own.kind.as_ref().map(|set| set.value) else {
        let text = format!(
            "[agents.{name}] needs kind = \"echo\", \"openai\", \"anthropic\", \"command\" or \
             \"http\""
        );
        told.problems.lacks(&format!("[agents.{name}]"), &["kind"], &raw.at, &text);
        return None;
    };
    let kinds: [(&[AgentKind], &dyn Section); 5] = [
        (&[AgentKind::Echo], &raw.echo),
        (&[AgentKind::OpenAi, AgentKind::Anthropic], &raw.model),
        (&[AgentKind::Anthropic], &raw.anthropic),
        (&[AgentKind::Command], &raw.command),
        (&[AgentKind::Http], &raw.http),
    ];
    for (others, section) in kinds.iter().filter(|(others, _)| !others.contains(&kind)) {
        let others: Vec<_> = others.iter().map(Setting::shown).collect();
        let (word, other) = (kind.shown(), others.join(" or "));
        for (key, _, origin) in section.shown() {
            let text = format!(
                "\"{key}\" in [agents.{name}] is for kind = {other}; this agent's kind is {word}"
            );
            told.problems.add(origin, text);
        }
    }
    match kind {
        AgentKind::Echo => Some(AgentSettings::Echo(echo(&raw.echo))),
        AgentKind::OpenAi => model::openai(name, raw, told).map(AgentSettings::OpenAi),
        AgentKind::Anthropic => model::anthropic(name, raw, told).map(AgentSettings::Anthropic),
        AgentKind::Command => command::command(name, raw, told).map(AgentSettings::Command),
        AgentKind::Http => http_brain::http_brain(name, raw, told).map(AgentSettings::Http),
    }
}

fn echo(keys: &EchoKeys) -> EchoSettings {
    EchoSettings {
        delay: Duration::from_millis(or(keys.delay_ms.as_ref(), 0)),
        show_mail: or(keys.show_mail.as_ref(), false),
        stream: or(keys.stream.as_ref(), false),
        tokens: or(keys.tokens.as_ref(), false),
    }
}
