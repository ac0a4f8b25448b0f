//! The store for tests: the whole port over maps, nothing durable, every future ready at once.

mod care;
mod guard;
mod keys;
mod listeners;
mod people;
mod schedule;
mod switchboard;
mod usage;

use std::collections::{BTreeMap, HashMap};
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use turnkeep_core::care::Forgotten;
use turnkeep_core::outbox::DeliveryState;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::store::{
    Commit, CommitOutcome, DeadLetter, FirstDecision, Guard, Loaded, PartPlace, PartRow, Store,
    StoreError, StoreStats, TurnRow,
};
use turnkeep_core::{Epoch, Event, Seq, Session, SessionKey, Timestamp, TurnId, Version};

use crate::check;

/// Keeps everything in memory. Clones share what they hold.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    epoch: Epoch,
    tables: Arc<Mutex<Tables>>,
}

#[derive(Debug, Default)]
struct Tables {
    last_epoch: Epoch,
    closed: bool,
    sessions: BTreeMap<SessionKey, Row>,
    turns: HashMap<TurnId, (SessionKey, TurnRow)>,
    dead_letters: BTreeMap<u64, (SessionKey, DeadLetter)>,
    last_dead_letter: u64,
    seen: HashMap<[u8; 16], SeenRow>,
    keys: keys::KeyTable,
    pairings: people::PairingTable,
    schedule: schedule::ScheduleTables,
    boards: switchboard::BoardTables,
    listeners: listeners::ListenerTables,
    restrictions: guard::RestrictionTable,
    usage: usage::UsageTables,
    /// Messages that disappear: after how many seconds, and when that is.
    disappearing: BTreeMap<(SessionKey, Seq), (u32, Timestamp)>,
    /// Texts were taken out since the last scrub.
    unscrubbed: bool,
    stats: StoreStats,
}

#[derive(Debug)]
struct Row {
    session: Arc<Session>,
    version: Version,
    wake_at: Option<Timestamp>,
    events: Vec<Event>,
    /// What stands for the beginning of the journal, if that is gone.
    forgotten: Option<Forgotten>,
    /// In the order in which they began.
    turns: Vec<TurnId>,
    parts: BTreeMap<(Seq, u32), PartRow>,
}

#[derive(Debug)]
struct SeenRow {
    body_hash: u64,
    first: FirstDecision,
    until: Timestamp,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store of epoch 1.
    #[must_use]
    pub fn new() -> Self {
        Self { epoch: Epoch(1), tables: Arc::default() }.reopen()
    }

    /// The same store as another process would find it: everything committed, a new epoch.
    #[must_use]
    pub fn reopen(&self) -> Self {
        let mut tables = self.tables();
        tables.closed = false;
        tables.last_epoch = tables.last_epoch.next();
        Self { epoch: tables.last_epoch, tables: Arc::clone(&self.tables) }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<'a, T: Send + 'a>(
        &self,
        read: impl FnOnce(&Tables) -> T,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        Box::pin(ready(Ok(read(&self.tables()))))
    }
}

impl Tables {
    fn commit(&mut self, commit: Commit) -> Result<CommitOutcome, StoreError> {
        if self.closed {
            return Err(StoreError::Unavailable("the store is closed".into()));
        }
        let row = self.sessions.get(&commit.key);
        let version = row.map_or(Version(0), |row| row.version);
        if version != commit.expected {
            self.stats.conflicts += 1;
            return Ok(CommitOutcome::Conflict);
        }
        let last = row.map_or(Seq(0), Row::last_seq);
        check::gapless(&commit.key, last, &commit.rows.events)?;
        if let Some(refused) = self.refusal(&commit) {
            self.stats.refusals += 1;
            return Ok(refused);
        }
        if commit.rows.question.is_some() {
            return Ok(CommitOutcome::Committed(version));
        }
        self.stats.commits += 1;
        self.stats.batches += 1;
        self.stats.batch_jobs_max = 1;
        Ok(CommitOutcome::Committed(self.apply(commit)))
    }

    fn refusal(&self, commit: &Commit) -> Option<CommitOutcome> {
        let now = commit.now();
        let guards = &commit.rows.guards;
        guards.iter().enumerate().find_map(|(index, guard)| {
            let earlier = &guards[..index];
            let first = match guard {
                Guard::NotSeen { seen, .. } => {
                    let stored = self.seen.get(&seen.key).filter(|row| row.until >= now);
                    let stored = stored.map(|row| (row.first.clone(), row.body_hash));
                    let (first, body_hash) = stored.or_else(|| check::twin_in(earlier, seen))?;
                    Some((first, body_hash == seen.body_hash))
                }
                Guard::TakeDeadLetter(seq) => {
                    let there = self.dead_letter_at(&commit.key, *seq).is_some();
                    if there && !earlier.contains(guard) {
                        return None;
                    }
                    None
                }
                Guard::Parked { reply, part, state, tries } => {
                    let parts = self.sessions.get(&commit.key).map(|row| &row.parts);
                    let part = parts.and_then(|parts| parts.get(&(*reply, *part)));
                    let stands = part.is_some_and(|part| {
                        !part.text.is_empty() && (part.state, part.tries) == (*state, *tries)
                    });
                    if stands && !earlier.contains(guard) {
                        return None;
                    }
                    None
                }
            };
            Some(CommitOutcome::Refused { guard: index, first })
        })
    }

    fn dead_letter_at(&self, key: &SessionKey, seq: Seq) -> Option<u64> {
        let mut letters = self.dead_letters.iter();
        letters.find(|(_, (owner, letter))| owner == key && letter.seq == seq).map(|(id, _)| *id)
    }

    fn apply(&mut self, commit: Commit) -> Version {
        let Commit { key, expected, session, wake_at, rows } = commit;
        for guard in rows.guards {
            match guard {
                Guard::NotSeen { seen, first, until } => {
                    let row = SeenRow { body_hash: seen.body_hash, first, until };
                    self.seen.insert(seen.key, row);
                }
                Guard::TakeDeadLetter(seq) => {
                    if let Some(id) = self.dead_letter_at(&key, seq) {
                        self.dead_letters.remove(&id);
                    }
                }
                Guard::Parked { .. } => {}
            }
        }
        for letter in rows.dead_letters {
            self.last_dead_letter += 1;
            self.dead_letters.insert(self.last_dead_letter, (key.clone(), letter));
        }
        let version = expected.next();
        let row = self.sessions.entry(key.clone()).or_insert_with(|| Row {
            session: Arc::clone(&session),
            version,
            wake_at,
            events: Vec::new(),
            forgotten: None,
            turns: Vec::new(),
            parts: BTreeMap::new(),
        });
        (row.session, row.version, row.wake_at) = (session, version, wake_at);
        self.listeners.append(&key, &rows.events);
        for event in &rows.events {
            if let Some(disappears) = event.disappears() {
                self.disappearing.insert((key.clone(), event.seq), disappears);
            }
        }
        row.events.extend(rows.events);
        for turn in rows.turns {
            match self.turns.get_mut(&turn.id) {
                Some((_, known)) => *known = turn,
                None => {
                    row.turns.push(turn.id);
                    self.turns.insert(turn.id, (key.clone(), turn));
                }
            }
        }
        let turns = &self.turns;
        self.usage.put(&key, rows.usage, |turn| turns.contains_key(&turn));
        for mut part in rows.parts {
            let known = row.parts.get(&(part.reply, part.part));
            if let Some(known) = known.filter(|_| part.text.is_empty()) {
                part.text = Arc::clone(&known.text);
            }
            row.parts.insert((part.reply, part.part), part);
        }
        version
    }

    fn turns(&self, key: &SessionKey, before: Option<TurnId>, limit: usize) -> Vec<TurnRow> {
        let Some(row) = self.sessions.get(key) else { return Vec::new() };
        // A turn that isn't one of this session's is no place in its list, only a bound on the ids.
        let place = before.and_then(|id| row.turns.iter().position(|known| *known == id));
        let bound = before.filter(|_| place.is_none());
        let older = row.turns[..place.unwrap_or(row.turns.len())].iter().rev();
        older
            .filter(|id| bound.is_none_or(|bound| **id < bound))
            .filter_map(|id| self.turns.get(id))
            .map(|(_, turn)| turn.clone())
            .take(limit)
            .collect()
    }
}

fn is_parked(part: &PartRow) -> bool {
    matches!(part.state, DeliveryState::Unknown | DeliveryState::Dead) && !part.text.is_empty()
}

impl Row {
    fn loaded(&self) -> Loaded {
        let mut session = Arc::clone(&self.session);
        if let Some(forgotten) = self.forgotten.as_ref().filter(|_| !session.acts.is_empty()) {
            Arc::make_mut(&mut session).forgotten = forgotten.through;
        }
        Loaded { session, version: self.version }
    }
}

impl Store for MemoryStore {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn health(&self) -> Result<(), String> {
        if self.tables().closed { Err("the store is closed".into()) } else { Ok(()) }
    }

    fn stats(&self) -> StoreStats {
        self.tables().stats
    }

    fn load(&self, key: &SessionKey) -> BoxFuture<'_, Result<Option<Loaded>, StoreError>> {
        self.read(|tables| tables.sessions.get(key).map(Row::loaded))
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<CommitOutcome, StoreError>> {
        Box::pin(ready(self.tables().commit(commit)))
    }

    fn open_work(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, SessionKey)>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Timestamp, SessionKey)>, StoreError>> {
        self.read(|tables| {
            let rows = tables.sessions.iter();
            let open = rows.filter_map(|(key, row)| Some((row.wake_at?, key.clone())));
            let mut due: Vec<_> = open
                .filter(|(at, _)| *at <= before)
                .filter(|entry| after.as_ref().is_none_or(|after| entry > after))
                .collect();
            due.sort();
            due.truncate(limit);
            due
        })
    }

    fn sessions(
        &self,
        tenant: Option<&str>,
        after: Option<&SessionKey>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(SessionKey, Loaded)>, StoreError>> {
        self.read(|tables| {
            let rows = tables.sessions.iter();
            rows.filter(|(key, _)| after.is_none_or(|after| *key > after))
                .filter(|(key, _)| tenant.is_none_or(|tenant| key.tenant() == tenant))
                .map(|(key, row)| (key.clone(), row.loaded()))
                .take(limit)
                .collect()
        })
    }

    fn events(
        &self,
        key: &SessionKey,
        after: Seq,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Event>, StoreError>> {
        self.read(|tables| {
            let events = tables.sessions.get(key).map_or(&[][..], |row| &row.events);
            events.iter().filter(|event| event.seq > after).take(limit).cloned().collect()
        })
    }

    fn turn(&self, id: TurnId) -> BoxFuture<'_, Result<Option<(SessionKey, TurnRow)>, StoreError>> {
        self.read(|tables| tables.turns.get(&id).cloned())
    }

    fn turns(
        &self,
        key: &SessionKey,
        before: Option<TurnId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<TurnRow>, StoreError>> {
        self.read(|tables| tables.turns(key, before, limit))
    }

    fn dead_letters_count(&self, max: usize) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.read(|tables| tables.dead_letters.len().min(max) as u64)
    }

    fn dead_letters(
        &self,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(u64, SessionKey, DeadLetter)>, StoreError>> {
        self.read(|tables| {
            let letters = tables.dead_letters.range(after.saturating_add(1)..).take(limit);
            letters.map(|(id, (key, letter))| (*id, key.clone(), letter.clone())).collect()
        })
    }

    fn dead_letter(
        &self,
        id: u64,
    ) -> BoxFuture<'_, Result<Option<(SessionKey, DeadLetter)>, StoreError>> {
        self.read(|tables| tables.dead_letters.get(&id).cloned())
    }

    fn parts(
        &self,
        key: &SessionKey,
        after: (Seq, u32),
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<PartRow>, StoreError>> {
        self.read(|tables| {
            let Some(row) = tables.sessions.get(key) else { return Vec::new() };
            let parts = row.parts.iter().filter(|(place, _)| **place > after);
            parts.map(|(_, part)| part.clone()).take(limit).collect()
        })
    }

    fn parked(
        &self,
        tenant: Option<&str>,
        state: Option<DeliveryState>,
        after: Option<&PartPlace>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(SessionKey, PartRow)>, StoreError>> {
        self.read(|tables| {
            let rows = tables.sessions.iter();
            let rows = rows.filter(|(key, _)| tenant.is_none_or(|tenant| key.tenant() == tenant));
            let parts = rows.flat_map(|(key, row)| row.parts.values().map(move |part| (key, part)));
            let parked = parts.filter(|(_, part)| {
                is_parked(part) && state.is_none_or(|state| part.state == state)
            });
            let behind = parked.filter(|(key, part)| {
                after.is_none_or(|(session, reply, number)| {
                    (*key, part.reply, part.part) > (session, *reply, *number)
                })
            });
            behind.take(limit).map(|(key, part)| (key.clone(), part.clone())).collect()
        })
    }

    fn forget_seen(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, StoreError>> {
        let mut tables = self.tables();
        let over = tables.seen.iter().filter(|(_, row)| row.until < now).map(|(key, _)| *key);
        let over: Vec<_> = over.take(limit).collect();
        for key in &over {
            tables.seen.remove(key);
        }
        Box::pin(ready(Ok(over.len())))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.tables().closed = true;
        Box::pin(ready(()))
    }
}
