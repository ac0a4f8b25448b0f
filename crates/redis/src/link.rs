//! One connection and its keeper: connects, looks whose keys these are, beats, and opens the
//! circuit while Redis is away or slow.
//!
//! A call goes out only while the connection is known to answer; otherwise it fails at once. So a
//! Redis that is gone costs nothing, and one that is stopped costs three late calls.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, PushInfo, PushKind, RedisError, Script};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::counts::Counting;
use crate::health::State;
use crate::hub::Hub;
use crate::place::{Opened, Place, unusable};
use crate::settings::Settings;
use crate::trouble::Trouble;

/// So many late calls in a row, and nothing is asked until a beat is answered in time.
const LATE_MAX: u32 = 3;
/// So many beats without an answer, and the connection is given up.
const SILENT_MAX: u32 = 3;
/// The first pause between two attempts to connect.
const RETRY_FIRST: Duration = Duration::from_millis(50);

/// Says whose the keys are, and since when there are any: another time than the last one means
/// that they were gone in between, whoever noticed it first. It writes, so that a replica, or a
/// server that is full, is noticed.
const MARKER: &str = r"
local found = redis.pcall('GET', KEYS[1])
if type(found) == 'table' then return {'other', 'no text'} end
if found and found ~= ARGV[1] then return {'other', found} end
local born = redis.pcall('GET', KEYS[2])
if type(born) == 'table' then return {'other', 'no text'} end
if not born then
  local time = redis.call('TIME')
  born = time[1] .. '.' .. time[2] .. ' ' .. ARGV[2]
  redis.call('SET', KEYS[2], born)
end
redis.call('SET', KEYS[1], ARGV[1])
return {'ours', born}
";

/// How the connection stands, and the connection while it does.
#[derive(Clone, Default)]
pub(crate) struct Stand {
    state: State,
    con: Option<MultiplexedConnection>,
}

/// What callers and keeper share.
pub(crate) struct Link {
    stand: watch::Sender<Stand>,
    /// Somebody has doubts.
    nudge: Notify,
    late: AtomicU32,
    counts: Arc<Counting>,
    /// What it is for, in the log.
    purpose: &'static str,
}

impl Link {
    pub(crate) fn new(purpose: &'static str, counts: Arc<Counting>) -> Self {
        let stand = watch::Sender::new(Stand::default());
        Self { stand, nudge: Notify::new(), late: AtomicU32::new(0), counts, purpose }
    }

    /// Is told whenever the state changes, or the keys were found gone.
    pub(crate) fn changes(&self) -> watch::Receiver<Stand> {
        self.stand.subscribe()
    }

    pub(crate) fn state(&self) -> State {
        self.stand.borrow().state.clone()
    }

    /// Waits until the state is one that is waited for.
    pub(crate) async fn until(&self, fits: impl Fn(&State) -> bool) -> State {
        let mut stand = self.stand.subscribe();
        match stand.wait_for(|stand| fits(&stand.state)).await {
            Ok(stand) => stand.state.clone(),
            // Its sender lives as long as we are borrowed.
            Err(_) => self.state(),
        }
    }

    /// Asks, if it may be asked, and waits at most so long.
    pub(crate) async fn call<T, F>(
        &self,
        time: Duration,
        ask: impl FnOnce(MultiplexedConnection) -> F + Send,
    ) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, RedisError>> + Send,
    {
        let con = self.connection().inspect_err(|_| self.counts.skipped.more())?;
        match timeout(time, ask(con)).await {
            Ok(Ok(answer)) => {
                self.late.store(0, Ordering::Relaxed);
                self.counts.answered.more();
                Ok(answer)
            }
            Ok(Err(error)) => {
                self.counts.failed.more();
                self.nudge.notify_one();
                Err(Trouble::Failed(error.to_string()))
            }
            Err(_) => {
                self.counts.late.more();
                if self.late.fetch_add(1, Ordering::Relaxed) + 1 == LATE_MAX {
                    self.set(State::Slow);
                    self.nudge.notify_one();
                }
                Err(Trouble::Late)
            }
        }
    }

    fn connection(&self) -> Result<MultiplexedConnection, Trouble> {
        let stand = self.stand.borrow();
        match (&stand.state, &stand.con) {
            (State::Up, Some(con)) => Ok(con.clone()),
            (State::Foreign(found), _) => Err(Trouble::Foreign { found: found.clone() }),
            (state, _) => Err(Trouble::Away(state.to_string())),
        }
    }

    /// Changes the state and keeps the connection.
    fn set(&self, state: State) {
        self.stand.send_if_modified(|stand| {
            let changed = stand.state != state;
            if changed {
                self.log(&state);
            }
            stand.state = state;
            changed
        });
    }

    fn log(&self, state: &State) {
        if state.is_up() {
            tracing::info!(purpose = self.purpose, "Redis is used");
        } else if matches!(state, State::Foreign(_)) {
            // A server that starts does not go on.
            tracing::warn!(purpose = self.purpose, %state, "Redis is not used");
        } else {
            tracing::warn!(purpose = self.purpose, %state, "Redis is not used, we go on without");
        }
    }

    /// A beat was answered. Once the circuit is open, only a quick answer closes it: a Redis that
    /// always answers a little too late would otherwise cost every third call its whole time.
    fn answered(&self, quick: bool) {
        if quick || self.state().is_up() {
            self.late.store(0, Ordering::Relaxed);
            self.set(State::Up);
        }
    }

    fn connected(&self, con: MultiplexedConnection) {
        self.late.store(0, Ordering::Relaxed);
        self.counts.connected.more();
        self.log(&State::Up);
        self.stand.send_replace(Stand { state: State::Up, con: Some(con) });
    }

    fn ended(&self, state: State) {
        self.stand.send_if_modified(|stand| {
            let changed = stand.state != state;
            if changed {
                self.log(&state);
            }
            *stand = Stand { state, con: None };
            changed
        });
    }
}

/// Keeps one connection.
pub(crate) struct Keeper {
    pub(crate) link: Arc<Link>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) places: Vec<Place>,
    /// The key that holds the cluster's name, and the one beside it that says since when.
    pub(crate) marker: (String, String),
    /// What was said there last.
    pub(crate) born: Mutex<Option<String>>,
    pub(crate) script: Script,
    /// What is listened to; nothing on the connection for calls.
    pub(crate) hub: Option<Arc<Hub>>,
}

/// A connection that stands.
struct Line {
    opened: Opened,
    /// The other side has hung up.
    gone: Arc<Notify>,
}

impl Keeper {
    pub(crate) fn script() -> Script {
        Script::new(MARKER)
    }

    /// Never ends by itself.
    pub(crate) async fn keep(self) {
        let mut pause = RETRY_FIRST;
        let mut tried = 0;
        loop {
            let place = &self.places[tried % self.places.len()];
            let state = match self.connect(place).await {
                Ok(line) => {
                    (pause, tried) = (RETRY_FIRST, 0);
                    self.watch_over(line).await
                }
                Err(state) => state,
            };
            self.link.ended(state);
            tried += 1;
            if tried % self.places.len() == 0 {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(self.settings.retry_every);
            }
        }
    }

    async fn connect(&self, place: &Place) -> Result<Line, State> {
        let gone = Arc::new(Notify::new());
        let config = AsyncConnectionConfig::new()
            .set_concurrency_limit(self.settings.calls_max)
            .set_push_sender(pushed(Arc::clone(&gone), self.hub.clone()));
        let opened = place.open(config, self.settings.connect_time).await?;
        let mut line = Line { opened, gone };
        self.beat(&mut line, self.settings.connect_time).await?;
        if let Some(hub) = &self.hub {
            hub.disconnected();
            self.tune_in(&mut line, hub).await?;
        }
        self.link.connected(line.opened.con.clone());
        Ok(line)
    }

    /// Looks after it until it is lost, and says how it stands then.
    async fn watch_over(&self, mut line: Line) -> State {
        let mut silent = 0;
        loop {
            let next = self.next_beat();
            tokio::select! {
                () = line.gone.notified() => return State::Down("the connection was closed".to_owned()),
                () = self.link.nudge.notified() => {}
                () = changed(self.hub.as_deref()) => {
                    let tuned = match &self.hub {
                        Some(hub) => self.tune_in(&mut line, hub).await,
                        None => Ok(()),
                    };
                    match tuned {
                        Ok(()) => continue,
                        Err(state) => return state,
                    }
                }
                () = tokio::time::sleep(next) => {}
            }
            let asked = Instant::now();
            match self.beat(&mut line, self.settings.call_time).await {
                Ok(()) => {
                    silent = 0;
                    let quick = asked.elapsed() <= self.settings.limit_time;
                    self.link.answered(quick);
                }
                Err(State::Slow) => {
                    silent += 1;
                    if silent >= SILENT_MAX {
                        return State::Down("it did not answer for a while".to_owned());
                    }
                    self.link.set(State::Slow);
                }
                Err(state) => return state,
            }
        }
    }

    /// Sooner while it is not asked anything.
    fn next_beat(&self) -> Duration {
        let Settings { beat_every, call_time, .. } = *self.settings;
        if self.link.state().is_up() { beat_every } else { beat_every.min(call_time) }
    }

    /// Asks whose the keys are. `Slow` if there is no answer in time.
    async fn beat(&self, line: &mut Line, time: Duration) -> Result<(), State> {
        let cluster = &self.settings.cluster;
        let mut asked = self.script.prepare_invoke();
        asked.key(&self.marker.0).key(&self.marker.1).arg(cluster).arg(&self.settings.node);
        let answer =
            timeout(time, asked.invoke_async::<(String, String)>(&mut line.opened.con)).await;
        let (whose, found) = answer.map_err(|_| State::Slow)?.map_err(|error| unusable(&error))?;
        if whose != "ours" {
            return Err(State::Foreign(found));
        }
        let mut born = self.born.lock().unwrap_or_else(PoisonError::into_inner);
        let known = born.replace(found.clone());
        if self.hub.is_none() && known.is_some_and(|known| known != found) {
            self.link.counts.flushed.more();
            // Whoever waits for a change looks again and sees the count.
            self.link.stand.send_modify(|_| ());
        }
        Ok(())
    }

    /// Listens to what is wanted, and no longer to what is not.
    async fn tune_in(&self, line: &mut Line, hub: &Hub) -> Result<(), State> {
        let tuning = hub.tuning();
        // After a break these are all channels at once.
        let time = self.settings.connect_time;
        if !tuning.leave.is_empty() {
            let left = timeout(time, line.opened.con.unsubscribe(&tuning.leave)).await;
            left.map_err(|_| State::Slow)?.map_err(|error| unusable(&error))?;
        }
        if !tuning.join.is_empty() {
            let joined = timeout(time, line.opened.con.subscribe(&tuning.join)).await;
            joined.map_err(|_| State::Slow)?.map_err(|error| unusable(&error))?;
        }
        hub.tuned(tuning);
        Ok(())
    }
}

async fn changed(hub: Option<&Hub>) {
    match hub {
        Some(hub) => hub.changed().await,
        None => std::future::pending().await,
    }
}

/// What the connection's reader calls; it must not wait.
fn pushed(
    gone: Arc<Notify>,
    hub: Option<Arc<Hub>>,
) -> impl Fn(PushInfo) -> Result<(), redis::aio::SendError> + Send + Sync + 'static {
    move |info| {
        if info.kind == PushKind::Disconnection {
            gone.notify_one();
        } else if let (Some(hub), Some(message)) = (&hub, redis::Msg::from_push_info(info)) {
            hub.heard(message.get_channel_name(), message.get_payload_bytes());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Link;
    use crate::health::State;

    #[test]
    fn an_open_circuit_is_closed_by_a_quick_answer_only() {
        let link = Link::new("calls", Arc::default());
        let after = |state: State, quick| {
            link.set(state);
            link.answered(quick);
            link.state()
        };
        assert_eq!(after(State::Slow, false), State::Slow);
        assert_eq!(after(State::Slow, true), State::Up);
        assert_eq!(after(State::Up, false), State::Up);
        assert_eq!(after(State::Up, true), State::Up);
    }
}
