//! How the rows beside the sessions are asked for: statements that a connection keeps prepared,
//! and columns that are read with a word for what is wrong with them.

use std::fmt::Display;

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use turnkeep_core::ports::keys::SecretHash;

use super::text;
use super::trouble::{Result, Trouble};

/// A value for a statement.
pub(super) type Value<'a> = &'a (dyn ToSql + Sync);

/// All rows.
pub(super) async fn rows(
    on: &impl GenericClient,
    sql: &str,
    values: &[Value<'_>],
) -> Result<Vec<Row>> {
    let statement = on.prepare_cached(sql).await?;
    Ok(on.query(&statement, values).await?)
}

/// The only row, or none.
pub(super) async fn row(
    on: &impl GenericClient,
    sql: &str,
    values: &[Value<'_>],
) -> Result<Option<Row>> {
    let statement = on.prepare_cached(sql).await?;
    Ok(on.query_opt(&statement, values).await?)
}

/// Does it, and says how many rows it changed.
pub(super) async fn run(on: &impl GenericClient, sql: &str, values: &[Value<'_>]) -> Result<usize> {
    let statement = on.prepare_cached(sql).await?;
    Ok(usize::try_from(on.execute(&statement, values).await?).unwrap_or(usize::MAX))
}

/// The number that a `SELECT count(*)` gives.
pub(super) async fn count(
    on: &impl GenericClient,
    sql: &str,
    values: &[Value<'_>],
) -> Result<usize> {
    let counted: i64 = match row(on, sql, values).await? {
        Some(row) => row.try_get(0)?,
        None => 0,
    };
    Ok(usize::try_from(counted).unwrap_or(0))
}

/// Takes the lock of a mark: whoever changes what it stands for waits until this transaction is
/// over, on whatever machine. Comes before every other lock.
pub(super) async fn hold(on: &impl GenericClient, mark: &str) -> Result<()> {
    let sql = "SELECT 1 FROM marks WHERE name = $1 FOR NO KEY UPDATE";
    row(on, sql, &[&mark]).await.map(drop)
}

/// Moves a mark on, so that others read anew what it stands for. Takes its lock.
pub(super) async fn bump(on: &impl GenericClient, mark: &str) -> Result<()> {
    let sql = "UPDATE marks SET value = value + 1 WHERE name = $1";
    run(on, sql, &[&mark]).await.map(drop)
}

/// A column of text.
pub(super) fn text_of(row: &Row, column: &str) -> Result<String> {
    text::get(row.try_get(column)?)
}

/// A column of text that may be missing.
pub(super) fn text_option<T: From<String>>(row: &Row, column: &str) -> Result<Option<T>> {
    Ok(text::get_some(row.try_get(column)?)?.map(T::from))
}

/// A column that holds the hash of a secret.
pub(super) fn secret_of(row: &Row, column: &str) -> Result<SecretHash> {
    let bytes: &[u8] = row.try_get(column)?;
    hash(bytes)
}

/// A column that may hold the hash of a secret.
pub(super) fn secret_option(row: &Row, column: &str) -> Result<Option<SecretHash>> {
    let bytes: Option<&[u8]> = row.try_get(column)?;
    bytes.map(hash).transpose()
}

fn hash(bytes: &[u8]) -> Result<SecretHash> {
    bytes.try_into().map_err(|_| strange("a hash of a secret has not 32 bytes"))
}

/// What is stored makes no sense.
pub(super) fn strange(what: impl Display) -> Trouble {
    Trouble::Corrupt(what.to_string())
}

/// A number of rows, as a statement takes it.
pub(super) fn limit_of(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
