//! Where Redis is, whose keys are ours there, and how long it may take.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The longest name of a prefix, a cluster or a node, in bytes.
const NAME_BYTES_MAX: usize = 96;

/// How Redis is used.
#[derive(Clone)]
pub struct Settings {
    /// Where it is, by `redis://HOST:PORT/DB`, `rediss://HOST:PORT/DB` (encrypted, and the server's
    /// certificate must be good for its host) or `unix:///PATH`. Several are places where the same
    /// data may be served after a failover; the first one that takes writes is used.
    pub addresses: Vec<String>,
    /// The authorities to trust, in place of the machine's own: a PEM file.
    pub tls_authorities: Option<PathBuf>,
    /// Who we are there, if not the default user.
    pub username: Option<String>,
    /// The password, if one is needed.
    pub password: Option<String>,
    /// What all our keys begin with.
    pub prefix: String,
    /// The name of the cluster. It stands in the key `PREFIX:cluster`; where another name stands
    /// there, nothing is read or written.
    pub cluster: String,
    /// The name of this node, as others address it.
    pub node: String,
    /// How long rates may take before the node's own are asked.
    pub limit_time: Duration,
    /// How long everything else may take.
    pub call_time: Duration,
    /// How long connecting may take.
    pub connect_time: Duration,
    /// How often it is looked whether Redis is still there.
    pub beat_every: Duration,
    /// The longest pause between two attempts to connect.
    pub retry_every: Duration,
    /// How long an entry of the index stays unless it is held again.
    pub active_time: Duration,
    /// How many calls may be under way at once; further ones wait within their time.
    pub calls_max: usize,
    /// How much may lie unread for one listener, in pieces of news; beyond, all is dropped and it
    /// is told that it missed some.
    pub unread_max: usize,
    /// How many sessions may be watched at once.
    pub watched_max: usize,
    /// The longest draft, in bytes.
    pub draft_bytes_max: usize,
}

/// Why settings can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("redis.{field}: {what}")]
pub struct Unfit {
    /// Which one.
    pub field: &'static str,
    /// What is wrong with it.
    pub what: String,
}

impl Settings {
    /// The usual ones for a cluster and a node of these names.
    #[must_use]
    pub fn new(address: &str, cluster: &str, node: &str) -> Self {
        Self {
            addresses: vec![address.to_owned()],
            tls_authorities: None,
            username: None,
            password: None,
            prefix: "turnkeep".to_owned(),
            cluster: cluster.to_owned(),
            node: node.to_owned(),
            limit_time: Duration::from_millis(50),
            call_time: Duration::from_millis(200),
            connect_time: Duration::from_secs(1),
            beat_every: Duration::from_secs(1),
            retry_every: Duration::from_secs(2),
            active_time: Duration::from_secs(15),
            calls_max: 1024,
            unread_max: 4096,
            watched_max: 10_000,
            draft_bytes_max: turnkeep_core::draft::DRAFT_BYTES_MAX,
        }
    }

    /// Says what can't be used, by field.
    pub fn check(&self) -> Result<(), Unfit> {
        if self.addresses.is_empty() {
            return Err(unfit("addresses", "at least one is needed"));
        }
        named("prefix", &self.prefix)?;
        named("cluster", &self.cluster)?;
        named("node", &self.node)?;
        let times = [
            ("limit_time", self.limit_time),
            ("call_time", self.call_time),
            ("connect_time", self.connect_time),
            ("beat_every", self.beat_every),
            ("retry_every", self.retry_every),
            ("active_time", self.active_time),
        ];
        let hour = Duration::from_secs(3600);
        let mut odd = times.iter().filter(|(_, time)| time.as_millis() == 0 || *time > hour);
        if let Some((field, _)) = odd.next() {
            return Err(unfit(field, "must be from 1 ms to 1 h"));
        }
        let sizes = [
            ("calls_max", self.calls_max),
            ("unread_max", self.unread_max),
            ("watched_max", self.watched_max),
            ("draft_bytes_max", self.draft_bytes_max),
        ];
        match sizes.iter().find(|(_, size)| *size == 0) {
            Some((field, _)) => Err(unfit(field, "must be at least 1")),
            None => Ok(()),
        }
    }
}

fn named(field: &'static str, name: &str) -> Result<(), Unfit> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(fits) {
        return Err(unfit(field, "must be 1 to 96 letters, digits, dots, dashes or underscores"));
    }
    Ok(())
}

fn unfit(field: &'static str, what: &str) -> Unfit {
    Unfit { field, what: what.to_owned() }
}

/// Without the password, and without addresses, which may hold one.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("prefix", &self.prefix)
            .field("cluster", &self.cluster)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::Settings;

    #[test]
    fn what_can_not_be_used_is_named() {
        let usual = Settings::new("redis://127.0.0.1", "home", "one");
        assert_eq!(usual.check(), Ok(()));
        let told = |change: fn(&mut Settings)| {
            let mut settings = usual.clone();
            change(&mut settings);
            settings.check().map_err(|unfit| unfit.field)
        };
        assert_eq!(told(|s| s.addresses.clear()), Err("addresses"));
        assert_eq!(told(|s| s.cluster = "a:b".to_owned()), Err("cluster"));
        assert_eq!(told(|s| s.node = String::new()), Err("node"));
        assert_eq!(told(|s| s.prefix = "x".repeat(97)), Err("prefix"));
        assert_eq!(told(|s| s.limit_time = std::time::Duration::ZERO), Err("limit_time"));
        assert_eq!(told(|s| s.unread_max = 0), Err("unread_max"));
    }

    #[test]
    fn no_password_is_shown() {
        let mut settings = Settings::new("redis://:hidden@127.0.0.1", "home", "one");
        settings.password = Some("hidden".to_owned());
        assert!(!format!("{settings:?}").contains("hidden"));
    }
}
