//! Who speaks where a person has the agent's place: what is typed is sent as what it was typed for.

use serde_json::{Value, json};
use turnkeep_terminal::crossterm::event::{KeyCode, KeyModifiers};
use turnkeep_terminal::ports::{Failure, Incoming, Link};

use super::desk::{Desk, but, refused, row};

const REPLY: &str = r#"POST /v1/sessions/k4/reply {"id":"n-1","text":"I look into it"}"#;
const CHAT: &str = r#"POST /v1/chat {"id":"n-1","message":"I look into it","session":"k4"}"#;

fn anna() -> Value {
    but(row(4, ""), &json!({ "customer_id": "anna", "channel": "web", "last_seq": 1000 }))
}

fn lose(desk: &mut Desk) {
    desk.on(Incoming::Link(Link::Down { why: "gone".to_owned(), retry_ms: 250 }));
}

/// Anna's session, which Olga paused long ago.
fn paused() -> Desk {
    let mut desk = Desk::new(80, 24);
    desk.journal_end = 1000;
    desk.operators.insert("k4".to_owned(), "Olga");
    desk.seated(&[anna(), row(5, "b")])
}

#[test]
fn who_paused_it_long_ago_is_known() {
    let mut desk = paused();
    desk.sees("Olga answers for default");
    desk.sees("answer in the agent's place");
    desk.sees_no(" as anna ");
    desk.enters("I look into it");
    assert_eq!(desk.asked(), [REPLY]);
    // What older entries tell is older than that.
    desk.journal_at(700, "session.paused", json!({ "by": "Otto" }));
    desk.journal_at(710, "session.handed_back", json!({}));
    desk.sees("Olga answers for default");
    // What comes from now on isn't.
    desk.journal_at(1001, "session.handed_back", json!({}));
    desk.sees_no("Olga answers");
    desk.sees(" as anna ");
}

#[test]
fn nothing_is_sent_before_it_is_known_who_speaks() {
    let mut desk = Desk::new(80, 24);
    desk.tells_operators = false;
    let mut desk = desk.seated(&[anna()]);
    desk.enters("I look into it");
    assert_eq!(desk.asked(), Vec::<String>::new());
    desk = Desk::new(80, 24);
    desk.tells_operators = false;
    desk.operators.insert("k4".to_owned(), "Olga");
    desk.on(Incoming::Link(Link::Up));
    desk.board(json!({ "whole": true, "active": 4, "sessions": [anna()] }));
    desk.enters("I look into it");
    desk.tell_operators();
    // It was typed as what Anna says.
    desk.sees("not sent: Olga has the agent's place by now");
    desk.sees("@ I look into it");
    desk.asked();
    desk.press(KeyCode::Enter);
    assert_eq!(desk.asked(), [REPLY.replace("n-1", "n-2")]);
    // Where that can't be told, what the conversation says counts.
    let mut desk = Desk::new(80, 24);
    desk.tells_operators = false;
    desk.on(Incoming::Link(Link::Up));
    desk.board(json!({ "whole": true, "active": 4, "sessions": [anna()] }));
    desk.enters("I look into it");
    desk.answer("/v1/sessions/k4", Err(Failure::Unreachable("gone".to_owned())));
    assert!(!desk.asked().contains(&CHAT.to_owned()));
    desk.later(2_000);
    desk.answer("/v1/sessions/k4", Err(refused(404, "", "nobody wrote there")));
    assert_eq!(desk.asked().last().map(String::as_str), Some(CHAT));
}

#[test]
fn a_reply_that_waited_is_not_said_by_the_user() {
    let mut desk = paused();
    lose(&mut desk);
    desk.enters("I look into it");
    desk.operators.clear();
    desk.on(Incoming::Link(Link::Up));
    assert_eq!(desk.asked(), Vec::<String>::new());
    desk.sees("not sent: the agent has its place again");
    desk.sees("I look into it");
    // Also where another session is shown by then.
    let mut desk = paused();
    lose(&mut desk);
    desk.enters("I look into it");
    desk.chord(KeyCode::Down, KeyModifiers::ALT);
    desk.asked();
    desk.operators.clear();
    desk.on(Incoming::Link(Link::Up));
    assert_eq!(desk.asked(), Vec::<String>::new());
    desk.sees("not sent to 4 anna@web: the agent has its place again");
    // Where nothing changed it goes out.
    let mut desk = paused();
    lose(&mut desk);
    desk.enters("I look into it");
    desk.chord(KeyCode::Down, KeyModifiers::ALT);
    desk.asked();
    desk.on(Incoming::Link(Link::Up));
    assert_eq!(desk.asked(), [REPLY]);
}

#[test]
fn a_message_that_was_tried_goes_the_same_way_again() {
    let mut desk = paused();
    desk.enters("I look into it");
    desk.answer("/reply", Err(Failure::Unreachable("gone".to_owned())));
    lose(&mut desk);
    desk.operators.clear();
    desk.on(Incoming::Link(Link::Up));
    assert_eq!(desk.asked(), [REPLY]);
    let mut desk = Desk::among(80, 24, &[anna()]);
    desk.enters("I look into it");
    desk.answer("/v1/chat", Err(Failure::Unreachable("gone".to_owned())));
    lose(&mut desk);
    desk.operators.insert("k4".to_owned(), "Olga");
    desk.on(Incoming::Link(Link::Up));
    assert_eq!(desk.asked(), [CHAT]);
}
