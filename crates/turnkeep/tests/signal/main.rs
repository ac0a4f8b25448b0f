//! Signal as a household runs it: the real binary behind a stand-in for signal-cli that speaks its
//! protocol, and the real signal-cli as far as it goes without Signal's servers.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(dead_code, reason = "the kit is shared with tests that need more of it")]

#[path = "../crash_kit/mod.rs"]
mod crash_kit;
mod disappear;
mod doctor;
mod household;
mod kills;
mod kit;
mod link;
mod operate;
mod people;
#[path = "../port_kit/mod.rs"]
mod port_kit;
mod real;
#[path = "../store_kit/mod.rs"]
mod store_kit;
#[path = "../store_kit/tables.rs"]
mod tables;
