//! The Signal channel against a stand-in for signal-cli: the same arguments, the same JSON-RPC, over
//! all its transports.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod admin;
mod attachments;
mod daemons;
mod intake;
mod letters;
mod lossless;
#[path = "../../../turnkeep/tests/port_kit/mod.rs"]
mod port_kit;
mod sending;
mod shared;
mod stand;
mod trouble;
