//! The conversation before a turn, as its agent gets it: what the session's task remembers, else read
//! from the journal, which holds more than what was said.

use turnkeep_core::ids::Seq;
use turnkeep_core::ports::agent::{HistoryEntry, Role};
use turnkeep_core::ports::store::Store;
use turnkeep_core::{Event, SessionKey};

use super::RunHandle;
use crate::recent::{Entry, What};

/// Journal entries read for each line that was asked for: a turn has about this many.
pub(super) const ENTRIES_PER_LINE: u64 = 6;
/// So many at most, where tools or trouble left many entries between the lines.
const ENTRIES_PER_LINE_MAX: u64 = 96;

/// Entries that are read at once.
const PAGE: usize = 256;

/// Lines at most that were not said to the agent: the newest ones.
const ASIDE_MAX: usize = 50;

/// What was found so far.
#[derive(Default)]
pub(super) struct Found {
    pub(super) lines: Vec<HistoryEntry>,
    /// Places that retried dead letters left, and those of what was not let through.
    retried: Vec<Seq>,
    /// Places of what was not said to the agent.
    aside: Vec<Seq>,
    /// The turn's own beginning was read.
    began: bool,
}

/// A journal, read on and on from some place.
pub(super) struct Pages<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) key: &'a SessionKey,
    /// Everything up to here was read.
    pub(super) cursor: Seq,
}

impl Pages<'_> {
    /// The next entries; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Event>>, String> {
        let page = self.store.events(self.key, self.cursor, PAGE).await;
        let page = page.map_err(|error| error.to_string())?;
        let Some(last) = page.last() else { return Ok(None) };
        self.cursor = last.seq;
        Ok(Some(page))
    }
}

impl RunHandle {
    pub(super) async fn lines_before(&self, limit: usize) -> Result<Vec<HistoryEntry>, String> {
        let lines = match self.remembered(limit) {
            Some(lines) => lines,
            None => self.read_lines(limit).await?,
        };
        if lines.is_empty() { self.lines_of_the_chat(limit).await } else { Ok(lines) }
    }

    /// From what the task remembers; none if that doesn't reach far enough back.
    fn remembered(&self, limit: usize) -> Option<Vec<HistoryEntry>> {
        let (from, entries) = self.recent.as_ref()?.read(&self.gateway.0.kept)?;
        let mut found = Found::default();
        for entry in entries.filter(|entry| entry.seq > self.history_from) {
            self.take(entry, false, &mut found);
        }
        found.drop_retried();
        let reaches = from <= self.history_from || found.lines.len() >= limit;
        (found.began && reaches).then(|| found.last(limit))
    }

    async fn read_lines(&self, limit: usize) -> Result<Vec<HistoryEntry>, String> {
        let wanted = limit as u64;
        let reach = |per_line: u64| {
            let entries = wanted.saturating_mul(per_line);
            Seq(self.first.0.saturating_sub(entries).max(self.history_from.0))
        };
        let (mut found, mut per_line) = (Found::default(), ENTRIES_PER_LINE);
        let mut after = reach(per_line);
        self.read(after, None, &mut found).await?;
        found.drop_retried();
        while found.lines.len() < limit
            && after > self.history_from
            && per_line < ENTRIES_PER_LINE_MAX
        {
            per_line *= 4;
            let until = std::mem::replace(&mut after, reach(per_line));
            let newer = std::mem::take(&mut found.lines);
            self.read(after, Some(until), &mut found).await?;
            found.lines.extend(newer);
            found.drop_retried();
        }
        Ok(found.last(limit))
    }

    /// Reads what stands behind `after`, up to `until` or to where the turn began with all of its
    /// messages.
    async fn read(&self, after: Seq, until: Option<Seq>, found: &mut Found) -> Result<(), String> {
        let mut pages = Pages { store: &*self.gateway.0.store, key: &self.key, cursor: after };
        while until.map_or(pages.cursor < self.last || !found.began, |it| pages.cursor < it) {
            let Some(page) = pages.next().await? else { break };
            let within = page.iter().take_while(|event| until.is_none_or(|it| event.seq <= it));
            for entry in within.filter_map(Entry::of) {
                self.take(&entry, until.is_some(), found);
            }
        }
        Ok(())
    }

    /// What was said before this turn began, but of what users said only what came before its own
    /// messages: they may have waited for a reply to others. `older` is what lies before all that.
    fn take(&self, entry: &Entry, older: bool, found: &mut Found) {
        found.note(entry, self.last);
        let before = match &entry.what {
            What::Began(turn) => {
                found.began |= *turn == self.shared.tag.turn;
                return;
            }
            What::Aside(_) | What::Withheld(_) => return,
            What::Line { role, .. } => match role {
                Role::User => entry.seq < self.first,
                // While the agent ended what it could not lay down, an operator may have spoken.
                Role::Operator => true,
                Role::Agent => older || !found.began,
            },
        };
        found.lines.extend(entry.line().filter(|_| before));
    }
}

impl Found {
    /// What an entry says of lines. What is tried again behind `last` is not said again yet.
    pub(super) fn note(&mut self, entry: &Entry, last: Seq) {
        match &entry.what {
            What::Line { retry_of, aside, .. } => {
                self.retried.extend(retry_of.filter(|_| entry.seq <= last));
                self.aside.extend(aside.then_some(entry.seq));
            }
            What::Aside(line) => self.aside.push(*line),
            What::Withheld(line) => self.retried.push(*line),
            What::Began(_) => {}
        }
    }

    /// What a person had tried again was said once: it stands where it was taken anew. And of what
    /// was not said to the agent, only the newest lines stand, so that they don't crowd out the rest.
    pub(super) fn drop_retried(&mut self) {
        self.lines.retain(|line| !self.retried.contains(&line.seq));
        let mut rest = ASIDE_MAX;
        for at in (0..self.lines.len()).rev() {
            if self.aside.contains(&self.lines[at].seq) {
                if rest == 0 {
                    self.lines.remove(at);
                } else {
                    rest -= 1;
                }
            }
        }
    }

    pub(super) fn last(mut self, limit: usize) -> Vec<HistoryEntry> {
        self.lines.split_off(self.lines.len().saturating_sub(limit))
    }
}
