//! What somebody else does while somebody types here: sessions close, seats move, numbers change.

use serde_json::json;
use turnkeep_terminal::crossterm::event::{KeyCode, KeyModifiers};
use turnkeep_terminal::ports::{Incoming, Link, Options};

use super::desk::{Desk, but, options, refused, row, waits};

fn lose(desk: &mut Desk) {
    desk.on(Incoming::Link(Link::Down { why: "gone".to_owned(), retry_ms: 250 }));
}

#[test]
fn what_was_begun_for_a_session_that_closed_is_not_sent_to_the_next() {
    let mut desk = Desk::among(100, 24, &[row(1, "a"), waits(2, "b", "approval", "May I?")]);
    desk.types("please do");
    desk.board(json!({ "active": 2, "sessions": [], "gone": [1] }));
    assert_eq!(desk.app.shown_session(), Some("k2"));
    desk.sees("closed elsewhere");
    desk.asked();
    desk.types(" not");
    desk.press(KeyCode::Enter);
    assert_eq!(desk.asked(), Vec::<String>::new());
    desk.sees("Enter again sends this to 2 b");
    desk.press(KeyCode::Up);
    desk.sees("! please do");
    desk.press(KeyCode::Down);
    desk.sees("!  not");
    desk.press(KeyCode::Enter);
    assert_eq!(desk.asked(), [r#"POST /v1/chat {"id":"n-1","message":" not","session":"k2"}"#]);
}

#[test]
fn keys_that_were_on_their_way_do_nothing_to_the_next_session() {
    let gone = |desk: &mut Desk| desk.board(json!({ "active": 2, "sessions": [], "gone": [1] }));
    let rows = [row(1, "a"), waits(2, "b", "approval", "May I?")];
    // A yes to the first one's question.
    let mut desk = Desk::among(100, 24, &rows);
    gone(&mut desk);
    desk.asked();
    desk.later(250);
    desk.enters("y");
    assert_eq!(desk.asked(), Vec::<String>::new());
    desk.control('u');
    // Stopping, and commands about this session.
    for typed in ["/close", "/reset", "/rename x", "/stop"] {
        let mut desk = Desk::among(100, 24, &rows);
        gone(&mut desk);
        desk.asked();
        desk.enters(typed);
        assert_eq!(desk.asked(), Vec::<String>::new(), "{typed}");
        desk.sees(&format!("! {typed}"));
        desk.press(KeyCode::Enter);
        assert_eq!(desk.asked().len(), 1, "{typed}");
    }
    let mut desk = Desk::among(100, 24, &rows);
    gone(&mut desk);
    desk.asked();
    desk.control('x');
    assert_eq!(desk.asked(), Vec::<String>::new());
    desk.sees("Ctrl-X again stops the turn of 2 b");
    desk.control('x');
    assert_eq!(desk.asked(), ["POST /v1/sessions/k2/stop {}"]);
    // Who comes later, or goes somewhere, means what is shown.
    let mut desk = Desk::among(100, 24, &rows);
    gone(&mut desk);
    desk.later(5_000);
    desk.asked();
    desk.enters("y");
    assert_eq!(desk.asked().len(), 1);
    let mut desk = Desk::among(100, 24, &[row(1, "a"), row(2, "b"), row(3, "c")]);
    gone(&mut desk);
    desk.chord(KeyCode::Down, KeyModifiers::ALT);
    desk.asked();
    desk.enters("y");
    assert_eq!(desk.asked(), [r#"POST /v1/chat {"id":"n-1","message":"y","session":"k3"}"#]);
    // So does the second terminal of a seat: the first one moves with it.
    let mut desk = Desk::among(100, 24, &rows);
    desk.board(json!({ "active": 2, "sessions": [] }));
    desk.asked();
    desk.enters("y");
    assert_eq!(desk.asked(), Vec::<String>::new());
    desk.sees("this seat went elsewhere; Enter again sends this to 2 b");
}

#[test]
fn texts_of_sessions_that_are_gone_come_back_with_up() {
    let mut desk = Desk::among(100, 24, &[row(1, "a"), row(2, "b"), row(3, "c")]);
    desk.types("a draft");
    desk.chord(KeyCode::Down, KeyModifiers::ALT);
    desk.answer("/switch", Ok(row(2, "b")));
    desk.board(json!({ "active": 2, "sessions": [], "gone": [1] }));
    desk.sees("Up brings back");
    desk.press(KeyCode::Up);
    desk.sees("› a draft");
    desk.press(KeyCode::Down);
    // What waited to be sent, too.
    lose(&mut desk);
    desk.enters("one");
    desk.enters("two");
    desk.board(json!({ "active": 3, "sessions": [], "gone": [2] }));
    desk.sees("the session was closed before this was sent: one / two");
    desk.press(KeyCode::Up);
    desk.sees("› two");
    desk.press(KeyCode::Up);
    desk.sees("› one");
}

#[test]
fn a_request_that_fails_for_a_session_that_is_gone_opens_nothing_again() {
    let mut desk = Desk::among(100, 24, &[row(1, "a"), row(2, "b")]);
    desk.enters("hello");
    desk.board(json!({ "active": 2, "sessions": [], "gone": [1] }));
    desk.answer("/v1/chat", Err(refused(503, "", "not now")));
    desk.later(60_000);
    assert!(!desk.asked().iter().any(|asked| asked.contains("/v1/chat")));
    desk.press(KeyCode::Up);
    desk.sees("› hello");
}

#[test]
fn what_is_typed_while_a_session_begins_goes_along() {
    let mut desk = Desk::among(100, 24, &[]);
    desk.enters("hello");
    desk.types("and mo");
    desk.answer("/v1/switchboard", Ok(row(5, "")));
    desk.types("re");
    desk.sees("› and more");
    desk.press(KeyCode::Enter);
    desk.answer("/v1/chat", Ok(json!({})));
    let last = r#"POST /v1/chat {"id":"n-2","message":"and more","session":"k5"}"#;
    assert_eq!(desk.asked().last().map(String::as_str), Some(last));
}

#[test]
fn a_session_that_cannot_be_begun_gives_back_all_texts() {
    let mut desk = Desk::among(100, 24, &[]);
    desk.enters("one");
    desk.enters("two");
    desk.answer("/v1/switchboard", Err(refused(422, "", "no agent")));
    desk.sees("no session begun: no agent");
    desk.sees("› one");
    desk.sees("  two");
    let mut desk = Desk::among(100, 24, &[]);
    desk.enters("one");
    desk.types("two");
    desk.answer("/v1/switchboard", Err(refused(422, "", "no agent")));
    desk.sees("no session begun: no agent: one");
    desk.sees("› two");
    desk.press(KeyCode::Up);
    desk.sees("› one");
    // Its answer may be about one that is gone already.
    let mut desk = Desk::among(100, 24, &[]);
    desk.enters("one");
    desk.board(json!({ "active": null, "sessions": [], "gone": [5] }));
    desk.answer("/v1/switchboard", Ok(row(5, "")));
    desk.sees("› one");
    desk.sees("no session begun");
}

#[test]
fn an_active_session_is_shown_once_its_row_is_there() {
    let mut desk = Desk::among(100, 24, &[row(1, "a")]);
    desk.board(json!({ "active": 2, "sessions": [] }));
    assert_eq!(desk.app.shown_session(), Some("k1"));
    desk.board(json!({ "active": 2, "sessions": [row(2, "b")] }));
    assert_eq!(desk.app.shown_session(), Some("k2"));
}

#[test]
fn a_number_that_means_another_session_by_now_does_nothing_to_that() {
    let mut desk = Desk::among(100, 24, &[row(3, "a"), row(4, "b")]);
    desk.said("hello", "hi");
    // Another store behind the same address.
    let other = but(row(3, "other"), &json!({ "session": "k33", "unread": 1, "last_seq": 2 }));
    desk.board(json!({ "whole": true, "active": null, "sessions": [other] }));
    assert_ne!(desk.app.shown_session(), Some("k3"));
    desk.sees_no("hello");
    desk.asked();
    desk.enters("/close");
    assert_eq!(desk.asked(), Vec::<String>::new());
    // The same sessions under other numbers go on.
    let mut desk = Desk::among(100, 24, &[row(3, "a"), row(4, "b")]);
    let moved = but(row(4, "a"), &json!({ "session": "k3" }));
    let other = but(row(3, "b"), &json!({ "session": "k4" }));
    desk.board(json!({ "whole": true, "active": null, "sessions": [other, moved] }));
    assert_eq!(desk.app.shown_session(), Some("k3"));
    desk.sees("to 4 a");
    desk.asked();
    desk.enters("/close");
    assert_eq!(desk.asked(), [r#"POST /v1/switchboard/k3/close {"seat":"t1"}"#]);
}

#[test]
fn what_is_asked_of_the_switchboard_names_the_session() {
    let unread = but(row(1, "a"), &json!({ "unread": 1, "last_seq": 2 }));
    let mut desk = Desk::among(100, 24, &[row(1, "a"), row(2, "b")]);
    desk.said("hello", "hi");
    desk.board(json!({ "active": 1, "sessions": [unread] }));
    assert_eq!(desk.asked(), [r#"POST /v1/switchboard/k1/read {"seq":2}"#]);
    desk.chord(KeyCode::Down, KeyModifiers::ALT);
    let asked = desk.asked();
    assert!(asked.contains(&r#"POST /v1/switchboard/k2/switch {"seat":"t1"}"#.to_owned()));
}

#[test]
fn where_the_session_that_was_named_is_not_there_another_one_is_shown() {
    let named = || Options { session: Some("nope".to_owned()), ..options() };
    let none = || Err(refused(404, "", "there is no session nope"));
    let mut desk = Desk::with(100, 24, named());
    desk.on(Incoming::Link(Link::Up));
    desk.board(json!({ "whole": true, "active": null, "sessions": [row(1, "a"), row(2, "b")] }));
    desk.answer("/nope/switch", none());
    desk.sees("not switched: there is no session nope");
    assert_eq!(desk.app.shown_session(), Some("k2"));
    // The seat's own, if it has one.
    let mut desk = Desk::with(100, 24, named());
    desk.on(Incoming::Link(Link::Up));
    desk.board(json!({ "whole": true, "active": 1, "sessions": [row(1, "a"), row(2, "b")] }));
    desk.answer("/nope/switch", none());
    assert_eq!(desk.app.shown_session(), Some("k1"));
    // The answer may be first.
    let mut desk = Desk::with(100, 24, named());
    desk.on(Incoming::Link(Link::Up));
    desk.answer("/nope/switch", none());
    desk.board(json!({ "whole": true, "active": null, "sessions": [row(1, "a"), row(2, "b")] }));
    assert_eq!(desk.app.shown_session(), Some("k2"));
}

#[test]
fn a_worktree_that_stays_is_told() {
    let close = |worktree: &str| {
        let mut desk = Desk::among(80, 24, &[row(1, "a"), row(2, "b")]);
        desk.enters("/close");
        let body = json!({ "closed": row(1, "a"), "next": row(2, "b"), "worktree": worktree });
        desk.answer("/close", Ok(body));
        desk
    };
    let mut desk = close(
        "/var/lib/turnkeep/worktrees/coder/0123456789ab stays: 3 files are changed and in no commit",
    );
    desk.sees("session 1 is closed");
    desk.sees("stays: 3 files are changed");
    desk.press(KeyCode::Esc);
    desk.sees_no("stays: 3 files are changed");
    let mut desk = close("/w/1 was removed");
    desk.sees("/w/1 was removed");
}

#[test]
fn the_turn_that_is_seen_is_stopped_and_no_other() {
    let mut desk = Desk::among(80, 24, &[row(1, "a")]);
    desk.journal("turn.processing", json!({ "turn_id": "t7", "attempt": 1, "messages": [] }));
    desk.control('x');
    let sent = desk.effects.clone();
    assert_eq!(desk.asked(), [r#"POST /v1/sessions/k1/stop {"turn_id":"t7"}"#]);
    desk.effects = sent;
    desk.answer("/stop", Ok(json!({ "result": "other_turn", "turn_id": "t8" })));
    desk.sees("that turn is over; another one runs: Ctrl-X stops that");
}
