//! The hints as a whole: what is shared, its two keepers, and how it stands.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::AsyncConnectionConfig;
use tokio::task::JoinHandle;

use crate::counts::Counting;
use crate::health::{Health, State};
use crate::hub::Hub;
use crate::link::{Keeper, Link};
use crate::names::Names;
use crate::place::Place;
use crate::settings::{Settings, Unfit};
use crate::strange::Strange;

/// A cluster's hints. Clones are the same ones; with the last of them the connections end.
#[derive(Clone)]
pub struct RedisHints(Arc<Inner>);

/// What the parts of the crate use.
pub struct Inner {
    pub(crate) settings: Arc<Settings>,
    pub(crate) names: Names,
    pub(crate) counts: Arc<Counting>,
    pub(crate) calls: Arc<Link>,
    pub(crate) hub: Arc<Hub>,
    listening: Arc<Link>,
    strange: Strange,
    keepers: [JoinHandle<()>; 2],
}

impl std::ops::Deref for RedisHints {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for keeper in &self.keepers {
            keeper.abort();
        }
    }
}

impl RedisHints {
    /// Begins to connect, and doesn't wait for it: a Redis that is missing holds nobody up. Must
    /// be called within a runtime.
    pub fn start(settings: Settings) -> Result<Self, Unfit> {
        settings.check()?;
        let places = Place::all(&settings)?;
        let (settings, counts) = (Arc::new(settings), Arc::new(Counting::default()));
        let names = Names::new(&settings);
        let bytes_max = settings.draft_bytes_max.saturating_mul(4);
        let channels_max = settings.watched_max.saturating_add(2);
        let hub = Hub::new(Arc::clone(&counts), settings.unread_max, bytes_max, channels_max);
        let hub = Arc::new(hub);
        let keep = |link: &Arc<Link>, hub: Option<&Arc<Hub>>| {
            let keeper = Keeper {
                link: Arc::clone(link),
                settings: Arc::clone(&settings),
                places: places.clone(),
                marker: names.marker(),
                born: Mutex::new(None),
                script: Keeper::script(),
                hub: hub.map(Arc::clone),
            };
            tokio::spawn(keeper.keep())
        };
        let calls = Arc::new(Link::new("calls", Arc::clone(&counts)));
        let listening = Arc::new(Link::new("listening", Arc::clone(&counts)));
        let keepers = [keep(&calls, None), keep(&listening, Some(&hub))];
        let strange = Strange::default();
        let inner = Inner { settings, names, counts, calls, hub, listening, strange, keepers };
        Ok(Self(Arc::new(inner)))
    }

    /// Connects once and says whose the keys are, if there are any; why not otherwise. Changes
    /// nothing.
    pub async fn look(settings: Settings) -> Result<Option<String>, String> {
        settings.check().map_err(|unfit| unfit.to_string())?;
        let marker = Names::new(&settings).marker().0;
        let mut why = String::new();
        for place in Place::all(&settings).map_err(|unfit| unfit.to_string())? {
            let time = settings.connect_time;
            let mut opened = match place.open(AsyncConnectionConfig::new(), time).await {
                Ok(opened) => opened,
                Err(state) => {
                    why = state.why();
                    continue;
                }
            };
            let mut asked = redis::cmd("GET");
            let asked = asked.arg(&marker).query_async::<Option<String>>(&mut opened.con);
            match tokio::time::timeout(time, asked).await {
                Ok(Ok(whose)) => return Ok(whose),
                Ok(Err(error)) => why = error.to_string(),
                Err(_) => "it did not answer in time".clone_into(&mut why),
            }
        }
        Err(why)
    }

    /// How it stands.
    #[must_use]
    pub fn health(&self) -> Health {
        let counts = self.counts.read();
        let (calls, listening) = (self.calls.state(), self.listening.state());
        Health { calls, listening, strange: self.strange.is_told(), counts }
    }

    /// Notes that this key of ours holds what is not ours.
    pub(crate) fn met_strange(&self, key: &str) {
        self.counts.foreign.more();
        self.strange.met(key);
    }

    /// Waits, at most so long, until it is known whether Redis can be used, and says how it
    /// stands: at the start, so that a wrong password and another cluster's keys are told at once.
    pub async fn settled(&self, time: Duration) -> Health {
        let known = |state: &State| *state != State::Starting;
        let both = async {
            self.calls.until(known).await;
            self.listening.until(known).await;
        };
        // Whatever it is by then is what is told.
        let _ = tokio::time::timeout(time, both).await;
        self.health()
    }

    /// Waits until it stands in a way that is waited for. It is looked at whenever a connection
    /// changes its state, or the keys were found gone.
    pub async fn until(&self, fits: impl Fn(&Health) -> bool) -> Health {
        let (mut calls, mut listening) = (self.calls.changes(), self.listening.changes());
        loop {
            let health = self.health();
            if fits(&health) {
                return health;
            }
            // The senders live as long as we are borrowed, so waiting can't fail.
            tokio::select! {
                _ = calls.changed() => {}
                _ = listening.changed() => {}
            }
        }
    }
}
