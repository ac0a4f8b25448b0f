//! Reading a session's journal: rows in a chain, each with the events of one commit, or a part of them.

use rusqlite::{Connection, OptionalExtension, params};
use turnkeep_core::{Event, Seq, SessionKey};

use super::trouble::{Result, Trouble, missing};
use super::{care, encode};

/// A session's journal, as of the moment its row was read. Rows are changed by [`care`] only, and a
/// read sees one moment, so it stays readable while commits go on.
#[derive(Clone, Debug)]
pub(super) struct Journal<'a> {
    pub(super) connection: &'a Connection,
    pub(super) key: &'a SessionKey,
    pub(super) session_id: i64,
    pub(super) head: i64,
    pub(super) last_seq: Seq,
}

/// One row, its events not yet decoded.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: i64,
    first: u64,
    pub(super) last: u64,
    pub(super) prev: i64,
    events: Vec<u8>,
}

impl Journal<'_> {
    /// The events behind `after`, oldest first; they begin later where a beginning was forgotten.
    pub(super) fn events(&self, after: Seq, limit: usize) -> Result<Vec<Event>> {
        let after = after.max(care::through_seq(self.connection, self.session_id)?);
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        let last = after.0.saturating_add(limit).min(self.last_seq.0);
        if last <= after.0 {
            return Ok(Vec::new());
        }
        let mut rows = vec![self.covering(last)?];
        while let Some(row) = rows.last().filter(|row| row.first > after.0 + 1) {
            rows.push(self.before(row)?);
        }
        let mut events = Vec::new();
        for row in rows.iter().rev() {
            let decoded = self.decode(row)?.into_iter();
            events.extend(decoded.filter(|event| event.seq > after && event.seq.0 <= last));
        }
        Ok(events)
    }

    /// The events at `places`, in the same order.
    pub(super) fn at(&self, places: &[Seq]) -> Result<Vec<Event>> {
        // Backwards through the chain, so that neighbours cost one step.
        let mut order: Vec<usize> = (0..places.len()).collect();
        order.sort_unstable_by_key(|index| std::cmp::Reverse(places[*index]));
        let mut found: Vec<Option<Event>> = vec![None; places.len()];
        let mut row: Option<Row> = None;
        for index in order {
            let seq = places[index];
            let mut here = match row.take() {
                Some(row) if row.first <= seq.0 => row,
                Some(row) if row.first - seq.0 <= super::schema::JOURNAL_STRIDE => {
                    self.before(&row)?
                }
                _ => self.covering(seq.0)?,
            };
            while here.first > seq.0 {
                here = self.before(&here)?;
            }
            found[index] = self.decode(&here)?.into_iter().find(|event| event.seq == seq);
            row = Some(here);
        }
        let found: Option<Vec<Event>> = found.into_iter().collect();
        found.ok_or_else(|| missing(self.key, "an event of its journal"))
    }

    /// The row that holds the place: from the next indexed row, or the head, back to it.
    pub(super) fn covering(&self, seq: u64) -> Result<Row> {
        let mut statement = self.connection.prepare_cached(
            "SELECT journal_id FROM journal_index WHERE session_id = ?1 AND last_seq >= ?2
             ORDER BY last_seq LIMIT 1",
        )?;
        let start =
            statement.query_row(params![self.session_id, seq.cast_signed()], |row| row.get(0));
        let mut row = self.row(start.optional()?.unwrap_or(self.head))?;
        while row.first > seq {
            row = self.before(&row)?;
        }
        if row.last < seq {
            return Err(missing(self.key, &format!("place {seq} of its journal")));
        }
        Ok(row)
    }

    fn before(&self, row: &Row) -> Result<Row> {
        let before = self.row(row.prev)?;
        if before.last + 1 == row.first {
            return Ok(before);
        }
        Err(missing(self.key, &format!("place {} of its journal", row.first - 1)))
    }

    fn row(&self, id: i64) -> Result<Row> {
        let mut statement = self.connection.prepare_cached(
            "SELECT first_seq, last_seq, prev, events FROM journal
             WHERE id = ?1 AND session_id = ?2",
        )?;
        let row = statement.query_row([id, self.session_id], |row| {
            Ok(Row {
                id,
                first: row.get::<_, i64>(0)?.cast_unsigned(),
                last: row.get::<_, i64>(1)?.cast_unsigned(),
                prev: row.get(2)?,
                events: row.get(3)?,
            })
        });
        row.optional()?.ok_or_else(|| missing(self.key, "a row of its journal"))
    }

    pub(super) fn decode(&self, row: &Row) -> Result<Vec<Event>> {
        let whose = || format!("session {}: journal {}..={}", self.key, row.first, row.last);
        let events: Vec<Event> = encode::value(&row.events, whose)?;
        let places = events.iter().map(|event| event.seq.0);
        if places.eq(row.first..=row.last) {
            return Ok(events);
        }
        Err(Trouble::Corrupt(format!("{} holds other places", whose())))
    }
}
