//! What nodes that have one store open are to each other: whose a session is, and what is offered to
//! all who run turns because nobody has it.

use std::sync::Arc;

use crate::session_key::SessionKey;

/// Who has what stands under an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// This node.
    Us,
    /// Nobody who lives and runs turns: whoever does may take it.
    Nobody,
    /// A node that lives and runs turns.
    Another,
    /// Whoever came after this node, which is out of it for ever.
    Later,
}

/// Whose a lease is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leased {
    /// Nobody ever had it.
    Never,
    /// Whoever had it is gone, and nobody took it since.
    Free,
    /// A node of this name has it.
    By(Arc<str>),
}

/// Offers are counted up to here; more would only cost more.
pub const OFFERS_COUNTED: usize = 1000;

/// So few may be taken at once, whatever others could take of them.
pub const BITE_MIN: usize = 16;

/// How much a node takes of the offers at once: the less of both bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bite {
    /// So many.
    pub most: usize,
    /// One part in so many of what waits, but [`BITE_MIN`] at least.
    pub parts: usize,
}

/// What a node leaves to others, whatever is offered of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct But<'a> {
    /// Sessions of these agents.
    pub agents: &'a [String],
    /// Sessions of these channels.
    pub channels: &'a [&'static str],
}

/// Why a session is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offer {
    /// Who had it is gone, or nobody took it.
    Left,
    /// A node wrote it that runs no turns.
    New,
}

impl Offer {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Left, Self::New];
}

/// What a node took of the offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// The sessions.
    pub taken: Vec<(SessionKey, Offer)>,
    /// How many offers of all agents are left, counted up to [`OFFERS_COUNTED`].
    pub waiting: usize,
}
