//! The hints against a real Redis, which every test starts for itself.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod active;
mod health;
mod kit;
mod limits;
mod news;
mod port;
#[path = "../../../turnkeep/tests/port_kit/mod.rs"]
mod port_kit;
mod server;
mod text;
mod tls;
