//! How long a run may take and be silent. Waiting for a provider slot or for the user isn't
//! counted against the turn. Times are milliseconds of a clock that never jumps.

use crate::policy::Policy;

/// Which limit a run overstepped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// The turn's whole time.
    Turn,
    /// The agent said nothing for too long.
    Silence,
}

/// The watch of one run.
#[derive(Clone, Debug)]
pub struct RunClock {
    turn_ms: u64,
    silence_ms: u64,
    /// Counted before `since`.
    used_ms: u64,
    /// When counting (re)started; none while paused.
    since: Option<u64>,
    heard_at: u64,
}

impl RunClock {
    /// Starts to count.
    #[must_use]
    pub const fn start(policy: &Policy, now: u64) -> Self {
        Self {
            turn_ms: policy.turn_ms,
            silence_ms: policy.silence_ms,
            used_ms: 0,
            since: Some(now),
            heard_at: now,
        }
    }

    /// The agent said something.
    pub const fn heard(&mut self, now: u64) {
        self.heard_at = now;
    }

    /// It waits for a slot or for the user.
    pub fn pause(&mut self, now: u64) {
        if let Some(since) = self.since.take() {
            self.used_ms += now.saturating_sub(since);
        }
    }

    /// It goes on.
    pub fn resume(&mut self, now: u64) {
        if self.since.is_none() {
            self.since = Some(now);
            self.heard_at = now;
        }
    }

    /// When to look again; none while paused.
    #[must_use]
    pub fn next_look(&self) -> Option<u64> {
        let since = self.since?;
        let turn = since + self.turn_ms.saturating_sub(self.used_ms);
        Some(turn.min(self.heard_at + self.silence_ms))
    }

    /// Which limit is overstepped, if any.
    #[must_use]
    pub fn overdue(&self, now: u64) -> Option<Overdue> {
        let since = self.since?;
        if self.used_ms + now.saturating_sub(since) >= self.turn_ms {
            Some(Overdue::Turn)
        } else if now.saturating_sub(self.heard_at) >= self.silence_ms {
            Some(Overdue::Silence)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::channel_facts;

    #[test]
    fn waiting_is_not_counted_and_silence_is() {
        let policy = Policy {
            turn_ms: 1000,
            silence_ms: 600,
            ..Policy::built_in(*channel_facts("api").unwrap())
        };
        let mut clock = RunClock::start(&policy, 0);
        assert_eq!((clock.next_look(), clock.overdue(599)), (Some(600), None));
        assert_eq!(clock.overdue(600), Some(Overdue::Silence));
        clock.heard(500);
        clock.pause(500);
        assert_eq!((clock.next_look(), clock.overdue(1_000_000)), (None, None));
        clock.resume(90_000);
        assert_eq!((clock.next_look(), clock.overdue(90_400)), (Some(90_500), None));
        clock.heard(90_450);
        assert_eq!(clock.overdue(90_500), Some(Overdue::Turn));
    }
}
