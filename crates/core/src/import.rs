//! A session as a file: what its lines hold, and how a conversation is made of them again.
//!
//! The first line is a [`Header`], then comes every entry of the journal as the API shows it, and
//! the last line is an [`End`] with how many there were and a hash of everything before it. Whoever
//! reads a file takes what was said, and nothing else: turns, calls and deliveries happened
//! elsewhere, and nothing of them is done again.
//!
//! Nothing here hashes: the [`Reader`] hands the [`End`] to whoever read the bytes.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp as Moment;
use serde::{Deserialize, Serialize};

use crate::care::turn_of;
use crate::ids::{Seq, Timestamp, TurnId};
use crate::journal::{Event, EventBody, Heard, Imported, ImportedLine, NoticeSource};
use crate::listen::EVENT_TYPES;
use crate::session_key::{SEGMENT_BYTES_MAX, SessionKey};

use said::line_of;

mod said;

/// What every file calls itself.
pub const FORMAT: &str = "turnkeep.session";
/// Grows when a line changes its meaning.
pub const VERSION: u32 = 1;
/// Lines of a conversation that are taken from one file.
pub const LINES_MAX: usize = 10_000;
/// The longest file that is read, in bytes.
pub const FILE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The longest hash that a file may claim, in characters.
const HASH_CHARS: usize = 64;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// When it was saved, as RFC 3339 has it.
    pub saved_at: String,
    /// The session's key there.
    pub session: String,
    /// What the session is called there, if it has a name.
    #[serde(default)]
    pub name: Option<String>,
    /// The place of the first entry; later than 1 where a beginning was forgotten.
    pub first_seq: Seq,
    /// The place of the last entry; the one before the first where there is none.
    pub last_seq: Seq,
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// `end`, which no entry is called.
    #[serde(rename = "type")]
    pub sort: EndSort,
    /// Entries between the first line and this one.
    pub events: u64,
    /// SHA-256 of everything before this line, line ends included, in lower-case hexadecimal digits.
    pub sha256: String,
}

/// The one thing that the last line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndSort {
    /// The file ends here.
    End,
}

/// A conversation to begin a session with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Where it comes from; its `lines` count those below.
    pub head: Imported,
    /// What was said, oldest first.
    pub lines: Vec<ImportedLine>,
    /// So many of them stand before the last new conversation: the agent doesn't get them.
    pub forgotten: usize,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {field} {why}")]
pub struct FileError {
    /// In which line, from 1.
    pub line: u64,
    /// Which field of it.
    pub field: String,
    /// What is wrong with it.
    pub why: String,
}

/// What a line was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// More lines have to come.
    More,
    /// It was the last one; whoever has the bytes holds the hash against them.
    End(End),
}

/// Reads a file line by line.
#[derive(Debug, Default)]
pub struct Reader {
    line: u64,
    /// The longest text of one message, in bytes; no bound if absent.
    text_bytes_max: Option<usize>,
    header: Option<(Header, Timestamp)>,
    end: Option<End>,
    events: u64,
    last_seq: Seq,
    /// What was said, by its place there; none where it was said again later.
    said: Vec<(Seq, Option<ImportedLine>)>,
    count: usize,
    /// So many of them stand before the last new conversation.
    reset_at: usize,
    /// Messages that disappear, and the turns that read one: nobody would take them out here.
    fleeting: (BTreeSet<Seq>, BTreeSet<TurnId>),
}

impl Reader {
    /// Before the first line.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes no message that is longer than this.
    #[must_use]
    pub fn with_text_bytes_max(self, text_bytes_max: usize) -> Self {
        Self { text_bytes_max: Some(text_bytes_max), ..self }
    }

    /// Takes the next line, without its end.
    pub fn take(&mut self, text: &[u8]) -> Result<Taken, FileError> {
        self.line += 1;
        if self.end.is_some() {
            return Err(self.wrong("line", "stands behind the end"));
        }
        let text = std::str::from_utf8(text)
            .map_err(|error| self.wrong("line", format!("is not UTF-8: {error}")))?;
        let value: serde_json::Value = serde_json::from_str(text)
            .map_err(|error| self.wrong("line", format!("is no JSON: {error}")))?;
        let Some(fields) = value.as_object() else {
            return Err(self.wrong("line", "is no JSON object"));
        };
        if self.header.is_none() {
            return self.begin(text, fields);
        }
        match fields.get("type").and_then(serde_json::Value::as_str) {
            Some("end") => self.finish(text, fields),
            Some(name) if EVENT_TYPES.contains(&name) => {
                let Place { seq, at } = self.parse(text, fields)?;
                let body = self.parse(text, fields)?;
                self.event(Event { seq, at, body })
            }
            Some(name) => {
                let why = format!("{name:?} is not known here; it may be a newer Turnkeep's");
                Err(self.wrong("type", why))
            }
            None => Err(self.wrong("type", "is missing")),
        }
    }

    /// How many lines were taken.
    #[must_use]
    pub const fn lines(&self) -> u64 {
        self.line
    }

    /// What the file is about, once its first line was taken.
    #[must_use]
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref().map(|(header, _)| header)
    }

    /// The conversation, once the last line was taken; `by` is who has it imported.
    pub fn import(self, by: Option<Arc<str>>) -> Result<Import, FileError> {
        let (Some((header, saved_at)), Some(end)) = (&self.header, &self.end) else {
            let at = Self { line: self.line + 1, ..Self::new() };
            return Err(at.wrong("line", "is missing: the file was cut off"));
        };
        let before = self.said[..self.reset_at].iter();
        let forgotten = before.filter(|(_, line)| line.is_some()).count();
        let head = Imported {
            from: header.session.as_str().into(),
            saved_at: *saved_at,
            lines: u32::try_from(self.count).unwrap_or(u32::MAX),
            sha256: end.sha256.as_str().into(),
            by,
        };
        let lines = self.said.into_iter().filter_map(|(_, line)| line).collect();
        Ok(Import { head, lines, forgotten })
    }

    fn begin(&mut self, text: &str, fields: &Fields) -> Result<Taken, FileError> {
        if fields.get("format").and_then(serde_json::Value::as_str) != Some(FORMAT) {
            return Err(self.wrong("format", format!("must be {FORMAT:?}")));
        }
        let version = fields.get("version");
        if version.and_then(serde_json::Value::as_u64) != Some(u64::from(VERSION)) {
            let version = version.map_or_else(|| "missing".to_owned(), ToString::to_string);
            let why = format!("is {version}, and this Turnkeep reads version {VERSION}");
            return Err(self.wrong("version", why));
        }
        let header: Header = self.parse(text, fields)?;
        if let Err(error) = header.session.parse::<SessionKey>() {
            return Err(self.wrong("session", format!("is no session's key: {error}")));
        }
        let saved_at: Moment = header
            .saved_at
            .parse()
            .map_err(|error| self.wrong("saved_at", format!("is no moment: {error}")))?;
        let before = header.first_seq.0.checked_sub(1);
        let Some(before) = before.filter(|before| *before <= header.last_seq.0) else {
            return Err(self.wrong("first_seq", "must be from 1 to the place after last_seq"));
        };
        self.last_seq = Seq(before);
        self.header = Some((header, saved_at.as_millisecond()));
        Ok(Taken::More)
    }

    fn finish(&mut self, text: &str, fields: &Fields) -> Result<Taken, FileError> {
        let end: End = self.parse(text, fields)?;
        let last = self.header().map(|header| header.last_seq);
        if last != Some(self.last_seq) {
            let last = last.unwrap_or_default();
            let why = format!("ends it at place {}, not at last_seq {last}", self.last_seq);
            return Err(self.wrong("line", why));
        }
        if end.events != self.events {
            let why = format!("says {}, and there are {}", end.events, self.events);
            return Err(self.wrong("events", why));
        }
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if end.sha256.len() != HASH_CHARS || !end.sha256.bytes().all(digit) {
            return Err(self.wrong("sha256", "must be 64 lower-case hexadecimal digits"));
        }
        self.end = Some(end.clone());
        Ok(Taken::End(end))
    }

    fn event(&mut self, event: Event) -> Result<Taken, FileError> {
        let expected = Seq(self.last_seq.0.saturating_add(1));
        let last = self.header().map_or(Seq(0), |header| header.last_seq);
        if event.seq != expected || event.seq > last {
            let why = format!("is {}, and {expected} comes next (last_seq is {last})", event.seq);
            return Err(self.wrong("seq", why));
        }
        (self.last_seq, self.events) = (event.seq, self.events + 1);
        self.correct(&event.body);
        if self.disappears(&event) {
            return Ok(Taken::More);
        }
        let is_reply = matches!(event.body.name(), "turn.completed" | "turn.cancelled");
        let Some(line) = line_of(event.at, event.body) else { return Ok(Taken::More) };
        self.check(&line, if is_reply { "reply" } else { "text" })?;
        if self.count == LINES_MAX {
            let why = format!("is more than the {LINES_MAX} messages that one file may hold");
            return Err(self.wrong("line", why));
        }
        self.count += 1;
        self.said.push((event.seq, Some(line)));
        Ok(Taken::More)
    }

    /// What everybody could write here is no longer than what this Turnkeep takes elsewhere.
    fn check(&self, line: &ImportedLine, text: &'static str) -> Result<(), FileError> {
        let check = |field: &str, value: &str, max: usize| {
            if value.len() <= max {
                return Ok(());
            }
            let why = format!("has {} bytes, and at most {max} are taken", value.len());
            Err(self.wrong(field, why))
        };
        check(text, &line.text, self.text_bytes_max.unwrap_or(usize::MAX))?;
        check("sender", line.sender.as_deref().unwrap_or_default(), SEGMENT_BYTES_MAX)?;
        check("by", line.by.as_deref().unwrap_or_default(), SEGMENT_BYTES_MAX)
    }

    /// Whether it is a message with a timer, or something that was said to one.
    fn disappears(&mut self, event: &Event) -> bool {
        let (messages, turns) = &mut self.fleeting;
        let timed = match &event.body {
            EventBody::MessageAccepted { disappears_s: Some(_), .. }
            | EventBody::MessageCommand { disappears_s: Some(_), .. }
            | EventBody::MessageContext { disappears_s: Some(_), .. } => true,
            EventBody::MessageAccepted { retry_of: Some(of), .. }
            | EventBody::MessageContext { of: Some(of), .. }
            | EventBody::SessionNotice { source: NoticeSource::Command, of: Some(of), .. } => {
                messages.contains(of)
            }
            _ => false,
        };
        if timed {
            messages.insert(event.seq);
            return true;
        }
        let Some((turn, read)) = turn_of(&event.body) else { return false };
        if read.iter().any(|seq| messages.contains(seq)) {
            turns.insert(turn);
        }
        turns.contains(&turn)
    }

    /// What an entry says of lines before it.
    fn correct(&mut self, body: &EventBody) {
        match body {
            EventBody::MessageAccepted { retry_of: Some(old), .. } => {
                let taken = self.said(*old).and_then(Option::take);
                self.count -= usize::from(taken.is_some());
            }
            EventBody::MessageContext { of: Some(message), .. } => {
                self.hear(*message, Heard::Aside);
            }
            EventBody::GuardAllowed { message, .. } => self.hear(*message, Heard::Said),
            EventBody::GuardRefused { message, .. } => self.hear(*message, Heard::Never),
            EventBody::SessionReset { .. } => self.reset_at = self.said.len(),
            _ => {}
        }
    }

    fn hear(&mut self, message: Seq, heard: Heard) {
        if let Some(Some(line)) = self.said(message) {
            line.heard = heard;
        }
    }

    fn said(&mut self, place: Seq) -> Option<&mut Option<ImportedLine>> {
        let at = self.said.binary_search_by_key(&place, |(seq, _)| *seq).ok()?;
        Some(&mut self.said[at].1)
    }

    fn parse<T: serde::de::DeserializeOwned>(
        &self,
        text: &str,
        fields: &Fields,
    ) -> Result<T, FileError> {
        serde_json::from_str(text).map_err(|error| {
            let (field, why) = blame::<T>(fields, &error);
            self.wrong(&field, why)
        })
    }

    fn wrong(&self, field: &str, why: impl Into<String>) -> FileError {
        FileError { line: self.line, field: field.to_owned(), why: why.into() }
    }
}

type Fields = serde_json::Map<String, serde_json::Value>;

/// Where an entry stands; the rest of it is read apart, so that the field is known that is wrong.
#[derive(Deserialize)]
struct Place {
    seq: Seq,
    at: Timestamp,
}

/// Which field a line can't be read for: the one without which something else is wrong with it, or
/// nothing.
fn blame<T: serde::de::DeserializeOwned>(
    fields: &Fields,
    error: &serde_json::Error,
) -> (String, String) {
    let told = |error: &serde_json::Error| {
        let text = error.to_string();
        text.split(" at line ").next().unwrap_or_default().to_owned()
    };
    let read = |fields: &Fields| {
        serde_json::from_value::<T>(serde_json::Value::Object(fields.clone()))
            .err()
            .as_ref()
            .map(told)
    };
    let Some(first) = read(fields) else {
        // Only as it is written, which is twice: of two fields of one name the map has the last.
        let said = told(error);
        let name = said.strip_prefix("duplicate field `").and_then(|rest| rest.split('`').next());
        return (name.unwrap_or("line").to_owned(), format!("can't be read: {said}"));
    };
    if let Some(missing) = first.strip_prefix("missing field `") {
        return (missing.trim_end_matches('`').to_owned(), "is missing".to_owned());
    }
    // By its type it is known what the others are.
    let to_blame = fields.keys().filter(|name| *name != "type").find(|name| {
        let mut rest = fields.clone();
        rest.remove(*name);
        read(&rest).as_ref() != Some(&first)
    });
    match to_blame {
        Some(name) => (name.clone(), format!("can't be read: {first}")),
        None => ("line".to_owned(), format!("can't be read: {first}")),
    }
}

#[cfg(test)]
mod tests;
