//! What each session adds to the gauges: its inbox, its open turn, its outbox.
//!
//! A task keeps what its session adds. A session that goes to sleep with open work still counts, so
//! its task leaves that here for the one that comes next.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use turnkeep_core::SessionKey;
use turnkeep_core::ids::Timestamp;
use turnkeep_core::session::{Session, Stage, Turn};

use super::Metrics;

/// Where an open turn stands, in the words of the label.
pub(super) const STAGES: [&str; 7] = [
    "accumulating",
    "processing",
    "committed",
    "backoff",
    "quarantined",
    "waiting_for_input",
    "waiting_for_operator",
];

const fn stage_of(turn: &Turn) -> u8 {
    match turn.stage {
        Stage::Accumulating { .. } => 0,
        Stage::Processing if turn.committed => 2,
        Stage::Processing => 1,
        Stage::Backoff { .. } => 3,
        Stage::Quarantined => 4,
        Stage::Waiting { .. } => 5,
        Stage::Operator => 6,
    }
}

/// What one session adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    inbox: u32,
    parts: u32,
    /// Its place in [`STAGES`].
    stage: Option<u8>,
    /// An operator has it.
    paused: bool,
    /// Since when the oldest part waits.
    oldest: Option<Timestamp>,
}

impl Standing {
    pub(crate) fn of(session: &Session) -> Self {
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        // A part that an older version left does not say since when it waits.
        let since = |at: Timestamp| if at == 0 { session.updated_at } else { at };
        Self {
            inbox: count(session.inbox_len()),
            parts: count(session.outbox.parts.len()),
            stage: session.turn.as_ref().map(|turn| stage_of(turn)),
            paused: session.paused.is_some(),
            oldest: session.outbox.oldest().map(since),
        }
    }
}

/// What all of them add, as far as no single task knows it.
#[derive(Default)]
pub(crate) struct Standings {
    asleep: DashMap<SessionKey, Standing>,
    /// Only sessions with something in their outbox.
    oldest: Mutex<BTreeSet<(Timestamp, SessionKey)>>,
}

impl Standings {
    fn by_age(&self) -> MutexGuard<'_, BTreeSet<(Timestamp, SessionKey)>> {
        self.oldest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session stands otherwise now.
    pub(crate) fn change(
        &self,
        metrics: &Metrics,
        key: &SessionKey,
        kept: &mut Standing,
        now: Standing,
    ) {
        let before = std::mem::replace(kept, now);
        if before == now {
            return;
        }
        if before.inbox != now.inbox {
            metrics.queue_depth(key, f64::from(now.inbox) - f64::from(before.inbox));
        }
        if before.stage != now.stage {
            if let Some(stage) = before.stage {
                metrics.turns_open[usize::from(stage)].decrement(1.0);
            }
            if let Some(stage) = now.stage {
                metrics.turns_open[usize::from(stage)].increment(1.0);
            }
        }
        if before.paused != now.paused {
            metrics.sessions_paused.increment(f64::from(now.paused) - f64::from(before.paused));
        }
        if before.parts != now.parts {
            metrics.outbox_parts.increment(f64::from(now.parts) - f64::from(before.parts));
        }
        if before.oldest != now.oldest {
            let mut by_age = self.by_age();
            if let Some(at) = before.oldest {
                by_age.remove(&(at, key.clone()));
            }
            if let Some(at) = now.oldest {
                by_age.insert((at, key.clone()));
            }
        }
    }

    /// The session's task leaves; what it added stays until the next one takes it over. To be
    /// called while no other task can have begun.
    pub(crate) fn lay_down(&self, key: &SessionKey, kept: &mut Standing) {
        let standing = std::mem::take(kept);
        if standing != Standing::default() {
            self.asleep.insert(key.clone(), standing);
        }
    }

    /// What the session adds already.
    pub(crate) fn take_up(&self, key: &SessionKey) -> Standing {
        self.asleep.remove(key).map(|(_, standing)| standing).unwrap_or_default()
    }

    /// Since when the oldest part of all waits.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.by_age().first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use turnkeep_core::SessionKind;

    use super::*;

    fn key(peer: &str) -> SessionKey {
        SessionKey::new("t", "a", "sms", SessionKind::Dm, peer).unwrap()
    }

    fn waits(since: Timestamp) -> Standing {
        Standing { parts: 1, oldest: Some(since), ..Standing::default() }
    }

    #[test]
    fn the_oldest_part_of_all_is_known() {
        let (standings, metrics) = (Standings::default(), Metrics::new());
        let (mut one, mut two) = (Standing::default(), Standing::default());
        standings.change(&metrics, &key("one"), &mut one, waits(700));
        standings.change(&metrics, &key("two"), &mut two, waits(500));
        assert_eq!(standings.oldest(), Some(500));
        standings.change(&metrics, &key("two"), &mut two, waits(900));
        assert_eq!(standings.oldest(), Some(700));
        // It sleeps until the channel is tried again, and is waited for all the same.
        standings.lay_down(&key("one"), &mut one);
        assert_eq!((one, standings.oldest()), (Standing::default(), Some(700)));
        let mut next = standings.take_up(&key("one"));
        assert_eq!((next, standings.take_up(&key("one"))), (waits(700), Standing::default()));
        standings.change(&metrics, &key("one"), &mut next, Standing::default());
        standings.change(&metrics, &key("two"), &mut two, Standing::default());
        assert_eq!(standings.oldest(), None);
    }
}
