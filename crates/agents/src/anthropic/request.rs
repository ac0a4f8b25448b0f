//! The conversation as the protocol wants it, and what of it may be remembered.
//!
//! Roles take turns, beginning with the user; neighbours are joined. A call's result comes first in
//! what the user says next. Texts of nothing are refused, so there are none.

use serde_json::{Map, Value, json};

use super::answer::input;
use super::settings::{AnthropicSettings, Thinking};
use crate::model::provider::{Call, CallResult, Line, Question, ToolSpec};

/// What marks a line's own form as ours.
pub(super) const RAW: &str = "anthropic";
/// What a user says who said nothing.
const NOTHING: &str = "(no text)";
/// What stands for a result of no words.
const NO_RESULT: &str = "(no output)";
/// What a conversation begins with that began with an answer.
const EARLIER: &str = "(what came before is left out)";
/// What a schema may not have at its top here; arguments are checked against all of it anyway.
const SCHEMA_TOO_MUCH: [&str; 3] = ["oneOf", "anyOf", "allOf"];

/// The body of one request.
pub(super) fn body(settings: &AnthropicSettings, question: &Question<'_>) -> Value {
    let mut messages = Messages::default();
    for line in question.lines {
        messages.push(line, &settings.model);
    }
    let mut fields = settings.parameters();
    if messages.unthought && matches!(settings.thinking, Thinking::Budget(_)) {
        // Calls without the thoughts that led to them (another model made them, or another attempt)
        // are refused where the model is told to think.
        fields.remove("thinking");
    }
    let mut tools = tools(question, &messages.called);
    let mut system = Vec::new();
    system.extend(question.system.filter(|text| !text.trim().is_empty()).map(text_block));
    if settings.cache {
        tools.last_mut().map(remember);
        system.last_mut().map(remember);
        messages.remember();
    }
    fields.insert("model".to_owned(), settings.model.clone().into());
    fields.insert("stream".to_owned(), true.into());
    fields.insert("messages".to_owned(), messages.list());
    if !system.is_empty() {
        fields.insert("system".to_owned(), system.into());
    }
    if !tools.is_empty() {
        if question.answer_only || question.tools.is_empty() {
            fields.insert("tool_choice".to_owned(), json!({"type": "none"}));
        }
        fields.insert("tools".to_owned(), tools.into());
    }
    Value::Object(fields)
}

/// The tools. Where calls stand in the conversation, there have to be some.
fn tools(question: &Question<'_>, called: &[String]) -> Vec<Value> {
    let known = question.tools.iter().map(tool);
    if !question.tools.is_empty() || called.is_empty() {
        return known.collect();
    }
    let gone = |name: &String| json!({"name": name, "input_schema": {"type": "object"}});
    called.iter().map(gone).collect()
}

fn tool(spec: &ToolSpec) -> Value {
    let mut schema = match &spec.schema {
        Value::Object(fields) => fields.clone(),
        _ => Map::new(),
    };
    schema.insert("type".to_owned(), "object".into());
    schema.retain(|name, _| !SCHEMA_TOO_MUCH.contains(&name.as_str()));
    json!({"name": spec.name, "description": spec.description, "input_schema": schema})
}

/// Messages while they are put together.
#[derive(Default)]
struct Messages {
    list: Vec<(&'static str, Vec<Value>)>,
    /// Which tools were called.
    called: Vec<String>,
    /// Some calls stand there without the thoughts that led to them.
    unthought: bool,
}

impl Messages {
    fn push(&mut self, line: &Line, model: &str) {
        match line {
            Line::User(text) => self.add("user", text_blocks(text)),
            Line::Agent(text) => self.add("assistant", text_blocks(text)),
            Line::Calls { said, calls, raw } => {
                for call in calls {
                    if !self.called.contains(&call.tool) {
                        self.called.push(call.tool.clone());
                    }
                }
                let own = raw.as_ref().and_then(|raw| own_blocks(raw, calls, model));
                self.unthought |= own.is_none();
                let blocks = own.unwrap_or_else(|| {
                    let calls = calls.iter().map(call_block);
                    text_blocks(said).into_iter().chain(calls).collect()
                });
                self.add("assistant", blocks);
            }
            Line::Results(results) => self.add("user", results.iter().map(result_block).collect()),
        }
    }

    fn add(&mut self, role: &'static str, blocks: Vec<Value>) {
        if self.list.is_empty() && role != "user" {
            self.list.push(("user", vec![text_block(EARLIER)]));
        }
        match self.list.last_mut() {
            Some((last, content)) if *last == role => content.extend(blocks),
            // An answer of nothing is no answer, but whoever wrote nothing wrote.
            _ if blocks.is_empty() && role != "user" => {}
            _ => self.list.push((role, blocks)),
        }
    }

    /// Marks the end of what the user said before any calls of this turn, and the end.
    fn remember(&mut self) {
        let is_said = |(role, content): &(&str, Vec<Value>)| {
            *role == "user" && content.iter().all(|block| block["type"] == "text")
        };
        let said = self.list.iter().rposition(is_said);
        let end = self.list.len().checked_sub(1);
        for at in said.into_iter().chain(end.filter(|end| Some(*end) != said)) {
            let last = self.list.get_mut(at).and_then(|(_, content)| content.last_mut());
            last.map(remember);
        }
    }

    fn list(self) -> Value {
        let one = |(role, mut content): (&str, Vec<Value>)| {
            if content.is_empty() {
                content.push(text_block(NOTHING));
            }
            json!({"role": role, "content": content})
        };
        self.list.into_iter().map(one).collect()
    }
}

/// Lets the provider remember everything up to this block. Thoughts can't be marked.
fn remember(block: &mut Value) {
    if !matches!(block["type"].as_str(), Some("thinking" | "redacted_thinking")) {
        block["cache_control"] = json!({"type": "ephemeral"});
    }
}

fn text_block(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn text_blocks(text: &str) -> Vec<Value> {
    if text.trim().is_empty() { Vec::new() } else { vec![text_block(text)] }
}

fn call_block(call: &Call) -> Value {
    let input = input(&call.arguments);
    json!({"type": "tool_use", "id": name(&call.id), "name": name(&call.tool), "input": input})
}

fn result_block(result: &CallResult) -> Value {
    let content = if result.content.is_empty() { NO_RESULT } else { &*result.content };
    let mut block =
        json!({"type": "tool_result", "tool_use_id": name(&result.id), "content": content});
    if result.is_error {
        block["is_error"] = true.into();
    }
    block
}

/// A line's blocks as they came, if they came from this model and hold these calls.
fn own_blocks(raw: &Value, calls: &[Call], model: &str) -> Option<Vec<Value>> {
    let own = raw.get(RAW)?;
    let blocks = own.get("content")?.as_array().filter(|_| own["model"] == model)?;
    let ids = |block: &Value| Some(block["id"].as_str()?.to_owned());
    let held = blocks.iter().filter(|block| block["type"] == "tool_use").map(ids);
    held.eq(calls.iter().map(|call| Some(call.id.clone()))).then(|| blocks.clone())
}

/// Names have few characters here; another provider's, or a tool's that doesn't exist, may have more.
fn name(text: &str) -> String {
    let usable = |one: char| one.is_ascii_alphanumeric() || matches!(one, '_' | '-');
    let name: String = text.chars().map(|one| if usable(one) { one } else { '_' }).collect();
    if name.is_empty() { "_".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(raw: Option<Value>) -> Vec<Line> {
        let call =
            Call { id: "call:1".into(), tool: "look".into(), arguments: " {\"a\": 1}".into() };
        let result = CallResult { id: "call:1".into(), content: String::new(), is_error: false };
        vec![
            Line::User("hi".into()),
            Line::Calls { said: "hm".into(), calls: vec![call], raw },
            Line::Results(vec![result]),
            Line::User("and?".into()),
        ]
    }

    fn asked(lines: &[Line], tools: &[ToolSpec], thinking: Thinking) -> Value {
        let settings = AnthropicSettings { thinking, ..AnthropicSettings::new("m") };
        let (system, trace) = (None, None);
        body(&settings, &Question { system, lines, tools, answer_only: false, trace })
    }

    fn own(id: &str, model: &str) -> Value {
        let thought = json!({"type": "thinking", "thinking": "", "signature": "s"});
        let call = json!({"type": "tool_use", "id": id, "name": "look", "input": {}});
        json!({RAW: {"model": model, "content": [thought, call]}})
    }

    #[test]
    fn a_line_comes_back_as_it_was_if_it_is_the_models_own() {
        let lines = calls(Some(own("call:1", "m")));
        let body = asked(&lines, &[], Thinking::Budget(1024));
        assert_eq!(body["messages"][1]["content"], own("call:1", "m")[RAW]["content"]);
        assert_eq!(body["thinking"]["budget_tokens"], 1024);
    }

    #[test]
    fn what_another_model_said_is_told_without_its_thoughts() {
        let others =
            [None, Some(own("call:1", "n")), Some(own("2", "m")), Some(json!({"openai": []}))];
        for raw in others {
            let body = asked(&calls(raw.clone()), &[], Thinking::Budget(1024));
            assert_eq!(
                body["messages"][1]["content"],
                json!([
                    {"type": "text", "text": "hm"},
                    {"type": "tool_use", "id": "call_1", "name": "look", "input": {"a": 1}},
                ]),
                "{raw:?}"
            );
            // The model would refuse to think on thoughts that are not there.
            assert_eq!(body["thinking"], Value::Null, "{raw:?}");
            let body = asked(&calls(raw), &[], Thinking::Adaptive);
            assert_eq!(body["thinking"]["type"], "adaptive");
        }
    }

    #[test]
    fn a_result_comes_first_and_the_end_is_remembered() {
        let body = asked(&calls(None), &[], Thinking::Unsaid);
        let ephemeral = json!({"type": "ephemeral"});
        assert_eq!(
            body["messages"][2]["content"],
            json!([
                {"type": "tool_result", "tool_use_id": "call_1", "content": "(no output)"},
                {"type": "text", "text": "and?", "cache_control": ephemeral},
            ])
        );
        assert_eq!(body["messages"][0]["content"][0]["cache_control"], ephemeral);
        assert_eq!(body.to_string().matches("cache_control").count(), 3, "{body}");
    }

    #[test]
    fn tools_that_are_gone_can_stand_in_the_conversation_but_not_be_called() {
        let body = asked(&calls(None), &[], Thinking::Unsaid);
        assert_eq!(body["tools"][0]["name"], "look");
        assert_eq!(body["tool_choice"], json!({"type": "none"}));
        let lines = [Line::User("hi".into())];
        let body = asked(&lines, &[], Thinking::Unsaid);
        assert_eq!((&body["tools"], &body["tool_choice"]), (&Value::Null, &Value::Null));
    }

    #[test]
    fn a_schema_is_an_object_without_choices_at_its_top() {
        let inner = json!({"anyOf": [{"type": "string"}]});
        for (schema, expect) in [
            (json!({"oneOf": [], "properties": {"a": inner}}), json!({"a": inner})),
            (json!(true), Value::Null),
        ] {
            let spec = ToolSpec { name: "t".into(), description: String::new(), schema };
            let body = asked(&[], &[spec], Thinking::Unsaid);
            let schema = &body["tools"][0]["input_schema"];
            assert_eq!((&schema["type"], &schema["properties"]), (&json!("object"), &expect));
            assert_eq!(schema["oneOf"], Value::Null);
        }
    }

    #[test]
    fn a_conversation_begins_with_the_user() {
        let body = asked(&[Line::Agent("hello".into())], &[], Thinking::Unsaid);
        let roles = body["messages"].as_array().unwrap().iter().map(|one| one["role"].clone());
        assert_eq!(roles.collect::<Vec<_>>(), ["user", "assistant"]);
    }
}
