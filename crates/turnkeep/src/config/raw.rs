//! Every key there is, declared once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use turnkeep_core::guard::Severity;
use turnkeep_core::moderation::Ruling;
use turnkeep_core::policy::{AmbiguousDelivery, BusyPolicy, WindowMode};

use super::budgets::MoneyRaw;
pub(super) use super::command::CommandKeys;
use super::cron::CronRaw;
use super::hatchet::HatchetKeys;
use super::hosts::HostNames;
use super::log_level::LogLevel;
use super::notice::Notice;
use super::people::PeopleRaw;
use super::problem::Origin;
use super::redis::RedisKeys;
use super::section::Section;
use super::signal::SignalRaw;
use super::store::StoreKeys;
use super::switchboard::SwitchboardKeys;
use super::tools::ToolServerRaw;
use super::value::{AgentKind, Endpoint, Listen, LogFormat, Networks, Paths, Texts, Url};

section! {
    /// Keys that stand at the top of the file, before any section.
    struct TopKeys {
        /// Where the API and the web page are served. Port 0 takes a free one. An address that other
        /// machines can reach needs an API key, see `turnkeep keys create`.
        listen: Listen = "\"127.0.0.1:7878\"";
        /// Names by which the server may be called, beside `localhost` and the address that it
        /// listens on; pages under these names may use it.
        hosts: HostNames => "[\"chat.example.org\"]";
        /// Proxies that are believed when they say whose request they bring (`X-Forwarded-For`,
        /// `X-Forwarded-Proto` or `Forwarded`).
        trusted_proxies: Networks => "[\"10.0.0.0/8\"]";
        /// Where the store, the socket of the command line and the logs live. Without it
        /// `$XDG_DATA_HOME/turnkeep`, else `~/.local/share/turnkeep`, else `./turnkeep-data`.
        /// A relative path in the file counts from the file's own folder.
        data_dir: PathBuf => "\"~/.local/share/turnkeep\"";
        /// How long a shutdown waits for turns that are under way before it leaves them to the next
        /// start.
        shutdown_grace_seconds: u64 [0, 3600] = "10";
        /// How log lines look: `text` for people, `json` for machines.
        log_format: LogFormat = "\"text\"";
        /// What is logged: a level, and `part=level` for single parts.
        log_level: LogLevel = "\"info\"";
        /// Whether the text of messages and replies may stand in the log.
        log_text: bool = "false";
    }
}

section! {
    /// Limits and switches of the gateway as a whole.
    struct GatewayKeys {
        /// Keeps the rates: how fast a customer, a tenant and everybody may write.
        rate_limiting_enabled: bool = "true";
        /// Looks for abuse. Without it nothing new is found; what is in force stays in force.
        abuse_detection_enabled: bool = "true";
        /// How many messages a minute are let in from everybody together; 0 is without limit.
        global_rate_per_minute: u32 [0, 100_000_000] = "0";
        /// How many of them may come at once.
        global_rate_burst: u32 [1, 100_000_000] = "1000";
        /// Lets messages wait for a later turn while one is under way. Without it whatever would
        /// have to wait is refused (`session_busy`), also behind a commit point and from somebody
        /// who is trusted otherwise. What the agent absorbs doesn't wait, and goes on. A policy key
        /// of the same name wins over this one.
        message_queue_enabled: bool = "true";
        /// Runs a turn on the gateway that has it where no worker takes it, because the workflow
        /// engine or every worker is away. Without an engine (`[hatchet]`) it has no effect.
        fallback_to_sync: bool = "false";
        /// After how long a queued message becomes a dead letter and its sender is told; 0 is
        /// never.
        queue_ttl_seconds: u64 [0, 31_536_000] = "0";
        /// How many accepted messages of one session may wait; the next one is refused.
        max_queue_size_per_session: u32 [1, 100_000] = "100";
        /// How many messages may wait to be decided, of all sessions together; the next one is
        /// refused with 503 before anything of it is read.
        undecided_max: usize [1, 1_000_000] = "800";
        /// Longest text of one message, in bytes.
        message_bytes_max: usize [1, 16_777_216] = "65536";
        /// Longest body of one request, in bytes.
        body_bytes_max: usize [1024, 67_108_864] = "1048576";
        /// How many connections may be open at once.
        connections_max: usize [1, 1_000_000] = "10000";
        /// How many of them may come from one address; without it as many as `connections_max`.
        connections_per_address_max: usize [1, 1_000_000] => "1000";
        /// How long a client may take to send the head of a request.
        header_timeout_seconds: u64 [1, 3600] = "10";
        /// The longest `?wait=` that is granted.
        wait_seconds_max: u64 [1, 3600] = "300";
        /// Networks that callbacks may reach beside the open internet, like `["10.0.0.0/8"]`.
        /// Without it no callback goes to this machine or to a private network, whatever a name
        /// resolves to.
        callbacks_may_reach: Networks => "[\"10.0.0.0/8\"]";
    }
}

section! {
    /// What a session lives by. The same keys may stand in `[channels.NAME]`, `[agents.NAME]` (or
    /// `[agents.NAME.policy]`) and `[tenants.NAME]`; the first of these that has a key decides it.
    struct PolicyKeys {
        /// How long to wait for more before answering; 0 is not at all. Built in: by channel.
        window_ms: u32 [0, 60_000] => "600";
        /// `off` never waits, `fixed` always waits `window_ms`, `adaptive` shapes it by what was
        /// written and how the customer types.
        window_mode: WindowMode = "\"adaptive\"";
        /// All waiting of one burst ends this long after its first message.
        window_total_ms: u32 [0, 600_000] = "5000";
        /// What happens to a message while the agent works: `absorb` hands it to the agent,
        /// `supersede` starts again with it, `collect` answers everything that waited in one later
        /// turn, `queue` gives each a turn of its own, `reject` refuses it, `agent` asks the agent.
        /// Built in: by channel.
        busy_policy: BusyPolicy => "\"absorb\"";
        /// How many accepted messages may wait; the next one is refused.
        max_queue_size: u32 [1, 100_000] = "100";
        /// Lets messages wait for a later turn. Without it whatever would have to wait is refused.
        message_queue_enabled: bool = "true";
        /// After how long a queued message becomes a dead letter; 0 is never.
        queue_ttl_seconds: u64 [0, 31_536_000] = "0";
        /// How many messages one turn absorbs; the rest start the next one.
        absorbed_max: u32 [0, 10_000] = "50";
        /// How many supersedes may follow each other; the next message is collected.
        supersedes_max: u32 [0, 1000] = "3";
        /// How often a turn is tried before it has failed.
        errors_max: u32 [1, 100] = "3";
        /// The pause before the second try; it doubles for each later one.
        error_backoff_ms: u64 [0, 3_600_000] = "500";
        /// How long an agent may think about what to do with a message (`busy_policy = "agent"`).
        question_timeout_ms: u64 [1, 600_000] = "5000";
        /// How long a turn waits for the customer's answer to the agent's question.
        input_timeout_seconds: u64 [1, 31_536_000] = "86400";
        /// What the customer is told when an operator takes the agent's place; nothing if empty.
        operator_notice: Notice = "\"\"";
        /// An operator who has the agent's place and does nothing for so long hands it back; 0 is
        /// never.
        operator_timeout_seconds: u64 [0, 31_536_000] = "0";
        /// How long a turn may take; waiting for the provider's turn does not count.
        turn_timeout_seconds: u64 [1, 86_400] = "300";
        /// How long an agent may give no sign of life.
        silence_timeout_seconds: u64 [1, 86_400] = "120";
        /// What to do with a reply of which nobody knows whether it went out: `resend` it, `hold`
        /// it until a person decides, or count it `dead`. Built in: by channel.
        on_unknown: AmbiguousDelivery => "\"hold\"";
        /// How often a delivery is tried.
        delivery_tries_max: u32 [1, 1000] = "10";
        /// The pause after a failed delivery; it doubles for each later one, up to an hour.
        delivery_backoff_ms: u64 [1, 3_600_000] = "1000";
        /// The longest reply, in bytes; a longer one fails the attempt.
        reply_bytes_max: u32 [1, 67_108_864] = "1048576";
        /// For how many days messages, replies, turns and dead letters are kept; 0 is for ever.
        /// Nothing that is still open goes, however old it is.
        retention_days: u32 [0, 36_500] = "0";
        /// How many messages a minute are let in from one customer; 0 is without limit.
        rate_per_minute: u32 [0, 100_000_000] = "120";
        /// How many of them may come at once.
        rate_burst: u32 [1, 100_000_000] = "240";
        /// How many messages a minute are let in from all customers of a tenant together; 0 is
        /// without limit. Meant for `[tenants.NAME]`.
        tenant_rate_per_minute: u32 [0, 100_000_000] = "0";
        /// How many of them may come at once.
        tenant_rate_burst: u32 [1, 100_000_000] = "1000";
    }
}

section! {
    /// What counts as abuse and what follows: `monitor` only counts it, `restrict` lets the
    /// customer write 10 messages a minute for a day, `block` none for a day, `permanent` none until
    /// somebody lifts it.
    struct GuardKeys {
        /// More messages in a minute than so many times what the customer's rate lets in are a
        /// flood; 0 switches this off.
        flood_factor: u32 [0, 1000] = "5";
        /// What follows from a flood.
        flood_severity: Severity = "\"restrict\"";
        /// The same text more often than this within ten minutes is too often; 0 switches this off.
        repeats_max: u32 [0, 10_000] = "20";
        /// What follows from that.
        repeats_severity: Severity = "\"monitor\"";
        /// More links than this within ten minutes are too many; 0 switches this off.
        links_max: u32 [0, 10_000] = "50";
        /// What follows from that.
        links_severity: Severity = "\"monitor\"";
        /// Words and phrases that nobody may write, in any case; up to 1000.
        terms: Texts => "[\"cheap pills\"]";
        /// What follows from one of them.
        terms_severity: Severity = "\"restrict\"";
        /// Regular expressions that no message may hold; up to 100.
        patterns: Texts => "['\\b\\d{16}\\b']";
        /// What follows from one of them.
        patterns_severity: Severity = "\"restrict\"";
        /// Every message is posted here before a turn may have it; the answer is `{"allow": true}`
        /// or `{"allow": false, "reason": "…"}`. See docs/guard.md.
        moderation_url: Endpoint => "\"http://127.0.0.1:9000/check\"";
        /// How long that may take. What is not answered by then is decided by `moderation_default`.
        moderation_timeout_ms: u64 [1, 50_000] = "3000";
        /// What holds where no answer came in time: `allow` or `refuse`.
        moderation_default: Ruling = "\"allow\"";
        /// The file that holds a secret, which is sent along as a bearer token; refused if everybody
        /// on the machine can read it. This or `moderation_secret_env`, or none.
        moderation_secret_file: PathBuf => "\"/etc/turnkeep/moderation.key\"";
        /// The environment variable that holds it.
        moderation_secret_env: String => "\"MODERATION_KEY\"";
    }
}

section! {
    /// Traces: every step of a message as spans, for whoever collects them.
    struct TelemetryKeys {
        /// Where spans are sent, as OTLP over HTTP (JSON), without the `/v1/traces` at its end.
        /// Without it there are none.
        otlp_endpoint: Endpoint => "\"http://127.0.0.1:4318\"";
        /// The name of this server among those that send spans.
        service_name: String = "\"turnkeep\"";
        /// How much of the traces that begin here is recorded, from 0 to 1. Where a message comes
        /// with a `traceparent`, its sender has decided.
        sample_ratio: f64 [0, 1] = "1.0";
        /// The file that holds headers which the receiver wants to see, `name=value` with commas
        /// between; refused if everybody on the machine can read it. This or `headers_env`, or none.
        headers_file: PathBuf => "\"/etc/turnkeep/otlp.headers\"";
        /// The environment variable that holds them.
        headers_env: String => "\"OTLP_HEADERS\"";
    }
}

section! {
    /// Words that tell whether a message is complete. They may also stand in
    /// `[accumulation.LANGUAGE]`.
    struct WordKeys {
        /// A message that is nothing but one of these is waited upon longer.
        greetings: Texts => "[\"hi\", \"good morning\"]";
        /// A message that ends with one of these is complete.
        closings: Texts => "[\"please\", \"thanks\"]";
        /// A message that ends with one of these, or with one of these and `#`, lacks its number.
        references: Texts => "[\"order\", \"invoice\"]";
    }
}

section! {
    /// One channel. Its policy keys win over those of the agent and the tenant.
    struct ChannelKeys {
        /// Appends the replies of this channel to a file, one JSON object a line. Only for channels
        /// that are pushed to; clients of the others fetch their replies themselves. A relative
        /// path counts from the file's own folder.
        spool: PathBuf => "\"signal-out.jsonl\"";
    }
}

section! {
    /// One agent. The one called `default` answers where none is named; if no agent is configured,
    /// it is an echo that takes 400 ms.
    struct AgentKeys {
        /// `echo` repeats what it is told; `openai` and `anthropic` ask a model over that protocol;
        /// `command` asks a program of yours and `http` a server of yours, see docs/brains.md.
        kind: AgentKind => "\"openai\"";
        /// Where the endings of this agent's turns are posted to, with the reply. Needs
        /// `callback_secret_file` or `callback_secret_env`.
        callback_url: Endpoint => "\"https://app.example.org/replies\"";
        /// The file that holds the secret those callbacks are signed with, `whsec_` and base64;
        /// refused if everybody on the machine can read it. While the secret is changed a list: each
        /// of up to four signs. This or `callback_secret_env`.
        callback_secret_file: Paths => "\"/etc/turnkeep/replies.secret\"";
        /// The environment variable that holds it, or a list.
        callback_secret_env: Texts => "\"REPLIES_SECRET\"";
    }
}

section! {
    /// One listener, which is told by signed callbacks of what happens.
    struct ListenerKeys {
        /// Where its callbacks are posted to. Required.
        url: Endpoint => "\"https://crm.example.org/turnkeep\"";
        /// Which events it gets: `*`, all of a category like `turn.*`, a full name like
        /// `turn.completed`, or a list of these.
        pattern: Texts = "\"*\"";
        /// The file that holds the secret its callbacks are signed with, `whsec_` and base64;
        /// refused if everybody on the machine can read it. While the secret is changed a list: each
        /// of up to four signs. This or `secret_env`.
        secret_file: Paths => "\"/etc/turnkeep/crm.secret\"";
        /// The environment variable that holds it, or a list.
        secret_env: Texts => "\"CRM_SECRET\"";
        /// Only events of this tenant.
        tenant: String => "\"acme\"";
        /// Only events of this agent.
        agent: String => "\"default\"";
        /// Whether it sees what people and agents say.
        include_text: bool = "false";
    }
}

section! {
    /// Keys of an agent with `kind = "echo"`.
    struct EchoKeys {
        /// How long the echo works on a turn.
        delay_ms: u64 [0, 3_600_000] = "0";
        /// Shows in the reply which messages arrived while it worked.
        show_mail: bool = "false";
        /// Sends the reply word by word as it is made.
        stream: bool = "false";
        /// Counts words as tokens, of a model called `echo`, to try budgets out.
        tokens: bool = "false";
    }
}

section! {
    /// Keys of an agent with `kind = "openai"` or `kind = "anthropic"`.
    struct ModelKeys {
        /// The server, up to and without `/chat/completions` or `/v1/messages`. Required with
        /// `openai`; with `anthropic` it is https://api.anthropic.com unless something else is said.
        base_url: Url => "\"http://127.0.0.1:11434/v1\"";
        /// Which model. Required.
        model: String => "\"llama3.2\"";
        /// What the model is told before every conversation.
        system_prompt: String => "\"You are a helpful assistant. Answer briefly.\"";
        /// What this version of the agent is called where it is told which one answered; without it
        /// the model's name stands there.
        version: String => "\"support-3\"";
        /// Another agent of kind `openai` or `anthropic`, whose model answers the rest of a turn once
        /// this one's does not. Its prompt, tools and limits are not used.
        fallback: String => "\"spare\"";
        /// More of them, whose model a user may choose instead with `/model`.
        models: Texts => "[\"quick\", \"local\"]";
        /// The environment variable that holds the API key. This or `api_key_file`, or none.
        api_key_env: String => "\"OPENAI_API_KEY\"";
        /// The file that holds the API key; refused if everybody on the machine can read it.
        api_key_file: PathBuf => "\"/etc/turnkeep/openai.key\"";
        /// How freely the model writes, with `anthropic` at most 1; without it the server decides.
        temperature: f64 [0, 2] => "0.7";
        /// Longest answer, in tokens; without it the server decides, and with `anthropic` it is
        /// 4096 beside the thoughts.
        max_tokens: u32 [1, 10_000_000] => "1024";
        /// Tools that the model may ask for, as `SERVER.TOOL`; `*` stands for anything in the tool's
        /// name. The servers are in `[tools.SERVER]`, see docs/tools.md.
        tools: Texts => "[\"shop.*\", \"time.get_current_time\"]";
        /// How many earlier messages the model is shown.
        history_messages: usize [0, 10_000] = "50";
        /// How long the history may be, in estimated tokens.
        history_tokens: usize [0, 10_000_000] = "8000";
        /// How many requests may be under way at once, shared fairly among tenants and sessions;
        /// 0 is without limit.
        max_concurrency: usize [0, 100_000] = "8";
        /// How long one request may take.
        timeout_seconds: u64 [1, 86_400] = "120";
        /// How often a request that failed for a passing reason is sent again.
        max_retries: u32 [0, 100] = "2";
    }
}

section! {
    /// Keys of an agent with `kind = "anthropic"` only.
    struct AnthropicKeys {
        /// Lets the provider remember instructions, tools and conversation for some minutes:
        /// reading them again is cheaper, remembering them costs a little.
        cache: bool = "true";
        /// The model decides how long it thinks before it answers.
        adaptive_thinking: bool = "false";
        /// How many tokens of `max_tokens` it may think with. For models that don't decide it
        /// themselves.
        thinking_budget_tokens: u32 [1024, 10_000_000] => "8000";
    }
}

section! {
    /// Keys of an agent with `kind = "http"`.
    struct HttpBrainKeys {
        /// Where it is asked. Required.
        url: Endpoint => "\"https://brain.example.org/turns\"";
        /// The file that holds the secret it is asked with, `whsec_` and base64; refused if
        /// everybody on the machine can read it. While the secret is changed a list: each of up to
        /// four signs. This or `secret_env`.
        secret_file: Paths => "\"/etc/turnkeep/brain.secret\"";
        /// The environment variable that holds it, or a list.
        secret_env: Texts => "\"BRAIN_SECRET\"";
        /// How many turns it may work on at once, shared fairly among tenants and sessions. One that
        /// waits for its user does not count.
        connections_max: usize [1, 100_000] = "256";
    }
}

/// One agent as typed.
#[derive(Clone, Debug)]
pub(super) struct AgentRaw {
    pub(super) at: Origin,
    pub(super) own: AgentKeys,
    pub(super) echo: EchoKeys,
    pub(super) model: ModelKeys,
    pub(super) anthropic: AnthropicKeys,
    pub(super) command: CommandKeys,
    pub(super) http: HttpBrainKeys,
    pub(super) policy: PolicyKeys,
}

impl AgentRaw {
    /// One of which nothing was typed but its name, at this place.
    pub(super) fn new(at: Origin) -> Self {
        let (own, echo, model, anthropic) = Default::default();
        let (command, http, policy) = Default::default();
        Self { at, own, echo, model, anthropic, command, http, policy }
    }
}

/// One channel as typed.
#[derive(Clone, Debug, Default)]
pub(super) struct ChannelRaw {
    pub(super) own: ChannelKeys,
    pub(super) policy: PolicyKeys,
}

/// One listener as typed.
#[derive(Clone, Debug)]
pub(super) struct ListenerRaw {
    pub(super) at: Origin,
    pub(super) keys: ListenerKeys,
}

/// One language's words as typed.
#[derive(Clone, Debug)]
pub(super) struct LanguageRaw {
    pub(super) at: Origin,
    pub(super) keys: WordKeys,
}

/// Everything as typed.
#[derive(Clone, Debug, Default)]
pub(super) struct Raw {
    pub(super) top: TopKeys,
    pub(super) store: StoreKeys,
    pub(super) redis: RedisKeys,
    pub(super) hatchet: HatchetKeys,
    pub(super) gateway: GatewayKeys,
    pub(super) guard: GuardKeys,
    pub(super) telemetry: TelemetryKeys,
    pub(super) switchboard: SwitchboardKeys,
    pub(super) words: WordKeys,
    pub(super) languages: BTreeMap<String, LanguageRaw>,
    pub(super) channels: BTreeMap<&'static str, ChannelRaw>,
    pub(super) agents: BTreeMap<String, AgentRaw>,
    pub(super) tenants: BTreeMap<String, PolicyKeys>,
    pub(super) money: MoneyRaw,
    pub(super) listeners: BTreeMap<String, ListenerRaw>,
    pub(super) tools: BTreeMap<String, ToolServerRaw>,
    pub(super) signal: SignalRaw,
    pub(super) people: PeopleRaw,
    pub(super) cron: BTreeMap<String, CronRaw>,
}

impl Raw {
    /// Every section with its name in the file; the top has none. What belongs to one table of the
    /// file stands there more than once.
    pub(super) fn sections(&self) -> Vec<(String, &dyn Section)> {
        let mut sections: Vec<(String, &dyn Section)> = vec![
            (String::new(), &self.top),
            ("store".to_owned(), &self.store),
            ("redis".to_owned(), &self.redis),
            ("hatchet".to_owned(), &self.hatchet),
            ("gateway".to_owned(), &self.gateway),
            ("guard".to_owned(), &self.guard),
            ("telemetry".to_owned(), &self.telemetry),
            ("switchboard".to_owned(), &self.switchboard),
            ("accumulation".to_owned(), &self.words),
        ];
        for (name, language) in &self.languages {
            sections.push((format!("accumulation.{name}"), &language.keys));
        }
        for (name, channel) in &self.channels {
            let label = format!("channels.{name}");
            sections.extend([(label.clone(), &channel.own as _), (label, &channel.policy as _)]);
        }
        for (name, agent) in &self.agents {
            let AgentRaw { own, echo, model, anthropic, command, http, policy, .. } = agent;
            let parts: [&dyn Section; 7] = [own, echo, model, anthropic, command, http, policy];
            sections.extend(parts.map(|part| (format!("agents.{name}"), part)));
        }
        for (name, policy) in &self.tenants {
            sections.push((format!("tenants.{name}"), policy));
        }
        sections.extend(self.money.sections());
        for (name, listener) in &self.listeners {
            sections.push((format!("listeners.{name}"), &listener.keys));
        }
        for (name, server) in &self.tools {
            sections.push((format!("tools.{name}"), &server.keys));
        }
        sections.extend(self.signal.sections());
        sections.extend(self.people.sections());
        for (name, job) in &self.cron {
            sections.push((format!("cron.{name}"), &job.keys));
        }
        sections
    }
}
