//! What could be meant by what was typed so far.

use super::App;
use super::commands::{COMMANDS, POLICIES};

/// How many suggestions are made at most.
const SUGGESTIONS_MAX: usize = 50;

/// Suggestions for what is being typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Completion {
    /// What the input becomes with each, and what stands beside it.
    pub(crate) items: Vec<(String, String)>,
    /// The one that stands in the input now.
    pub(crate) chosen: Option<usize>,
}

impl App {
    /// Puts the next suggestion into the input.
    pub(super) fn complete(&mut self, backwards: bool) {
        let count = self.completion.items.len();
        if count == 0 {
            return;
        }
        let next = match (self.completion.chosen, backwards) {
            (None, false) => 0,
            (None, true) => count - 1,
            (Some(chosen), false) => (chosen + 1) % count,
            (Some(chosen), true) => (chosen + count - 1) % count,
        };
        let text = self.completion.items[next].0.clone();
        self.editor_mut().set(&text);
        // With one suggestion there is nothing to choose: what comes behind it is suggested next.
        if count == 1 {
            self.suggest();
        } else {
            self.completion.chosen = Some(next);
        }
    }

    /// Makes suggestions for what stands in the input.
    pub(super) fn suggest(&mut self) {
        self.completion = Completion::default();
        let Some(text) = self.editor().map(|editor| editor.text()) else { return };
        let Some(line) = text.strip_prefix('/').filter(|line| !line.contains('\n')) else { return };
        if line.starts_with('/') {
            return;
        }
        let items = match line.split_once(' ') {
            None => {
                let fitting = COMMANDS.iter().filter(|command| command.name.starts_with(line));
                let of = |command: &super::commands::Command| {
                    let space = if command.takes.is_empty() { "" } else { " " };
                    let beside = format!("{}  {}", command.takes, command.does);
                    (format!("/{}{space}", command.name), beside.trim_start().to_owned())
                };
                fitting.map(of).collect()
            }
            Some((name @ ("switch" | "close"), begun)) => self.sessions_like(name, begun),
            Some(("queue", begun)) => {
                let fitting = POLICIES.iter().filter(|(word, _)| word.starts_with(begun));
                fitting.map(|(word, does)| (format!("/queue {word}"), (*does).to_owned())).collect()
            }
            _ => Vec::new(),
        };
        // What stands there already needs no suggestion.
        let items: Vec<_> = items;
        if items.len() == 1 && items[0].0 == text {
            return;
        }
        self.completion.items = items;
    }

    fn sessions_like(&self, name: &str, begun: &str) -> Vec<(String, String)> {
        let begun = begun.trim_start_matches('"').to_lowercase();
        let fitting = self.board.rows().iter().filter(|row| {
            let label = row.label().to_lowercase();
            label.starts_with(&begun) || row.number.to_string().starts_with(&begun)
        });
        let of = |row: &crate::board::Row| {
            let (mark, word, _) = row.standing();
            let which = match &row.name {
                Some(name) if name.contains(' ') => format!("\"{name}\""),
                Some(name) => name.clone(),
                None => row.number.to_string(),
            };
            (format!("/{name} {which}"), format!("{}  {mark} {word}", row.title()))
        };
        fitting.take(SUGGESTIONS_MAX).map(of).collect()
    }
}
