//! Bytes against what is signed, and against what a receiver may answer.

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use ring::hmac;
use turnkeep_core::ports::listeners::Carried;
use turnkeep_fuzz::{Target, fuzz};

use super::{judge, signatures};

/// One header value for every byte of the body and the id, and it changes with each of them.
#[test]
fn fuzz_signatures() {
    let target = Target {
        name: "signature",
        seeds: &[b"msg_a_1\n{\"test\": 2432232314}", b"\n"],
        words: &[b".", b"\n", b"1614265330"],
        length_max: 1024,
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"twenty-four bytes or more");
    fuzz(&target, |input| {
        let at = input.iter().position(|byte| *byte == b'\n').unwrap_or(0);
        let (id, body) = input.split_at(at);
        // As `callback_id` has it: no full stop.
        let id = String::from_utf8_lossy(id).replace('.', "-");
        let signed = signatures(std::slice::from_ref(&key), &id, 1_614_265_330, body);
        assert!(HeaderValue::from_str(&signed).is_ok() && signed.starts_with("v1,"), "{signed}");
        let mut other = body.to_vec();
        other.push(b'.');
        assert_ne!(signed, signatures(std::slice::from_ref(&key), &id, 1_614_265_330, &other));
        assert_ne!(signed, signatures(std::slice::from_ref(&key), &id, 1_614_265_331, body));
        assert_ne!(
            signed,
            signatures(std::slice::from_ref(&key), &format!("{id}x"), 1_614_265_330, body)
        );
    });
}

#[test]
fn fuzz_answers() {
    let target = Target {
        name: "callback_answer",
        seeds: &[
            b"503\nretry-after: 7",
            b"503\nretry-after: Wed, 04 Nov 2026 10:00:09 GMT\ndate: Wed, 04 Nov 2026 10:00:00 GMT",
            b"302\nlocation: http://127.0.0.1/",
        ],
        words: &[b"retry-after:", b"date:", b"GMT", b"-1", b"1e9", b"410", b"200", b"\n"],
        length_max: 512,
    };
    fuzz(&target, |input| {
        let mut lines = input.split(|byte| *byte == b'\n');
        let status = lines.next().and_then(|line| StatusCode::from_bytes(line).ok());
        let mut headers = HeaderMap::new();
        for line in lines {
            let Some(at) = line.iter().position(|byte| *byte == b':') else { continue };
            let name = HeaderName::from_bytes(line[..at].trim_ascii());
            let value = HeaderValue::from_bytes(line[at + 1..].trim_ascii());
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.append(name, value);
            }
        }
        let status = status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let delivered = judge(status, &headers) == Carried::Delivered;
        assert_eq!(delivered, status.is_success(), "{status}");
    });
}
