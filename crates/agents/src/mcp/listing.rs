//! The tools of one server as an agent may have them: named, bounded, and with what holds for each.

use std::collections::BTreeMap;
use std::time::Duration;

use rmcp::model::{PaginatedRequestParams, ToolAnnotations};
use rmcp::service::Peer;
use rmcp::{RoleClient, ServiceError};
use serde_json::{Value, json};
use tokio::time::timeout;
use turnkeep_core::tool::SideEffects;

use super::content::label;
use super::names::{matches, nearest, said_of, towards_model, unknown};
use super::outcome::of_error;
use super::settings::{ToolPolicy, ToolServerSettings};
use super::unreached::why_unreached;
use crate::tools::{Origin, Tool, ToolSpec};

/// How long a server may take to tell all of its tools.
const LIST_TIME: Duration = Duration::from_secs(30);
/// Pages and tools of one server.
const PAGES_MAX: usize = 100;
const TOOLS_MAX: usize = 1000;
/// Longest description, in characters, and longest schema, in bytes.
const DESCRIPTION_CHARS_MAX: usize = 4000;
const SCHEMA_BYTES_MAX: usize = 32 << 10;
/// Longest name of a tool.
const NAME_BYTES_MAX: usize = 200;

/// A tool and what its server calls it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    pub(super) name: String,
    pub(super) tool: Tool,
}

/// What a server has.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Listing {
    /// In its own order.
    pub(super) tools: Vec<Known>,
    /// What a person should know of them.
    pub(super) notes: Vec<String>,
}

impl Listing {
    /// Asks for all of them.
    pub(super) async fn read(
        peer: &Peer<RoleClient>,
        settings: &ToolServerSettings,
    ) -> Result<Self, String> {
        let all = timeout(LIST_TIME, pages(peer, settings)).await;
        let all = all.map_err(|_| "it did not tell its tools in time".to_owned())??;
        Ok(Self::of(all, settings))
    }

    fn of(all: Vec<rmcp::model::Tool>, settings: &ToolServerSettings) -> Self {
        let server = &settings.name;
        let mut notes = Vec::new();
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        let mut tools = Vec::new();
        if all.len() > TOOLS_MAX {
            notes.push(format!("{server} has more than {TOOLS_MAX} tools; the rest is left out"));
        }
        for told in all.into_iter().take(TOOLS_MAX) {
            let name = told.name.to_string();
            let tool = match known(&told, settings) {
                Ok(tool) => tool,
                Err(why) => {
                    notes.push(format!("a tool of {server} is left out: {why}"));
                    continue;
                }
            };
            if let Some(other) = found.insert(tool.spec.name.clone(), name.clone()) {
                notes.push(format!(
                    "the tools {other:?} and {name:?} of {server} would have the same name; the \
                     second one is left out"
                ));
                continue;
            }
            tools.push(Known { name, tool });
        }
        let names: Vec<&str> = tools.iter().map(|known| known.name.as_str()).collect();
        notes.extend(strays(server, &settings.policy, &names));
        notes.extend(stray_keys(server, &settings.policy, &tools));
        Self { tools, notes }
    }
}

async fn pages(
    peer: &Peer<RoleClient>,
    settings: &ToolServerSettings,
) -> Result<Vec<rmcp::model::Tool>, String> {
    let mut all = Vec::new();
    let mut cursor = None;
    for _ in 0..PAGES_MAX {
        let params = PaginatedRequestParams::default().with_cursor(cursor);
        let page = peer.list_tools(Some(params)).await;
        let page = page.map_err(|error| match error {
            ServiceError::TransportSend(error) => why_unreached(&error, settings),
            error => of_error(&error, SideEffects::Pure, false).0.output,
        })?;
        all.extend(page.tools);
        cursor = page.next_cursor;
        if cursor.is_none() || all.len() > TOOLS_MAX {
            return Ok(all);
        }
    }
    Err(format!("its list of tools has more than {PAGES_MAX} pages"))
}

/// What is configured for tools that are not there.
fn strays(server: &str, policy: &ToolPolicy, names: &[&str]) -> Vec<String> {
    let effects = policy.effects.iter().map(|(pattern, _)| ("effects", pattern));
    let keys = policy.keys.iter().map(|(pattern, _)| ("keys", pattern));
    let approval = policy.approval.iter().map(|pattern| ("approval", pattern));
    let all = effects.chain(keys).chain(approval);
    let told = all.filter_map(|(key, pattern)| {
        Some(format!("\"{key}\" of {server}: {}", unknown(server, pattern, names)?))
    });
    told.collect()
}

/// Keys that are no argument of what they are for: every call of it would be refused.
fn stray_keys(server: &str, policy: &ToolPolicy, tools: &[Known]) -> Vec<String> {
    let stray = |(pattern, pointer): &(String, String)| {
        let of_it = |known: &&Known| {
            matches(pattern, &known.name) && known.tool.key.as_ref() == Some(pointer)
        };
        let mut strays =
            tools.iter().filter(of_it).map(|known| stray(&known.tool.spec.schema, pointer));
        let mend = strays.next()??;
        // A pattern may mean more than those that have it.
        if !strays.all(|stray| stray.is_some()) {
            return None;
        }
        Some(format!(
            "\"keys\" of {server}: {pattern:?} has no argument {pointer:?}, so no call of it can be \
             made{mend}"
        ))
    };
    policy.keys.iter().filter_map(stray).collect()
}

/// What to say of an argument that is not among those that the schema tells: what was meant, or
/// nothing. What the schema leaves open may be there.
fn stray(mut schema: &Value, pointer: &str) -> Option<String> {
    const OPEN: [&str; 7] =
        ["$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "patternProperties"];
    let mut above = String::new();
    for token in pointer.split('/').skip(1) {
        let name = token.replace("~1", "/").replace("~0", "~");
        let more = schema.get("additionalProperties");
        if OPEN.iter().any(|key| schema.get(key).is_some()) || more.is_some_and(Value::is_object) {
            return None;
        }
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return (more == Some(&Value::Bool(false))).then(String::new);
        };
        let Some(inner) = properties.get(&name) else {
            let near = nearest(&name, properties.keys().map(String::as_str));
            let token = |name: &str| name.replace('~', "~0").replace('/', "~1");
            let meant = near.map(|near| format!("{above}/{}", token(near)));
            let mend = meant.map(|meant| format!("; did you mean {meant:?}?"));
            return Some(mend.unwrap_or_default());
        };
        schema = inner;
        above = format!("{above}/{token}");
    }
    None
}

fn known(told: &rmcp::model::Tool, settings: &ToolServerSettings) -> Result<Tool, String> {
    let name = &*told.name;
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(format!(
            "its name {:?} has no bytes or more than {NAME_BYTES_MAX}",
            label(name)
        ));
    }
    let mut schema = told.input_schema.as_ref().clone();
    if *schema.entry("type").or_insert_with(|| json!("object")) != "object" {
        return Err(format!("the arguments of {name:?} are no object"));
    }
    let schema = Value::Object(schema);
    let length = schema.to_string().len();
    if length > SCHEMA_BYTES_MAX {
        return Err(format!(
            "the schema of {name:?} has {length} bytes; up to {SCHEMA_BYTES_MAX} are taken"
        ));
    }
    let policy = &settings.policy;
    Ok(Tool {
        spec: ToolSpec {
            name: towards_model(&settings.name, name),
            description: description(told.description.as_deref().unwrap_or_default()),
            schema,
        },
        origin: Some(Origin { server: settings.name.clone(), name: name.to_owned() }),
        effects: effects(policy, name, told.annotations.as_ref()),
        key: said_of(&policy.keys, name).cloned(),
        approval: policy.approval.iter().any(|pattern| super::names::matches(pattern, name)),
        timeout: settings.timeout,
    })
}

fn description(told: &str) -> String {
    let shown = |one: &char| !one.is_control() || matches!(one, '\n' | '\t');
    let mut text: String = told.chars().filter(shown).take(DESCRIPTION_CHARS_MAX).collect();
    if told.chars().filter(shown).nth(DESCRIPTION_CHARS_MAX).is_some() {
        text.push('…');
    }
    text
}

/// What is configured counts; then, if it is trusted, what the server says of itself.
fn effects(policy: &ToolPolicy, name: &str, hints: Option<&ToolAnnotations>) -> SideEffects {
    if let Some(effects) = said_of(&policy.effects, name) {
        return *effects;
    }
    let hints = hints.filter(|_| policy.trust_annotations);
    match hints.map(|hints| (hints.read_only_hint, hints.idempotent_hint)) {
        Some((Some(true), _)) => SideEffects::Pure,
        Some((_, Some(true))) => SideEffects::Idempotent,
        _ => SideEffects::Irreversible,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::ToolWay;

    fn settings(policy: ToolPolicy) -> ToolServerSettings {
        let way = ToolWay::Http { url: "http://localhost".to_owned(), token: None };
        ToolServerSettings { name: "shop".into(), way, timeout: Duration::from_secs(7), policy }
    }

    fn told(text: &str) -> Vec<rmcp::model::Tool> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn every_tool_has_its_name_and_its_rules() {
        let policy = ToolPolicy {
            effects: vec![("get*".into(), SideEffects::Pure), ("got*".into(), SideEffects::Pure)],
            keys: vec![("refund".into(), "/order_id".into())],
            approval: vec!["refnud".into(), "re*".into()],
            ..ToolPolicy::default()
        };
        let tools = told(
            r#"[{"name":"refund","description":"Pays\u0000 back","inputSchema":{"properties":{}},
                 "annotations":{"readOnlyHint":true}},
                {"name":"get order","inputSchema":{"type":"object"}},
                {"name":"get_order","inputSchema":{"type":"object"}},
                {"name":"odd","inputSchema":{"type":"array"}}]"#,
        );
        let Listing { tools, notes } = Listing::of(tools, &settings(policy));
        let tool = |name: &str, description: &str, schema, effects| Tool {
            spec: ToolSpec {
                name: towards_model("shop", name),
                description: description.into(),
                schema,
            },
            origin: Some(Origin { server: "shop".into(), name: name.into() }),
            effects,
            key: None,
            approval: false,
            timeout: Duration::from_secs(7),
        };
        let schema = json!({"type": "object", "properties": {}});
        let refund = tool("refund", "Pays back", schema, SideEffects::Irreversible);
        let refund = Tool { key: Some("/order_id".into()), approval: true, ..refund };
        let order = tool("get order", "", json!({"type": "object"}), SideEffects::Pure);
        let expect = [("refund", refund), ("get order", order)];
        assert_eq!(tools, expect.map(|(name, tool)| Known { name: name.into(), tool }));
        assert_eq!(
            notes,
            [
                "the tools \"get order\" and \"get_order\" of shop would have the same name; the \
                 second one is left out",
                "a tool of shop is left out: the arguments of \"odd\" are no object",
                "\"effects\" of shop: no tool of shop is called like \"got*\"",
                "\"approval\" of shop: no tool of shop is called \"refnud\"; did you mean \
                 \"refund\"?",
                "\"keys\" of shop: \"refund\" has no argument \"/order_id\", so no call of it can be \
                 made",
            ]
        );
    }

    #[test]
    fn a_key_that_is_no_argument_is_told() {
        let check = |pointer: &str, schema: &Value, expect: Option<&str>| {
            assert_eq!(stray(schema, pointer).as_deref(), expect, "{pointer} of {schema}");
        };
        let order = json!({"type": "object", "properties": {
            "order": {"type": "object", "properties": {"a/b": {}, "lines": {"type": "array"}}},
            "map": {"additionalProperties": {"type": "string"}},
            "more": {"properties": {"x": {}}, "additionalProperties": true},
            "any": {"properties": {"x": {}}, "anyOf": [{"properties": {"y": {}}}]},
            "ref": {"$ref": "#/$defs/x"},
            "none": {"type": "object", "additionalProperties": false},
            "open": {"type": "object"},
        }});
        for there in ["", "/order", "/order/a~1b", "/order/lines/0", "/map/x", "/more/x"] {
            check(there, &order, None);
        }
        for open in ["/any/z", "/ref/z", "/open/z"] {
            check(open, &order, None);
        }
        check("/ordr", &order, Some("; did you mean \"/order\"?"));
        check("/order/ab", &order, Some("; did you mean \"/order/a~1b\"?"));
        check("/something", &order, Some(""));
        check("/more/something", &order, Some(""));
        check("/none/x", &order, Some(""));
        check("/x", &json!({"properties": {}}), Some(""));
        check("/x", &json!({"type": "object"}), None);
    }

    #[test]
    fn a_pattern_of_keys_may_mean_tools_that_lack_it() {
        let notes = |keys: &[(&str, &str)]| {
            let own =
                |(pattern, pointer): &(&str, &str)| ((*pattern).to_owned(), (*pointer).to_owned());
            let keys = keys.iter().map(own).collect();
            let policy = ToolPolicy { keys, ..ToolPolicy::default() };
            let tools = told(
                r#"[{"name":"refund","inputSchema":{"properties":{"order":{}}}},
                    {"name":"remind","inputSchema":{"properties":{"at":{}}}}]"#,
            );
            Listing::of(tools, &settings(policy)).notes
        };
        assert_eq!(notes(&[("re*", "/order")]), [""; 0]);
        assert_eq!(notes(&[("re*", "/at"), ("refund", "/order")]), [""; 0]);
        assert_eq!(
            notes(&[("refund", "/ordr"), ("re*", "/at")]),
            [
                "\"keys\" of shop: \"refund\" has no argument \"/ordr\", so no call of it can be made; \
              did you mean \"/order\"?"
            ]
        );
        assert_eq!(
            notes(&[("re*", "/nobody")]),
            ["\"keys\" of shop: \"re*\" has no argument \"/nobody\", so no call of it can be made"]
        );
    }

    #[test]
    fn what_a_server_says_of_itself_counts_only_if_it_is_trusted() {
        let hints = [
            (r#"{"readOnlyHint":true}"#, SideEffects::Pure),
            (r#"{"idempotentHint":true}"#, SideEffects::Idempotent),
            (r#"{"destructiveHint":false}"#, SideEffects::Irreversible),
        ];
        for (hints, trusted) in hints {
            let hints: ToolAnnotations = serde_json::from_str(hints).unwrap();
            let mut policy = ToolPolicy::default();
            assert_eq!(effects(&policy, "a", Some(&hints)), SideEffects::Irreversible);
            policy.trust_annotations = true;
            assert_eq!(effects(&policy, "a", Some(&hints)), trusted);
            policy.effects = vec![("a".into(), SideEffects::Compensatable)];
            assert_eq!(effects(&policy, "a", Some(&hints)), SideEffects::Compensatable);
        }
    }

    #[test]
    fn too_much_is_left_out_and_told() {
        let long = "x".repeat(SCHEMA_BYTES_MAX);
        let text = format!(
            r#"[{{"name":"{}","inputSchema":{{}}}},{{"name":"big","inputSchema":{{"a":"{long}"}}}},
                {{"name":"wordy","description":"{long}","inputSchema":{{}}}}]"#,
            "n".repeat(201)
        );
        let listing = Listing::of(told(&text), &settings(ToolPolicy::default()));
        let names: Vec<&str> = listing.tools.iter().map(|known| known.name.as_str()).collect();
        assert_eq!(names, ["wordy"]);
        let description = &listing.tools[0].tool.spec.description;
        assert_eq!(description.chars().count(), DESCRIPTION_CHARS_MAX + 1);
        assert_eq!(listing.notes.len(), 2, "{:?}", listing.notes);
        let many = (0..1100).map(|at| format!(r#"{{"name":"t{at}","inputSchema":{{}}}}"#));
        let many = format!("[{}]", many.collect::<Vec<_>>().join(","));
        let listing = Listing::of(told(&many), &settings(ToolPolicy::default()));
        assert_eq!(listing.tools.len(), TOOLS_MAX);
        assert_eq!(listing.notes, ["shop has more than 1000 tools; the rest is left out"]);
    }
}
