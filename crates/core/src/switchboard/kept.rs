//! What of a board is kept: what has to be written down, and what becomes of a board when it is read
//! again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::entry::Entry;
use super::seats::Seat;
use super::{Board, Resources, Row};
use crate::ids::Seq;
use crate::ports::switchboard::{BoardChange, CHANGE_MAX, KeptBoard, KeptRow, KeptSeat};
use crate::session::SessionStatus;
use crate::session_key::SessionKey;

/// What is not written down yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Unsaved {
    /// By number; whether somebody waits for it.
    rows: BTreeMap<u32, bool>,
    gone: BTreeSet<SessionKey>,
    seats: BTreeSet<Arc<str>>,
    seats_gone: BTreeSet<Arc<str>>,
}

impl Unsaved {
    pub(super) fn row(&mut self, number: u32, wanted: bool) {
        *self.rows.entry(number).or_default() |= wanted;
    }

    pub(super) fn gone(&mut self, number: u32, key: &SessionKey) {
        self.rows.remove(&number);
        self.gone.insert(key.clone());
    }

    pub(super) fn seat(&mut self, seat: &Arc<str>) {
        self.seats.insert(Arc::clone(seat));
    }

    pub(super) fn seat_gone(&mut self, seat: &Arc<str>) {
        self.seats.remove(seat);
        self.seats_gone.insert(Arc::clone(seat));
    }
}

impl Board {
    /// Something has to be written down.
    #[must_use]
    pub fn has_unsaved(&self) -> bool {
        let Unsaved { rows, gone, seats, seats_gone } = &self.unsaved;
        !(rows.is_empty() && gone.is_empty() && seats.is_empty() && seats_gone.is_empty())
    }

    /// Something has to be written down that somebody waits for.
    #[must_use]
    pub fn has_wanted(&self) -> bool {
        let Unsaved { rows, gone, seats, seats_gone } = &self.unsaved;
        let wanted = rows.values().any(|wanted| *wanted);
        wanted || !(gone.is_empty() && seats.is_empty() && seats_gone.is_empty())
    }

    /// What seats point at goes with them.
    fn want_what_seats_see(&mut self) {
        for name in &self.unsaved.seats {
            let Some(seat) = self.seats.get(name) else { continue };
            for number in seat.active.iter().chain(&seat.history) {
                if let Some(wanted) = self.unsaved.rows.get_mut(number) {
                    *wanted = true;
                }
            }
        }
    }

    /// Takes what is to be written down next, and counts it as written; nothing if all of it is.
    /// What leaves goes first, and what somebody waits for before what came by itself.
    pub fn take_unsaved(&mut self, tenant: &Arc<str>) -> Option<BoardChange> {
        self.want_what_seats_see();
        let mut change = BoardChange {
            tenant: Arc::clone(tenant),
            last_number: self.last_number,
            ..BoardChange::default()
        };
        let unsaved = &mut self.unsaved;
        while change.len() < CHANGE_MAX
            && let Some(key) = unsaved.gone.pop_first()
        {
            change.gone.push(key);
        }
        while change.len() < CHANGE_MAX
            && let Some(seat) = unsaved.seats_gone.pop_first()
        {
            change.seats_gone.push(seat);
        }
        self.take_rows(true, &mut change);
        // Behind the rows that they point at.
        let unsaved = &mut self.unsaved;
        while change.len() < CHANGE_MAX
            && let Some(name) = unsaved.seats.pop_first()
        {
            let key = |number: u32| self.rows.get(&number).map(|entry| entry.row.key.clone());
            change.seats.extend(self.seats.get(&name).map(|seat| KeptSeat {
                seat: name,
                active: seat.active.and_then(key),
                history: seat.history.iter().filter_map(|number| key(*number)).collect(),
                touched_at: seat.touched_at,
            }));
        }
        self.take_rows(false, &mut change);
        (!change.is_empty()).then_some(change)
    }

    /// As many rows as there is room for, of those that somebody waits for or of the others.
    fn take_rows(&mut self, wanted: bool, change: &mut BoardChange) {
        let rows = &mut self.unsaved.rows;
        let numbers = rows.iter().filter(|(_, is_wanted)| **is_wanted == wanted);
        let numbers = numbers.map(|(number, _)| *number).take(CHANGE_MAX - change.len());
        for number in numbers.collect::<Vec<u32>>() {
            rows.remove(&number);
            change.rows.extend(self.rows.get(&number).map(|entry| kept_row(&entry.row)));
        }
    }

    /// The board as it is kept, with what is known of its sessions beside that. What was changed and
    /// could not be written down is as it was before; sessions that came by themselves stay.
    #[must_use]
    pub fn restored(&self, kept: &KeptBoard) -> Self {
        let mut board = Self::new(self.limits, self.id_of);
        // Whoever watches is told everything anew.
        board.version = self.version + 1;
        board.last_number = self.last_number.max(kept.last_number);
        for row in &kept.rows {
            let known = self.by_key.get(&row.key).and_then(|number| self.rows.get(number));
            let entry = self.entry_of(row, known);
            // Nobody has looked yet what it does, or a mark goes back and what was read is not.
            let sure = known.is_some_and(|known| known.row.read_seq == row.read_seq)
                && !self.unsure.contains(&row.key);
            if !sure {
                board.unsure.insert(row.key.clone());
            }
            board.put(entry);
        }
        let empty = |entry: &&Entry| entry.made && entry.row.last_seq == Seq(0);
        for entry in self.rows.values().filter(|entry| !empty(entry)) {
            if board.by_key.contains_key(&entry.row.key) {
                continue;
            }
            let mut row = Row { name: None, ..Row::clone(&entry.row) };
            row.active.clear();
            if board.rows.contains_key(&row.number) {
                row.number = board.last_number + 1;
            }
            board.unsaved.row(row.number, false);
            if self.unsure.contains(&row.key) {
                board.unsure.insert(row.key.clone());
            }
            board.put(Entry { row: Arc::new(row), ..entry.clone() });
        }
        for seat in &kept.seats {
            board.put_seat(seat);
        }
        board.gone_before = board.version;
        board
    }

    fn entry_of(&self, kept: &KeptRow, known: Option<&Entry>) -> Entry {
        let of_board = |row: Row| Row {
            number: kept.number,
            name: kept.name.clone(),
            active: smallvec::SmallVec::new(),
            created_at: kept.created_at,
            read_seq: kept.read_seq,
            ..row
        };
        if let Some(known) = known {
            return Entry { row: Arc::new(of_board(Row::clone(&known.row))), ..known.clone() };
        }
        let row = of_board(Row {
            number: kept.number,
            id: (self.id_of)(&kept.key),
            name: None,
            key: kept.key.clone(),
            // On disk only, as far as is known.
            state: SessionStatus::Hibernated,
            waiting: None,
            unread: 0,
            queued: 0,
            last_seq: kept.read_seq,
            read_seq: kept.read_seq,
            active: smallvec::SmallVec::new(),
            created_at: kept.created_at,
            updated_at: kept.touched_at,
            touched_at: kept.touched_at,
            resources: Resources::default(),
        });
        Entry {
            row: Arc::new(row),
            stamp: 0,
            unread: Vec::new(),
            counted: kept.read_seq,
            asked: None,
            trouble: None,
            made: false,
        }
    }

    fn put_seat(&mut self, kept: &KeptSeat) {
        let number = |key: &SessionKey| self.by_key.get(key).copied();
        let seat = Seat {
            active: kept.active.as_ref().and_then(number),
            history: kept.history.iter().filter_map(number).collect(),
            touched_at: kept.touched_at,
        };
        let active = seat.active;
        self.seats.insert(Arc::clone(&kept.seat), seat);
        if let Some(active) = active {
            self.look_at(&kept.seat, active);
        }
    }
}

fn kept_row(row: &Row) -> KeptRow {
    KeptRow {
        key: row.key.clone(),
        number: row.number,
        name: row.name.clone(),
        created_at: row.created_at,
        touched_at: row.touched_at,
        read_seq: row.read_seq,
    }
}
