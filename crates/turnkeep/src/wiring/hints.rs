//! Where servers that share a database give each other hints.

use std::sync::Arc;

use anyhow::Context as _;
use turnkeep_core::ids::Epoch;
use turnkeep_core::ports::hints::{Hints, NoHints};
use turnkeep_redis::{RedisHints, Settings, State, node_name};

use super::stores::Stores;
use crate::config::redis::RedisSettings;
use crate::config::store::StoreSettings;
use crate::config::{ApiKey, Resolved};

/// Connects where that is configured, as the node that has the store open. It is no reason not to
/// start that Redis is away; that its keys are somebody else's is one.
pub(crate) async fn open(resolved: &Resolved, stores: &Stores) -> anyhow::Result<Arc<dyn Hints>> {
    let Some(redis) = &resolved.redis else { return Ok(Arc::new(NoHints)) };
    let salt = stores.care.salt().await.context("the store's secret can't be read")?;
    let node = node_name(stores.store.epoch());
    let hints = connect(redis, deployment(resolved, &salt), node)?;
    let health = hints.settled(redis.connect_timeout).await;
    if let State::Refused(_) = &health.calls {
        let (place, state) = (place(redis), &health.calls);
        tracing::error!(%place, %state, "Redis can't be used as it is configured; we go on without");
    }
    if let State::Foreign(found) = &health.calls {
        anyhow::bail!("[redis]: {}", foreign(redis, found));
    }
    Ok(Arc::new(hints))
}

/// How Redis stands, for people; nothing to say where there is none. Whose keys there are is not
/// looked at, nor changed.
pub(crate) async fn look(resolved: &Resolved) -> anyhow::Result<Option<String>> {
    let Some(redis) = &resolved.redis else { return Ok(None) };
    let found = RedisHints::look(settings(redis, "doctor".to_owned(), node_name(Epoch(0)))).await;
    let found = found.map_err(|why| anyhow::anyhow!("{why}")).with_context(|| place(redis))?;
    Ok(Some(match found {
        Some(whose) => {
            format!("it can be reached; keys under {} are those of {whose}", redis.prefix)
        }
        None => format!("it can be reached, and there are no keys under {} yet", redis.prefix),
    }))
}

fn connect(redis: &RedisSettings, cluster: String, node: String) -> anyhow::Result<RedisHints> {
    RedisHints::start(settings(redis, cluster, node)).map_err(|unfit| anyhow::anyhow!("{unfit}"))
}

fn settings(redis: &RedisSettings, cluster: String, node: String) -> Settings {
    Settings {
        addresses: redis.addresses.iter().map(ApiKey::expose).map(str::to_owned).collect(),
        tls_authorities: redis.tls_authorities.clone(),
        prefix: redis.prefix.clone(),
        limit_time: redis.limit_timeout,
        call_time: redis.call_timeout,
        connect_time: redis.connect_timeout,
        ..Settings::new("", &cluster, &node)
    }
}

/// The deployment's name, and a number that only its database has: two of one name, like the name
/// that holds where none was chosen, must not take each other's hints for their own.
fn deployment(resolved: &Resolved, salt: &[u8]) -> String {
    let cluster = match &resolved.store {
        StoreSettings::Postgres(database) => database.cluster.as_str(),
        StoreSettings::Sqlite => "default",
    };
    let hashed = [b"turnkeep hints".as_slice(), salt].concat();
    let digest = ring::digest::digest(&ring::digest::SHA256, &hashed);
    let number = digest.as_ref().iter().take(8);
    number.fold(format!("{cluster}-"), |name, byte| format!("{name}{byte:02x}"))
}

/// Where in the configuration the address is, with user and password.
fn place(redis: &RedisSettings) -> String {
    format!("\"{}\" in [redis]", redis.url_key)
}

fn foreign(redis: &RedisSettings, found: &str) -> String {
    let prefix = &redis.prefix;
    format!(
        "the keys under {prefix:?} belong to another deployment ({found}), which may be at work. Name \
         another `prefix`, or another database of that Redis; if that deployment is gone for ever, \
         remove its key {prefix}:cluster"
    )
}
