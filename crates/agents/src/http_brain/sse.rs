//! An event stream's bytes become events, within limits.
//!
//! Not `sse_stream`, which the models' answers are read with: it refuses fields that it doesn't know
//! (the format says to ignore them), shows an event whose length has no limit, and where something is
//! wrong it loses the events before.

use std::collections::VecDeque;

/// Longest data of an event, and longest line.
pub(super) const EVENT_BYTES_MAX: usize = 1 << 20;

/// One event; `event` and `retry` mean nothing here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// Its number, if it has one.
    pub(super) id: Option<u64>,
    /// What it says, not looked into; may be empty.
    pub(super) data: Vec<u8>,
}

/// Reads one response's stream.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// What was read and not taken. A mistake is the last.
    read: VecDeque<Result<Event, String>>,
    /// The line that has no end yet.
    line: Vec<u8>,
    /// The event that has no end yet.
    id: Option<u64>,
    data: Option<Vec<u8>>,
    /// A line feed that comes now belongs to the line end before it.
    after_return: bool,
    began: bool,
    broken: bool,
}

impl Events {
    /// Takes the next bytes; an event that has no end when the stream ends is none.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !self.broken && !bytes.is_empty() {
            if std::mem::take(&mut self.after_return) && bytes.first() == Some(&b'\n') {
                bytes = bytes.get(1..).unwrap_or_default();
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (part, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            if self.line.len().saturating_add(part.len()) > EVENT_BYTES_MAX + FIELD_BYTES {
                return self.fail(too_long());
            }
            self.line.extend_from_slice(part);
            let Some((end, rest)) = rest.split_first() else { return };
            self.after_return = *end == b'\r';
            bytes = rest;
            if let Err(wrong) = self.end_line() {
                return self.fail(wrong);
            }
        }
    }

    /// The next event, or what is wrong with it; none until there are more bytes.
    pub(super) fn next(&mut self) -> Option<Result<Event, String>> {
        self.read.pop_front()
    }

    fn fail(&mut self, wrong: String) {
        self.broken = true;
        self.line = Vec::new();
        self.data = None;
        self.read.push_back(Err(wrong));
    }

    fn end_line(&mut self) -> Result<(), String> {
        let mut line = std::mem::take(&mut self.line);
        let first = !std::mem::replace(&mut self.began, true);
        let text = line.strip_prefix(BYTE_ORDER_MARK).filter(|_| first).unwrap_or(&line);
        if text.is_empty() {
            self.end_event();
        } else {
            self.field(text)?;
        }
        line.clear();
        self.line = line;
        Ok(())
    }

    fn end_event(&mut self) {
        let (id, data) = (self.id.take(), self.data.take());
        if id.is_some() || data.is_some() {
            self.read.push_back(Ok(Event { id, data: data.unwrap_or_default() }));
        }
    }

    fn field(&mut self, line: &[u8]) -> Result<(), String> {
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(colon.unwrap_or(line.len()));
        let value = value.get(1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" => {
                let data = match &mut self.data {
                    Some(data) => {
                        data.push(b'\n');
                        data
                    }
                    none => none.insert(Vec::new()),
                };
                if data.len().saturating_add(value.len()) > EVENT_BYTES_MAX {
                    return Err(too_long());
                }
                data.extend_from_slice(value);
            }
            b"id" => self.id = Some(number(value)?),
            // Comments have no name at all.
            _ => {}
        }
        Ok(())
    }
}

/// What the format allows at the beginning of a stream.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// What stands before a line's value.
const FIELD_BYTES: usize = 6;

fn too_long() -> String {
    format!("has more than {EVENT_BYTES_MAX} bytes")
}

fn number(value: &[u8]) -> Result<u64, String> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits);
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| "has an \"id\" that is not its number".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: Option<u64>, data: &str) -> Result<Event, String> {
        Ok(Event { id, data: data.into() })
    }

    /// However the bytes are cut, the events are the same.
    fn check(bytes: &[u8], expect: &[Result<Event, String>]) {
        for size in [1, 2, 3, 7, bytes.len().max(1)] {
            let mut events = Events::default();
            for chunk in bytes.chunks(size) {
                events.feed(chunk);
            }
            let read: Vec<_> = std::iter::from_fn(|| events.next()).collect();
            assert_eq!(read, expect, "in pieces of {size}: {:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_stream_is_cut_into_events() {
        check(b"", &[]);
        check(
            b"data: a\n\ndata:b\r\n\r\ndata:  c\r\rdata: lost\n",
            &[event(None, "a"), event(None, "b"), event(None, " c")],
        );
        check(b"\xef\xbb\xbfid: 7\nevent: x\nretry: x\n: alive\nnew\ndata: {\ndata: }\nother: 1\n\n\n\n", &[
            event(Some(7), "{\n}"),
        ]);
        check(
            b": alive\n\n:\n\nevent: x\n\nid: 2\n\ndata\n\n",
            &[event(Some(2), ""), event(None, "")],
        );
        // Only at the beginning.
        check(b"data: a\n\n\xef\xbb\xbfdata: b\n\n", &[event(None, "a")]);
        let bytes = Ok(Event { id: None, data: b"\xff".to_vec() });
        check(b"data: \xff\n\n", &[bytes]);
    }

    #[test]
    fn what_is_wrong_comes_after_what_was_right() {
        let wrong = || Err("has an \"id\" that is not its number".to_owned());
        check(b"data: a\n\nid: x\n\ndata: b\n\n", &[event(None, "a"), wrong()]);
        for id in ["", "-1", "+1", "1.0", "18446744073709551616", "\u{663}"] {
            check(format!("id: {id}\n\n").as_bytes(), &[wrong()]);
        }
    }

    #[test]
    fn no_event_is_longer_than_its_limit() {
        let read = |bytes: &[u8]| {
            let mut events = Events::default();
            bytes.chunks(65_536).for_each(|chunk| events.feed(chunk));
            assert!(events.line.len() <= EVENT_BYTES_MAX + FIELD_BYTES);
            events.next()
        };
        let long = "x".repeat(EVENT_BYTES_MAX);
        let fits = read(format!("data: {long}\n\n").as_bytes()).unwrap().unwrap();
        assert_eq!(fits.data.len(), EVENT_BYTES_MAX);
        let limit = Some(Err("has more than 1048576 bytes".to_owned()));
        for bytes in [
            format!("data: {long}x\n\n"),
            format!("data: {long}\ndata:\n"),
            format!(":{long}xxxxxx"),
        ] {
            assert_eq!(read(bytes.as_bytes()), limit, "{}", bytes.len());
        }
    }
}
