//! The little SVG that the picture needs: colours, texts, simple shapes.

use std::fmt::Write;

pub(super) const INK: &str = "#1e293b";
pub(super) const MUTED: &str = "#64748b";
pub(super) const AXIS: &str = "#94a3b8";
pub(super) const GRID: &str = "#e2e8f0";
pub(super) const STRIPE: &str = "#f6f8fb";
pub(super) const GOOD: &str = "#16a34a";
pub(super) const BAD: &str = "#dc2626";

/// A document under construction.
#[derive(Debug)]
pub(super) struct Svg(String);

/// Which end of a text stands at its point.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    size: f64,
    is_strong: bool,
    colour: &'static str,
    anchor: Anchor,
}

impl Text {
    pub(super) fn title() -> Self {
        Self { size: 22.0, is_strong: true, colour: INK, anchor: Anchor::Start }
    }

    pub(super) fn body() -> Self {
        Self { size: 14.0, is_strong: false, colour: INK, anchor: Anchor::Start }
    }

    pub(super) fn small() -> Self {
        Self { size: 12.0, is_strong: false, colour: MUTED, anchor: Anchor::Start }
    }

    pub(super) fn strong(self) -> Self {
        Self { is_strong: true, ..self }
    }

    pub(super) fn anchor(self, anchor: Anchor) -> Self {
        Self { anchor, ..self }
    }
}

impl Svg {
    /// An empty white sheet.
    pub(super) fn new(width: f64, height: f64) -> Self {
        let mut svg = Self(String::with_capacity(64 << 10));
        svg.push(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" style=\"max-width:100%;height:auto\" \
             font-family=\"Inter, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif\">"
        ));
        svg.rect(0.0, 0.0, width, height, 0.0, "#ffffff");
        svg
    }

    pub(super) fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, round: f64, fill: &str) {
        self.push(format_args!(
            "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" \
             rx=\"{round:.1}\" fill=\"{fill}\"/>"
        ));
    }

    pub(super) fn circle(&mut self, x: f64, y: f64, radius: f64, fill: &str) {
        self.push(format_args!(
            "<circle cx=\"{x:.2}\" cy=\"{y:.2}\" r=\"{radius:.1}\" fill=\"{fill}\"/>"
        ));
    }

    /// A circle with a white rim, which stays visible on a bar.
    pub(super) fn dot(&mut self, x: f64, y: f64, radius: f64, fill: &str) {
        self.push(format_args!(
            "<circle cx=\"{x:.2}\" cy=\"{y:.2}\" r=\"{radius:.1}\" fill=\"{fill}\" \
             stroke=\"#ffffff\" stroke-width=\"1\"/>"
        ));
    }

    pub(super) fn line(&mut self, x1: f64, y1: f64, x2: f64, y2: f64, stroke: &str) {
        self.push(format_args!(
            "<line x1=\"{x1:.2}\" y1=\"{y1:.2}\" x2=\"{x2:.2}\" y2=\"{y2:.2}\" stroke=\"{stroke}\"/>"
        ));
    }

    pub(super) fn text(&mut self, x: f64, y: f64, text: &str, look: Text) {
        let weight = if look.is_strong { " font-weight=\"600\"" } else { "" };
        let anchor = match look.anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        self.push(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{}\" fill=\"{}\"{weight}{anchor}>{}</text>",
            look.size,
            look.colour,
            escaped(text)
        ));
    }

    /// What `draw` draws is one thing with a text that shows under the pointer.
    pub(super) fn tipped(&mut self, tip: Option<&str>, draw: impl FnOnce(&mut Self)) {
        let Some(tip) = tip else { return draw(self) };
        self.push(format_args!("<g><title>{}</title>", escaped(tip)));
        draw(self);
        self.push(format_args!("</g>"));
    }

    pub(super) fn finish(mut self) -> String {
        self.push(format_args!("</svg>"));
        self.0
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string can't fail.
        let _ = writeln!(self.0, "{element}");
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
