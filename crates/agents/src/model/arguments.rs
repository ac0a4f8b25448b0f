//! What a model wrote for a call: whether it fits the tool, and what names the act.

use serde_json::{Map, Number, Value};

use super::telling;

/// What of a name that a model made up is repeated.
const NAME_SHOWN_BYTES: usize = 100;
/// Below this a float that is whole is that integer, and no other.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Arguments that fit.
#[derive(Debug, PartialEq)]
pub(super) struct Arguments {
    /// One form for all ways to write the same, because an act without a key is named by it.
    pub(super) canonical: String,
    /// What names the act, where the tool says which argument does.
    pub(super) key: Option<String>,
}

impl Arguments {
    /// Whether a call of the same tool on record is this act, as far as what it was called with
    /// tells. The gateway has the last word.
    pub(super) fn is_same_act(&self, recorded: &str, key: Option<&str>) -> bool {
        let Ok(value) = serde_json::from_str::<Value>(recorded) else { return false };
        match key {
            Some(pointer) => act_key(&value, pointer).is_ok_and(|key| Some(key) == self.key),
            None => canonical(&value) == self.canonical,
        }
    }
}

/// Reads what the model wrote; else says what is wrong with it, for the model.
pub(super) fn read(written: &str, schema: &Value, key: Option<&str>) -> Result<Arguments, String> {
    let written = written.trim();
    // Some models write nothing where there is nothing to say.
    let written = if written.is_empty() { "{}" } else { written };
    let value: Value = serde_json::from_str(written)
        .map_err(|error| format!("the arguments are no valid JSON: {error}"))?;
    let Value::Object(arguments) = &value else {
        return Err("the arguments must be a JSON object".to_owned());
    };
    check(arguments, schema)?;
    let key = key.map(|pointer| act_key(&value, pointer)).transpose()?;
    Ok(Arguments { canonical: canonical(&value), key })
}

/// Only the top level: what lies deeper is the tool's to check.
fn check(arguments: &Map<String, Value>, schema: &Value) -> Result<(), String> {
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    for name in required.filter_map(Value::as_str) {
        if !arguments.contains_key(name) {
            return Err(format!("the argument {name:?} is missing"));
        }
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
    for (name, value) in arguments {
        match properties.and_then(|properties| properties.get(name)) {
            Some(property) => check_value(name, value, property)?,
            None if closed => {
                let name = telling::within(name, NAME_SHOWN_BYTES);
                return Err(format!("there is no argument {name:?}"));
            }
            None => {}
        }
    }
    Ok(())
}

fn check_value(name: &str, value: &Value, property: &Value) -> Result<(), String> {
    let types: Vec<&str> = match property.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !types.is_empty() && !types.iter().any(|known| is_a(value, known)) {
        return Err(format!("the argument {name:?} must be of type {}", types.join(" or ")));
    }
    match property.get("enum").and_then(Value::as_array) {
        Some(choices) if !choices.contains(value) => {
            let choices = Value::Array(choices.clone());
            Err(format!("the argument {name:?} must be one of {choices}"))
        }
        _ => Ok(()),
    }
}

fn is_a(value: &Value, kind: &str) -> bool {
    match kind {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => {
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0)
        }
        // A word of a later schema; not ours to refuse.
        _ => true,
    }
}

/// What names the act. Without it nothing could tell a repetition from another act.
fn act_key(arguments: &Value, pointer: &str) -> Result<String, String> {
    let key = match arguments.pointer(pointer) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.trim().to_owned(),
        Some(other) => canonical(other),
    };
    if key.is_empty() {
        return Err(format!("the argument at {pointer:?} is missing; it names what is done"));
    }
    Ok(key)
}

/// JSON with the names of every object in order, without blanks, and whole numbers without a point:
/// 5 and 5.0 are one amount, and must not be paid twice.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let mut names: Vec<&String> = object.keys().collect();
            names.sort_unstable();
            let fields = names.iter().map(|name| {
                let value = object.get(*name).map(canonical).unwrap_or_default();
                format!("{}:{value}", Value::String((*name).clone()))
            });
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        Value::Number(number) => number_form(number),
        other => other.to_string(),
    }
}

fn number_form(number: &Number) -> String {
    let whole = number.as_f64().filter(|_| number.is_f64());
    match whole.filter(|whole| whole.fract() == 0.0 && whole.abs() < WHOLE_MAX) {
        // Adding nothing takes the sign off a zero.
        Some(whole) => format!("{:.0}", whole + 0.0),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "order": {"type": "string"},
                "cents": {"type": ["integer", "null"]},
                "why": {"enum": ["late", "broken"]},
                "more": {},
            },
            "required": ["order"],
            "additionalProperties": false,
        })
    }

    #[test]
    fn arguments_are_checked_at_the_top_and_named_in_words() {
        let check = |written: &str, expect: Result<&str, &str>| {
            let read = read(written, &schema(), None).map(|arguments| arguments.canonical);
            match (&read, expect) {
                (Ok(canonical), Ok(expected)) => assert_eq!(canonical, expected),
                (Err(said), Err(part)) => assert!(said.contains(part), "{said}"),
                _ => panic!("{written}: {read:?}"),
            }
        };
        check(r#" {"why":"late", "order":"17"} "#, Ok(r#"{"order":"17","why":"late"}"#));
        check(
            r#"{"order":"ü","more":{"b":[1,{"d":1,"c":2}],"a":null},"cents":null}"#,
            Ok(r#"{"cents":null,"more":{"a":null,"b":[1,{"c":2,"d":1}]},"order":"ü"}"#),
        );
        let five = Ok(r#"{"cents":5,"order":"17"}"#);
        for written in ["5", "5.0", "5e0", "0.5e1", "50e-1"] {
            check(&format!(r#"{{"order":"17","cents":{written}}}"#), five);
        }
        check("", Err("\"order\" is missing"));
        check("{", Err("no valid JSON"));
        check("[1]", Err("must be a JSON object"));
        check(r#"{"order":17}"#, Err("\"order\" must be of type string"));
        check(r#"{"order":"17","cents":0.5}"#, Err("of type integer or null"));
        check(r#"{"order":"17","why":"bored"}"#, Err(r#"must be one of ["late","broken"]"#));
        check(r#"{"order":"17","who":"me"}"#, Err("no argument \"who\""));
    }

    #[test]
    fn a_number_has_one_form() {
        let check = |written: &str, expect: &str| {
            let value: Value = serde_json::from_str(written).unwrap();
            assert_eq!(canonical(&value), expect, "{written}");
        };
        check("-0.0", "0");
        check("-0", "0");
        check("-17.0", "-17");
        check("1e3", "1000");
        check("0.5", "0.5");
        check("9007199254740991.0", "9007199254740991");
        // From here on a float does not tell neighbours apart.
        check("9007199254740992.0", "9007199254740992.0");
        check("1e300", "1e+300");
        check("18446744073709551615", "18446744073709551615");
        check("-9223372036854775808", "-9223372036854775808");
    }

    #[test]
    fn an_act_is_named_by_the_argument_that_the_tool_says() {
        let check = |written: &str, pointer: &str, expect: Option<&str>| {
            let key = read(written, &json!({}), Some(pointer)).ok().and_then(|read| read.key);
            assert_eq!(key.as_deref(), expect, "{written} {pointer}");
        };
        check(r#"{"order":" A-17 "}"#, "/order", Some("A-17"));
        check(r#"{"order":17}"#, "/order", Some("17"));
        check(r#"{"order":{"b":1,"a":2}}"#, "/order", Some(r#"{"a":2,"b":1}"#));
        check(r#"{"order":{"number":"17"}}"#, "/order/number", Some("17"));
        check(r#"{"order":17.0}"#, "/order", Some("17"));
        check(r#"{"order":[17.0]}"#, "/order", Some("[17]"));
        for nothing in [r#"{"order":""}"#, r#"{"order":null}"#, "{}"] {
            check(nothing, "/order", None);
        }
    }
}
