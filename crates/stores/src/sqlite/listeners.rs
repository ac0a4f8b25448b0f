//! What is kept for listeners: their places in the journal, and the callbacks that failed.

use rusqlite::{Connection, OptionalExtension, Row, params};
use turnkeep_core::listen::{DEAD_MAX, PENDING_MAX};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::listeners::{
    Failure, JournalRow, Kept, ListenerStore, Missed, Standing, Which,
};
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::{Event, Seq, SessionKey, Timestamp};

use super::trouble::Result;
use super::{SqliteStore, encode};
use crate::check;

/// A page of the journal ends with the row that reaches this many bytes.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

type Answer<'a, T> = BoxFuture<'a, std::result::Result<T, StoreError>>;

impl ListenerStore for SqliteStore {
    fn journal_end(&self) -> Answer<'_, u64> {
        self.readers.read(journal_end)
    }

    fn journal_after(&self, after: u64, limit: usize) -> Answer<'_, Vec<JournalRow>> {
        self.readers.read(move |connection| journal_after(connection, after, limit))
    }

    fn enrol(
        &self,
        names: Vec<String>,
        now: Timestamp,
        forget_before: Timestamp,
    ) -> Answer<'_, ()> {
        self.change(move |connection| enrol(connection, &names, now, forget_before))
    }

    fn standing(&self, listener: &str) -> Answer<'_, Option<Standing>> {
        let listener = listener.to_owned();
        self.readers.read(move |connection| standing(connection, &listener))
    }

    fn advance(&self, listener: &str, position: u64, missed: Vec<Missed>) -> Answer<'_, Standing> {
        let listener = listener.to_owned();
        self.change(move |connection| advance(connection, &listener, position, &missed))
    }

    fn due(&self, listener: &str, now: Timestamp, limit: usize) -> Answer<'_, Vec<Kept>> {
        let listener = listener.to_owned();
        self.readers.read(move |connection| {
            let which = "state = 'pending' AND due_at <= ?2 ORDER BY due_at, callbacks.id";
            kept(connection, which, &listener, now, limit)
        })
    }

    fn next_due(&self, listener: &str) -> Answer<'_, Option<Timestamp>> {
        let listener = listener.to_owned();
        self.readers.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT min(due_at) FROM callbacks WHERE listener = ?1 AND state = 'pending'",
            )?;
            Ok(statement.query_row([&listener], |row| row.get(0))?)
        })
    }

    fn settle(&self, listener: &str, ended: Vec<(u64, Option<Failure>)>) -> Answer<'_, Standing> {
        let listener = listener.to_owned();
        self.change(move |connection| settle(connection, &listener, &ended))
    }

    fn dead(&self, listener: &str, after: u64, limit: usize) -> Answer<'_, Vec<Kept>> {
        let listener = listener.to_owned();
        self.readers.read(move |connection| {
            let which = "state = 'dead' AND callbacks.id > ?2 ORDER BY callbacks.id";
            kept(connection, which, &listener, signed(after), limit)
        })
    }

    fn revive(&self, listener: &str, which: Which, now: Timestamp) -> Answer<'_, usize> {
        let listener = listener.to_owned();
        self.change(move |connection| {
            let deed = "UPDATE callbacks SET state = 'pending', tries = 0, due_at = ?3";
            on_dead(connection, deed, &listener, which, now)
        })
    }

    fn discard(&self, listener: &str, which: Which) -> Answer<'_, usize> {
        let listener = listener.to_owned();
        self.change(move |connection| {
            on_dead(connection, "DELETE FROM callbacks", &listener, which, 0)
        })
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn journal_end(connection: &Connection) -> Result<u64> {
    // The last row may have been removed since; its number does not come again.
    let mut statement = connection.prepare_cached(
        "SELECT max(coalesce((SELECT max(id) FROM journal), 0), value) FROM meta
         WHERE name = 'journal'",
    )?;
    Ok(statement.query_row([], |row| row.get::<_, i64>(0))?.cast_unsigned())
}

/// Leaves out what is forgotten and only waits to be removed.
fn journal_after(connection: &Connection, after: u64, limit: usize) -> Result<Vec<JournalRow>> {
    let mut statement = connection.prepare_cached(
        "SELECT journal.id, sessions.key, journal.events FROM journal
         LEFT JOIN sessions ON sessions.id = journal.session_id
         LEFT JOIN forgotten ON forgotten.session_id = journal.session_id
         WHERE journal.id > ?1 AND journal.last_seq > coalesce(forgotten.through_seq, 0)
         ORDER BY journal.id LIMIT ?2",
    )?;
    let mut found = statement.query(params![signed(after), count(limit)])?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while bytes < PAGE_BYTES_MAX {
        let Some(row) = found.next()? else { break };
        let position = row.get::<_, i64>(0)?.cast_unsigned();
        let session: Option<String> = row.get(1)?;
        let events = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
        bytes += events.len();
        rows.push(JournalRow { position, content: content(position, session, events) });
    }
    Ok(rows)
}

/// What stands in a row, or what is wrong with it: one bad row must not hide those behind it.
fn content(
    position: u64,
    session: Option<String>,
    events: &[u8],
) -> std::result::Result<(SessionKey, Vec<Event>), String> {
    let session = session.ok_or("its session is not there any more")?;
    let key = session.parse().map_err(|error| format!("session {session}: {error}"))?;
    let whose = || format!("session {session}: journal row {position}");
    let events = encode::value(events, whose).map_err(|unreadable| unreadable.0)?;
    Ok((key, events))
}

fn enrol(
    connection: &Connection,
    names: &[String],
    now: Timestamp,
    forget_before: Timestamp,
) -> Result<()> {
    let end = signed(journal_end(connection)?);
    let mut enrol = connection.prepare_cached(
        "INSERT INTO listeners VALUES (?1, ?2, ?3)
         ON CONFLICT (name) DO UPDATE SET configured_at = excluded.configured_at,
         position = min(position, excluded.position)",
    )?;
    for name in names {
        enrol.execute(params![name, end, now])?;
    }
    let mut forget = connection.prepare_cached("DELETE FROM listeners WHERE configured_at < ?1")?;
    if forget.execute([forget_before])? > 0 {
        let orphans = "DELETE FROM callbacks WHERE listener NOT IN (SELECT name FROM listeners)";
        connection.execute(orphans, [])?;
    }
    Ok(())
}

fn standing(connection: &Connection, listener: &str) -> Result<Option<Standing>> {
    let mut statement = connection.prepare_cached(
        "SELECT position,
         (SELECT count(*) FROM callbacks WHERE listener = ?1 AND state = 'pending'),
         (SELECT count(*) FROM callbacks WHERE listener = ?1 AND state = 'dead')
         FROM listeners WHERE name = ?1",
    )?;
    let standing = statement.query_row([listener], |row| {
        let [position, pending, dead] = [0, 1, 2].map(|column| row.get::<_, i64>(column));
        Ok(Standing {
            position: position?.cast_unsigned(),
            pending: pending?.cast_unsigned(),
            dead: dead?.cast_unsigned(),
        })
    });
    Ok(standing.optional()?)
}

fn advance(
    connection: &Connection,
    listener: &str,
    position: u64,
    missed: &[Missed],
) -> Result<Standing> {
    let mut keep = connection.prepare_cached(
        "INSERT INTO callbacks (listener, position, seq, event_type, at, state, tries, due_at, error)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
    )?;
    for callback in missed {
        let Failure { tries, due_at, error } = &callback.failure;
        keep.execute(params![
            listener,
            signed(callback.position),
            signed(callback.seq.0),
            callback.event_type,
            callback.at,
            state_of(&callback.failure),
            tries,
            due_at,
            error.as_ref()
        ])?;
    }
    let mut advance = connection
        .prepare_cached("UPDATE listeners SET position = max(position, ?2) WHERE name = ?1")?;
    advance.execute(params![listener, signed(position)])?;
    if missed.is_empty() {
        return Ok(standing(connection, listener)?.unwrap_or_default());
    }
    bounded(connection, listener)
}

fn settle(
    connection: &Connection,
    listener: &str,
    ended: &[(u64, Option<Failure>)],
) -> Result<Standing> {
    let mut forget =
        connection.prepare_cached("DELETE FROM callbacks WHERE id = ?1 AND listener = ?2")?;
    let mut again = connection.prepare_cached(
        "UPDATE callbacks SET state = ?3, tries = ?4, due_at = ?5, error = ?6
         WHERE id = ?1 AND listener = ?2",
    )?;
    for (id, failure) in ended {
        let id = signed(*id);
        match failure {
            None => forget.execute(params![id, listener])?,
            Some(failure) => {
                let Failure { tries, due_at, error } = failure;
                let state = state_of(failure);
                again.execute(params![id, listener, state, tries, due_at, error.as_ref()])?
            }
        };
    }
    bounded(connection, listener)
}

const fn state_of(failure: &Failure) -> &'static str {
    if failure.due_at.is_some() { "pending" } else { "dead" }
}

/// Keeps to the bounds: of too many that wait the oldest become dead, of too many dead the oldest
/// go.
fn bounded(connection: &Connection, listener: &str) -> Result<Standing> {
    let Some(mut standing) = standing(connection, listener)? else {
        return Ok(Standing::default());
    };
    let excess = standing.pending.saturating_sub(PENDING_MAX as u64);
    if excess > 0 {
        let mut bury = connection.prepare_cached(
            "UPDATE callbacks SET state = 'dead', due_at = NULL, error = ?3 WHERE id IN
             (SELECT id FROM callbacks WHERE listener = ?1 AND state = 'pending'
              ORDER BY id LIMIT ?2)",
        )?;
        bury.execute(params![listener, signed(excess), check::TOO_MANY_WAIT])?;
        standing.pending -= excess;
        standing.dead += excess;
    }
    let excess = standing.dead.saturating_sub(DEAD_MAX as u64);
    if excess > 0 {
        let mut forget = connection.prepare_cached(
            "DELETE FROM callbacks WHERE id IN
             (SELECT id FROM callbacks WHERE listener = ?1 AND state = 'dead'
              ORDER BY id LIMIT ?2)",
        )?;
        forget.execute(params![listener, signed(excess)])?;
        standing.dead -= excess;
    }
    Ok(standing)
}

/// Callbacks of a listener; `which` may use `?2`.
fn kept(
    connection: &Connection,
    which: &str,
    listener: &str,
    bound: i64,
    limit: usize,
) -> Result<Vec<Kept>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT callbacks.id, position, seq, event_type, sessions.key, at, tries, due_at, error
         FROM callbacks LEFT JOIN journal ON journal.id = position
         LEFT JOIN sessions ON sessions.id = journal.session_id
         WHERE listener = ?1 AND {which} LIMIT ?3"
    ))?;
    let found = statement.query_map(params![listener, bound, count(limit)], read_kept)?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

fn read_kept(row: &Row<'_>) -> rusqlite::Result<Kept> {
    let session: Option<String> = row.get(4)?;
    let error: String = row.get(8)?;
    Ok(Kept {
        id: row.get::<_, i64>(0)?.cast_unsigned(),
        position: row.get::<_, i64>(1)?.cast_unsigned(),
        seq: Seq(row.get::<_, i64>(2)?.cast_unsigned()),
        event_type: row.get(3)?,
        session: session.and_then(|session| session.parse().ok()),
        at: row.get(5)?,
        failure: Failure { tries: row.get(6)?, due_at: row.get(7)?, error: error.into() },
    })
}

/// Does something to dead callbacks; `deed` may use `?3`.
fn on_dead(
    connection: &Connection,
    deed: &str,
    listener: &str,
    which: Which,
    now: Timestamp,
) -> Result<usize> {
    // Every statement names all three parameters, whether it needs them or not.
    let (condition, number) = match which {
        Which::One(id) => ("id = ?2", signed(id)),
        Which::Oldest(limit) => (
            "id IN (SELECT id FROM callbacks WHERE listener = ?1 AND state = 'dead'
             ORDER BY id LIMIT ?2)",
            count(limit),
        ),
    };
    let mut statement = connection.prepare_cached(&format!(
        "{deed} WHERE listener = ?1 AND state = 'dead' AND {condition} AND ?3 IS NOT NULL"
    ))?;
    Ok(statement.execute(params![listener, number, now])?)
}
