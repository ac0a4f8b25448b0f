//! The record of keys and sign-ins.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use turnkeep_core::Timestamp;
use turnkeep_core::access::{Key, Visit};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::keys::{
    Added, CODES_MAX, KEYS_MAX, KeyRow, Keys, Rotated, SecretHash, SignIn, VISITS_MAX,
};
use turnkeep_core::ports::store::StoreError;

use super::SqliteStore;
use super::trouble::{Result, Trouble};

type Answer<'a, T> = BoxFuture<'a, std::result::Result<T, StoreError>>;

impl Keys for SqliteStore {
    fn keys(&self) -> Answer<'_, Vec<KeyRow>> {
        self.readers.read(|connection| {
            let sql = "SELECT id, secret, tenant, scopes, label, created_at, expires_at, revoked_at
                       FROM keys ORDER BY created_at, id";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([], |row| Ok(key_row(row)))?;
            rows.map(|row| row.map_err(Trouble::from).and_then(|row| row)).collect()
        })
    }

    fn add_key(&self, row: KeyRow) -> Answer<'_, Added> {
        self.change(move |connection| add_key(connection, &row))
    }

    fn revoke_key(&self, id: &str, at: Timestamp) -> Answer<'_, bool> {
        let id = id.to_owned();
        self.change(move |connection| {
            let sql = "UPDATE keys SET revoked_at = coalesce(revoked_at, ?2) WHERE id = ?1";
            let known = connection.prepare_cached(sql)?.execute(params![id, at])? > 0;
            if known {
                let sql = "DELETE FROM sign_ins WHERE made_by = ?1";
                connection.prepare_cached(sql)?.execute([id])?;
            }
            Ok(known)
        })
    }

    fn rotate_key(
        &self,
        id: &str,
        row: KeyRow,
        old_ends: Timestamp,
        now: Timestamp,
    ) -> Answer<'_, Rotated> {
        let id = id.to_owned();
        self.change(move |connection| rotate(connection, &id, &row, old_ends, now))
    }

    fn forget_key(&self, id: &str, now: Timestamp) -> Answer<'_, bool> {
        let id = id.to_owned();
        self.change(move |connection| {
            let sql = "DELETE FROM keys WHERE id = ?1
                       AND (revoked_at IS NOT NULL OR expires_at <= ?2)";
            Ok(connection.prepare_cached(sql)?.execute(params![id, now])? > 0)
        })
    }

    fn add_code(&self, code: SignIn, now: Timestamp) -> Answer<'_, Added> {
        self.change(move |connection| {
            let sql = "SELECT count(*) FROM (SELECT 1 FROM sign_ins
                       WHERE kind = 'code' AND tenant = ?1 AND until > ?2 LIMIT ?3)";
            let most = params![code.visit.tenant, now, limit(CODES_MAX)];
            let waiting: i64 = connection.prepare_cached(sql)?.query_row(most, |row| row.get(0))?;
            if waiting >= limit(CODES_MAX) {
                return Ok(Added::Full);
            }
            Ok(if insert(connection, "code", &code)? { Added::Done } else { Added::Taken })
        })
    }

    fn redeem_code(
        &self,
        code: SecretHash,
        cookie: SecretHash,
        until: Timestamp,
        now: Timestamp,
    ) -> Answer<'_, Option<SignIn>> {
        self.change(move |connection| redeem(connection, &code, cookie, until, now))
    }

    fn visit(&self, cookie: SecretHash, now: Timestamp) -> Answer<'_, Option<SignIn>> {
        self.readers.read(move |connection| find(connection, "visit", &cookie, now))
    }

    fn end_visit(&self, cookie: SecretHash) -> Answer<'_, bool> {
        self.change(move |connection| {
            let sql = "DELETE FROM sign_ins WHERE secret = ?1 AND kind = 'visit'";
            Ok(connection.prepare_cached(sql)?.execute([cookie])? > 0)
        })
    }

    fn end_visits(&self, tenant: &str, customer: &str) -> Answer<'_, usize> {
        let (tenant, customer) = (tenant.to_owned(), customer.to_owned());
        self.change(move |connection| {
            let sql = "DELETE FROM sign_ins WHERE tenant = ?1 AND customer = ?2";
            Ok(connection.prepare_cached(sql)?.execute([tenant, customer])?)
        })
    }

    fn forget_sign_ins(&self, now: Timestamp, limit: usize) -> Answer<'_, usize> {
        let limit = self::limit(limit);
        self.change(move |connection| {
            let sql = "DELETE FROM sign_ins WHERE secret IN
                       (SELECT secret FROM sign_ins WHERE until < ?1 ORDER BY until LIMIT ?2)";
            Ok(connection.prepare_cached(sql)?.execute(params![now, limit])?)
        })
    }
}

fn add_key(connection: &Connection, row: &KeyRow) -> Result<Added> {
    let count: i64 =
        connection.prepare_cached("SELECT count(*) FROM keys")?.query_row([], |row| row.get(0))?;
    if count >= limit(KEYS_MAX) {
        return Ok(Added::Full);
    }
    let key = &row.key;
    let added = connection
        .prepare_cached(
            "INSERT INTO keys
             (id, secret, tenant, scopes, label, created_at, expires_at, revoked_at)
             VALUES (:id, :secret, :tenant, :scopes, :label, :created_at, :expires_at, :revoked_at)
             ON CONFLICT DO NOTHING",
        )?
        .execute(named_params! {
            ":id": key.id,
            ":secret": row.secret,
            ":tenant": key.tenant,
            ":scopes": key.scopes.to_string(),
            ":label": key.label,
            ":created_at": key.created_at,
            ":expires_at": key.expires_at,
            ":revoked_at": key.revoked_at,
        })?;
    Ok(if added > 0 { Added::Done } else { Added::Taken })
}

fn rotate(
    connection: &Connection,
    id: &str,
    row: &KeyRow,
    old_ends: Timestamp,
    now: Timestamp,
) -> Result<Rotated> {
    let sql = "SELECT 1 FROM keys WHERE id = ?1 AND revoked_at IS NULL
               AND (expires_at IS NULL OR expires_at > ?2)";
    if !connection.prepare_cached(sql)?.exists(params![id, now])? {
        return Ok(Rotated::Ended);
    }
    match add_key(connection, row)? {
        Added::Full => return Ok(Rotated::Full),
        Added::Taken => return Ok(Rotated::Taken),
        Added::Done => {}
    }
    let sql = "UPDATE keys SET expires_at = min(coalesce(expires_at, ?2), ?2) WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![id, old_ends])?;
    Ok(Rotated::Done)
}

fn redeem(
    connection: &Connection,
    code: &SecretHash,
    cookie: SecretHash,
    until: Timestamp,
    now: Timestamp,
) -> Result<Option<SignIn>> {
    let Some(found) = find(connection, "code", code, now)? else { return Ok(None) };
    connection.prepare_cached("DELETE FROM sign_ins WHERE secret = ?1")?.execute([code])?;
    let visit = SignIn { secret: cookie, until, ..found };
    if !insert(connection, "visit", &visit)? {
        return Ok(None);
    }
    // The newest stay; what is older than these ends.
    connection
        .prepare_cached(
            "DELETE FROM sign_ins WHERE secret IN
             (SELECT secret FROM sign_ins WHERE tenant = ?1 AND customer = ?2 AND kind = 'visit'
              ORDER BY until DESC, secret = ?3 DESC LIMIT -1 OFFSET ?4)",
        )?
        .execute(params![
            visit.visit.tenant,
            visit.visit.customer,
            visit.secret,
            limit(VISITS_MAX)
        ])?;
    Ok(Some(visit))
}

fn insert(connection: &Connection, kind: &str, row: &SignIn) -> Result<bool> {
    let added = connection
        .prepare_cached(
            "INSERT INTO sign_ins (secret, kind, tenant, customer, agent, made_by, until)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            row.secret,
            kind,
            row.visit.tenant,
            row.visit.customer,
            row.visit.agent,
            row.made_by,
            row.until
        ])?;
    Ok(added > 0)
}

fn find(
    connection: &Connection,
    kind: &str,
    secret: &SecretHash,
    now: Timestamp,
) -> Result<Option<SignIn>> {
    let sql = "SELECT tenant, customer, agent, made_by, until FROM sign_ins
               WHERE secret = ?1 AND kind = ?2 AND until > ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_row(params![secret, kind, now], |row| {
        Ok(SignIn {
            secret: *secret,
            visit: Visit { tenant: row.get(0)?, customer: row.get(1)?, agent: row.get(2)? },
            made_by: row.get(3)?,
            until: row.get(4)?,
        })
    });
    Ok(found.optional()?)
}

/// A row that can't be understood is damage.
fn key_row(row: &Row<'_>) -> Result<KeyRow> {
    let id: Arc<str> = row.get("id")?;
    let scopes: String = row.get("scopes")?;
    let scopes = scopes
        .parse()
        .map_err(|error| Trouble::Corrupt(format!("the scopes of key {id}: {error}")))?;
    Ok(KeyRow {
        secret: row.get("secret")?,
        key: Key {
            id,
            tenant: row.get("tenant")?,
            scopes,
            label: row.get("label")?,
            created_at: row.get("created_at")?,
            expires_at: row.get("expires_at")?,
            revoked_at: row.get("revoked_at")?,
        },
    })
}

fn limit(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
