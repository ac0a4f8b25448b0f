//! What whoever opens the store may choose. Nothing of it that is secret is ever printed.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Whether the connection is encrypted, and the server known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PostgresTls {
    /// [`PostgresTls::Verify`], but for a server on this machine or one that the address says to
    /// reach without it.
    #[default]
    Auto,
    /// Encrypted, and the server's certificate must be good for its name. Never less in silence.
    Verify,
    /// Plain.
    Off,
}

/// How the database is reached and used.
#[derive(Clone)]
pub struct PostgresSettings {
    /// Where it is and as whom: `postgres://user:password@host:port/database`. Secret.
    pub url: String,
    /// The schema that holds the tables: one schema is one deployment.
    pub schema: String,
    /// The cluster's name; a database of another one is refused.
    pub cluster: String,
    /// This node's name. A node that comes puts out whoever has the same name: its own ghost.
    pub node: String,
    /// Whether this node runs turns; one that doesn't leaves what it takes to those that do.
    pub runs: bool,
    /// Whether it is opened to move everything in it, so that its being moved doesn't count.
    pub moves: bool,
    /// Connections for reads and changes; the writer and the heartbeat have one each beside them.
    pub pool: usize,
    /// The longest that one statement may take.
    pub statement_timeout: Duration,
    /// The longest that a statement waits for somebody else's lock.
    pub lock_timeout: Duration,
    /// A node that gives no sign for so long is put out.
    pub node_timeout: Duration,
    /// TLS.
    pub tls: PostgresTls,
    /// The authorities to trust, in place of the machine's own: a PEM file.
    pub ca_file: Option<PathBuf>,
    /// Called at named places of the write path, so that a test can end the process exactly
    /// there: `store.commit.before`, `store.commit.after`, `store.answer`.
    pub kill_point: Option<fn(&'static str)>,
}

impl PostgresSettings {
    /// The usual ones.
    #[must_use]
    pub fn new(url: impl Into<String>, node: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            schema: "turnkeep".into(),
            cluster: "default".into(),
            node: node.into(),
            runs: true,
            moves: false,
            pool: 8,
            statement_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(2),
            node_timeout: Duration::from_secs(10),
            tls: PostgresTls::Auto,
            ca_file: None,
            kill_point: None,
        }
    }

    /// The longest that the caller waits for one answer: the server ends a statement before that,
    /// so whoever doesn't answer by then isn't there.
    pub(super) fn patience(&self) -> Duration {
        self.statement_timeout + Duration::from_secs(5)
    }

    pub(super) fn kill_point(&self, name: &'static str) {
        if let Some(kill_point) = self.kill_point {
            kill_point(name);
        }
    }
}

impl fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSettings")
            .field("url", &"…")
            .field("schema", &self.schema)
            .field("cluster", &self.cluster)
            .field("node", &self.node)
            .field("pool", &self.pool)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}
