//! Bytes against what a tool server may say.

use rmcp::model::CallToolResult;
use serde_json::Value;
use turnkeep_fuzz::{Target, fuzz};

use super::content::{TEXT_BYTES_MAX, text};
use super::lines::{Line, Reader};
use super::scan::Scan;

const WORDS: &[&[u8]] = &[
    b"\"content\":",
    b"\"type\":",
    b"\"text\"",
    b"\"image\"",
    b"\"resource\"",
    b"\"blob\":",
    b"\"uri\":",
    b"\"isError\":",
    b"\"structuredContent\":",
    b"\"id\":",
    b"\"method\":",
    b"null",
    b"\\u0000",
    b"\\\"",
    b"\n",
    b"[",
    b"]",
    b"{",
    b"}",
    b"-1",
];

#[test]
fn fuzz_tool_results() {
    let target = Target {
        name: "tool_result",
        seeds: &[
            br#"{"content":[{"type":"text","text":"a"}],"isError":true}"#,
            br#"{"content":[{"type":"image","data":"QQ==","mimeType":"image/png"}]}"#,
            br#"{"content":[{"type":"resource","resource":{"uri":"a","blob":"QQ=="}}]}"#,
            br#"{"content":[{"type":"resource","resource":{"uri":"a","text":"b"}}]}"#,
            br#"{"content":[{"type":"resource_link","uri":"a","name":"b"}]}"#,
            br#"{"content":[],"structuredContent":{"a":[1,null]}}"#,
        ],
        words: WORDS,
        length_max: 4096,
    };
    fuzz(&target, |input| {
        let Ok(result) = serde_json::from_slice::<CallToolResult>(input) else { return };
        let text = text(&result);
        assert!(text.len() <= TEXT_BYTES_MAX);
        let shown = |one: char| !one.is_control() || matches!(one, '\n' | '\t');
        // What JSON prints escapes them.
        assert!(text.chars().all(shown), "{text:?}");
    });
}

#[test]
fn fuzz_tool_lines() {
    let target = Target {
        name: "tool_lines",
        seeds: &[
            br#"{"jsonrpc":"2.0","id":7,"result":{"id":8}}"#,
            br#"{"result":{"content":[{"text":"\"id\":9}"}]},"id":12}"#,
            b"\n\n{\"id\":5,\"method\":\"ping\"}\nno end",
            b"[{\"id\":5}]\n",
        ],
        words: WORDS,
        length_max: 4096,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    fuzz(&target, |input| {
        const LIMIT: usize = 64;
        let mut reader = Reader::new(input, LIMIT);
        let mut lines = Vec::new();
        while let Some(line) = runtime.block_on(reader.next()) {
            lines.push(line);
        }
        let whole = input.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let expect = input[..whole].split(|byte| *byte == b'\n').filter_map(|line| {
            let long = line.len() > LIMIT;
            if long {
                let mut scan = Scan::default();
                scan.feed(line);
                return Some(Line::TooLong(scan.answers()));
            }
            (!line.trim_ascii().is_empty()).then(|| Line::Whole(line.to_vec()))
        });
        assert_eq!(lines, expect.collect::<Vec<_>>());
        for line in input.split(|byte| *byte == b'\n') {
            agrees(line);
        }
    });
}

/// Where the line is JSON, the scan finds the id that is there.
fn agrees(line: &[u8]) {
    let Ok(Value::Object(message)) = serde_json::from_slice(line) else { return };
    // Names that are written with escapes are somebody else's.
    let plain = !line.contains(&b'\\') && !message.contains_key("method");
    let Some(id) = message.get("id").and_then(Value::as_i64).filter(|id| plain && *id >= 0) else {
        return;
    };
    let mut scan = Scan::default();
    scan.feed(line);
    if id < 1_000_000_000_000_000_000 {
        assert_eq!(scan.answers(), Some(id), "{}", String::from_utf8_lossy(line));
    }
}
