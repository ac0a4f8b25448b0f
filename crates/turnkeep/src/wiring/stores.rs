//! Which store keeps everything, and how it is opened: to own it, or only to read it.

use std::path::Path;
use std::sync::Arc;

use turnkeep_core::Session;
use turnkeep_core::SessionKey;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::care::CareStore;
use turnkeep_core::ports::guard::Restrictions;
use turnkeep_core::ports::hints::{Hints, NoHints};
use turnkeep_core::ports::keys::Keys;
use turnkeep_core::ports::listeners::ListenerStore;
use turnkeep_core::ports::people::People;
use turnkeep_core::ports::schedule::ScheduleStore;
use turnkeep_core::ports::store::Store;
use turnkeep_core::ports::switchboard::SwitchboardStore;
use turnkeep_core::ports::usage::UsageStore;
use turnkeep_stores::{Reads, SqliteOptions, SqliteReader, SqliteStore};

use crate::config::Stored;
use crate::config::store::StoreSettings;

/// One store, as everybody needs it.
pub(crate) struct Stores {
    pub(super) store: Arc<dyn Store>,
    pub(super) care: Arc<dyn CareStore>,
    pub(super) usage: Arc<dyn UsageStore>,
    pub(super) people: Arc<dyn People>,
    pub(super) schedule: Arc<dyn ScheduleStore>,
    pub(super) switchboard: Arc<dyn SwitchboardStore>,
    pub(super) listeners: Arc<dyn ListenerStore>,
    pub(super) guard: Arc<dyn Restrictions>,
    pub(crate) keys: Arc<dyn Keys>,
    /// What is told to others beside the store; nothing until somebody says where.
    pub(crate) hints: Arc<dyn Hints>,
    /// Comes back once this server can't go on, and says why.
    pub(crate) put_out: BoxFuture<'static, &'static str>,
}

impl Stores {
    /// Ends what was opened for a moment's work: others that have the store open see it go.
    pub(crate) async fn close(&self) {
        self.store.close().await;
    }

    fn of<S>(store: &Arc<S>, put_out: BoxFuture<'static, &'static str>) -> Self
    where
        S: Store
            + CareStore
            + UsageStore
            + People
            + ScheduleStore
            + SwitchboardStore
            + ListenerStore
            + Restrictions
            + Keys,
    {
        Self {
            store: store.clone(),
            care: store.clone(),
            usage: store.clone(),
            people: store.clone(),
            schedule: store.clone(),
            switchboard: store.clone(),
            listeners: store.clone(),
            guard: store.clone(),
            keys: store.clone(),
            hints: Arc::new(NoHints),
            put_out,
        }
    }
}

/// What a server is about that opens a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Answers people, and runs their turns.
    Serve,
    /// Answers people whose turns others run.
    Relay,
    /// A moment's work beside that.
    Manage,
}

/// Opens the store, and owns the data folder from then on.
pub(crate) async fn open(place: &Stored, purpose: Purpose) -> anyhow::Result<Stores> {
    let kill_point = crate::killpoint::hook();
    match &place.store {
        StoreSettings::Sqlite => {
            let options = SqliteOptions { kill_point };
            let store = Arc::new(SqliteStore::open(&place.data_dir, options)?);
            Ok(Stores::of(&store, Box::pin(std::future::pending())))
        }
        StoreSettings::Postgres(database) => {
            postgres::open(database, &place.data_dir, purpose).await
        }
    }
}

/// Opens the store to read it, also while servers use it. Not from within a runtime.
pub(crate) fn reader(place: &Stored) -> anyhow::Result<Box<dyn Reads>> {
    match &place.store {
        StoreSettings::Sqlite => Ok(Box::new(SqliteReader::open(&place.data_dir)?)),
        StoreSettings::Postgres(database) => postgres::reader(database, &place.data_dir),
    }
}

/// A database, as somebody sees it who only looks.
pub(crate) struct Seen {
    /// For people.
    pub(crate) said: String,
    /// Servers are in, and none of them runs turns.
    pub(crate) nobody_runs: bool,
}

/// Whether a database could be used; nothing to say where there is none.
pub(crate) async fn look(place: &Stored) -> anyhow::Result<Option<Seen>> {
    match &place.store {
        StoreSettings::Sqlite => Ok(None),
        StoreSettings::Postgres(database) => postgres::look(database).await.map(Some),
    }
}

/// Opens any one file to read it, like a backup.
pub(crate) fn file_reader(file: &Path) -> anyhow::Result<Box<dyn Reads>> {
    Ok(Box::new(SqliteReader::open_file(file)?))
}

/// What a session stored last; also while servers use the store.
pub(crate) fn session(place: &Stored, key: &SessionKey) -> anyhow::Result<Option<Arc<Session>>> {
    Ok(reader(place)?.load(key)?.map(|loaded| loaded.session))
}

/// Where a store is, in words; without what is secret.
pub(crate) fn described(place: &Stored) -> String {
    match &place.store {
        StoreSettings::Sqlite => place.data_dir.display().to_string(),
        StoreSettings::Postgres(database) => {
            format!("the schema {} of the database", database.schema)
        }
    }
}

/// The name of this server among those that share a database, where none was chosen: the machine's
/// and a number that lasts as long as the data folder.
#[cfg(feature = "postgres")]
fn own_name(data_dir: &Path) -> anyhow::Result<String> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    use anyhow::Context as _;
    const HOST_MAX: usize = 40;
    let file = data_dir.join("node");
    let cannot = || format!("{} can't be used for this server's name", file.display());
    match std::fs::read_to_string(&file) {
        Ok(name) if !name.trim().is_empty() => return Ok(name.trim().to_owned()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(cannot);
        }
        _ => {}
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain = |one: &char| one.is_ascii_alphanumeric() || *one == '-';
    let host: String = host.chars().filter(plain).take(HOST_MAX).collect();
    let host = if host.is_empty() { "node" } else { &host };
    let name = format!("{host}-{}", number());
    let mut written = std::fs::File::options();
    let written = written.create(true).truncate(true).write(true).mode(0o600).open(&file);
    let mut written = written.with_context(cannot)?;
    written.write_all(format!("{name}\n").as_bytes()).with_context(cannot)?;
    Ok(name)
}

/// What makes a name one that nobody else has.
#[cfg(feature = "postgres")]
fn number() -> String {
    let number = uuid::Uuid::now_v7().simple().to_string();
    number[number.len() - 8..].to_owned()
}

#[cfg(feature = "postgres")]
pub(super) use postgres::settings as database_settings;

#[cfg(feature = "postgres")]
mod postgres {
    use std::path::Path;
    use std::sync::Arc;

    use turnkeep_stores::{
        NodeOut, OtherNode, PostgresError, PostgresReader, PostgresSettings, PostgresStore,
        PostgresTls, Reads,
    };

    use super::{Purpose, Seen, Stores, number, own_name};
    use crate::config::store::{DatabaseSettings, Tls};

    pub(super) async fn open(
        database: &DatabaseSettings,
        data_dir: &Path,
        purpose: Purpose,
    ) -> anyhow::Result<Stores> {
        // One server a folder: its socket and its name lie there.
        let folder = turnkeep_stores::take_folder(data_dir)?;
        let node = match &database.node {
            Some(name) => name.clone(),
            None => own_name(data_dir)?,
        };
        // A server may have that name just now, which a second one would put out.
        let node = if purpose == Purpose::Manage { beside(&node) } else { node };
        let runs = purpose == Purpose::Serve;
        let settings = PostgresSettings { runs, ..settings(database, node) };
        let opened = PostgresStore::open(settings).await;
        let store = Arc::new(opened.map_err(|why| unfit(database, why))?);
        let watched = Arc::clone(&store);
        let put_out = async move {
            let _folder = folder;
            why(watched.put_out().await)
        };
        Ok(Stores::of(&store, Box::pin(put_out)))
    }

    /// A name that nobody has.
    fn beside(node: &str) -> String {
        format!("{node}-command-{}", number())
    }

    /// Why it can't be used, and where that stands in the configuration.
    fn unfit(database: &DatabaseSettings, why: PostgresError) -> anyhow::Error {
        let place = match why {
            // The address may be wrong, or the user or the password in it.
            PostgresError::Unreachable { .. } => format!("\"{}\" in [store]", database.url_key),
            _ => "[store]".to_owned(),
        };
        anyhow::Error::new(why).context(place)
    }

    const fn why(out: NodeOut) -> &'static str {
        match out {
            NodeOut::ByOthers => {
                "others of the cluster put this server out; it has to be started again"
            }
            NodeOut::WentBack => {
                "the database was put back to an older state, without what this server was told \
                 that it keeps; it has to be started again"
            }
        }
    }

    pub(super) fn reader(
        database: &DatabaseSettings,
        data_dir: &Path,
    ) -> anyhow::Result<Box<dyn Reads>> {
        let node = database.node.clone().unwrap_or_else(|| {
            let name = std::fs::read_to_string(data_dir.join("node")).unwrap_or_default();
            name.trim().to_owned()
        });
        let reader = PostgresReader::open(&settings(database, format!("{node}-reader")));
        Ok(Box::new(reader.map_err(|why| unfit(database, why))?))
    }

    pub(super) async fn look(database: &DatabaseSettings) -> anyhow::Result<Seen> {
        let settings = settings(database, "doctor".to_owned());
        let schema = &database.schema;
        let there = PostgresStore::check(&settings).await;
        if !there.map_err(|why| unfit(database, why))? {
            let said =
                format!("it can be reached; the tables are made in {schema} at the first start");
            return Ok(Seen { said, nobody_runs: false });
        }
        let servers = PostgresStore::listed(&settings).await?;
        let nobody_runs = !servers.is_empty() && servers.iter().all(|server| !server.runs);
        let servers = listed(&servers);
        let said = format!("it can be reached, and the schema {schema} is in order; {servers}");
        Ok(Seen { said, nobody_runs })
    }

    /// Who takes part, for people.
    fn listed(all: &[OtherNode]) -> String {
        const TOLD_MAX: usize = 20;
        let told = all.iter().take(TOLD_MAX).map(|OtherNode { name, version, runs, .. }| {
            let runs = if *runs { "" } else { ", runs no turns" };
            format!("{name} ({version}{runs})")
        });
        let told = told.collect::<Vec<_>>().join(", ");
        match all.len() {
            0 => "no server is in".to_owned(),
            1..=TOLD_MAX => format!("in are {told}"),
            more => format!("in are {told} and {} more", more - TOLD_MAX),
        }
    }

    /// A database as it is configured, for a node of this name.
    pub(in crate::wiring) fn settings(
        database: &DatabaseSettings,
        node: String,
    ) -> PostgresSettings {
        PostgresSettings {
            schema: database.schema.clone(),
            cluster: database.cluster.clone(),
            pool: database.connections_max,
            statement_timeout: database.statement_timeout,
            node_timeout: database.node_timeout,
            tls: match database.tls {
                None => PostgresTls::Auto,
                Some(Tls::Verify) => PostgresTls::Verify,
                Some(Tls::Off) => PostgresTls::Off,
            },
            ca_file: database.tls_authorities.clone(),
            kill_point: crate::killpoint::hook(),
            ..PostgresSettings::new(database.url.expose(), node)
        }
    }
}

#[cfg(not(feature = "postgres"))]
mod postgres {
    use std::path::Path;

    use turnkeep_stores::Reads;

    use super::{Purpose, Seen, Stores};
    use crate::config::store::DatabaseSettings;

    const WITHOUT: &str = "[store] kind = \"postgres\": this program was built without it";

    pub(super) async fn open(_: &DatabaseSettings, _: &Path, _: Purpose) -> anyhow::Result<Stores> {
        anyhow::bail!(WITHOUT)
    }

    pub(super) async fn look(_: &DatabaseSettings) -> anyhow::Result<Seen> {
        anyhow::bail!(WITHOUT)
    }

    pub(super) fn reader(_: &DatabaseSettings, _: &Path) -> anyhow::Result<Box<dyn Reads>> {
        anyhow::bail!(WITHOUT)
    }
}
