//! The rules of delivery: order within a session, five states, one key a part.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::accumulation::Deadline;
use crate::ids::{Seq, Timestamp};

/// The longest pause between two tries of one delivery.
pub const BACKOFF_MS_MAX: u64 = 3_600_000;
/// Parts that may leave at once before the rate per minute spaces them.
pub const BURST_PARTS: i64 = 5;

/// Where one part of a reply stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Waits for its turn.
    Pending,
    /// Durable before the channel is called.
    Sending,
    /// The channel took it.
    Sent,
    /// Nobody knows whether the channel took it.
    Unknown,
    /// Given up.
    Dead,
}

impl DeliveryState {
    /// The wire name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Unknown => "unknown",
            Self::Dead => "dead",
        }
    }
}

/// How a call of the channel ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The channel took it.
    Sent,
    /// The channel certainly did not take it.
    Failed {
        /// What it said.
        error: Arc<str>,
        /// Another try may help.
        retry: bool,
        /// Not before this many milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// The request went out and no answer came.
    Unknown {
        /// What happened.
        error: Arc<str>,
    },
}

/// A part for the shell to send. Its idempotency key is made of the session, `reply` and `part`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The journal place of the reply.
    pub reply: Seq,
    /// Which part of it, from 0.
    pub part: u32,
    /// Which try, from 1.
    pub attempt: u32,
    /// The text, fitted to the channel.
    pub text: Arc<str>,
}

/// One part that is not settled yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutPart {
    /// The journal place of the reply.
    pub reply: Seq,
    /// Which part of it, from 0.
    pub part: u32,
    /// [`DeliveryState::Pending`] or [`DeliveryState::Sending`].
    pub state: DeliveryState,
    /// Tries begun so far.
    pub tries: u32,
    /// Those of them that were begun before a person had it sent again: its limit and its pauses
    /// don't count them.
    #[serde(default, skip_serializing_if = "is_none_begun")]
    pub tries_before: u32,
    /// Since when it is here; 0 in what an older version left.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub since: Timestamp,
    /// Not before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Deadline>,
    /// Not in the snapshot: the part's row holds it, and the store fills it in on load.
    #[serde(skip)]
    pub text: Arc<str>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
const fn is_zero(at: &Timestamp) -> bool {
    *at == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
const fn is_none_begun(tries: &u32) -> bool {
    *tries == 0
}

impl OutPart {
    /// Tries begun since it was put here.
    #[must_use]
    pub const fn tries_here(&self) -> u32 {
        self.tries.saturating_sub(self.tries_before)
    }
}

/// The parts of one session that are not settled, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outbox {
    /// In the order in which they leave.
    pub parts: Vec<OutPart>,
    /// The rate's theoretical arrival time (GCRA): the next part is on schedule from here.
    pub on_schedule_at: Timestamp,
}

impl Outbox {
    /// Whether it holds nothing worth storing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.on_schedule_at == 0
    }

    /// Whether something is still to be delivered.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Since when the oldest part is here.
    #[must_use]
    pub fn oldest(&self) -> Option<Timestamp> {
        self.parts.iter().map(|part| part.since).min()
    }

    /// The moment the first part waits for; a later part never overtakes it.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Deadline> {
        self.parts.first().filter(|part| part.state == DeliveryState::Pending)?.until
    }

    /// See [`Deadline::clamp`].
    pub fn clamp_deadlines(&mut self, now: Timestamp) {
        for part in &mut self.parts {
            if let Some(until) = &mut part.until {
                until.clamp(now);
            }
        }
    }

    /// How long the rate makes the next part wait, taking its place if it need not.
    pub fn take_rate(&mut self, per_minute: Option<u32>, now: Timestamp) -> u64 {
        let Some(per_minute) = per_minute.filter(|rate| *rate > 0) else { return 0 };
        let interval = i64::from(60_000 / per_minute);
        // Never further ahead than a whole burst: a clock that stepped back must not silence it.
        let scheduled = self.on_schedule_at.clamp(now, now + interval * BURST_PARTS);
        let wait = scheduled - now - interval * (BURST_PARTS - 1);
        if wait > 0 {
            self.on_schedule_at = scheduled;
            return wait.unsigned_abs();
        }
        self.on_schedule_at = scheduled + interval;
        0
    }
}

/// The pause after the `tries`th failed try.
#[must_use]
pub fn backoff_ms(base_ms: u64, tries: u32) -> u64 {
    base_ms.saturating_mul(1 << tries.saturating_sub(1).min(20)).min(BACKOFF_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_lets_a_burst_through_and_then_spaces() {
        let mut outbox = Outbox::default();
        let waits: Vec<u64> = (0..7).map(|_| outbox.take_rate(Some(60), 1_000_000)).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 1000, 1000]);
        assert_eq!(outbox.take_rate(Some(60), 1_001_000), 0);
        assert_eq!(outbox.take_rate(None, 0), 0);
    }

    #[test]
    fn backoff_doubles_up_to_an_hour() {
        assert_eq!(
            [1, 2, 3, 40].map(|tries| backoff_ms(1000, tries)),
            [1000, 2000, 4000, 3_600_000]
        );
    }
}
