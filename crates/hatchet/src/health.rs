//! How the engine is doing: whether it answers, and whether it dispatches.
//!
//! These are two things. An engine that was restarted answers and takes triggers for half a minute
//! before anything of it is dispatched; one whose queue is stuck does so for good. So what was
//! triggered is remembered until somebody was given it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::trouble::HatchetError;

/// How many triggered runs are remembered. The oldest are what tells something, so more are left out.
const AWAITED_MAX: usize = 10_000;

/// Whether the engine answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Nobody asked yet.
    Untried,
    /// It answered last time.
    Working,
    /// It did not.
    Failing {
        /// For how long.
        lasts: Duration,
        /// The last trouble met.
        why: HatchetError,
    },
}

/// Whether the engine gives out what was triggered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatching {
    /// Nothing is awaited: nobody knows.
    Idle,
    /// Something is awaited, not for too long, or other things came meanwhile.
    Working,
    /// Something is awaited for so long, and nothing came.
    Overdue(Duration),
}

/// What is known at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthReport {
    /// Whether it answers.
    pub link: Link,
    /// How long ago it last answered.
    pub answered: Option<Duration>,
    /// How long ago something was last dispatched that was awaited, or that came to a worker here.
    pub dispatched: Option<Duration>,
    /// How many runs are awaited.
    pub awaited: usize,
    /// Since when the oldest of them is.
    pub awaited_for: Option<Duration>,
    /// How long the last awaited run that was dispatched had waited.
    pub last_wait: Option<Duration>,
    /// How many triggered runs were not remembered, for there were too many.
    pub unwatched: u64,
}

impl HealthReport {
    /// Whether the engine dispatches, if nothing awaited should take longer than this.
    #[must_use]
    pub fn dispatching(&self, limit: Duration) -> Dispatching {
        let Some(waits) = self.awaited_for else { return Dispatching::Idle };
        let silent = self.dispatched.map_or(waits, |ago| ago.min(waits));
        if silent >= limit { Dispatching::Overdue(silent) } else { Dispatching::Working }
    }
}

#[derive(Default)]
struct State {
    failing: Option<(Instant, HatchetError)>,
    answered: Option<Instant>,
    dispatched: Option<Instant>,
    awaited: BTreeMap<(Uuid, u64), Instant>,
    last_wait: Option<Duration>,
    unwatched: u64,
}

/// Everybody tells it what they meet. It belongs to a client and to its workers.
#[derive(Default)]
pub struct Health {
    state: Mutex<State>,
}

impl Health {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What came of a call.
    pub(crate) fn met(&self, trouble: Option<&HatchetError>) {
        let now = Instant::now();
        let mut state = self.state();
        match trouble {
            Some(error) if !error.is_answer() => {
                let since = state.failing.take().map_or(now, |(since, _)| since);
                if since == now {
                    tracing::warn!(class = error.class(), %error, "Hatchet does not answer");
                }
                state.failing = Some((since, error.clone()));
            }
            _ => {
                if state.failing.take().is_some() {
                    tracing::info!("Hatchet answers again");
                }
                state.answered = Some(now);
            }
        }
    }

    /// A run was triggered: somebody should be given it.
    pub fn awaits(&self, turn: Uuid, epoch: u64) {
        let mut state = self.state();
        if state.awaited.len() < AWAITED_MAX {
            state.awaited.entry((turn, epoch)).or_insert_with(Instant::now);
        } else {
            state.unwatched += 1;
        }
    }

    /// Somebody was given a run: a worker here, or another one as the record tells. One that nobody
    /// here awaits tells as much, for a worker.
    pub fn dispatched(&self, turn: Uuid, epoch: u64) {
        let now = Instant::now();
        let mut state = self.state();
        state.dispatched = Some(now);
        if let Some(since) = state.awaited.remove(&(turn, epoch)) {
            state.last_wait = Some(now.duration_since(since));
        }
    }

    /// A run is not awaited any more, for another reason than that somebody was given it.
    pub fn forget(&self, turn: Uuid, epoch: u64) {
        self.state().awaited.remove(&(turn, epoch));
    }

    /// What is known now.
    #[must_use]
    pub fn report(&self) -> HealthReport {
        let now = Instant::now();
        let ago = |then: Instant| now.saturating_duration_since(then);
        let state = self.state();
        let link = match (&state.failing, state.answered) {
            (Some((since, why)), _) => Link::Failing { lasts: ago(*since), why: why.clone() },
            (None, Some(_)) => Link::Working,
            (None, None) => Link::Untried,
        };
        HealthReport {
            link,
            answered: state.answered.map(ago),
            dispatched: state.dispatched.map(ago),
            awaited: state.awaited.len(),
            awaited_for: state.awaited.values().min().copied().map(ago),
            last_wait: state.last_wait,
            unwatched: state.unwatched,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: Uuid = Uuid::from_u128(1);

    #[test]
    fn an_engine_that_answers_may_not_dispatch() {
        let health = Health::default();
        assert_eq!(health.report().link, Link::Untried);
        health.met(Some(&HatchetError::Unreachable("gone".into())));
        assert!(matches!(health.report().link, Link::Failing { .. }));
        health.met(Some(&HatchetError::RateLimited("slow down".into())));
        assert_eq!(health.report().link, Link::Working);
        assert_eq!(health.report().dispatching(Duration::ZERO), Dispatching::Idle);
        health.awaits(TURN, 1);
        health.awaits(TURN, 2);
        let report = health.report();
        assert_eq!((report.awaited, report.dispatched), (2, None));
        assert!(matches!(report.dispatching(Duration::ZERO), Dispatching::Overdue(_)));
        assert_eq!(report.dispatching(Duration::from_secs(60)), Dispatching::Working);
        health.dispatched(TURN, 1);
        health.forget(TURN, 2);
        let report = health.report();
        assert_eq!((report.awaited, report.awaited_for), (0, None));
        assert!(report.dispatched.is_some() && report.last_wait.is_some());
    }

    #[test]
    fn what_nobody_is_given_does_not_grow_for_ever() {
        let health = Health::default();
        for epoch in 0..AWAITED_MAX as u64 + 5 {
            health.awaits(TURN, epoch);
        }
        let report = health.report();
        assert_eq!((report.awaited, report.unwatched), (AWAITED_MAX, 5));
    }
}
