//! Where the servers of one deployment give each other hints, and how long that may take.

use std::path::PathBuf;
use std::time::Duration;

use super::paths;
use super::resolved::{or, text};
use super::secret::{ApiKey, Named, Told, secret};
use super::section::Section as _;
use super::value::StoreKind;

section! {
    /// A Redis server, where several servers share a database.
    struct RedisKeys {
        /// The file that holds the address of the Redis server, with user and password if it wants
        /// them: `redis://user:password@host:6379/0`, `rediss://` where the connection is to be
        /// encrypted, or `unix:///run/redis.sock`; refused if everybody on the machine can read it.
        /// Several, with commas between them, are places where the same data may be served after a
        /// failover. This or `url_env`.
        url_file: PathBuf => "\"/etc/turnkeep/redis.url\"";
        /// The environment variable that holds it.
        url_env: String => "\"REDIS_URL\"";
        /// The authorities that are trusted in place of the machine's, as a PEM file.
        tls_authorities: PathBuf => "\"/etc/turnkeep/redis-ca.pem\"";
        /// What all keys begin with. Under one prefix there are the keys of one deployment only.
        prefix: String = "\"turnkeep\"";
        /// The longest that a message waits for the rates that all servers share; then the server's
        /// own count decides.
        limit_timeout_ms: u64 [1, 1000] = "50";
        /// The longest that anything else waits for Redis.
        call_timeout_ms: u64 [10, 10_000] = "200";
        /// The longest that connecting may take.
        connect_timeout_ms: u64 [50, 60_000] = "1000";
    }
}

/// How Redis is reached and used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RedisSettings {
    /// Addresses, with users and passwords.
    pub(crate) addresses: Vec<ApiKey>,
    /// The key that says where those are.
    pub(crate) url_key: &'static str,
    /// Authorities in place of the machine's.
    pub(crate) tls_authorities: Option<PathBuf>,
    /// What all keys begin with.
    pub(crate) prefix: String,
    /// For rates.
    pub(crate) limit_timeout: Duration,
    /// For everything else.
    pub(crate) call_timeout: Duration,
    /// For a connection.
    pub(crate) connect_timeout: Duration,
}

/// Redis, if it is used; what is wrong with it is told.
pub(super) fn redis(
    keys: &RedisKeys,
    kind: StoreKind,
    told: &mut Told<'_>,
) -> Option<RedisSettings> {
    let shown = keys.shown();
    let (first, _, origin) = shown.first()?;
    if kind == StoreKind::Sqlite {
        let text = format!(
            "\"{first}\" in [redis] is of no use without [store] kind = \"postgres\": a server that \
             has its store to itself has nobody to tell anything"
        );
        told.problems.add(origin, text);
        return None;
    }
    if keys.url_file.is_none() && keys.url_env.is_none() {
        let text = "[redis] needs \"url_file\" or \"url_env\", which name where the server's \
                    address is";
        told.problems.lacks("[redis]", &["url_file", "url_env"], origin, text);
        return None;
    }
    named(keys, told);
    let places = Named {
        place: "[redis]",
        file: ("url_file", keys.url_file.as_ref()),
        env: ("url_env", keys.url_env.as_ref()),
    };
    let (url, origin) = secret(&places, told)?;
    let addresses: Vec<String> =
        url.split(',').map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect();
    let known = ["redis://", "rediss://", "unix://", "redis+unix://"];
    let is_known = |one: &String| known.iter().any(|start| one.starts_with(start));
    if addresses.is_empty() || !addresses.iter().all(is_known) {
        // What stands there may be a secret, so it is not shown.
        let text = "the address in [redis] must be like redis://user:password@host:6379/0, \
                    rediss:// in place of redis:// for an encrypted connection, or \
                    unix:///run/redis.sock";
        told.problems.add(origin, text);
        return None;
    }
    let by_tls = addresses.iter().any(|one| one.starts_with("rediss://"));
    if let Some(set) = keys.tls_authorities.as_ref().filter(|_| !by_tls) {
        // Who names them means the connection to be encrypted.
        let text = "\"tls_authorities\" in [redis] is of no use without an address that begins with \
                    rediss://: what begins with redis:// is not encrypted";
        told.problems.add(&set.origin, text);
    }
    let millis = |set, default| Duration::from_millis(or(set, default));
    Some(RedisSettings {
        addresses: addresses.into_iter().map(ApiKey).collect(),
        url_key: places.used(),
        tls_authorities: keys.tls_authorities.as_ref().map(|set| paths::meant(set, told.env)),
        prefix: text(keys.prefix.as_ref()).unwrap_or_else(|| "turnkeep".to_owned()),
        limit_timeout: millis(keys.limit_timeout_ms.as_ref(), 50),
        call_timeout: millis(keys.call_timeout_ms.as_ref(), 200),
        connect_timeout: millis(keys.connect_timeout_ms.as_ref(), 1000),
    })
}

/// A name that people can tell apart from the rest of a key.
fn named(keys: &RedisKeys, told: &mut Told<'_>) {
    let known = |one: char| one.is_ascii_alphanumeric() || "-_.".contains(one);
    let plain = |name: &str| !name.is_empty() && name.len() <= 63 && name.chars().all(known);
    if let Some(set) = keys.prefix.as_ref().filter(|set| !plain(&set.value)) {
        let text = format!(
            "\"prefix\" in [redis] must be 1 to 63 letters, digits, -, _ and ., not {:?}",
            set.value
        );
        told.problems.add(&set.origin, text);
    }
}
