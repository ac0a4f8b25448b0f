//! The HTTP API through a real socket, over the real gateway, the memory store and small agents.
#![expect(clippy::unwrap_used, reason = "what a test can't have ends it")]

mod access;
mod agents;
mod backup;
mod care;
mod chat;
mod commands;
mod doors;
mod errors;
mod events;
mod forgetting;
mod guard;
mod guesses;
mod idempotency;
mod keys;
mod kit;
mod letters;
mod limits;
mod listeners;
mod moderation;
mod operators;
mod overload;
mod page;
mod pairing;
mod reach;
mod schedule;
mod session_files;
mod sessions;
mod signal;
mod switchboard;
mod unasked;
mod usage;
