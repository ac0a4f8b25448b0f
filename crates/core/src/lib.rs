//! The rules of Turnkeep, pure: no IO, no clock, no randomness, no await.
//!
//! # Words
//! | word | meaning |
//! | --- | --- |
//! | session | one conversation, named by its [`SessionKey`]; the unit of mutual exclusion |
//! | message | one inbound event, with the channel's own id (the dedupe key) |
//! | turn | the messages answered as one, with a state and a result |
//! | turn group | the turns of one supersede chain; tools build idempotency keys on it |
//! | decision | what the gateway did with a message |
//! | mailbox | messages that joined the running turn and that its agent has not taken yet |
//! | queue | messages that wait for a later turn |
//! | held | accepted messages that wait for an external check |
//! | outbox | replies on their way to a channel |
//! | epoch | grows each time somebody takes a session over; a stale one is refused |
//! | commit point | the moment after a turn's first irreversible act |
//! | call | one use of a tool, named by the journal place of its intent |
//! | act | what a call that is not pure does; the same act is one within a turn group |
//! | journal | the append-only, per-session numbered history |
//!
//! # Who owns what
//! The core owns every decision: [`step`] takes a session's state and one
//! input and returns the next state, the rows to commit and the effects to run
//! *after* the commit. The shell owns every deed: it loads, steps, commits, and only
//! then runs the effects; if a commit fails it forgets the stepped state and reloads.

pub mod access;
pub mod accumulation;
pub mod artifact;
pub mod audit;
pub mod budget;
pub mod care;
pub mod draft;
pub mod fair;
pub mod fit;
#[cfg(test)]
mod fuzz;
pub mod guard;
mod hex;
pub mod ids;
pub mod import;
pub mod journal;
pub mod listen;
pub mod message;
pub mod moderation;
pub mod network;
pub mod outbox;
#[doc(hidden)]
pub mod planted;
pub mod policy;
pub mod ports;
pub mod run_clock;
pub mod schedule;
pub mod session;
pub mod session_key;
pub mod switchboard;
pub mod tool;
pub mod trace;
pub mod usage;

pub use ids::{
    Attempt, Epoch, Generation, QuestionId, RunTag, Seq, Seqs, TimerId, Timestamp, Token,
    TurnGroupId, TurnId, Version,
};
pub use journal::{Event, EventBody};
pub use message::{Action, Decision, Inbound, Pending, Rejection};
pub use policy::{BusyPolicy, ChannelFacts, Policy, Trust};
pub use session::{Context, Effect, Input, Session, Step, step};
pub use session_key::{SessionKey, SessionKind};
