//! The HTTP API: what the outside asks of the gateway, in its words.
//!
//! The way of a request, in reading order: `server` accepts its connection and holds it to its
//! limits (`caps`, `patient`); `entry` checks where it comes from and takes the one hot path,
//! a chat message, past the router (`trace` is its span); `router` knows every other address and makes the OpenAPI
//! document of the same code. The handlers stand one file a subject; what they share is how a body
//! is read (`body`), how a query is read (`query`), how a list is paged (`list`), how a request is
//! named (`idempotency`), what an answer looks like (`shape`, `reply`, `lines`) and what a refusal looks like
//! (`problem`).
//!
//! Nothing is decided here: every handler asks the [`Gateway`](crate::Gateway) or reads its store.

mod access;
mod caps;
mod entry;
mod needs;
mod patient;
mod router;
mod server;
mod settings;
mod source;
mod trace;

mod all_events;
mod backup;
mod care;
mod chat;
mod cron;
mod dead_letters;
mod deliveries;
mod events;
mod export;
mod feed;
mod guard;
mod health;
mod keys;
mod lines;
mod listeners;
mod messages;
mod operators;
mod page;
mod pairing;
mod reload;
mod reminders;
mod session_file;
mod sessions;
mod sign_in;
mod signal;
mod steer;
mod switchboard;
mod turns;
mod unasked;
mod usage;
mod worktrees;

mod body;
mod idempotency;
mod jobs;
mod list;
mod path;
mod problem;
mod query;
mod reply;
mod shape;

#[cfg(test)]
mod fuzz;

pub use keys::{GRACE_S, key_as_json};
pub use reload::{Reload, Reloaded};
pub use router::openapi;
pub use server::{serve, serve_unix};
pub use settings::{Http, HttpSettings};
pub use sign_in::sign_in_link;
