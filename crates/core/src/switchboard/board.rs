//! The board itself: its rows and their indexes, and what changes a row.
//!
//! Every change goes through [`Board::change`], which is the one place where a row's version moves,
//! where it enters and leaves the indexes, and where it is noted that it has to be written down.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::entry::Entry;
use super::heard::Heard;
use super::kept::Unsaved;
use super::list::{List, Totals};
use super::seats::Seat;
use super::spare::Spare;
use super::states::may_become;
use super::{Resources, Row, RowId};
use crate::ids::{QuestionId, Seq, Timestamp};
use crate::session::SessionStatus;
use crate::session_key::SessionKey;

/// How recently an idle session was used that does not make room for one that comes by itself.
/// Without it, many sessions that talk in turns would push each other out with every message.
const MAKES_ROOM_AFTER_MS: i64 = 60_000;

/// What a board lives by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows of a tenant.
    pub sessions_max: usize,
    /// Idle for longer than this, a session is hibernated.
    pub hibernate_after_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { sessions_max: 10_000, hibernate_after_ms: 30 * 60_000 }
    }
}

/// What a session's task saw after a commit or a load.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// What the session does now.
    pub state: SessionStatus,
    /// Accepted messages that no running turn has taken.
    pub queued: u32,
    /// The place before the first entry of the commit; where the journal ends if there was none.
    pub after: Seq,
    /// Where the journal ends.
    pub last_seq: Seq,
    /// When the session changed.
    pub updated_at: Timestamp,
    /// What the commit's entries say.
    pub heard: &'a Heard,
    /// The question that is open.
    pub question: Option<QuestionId>,
    /// What waits for the operator, in one line; read only where something does.
    pub for_operator: Option<Arc<str>>,
    /// What the session takes of this process.
    pub resources: Resources,
    /// It was read from the store, and not reached by a step from what was seen before.
    pub loaded: bool,
}

/// What came of telling the board something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// The board knew that already.
    Same,
    /// The session's row is another one now.
    Changed,
    /// The session is new on the board, under this number.
    Entered(u32),
    /// The session left the board; it had this number.
    Left(u32),
    /// There is no room for the session, or nothing to show of it.
    LeftOut,
    /// No commit can do that; the state stays as it was, and everything else was taken.
    Illegal(SessionStatus, SessionStatus),
}

/// What of an entry stands in an index.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Marks {
    state: SessionStatus,
    unread: u32,
    waiting: bool,
    /// It may be hibernated once it was not used since then.
    resting: Option<Timestamp>,
    /// It may make room for another one, and how late.
    spare: Option<(Spare, Timestamp)>,
}

impl Marks {
    fn of(row: &Row) -> Self {
        let rests = row.is_at_rest();
        let used = row.used_at();
        let idle = rests && matches!(row.state, SessionStatus::Idle);
        Self {
            state: row.state,
            unread: row.unread,
            waiting: row.waiting.is_some(),
            resting: idle.then_some(used),
            spare: Spare::of(row).map(|spare| (spare, used)),
        }
    }
}

/// The sessions of one tenant, their order and what each seat looks at.
#[derive(Clone, Debug)]
pub struct Board {
    pub(super) id_of: fn(&SessionKey) -> RowId,
    pub(super) limits: Limits,
    pub(super) version: u64,
    pub(super) last_number: u32,
    pub(super) rows: BTreeMap<u32, Entry>,
    pub(super) by_key: BTreeMap<SessionKey, u32>,
    pub(super) by_name: BTreeMap<Arc<str>, u32>,
    pub(super) by_id: BTreeSet<(RowId, u32)>,
    pub(super) seats: BTreeMap<Arc<str>, Seat>,
    /// The rows in the order in which they last changed.
    pub(super) changed: BTreeMap<u64, u32>,
    /// The numbers that left, the latest last, and the version up to which older ones are forgotten.
    pub(super) gone: VecDeque<(u64, u32)>,
    pub(super) gone_before: u64,
    pub(super) waiting: BTreeSet<u32>,
    pub(super) resting: BTreeSet<(Timestamp, u32)>,
    pub(super) spare: BTreeSet<(Spare, Timestamp, u32)>,
    pub(super) totals: Totals,
    /// Sessions whose journal has to be read to know what was said in it.
    pub(super) unsure: BTreeSet<SessionKey>,
    /// Those of them that lost texts since somebody last set out to read them.
    redacted: BTreeSet<SessionKey>,
    pub(super) unsaved: Unsaved,
    /// The rows in pieces that are shared with whoever asked; none where one changed since.
    pub(super) pieces: BTreeMap<u32, Option<Arc<[Arc<Row>]>>>,
    pub(super) listed: Option<List>,
}

impl Board {
    /// An empty board, which calls sessions by this.
    #[must_use]
    pub fn new(limits: Limits, id_of: fn(&SessionKey) -> RowId) -> Self {
        Self {
            id_of,
            limits,
            version: 1,
            last_number: 0,
            rows: BTreeMap::new(),
            by_key: BTreeMap::new(),
            by_name: BTreeMap::new(),
            by_id: BTreeSet::new(),
            seats: BTreeMap::new(),
            changed: BTreeMap::new(),
            gone: VecDeque::new(),
            gone_before: 1,
            waiting: BTreeSet::new(),
            resting: BTreeSet::new(),
            spare: BTreeSet::new(),
            totals: Totals::default(),
            unsure: BTreeSet::new(),
            redacted: BTreeSet::new(),
            unsaved: Unsaved::default(),
            pieces: BTreeMap::new(),
            listed: None,
        }
    }

    /// From now on it lives by these. Rows that are too many stay until they make room.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Grows with every change of what is shown.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Changes a row by this, and everything that depends on it. Whoever calls it changes something.
    pub(super) fn change(&mut self, number: u32, how: impl FnOnce(&mut Entry)) -> Option<Arc<Row>> {
        let entry = self.rows.get_mut(&number)?;
        let before = Marks::of(&entry.row);
        how(entry);
        let after = Marks::of(&entry.row);
        self.version += 1;
        let old = std::mem::replace(&mut entry.stamp, self.version);
        let row = Arc::clone(&entry.row);
        self.changed.remove(&old);
        self.changed.insert(self.version, number);
        self.pieces.insert(super::list::piece_of(number), None);
        self.listed = None;
        self.index(number, Some(before), Some(after));
        Some(row)
    }

    fn index(&mut self, number: u32, before: Option<Marks>, after: Option<Marks>) {
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.totals.leave(before.state, before.unread, before.waiting);
            self.waiting.remove(&number);
            before.resting.map(|at| self.resting.remove(&(at, number)));
            before.spare.map(|(spare, at)| self.spare.remove(&(spare, at, number)));
        }
        if let Some(after) = after {
            self.totals.enter(after.state, after.unread, after.waiting);
            if after.waiting {
                self.waiting.insert(number);
            }
            self.resting.extend(after.resting.map(|at| (at, number)));
            self.spare.extend(after.spare.map(|(spare, at)| (spare, at, number)));
        }
    }

    /// Puts a row on the board, under its number.
    pub(super) fn put(&mut self, entry: Entry) -> Arc<Row> {
        let row = Arc::clone(&entry.row);
        let number = row.number;
        self.version += 1;
        self.last_number = self.last_number.max(number);
        self.by_key.insert(row.key.clone(), number);
        if let Some(name) = &row.name {
            self.by_name.insert(Arc::clone(name), number);
        }
        self.by_id.insert((row.id, number));
        self.changed.insert(self.version, number);
        self.pieces.insert(super::list::piece_of(number), None);
        self.listed = None;
        self.index(number, None, Some(Marks::of(&row)));
        self.rows.insert(number, Entry { stamp: self.version, ..entry });
        row
    }

    /// Takes a row off the board; its number is never given again. Seats are the caller's matter.
    pub(super) fn take_off(&mut self, number: u32) -> Option<Arc<Row>> {
        let Entry { row, stamp, .. } = self.rows.remove(&number)?;
        self.version += 1;
        self.index(number, Some(Marks::of(&row)), None);
        self.by_key.remove(&row.key);
        if let Some(name) = &row.name {
            self.by_name.remove(name);
        }
        self.by_id.remove(&(row.id, number));
        self.changed.remove(&stamp);
        self.unsure.remove(&row.key);
        self.redacted.remove(&row.key);
        self.note_gone(number);
        self.unsaved.gone(number, &row.key);
        Some(row)
    }

    /// A new row for a session that is not on the board, or none where there is no room for it.
    /// One that a person wants takes the place of any idle one.
    pub(super) fn enter(
        &mut self,
        key: &SessionKey,
        wanted: bool,
        now: Timestamp,
        fill: impl FnOnce(&mut Row),
    ) -> Option<Arc<Row>> {
        let number = self.last_number.checked_add(1)?;
        if !self.make_room(wanted, now) {
            return None;
        }
        let mut row = Row {
            number,
            id: (self.id_of)(key),
            name: None,
            key: key.clone(),
            state: SessionStatus::Idle,
            waiting: None,
            unread: 0,
            queued: 0,
            last_seq: Seq(0),
            read_seq: Seq(0),
            active: smallvec::SmallVec::new(),
            created_at: now,
            updated_at: now,
            touched_at: now,
            resources: Resources::default(),
        };
        fill(&mut row);
        let counted = row.last_seq;
        let entry = Entry {
            row: Arc::new(row),
            stamp: 0,
            unread: Vec::new(),
            counted,
            asked: None,
            trouble: None,
            made: false,
        };
        self.unsaved.row(number, wanted);
        Some(self.put(entry))
    }

    /// Takes the idle session off that was used longest ago and that nobody would miss. Those that
    /// nobody has read go later, and those in which something went wrong go last, but they go: where
    /// nobody ever reads, or behind an outage, the board would be full of them for ever, and hide who
    /// waits for a person.
    fn make_room(&mut self, wanted: bool, now: Timestamp) -> bool {
        while self.rows.len() >= self.limits.sessions_max {
            let old = |at: Timestamp| wanted || now.saturating_sub(at) >= MAKES_ROOM_AFTER_MS;
            let oldest = Spare::ALL.into_iter().find_map(|wanted| {
                let mut spare = self.spare.range((wanted, Timestamp::MIN, 0)..);
                spare.next().filter(|(found, at, _)| *found == wanted && old(*at)).copied()
            });
            let Some((_, _, number)) = oldest else { return false };
            self.leave(number);
        }
        true
    }

    /// What a session's task saw. A session that is not here yet enters, one that was closed leaves.
    pub fn observe(&mut self, key: &SessionKey, seen: &Observed<'_>, now: Timestamp) -> Noted {
        let known = self.by_key.get(key).copied();
        if matches!(seen.state, SessionStatus::Closed) {
            let Some(number) = known else { return Noted::LeftOut };
            self.leave(number);
            return Noted::Left(number);
        }
        let Some(number) = known else {
            // What was said before nobody watched is taken as read.
            let entered = self.enter(key, false, now, |row| {
                row.state = seen.state;
                (row.last_seq, row.read_seq) = (seen.after, seen.after);
                (row.updated_at, row.touched_at) = (seen.updated_at, seen.updated_at);
            });
            let Some(row) = entered else { return Noted::LeftOut };
            self.take_in(row.number, seen);
            return Noted::Entered(row.number);
        };
        let Some(entry) = self.rows.get(&number) else { return Noted::LeftOut };
        let state = entry.row.state;
        // What sleeps is woken by what happens, not by being looked at.
        let asleep = matches!(state, SessionStatus::Hibernated)
            && matches!(seen.state, SessionStatus::Idle)
            && entry.row.last_seq == seen.last_seq;
        let legal = seen.loaded || asleep || may_become(state, seen.state);
        let to = if legal && !asleep { seen.state } else { state };
        if !self.differs(number, seen, to) {
            return if legal { Noted::Same } else { Noted::Illegal(state, seen.state) };
        }
        let seen_as = Observed { state: to, for_operator: seen.for_operator.clone(), ..*seen };
        self.take_in(number, &seen_as);
        if legal { Noted::Changed } else { Noted::Illegal(state, seen.state) }
    }

    fn differs(&self, number: u32, seen: &Observed<'_>, to: SessionStatus) -> bool {
        let Some(entry) = self.rows.get(&number) else { return false };
        let row = &entry.row;
        row.state != to
            || row.last_seq != seen.last_seq
            || row.queued != seen.queued
            || row.resources != seen.resources
            || row.updated_at != seen.updated_at
            || entry.operator_text().is_some_and(|text| Some(text) != seen.for_operator)
    }

    fn take_in(&mut self, number: u32, seen: &Observed<'_>) {
        let mut unsure = false;
        let row = self.change(number, |entry| {
            // Erased, and begun again from the first place.
            if seen.last_seq < entry.row.last_seq {
                entry.forget_past();
            }
            unsure = seen.after > entry.counted;
            entry.hear(seen.heard, seen.last_seq);
            entry.made &= seen.last_seq == Seq(0);
            let row = Arc::make_mut(&mut entry.row);
            row.state = seen.state;
            row.queued = seen.queued;
            row.last_seq = seen.last_seq;
            row.updated_at = seen.updated_at;
            row.resources = seen.resources;
            entry.refresh(seen.question, seen.for_operator.as_ref());
            unsure |= entry.lacks_text();
        });
        if let Some(row) = row.filter(|_| unsure) {
            self.unsure.insert(row.key.clone());
        }
    }

    /// What its journal says behind `from`, read up to `up_to`. False where more was written since,
    /// so that it has to be read again.
    pub fn learn(&mut self, key: &SessionKey, heard: &Heard, from: Seq, up_to: Seq) -> bool {
        let Some(number) = self.by_key.get(key).copied() else { return true };
        let Some(entry) = self.rows.get(&number) else { return true };
        if entry.row.last_seq > up_to || entry.row.read_seq < from {
            return false;
        }
        if !self.redacted.contains(key) {
            self.unsure.remove(key);
        }
        let question = entry.row.waiting.as_ref().and_then(|waiting| waiting.question_id);
        let for_operator = entry.operator_text();
        self.change(number, |entry| {
            entry.unread.clear();
            entry.counted = from.max(entry.row.read_seq);
            entry.trouble = None;
            entry.hear(heard, up_to);
            entry.refresh(question, for_operator.as_ref());
        });
        true
    }

    /// The next session whose journal has to be read, with the place behind which that is needed.
    pub fn take_unsure(&mut self) -> Option<(SessionKey, Seq)> {
        while let Some(key) = self.unsure.pop_first() {
            self.redacted.remove(&key);
            let number = self.by_key.get(&key).copied();
            if let Some(entry) = number.and_then(|number| self.rows.get(&number)) {
                return Some((key, entry.row.read_seq));
            }
        }
        None
    }

    /// Its journal could not be read now.
    pub fn still_unsure(&mut self, key: &SessionKey) {
        if self.by_key.contains_key(key) {
            self.unsure.insert(key.clone());
        }
    }

    /// Texts of its past are gone: none of them is kept here any more, and what is left of them is
    /// read again.
    pub fn redacted(&mut self, key: &SessionKey) {
        let Some(number) = self.by_key.get(key).copied() else { return };
        if self
            .rows
            .get(&number)
            .is_some_and(|entry| entry.asked.is_some() || entry.trouble.is_some())
        {
            self.change(number, Entry::drop_texts);
        }
        self.unsure.insert(key.clone());
        self.redacted.insert(key.clone());
    }

    /// Several states at once. What is illegal is skipped and told; it aborts nothing of the rest.
    /// What goes to sleep gives back what it takes; its tokens are what it used.
    pub fn process(
        &mut self,
        states: &[(SessionKey, SessionStatus)],
    ) -> Vec<(SessionKey, SessionStatus, SessionStatus)> {
        let mut illegal = Vec::new();
        for (key, to) in states {
            let Some(number) = self.by_key.get(key).copied() else { continue };
            let Some(from) = self.rows.get(&number).map(|entry| entry.row.state) else { continue };
            if !may_become(from, *to) {
                illegal.push((key.clone(), from, *to));
            } else if matches!(to, SessionStatus::Closed) {
                self.leave(number);
            } else if from != *to {
                self.change(number, |entry| {
                    let row = Arc::make_mut(&mut entry.row);
                    row.state = *to;
                    if matches!(to, SessionStatus::Hibernated) {
                        let tokens = row.resources.tokens;
                        row.resources = Resources { tokens, ..Resources::default() };
                    }
                    let question = entry.row.waiting.as_ref().and_then(|it| it.question_id);
                    let for_operator = entry.operator_text();
                    entry.refresh(question, for_operator.as_ref());
                });
            }
        }
        illegal
    }

    /// What a session takes of this process now.
    pub fn update_resources(&mut self, key: &SessionKey, resources: Resources) {
        let Some(number) = self.by_key.get(key).copied() else { return };
        if self.rows.get(&number).is_some_and(|entry| entry.row.resources != resources) {
            self.change(number, |entry| Arc::make_mut(&mut entry.row).resources = resources);
        }
    }
}
