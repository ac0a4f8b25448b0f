//! The configuration as a JSON schema, for editors: made from the declared keys.

use serde_json::{Map, Value, json};
use turnkeep_core::policy::CHANNELS;
use turnkeep_core::session_key::SEGMENT_BYTES_MAX;

use super::budgets::{BudgetKeys, PriceKeys, UsageKeys};
use super::cron::CronKeys;
use super::hatchet::HatchetKeys;
use super::people::{GroupKeys, UserKeys};
use super::raw::{
    AgentKeys, AnthropicKeys, ChannelKeys, CommandKeys, EchoKeys, GatewayKeys, GuardKeys,
    HttpBrainKeys, ListenerKeys, ModelKeys, PolicyKeys, TelemetryKeys, TopKeys, WordKeys,
};
use super::redis::RedisKeys;
use super::section::Key;
use super::signal::{SignalAccountKeys, SignalKeys};
use super::store::StoreKeys;
use super::switchboard::SwitchboardKeys;
use super::tools::ToolServerKeys;

/// The schema, as text.
pub(crate) fn schema() -> String {
    // Our own value always prints.
    let mut text = serde_json::to_string_pretty(&document()).unwrap_or_default();
    text.push('\n');
    text
}

/// The schema.
pub(super) fn document() -> Value {
    let mut schema = table(&[TopKeys::KEYS]);
    let mut channel = table(&[ChannelKeys::KEYS, PolicyKeys::KEYS]);
    channel["properties"]["budgets"] = table(&[BudgetKeys::KEYS]);
    let mut tenant = table(&[PolicyKeys::KEYS]);
    tenant["properties"]["budgets"] = table(&[BudgetKeys::KEYS]);
    let channels: Map<String, Value> =
        CHANNELS.iter().map(|facts| (facts.name.to_owned(), channel.clone())).collect();
    let tables = [
        ("store", table(&[StoreKeys::KEYS])),
        ("redis", table(&[RedisKeys::KEYS])),
        ("hatchet", table(&[HatchetKeys::KEYS])),
        ("gateway", table(&[GatewayKeys::KEYS])),
        ("guard", table(&[GuardKeys::KEYS])),
        ("telemetry", table(&[TelemetryKeys::KEYS])),
        ("switchboard", table(&[SwitchboardKeys::KEYS])),
        ("accumulation", words()),
        ("channels", object(channels)),
        ("agents", named(&agent())),
        ("tenants", named(&tenant)),
        ("budgets", table(&[BudgetKeys::KEYS])),
        ("usage", table(&[UsageKeys::KEYS])),
        ("prices", named(&table(&[PriceKeys::KEYS]))),
        ("listeners", named(&listener())),
        ("tools", named(&tool_server())),
        ("signal", signal()),
        ("users", named(&table(&[UserKeys::KEYS]))),
        ("groups", named(&group())),
        ("cron", named(&job())),
    ];
    for (name, table) in tables {
        schema["properties"][name] = table;
    }
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Turnkeep's configuration");
    schema
}

fn object(properties: Map<String, Value>) -> Value {
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

/// A table with these keys and no others.
fn table(sections: &[&'static [Key]]) -> Value {
    let keys = || sections.iter().copied().flatten();
    let properties = keys().map(|key| (key.name.to_owned(), property(key))).collect();
    let mut table = object(properties);
    let twin = |key: &&Key| {
        let variable = format!("{}_env", key.name.strip_suffix("_file")?);
        keys().any(|other| other.name == variable).then(|| json!([key.name, variable]))
    };
    // A secret is in a file or in a variable.
    let pairs: Vec<Value> = keys()
        .filter_map(|key| twin(&key))
        .map(|pair| json!({"not": {"required": pair}}))
        .collect();
    if !pairs.is_empty() {
        table["allOf"] = Value::Array(pairs);
    }
    table
}

fn property(key: &Key) -> Value {
    let mut property = (key.schema)();
    property["description"] = json!(key.doc.trim());
    if let Some(default) = key.default.and_then(as_json) {
        property["default"] = default;
    }
    property
}

/// A value as it would be typed, as JSON.
pub(crate) fn as_json(typed: &str) -> Option<Value> {
    let table: Map<String, Value> = toml::from_str(&format!("value = {typed}")).ok()?;
    table.get("value").cloned()
}

/// Tables of any name.
fn named(table: &Value) -> Value {
    json!({
        "type": "object",
        "propertyNames": {"minLength": 1, "maxLength": SEGMENT_BYTES_MAX},
        "additionalProperties": table,
    })
}

/// The words of every language, and tables of single languages.
fn words() -> Value {
    let mut words = table(&[WordKeys::KEYS]);
    words["additionalProperties"] = table(&[WordKeys::KEYS]);
    words
}

fn agent() -> Value {
    let kinds = [
        EchoKeys::KEYS,
        ModelKeys::KEYS,
        CommandKeys::KEYS,
        HttpBrainKeys::KEYS,
        AnthropicKeys::KEYS,
    ];
    let mut agent = table(&[&[AgentKeys::KEYS, PolicyKeys::KEYS], &kinds[..]].concat());
    agent["properties"]["policy"] = table(&[PolicyKeys::KEYS]);
    agent["properties"]["budgets"] = table(&[BudgetKeys::KEYS]);
    agent["required"] = json!(["kind"]);
    let kind = |kind: &str, own: &[usize], required: Value| {
        let others = kinds.iter().enumerate().filter(|(at, _)| !own.contains(at));
        let keys = others.flat_map(|(_, keys)| keys.iter());
        let without: Map<_, _> = keys.map(|key| (key.name.to_owned(), json!(false))).collect();
        json!({
            "if": {"properties": {"kind": {"const": kind}}},
            "then": {"properties": without, "required": required},
        })
    };
    let rules = [
        kind("echo", &[0], json!([])),
        kind("openai", &[1], json!(["base_url", "model"])),
        kind("anthropic", &[1, 4], json!(["model"])),
        kind("command", &[2], json!(["command"])),
        kind("http", &[3], json!(["url"])),
        json!({"if": {"properties": {"kind": {"const": "http"}}}, "then": any_of(["secret_file", "secret_env"])}),
        json!({"dependentSchemas": {"callback_url": any_of(["callback_secret_file", "callback_secret_env"])}}),
    ];
    extend_rules(&mut agent, rules);
    agent
}

fn listener() -> Value {
    let mut listener = table(&[ListenerKeys::KEYS]);
    listener["required"] = json!(["url"]);
    extend_rules(&mut listener, [any_of(["secret_file", "secret_env"])]);
    listener
}

fn tool_server() -> Value {
    let mut server = table(&[ToolServerKeys::KEYS]);
    extend_rules(&mut server, [any_of(["command", "url"])]);
    server
}

fn group() -> Value {
    let mut group = table(&[GroupKeys::KEYS]);
    group["required"] = json!(["id"]);
    group
}

fn job() -> Value {
    let mut job = table(&[CronKeys::KEYS]);
    job["required"] = json!(["schedule"]);
    extend_rules(&mut job, [any_of(["prompt", "text"])]);
    job
}

fn signal() -> Value {
    let mut account = table(&[SignalAccountKeys::KEYS]);
    account["required"] = json!(["number"]);
    let mut signal = table(&[SignalKeys::KEYS]);
    signal["properties"]["accounts"] = named(&account);
    extend_rules(&mut signal, [any_of(["number", "accounts"])]);
    signal
}

fn any_of(keys: [&str; 2]) -> Value {
    let required = keys.map(|key| json!({"required": [key]}));
    json!({"anyOf": required})
}

fn extend_rules(table: &mut Value, rules: impl IntoIterator<Item = Value>) {
    if let Some(all) = table["allOf"].as_array_mut() {
        all.extend(rules);
    } else {
        table["allOf"] = Value::Array(rules.into_iter().collect());
    }
}
