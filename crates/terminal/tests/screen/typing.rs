//! What keys and commands ask of the server.

use serde_json::json;
use turnkeep_terminal::crossterm::event::{KeyCode, KeyModifiers};
use turnkeep_terminal::ports::{Failure, Incoming, Link};

use super::desk::{Desk, but, refused, row};

fn desk() -> Desk {
    Desk::among(80, 24, &[row(1, "plans"), row(2, "api work"), row(3, "")])
}

#[track_caller]
fn check(typed: &str, asks: &[&str]) {
    let mut desk = desk();
    desk.tells_operators = false;
    desk.enters(typed);
    assert_eq!(desk.asked(), asks, "{typed}");
}

#[test]
fn a_line_is_a_message() {
    check("hello you", &[r#"POST /v1/chat {"id":"n-1","message":"hello you","session":"k1"}"#]);
    check(
        "//etc is a folder",
        &[r#"POST /v1/chat {"id":"n-1","message":"/etc is a folder","session":"k1"}"#],
    );
    check("   ", &[]);
}

#[test]
fn commands_ask_the_server() {
    check("/new", &[r#"POST /v1/switchboard {"seat":"t1"}"#]);
    check(
        "/new my work --agent coder",
        &[r#"POST /v1/switchboard {"agent_id":"coder","name":"my work","seat":"t1"}"#],
    );
    check("/switch 2", &[r#"POST /v1/switchboard/2/switch {"seat":"t1"}"#]);
    check("/switch \"api work\"", &[r#"POST /v1/switchboard/api%20work/switch {"seat":"t1"}"#]);
    check("/close", &[r#"POST /v1/switchboard/k1/close {"seat":"t1"}"#]);
    check("/close 3", &[r#"POST /v1/switchboard/k3/close {"seat":"t1"}"#]);
    check("/rename new plans", &[r#"PUT /v1/switchboard/k1/name {"name":"new plans"}"#]);
    check("/stop", &["POST /v1/sessions/k1/stop {}"]);
    check("/reset", &["POST /v1/sessions/k1/new {}"]);
    check("/queue collect", &[r#"POST /v1/sessions/k1/queue {"busy_policy":"collect"}"#]);
    check("/queue default", &[r#"POST /v1/sessions/k1/queue {"busy_policy":null}"#]);
    check("/status", &["GET /v1/sessions/k1"]);
    check("/stats", &["GET /v1/switchboard/stats"]);
    check("/model", &[r#"POST /v1/chat {"id":"n-1","message":"/model","session":"k1"}"#]);
    check("/save talk.ndjson", &["save /v1/sessions/k1/file to talk.ndjson"]);
    check("/load \"my talk.ndjson\"", &["load my talk.ndjson to /v1/sessions/file"]);
    check("/quit", &["quit"]);
}

#[test]
fn what_is_no_command_is_explained_and_stays() {
    for (typed, words) in [
        ("/sw 2", "did you mean /switch?"),
        ("/nonsense", "/help lists what there is"),
        ("/switch", "/switch needs NUMBER|NAME|ID"),
        ("/queue fast", "/queue takes one of absorb"),
        ("/stop now", "/stop takes nothing behind it"),
        ("/new --what", "/new knows --agent only"),
    ] {
        let mut desk = desk();
        desk.enters(typed);
        assert_eq!(desk.asked(), Vec::<String>::new(), "{typed}");
        desk.sees(words);
        desk.sees(&format!("› {typed}"));
    }
}

#[test]
fn lines_are_typed_and_pasted_and_sent_as_one() {
    let mut desk = desk();
    desk.types("one");
    desk.chord(KeyCode::Enter, KeyModifiers::ALT);
    desk.types("two");
    desk.control('j');
    desk.pastes("three\r\nfour");
    desk.press(KeyCode::Enter);
    let sent = desk.asked();
    assert_eq!(
        sent,
        [r#"POST /v1/chat {"id":"n-1","message":"one\ntwo\nthree\nfour","session":"k1"}"#]
    );
}

#[test]
fn messages_leave_in_order_and_once() {
    let mut desk = desk();
    desk.enters("first");
    desk.enters("second");
    desk.sees("sending…");
    desk.sees("next…");
    // The server is gone before it answers; nobody knows whether it has the first one.
    desk.answer("/v1/chat", Err(Failure::Unreachable("gone".to_owned())));
    desk.on(Incoming::Link(Link::Down { why: "gone".to_owned(), retry_ms: 250 }));
    desk.later(60_000);
    assert_eq!(desk.asked(), Vec::<String>::new());
    assert_eq!(desk.screen().matches("not sent yet").count(), 2);
    desk.on(Incoming::Link(Link::Up));
    let sent = &desk.effects.clone();
    assert_eq!(desk.asked(), [r#"POST /v1/chat {"id":"n-1","message":"first","session":"k1"}"#]);
    desk.effects.clone_from(sent);
    desk.answer("/v1/chat", Ok(json!({ "duplicate": true })));
    assert_eq!(desk.asked(), [r#"POST /v1/chat {"id":"n-2","message":"second","session":"k1"}"#]);
    // Their events take the place of what was on its way.
    desk.journal(
        "message.accepted",
        json!({ "message_id": "n-1", "sender": "me", "text": "first" }),
    );
    desk.journal(
        "message.accepted",
        json!({ "message_id": "n-2", "sender": "me", "text": "second" }),
    );
    desk.sees_no("sending…");
    assert_eq!(desk.screen().matches("second").count(), 1);
}

#[test]
fn a_refused_message_comes_back_into_the_input() {
    let mut desk = desk();
    desk.enters("too much");
    desk.answer("/v1/chat", Err(refused(429, "queue_full", "the queue is full")));
    desk.sees("not sent: the queue is full");
    desk.sees("› too much");
    // What was typed meanwhile is not written over.
    desk.enters("");
    desk.types("meanwhile");
    desk.answer("/v1/chat", Err(refused(429, "queue_full", "still full")));
    desk.sees("› meanwhile");
    desk.sees("not sent: still full: too much");
    // What waits behind it does not overtake it.
    let mut desk = self::desk();
    desk.enters("first");
    desk.enters("second");
    desk.answer("/v1/chat", Err(refused(429, "queue_full", "the queue is full")));
    desk.sees("› first");
    assert_eq!(desk.asked(), Vec::<String>::new());
}

#[test]
fn a_server_that_is_busy_or_ending_gets_it_later() {
    for status in [408, 500, 503] {
        let mut desk = desk();
        desk.enters("first");
        desk.enters("second");
        desk.answer("/v1/chat", Err(refused(status, "", "not now")));
        desk.sees("not sent yet: not now");
        assert_eq!(desk.asked(), Vec::<String>::new(), "{status}");
        desk.later(2_000);
        let asks = [r#"POST /v1/chat {"id":"n-1","message":"first","session":"k1"}"#];
        assert_eq!(desk.asked(), asks, "{status}");
    }
}

#[test]
fn without_a_session_a_message_begins_one() {
    let mut desk = Desk::among(80, 24, &[]);
    desk.enters("hello");
    desk.answer("/v1/switchboard", Ok(row(5, "")));
    let asked = desk.asked();
    assert_eq!(asked.first().map(String::as_str), Some("follow k5 behind 0"));
    assert_eq!(
        asked.last().map(String::as_str),
        Some(r#"POST /v1/chat {"id":"n-1","message":"hello","session":"k5"}"#)
    );
    let mut desk = Desk::among(80, 24, &[]);
    desk.enters("hello");
    desk.answer("/v1/switchboard", Err(refused(422, "", "no agent")));
    desk.sees("no session begun: no agent");
    desk.sees("› hello");
}

#[test]
fn a_person_in_the_agents_place_answers_as_such() {
    let mut desk = Desk::among(
        80,
        24,
        &[but(row(4, ""), &json!({ "customer_id": "anna", "channel": "web" }))],
    );
    desk.sees("as anna in 4 anna@web");
    desk.journal("session.paused", json!({ "by": "Olga" }));
    desk.sees("Olga answers for default");
    desk.enters("I look into it");
    assert_eq!(
        desk.asked(),
        [r#"POST /v1/sessions/k4/reply {"id":"n-1","text":"I look into it"}"#]
    );
    desk.journal("session.handed_back", json!({}));
    desk.sees("the agent has its place again");
}

#[test]
fn leaving_takes_two() {
    let mut desk = desk();
    desk.control('c');
    assert_eq!(desk.asked(), Vec::<String>::new());
    desk.sees("Ctrl-C again leaves");
    desk.later(5_000);
    desk.control('c');
    assert_eq!(desk.asked(), Vec::<String>::new(), "too late to be the second one");
    desk.types("x");
    desk.control('c');
    assert_eq!(desk.asked(), Vec::<String>::new(), "something was typed between");
    desk.control('c');
    assert_eq!(desk.asked(), ["quit"]);
}

#[test]
fn a_turn_is_stopped_while_it_runs() {
    let mut desk = desk();
    desk.journal("turn.processing", json!({ "turn_id": "t", "attempt": 1, "messages": [] }));
    desk.control('x');
    desk.answer("/stop", Ok(json!({ "result": "stopped" })));
    desk.sees("stopped");
}

#[test]
fn what_is_not_sent_stays_with_its_session() {
    let mut desk = desk();
    desk.types("for the first");
    desk.chord(KeyCode::Char('2'), KeyModifiers::ALT);
    desk.sees_no("for the first");
    desk.enters("for the second");
    desk.chord(KeyCode::Char('1'), KeyModifiers::ALT);
    desk.sees("› for the first");
    desk.control('u');
    desk.press(KeyCode::Up);
    desk.sees_no("› for the second");
    desk.chord(KeyCode::Char('2'), KeyModifiers::ALT);
    desk.press(KeyCode::Up);
    desk.sees("› for the second");
}

#[test]
fn tab_completes_commands_and_names() {
    let mut desk = desk();
    desk.types("/sw");
    desk.press(KeyCode::Tab);
    desk.types("ap");
    desk.press(KeyCode::Tab);
    desk.sees("› /switch \"api work\"");
    desk.press(KeyCode::Enter);
    assert_eq!(desk.asked(), [r#"POST /v1/switchboard/api%20work/switch {"seat":"t1"}"#]);
    desk.types("/s");
    desk.press(KeyCode::Tab);
    desk.press(KeyCode::Tab);
    desk.sees("› /sessions");
    desk.press(KeyCode::BackTab);
    desk.sees("› /switch");
}

#[test]
fn answers_to_commands_are_told() {
    let mut desk = desk();
    desk.enters("/rename other");
    desk.answer("/name", Err(refused(409, "name_taken", "another session has that name")));
    desk.sees("not renamed: another session has that name");
    desk.enters("/rename third");
    desk.answer("/name", Ok(row(1, "third")));
    desk.sees("this is 1 third now");
    desk.enters("/save a.ndjson");
    desk.answer("/file", Ok(json!({ "bytes": 1234 })));
    desk.sees("saved 1234 bytes to a.ndjson");
    desk.enters("/save a.ndjson");
    desk.answer("/file", Err(Failure::File("a.ndjson is there already".to_owned())));
    desk.sees("not saved: a.ndjson is there already");
    desk.tells_operators = false;
    desk.enters("/status");
    desk.answer(
        "/v1/sessions/k1",
        Ok(json!({ "session": "k1", "state": "waiting_for_input", "queued": 2 })),
    );
    desk.sees("waiting for input");
    desk.press(KeyCode::Esc);
    desk.enters("/stats");
    desk.answer("/stats", Ok(json!({ "sessions": { "total": 3 }, "resources": { "buffer_bytes": 12, "open_files": null }, "limits": { "runs": null }, "most_open": [{ "number": 7, "open_files": null }, { "number": 2, "open_files": 31 }], "recommendations": [{ "code": "c", "text": "close some" }] })));
    desk.sees("close some");
    for (name, number) in
        [("runs", "none"), ("open files", "unknown"), ("session 7", "unknown"), ("session 2", "31")]
    {
        desk.sees(&format!("{name:<26}{number}"));
    }
}

#[test]
fn a_yes_goes_to_the_question_that_was_read_and_no_other() {
    let asks = |id: u64, text: &str| {
        let waiting = json!({ "kind": "approval", "text": text, "question_id": id });
        but(row(1, "a"), &json!({ "state": "waiting_for_input", "waiting": waiting }))
    };
    let away = || Incoming::Link(Link::Down { why: "gone".to_owned(), retry_ms: 250 });
    let mut desk = Desk::among(80, 24, &[asks(7, "May I look?")]);
    desk.enters("y");
    let yes = r#"POST /v1/chat {"id":"n-1","message":"y","question_id":7,"session":"k1"}"#;
    assert_eq!(desk.asked_later(), [yes]);
    // What is said behind it answers nothing.
    desk.enters("and be quick");
    desk.answer("/v1/chat", Ok(json!({})));
    let more = r#"POST /v1/chat {"id":"n-2","message":"and be quick","session":"k1"}"#;
    assert_eq!(desk.asked(), [more]);
    // Somebody was quicker.
    let mut desk = Desk::among(80, 24, &[asks(7, "May I look?")]);
    desk.enters("y");
    let late = "the question that this was to answer is not open";
    desk.answer("/v1/chat", Err(refused(409, "question-not-open", late)));
    desk.sees("not sent: the question that this was to answer is not open");
    desk.sees("! y  ");
    let mut desk = Desk::among(80, 24, &[asks(7, "May I look?")]);
    desk.on(away());
    desk.enters("y");
    desk.on(Incoming::Link(Link::Up));
    assert_eq!(desk.asked(), Vec::<String>::new(), "nobody knows yet what is asked now");
    desk.board(json!({ "whole": true, "active": 1, "sessions": [asks(9, "May I delete it?")] }));
    assert_eq!(desk.asked(), Vec::<String>::new());
    desk.sees("not sent: another question is open by now");
    desk.sees_no("then Enter");
    // The same one, or nothing new: it goes out.
    let mut desk = Desk::among(80, 24, &[asks(7, "")]);
    desk.on(away());
    desk.enters("y");
    desk.on(Incoming::Link(Link::Up));
    desk.later(1_000);
    assert_eq!(desk.asked(), [yes]);
}
