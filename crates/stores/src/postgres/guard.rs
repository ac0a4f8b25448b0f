//! The record of restrictions.

use std::sync::Arc;

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use turnkeep_core::Timestamp;
use turnkeep_core::guard::{AbuseKind, Severity};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::guard::{Restriction, RestrictionFilter, Restrictions};
use turnkeep_core::ports::store::StoreError;

use super::PostgresStore;
use super::ask::{Value, bump, limit_of, row, rows, run, strange, text_of, text_option};
use super::text::{put, put_some};
use super::trouble::Result;

type Answer<'a, T> = BoxFuture<'a, std::result::Result<T, StoreError>>;

/// What changes of restrictions wait for, one after the other.
const MARK: &str = "restrictions";

const COLUMNS: &str = "id, tenant, customer, severity, kind, since, until, reason, appeal, \
                       appealed_at, lifted_at, lifted_by";

impl Restrictions for PostgresStore {
    fn add_restriction(&self, restriction: Restriction) -> Answer<'_, Restriction> {
        Box::pin(self.change("add a restriction", move |tx| Box::pin(add(tx, restriction.clone()))))
    }

    fn restriction(&self, id: u64) -> Answer<'_, Option<Restriction>> {
        Box::pin(self.read(move || async move { find(&self.reading().await?, id).await }))
    }

    fn restrictions(
        &self,
        filter: RestrictionFilter,
        after: u64,
        limit: usize,
    ) -> Answer<'_, Vec<Restriction>> {
        Box::pin(async move {
            self.read(|| async { list(&self.reading().await?, &filter, after, limit).await }).await
        })
    }

    fn lift_restriction(
        &self,
        id: u64,
        at: Timestamp,
        by: String,
    ) -> Answer<'_, Option<Restriction>> {
        Box::pin(self.change("lift a restriction", move |tx| {
            let by = by.clone();
            Box::pin(async move { lift(tx, id, at, &by).await })
        }))
    }

    fn appeal_restriction(
        &self,
        id: u64,
        at: Timestamp,
        text: String,
    ) -> Answer<'_, Option<Restriction>> {
        Box::pin(self.change("note an appeal", move |tx| {
            let text = text.clone();
            Box::pin(async move { appeal(tx, id, at, &text).await })
        }))
    }

    fn erase_restrictions(&self, tenant: &str, customer: &str, at: Timestamp) -> Answer<'_, usize> {
        let whose: (Arc<str>, Arc<str>) = (tenant.into(), customer.into());
        Box::pin(self.change("erase restrictions", move |tx| {
            let (tenant, customer) = whose.clone();
            Box::pin(async move { erase(tx, &tenant, &customer, at).await })
        }))
    }

    fn forget_restrictions(&self, ended_before: Timestamp, limit: usize) -> Answer<'_, usize> {
        Box::pin(
            self.change("forget restrictions", move |tx| Box::pin(forget(tx, ended_before, limit))),
        )
    }
}

async fn add(on: &impl GenericClient, mut new: Restriction) -> Result<Restriction> {
    bump(on, MARK).await?;
    let (tenant, customer) = (put(&new.tenant), put(&new.customer));
    let sql = "INSERT INTO restrictions
               (tenant, customer, severity, kind, since, until, reason, appeal, appealed_at,
                lifted_at, lifted_by)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING id";
    let added = row(
        on,
        sql,
        &[
            &tenant,
            &customer,
            &new.severity.as_str(),
            &new.kind.as_str(),
            &new.since,
            &new.until,
            &put(&new.reason),
            &put_some(new.appeal.as_deref()),
            &new.appealed_at,
            &new.lifted_at,
            &put_some(new.lifted_by.as_deref()),
        ],
    )
    .await?;
    let added = added.ok_or_else(|| strange("a new restriction has no number"))?;
    let id: i64 = added.try_get(0)?;
    let sql = "UPDATE restrictions SET lifted_at = $4, lifted_by = 'replaced by ' || $3::bigint
               WHERE tenant = $1 AND customer = $2 AND id < $3::bigint AND lifted_at IS NULL";
    run(on, sql, &[&tenant, &customer, &id, &new.since]).await?;
    new.id = id.cast_unsigned();
    Ok(new)
}

async fn lift(
    on: &impl GenericClient,
    id: u64,
    at: Timestamp,
    by: &str,
) -> Result<Option<Restriction>> {
    bump(on, MARK).await?;
    let sql = "UPDATE restrictions SET lifted_at = $2, lifted_by = $3
               WHERE id = $1 AND lifted_at IS NULL";
    run(on, sql, &[&signed(id), &at, &put(by)]).await?;
    find(on, id).await
}

async fn appeal(
    on: &impl GenericClient,
    id: u64,
    at: Timestamp,
    text: &str,
) -> Result<Option<Restriction>> {
    let sql = "UPDATE restrictions SET appealed_at = $2, appeal = $3 WHERE id = $1";
    run(on, sql, &[&signed(id), &at, &put(text)]).await?;
    find(on, id).await
}

async fn erase(
    on: &impl GenericClient,
    tenant: &str,
    customer: &str,
    at: Timestamp,
) -> Result<usize> {
    bump(on, MARK).await?;
    let (tenant, customer) = (put(tenant), put(customer));
    let sql = "DELETE FROM restrictions WHERE tenant = $1 AND customer = $2
               AND (lifted_at IS NOT NULL OR until <= $3)";
    run(on, sql, &[&tenant, &customer, &at]).await?;
    let sql = "UPDATE restrictions SET appeal = NULL, appealed_at = NULL
               WHERE tenant = $1 AND customer = $2";
    run(on, sql, &[&tenant, &customer]).await
}

/// What is forgotten counts no more, so nobody needs to read anew.
async fn forget(on: &impl GenericClient, ended_before: Timestamp, limit: usize) -> Result<usize> {
    let sql = "DELETE FROM restrictions WHERE id IN
               (SELECT id FROM restrictions WHERE coalesce(lifted_at, until) < $1
                ORDER BY coalesce(lifted_at, until) LIMIT $2 FOR UPDATE SKIP LOCKED)";
    run(on, sql, &[&ended_before, &limit_of(limit)]).await
}

async fn find(on: &impl GenericClient, id: u64) -> Result<Option<Restriction>> {
    let sql = format!("SELECT {COLUMNS} FROM restrictions WHERE id = $1");
    row(on, &sql, &[&signed(id)]).await?.map(|row| read(&row)).transpose()
}

async fn list(
    on: &impl GenericClient,
    filter: &RestrictionFilter,
    after: u64,
    limit: usize,
) -> Result<Vec<Restriction>> {
    let (after, limit) = (signed(after), limit_of(limit));
    let (tenant, customer) =
        (put_some(filter.tenant.as_deref()), put_some(filter.customer.as_deref()));
    let mut sql = format!("SELECT {COLUMNS} FROM restrictions WHERE id > $1");
    let mut values: Vec<Value<'_>> = vec![&after, &limit];
    if tenant.is_some() {
        values.push(&tenant);
        sql.push_str(&format!(" AND tenant = ${}", values.len()));
    }
    if customer.is_some() {
        values.push(&customer);
        sql.push_str(&format!(" AND customer = ${}", values.len()));
    }
    if let Some(at) = &filter.lasting_at {
        values.push(at);
        let place = values.len();
        sql.push_str(&format!(" AND lifted_at IS NULL AND (until IS NULL OR until >= ${place})"));
    }
    sql.push_str(" ORDER BY id LIMIT $2");
    rows(on, &sql, &values).await?.iter().map(read).collect()
}

/// A row that can't be understood is damage.
fn read(row: &Row) -> Result<Restriction> {
    let id = row.try_get::<_, i64>("id")?.cast_unsigned();
    let (severity, kind): (&str, &str) = (row.try_get("severity")?, row.try_get("kind")?);
    let strange = |what: &str| strange(format_args!("restriction {id}: {what:?} is no word"));
    Ok(Restriction {
        id,
        tenant: text_of(row, "tenant")?,
        customer: text_of(row, "customer")?,
        severity: Severity::named(severity).ok_or_else(|| strange(severity))?,
        kind: AbuseKind::named(kind).ok_or_else(|| strange(kind))?,
        since: row.try_get("since")?,
        until: row.try_get("until")?,
        reason: text_of(row, "reason")?,
        appeal: text_option(row, "appeal")?,
        appealed_at: row.try_get("appealed_at")?,
        lifted_at: row.try_get("lifted_at")?,
        lifted_by: text_option(row, "lifted_by")?,
    })
}

/// An id that the database can't hold is none of its ids.
fn signed(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}
