//! What the tests ask of a Redis of their own, and how nodes are connected to it.

use std::future::Future;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use turnkeep_redis::{RedisHints, Settings};

pub(crate) use crate::server::Server;

/// Longer than anything takes; who waits that long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

impl Server {
    /// A connection that knows nothing of us.
    pub(crate) async fn admin(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.address()).expect("an address");
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
        let con = client.get_multiplexed_async_connection_with_config(&config).await;
        con.expect("it runs")
    }

    /// What a node of the cluster `home` would say, patient, so that nothing is late by accident.
    pub(crate) fn settings(&self, node: &str) -> Settings {
        let mut settings = Settings::new(&self.address(), "home", node);
        settings.limit_time = PATIENCE;
        settings.call_time = PATIENCE;
        settings.connect_time = PATIENCE;
        settings.beat_every = Duration::from_millis(20);
        settings.retry_every = Duration::from_millis(50);
        settings
    }

    /// A node that is connected.
    pub(crate) async fn node(&self, name: &str) -> RedisHints {
        connected(self.settings(name)).await
    }
}

/// A node by these settings, once it is connected.
pub(crate) async fn connected(settings: Settings) -> RedisHints {
    let hints = RedisHints::start(settings).expect("usable settings");
    soon(hints.until(turnkeep_redis::Health::is_up)).await;
    hints
}

/// Impatient as a node in earnest, for what is slow on purpose.
pub(crate) fn impatient(mut settings: Settings) -> Settings {
    settings.limit_time = Duration::from_millis(50);
    settings.call_time = Duration::from_millis(200);
    settings.connect_time = Duration::from_millis(500);
    settings
}

/// What has to come; a test that waits for ever says where.
#[track_caller]
pub(crate) fn soon<T>(what: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(PATIENCE, what).await {
            Ok(come) => come,
            Err(_) => panic!("waited in vain at {place}"),
        }
    }
}

/// Asks Redis for something directly.
pub(crate) async fn raw<T: redis::FromRedisValue>(
    con: &mut MultiplexedConnection,
    words: &[&str],
) -> T {
    let mut asked = redis::cmd(words[0]);
    for word in &words[1..] {
        asked.arg(word);
    }
    asked.query_async(con).await.expect("Redis does it")
}
