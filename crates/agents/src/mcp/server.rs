//! One tool server: started, watched, and started again when it dies.
//!
//! All sessions share one connection, and calls run beside each other. Whoever calls holds the
//! connection that the call went out on, so a new one takes nothing from a call under way.

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::bounds::Gone;
use super::connection::{Connection, Hello, NotOpen};
use super::listing::{Known, Listing};
use super::names::unknown;
use super::outcome::failed;
use super::settings::ToolServerSettings;
use crate::tools::{Said, Tool};

/// How long a server may take to start and to say hello; one that is fetched first takes long.
const START_TIME: Duration = Duration::from_secs(60);
/// The pause before a server that went away is tried again; doubled for each time in a row.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// One that was there for so long begins its pauses anew.
const STEADY: Duration = Duration::from_secs(60);
/// Lists of tools are read so far apart.
const LISTS_APART: Duration = Duration::from_secs(1);
/// How long after it went away, or was first started, turns wait for a server.
const WAIT: Duration = Duration::from_secs(10);
/// One that failed so often in a row is not waited for.
const HOPELESS: u32 = 3;

/// A server; it ends when the last one who knows it is gone.
pub struct ToolServer {
    inner: Arc<Inner>,
    _stop: oneshot::Sender<Infallible>,
}

struct Inner {
    settings: ToolServerSettings,
    standing: watch::Sender<Standing>,
    wishes: Mutex<Vec<Weak<Wish>>>,
}

/// What an agent wants of a server; it wants it as long as it has this.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) agent: String,
    /// Of the names that the server gave its tools.
    pub(super) patterns: Vec<String>,
}

/// How a server stands.
#[derive(Clone)]
struct Standing {
    up: Option<Up>,
    /// Why it is not there, if it was tried.
    why: Option<Arc<str>>,
    failures: u32,
    /// Since when it has been away, if it is.
    away_since: Instant,
}

impl Standing {
    /// The server, unless its connection has ended and it is not told yet.
    fn there(&self) -> Option<&Up> {
        self.up.as_ref().filter(|up| !up.connection.peer.is_transport_closed())
    }

    fn away_since(&self) -> Instant {
        if self.up.is_some() { Instant::now() } else { self.away_since }
    }
}

#[derive(Clone)]
struct Up {
    connection: Arc<Connection>,
    listing: Arc<Listing>,
}

/// How a server stands, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolServerReport {
    /// Its own name and version; or why it is away.
    pub state: Result<String, String>,
    /// Its tools, by the names that it gave them.
    pub tools: Vec<(String, Tool)>,
    /// What a person should know of them.
    pub notes: Vec<String>,
}

impl fmt::Debug for ToolServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ToolServer").field("settings", &self.inner.settings).finish()
    }
}

impl ToolServer {
    /// Begins to reach for it; needs a runtime.
    #[must_use]
    pub fn start(settings: ToolServerSettings) -> Arc<Self> {
        let standing = Standing { up: None, why: None, failures: 0, away_since: Instant::now() };
        let standing = watch::Sender::new(standing);
        let inner = Arc::new(Inner { settings, standing, wishes: Mutex::default() });
        let (stop, stopped) = oneshot::channel::<Infallible>();
        let kept = Arc::clone(&inner);
        tokio::spawn(async move {
            tokio::select! {
                () = kept.keep() => {}
                _ = stopped => {}
            }
            kept.standing.send_modify(|standing| standing.up = None);
        });
        Arc::new(Self { inner, _stop: stop })
    }

    /// What it was started with.
    #[must_use]
    pub fn settings(&self) -> &ToolServerSettings {
        &self.inner.settings
    }

    /// Remembers what an agent wants, and tells the log where there is no such tool: now, or once it is
    /// there.
    pub(super) fn wanted(&self, wish: &Arc<Wish>) {
        self.inner.wishes().push(Arc::downgrade(wish));
        if let Some(Up { listing, .. }) = self.inner.standing.borrow().there() {
            for stray in strays(&self.inner.settings.name, &[Arc::clone(wish)], listing) {
                tracing::warn!("{stray}");
            }
        }
    }

    /// How it stands once it was reached for, for people.
    pub async fn report(&self) -> ToolServerReport {
        let mut watched = self.inner.standing.subscribe();
        let settled = |standing: &Standing| standing.up.is_some() || standing.why.is_some();
        let standing = watched.wait_for(settled).await.map(|standing| standing.clone());
        let (up, why) = standing.map_or((None, None), |standing| (standing.up, standing.why));
        let Some(Up { connection, listing }) = up else {
            let why = why.as_deref().unwrap_or("it was stopped").to_owned();
            return ToolServerReport { state: Err(why), tools: Vec::new(), notes: Vec::new() };
        };
        let tools = listing.tools.iter().map(|known| (known.name.clone(), known.tool.clone()));
        let state = Ok(connection.about.clone());
        let notes = listing.notes.iter().cloned().chain(self.inner.strays(&listing)).collect();
        ToolServerReport { state, tools: tools.collect(), notes }
    }

    /// Its tools; none if it is away. One that only just went away is waited for a little, so that
    /// its turns don't go without tools because it starts again.
    pub(super) async fn listing(&self) -> Option<Arc<Listing>> {
        let mut watched = self.inner.standing.subscribe();
        let until = watched.borrow().away_since() + WAIT;
        let settled =
            |standing: &Standing| standing.there().is_some() || standing.failures >= HOPELESS;
        let standing = timeout_at(until, watched.wait_for(settled)).await;
        Some(standing.ok()?.ok()?.there()?.listing.clone())
    }

    /// Calls a tool that [`Self::listing`] told of.
    pub(super) async fn call(&self, tool: &Tool, arguments: &str) -> Said {
        let name = &self.inner.settings.name;
        let Ok(Value::Object(arguments)) = serde_json::from_str(arguments) else {
            return failed("the arguments are no JSON object; the tool was not called");
        };
        let there = self.inner.standing.borrow().there().cloned();
        let Some(Up { connection, listing }) = there else {
            return failed(format!("the tool server {name} is away; the tool was not called"));
        };
        let known = listing.tools.iter().find(|known| known.tool.spec.name == tool.spec.name);
        match known {
            None => failed(format!("the tool server {name} has no such tool any more")),
            Some(known) if known.tool != *tool => {
                failed("the tool was changed in the meantime; it was not called")
            }
            Some(Known { name, tool }) => {
                let trusted = self.inner.settings.policy.errors_mean_not_done;
                connection.call(name.clone(), arguments, tool, trusted).await
            }
        }
    }
}

impl Inner {
    /// Reaches for the server again and again.
    async fn keep(&self) {
        let server = &*self.settings.name;
        let (mut failures, mut hello) = (0_u32, Hello::Initialize);
        loop {
            let begun = Instant::now();
            let why = match timeout(START_TIME, self.open(hello)).await {
                Ok(Ok((up, gone))) => self.serve(up, gone).await,
                Ok(Err(NotOpen { why, refused })) => {
                    let first = hello == Hello::Initialize;
                    if refused {
                        hello = hello.other();
                        if first {
                            continue;
                        }
                    }
                    why
                }
                Err(_) => format!("it did not start within {} seconds", START_TIME.as_secs()),
            };
            failures = if begun.elapsed() >= STEADY { 1 } else { failures.saturating_add(1) };
            let pause = PAUSE.saturating_mul(1 << (failures - 1).min(16)).min(PAUSE_MAX);
            let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(server, why, pause_ms, "a tool server is away");
            let why = Some(why.into());
            self.standing.send_modify(|standing| {
                let away_since = standing.away_since();
                *standing = Standing { up: None, why, failures, away_since };
            });
            sleep(pause).await;
        }
    }

    async fn open(&self, hello: Hello) -> Result<(Up, Gone), NotOpen> {
        let (connection, gone) = Connection::open(&self.settings, hello).await?;
        let listing = Listing::read(&connection.peer, &self.settings).await?;
        Ok((Up { connection: Arc::new(connection), listing: Arc::new(listing) }, gone))
    }

    /// Until it is gone; says why.
    async fn serve(&self, mut up: Up, mut gone: Gone) -> String {
        let connection = Arc::clone(&up.connection);
        self.tell(&up);
        loop {
            tokio::select! {
                _ = &mut gone => return connection.end().await,
                () = connection.process_ended() => return connection.end().await,
                () = connection.changed.notified() => {}
                () = connection.doubted.notified() => {}
            }
            match Listing::read(&connection.peer, &self.settings).await {
                Ok(listing) if listing == *up.listing => {}
                Ok(listing) => {
                    up.listing = Arc::new(listing);
                    self.tell(&up);
                }
                Err(why) => {
                    connection.end().await;
                    return why;
                }
            }
            tokio::select! {
                _ = &mut gone => return connection.end().await,
                () = sleep(LISTS_APART) => {}
            }
        }
    }

    fn tell(&self, up: &Up) {
        let (server, about, tools) =
            (&*self.settings.name, &*up.connection.about, up.listing.tools.len());
        tracing::info!(server, about, tools, "a tool server is there");
        for note in &up.listing.notes {
            tracing::warn!("{note}");
        }
        self.standing.send_modify(|standing| {
            standing.up = Some(up.clone());
            (standing.why, standing.failures) = (None, 0);
        });
        // Whoever comes from here on sees it standing.
        for stray in self.strays(&up.listing) {
            tracing::warn!("{stray}");
        }
    }

    fn wishes(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Wish>>> {
        let mut wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        wishes.retain(|wish| wish.strong_count() > 0);
        wishes
    }

    fn strays(&self, listing: &Listing) -> Vec<String> {
        let wishes: Vec<Arc<Wish>> = self.wishes().iter().filter_map(Weak::upgrade).collect();
        strays(&self.settings.name, &wishes, listing)
    }
}

/// What agents want that is not there.
fn strays(server: &str, wishes: &[Arc<Wish>], listing: &Listing) -> Vec<String> {
    let names: Vec<&str> = listing.tools.iter().map(|known| &*known.name).collect();
    let mut told = Vec::new();
    for Wish { agent, patterns } in wishes.iter().map(|wish| &**wish) {
        let strays = patterns.iter().filter_map(|pattern| unknown(server, pattern, &names));
        told.extend(strays.map(|stray| format!("\"tools\" of agent {agent:?}: {stray}")));
    }
    // After a reload an agent may be there twice for a while.
    told.sort();
    told.dedup();
    told
}
