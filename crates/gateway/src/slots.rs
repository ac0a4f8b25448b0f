//! Provider slots: how many requests an agent may have under way, given out in fairness.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use turnkeep_core::fair::{Class, FairQueue};
use turnkeep_core::ports::agent::SlotGuard;
use turnkeep_core::{SessionKey, SessionKind};

/// The slots of one agent.
pub(crate) struct Slots {
    state: Option<Mutex<State>>,
}

struct State {
    free: usize,
    waiting: FairQueue<oneshot::Sender<Slot>>,
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

impl Slots {
    pub(crate) fn new(limit: Option<usize>) -> Self {
        let state = limit.map(|free| Mutex::new(State { free, waiting: FairQueue::default() }));
        Self { state }
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        let Some(state) = &self.state else { return 0 };
        state.lock().unwrap_or_else(PoisonError::into_inner).waiting.len()
    }

    /// Waits in fairness. Whoever stops waiting loses nothing but its place.
    pub(crate) async fn take(self: &Arc<Self>, key: &SessionKey) -> Box<dyn SlotGuard> {
        let Some(receiver) = self.join(key) else { return Box::new(Slot(None)) };
        // The sender is only dropped with the queue, which lives as long as this handle.
        match receiver.await {
            Ok(slot) => Box::new(slot),
            Err(_) => Box::new(Slot(None)),
        }
    }

    fn join(self: &Arc<Self>, key: &SessionKey) -> Option<oneshot::Receiver<Slot>> {
        let mut state = self.state.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let (sender, receiver) = oneshot::channel();
        if state.free > 0 {
            state.free -= 1;
            let _ = sender.send(Slot(Some(Arc::clone(self))));
        } else {
            let class = if key.kind() == SessionKind::Cron { Class::Cron } else { Class::User };
            state.waiting.push(class, &key.tenant(), key.as_str(), sender, crate::clock::now());
        }
        Some(receiver)
    }

    fn give_back(self: &Arc<Self>) {
        let Some(state) = &self.state else { return };
        loop {
            let next = {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                let next = state.waiting.pop(crate::clock::now());
                if next.is_none() {
                    state.free += 1;
                }
                next
            };
            let Some(next) = next else { return };
            match next.send(Slot(Some(Arc::clone(self)))) {
                Ok(()) => return,
                // Nobody waits there any more: the slot stays here and goes to the next one.
                Err(mut slot) => slot.0 = None,
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
        let left = slots.join(&key("two")).unwrap();
        let mut waits = slots.join(&key("three")).unwrap();
        assert_eq!(slots.waiting(), 2);
        assert!(waits.try_recv().is_err());
        drop(left);
        drop(first);
        let second = waits.await.unwrap();
        assert_eq!(slots.waiting(), 0);
        drop(second);
        // The slot is back: nobody waits for the next one.
        drop(slots.take(&key("four")).await);
    }

    #[tokio::test]
    async fn no_limit_never_waits() {
        let slots = Arc::new(Slots::new(None));
        let _one = slots.take(&key("one")).await;
        let _two = slots.take(&key("two")).await;
        assert_eq!(slots.waiting(), 0);
    }
}
