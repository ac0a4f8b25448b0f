//! The HTTP API: what the outside asks of the gateway, in its words.
//!
//! The way of a request, in reading order: `server` accepts its connection and holds it to its
//! limits (`caps`, `patient`); `entry` checks where it comes from and takes the one hot path,
//! a chat message, past the router; `router` knows every other address and makes the OpenAPI
//! document of the same code. The handlers stand one file a subject; what they share is how a body
//! is read (`body`), how a query is read (`query`), what an answer looks like (`shape`,
//! `reply`) and what a refusal looks like (`problem`).
//!
//! Nothing is decided here: every handler asks the [`Gateway`](crate::Gateway) or reads its store.

mod caps;
mod entry;
mod patient;
mod router;
mod server;
mod settings;

mod chat;
mod dead_letters;
mod deliveries;
mod events;
mod feed;
mod health;
mod messages;
mod page;
mod sessions;
mod steer;
mod turns;

mod body;
mod path;
mod problem;
mod query;
mod reply;
mod shape;

pub use router::openapi;
pub use server::{serve, serve_unix};
pub use settings::{Http, HttpSettings};
