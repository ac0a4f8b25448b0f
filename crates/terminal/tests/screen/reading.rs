//! Moving through a conversation: what stays put, what is fetched, how much is kept.

use serde_json::{Value, json};
use turnkeep_terminal::crossterm::event::{KeyCode, KeyModifiers};

use super::desk::{Desk, but, refused, row};

fn long(entries: u64) -> Desk {
    let first = but(row(1, "a"), &json!({ "last_seq": 2 * entries }));
    let mut desk = Desk::among(80, 24, &[first]);
    let from = (2 * entries).saturating_sub(400);
    for index in (from / 2)..entries {
        desk.journal_at(
            2 * index + 1,
            "message.accepted",
            json!({ "message_id": "x", "sender": "me", "text": format!("question {index}") }),
        );
        desk.journal(
            "turn.completed",
            json!({ "turn_id": "t", "messages": [], "reply": format!("answer {index}") }),
        );
    }
    desk.draw();
    desk.effects.clear();
    desk
}

#[test]
fn whoever_reads_further_up_stays_there() {
    let mut desk = long(50);
    desk.sees("answer 49");
    desk.press(KeyCode::PageUp);
    let before = desk.screen();
    assert!(before.contains("more below · End"), "{before}");
    for index in 0..3 {
        desk.said("new question", &format!("news {index}"));
    }
    let after = desk.screen();
    let above = |screen: &str| -> Vec<String> {
        let lines = screen.lines().filter(|line| !line.contains("below · End"));
        lines.map(ToOwned::to_owned).collect()
    };
    assert_eq!(above(&before), above(&after));
    assert!(after.contains("3 new below · End"), "{after}");
    desk.press(KeyCode::End);
    desk.sees("news 2");
    desk.sees_no("below");
}

#[test]
fn down_from_above_ends_at_the_end() {
    let mut desk = long(50);
    for _ in 0..3 {
        desk.press(KeyCode::PageUp);
    }
    desk.draw();
    for _ in 0..3 {
        desk.press(KeyCode::PageDown);
    }
    desk.sees("answer 49");
    desk.sees_no("below");
    desk.chord(KeyCode::Home, KeyModifiers::CONTROL);
    desk.sees("question 0");
    desk.chord(KeyCode::End, KeyModifiers::CONTROL);
    desk.sees("answer 49");
}

#[test]
fn another_width_keeps_the_place() {
    let mut desk = long(50);
    desk.press(KeyCode::PageUp);
    let top = |screen: &str| {
        screen
            .lines()
            .filter_map(|line| line.split("answer ").nth(1))
            .next()
            .map(|rest| rest.trim_matches([' ', '▏']).to_owned())
    };
    let before = top(&desk.screen());
    desk.resize(50, 24);
    assert_eq!(top(&desk.screen()), before);
}

fn page(from: u64, to: u64) -> Value {
    let messages: Vec<Value> = (from + 1..=to)
        .map(|seq| {
            let role = if seq % 2 == 1 { "user" } else { "agent" };
            json!({ "seq": seq, "role": role, "text": format!("old {seq}"), "at": "2026-11-20T09:00:00Z" })
        })
        .collect();
    json!({ "messages": messages, "next": to })
}

#[test]
fn older_pages_come_when_they_are_scrolled_to() {
    let mut desk = long(1_000);
    assert_eq!(desk.asked(), Vec::<String>::new());
    desk.chord(KeyCode::Home, KeyModifiers::CONTROL);
    desk.draw();
    desk.later(250);
    desk.sees("older messages come…");
    desk.sees("question 800");
    // A page that was full too early: what is between is asked for first.
    desk.answer("/messages?after=1200&limit=200", Ok(page(1200, 1400)));
    desk.draw();
    desk.later(250);
    desk.answer("/messages?after=1400&limit=200", Ok(page(1400, 1600)));
    desk.sees("question 800");
    desk.press(KeyCode::PageUp);
    desk.sees("old 1600");
    desk.sees("20 Nov 2026 09:00");
    // One that fails is asked for again.
    desk.chord(KeyCode::Home, KeyModifiers::CONTROL);
    desk.draw();
    desk.later(250);
    desk.answer("/messages?after=1000", Err(refused(503, "", "not now")));
    desk.draw();
    desk.later(250);
    desk.answer("/messages?after=1000", Ok(page(1300, 1400)));
    desk.press(KeyCode::PageUp);
    desk.sees("old 1400");
}

#[test]
fn the_beginning_is_reached_once() {
    let mut desk = long(300);
    let mut pages = 0;
    for _ in 0..10 {
        desk.chord(KeyCode::Home, KeyModifiers::CONTROL);
        desk.draw();
        desk.later(250);
        if desk.effects.is_empty() {
            continue;
        }
        desk.answer("/messages?after=0", Ok(page(0, 200)));
        pages += 1;
    }
    assert_eq!(pages, 1);
    desk.chord(KeyCode::Home, KeyModifiers::CONTROL);
    desk.sees("old 1");
}

#[test]
fn a_history_that_was_forgotten_ends_where_it_begins() {
    let mut desk = Desk::among(80, 24, &[but(row(1, "a"), &json!({ "last_seq": 1000 }))]);
    desk.passing("reset", &json!({ "last_seq": 1000, "first_seq": 990 }));
    desk.journal_at(991, "session.notice", json!({ "text": "what is left" }));
    desk.draw();
    desk.later(250);
    desk.sees("what is left");
    assert_eq!(desk.asked(), Vec::<String>::new(), "there is nothing older to ask for");
}

#[test]
fn a_long_conversation_is_kept_within_bounds() {
    let mut desk = Desk::among(80, 24, &[row(1, "a")]);
    let text = "x".repeat(10_000);
    for _ in 0..1_500 {
        desk.journal("session.notice", json!({ "text": text }));
    }
    assert!(desk.app.text_bytes() < 16 * 1024 * 1024, "{}", desk.app.text_bytes());
    desk.draw();
    desk.effects.clear();
    desk.chord(KeyCode::Home, KeyModifiers::CONTROL);
    desk.draw();
    desk.later(250);
    assert_eq!(desk.effects.len(), 1, "what was let go is fetched again");
}

#[test]
fn a_draft_can_be_read_from_its_beginning_while_it_grows() {
    let mut desk = Desk::among(60, 12, &[row(1, "a")]);
    desk.journal("turn.processing", json!({ "turn_id": "t", "attempt": 1, "messages": [] }));
    let lines: Vec<String> = (0..60).map(|index| format!("line {index}")).collect();
    let text = lines.join("\n");
    desk.passing("draft", &json!({ "turn_id": "t", "attempt": 1, "text": text }));
    desk.draw();
    for _ in 0..20 {
        desk.press(KeyCode::PageUp);
    }
    desk.sees("line 0");
    desk.passing("draft", &json!({ "turn_id": "t", "attempt": 1, "text": "\nmore" }));
    desk.sees("line 0");
    desk.journal(
        "turn.completed",
        json!({ "turn_id": "t", "messages": [], "reply": format!("{text}\nmore") }),
    );
    desk.sees("line 0");
    desk.sees_no("more below");
    desk.sees("1 new below");
}
