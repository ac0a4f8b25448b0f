//! Bytes against the reader of what agents write.

use turnkeep_fuzz::{Target, fuzz};

use super::{markdown, plain};
use crate::lines::Line;
use crate::text::{harmless, width};
use crate::theme::Look;

/// Whether a line fits, and holds nothing that could steer a terminal.
#[track_caller]
fn check(lines: &[Line], columns: usize) {
    for line in lines {
        let text: String = line.0.iter().map(|piece| piece.text.as_str()).collect();
        let steers = |one: char| one.is_control() || matches!(one, '\u{202a}'..='\u{202e}');
        assert!(!text.chars().any(steers), "{text:?}");
        assert!(width(&text) <= columns, "{text:?} is wider than {columns}");
    }
}

#[test]
fn fuzz_terminal_texts() {
    let target = Target {
        name: "terminal_texts",
        seeds: &[
            b"# a\n\n- **b** `c`\n  1. d\n\n```x\ny\n```\n> q\n\n| a | b |\n|---|---|\n| 1 | [l](u) |",
            "日本 👩\u{200d}🚀 \u{202e}e\u{301} ~~s~~ ![i](j) <http://k> &#27;".as_bytes(),
        ],
        words: &[
            b"```", b"**", b"> ", b"- ", b"1. ", b"| ", b"&#27;", b"\x1b[", b"](", b"![", b"\n\n", b"~~",
            b"\t", b"    ",
        ],
        length_max: 400,
    };
    fuzz(&target, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let columns = 4 + usize::from(bytes.first().copied().unwrap_or(0)) % 60;
        check(&markdown(&text, columns), columns);
        check(&plain(&text, Look::Plain, columns), columns);
    });
}

/// Whoever is asked for a yes reads the arguments in code spans.
#[test]
fn fuzz_terminal_code() {
    let target = Target {
        name: "terminal_code",
        seeds: &[b"keep __init__ and `x`", b"[a](https://b.example) ``c`` \\` &amp; <d>"],
        words: &[b"`", b"``", b"  ", b"\\", b"*", b"_", b"](", b"&#27;", b"<http://k>"],
        length_max: 200,
    };
    fuzz(&target, |bytes| {
        let text = harmless(&String::from_utf8_lossy(bytes)).replace('\n', " ");
        if text.trim_matches(' ').is_empty() {
            return;
        }
        let longest = text.split(|one| one != '`').map(str::len).max().unwrap_or(0);
        let fence = "`".repeat(longest + 1);
        let lines = markdown(&format!("a {fence} {text} {fence} b"), 4000);
        let shown: Vec<String> = lines
            .iter()
            .map(|line| line.0.iter().map(|piece| piece.text.as_str()).collect())
            .collect();
        assert_eq!(shown, [format!("a `{text}` b")]);
    });
}
