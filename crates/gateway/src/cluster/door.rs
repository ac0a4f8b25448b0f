//! What is offered to all who run turns, because nobody has it: each node takes what it can begin, a
//! little at a time, so that not all of it goes to whoever looks first.
//!
//! A little is as many turns as there is a free slot for, half of a node's part of what waits, and so
//! many sessions that are on their way here at once: where there is no limit of slots, whoever takes
//! them up faster has more of them. What no slot is free for anywhere is shared out, more slowly, so
//! that it waits where slots are given out in fairness.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use metrics::{Gauge, gauge};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use turnkeep_core::SessionKey;
use turnkeep_core::ports::store::{Bite, But, Offer, Offered, StoreError};

use super::{LOOK, PAGE, Rounds, Why};
use crate::mail::Mail;
use crate::service::Gateway;
use crate::slots::Coming;

/// Sessions that may be on their way here at once, but for those that are shared out.
const UNDER_WAY_MAX: usize = 256;
/// What was left is offered in steps of so many.
const OFFERED_AT_ONCE: usize = 10_000;

/// What this node knows of the offers.
pub(crate) struct Door {
    /// Sessions that were taken, and are not written under this node's epoch yet.
    under_way: AtomicUsize,
    /// More is offered, and there is room for it here.
    more: AtomicBool,
    /// There is a reason to look now.
    hinted: Notify,
    /// What waited when it was looked at last.
    waiting: Gauge,
}

impl Door {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            under_way: AtomicUsize::new(0),
            more: AtomicBool::new(false),
            hinted: Notify::new(),
            waiting: gauge!("turnkeep_cluster_waiting"),
        })
    }

    pub(super) fn hint(&self) {
        self.hinted.notify_one();
    }

    /// How many more may be on their way here.
    fn free(&self) -> usize {
        UNDER_WAY_MAX.saturating_sub(self.under_way.load(Ordering::Acquire))
    }
}

/// A session that is on its way here, for as long as it lives.
pub(crate) struct Taken {
    door: Arc<Door>,
    /// Its turn, as far as an agent has slots to count.
    pub(crate) coming: Option<Coming>,
}

impl Taken {
    fn new(door: &Arc<Door>, coming: Option<Coming>) -> Self {
        door.under_way.fetch_add(1, Ordering::AcqRel);
        Self { door: Arc::clone(door), coming }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let left = self.door.under_way.fetch_sub(1, Ordering::AcqRel) - 1;
        // Not for each of them, or every look would take one.
        if left <= UNDER_WAY_MAX / 2 && self.door.more.load(Ordering::Acquire) {
            self.door.hint();
        }
    }
}

/// How much this node takes at a look.
#[derive(Debug, PartialEq, Eq)]
struct Room {
    /// For so many turns every agent has a slot, but those that have none at all.
    turns: usize,
    /// Agents that have none.
    full: Vec<String>,
}

/// What a node takes at a beat of what no slot is free for: each of those that run turns takes half of
/// its part, so the first one gets little more than the last.
const fn share(waiting: usize, runners: usize) -> usize {
    waiting.div_ceil(2 * runners)
}

impl Gateway {
    /// Takes what is offered, until `shutdown`.
    pub(crate) async fn attend_door(&self, shutdown: &CancellationToken) {
        if !(self.store().is_shared() && self.runs_turns()) {
            return;
        }
        let mut beat = tokio::time::interval(LOOK);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rounds = Rounds::default();
        let mut failing = false;
        loop {
            let on_beat = tokio::select! {
                () = shutdown.cancelled() => return,
                _ = beat.tick() => true,
                () = self.0.cluster.door.hinted.notified() => false,
            };
            if self.readiness().is_err() {
                continue;
            }
            let looked = self.look_at_door(on_beat, &mut rounds).await;
            if let Err(error) = &looked {
                // What was taken with the answer that is lost is offered again.
                rounds = Rounds::default();
                if !failing {
                    tracing::warn!(%error, "what is offered to all can't be taken");
                }
            }
            failing = looked.is_err();
        }
    }

    async fn look_at_door(&self, on_beat: bool, rounds: &mut Rounds) -> Result<(), StoreError> {
        let nodes = self.store().marks().get("nodes").copied();
        if rounds.is_due(nodes) {
            while self.store().offer_left(OFFERED_AT_ONCE).await? == OFFERED_AT_ONCE {}
            rounds.is_over(nodes);
        }
        let door = &self.0.cluster.door;
        let mut of: &[Offer] = &Offer::ALL;
        if self.leaves_to_engine() {
            self.note_for_engine().await?;
            of = &[Offer::Left];
        }
        let Room { turns, full } = self.room();
        let elsewhere = self.channels_elsewhere();
        let [others, _] = self.store().neighbours();
        let parts = if others == 0 { 1 } else { 2 * (others + 1) };
        let free = door.free();
        let bite = Bite { most: turns.min(free), parts };
        let mut offered =
            self.take_offered(of, bite, But { agents: &full, channels: &elsewhere }).await?;
        // Set before any of them can be here.
        let took = offered.taken.len();
        let more = offered.waiting > 0 && turns > took && (took > 0 || free == 0);
        door.more.store(more, Ordering::Release);
        self.take_up(std::mem::take(&mut offered.taken));
        if more && door.free() >= UNDER_WAY_MAX / 2 {
            // They were here before it could be seen that there are more.
            door.hint();
        }
        let share = share(offered.waiting, others + 1);
        if on_beat && !more && share > 0 {
            let bite = Bite { most: share, parts: 1 };
            let but = But { agents: &[], channels: &elsewhere };
            let shared = self.take_offered(of, bite, but).await?;
            offered.waiting = shared.waiting;
            self.take_up(shared.taken);
        }
        door.waiting.set(f64::from(u32::try_from(offered.waiting).unwrap_or(u32::MAX)));
        Ok(())
    }

    async fn take_offered(
        &self,
        of: &[Offer],
        bite: Bite,
        but: But<'_>,
    ) -> Result<Offered, StoreError> {
        let offered = self.store().take_offered(of, bite, but).await?;
        for (_, offer) in &offered.taken {
            self.0.cluster.metrics.looked(match offer {
                Offer::Left => Why::Left,
                Offer::New => Why::Knock,
            });
        }
        Ok(offered)
    }

    /// What the engine gives to somebody is only watched here, whoever it is.
    async fn note_for_engine(&self) -> Result<(), StoreError> {
        let (elsewhere, bite) = (self.channels_elsewhere(), Bite { most: PAGE, parts: 1 });
        loop {
            let but = But { agents: &[], channels: &elsewhere };
            let taken = self.take_offered(&[Offer::New], bite, but).await?.taken;
            for (key, _) in &taken {
                self.answer_knock(key);
            }
            if taken.len() < PAGE {
                return Ok(());
            }
        }
    }

    fn take_up(&self, taken: Vec<(SessionKey, Offer)>) {
        for (key, _) in taken {
            let way = Taken::new(&self.0.cluster.door, self.coming(&key));
            match self.policy_of_stored(&key) {
                Some(policy) => self.send(&key, policy, Mail::Take(way)),
                None => super::warn_without_channel(&key),
            }
        }
    }

    fn room(&self) -> Room {
        let (mut turns, mut full) = (usize::MAX, Vec::new());
        for (name, configured) in &self.setup().agents {
            match configured.slots.room() {
                Some(0) => full.push(name.clone()),
                Some(room) => turns = turns.min(room),
                None => {}
            }
        }
        Room { turns, full }
    }

    /// A turn of this session is going to want a slot of its agent. Counted only where others could
    /// take what there is no slot for here.
    pub(crate) fn coming(&self, key: &SessionKey) -> Option<Coming> {
        if !(self.store().is_shared() && self.runs_turns()) {
            return None;
        }
        self.setup().agents.get(&key.agent())?.slots.coming()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_first_gets_little_more_than_its_part() {
        for runners in [1, 2, 3, 8] {
            let (mut waiting, mut got) = (900, vec![0; runners]);
            for beat in 0..100 {
                let share = share(waiting, runners);
                got[beat % runners] += share;
                waiting -= share;
            }
            assert_eq!(waiting, 0, "nothing stays");
            let even = 900 / runners;
            assert!(got.iter().all(|got| *got <= even * 3 / 2), "{got:?}");
        }
    }
}
