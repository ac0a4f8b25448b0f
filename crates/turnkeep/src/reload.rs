//! Reads the configuration anew while the server runs: on SIGHUP, or when `POST /v1/reload` asks.
//!
//! All of it is read and checked, and everything it names is made, before anything changes. So a
//! wrong file changes nothing; a right one holds from one moment to the next.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::signal::unix::Signal;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use turnkeep_core::ports::BoxFuture;
use turnkeep_gateway::http::{HttpSettings, Reload, Reloaded};
use turnkeep_gateway::{Current, Gateway};

use crate::config::{self, Changes, Env, Flags, Resolved};
use crate::logging::Log;
use crate::role::Role;
use crate::serve::http_settings;
use crate::wiring::{self, Wired};

/// Where a configuration comes from.
pub(crate) struct Source {
    pub(crate) flags: Flags,
    pub(crate) env: Env,
}

/// What a reload reaches.
pub(crate) struct Running {
    pub(crate) gateway: Gateway,
    pub(crate) http: Current<HttpSettings>,
    pub(crate) address: SocketAddr,
    pub(crate) log: Log,
    pub(crate) role: Role,
}

/// Reads the configuration anew.
#[derive(Clone)]
pub(crate) struct Reloader(Arc<Inner>);

struct Inner {
    source: Source,
    running: Running,
    /// What the server was started with.
    began: Arc<Resolved>,
    /// What it lives by now. Held while that changes, so one reload comes after the other.
    wired: Mutex<Wired>,
    failed: AtomicBool,
    applied: AtomicU64,
    refused: AtomicU64,
}

impl Reloader {
    pub(crate) fn new(source: Source, running: Running, wired: Wired) -> Self {
        Self(Arc::new(Inner {
            source,
            running,
            began: Arc::clone(&wired.resolved),
            wired: Mutex::new(wired),
            failed: AtomicBool::new(false),
            applied: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }))
    }

    /// Reloads at every hangup, until the shutdown.
    pub(crate) async fn follow(self, mut hangups: Signal, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                hangup = hangups.recv() => if hangup.is_none() { return },
            }
            // Whatever comes of it is in the log by then.
            let _ = self.run().await;
        }
    }

    async fn run(&self) -> Result<Reloaded, String> {
        let mut wired = self.0.wired.lock().await;
        let outcome = self.apply(&mut wired).await;
        self.0.failed.store(outcome.is_err(), Ordering::Release);
        match &outcome {
            Ok(reloaded) => {
                self.0.applied.fetch_add(1, Ordering::Relaxed);
                tell(reloaded);
            }
            Err(mistakes) => {
                self.0.refused.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    "the configuration was not reloaded and nothing changed:\n{mistakes}"
                );
            }
        }
        outcome
    }

    async fn apply(&self, wired: &mut Wired) -> Result<Reloaded, String> {
        let inner = Arc::clone(&self.0);
        // Files are read off the threads that serve.
        let loaded = tokio::task::spawn_blocking(move || {
            config::load(&inner.source.flags, &inner.source.env)
        });
        let resolved = loaded.await.map_err(words)?.map_err(words)?;
        let changes = Changes::between(&self.0.began, &wired.resolved, &resolved);
        let next = wiring::wire(resolved, Some(wired)).map_err(|error| format!("{error:#}"))?;
        let Running { gateway, http, address, log, role } = &self.0.running;
        // The level can't be wrong any more, and the store is the only one left who can refuse.
        gateway.replace(next.replacement()).await.map_err(words)?;
        gateway.hear(next.hears(*role)).await;
        let began = http_settings(&self.0.began, *address, *role);
        http.replace(HttpSettings {
            connections_max: began.connections_max,
            connections_per_address_max: began.connections_per_address_max,
            header_timeout: began.header_timeout,
            ..http_settings(&next.resolved, *address, *role)
        });
        log.set_level(&next.resolved.log.level);
        let Changes { changed, needs_restart } = changes;
        let reloaded = Reloaded { changed, needs_restart, notes: next.resolved.notes.clone() };
        *wired = next;
        Ok(reloaded)
    }

    /// How often it was reloaded, in the text that Prometheus reads.
    pub(crate) fn metrics(&self) -> String {
        let Inner { failed, applied, refused, .. } = &*self.0;
        let ok = u8::from(!failed.load(Ordering::Acquire));
        let (applied, refused) = (applied.load(Ordering::Relaxed), refused.load(Ordering::Relaxed));
        let mut text = String::new();
        // A String takes everything.
        let _ = write!(
            text,
            "# HELP turnkeep_config_reloads_total Reloads of the configuration, by outcome\n\
             # TYPE turnkeep_config_reloads_total counter\n\
             turnkeep_config_reloads_total{{outcome=\"applied\"}} {applied}\n\
             turnkeep_config_reloads_total{{outcome=\"refused\"}} {refused}\n\
             # HELP turnkeep_config_ok 1 while the server lives by what its file says, 0 after a \
             reload that failed\n\
             # TYPE turnkeep_config_ok gauge\n\
             turnkeep_config_ok {ok}\n"
        );
        text
    }
}

impl Reload for Reloader {
    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, String>> {
        let reloader = self.clone();
        // In a task of its own: whoever asks may go away in the middle of it.
        let running = tokio::spawn(async move { reloader.run().await });
        Box::pin(async { running.await.map_err(words)? })
    }

    fn has_failed(&self) -> bool {
        self.0.failed.load(Ordering::Acquire)
    }
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn tell(reloaded: &Reloaded) {
    let Reloaded { changed, needs_restart, notes } = reloaded;
    let changed = if changed.is_empty() { "nothing".to_owned() } else { changed.join(", ") };
    tracing::info!(changed, "the configuration was reloaded");
    if !needs_restart.is_empty() {
        let keys = needs_restart.join(", ");
        tracing::warn!(keys, "these keys are different in the configuration and need a restart");
    }
    for note in notes {
        tracing::warn!("{note}");
    }
}
