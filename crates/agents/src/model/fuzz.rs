//! Bytes against what a model may write for a call.

use serde_json::{Value, json};
use turnkeep_fuzz::{Target, fuzz};

use super::arguments::read;

#[test]
fn fuzz_arguments() {
    let target = Target {
        name: "model_arguments",
        seeds: &[
            br#"{"order":"17","cents":5,"why":"late"}"#,
            br#"{"order":{"number":17},"more":[1,null,{"b":true,"a":-1.5e300}]}"#,
            b"",
            b"[1]",
        ],
        words: &[
            b"\"order\":",
            b"\"cents\":",
            b"\"why\":",
            b"null",
            b"true",
            b"1e999",
            b"[",
            b"]",
            b"{",
            b"}",
            b"\\u0000",
            b"\\ud83d",
            b"\"\"",
            b",",
        ],
        length_max: 4096,
    };
    let schema = json!({
        "type": "object",
        "properties": {
            "order": {"type": ["string", "object"]},
            "cents": {"type": "integer"},
            "why": {"enum": ["late", "broken"]},
        },
        "required": ["order"],
    });
    fuzz(&target, |input| {
        let text = String::from_utf8_lossy(input);
        match read(&text, &schema, Some("/order")) {
            Ok(arguments) => {
                // What goes to the tool is an object that fits, and the act has a name.
                let value: Value = serde_json::from_str(&arguments.canonical).unwrap();
                assert!(value["order"].is_string() || value["order"].is_object(), "{value}");
                assert!(!arguments.key.unwrap().is_empty());
                read(&arguments.canonical, &schema, Some("/order")).unwrap();
            }
            // What is wrong is told, and not by repeating all of it.
            Err(said) => assert!(!said.is_empty() && said.len() < 1200, "{said}"),
        }
    });
}
