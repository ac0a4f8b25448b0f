//! Which lines the model sees: as much history as fits, the turn, and what its calls came to.
//!
//! A call and its result enter together and stay together, whatever else is left out.

use turnkeep_core::ports::agent::{HistoryEntry, Role};

use super::provider::{Call, CallResult, Line};
use super::telling;

/// What one message costs beside its text.
const MESSAGE_TOKENS: u32 = 4;
/// A token is about this many characters of English; of other languages it is fewer, so a budget
/// close to the model's window should leave room.
const TOKEN_CHARS: usize = 4;
/// What is left of a result that is shortened.
const SHORT_RESULT_BYTES: usize = 1024;
/// What all results of a turn may come to; the oldest are shortened then.
const RESULTS_BYTES_MAX: usize = 1 << 20;

/// Everything the model sees beside its instructions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Conversation {
    lines: Vec<Line>,
    /// How many of them were there before the turn.
    history: usize,
}

/// What a compaction took away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Compacted {
    /// Lines of the history that are gone.
    pub(super) lines: usize,
    /// Results of calls that were shortened.
    pub(super) results: usize,
    /// Tokens before and after, estimated.
    pub(super) tokens: (u32, u32),
}

impl Conversation {
    /// Begins with the newest part of `history`, oldest first, that fits.
    pub(super) fn new(history: &[HistoryEntry], history_tokens: u32) -> Self {
        let line = |entry: &HistoryEntry| match entry.role {
            Role::User => Line::User(entry.text.to_string()),
            // The user read both in one place, and the model knows no third side.
            Role::Agent | Role::Operator => Line::Agent(entry.text.to_string()),
        };
        let lines: Vec<Line> = newest_that_fit(history, history_tokens).iter().map(line).collect();
        Self { history: lines.len(), lines }
    }

    pub(super) fn push_user(&mut self, text: &str) {
        self.lines.push(Line::User(text.to_owned()));
    }

    pub(super) fn push_agent(&mut self, text: &str) {
        self.lines.push(Line::Agent(text.to_owned()));
    }

    /// What the model called and what came of each, in the same order.
    pub(super) fn push_calls(
        &mut self,
        said: &str,
        calls: Vec<Call>,
        raw: Option<serde_json::Value>,
        results: Vec<CallResult>,
    ) {
        debug_assert!(
            calls.iter().map(|call| &call.id).eq(results.iter().map(|result| &result.id))
        );
        self.lines.push(Line::Calls { said: said.to_owned(), calls, raw });
        self.lines.push(Line::Results(results));
        let bytes: usize = self.results().map(|result| result.content.len()).sum();
        if bytes > RESULTS_BYTES_MAX {
            let mut over = bytes - RESULTS_BYTES_MAX;
            self.shorten_results(|saved| {
                over = over.saturating_sub(saved);
                over > 0
            });
        }
    }

    pub(super) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Another provider is asked from here on; what only this one understands goes.
    pub(super) fn forget_raw(&mut self) {
        for line in &mut self.lines {
            if let Line::Calls { raw, .. } = line {
                *raw = None;
            }
        }
    }

    /// Makes it about half as long: the oldest history goes, then the oldest results become short.
    /// All messages of the turn stay. None if there was nothing to take away.
    pub(super) fn compact(&mut self) -> Option<Compacted> {
        let before = self.tokens();
        let target = before / 2;
        let (mut gone, mut left) = (0, before);
        while gone < self.history && left > target {
            left = left.saturating_sub(line_tokens(&self.lines[gone]));
            gone += 1;
        }
        // It begins with the user afterwards, too.
        while gone < self.history && matches!(self.lines[gone], Line::Agent(_)) {
            left = left.saturating_sub(line_tokens(&self.lines[gone]));
            gone += 1;
        }
        self.lines.drain(..gone);
        self.history -= gone;
        let mut results = 0;
        if left > target {
            self.shorten_results(|saved| {
                results += 1;
                let saved = u32::try_from(saved / TOKEN_CHARS).unwrap_or(u32::MAX);
                left = left.saturating_sub(saved);
                left > target
            });
        }
        let tokens = (before, self.tokens());
        (gone + results > 0).then_some(Compacted { lines: gone, results, tokens })
    }

    /// Shortens results, the oldest first, for as long as `more` of what was saved says so.
    fn shorten_results(&mut self, mut more: impl FnMut(usize) -> bool) {
        for line in &mut self.lines {
            let Line::Results(results) = line else { continue };
            for result in results {
                if result.content.len() <= SHORT_RESULT_BYTES {
                    continue;
                }
                let short = telling::within(&result.content, SHORT_RESULT_BYTES);
                let saved = result.content.len() - short.len();
                result.content = short;
                if !more(saved) {
                    return;
                }
            }
        }
    }

    fn results(&self) -> impl Iterator<Item = &CallResult> {
        fn of(line: &Line) -> &[CallResult] {
            match line {
                Line::Results(results) => results,
                _ => &[],
            }
        }
        self.lines.iter().flat_map(of)
    }

    fn tokens(&self) -> u32 {
        self.lines.iter().fold(0, |sum, line| sum.saturating_add(line_tokens(line)))
    }
}

fn line_tokens(line: &Line) -> u32 {
    match line {
        Line::User(text) | Line::Agent(text) => estimated_tokens(text),
        Line::Calls { said, calls, .. } => {
            calls.iter().fold(estimated_tokens(said), |sum, call| {
                sum.saturating_add(estimated_tokens(&call.arguments))
            })
        }
        Line::Results(results) => results
            .iter()
            .fold(0, |sum: u32, result| sum.saturating_add(estimated_tokens(&result.content))),
    }
}

/// A simple estimate, the same for every model.
fn estimated_tokens(text: &str) -> u32 {
    let tokens = text.chars().count().div_ceil(TOKEN_CHARS);
    u32::try_from(tokens).unwrap_or(u32::MAX).saturating_add(MESSAGE_TOKENS)
}

/// The lines at the end that fit, without a hole, and beginning with the user: a conversation that
/// begins with an answer confuses models, and some servers refuse it.
fn newest_that_fit(history: &[HistoryEntry], tokens: u32) -> &[HistoryEntry] {
    let mut left = tokens;
    let mut first = history.len();
    for (index, entry) in history.iter().enumerate().rev() {
        let Some(rest) = left.checked_sub(estimated_tokens(&entry.text)) else { break };
        (left, first) = (rest, index);
    }
    let fitting = history.get(first..).unwrap_or_default();
    let user = fitting.iter().position(|entry| entry.role == Role::User);
    user.and_then(|user| fitting.get(user..)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use turnkeep_core::ids::Seq;

    fn line(role: Role, text: &str) -> HistoryEntry {
        HistoryEntry { seq: Seq(1), role, text: text.into() }
    }

    fn shown(conversation: &Conversation) -> Vec<String> {
        let words = |line: &Line| match line {
            Line::User(text) => format!("user {text}"),
            Line::Agent(text) => format!("agent {text}"),
            Line::Calls { calls, .. } => format!("calls {}", calls.len()),
            Line::Results(results) => {
                let lengths: Vec<_> =
                    results.iter().map(|result| result.content.len().to_string()).collect();
                format!("results {}", lengths.join(" "))
            }
        };
        conversation.lines().iter().map(words).collect()
    }

    fn check(history: &[HistoryEntry], tokens: u32, expect: &[&str]) {
        assert_eq!(shown(&Conversation::new(history, tokens)), expect);
    }

    #[test]
    fn the_newest_history_that_fits_is_sent() {
        let history = [
            line(Role::User, "12345678"),
            line(Role::Agent, "1234"),
            line(Role::User, "äöüß"),
            line(Role::Agent, "12345"),
        ];
        let all = ["user 12345678", "agent 1234", "user äöüß", "agent 12345"];
        // 6 + 5 + 5 + 6 tokens.
        check(&history, 22, &all);
        check(&history, 21, &all[2..]);
        check(&history, 11, &all[2..]);
        check(&history, 10, &[]);
        check(&history, 0, &[]);
        check(&[], 100, &[]);
    }

    #[test]
    fn a_line_that_does_not_fit_ends_the_history() {
        let history = [
            line(Role::User, "old"),
            line(Role::Agent, &"x".repeat(1000)),
            line(Role::User, "new"),
        ];
        check(&history, 100, &["user new"]);
    }

    fn with_calls(conversation: &mut Conversation, results: &[usize]) {
        let id = |number: usize| format!("call{number}");
        let call = |number| Call { id: id(number), tool: "t".into(), arguments: "{}".into() };
        let calls = (0..results.len()).map(call).collect();
        let result = |(number, length): (usize, &usize)| CallResult {
            id: id(number),
            content: "x".repeat(*length),
            is_error: false,
        };
        let results = results.iter().enumerate().map(result).collect();
        conversation.push_calls("", calls, None, results);
    }

    #[test]
    fn compaction_takes_the_oldest_and_keeps_the_turn_and_its_pairs() {
        let history: Vec<_> = ["aaaa", "bbbb", "cccc", "dddd"]
            .iter()
            .zip([Role::User, Role::Agent, Role::User, Role::Agent])
            .map(|(text, role)| line(role, text))
            .collect();
        let mut conversation = Conversation::new(&history, 1000);
        conversation.push_user("now");
        let compacted = conversation.compact().unwrap();
        assert_eq!(shown(&conversation), ["user now"]);
        assert_eq!((compacted.lines, compacted.results, compacted.tokens), (4, 0, (25, 5)));
        assert_eq!(conversation.compact(), None, "nothing is left to take");

        let mut conversation = Conversation::new(&history, 1000);
        conversation.push_user("now");
        with_calls(&mut conversation, &[12_000, 10]);
        with_calls(&mut conversation, &[9000]);
        let compacted = conversation.compact().unwrap();
        assert_eq!((compacted.lines, compacted.results), (4, 1));
        let short = ["user now", "calls 2", "results 1024 10", "calls 1", "results 9000"];
        assert_eq!(shown(&conversation), short);
        assert_eq!(conversation.compact().map(|compacted| compacted.results), Some(1));
        assert_eq!(conversation.compact(), None);
    }

    #[test]
    fn what_results_come_to_is_bounded() {
        let mut conversation = Conversation::default();
        for _ in 0..20 {
            with_calls(&mut conversation, &[64 << 10]);
        }
        let bytes: usize = conversation.results().map(|result| result.content.len()).sum();
        assert!(bytes <= RESULTS_BYTES_MAX && bytes > RESULTS_BYTES_MAX / 2, "{bytes}");
    }
}
