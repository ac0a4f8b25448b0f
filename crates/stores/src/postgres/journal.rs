//! Reading sessions' journals: rows, each with the events of one commit, or a part of them.

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use turnkeep_core::{Event, Seq, SessionKey};

use super::ask::{limit_of, rows, strange};
use super::read::seq_of;
use super::trouble::{Result, missing};
use crate::encode;

/// A question for several pages ends where it is so large: that much comes over a slow link, too,
/// before the statement has taken too long.
const PAGES_BYTES_MAX: i64 = 4 * 1024 * 1024;

/// A place of a session's journal.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) key: &'a SessionKey,
    /// The session's number.
    pub(super) id: i64,
    pub(super) seq: Seq,
}

/// One row, its events not yet decoded.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) place: i64,
    session_id: i64,
    first: u64,
    pub(super) last: u64,
    events: Vec<u8>,
}

impl Entry {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            place: row.try_get("place")?,
            session_id: row.try_get("session_id")?,
            first: row.try_get::<_, i64>("first_seq")?.cast_unsigned(),
            last: row.try_get::<_, i64>("last_seq")?.cast_unsigned(),
            events: row.try_get("events")?,
        })
    }

    /// Its events, which are those of its places.
    pub(super) fn decode(&self, key: &SessionKey) -> Result<Vec<Event>> {
        let whose = || format!("session {key}: journal {}..={}", self.first, self.last);
        let events: Vec<Event> = encode::value(&self.events, whose)?;
        let places = events.iter().map(|event| event.seq.0);
        if places.eq(self.first..=self.last) {
            return Ok(events);
        }
        Err(strange(format_args!("{} holds other places", whose())))
    }
}

/// A part of a session's journal: so many events, at most, behind a place.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) key: SessionKey,
    pub(super) after: Seq,
    pub(super) limit: usize,
}

/// See the port.
pub(super) async fn events(
    on: &impl GenericClient,
    key: &SessionKey,
    after: Seq,
    limit: usize,
) -> Result<Vec<Event>> {
    let page = Page { key: key.clone(), after, limit };
    Ok(pages(on, &[page]).await?.pop().unwrap_or_default())
}

/// Several of them, in this order: the first one, and of the others as many as come within the
/// limit; whoever asks for more asks again for the rest. Where a history begins, where it ends and
/// what stands between is asked for at once, so all of it is of one moment. A row holds one place
/// at least, hence so many rows suffice. How large a row is the server knows without reading it.
pub(super) async fn pages(on: &impl GenericClient, pages: &[Page]) -> Result<Vec<Vec<Event>>> {
    let sql = "SELECT * FROM
                  (SELECT n.number, s.last_seq AS ends, s.after, j.*,
                      coalesce(sum(octet_length(j.events)) OVER (ORDER BY n.number), 0) AS through
                   FROM unnest($1::text[], $2::bigint[], $3::bigint[])
                        WITH ORDINALITY AS n(key, after, room, number)
                   LEFT JOIN LATERAL (
                        SELECT id, last_seq, greatest(n.after, coalesce(through_seq, 0)) AS after
                        FROM sessions LEFT JOIN forgotten ON session_id = id
                        WHERE key = n.key LIMIT 1) s ON true
                   LEFT JOIN LATERAL (SELECT place, session_id, first_seq, last_seq, events
                                      FROM journal WHERE session_id = s.id AND last_seq > s.after
                                      ORDER BY last_seq LIMIT n.room) j
                   ON j.first_seq <= s.after + least(s.last_seq - s.after, n.room)) page
               WHERE number = 1 OR through <= $4 ORDER BY number, last_seq";
    let keys: Vec<&str> = pages.iter().map(|page| page.key.as_str()).collect();
    let after = |page: &Page| i64::try_from(page.after.0).unwrap_or(i64::MAX);
    let afters: Vec<i64> = pages.iter().map(after).collect();
    let rooms: Vec<i64> = pages.iter().map(|page| limit_of(page.limit)).collect();
    let found = rows(on, sql, &[&keys, &afters, &rooms, &PAGES_BYTES_MAX]).await?;
    let mut found = found.as_slice();
    let mut read = Vec::with_capacity(pages.len());
    // Each has a row at least, so where there is none more the limit was reached.
    for (page, number) in pages.iter().zip(1_i64..) {
        if found.is_empty() {
            break;
        }
        let mut its = 0;
        while let Some(row) = found.get(its)
            && row.try_get::<_, i64>("number")? == number
        {
            its += 1;
        }
        let (own, others) = found.split_at(its);
        found = others;
        read.push(events_of(page, own)?);
    }
    Ok(read)
}

/// What stands in the rows of one page; where there is no such session, one says so.
fn events_of(page: &Page, found: &[Row]) -> Result<Vec<Event>> {
    let (key, limit) = (&page.key, page.limit);
    let Some(first) = found.first() else { return Ok(Vec::new()) };
    if first.try_get::<_, Option<i64>>("ends")?.is_none() {
        return Ok(Vec::new());
    }
    let after = seq_of(first, "after")?.0;
    let last = after.saturating_add(limit as u64).min(seq_of(first, "ends")?.0);
    let mut events: Vec<Event> = Vec::new();
    let mut next = after + 1;
    // Where there are no rows, one says so.
    for row in found {
        if next > last || row.try_get::<_, Option<i64>>("place")?.is_none() {
            break;
        }
        let entry = Entry::read(row)?;
        let follows = if events.is_empty() { entry.first <= next } else { entry.first == next };
        if !follows {
            break;
        }
        let decoded = entry.decode(key)?.into_iter();
        events.extend(decoded.filter(|event| event.seq.0 > after && event.seq.0 <= last));
        next = entry.last + 1;
    }
    if next <= last {
        return Err(missing(key, &format!("place {next} of its journal")));
    }
    Ok(events)
}

/// The events at these places, in the same order.
pub(super) async fn at(on: &impl GenericClient, wanted: &[Wanted<'_>]) -> Result<Vec<Event>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let entries = covering(on, wanted).await?;
    let mut decoded: Vec<Option<Vec<Event>>> = Vec::new();
    decoded.resize_with(entries.len(), || None);
    let mut events = Vec::with_capacity(wanted.len());
    for place in wanted {
        let index = entries
            .partition_point(|entry| (entry.session_id, entry.last) < (place.id, place.seq.0));
        let absent = || missing(place.key, "an event of its journal");
        let entry = entries.get(index).filter(|entry| entry.session_id == place.id);
        let (Some(entry), Some(here)) = (entry, decoded.get_mut(index)) else {
            return Err(absent());
        };
        let here = match here {
            Some(here) => here,
            none => none.insert(entry.decode(place.key)?),
        };
        let event = here.iter().find(|event| event.seq == place.seq).cloned();
        events.push(event.ok_or_else(absent)?);
    }
    Ok(events)
}

/// The rows that hold these places, each once, in order of their sessions and places. Where a place
/// is missing, the row behind it may stand there.
pub(super) async fn covering(on: &impl GenericClient, wanted: &[Wanted<'_>]) -> Result<Vec<Entry>> {
    let sql = "SELECT DISTINCT ON (j.session_id, j.last_seq) j.*
               FROM unnest($1::bigint[], $2::bigint[]) AS n(session, seq)
               CROSS JOIN LATERAL (SELECT place, session_id, first_seq, last_seq, events
                                   FROM journal WHERE session_id = n.session AND last_seq >= n.seq
                                   ORDER BY last_seq LIMIT 1) j
               ORDER BY j.session_id, j.last_seq";
    let ids: Vec<i64> = wanted.iter().map(|place| place.id).collect();
    let seqs: Vec<i64> = wanted.iter().map(|place| place.seq.0.cast_signed()).collect();
    rows(on, sql, &[&ids, &seqs]).await?.iter().map(Entry::read).collect()
}

/// The row that holds this place.
pub(super) async fn covering_one(on: &impl GenericClient, wanted: Wanted<'_>) -> Result<Entry> {
    let (key, seq) = (wanted.key, wanted.seq.0);
    let entry = covering(on, &[wanted]).await?.pop().filter(|entry| entry.first <= seq);
    entry.ok_or_else(|| missing(key, &format!("place {seq} of its journal")))
}
