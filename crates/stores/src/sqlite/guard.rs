//! The record of restrictions.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, named_params, params, params_from_iter};
use turnkeep_core::Timestamp;
use turnkeep_core::guard::{AbuseKind, Severity};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::guard::{Restriction, RestrictionFilter, Restrictions};
use turnkeep_core::ports::store::StoreError;

use super::SqliteStore;
use super::trouble::{Result, Trouble};

type Answer<'a, T> = BoxFuture<'a, std::result::Result<T, StoreError>>;

const COLUMNS: &str = "id, tenant, customer, severity, type, since, until, reason, appeal, \
                       appealed_at, lifted_at, lifted_by";

impl Restrictions for SqliteStore {
    fn add_restriction(&self, restriction: Restriction) -> Answer<'_, Restriction> {
        self.change(move |connection| add(connection, restriction))
    }

    fn restriction(&self, id: u64) -> Answer<'_, Option<Restriction>> {
        self.readers.read(move |connection| find(connection, id))
    }

    fn restrictions(
        &self,
        filter: RestrictionFilter,
        after: u64,
        limit: usize,
    ) -> Answer<'_, Vec<Restriction>> {
        self.readers.read(move |connection| list(connection, &filter, after, limit))
    }

    fn lift_restriction(
        &self,
        id: u64,
        at: Timestamp,
        by: String,
    ) -> Answer<'_, Option<Restriction>> {
        self.change(move |connection| {
            connection
                .prepare_cached(
                    "UPDATE restrictions SET lifted_at = ?2, lifted_by = ?3
                     WHERE id = ?1 AND lifted_at IS NULL",
                )?
                .execute(params![signed(id), at, by])?;
            find(connection, id)
        })
    }

    fn appeal_restriction(
        &self,
        id: u64,
        at: Timestamp,
        text: String,
    ) -> Answer<'_, Option<Restriction>> {
        self.change(move |connection| {
            connection
                .prepare_cached(
                    "UPDATE restrictions SET appealed_at = ?2, appeal = ?3 WHERE id = ?1",
                )?
                .execute(params![signed(id), at, text])?;
            find(connection, id)
        })
    }

    fn erase_restrictions(&self, tenant: &str, customer: &str, at: Timestamp) -> Answer<'_, usize> {
        let (tenant, customer) = (tenant.to_owned(), customer.to_owned());
        self.change(move |connection| {
            connection
                .prepare_cached(
                    "DELETE FROM restrictions WHERE tenant = ?1 AND customer = ?2
                     AND (lifted_at IS NOT NULL OR until <= ?3)",
                )?
                .execute(params![tenant, customer, at])?;
            let mut blank = connection.prepare_cached(
                "UPDATE restrictions SET appeal = NULL, appealed_at = NULL
                 WHERE tenant = ?1 AND customer = ?2",
            )?;
            Ok(blank.execute(params![tenant, customer])?)
        })
    }

    fn forget_restrictions(&self, ended_before: Timestamp, limit: usize) -> Answer<'_, usize> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.change(move |connection| {
            let mut forget = connection.prepare_cached(
                "DELETE FROM restrictions WHERE id IN
                 (SELECT id FROM restrictions WHERE coalesce(lifted_at, until) < ?1
                  ORDER BY coalesce(lifted_at, until) LIMIT ?2)",
            )?;
            Ok(forget.execute(params![ended_before, limit])?)
        })
    }
}

fn add(connection: &Connection, mut restriction: Restriction) -> Result<Restriction> {
    connection
        .prepare_cached(
            "INSERT INTO restrictions
             (tenant, customer, severity, type, since, until, reason, appeal, appealed_at,
              lifted_at, lifted_by)
             VALUES (:tenant, :customer, :severity, :type, :since, :until, :reason, :appeal,
                     :appealed_at, :lifted_at, :lifted_by)",
        )?
        .execute(named_params! {
            ":tenant": restriction.tenant,
            ":customer": restriction.customer,
            ":severity": restriction.severity.as_str(),
            ":type": restriction.kind.as_str(),
            ":since": restriction.since,
            ":until": restriction.until,
            ":reason": restriction.reason,
            ":appeal": restriction.appeal,
            ":appealed_at": restriction.appealed_at,
            ":lifted_at": restriction.lifted_at,
            ":lifted_by": restriction.lifted_by,
        })?;
    let id = connection.last_insert_rowid();
    connection
        .prepare_cached(
            "UPDATE restrictions SET lifted_at = ?4, lifted_by = 'replaced by ' || ?3
             WHERE tenant = ?1 AND customer = ?2 AND id < ?3 AND lifted_at IS NULL",
        )?
        .execute(params![restriction.tenant, restriction.customer, id, restriction.since])?;
    restriction.id = id.cast_unsigned();
    Ok(restriction)
}

fn find(connection: &Connection, id: u64) -> Result<Option<Restriction>> {
    let sql = format!("SELECT {COLUMNS} FROM restrictions WHERE id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_row([signed(id)], |row| Ok(read(row))).optional()?.transpose()
}

fn list(
    connection: &Connection,
    filter: &RestrictionFilter,
    after: u64,
    limit: usize,
) -> Result<Vec<Restriction>> {
    let mut sql = format!("SELECT {COLUMNS} FROM restrictions WHERE id > ?");
    let mut values = vec![Value::from(signed(after))];
    if let Some(tenant) = &filter.tenant {
        sql.push_str(" AND tenant = ?");
        values.push(tenant.clone().into());
    }
    if let Some(customer) = &filter.customer {
        sql.push_str(" AND customer = ?");
        values.push(customer.clone().into());
    }
    if let Some(at) = filter.lasting_at {
        sql.push_str(" AND lifted_at IS NULL AND (until IS NULL OR until >= ?)");
        values.push(at.into());
    }
    sql.push_str(" ORDER BY id LIMIT ?");
    values.push(i64::try_from(limit).unwrap_or(i64::MAX).into());
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), |row| Ok(read(row)))?;
    rows.map(|row| row.map_err(Trouble::from).and_then(|row| row)).collect()
}

/// Errors of ours within those of SQLite: a row that can't be understood is damage.
fn read(row: &Row<'_>) -> Result<Restriction> {
    let id = row.get::<_, i64>("id")?.cast_unsigned();
    let (severity, kind): (String, String) = (row.get("severity")?, row.get("type")?);
    let strange = |what: &str| Trouble::Corrupt(format!("restriction {id}: {what:?} is no word"));
    Ok(Restriction {
        id,
        tenant: row.get("tenant")?,
        customer: row.get("customer")?,
        severity: Severity::named(&severity).ok_or_else(|| strange(&severity))?,
        kind: AbuseKind::named(&kind).ok_or_else(|| strange(&kind))?,
        since: row.get("since")?,
        until: row.get("until")?,
        reason: row.get("reason")?,
        appeal: row.get("appeal")?,
        appealed_at: row.get("appealed_at")?,
        lifted_at: row.get("lifted_at")?,
        lifted_by: row.get("lifted_by")?,
    })
}

/// An id that the database can't hold is none of its ids.
fn signed(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}
