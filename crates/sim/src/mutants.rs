//! Mistakes planted on purpose, to see that the simulator finds them: those of the store and the
//! shell are made by the simulator itself, those of the rules need the `mutants` feature.

/// A mistake that the simulator makes around the types that ship.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapped {
    /// The store does not compare versions.
    VersionUnchecked,
    /// Dedupe keys are gone after a restart.
    DedupeInMemory,
    /// A commit loses its last journal entry.
    TornCommit,
    /// Messages are acknowledged before their commit.
    EffectsFirst,
}

/// A planted mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Around the types that ship.
    Wrapped(Wrapped),
}

impl Mutant {
    /// The simulator's own part in it.
    #[must_use]
    pub const fn wrapped(self) -> Option<Wrapped> {
        match self {
            Self::Wrapped(wrapped) => Some(wrapped),
        }
    }
}
