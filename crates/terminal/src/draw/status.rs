//! The lines around everything: who waits, whom one writes to, and how things stand.

use ratatui_core::layout::Rect;

use super::canvas::Canvas;
use crate::app::App;
use crate::moment::span;
use crate::ports::Link;
use crate::text::{fit, one_line, width};
use crate::theme::Look;

/// Keys that are shown, the most important first.
const KEYS: [&str; 6] = [
    "/help",
    "Ctrl-X stop",
    "Ctrl-N next waiting",
    "Alt-Enter line",
    "PgUp scroll",
    "Ctrl-C leave",
];

/// The first line of the screen.
pub(super) fn top(app: &App, canvas: &mut Canvas<'_>, area: Rect, wide: bool) {
    canvas.bar(area, 0, Look::Bar);
    let lost = lost(app);
    if !wide {
        return folded(app, canvas, area, lost.as_deref());
    }
    let seat = format!(" Turnkeep {} │ ", one_line(&app.options.seat));
    let used = canvas.text(area, 0, 0, &fit(&seat, usize::from(area.width)), Look::Bar);
    let room = usize::from(area.width.saturating_sub(used + 1));
    match lost {
        Some(why) => canvas.text(area, 0, used, &fit(&why, room), Look::Bar),
        None => {
            let (words, look) = waits(app, room);
            canvas.text(area, 0, used, &words, look)
        }
    };
}

/// On a narrow screen: this session, and how many wait.
fn folded(app: &App, canvas: &mut Canvas<'_>, area: Rect, lost: Option<&str>) {
    let waiting = app.board.waiting().count();
    let roomy = area.width >= 30;
    let beside = match (lost, waiting) {
        (Some(_), _) => " offline ".to_owned(),
        (None, 0) => String::new(),
        (None, count) if roomy => format!(" {count} wait, Ctrl-N "),
        (None, count) => format!(" {count}! "),
    };
    let look = if lost.is_some() { Look::Bar } else { Look::Waits };
    let used = canvas.right(area, 0, &beside, look);
    let words = match app.row() {
        Some(row) => {
            let (mark, word, _) = row.standing();
            let state = if roomy { format!(" {mark} {word}") } else { format!(" {mark}") };
            let room =
                usize::from(area.width.saturating_sub(used)).saturating_sub(width(&state) + 1);
            format!(" {}{state}", fit(&row.title(), room))
        }
        None => format!(" Turnkeep {}", one_line(&app.options.seat)),
    };
    let room = usize::from(area.width.saturating_sub(used));
    canvas.text(area, 0, 0, &fit(&words, room), Look::Bar);
}

/// Who waits, as far as there is room.
fn waits(app: &App, room: usize) -> (String, Look) {
    let mut titles = app.board.waiting().map(|row| row.title());
    let count = app.board.waiting().count();
    let Some(first) = titles.next() else {
        return (fit("nobody waits for you", room), Look::Bar);
    };
    let keys = " (Ctrl-N)";
    let verb = if count == 1 { "waits" } else { "wait" };
    let mut words = format!("{count} {verb} for you: {first}");
    let mut named = 1;
    for title in titles {
        if width(&words) + width(&title) + 2 + width(keys) + 4 > room {
            break;
        }
        words = format!("{words}, {title}");
        named += 1;
    }
    if named < count {
        words.push_str(", …");
    }
    if width(&words) + width(keys) <= room {
        words.push_str(keys);
    }
    (fit(&words, room), Look::Waits)
}

/// What is wrong with the connection.
fn lost(app: &App) -> Option<String> {
    match &app.link {
        Link::Up => None,
        Link::Connecting => Some("connecting…".to_owned()),
        Link::Down { why, retry_ms } => {
            let again = match i64::try_from(*retry_ms).unwrap_or(i64::MAX) {
                ..1000 => String::new(),
                later => format!(" in {}", span(later)),
            };
            Some(format!("connection lost, tries again{again}: {}", one_line(why)))
        }
        Link::Refused { why } => Some(format!("refused: {}", one_line(why))),
    }
}

/// The line above the input: whom one writes to, and what is asked.
pub(super) fn rule(app: &App, canvas: &mut Canvas<'_>, area: Rect) {
    let columns = usize::from(area.width);
    canvas.text(area, 0, 0, &"─".repeat(columns), Look::Line);
    let Some(row) = app.row() else { return };
    let asks = row.waiting.as_ref().map_or("", |waiting| waiting.text.as_str());
    let asks = one_line(asks);
    let (words, look) = match row.waiting.as_ref().map(|waiting| waiting.kind.as_str()) {
        Some("approval") => (format!(" ! y or n: {asks} "), Look::Waits),
        Some("question") => (format!(" ? {asks} "), Look::Waits),
        Some("operator") => (format!(" @ waits for a person: {asks} "), Look::Waits),
        Some("error") => (format!(" x the last turn failed: {asks} "), Look::Wrong),
        _ if app.talk().is_some_and(|talk| talk.operator.is_some()) => {
            let whom = match row.channel.as_str() {
                "terminal" => row.title(),
                _ => format!("{} in {}", one_line(&row.customer_id), row.title()),
            };
            (format!(" in the agent's place, to {whom} "), Look::Operator)
        }
        _ if row.channel == "terminal" => (format!(" to {} ", row.title()), Look::Dim),
        // What is typed here counts as what that user says.
        _ => (format!(" as {} in {} ", one_line(&row.customer_id), row.title()), Look::Strong),
    };
    let room = area.width.saturating_sub(4);
    canvas.text(area, 0, 2, &fit(&words, usize::from(room)), look);
}

/// The last line: what was just done, or how things stand and which keys there are.
pub(super) fn status(app: &App, canvas: &mut Canvas<'_>, area: Rect) {
    let columns = usize::from(area.width);
    if let Some(toast) = &app.toast {
        let look = if toast.wrong { Look::Wrong } else { Look::Strong };
        let sign = if toast.wrong { "x " } else { "" };
        canvas.text(area, 0, 0, &fit(&format!("{sign}{}", one_line(&toast.text)), columns), look);
        return;
    }
    let (sign, link, look) = match &app.link {
        Link::Up => ("●", "connected", Look::Works),
        Link::Connecting => ("○", "connecting", Look::Dim),
        Link::Down { .. } => ("x", "offline", Look::Wrong),
        Link::Refused { .. } => ("x", "refused", Look::Wrong),
    };
    let link = if columns < 40 { sign.to_owned() } else { format!("{sign} {link}") };
    let mut used = usize::from(canvas.text(area, 0, 0, &link, look));
    let unread = app.board.unread;
    if unread > 0 {
        let words = format!("  {unread} unread");
        used += usize::from(canvas.text(
            area,
            0,
            u16::try_from(used).unwrap_or(0),
            &words,
            Look::Plain,
        ));
    }
    let mut keys = String::new();
    for key in KEYS {
        let gap = if keys.is_empty() { 0 } else { 2 };
        if used + 2 + width(&keys) + gap + width(key) > columns {
            break;
        }
        keys = if keys.is_empty() { key.to_owned() } else { format!("{keys}  {key}") };
    }
    canvas.right(area, 0, &keys, Look::Dim);
}
