//! Bytes against what a model may write for a call, and what a person is asked about it.

use serde_json::{Value, json};
use turnkeep_fuzz::{Target, fuzz};

use super::approval::{holds_marks, verbatim};
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

/// What a reader of markdown makes of a text: what stands in code spans, and what stands around them.
fn spans(text: &str) -> (Vec<String>, String) {
    let run = |text: &str| text.len() - text.trim_start_matches('`').len();
    let (mut codes, mut around, mut rest) = (Vec::new(), String::new(), text);
    while let Some(at) = rest.find('`') {
        around.push_str(&rest[..at]);
        let fence = run(&rest[at..]);
        let inner = &rest[at + fence..];
        let mut end = 0;
        let length = loop {
            end += inner[end..].find('`').expect("a fence without an end");
            match run(&inner[end..]) {
                length if length == fence => break end,
                longer => end += longer,
            }
        };
        let code = &inner[..length];
        let padded =
            code.starts_with(' ') && code.ends_with(' ') && !code.trim_matches(' ').is_empty();
        codes.push(if padded { code[1..code.len() - 1].to_owned() } else { code.to_owned() });
        rest = &inner[length + fence..];
    }
    around.push_str(rest);
    (codes, around)
}

#[test]
fn fuzz_what_is_shown() {
    let target = Target {
        name: "approval_shown",
        seeds: &[
            br#""/data/*.bak, /data/*.tmp""#,
            b"[anna@example.org](https://evil.example/?iban=DE99)",
            b" keep __init__ and `x` ",
            b"order_id",
        ],
        words: &[b"`", b"``", b"```", b" ", b"\\", b"_", b"*", b"&amp;", b"<", b"](", b"://"],
        length_max: 300,
    };
    fuzz(&target, |input| {
        let text = String::from_utf8_lossy(input).into_owned();
        let beside = verbatim("a`b".to_owned());
        let (codes, around) = spans(&format!("{}, {beside}", verbatim(text.clone())));
        if holds_marks(&text) {
            assert_eq!((codes, around), (vec![text, "a`b".to_owned()], ", ".to_owned()));
        } else {
            assert_eq!((codes, around), (vec!["a`b".to_owned()], format!("{text}, ")));
        }
    });
}
