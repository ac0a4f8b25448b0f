//! What commands show: some lines over the conversation, until Esc.

use serde_json::Value;

use super::commands::COMMANDS;
use crate::board::Board;
use crate::lines::Line;
use crate::text::{one_line, padded};
use crate::theme::Look;

/// Keys and what they do, for the help.
const KEYS: &[(&str, &str)] = &[
    ("Enter", "sends; Alt-Enter or Ctrl-J begins a new line"),
    ("Ctrl-N", "goes to the next session that waits for you"),
    ("Alt-Up, Alt-Down", "go to the session above or below; Alt-1 to Alt-9 to that number"),
    ("Ctrl-X", "stops the turn that runs"),
    ("PgUp, PgDn, End", "move through the conversation; Ctrl-Home to its beginning"),
    ("Up, Down", "move in the input; at its edge, through what was sent"),
    ("Ctrl-A, Ctrl-E", "go to the beginning and the end of the line"),
    (
        "Ctrl-W, Ctrl-U, Ctrl-K",
        "cut a word, to the line's beginning, to its end; Ctrl-Y puts it back",
    ),
    ("Ctrl-Left, Ctrl-Right", "move by words; Alt-B and Alt-F too"),
    ("Tab", "completes a command"),
    ("Ctrl-L", "draws the screen anew"),
    ("Ctrl-C twice", "leaves; every session goes on without you"),
];

/// How many sessions are listed at once.
const SESSIONS_MAX: usize = 500;

/// No panel has more lines than this.
const LINES_MAX: usize = 100_000;

/// Some lines over the conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) lines: Vec<Line>,
    /// The first line that is shown.
    pub(crate) top: usize,
}

impl Panel {
    /// Moves so many lines up, or down where they are negative; whoever draws it knows its end.
    pub(crate) fn scroll(&mut self, up: isize) {
        self.top = self.top.saturating_add_signed(up.saturating_neg()).min(LINES_MAX);
    }

    pub(super) fn help() -> Self {
        let mut lines = vec![Line::of("Commands", Look::Heading)];
        for command in COMMANDS {
            let usage = format!("/{} {}", command.name, command.takes);
            lines.push(pair(&usage, command.does));
        }
        lines.push(Line::of("//TEXT sends a text that begins with a slash.", Look::Plain));
        lines.push(Line::default());
        lines.push(Line::of("Keys", Look::Heading));
        lines.extend(KEYS.iter().map(|(key, does)| pair(key, does)));
        lines.push(Line::default());
        lines.push(Line::of("Marks", Look::Heading));
        for (mark, meaning) in [
            ("! approve", "the agent wants to act, and asks for your yes"),
            ("? asks", "the agent asks you something"),
            ("@ person", "messages wait for a person in the agent's place"),
            ("x failed", "the last turn gave up"),
            ("» works", "the agent is at work; … hears: it waits for more messages"),
            ("z asleep", "on disk only, until somebody comes; · idle: nothing to do"),
        ] {
            lines.push(pair(mark, meaning));
        }
        Self { title: "Help".to_owned(), lines, top: 0 }
    }

    pub(super) fn sessions(board: &Board) -> Self {
        let mut lines = Vec::new();
        for row in board.rows().iter().take(SESSIONS_MAX) {
            let (mark, word, look) = row.standing();
            let mut line = Line::of(padded(&row.title(), 28), Look::Plain);
            line.push(&format!(" {mark} {}", padded(word, 8)), look);
            if row.unread > 0 {
                line.push(&format!(" {} unread", row.unread_shown()), Look::Strong);
            }
            if row.queued > 0 {
                line.push(&format!(" {} queued", row.queued), Look::Plain);
            }
            line.push(&format!(" {}", one_line(&row.agent_id)), Look::Dim);
            if let Some(waiting) = row.waiting.as_ref().filter(|waiting| !waiting.text.is_empty()) {
                line.push(&format!(" · {}", one_line(&waiting.text)), Look::Plain);
            }
            lines.push(line);
        }
        let more = board.rows().len().saturating_sub(SESSIONS_MAX);
        if more > 0 {
            lines.push(Line::of(
                format!("… and {more} more: /switch finds them by name"),
                Look::Dim,
            ));
        }
        if lines.is_empty() {
            lines.push(Line::of("There is no session yet. /new begins one.", Look::Plain));
        }
        Self { title: format!("{} sessions", board.rows().len()), lines, top: 0 }
    }

    pub(super) fn status(session: &Value) -> Self {
        let mut lines = Vec::new();
        let fields = [
            ("session", "session"),
            ("state", "state"),
            ("agent", "agent_id"),
            ("user", "customer_id"),
            ("channel", "channel"),
            ("queued", "queued"),
            ("held", "held"),
            ("open turn", "open_turn_id"),
            ("journal", "last_seq"),
            ("changed", "updated_at"),
        ];
        for (name, field) in fields {
            let value = match &session[field] {
                Value::Null => continue,
                Value::String(text) => one_line(text).replace('_', " "),
                other => other.to_string(),
            };
            lines.push(pair(name, &value));
        }
        if let Some(by) = session["paused"]["by"].as_str() {
            lines.push(pair("in the agent's place", &one_line(by)));
        }
        if let Some(tokens) = session["usage"].as_object() {
            let numbers = tokens.iter().filter(|(_, value)| value.is_number());
            let used: Vec<String> =
                numbers.map(|(name, value)| format!("{} {value}", one_line(name))).collect();
            lines.push(pair("used", &used.join(", ")));
        }
        Self { title: "How it stands".to_owned(), lines, top: 0 }
    }

    pub(super) fn stats(stats: &Value) -> Self {
        let mut lines = Vec::new();
        for part in ["sessions", "resources", "limits"] {
            lines.push(Line::of(part, Look::Heading));
            let numbers = stats[part].as_object().into_iter().flatten();
            let plain = numbers.filter(|(_, value)| !value.is_object());
            lines.extend(plain.map(|(name, value)| {
                pair(&one_line(name).replace('_', " "), &number(part, value))
            }));
        }
        let open = stats["most_open"].as_array().filter(|open| !open.is_empty());
        lines.extend(open.map(|_| Line::of("open files", Look::Heading)));
        for open in open.into_iter().flatten() {
            let files = number("resources", &open["open_files"]);
            lines.push(pair(&format!("session {}", open["number"]), &files));
        }
        for advice in stats["recommendations"].as_array().into_iter().flatten() {
            lines.push(Line::of(
                one_line(advice["text"].as_str().unwrap_or_default()),
                Look::Strong,
            ));
        }
        Self { title: "What the sessions use".to_owned(), lines, top: 0 }
    }

    /// What became of a worktree.
    pub(super) fn worktree(name: &str, worktree: &str) -> Self {
        let lines = vec![
            Line::of("What was said there stays with the server.", Look::Plain),
            Line::default(),
            Line::of(one_line(worktree), Look::Strong),
            Line::default(),
            Line::of("`turnkeep sessions worktrees` lists those that stay.", Look::Dim),
        ];
        Self { title: format!("{name} is closed"), lines, top: 0 }
    }

    pub(super) fn queue() -> Self {
        let mut lines = vec![Line::of(
            "/queue WORD says what becomes of messages while the agent works:",
            Look::Plain,
        )];
        for (word, does) in super::commands::POLICIES {
            lines.push(pair(word, does));
        }
        Self { title: "While the agent works".to_owned(), lines, top: 0 }
    }
}

/// A number of the statistics, or what it means that there is none.
fn number(part: &str, value: &Value) -> String {
    match (part, value) {
        ("limits", Value::Null) => "none".to_owned(),
        (_, Value::Null) => "unknown".to_owned(),
        (_, number) => number.to_string(),
    }
}

fn pair(name: &str, does: &str) -> Line {
    Line::of(padded(name, 24), Look::Strong).and("  ", Look::Plain).and(does, Look::Plain)
}
