//! The sessions, one a row.

use ratatui_core::layout::Rect;

use super::canvas::Canvas;
use crate::app::App;
use crate::board::Row;
use crate::lines::Line;
use crate::text::{padded, width};
use crate::theme::Look;

/// How many columns the word for a state takes.
const WORD: usize = 7;

pub(super) fn list(app: &mut App, canvas: &mut Canvas<'_>, area: Rect) {
    let mut area = area;
    let rows = app.board.rows();
    let total = rows.len();
    let shown = app.shown.as_ref().map(|shown| shown.number);
    let headed = area.height >= 8;
    let room = usize::from(area.height) - usize::from(headed);
    let at = shown.map(|number| rows.partition_point(|row| row.number < number));
    let mut from = app.drawn.list_from.min(total.saturating_sub(room));
    if let Some(at) = at.filter(|_| room > 0) {
        from = from.min(at).max((at + 1).saturating_sub(room));
    }
    app.drawn.list_from = from;
    if headed {
        let words = match total {
            0 => "no sessions".to_owned(),
            1 => "1 session".to_owned(),
            _ if total > room => {
                format!("{}–{} of {total} sessions", from + 1, (from + room).min(total))
            }
            _ => format!("{total} sessions"),
        };
        canvas.text(area, 0, 0, &words, Look::Dim);
        area.y += 1;
        area.height -= 1;
    }
    app.drawn.list = (area.y, area.height, area.width);
    let visible = &app.board.rows()[from..(from + room).min(total)];
    let number = visible.iter().map(|row| digits(row.number)).max().unwrap_or(1);
    let unread = visible.iter().map(|row| row.unread_shown().len()).max().unwrap_or(0);
    for (line, row) in (0..).zip(visible) {
        let is_shown = shown == Some(row.number);
        let columns = usize::from(area.width);
        canvas.line(area, line, &row_line(row, is_shown, columns, number, unread));
    }
}

fn row_line(row: &Row, is_shown: bool, columns: usize, number: usize, unread: usize) -> Line {
    let (mark, word, look) = row.standing();
    let unread_columns = if unread == 0 { 0 } else { unread + 1 };
    // The sign of the one that is shown, spaces, the mark and its word.
    let fixed = 1 + number + 1 + 1 + 2 + WORD + unread_columns;
    let name = columns.saturating_sub(fixed);
    let name_look = match (is_shown, row.unread > 0) {
        (true, _) => Look::Chosen,
        (false, true) => Look::Strong,
        (false, false) => Look::Plain,
    };
    let mut line = Line::default();
    line.push(if is_shown { "▸" } else { " " }, Look::Strong);
    line.push(
        &format!("{:>number$} ", row.number),
        if is_shown { Look::Chosen } else { Look::Dim },
    );
    line.push(&padded(&row.label(), name), name_look);
    line.push(" ", Look::Plain);
    line.push(&format!("{mark} {word}"), look);
    let rest = WORD.saturating_sub(width(word));
    line.push(&" ".repeat(rest), Look::Plain);
    if unread > 0 {
        line.push(&format!(" {:>unread$}", row.unread_shown()), Look::Strong);
    }
    line
}

fn digits(number: u32) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}
