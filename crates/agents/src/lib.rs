//! The agents that answer, one module an agent protocol.
//!
//! An agent gets one turn and its handle, and gives back a reply or a failure. What a failure
//! leads to, when a turn is tried again and who is told is decided elsewhere; agents never touch
//! a store or a channel.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`echo`] | built in: repeats what it was told, for demos, tests and measurements |

pub mod echo;

pub use echo::EchoAgent;

use turnkeep_core::ports::agent::Revoked;
use turnkeep_core::session::input::RunFailure;

/// Another run has the turn by now, so nobody acts on this failure; if somebody did, trying again
/// would be the harmless thing.
fn revoked(revoked: Revoked) -> RunFailure {
    RunFailure { error: revoked.to_string().into(), retry: true, retry_after_ms: None }
}
