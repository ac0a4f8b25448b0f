//! Bytes against everything that reads a request: heads, queries, bodies.

use std::sync::Arc;

use hyper::{HeaderMap, Request, Uri};
use turnkeep_core::policy::{Policy, channel_facts};
use turnkeep_core::session_key::SEGMENT_BYTES_MAX;
use turnkeep_fuzz::{Target, fuzz};

use super::access::cookie_in;
use super::list::Limit;
use super::problem::Problem;
use super::query::Query;
use super::settings::HttpSettings;
use super::switchboard::{act, stream};
use super::{
    access, all_events, backup, body, chat, events, guard, idempotency, keys, sign_in, source,
};
use super::{operators, steer, unasked};
use crate::ingress::{MESSAGE_ID_BYTES_MAX, Policies, UnknownPart, admit};

/// Knows every agent and channel.
struct Everything;

impl Policies for Everything {
    fn policy(&self, _: &str, _: &str, _: &str) -> Result<Arc<Policy>, UnknownPart> {
        let facts = channel_facts("api").ok_or(UnknownPart::Channel)?;
        Ok(Arc::new(Policy::built_in(*facts)))
    }
}

/// A refusal says something, and on one line.
fn check_refusal(problem: &Problem) {
    let said = format!("{problem:?}");
    assert!(!said.contains('\n'), "{said}");
}

const MESSAGE: &[u8] = br#"{"customer_id": "anna", "message": "hello", "id": "m-1"}"#;

#[test]
fn fuzz_messages() {
    let target = Target {
        name: "message",
        seeds: &[
            MESSAGE,
            br#"{"session": "default:default:api:dm:anna", "message": "hi", "metadata": {"a": [1]}}"#,
            br#"{"tenant_id":"a:b","agent_id":"%","channel":"web","customer_id":"\u00e9","message":"\ud83d\ude00"}"#,
        ],
        words: &[
            b"\"tenant_id\":", b"\"agent_id\":", b"\"customer_id\":", b"\"channel\":", b"null",
            b"\"session\":", b"\"message\":", b"\"id\":", b"\"metadata\":", b"{", b"}", b"[", b"]",
            b"\\u0000", b"\\u202e", b"1e999",
        ],
        length_max: 4096,
    };
    fuzz(&target, |input| {
        let chat = match body::parse::<chat::ChatRequest>(input) {
            Ok(chat) => chat,
            Err(problem) => return check_refusal(&problem),
        };
        let Ok(submission) = chat::submission_of(chat, None) else { return };
        let typed = submission.clone();
        let Ok(admitted) = admit(submission, &Everything, b"salt", 1024, || "made".to_owned())
        else {
            return;
        };
        assert_eq!(&*admitted.inbound.body.text, typed.text);
        assert!((1..=1024).contains(&typed.text.len()));
        let id = &admitted.inbound.body.message_id;
        assert!((1..=MESSAGE_ID_BYTES_MAX).contains(&id.len()) && !has_control(id), "{id:?}");
        let sender = &admitted.inbound.body.sender;
        assert!((1..=SEGMENT_BYTES_MAX).contains(&sender.len()) && !has_control(sender));
        if let Some(tenant) = typed.tenant {
            assert_eq!(admitted.key.tenant(), tenant, "nobody slips into another tenant");
        }
    });
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

#[test]
fn fuzz_other_bodies() {
    let target = Target {
        name: "body",
        seeds: &[
            br#"{"customer_id":"mallory","severity":"block","reason":"insults","hours":48}"#,
            br#"{"scopes":["send","read"],"tenant_id":"acme","label":"shop","expires_in_s":5}"#,
            br#"{"turn_id":"01a1b2c3-0000-7000-8000-000000000000"}"#,
            br#"{"code":"abc"}"#,
            br#"{"session":"a:b:c:dm:d","message":"hi"}"#,
            br#"{"name":"api work","agent_id":"dev","seat":"tty1"}"#,
            br#"{"seq":12}"#,
        ],
        words: &[
            b"\"permanent\"",
            b"\"admin\"",
            b"\"grace_s\":",
            b"\"text\":",
            b"\"by\":",
            b"null",
            b"18446744073709551616",
            b"-0",
            b"{}",
            b"\"busy_policy\":",
        ],
        length_max: 4096,
    };
    fuzz(&target, |input| {
        let refusals = [
            body::parse::<backup::BackupRequest>(input).err(),
            body::parse::<guard::RestrictRequest>(input).err(),
            body::parse::<guard::LiftRequest>(input).err(),
            body::parse::<guard::AppealRequest>(input).err(),
            body::parse::<keys::KeyRequest>(input).err(),
            body::parse::<keys::RotateRequest>(input).err(),
            body::parse::<sign_in::InviteRequest>(input).err(),
            body::parse::<sign_in::SignInRequest>(input).err(),
            body::parse::<steer::StopRequest>(input).err(),
            body::parse::<operators::OperatorRequest>(input).err(),
            body::parse::<operators::ReplyRequest>(input).err(),
            body::parse::<unasked::UnaskedRequest>(input).err(),
            body::parse::<act::CreateRequest>(input).err(),
            body::parse::<act::NameRequest>(input).err(),
            body::parse::<act::SwitchRequest>(input).err(),
            body::parse::<act::CloseRequest>(input).err(),
            body::parse::<act::ReadRequest>(input).err(),
        ];
        refusals.iter().flatten().for_each(check_refusal);
    });
}

/// The lines of a head, as far as they are headers at all.
fn head_of(input: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n') {
        let Some(at) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = hyper::header::HeaderName::from_bytes(line[..at].trim_ascii());
        let value = hyper::header::HeaderValue::from_bytes(line[at + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

#[test]
fn fuzz_heads() {
    let target = Target {
        name: "head",
        seeds: &[
            b"host: localhost:7878\norigin: http://localhost:7878\nx-forwarded-for: 198.51.100.7, 10.0.0.2\nx-forwarded-proto: https",
            b"host: [::1]:7878\nforwarded: for=\"[2001:db8::7]:99\";proto=https, for=10.9.9.9\nlast-event-id: 17-4",
            b"host: 127.0.0.1\nauthorization: Bearer tk_a_b\ncookie: a=b; turnkeep_visit=abc\nidempotency-key: \"a\\\"b\"",
        ],
        words: &[
            b"host:", b"origin:", b"forwarded:", b"x-forwarded-for:", b"x-forwarded-proto:", b"for=",
            b"last-event-id:", b"authorization:", b"cookie:", b"turnkeep_visit=", b"null", b"unknown",
            b"idempotency-key:", b"10.0.0.1", b"::ffff:10.0.0.1", b"https", b"\n",
        ],
        length_max: 2048,
    };
    let settings = HttpSettings {
        hosts: vec!["chat.example.org".to_owned()],
        trusted_proxies: ["10.0.0.0/8", "fd00::/8"].map(|it| it.parse().unwrap()).into(),
        ..HttpSettings::default()
    };
    let (proxy, stranger) = ("10.0.0.1".parse().unwrap(), "192.0.2.1".parse().unwrap());
    fuzz(&target, |input| {
        let headers = head_of(input);
        let mut request = Request::builder().uri("/v1/chat").body(()).unwrap();
        *request.headers_mut() = headers.clone();
        match source::check(&request, &settings, Some(stranger)) {
            Ok(source) => {
                assert_eq!((source.address, source.secure), (Some(stranger), false), "a stranger");
            }
            Err(problem) => check_refusal(&problem),
        }
        if let Ok(source) = source::check(&request, &settings, Some(proxy)) {
            assert!(source.address.is_some(), "whoever comes over TCP has an address");
        }
        if let Ok(Some(name)) = idempotency::name_of(&headers) {
            assert!((1..=255).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic()));
        }
        let _ = (access::key_in(&headers), cookie_in(&headers));
        let refusals = [
            events::last_event_id(&headers).err(),
            all_events::last_event_id(&headers).err(),
            stream::last_event_id(&headers).err(),
        ];
        refusals.iter().flatten().for_each(check_refusal);
    });
}

#[test]
fn fuzz_queries() {
    let target = Target {
        name: "query",
        seeds: &[
            b"wait=60&after=a%3Ab%253A+c",
            b"limit=1000&all=true&tenant_id=acme",
            b"wait=0.25",
        ],
        words: &[b"wait=", b"limit=", b"after=", b"&", b"=", b"%", b"inf", b"nan", b"1e308", b"-0"],
        length_max: 512,
    };
    fuzz(&target, |input| {
        let Ok(uri) = format!("/v1/chat?{}", String::from_utf8_lossy(input)).parse::<Uri>() else {
            return;
        };
        let query = Query::of(&uri);
        if let Ok(Some(wait)) = chat::wait_of(query, 300) {
            assert!(!wait.is_zero() && wait.as_secs() <= 300, "{wait:?}");
        }
        if let Ok(limit) = Limit::of(query) {
            assert!((1..=1000).contains(&limit.get()));
        }
        let refusal = query.parsed::<u64>("after", "a number").err();
        refusal.iter().for_each(check_refusal);
    });
}
