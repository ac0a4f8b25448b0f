//! Leaving, and what is still on its way then.

use serde_json::json;
use turnkeep_terminal::crossterm::event::KeyCode;
use turnkeep_terminal::ports::{Failure, Incoming, Link};

use super::desk::{Desk, refused, row};

fn desk() -> Desk {
    Desk::among(100, 24, &[row(1, "plans"), row(2, "b")])
}

fn lose(desk: &mut Desk) {
    desk.on(Incoming::Link(Link::Down { why: "gone".to_owned(), retry_ms: 250 }));
}

#[test]
fn who_leaves_is_told_of_what_was_not_sent() {
    let mut desk = desk();
    lose(&mut desk);
    desk.enters("important");
    desk.enters("and this");
    desk.control('c');
    desk.sees("not there yet: 2 messages");
    desk.sees("Ctrl-C leaves without");
    assert_eq!(desk.asked(), Vec::<String>::new());
    desk.control('c');
    assert_eq!(desk.asked(), ["quit"]);
    assert_eq!(
        desk.app.given_up(),
        ["not sent to 1 plans: important", "not sent to 1 plans: and this"]
    );
    // The command says it, too, before it leaves.
    let mut desk = self::desk();
    lose(&mut desk);
    desk.enters("important");
    desk.enters("/quit");
    desk.sees("not there yet: 1 message");
    assert_eq!(desk.asked(), Vec::<String>::new());
    desk.enters("/quit");
    assert_eq!(desk.asked(), Vec::<String>::new(), "typing is staying");
    desk.control('c');
    assert_eq!(desk.asked(), ["quit"]);
}

#[test]
fn what_is_on_its_way_is_waited_for() {
    let mut desk = desk();
    desk.enters("hello");
    desk.enters("/rename x");
    desk.enters("/quit");
    assert!(!desk.asked_later().contains(&"quit".to_owned()));
    // What is typed ahead is for the shell by now.
    desk.types("ls");
    desk.press(KeyCode::Enter);
    desk.answer("/v1/chat", Ok(json!({})));
    assert!(!desk.asked_later().contains(&"quit".to_owned()));
    desk.answer("/name", Ok(row(1, "x")));
    let asked = desk.asked();
    assert_eq!(asked, ["quit"], "both are there");
    assert_eq!(desk.app.given_up(), Vec::<String>::new());
    desk.enters("too late");
    assert_eq!(desk.asked(), Vec::<String>::new());
}

#[test]
fn nobody_is_kept_for_long() {
    let mut desk = desk();
    desk.enters("hello");
    desk.enters("/quit");
    desk.later(500);
    assert!(!desk.asked_later().contains(&"quit".to_owned()));
    desk.later(500);
    desk.sees("not there yet: 1 message; Ctrl-C leaves without");
    desk.later(5_000);
    desk.enters("more");
    desk.sees("more");
    desk.control('c');
    desk.control('c');
    assert!(!desk.asked_later().contains(&"quit".to_owned()), "a last second");
    desk.later(1_000);
    assert!(desk.asked().contains(&"quit".to_owned()));
    assert_eq!(
        desk.app.given_up(),
        ["perhaps not sent to 1 plans: hello", "not sent to 1 plans: more"]
    );
    // Whoever doesn't want to wait needn't.
    let mut desk = self::desk();
    desk.enters("hello");
    desk.control('c');
    desk.control('c');
    desk.control('c');
    assert!(desk.asked().contains(&"quit".to_owned()));
    // Nor is anybody who changed their mind made to leave.
    let mut desk = self::desk();
    desk.enters("hello");
    desk.enters("/quit");
    desk.press(KeyCode::Esc);
    desk.answer("/v1/chat", Ok(json!({})));
    assert!(!desk.asked().contains(&"quit".to_owned()));
    desk.enters("still here");
    assert_eq!(desk.asked().len(), 1);
}

#[test]
fn a_message_that_is_refused_at_the_end_keeps_them() {
    let mut desk = desk();
    desk.enters("hello");
    desk.enters("/quit");
    desk.answer("/v1/chat", Err(refused(429, "queue_full", "the queue is full")));
    assert_eq!(desk.asked(), Vec::<String>::new());
    desk.sees("› hello");
    desk.sees("not sent: the queue is full");
    // A save that takes its time is told by its name.
    let mut desk = self::desk();
    desk.enters("/save talk.ndjson");
    desk.control('c');
    desk.sees("not there yet: /save; Ctrl-C leaves without");
    // A connection that goes meanwhile doesn't lose it either.
    let mut desk = self::desk();
    desk.enters("hello");
    desk.enters("/quit");
    desk.answer("/v1/chat", Err(Failure::Unreachable("gone".to_owned())));
    lose(&mut desk);
    desk.later(1_000);
    desk.sees("not there yet: 1 message");
    assert_eq!(desk.asked(), Vec::<String>::new());
}

#[test]
fn what_was_typed_and_not_sent_is_written_out_at_the_end() {
    let mut desk = desk();
    desk.types("half a\u{1b}[2J thought");
    desk.control('j');
    desk.types("of two lines");
    desk.on(Incoming::Ending);
    assert_eq!(desk.asked(), ["quit"]);
    assert_eq!(
        desk.app.given_up(),
        ["typed and not sent to 1 plans: half a[2J thought\n  of two lines"]
    );
}
