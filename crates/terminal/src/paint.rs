//! How an entry of a conversation looks: a line that says who and when, and the text below it.

use crate::conversation::{Entry, Kind};
use crate::lines::{Hang, Line, wrap};
use crate::markdown::{markdown, plain};
use crate::moment::clock;
use crate::text::one_line;
use crate::theme::Look;

/// Screens narrower than this show texts without an indent, and no times.
const NARROW: usize = 40;

/// What the lines of all entries depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manner {
    /// How many columns there are.
    pub(crate) columns: usize,
    /// The day that it is, in milliseconds since 1970.
    pub(crate) today: i64,
    /// How far local time is from UTC.
    pub(crate) utc_offset_s: i32,
    /// Who reads this writes here as the user.
    pub(crate) own: bool,
}

impl Manner {
    const fn indent(&self) -> &'static str {
        if self.columns < NARROW { "" } else { "  " }
    }

    fn time(&self, at: i64) -> String {
        if self.columns < NARROW { String::new() } else { clock(at, self.today, self.utc_offset_s) }
    }
}

/// The lines of an entry; the first one is empty, to set it apart.
pub(crate) fn entry_lines(entry: &Entry, manner: &Manner) -> Vec<Line> {
    let said = |head: Line, body: Vec<Line>| spoken(head, body, manner);
    let time = manner.time(entry.at);
    match &entry.kind {
        Kind::User { sender, standing } => {
            let who = if manner.own || sender.is_empty() { "you" } else { sender };
            let head = head("›", who, Look::User, &time).and(&after(standing.word()), Look::Dim);
            said(head, plain(&entry.text, Look::Plain, body_columns(manner)))
        }
        Kind::Agent => said(head("●", "agent", Look::Agent, &time), prose(entry, manner)),
        Kind::Ended { reason } => {
            let words = match reason.as_str() {
                "reset" => "ended by a new conversation",
                "closed" => "ended by closing",
                _ => "stopped",
            };
            if entry.text.is_empty() {
                return divider(words, manner);
            }
            let head = head("●", "agent", Look::Agent, &time).and(&after(words), Look::Wrong);
            said(head, prose(entry, manner))
        }
        Kind::Operator { by } => {
            let who = format!("{} (person)", one_line(by));
            said(head("@", &who, Look::Operator, &time), prose(entry, manner))
        }
        Kind::Notice => {
            let body = plain(&entry.text, Look::Plain, body_columns(manner));
            said(head("i", "notice", Look::Notice, &time), body)
        }
        Kind::Question { approval, open, .. } => {
            let (sign, words, keys) = if *approval {
                ("!", "the agent asks for a yes", "type y or n, then Enter")
            } else {
                ("?", "the agent asks", "type your answer, then Enter")
            };
            let look = if *open { Look::Waits } else { Look::Agent };
            let mut lines = said(head(sign, words, look, &time), prose(entry, manner));
            if *open {
                lines.push(
                    Line::of(manner.indent(), Look::Plain).and(&format!("→ {keys}"), Look::Strong),
                );
            }
            lines
        }
        Kind::Tool { tool, outcome } => {
            let outcome = if outcome.is_empty() { "…" } else { outcome };
            let line = Line::of(format!("· {} ", one_line(tool)), Look::Dim)
                .and(&one_line(&entry.text), Look::Dim)
                .and(&format!(" → {}", one_line(outcome)), Look::Dim);
            wrap(&line, Hang { first: "", rest: "  " }, Look::Dim, manner.columns)
        }
        Kind::Failure => {
            let body = plain(&entry.text, Look::Plain, body_columns(manner));
            said(head("x", "the turn failed", Look::Wrong, &time), body)
        }
        Kind::Divider => divider(&one_line(&entry.text), manner),
    }
}

/// A message that the server does not have yet.
pub(crate) fn unsent_lines(text: &str, standing: &str, manner: &Manner) -> Vec<Line> {
    let head = head("›", "you", Look::User, "").and(&after(standing), Look::Dim);
    spoken(head, plain(text, Look::Plain, body_columns(manner)), manner)
}

/// What the agent is saying.
pub(crate) fn draft_lines(text: &str, manner: &Manner) -> Vec<Line> {
    let head = head("●", "agent", Look::Agent, "").and(&after("writes…"), Look::Works);
    spoken(head, markdown(text, body_columns(manner)), manner)
}

/// A line that says what goes on.
pub(crate) fn activity_line(words: &str, manner: &Manner) -> Vec<Line> {
    let line = Line::of(format!("» {words}"), Look::Works);
    let mut lines = vec![Line::default()];
    lines.extend(wrap(&line, Hang { first: "", rest: "  " }, Look::Works, manner.columns));
    lines
}

fn prose(entry: &Entry, manner: &Manner) -> Vec<Line> {
    markdown(&entry.text, body_columns(manner))
}

fn body_columns(manner: &Manner) -> usize {
    manner.columns.saturating_sub(manner.indent().len()).max(2)
}

fn head(sign: &str, who: &str, look: Look, time: &str) -> Line {
    let line = Line::of(format!("{sign} {}", one_line(who)), look);
    if time.is_empty() { line } else { line.and(&format!("  {time}"), Look::Dim) }
}

fn after(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!("  {words}") }
}

fn spoken(head: Line, body: Vec<Line>, manner: &Manner) -> Vec<Line> {
    let mut lines = vec![Line::default()];
    lines.extend(wrap(&head, Hang::default(), Look::Plain, manner.columns));
    for line in body {
        let mut shown = Line::default().and(manner.indent(), Look::Plain);
        shown.0.extend(line.0);
        lines.push(shown);
    }
    lines
}

fn divider(words: &str, manner: &Manner) -> Vec<Line> {
    let line = Line::of(format!("── {words} ──"), Look::Line);
    let mut lines = vec![Line::default()];
    lines.extend(wrap(&line, Hang { first: "", rest: "   " }, Look::Line, manner.columns));
    lines
}
