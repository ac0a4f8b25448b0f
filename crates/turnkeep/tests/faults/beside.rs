//! What stands beside the database and may be lost at any moment: Redis and the workflow engine.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::{block_in_place, spawn_blocking};

use crate::engine::Engine;
use crate::{pass, redis_server};

/// Both of them. Whoever has the lock of one waits for it to be there again.
pub(crate) struct Beside {
    redis: Arc<Mutex<redis_server::Server>>,
    pub(crate) redis_socket: String,
    engine: Arc<Mutex<Engine>>,
    /// Who the servers are to the engine.
    pub(crate) token: String,
}

impl Beside {
    /// Starts them.
    pub(crate) fn start() -> Self {
        let (redis, engine) = (redis_server::Server::new(), Engine::start());
        let (redis_socket, token) = (redis.socket(), engine.token_text().to_owned());
        let (redis, engine) = (Arc::new(Mutex::new(redis)), Arc::new(Mutex::new(engine)));
        Self { redis, redis_socket, engine, token }
    }

    /// Redis forgets everything.
    pub(crate) async fn flush(&self) {
        let _there = self.redis.lock().await;
        let mut redis = UnixStream::connect(&self.redis_socket).unwrap();
        redis.write_all(b"FLUSHALL\r\nQUIT\r\n").unwrap();
    }

    /// Redis is killed, and begins anew after so long, without anything that it knew.
    pub(crate) async fn kill_redis(&self, time: Duration) {
        let mut redis = Arc::clone(&self.redis).lock_owned().await;
        block_in_place(|| redis.kill());
        tokio::spawn(async move {
            pass(time).await;
            spawn_blocking(move || redis.begin()).await.unwrap();
        });
    }

    /// The engine is ended by a signal, and begins after so long where it was, with what it has in
    /// its database.
    pub(crate) async fn end_engine(&self, signal: &'static str, time: Duration) {
        let engine = Arc::clone(&self.engine).lock_owned().await;
        tokio::spawn(async move {
            // One that is asked to end takes its time.
            let engine = spawn_blocking(move || {
                engine.end(signal);
                engine
            });
            let engine = engine.await.unwrap();
            pass(time).await;
            spawn_blocking(move || engine.begin()).await.unwrap();
        });
    }

    /// Comes back once both are there again.
    pub(crate) async fn heal(&self) {
        drop((self.redis.lock().await, self.engine.lock().await));
    }
}
