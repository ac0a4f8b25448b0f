//! Puts lines on the screen's cells, and never beside them.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use crate::lines::Line;
use crate::text::{fit, width};
use crate::theme::{Look, style};

pub(super) struct Canvas<'a> {
    pub(super) buffer: &'a mut Buffer,
    pub(super) color: bool,
}

impl Canvas<'_> {
    /// Puts a line on a row of an area, cut where it is too long.
    pub(super) fn line(&mut self, area: Rect, row: u16, line: &Line) {
        let Some(y) = self.row(area, row) else { return };
        let mut used = 0;
        for piece in &line.0 {
            used += self.put(area, y, used, &piece.text, piece.look);
        }
    }

    /// Puts a text at a column of a row. Says how many columns it takes.
    pub(super) fn text(
        &mut self,
        area: Rect,
        row: u16,
        column: u16,
        text: &str,
        look: Look,
    ) -> u16 {
        match self.row(area, row) {
            Some(y) => self.put(area, y, column, text, look),
            None => 0,
        }
    }

    /// Puts a text at the right end of a row. Says how many columns it takes.
    pub(super) fn right(&mut self, area: Rect, row: u16, text: &str, look: Look) -> u16 {
        let text = fit(text, usize::from(area.width));
        let columns = u16::try_from(width(&text)).unwrap_or(area.width).min(area.width);
        self.text(area, row, area.width - columns, &text, look)
    }

    /// Gives a row one look from end to end, and empties it.
    pub(super) fn bar(&mut self, area: Rect, row: u16, look: Look) {
        let blank = " ".repeat(usize::from(area.width));
        self.text(area, row, 0, &blank, look);
    }

    /// Draws a line down.
    pub(super) fn vertical(&mut self, area: Rect) {
        for row in 0..area.height {
            self.text(area, row, 0, "│", Look::Line);
        }
    }

    fn row(&self, area: Rect, row: u16) -> Option<u16> {
        let inside = row < area.height && area.y + row < self.buffer.area.bottom();
        inside.then_some(area.y + row)
    }

    fn put(&mut self, area: Rect, y: u16, column: u16, text: &str, look: Look) -> u16 {
        let room = area.width.saturating_sub(column);
        let room = room.min(self.buffer.area.right().saturating_sub(area.x.saturating_add(column)));
        if room == 0 {
            return 0;
        }
        let from = area.x + column;
        let style = style(look, self.color);
        let (end, _) = self.buffer.set_stringn(from, y, text, usize::from(room), style);
        end - from
    }
}
