//! Tables: cells in columns where they fit, else one behind the other.

use crate::lines::Line;
use crate::text::{padded, width};
use crate::theme::Look;

/// More cells than this are left out, and the table says so.
const CELLS_MAX: usize = 2_000;

/// A table while it is read.
#[derive(Default)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
    cells: usize,
}

impl Table {
    /// A row begins; the first one is the head.
    pub(super) fn row(&mut self) {
        if self.cells < CELLS_MAX {
            self.rows.push(Vec::new());
        }
    }

    /// A cell begins.
    pub(super) fn cell(&mut self) {
        self.cells += 1;
        if self.cells <= CELLS_MAX
            && let Some(row) = self.rows.last_mut()
        {
            row.push(String::new());
        }
    }

    /// Some of the cell's text.
    pub(super) fn text(&mut self, text: &str) {
        if self.cells <= CELLS_MAX
            && let Some(cell) = self.rows.last_mut().and_then(|row| row.last_mut())
        {
            cell.push_str(&text.replace('\n', " "));
        }
    }

    /// The table's lines. Wider ones than the screen are broken by whoever shows them.
    pub(super) fn lines(&self, columns: usize) -> Vec<Line> {
        let count = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widest = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max()
        };
        let widths: Vec<usize> = (0..count).map(|column| widest(column).unwrap_or(0)).collect();
        let whole = widths.iter().sum::<usize>() + 3 * count.saturating_sub(1);
        let mut lines = Vec::new();
        for (index, row) in self.rows.iter().enumerate() {
            let look = if index == 0 { Look::Strong } else { Look::Plain };
            let mut line = Line::default();
            for (column, cell) in row.iter().enumerate() {
                if column > 0 {
                    line.push(" │ ", Look::Line);
                }
                let fits = whole <= columns;
                let cell = if fits { padded(cell, widths[column]) } else { cell.clone() };
                line.push(&cell, look);
            }
            lines.push(line);
            if index == 0 && whole <= columns {
                let parts: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
                lines.push(Line::of(parts.join("─┼─"), Look::Line));
            }
        }
        if self.cells > CELLS_MAX {
            lines.push(Line::of("… (the rest of the table is not shown)", Look::Dim));
        }
        lines
    }
}
