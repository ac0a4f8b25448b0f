//! The terminal client as people use it: the real binary in a real terminal (tmux), with the real
//! server behind it; and line by line.
//!
//! Nothing here depends on how fast anything is: what must still run takes forever and is then
//! stopped or killed, and a screen is looked at until it shows what it should.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod again;
mod authority;
mod files;
mod full;
mod kit;
mod lines;
mod notify;
#[path = "../store_kit/mod.rs"]
mod store_kit;
mod tls;
mod trouble;
