//! Taking part in a cluster: what the server must be, its tables, and a node's own epoch.

use std::collections::BTreeMap;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, GenericClient};
use turnkeep_core::Epoch;
use uuid::Uuid;

use super::connect::Connector;
use super::gate::Gate;
use super::schema;
use super::settings::PostgresSettings;
use super::trouble::Trouble;
use crate::moving::mark::Mark;

/// The first version with `client_connection_check_interval`.
const SERVER_MIN: i32 = 140_000;

/// What the gate locks. `enter_2` takes the same, and asks for the node besides.
const GATE: &str = "SELECT pg_advisory_xact_lock(1416983150, \
                    (('journal'::regclass)::oid::bigint & 2147483647)::int)";

/// Why the database can't be used, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// What is configured makes no sense.
    #[error("{0}")]
    Settings(String),
    /// Nobody answers there, or not us.
    #[error("the database at {place} can't be reached: {detail}")]
    Unreachable {
        /// Where, without the password.
        place: String,
        /// What the system says.
        detail: String,
    },
    /// The server knows too little.
    #[error("the database's server is PostgreSQL {found}; 14 or newer is needed")]
    TooOld {
        /// What it says it is.
        found: String,
    },
    /// The database can't hold every text.
    #[error("the database's encoding is {found}; create one with ENCODING 'UTF8'")]
    Encoding {
        /// Its encoding.
        found: String,
    },
    /// The server forgets what it promised.
    #[error(
        "the database's server has {setting} = off: it would lose or damage what it promised to \
         keep; turn it on"
    )]
    Unsafe {
        /// Which setting.
        setting: String,
    },
    /// It can't be written to.
    #[error("the database only reads: it is a standby, or was told to; name the primary")]
    ReadOnly,
    /// The user may not.
    #[error("the database's user may not {what}: let its administrator run {remedy:?} once")]
    NotPermitted {
        /// What it may not.
        what: String,
        /// The line to run.
        remedy: String,
    },
    /// It belongs to another cluster.
    #[error(
        "the schema belongs to the cluster {found:?}, this node is of {ours:?}: name another \
         schema, or the right cluster"
    )]
    OtherCluster {
        /// Its name.
        found: String,
        /// Ours.
        ours: String,
    },
    /// Another program's tables stand there.
    #[error("the schema {schema} holds another program's tables: name another one")]
    Foreign {
        /// Which.
        schema: String,
    },
    /// No server of this version has used it yet.
    #[error(
        "the schema {schema} has no tables of this version yet: start a server on it once, which \
         makes them"
    )]
    Empty {
        /// Which.
        schema: String,
    },
    /// A newer version changed the tables.
    #[error(
        "the schema {schema} was written by a newer Turnkeep ({by}): it asks for step {floor} of \
         its tables, and this one ({ours}) knows {known}; install the newer version again",
        ours = env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// Which.
        schema: String,
        /// The version that raised that.
        by: String,
        /// What it asks for.
        floor: i64,
        /// What we know.
        known: i64,
    },
    /// What it holds moves to another store, or has moved, or comes from one.
    #[error("what the schema {schema} holds {mark}")]
    Moving {
        /// Which.
        schema: String,
        /// How.
        mark: Mark,
    },
    /// A step of the schema failed.
    #[error("step {number} ({name}) of the tables failed: {detail}")]
    Step {
        /// Its number.
        number: i64,
        /// Its name.
        name: String,
        /// Why.
        detail: String,
    },
    /// Anything else.
    #[error("the database can't be opened: {0}")]
    Other(String),
}

impl From<tokio_postgres::Error> for PostgresError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => Self::ReadOnly,
            _ => Self::from(Trouble::from(error)),
        }
    }
}

impl From<Trouble> for PostgresError {
    fn from(trouble: Trouble) -> Self {
        Self::Other(trouble.sentence())
    }
}

const CLUSTER: &str = "SELECT name FROM cluster";

/// Connects, brings the tables up to date and joins the cluster under a new epoch.
pub(super) async fn open(settings: &PostgresSettings) -> Result<(Connector, Gate), PostgresError> {
    let mut connector = Connector::new(settings)?;
    let mut client = reach(&connector).await?;
    check_server(&client).await?;
    if !syncs(&client).await? {
        connector.durable();
    }
    schema::migrate(&client, &settings.schema).await?;
    check_cluster(&client, &settings.cluster).await?;
    let gate = join(&mut client, settings).await?;
    Ok((connector, gate))
}

/// Whether the tables are there, in a database that could be opened; changes nothing.
pub(super) async fn look(settings: &PostgresSettings) -> Result<bool, PostgresError> {
    let client = reach(&Connector::new(settings)?).await?;
    check_server(&client).await?;
    match schema::check(&client, &settings.schema).await {
        Ok(()) => {
            refuse_moving(&client, settings, |_| true).await?;
            let found = client.query_opt(CLUSTER, &[]).await?;
            found.map_or(Ok(()), |row| same_cluster(row.get(0), &settings.cluster))?;
            Ok(true)
        }
        Err(PostgresError::Empty { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Refuses what is in a move that concerns whoever asks.
pub(super) async fn refuse_moving(
    client: &impl GenericClient,
    settings: &PostgresSettings,
    concerns: impl FnOnce(&Mark) -> bool,
) -> Result<(), PostgresError> {
    let mark = Mark::read(&moving_notes(client).await?);
    match mark.filter(|mark| !settings.moves && concerns(mark)) {
        Some(mark) => Err(PostgresError::Moving { schema: settings.schema.clone(), mark }),
        None => Ok(()),
    }
}

/// What the schema says of a move; nothing where it never was in one.
pub(super) async fn moving_notes(
    client: &impl GenericClient,
) -> Result<BTreeMap<String, String>, tokio_postgres::Error> {
    let there = client.query_one("SELECT to_regclass('moving') IS NOT NULL", &[]).await?;
    if !there.try_get::<_, bool>(0)? {
        return Ok(BTreeMap::new());
    }
    let notes = client.query("SELECT name, value FROM moving", &[]).await?;
    notes.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// The first connection, which says why it can't be had.
pub(super) async fn reach(connector: &Connector) -> Result<Client, PostgresError> {
    connector.connect().await.map_err(|trouble| {
        let (place, detail) = (connector.place(), trouble.bare());
        PostgresError::Unreachable { place, detail }
    })
}

/// Refuses a server that can't keep what is given to it.
async fn check_server(client: &Client) -> Result<(), PostgresError> {
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int, current_setting('server_version'),
                    current_setting('server_encoding'), current_setting('fsync'),
                    current_setting('full_page_writes'),
                    pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean",
            &[],
        )
        .await?;
    let (number, found): (i32, String) = (row.get(0), row.get(1));
    if number < SERVER_MIN {
        return Err(PostgresError::TooOld { found });
    }
    let encoding: String = row.get(2);
    if encoding != "UTF8" {
        return Err(PostgresError::Encoding { found: encoding });
    }
    for (column, setting) in [(3, "fsync"), (4, "full_page_writes")] {
        if row.get::<_, &str>(column) == "off" {
            return Err(PostgresError::Unsafe { setting: setting.into() });
        }
    }
    if row.get(5) {
        return Err(PostgresError::ReadOnly);
    }
    Ok(())
}

/// Whether a commit that is reported is on the disk, without our asking for it.
async fn syncs(client: &Client) -> Result<bool, PostgresError> {
    let row = client.query_one("SELECT current_setting('synchronous_commit')", &[]).await?;
    Ok(!matches!(row.get(0), "off" | "local"))
}

async fn check_cluster(client: &Client, ours: &str) -> Result<(), PostgresError> {
    let make = "INSERT INTO cluster (name, id) VALUES ($1, gen_random_uuid())
                ON CONFLICT DO NOTHING";
    client.execute(make, &[&ours]).await?;
    same_cluster(client.query_one(CLUSTER, &[]).await?.get(0), ours)
}

fn same_cluster(found: String, ours: &str) -> Result<(), PostgresError> {
    if found == ours {
        return Ok(());
    }
    Err(PostgresError::OtherCluster { found, ours: ours.into() })
}

/// Puts out whoever has our name, and draws the epoch: both behind the gate, so that whatever the
/// other one writes was committed before or is refused.
async fn join(client: &mut Client, settings: &PostgresSettings) -> Result<Gate, PostgresError> {
    let token = Uuid::now_v7();
    let transaction = client.transaction().await?;
    transaction.batch_execute(GATE).await?;
    refuse_moving(&transaction, settings, |_| true).await?;
    transaction
        .execute(
            "UPDATE nodes SET gone_at = now(), gone_why = 'a node of the same name came'
             WHERE name = $1 AND gone_at IS NULL",
            &[&settings.node],
        )
        .await?;
    let drawn = enlist(&transaction, (&settings.node, token), settings.runs).await?;
    let Some(epoch) = drawn else {
        return Err(PostgresError::Other(
            "this database was opened too often: no number is left".into(),
        ));
    };
    transaction.commit().await?;
    Ok(Gate::new(epoch, token))
}

/// Draws a number for a node of this name and enters it; none if none is left, and then nothing may
/// be committed. Right only behind the gate.
pub(super) async fn enlist(
    on: &tokio_postgres::Transaction<'_>,
    (node, token): (&str, Uuid),
    runs: bool,
) -> Result<Option<Epoch>, tokio_postgres::Error> {
    let draw = "UPDATE meta SET value = value + 1 WHERE name = 'epoch' RETURNING value";
    let epoch: i64 = on.query_one(draw, &[]).await?.get(0);
    if epoch > Epoch::NODE_MAX.0.cast_signed() {
        return Ok(None);
    }
    let enter = "INSERT INTO nodes (epoch, token, name, version, schema_version, runs)
                 VALUES ($1, $2, $3, $4, $5, $6)";
    let version = env!("CARGO_PKG_VERSION");
    on.execute(enter, &[&epoch, &token, &node, &version, &schema::KNOWN, &runs]).await?;
    Ok(Some(Epoch(epoch.cast_unsigned())))
}
