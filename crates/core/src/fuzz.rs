//! Bytes against the core's readers: session keys, API keys, places of the journal, networks, traces,
//! patterns, session files, and what a callback is made of.

use crate::access::KeyText;
use crate::ids::Seq;
use crate::import::Reader;
use crate::listen::{BODY_BYTES_MAX, Pattern, Place, callback_body, callback_id};
use crate::network::Network;
use crate::session_key::SEGMENT_BYTES_MAX;
use crate::trace::{STATE_BYTES_MAX, SpanContext};
use crate::{Event, EventBody, SessionKey, SessionKind};
use serde_json::{Map, Value};
use turnkeep_fuzz::{Effort, Target, fuzz, hunt};

fn text(input: &[u8]) -> String {
    String::from_utf8_lossy(input).into_owned()
}

const SESSION_KEYS: Target<'static> = Target {
    name: "session_key",
    seeds: &[
        b"default:default:api:dm:anna",
        b"acme:helper:web:group:a%3Ab%25",
        "tenant:agent:signal:cron:\u{e9}\u{1f600}".as_bytes(),
    ],
    words: &[b"dm", b"main", b"isolated", b"subagent", b"%25", b"%3A", b"%3a", b"%2"],
    length_max: 800,
};

/// What is taken has one form only, and its parts give the same key again.
fn check_session_key(input: &[u8]) {
    let typed = text(input);
    let Ok(key) = typed.parse::<SessionKey>() else { return };
    assert_eq!(key.as_str(), typed, "two texts name one session");
    let parts = [key.tenant(), key.agent(), key.channel(), key.peer()];
    for part in &parts {
        assert!((1..=SEGMENT_BYTES_MAX).contains(&part.len()), "{part:?}");
        assert!(!part.chars().any(char::is_control), "{part:?}");
    }
    let [tenant, agent, channel, peer] = &parts;
    assert_eq!(SessionKey::new(tenant, agent, channel, key.kind(), peer).as_ref(), Ok(&key));
    let stored = serde_json::to_string(&key).expect("a key is always a string");
    assert_eq!(serde_json::from_str::<SessionKey>(&stored).ok(), Some(key));
}

#[test]
fn fuzz_session_keys() {
    fuzz(&SESSION_KEYS, check_session_key);
}

/// Changed inputs get through the reader: a mistake behind it would be found.
#[test]
fn a_mistake_behind_the_session_key_is_found() {
    let check = |input: &[u8]| {
        check_session_key(input);
        let key = text(input).parse::<SessionKey>();
        let planted =
            key.is_ok_and(|key| key.kind() == SessionKind::Group && key.peer().ends_with(':'));
        assert!(!planted, "a group that ends in a colon");
    };
    let failure = hunt(&SESSION_KEYS, &[], Effort::Inputs(200_000), 1, &check).failure;
    let failure = failure.expect("it was planted");
    assert_eq!(failure.why, "a group that ends in a colon");
    assert!(failure.input.ends_with(b":group:%3A"), "{}", text(&failure.input));
}

/// Whatever somebody is called: the key is read back as it was made, or refused.
#[test]
fn fuzz_session_key_parts() {
    let target = Target { name: "session_key_parts", ..SESSION_KEYS };
    fuzz(&target, |input| {
        let typed = text(input);
        let mut parts = typed.splitn(4, '\n');
        let mut part = || parts.next().unwrap_or("x");
        let (tenant, agent, channel, peer) = (part(), part(), part(), part());
        let Ok(key) = SessionKey::new(tenant, agent, channel, SessionKind::Dm, peer) else {
            return;
        };
        assert_eq!(key.as_str().parse().as_ref(), Ok(&key));
        assert_eq!(
            (&*key.tenant(), &*key.agent(), &*key.channel(), &*key.peer()),
            (tenant, agent, channel, peer)
        );
    });
}

#[test]
fn fuzz_api_keys() {
    let target = Target {
        name: "api_key",
        seeds: &[b"tk_k7m2x9qa_Zm9vYmFyYmF6", b"tk_a_b_c", b"tk__"],
        words: &[b"tk_", b"_", b"Bearer "],
        length_max: 200,
    };
    fuzz(&target, |input| {
        let typed = text(input);
        let Some(key) = KeyText::read(&typed) else { return };
        assert_eq!(key.write(), typed);
        assert_eq!(KeyText::read(&key.write()), Some(key));
        assert_eq!(format!("{key:?}"), format!("tk_{}_…", key.id), "what is shown of it");
    });
}

#[test]
fn fuzz_places() {
    let target = Target {
        name: "place",
        seeds: &[b"17-4", b"17", b"0", b"18446744073709551615-18446744073709551615"],
        words: &[b"-", b"+"],
        length_max: 60,
    };
    fuzz(&target, |input| {
        let Ok(place) = text(input).parse::<Place>() else { return };
        assert_eq!(place.to_string().parse(), Ok(place));
        assert!(place.read_after() <= place.position);
    });
}

#[test]
fn fuzz_networks() {
    let target = Target {
        name: "network",
        seeds: &[b"10.0.0.0/8", b"192.0.2.7", b"fd00::/8", b"::ffff:10.0.0.0/104"],
        words: &[b"/", b"/32", b"/128", b"::", b"::ffff:"],
        length_max: 80,
    };
    fuzz(&target, |input| {
        let typed = text(input);
        let Ok(network) = typed.parse::<Network>() else { return };
        assert_eq!(network.to_string().parse(), Ok(network));
        let first = typed.split('/').next().unwrap_or_default().trim();
        if let Ok(address) = first.parse() {
            assert!(network.contains(address), "it holds what it was named by");
        }
    });
}

#[test]
fn fuzz_patterns() {
    let target = Target {
        name: "pattern",
        seeds: &[b"*", b"turn.*,session.reset", b"turn.completed"],
        words: &[b"turn.", b".*", b"message.accepted", b","],
        length_max: 200,
    };
    fuzz(&target, |input| {
        let typed = text(input);
        let Ok(pattern) = Pattern::of(typed.split(',')) else { return };
        let everything = Pattern::everything();
        for name in ["turn.completed", "message.accepted", "no.such"] {
            assert!(!pattern.matches(name) || everything.matches(name));
        }
    });
}

/// A callback is JSON within its limit, and its name can't be taken for more than a name.
#[test]
fn fuzz_callbacks() {
    let target = Target {
        name: "callback",
        seeds: &[b"shop.eu\nhello", "a\n\u{1f600}\u{202e}\\\"".as_bytes()],
        words: &[b".", b"\n", b"\\u0000"],
        length_max: 4096,
    };
    let event = Event { seq: Seq(4), at: 1_700_000_000_000, body: EventBody::SessionReopened {} };
    fuzz(&target, |input| {
        let typed = text(input);
        let (listener, said) = typed.split_once('\n').unwrap_or((&typed, ""));
        let id = callback_id(listener, 17, &event);
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)));
        // Some are far too long, and each byte of theirs may be spelt with six.
        let said = said.repeat(1 + input.first().map_or(0, |byte| usize::from(*byte)));
        let data = Map::from_iter([("reply".to_owned(), Value::String(said))]);
        let body = callback_body("turn.completed", "2026-11-21T08:00:00Z", data);
        assert!(body.len() <= BODY_BYTES_MAX, "{}", body.len());
        let read: Value = serde_json::from_slice(&body).expect("it is JSON");
        assert_eq!(read["type"], "turn.completed");
    });
}

const TRACES: Target<'static> = Target {
    name: "trace_context",
    seeds: &[
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\ncongo=t61rcWkgMzE,rojo=00f067aa0ba902b7",
        b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more\na@b=1, ,c= d",
    ],
    words: &[b"00-", b"-01", b"ff-", b",", b"=", b"@"],
    length_max: 800,
};

/// Where another program's span is taken, it is told on as it was, and what vendors noted stays
/// within its bound.
fn check_trace(input: &[u8]) {
    let typed = text(input);
    let (parent, state) = typed.split_once('\n').unwrap_or((&typed, ""));
    let Some(context) = SpanContext::read(parent, Some(state)) else { return };
    let told = context.traceparent();
    assert_eq!(told[3..53], parent[3..53], "another span");
    let again = SpanContext::read(&told, context.state.as_deref());
    assert_eq!(again.as_ref(), Some(&context));
    assert!(context.state.is_none_or(|state| state.len() <= STATE_BYTES_MAX && !state.is_empty()));
}

#[test]
fn fuzz_trace_contexts() {
    fuzz(&TRACES, check_trace);
}

const SESSION_FILES: Target<'static> = Target {
    name: "session_file",
    seeds: &[concat!(
        r#"{"format":"turnkeep.session","version":1,"saved_at":"2026-05-01T10:00:00Z","#,
        r#""session":"a:b:web:dm:c","name":null,"first_seq":1,"last_seq":2}"#,
        "\n",
        r#"{"seq":1,"at":5,"type":"message.accepted","message_id":"m","sender":"c","text":"hi","#,
        r#""trust":"public","action":"event_sent"}"#,
        "\n",
        r#"{"seq":2,"at":6,"type":"history.imported","role":"agent","text":"yes","said_at":4}"#,
        "\n",
        r#"{"type":"end","events":2,"sha256":"#,
        r#""e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}"#,
    )
    .as_bytes()],
    words: &[
        b"session.reset",
        b"\"retry_of\":1",
        b"\"held\":true",
        b"guard.refused",
        b"18446744073709551615",
        b"\"heard\":\"never\"",
    ],
    length_max: 2000,
};

/// What is refused names its line and field, and what is taken is what its head says.
#[test]
fn fuzz_session_files() {
    fuzz(&SESSION_FILES, |input| {
        let mut reader = Reader::new();
        for line in input.split(|byte| *byte == b'\n') {
            if let Err(error) = reader.take(line) {
                assert_eq!(error.line, reader.lines());
                assert!(!error.field.is_empty() && !error.why.is_empty());
                return;
            }
        }
        let Ok(import) = reader.import(None) else { return };
        assert_eq!(import.head.lines as usize, import.lines.len());
        assert!(import.forgotten <= import.lines.len());
        assert!(import.lines.iter().all(|line| !line.text.is_empty()));
        assert!(import.head.from.parse::<SessionKey>().is_ok());
    });
}
