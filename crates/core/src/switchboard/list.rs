//! What whoever asks is given: rows that nobody changes any more.
//!
//! The whole list is kept in pieces that are shared; a change makes only its own piece anew, so
//! asking for everything costs next to nothing while little changes.

use std::sync::Arc;

use super::states::place;
use super::{Board, Row, STATES};
use crate::session::SessionStatus;

/// Numbers that share a piece.
const PIECE: u32 = 128;
/// Sessions that left and are remembered for those who were not told yet.
const GONE_MAX: usize = 1024;

pub(super) const fn piece_of(number: u32) -> u32 {
    number / PIECE
}

/// The whole list as it was at one moment.
#[derive(Clone, Debug)]
pub struct List {
    /// Of the board then.
    pub version: u64,
    pieces: Arc<[Arc<[Arc<Row>]>]>,
}

impl List {
    /// The rows in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.pieces.iter().flat_map(|piece| piece.iter())
    }

    /// Both are the same list, and not only equal.
    #[must_use]
    pub fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.pieces, &other.pieces)
    }
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sessions on the board.
    pub sessions: usize,
    /// Of these, sessions that wait for a person.
    pub waiting: usize,
    /// What nobody has read, in all of them together.
    pub unread: u64,
    /// Sessions by state, in the order of [`STATES`].
    pub states: [usize; STATES.len()],
}

impl Totals {
    pub(super) fn enter(&mut self, state: SessionStatus, unread: u32, waiting: bool) {
        self.sessions += 1;
        self.waiting += usize::from(waiting);
        self.unread += u64::from(unread);
        self.states[place(state)] += 1;
    }

    pub(super) fn leave(&mut self, state: SessionStatus, unread: u32, waiting: bool) {
        self.sessions -= 1;
        self.waiting -= usize::from(waiting);
        self.unread -= u64::from(unread);
        self.states[place(state)] -= 1;
    }
}

/// A part of the list.
#[derive(Clone, Debug)]
pub struct Page {
    /// Of the board then.
    pub version: u64,
    /// How many there are in all.
    pub totals: Totals,
    /// In their order.
    pub rows: Vec<Arc<Row>>,
    /// The number behind which the next page begins; none at the end.
    pub next: Option<u32>,
}

/// What changed since somebody looked.
#[derive(Clone, Debug)]
pub struct Changes {
    /// Of the board now.
    pub version: u64,
    /// The rows are everything there is, and what was known before is void.
    pub whole: bool,
    /// How many there are in all.
    pub totals: Totals,
    /// Rows that changed, as they are now, in their order.
    pub rows: Vec<Arc<Row>>,
    /// The numbers of those that left.
    pub gone: Vec<u32>,
}

impl Board {
    /// How many there are.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// A row by its number.
    #[must_use]
    pub fn row(&self, number: u32) -> Option<Arc<Row>> {
        self.rows.get(&number).map(|entry| Arc::clone(&entry.row))
    }

    /// The whole list; who asks twice at one version gets the same.
    pub fn list(&mut self) -> List {
        if let Some(listed) = &self.listed {
            return listed.clone();
        }
        for (piece, made) in self.pieces.iter_mut().filter(|(_, made)| made.is_none()) {
            let first = piece * PIECE;
            let rows = self.rows.range(first..=first + (PIECE - 1));
            *made = Some(rows.map(|(_, entry)| Arc::clone(&entry.row)).collect());
        }
        self.pieces.retain(|_, made| made.as_ref().is_some_and(|made| !made.is_empty()));
        let pieces = self.pieces.values().flatten().map(Arc::clone).collect();
        let listed = List { version: self.version, pieces };
        self.listed = Some(listed.clone());
        listed
    }

    /// Rows behind a number that are wanted, at most so many. It looks at no more than the board
    /// holds, so whoever wants few of many has it look at them all.
    #[must_use]
    pub fn page(&self, after: u32, limit: usize, wanted: impl Fn(&Row) -> bool) -> Page {
        let rows = self.rows.range(after.saturating_add(1)..);
        let mut rows = rows.map(|(_, entry)| &entry.row).filter(|row| wanted(row));
        let page: Vec<Arc<Row>> = rows.by_ref().take(limit).map(Arc::clone).collect();
        let next = page.last().map(|row| row.number).filter(|_| rows.next().is_some());
        Page { version: self.version, totals: self.totals, rows: page, next }
    }

    /// The sessions that wait for a person, in their order.
    #[must_use]
    pub fn waiting(&self) -> Vec<Arc<Row>> {
        self.waiting.iter().filter_map(|number| self.row(*number)).collect()
    }

    /// What changed behind this version; none where that is not known, so that whoever asks begins
    /// with the whole list.
    #[must_use]
    pub fn since(&self, version: u64) -> Option<Changes> {
        if version < self.gone_before || version > self.version {
            return None;
        }
        let changed = self.changed.range(version + 1..);
        let mut numbers: Vec<u32> = changed.map(|(_, number)| *number).collect();
        numbers.sort_unstable();
        let rows = numbers.into_iter().filter_map(|number| self.row(number)).collect();
        let gone = self.gone.iter().filter(|(at, _)| *at > version).map(|(_, number)| *number);
        let gone = gone.collect();
        let (version, totals) = (self.version, self.totals);
        Some(Changes { version, whole: false, totals, rows, gone })
    }

    pub(super) fn note_gone(&mut self, number: u32) {
        self.pieces.insert(piece_of(number), None);
        self.listed = None;
        if self.gone.len() == GONE_MAX
            && let Some((version, _)) = self.gone.pop_front()
        {
            self.gone_before = version;
        }
        self.gone.push_back((self.version, number));
    }
}
