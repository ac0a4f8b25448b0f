//! What stands in a lane: bars, dots, and the legend that explains them.

use super::svg::{self, Svg, Text};
use crate::figures::{count, ms};
use crate::report::{Mode, Report};
use crate::timeline::{Bar, BarKind, Dot, DotKind, Lane};

const EXPECTED: &str = "#8fb8f6";
const OVER: &str = "#f6b73c";
const WAITED: &str = "#e4572e";
const FAILED: &str = "#b91c1c";
const CANCELLED: &str = "#a1a9b5";
const CUT_OFF: &str = "#d8b4e2";
const MESSAGE: &str = "#1e3a6e";

/// Shorter tails can't be seen.
const TAIL_PX_MIN: f64 = 0.7;

/// Stands where a lane holds no more marks.
const FULL: &str = "and so on, too many to draw";

/// Dots of one kind that stand closer are drawn as one.
const DOT_GAP_PX: f64 = 2.0;

/// Where things stand.
#[derive(Debug)]
pub(super) struct Scale {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) window_s: f64,
    pub(super) lane_height: f64,
}

impl Scale {
    /// Where a moment stands, cut to the window.
    pub(super) fn x(&self, seconds: f64) -> f64 {
        self.left + (self.right - self.left) * (seconds / self.window_s).clamp(0.0, 1.0)
    }

    fn bar_height(&self) -> f64 {
        self.lane_height * 0.58
    }

    fn dot_radius(&self) -> f64 {
        (self.lane_height * 0.15).clamp(2.6, 4.2)
    }
}

/// Draws one lane around the height `middle`; with a name, its bars explain themselves.
pub(super) fn lane(
    svg: &mut Svg,
    scale: &Scale,
    middle: f64,
    lane: &Lane,
    threshold_ms: u64,
    name: Option<&String>,
) {
    for bar in &lane.bars {
        if bar.times.start.as_secs_f64() < scale.window_s {
            let tip = name.map(|name| tip(name, bar));
            svg.tipped(tip.as_deref(), |svg| draw_bar(svg, scale, middle, bar, threshold_ms));
        }
    }
    let mut drawn = None;
    for dot in lane.dots.iter().filter(|dot| dot.at.as_secs_f64() <= scale.window_s) {
        // Dots upon dots would show nothing but their rims.
        let x = scale.x(dot.at.as_secs_f64());
        let is_covered =
            |(kind, at): (DotKind, f64)| kind == dot.kind && (x - at).abs() < DOT_GAP_PX;
        if !drawn.is_some_and(is_covered) {
            draw_dot(svg, scale, middle, dot);
            drawn = Some((dot.kind, x));
        }
    }
    if let Some(full_from) = lane.full_from.map(|at| at.as_secs_f64())
        && full_from < scale.window_s
    {
        let x = scale.x(full_from);
        let height = scale.bar_height();
        svg.rect(x, middle - height / 2.0, scale.right - x, height, 3.0, "#e9edf3");
        // Where the lane is full just before the window ends, the words would leave the sheet.
        if x + 10.0 + text_width(FULL) <= scale.right {
            svg.text(x + 10.0, middle + 4.0, FULL, Text::small());
        }
    }
}

fn tip(name: &str, bar: &Bar) -> String {
    let took = (bar.times.end - bar.times.start).as_secs_f64() * 1000.0;
    let expected = bar.expected.as_secs_f64() * 1000.0;
    let ending = match bar.kind {
        BarKind::Complete => "answered",
        BarKind::Failed => "failed",
        BarKind::Cancelled => "stopped",
        BarKind::CutOff => "not answered",
    };
    format!("{name}: {ending} after {}, {} expected", ms(took), ms(expected))
}

fn draw_bar(svg: &mut Svg, scale: &Scale, middle: f64, bar: &Bar, threshold_ms: u64) {
    let (start, end) = (bar.times.start.as_secs_f64(), bar.times.end.as_secs_f64());
    let (left, right) = (scale.x(start), scale.x(end));
    let height = scale.bar_height();
    let round = (height / 3.0).min((right - left) / 2.0);
    let top = middle - height / 2.0;
    // A hair of a gap keeps one turn apart from the next.
    let width = (right - left - 0.8).max(0.8);
    svg.rect(left, top, width, height, round, colour(bar.kind));
    let over_s = end - start - bar.expected.as_secs_f64();
    let tail_left = scale.x(start + bar.expected.as_secs_f64());
    if bar.kind != BarKind::Complete || left + width - tail_left < TAIL_PX_MIN {
        return;
    }
    let colour = if over_s * 1000.0 > threshold_ms as f64 { WAITED } else { OVER };
    let tail_width = left + width - tail_left;
    svg.rect(tail_left, top, tail_width, height, round.min(tail_width / 2.0), colour);
}

fn colour(kind: BarKind) -> &'static str {
    match kind {
        BarKind::Complete => EXPECTED,
        BarKind::Failed => FAILED,
        BarKind::Cancelled => CANCELLED,
        BarKind::CutOff => CUT_OFF,
    }
}

fn draw_dot(svg: &mut Svg, scale: &Scale, middle: f64, dot: &Dot) {
    let colour = match dot.kind {
        DotKind::Accepted => MESSAGE,
        DotKind::Refused => svg::BAD,
        DotKind::Failed => "#000000",
    };
    svg.dot(scale.x(dot.at.as_secs_f64()), middle, scale.dot_radius(), colour);
}

/// Explains the marks that this run can hold, in one row that ends at `right`.
pub(super) fn legend(svg: &mut Svg, report: &Report, right: f64) {
    let mut entries: Vec<(Sign, &str, String)> = Vec::new();
    entries.push((Sign::Dot, MESSAGE, "message".to_owned()));
    let flood_refused = report.flood.as_ref().is_some_and(|flood| !flood.refused.is_empty());
    if flood_refused || !report.refused.is_empty() {
        entries.push((Sign::Dot, svg::BAD, "refused".to_owned()));
    }
    if !report.errors.is_empty() {
        entries.push((Sign::Dot, "#000000", "connection lost".to_owned()));
    }
    if report.mode == Mode::Closed {
        entries.push((Sign::Bar, EXPECTED, "a turn: the expected time".to_owned()));
        entries.push((Sign::Bar, OVER, "time over it".to_owned()));
        let waited = format!("more than {} ms over it", count(report.verdict.threshold_ms));
        entries.push((Sign::Bar, WAITED, waited));
    }
    let endings = [
        (report.failed, FAILED, "failed"),
        (report.cancelled, CANCELLED, "stopped"),
        (report.unanswered + report.cut_off, CUT_OFF, "not answered"),
    ];
    for (number, colour, what) in endings {
        if number > 0 {
            entries.push((Sign::Bar, colour, what.to_owned()));
        }
    }
    let mut x = 24.0;
    for (sign, colour, what) in entries {
        x = legend_entry(svg, x, sign, colour, &what);
        debug_assert!(x < right + 24.0, "the legend must fit in one row");
    }
}

#[derive(Clone, Copy)]
enum Sign {
    Dot,
    Bar,
}

const LEGEND_MIDDLE: f64 = 134.0;

fn legend_entry(svg: &mut Svg, x: f64, sign: Sign, colour: &str, what: &str) -> f64 {
    let text_x = match sign {
        Sign::Dot => {
            svg.dot(x + 6.0, LEGEND_MIDDLE, 4.2, colour);
            x + 16.0
        }
        Sign::Bar => {
            svg.rect(x, LEGEND_MIDDLE - 5.5, 26.0, 11.0, 4.0, colour);
            x + 33.0
        }
    };
    svg.text(text_x, LEGEND_MIDDLE + 4.0, what, Text::small());
    text_x + text_width(what) + 22.0
}

/// How wide a small text is. There is no way to measure it here; this is about right.
fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * 5.8
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_full_lane_says_so_where_there_is_room() {
        let check = |full_from_s: f64, expect: bool| {
            let scale = Scale { left: 100.0, right: 1200.0, window_s: 10.0, lane_height: 20.0 };
            let full_from = Some(Duration::from_secs_f64(full_from_s));
            let mut svg = Svg::new(1240.0, 100.0);
            lane(&mut svg, &scale, 50.0, &Lane { full_from, ..Lane::default() }, 250, None);
            assert_eq!(svg.finish().contains(FULL), expect, "full from {full_from_s} s");
        };
        check(5.0, true);
        check(8.4, true);
        check(8.6, false);
        check(9.9, false);
        check(10.0, false);
    }
}
