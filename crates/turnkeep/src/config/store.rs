//! Which store keeps everything, and how a database is reached.

use std::path::PathBuf;
use std::time::Duration;

use super::paths;
use super::problem::Problems;
use super::resolved::{or, text};
use super::secret::{ApiKey, Named, Told, secret};
use super::section::Section as _;
use super::value::StoreKind;
pub(crate) use super::value::Tls;

section! {
    /// Where sessions, turns and the journal live.
    struct StoreKeys {
        /// `sqlite` keeps everything in the data folder and needs nothing else; `postgres` keeps it
        /// in a PostgreSQL database, version 14 or newer, on whatever machine. See docs/postgres.md.
        kind: StoreKind = "\"sqlite\"";
        /// The file that holds the database's address, user and password:
        /// `postgres://user:password@host:5432/database`; refused if everybody on the machine can
        /// read it. This or `url_env`.
        url_file: PathBuf => "\"/etc/turnkeep/postgres.url\"";
        /// The environment variable that holds it.
        url_env: String => "\"DATABASE_URL\"";
        /// The schema that holds the tables; it is made where it may be. One schema is one
        /// deployment.
        schema: String = "\"turnkeep\"";
        /// The name of the deployment. A database that belongs to another one is refused.
        cluster: String = "\"default\"";
        /// The name of this server. Who comes under the same name puts the earlier one out, so that
        /// a restart waits for nobody. Without it the name of the machine and a number that is kept
        /// in the data folder.
        node: String => "\"tk-1\"";
        /// How many connections are used for reads and small changes; two more are open beside them.
        connections_max: usize [2, 500] = "8";
        /// The longest that one statement may take.
        statement_timeout_ms: u64 [1000, 600_000] = "10000";
        /// A server that gives no sign for so long is put out by the next one: nothing that it
        /// writes later counts.
        node_timeout_ms: u64 [3000, 600_000] = "10000";
        /// `verify` encrypts the connection and asks the server for a certificate of its name; `off`
        /// does neither. Without it `verify`, but not for a server on this machine.
        tls: Tls => "\"verify\"";
        /// The authorities that are trusted in place of the machine's, as a PEM file.
        tls_authorities: PathBuf => "\"/etc/turnkeep/postgres-ca.pem\"";
    }
}

/// Which store, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum StoreSettings {
    /// A file in the data folder.
    #[default]
    Sqlite,
    /// A database that others may share.
    Postgres(Box<DatabaseSettings>),
}

/// Where a server's data are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    /// The folder of its socket, and of everything else unless there is a database.
    pub(crate) data_dir: PathBuf,
    /// Which store, and where.
    pub(crate) store: StoreSettings,
}

/// How a database is reached and used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DatabaseSettings {
    /// Address, user and password.
    pub(crate) url: ApiKey,
    /// The key that says where those are.
    pub(crate) url_key: &'static str,
    /// The schema that holds the tables.
    pub(crate) schema: String,
    /// Who belongs together.
    pub(crate) cluster: String,
    /// The name of this server among them, if one was chosen.
    pub(crate) node: Option<String>,
    /// For reads and changes.
    pub(crate) connections_max: usize,
    /// For one statement.
    pub(crate) statement_timeout: Duration,
    /// Silence after which a server is put out.
    pub(crate) node_timeout: Duration,
    /// Whether the connection is encrypted, if that was chosen.
    pub(crate) tls: Option<Tls>,
    /// Authorities in place of the machine's.
    pub(crate) tls_authorities: Option<PathBuf>,
}

/// The store; what is wrong with it is told.
pub(super) fn store(keys: &StoreKeys, told: &mut Told<'_>) -> StoreSettings {
    if or(keys.kind.as_ref(), StoreKind::Sqlite) == StoreKind::Sqlite {
        useless(keys, told);
        return StoreSettings::Sqlite;
    }
    named(keys, told);
    let places = Named {
        place: "[store]",
        file: ("url_file", keys.url_file.as_ref()),
        env: ("url_env", keys.url_env.as_ref()),
    };
    if let (None, None, Some(kind)) = (&keys.url_file, &keys.url_env, &keys.kind) {
        let text = "[store] with kind = \"postgres\" needs \"url_file\" or \"url_env\", which name \
                    where the database's address is";
        told.problems.lacks("[store]", &["url_file", "url_env"], &kind.origin, text);
    }
    let Some((url, origin)) = secret(&places, told) else { return StoreSettings::Sqlite };
    if !["postgres://", "postgresql://"].iter().any(|start| url.starts_with(start)) {
        // What stands there may be a secret, so it is not shown.
        let text = "the database's address in [store] must be like \
                    postgres://user:password@host:5432/database";
        told.problems.add(origin, text);
    }
    StoreSettings::Postgres(Box::new(DatabaseSettings {
        url: ApiKey(url),
        url_key: places.used(),
        schema: text(keys.schema.as_ref()).unwrap_or_else(|| "turnkeep".to_owned()),
        cluster: text(keys.cluster.as_ref()).unwrap_or_else(|| "default".to_owned()),
        node: text(keys.node.as_ref()),
        connections_max: or(keys.connections_max.as_ref(), 8),
        statement_timeout: millis(or(keys.statement_timeout_ms.as_ref(), 10_000)),
        node_timeout: millis(or(keys.node_timeout_ms.as_ref(), 10_000)),
        tls: keys.tls.as_ref().map(|set| set.value),
        tls_authorities: keys.tls_authorities.as_ref().map(|set| paths::meant(set, told.env)),
    }))
}

/// Which kind of store other sections have to do with. Whoever typed it wrongly made one mistake, and
/// not one more for everything that only a database has.
pub(super) fn kind(keys: &StoreKeys, problems: &Problems) -> StoreKind {
    if problems.is_mistyped("[store]", "kind") {
        return StoreKind::Postgres;
    }
    or(keys.kind.as_ref(), StoreKind::Sqlite)
}

const fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// Keys of a database where there is none.
fn useless(keys: &StoreKeys, told: &mut Told<'_>) {
    for (key, _, origin) in keys.shown().into_iter().filter(|(key, ..)| *key != "kind") {
        let text = format!("\"{key}\" in [store] is of no use without kind = \"postgres\"");
        told.problems.lacks("[store]", &["kind"], origin, &text);
    }
}

/// Names that the database takes without a quote, and that people can tell apart.
fn named(keys: &StoreKeys, told: &mut Told<'_>) {
    let schema = |name: &str| {
        let mut letters = name.chars();
        letters.next().is_some_and(|first| first.is_ascii_lowercase() || first == '_')
            && letters.all(|one| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '_')
            && name.len() <= 63
            && !name.starts_with("pg_")
    };
    let plain = |name: &str| {
        let known = |one: char| one.is_ascii_alphanumeric() || "-_.".contains(one);
        !name.is_empty() && name.len() <= 63 && name.chars().all(known)
    };
    let schema_rule = "up to 63 small letters, digits and _, not a digit first, not pg_";
    let plain_rule = "1 to 63 letters, digits, -, _ and .";
    type Rule<'a> = (&'static str, &'a dyn Fn(&str) -> bool, &'static str);
    let rules: [Rule<'_>; 3] = [
        ("schema", &schema, schema_rule),
        ("cluster", &plain, plain_rule),
        ("node", &plain, plain_rule),
    ];
    for ((key, is_right, rule), set) in
        rules.into_iter().zip([&keys.schema, &keys.cluster, &keys.node])
    {
        if let Some(set) = set.as_ref().filter(|set| !is_right(&set.value)) {
            let text = format!("\"{key}\" in [store] must be {rule}, not {:?}", set.value);
            told.problems.add(&set.origin, text);
        }
    }
}
