//! Which lines of a conversation stand on the screen.
//!
//! Only what is seen is ever broken into lines. A place is a line of an entry, so it stays where it
//! is while text comes in below it and pages are put before it.

use std::collections::HashMap;
use std::rc::Rc;

use crate::conversation::Conversation;
use crate::lines::Line;
use crate::paint::{Manner, entry_lines};

/// How many entries keep their lines.
const KEPT_MAX: usize = 1_000;

/// The place of what is not in the journal yet: behind everything.
const TAIL: u64 = u64::MAX;

/// Where in a conversation the screen stands, and the lines that were made for it.
#[derive(Debug, Default)]
pub(crate) struct Paper {
    /// The entry and its line at the top of the screen; none at the end of the conversation.
    top: Option<(u64, usize)>,
    lines: HashMap<u64, (u32, Rc<[Line]>)>,
    manner: Manner,
    rows: usize,
    /// What was said up to here was on the screen, or could have been.
    pub(crate) seen: u64,
    /// The beginning of what is here is on the screen.
    pub(crate) at_top: bool,
}

impl Paper {
    /// Whether the end of the conversation is shown, and stays shown.
    pub(crate) const fn at_end(&self) -> bool {
        self.top.is_none()
    }

    /// Shows the end again.
    pub(crate) const fn show_end(&mut self) {
        self.top = None;
    }

    /// The draft stands in the journal now.
    pub(crate) const fn draft_became(&mut self, seq: u64) {
        if let Some((TAIL, line)) = self.top {
            self.top = Some((seq, line));
        }
    }

    /// Forgets the lines that were made.
    pub(crate) fn forget_lines(&mut self) {
        self.lines.clear();
    }

    fn lines(&mut self, talk: &Conversation, index: usize, tail: &Rc<[Line]>) -> Rc<[Line]> {
        let Some(entry) = talk.entries().get(index) else { return Rc::clone(tail) };
        if let Some((rev, lines)) = self.lines.get(&entry.seq)
            && *rev == entry.rev
        {
            return Rc::clone(lines);
        }
        if self.lines.len() >= KEPT_MAX {
            self.lines.clear();
        }
        let lines: Rc<[Line]> = entry_lines(entry, &self.manner).into();
        self.lines.insert(entry.seq, (entry.rev, Rc::clone(&lines)));
        lines
    }

    /// Index and line of the top; none at the end.
    fn top(&mut self, talk: &Conversation, tail: &Rc<[Line]>) -> Option<(usize, usize)> {
        let (seq, line) = self.top?;
        let (Ok(index) | Err(index)) = talk.index_of(seq);
        let lines = self.lines(talk, index, tail);
        Some((index, line.min(lines.len().saturating_sub(1))))
    }

    /// The place so many lines before another; says whether that is before the beginning.
    fn back(
        &mut self,
        talk: &Conversation,
        (mut index, mut line): (usize, usize),
        mut count: usize,
        tail: &Rc<[Line]>,
    ) -> ((usize, usize), bool) {
        while count > line {
            if index == 0 {
                return ((0, 0), true);
            }
            count -= line;
            index -= 1;
            line = self.lines(talk, index, tail).len();
        }
        ((index, line - count), false)
    }

    /// The lines from a place on, as many as fit.
    fn gather(
        &mut self,
        talk: &Conversation,
        (mut index, mut line): (usize, usize),
        tail: &Rc<[Line]>,
    ) -> Vec<Line> {
        let mut out = Vec::with_capacity(self.rows);
        while index <= talk.entries().len() && out.len() < self.rows {
            let lines = self.lines(talk, index, tail);
            let room = self.rows - out.len();
            out.extend(lines.iter().skip(line).take(room).cloned());
            (index, line) = (index + 1, 0);
        }
        out
    }

    /// Where the screen's top is when its last line is the conversation's.
    fn end(&mut self, talk: &Conversation, tail: &Rc<[Line]>) -> ((usize, usize), bool) {
        self.back(talk, (talk.entries().len(), tail.len()), self.rows, tail)
    }
}

impl Conversation {
    /// The lines to show on a screen of so many rows; `tail` stands behind the journal.
    pub(crate) fn window(&mut self, manner: &Manner, rows: usize, tail: &Rc<[Line]>) -> Vec<Line> {
        let mut paper = std::mem::take(&mut self.paper);
        if paper.manner != *manner {
            paper.lines.clear();
            paper.manner = manner.clone();
        }
        paper.rows = rows;
        let (end, short) = paper.end(self, tail);
        let top = match paper.top(self, tail) {
            // Whoever reads what stands above the last screen stays there.
            Some(top) if top < end => top,
            _ => {
                paper.top = None;
                end
            }
        };
        let lines = paper.gather(self, top, tail);
        paper.at_top = top == (0, 0) && (short || !paper.at_end());
        if paper.at_end() {
            paper.seen = self.last_seq;
        }
        self.paper = paper;
        lines
    }

    /// Moves the screen so many lines up, or down where they are negative.
    pub(crate) fn scroll(&mut self, up: isize, tail: &Rc<[Line]>) {
        let mut paper = std::mem::take(&mut self.paper);
        let (end, _) = paper.end(self, tail);
        let top = paper.top(self, tail).unwrap_or(end);
        let to = if up >= 0 {
            paper.back(self, top, up.unsigned_abs(), tail).0
        } else {
            paper.forth(self, top, up.unsigned_abs(), tail)
        };
        paper.top = (to < end).then(|| {
            let seq = self.entries().get(to.0).map_or(TAIL, |entry| entry.seq);
            (seq, to.1)
        });
        self.paper = paper;
    }

    /// Moves the screen to the beginning of what is here.
    pub(crate) fn scroll_to_top(&mut self) {
        self.paper.top = self.entries().front().map(|entry| (entry.seq, 0));
    }
}

impl Paper {
    /// The place so many lines behind another.
    fn forth(
        &mut self,
        talk: &Conversation,
        (mut index, mut line): (usize, usize),
        mut count: usize,
        tail: &Rc<[Line]>,
    ) -> (usize, usize) {
        loop {
            let rest = self.lines(talk, index, tail).len() - line;
            if count < rest || index >= talk.entries().len() {
                return (index, line + count.min(rest));
            }
            count -= rest;
            (index, line) = (index + 1, 0);
        }
    }
}
