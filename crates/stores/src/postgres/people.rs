//! The record of who became known by a code.

use std::sync::Arc;

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use turnkeep_core::Timestamp;
use turnkeep_core::policy::Trust;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::keys::{Added, SecretHash};
use turnkeep_core::ports::people::{CODES_WAITING_MAX, PAIRINGS_MAX, PairedWith, Pairing, People};
use turnkeep_core::ports::store::StoreError;

use super::PostgresStore;
use super::ask::{
    bump, hold, limit_of, row, rows, run, secret_option, strange, text_of, text_option,
};
use super::text::{put, put_some};
use super::trouble::Result;

type Answer<'a, T> = BoxFuture<'a, std::result::Result<T, StoreError>>;

/// What changes of pairings wait for, one after the other.
const MARK: &str = "people";

const COLUMNS: &str =
    "id, tenant, known_as, trust, made_at, until, code, channel, person, paired_at FROM pairings";

impl People for PostgresStore {
    fn pairings(&self) -> Answer<'_, Vec<Pairing>> {
        Box::pin(self.read(|| async {
            let sql = format!("SELECT {COLUMNS} ORDER BY made_at, id");
            rows(&self.reading().await?, &sql, &[]).await?.iter().map(pairing).collect()
        }))
    }

    fn add_pairing(&self, pairing: Pairing, now: Timestamp) -> Answer<'_, Added> {
        Box::pin(self.change("add a pairing", move |tx| {
            let pairing = pairing.clone();
            Box::pin(async move { add(tx, &pairing, now).await })
        }))
    }

    fn pair(&self, code: SecretHash, with: PairedWith) -> Answer<'_, Option<Pairing>> {
        Box::pin(self.change("pair somebody", move |tx| Box::pin(pair(tx, code, with.clone()))))
    }

    fn end_pairing(&self, id: &str) -> Answer<'_, bool> {
        let id: Arc<str> = id.into();
        Box::pin(self.change("end a pairing", move |tx| {
            let id = Arc::clone(&id);
            Box::pin(async move { end(tx, &id).await })
        }))
    }

    fn end_pairings(&self, tenant: &str, customer: &str) -> Answer<'_, usize> {
        let whose: (Arc<str>, Arc<str>) = (tenant.into(), customer.into());
        Box::pin(self.change("end pairings", move |tx| {
            let (tenant, customer) = whose.clone();
            Box::pin(async move { end_all(tx, &tenant, &customer).await })
        }))
    }

    fn forget_codes(&self, now: Timestamp, limit: usize) -> Answer<'_, usize> {
        Box::pin(self.change("forget codes", move |tx| Box::pin(forget_codes(tx, now, limit))))
    }
}

async fn add(on: &impl GenericClient, pairing: &Pairing, now: Timestamp) -> Result<Added> {
    bump(on, MARK).await?;
    let sql =
        "SELECT count(*), count(*) FILTER (WHERE person IS NULL AND until > $1) FROM pairings";
    let (all, waiting): (i64, i64) = match row(on, sql, &[&now]).await? {
        Some(row) => (row.try_get(0)?, row.try_get(1)?),
        None => (0, 0),
    };
    if all >= limit_of(PAIRINGS_MAX) || waiting >= limit_of(CODES_WAITING_MAX) {
        return Ok(Added::Full);
    }
    let with = pairing.with.as_ref();
    let sql = "INSERT INTO pairings
               (id, tenant, known_as, trust, made_at, until, code, channel, person, paired_at)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING";
    let added = run(
        on,
        sql,
        &[
            &put(&pairing.id),
            &put(&pairing.tenant),
            &put(&pairing.user),
            &pairing.trust.as_str(),
            &pairing.made_at,
            &pairing.until,
            &pairing.code.as_ref().map(|code| &code[..]),
            &put_some(with.map(|with| &*with.channel)),
            &put_some(with.map(|with| &*with.person)),
            &with.map(|with| with.at),
        ],
    )
    .await?;
    Ok(if added > 0 { Added::Done } else { Added::Taken })
}

async fn pair(
    on: &impl GenericClient,
    code: SecretHash,
    with: PairedWith,
) -> Result<Option<Pairing>> {
    hold(on, MARK).await?;
    let sql = format!("SELECT {COLUMNS} WHERE code = $1 AND until > $2");
    let Some(found) = row(on, &sql, &[&&code[..], &with.at]).await? else { return Ok(None) };
    let found = pairing(&found)?;
    if let Some(before) = &found.with {
        let same = before.channel == with.channel && before.person == with.person;
        return Ok(same.then_some(found));
    }
    bump(on, MARK).await?;
    let (channel, person) = (put(&with.channel), put(&with.person));
    let sql = "DELETE FROM pairings WHERE tenant = $1 AND channel = $2 AND person = $3";
    run(on, sql, &[&put(&found.tenant), &channel, &person]).await?;
    let sql = "UPDATE pairings SET channel = $2, person = $3, paired_at = $4 WHERE id = $1";
    run(on, sql, &[&put(&found.id), &channel, &person, &with.at]).await?;
    Ok(Some(Pairing { with: Some(with.clone()), ..found }))
}

async fn end(on: &impl GenericClient, id: &str) -> Result<bool> {
    bump(on, MARK).await?;
    Ok(run(on, "DELETE FROM pairings WHERE id = $1", &[&put(id)]).await? > 0)
}

async fn end_all(on: &impl GenericClient, tenant: &str, customer: &str) -> Result<usize> {
    bump(on, MARK).await?;
    let sql = "DELETE FROM pairings WHERE tenant = $1 AND (known_as = $2 OR person = $2)";
    run(on, sql, &[&put(tenant), &put(customer)]).await
}

/// Looks before it takes a lock: it is asked all the time, and there is mostly nothing to do.
async fn forget_codes(on: &impl GenericClient, now: Timestamp, limit: usize) -> Result<usize> {
    let over = "SELECT id FROM pairings WHERE code IS NOT NULL AND until <= $1 LIMIT $2";
    if rows(on, over, &[&now, &1_i64]).await?.is_empty() {
        return Ok(0);
    }
    bump(on, MARK).await?;
    let over = rows(on, over, &[&now, &limit_of(limit)]).await?;
    let ids: Vec<String> =
        over.iter().map(|row| row.try_get(0)).collect::<std::result::Result<_, _>>()?;
    run(on, "DELETE FROM pairings WHERE id = ANY($1) AND person IS NULL", &[&ids]).await?;
    run(on, "UPDATE pairings SET code = NULL WHERE id = ANY($1)", &[&ids]).await?;
    Ok(ids.len())
}

/// A row that can't be understood is damage.
fn pairing(row: &Row) -> Result<Pairing> {
    let id: Arc<str> = text_of(row, "id")?.into();
    let word: &str = row.try_get("trust")?;
    let trust = Trust::named(word)
        .ok_or_else(|| strange(format_args!("the trust of pairing {id} is {word:?}")))?;
    let with = match text_option::<Arc<str>>(row, "person")? {
        Some(person) => {
            let channel = text_of(row, "channel")?.into();
            Some(PairedWith { channel, person, at: row.try_get("paired_at")? })
        }
        None => None,
    };
    Ok(Pairing {
        trust,
        tenant: text_of(row, "tenant")?.into(),
        user: text_of(row, "known_as")?.into(),
        made_at: row.try_get("made_at")?,
        until: row.try_get("until")?,
        code: secret_option(row, "code")?,
        with,
        id,
    })
}
