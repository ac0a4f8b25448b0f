//! Who listens to which channel here, and what lies unread.
//!
//! Nothing that arrives is waited for: what can't be kept is dropped, all of it, and its listener
//! is told that it missed some. So it looks into the record, where everything is.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::counts::Counting;
use crate::trouble::Trouble;

/// What came on one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// Something may have been missed before this.
    Missed,
    /// This was published.
    Said(String),
}

/// What lies unread for one listener.
pub(crate) struct Inbox {
    unread: Mutex<Unread>,
    more: Notify,
    unread_max: usize,
    bytes_max: usize,
}

#[derive(Default)]
struct Unread {
    missed: bool,
    said: VecDeque<String>,
    bytes: usize,
}

impl Inbox {
    fn new(unread_max: usize, bytes_max: usize) -> Self {
        Self { unread: Mutex::default(), more: Notify::new(), unread_max, bytes_max }
    }

    /// Waits for the next one. Dropped before it answers, nothing is lost.
    pub(crate) async fn next(&self) -> Came {
        loop {
            if let Some(came) = self.take() {
                return came;
            }
            self.more.notified().await;
        }
    }

    fn take(&self) -> Option<Came> {
        let mut unread = lock(&self.unread);
        if std::mem::take(&mut unread.missed) {
            return Some(Came::Missed);
        }
        let said = unread.said.pop_front()?;
        unread.bytes -= said.len();
        Some(Came::Said(said))
    }

    /// Says whether everything that lay here had to be dropped.
    fn put(&self, said: &str) -> bool {
        let mut unread = lock(&self.unread);
        let full = unread.said.len() >= self.unread_max
            || unread.bytes.saturating_add(said.len()) > self.bytes_max;
        if full {
            *unread = Unread { missed: true, ..Unread::default() };
        } else {
            unread.bytes += said.len();
            unread.said.push_back(said.to_owned());
        }
        drop(unread);
        self.more.notify_one();
        full
    }

    /// What lies here stays: it was said after what was missed, or is old and does no harm.
    fn miss(&self) {
        lock(&self.unread).missed = true;
        self.more.notify_one();
    }
}

/// Everybody who listens.
pub(crate) struct Hub {
    ears: Mutex<Ears>,
    changed: Notify,
    counts: Arc<Counting>,
    unread_max: usize,
    bytes_max: usize,
    channels_max: usize,
}

#[derive(Default)]
struct Ears {
    wanted: HashMap<Arc<str>, Vec<Arc<Inbox>>>,
    /// They have not been told yet that from now on they hear everything.
    fresh: Vec<(Arc<str>, Arc<Inbox>)>,
    subscribed: HashSet<Arc<str>>,
}

/// What has to be said to Redis.
pub(crate) struct Tuning {
    pub(crate) join: Vec<String>,
    pub(crate) leave: Vec<String>,
    fresh: Vec<(Arc<str>, Arc<Inbox>)>,
}

impl Hub {
    pub(crate) fn new(
        counts: Arc<Counting>,
        unread_max: usize,
        bytes_max: usize,
        channels_max: usize,
    ) -> Self {
        let (ears, changed) = (Mutex::default(), Notify::new());
        Self { ears, changed, counts, unread_max, bytes_max, channels_max }
    }

    /// Begins to listen to these channels, with one inbox for all of them.
    pub(crate) fn join(&self, channels: &[Arc<str>]) -> Result<Arc<Inbox>, Trouble> {
        let inbox = Arc::new(Inbox::new(self.unread_max, self.bytes_max));
        let mut ears = lock(&self.ears);
        if ears.wanted.len() + channels.len() > self.channels_max {
            return Err(Trouble::TooLarge("too many channels are listened to"));
        }
        for channel in channels {
            ears.wanted.entry(Arc::clone(channel)).or_default().push(Arc::clone(&inbox));
            ears.fresh.push((Arc::clone(channel), Arc::clone(&inbox)));
        }
        drop(ears);
        self.changed.notify_one();
        Ok(inbox)
    }

    /// Ends it.
    pub(crate) fn leave(&self, channels: &[Arc<str>], inbox: &Arc<Inbox>) {
        let mut ears = lock(&self.ears);
        ears.fresh.retain(|(_, fresh)| !Arc::ptr_eq(fresh, inbox));
        for channel in channels {
            if let Some(inboxes) = ears.wanted.get_mut(channel) {
                inboxes.retain(|other| !Arc::ptr_eq(other, inbox));
                if inboxes.is_empty() {
                    ears.wanted.remove(channel);
                }
            }
        }
        drop(ears);
        self.changed.notify_one();
    }

    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// A new connection listens to nothing yet, and nobody has heard what was said meanwhile.
    pub(crate) fn disconnected(&self) {
        let mut ears = lock(&self.ears);
        ears.subscribed.clear();
        let all = ears.wanted.iter().flat_map(|(channel, inboxes)| {
            inboxes.iter().map(|inbox| (Arc::clone(channel), Arc::clone(inbox)))
        });
        ears.fresh = all.collect();
    }

    pub(crate) fn tuning(&self) -> Tuning {
        let mut ears = lock(&self.ears);
        let fresh = std::mem::take(&mut ears.fresh);
        let join = ears.wanted.keys().filter(|channel| !ears.subscribed.contains(*channel));
        let join = join.map(|channel| channel.to_string()).collect();
        let leave = ears.subscribed.iter().filter(|channel| !ears.wanted.contains_key(*channel));
        let leave = leave.map(|channel| channel.to_string()).collect();
        Tuning { join, leave, fresh }
    }

    /// It was said to Redis: from here on everything is heard.
    pub(crate) fn tuned(&self, tuning: Tuning) {
        let mut ears = lock(&self.ears);
        for channel in &tuning.leave {
            ears.subscribed.remove(channel.as_str());
        }
        ears.subscribed.extend(tuning.join.into_iter().map(Arc::from));
        drop(ears);
        // One that listens to several channels is told once.
        let mut told = HashSet::new();
        for (_, inbox) in &tuning.fresh {
            if told.insert(Arc::as_ptr(inbox)) {
                self.counts.missed.more();
                inbox.miss();
            }
        }
    }

    /// Called by the reader of the connection: never waits.
    pub(crate) fn heard(&self, channel: &str, said: &[u8]) {
        self.counts.heard.more();
        let Ok(said) = std::str::from_utf8(said) else {
            self.counts.unreadable.more();
            return;
        };
        if let Some(inboxes) = lock(&self.ears).wanted.get(channel) {
            for inbox in inboxes {
                if inbox.put(said) {
                    self.counts.missed.more();
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
