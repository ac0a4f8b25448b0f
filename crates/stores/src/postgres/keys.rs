//! The record of keys and sign-ins.

use std::sync::Arc;

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use turnkeep_core::Timestamp;
use turnkeep_core::access::{Key, Visit};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::keys::{
    Added, CODES_MAX, KEYS_MAX, KeyRow, Keys, Rotated, SecretHash, SignIn, VISITS_MAX,
};
use turnkeep_core::ports::store::StoreError;

use super::PostgresStore;
use super::ask::{
    bump, count, hold, limit_of, row, rows, run, secret_of, strange, text_of, text_option,
};
use super::text::{put, put_some};
use super::trouble::Result;

type Answer<'a, T> = BoxFuture<'a, std::result::Result<T, StoreError>>;

/// What changes of keys and sign-ins wait for, one after the other. It moves where something that
/// another node may remember is not as it was.
const MARK: &str = "keys";

impl Keys for PostgresStore {
    fn keys(&self) -> Answer<'_, Vec<KeyRow>> {
        Box::pin(self.read(|| async {
            let sql = "SELECT id, secret, tenant, scopes, label, created_at, expires_at, revoked_at
                       FROM keys ORDER BY created_at, id";
            rows(&self.reading().await?, sql, &[]).await?.iter().map(key_row).collect()
        }))
    }

    fn changes(&self) -> u64 {
        self.shared.nodes.marks().get("keys").copied().unwrap_or(0)
    }

    fn add_key(&self, row: KeyRow) -> Answer<'_, Added> {
        Box::pin(self.change("add a key", move |tx| {
            let row = row.clone();
            Box::pin(async move { add_key(tx, &row).await })
        }))
    }

    fn revoke_key(&self, id: &str, at: Timestamp) -> Answer<'_, bool> {
        let id: Arc<str> = id.into();
        Box::pin(self.change("revoke a key", move |tx| {
            let id = Arc::clone(&id);
            Box::pin(async move { revoke(tx, &id, at).await })
        }))
    }

    fn rotate_key(
        &self,
        id: &str,
        row: KeyRow,
        old_ends: Timestamp,
        now: Timestamp,
    ) -> Answer<'_, Rotated> {
        let id: Arc<str> = id.into();
        Box::pin(self.change("replace a key", move |tx| {
            let (id, row) = (Arc::clone(&id), row.clone());
            Box::pin(async move { rotate(tx, &id, &row, old_ends, now).await })
        }))
    }

    fn forget_key(&self, id: &str, now: Timestamp) -> Answer<'_, bool> {
        let id: Arc<str> = id.into();
        Box::pin(self.change("forget a key", move |tx| {
            let id = Arc::clone(&id);
            Box::pin(async move { forget_key(tx, &id, now).await })
        }))
    }

    fn add_code(&self, code: SignIn, now: Timestamp) -> Answer<'_, Added> {
        Box::pin(self.change("add a code", move |tx| {
            let code = code.clone();
            Box::pin(async move { add_code(tx, &code, now).await })
        }))
    }

    fn redeem_code(
        &self,
        code: SecretHash,
        cookie: SecretHash,
        until: Timestamp,
        now: Timestamp,
    ) -> Answer<'_, Option<SignIn>> {
        Box::pin(
            self.change("redeem a code", move |tx| Box::pin(redeem(tx, code, cookie, until, now))),
        )
    }

    fn visit(&self, cookie: SecretHash, now: Timestamp) -> Answer<'_, Option<SignIn>> {
        Box::pin(self.read(move || async move { visit(&self.reading().await?, cookie, now).await }))
    }

    fn end_visit(&self, cookie: SecretHash) -> Answer<'_, bool> {
        Box::pin(self.change("end a visit", move |tx| {
            Box::pin(async move {
                bump(tx, MARK).await?;
                let sql = "DELETE FROM sign_ins WHERE secret = $1 AND kind = 'visit'";
                Ok(run(tx, sql, &[&&cookie[..]]).await? > 0)
            })
        }))
    }

    fn end_visits(&self, tenant: &str, customer: &str) -> Answer<'_, usize> {
        let whose: (Arc<str>, Arc<str>) = (tenant.into(), customer.into());
        Box::pin(self.change("end visits", move |tx| {
            let (tenant, customer) = whose.clone();
            Box::pin(async move {
                bump(tx, MARK).await?;
                let sql = "DELETE FROM sign_ins WHERE tenant = $1 AND customer = $2";
                run(tx, sql, &[&put(&tenant), &put(&customer)]).await
            })
        }))
    }

    fn forget_sign_ins(&self, now: Timestamp, limit: usize) -> Answer<'_, usize> {
        Box::pin(
            self.change("forget sign-ins", move |tx| Box::pin(forget_sign_ins(tx, now, limit))),
        )
    }
}

async fn add_key(on: &impl GenericClient, row: &KeyRow) -> Result<Added> {
    bump(on, MARK).await?;
    insert_key(on, row).await
}

/// Whoever calls this holds the mark.
async fn insert_key(on: &impl GenericClient, row: &KeyRow) -> Result<Added> {
    let key = &row.key;
    let scopes = key.scopes.to_string();
    let sql = "INSERT INTO keys
               (id, secret, tenant, scopes, label, created_at, expires_at, revoked_at)
               SELECT $1, $2, $3, $4, $5, $6, $7, $8
               WHERE (SELECT count(*) FROM keys) < $9 ON CONFLICT DO NOTHING";
    let added = run(
        on,
        sql,
        &[
            &put(&key.id),
            &&row.secret[..],
            &put_some(key.tenant.as_deref()),
            &scopes,
            &put_some(key.label.as_deref()),
            &key.created_at,
            &key.expires_at,
            &key.revoked_at,
            &limit_of(KEYS_MAX),
        ],
    )
    .await?;
    if added > 0 {
        return Ok(Added::Done);
    }
    let all = count(on, "SELECT count(*) FROM keys", &[]).await?;
    Ok(if all >= KEYS_MAX { Added::Full } else { Added::Taken })
}

async fn revoke(on: &impl GenericClient, id: &str, at: Timestamp) -> Result<bool> {
    bump(on, MARK).await?;
    let sql = "UPDATE keys SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1";
    let known = run(on, sql, &[&put(id), &at]).await? > 0;
    if known {
        run(on, "DELETE FROM sign_ins WHERE made_by = $1", &[&put(id)]).await?;
    }
    Ok(known)
}

async fn rotate(
    on: &impl GenericClient,
    id: &str,
    new: &KeyRow,
    old_ends: Timestamp,
    now: Timestamp,
) -> Result<Rotated> {
    bump(on, MARK).await?;
    let sql = "SELECT 1 FROM keys WHERE id = $1 AND revoked_at IS NULL
               AND (expires_at IS NULL OR expires_at > $2)";
    if row(on, sql, &[&put(id), &now]).await?.is_none() {
        return Ok(Rotated::Ended);
    }
    match insert_key(on, new).await? {
        Added::Full => return Ok(Rotated::Full),
        Added::Taken => return Ok(Rotated::Taken),
        Added::Done => {}
    }
    // The smaller of the two, or the only one.
    let sql = "UPDATE keys SET expires_at = least(expires_at, $2) WHERE id = $1";
    run(on, sql, &[&put(id), &old_ends]).await?;
    Ok(Rotated::Done)
}

async fn forget_key(on: &impl GenericClient, id: &str, now: Timestamp) -> Result<bool> {
    bump(on, MARK).await?;
    let sql = "DELETE FROM keys WHERE id = $1 AND (revoked_at IS NOT NULL OR expires_at <= $2)";
    Ok(run(on, sql, &[&put(id), &now]).await? > 0)
}

async fn add_code(on: &impl GenericClient, code: &SignIn, now: Timestamp) -> Result<Added> {
    hold(on, MARK).await?;
    let sql = "SELECT count(*) FROM (SELECT 1 FROM sign_ins
               WHERE kind = 'code' AND tenant = $1 AND until > $2 LIMIT $3) AS waiting";
    let tenant = put(&code.visit.tenant);
    let waiting = count(on, sql, &[&tenant, &now, &limit_of(CODES_MAX)]).await?;
    if waiting >= CODES_MAX {
        return Ok(Added::Full);
    }
    Ok(if insert(on, "code", code).await? { Added::Done } else { Added::Taken })
}

async fn redeem(
    on: &impl GenericClient,
    code: SecretHash,
    cookie: SecretHash,
    until: Timestamp,
    now: Timestamp,
) -> Result<Option<SignIn>> {
    hold(on, MARK).await?;
    let sql = "DELETE FROM sign_ins WHERE secret = $1 AND kind = 'code' AND until > $2
               RETURNING tenant, customer, agent, made_by, until";
    let Some(taken) = row(on, sql, &[&&code[..], &now]).await? else { return Ok(None) };
    let visit = SignIn { until, ..sign_in(&taken, cookie)? };
    if !insert(on, "visit", &visit).await? {
        return Ok(None);
    }
    // The newest stay; what is older than these ends.
    let sql = "DELETE FROM sign_ins WHERE secret IN
               (SELECT secret FROM sign_ins
                WHERE tenant = $1 AND customer = $2 AND kind = 'visit'
                ORDER BY until DESC, (secret = $3) DESC OFFSET $4)";
    let (tenant, customer) = (put(&visit.visit.tenant), put(&visit.visit.customer));
    if run(on, sql, &[&tenant, &customer, &&cookie[..], &limit_of(VISITS_MAX)]).await? > 0 {
        bump(on, MARK).await?;
    }
    Ok(Some(visit))
}

async fn insert(on: &impl GenericClient, kind: &str, row: &SignIn) -> Result<bool> {
    let sql = "INSERT INTO sign_ins (secret, kind, tenant, customer, agent, made_by, until)
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
    let added = run(
        on,
        sql,
        &[
            &&row.secret[..],
            &kind,
            &put(&row.visit.tenant),
            &put(&row.visit.customer),
            &put_some(row.visit.agent.as_deref()),
            &put_some(row.made_by.as_deref()),
            &row.until,
        ],
    )
    .await?;
    Ok(added > 0)
}

async fn visit(
    on: &impl GenericClient,
    cookie: SecretHash,
    now: Timestamp,
) -> Result<Option<SignIn>> {
    let sql = "SELECT tenant, customer, agent, made_by, until FROM sign_ins
               WHERE secret = $1 AND kind = 'visit' AND until > $2";
    let found = row(on, sql, &[&&cookie[..], &now]).await?;
    found.map(|row| sign_in(&row, cookie)).transpose()
}

async fn forget_sign_ins(on: &impl GenericClient, now: Timestamp, limit: usize) -> Result<usize> {
    let sql = "DELETE FROM sign_ins WHERE secret IN
               (SELECT secret FROM sign_ins WHERE until < $1 ORDER BY until LIMIT $2
                FOR UPDATE SKIP LOCKED)";
    run(on, sql, &[&now, &limit_of(limit)]).await
}

fn sign_in(row: &Row, secret: SecretHash) -> Result<SignIn> {
    Ok(SignIn {
        secret,
        visit: Visit {
            tenant: text_of(row, "tenant")?.into(),
            customer: text_of(row, "customer")?.into(),
            agent: text_option(row, "agent")?,
        },
        made_by: text_option(row, "made_by")?,
        until: row.try_get("until")?,
    })
}

/// A row that can't be understood is damage.
fn key_row(row: &Row) -> Result<KeyRow> {
    let id: Arc<str> = text_of(row, "id")?.into();
    let scopes: &str = row.try_get("scopes")?;
    let scopes =
        scopes.parse().map_err(|error| strange(format_args!("the scopes of key {id}: {error}")))?;
    Ok(KeyRow {
        secret: secret_of(row, "secret")?,
        key: Key {
            id,
            tenant: text_option(row, "tenant")?,
            scopes,
            label: text_option(row, "label")?,
            created_at: row.try_get("created_at")?,
            expires_at: row.try_get("expires_at")?,
            revoked_at: row.try_get("revoked_at")?,
        },
    })
}
