//! An agent that asks a model, over one of two protocols.

use std::collections::BTreeMap;
use std::time::Duration;

use super::raw::{AgentRaw, ModelKeys};
use super::resolved::{AgentSettings, or, seconds, text};
use super::secret::{ApiKey, Named, Told, secret};

/// What is asked for below the base address, and where that ends.
const COMPLETIONS: (&str, &str) = ("/chat/completions", "https://api.openai.com/v1");
/// The same of the Messages API.
const MESSAGES: (&str, &str) = ("/v1/messages", ANTHROPIC);
/// Where `anthropic` agents ask if nothing else is said.
const ANTHROPIC: &str = "https://api.anthropic.com";
/// Tokens of an answer where its length must be said; thoughts come on top.
const ANSWER_TOKENS: u32 = 4096;

/// An agent that asks a model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ModelSettings {
    /// The server, without a slash at its end.
    pub(crate) base_url: String,
    /// Which model.
    pub(crate) model: String,
    /// What the model is told first.
    pub(crate) system_prompt: Option<String>,
    /// What this version is called.
    pub(crate) version: Option<String>,
    /// Whose model answers where this one does not.
    pub(crate) fallback: Option<String>,
    /// Whose models may be chosen instead.
    pub(crate) models: Vec<String>,
    /// What the server wants to see.
    pub(crate) api_key: Option<ApiKey>,
    /// How freely the model writes.
    pub(crate) temperature: Option<f64>,
    /// Longest answer, in tokens.
    pub(crate) tokens_max: Option<u32>,
    /// The tools that it may ask for, as `SERVER.TOOL` with patterns.
    pub(crate) tools: Vec<String>,
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

impl ModelSettings {
    /// Other agents whose models it may ask.
    pub(crate) fn others(&self) -> impl Iterator<Item = &String> {
        self.fallback.iter().chain(&self.models)
    }
}

/// An agent that asks a model over the Messages API.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AnthropicSettings {
    /// What every model has.
    pub(crate) model: ModelSettings,
    /// Whether the provider may remember what it reads.
    pub(crate) cache: bool,
    /// Whether and how it thinks before it answers.
    pub(crate) thinking: Thinking,
}

/// How a model thinks before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thinking {
    /// As it does unasked.
    Unsaid,
    /// As long as it finds right.
    Adaptive,
    /// With this many tokens at most.
    Budget(u32),
}

/// What is typed for an agent that speaks `OpenAI`'s protocol.
pub(super) fn openai(name: &str, raw: &AgentRaw, told: &mut Told<'_>) -> Option<ModelSettings> {
    if raw.model.base_url.is_none() {
        let (place, text) = (format!("[agents.{name}]"), "needs \"base_url\"");
        told.problems.lacks(&place, &["base_url"], &raw.at, &format!("{place} {text}"));
    }
    model(name, raw, COMPLETIONS, told)
}

/// What is typed for an agent that speaks the Messages API.
pub(super) fn anthropic(
    name: &str,
    raw: &AgentRaw,
    told: &mut Told<'_>,
) -> Option<AnthropicSettings> {
    let (keys, own) = (&raw.model, &raw.anthropic);
    let adaptive = own.adaptive_thinking.as_ref().filter(|set| set.value);
    let budget = own.thinking_budget_tokens.as_ref();
    let place = format!("[agents.{name}]");
    if let Some(set) = keys.temperature.as_ref() {
        if set.value > 1.0 {
            let text = format!("\"temperature\" in {place} is at most 1 with kind = \"anthropic\"");
            told.problems.add(&set.origin, text);
        }
        if adaptive.is_some() || budget.is_some() {
            let text = format!("\"temperature\" in {place} can't be set for a model that thinks");
            told.problems.add(&set.origin, text);
        }
    }
    if let (Some(_), Some(set)) = (adaptive, budget) {
        let text = format!(
            "\"adaptive_thinking\" and \"thinking_budget_tokens\" in {place} exclude each other"
        );
        told.problems.add(&set.origin, text);
    }
    if let (Some(tokens), Some(set)) = (&keys.max_tokens, budget)
        && set.value >= tokens.value
    {
        let text = format!(
            "\"thinking_budget_tokens\" in {place} must be less than max_tokens = {}, which it is \
             part of",
            tokens.value
        );
        told.problems.add(&set.origin, text);
    }
    let thinking = match (adaptive, budget) {
        (_, Some(set)) => Thinking::Budget(set.value),
        (Some(_), None) => Thinking::Adaptive,
        (None, None) => Thinking::Unsaid,
    };
    let mut model = model(name, raw, MESSAGES, told)?;
    if model.base_url == ANTHROPIC && keys.api_key_env.is_none() && keys.api_key_file.is_none() {
        told.notes.push(format!(
            "{place} has no \"api_key_env\" and no \"api_key_file\"; {ANTHROPIC} answers nobody \
             without a key"
        ));
    }
    let thoughts = budget.map_or(0, |set| set.value);
    model.tokens_max.get_or_insert(ANSWER_TOKENS.saturating_add(thoughts));
    Some(AnthropicSettings { model, cache: or(own.cache.as_ref(), true), thinking })
}

/// What every model has; `path` is put behind its address, which looks like the second.
fn model(
    name: &str,
    raw: &AgentRaw,
    (path, like): (&str, &str),
    told: &mut Told<'_>,
) -> Option<ModelSettings> {
    let keys = &raw.model;
    if keys.model.is_none() {
        let (place, text) = (format!("[agents.{name}]"), "needs \"model\"");
        told.problems.lacks(&place, &["model"], &raw.at, &format!("{place} {text}"));
    }
    if let Some(url) = keys.base_url.as_ref().filter(|url| url.value.0.ends_with(path)) {
        let text = format!(
            "\"base_url\" in [agents.{name}] must end before {path}, which is put behind it; it \
             looks like \"{like}\""
        );
        told.problems.add(&url.origin, text);
    }
    let api_key = api_key(name, keys, told);
    let concurrency_max = or(keys.max_concurrency.as_ref(), 8);
    let base_url = keys.base_url.as_ref().map(|set| set.value.0.clone());
    Some(ModelSettings {
        // Where there is no default, the missing one is told of already.
        base_url: base_url.unwrap_or_else(|| ANTHROPIC.to_owned()),
        model: text(keys.model.as_ref())?,
        system_prompt: text(keys.system_prompt.as_ref()),
        version: text(keys.version.as_ref()),
        fallback: text(keys.fallback.as_ref()),
        models: keys.models.as_ref().map(|set| set.value.0.clone()).unwrap_or_default(),
        api_key,
        temperature: keys.temperature.as_ref().map(|set| set.value),
        tokens_max: keys.max_tokens.as_ref().map(|set| set.value),
        tools: keys.tools.as_ref().map(|set| set.value.0.clone()).unwrap_or_default(),
        history_messages_max: or(keys.history_messages.as_ref(), 50),
        history_tokens_max: or(keys.history_tokens.as_ref(), 8000),
        concurrency_max: Some(concurrency_max).filter(|limit| *limit > 0),
        timeout: seconds(keys.timeout_seconds.as_ref(), 120),
        retries_max: or(keys.max_retries.as_ref(), 2),
    })
}

/// Whoever stands in for another must ask a model, too, and so must whose model may be chosen.
pub(super) fn check_others(
    raw: &BTreeMap<String, AgentRaw>,
    agents: &BTreeMap<String, AgentSettings>,
    told: &mut Told<'_>,
) {
    for (name, agent) in raw {
        let fallback = agent.model.fallback.iter();
        let fallback = fallback.map(|set| ("fallback", &set.value, &set.origin));
        let models = agent.model.models.iter();
        let models = models.flat_map(|set| set.value.0.iter().map(|one| (one, &set.origin)));
        let models = models.map(|(other, origin)| ("models", other, origin));
        for (key, other, origin) in fallback.chain(models) {
            let what = match agents.get(other) {
                _ if other == name => "is the agent itself",
                Some(other) if other.model().is_some() => continue,
                Some(_) => "asks no model",
                // One that is known but has mistakes was told of already.
                None if raw.contains_key(other) => continue,
                None => "is no agent",
            };
            told.problems.add(origin, format!("\"{key}\" in [agents.{name}]: {other:?} {what}"));
        }
    }
}

fn api_key(name: &str, keys: &ModelKeys, told: &mut Told<'_>) -> Option<ApiKey> {
    let named = Named {
        place: &format!("[agents.{name}]"),
        file: ("api_key_file", keys.api_key_file.as_ref()),
        env: ("api_key_env", keys.api_key_env.as_ref()),
    };
    secret(&named, told).map(|(secret, _)| ApiKey(secret))
}
