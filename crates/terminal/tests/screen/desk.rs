//! A person before a screen: keys go in, requests and pictures come out.

use std::collections::BTreeMap;

use ratatui_core::backend::TestBackend;
use ratatui_core::buffer::Buffer;
use ratatui_core::style::Color;
use ratatui_core::terminal::Terminal;
use serde_json::{Value, json};
use turnkeep_terminal::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use turnkeep_terminal::ports::{
    Answer, Effect, Failure, Incoming, Link, Method, Options, Request, SseEvent,
};
use turnkeep_terminal::{App, draw};

/// 21 November 2026, 16:04 UTC.
pub(crate) const NOW: i64 = 1_795_277_040_000;

pub(crate) struct Desk {
    pub(crate) app: App,
    terminal: Terminal<TestBackend>,
    pub(crate) now: i64,
    /// What was asked for since it was looked at last.
    pub(crate) effects: Vec<Effect>,
    /// Whether it is answered at once who has the agent's place in a session.
    pub(crate) tells_operators: bool,
    /// Who has it, by session; nobody in those that are not here.
    pub(crate) operators: BTreeMap<String, &'static str>,
    /// Where the journals end by then.
    pub(crate) journal_end: u64,
    board_version: u64,
    seq: u64,
}

pub(crate) fn options() -> Options {
    Options {
        seat: "t1".to_owned(),
        session: None,
        color: true,
        mouse: true,
        bell: false,
        notify: false,
        place: "/run/turnkeep.sock".to_owned(),
        nonce: "n".to_owned(),
        utc_offset_s: 0,
    }
}

impl Desk {
    pub(crate) fn new(columns: u16, rows: u16) -> Self {
        Self::with(columns, rows, options())
    }

    pub(crate) fn with(columns: u16, rows: u16, options: Options) -> Self {
        let Ok(terminal) = Terminal::new(TestBackend::new(columns, rows));
        let app = App::new(options);
        Self {
            app,
            terminal,
            now: NOW,
            effects: Vec::new(),
            tells_operators: true,
            operators: BTreeMap::new(),
            journal_end: 0,
            board_version: 0,
            seq: 0,
        }
    }

    /// Connected, with these sessions, the first of them shown.
    pub(crate) fn among(columns: u16, rows: u16, sessions: &[Value]) -> Self {
        Self::new(columns, rows).seated(sessions)
    }

    pub(crate) fn seated(mut self, sessions: &[Value]) -> Self {
        self.on(Incoming::Link(Link::Up));
        let active = sessions.first().map(|row| row["number"].clone());
        self.board(json!({ "whole": true, "active": active, "sessions": sessions }));
        self.stand();
        self.draw();
        self.effects.clear();
        self
    }

    pub(crate) fn on(&mut self, incoming: Incoming) {
        let effects = self.app.on(incoming, self.now);
        self.effects.extend(effects);
        if self.tells_operators {
            self.tell_operators();
        }
    }

    /// Answers who has the agent's place, wherever that was asked.
    pub(crate) fn tell_operators(&mut self) {
        let asks = |effect: &Effect| match effect {
            Effect::Send { tag, request } if request.method == Method::Get => {
                let session = request.path.strip_prefix("/v1/sessions/")?;
                (!session.contains(['/', '?'])).then(|| (*tag, session.to_owned()))
            }
            _ => None,
        };
        while let Some(at) = self.effects.iter().position(|effect| asks(effect).is_some()) {
            let Some((tag, session)) = asks(&self.effects.remove(at)) else { return };
            let mut body =
                json!({ "session": session, "last_seq": self.seq.max(self.journal_end) });
            if let Some(by) = self.operators.get(&session) {
                body["paused"] = json!({ "by": by });
            }
            let result = Ok(Answer { status: 200, body });
            let effects = self.app.on(Incoming::Answer { tag, result }, self.now);
            self.effects.extend(effects);
        }
    }

    /// The stream of the session that is shown stands.
    pub(crate) fn stand(&mut self) {
        if let Some(session) = self.app.shown_session().map(ToOwned::to_owned) {
            self.on(Incoming::Following(session));
        }
    }

    pub(crate) fn later(&mut self, millis: i64) {
        self.now += millis;
        self.on(Incoming::Tick);
    }

    pub(crate) fn board(&mut self, mut told: Value) {
        self.board_version += 1;
        told["version"] = json!(self.board_version);
        let id = Some(format!("b-{}", self.board_version));
        let data = told.to_string();
        self.on(Incoming::Board(SseEvent { id, event: "board".to_owned(), data }));
    }

    /// The next entry of the journal of the session that is shown.
    pub(crate) fn journal(&mut self, kind: &str, more: Value) {
        self.seq += 1;
        let seq = self.seq;
        self.journal_at(seq, kind, more);
    }

    pub(crate) fn journal_at(&mut self, seq: u64, kind: &str, more: Value) {
        self.seq = seq;
        let mut data = json!({ "seq": seq, "at": self.now, "type": kind });
        for (name, value) in more.as_object().into_iter().flatten() {
            data[name] = value.clone();
        }
        self.event(kind, Some(seq), &data);
    }

    /// Something that is not journalled.
    pub(crate) fn passing(&mut self, kind: &str, data: &Value) {
        self.event(kind, None, data);
    }

    fn event(&mut self, kind: &str, seq: Option<u64>, data: &Value) {
        let session = self.app.shown_session().unwrap_or("k1").to_owned();
        let id = seq.map(|seq| seq.to_string());
        let event = SseEvent { id, event: kind.to_owned(), data: data.to_string() };
        self.on(Incoming::Session { session, event });
    }

    pub(crate) fn said(&mut self, text: &str, reply: &str) {
        self.journal(
            "message.accepted",
            json!({ "message_id": "x", "sender": "me", "text": text, "turn_id": "t" }),
        );
        let of = self.seq;
        self.journal(
            "turn.completed",
            json!({ "turn_id": "t", "attempt": 1, "messages": [of], "reply": reply }),
        );
    }

    pub(crate) fn press(&mut self, code: KeyCode) {
        self.chord(code, KeyModifiers::NONE);
    }

    pub(crate) fn control(&mut self, one: char) {
        self.chord(KeyCode::Char(one), KeyModifiers::CONTROL);
    }

    pub(crate) fn chord(&mut self, code: KeyCode, modifiers: KeyModifiers) {
        self.on(Incoming::Terminal(Event::Key(KeyEvent::new(code, modifiers))));
    }

    pub(crate) fn types(&mut self, text: &str) {
        for one in text.chars() {
            self.press(KeyCode::Char(one));
        }
    }

    pub(crate) fn enters(&mut self, text: &str) {
        self.types(text);
        self.press(KeyCode::Enter);
    }

    pub(crate) fn pastes(&mut self, text: &str) {
        self.on(Incoming::Terminal(Event::Paste(text.to_owned())));
    }

    /// The requests since the last look, shortly: `POST path body`.
    pub(crate) fn asked(&mut self) -> Vec<String> {
        let sent = std::mem::take(&mut self.effects);
        sent.iter().filter_map(shortly).collect()
    }

    /// The same, and they can still be answered.
    pub(crate) fn asked_later(&self) -> Vec<String> {
        self.effects.iter().filter_map(shortly).collect()
    }

    /// Answers the last request whose path holds this.
    pub(crate) fn answer(&mut self, path: &str, result: Result<Value, Failure>) {
        let tag = self.effects.iter().rev().find_map(|effect| match effect {
            Effect::Send { tag, request } if request.path.contains(path) => Some(*tag),
            Effect::Save { tag, path: to, .. } | Effect::Load { tag, path: to, .. }
                if to.contains(path) =>
            {
                Some(*tag)
            }
            _ => None,
        });
        let tag =
            tag.unwrap_or_else(|| panic!("nothing like {path} was asked: {:?}", self.effects));
        self.effects
            .retain(|effect| !matches!(effect, Effect::Send { tag: sent, .. } if *sent == tag));
        let result = result.map(|body| Answer { status: 200, body });
        self.on(Incoming::Answer { tag, result });
    }

    pub(crate) fn resize(&mut self, columns: u16, rows: u16) {
        self.terminal.backend_mut().resize(columns, rows);
        self.on(Incoming::Terminal(Event::Resize(columns, rows)));
    }

    pub(crate) fn draw(&mut self) {
        let app = &mut self.app;
        let Ok(_) = self.terminal.draw(|frame| draw(app, frame));
    }

    /// The screen as text, each row between bars.
    pub(crate) fn screen(&mut self) -> String {
        self.draw();
        picture(self.terminal.backend().buffer())
    }

    /// Whether anything on the screen has a colour.
    pub(crate) fn has_color(&mut self) -> bool {
        self.draw();
        let cells = &self.terminal.backend().buffer().content;
        cells.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    }

    #[track_caller]
    pub(crate) fn sees(&mut self, text: &str) {
        let screen = self.screen();
        assert!(screen.contains(text), "no {text:?} in\n{screen}");
    }

    #[track_caller]
    pub(crate) fn sees_no(&mut self, text: &str) {
        let screen = self.screen();
        assert!(!screen.contains(text), "{text:?} in\n{screen}");
    }
}

fn picture(buffer: &Buffer) -> String {
    let mut out = String::new();
    for row in buffer.area.rows() {
        out.push('▕');
        let mut covered = 0;
        for x in row.left()..row.right() {
            let symbol = buffer[(x, row.y)].symbol();
            if covered > 0 {
                covered -= 1;
                continue;
            }
            covered = unicode_width::UnicodeWidthStr::width(symbol).saturating_sub(1);
            out.push_str(symbol);
        }
        out.push_str("▏\n");
    }
    out
}

fn shortly(effect: &Effect) -> Option<String> {
    Some(match effect {
        Effect::Send { request: Request { method, path, body }, .. } => {
            let method = match method {
                Method::Get => "GET",
                Method::Post => "POST",
                Method::Put => "PUT",
            };
            match body {
                Some(body) => format!("{method} {path} {body}"),
                None => format!("{method} {path}"),
            }
        }
        Effect::Follow { session, after } => format!("follow {session} behind {after}"),
        Effect::Unfollow => "unfollow".to_owned(),
        Effect::Save { path, file, .. } => format!("save {path} to {file}"),
        Effect::Load { path, file, .. } => format!("load {file} to {path}"),
        Effect::Bell => "bell".to_owned(),
        Effect::Notify(text) => format!("notify {text}"),
        Effect::Redraw => "redraw".to_owned(),
        Effect::Quit => "quit".to_owned(),
    })
}

/// A session of this terminal, idle.
pub(crate) fn row(number: u32, name: &str) -> Value {
    let name = (!name.is_empty()).then_some(name);
    json!({
        "number": number, "id": format!("{number:012x}"), "name": name, "session": format!("k{number}"),
        "agent_id": "default", "channel": "terminal", "customer_id": "c", "kind": "main",
        "state": "idle", "unread": 0, "queued": 0, "waiting": null, "last_seq": 0, "read_seq": 0,
        "active": [], "created_at": "2026-11-21T16:00:00Z", "updated_at": "2026-11-21T16:00:00Z",
    })
}

/// The same, otherwise.
pub(crate) fn but(mut row: Value, other: &Value) -> Value {
    for (name, value) in other.as_object().into_iter().flatten() {
        row[name] = value.clone();
    }
    row
}

/// A session that waits.
pub(crate) fn waits(number: u32, name: &str, kind: &str, text: &str) -> Value {
    let waiting =
        json!({ "kind": kind, "text": text, "since": "2026-11-21T16:00:00Z", "question_id": null });
    but(row(number, name), &json!({ "state": "waiting_for_input", "waiting": waiting }))
}

/// A refusal of the server.
pub(crate) fn refused(status: u16, kind: &str, detail: &str) -> Failure {
    Failure::Refused { status, kind: kind.to_owned(), detail: detail.to_owned() }
}
