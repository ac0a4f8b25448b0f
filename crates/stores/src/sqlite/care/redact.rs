//! Blanks texts in a history that stays: somebody's messages in a session that is not theirs.

use rusqlite::{Connection, OptionalExtension, params};
use turnkeep_core::care::blank;
use turnkeep_core::outbox::DeliveryState;
use turnkeep_core::ports::care::Redaction;
use turnkeep_core::ports::store::PartRow;
use turnkeep_core::{Seq, TurnId};

use super::super::journal::Journal;
use super::super::trouble::{Result, Trouble};
use super::super::{encode, read};
use super::{UNSCRUBBED, through_seq};

/// Rows that a journal holds are changed here and where a history is cut, and nowhere else.
pub(super) fn redact(connection: &Connection, redaction: &Redaction) -> Result<()> {
    // Until the files are clean, also if that is another process's work.
    let mut mark = connection
        .prepare_cached("INSERT OR REPLACE INTO care (name, value) VALUES (?1, randomblob(16))")?;
    mark.execute([UNSCRUBBED])?;
    let Some(row) = read::session_row(connection, &redaction.key)? else { return Ok(()) };
    let journal = row.journal(connection);
    let through = through_seq(connection, journal.session_id)?;
    let there = redaction.places.iter().filter(|seq| **seq > through && **seq <= journal.last_seq);
    let mut places: Vec<Seq> = there.copied().collect();
    places.sort_unstable();
    entries(&journal, &places)?;
    for place in &places {
        parts(connection, &journal, *place)?;
    }
    for turn in &redaction.turns {
        one_turn(connection, *turn, journal.session_id)?;
    }
    Ok(())
}

fn entries(journal: &Journal<'_>, places: &[Seq]) -> Result<()> {
    let mut put =
        journal.connection.prepare_cached("UPDATE journal SET events = ?2 WHERE id = ?1")?;
    let mut rest = places;
    while let Some(first) = rest.first() {
        let row = journal.covering(first.0)?;
        let mut events = journal.decode(&row)?;
        let (here, behind) = rest.split_at(rest.partition_point(|seq| seq.0 <= row.last));
        for event in &mut events {
            if here.contains(&event.seq) {
                blank(event);
            }
        }
        let events = encode::blob(&events[..]);
        let events = events.map_err(|error| Trouble::Corrupt(error.to_string()))?;
        put.execute(params![row.id, events])?;
        rest = behind;
    }
    Ok(())
}

/// The parts of a reply; one that is still on its way keeps its text until it is there.
fn parts(connection: &Connection, journal: &Journal<'_>, reply: Seq) -> Result<()> {
    let mut parts = connection
        .prepare_cached("SELECT part, body FROM parts WHERE session_id = ?1 AND reply = ?2")?;
    let mut blank = connection.prepare_cached(
        "UPDATE parts SET text = '', body = ?4 WHERE session_id = ?1 AND reply = ?2 AND part = ?3",
    )?;
    let place = (journal.session_id, reply.0.cast_signed());
    let mut rows = parts.query(params![place.0, place.1])?;
    let mut settled: Vec<(u32, Vec<u8>)> = Vec::new();
    while let Some(row) = rows.next()? {
        let (part, body): (u32, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let row = encode::decode_part(journal.key, (reply, part), &body, "".into())?;
        if !matches!(row.state, DeliveryState::Pending | DeliveryState::Sending) {
            // What the channel said of it may quote it.
            settled.push((part, encode::part_body(&PartRow { detail: None, ..row })?));
        }
    }
    for (part, body) in settled {
        blank.execute(params![place.0, place.1, part, body])?;
    }
    Ok(())
}

fn one_turn(connection: &Connection, turn: TurnId, session_id: i64) -> Result<()> {
    let id = &turn.0.as_bytes()[..];
    let mut find =
        connection.prepare_cached("SELECT body FROM turns WHERE id = ?1 AND session_id = ?2")?;
    let body: Option<Vec<u8>> =
        find.query_row(params![id, session_id], |row| row.get(0)).optional()?;
    let Some(body) = body else { return Ok(()) };
    let mut put = connection.prepare_cached("UPDATE turns SET body = ?2 WHERE id = ?1")?;
    put.execute(params![id, encode::blank_turn(turn, &body)?])?;
    Ok(())
}
