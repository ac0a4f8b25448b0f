//! Provider slots: how many requests an agent may have under way, given out in fairness.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use turnkeep_core::fair::{Class, FairQueue};
use turnkeep_core::ports::agent::SlotGuard;
use turnkeep_core::{SessionKey, SessionKind};

/// The slots of one agent.
pub(crate) struct Slots {
    state: Mutex<State>,
}

struct State {
    /// How many there are; none for no limit.
    limit: Option<usize>,
    used: usize,
    waiting: FairQueue<oneshot::Sender<Slot>>,
    /// Turns that are going to want one soon.
    coming: usize,
}

impl State {
    fn has_room(&self) -> bool {
        self.limit.is_none_or(|limit| self.used < limit)
    }
}

/// How the slots of an agent stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotCounts {
    /// None for no limit.
    pub(crate) limit: Option<usize>,
    pub(crate) used: usize,
    pub(crate) waiting: usize,
}

/// One slot; given back when dropped.
struct Slot(Option<Arc<Slots>>);

impl SlotGuard for Slot {}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(slots) = self.0.take() {
            slots.give_back();
        }
    }
}

/// A turn that is going to want a slot, for as long as this lives.
pub(crate) struct Coming(Arc<Slots>);

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.state().coming -= 1;
    }
}

impl Slots {
    pub(crate) fn new(limit: Option<usize>) -> Self {
        let waiting = FairQueue::default();
        Self { state: Mutex::new(State { limit, used: 0, waiting, coming: 0 }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are, are taken, and are waited for.
    pub(crate) fn counts(&self) -> SlotCounts {
        let state = self.state();
        SlotCounts { limit: state.limit, used: state.used, waiting: state.waiting.len() }
    }

    /// A turn is going to want one. Nothing where there is no limit.
    pub(crate) fn coming(self: &Arc<Self>) -> Option<Coming> {
        let mut state = self.state();
        state.limit?;
        state.coming += 1;
        Some(Coming(Arc::clone(self)))
    }

    /// How many more turns there would be a slot for at once; none for no limit.
    pub(crate) fn room(&self) -> Option<usize> {
        let state = self.state();
        let wanted = state.used + state.waiting.len() + state.coming;
        Some(state.limit?.saturating_sub(wanted))
    }

    /// From now on there are so many. What is taken stays taken.
    pub(crate) fn resize(self: &Arc<Self>, limit: Option<usize>) {
        self.state().limit = limit;
        self.give_out();
    }

    /// Waits in fairness. Whoever stops waiting loses nothing but its place.
    pub(crate) async fn take(self: &Arc<Self>, key: &SessionKey) -> Box<dyn SlotGuard> {
        // The sender is only dropped with the queue, which lives as long as this handle.
        match self.join(key).await {
            Ok(slot) => Box::new(slot),
            Err(_) => Box::new(Slot(None)),
        }
    }

    fn join(self: &Arc<Self>, key: &SessionKey) -> oneshot::Receiver<Slot> {
        let mut state = self.state();
        let (sender, receiver) = oneshot::channel();
        if state.has_room() {
            state.used += 1;
            let _ = sender.send(Slot(Some(Arc::clone(self))));
        } else {
            let class = if key.kind() == SessionKind::Cron { Class::Cron } else { Class::User };
            state.waiting.push(class, &key.tenant(), key.as_str(), sender, crate::clock::now());
        }
        receiver
    }

    fn give_back(self: &Arc<Self>) {
        self.state().used -= 1;
        self.give_out();
    }

    /// Gives what is free to whoever waits.
    fn give_out(self: &Arc<Self>) {
        loop {
            let next = {
                let mut state = self.state();
                let next =
                    if state.has_room() { state.waiting.pop(crate::clock::now()) } else { None };
                state.used += usize::from(next.is_some());
                next
            };
            let Some(next) = next else { return };
            if let Err(mut slot) = next.send(Slot(Some(Arc::clone(self)))) {
                // Nobody waits there any more: the slot stays here and goes to the next one.
                slot.0 = None;
                self.state().used -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(peer: &str) -> SessionKey {
        SessionKey::new("t", "a", "api", SessionKind::Dm, peer).unwrap()
    }

    #[tokio::test]
    async fn a_slot_goes_from_hand_to_hand_and_skips_who_left() {
        let slots = Arc::new(Slots::new(Some(1)));
        let first = slots.take(&key("one")).await;
        let left = slots.join(&key("two"));
        let mut waits = slots.join(&key("three"));
        assert_eq!(slots.counts().waiting, 2);
        assert!(waits.try_recv().is_err());
        drop(left);
        drop(first);
        let second = waits.await.unwrap();
        assert_eq!(slots.counts().waiting, 0);
        drop(second);
        // The slot is back: nobody waits for the next one.
        drop(slots.take(&key("four")).await);
    }

    #[tokio::test]
    async fn another_limit_counts_what_is_taken_already() {
        let slots = Arc::new(Slots::new(Some(2)));
        let (one, two) = (slots.take(&key("one")).await, slots.take(&key("two")).await);
        let three = slots.join(&key("three"));
        let mut four = slots.join(&key("four"));
        slots.resize(Some(3));
        let three = three.await.unwrap();
        assert_eq!(slots.counts(), SlotCounts { limit: Some(3), used: 3, waiting: 1 });
        slots.resize(Some(1));
        drop((one, two));
        assert!(four.try_recv().is_err());
        drop(three);
        let four = four.await.unwrap();
        let five = slots.join(&key("five"));
        slots.resize(None);
        drop((four, five.await.unwrap()));
        assert_eq!(slots.counts().waiting, 0);
    }

    #[tokio::test]
    async fn there_is_room_for_what_neither_has_a_slot_nor_wants_one() {
        let slots = Arc::new(Slots::new(Some(4)));
        let (one, two) = (slots.take(&key("one")).await, slots.coming());
        assert_eq!(slots.room(), Some(2));
        slots.resize(Some(1));
        let three = slots.join(&key("three"));
        assert_eq!(slots.room(), Some(0));
        drop((one, two, three));
        assert_eq!(slots.room(), Some(1));
        slots.resize(None);
        assert!(slots.room().is_none() && slots.coming().is_none());
    }

    #[tokio::test]
    async fn users_come_before_jobs() {
        let slots = Arc::new(Slots::new(Some(1)));
        let taken = slots.take(&key("one")).await;
        let job = SessionKey::new("t", "a", "api", SessionKind::Cron, "news").unwrap();
        let mut job = slots.join(&job);
        let user = slots.join(&key("two"));
        drop(taken);
        let user = user.await.unwrap();
        assert!(job.try_recv().is_err());
        drop(user);
        drop(job.await.unwrap());
        assert_eq!(slots.counts().waiting, 0);
    }

    #[tokio::test]
    async fn no_limit_never_waits() {
        let slots = Arc::new(Slots::new(None));
        let _one = slots.take(&key("one")).await;
        let _two = slots.take(&key("two")).await;
        assert_eq!(slots.counts().waiting, 0);
    }
}
