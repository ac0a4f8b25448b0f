//! What a tool said, as text: bounded, and without what is no text.

use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};
use serde_json::Value;

/// Longest text of a result; more is not kept of an act either.
pub(super) const TEXT_BYTES_MAX: usize = 64 << 10;
/// Room for the words that say how much is missing.
const MARK_BYTES: usize = 64;
/// Longest name or address that is told of what is not text.
const LABEL_CHARS_MAX: usize = 200;

/// The text of a result.
pub(super) fn text(result: &CallToolResult) -> String {
    let mut text = Text::default();
    for block in &result.content {
        match block {
            ContentBlock::Text(said) => text.line(&said.text),
            ContentBlock::Image(image) => {
                text.left_out("image", &image.mime_type, image.data.len());
            }
            ContentBlock::Audio(audio) => {
                text.left_out("audio", &audio.mime_type, audio.data.len());
            }
            ContentBlock::Resource(embedded) => text.resource(&embedded.resource),
            ContentBlock::ResourceLink(link) => {
                text.line(&format!("[{}: {}]", label(&link.name), label(&link.uri)));
            }
            _ => text.line("[something that is no text; left out]"),
        }
    }
    if let Some(value) = &result.structured_content
        && !tells(&result.content, value)
    {
        text.line(&value.to_string());
    }
    text.finish()
}

/// Whether one of the texts is this value, as servers do it for clients that know text only.
fn tells(content: &[ContentBlock], value: &Value) -> bool {
    content.iter().any(|block| {
        let text = block.as_text().map(|said| said.text.as_str());
        text.is_some_and(|text| {
            serde_json::from_str::<Value>(text).is_ok_and(|told| told == *value)
        })
    })
}

/// A text that some other server wrote, bounded like a result's.
pub(super) fn bounded(said: &str) -> String {
    let mut text = Text::default();
    text.line(said);
    text.finish()
}

/// One line of few characters.
pub(super) fn label(text: &str) -> String {
    let plain = text.chars().map(|one| if one.is_control() { ' ' } else { one });
    let mut label: String = plain.take(LABEL_CHARS_MAX).collect();
    if text.chars().nth(LABEL_CHARS_MAX).is_some() {
        label.push('…');
    }
    label
}

#[derive(Default)]
struct Text {
    kept: String,
    missing: usize,
}

impl Text {
    fn line(&mut self, line: &str) {
        if !self.kept.is_empty() || self.missing > 0 {
            self.push("\n");
        }
        self.push(line);
    }

    /// Once something is missing everything is: what comes later would look as if it came next.
    fn push(&mut self, piece: &str) {
        let room = (TEXT_BYTES_MAX - MARK_BYTES).saturating_sub(self.kept.len());
        let room = if self.missing > 0 { 0 } else { room };
        let mut end = piece.len().min(room);
        while !piece.is_char_boundary(end) {
            end -= 1;
        }
        let shown = |one: &char| !one.is_control() || matches!(one, '\n' | '\t');
        self.kept.extend(piece[..end].chars().filter(shown));
        self.missing += piece.len() - end;
    }

    fn left_out(&mut self, what: &str, kind: &str, base64: usize) {
        let bytes = base64 / 4 * 3;
        self.line(&format!("[{what}, {}, about {bytes} bytes; left out]", label(kind)));
    }

    fn resource(&mut self, resource: &ResourceContents) {
        match resource {
            ResourceContents::TextResourceContents { uri, text, .. } => {
                self.line(&format!("[{}]", label(uri)));
                self.line(text);
            }
            ResourceContents::BlobResourceContents { uri, mime_type, blob, .. } => {
                let kind = mime_type.as_deref().unwrap_or("unknown kind");
                self.left_out(&label(uri), kind, blob.len());
            }
            _ => self.line("[something that is no text; left out]"),
        }
    }

    fn finish(mut self) -> String {
        if self.missing > 0 {
            self.kept += &format!("\n[cut here; {} bytes are missing]", self.missing);
        }
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(result: &str, expect: &str) {
        let result: CallToolResult = serde_json::from_str(result).unwrap();
        assert_eq!(text(&result), expect);
    }

    #[test]
    fn texts_stand_below_each_other_and_the_rest_is_named() {
        check(r#"{"content":[]}"#, "");
        check(
            r#"{"content":[{"type":"text","text":"one"},{"type":"text","text":"two\u0000\u001b[1m\n"}]}"#,
            "one\ntwo[1m\n",
        );
        check(
            r#"{"content":[{"type":"image","data":"QUJDREVGR0g=","mimeType":"image/png"},
               {"type":"audio","data":"QUJD","mimeType":"audio/wav"}]}"#,
            "[image, image/png, about 9 bytes; left out]\n[audio, audio/wav, about 3 bytes; left out]",
        );
        check(
            r#"{"content":[{"type":"resource","resource":{"uri":"file:///a","text":"inside"}},
               {"type":"resource","resource":{"uri":"file:///b","blob":"QUJD"}},
               {"type":"resource_link","uri":"file:///c","name":"c"}]}"#,
            "[file:///a]\ninside\n[file:///b, unknown kind, about 3 bytes; left out]\n[c: file:///c]",
        );
    }

    #[test]
    fn structured_content_is_told_once() {
        check(r#"{"content":[],"structuredContent":{"sum":3}}"#, r#"{"sum":3}"#);
        check(
            r#"{"content":[{"type":"text","text":"{ \"sum\": 3 }"}],"structuredContent":{"sum":3}}"#,
            r#"{ "sum": 3 }"#,
        );
        check(
            r#"{"content":[{"type":"text","text":"three"}],"structuredContent":{"sum":3}}"#,
            "three\n{\"sum\":3}",
        );
    }

    #[test]
    fn a_long_text_ends_with_what_is_missing() {
        let long = "ä".repeat(TEXT_BYTES_MAX);
        let cut = bounded(&long);
        assert!(cut.len() <= TEXT_BYTES_MAX, "{}", cut.len());
        let kept = cut.split_once('\n').unwrap().0.len();
        let missing = 2 * TEXT_BYTES_MAX - kept;
        assert!(cut.ends_with(&format!("ä\n[cut here; {missing} bytes are missing]")));
        assert_eq!(bounded("short"), "short");
    }
}
