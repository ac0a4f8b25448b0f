//! What is kept of the switchboard.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use deadpool_postgres::GenericClient;
use tokio_postgres::{IsolationLevel, Row};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::ports::switchboard::{
    BoardChange, KeptBoard, KeptRow, KeptSeat, SwitchboardStore, Written,
};
use turnkeep_core::{Seq, SessionKey};

use super::PostgresStore;
use super::ask::{bump, hold, limit_of, row, rows, run, strange, text_of, text_option};
use super::text::{put, put_some};
use super::trouble::{Result, Trouble};
use crate::check;

type Answer<'a, T> = BoxFuture<'a, std::result::Result<T, StoreError>>;

/// What changes of boards wait for, one after the other.
const MARK: &str = "boards";

impl SwitchboardStore for PostgresStore {
    fn board_tenants(&self, after: Option<&str>, limit: usize) -> Answer<'_, Vec<Arc<str>>> {
        let after = after.unwrap_or_default().to_owned();
        Box::pin(async move {
            self.read(|| async { tenants(&self.reading().await?, &after, limit).await }).await
        })
    }

    fn board(&self, tenant: &str) -> Answer<'_, KeptBoard> {
        let tenant = tenant.to_owned();
        Box::pin(async move {
            self.read(|| async {
                let mut client = self.reading().await?;
                // Rows, seats and the number of one moment.
                let moment = client.build_transaction().read_only(true);
                let moment = moment.isolation_level(IsolationLevel::RepeatableRead).start().await?;
                board(&moment, &tenant).await
            })
            .await
        })
    }

    fn write_board(&self, change: BoardChange) -> Answer<'_, Written> {
        if let Err(error) = check::own_rows(&change) {
            return Box::pin(std::future::ready(Err(error)));
        }
        let change = Arc::new(change);
        Box::pin(self.change("write a board", move |tx| {
            let change = Arc::clone(&change);
            Box::pin(async move { write(tx, &change).await })
        }))
    }
}

/// A board that was ever written has a counter.
async fn tenants(on: &impl GenericClient, after: &str, limit: usize) -> Result<Vec<Arc<str>>> {
    let sql = "SELECT tenant FROM switchboard_counters WHERE tenant > $1 ORDER BY tenant LIMIT $2";
    let found = rows(on, sql, &[&put(after), &limit_of(limit)]).await?;
    found.iter().map(|row| text_of(row, "tenant").map(Arc::from)).collect()
}

async fn board(on: &impl GenericClient, tenant: &str) -> Result<KeptBoard> {
    let sql = "SELECT session_key, number, name, created_at, touched_at, read_seq
               FROM switchboard_sessions WHERE tenant = $1 ORDER BY number";
    let found = rows(on, sql, &[&put(tenant)]).await?;
    Ok(KeptBoard {
        rows: found.iter().map(kept_row).collect::<Result<_>>()?,
        seats: seats(on, tenant).await?,
        last_number: last_number(on, tenant).await?,
    })
}

fn kept_row(row: &Row) -> Result<KeptRow> {
    let key = key_of(row, "session_key")?;
    let number: i64 = row.try_get("number")?;
    let number = number.try_into().map_err(|_| {
        strange(format_args!("session {key} has no number on the board, but {number}"))
    })?;
    Ok(KeptRow {
        key,
        number,
        name: text_option(row, "name")?,
        created_at: row.try_get("created_at")?,
        touched_at: row.try_get("touched_at")?,
        read_seq: Seq(row.try_get::<_, i64>("read_seq")?.cast_unsigned()),
    })
}

fn key_of(row: &Row, column: &str) -> Result<SessionKey> {
    let key: &str = row.try_get(column)?;
    key.parse().map_err(|_| strange(format_args!("{key:?} on a board is no session key")))
}

async fn seats(on: &impl GenericClient, tenant: &str) -> Result<Vec<KeptSeat>> {
    seat_rows(on, tenant).await?.iter().map(kept_seat).collect()
}

async fn seat_rows(on: &impl GenericClient, tenant: &str) -> Result<Vec<Row>> {
    let sql = "SELECT seat, active_key, history, touched_at
               FROM switchboard_seats WHERE tenant = $1 ORDER BY seat";
    rows(on, sql, &[&put(tenant)]).await
}

fn kept_seat(row: &Row) -> Result<KeptSeat> {
    let seat: Arc<str> = text_of(row, "seat")?.into();
    let strange = |what: &str| strange(format_args!("seat {seat:?} of the switchboard: {what}"));
    let active: Option<&str> = row.try_get("active_key")?;
    let active = active.map(|key| key.parse().map_err(|_| strange("it watches no session key")));
    let history: &str = row.try_get("history")?;
    let history = serde_json::from_str(history).map_err(|_| strange("its history is no list"))?;
    let touched_at = row.try_get("touched_at")?;
    Ok(KeptSeat { active: active.transpose()?, history, touched_at, seat })
}

async fn last_number(on: &impl GenericClient, tenant: &str) -> Result<u32> {
    let sql = "SELECT last_number FROM switchboard_counters WHERE tenant = $1";
    let Some(found) = row(on, sql, &[&put(tenant)]).await? else { return Ok(0) };
    let number: i64 = found.try_get(0)?;
    number.try_into().map_err(|_| strange(format_args!("a board's last number is {number}")))
}

/// Looks at everything before its first write, so that a refusal leaves nothing to undo. What is
/// taken in between is only the lock.
async fn write(on: &impl GenericClient, change: &BoardChange) -> Result<Written> {
    hold(on, MARK).await?;
    if let Some(key) = taken(on, change).await? {
        return Ok(Written::Taken(key));
    }
    bump(on, MARK).await?;
    let seats_before =
        if change.gone.is_empty() { Vec::new() } else { seats(on, &change.tenant).await? };
    let leave: Vec<&str> = change
        .gone
        .iter()
        .chain(change.rows.iter().map(|row| &row.key))
        .map(SessionKey::as_str)
        .collect();
    if !leave.is_empty() {
        let sql = "DELETE FROM switchboard_sessions WHERE session_key = ANY($1)";
        run(on, sql, &[&leave]).await?;
    }
    put_rows(on, change).await?;
    for seat in &change.seats {
        put_seat(on, &change.tenant, seat).await?;
    }
    for mut seat in seats_before {
        let is_written = change.seats.iter().any(|written| written.seat == seat.seat);
        if !is_written && check::leave_seat(&mut seat, &change.gone) {
            put_seat(on, &change.tenant, &seat).await?;
        }
    }
    for seat in &change.seats_gone {
        drop_seat(on, &change.tenant, seat).await?;
    }
    let highest = i64::from(check::highest_number(change));
    let sql = "INSERT INTO switchboard_counters AS c (tenant, last_number) VALUES ($1, $2)
               ON CONFLICT (tenant)
               DO UPDATE SET last_number = greatest(c.last_number, excluded.last_number)";
    run(on, sql, &[&put(&change.tenant), &highest]).await?;
    Ok(Written::Done)
}

/// A row whose number or name another session keeps.
async fn taken(on: &impl GenericClient, change: &BoardChange) -> Result<Option<SessionKey>> {
    if let Some(twin) = check::twin_row(change) {
        return Ok(Some(twin));
    }
    let (keys, numbers, names) = columns(change);
    let sql = "SELECT n.key, s.session_key FROM unnest($2::text[], $3::bigint[]) AS n(key, number)
               JOIN switchboard_sessions s ON s.tenant = $1 AND s.number = n.number
               WHERE s.session_key <> n.key
               UNION ALL
               SELECT n.key, s.session_key FROM unnest($2::text[], $4::text[]) AS n(key, name)
               JOIN switchboard_sessions s ON s.tenant = $1 AND s.name = n.name
               WHERE s.session_key <> n.key";
    let found = rows(on, sql, &[&put(&change.tenant), &keys, &numbers, &names]).await?;
    let moving: BTreeSet<&str> =
        change.gone.iter().map(SessionKey::as_str).chain(keys.iter().copied()).collect();
    let mut refused = BTreeSet::new();
    for row in &found {
        let (wants, holder): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        if !moving.contains(holder) {
            refused.insert(wants);
        }
    }
    let first = change.rows.iter().find(|row| refused.contains(row.key.as_str()));
    Ok(first.map(|row| row.key.clone()))
}

/// Keys, numbers and names of the rows of a change.
type Columns<'a> = (Vec<&'a str>, Vec<i64>, Vec<Option<Cow<'a, str>>>);

fn columns(change: &BoardChange) -> Columns<'_> {
    let keys = change.rows.iter().map(|row| row.key.as_str()).collect();
    let numbers = change.rows.iter().map(|row| i64::from(row.number)).collect();
    let names = change.rows.iter().map(|row| put_some(row.name.as_deref())).collect();
    (keys, numbers, names)
}

async fn put_rows(on: &impl GenericClient, change: &BoardChange) -> Result<()> {
    if change.rows.is_empty() {
        return Ok(());
    }
    let (keys, numbers, names) = columns(change);
    let of = |pick: fn(&KeptRow) -> i64| change.rows.iter().map(pick).collect::<Vec<i64>>();
    let (created, touched) = (of(|row| row.created_at), of(|row| row.touched_at));
    let read = of(|row| row.read_seq.0.cast_signed());
    let sql = "INSERT INTO switchboard_sessions
               (session_key, tenant, number, name, created_at, touched_at, read_seq)
               SELECT n.key, $1, n.number, n.name, n.created, n.touched, n.read
               FROM unnest($2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[],
                           $7::bigint[]) AS n(key, number, name, created, touched, read)";
    let tenant = put(&change.tenant);
    run(on, sql, &[&tenant, &keys, &numbers, &names, &created, &touched, &read]).await.map(drop)
}

async fn put_seat(on: &impl GenericClient, tenant: &str, seat: &KeptSeat) -> Result<()> {
    let history = serde_json::to_string(&seat.history).map_err(strange)?;
    let active = seat.active.as_ref().map(SessionKey::as_str);
    let sql = "INSERT INTO switchboard_seats (tenant, seat, active_key, history, touched_at)
               VALUES ($1, $2, $3, $4, $5) ON CONFLICT (tenant, seat) DO UPDATE
               SET active_key = excluded.active_key, history = excluded.history,
               touched_at = excluded.touched_at";
    let name = put(&seat.seat);
    run(on, sql, &[&put(tenant), &name, &active, &history, &seat.touched_at]).await.map(drop)
}

async fn drop_seat(on: &impl GenericClient, tenant: &str, seat: &str) -> Result<()> {
    let sql = "DELETE FROM switchboard_seats WHERE tenant = $1 AND seat = $2";
    run(on, sql, &[&put(tenant), &put(seat)]).await.map(drop)
}

/// Forgets a session that is erased. A seat that can't be read goes whole: it may name the session.
pub(super) async fn forget(on: &impl GenericClient, key: &SessionKey) -> Result<()> {
    bump(on, MARK).await?;
    let tenant = key.tenant();
    let sql = "DELETE FROM switchboard_sessions WHERE session_key = $1";
    run(on, sql, &[&key.as_str()]).await?;
    for row in seat_rows(on, &tenant).await? {
        match kept_seat(&row) {
            Ok(mut seat) => {
                if check::leave_seat(&mut seat, std::slice::from_ref(key)) {
                    put_seat(on, &tenant, &seat).await?;
                }
            }
            Err(Trouble::Corrupt(_)) => {
                drop_seat(on, &tenant, &text_of(&row, "seat")?).await?;
            }
            Err(trouble) => return Err(trouble),
        }
    }
    Ok(())
}
