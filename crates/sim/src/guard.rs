//! The guard's word on messages: in some schedules it refuses a part of them, and whoever is refused
//! tries again. It draws from a source of its own, so a schedule without it is what it was before.

use turnkeep_core::ids::Token;
use turnkeep_core::message::{Decision, Rejection};

use crate::plan::Act;
use crate::rng::Rng;
use crate::store::Row;

/// Tells its source from that of everything else. With this number no seed on record has a guard,
/// so each of them still shows what it once showed.
const OWN: u64 = 107 << 32;

/// Refuses messages, or none at all.
#[derive(Debug)]
pub(crate) struct Guard {
    rng: Rng,
    /// So many of a thousand.
    odds: u64,
    /// Who was refused.
    refused: Vec<Token>,
}

impl Guard {
    pub(crate) const fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ OWN);
        let odds = if rng.permille(200) { rng.between(100, 700) } else { 0 };
        Self { rng, odds, refused: Vec::new() }
    }

    /// Why this message is not let in; none if it is.
    pub(crate) fn refuses(&mut self, token: Token) -> Option<Rejection> {
        if self.odds > 0 && self.rng.permille(self.odds) {
            self.refused.push(token);
            return Some(Rejection::RateLimited { retry_after_ms: 500 });
        }
        None
    }
}

impl Guard {
    /// It was refused, and is told that it is taken now. (A twin is told otherwise.)
    pub(crate) fn is_ignored(&self, token: Token, decision: &Decision) -> bool {
        decision.seq.is_some() && self.refused.contains(&token)
    }
}

/// A message without an id is sent once: refused, it must not be there.
pub(crate) fn was_taken_all_the_same(decision: &Decision, act: Act, row: &Row) -> bool {
    let (Some(Rejection::RateLimited { .. }), Act::Unnamed(number)) = (&decision.rejection, act)
    else {
        return false;
    };
    let made = format!("made-{number}");
    row.events.iter().any(|event| event.body.written_id().is_some_and(|id| **id == *made))
}
