//! Bytes against what signal-cli writes: lines, answers, envelopes.

use std::sync::Arc;

use turnkeep_fuzz::{Target, fuzz};

use super::envelope::{self, Read, Us, Words};
use super::lines::{Line, Splitter};
use super::message::{self, Told};

const US: &str = "+4915100000000";

const MESSAGE: &[u8] =
    br#"{"jsonrpc":"2.0","method":"receive","params":{"subscription":0,"result":{
"envelope":{"source":"+491","sourceNumber":"+4917000000001",
"sourceUuid":"0a1b2c3d-0000-4000-8000-00000000a99a","sourceName":"Anna","sourceDevice":1,
"timestamp":1760000000000,"dataMessage":{"timestamp":1760000000000,"message":"\ufffc hi",
"expiresInSeconds":0,"viewOnce":false,"mentions":[{"name":"+4915100000000",
"number":"+4915100000000","uuid":"x","start":0,"length":1}],"quote":{"id":7,"author":"+491",
"authorNumber":"+49123","text":"before"},"attachments":[{"contentType":"image/jpeg","id":"a.jpg",
"filename":"p.jpg","size":7}],"groupInfo":{"groupId":"R0c=","groupName":"G","type":"DELIVER"}}},
"account":"+4915100000000"}}}"#;
const EDIT: &[u8] = br#"{"method":"receive","params":{"envelope":{"sourceNumber":"+49123",
"editMessage":{"targetSentTimestamp":7,"dataMessage":{"timestamp":8,"message":"x"}}}}}"#;
const REACTION: &[u8] = br#"{"method":"receive","params":{"envelope":{"sourceNumber":"+49123",
"dataMessage":{"timestamp":8,"reaction":{"emoji":"+","targetAuthor":"+4915100000000",
"targetSentTimestamp":7,"isRemove":false}}}}}"#;
const TYPING: &[u8] = br#"{"method":"receive","params":{"exception":{"type":"E","message":"m"},
"envelope":{"sourceNumber":"+49123","typingMessage":{"action":"STARTED","timestamp":7}}}}"#;

/// Whatever stands there, what comes out can name a session and a message.
#[test]
fn fuzz_envelopes() {
    let target = Target {
        name: "signal_envelope",
        seeds: &[MESSAGE, EDIT, REACTION, TYPING],
        words: &[
            b"null",
            b"\"syncMessage\":{}",
            b"\"viewOnce\":true",
            b"\"isRemove\":true",
            b"-1",
            b"\\u202e",
            b"\\ud83d\\ude00",
            b"\"groupId\":",
            b"18446744073709551615",
            b"\"type\":",
        ],
        length_max: 4096,
    };
    let us = Us { number: US.into(), uuid: Some("0a1b2c3d-0000-4000-8000-00000000a99b".into()) };
    fuzz(&target, |input| {
        let Told::Received { params, .. } = message::read(input) else { return };
        let Read::Said(letter) = envelope::read(&params, &us) else { return };
        let fits = |id: &Arc<str>| (1..=128).contains(&id.len()) && !id.contains(char::is_control);
        assert!(fits(&letter.sender.id) && letter.sender.also.iter().all(fits), "{letter:?}");
        assert_ne!(&*letter.sender.id, US);
        if let turnkeep_core::ports::intake::Chat::Group { id, .. } = &letter.chat {
            assert!(fits(id), "{letter:?}");
        }
        assert!(letter.sent_at > 0 && *letter.message_id == *letter.sent_at.to_string());
        if let Words::Message { text, enclosed, .. } = &letter.words {
            assert!(!text.trim().is_empty() || !enclosed.is_empty());
            let inside = |id: &str| !id.contains('/') && !id.starts_with('.');
            assert!(enclosed.iter().all(|one| one.id.as_deref().is_none_or(inside)));
        }
    });
}

/// However the bytes are cut, the lines and their places are the same.
#[test]
fn fuzz_lines() {
    let target = Target {
        name: "signal_lines",
        seeds: &[b"3{\"a\":1}\n\n{}\nhalf", b"1\n\0\0\n0123456789012345678901\nx\n"],
        words: &[b"\n", b"\0", b"\r\n", b"01234567890123456789"],
        length_max: 256,
    };
    fuzz(&target, |input| {
        let Some((step, bytes)) = input.split_first() else { return };
        let cut = |step: usize| {
            let mut splitter = Splitter::new(16, 5);
            let mut lines = Vec::new();
            for piece in bytes.chunks(step) {
                let mut rest = piece;
                while !rest.is_empty() {
                    let (taken, line) = splitter.feed(rest);
                    lines.extend(line);
                    rest = &rest[taken..];
                }
            }
            let told = splitter.told();
            lines.extend(splitter.rest());
            (lines, told)
        };
        let whole = cut(bytes.len().max(1));
        assert_eq!(cut(usize::from(*step).max(1)), whole);
        for (start, line) in &whole.0 {
            if let Line::Whole(line) = line {
                let place = usize::try_from(*start).unwrap() - 5;
                assert_eq!(&bytes[place..place + line.len()], line);
            }
        }
    });
}
