//! The conversation, and what stands where there is none.

use ratatui_core::layout::Rect;

use super::canvas::Canvas;
use crate::app::App;
use crate::lines::{Hang, Line, wrap};
use crate::ports::Link;
use crate::text::{fit, one_line};
use crate::theme::Look;

/// Conversations from here on are wide enough to name the agent above them.
const ROOMY: u16 = 45;

/// The line that says which session this is.
pub(super) fn head(app: &App, canvas: &mut Canvas<'_>, area: Rect) {
    let Some(row) = app.row() else { return };
    let (mark, word, look) = row.standing();
    let operator = app.talk().and_then(|talk| talk.operator.as_deref());
    let agent = match operator {
        Some(by) => format!("{} answers for {}", one_line(by), one_line(&row.agent_id)),
        None => format!("agent {}", one_line(&row.agent_id)),
    };
    let mut beside = agent;
    if row.queued > 0 {
        beside = format!("{} queued · {beside}", row.queued);
    }
    // On a narrow screen the name matters more.
    let used = if area.width < ROOMY && operator.is_none() {
        0
    } else {
        canvas.right(area, 0, &fit(&beside, usize::from(area.width / 2)), Look::Dim)
    };
    let room = usize::from(area.width.saturating_sub(used + 12));
    let title = fit(&row.title(), room);
    let column = canvas.text(area, 0, 0, &title, Look::Strong);
    canvas.text(
        Rect { width: area.width.saturating_sub(used), ..area },
        0,
        column,
        "  ",
        Look::Plain,
    );
    let room = area.width.saturating_sub(used + column + 2);
    let state = fit(&format!("{mark} {word}"), usize::from(room));
    canvas.text(area, 0, column + 2, &state, look);
}

pub(super) fn talk(app: &mut App, canvas: &mut Canvas<'_>, area: Rect) {
    if area.height == 0 || area.width == 0 {
        return;
    }
    if app.shown.is_none() {
        return welcome(app, canvas, area);
    }
    let rows = usize::from(area.height);
    let lines = app.window(usize::from(area.width), rows);
    // What is said last stands next to the input.
    let from = area.height - u16::try_from(lines.len().min(rows)).unwrap_or(area.height);
    for (row, line) in (from..).zip(&lines) {
        canvas.line(area, row, line);
    }
    let Some(talk) = app.talk() else { return };
    if talk.paper.at_top && talk.fetching {
        notch(canvas, area, 0, "older messages come…");
    }
    if !talk.paper.at_end() {
        let words = match talk.said_behind(talk.paper.seen) {
            0 => "more below · End".to_owned(),
            new => format!("{new} new below · End"),
        };
        notch(canvas, area, area.height - 1, &words);
    }
    if lines.iter().all(|line| line.0.is_empty()) {
        let words = match &talk.trouble {
            Some(trouble) => format!("can't be shown: {}", one_line(trouble)),
            None if talk.live => "Nothing was said yet.".to_owned(),
            None => "…".to_owned(),
        };
        canvas.text(area, area.height - 1, 0, &fit(&words, usize::from(area.width)), Look::Dim);
    }
}

/// A word in a line across the conversation.
fn notch(canvas: &mut Canvas<'_>, area: Rect, row: u16, words: &str) {
    canvas.bar(area, row, Look::Bar);
    canvas.text(area, row, 0, &fit(&format!(" {words}"), usize::from(area.width)), Look::Bar);
}

fn welcome(app: &App, canvas: &mut Canvas<'_>, area: Rect) {
    let place = one_line(&app.options.place);
    let mut texts = match &app.link {
        Link::Connecting => vec![format!("Connecting to {place} …")],
        Link::Refused { why } => vec![format!("{place} can't be used: {}", one_line(why))],
        Link::Down { why, .. } => vec![format!("No answer from {place}: {}", one_line(why))],
        Link::Up if !app.board.known => vec!["…".to_owned()],
        Link::Up => vec![
            "No session is shown.".to_owned(),
            "Type a message to begin one, or /new NAME.".to_owned(),
            "/sessions lists what there is, /help explains the rest.".to_owned(),
        ],
    };
    if matches!(app.link, Link::Refused { .. }) {
        texts.push("Ctrl-C twice leaves.".to_owned());
    }
    let mut row = 0;
    for text in texts {
        let line = Line::of(text, Look::Plain);
        for line in wrap(&line, Hang::default(), Look::Plain, usize::from(area.width)) {
            canvas.line(area, row, &line);
            row += 1;
        }
    }
}
