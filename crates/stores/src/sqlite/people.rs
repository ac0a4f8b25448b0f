//! The record of who became known by a code.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use turnkeep_core::Timestamp;
use turnkeep_core::policy::Trust;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::keys::{Added, SecretHash};
use turnkeep_core::ports::people::{CODES_WAITING_MAX, PAIRINGS_MAX, PairedWith, Pairing, People};
use turnkeep_core::ports::store::StoreError;

use super::SqliteStore;
use super::trouble::{Result, Trouble};

type Answer<'a, T> = BoxFuture<'a, std::result::Result<T, StoreError>>;

const COLUMNS: &str =
    "id, tenant, user, trust, made_at, until, code, channel, person, paired_at FROM pairings";

impl People for SqliteStore {
    fn pairings(&self) -> Answer<'_, Vec<Pairing>> {
        self.readers.read(|connection| {
            let sql = format!("SELECT {COLUMNS} ORDER BY made_at, id");
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map([], |row| Ok(pairing(row)))?;
            rows.map(|row| row.map_err(Trouble::from).and_then(|row| row)).collect()
        })
    }

    fn add_pairing(&self, pairing: Pairing, now: Timestamp) -> Answer<'_, Added> {
        self.change(move |connection| add(connection, &pairing, now))
    }

    fn pair(&self, code: SecretHash, with: PairedWith) -> Answer<'_, Option<Pairing>> {
        self.change(move |connection| pair(connection, &code, with))
    }

    fn end_pairing(&self, id: &str) -> Answer<'_, bool> {
        let id = id.to_owned();
        self.change(move |connection| {
            let sql = "DELETE FROM pairings WHERE id = ?1";
            Ok(connection.prepare_cached(sql)?.execute([id])? > 0)
        })
    }

    fn end_pairings(&self, tenant: &str, customer: &str) -> Answer<'_, usize> {
        let (tenant, customer) = (tenant.to_owned(), customer.to_owned());
        self.change(move |connection| {
            let sql = "DELETE FROM pairings WHERE tenant = ?1 AND (user = ?2 OR person = ?2)";
            Ok(connection.prepare_cached(sql)?.execute([tenant, customer])?)
        })
    }

    fn forget_codes(&self, now: Timestamp, limit: usize) -> Answer<'_, usize> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.change(move |connection| {
            let over = "SELECT id FROM pairings WHERE code IS NOT NULL AND until <= ?1 LIMIT ?2";
            let mut statement = connection.prepare_cached(over)?;
            let ids: Vec<String> = statement
                .query_map(params![now, limit], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            for id in &ids {
                let sql = "DELETE FROM pairings WHERE id = ?1 AND person IS NULL";
                connection.prepare_cached(sql)?.execute([id])?;
                let sql = "UPDATE pairings SET code = NULL WHERE id = ?1";
                connection.prepare_cached(sql)?.execute([id])?;
            }
            Ok(ids.len())
        })
    }
}

fn add(connection: &Connection, pairing: &Pairing, now: Timestamp) -> Result<Added> {
    let sql =
        "SELECT count(*), count(*) FILTER (WHERE person IS NULL AND until > ?1) FROM pairings";
    let (all, waiting): (i64, i64) =
        connection.prepare_cached(sql)?.query_row([now], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let is_full = |count: i64, max| usize::try_from(count).is_ok_and(|count| count >= max);
    if is_full(all, PAIRINGS_MAX) || is_full(waiting, CODES_WAITING_MAX) {
        return Ok(Added::Full);
    }
    let with = pairing.with.as_ref();
    let added = connection
        .prepare_cached(
            "INSERT INTO pairings
             (id, tenant, user, trust, made_at, until, code, channel, person, paired_at)
             VALUES (:id, :tenant, :user, :trust, :made_at, :until, :code, :channel, :person,
                     :paired_at)
             ON CONFLICT DO NOTHING",
        )?
        .execute(named_params! {
            ":id": pairing.id,
            ":tenant": pairing.tenant,
            ":user": pairing.user,
            ":trust": pairing.trust.as_str(),
            ":made_at": pairing.made_at,
            ":until": pairing.until,
            ":code": pairing.code,
            ":channel": with.map(|with| &with.channel),
            ":person": with.map(|with| &with.person),
            ":paired_at": with.map(|with| with.at),
        })?;
    Ok(if added > 0 { Added::Done } else { Added::Taken })
}

fn pair(connection: &Connection, code: &SecretHash, with: PairedWith) -> Result<Option<Pairing>> {
    let sql = format!("SELECT {COLUMNS} WHERE code = ?1 AND until > ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_row(params![code, with.at], |row| Ok(pairing(row))).optional()?;
    let Some(found) = found.transpose()? else { return Ok(None) };
    if let Some(before) = &found.with {
        let same = before.channel == with.channel && before.person == with.person;
        return Ok(same.then_some(found));
    }
    let sql = "DELETE FROM pairings WHERE tenant = ?1 AND channel = ?2 AND person = ?3";
    let who = params![found.tenant, with.channel, with.person];
    connection.prepare_cached(sql)?.execute(who)?;
    let sql = "UPDATE pairings SET channel = ?2, person = ?3, paired_at = ?4 WHERE id = ?1";
    let row = params![found.id, with.channel, with.person, with.at];
    connection.prepare_cached(sql)?.execute(row)?;
    Ok(Some(Pairing { with: Some(with), ..found }))
}

/// A row that can't be understood is damage.
fn pairing(row: &Row<'_>) -> Result<Pairing> {
    let id: Arc<str> = row.get("id")?;
    let word: String = row.get("trust")?;
    let unknown = || Trouble::Corrupt(format!("the trust of pairing {id} is {word:?}"));
    let trust = Trust::named(&word).ok_or_else(unknown)?;
    let person: Option<Arc<str>> = row.get("person")?;
    let with = match person {
        Some(person) => {
            let (channel, at) = (row.get("channel")?, row.get("paired_at")?);
            Some(PairedWith { channel, person, at })
        }
        None => None,
    };
    Ok(Pairing {
        trust,
        tenant: row.get("tenant")?,
        user: row.get("user")?,
        made_at: row.get("made_at")?,
        until: row.get("until")?,
        code: row.get("code")?,
        with,
        id,
    })
}
