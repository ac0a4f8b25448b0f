//! How providers of models are reached over HTTP, whatever they speak: one POST, answered by events.
//!
//! | module | its job |
//! | --- | --- |
//! | [`key`](KeySource) | where a provider's key comes from, and that it never shows |
//! | `server` | one request, and what a refusal says |
//! | `events` | the answer's events, within limits |
//! | `words` | errors as one line of bounded length |
//!
//! Everything a server sends is bounded before it is kept: an event, an error's text. Nothing is
//! spawned: dropping the [`Events`] closes the connection, which is how a provider learns that nobody
//! listens any more.

mod events;
mod key;
mod server;
mod words;

pub(crate) use events::{Events, Heard};
pub use key::{KeySource, ProviderSetupError};
pub(crate) use server::{Reach, Refusal, Server};
pub(crate) use words::{causes, short};
