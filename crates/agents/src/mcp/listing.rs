//! The tools of one server as an agent may have them: named, bounded, and with what holds for each.

use std::collections::BTreeMap;
use std::time::Duration;

use rmcp::RoleClient;
use rmcp::model::{PaginatedRequestParams, ToolAnnotations};
use rmcp::service::Peer;
use serde_json::{Value, json};
use tokio::time::timeout;
use turnkeep_core::tool::SideEffects;

use super::content::label;
use super::names::{said_of, towards_model, unknown};
use super::outcome::of_error;
use super::settings::{ToolPolicy, ToolServerSettings};
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
        let all = timeout(LIST_TIME, pages(peer)).await;
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
        Self { tools, notes }
    }
}

async fn pages(peer: &Peer<RoleClient>) -> Result<Vec<rmcp::model::Tool>, String> {
    let mut all = Vec::new();
    let mut cursor = None;
    for _ in 0..PAGES_MAX {
        let params = PaginatedRequestParams::default().with_cursor(cursor);
        let page = peer.list_tools(Some(params)).await;
        let page = page.map_err(|error| of_error(&error, SideEffects::Pure, false).0.output)?;
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
            ]
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
