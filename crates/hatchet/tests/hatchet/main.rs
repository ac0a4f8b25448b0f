//! The client against an engine that lies, and, where the feature `engine-tests` is on, against a
//! real one.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[cfg(feature = "engine-tests")]
mod calls;
#[cfg(feature = "engine-tests")]
mod engine;
#[cfg(feature = "engine-tests")]
mod hand;
mod kit;
mod lies;
#[cfg(feature = "engine-tests")]
mod ports;
#[cfg(feature = "engine-tests")]
mod restarts;
mod stub;
#[cfg(feature = "engine-tests")]
mod turns;
