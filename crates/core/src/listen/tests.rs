//! Patterns, pauses, names, and above all what goes out and what stays.

use super::*;
use crate::artifact::{ArtifactName, Fingerprint};
use crate::ids::{QuestionId, Seqs, TurnGroupId, TurnId};
use crate::journal::EventBody;
use crate::outbox::DeliveryState;
use crate::policy::Trust;
use crate::session_key::SessionKind;
use crate::tool::{ActName, SideEffects, ToolOutcome};
use crate::{Action, Attempt, Epoch};

fn key() -> SessionKey {
    SessionKey::new("acme", "clerk", "web", SessionKind::Dm, "anna").unwrap()
}

fn event(body: EventBody) -> Event {
    Event { seq: Seq(7), at: 1_700_000_000_000, body }
}

fn turn() -> TurnId {
    TurnId(uuid::Uuid::from_u128(1))
}

fn completed(reply: &str) -> Event {
    event(EventBody::TurnCompleted {
        turn_id: turn(),
        attempt: Attempt(1),
        epoch: Epoch(2),
        messages: smallvec::smallvec![Seq(3)],
        reply: Some(reply.into()),
        version: None,
        by: None,
    })
}

/// The journal's own declarations are the truth.
#[test]
fn every_type_of_event_is_known() {
    let declared = include_str!("../journal.rs")
        .lines()
        .filter_map(|line| line.trim().strip_prefix("#[serde(rename = \"")?.strip_suffix("\")]"));
    let mut declared: Vec<&str> = declared.filter(|name| name.contains('.')).collect();
    let mut known = EVENT_TYPES.to_vec();
    declared.sort_unstable();
    known.sort_unstable();
    assert_eq!(known, declared);
}

#[test]
fn patterns_mean_types() {
    let check = |parts: &[&str], name: &str, expect: bool| {
        let pattern = Pattern::of(parts.iter().copied()).unwrap();
        assert_eq!(pattern.matches(name), expect, "{parts:?} {name}");
    };
    check(&["*"], "turn.completed", true);
    check(&["turn.*"], "turn.completed", true);
    check(&["turn.*"], "session.closed", false);
    check(&["turn.completed"], "turn.completed", true);
    check(&["turn.completed"], "turn.failed", false);
    check(&["turn.failed", " session.* "], "session.closed", true);
    check(&["turn.*", "turn.failed"], "turn.failed", true);
    let everything = Pattern::everything();
    assert!(EVENT_TYPES.iter().all(|name| everything.matches(name)));
    assert_eq!(Pattern::of(["*"]).unwrap(), everything);
}

#[test]
fn a_pattern_that_means_nothing_is_refused() {
    let check = |parts: &[&str], unknown: &str| {
        let refused = Pattern::of(parts.iter().copied());
        assert_eq!(refused, Err(UnknownEvent(unknown.to_owned())), "{parts:?}");
    };
    check(&["turn.complete"], "turn.complete");
    check(&["turn.*", "turns.*"], "turns.*");
    check(&["turn*"], "turn*");
    check(&["*.completed"], "*.completed");
    check(&["turn"], "turn");
    check(&[""], "");
    check(&[], "");
}

#[test]
fn words_for_people_all_mean_something() {
    let words = pattern_words();
    assert!(words.iter().all(|word| Pattern::of([word.as_str()]).is_ok()));
    assert!(words.contains(&"turn.*".to_owned()) && words.contains(&"*".to_owned()));
}

#[test]
fn tenants_and_agents_are_told_apart() {
    let check = |tenant: Option<&str>, agent: Option<&str>, expect: bool| {
        let pattern = Pattern::everything();
        let [tenant, agent] = [tenant, agent].map(|name| name.map(str::to_owned));
        assert_eq!(Selector { pattern, tenant, agent }.takes(&key()), expect);
    };
    check(None, None, true);
    check(Some("acme"), Some("clerk"), true);
    check(Some("acm"), None, false);
    check(None, Some("default"), false);
}

#[test]
fn pauses_grow_and_end() {
    let pause = |tries| next_try(tries, 1000, None).map(|at| (at - 1000) / 1000);
    let pauses: Vec<i64> = (1..).map_while(pause).collect();
    assert_eq!(pauses, [5, 30, 120, 600, 3600, 21_600, 43_200, 86_400, 86_400]);
    assert_eq!(next_try(10, 0, Some(1)), None);
    assert_eq!(next_try(1, 0, Some(60_000)), Some(60_000), "a longer pause is granted");
    assert_eq!(next_try(1, 0, Some(1)), Some(5000), "a shorter one is not");
    assert_eq!(next_try(1, 0, Some(u64::MAX)), Some(24 * 3_600_000), "nor one without end");
    assert_eq!(next_try(0, 0, None), Some(5000));
}

#[test]
fn a_name_is_stable_and_without_full_stops() {
    let id = callback_id("crm", 41, &completed("x"));
    assert_eq!(id, "msg_crm_41_7_1700000000000");
    assert_eq!(callback_id("agents/a.b", 1, &completed("x")), "msg_agents-a-b_1_7_1700000000000");
}

#[test]
fn what_is_signed_is_joined_with_full_stops() {
    assert_eq!(signed_content("msg_1", 1_614_265_330, b"{}"), b"msg_1.1614265330.{}");
}

const SECRET: &str = "what anna said";

fn text() -> std::sync::Arc<str> {
    SECRET.into()
}

/// What runs put on record of their work.
fn work() -> [EventBody; 3] {
    [
        EventBody::ToolIntended {
            turn_id: turn(),
            attempt: Attempt(1),
            tool: text(),
            effects: SideEffects::Irreversible,
            act: ActName([7; 16]),
            input: text(),
            compensates: None,
        },
        EventBody::ArtifactKept {
            turn_id: turn(),
            attempt: Attempt(1),
            name: text(),
            artifact: ArtifactName([7; 16]),
            inputs: Fingerprint([7; 16]),
            fingerprint: Fingerprint([7; 16]),
            depends: Vec::new(),
            content: text(),
        },
        EventBody::ToolReturned {
            turn_id: turn(),
            call: Seq(3),
            outcome: ToolOutcome::Done,
            output: text(),
        },
    ]
}

#[test]
fn no_text_goes_out_unless_it_may() {
    let bodies = [
        EventBody::MessageAccepted {
            message_id: "m-1".into(),
            sender: "anna".into(),
            text: text(),
            trust: Trust::Public,
            action: Action::Queued,
            turn_id: None,
            queue_position: Some(1),
            retry_of: None,
            held: false,
            disappears_s: None,
        },
        EventBody::GuardRefused { message: Seq(3), by_default: false, detail: Some(text()) },
        EventBody::TurnWaitingForInput {
            turn_id: turn(),
            question_id: QuestionId(1),
            text: text(),
            confirm: false,
        },
        EventBody::TurnRetrying {
            turn_id: turn(),
            attempt: Attempt(1),
            error: text(),
            retry_at: 5,
        },
        completed(SECRET).body,
        EventBody::TurnCancelled {
            turn_id: turn(),
            reason: crate::journal::CancelReason::Stopped,
            messages: smallvec::smallvec![Seq(1)],
            reply: Some(text()),
            acts: Seqs::new(),
        },
        EventBody::TurnFailed {
            turn_id: turn(),
            reason: crate::journal::DeadReason::AgentFailed,
            error: text(),
            messages: smallvec::smallvec![Seq(1)],
            acts: Seqs::new(),
        },
        EventBody::AgentEvent { turn_id: turn(), name: text(), detail: text() },
        EventBody::TurnWaitingForOperator {
            turn_id: turn(),
            messages: smallvec::smallvec![Seq(1)],
            error: Some(text()),
        },
        EventBody::notice(text()),
        EventBody::SessionNoticeAccepted {
            message_id: "n-1".into(),
            text: text(),
            scheduled: false,
        },
        EventBody::DeliverySettled {
            reply: Seq(4),
            part: 0,
            state: DeliveryState::Sent,
            detail: Some(text()),
        },
    ];
    for body in bodies.into_iter().chain(work()) {
        let event = event(body);
        let silent = Value::Object(data(&key(), 9, &event, false)).to_string();
        assert!(!silent.contains(SECRET), "{silent}");
        let told = Value::Object(data(&key(), 9, &event, true)).to_string();
        assert!(told.contains(SECRET), "{told}");
    }
}

#[test]
fn what_is_no_text_goes_out() {
    let started = event(EventBody::TurnStarted {
        turn_id: turn(),
        turn_group_id: TurnGroupId(turn().0),
        messages: smallvec::smallvec![Seq(3), Seq(4)],
        supersedes: None,
    });
    assert_eq!(
        Value::Object(data(&key(), 9, &started, false)),
        json!({
            "session": "acme:clerk:web:dm:anna", "tenant_id": "acme", "agent_id": "clerk",
            "channel": "web", "customer_id": "anna", "position": 9, "seq": 7,
            "turn_id": turn(), "turn_group_id": turn(), "messages": [3, 4],
        })
    );
    let settled = event(EventBody::DeliverySettled {
        reply: Seq(4),
        part: 0,
        state: DeliveryState::Sent,
        detail: None,
    });
    let data = data(&key(), 9, &settled, false);
    assert_eq!((&data["reply"], &data["state"]), (&json!(4), &json!("sent")));
}

#[test]
fn long_texts_are_cut_and_marked() {
    let body = |reply: &str| {
        let data = data(&key(), 9, &completed(reply), true);
        let bytes = callback_body("turn.completed", "2026-01-01T00:00:00Z", data);
        assert!(bytes.len() <= BODY_BYTES_MAX, "{}", bytes.len());
        serde_json::from_slice::<Value>(&bytes).unwrap()
    };
    let short = body("all of it");
    assert_eq!(short["data"]["reply"], "all of it");
    assert_eq!(short.get("truncated"), None);
    // Characters that take several bytes, and those that JSON spells with six.
    for piece in ["a", "é", "😀", "\u{1}"] {
        let long = piece.repeat(300_000);
        let cut = body(&long);
        assert_eq!(cut["truncated"], true);
        let reply = cut["data"]["reply"].as_str().unwrap();
        assert!(long.starts_with(reply), "{piece:?}");
        assert_eq!(cut["data"]["turn_id"], json!(turn()));
    }
    assert!(body(&"a".repeat(300_000))["data"]["reply"].as_str().unwrap().len() > 250_000);
}

#[test]
fn long_lists_are_cut_as_well() {
    let messages = (0..200_000).map(Seq).collect();
    let expired = event(EventBody::MessageExpired { messages });
    let data = data(&key(), 9, &expired, false);
    let bytes = callback_body("message.expired", "now", data);
    assert!(bytes.len() <= BODY_BYTES_MAX);
    assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap()["truncated"], true);
}

#[test]
fn places_print_and_read_back() {
    let check = |text: &str, position: u64, seq: u64, read_after: u64| {
        let place: Place = text.parse().unwrap();
        assert_eq!(place, Place { position, seq: Seq(seq) });
        assert_eq!((place.to_string().as_str(), place.read_after()), (text, read_after));
    };
    check("17-4", 17, 4, 16);
    check("17", 17, u64::MAX, 17);
    check("0", 0, u64::MAX, 0);
    assert!("".parse::<Place>().is_err() && "1-".parse::<Place>().is_err());
    assert!("17-4".parse::<Place>().unwrap() < "17".parse::<Place>().unwrap());
}
