//! Which session is shown, what is followed, who is rung for, and what is marked as read.

use serde_json::json;
use turnkeep_terminal::crossterm::event::{
    Event, KeyCode, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};
use turnkeep_terminal::ports::{Failure, Incoming, Link, Options};

use super::desk::{Desk, but, options, refused, row, waits};

#[test]
fn the_active_session_is_shown_and_followed() {
    let mut desk = Desk::new(80, 24);
    desk.on(Incoming::Link(Link::Up));
    desk.board(json!({ "whole": true, "active": 2, "sessions": [row(1, "a"), but(row(2, "b"), &json!({ "last_seq": 1000 }))] }));
    assert_eq!(desk.asked(), ["follow k2 behind 600"]);
}

#[test]
fn the_first_sessions_are_shown_before_all_are_known() {
    let page = |active: u32| json!({ "active": active, "unread": 3, "sessions": [row(1, "a"), waits(2, "b", "question", "?")] });
    let begun = |options: Options| {
        let mut desk = Desk::with(80, 24, options);
        desk.on(Incoming::Link(Link::Connecting));
        assert_eq!(desk.asked_later(), ["GET /v1/switchboard?limit=100&seat=t1"]);
        desk
    };
    let mut desk = begun(options());
    desk.answer("limit=100", Ok(page(1)));
    assert_eq!(desk.asked(), ["follow k1 behind 0"]);
    desk.sees("? asks");
    // All of them come, and nothing is begun anew; nobody is rung for what waited before.
    desk.on(Incoming::Link(Link::Up));
    let rows = [row(1, "a"), waits(2, "b", "question", "?"), row(3, "c")];
    desk.board(json!({ "whole": true, "active": 1, "sessions": rows }));
    assert_eq!((desk.asked(), desk.app.shown_session()), (Vec::new(), Some("k1")));
    desk.sees("3 sessions");
    // The active one is further behind.
    let mut desk = begun(options());
    desk.answer("limit=100", Ok(page(700)));
    assert_eq!(desk.asked_later(), ["GET /v1/switchboard/700"]);
    desk.answer("/700", Ok(row(700, "far")));
    assert_eq!(desk.app.shown_session(), Some("k700"));
    // The seat went elsewhere since; what was being typed goes nowhere by itself.
    let mut desk = begun(options());
    desk.answer("limit=100", Ok(page(1)));
    desk.types("for a only");
    desk.on(Incoming::Link(Link::Up));
    desk.board(json!({ "whole": true, "active": 2, "sessions": [row(1, "a"), row(2, "b")] }));
    desk.asked();
    desk.enters("y");
    assert_eq!(desk.asked(), Vec::<String>::new());
    desk.sees("this seat went elsewhere");
    // What comes too late says nothing, nor does an answer that is none.
    let mut desk = begun(options());
    desk.on(Incoming::Link(Link::Up));
    desk.board(json!({ "whole": true, "active": null, "sessions": [] }));
    desk.answer("limit=100", Ok(page(1)));
    desk.sees("No session is shown.");
    let mut desk = begun(options());
    desk.answer("limit=100", Err(Failure::Unreachable("gone".to_owned())));
    desk.sees("Connecting to");
    // Who named a session is shown that one.
    let mut desk = begun(Options { session: Some("b".to_owned()), ..options() });
    desk.answer("limit=100", Ok(page(1)));
    assert_eq!(desk.app.shown_session(), None);
    desk.on(Incoming::Link(Link::Up));
    desk.answer("/switch", Ok(row(2, "b")));
    assert_eq!(desk.app.shown_session(), Some("k2"));
}

#[test]
fn a_session_named_at_the_start_goes_first() {
    let options = Options { session: Some("api work".to_owned()), ..options() };
    let mut desk = Desk::with(80, 24, options);
    desk.on(Incoming::Link(Link::Up));
    desk.board(
        json!({ "whole": true, "active": 1, "sessions": [row(1, "a"), row(2, "api work")] }),
    );
    desk.answer("/switch", Ok(row(2, "api work")));
    assert_eq!(desk.app.shown_session(), Some("k2"));
    // Once only: after a restart of the server it is what the seat says.
    desk.effects.clear();
    desk.on(Incoming::Link(Link::Up));
    assert_eq!(desk.asked(), Vec::<String>::new());
}

#[test]
fn with_no_choice_yet_the_one_that_waits_is_shown() {
    let mut desk = Desk::new(80, 24);
    desk.on(Incoming::Link(Link::Up));
    desk.board(json!({ "whole": true, "active": null, "sessions": [row(1, "a"), waits(2, "b", "question", "?"), row(3, "c")] }));
    assert_eq!(desk.app.shown_session(), Some("k2"));
    assert_eq!(
        desk.asked(),
        ["follow k2 behind 0", r#"POST /v1/switchboard/k2/switch {"seat":"t1"}"#]
    );
}

#[test]
fn the_next_that_waits_is_one_key_away() {
    let rows =
        [row(1, "a"), waits(2, "b", "question", "?"), row(3, "c"), waits(4, "d", "approval", "!")];
    let mut desk = Desk::among(80, 24, &rows);
    for expect in ["k2", "k4", "k2"] {
        desk.control('n');
        assert_eq!(desk.app.shown_session(), Some(expect));
    }
    desk.board(json!({ "whole": true, "active": 2, "sessions": [row(1, "a"), row(2, "b")] }));
    desk.control('n');
    desk.sees("nobody waits for you");
}

#[test]
fn what_the_server_says_late_does_not_take_back_a_switch() {
    let mut desk = Desk::among(80, 24, &[row(1, "a"), row(2, "b")]);
    desk.chord(KeyCode::Down, KeyModifiers::ALT);
    assert_eq!(desk.app.shown_session(), Some("k2"));
    desk.board(json!({ "active": 1, "sessions": [row(1, "a")] }));
    assert_eq!(desk.app.shown_session(), Some("k2"));
    desk.answer("/switch", Ok(row(2, "b")));
    desk.board(json!({ "active": 2, "sessions": [row(2, "b")] }));
    assert_eq!(desk.app.shown_session(), Some("k2"));
    // At the same seat somebody else switches: this one goes along.
    desk.board(json!({ "active": 1, "sessions": [] }));
    assert_eq!(desk.app.shown_session(), Some("k1"));
}

#[test]
fn a_session_that_is_closed_elsewhere_makes_room() {
    let mut desk = Desk::among(80, 24, &[row(1, "a"), row(2, "b")]);
    desk.said("hello", "hi");
    desk.board(json!({ "active": 2, "sessions": [], "gone": [1] }));
    assert_eq!(desk.app.shown_session(), Some("k2"));
    desk.sees("closed elsewhere");
    desk.board(json!({ "active": null, "sessions": [], "gone": [2] }));
    assert_eq!(desk.app.shown_session(), None);
    desk.sees("Type a message to begin one");
}

#[test]
fn closing_goes_to_the_next() {
    let mut desk = Desk::among(80, 24, &[row(1, "a"), row(2, "b")]);
    desk.enters("/close");
    // The news may come before the answer.
    desk.board(json!({ "active": 2, "sessions": [], "gone": [1] }));
    desk.answer("/close", Ok(json!({ "closed": row(1, "a"), "next": row(2, "b") })));
    assert_eq!(desk.app.shown_session(), Some("k2"));
    desk.sees("session 1 is closed");
    desk.enters("/close");
    desk.answer("/close", Err(refused(409, "busy", "it is busy")));
    desk.sees("not closed: it is busy");
}

#[test]
fn who_begins_to_wait_is_rung_for_once() {
    let options = Options { bell: true, notify: true, ..options() };
    let mut desk = Desk::with(80, 24, options).seated(&[row(1, "a"), row(2, "api work")]);
    let waiting = waits(2, "api work", "approval", "May I?\u{1b}[2J");
    desk.board(json!({ "active": 1, "sessions": [waiting] }));
    assert_eq!(desk.asked(), ["bell", "notify 2 \"api work\" waits for you: May I?␛[2J"]);
    desk.board(json!({ "active": 1, "sessions": [waiting] }));
    // Nor for the one that is seen.
    desk.board(json!({ "active": 1, "sessions": [waits(1, "a", "question", "?")] }));
    assert_eq!(desk.asked(), Vec::<String>::new());
    desk.on(Incoming::Terminal(Event::FocusLost));
    desk.board(json!({ "active": 1, "sessions": [row(1, "a")] }));
    let later = json!({ "kind": "question", "text": "?", "question_id": 9 });
    let again = but(row(1, "a"), &json!({ "state": "waiting_for_input", "waiting": later }));
    desk.board(json!({ "active": 1, "sessions": [again] }));
    assert_eq!(desk.asked().first().map(String::as_str), Some("bell"));
}

#[test]
fn what_is_seen_is_read() {
    let mut desk = Desk::among(80, 24, &[row(1, "a")]);
    desk.said("hello", "hi");
    assert_eq!(desk.asked(), Vec::<String>::new(), "the switchboard says that nothing is unread");
    let unread = but(row(1, "a"), &json!({ "unread": 1, "last_seq": 2 }));
    desk.board(json!({ "active": 1, "sessions": [unread] }));
    assert_eq!(desk.asked(), [r#"POST /v1/switchboard/k1/read {"seq":2}"#]);
    desk.later(250);
    assert_eq!(desk.asked(), Vec::<String>::new(), "once is enough");
    // Not while somebody looks elsewhere, or reads further up.
    desk.on(Incoming::Terminal(Event::FocusLost));
    desk.said("more", "yes");
    desk.board(
        json!({ "active": 1, "sessions": [but(unread.clone(), &json!({ "last_seq": 4 }))] }),
    );
    assert_eq!(desk.asked(), Vec::<String>::new());
    desk.on(Incoming::Terminal(Event::FocusGained));
    assert_eq!(desk.asked(), [r#"POST /v1/switchboard/k1/read {"seq":4}"#]);
}

#[test]
fn a_stream_goes_on_where_it_was_and_begins_anew_where_it_cannot() {
    let mut desk = Desk::among(80, 24, &[row(1, "a"), row(2, "b")]);
    desk.said("hello", "hi");
    desk.chord(KeyCode::Down, KeyModifiers::ALT);
    desk.chord(KeyCode::Up, KeyModifiers::ALT);
    assert!(desk.asked().contains(&"follow k1 behind 2".to_owned()));
    desk.sees("hello");
    desk.stand();
    // Another journal than it was.
    desk.passing("reset", &json!({ "last_seq": 500 }));
    assert_eq!(desk.asked(), ["follow k1 behind 100"]);
    desk.sees_no("hello");
    // What the stream before it still says is not taken for what comes behind.
    desk.journal_at(700, "session.notice", json!({ "text": "too early" }));
    desk.stand();
    desk.journal_at(501, "session.notice", json!({ "text": "here again" }));
    desk.sees("here again");
    desk.sees_no("too early");
    // Erased: it begins at 1 by itself.
    desk.passing("reset", &json!({ "last_seq": 0 }));
    desk.said("anew", "indeed");
    desk.sees("anew");
    assert!(!desk.asked().iter().any(|asked| asked.starts_with("follow")));
}

#[test]
fn drafts_are_whole_after_a_lost_connection() {
    let mut desk = Desk::among(80, 24, &[row(1, "a")]);
    desk.journal("turn.processing", json!({ "turn_id": "t", "attempt": 1, "messages": [] }));
    desk.passing("typing", &json!({ "on": true }));
    desk.sees("the agent is typing…");
    desk.passing("draft", &json!({ "turn_id": "t", "attempt": 1, "text": "one " }));
    desk.passing("draft", &json!({ "turn_id": "t", "attempt": 1, "text": "two" }));
    desk.sees("one two");
    desk.stand();
    desk.passing("draft", &json!({ "turn_id": "t", "attempt": 1, "text": "one two three" }));
    assert_eq!(desk.screen().matches("one").count(), 1);
    desk.passing("draft.reset", &json!({ "turn_id": "t", "attempt": 2, "text": "" }));
    desk.sees_no("one two");
    desk.passing("draft", &json!({ "turn_id": "t", "attempt": 2, "text": "better" }));
    desk.journal("turn.completed", json!({ "turn_id": "t", "messages": [], "reply": "better so" }));
    desk.sees("better so");
    desk.sees_no("writes…");
}

#[test]
fn a_stream_that_is_refused_says_why() {
    let mut desk = Desk::among(80, 24, &[row(1, "a")]);
    let failure =
        Failure::Refused { status: 404, kind: String::new(), detail: "nobody there".to_owned() };
    desk.on(Incoming::Unfollowed { session: "k1".to_owned(), failure });
    desk.sees("can't be shown: nobody there");
}

#[test]
fn the_mouse_chooses_and_scrolls() {
    let mut desk = Desk::among(80, 24, &[row(1, "a"), row(2, "b"), waits(3, "c", "question", "?")]);
    let click = |desk: &mut Desk, column, row| {
        desk.draw();
        let kind = MouseEventKind::Down(MouseButton::Left);
        let event = MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE };
        desk.on(Incoming::Terminal(Event::Mouse(event)));
    };
    // Row 0 says who waits, row 1 how many there are.
    click(&mut desk, 5, 3);
    assert_eq!(desk.app.shown_session(), Some("k2"));
    click(&mut desk, 50, 0);
    assert_eq!(desk.app.shown_session(), Some("k3"));
    click(&mut desk, 50, 3);
    click(&mut desk, 5, 20);
    assert_eq!(desk.app.shown_session(), Some("k3"));
}

#[test]
fn what_was_not_sent_to_a_session_that_is_gone_is_told() {
    let mut desk = Desk::among(80, 24, &[row(1, "a"), row(2, "b")]);
    desk.on(Incoming::Link(Link::Down { why: "gone".to_owned(), retry_ms: 250 }));
    desk.enters("important");
    desk.on(Incoming::Link(Link::Up));
    desk.board(json!({ "active": 2, "sessions": [], "gone": [1] }));
    let asked = desk.asked();
    // It went out with the connection, before anybody knew that nobody is there.
    assert!(asked.iter().any(|asked| asked.contains("important")), "{asked:?}");
    let mut desk = Desk::among(80, 24, &[row(1, "a"), row(2, "b")]);
    desk.on(Incoming::Link(Link::Down { why: "gone".to_owned(), retry_ms: 250 }));
    desk.enters("important");
    desk.board(json!({ "active": 2, "sessions": [], "gone": [1] }));
    desk.sees("the session was closed before this was sent: important");
}

#[test]
fn the_answer_to_an_earlier_switch_does_not_take_the_screen_back() {
    let mut desk = Desk::among(80, 24, &[row(1, "a"), row(2, "b"), row(3, "c"), row(4, "d")]);
    for _ in 0..3 {
        desk.chord(KeyCode::Down, KeyModifiers::ALT);
    }
    for number in [2, 3] {
        desk.answer(&format!("/k{number}/switch"), Ok(row(number, "")));
        assert_eq!(desk.app.shown_session(), Some("k4"), "the answer about {number}");
    }
    desk.asked();
    desk.enters("for d");
    assert_eq!(desk.asked(), [r#"POST /v1/chat {"id":"n-1","message":"for d","session":"k4"}"#]);
    // Nor does a session that was begun before the person went on.
    desk.enters("/new");
    desk.chord(KeyCode::Up, KeyModifiers::ALT);
    desk.answer("/k3/switch", Ok(row(3, "c")));
    desk.answer("/v1/switchboard", Ok(row(5, "e")));
    assert_eq!(desk.app.shown_session(), Some("k3"));
}

#[test]
fn a_file_that_took_its_time_does_not_take_the_screen() {
    let mut desk = Desk::among(80, 24, &[row(1, "a"), row(2, "b")]);
    desk.enters("/load talk.ndjson");
    desk.types("meanwhile");
    desk.answer("/file", Ok(row(3, "")));
    desk.sees("loaded talk.ndjson as session 3");
    assert_eq!(desk.asked().iter().filter(|asked| asked.contains("/switch")).count(), 0);
    let mut desk = Desk::among(80, 24, &[row(1, "a"), row(2, "b")]);
    desk.enters("/load talk.ndjson");
    desk.answer("/file", Ok(row(3, "")));
    assert_eq!(
        desk.asked().last().map(String::as_str),
        Some(r#"POST /v1/switchboard/3/switch {"seat":"t1"}"#)
    );
}

#[test]
fn an_answer_is_older_than_what_the_stream_said() {
    let options = Options { bell: true, ..options() };
    let mut desk = Desk::with(80, 24, options).seated(&[row(1, "a"), row(2, "b")]);
    desk.enters("/rename c");
    desk.board(json!({ "active": 1, "sessions": [waits(1, "c", "approval", "May I?")] }));
    desk.answer("/name", Ok(row(1, "c")));
    desk.sees("approve");
    // Who is gone doesn't come back.
    desk.chord(KeyCode::Down, KeyModifiers::ALT);
    desk.board(json!({ "active": 1, "sessions": [], "gone": [2] }));
    desk.answer("/switch", Ok(row(2, "b")));
    assert_ne!(desk.app.shown_session(), Some("k2"));
    // One that is new by an answer is rung for once the stream says that it waits.
    desk.enters("/new");
    desk.answer("/v1/switchboard", Ok(waits(5, "e", "question", "Where?")));
    desk.on(Incoming::Terminal(Event::FocusLost));
    desk.asked();
    desk.board(json!({ "active": 5, "sessions": [waits(5, "e", "question", "Where?")] }));
    assert_eq!(desk.asked(), ["bell"]);
}
