//! What the memory store keeps for listeners.

use std::collections::{BTreeMap, HashSet};
use std::future::ready;

use turnkeep_core::listen::{DEAD_MAX, PENDING_MAX};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::listeners::{
    Failure, JournalRow, Kept, ListenerStore, Missed, Standing, Which,
};
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::{Event, Seq, SessionKey, Timestamp};

use super::{MemoryStore, Tables};
use crate::check;

/// The journal's order, and the listeners.
#[derive(Debug, Default)]
pub(super) struct ListenerTables {
    /// Each row's session, and its first and last place there; row 1 stands at index 0.
    journal: Vec<(SessionKey, Seq, Seq)>,
    listeners: BTreeMap<String, Listener>,
    last_id: u64,
}

#[derive(Debug)]
struct Listener {
    position: u64,
    configured_at: Timestamp,
    kept: BTreeMap<u64, Kept>,
}

impl ListenerTables {
    /// A commit's events take the next row.
    pub(super) fn append(&mut self, key: &SessionKey, events: &[Event]) {
        if let (Some(first), Some(last)) = (events.first(), events.last()) {
            self.journal.push((key.clone(), first.seq, last.seq));
        }
    }

    fn end(&self) -> u64 {
        self.journal.len() as u64
    }

    fn listener(&mut self, name: &str) -> Option<&mut Listener> {
        self.listeners.get_mut(name)
    }

    fn session_at(&self, position: u64) -> Option<SessionKey> {
        let index = usize::try_from(position.checked_sub(1)?).ok()?;
        self.journal.get(index).map(|(key, ..)| key.clone())
    }
}

impl Tables {
    fn journal_row(&self, position: u64) -> Option<JournalRow> {
        let index = usize::try_from(position.checked_sub(1)?).ok()?;
        let (key, first, last) = self.listeners.journal.get(index)?;
        let events = self.sessions.get(key).map_or(&[][..], |row| &row.events);
        let within = events.iter().filter(|event| (*first..=*last).contains(&event.seq));
        let events: Vec<Event> = within.cloned().collect();
        // A row whose events are all forgotten is gone.
        (!events.is_empty()).then(|| JournalRow { position, content: Ok((key.clone(), events)) })
    }
}

impl Listener {
    fn standing(&self) -> Standing {
        let dead = self.dead().count() as u64;
        Standing { position: self.position, pending: self.kept.len() as u64 - dead, dead }
    }

    fn dead(&self) -> impl Iterator<Item = u64> {
        self.kept.iter().filter(|(_, kept)| kept.failure.due_at.is_none()).map(|(id, _)| *id)
    }

    fn pending(&self) -> impl Iterator<Item = (Timestamp, &Kept)> {
        self.kept.values().filter_map(|kept| Some((kept.failure.due_at?, kept)))
    }

    fn which(&self, which: Which) -> Vec<u64> {
        match which {
            Which::One(id) => self.dead().filter(|dead| *dead == id).collect(),
            Which::Oldest(limit) => self.dead().take(limit).collect(),
        }
    }

    fn bounded(&mut self) -> Standing {
        let excess = self.pending().count().saturating_sub(PENDING_MAX);
        let mut oldest: Vec<u64> = self.pending().map(|(_, kept)| kept.id).collect();
        oldest.truncate(excess);
        for kept in oldest.iter().filter_map(|id| self.kept.remove(id)).collect::<Vec<_>>() {
            let error = check::TOO_MANY_WAIT.into();
            let failure = Failure { due_at: None, error, ..kept.failure };
            self.kept.insert(kept.id, Kept { failure, ..kept });
        }
        let excess = self.dead().count().saturating_sub(DEAD_MAX);
        for id in self.dead().take(excess).collect::<Vec<_>>() {
            self.kept.remove(&id);
        }
        self.standing()
    }
}

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

impl MemoryStore {
    fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut ListenerTables) -> T,
    ) -> Answer<'_, T> {
        let mut tables = self.tables();
        let done = if tables.closed {
            Err(StoreError::Unavailable("the store is closed".into()))
        } else {
            Ok(change(&mut tables.listeners))
        };
        Box::pin(ready(done))
    }
}

impl ListenerStore for MemoryStore {
    fn journal_end(&self) -> Answer<'_, u64> {
        self.read(|tables| tables.listeners.end())
    }

    fn journal_after(&self, after: u64, limit: usize) -> Answer<'_, Vec<JournalRow>> {
        self.read(|tables| {
            let places = after.saturating_add(1)..=tables.listeners.end();
            places.filter_map(|place| tables.journal_row(place)).take(limit).collect()
        })
    }

    fn enrol(
        &self,
        names: Vec<String>,
        now: Timestamp,
        forget_before: Timestamp,
    ) -> Answer<'_, ()> {
        self.change(|tables| {
            let end = tables.end();
            for name in names {
                let listener = tables.listeners.entry(name).or_insert_with(|| Listener {
                    position: end,
                    configured_at: now,
                    kept: BTreeMap::new(),
                });
                listener.configured_at = now;
                listener.position = listener.position.min(end);
            }
            tables.listeners.retain(|_, listener| listener.configured_at >= forget_before);
        })
    }

    fn standing(&self, listener: &str) -> Answer<'_, Option<Standing>> {
        self.read(|tables| tables.listeners.listeners.get(listener).map(Listener::standing))
    }

    fn advance(&self, listener: &str, position: u64, missed: Vec<Missed>) -> Answer<'_, Standing> {
        self.change(|tables| {
            let first = tables.last_id + 1;
            tables.last_id += missed.len() as u64;
            let sessions: Vec<_> =
                missed.iter().map(|missed| tables.session_at(missed.position)).collect();
            let Some(listener) = tables.listener(listener) else { return Standing::default() };
            listener.position = listener.position.max(position);
            let known: HashSet<_> =
                listener.kept.values().map(|kept| (kept.position, kept.seq)).collect();
            for (id, (missed, session)) in (first..).zip(missed.into_iter().zip(sessions)) {
                let Missed { position, seq, event_type, at, failure } = missed;
                let event_type = event_type.to_owned();
                if known.contains(&(position, seq)) {
                    continue;
                }
                let kept = Kept { id, position, seq, event_type, session, at, failure };
                listener.kept.insert(id, kept);
            }
            listener.bounded()
        })
    }

    fn due(&self, listener: &str, now: Timestamp, limit: usize) -> Answer<'_, Vec<Kept>> {
        self.read(|tables| {
            let listener = tables.listeners.listeners.get(listener);
            let pending = listener.into_iter().flat_map(Listener::pending);
            let mut due: Vec<_> = pending.filter(|(at, _)| *at <= now).collect();
            due.sort_by_key(|(at, kept)| (*at, kept.id));
            due.into_iter().map(|(_, kept)| kept.clone()).take(limit).collect()
        })
    }

    fn next_due(&self, listener: &str) -> Answer<'_, Option<Timestamp>> {
        self.read(|tables| {
            let listener = tables.listeners.listeners.get(listener)?;
            listener.pending().map(|(at, _)| at).min()
        })
    }

    fn settle(&self, listener: &str, ended: Vec<(u64, Option<Failure>)>) -> Answer<'_, Standing> {
        self.change(|tables| {
            let Some(listener) = tables.listener(listener) else { return Standing::default() };
            for (id, failure) in ended {
                if let (Some(kept), Some(failure)) = (listener.kept.remove(&id), failure) {
                    listener.kept.insert(id, Kept { failure, ..kept });
                }
            }
            listener.bounded()
        })
    }

    fn dead(&self, listener: &str, after: u64, limit: usize) -> Answer<'_, Vec<Kept>> {
        self.read(|tables| {
            let listener = tables.listeners.listeners.get(listener);
            let kept = listener.into_iter().flat_map(|listener| listener.kept.values());
            let dead = kept.filter(|kept| kept.failure.due_at.is_none() && kept.id > after);
            dead.take(limit).cloned().collect()
        })
    }

    fn revive(&self, listener: &str, which: Which, now: Timestamp) -> Answer<'_, usize> {
        self.change(|tables| {
            let Some(listener) = tables.listener(listener) else { return 0 };
            let ids = listener.which(which);
            for kept in ids.iter().filter_map(|id| listener.kept.remove(id)).collect::<Vec<_>>() {
                let failure = Failure { tries: 0, due_at: Some(now), ..kept.failure };
                listener.kept.insert(kept.id, Kept { failure, ..kept });
            }
            ids.len()
        })
    }

    fn discard(&self, listener: &str, which: Which) -> Answer<'_, usize> {
        self.change(|tables| {
            let Some(listener) = tables.listener(listener) else { return 0 };
            let ids = listener.which(which);
            for id in &ids {
                listener.kept.remove(id);
            }
            ids.len()
        })
    }
}
