//! Holds docs/brain/contract.schema.json against the code: whatever a brain is told fits it, and
//! whatever a brain may say is taken if and only if it does. The code is the source; who changes it
//! is led here by the compiler or by a failure.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use turnkeep_core::ids::{QuestionId, Seq, TurnGroupId, TurnId};
use turnkeep_core::policy::Trust;
use turnkeep_core::tool::{SideEffects, ToolOutcome};

use super::super::incoming::read;
use super::{Facts, FinishReason, Line, Message, Recorded, ToBrain, Turn};

fn schema() -> Value {
    serde_json::from_str(include_str!("../../../../../docs/brain/contract.schema.json")).unwrap()
}

/// A validator of one definition, `told` or `said` or one of their types.
fn validator(mut schema: Value, definition: &str) -> jsonschema::Validator {
    assert!(schema["$defs"][definition].is_object(), "no {definition}");
    schema["oneOf"] = json!([{ "$ref": format!("#/$defs/{definition}") }]);
    jsonschema::validator_for(&schema).unwrap()
}

/// The types of a direction, as the schema lists them.
fn types(schema: &Value, direction: &str) -> BTreeSet<String> {
    let listed = schema["$defs"][direction]["oneOf"].as_array().unwrap().iter();
    let name = |one: &Value| {
        let path = one["$ref"].as_str().unwrap();
        let name = path.strip_prefix(&format!("#/$defs/{direction}_")).unwrap().to_owned();
        assert_eq!(
            schema["$defs"][format!("{direction}_{name}")]["properties"]["type"]["const"],
            name
        );
        name
    };
    listed.map(name).collect()
}

const MESSAGE: Message<'_> = Message {
    seq: Seq(1),
    message_id: "m-1",
    sender: "anna",
    text: "hello",
    at: 1_795_000_000_000,
};

const fn recorded() -> Recorded<'static> {
    Recorded {
        call: Seq(7),
        tool: "refund",
        effects: SideEffects::Compensatable,
        input: "{}",
        outcome: ToolOutcome::Done,
        output: "",
        compensates: Some(Seq(3)),
        compensated_by: Some(Seq(9)),
    }
}

fn turn(traceparent: Option<String>, chars_max: Option<u32>) -> ToBrain<'static> {
    let line = |role| Line { seq: Seq(1), role, text: "hello" };
    ToBrain::Turn(Box::new(Turn {
        version: super::VERSION,
        turn_id: TurnId::default(),
        attempt: 1,
        turn_group_id: TurnGroupId::default(),
        session: "default:default:web:dm:anna",
        tenant_id: "default".to_owned(),
        agent_id: "default".to_owned(),
        channel: "web",
        trust: Trust::Owner,
        resume: false,
        traceparent,
        facts: Facts { chars_max, markdown: true, media: true, typing: true },
        messages: vec![MESSAGE],
        history: ["user", "agent", "operator"].map(line).into(),
        recorded: vec![
            recorded(),
            Recorded { compensates: None, compensated_by: None, ..recorded() },
        ],
    }))
}

/// One of each at least, with every field.
fn samples() -> Vec<ToBrain<'static>> {
    let id = "1";
    vec![
        turn(Some("00-00-00-01".to_owned()), None),
        turn(None, Some(2000)),
        ToBrain::MailWaiting,
        ToBrain::Mail { id, messages: vec![MESSAGE] },
        ToBrain::Granted { id },
        ToBrain::Refused { id, reason: "no" },
        ToBrain::Call { id, call: Seq(7) },
        ToBrain::Known { id, known: recorded() },
        ToBrain::MailFirst { id },
        ToBrain::Recorded { id },
        ToBrain::Kept { id, content: "a plan" },
        ToBrain::None { id, why: turnkeep_core::artifact::Stale::Missing.as_str() },
        ToBrain::Question { question_id: QuestionId(1), message: MESSAGE },
        ToBrain::Answer { id, message: MESSAGE },
        ToBrain::FinishNow { reason: FinishReason::Stopped },
        ToBrain::FinishNow { reason: FinishReason::ForceComplete },
        ToBrain::FinishNow { reason: FinishReason::Budget },
    ]
}

/// Who adds something to tell finds here that [`samples`] needs it.
const fn is_sampled(told: &ToBrain<'_>) -> bool {
    match told {
        ToBrain::Turn(_)
        | ToBrain::MailWaiting
        | ToBrain::Mail { .. }
        | ToBrain::Granted { .. }
        | ToBrain::Refused { .. }
        | ToBrain::Call { .. }
        | ToBrain::Known { .. }
        | ToBrain::MailFirst { .. }
        | ToBrain::Recorded { .. }
        | ToBrain::Kept { .. }
        | ToBrain::None { .. }
        | ToBrain::Question { .. }
        | ToBrain::Answer { .. }
        | ToBrain::FinishNow { .. } => true,
    }
}

/// The same schema without room for anything that it doesn't name.
fn closed(mut schema: Value) -> Value {
    fn close(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                if fields.contains_key("properties") && fields.contains_key("required") {
                    fields.insert("additionalProperties".to_owned(), false.into());
                }
                fields.values_mut().for_each(close);
            }
            Value::Array(items) => items.iter_mut().for_each(close),
            _ => {}
        }
    }
    close(&mut schema);
    schema
}

#[test]
fn what_a_brain_is_told_fits_the_schema() {
    let (open, closed) = (schema(), closed(schema()));
    let mut told: BTreeSet<String> = BTreeSet::new();
    for sample in samples() {
        assert!(is_sampled(&sample));
        let value: Value = serde_json::from_str(&sample.text()).unwrap();
        let kind = value["type"].as_str().unwrap().to_owned();
        // Its own first: what is wrong with it is short there.
        let own = (&closed, format!("told_{kind}"));
        for (schema, definition) in [own, (&open, "told".to_owned())] {
            if let Err(wrong) = validator(schema.clone(), &definition).validate(&value) {
                panic!("{value} is no {definition}: {wrong} at {}", wrong.instance_path());
            }
        }
        // The first sample of each has everything that the schema knows.
        if told.insert(kind.clone()) {
            let known = open["$defs"][format!("told_{kind}")]["properties"].as_object().unwrap();
            let missing: Vec<&String> =
                known.keys().filter(|name| value.get(name).is_none()).collect();
            assert!(missing.is_empty(), "{kind} has no {missing:?}");
        }
    }
    assert_eq!(told, types(&open, "told"));
}

/// One of each that a brain says, with every field.
fn sayings() -> Vec<Value> {
    let inputs = json!({ "messages": [1, 2], "text": "a" });
    vec![
        json!({ "type": "say", "text": "" }),
        json!({ "type": "take_mail", "id": "1" }),
        json!({ "type": "commit_point", "id": "1" }),
        json!({ "type": "ask", "id": "1", "text": "which?", "confirm": true }),
        json!({ "type": "emit", "name": "a", "detail": "b" }),
        json!({ "type": "intend", "id": "1", "tool": "t", "effects": "pure", "key": "k",
                "input": "{}", "compensates": 7 }),
        json!({ "type": "returned", "id": "1", "call": 7, "outcome": "done", "output": "" }),
        json!({ "type": "keep", "id": "1", "name": "a", "inputs": inputs, "depends": ["b"],
                "content": "" }),
        json!({ "type": "recall", "id": "1", "name": "a", "inputs": inputs }),
        json!({ "type": "used", "model": "m", "input_tokens": 1, "output_tokens": 2,
                "cached_tokens": 3, "cache_write_tokens": 4, "cost_micros": 5 }),
        json!({ "type": "choose", "question_id": 1, "choice": "queue" }),
        json!({ "type": "finished", "reply": "a", "used": 1, "hint": "none", "version": "1" }),
        json!({ "type": "failed", "error": "a", "retry": true, "retry_after_s": 1.5 }),
    ]
}

/// What may stand in a field, or may not.
fn values() -> Vec<Value> {
    let words = ["", "a", "supersede", "absorb_continue", "absorb_restart", "force_complete"]
        .map(Value::from);
    let more = ["idempotent", "compensatable", "irreversible", "failed", "unknown", "done"]
        .map(Value::from);
    let hints = ["awaiting_field", "followup_expected", "stopped"].map(Value::from);
    let lengths = [100, 101, 4096, 4097, 65_536, 65_537].map(|count| "x".repeat(count).into());
    let rest = json!([
        null, true, false, 0, 1, -1, 1.5, 86_400, 86_400.5, 4_294_967_295_u64, 4_294_967_296_u64,
        [], ["a"], [1], [1, "a"], [-1], [null], {}, { "messages": null, "text": null },
        { "messages": ["a"] }, { "messages": "a" }, { "text": 1 }, { "later": 1 },
    ]);
    let rest = rest.as_array().cloned().unwrap_or_default();
    words.into_iter().chain(more).chain(hints).chain(lengths).chain(rest).collect()
}

#[test]
fn what_a_brain_says_is_taken_where_it_fits_the_schema() {
    let validator = validator(schema(), "said");
    let (mut taken, mut refused) = (0, 0);
    let mut check = |said: &Value| {
        let result = read(said.to_string().as_bytes());
        let fits = validator.is_valid(said);
        let shown: String = said.to_string().chars().take(200).collect();
        assert_eq!(result.is_ok(), fits, "{shown}: {result:?}");
        if fits { taken += 1 } else { refused += 1 }
    };
    for saying in sayings() {
        check(&saying);
        let fields: Map<String, Value> = saying.as_object().unwrap().clone();
        for name in fields.keys() {
            let mut without = saying.clone();
            without.as_object_mut().unwrap().remove(name);
            check(&without);
            for value in values() {
                let mut other = saying.clone();
                other[name.as_str()] = value;
                check(&other);
            }
        }
        let mut strange = saying;
        strange["later"] = json!([1]);
        check(&strange);
    }
    assert!(taken > 100 && refused > 500, "{taken} taken, {refused} refused");
}

#[test]
fn the_schema_knows_every_word_of_a_brain() {
    let schema = schema();
    let mut said: BTreeSet<String> = BTreeSet::new();
    for saying in sayings() {
        let kind = saying["type"].as_str().unwrap().to_owned();
        let known = schema["$defs"][format!("said_{kind}")]["properties"].as_object().unwrap();
        let same = known.keys().eq(saying.as_object().unwrap().keys());
        assert!(same, "{kind} has other fields than {:?}", known.keys());
        said.insert(kind);
    }
    assert_eq!(said, types(&schema, "said"));
    // What the reader names when somebody mistypes one.
    let wrong = read(br#"{"type":"x"}"#).unwrap_err();
    let words = wrong.strip_prefix("has a \"type\" that is not one of ").unwrap();
    assert_eq!(said, words.split(", ").map(ToOwned::to_owned).collect());
}

/// The page has a row for each word, with each of its fields.
#[test]
fn the_page_explains_every_word() {
    let page = include_str!("../../../../../docs/brains.md");
    let schema = schema();
    let mut missing = Vec::new();
    for direction in ["told", "said"] {
        for kind in types(&schema, direction) {
            let fields = &schema["$defs"][format!("{direction}_{kind}")]["properties"];
            let mut rows = page.lines().filter(|line| line.starts_with(&format!("| `{kind}` |")));
            // What stands in every one of them, what is told of a turn and what is remembered of a
            // call have tables of their own.
            let apart = |name: &str| name == "type" || ["turn", "known"].contains(&&*kind);
            let told = |row: &str| {
                let mut names = fields.as_object().unwrap().keys();
                names.all(|name| apart(name) || row.contains(&format!("`{name}`")))
            };
            if !rows.any(told) {
                missing.push(format!("{direction} {kind}"));
            }
        }
    }
    for name in schema["$defs"]["told_turn"]["properties"].as_object().unwrap().keys() {
        if !page.contains(&format!("`{name}`")) {
            missing.push(format!("turn {name}"));
        }
    }
    assert!(missing.is_empty(), "docs/brains.md says too little about: {missing:?}");
}

/// Every reference of the OpenAPI document leads into the schema.
#[test]
fn the_openapi_document_leads_into_the_schema() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(path)) = fields.get("$ref") {
                    found.push(path.clone());
                }
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let text = include_str!("../../../../../docs/brain/openapi.json");
    let document: Value = serde_json::from_str(text).unwrap();
    let mut found = Vec::new();
    references(&document, &mut found);
    let schema = schema();
    assert!(found.len() > 1);
    for path in found {
        let pointer = path.strip_prefix("contract.schema.json#").unwrap();
        assert!(schema.pointer(pointer).is_some(), "{path} leads nowhere");
    }
}
