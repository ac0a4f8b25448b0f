//! What people do on the board: create, name, switch, read, touch and close; and what each seat
//! looks at.
//!
//! Closing what a seat looks at lets it look at what it looked at before; where that is gone too, at
//! the next session in the order, else at the one before, else at none.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Board, Row, SEAT_HISTORY_MAX};
use crate::ids::{Seq, Timestamp};
use crate::ports::switchboard::SEATS_MAX;
use crate::session::SessionStatus;
use crate::session_key::SessionKey;

/// A place from which somebody watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) active: Option<u32>,
    /// What it looked at before, the latest last.
    pub(super) history: VecDeque<u32>,
    pub(super) touched_at: Timestamp,
}

impl Seat {
    fn remember(&mut self, number: u32) {
        self.history.retain(|known| *known != number);
        if self.history.len() == SEAT_HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(number);
    }
}

/// A session that was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// As it was.
    pub closed: Arc<Row>,
    /// What the seat that closed it looks at now.
    pub next: Option<Arc<Row>>,
}

impl Board {
    /// Puts a session on the board that a person wants there, under this name; one that is there
    /// already is only named. None where no idle session can make room. The name was checked.
    pub fn create(
        &mut self,
        key: &SessionKey,
        name: Option<&Arc<str>>,
        now: Timestamp,
    ) -> Result<Option<Arc<Row>>, u32> {
        let number = self.by_key.get(key).copied();
        if let Some(other) = name.and_then(|name| self.by_name.get(name))
            && Some(*other) != number
        {
            return Err(*other);
        }
        let number = match number {
            Some(number) => number,
            None => {
                let Some(row) = self.enter(key, true, now, |_| {}) else { return Ok(None) };
                if let Some(entry) = self.rows.get_mut(&row.number) {
                    entry.made = true;
                }
                row.number
            }
        };
        match name {
            Some(name) => self.rename(number, Some(name)),
            None => Ok(self.row(number)),
        }
    }

    /// Names a session, or takes its name away. Says whose the name is if it is another one's. The
    /// name was checked.
    pub fn rename(
        &mut self,
        number: u32,
        name: Option<&Arc<str>>,
    ) -> Result<Option<Arc<Row>>, u32> {
        let Some(row) = self.row(number) else { return Ok(None) };
        if row.name.as_ref() == name {
            return Ok(Some(row));
        }
        if let Some(other) = name.and_then(|name| self.by_name.get(name)) {
            return Err(*other);
        }
        if let Some(old) = &row.name {
            self.by_name.remove(old);
        }
        if let Some(name) = name {
            self.by_name.insert(Arc::clone(name), number);
        }
        self.unsaved.row(number, true);
        Ok(self.change(number, |entry| Arc::make_mut(&mut entry.row).name = name.cloned()))
    }

    /// Lets a seat look at a session.
    pub fn switch(&mut self, seat: &Arc<str>, number: u32, now: Timestamp) -> Option<Arc<Row>> {
        self.row(number)?;
        self.make_seat(seat);
        let known = self.seats.get_mut(seat)?;
        known.touched_at = known.touched_at.max(now);
        let before = known.active.replace(number).filter(|before| *before != number);
        if let Some(before) = before {
            known.remember(before);
            self.look_away(seat, before);
        }
        self.look_at(seat, number);
        self.unsaved.seat(seat);
        self.touch(number, now)
    }

    /// A seat that is new takes the place of the one that was used longest ago, where there are
    /// enough of them.
    fn make_seat(&mut self, seat: &Arc<str>) {
        if self.seats.contains_key(seat) {
            return;
        }
        while self.seats.len() >= SEATS_MAX {
            let oldest = self.seats.iter().min_by_key(|(_, seat)| seat.touched_at);
            let Some(oldest) = oldest.map(|(name, _)| Arc::clone(name)) else { break };
            self.forget_seat(&oldest);
        }
        self.seats.insert(Arc::clone(seat), Seat::default());
    }

    fn forget_seat(&mut self, seat: &Arc<str>) {
        if let Some(active) = self.seats.remove(seat).and_then(|seat| seat.active) {
            self.look_away(seat, active);
        }
        self.unsaved.seat_gone(seat);
    }

    pub(super) fn look_at(&mut self, seat: &Arc<str>, number: u32) {
        let looks = |row: &Row| row.active.contains(seat);
        if self.rows.get(&number).is_some_and(|entry| !looks(&entry.row)) {
            self.change(number, |entry| {
                let active = &mut Arc::make_mut(&mut entry.row).active;
                active.push(Arc::clone(seat));
                active.sort_unstable();
            });
        }
    }

    pub(super) fn look_away(&mut self, seat: &Arc<str>, number: u32) {
        let looks = |row: &Row| row.active.contains(seat);
        if self.rows.get(&number).is_some_and(|entry| looks(&entry.row)) {
            self.change(number, |entry| {
                Arc::make_mut(&mut entry.row).active.retain(|known| known != seat);
            });
        }
    }

    /// What a seat looks at.
    #[must_use]
    pub fn active(&self, seat: &str) -> Option<Arc<Row>> {
        self.row(self.seats.get(seat)?.active?)
    }

    /// The seats and what they look at, by name.
    pub fn seats(&self) -> impl Iterator<Item = (&Arc<str>, Option<u32>)> {
        self.seats.iter().map(|(name, seat)| (name, seat.active))
    }

    /// Somebody has to do with a session: it is not idle for a while, and wakes if it was asleep.
    pub fn touch(&mut self, number: u32, now: Timestamp) -> Option<Arc<Row>> {
        let row = self.row(number)?;
        let asleep = matches!(row.state, SessionStatus::Hibernated);
        if !asleep && row.touched_at >= now {
            return Some(row);
        }
        self.unsaved.row(number, true);
        self.change(number, |entry| {
            let row = Arc::make_mut(&mut entry.row);
            row.touched_at = row.touched_at.max(now);
            if asleep {
                row.state = SessionStatus::Idle;
            }
        })
    }

    /// Everything up to here was read, in whatever seat.
    pub fn read(&mut self, number: u32, seq: Seq, now: Timestamp) -> Option<Arc<Row>> {
        let row = self.row(number)?;
        let seq = seq.min(row.last_seq);
        if seq <= row.read_seq {
            return Some(row);
        }
        self.unsaved.row(number, true);
        self.change(number, |entry| {
            entry.unread.retain(|unread| *unread > seq);
            entry.trouble.take_if(|trouble| trouble.seq <= seq);
            let question = entry.row.waiting.as_ref().and_then(|waiting| waiting.question_id);
            let operator = entry.operator_text();
            let row = Arc::make_mut(&mut entry.row);
            (row.read_seq, row.touched_at) = (seq, row.touched_at.max(now));
            entry.refresh(question, operator.as_ref());
        })
    }

    /// Has a row written down again, whatever stands there.
    pub fn save(&mut self, number: u32) -> Option<Arc<Row>> {
        let row = self.row(number)?;
        self.unsaved.row(number, true);
        Some(row)
    }

    /// A session was closed by somebody at a seat, or elsewhere.
    pub fn close(&mut self, number: u32, seat: Option<&str>) -> Option<Closed> {
        let closed = self.leave(number)?;
        Some(Closed { closed, next: seat.and_then(|seat| self.active(seat)) })
    }

    /// A session is not there any more, in whatever way.
    pub fn remove(&mut self, key: &SessionKey) -> Option<Arc<Row>> {
        self.leave(*self.by_key.get(key)?)
    }

    /// Takes a session off the board; whoever looked at it looks at another one.
    pub(super) fn leave(&mut self, number: u32) -> Option<Arc<Row>> {
        let row = self.take_off(number)?;
        let looking: Vec<Arc<str>> = row.active.iter().map(Arc::clone).collect();
        for (name, seat) in &mut self.seats {
            let before = seat.history.len();
            seat.history.retain(|known| *known != number);
            if seat.history.len() != before {
                self.unsaved.seat(name);
            }
        }
        for seat in looking {
            let next = self.after_closing(&seat, number);
            if let Some(known) = self.seats.get_mut(&seat) {
                known.active = next;
                // It is not behind itself.
                known.history.retain(|before| Some(*before) != next);
            }
            if let Some(next) = next {
                self.look_at(&seat, next);
            }
            self.unsaved.seat(&seat);
        }
        Some(row)
    }

    fn after_closing(&self, seat: &str, closed: u32) -> Option<u32> {
        let there = |number: &&u32| self.rows.contains_key(number);
        let before = self.seats.get(seat).and_then(|seat| seat.history.iter().rev().find(there));
        let in_order = || {
            let next = self.rows.range(closed..).next();
            next.or_else(|| self.rows.range(..closed).next_back()).map(|(number, _)| *number)
        };
        before.copied().or_else(in_order)
    }
}
