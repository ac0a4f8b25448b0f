//! Newtypes of every id and number; made elsewhere, because the core draws nothing itself.

use std::fmt;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use uuid::Uuid;

/// Milliseconds since the Unix epoch, as the wall clock says.
pub type Timestamp = i64;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize,
            Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The number after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

number!(
    /// Who runs a session's turn; grows with every takeover, a stale one is refused.
    Epoch(u64)
);
/// How many of an epoch's bits name the node: the number it drew when it opened the store.
const NODE_BITS: u32 = 28;

impl Epoch {
    /// The greatest number that a node may have.
    pub const NODE_MAX: Self = Self((1 << NODE_BITS) - 1);

    /// The number that no node has. What stands under it is nobody's, and what is at its door is for
    /// all who run turns.
    pub const NOBODY: Self = Self(0);

    /// Whose it is: the number of the node that took the session.
    #[must_use]
    pub const fn node(self) -> Self {
        Self(self.0 & Self::NODE_MAX.0)
    }

    /// The epoch under which `node` takes over what has this one: always a greater one, which names
    /// it. Where several nodes have one store, an earlier node's own number would not do.
    #[must_use]
    pub const fn taken_by(self, node: Self) -> Self {
        if node.0 > self.0 {
            return node;
        }
        Self((((self.0 >> NODE_BITS) + 1) << NODE_BITS) | node.0)
    }
}

number!(
    /// A session's version; every commit names the one it was built on.
    Version(u64)
);
number!(
    /// A place in a session's journal, from 1 and without gaps.
    Seq(u64)
);
number!(
    /// Grows with `/new`; results of an older generation are refused.
    Generation(u32)
);
number!(
    /// Which run of a turn this is, from 1.
    Attempt(u32)
);
number!(
    /// Names one armed deadline; a stale one is ignored, so a late timer is harmless.
    TimerId(u32)
);
number!(
    /// Names one question, to the user or to the agent, within its session.
    QuestionId(u32)
);
number!(
    /// Names who waits for the answer to an input; the shell's own number, echoed in effects.
    Token(u64)
);

/// Journal places, most often one to four of them.
pub type Seqs = SmallVec<[Seq; 4]>;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize,
            Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id!(
    /// One logical turn.
    TurnId
);
uuid_id!(
    /// The turns of one supersede chain and of its dead letters' retries.
    TurnGroupId
);

/// What everything a runner writes carries; the machine refuses it when any part is stale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RunTag {
    /// The turn it runs.
    pub turn: TurnId,
    /// Under whose ownership of the session.
    pub epoch: Epoch,
    /// Which run of the turn.
    pub attempt: Attempt,
}
