//! Which store the servers of these tests have: the file in their data folder or, where
//! `TURNKEEP_TEST_STORE` is `postgres`, a schema for each data folder in a PostgreSQL server that
//! goes with this process.
//!
//! The tests are the same for both. A program learns it from its environment, which wins over its
//! configuration: so commands that are told of a data folder only find what its server wrote, and
//! no configuration of a test has a line more. What is about the file alone stands in
//! `left_out.txt`, and `scripts/both.sh` leaves it out.

#[expect(dead_code, reason = "the store's own tests do more to it")]
#[path = "../../../stores/tests/stores/postgres_server.rs"]
pub(crate) mod postgres_server;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::sync::LazyLock;

/// The variable that holds the database's address.
const URL: &str = "TEST_DATABASE";

static DATABASE: LazyLock<Option<postgres_server::Server>> =
    LazyLock::new(|| match std::env::var("TURNKEEP_TEST_STORE").as_deref() {
        Err(std::env::VarError::NotPresent) | Ok("" | "sqlite") => None,
        Ok("postgres") => Some(postgres_server::Server::start("")),
        other => panic!("TURNKEEP_TEST_STORE is sqlite or postgres, not {other:?}"),
    });

/// The variables of a program that serves this data folder or looks into it.
pub(crate) fn store(data: &Path) -> Vec<(&'static str, String)> {
    let Some((database, schema)) = schema(data) else { return Vec::new() };
    let socket = database.folder().display().to_string().replace('/', "%2F");
    vec![
        ("TURNKEEP_STORE_KIND", "postgres".to_owned()),
        ("TURNKEEP_STORE_URL_ENV", URL.to_owned()),
        (URL, format!("postgres://turnkeep@{socket}/postgres")),
        ("TURNKEEP_STORE_SCHEMA", schema),
    ]
}

/// The database that stands for the file in this data folder, and the schema there: the same for
/// whoever comes back to the folder.
pub(crate) fn schema(data: &Path) -> Option<(&'static postgres_server::Server, String)> {
    assert!(data.is_absolute(), "{} could be any folder", data.display());
    let mut hash = DefaultHasher::new();
    data.hash(&mut hash);
    DATABASE.as_ref().map(|database| (database, format!("t{:016x}", hash.finish())))
}
