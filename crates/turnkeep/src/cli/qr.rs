//! A QR code in a terminal, dark on light whatever the terminal's own colours are.

use anyhow::Context as _;
use qrcode::{Color, EcLevel, QrCode};

/// Light modules around the code; scanners look for them. Where the window is too low for two, one
/// will do: the code is drawn dark on light, whatever is around it.
const MARGINS: [usize; 2] = [2, 1];
/// Black letters on white, whatever the theme makes of its sixteen colours.
const DARK_ON_LIGHT: &str = "\u{1b}[38;5;16;48;5;231m";
const PLAIN: &str = "\u{1b}[0m";

/// What a text looks like as a QR code.
pub(super) struct Code {
    width: usize,
    dark: Vec<bool>,
}

impl Code {
    /// A text's code, as small as it can be: a screen doesn't get dirty.
    pub(super) fn of(text: &str) -> anyhow::Result<Self> {
        let code = QrCode::with_error_correction_level(text, EcLevel::L);
        let code = code.context("this is too long for a QR code")?;
        let dark = code.to_colors().into_iter().map(|color| color == Color::Dark).collect();
        Ok(Self { width: code.width(), dark })
    }

    /// So many lines and columns it takes in a window with so many rows.
    pub(super) fn size(&self, rows: usize) -> (usize, usize) {
        let side = self.width + 2 * self.margin(rows);
        (side.div_ceil(2), side)
    }

    /// The last row of a window is where the cursor is.
    fn margin(&self, rows: usize) -> usize {
        let fits = |margin: &usize| (self.width + 2 * margin).div_ceil(2) < rows;
        MARGINS.into_iter().find(fits).unwrap_or(MARGINS[1])
    }

    /// Two rows of it in each line of text, for a window with so many rows.
    pub(super) fn drawn(&self, rows: usize) -> String {
        let margin = self.margin(rows);
        let side = self.width + 2 * margin;
        let is_dark = |row, column| self.is_dark(margin, row, column);
        let mut text = String::new();
        for row in (0..side).step_by(2) {
            text.push_str(DARK_ON_LIGHT);
            for column in 0..side {
                text.push(match (is_dark(row, column), is_dark(row + 1, column)) {
                    (true, true) => '█',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (false, false) => ' ',
                });
            }
            text.push_str(PLAIN);
            text.push('\n');
        }
        text
    }

    /// Whether a module is, counted with the margin.
    fn is_dark(&self, margin: usize, row: usize, column: usize) -> bool {
        let inside = |at: usize| at.checked_sub(margin).filter(|at| *at < self.width);
        let (Some(row), Some(column)) = (inside(row), inside(column)) else { return false };
        self.dark[row * self.width + column]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As long as the addresses that Signal gives, which are a little different each time.
    const ADDRESS: &str = "sgnl://linkdevice?uuid=K1hJ%2FxQ%2Bc%2BcOQ%2FvNqXAhzg%3D%3D\
        &pub_key=BXo%2Bqw%2FfXrod%2FvKam%2BQyqgpobonacizhwkedrctlyqujz";

    fn lines(drawn: &str) -> Vec<String> {
        drawn.lines().map(|line| line.replace(DARK_ON_LIGHT, "").replace(PLAIN, "")).collect()
    }

    /// The three corners that scanners look for are where they belong, and light is around them.
    #[test]
    fn a_code_is_drawn_with_its_corners_and_its_margin() {
        let code = Code::of(ADDRESS).unwrap();
        let drawn = code.drawn(50);
        let lines = lines(&drawn);
        let side = code.width + 4;
        assert_eq!((lines.len(), side), code.size(50));
        assert!(lines.iter().all(|line| line.chars().count() == side));
        assert_eq!(lines[0].trim(), "");
        assert!(lines[1].starts_with("  █▀▀▀▀▀█ ") && lines[1].ends_with(" █▀▀▀▀▀█  "), "{drawn}");
        assert!(lines[2].starts_with("  █ ███ █ ") && lines[2].ends_with(" █ ███ █  "), "{drawn}");
        assert!(Code::of(&"x".repeat(5000)).is_err());
    }

    #[test]
    fn a_code_fits_into_the_smallest_window() {
        let code = Code::of(ADDRESS).unwrap();
        assert_eq!(code.size(24), (23, 45));
        assert_eq!(lines(&code.drawn(24)).len(), 23);
        // One row less, and there is one module of light around it.
        assert_eq!(code.size(23), (22, 43));
        let narrow = lines(&code.drawn(23));
        assert!(narrow[0].starts_with(" ▄▄▄▄▄▄▄ "), "{narrow:?}");
        assert_eq!(code.size(10), code.size(23));
    }
}
