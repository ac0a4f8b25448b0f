//! Anything in any order, at any size: nothing panics, nothing steers, nothing grows without end.

use serde_json::{Value, json};
use turnkeep_terminal::crossterm::event::{
    Event, KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};
use turnkeep_terminal::ports::{Answer, Effect, Failure, Incoming, Link, SseEvent};

use super::desk::Desk;

/// How many events one life has.
const EVENTS: usize = 300;
/// How many lives there are.
const LIVES: u64 = 30;

/// Small numbers that one seed always makes the same.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn of<'a, T: ?Sized>(&mut self, many: &[&'a T]) -> &'a T {
        let at = self.roll(many.len() as u64);
        many[usize::try_from(at).unwrap_or(0)]
    }
}

const TEXTS: &[&str] = &[
    "",
    "a",
    "hello there",
    "two\nlines",
    "日本語テスト",
    "👩‍🚀🇩🇪",
    "\u{1b}[2J",
    "e\u{301}\u{301}\u{301}",
    "# title\n\n- a\n  - b\n\n```\ncode\n",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "مرحبا",
    "> > > deep",
    "a_very_long_word_that_has_no_space_in_it_and_goes_on_and_on_and_on_and_on",
    "\u{202e}x\u{0}\t",
    "/switch 2",
    "/new x",
    "/close",
    "/help",
    "/sessions",
    "/queue",
    "//x",
    "/nonsense",
    "&#27;&#x202e;",
];
const KINDS: &[&str] = &[
    "message.accepted",
    "message.cancelled",
    "message.requeued",
    "turn.started",
    "turn.processing",
    "turn.waiting_for_input",
    "turn.answered",
    "turn.completed",
    "turn.failed",
    "turn.cancelled",
    "turn.superseded",
    "turn.retrying",
    "tool.intended",
    "tool.returned",
    "session.notice",
    "session.reset",
    "session.paused",
    "session.handed_back",
    "history.imported",
    "guard.refused",
    "x",
];
const STATES: &[&str] =
    &["idle", "processing", "waiting_for_input", "hibernated", "closed", "failed", "?"];
const WAITS: &[&str] = &["question", "approval", "error", "operator", "what"];

fn key(dice: &mut Dice) -> Incoming {
    let codes = [
        KeyCode::Enter,
        KeyCode::Tab,
        KeyCode::BackTab,
        KeyCode::Esc,
        KeyCode::Up,
        KeyCode::Down,
        KeyCode::Left,
        KeyCode::Right,
        KeyCode::Home,
        KeyCode::End,
        KeyCode::PageUp,
        KeyCode::PageDown,
        KeyCode::Backspace,
        KeyCode::Delete,
        KeyCode::F(1),
        KeyCode::F(5),
        KeyCode::Null,
    ];
    let count = codes.len() as u64;
    let at = dice.roll(count + 20);
    let code = match usize::try_from(at).ok().and_then(|at| codes.get(at)) {
        Some(code) => *code,
        None => KeyCode::Char(char::from(b' ' + u8::try_from(dice.roll(95)).unwrap_or(0))),
    };
    let modifiers = match dice.roll(6) {
        0 => KeyModifiers::CONTROL,
        1 => KeyModifiers::ALT,
        2 => KeyModifiers::SHIFT,
        _ => KeyModifiers::NONE,
    };
    Incoming::Terminal(Event::Key(KeyEvent::new(code, modifiers)))
}

fn some_row(dice: &mut Dice) -> Value {
    let number = dice.roll(6) + u64::from(dice.roll(9) > 0);
    let waiting =
        (dice.roll(3) == 0).then(|| json!({ "kind": dice.of(WAITS), "text": dice.of(TEXTS) }));
    let name = (dice.roll(2) == 0).then(|| dice.of(TEXTS));
    json!({
        "number": number, "session": format!("k{number}"), "name": name, "waiting": waiting,
        "state": dice.of(STATES), "unread": dice.roll(200), "queued": dice.roll(3),
        "last_seq": dice.roll(5000), "channel": dice.of(&["terminal", "web"]), "customer_id": dice.of(TEXTS),
    })
}

fn happens(dice: &mut Dice, desk: &Desk) -> Incoming {
    let session = format!("k{}", dice.roll(7));
    let session = if dice.roll(5) > 0 {
        desk.app.shown_session().unwrap_or(&session).to_owned()
    } else {
        session
    };
    match dice.roll(20) {
        0..6 => key(dice),
        6 => Incoming::Terminal(Event::Paste(dice.of(TEXTS).to_owned())),
        7 => {
            let kind = if dice.roll(2) == 0 {
                MouseEventKind::ScrollUp
            } else {
                MouseEventKind::Down(MouseButton::Left)
            };
            let (column, row) = (dice.roll(200) as u16, dice.roll(60) as u16);
            Incoming::Terminal(Event::Mouse(MouseEvent {
                kind,
                column,
                row,
                modifiers: KeyModifiers::NONE,
            }))
        }
        8 => Incoming::Tick,
        9 => Incoming::Link(match dice.roll(4) {
            0 => Link::Connecting,
            1 => Link::Down { why: dice.of(TEXTS).to_owned(), retry_ms: dice.roll(u64::MAX) },
            2 => Link::Refused { why: dice.of(TEXTS).to_owned() },
            _ => Link::Up,
        }),
        10 | 11 => {
            let rows: Vec<Value> = (0..dice.roll(4)).map(|_| some_row(dice)).collect();
            let active = (dice.roll(3) > 0).then(|| dice.roll(7));
            let told = json!({ "whole": dice.roll(3) == 0, "active": active, "sessions": rows, "gone": [dice.roll(8)] });
            let data = if dice.roll(20) == 0 { "nonsense".to_owned() } else { told.to_string() };
            Incoming::Board(SseEvent { data, ..SseEvent::default() })
        }
        12 => Incoming::Following(session),
        13 => {
            Incoming::Unfollowed { session, failure: Failure::Strange(dice.of(TEXTS).to_owned()) }
        }
        14 => Incoming::Answer { tag: dice.roll(60), result: answer(dice) },
        _ => Incoming::Session { session, event: event(dice) },
    }
}

fn answer(dice: &mut Dice) -> Result<Answer, Failure> {
    let body = match dice.roll(4) {
        0 => some_row(dice),
        1 => {
            json!({ "messages": [{ "seq": dice.roll(5000), "role": "user", "text": dice.of(TEXTS) }], "next": dice.roll(9000) })
        }
        2 => json!({ "closed": some_row(dice), "next": some_row(dice) }),
        _ => return Err(Failure::Unreachable(dice.of(TEXTS).to_owned())),
    };
    Ok(Answer { status: 200, body })
}

fn event(dice: &mut Dice) -> SseEvent {
    let kind = dice.of(&[
        "draft",
        "draft.reset",
        "typing",
        "reset",
        "journal",
        "journal",
        "journal",
        "journal",
    ]);
    let seq = dice.roll(6000);
    let data = json!({
        "seq": seq, "at": dice.roll(u64::MAX), "type": dice.of(KINDS), "turn_id": dice.of(&["t1", "t2"]),
        "attempt": dice.roll(3), "text": dice.of(TEXTS), "messages": [dice.roll(6000)], "on": true,
        "reply": dice.of(TEXTS), "call": dice.roll(6000), "tool": "x", "confirm": dice.roll(2) == 0,
        "by": dice.of(&["t1", "t2", "Olga"]), "last_seq": dice.roll(2000), "error": dice.of(TEXTS),
    });
    SseEvent { id: Some(seq.to_string()), event: kind.to_owned(), data: data.to_string() }
}

#[test]
fn nothing_panics_whatever_happens() {
    for seed in 0..LIVES {
        let mut dice = Dice(seed);
        let (columns, rows) = (dice.roll(130) as u16 + 1, dice.roll(45) as u16 + 1);
        let mut desk = Desk::new(columns, rows);
        desk.on(Incoming::Link(Link::Up));
        for _ in 0..EVENTS {
            let incoming = happens(&mut dice, &desk);
            desk.on(incoming);
            desk.now += i64::try_from(dice.roll(400)).unwrap_or(0);
            if dice.roll(40) == 0 {
                desk.resize(dice.roll(130) as u16 + 1, dice.roll(45) as u16 + 1);
            }
            if dice.roll(4) == 0 {
                let screen = desk.screen();
                assert!(!screen.chars().any(|one| one != '\n' && one.is_control()), "seed {seed}");
            }
        }
        let quits = desk.effects.iter().filter(|effect| **effect == Effect::Quit).count();
        assert!(quits < EVENTS, "seed {seed}");
    }
}
