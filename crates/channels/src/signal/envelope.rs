//! What an envelope of signal-cli says, if it says anything to us.
//!
//! Nothing in it is relied on: a field that is missing or of another kind reads as absent, and what
//! makes no message has a name. Names of people are passed on as they are; whoever shows them cleans
//! them.

use std::sync::Arc;

use serde_json::Value;
use turnkeep_core::ids::Timestamp;
use turnkeep_core::ports::intake::{Chat, Person, Quoted};

use super::mentions;

/// Attachments of one message that are looked at.
const ATTACHMENTS_MAX: usize = 32;
/// Characters of a name, a title or a media type.
const NAME_CHARS_MAX: usize = 200;
/// Bytes of the name of a file; with an ending, a file system takes no more.
const FILE_NAME_BYTES_MAX: usize = 240;
/// Bytes of a group's id, as a session's key can hold it.
const ID_BYTES_MAX: usize = 128;
/// Characters that are kept of what somebody quotes.
const QUOTE_CHARS_MAX: usize = 2000;

/// Who we are.
#[derive(Clone, Debug)]
pub(super) struct Us {
    pub(super) number: Arc<str>,
    /// Signal's own name of us, once it is known.
    pub(super) uuid: Option<Arc<str>>,
}

impl Us {
    fn is(&self, number: Option<&str>, uuid: Option<&str>) -> bool {
        number.is_some_and(|number| number == &*self.number)
            || uuid
                .zip(self.uuid.as_deref())
                .is_some_and(|(uuid, ours)| uuid.eq_ignore_ascii_case(ours))
    }
}

/// What an envelope is.
#[derive(Debug, PartialEq)]
pub(super) enum Read {
    /// Somebody said something.
    Said(Box<Letter>),
    /// One of our own devices spoke, by which we learn our uuid.
    Ours(Option<Arc<str>>),
    /// Nothing for us, for this reason.
    Passed(&'static str),
    /// signal-cli could not read it: of which kind the error is, and its text.
    Unreadable(String),
}

/// Something that was said, before its attachments are fetched.
#[derive(Debug, PartialEq)]
pub(super) struct Letter {
    pub(super) chat: Chat,
    pub(super) sender: Person,
    pub(super) message_id: Arc<str>,
    pub(super) sent_at: Timestamp,
    /// The chat's timer, where messages disappear.
    pub(super) disappears_s: Option<u32>,
    pub(super) words: Words,
}

/// What was said.
#[derive(Debug, PartialEq)]
pub(super) enum Words {
    Message {
        text: String,
        mentions_us: bool,
        quoted: Option<Quoted>,
        quotes_us: bool,
        enclosed: Vec<Enclosed>,
    },
    Edit {
        of: Arc<str>,
        text: String,
        mentions_us: bool,
    },
    Reaction {
        sign: Arc<str>,
        of: Arc<str>,
        author: Arc<str>,
        to_us: bool,
        removed: bool,
    },
    Typing,
}

/// An attachment as it was announced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Enclosed {
    /// signal-cli's name of it.
    pub(super) id: Option<Arc<str>>,
    pub(super) name: Option<Arc<str>>,
    pub(super) media_type: Arc<str>,
    pub(super) bytes: u64,
    /// Why it must not be kept, whoever sent it.
    pub(super) fleeting: Option<&'static str>,
}

/// Reads the parameters of one `receive`, without the subscription around them.
pub(super) fn read(params: &Value, us: &Us) -> Read {
    let Some(envelope) = object(params, "envelope") else {
        return problem(params).unwrap_or(Read::Passed("nothing in it"));
    };
    let number = text(envelope, "sourceNumber").or(text(envelope, "source")).and_then(as_number);
    let uuid = text(envelope, "sourceUuid").or(text(envelope, "source")).and_then(as_uuid);
    if object(envelope, "syncMessage").is_some() || us.is(number.as_deref(), uuid.as_deref()) {
        let ours = us.is(number.as_deref(), None);
        return Read::Ours(uuid.filter(|_| ours));
    }
    if let Some(problem) = problem(params) {
        return problem;
    }
    let also = number.clone().filter(|_| uuid.is_some()).into_iter().collect();
    let Some(id) = uuid.or(number) else { return Read::Passed("no sender") };
    let sender = Person { id, also, name: text(envelope, "sourceName").and_then(short) };
    said(envelope, sender, us)
}

/// What signal-cli could not read.
fn problem(params: &Value) -> Option<Read> {
    let exception = object(params, "exception")?;
    let word = |key| text(exception, key).and_then(short);
    let kind = word("type").unwrap_or_else(|| "an error".into());
    let why = word("message").unwrap_or_default();
    Some(Read::Unreadable(format!("{kind}: {why}")))
}

fn said(envelope: &Value, sender: Person, us: &Us) -> Read {
    let sent_at = moment(envelope, "timestamp");
    if let Some(data) = object(envelope, "dataMessage") {
        return data_message(data, sender, moment(data, "timestamp").or(sent_at), us);
    }
    if let Some(edit) = object(envelope, "editMessage") {
        return edit_message(edit, sender, sent_at, us);
    }
    if let Some(typing) = object(envelope, "typingMessage") {
        let chat = match group_of(text(typing, "groupId"), None) {
            Ok(chat) => chat,
            Err(why) => return Read::Passed(why),
        };
        if text(typing, "action") != Some("STARTED") {
            return Read::Passed("stopped typing");
        }
        let sent_at = moment(typing, "timestamp").or(sent_at);
        return letter(chat, sender, sent_at, None, Words::Typing);
    }
    let known =
        [("receiptMessage", "a receipt"), ("callMessage", "a call"), ("storyMessage", "a story")];
    let passed = known.into_iter().find(|(key, _)| object(envelope, key).is_some());
    Read::Passed(passed.map_or("of an unknown kind", |(_, what)| what))
}

fn letter(
    chat: Chat,
    sender: Person,
    sent_at: Option<Timestamp>,
    disappears_s: Option<u32>,
    words: Words,
) -> Read {
    // The sender's clock names the message; without it nobody could tell a second one.
    let Some(sent_at) = sent_at else { return Read::Passed("no timestamp") };
    let message_id = sent_at.to_string().into();
    Read::Said(Box::new(Letter { chat, sender, message_id, sent_at, disappears_s, words }))
}

fn data_message(data: &Value, sender: Person, sent_at: Option<Timestamp>, us: &Us) -> Read {
    let chat = match chat_of(data) {
        Ok(chat) => chat,
        Err(why) => return Read::Passed(why),
    };
    if object(data, "storyContext").is_some() {
        return Read::Passed("an answer to a story");
    }
    if let Some(reaction) = object(data, "reaction") {
        return match reacted(reaction, us) {
            Some(words) => letter(chat, sender, sent_at, timer(data), words),
            None => Read::Passed("a reaction to nothing"),
        };
    }
    let (text, mentions_us) = body(data, us);
    let enclosed = enclosed(data);
    if text.trim().is_empty() && enclosed.is_empty() {
        return Read::Passed(empty(data));
    }
    let quote = object(data, "quote");
    let quotes_us = quote.is_some_and(|quote| {
        let uuid = self::text(quote, "authorUuid").or(self::text(quote, "author"));
        us.is(self::text(quote, "authorNumber").or(self::text(quote, "author")), uuid)
    });
    let quoted = quote.and_then(quoted);
    let words = Words::Message { text, mentions_us, quoted, quotes_us, enclosed };
    letter(chat, sender, sent_at, timer(data), words)
}

/// The chat's timer in seconds, where messages disappear.
fn timer(data: &Value) -> Option<u32> {
    let seconds = data.get("expiresInSeconds").and_then(Value::as_u64)?;
    (seconds > 0).then(|| u32::try_from(seconds).unwrap_or(u32::MAX))
}

fn edit_message(edit: &Value, sender: Person, sent_at: Option<Timestamp>, us: &Us) -> Read {
    let (Some(of), Some(data)) = (moment(edit, "targetSentTimestamp"), object(edit, "dataMessage"))
    else {
        return Read::Passed("an edit of nothing");
    };
    let chat = match chat_of(data) {
        Ok(chat) => chat,
        Err(why) => return Read::Passed(why),
    };
    let (text, mentions_us) = body(data, us);
    if text.trim().is_empty() {
        return Read::Passed("an edit without text");
    }
    let words = Words::Edit { of: of.to_string().into(), text, mentions_us };
    letter(chat, sender, moment(data, "timestamp").or(sent_at), timer(data), words)
}

/// What a message without words is.
fn empty(data: &Value) -> &'static str {
    let update = object(data, "groupInfo").and_then(|group| text(group, "type"));
    if flag(data, "isExpirationUpdate") || update.is_some_and(|kind| kind != "DELIVER") {
        return "a change of settings";
    }
    let known = [
        ("remoteDelete", "a deletion"),
        ("adminDelete", "a deletion"),
        ("sticker", "a sticker"),
        ("contacts", "a contact"),
        ("payment", "a payment"),
        ("pollCreate", "a poll"),
        ("pollVote", "a poll"),
        ("pollTerminate", "a poll"),
        ("pinMessage", "a pin"),
        ("unpinMessage", "a pin"),
    ];
    let present = |key: &str| data.get(key).is_some_and(|value| !value.is_null());
    known.into_iter().find(|(key, _)| present(key)).map_or("an empty message", |(_, what)| what)
}

fn chat_of(data: &Value) -> Result<Chat, &'static str> {
    match data.get("groupInfo") {
        None | Some(Value::Null) => Ok(Chat::Direct),
        // What was said to a group is never taken for something that was said to us alone.
        Some(group) => match text(group, "groupId") {
            None => Err("a group without a name"),
            id => group_of(id, text(group, "groupName").and_then(short)),
        },
    }
}

fn group_of(id: Option<&str>, title: Option<Arc<str>>) -> Result<Chat, &'static str> {
    let Some(id) = id else { return Ok(Chat::Direct) };
    if id.is_empty() || id.len() > ID_BYTES_MAX || id.chars().any(char::is_control) {
        return Err("a group without a name");
    }
    Ok(Chat::Group { id: id.into(), title })
}

/// The text with its mentions spelt out, and whether they name us.
fn body(data: &Value, us: &Us) -> (String, bool) {
    let text = text(data, "message").unwrap_or_default();
    let mentions = data.get("mentions").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let names_us =
        mentions.iter().any(|who| us.is(self::text(who, "number"), self::text(who, "uuid")));
    (mentions::spelt_out(text, mentions), names_us)
}

fn reacted(reaction: &Value, us: &Us) -> Option<Words> {
    let number = text(reaction, "targetAuthorNumber").or(text(reaction, "targetAuthor"));
    let uuid = text(reaction, "targetAuthorUuid").or(text(reaction, "targetAuthor"));
    Some(Words::Reaction {
        sign: text(reaction, "emoji").and_then(short)?,
        of: moment(reaction, "targetSentTimestamp")?.to_string().into(),
        author: uuid.and_then(as_uuid).or_else(|| number.and_then(as_number))?,
        to_us: us.is(number, uuid),
        removed: flag(reaction, "isRemove"),
    })
}

fn quoted(quote: &Value) -> Option<Quoted> {
    let uuid = text(quote, "authorUuid").or(text(quote, "author")).and_then(as_uuid);
    let number = || text(quote, "authorNumber").or(text(quote, "author")).and_then(as_number);
    let mentions = quote.get("mentions").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let words = mentions::spelt_out(text(quote, "text").unwrap_or_default(), mentions);
    Some(Quoted {
        message_id: moment(quote, "id")?.to_string().into(),
        author: uuid.or_else(number)?,
        text: words.chars().take(QUOTE_CHARS_MAX).collect::<String>().into(),
    })
}

fn enclosed(data: &Value) -> Vec<Enclosed> {
    let expires = timer(data).is_some();
    let fleeting = if flag(data, "viewOnce") {
        Some("it may be viewed once only")
    } else {
        expires.then_some("the message disappears")
    };
    let all = data.get("attachments").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let read = |attachment: &Value| Enclosed {
        id: text(attachment, "id").filter(|id| is_file_name(id)).map(Into::into),
        name: text(attachment, "filename").and_then(short),
        media_type: text(attachment, "contentType")
            .and_then(short)
            .unwrap_or_else(|| "application/octet-stream".into()),
        bytes: attachment.get("size").and_then(Value::as_u64).unwrap_or(0),
        fleeting,
    };
    all.iter().take(ATTACHMENTS_MAX).filter(|one| one.is_object()).map(read).collect()
}

/// The names of all files that signal-cli stored for an envelope, whatever it is: attachments,
/// thumbnails of quotes, images of previews, avatars of contacts.
pub(super) fn files(params: &Value) -> Vec<Arc<str>> {
    let mut found = Vec::new();
    // An envelope is no deeper than what reads JSON lets it be.
    let mut left = vec![params];
    while let Some(value) = left.pop() {
        match value {
            Value::Array(all) => left.extend(all),
            Value::Object(fields) => {
                let id = text(value, "id").filter(|id| is_file_name(id));
                found.extend(id.filter(|_| fields.contains_key("contentType")).map(Into::into));
                left.extend(fields.values());
            }
            _ => {}
        }
    }
    found
}

/// A name that stays within its folder.
fn is_file_name(id: &str) -> bool {
    let strays = |one: char| one.is_control() || one == '/' || one == '\\';
    (1..=FILE_NAME_BYTES_MAX).contains(&id.len()) && !id.starts_with('.') && !id.contains(strays)
}

/// Signal's lasting name of somebody.
pub(super) fn as_uuid(text: &str) -> Option<Arc<str>> {
    let bytes = text.as_bytes();
    let fits = |(place, byte): (usize, &u8)| match place {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    let whole = bytes.len() == 36 && bytes.iter().enumerate().all(fits);
    whole.then(|| text.to_ascii_lowercase().into())
}

/// A telephone number with its country.
pub(super) fn as_number(text: &str) -> Option<Arc<str>> {
    let digits = text.strip_prefix('+')?;
    let whole =
        (3..=20).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    whole.then(|| text.into())
}

fn object<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    value.get(key).filter(|inner| inner.is_object())
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

fn flag(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn moment(value: &Value, key: &str) -> Option<Timestamp> {
    value.get(key).and_then(Value::as_i64).filter(|at| *at > 0)
}

fn short(text: &str) -> Option<Arc<str>> {
    (!text.is_empty()).then(|| text.chars().take(NAME_CHARS_MAX).collect::<String>().into())
}
