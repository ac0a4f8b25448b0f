//! The picture of a run: a lane a user, turns as bars, messages as dots, in one SVG file
//! that needs nothing else.
//!
//! A bar's first part is the time that was to be expected, its end the time over that, so
//! a user who waits for another shows as a long coloured tail.

mod marks;
mod svg;

use std::time::Duration;

use self::marks::Scale;
use self::svg::{Anchor, Svg, Text};
use crate::figures::{count, mebibytes, ms, plural, rate};
use crate::report::{Mode, Report};
use crate::timeline::{Bar, BarKind, Dot, DotKind, Lane, RECORDED_MAX, Timeline};

const WIDTH: f64 = 1280.0;
const LEFT: f64 = 132.0;
const MARGIN: f64 = 24.0;
const RIGHT: f64 = 36.0;
const TOP: f64 = 168.0;
const BOTTOM: f64 = 64.0;

/// Bars of average length that fit beside each other; more would be too thin to read.
const BARS_ACROSS: f64 = 60.0;

/// Below this the axis would have no room for its numbers.
const WINDOW_S_MIN: f64 = 0.05;

/// Draws the first seconds of a run.
pub(crate) fn draw(report: &Report, users: &Timeline, flood: &Timeline) -> String {
    let mut lanes = Vec::new();
    if report.flood.is_some() {
        lanes.extend(flood.lanes().into_iter().map(|lane| ("flood (sample)".to_owned(), lane)));
    }
    let user_lanes = users.lanes();
    let window = window(&user_lanes);
    lanes.extend(worst_lane(report, &user_lanes, window));
    lanes.extend(user_lanes.into_iter().map(|lane| (user_name(lane.user), lane)));

    let lane_height = (760.0 / lanes.len() as f64).clamp(17.0, 40.0);
    let bottom = TOP + lane_height * lanes.len() as f64;
    let mut svg = Svg::new(WIDTH, bottom + BOTTOM);
    let scale =
        Scale { left: LEFT, right: WIDTH - RIGHT, window_s: window.as_secs_f64(), lane_height };
    header(&mut svg, report, window);
    marks::legend(&mut svg, report, WIDTH - RIGHT);
    for (index, (name, _)) in lanes.iter().enumerate() {
        background(&mut svg, &scale, index, name);
    }
    axis(&mut svg, &scale, bottom);
    let with_tips = lanes.iter().map(|(_, lane)| lane.bars.len()).sum::<usize>() <= 4_000;
    for (index, (name, lane)) in lanes.iter().enumerate() {
        let middle = TOP + lane_height * (index as f64 + 0.5);
        marks::lane(
            &mut svg,
            &scale,
            middle,
            lane,
            report.verdict.threshold_ms,
            with_tips.then_some(name),
        );
    }
    svg.finish()
}

/// Should the worst turn be that of a user who isn't among those drawn, it gets a lane of
/// its own, with nothing else in it: it's what one looks for.
fn worst_lane(report: &Report, drawn: &[Lane], window: Duration) -> Option<(String, Lane)> {
    let verdict = &report.verdict;
    let user = verdict.worst_user?;
    let began = Duration::from_secs_f64(verdict.worst_began_s);
    if drawn.iter().any(|lane| lane.user == user) || began > window {
        return None;
    }
    let latency = Duration::from_secs_f64(verdict.worst_latency_ms / 1000.0);
    let overhead = Duration::from_secs_f64(verdict.worst_overhead_ms / 1000.0);
    let expected = latency.saturating_sub(overhead);
    let bar = Bar { times: began..began + latency, expected, kind: BarKind::Complete };
    let dots = vec![Dot { at: began, kind: DotKind::Accepted }];
    let name = format!("{} (worst)", user_name(user));
    Some((name, Lane { user, bars: vec![bar], dots, full_from: None }))
}

fn user_name(user: usize) -> String {
    format!("user {}", count(user as u64))
}

/// How much of the run to show: from the start on, as much as stays readable.
fn window(lanes: &[Lane]) -> Duration {
    let lengths: Vec<f64> = lanes
        .iter()
        .flat_map(|lane| &lane.bars)
        .map(|bar| (bar.times.end - bar.times.start).as_secs_f64())
        .collect();
    let ends = lanes.iter().flat_map(|lane| {
        let last_bar = lane.bars.iter().map(|bar| bar.times.end).max();
        last_bar.max(lane.dots.iter().map(|dot| dot.at).max())
    });
    let extent_s = ends.max().unwrap_or_default().min(RECORDED_MAX).as_secs_f64();
    let full_from = lanes.iter().filter_map(|lane| lane.full_from).min();
    let mut window_s = extent_s.min(full_from.map_or(f64::MAX, |at| at.as_secs_f64()));
    if !lengths.is_empty() {
        let mean_s = lengths.iter().sum::<f64>() / lengths.len() as f64;
        // Whoever starts last, by the ramp, should still be seen.
        let first_ends = lanes.iter().filter_map(|lane| lane.bars.first()).map(|bar| bar.times.end);
        let all_seen_s = first_ends.max().unwrap_or_default().as_secs_f64() * 1.1;
        window_s = window_s.min((mean_s * BARS_ACROSS).max(all_seen_s));
    }
    Duration::from_secs_f64((window_s * 1.01).max(WINDOW_S_MIN))
}

fn header(svg: &mut Svg, report: &Report, window: Duration) {
    let agent = match report.mode {
        Mode::Closed => format!(", an agent that takes {} ms", count(report.delay_ms)),
        Mode::Open => ", answers not awaited".to_owned(),
    };
    let bursts = match report.burst {
        1 => String::new(),
        burst => format!(", bursts of {}", count(burst)),
    };
    let title = format!("{}{agent}{bursts}", plural(report.users as u64, "user"));
    svg.text(MARGIN, 44.0, &title, Text::title());
    svg.text(MARGIN, 72.0, &key_figures(report), Text::body());
    let (colour, sentence) = match report.verdict.nobody_waited {
        Some(true) => (svg::GOOD, &report.verdict.sentence),
        Some(false) => (svg::BAD, &report.verdict.sentence),
        None => (svg::MUTED, &report.verdict.sentence),
    };
    svg.circle(MARGIN + 6.0, 95.0, 5.5, colour);
    svg.text(MARGIN + 18.0, 100.0, sentence, Text::body().strong());
    let shown = format!(
        "{} of {} s shown, channel {} on {}",
        rate(window.as_secs_f64().min(report.elapsed_s)),
        rate(report.elapsed_s),
        report.channel,
        report.target
    );
    svg.text(WIDTH - RIGHT, 44.0, &shown, Text::small().anchor(Anchor::End));
}

fn key_figures(report: &Report) -> String {
    let mut figures = match report.mode {
        Mode::Closed => vec![
            format!("{} turns/s", rate(report.turns_per_second)),
            format!("latency p50 {}, p99 {}", ms(report.latency.p50_ms), ms(report.latency.p99_ms)),
            format!("over the agent p99 {}", ms(report.overhead.p99_ms)),
        ],
        Mode::Open => vec![
            format!("{} messages/s", rate(report.messages_per_second)),
            format!(
                "acceptance p50 {}, p99 {}",
                ms(report.acceptance.p50_ms),
                ms(report.acceptance.p99_ms)
            ),
        ],
    };
    if report.burst > 1 {
        figures.push(format!("{} messages a turn", rate(report.messages_per_turn)));
    }
    let server = &report.server;
    let unit = report.mode.unit();
    figures.extend(server.cpu_ms_per_turn.map(|cpu_ms| format!("{} CPU a {unit}", ms(cpu_ms))));
    figures
        .extend(server.fsyncs_per_turn.map(|fsyncs| format!("{} fsyncs a {unit}", rate(fsyncs))));
    figures.extend(server.rss_bytes.map(|bytes| format!("memory {}", mebibytes(bytes))));
    figures.join("  ·  ")
}

fn background(svg: &mut Svg, scale: &Scale, index: usize, name: &str) {
    let top = TOP + scale.lane_height * index as f64;
    if index.is_multiple_of(2) {
        svg.rect(scale.left, top, scale.right - scale.left, scale.lane_height, 0.0, svg::STRIPE);
    }
    let text = Text::small().anchor(Anchor::End);
    svg.text(scale.left - 10.0, top + scale.lane_height / 2.0 + 4.0, name, text);
}

fn axis(svg: &mut Svg, scale: &Scale, bottom: f64) {
    let step_s = nice_step(scale.window_s / 10.0);
    let digits = (-step_s.log10()).ceil().max(0.0) as usize;
    let mut tick = 0;
    while f64::from(tick) * step_s <= scale.window_s {
        let seconds = f64::from(tick) * step_s;
        let x = scale.x(seconds);
        svg.line(x, TOP, x, bottom, svg::GRID);
        let label = Text::small().anchor(Anchor::Middle);
        svg.text(x, bottom + 18.0, &format!("{seconds:.digits$}"), label);
        tick += 1;
    }
    svg.line(scale.left, bottom, scale.right, bottom, svg::AXIS);
    let middle = f64::midpoint(scale.left, scale.right);
    let label = Text::small().anchor(Anchor::Middle);
    svg.text(middle, bottom + 42.0, "seconds since the run began", label);
}

/// The next of 1, 2 and 5 times a power of ten.
fn nice_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= least * 0.999);
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_stand_at_round_numbers() {
        let check = |least: f64, expect: f64| {
            let step = nice_step(least);
            assert!((step - expect).abs() < expect * 1e-9, "{least} gave {step}");
        };
        check(0.05, 0.05);
        check(0.13, 0.2);
        check(1.0, 1.0);
        check(2.2, 5.0);
        check(7.0, 10.0);
    }
}
