//! A QR code in a terminal, dark on light whatever the terminal's own colours are.

use anyhow::Context as _;
use qrcode::{Color, EcLevel, QrCode};

/// Light modules around the code; scanners look for them.
const MARGIN: usize = 2;
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

    /// Two rows of it in each line of text.
    pub(super) fn drawn(&self) -> String {
        let side = self.width + 2 * MARGIN;
        let mut text = String::new();
        for row in (0..side).step_by(2) {
            text.push_str(DARK_ON_LIGHT);
            for column in 0..side {
                text.push(match (self.is_dark(row, column), self.is_dark(row + 1, column)) {
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
    fn is_dark(&self, row: usize, column: usize) -> bool {
        let inside = |at: usize| at.checked_sub(MARGIN).filter(|at| *at < self.width);
        let (Some(row), Some(column)) = (inside(row), inside(column)) else { return false };
        self.dark[row * self.width + column]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The three corners that scanners look for are where they belong, and light is around them.
    #[test]
    fn a_code_is_drawn_with_its_corners_and_its_margin() {
        let code = Code::of("sgnl://linkdevice?uuid=AAAA&pub_key=BBBB").unwrap();
        let drawn = code.drawn();
        let lines: Vec<String> =
            drawn.lines().map(|line| line.replace(DARK_ON_LIGHT, "").replace(PLAIN, "")).collect();
        let side = code.width + 2 * MARGIN;
        assert_eq!(lines.len(), side.div_ceil(2));
        assert!(lines.iter().all(|line| line.chars().count() == side));
        assert_eq!(lines[0].trim(), "");
        assert!(lines[1].starts_with("  █▀▀▀▀▀█ ") && lines[1].ends_with(" █▀▀▀▀▀█  "), "{drawn}");
        assert!(lines[2].starts_with("  █ ███ █ ") && lines[2].ends_with(" █ ███ █  "), "{drawn}");
        assert!(Code::of(&"x".repeat(5000)).is_err());
    }
}
