//! What is kept of the switchboard.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::ports::switchboard::{
    BoardChange, KeptBoard, KeptRow, KeptSeat, SwitchboardStore, Written,
};
use turnkeep_core::{Seq, SessionKey};

use super::SqliteStore;
use super::read::{key_at, limit_of};
use super::trouble::{Result, Trouble};
use crate::check;

type Answer<'a, T> = BoxFuture<'a, std::result::Result<T, StoreError>>;

impl SwitchboardStore for SqliteStore {
    fn board_tenants(&self, after: Option<&str>, limit: usize) -> Answer<'_, Vec<Arc<str>>> {
        let after = after.unwrap_or_default().to_owned();
        self.readers.read(move |connection| {
            // A board that was ever written has a counter.
            let mut statement = connection.prepare_cached(
                "SELECT tenant FROM switchboard_counters WHERE tenant > ?1 ORDER BY tenant LIMIT ?2",
            )?;
            let rows = statement.query_map(params![after, limit_of(limit)], |row| row.get(0))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    fn board(&self, tenant: &str) -> Answer<'_, KeptBoard> {
        let tenant = tenant.to_owned();
        self.readers.read(move |connection| {
            Ok(KeptBoard {
                rows: rows(connection, &tenant)?,
                seats: seats(connection, &tenant)?,
                last_number: last_number(connection, &tenant)?,
            })
        })
    }

    fn write_board(&self, change: BoardChange) -> Answer<'_, Written> {
        if let Err(error) = check::own_rows(&change) {
            return Box::pin(std::future::ready(Err(error)));
        }
        Box::pin(async move {
            // A seat that can't be read is an answer, not the disk's trouble.
            self.change(move |connection| super::care::value(write(connection, &change))).await?
        })
    }
}

fn rows(connection: &Connection, tenant: &str) -> Result<Vec<KeptRow>> {
    let mut statement = connection.prepare_cached(
        "SELECT session_key, number, name, created_at, touched_at, read_seq
         FROM switchboard_sessions WHERE tenant = ?1 ORDER BY number",
    )?;
    let rows = statement.query_map([tenant], |row| Ok(kept_row(row)))?;
    rows.map(|row| row.map_err(Trouble::from).and_then(|row| row)).collect()
}

fn kept_row(row: &Row<'_>) -> Result<KeptRow> {
    Ok(KeptRow {
        key: key_at(row, 0)?,
        number: row.get(1)?,
        name: row.get(2)?,
        created_at: row.get(3)?,
        touched_at: row.get(4)?,
        read_seq: Seq(row.get::<_, i64>(5)?.cast_unsigned()),
    })
}

fn seats(connection: &Connection, tenant: &str) -> Result<Vec<KeptSeat>> {
    let mut statement = connection.prepare_cached(
        "SELECT seat, active_key, history, touched_at
         FROM switchboard_seats WHERE tenant = ?1 ORDER BY seat",
    )?;
    let rows = statement.query_map([tenant], |row| Ok(kept_seat(row)))?;
    rows.map(|row| row.map_err(Trouble::from).and_then(|row| row)).collect()
}

fn kept_seat(row: &Row<'_>) -> Result<KeptSeat> {
    let seat: Arc<str> = row.get(0)?;
    let strange =
        |what: &str| Trouble::Corrupt(format!("seat {seat:?} of the switchboard: {what}"));
    let active: Option<String> = row.get(1)?;
    let active = active.map(|key| key.parse().map_err(|_| strange("it watches no session key")));
    let history: String = row.get(2)?;
    let history = serde_json::from_str(&history).map_err(|_| strange("its history is no list"))?;
    Ok(KeptSeat { active: active.transpose()?, history, touched_at: row.get(3)?, seat })
}

fn last_number(connection: &Connection, tenant: &str) -> Result<u32> {
    let mut statement = connection
        .prepare_cached("SELECT last_number FROM switchboard_counters WHERE tenant = ?1")?;
    Ok(statement.query_row([tenant], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// Looks at everything before its first write, so that a refusal leaves nothing to undo.
fn write(connection: &Connection, change: &BoardChange) -> Result<Written> {
    if let Some(key) = taken(connection, change)? {
        return Ok(Written::Taken(key));
    }
    let seats_before =
        if change.gone.is_empty() { Vec::new() } else { seats(connection, &change.tenant)? };
    let changed = change.rows.iter().map(|row| &row.key);
    for key in change.gone.iter().chain(changed) {
        let sql = "DELETE FROM switchboard_sessions WHERE session_key = ?1";
        connection.prepare_cached(sql)?.execute([key.as_str()])?;
    }
    for row in &change.rows {
        put_row(connection, &change.tenant, row)?;
    }
    for seat in &change.seats {
        put_seat(connection, &change.tenant, seat)?;
    }
    for mut seat in seats_before {
        let is_written = change.seats.iter().any(|written| written.seat == seat.seat);
        if !is_written && check::leave_seat(&mut seat, &change.gone) {
            put_seat(connection, &change.tenant, &seat)?;
        }
    }
    for seat in &change.seats_gone {
        let sql = "DELETE FROM switchboard_seats WHERE tenant = ?1 AND seat = ?2";
        connection.prepare_cached(sql)?.execute(params![change.tenant, seat])?;
    }
    let highest = check::highest_number(change);
    connection
        .prepare_cached(
            "INSERT INTO switchboard_counters VALUES (?1, ?2) ON CONFLICT (tenant)
             DO UPDATE SET last_number = max(last_number, excluded.last_number)",
        )?
        .execute(params![change.tenant, highest])?;
    Ok(Written::Done)
}

/// A row whose number or name another session keeps.
fn taken(connection: &Connection, change: &BoardChange) -> Result<Option<SessionKey>> {
    if let Some(twin) = check::twin_row(change) {
        return Ok(Some(twin));
    }
    let mut holders = connection.prepare_cached(
        "SELECT session_key FROM switchboard_sessions
         WHERE tenant = ?1 AND number = ?2 AND session_key <> ?4
         UNION ALL SELECT session_key FROM switchboard_sessions
         WHERE tenant = ?1 AND name = ?3 AND session_key <> ?4",
    )?;
    let moves = |key: &str| {
        change.gone.iter().any(|gone| gone.as_str() == key)
            || change.rows.iter().any(|row| row.key.as_str() == key)
    };
    for row in &change.rows {
        let place = params![change.tenant, row.number, row.name, row.key.as_str()];
        let mut found = holders.query(place)?;
        while let Some(holder) = found.next()? {
            let holder: String = holder.get(0)?;
            if !moves(&holder) {
                return Ok(Some(row.key.clone()));
            }
        }
    }
    Ok(None)
}

fn put_row(connection: &Connection, tenant: &str, row: &KeptRow) -> Result<()> {
    let KeptRow { key, number, name, created_at, touched_at, read_seq } = row;
    let mut put = connection.prepare_cached(
        "INSERT INTO switchboard_sessions
         (session_key, tenant, number, name, created_at, touched_at, read_seq)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let read_seq = read_seq.0.cast_signed();
    put.execute(params![key.as_str(), tenant, number, name, created_at, touched_at, read_seq])?;
    Ok(())
}

fn put_seat(connection: &Connection, tenant: &str, seat: &KeptSeat) -> Result<()> {
    let history = serde_json::to_string(&seat.history)
        .map_err(|error| Trouble::Corrupt(error.to_string()))?;
    let active = seat.active.as_ref().map(SessionKey::as_str);
    let mut put = connection
        .prepare_cached("INSERT OR REPLACE INTO switchboard_seats VALUES (?1, ?2, ?3, ?4, ?5)")?;
    put.execute(params![tenant, seat.seat, active, history, seat.touched_at])?;
    Ok(())
}

/// Forgets a session that is erased. A seat that can't be read goes whole: it may name the session.
pub(super) fn forget(connection: &Connection, key: &SessionKey) -> Result<()> {
    let tenant = key.tenant();
    let sql = "DELETE FROM switchboard_sessions WHERE session_key = ?1";
    connection.prepare_cached(sql)?.execute([key.as_str()])?;
    let mut statement = connection.prepare_cached(
        "SELECT seat, active_key, history, touched_at FROM switchboard_seats WHERE tenant = ?1",
    )?;
    let rows = statement.query_map([&tenant], |row| Ok((row.get(0)?, kept_seat(row))))?;
    let rows: Vec<(String, Result<KeptSeat>)> = rows.collect::<rusqlite::Result<_>>()?;
    for (name, seat) in rows {
        match seat {
            Ok(mut seat) => {
                if check::leave_seat(&mut seat, std::slice::from_ref(key)) {
                    put_seat(connection, &tenant, &seat)?;
                }
            }
            Err(Trouble::Corrupt(_)) => {
                let sql = "DELETE FROM switchboard_seats WHERE tenant = ?1 AND seat = ?2";
                connection.prepare_cached(sql)?.execute([&tenant, &name])?;
            }
            Err(trouble) => return Err(trouble),
        }
    }
    Ok(())
}
