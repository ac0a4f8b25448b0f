//! What is to be done once inputs were stepped, and whom to tell what.

use turnkeep_core::ids::Token;
use turnkeep_core::ports::store::FirstDecision;
use turnkeep_core::session::{Effect, Ignored};

/// What became of inputs: to be acted on in order.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Deeds, after their commit.
    pub effects: Vec<Effect>,
    /// The commit happened: its journal entries are durable.
    pub committed: bool,
    /// Whoever waits for these is told that the store is not available.
    pub unavailable: Vec<Token>,
    /// Messages that came before: what their twins were told.
    pub duplicates: Vec<(Token, FirstDecision)>,
    /// The store failed; wait a little before the next [`Driver::next`].
    pub store_failed: bool,
    /// Why the last input changed nothing, if so.
    pub ignored: Option<Ignored>,
    /// Somebody with a later epoch took the session over: this driver takes nothing any more.
    pub lost: bool,
}

impl Outcome {
    /// Whether there is nothing to be done, and nobody to be told anything.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        self.effects.is_empty()
            && self.unavailable.is_empty()
            && self.duplicates.is_empty()
            && !self.lost
    }
}
