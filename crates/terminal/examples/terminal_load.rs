//! How long a key takes until its frame is made, and what a long conversation costs:
//! `cargo run --release -p turnkeep-terminal --example terminal_load -- [KEYS] [MESSAGES]`
//!
//! Fifty sessions stream: between two keys the switchboard tells of some of them and the session
//! that is shown gets another piece of a draft. A key counts from its event to its whole frame, on
//! a buffer in the place of a terminal. Then sessions are switched between two conversations of
//! MESSAGES each, and the pages of one are scrolled through.

use std::time::Instant;

use ratatui_core::backend::TestBackend;
use ratatui_core::terminal::Terminal;
use serde_json::{Value, json};
use turnkeep_terminal::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use turnkeep_terminal::ports::{Incoming, Link, Options, SseEvent};
use turnkeep_terminal::{App, draw};

/// Sessions that stream.
const SESSIONS: u64 = 50;
/// Switches and pages that are measured.
const ROUNDS: usize = 500;
/// 21 November 2026.
const NOW: i64 = 1_795_277_040_000;

const REPLY: &str = "## A step\n\nSome **text** with `code`, long enough to be broken into lines \
    where the screen ends, and a list:\n\n- one\n- two\n\n```rust\nfn main() {\n    run();\n}\n```\n";

struct Load {
    app: App,
    terminal: Terminal<TestBackend>,
}

impl Load {
    fn on(&mut self, incoming: Incoming) {
        self.app.on(incoming, NOW);
    }

    fn frame(&mut self) {
        let app = &mut self.app;
        let Ok(_) = self.terminal.draw(|frame| draw(app, frame));
    }

    fn key(&mut self, code: KeyCode, modifiers: KeyModifiers) {
        self.on(Incoming::Terminal(Event::Key(KeyEvent::new(code, modifiers))));
    }

    fn event(&mut self, kind: &str, data: &Value) {
        let session = self.app.shown_session().unwrap_or_default().to_owned();
        let event = SseEvent { id: None, event: kind.to_owned(), data: data.to_string() };
        self.on(Incoming::Session { session, event });
    }

    /// The stream of the session that is shown stands.
    fn stand(&mut self) {
        let session = self.app.shown_session().unwrap_or_default().to_owned();
        self.on(Incoming::Following(session));
    }

    /// A conversation of so many messages, as its journal tells it.
    fn fill(&mut self, messages: u64) {
        self.stand();
        for index in 0..messages / 2 {
            let seq = 2 * index + 1;
            self.event("message.accepted", &json!({ "seq": seq, "at": NOW, "type": "message.accepted", "text": format!("question {index}"), "sender": "me", "message_id": "x" }));
            self.event("turn.completed", &json!({ "seq": seq + 1, "at": NOW, "type": "turn.completed", "turn_id": "t", "messages": [seq], "reply": REPLY }));
        }
    }

    fn board(&mut self, told: &Value) {
        let data = told.to_string();
        self.on(Incoming::Board(SseEvent { data, ..SseEvent::default() }));
    }
}

fn row(number: u64, turn: u64) -> Value {
    let waiting =
        (number.is_multiple_of(10)).then(|| json!({ "kind": "approval", "text": "May I?" }));
    json!({
        "number": number, "session": format!("k{number}"), "name": format!("session {number}"),
        "channel": "terminal", "agent_id": "default", "state": "processing", "unread": turn % 120,
        "waiting": waiting,
    })
}

fn main() {
    let mut given = std::env::args().skip(1).filter_map(|arg| arg.parse::<u64>().ok());
    let keys = given.next().unwrap_or(5_000);
    let messages = given.next().unwrap_or(10_000);
    let options = Options {
        seat: "t1".to_owned(),
        session: None,
        color: true,
        mouse: false,
        bell: false,
        notify: false,
        place: "nowhere".to_owned(),
        nonce: "n".to_owned(),
        utc_offset_s: 0,
    };
    let Ok(terminal) = Terminal::new(TestBackend::new(120, 40));
    let mut load = Load { app: App::new(options), terminal };
    load.on(Incoming::Link(Link::Up));
    let rows: Vec<Value> = (1..=SESSIONS).map(|number| row(number, 0)).collect();
    load.board(&json!({ "whole": true, "active": 1, "sessions": rows }));
    load.fill(messages);
    report("a key, typed while 50 sessions stream", typed(&mut load, keys));
    load.key(KeyCode::Char('2'), KeyModifiers::ALT);
    load.fill(messages);
    report("a switch between two long conversations", switched(&mut load));
    report("a page of a long conversation", paged(&mut load));
    println!("text held: {} KiB; the process: {}", load.app.text_bytes() / 1024, memory());
}

fn typed(load: &mut Load, keys: u64) -> Vec<u128> {
    let mut times = Vec::new();
    load.event("turn.processing", &json!({ "seq": u64::MAX / 2, "at": NOW, "type": "turn.processing", "turn_id": "d", "attempt": 1, "messages": [] }));
    for index in 0..keys {
        let changed: Vec<Value> =
            (0..5).map(|other| row((index * 5 + other) % SESSIONS + 1, index)).collect();
        load.board(&json!({ "active": 1, "sessions": changed }));
        // A draft of some 20 KiB, again and again.
        let kind = if index % 400 == 0 { "draft.reset" } else { "draft" };
        load.event(kind, &json!({ "turn_id": "d", "attempt": 1, "text": "another **piece** of it, and then \n" }));
        let began = Instant::now();
        let code = if index % 60 == 59 { KeyCode::Backspace } else { KeyCode::Char('x') };
        load.key(code, KeyModifiers::NONE);
        load.frame();
        times.push(began.elapsed().as_micros());
    }
    times
}

fn switched(load: &mut Load) -> Vec<u128> {
    let mut times = Vec::new();
    for index in 0..ROUNDS {
        let number = if index % 2 == 0 { '1' } else { '2' };
        let began = Instant::now();
        load.key(KeyCode::Char(number), KeyModifiers::ALT);
        load.frame();
        times.push(began.elapsed().as_micros());
    }
    times
}

fn paged(load: &mut Load) -> Vec<u128> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        load.key(KeyCode::PageUp, KeyModifiers::NONE);
        load.frame();
        times.push(began.elapsed().as_micros());
    }
    times
}

fn report(what: &str, mut times: Vec<u128>) {
    times.sort_unstable();
    let at = |share: usize| times.get(times.len().saturating_sub(1) * share / 1000).unwrap_or(&0);
    println!("{what}: p50 {} µs, p99 {} µs, most {} µs", at(500), at(990), at(1000));
}

/// What the system says of the process's memory, where it says anything.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    peak.map_or_else(
        || "unknown".to_owned(),
        |line| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" "),
    )
}
