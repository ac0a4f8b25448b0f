//! Pictures of screens, as people see them.

use serde_json::json;
use turnkeep_terminal::crossterm::event::KeyCode;
use turnkeep_terminal::ports::{Incoming, Link};

use super::desk::{Desk, but, options, row, waits};

fn busy_board() -> Vec<serde_json::Value> {
    vec![
        row(1, "plans"),
        but(
            row(2, ""),
            &json!({ "customer_id": "anna", "channel": "signal", "state": "processing", "unread": 4 }),
        ),
        waits(3, "api work", "approval", "May I run `rm -r build`?"),
        but(
            row(4, "a very long name that no list has the room to show as a whole"),
            &json!({ "state": "hibernated", "unread": 250 }),
        ),
        waits(7, "docs", "question", "Which chapter first?"),
        but(row(8, "日本語の名前"), &json!({ "state": "accumulating" })),
        but(
            row(12, "broken"),
            &json!({ "state": "failed", "waiting": { "kind": "error", "text": "the provider is down" } }),
        ),
    ]
}

/// A conversation with some of everything.
fn talk(desk: &mut Desk) {
    desk.said("hello", "echo: hello");
    desk.journal(
        "message.accepted",
        json!({ "message_id": "m2", "sender": "me", "text": "list the steps\nand show the code" }),
    );
    desk.journal("turn.started", json!({ "turn_id": "t2", "messages": [3] }));
    desk.journal("turn.processing", json!({ "turn_id": "t2", "attempt": 1, "messages": [3] }));
    desk.journal(
        "tool.intended",
        json!({ "turn_id": "t2", "tool": "read_file", "input": "{\"path\":\"src/main.rs\"}" }),
    );
    desk.journal(
        "tool.returned",
        json!({ "turn_id": "t2", "call": 6, "outcome": "done", "output": "" }),
    );
    let reply = "## Steps\n\n1. read **everything**\n2. *then* run `cargo test`\n\n```rust\nfn main() {\n    println!(\"hi\");\n}\n```\nSee [the book](https://doc.rust-lang.org/book/).";
    desk.journal("turn.completed", json!({ "turn_id": "t2", "messages": [3], "reply": reply }));
    desk.journal(
        "session.notice",
        json!({ "text": "your parcel comes tomorrow", "source": "unasked" }),
    );
}

fn busy(columns: u16, rows: u16) -> Desk {
    let mut desk = Desk::among(columns, rows, &busy_board());
    talk(&mut desk);
    desk
}

#[test]
fn eighty_by_twentyfour() {
    insta::assert_snapshot!(busy(80, 24).screen());
}

#[test]
fn a_large_screen() {
    insta::assert_snapshot!(busy(120, 40).screen());
}

#[test]
fn a_narrow_screen() {
    insta::assert_snapshot!(busy(40, 12).screen());
}

#[test]
fn the_smallest_screen() {
    insta::assert_snapshot!(busy(20, 5).screen());
}

#[test]
fn nothing_is_lost_without_colours() {
    let mut colourful = busy(80, 24);
    let board = busy_board();
    let mut plain =
        Desk::with(80, 24, turnkeep_terminal::ports::Options { color: false, ..options() });
    plain = plain.seated(&board);
    talk(&mut plain);
    assert_eq!(plain.screen(), colourful.screen());
    assert!(colourful.has_color());
    assert!(!plain.has_color());
}

#[test]
fn approvals_and_questions_say_how_to_answer() {
    let mut desk =
        Desk::among(80, 24, &[waits(3, "api work", "approval", "May I run `rm -r build`?")]);
    desk.journal(
        "message.accepted",
        json!({ "message_id": "m", "sender": "me", "text": "clean up" }),
    );
    desk.journal("turn.waiting_for_input", json!({ "turn_id": "t", "question_id": "q", "text": "May I run `rm -r build`?", "confirm": true }));
    insta::assert_snapshot!("approval", desk.screen());
    desk.journal("message.accepted", json!({ "message_id": "m2", "sender": "me", "text": "y" }));
    desk.journal("turn.answered", json!({ "turn_id": "t", "question_id": "q", "message": 3 }));
    desk.journal(
        "turn.waiting_for_input",
        json!({ "turn_id": "t", "question_id": "q2", "text": "Which folder?" }),
    );
    desk.board(
        json!({ "active": 3, "sessions": [waits(3, "api work", "question", "Which folder?")] }),
    );
    insta::assert_snapshot!("question", desk.screen());
}

#[test]
fn wide_characters_emoji_and_right_to_left() {
    let mut desk = Desk::among(60, 20, &[row(1, "世界 🌍"), row(2, "שלום עולם")]);
    desk.said(
        "你好，世界！这是一个很长的句子，需要在窄屏幕上换行显示。",
        "👩‍🚀 and 🇩🇪 and e\u{301}, 한국어도 있어요",
    );
    desk.said("مرحبا بالعالم", "שלום! abc 123");
    desk.types("输入 emoji 👩‍🚀👍🏽 ok");
    insta::assert_snapshot!(desk.screen());
}

#[test]
fn nothing_that_is_said_steers_the_terminal() {
    let evil =
        "\u{1b}[2J\u{1b}]0;owned\u{7}red \u{1b}[31m \u{9b}5A back\u{8}\u{8} nul\0 \u{202e}gnp.exe";
    let mut desk = Desk::among(
        70,
        22,
        &[
            but(
                row(1, ""),
                &json!({ "customer_id": evil, "channel": "web", "agent_id": evil, "name": evil }),
            ),
            waits(2, "x", "question", evil),
        ],
    );
    desk.said(
        evil,
        &format!("{evil} &#27;[2J [link](http://\u{1b}[1m) `{evil}`\n```\n{evil}\n```"),
    );
    desk.journal("tool.intended", json!({ "turn_id": "t", "tool": evil, "input": evil }));
    desk.journal("session.paused", json!({ "by": evil }));
    desk.pastes(evil);
    let screen = desk.screen();
    let steers = |one: char| {
        one != '\n'
            && (one.is_control()
                || matches!(one, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
    };
    assert!(!screen.chars().any(steers), "{screen:?}");
    insta::assert_snapshot!(screen);
}

#[test]
fn failed_stopped_and_queued_turns_say_so() {
    let mut desk = Desk::among(80, 24, &[row(1, "plans")]);
    desk.journal("message.accepted", json!({ "message_id": "a", "sender": "me", "text": "first" }));
    desk.journal("turn.failed", json!({ "turn_id": "t", "messages": [1], "reason": "attempts_spent", "error": "the provider says 500" }));
    desk.journal(
        "message.accepted",
        json!({ "message_id": "b", "sender": "me", "text": "second" }),
    );
    desk.journal(
        "turn.cancelled",
        json!({ "turn_id": "t2", "messages": [3], "reason": "stopped", "reply": "I had begun" }),
    );
    desk.journal("message.accepted", json!({ "message_id": "c", "sender": "me", "text": "third" }));
    desk.journal("turn.processing", json!({ "turn_id": "t3", "attempt": 1, "messages": [5] }));
    desk.journal("message.accepted", json!({ "message_id": "d", "sender": "me", "text": "fourth", "action": "queued", "queue_position": 1 }));
    desk.passing("draft", &json!({ "turn_id": "t3", "attempt": 1, "text": "I am **writing" }));
    insta::assert_snapshot!(desk.screen());
}

#[test]
fn a_lost_connection_is_said_at_once() {
    let mut desk = busy(80, 24);
    desk.on(Incoming::Link(Link::Down { why: "connection refused".to_owned(), retry_ms: 2000 }));
    insta::assert_snapshot!("lost", desk.screen());
    desk.resize(40, 8);
    desk.sees("offline");
    desk.on(Incoming::Link(Link::Up));
    desk.sees_no("offline");
}

#[test]
fn before_anything_is_known_it_says_what_it_does() {
    let mut desk = Desk::new(100, 10);
    desk.sees("Connecting to /run/turnkeep.sock");
    desk.on(Incoming::Link(Link::Refused { why: "no key; set TURNKEEP_KEY".to_owned() }));
    desk.sees("can't be used: no key");
    desk.on(Incoming::Link(Link::Up));
    desk.board(json!({ "whole": true, "active": null, "sessions": [] }));
    insta::assert_snapshot!(desk.screen());
}

#[test]
fn help_explains_keys_and_marks() {
    let mut desk = busy(80, 24);
    desk.press(KeyCode::F(1));
    insta::assert_snapshot!("help", desk.screen());
    for _ in 0..9 {
        desk.press(KeyCode::PageDown);
    }
    insta::assert_snapshot!("help_end", desk.screen());
    desk.press(KeyCode::Esc);
    desk.sees_no("Esc closes");
}

#[test]
fn commands_are_suggested_while_they_are_typed() {
    let mut desk = busy(80, 24);
    desk.types("/s");
    insta::assert_snapshot!("suggestions", desk.screen());
    desk.types("witch a");
    insta::assert_snapshot!("suggested_sessions", desk.screen());
}

#[test]
fn several_lines_of_input_have_room() {
    let mut desk = busy(80, 24);
    desk.pastes("first line\n\tsecond line\nthird line that is so long that it has to go on below, because nobody would see its end");
    insta::assert_snapshot!(desk.screen());
}
