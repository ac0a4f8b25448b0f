//! What stands over the conversation for a while: panels, and suggestions while a command is typed.

use ratatui_core::layout::Rect;

use super::canvas::Canvas;
use crate::app::App;
use crate::lines::{Hang, Line, wrap};
use crate::text::{fit, padded};
use crate::theme::Look;

/// How many suggestions are shown at once.
const SUGGESTIONS: usize = 6;

/// Where what a panel says of a name begins, on screens that are not narrow.
const PAIR: usize = 26;

/// Screens from here on are not narrow.
const ROOMY: usize = 60;

/// What a command shows, with a title above it and a way out.
pub(super) fn panel(app: &mut App, canvas: &mut Canvas<'_>, area: Rect) {
    let Some(panel) = &mut app.panel else { return };
    if area.height < 2 {
        return;
    }
    for row in 0..area.height {
        canvas.bar(area, row, Look::Plain);
    }
    let columns = usize::from(area.width);
    canvas.bar(area, 0, Look::Bar);
    canvas.text(area, 0, 0, &fit(&format!(" {} · Esc closes", panel.title), columns), Look::Bar);
    let rows = usize::from(area.height) - 1;
    let rest = if columns >= ROOMY { " ".repeat(PAIR) } else { "    ".to_owned() };
    let hang = Hang { first: "", rest: &rest };
    let wrapped = |line: &Line| wrap(line, hang, Look::Plain, columns);
    // What is last stays at the bottom, however far somebody scrolls.
    let lines: Vec<Line> = panel.lines.iter().flat_map(wrapped).collect();
    panel.top = panel.top.min(lines.len().saturating_sub(rows));
    let more = lines.len() > panel.top + rows;
    for (row, line) in (1..).zip(lines.iter().skip(panel.top).take(rows)) {
        canvas.line(area, row, line);
    }
    if more {
        canvas.right(area, area.height - 1, " PgDn: more ", Look::Bar);
    }
}

/// What could be meant, right above the input.
pub(super) fn suggestions(app: &App, canvas: &mut Canvas<'_>, area: Rect) {
    let completion = &app.completion;
    let rows = SUGGESTIONS.min(completion.items.len()).min(usize::from(area.height));
    if rows == 0 {
        return;
    }
    let chosen = completion.chosen.unwrap_or(0);
    let from = (chosen + 1).saturating_sub(rows);
    let items = &completion.items[from..(from + rows).min(completion.items.len())];
    let columns = usize::from(area.width);
    let names = items.iter().map(|(name, _)| crate::text::width(name.trim_end())).max();
    let names = names.unwrap_or(0).min(columns / 2);
    let first = area.height - u16::try_from(rows).unwrap_or(area.height);
    for ((row, index), (name, beside)) in (first..).zip(from..).zip(items) {
        let is_chosen = completion.chosen == Some(index);
        let look = if is_chosen { Look::Chosen } else { Look::Strong };
        canvas.bar(area, row, Look::Plain);
        let used =
            canvas.text(area, row, 0, &format!(" {} ", padded(name.trim_end(), names)), look);
        let room = columns.saturating_sub(usize::from(used) + 1);
        canvas.text(area, row, used + 1, &fit(beside, room), Look::Dim);
    }
    let more = completion.items.len().saturating_sub(from + rows);
    if more > 0 {
        canvas.right(area, area.height - 1, &format!(" {more} more · Tab "), Look::Bar);
    }
}
