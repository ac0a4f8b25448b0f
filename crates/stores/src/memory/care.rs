//! Keeping and forgetting in the memory store: what is forgotten is gone at once, and there are no
//! files to copy or clean.

use std::collections::BTreeSet;
use std::future::ready;
use std::sync::Arc;

use turnkeep_core::care::{Forgotten, blank, blank_turn, tombstone};
use turnkeep_core::outbox::DeliveryState;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::attachments::named_in;
use turnkeep_core::ports::care::{
    BackupError, BackupOrder, CareStore, Disappearing, Forget, Forgot, Found, Hashes, Redaction,
    Swept,
};
use turnkeep_core::ports::store::{DeadLetter, StoreError};
use turnkeep_core::{Seq, SessionKey, Timestamp};

use super::{MemoryStore, Row, Tables};
use crate::check;

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

impl CareStore for MemoryStore {
    fn forgotten(&self, key: &SessionKey) -> Answer<'_, Option<Forgotten>> {
        self.read(|tables| tables.sessions.get(key).and_then(|row| row.forgotten.clone()))
    }

    fn keys(
        &self,
        tenant: Option<&str>,
        after: Option<&SessionKey>,
        limit: usize,
    ) -> Answer<'_, Vec<SessionKey>> {
        self.read(|tables| {
            let keys = tables.sessions.keys();
            keys.filter(|key| after.is_none_or(|after| *key > after))
                .filter(|key| tenant.is_none_or(|tenant| key.tenant() == tenant))
                .take(limit)
                .cloned()
                .collect()
        })
    }

    fn letters(&self, key: &SessionKey) -> Answer<'_, Vec<DeadLetter>> {
        self.read(|tables| {
            let letters = tables.dead_letters.values();
            let mut own: Vec<DeadLetter> = letters
                .filter(|(owner, _)| owner == key)
                .map(|(_, letter)| letter.clone())
                .collect();
            own.sort_by_key(|letter| letter.seq);
            own
        })
    }

    fn forget(&self, forget: Forget) -> Answer<'_, Forgot> {
        Box::pin(ready(self.tables().forget(forget)))
    }

    fn sweep(&self, _limit: usize) -> Answer<'_, Swept> {
        self.read(|_| Swept::default())
    }

    fn redact(&self, redaction: Redaction) -> Answer<'_, ()> {
        self.tables().redact(&redaction);
        self.read(|_| ())
    }

    fn disappearing(&self, until: Timestamp, limit: usize) -> Answer<'_, Vec<Disappearing>> {
        self.read(|tables| {
            let rows = tables.disappearing.iter();
            let mut due: Vec<Disappearing> = rows
                .map(|((key, seq), (seconds, due_at))| Disappearing {
                    key: key.clone(),
                    seq: *seq,
                    seconds: *seconds,
                    due_at: *due_at,
                })
                .filter(|row| row.due_at <= until)
                .collect();
            due.sort_by_key(|row| row.due_at);
            due.truncate(limit);
            due
        })
    }

    fn put_off(
        &self,
        key: &SessionKey,
        looked_at: Vec<(Seq, Option<Timestamp>)>,
    ) -> Answer<'_, ()> {
        let mut tables = self.tables();
        for (seq, due_at) in looked_at {
            let place = (key.clone(), seq);
            match (due_at, tables.disappearing.get_mut(&place)) {
                (Some(due_at), Some(row)) => row.1 = due_at,
                (None, _) => drop(tables.disappearing.remove(&place)),
                (Some(_), None) => {}
            }
        }
        drop(tables);
        self.read(|_| ())
    }

    fn find_sender(&self, tenant: &str, sender: &str, _from: u64) -> Answer<'_, Found> {
        self.read(|tables| {
            let wrote = |row: &Row| {
                row.events.iter().any(|event| event.body.sender().is_some_and(|by| **by == *sender))
            };
            let of_tenant = tables.sessions.iter().filter(|(key, _)| key.tenant() == tenant);
            let keys = of_tenant.filter(|(_, row)| wrote(row)).map(|(key, _)| key.clone());
            Found { keys: keys.collect(), next: None, end: 0 }
        })
    }

    fn find_hashes(&self, _from: u64) -> Answer<'_, Hashes> {
        self.read(|tables| {
            let mut hashes = Hashes::default();
            let events = tables.sessions.values().flat_map(|row| &row.events);
            let events = events.filter_map(|event| serde_json::to_string(event).ok());
            let jobs = tables.schedule.jobs().filter_map(|job| serde_json::to_string(job).ok());
            for text in events.chain(jobs) {
                named_in(&text, &mut hashes.found);
            }
            hashes
        })
    }

    fn is_unscrubbed(&self) -> Answer<'_, bool> {
        self.read(|tables| tables.unscrubbed)
    }

    fn scrub(&self) -> Answer<'_, bool> {
        self.tables().unscrubbed = false;
        self.read(|_| true)
    }

    fn salt(&self) -> Answer<'_, Vec<u8>> {
        self.read(|_| b"nothing here outlives the process".to_vec())
    }

    fn backup(&self, _order: BackupOrder) -> BoxFuture<'_, Result<u64, BackupError>> {
        Box::pin(ready(Err(BackupError::NoFile)))
    }
}

impl Row {
    /// Where the journal ends, even where nothing of it is left.
    pub(super) fn last_seq(&self) -> Seq {
        let forgotten = self.forgotten.as_ref().map_or(Seq(0), |forgotten| forgotten.through);
        self.events.last().map_or(forgotten, |event| event.seq)
    }
}

impl Tables {
    fn forget(&mut self, forget: Forget) -> Result<Forgot, StoreError> {
        let Forget { key, expected, from, mut forgotten, bury_as } = forget;
        let Some(row) = self.sessions.get_mut(&key) else { return Ok(Forgot::Changed) };
        let begins = row.forgotten.as_ref().map_or(Seq(0), |known| known.through);
        let (through, last) = (forgotten.through, row.last_seq());
        let unfit = bury_as.is_some() && (row.wake_at.is_some() || through != last);
        if row.version != expected || begins != from || through > last || unfit {
            return Ok(Forgot::Changed);
        }
        row.events.retain(|event| event.seq > through);
        row.parts.retain(|(reply, _), _| *reply > through);
        let gone = row.turns.iter().position(|turn| Some(*turn) == forgotten.turn);
        let gone: Vec<_> = row.turns.drain(..gone.map_or(0, |at| at + 1)).collect();
        for turn in gone {
            self.turns.remove(&turn);
            self.usage.forget(turn);
        }
        let of_place =
            |(owner, letter): &(SessionKey, DeadLetter)| *owner == key && letter.seq <= through;
        let letters = self.dead_letters.values().filter(|letter| of_place(letter));
        let letters: Vec<Seq> = letters.map(|(_, letter)| letter.seq).collect();
        self.dead_letters.retain(|_, letter| !of_place(letter));
        forgotten.bury(&letters);
        row.forgotten = Some(forgotten);
        self.disappearing.retain(|(owner, seq), _| *owner != key || *seq > through);
        if let Some(name) = bury_as {
            self.bury(&key, &name)?;
        }
        Ok(Forgot::Done(letters.len() as u64))
    }

    /// The row stays under a name that tells nothing.
    fn bury(&mut self, key: &SessionKey, name: &str) -> Result<(), StoreError> {
        let alias = |number: u64| {
            tombstone(&key.tenant(), name, number)
                .map_err(|error| StoreError::Corrupt(error.to_string()))
        };
        let mut number = 0;
        while self.sessions.contains_key(&alias(number)?) {
            number += 1;
        }
        let alias = alias(number)?;
        for row in self.seen.values_mut().filter(|row| row.first.session == *key) {
            row.first.session = alias.clone();
        }
        self.usage.bury(key, &alias);
        self.boards.forget(key);
        if let Some(mut row) = self.sessions.remove(key) {
            row.session = Arc::new(check::buried(&row.session));
            row.version = row.version.next();
            self.sessions.insert(alias, row);
        }
        Ok(())
    }

    fn redact(&mut self, redaction: &Redaction) {
        self.unscrubbed = true;
        let Some(row) = self.sessions.get_mut(&redaction.key) else { return };
        let places: BTreeSet<Seq> = redaction.places.iter().copied().collect();
        row.events.iter_mut().filter(|event| places.contains(&event.seq)).for_each(blank);
        let settled = |state| !matches!(state, DeliveryState::Pending | DeliveryState::Sending);
        for part in row.parts.values_mut() {
            if places.contains(&part.reply) && settled(part.state) {
                (part.text, part.detail) = (Arc::default(), None);
            }
        }
        for turn in &redaction.turns {
            if let Some((owner, row)) = self.turns.get_mut(turn)
                && *owner == redaction.key
            {
                blank_turn(row);
            }
        }
    }
}
