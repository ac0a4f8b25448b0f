//! The bytes of an event stream become events. What is unknown is passed over, as the format asks.

use std::collections::VecDeque;

use turnkeep_terminal::ports::SseEvent;

/// The longest event, and the longest line: ten thousand rows of a switchboard come as one.
const EVENT_BYTES_MAX: usize = 64 << 20;

/// Reads one stream.
#[derive(Debug, Default)]
pub(super) struct Reader {
    whole: VecDeque<SseEvent>,
    line: Vec<u8>,
    event: SseEvent,
    has_data: bool,
}

impl Reader {
    /// Takes the next bytes. An event that has no end when the stream ends is none.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut parts = bytes.split(|byte| *byte == b'\n');
        // There is always a first part; what follows it stands behind a line's end.
        self.grow(parts.next().unwrap_or_default())?;
        for part in parts {
            let line = std::mem::take(&mut self.line);
            self.end_line(&line)?;
            self.line = line;
            self.line.clear();
            self.grow(part)?;
        }
        Ok(())
    }

    /// The next whole event.
    pub(super) fn next(&mut self) -> Option<SseEvent> {
        self.whole.pop_front()
    }

    fn grow(&mut self, part: &[u8]) -> Result<(), String> {
        if self.line.len() + part.len() > EVENT_BYTES_MAX {
            return Err(too_long());
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn end_line(&mut self, line: &[u8]) -> Result<(), String> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            if std::mem::take(&mut self.has_data) || event.id.is_some() {
                self.whole.push_back(event);
            }
            return Ok(());
        }
        let text = String::from_utf8_lossy(line);
        let (name, value) = text.split_once(':').unwrap_or((&text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => self.event.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.event.event),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                if self.event.data.len() + value.len() > EVENT_BYTES_MAX {
                    return Err(too_long());
                }
                self.event.data.push_str(value);
            }
            // Comments have no name at all.
            _ => {}
        }
        Ok(())
    }
}

fn too_long() -> String {
    format!("an event is longer than {EVENT_BYTES_MAX} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: Option<&str>, event: &str, data: &str) -> SseEvent {
        SseEvent { id: id.map(str::to_owned), event: event.into(), data: data.into() }
    }

    #[test]
    fn events_are_the_same_in_pieces_of_any_size() {
        let text = ": alive\n\nid: 3\nevent: turn.started\ndata: {\"a\":1}\n\nevent:draft\r\n\
                    data: é\r\ndata:  b\r\nretry: 7\r\nnew: x\r\n\r\nid: 9\n\nevent: x\ndata: cut";
        let expect = [
            event(Some("3"), "turn.started", "{\"a\":1}"),
            event(None, "draft", "é\n b"),
            event(Some("9"), "", ""),
        ];
        for size in 1..=text.len() {
            let mut reader = Reader::default();
            for piece in text.as_bytes().chunks(size) {
                reader.feed(piece).unwrap();
            }
            let read: Vec<_> = std::iter::from_fn(|| reader.next()).collect();
            assert_eq!(read, expect, "in pieces of {size}");
        }
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut reader = Reader::default();
        let piece = vec![b'x'; 1 << 20];
        let fed = (0..64).try_for_each(|_| reader.feed(&piece));
        assert_eq!(fed, Ok(()));
        assert_eq!(reader.feed(b"x"), Err(too_long()));
    }
}
