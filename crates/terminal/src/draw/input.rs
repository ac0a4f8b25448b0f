//! The input: the rows around the cursor.

use ratatui_core::layout::{Position, Rect};

use super::canvas::Canvas;
use crate::app::App;
use crate::editor::{Editor, shown};
use crate::text::fit;
use crate::theme::Look;

/// Narrower screens have no sign before the input.
const SIGN_FROM: u16 = 12;

/// How many columns there are for text.
pub(super) fn columns(width: u16) -> usize {
    usize::from(if width < SIGN_FROM { width } else { width - 2 }).max(2)
}

/// Draws it, and says where the cursor stands.
pub(super) fn input(app: &App, canvas: &mut Canvas<'_>, area: Rect) -> Position {
    let signed = area.width >= SIGN_FROM;
    let indent = if signed { 2 } else { 0 };
    let empty = Editor::default();
    let editor = app.editor().unwrap_or(&empty);
    let columns = columns(area.width);
    let rows = editor.rows(columns);
    let (row, column) = editor.place(columns);
    let height = usize::from(area.height).max(1);
    let from = (row + 1).saturating_sub(height);
    if signed {
        let (sign, look) = sign(app);
        canvas.text(area, 0, 0, sign, look);
    }
    for (line, range) in (0..).zip(rows.iter().skip(from).take(height)) {
        canvas.text(area, line, indent, &shown(&editor.text()[range.clone()]), Look::Plain);
    }
    if editor.is_empty() {
        canvas.text(area, 0, indent, &fit(hint(app), columns), Look::Dim);
    }
    let last = area.width.saturating_sub(1);
    let column = u16::try_from(column).unwrap_or(u16::MAX).saturating_add(indent).min(last);
    let row = u16::try_from(row - from).unwrap_or(0).min(area.height.saturating_sub(1));
    Position { x: area.x + column, y: area.y + row }
}

/// What is typed is a message, an answer, or what a person says in the agent's place.
fn sign(app: &App) -> (&'static str, Look) {
    let talk = app.talk();
    if talk.is_some_and(|talk| talk.operator.is_some()) {
        return ("@", Look::Operator);
    }
    match talk.and_then(crate::conversation::Conversation::open_question) {
        Some(true) => ("!", Look::Waits),
        Some(false) => ("?", Look::Waits),
        // What is asked may stand further up than what is here.
        None => match app.row().and_then(|row| row.waiting.as_ref()).map(|asks| asks.kind.as_str())
        {
            Some("approval") => ("!", Look::Waits),
            Some("question") => ("?", Look::Waits),
            _ => ("›", Look::User),
        },
    }
}

fn hint(app: &App) -> &'static str {
    match sign(app).0 {
        "@" => "answer in the agent's place",
        "!" => "y or n, then Enter",
        "?" => "your answer, then Enter",
        _ if app.shown.is_none() => "a message begins a session",
        _ => "a message, or / for commands",
    }
}
