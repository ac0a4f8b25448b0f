//! Leaving: what was sent is waited for a moment, and whoever leaves is told of what isn't there.

use std::collections::BTreeSet;

use super::{App, LEAVE_MS, Pending};
use crate::ports::{Effect, Link};
use crate::text::{harmless, one_line};

/// How long what is on its way is waited for.
const WAIT_MS: i64 = 1_000;

/// How much of what is lost is written out at the end, in bytes.
const GIVEN_UP_BYTES_MAX: usize = 64 * 1024;

/// Whether somebody is about to leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Leaving {
    /// Nobody is.
    #[default]
    Stays,
    /// Whoever says so once more until then leaves.
    Asked {
        until: i64,
        /// They know what is lost by that.
        told: bool,
    },
    /// They leave once nothing is on its way any more; until then that is waited for.
    Waits {
        until: i64,
        /// They know what is lost by that.
        told: bool,
    },
    /// They left.
    Left,
}

impl App {
    /// Ctrl-C: the first time it says how to leave; the second time it leaves.
    pub(super) fn leave(&mut self) {
        match self.leaving {
            Leaving::Asked { until, told } if self.now < until => self.go(told),
            Leaving::Waits { .. } | Leaving::Left => self.quit(),
            Leaving::Asked { .. } | Leaving::Stays => self.ask_to_leave(),
        }
    }

    /// `/quit`: once is enough, unless something is lost by it.
    pub(super) fn go(&mut self, told: bool) {
        if self.is_settled() {
            self.quit();
        } else if self.link == Link::Up {
            self.leaving = Leaving::Waits { until: self.now.saturating_add(WAIT_MS), told };
            self.say("what is on its way is waited for; Ctrl-C leaves at once, Esc stays");
        } else {
            self.quit_or_ask(told);
        }
    }

    fn quit_or_ask(&mut self, told: bool) {
        if told || self.open_words().is_empty() {
            self.quit();
        } else {
            self.ask_to_leave();
        }
    }

    pub(super) fn quit(&mut self) {
        self.leaving = Leaving::Left;
        self.effects.push(Effect::Quit);
    }

    fn ask_to_leave(&mut self) {
        let until = self.now.saturating_add(LEAVE_MS);
        let open = self.open_words();
        self.leaving = Leaving::Asked { until, told: !open.is_empty() };
        if open.is_empty() {
            self.say("Ctrl-C again leaves; every session goes on. Ctrl-X stops a turn.");
        } else {
            self.complain(format!("not there yet: {open}; Ctrl-C leaves without"));
        }
    }

    /// Leaves, or gives it up, where it is time for that.
    pub(super) fn settle_leaving(&mut self) {
        match self.leaving {
            Leaving::Asked { until, .. } if until <= self.now => self.leaving = Leaving::Stays,
            Leaving::Waits { .. } if self.is_settled() => self.quit(),
            Leaving::Waits { until, told } if until <= self.now => self.quit_or_ask(told),
            _ => {}
        }
    }

    /// Whether nothing is on its way that anybody would miss.
    fn is_settled(&self) -> bool {
        let quiet = |one: &Pending| matches!(one, Pending::Switch | Pending::Read);
        self.open_words().is_empty() && !self.pending.values().any(quiet)
    }

    /// What was asked for and isn't there, in words; empty where there is nothing.
    fn open_words(&self) -> String {
        let count = self.unsent.iter().filter(|unsent| unsent.is_open()).count();
        let messages = match count {
            0 => None,
            1 => Some("1 message".to_owned()),
            many => Some(format!("{many} messages")),
        };
        let commands = self.open_commands().into_iter().map(str::to_owned);
        messages.into_iter().chain(commands).collect::<Vec<_>>().join(", ")
    }

    /// The commands that nobody answered yet.
    fn open_commands(&self) -> BTreeSet<&'static str> {
        let command = |pending: &Pending| match pending {
            Pending::Create => Some("/new"),
            Pending::Close { .. } => Some("/close"),
            Pending::Rename => Some("/rename"),
            Pending::Stop => Some("/stop"),
            Pending::Reset => Some("/reset"),
            Pending::Queue => Some("/queue"),
            Pending::Save { .. } => Some("/save"),
            Pending::Load { .. } => Some("/load"),
            Pending::Switch
            | Pending::Read
            | Pending::Status
            | Pending::Stats
            | Pending::Operator { .. }
            | Pending::Message { .. }
            | Pending::FirstPage
            | Pending::FirstActive
            | Pending::Older { .. } => None,
        };
        self.pending.values().filter_map(command).collect()
    }

    /// What is lost when it ends now, for whoever reads what it leaves on the terminal: messages that
    /// were not sent or may not have been, commands that were not answered, and what was typed.
    #[must_use]
    pub fn given_up(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for unsent in self.unsent.iter().filter(|unsent| unsent.is_open()) {
            let perhaps = if unsent.was_tried() { "perhaps " } else { "" };
            let whom = self.name_of(&unsent.session);
            lines.push(format!("{perhaps}not sent to {whom}: {}", set_in(&unsent.text)));
        }
        for command in self.open_commands() {
            lines.push(format!("perhaps not done: {command}"));
        }
        for (session, editor) in &self.editors {
            if !editor.text().trim().is_empty() {
                let whom = self.name_of(session);
                lines.push(format!("typed and not sent to {whom}: {}", set_in(editor.text())));
            }
        }
        shortened(lines)
    }

    /// A session as people call it.
    pub(super) fn name_of(&self, session: &str) -> String {
        match self.board.by_session(session) {
            Some(row) => row.title(),
            None if session.is_empty() => "a new session".to_owned(),
            None => one_line(session),
        }
    }
}

/// A text whose further lines can't be taken for lines of their own.
fn set_in(text: &str) -> String {
    harmless(text.trim_end()).replace('\n', "\n  ")
}

/// As many lines as there is room for, and how many there are besides.
fn shortened(mut lines: Vec<String>) -> Vec<String> {
    let mut bytes = 0;
    let fits = lines.iter().position(|line| {
        bytes += line.len();
        bytes > GIVEN_UP_BYTES_MAX
    });
    if let Some(fits) = fits {
        let more = lines.len() - fits;
        lines.truncate(fits);
        lines.push(format!("and {more} more, too long to be written out here"));
    }
    lines
}
