//! One frame: what the app knows, on as many columns and rows as there are.
//!
//! From 60 columns on the sessions stand beside the conversation; on narrower screens one line
//! above it stands for them. Rows that are missing are taken from what matters least.

mod canvas;
mod input;
mod list;
mod overlay;
mod status;
mod talk;

use ratatui_core::layout::Rect;
use ratatui_core::terminal::Frame;

use crate::app::App;
use canvas::Canvas;

/// Narrower screens have no room for a list of sessions.
const LIST_FROM: u16 = 60;

/// Where everything stands.
#[derive(Clone, Copy, Debug, Default)]
struct Places {
    /// Who waits, or on a narrow screen which session this is.
    top: Option<Rect>,
    list: Option<Rect>,
    /// The line between list and conversation.
    line: Option<Rect>,
    /// What the session is called, above its conversation.
    head: Option<Rect>,
    talk: Rect,
    /// All between the first line and the line above the input.
    body: Rect,
    /// The line above the input.
    rule: Option<Rect>,
    input: Rect,
    status: Option<Rect>,
}

/// Draws one frame.
pub fn draw(app: &mut App, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < 2 || area.height == 0 {
        return;
    }
    let columns = input::columns(area.width);
    app.drawn.columns = usize::from(area.width);
    app.drawn.input_columns = columns;
    let wanted = app.editor().map_or(1, |editor| editor.rows(columns).len());
    let places = places(area, u16::try_from(wanted).unwrap_or(u16::MAX));
    let color = app.options.color;
    let mut canvas = Canvas { buffer: frame.buffer_mut(), color };
    if let Some(top) = places.top {
        status::top(app, &mut canvas, top, places.list.is_some());
    }
    if let Some(list) = places.list {
        list::list(app, &mut canvas, list);
    }
    if let Some(line) = places.line {
        canvas.vertical(line);
    }
    if let Some(head) = places.head {
        talk::head(app, &mut canvas, head);
    }
    talk::talk(app, &mut canvas, places.talk);
    overlay::panel(app, &mut canvas, places.body);
    if let Some(rule) = places.rule {
        status::rule(app, &mut canvas, rule);
    }
    overlay::suggestions(app, &mut canvas, places.body);
    let cursor = input::input(app, &mut canvas, places.input);
    if let Some(line) = places.status {
        status::status(app, &mut canvas, line);
    }
    app.drawn.waits = places.top.filter(|_| app.board.waiting().next().is_some()).map(|top| top.y);
    frame.set_cursor_position(cursor);
}

fn places(area: Rect, input_rows: u16) -> Places {
    let mut rest = area;
    let mut places = Places::default();
    if area.height >= 4 {
        places.status = Some(bottom(&mut rest, 1));
    }
    let most = (area.height / 3).max(1);
    places.input = bottom(&mut rest, input_rows.clamp(1, most));
    if area.height >= 8 {
        places.rule = Some(bottom(&mut rest, 1));
    }
    if area.height >= 4 {
        places.top = Some(top(&mut rest, 1));
    }
    places.body = rest;
    if area.width >= LIST_FROM {
        let columns = match area.width {
            ..80 => 26,
            80..110 => 30,
            _ => 36,
        };
        places.list = Some(Rect { width: columns, ..rest });
        places.line = Some(Rect { x: rest.x + columns, width: 1, ..rest });
        // A column stays free beside the line.
        rest = Rect { x: rest.x + columns + 2, width: rest.width - columns - 2, ..rest };
        if area.height >= 10 {
            places.head = Some(top(&mut rest, 1));
        }
    }
    places.talk = rest;
    places
}

fn top(rest: &mut Rect, rows: u16) -> Rect {
    let taken = Rect { height: rows.min(rest.height), ..*rest };
    rest.y += taken.height;
    rest.height -= taken.height;
    taken
}

fn bottom(rest: &mut Rect, rows: u16) -> Rect {
    let rows = rows.min(rest.height);
    rest.height -= rows;
    Rect { y: rest.y + rest.height, height: rows, ..*rest }
}
