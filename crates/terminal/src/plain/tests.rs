//! The conversation by lines: what is asked of the server, and what is written.

mod places;

use serde_json::{Value, json};

use super::*;
use crate::ports::SseEvent;
use crate::text::segment;

fn plain(interactive: bool) -> Plain {
    let nonce = "n".to_owned();
    Plain::new(PlainOptions { seat: "t1".into(), session: None, interactive, nonce })
}

fn ok(body: Value) -> Result<Answer, Failure> {
    Ok(Answer { status: 200, body })
}

const KEY: &str = "default:default:terminal:main:a1";

fn row() -> Value {
    json!({ "number": 3, "name": "api work", "session": KEY, "state": "idle", "waiting": null,
            "unread": 0, "last_seq": 7, "read_seq": 7 })
}

/// The tag and the request of the first thing that is sent.
fn sent(todo: &[Do]) -> (u64, Request) {
    let sent = todo.iter().find_map(|one| match one {
        Do::Send(tag, request) => Some((*tag, request.clone())),
        _ => None,
    });
    sent.unwrap_or_else(|| panic!("nothing is sent: {todo:?}"))
}

fn said(todo: &[Do]) -> Vec<&str> {
    let said = todo.iter().filter_map(|one| match one {
        Do::Say(line) => Some(line.as_str()),
        _ => None,
    });
    said.collect()
}

fn noted(todo: &[Do]) -> Vec<&str> {
    let noted = todo.iter().filter_map(|one| match one {
        Do::Note(line) => Some(line.as_str()),
        _ => None,
    });
    noted.collect()
}

fn not_found() -> Result<Answer, Failure> {
    let detail = "nobody has written there".to_owned();
    Err(Failure::Refused { status: 404, kind: "not-found".into(), detail })
}

/// One that talks in session 3 already; the agent is in its place there.
fn here(interactive: bool) -> Plain {
    let (mut plain, asked) = arrived(interactive);
    plain.hear(Hear::Answer(asked, not_found()));
    plain
}

/// One that begins to talk in session 3, and what it asked of that session's state.
fn arrived(interactive: bool) -> (Plain, u64) {
    let mut plain = plain(interactive);
    let (tag, request) = sent(&plain.begin());
    assert_eq!(request.path, "/v1/switchboard?limit=1&seat=t1");
    let (tag, request) = sent(&plain.hear(Hear::Answer(tag, ok(json!({ "active": 3 })))));
    assert_eq!(
        (request.path.as_str(), request.body),
        ("/v1/switchboard/3/switch", Some(json!({ "seat": "t1" })))
    );
    let mut todo = plain.hear(Hear::Answer(tag, ok(row())));
    let (asked, request) = sent(&todo.split_off(2));
    assert_eq!(todo, [Do::Note("session 3 \"api work\": idle".into()), Do::Follow(KEY.into(), 7)]);
    assert_eq!(request, get(format!("/v1/sessions/{}", segment(KEY))));
    (plain, asked)
}

/// The other session.
const OTHER: &str = "default:default:terminal:main:b2";

fn other_row() -> Value {
    json!({ "number": 4, "name": null, "session": OTHER, "state": "idle", "waiting": null,
            "unread": 0, "last_seq": 2, "read_seq": 2 })
}

/// Takes what a request for another session answers, and what is then asked about that.
fn arrive(plain: &mut Plain, tag: u64, row: Value) -> Vec<Do> {
    let todo = plain.hear(Hear::Answer(tag, ok(row)));
    let (asked, _) = sent(&todo);
    assert!(!plain.wants_line(), "it is not known as whom one speaks");
    plain.hear(Hear::Answer(asked, not_found()));
    todo
}

fn event(plain: &mut Plain, name: &str, data: Value) -> Vec<Do> {
    let event = SseEvent { id: None, event: name.into(), data: data.to_string() };
    let mut todo = plain.hear(Hear::Stream(KEY.into(), Told::Event(event)));
    // What is marked as read is answered at once.
    let marks = todo.iter().filter_map(|one| match one {
        Do::Send(tag, request) if request.path.ends_with("/read") => Some(*tag),
        _ => None,
    });
    for tag in marks.collect::<Vec<_>>() {
        todo.extend(plain.hear(Hear::Answer(tag, ok(json!({})))));
    }
    todo
}

fn line(plain: &mut Plain, text: &str) -> Vec<Do> {
    plain.hear(Hear::Line(format!("{text}\n")))
}

/// Says something and has it taken at this place.
fn say(plain: &mut Plain, text: &str, seq: u64) {
    let (tag, request) = sent(&line(plain, text));
    let id = request.body.unwrap()["id"].clone();
    plain.hear(Hear::Answer(tag, ok(json!({}))));
    event(plain, "message.accepted", json!({ "seq": seq, "message_id": id, "text": text }));
}

#[test]
fn a_seat_without_a_session_gets_one() {
    let mut plain = plain(true);
    let (tag, _) = sent(&plain.begin());
    let (_, request) = sent(&plain.hear(Hear::Answer(tag, ok(json!({ "active": null })))));
    assert_eq!(request, post("/v1/switchboard".into(), json!({ "seat": "t1" })));
    let mut named = Plain::new(PlainOptions {
        seat: "t1".into(),
        session: Some("api work".into()),
        interactive: true,
        nonce: "n".into(),
    });
    let (_, request) = sent(&named.begin());
    assert_eq!(request.path, "/v1/switchboard/api%20work/switch");
}

#[test]
fn in_a_pipe_one_line_waits_for_the_answer_to_the_one_before() {
    let mut plain = here(false);
    assert!(plain.wants_line());
    let todo = line(&mut plain, "hello");
    assert_eq!(said(&todo), ["you: hello"]);
    let (tag, request) = sent(&todo);
    assert_eq!(request.body, Some(json!({ "session": KEY, "message": "hello", "id": "n-1" })));
    assert!(!plain.wants_line());
    plain.hear(Hear::Answer(tag, ok(json!({}))));
    assert!(!plain.wants_line(), "its entry has not come by");
    let accepted = json!({ "seq": 8, "message_id": "n-1", "text": "hello" });
    assert!(said(&event(&mut plain, "message.accepted", accepted)).is_empty());
    assert!(!plain.wants_line(), "it is not answered");
    assert!(plain.hear(Hear::Line(String::new())).is_empty());
    let todo = event(
        &mut plain,
        "turn.completed",
        json!({ "seq": 9, "messages": [8], "reply": "hi\nthere" }),
    );
    assert_eq!(said(&todo), ["agent: hi\n  there"]);
    assert_eq!(sent(&todo).1.body, Some(json!({ "seq": 9 })));
    assert!(plain.wants_line());
    assert_eq!(plain.hear(Hear::End), [Do::Leave(DONE)]);
}

#[test]
fn a_question_is_answered_by_the_next_line() {
    let mut plain = here(false);
    say(&mut plain, "pay it back", 8);
    let asked = json!({ "seq": 9, "text": "Which order?", "question_id": 1 });
    assert_eq!(
        said(&event(&mut plain, "turn.waiting_for_input", asked)),
        ["question: Which order?"]
    );
    assert!(plain.wants_line());
    say(&mut plain, "17", 10);
    assert!(!plain.wants_line());
    event(&mut plain, "turn.answered", json!({ "seq": 11, "message": 10 }));
    assert!(!plain.wants_line());
    event(&mut plain, "turn.completed", json!({ "seq": 12, "messages": [8, 10], "reply": "done" }));
    assert!(plain.wants_line());
    assert_eq!(plain.hear(Hear::End), [Do::Leave(DONE)]);
}

#[test]
fn an_answer_names_its_question_and_what_is_said_behind_it_none() {
    let mut plain = here(true);
    let asked = |id: u64| json!({ "seq": 8 + id, "text": "Which?", "question_id": id });
    let question = |todo: &[Do]| sent(todo).1.body.unwrap()["question_id"].clone();
    event(&mut plain, "turn.waiting_for_input", asked(1));
    let todo = line(&mut plain, "17");
    assert_eq!(question(&todo), 1);
    // Too much already: the next line is the answer still.
    let refused = |status, kind: &str| {
        let (kind, detail) = (kind.to_owned(), "no".to_owned());
        Err(Failure::Refused { status, kind, detail })
    };
    plain.hear(Hear::Answer(sent(&todo).0, refused(429, "rate-limited")));
    let todo = line(&mut plain, "17");
    assert_eq!(question(&todo), 1);
    // Somebody else answered meanwhile, and it waits for something else.
    event(&mut plain, "turn.answered", json!({ "seq": 10 }));
    event(&mut plain, "turn.waiting_for_input", asked(2));
    let todo = plain.hear(Hear::Answer(sent(&todo).0, refused(409, "question-not-open")));
    assert_eq!(noted(&todo), ["not taken: no"]);
    let todo = line(&mut plain, "the red one");
    assert_eq!(question(&todo), 2);
    line(&mut plain, "and quickly");
    let todo = plain.hear(Hear::Answer(sent(&todo).0, ok(json!({}))));
    assert_eq!(question(&todo), json!(null));
    // A question that was open before anybody came is known by its row.
    let (tag, _) = sent(&line(&mut plain, "/switch 4"));
    let mut row = other_row();
    row["waiting"] = json!({ "kind": "approval", "text": "May I?", "question_id": 5 });
    arrive(&mut plain, tag, row);
    plain.hear(Hear::Answer(sent(&todo).0, ok(json!({}))));
    assert_eq!(question(&line(&mut plain, "y")), 5);
}

#[test]
fn the_end_of_the_input_tells_what_is_open() {
    let mut plain = here(false);
    say(&mut plain, "pay it back", 8);
    assert!(plain.hear(Hear::End).is_empty(), "the answer is waited for");
    let todo = event(&mut plain, "turn.waiting_for_input", json!({ "seq": 9, "text": "Which?" }));
    assert_eq!(todo.last(), Some(&Do::Leave(ASKED)));
    let mut plain = here(false);
    say(&mut plain, "pay it back", 8);
    plain.hear(Hear::End);
    let todo =
        event(&mut plain, "turn.failed", json!({ "seq": 9, "messages": [8], "error": "no shop" }));
    assert_eq!(noted(&todo), ["the turn failed: no shop; see `turnkeep deadletters`"]);
    assert_eq!(todo.last(), Some(&Do::Leave(FAILED)));
}

#[test]
fn a_lost_message_goes_out_again_under_its_id() {
    let mut plain = here(true);
    let (tag, first) = sent(&line(&mut plain, "hello"));
    let lost = Failure::Unreachable("it hung up".into());
    let todo = plain.hear(Hear::Answer(tag, Err(lost)));
    assert_eq!(todo, [Do::Note("connection lost: it hung up; trying again".into())]);
    let todo = plain.hear(Hear::Stream(KEY.into(), Told::Stands));
    assert_eq!(noted(&todo), ["connected again"]);
    assert_eq!(sent(&todo).1, first);
    // Said while the first one was on its way: it keeps its place.
    assert!(line(&mut plain, "second").is_empty());
    let (tag, _) = sent(&todo);
    let (_, second) = sent(&plain.hear(Hear::Answer(tag, ok(json!({})))));
    assert_eq!(second.body.unwrap()["id"], "n-2");
}

#[test]
fn a_server_that_stays_away_is_given_up_where_nobody_types() {
    let waits = |interactive| {
        let mut plain = here(interactive);
        let why = Told::Lost { why: "gone".into(), retry_ms: 250 };
        plain.hear(Hear::Stream(KEY.into(), why));
        let ticks = (0..AWAY_TICKS_MAX).flat_map(|_| plain.hear(Hear::Tick));
        ticks.filter(|one| matches!(one, Do::Leave(_))).collect::<Vec<_>>()
    };
    assert_eq!(waits(false), [Do::Leave(FAILED)]);
    assert_eq!(waits(true), []);
}

#[test]
fn what_is_refused_is_not_sent_again() {
    let mut plain = here(false);
    let (tag, _) = sent(&line(&mut plain, "hello"));
    let refused =
        Failure::Refused { status: 409, kind: String::new(), detail: "it is closed".into() };
    let todo = plain.hear(Hear::Answer(tag, Err(refused)));
    assert_eq!(noted(&todo), ["not taken: it is closed"]);
    assert_eq!(plain.hear(Hear::End), [Do::Leave(FAILED)]);
}

#[test]
fn a_backslash_goes_on_in_the_next_line() {
    let mut plain = here(true);
    assert!(line(&mut plain, "one\\").is_empty());
    let (_, request) = sent(&line(&mut plain, "two"));
    assert_eq!(request.body.unwrap()["message"], "one\ntwo");
    assert!(line(&mut plain, "").is_empty());
}

#[test]
fn slashes_are_commands_and_two_are_one() {
    let check = |typed: &str, path: &str, body: Value| {
        let mut plain = here(true);
        let (_, request) = sent(&line(&mut plain, typed));
        assert_eq!(request.path, path, "{typed}");
        assert_eq!(request.body.unwrap_or_default(), body, "{typed}");
    };
    let board = "/v1/switchboard";
    let row = format!("{board}/{}", segment(KEY));
    let session = format!("/v1/sessions/{}", segment(KEY));
    check("/new api work", board, json!({ "seat": "t1", "name": "api work" }));
    check("/switch 4", &format!("{board}/4/switch"), json!({ "seat": "t1" }));
    check("/rename x", &format!("{row}/name"), json!({ "name": "x" }));
    check("/rename", &format!("{row}/name"), json!({ "name": null }));
    check("/stop", &format!("{session}/stop"), json!({}));
    check("/reset", &format!("{session}/new"), json!({}));
    check("/close", &format!("{row}/close"), json!({ "seat": "t1" }));
    check("/sessions", "/v1/switchboard?limit=100", json!(null));
    check("//stop", "/v1/chat", json!({ "session": KEY, "message": "/stop", "id": "n-1" }));
    let mut plain = here(true);
    assert_eq!(noted(&line(&mut plain, "/nwe")).len(), 1);
    assert!(noted(&line(&mut plain, "/switch"))[0].contains("takes a number"));
    assert_eq!(line(&mut plain, "/quit"), [Do::Leave(FAILED - 1)]);
}

#[test]
fn closing_goes_on_in_the_next_one() {
    let mut plain = here(true);
    let (tag, _) = sent(&line(&mut plain, "/close"));
    let mut next = row();
    next["number"] = 2.into();
    next["name"] = Value::Null;
    next["state"] = "waiting_for_input".into();
    next["waiting"] = json!({ "kind": "approval", "text": "May I pay?" });
    let todo = plain.hear(Hear::Answer(tag, ok(json!({ "closed": row(), "next": next }))));
    assert_eq!(
        noted(&todo),
        [
            "session 3 \"api work\" is closed",
            "session 2: waiting for input",
            "it waits for you: May I pay?"
        ]
    );
    assert!(plain.asked);
}

#[test]
fn what_was_missed_is_told_first() {
    let mut plain = plain(false);
    let (tag, _) = sent(&plain.begin());
    let (tag, _) = sent(&plain.hear(Hear::Answer(tag, ok(json!({ "active": 3 })))));
    let mut row = row();
    row["read_seq"] = 5.into();
    row["channel"] = "terminal".into();
    row["customer_id"] = "a1".into();
    let todo = arrive(&mut plain, tag, row);
    assert!(todo.contains(&Do::Follow(KEY.into(), 5)), "{todo:?}");
    assert!(!plain.wants_line());
    let said_by_user = json!({ "seq": 6, "message_id": "x", "sender": "a1", "text": "hello" });
    assert_eq!(said(&event(&mut plain, "message.accepted", said_by_user)), ["user: hello"]);
    assert!(!plain.wants_line());
    event(&mut plain, "turn.started", json!({ "seq": 7 }));
    assert!(plain.wants_line());
    // Where the last entries are not for this asker, a second is enough.
    plain.missed_to = Some(9);
    plain.hear(Hear::Tick);
    assert!(plain.wants_line());
}

#[test]
fn others_are_told_apart_and_nothing_steers() {
    let mut plain = here(true);
    let check = |plain: &mut Plain, name: &str, data: Value, expect: &str| {
        assert_eq!(said(&event(plain, name, data)), [expect], "{name}");
    };
    let accepted =
        json!({ "seq": 8, "message_id": "x", "sender": "bert", "text": "and\u{1b}[2Jme" });
    check(&mut plain, "message.accepted", accepted, "bert: and␛[2Jme");
    let notice = json!({ "seq": 9, "text": "the parcel\ncomes", "source": "unasked" });
    check(&mut plain, "session.notice", notice, "notice: the parcel\n  comes");
    let person = json!({ "seq": 10, "messages": [8], "reply": "hello", "by": "Olga" });
    check(&mut plain, "turn.completed", person, "operator Olga: hello");
}
