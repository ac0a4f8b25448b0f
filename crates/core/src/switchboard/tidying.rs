//! Cleaning up: what nobody uses goes to sleep, and what does not fit together is mended. No
//! conversation is ever deleted by it, and none is touched in which something goes on.

use std::sync::Arc;

use super::{Board, Row};
use crate::ids::Timestamp;
use crate::session::SessionStatus;
use crate::session_key::SessionKey;

/// What a look at a part of the board came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Sessions that went to sleep: what is kept of them in memory may go.
    pub hibernated: Vec<SessionKey>,
    /// Pointers that did not fit and were mended.
    pub repaired: usize,
    /// Where to go on; none at the end.
    pub next: Option<u32>,
}

impl Board {
    /// Puts idle sessions to sleep, at most so many; says whether there may be more.
    pub fn hibernate(&mut self, now: Timestamp, limit: usize) -> Vec<SessionKey> {
        let after = i64::try_from(self.limits.hibernate_after_ms).unwrap_or(i64::MAX);
        let until = now.saturating_sub(after);
        let due = self.resting.iter().take_while(|(used_at, _)| *used_at < until).take(limit);
        let due = due.filter_map(|(_, number)| self.rows.get(number));
        let asleep: Vec<_> =
            due.map(|entry| (entry.row.key.clone(), SessionStatus::Hibernated)).collect();
        let awake = self.process(&asleep);
        let asleep = asleep.into_iter().map(|(key, _)| key);
        asleep.filter(|key| awake.iter().all(|(other, ..)| other != key)).collect()
    }

    /// One look at rows behind `after`, at most `limit` of them, and at all seats: sleep and repair.
    pub fn cleanup(&mut self, now: Timestamp, after: u32, limit: usize) -> Cleaned {
        let hibernated = self.hibernate(now, limit);
        let mut repaired = if after == 0 { self.mend_seats() } else { 0 };
        let numbers = self.rows.range(after.saturating_add(1)..).take(limit);
        let numbers: Vec<u32> = numbers.map(|(number, _)| *number).collect();
        let next = numbers.last().copied().filter(|_| numbers.len() == limit);
        let next = next.or_else(|| (hibernated.len() == limit).then_some(u32::MAX));
        repaired += numbers.into_iter().filter(|number| self.mend_row(*number)).count();
        Cleaned { hibernated, repaired, next }
    }

    /// Makes everything anew that follows from rows and seats: a change broke off in the middle.
    /// Whoever watches is told the whole list.
    pub fn mend(&mut self) {
        let whole = Self::new(self.limits, self.id_of);
        let broken = std::mem::replace(self, whole);
        (self.version, self.last_number) = (broken.version + 1, broken.last_number);
        (self.unsaved, self.unsure) = (broken.unsaved, broken.unsure);
        for (number, mut entry) in broken.rows {
            let row = Arc::make_mut(&mut entry.row);
            row.number = number;
            row.active.clear();
            row.name = row.name.take().filter(|name| !self.by_name.contains_key(name));
            if !self.by_key.contains_key(&row.key) {
                self.put(entry);
            }
        }
        self.seats = broken.seats;
        self.mend_seats();
        self.gone_before = self.version;
    }

    /// Seats look at what is there.
    fn mend_seats(&mut self) -> usize {
        let names: Vec<Arc<str>> = self.seats.keys().map(Arc::clone).collect();
        let mut mended = 0;
        for name in names {
            let Some(seat) = self.seats.get_mut(&name) else { continue };
            let (active, kept) = (seat.active, seat.history.len());
            seat.history.retain(|number| self.rows.contains_key(number));
            let history = seat.history.len() != kept;
            let lost = active.filter(|number| !self.rows.contains_key(number));
            if lost.is_some() {
                seat.active = seat.history.pop_back();
            }
            let now = seat.active;
            if let Some(number) = now {
                let looks = |row: &Row| row.active.contains(&name);
                let told = self.rows.get(&number).is_some_and(|entry| looks(&entry.row));
                mended += usize::from(!told && lost.is_none());
                self.look_at(&name, number);
            }
            if history || lost.is_some() {
                mended += 1;
                self.unsaved.seat(&name);
            }
        }
        mended
    }

    /// A row stands in the indexes under what it says of itself, and only seats that look at it say
    /// so.
    fn mend_row(&mut self, number: u32) -> bool {
        let Some(row) = self.row(number) else { return false };
        let mut mended = false;
        if self.by_key.get(&row.key) != Some(&number) {
            self.by_key.insert(row.key.clone(), number);
            mended = true;
        }
        if let Some(name) = &row.name
            && self.by_name.get(name) != Some(&number)
        {
            let mine = !self.by_name.contains_key(name);
            if mine {
                self.by_name.insert(Arc::clone(name), number);
            } else {
                self.change(number, |entry| Arc::make_mut(&mut entry.row).name = None);
                self.unsaved.row(number, true);
            }
            mended = true;
        }
        mended |= self.by_id.insert((row.id, number));
        let looks = |seat: &Arc<str>| {
            self.seats.get(seat).is_some_and(|known| known.active == Some(number))
        };
        let strays: Vec<Arc<str>> =
            row.active.iter().filter(|seat| !looks(seat)).map(Arc::clone).collect();
        for seat in &strays {
            self.look_away(seat, number);
        }
        mended || !strays.is_empty()
    }

    /// What does not fit together, in words; nothing in a board that is whole. For tests, and for
    /// whoever wants to be sure.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |text: String| faults.push(text);
        for (number, entry) in &self.rows {
            let row = &entry.row;
            if row.number != *number || *number > self.last_number {
                fault(format!("row {number} calls itself {}", row.number));
            }
            if self.by_key.get(&row.key) != Some(number) {
                fault(format!("row {number} is not found by its key"));
            }
            if let Some(name) = &row.name
                && self.by_name.get(name) != Some(number)
            {
                fault(format!("row {number} is not found by its name {name:?}"));
            }
            if self.changed.get(&entry.stamp) != Some(number) {
                fault(format!("row {number} has no place in the order of changes"));
            }
            for seat in &row.active {
                if self.seats.get(seat).is_none_or(|seat| seat.active != Some(*number)) {
                    fault(format!("row {number} says that {seat} looks at it"));
                }
            }
        }
        let named = self.rows.values().filter(|entry| entry.row.name.is_some()).count();
        let counts = [self.by_key.len(), self.by_id.len(), self.changed.len()];
        if counts != [self.rows.len(); 3] || named != self.by_name.len() {
            fault(format!("{} rows, {named} of them named, and {counts:?} found", self.rows.len()));
        }
        for (name, seat) in &self.seats {
            if let Some(active) = seat.active {
                let looks = |row: &Row| row.active.contains(name);
                if self.rows.get(&active).is_none_or(|entry| !looks(&entry.row)) {
                    fault(format!("{name} looks at {active}, which does not know it"));
                }
            }
            if seat.history.iter().any(|number| !self.rows.contains_key(number)) {
                fault(format!("{name} remembers a session that is gone"));
            }
        }
        let mut totals = super::Totals::default();
        for Row { state, unread, waiting, .. } in self.rows.values().map(|entry| &*entry.row) {
            totals.enter(*state, *unread, waiting.is_some());
        }
        if totals != self.totals || self.waiting.len() != totals.waiting {
            fault(format!("counted {totals:?}, noted {:?}", self.totals));
        }
        faults
    }
}
