//! What the server's answer to a message means for the run.

use std::borrow::Cow;
use std::time::Duration;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use crate::connection::Reply;

/// How a turn ended, as its user saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// Answered.
    Complete,
    /// The server said that the turn failed.
    Failed,
    /// The server said that the turn was stopped.
    Cancelled,
    /// The wait ran out before the turn did.
    Unanswered,
}

/// One answer, cut down to what is counted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The turn is over.
    Ended { outcome: Outcome, turn: Option<u64> },
    /// The message is safe with the server; the turn may be named, provisionally.
    Accepted { turn: Option<u64> },
    /// The server doesn't want the message. The reason begins with the status: `429 queue_full`.
    Refused { reason: String, retry_after: Option<Duration> },
    /// Not what the contract promises.
    Unreadable,
}

#[derive(Deserialize)]
struct ChatAnswer<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow, default)]
    turn_id: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
struct Problem<'a> {
    #[serde(borrow, default)]
    rejection_reason: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    title: Option<Cow<'a, str>>,
    #[serde(default)]
    retry_after_s: Option<f64>,
}

impl Answer {
    /// Reads a reply.
    pub(crate) fn read(reply: &Reply) -> Self {
        match reply.status {
            StatusCode::OK | StatusCode::ACCEPTED => read_chat(reply),
            _ => read_refusal(reply),
        }
    }
}

fn read_chat(reply: &Reply) -> Answer {
    let Ok(chat) = serde_json::from_slice::<ChatAnswer<'_>>(&reply.body) else {
        return Answer::Unreadable;
    };
    let turn = chat.turn_id.map(|turn_id| fingerprint(&turn_id));
    if reply.status == StatusCode::ACCEPTED {
        return Answer::Accepted { turn };
    }
    let outcome = match &*chat.status {
        "complete" => Outcome::Complete,
        "failed" => Outcome::Failed,
        "cancelled" => Outcome::Cancelled,
        _ => return Answer::Unreadable,
    };
    Answer::Ended { outcome, turn }
}

fn read_refusal(reply: &Reply) -> Answer {
    let problem = serde_json::from_slice::<Problem<'_>>(&reply.body).unwrap_or_default();
    let status = reply.status.as_u16();
    let reason = match problem.rejection_reason.or(problem.title) {
        Some(reason) => format!("{status} {reason}"),
        None => status.to_string(),
    };
    let from_body = problem.retry_after_s.and_then(|s| Duration::try_from_secs_f64(s).ok());
    Answer::Refused { reason, retry_after: reply.retry_after.or(from_body) }
}

/// Turn ids are only ever compared; 64 bits of one are enough and cost no allocation.
fn fingerprint(turn_id: &str) -> u64 {
    // FNV-1a.
    turn_id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, body: &str, expect: Answer) {
        let reply = Reply {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: None,
            body: body.to_owned().into(),
        };
        assert_eq!(Answer::read(&reply), expect);
    }

    fn refused(reason: &str, retry_after_ms: Option<u64>) -> Answer {
        let retry_after = retry_after_ms.map(Duration::from_millis);
        Answer::Refused { reason: reason.to_owned(), retry_after }
    }

    #[test]
    fn answers_are_read_as_the_contract_says() {
        let turn = Some(fingerprint("t1"));
        let ended = |outcome| Answer::Ended { outcome, turn };
        check(200, r#"{"status":"complete","reply":"x","turn_id":"t1"}"#, ended(Outcome::Complete));
        check(200, r#"{"status":"failed","turn_id":"t1"}"#, ended(Outcome::Failed));
        check(200, r#"{"status":"cancelled","turn_id":"t\u0031"}"#, ended(Outcome::Cancelled));
        check(202, r#"{"status":"processing","turn_id":"t1"}"#, Answer::Accepted { turn });
        check(202, r#"{"status":"queued","turn_id":null}"#, Answer::Accepted { turn: None });
        check(200, r#"{"status":"odd"}"#, Answer::Unreadable);
        check(200, "<html>", Answer::Unreadable);
    }

    #[test]
    fn refusals_are_named_as_well_as_they_allow() {
        let body = r#"{"status":429,"rejection_reason":"queue_full","retry_after_s":1.5}"#;
        check(429, body, refused("429 queue_full", Some(1500)));
        check(422, r#"{"status":422,"title":"bad field"}"#, refused("422 bad field", None));
        check(503, "gone", refused("503", None));
    }
}
