//! Which sessions have a task. A projection: nothing is decided by it.
//!
//! Mail is sent, and a task leaves, under the same lock: so a task that leaves has an empty
//! channel, and a sender never holds the channel of one that left.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use turnkeep_core::{Policy, SessionKey};

use crate::mail::Mail;
use crate::service::Gateway;
use crate::task::SessionTask;

/// The tasks by their sessions.
#[derive(Default)]
pub(crate) struct Registry {
    tasks: DashMap<SessionKey, UnboundedSender<Mail>>,
    alive: AtomicUsize,
    left: Notify,
}

impl Registry {
    /// Hands mail to the session's task, which is started if there is none. A process that is
    /// ending starts none, because a new task would take up what was just laid down: the mail is
    /// dropped, and whoever waits for its answer learns so.
    pub(crate) fn send(
        &self,
        gateway: &Gateway,
        key: &SessionKey,
        policy: Arc<Policy>,
        mail: Mail,
    ) {
        let mail = match self.tasks.get(key) {
            // A task that died of a panic has closed its channel; it is replaced below.
            Some(task) => match task.send(mail) {
                Ok(()) => return,
                Err(returned) => returned.0,
            },
            None => mail,
        };
        if gateway.is_draining() {
            return;
        }
        match self.tasks.entry(key.clone()) {
            Entry::Occupied(mut task) => {
                if let Err(returned) = task.get().send(mail) {
                    task.insert(self.start(gateway, key, policy, returned.0));
                }
            }
            Entry::Vacant(vacant) => {
                vacant.insert(self.start(gateway, key, policy, mail));
            }
        }
    }

    fn start(
        &self,
        gateway: &Gateway,
        key: &SessionKey,
        policy: Arc<Policy>,
        first: Mail,
    ) -> UnboundedSender<Mail> {
        // Unbounded, but what enters is bounded elsewhere: connections, runs and deliveries each
        // have one thing under way, and a message waits for its answer before the next one.
        let (sender, receiver) = unbounded_channel();
        let _ = sender.send(first);
        self.alive.fetch_add(1, Ordering::AcqRel);
        SessionTask::spawn(gateway.clone(), key.clone(), policy, sender.clone(), receiver);
        sender
    }

    /// Lets a task leave if nothing came in meanwhile.
    pub(crate) fn leave(&self, key: &SessionKey, mail: &UnboundedReceiver<Mail>) -> bool {
        self.tasks.remove_if(key, |_, _| mail.is_empty()).is_some()
    }

    /// Forgets a task that is gone, unless another one took its place.
    pub(crate) fn ended(&self, key: &SessionKey) {
        self.tasks.remove_if(key, |_, sender| sender.is_closed());
        self.alive.fetch_sub(1, Ordering::AcqRel);
        self.left.notify_waiters();
    }

    /// Whether somebody looks after the session.
    pub(crate) fn has(&self, key: &SessionKey) -> bool {
        self.tasks.contains_key(key)
    }

    /// Which sessions have a task.
    pub(crate) fn keys(&self) -> Vec<SessionKey> {
        self.tasks.iter().map(|task| task.key().clone()).collect()
    }

    /// How many sessions have a task.
    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Tells every task the same.
    pub(crate) fn broadcast(&self, mail: impl Fn() -> Mail) {
        for task in &self.tasks {
            let _ = task.send(mail());
        }
    }

    /// Resolves when no task is left.
    pub(crate) async fn empty(&self) {
        loop {
            let left = self.left.notified();
            if self.alive.load(Ordering::Acquire) == 0 {
                return;
            }
            left.await;
        }
    }
}
