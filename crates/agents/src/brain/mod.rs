//! The brain protocol: an agent in another process and any language, as JSON objects both ways.
//!
//! | module | its job |
//! | --- | --- |
//! | `outgoing` | what a brain is told |
//! | `incoming` | what a brain says, read field by field |
//! | `pump` | one attempt: hands what the brain says to the turn's handle, and the answers back |
//! | `seat` | the slot that a brain works in, left to others while it waits for its user |
//!
//! Nothing here knows how the objects travel. A transport gives [`pump`] a source of objects and a
//! queue for objects, and ends the brain when the pump's future is dropped. docs/brains.md is the
//! contract for who writes a brain.
//!
//! **Who lies is told so.** Whatever breaks the contract fails the attempt, with the line and the
//! field, never with what stood there, and is not tried again: the next attempt would run the same
//! program.

mod incoming;
mod outgoing;
mod pump;
mod seat;

#[cfg(test)]
mod fuzz;

pub(crate) use pump::{Ended, Events, UNREAD, breach, pump};
pub(crate) use seat::Seat;

/// The version of the contract, which every turn names.
const VERSION: u32 = 1;
/// Lines of the conversation that a brain is given.
const HISTORY_MAX: usize = 50;
/// How long they may be together, in bytes; the newest win.
const HISTORY_BYTES_MAX: usize = 1 << 20;
/// Longest name of a request.
const ID_BYTES_MAX: usize = 100;
/// Requests that may be under way at once.
const REQUESTS_MAX: usize = 16;
/// What a brain may say as a draft in one attempt.
const SAID_BYTES_MAX: usize = 4 << 20;
/// Longest question to a user.
const ASKED_BYTES_MAX: usize = 64 << 10;
/// Entries for the record in one attempt, and their parts.
const EMITS_MAX: usize = 1000;
const EMIT_NAME_BYTES_MAX: usize = 100;
const EMIT_DETAIL_BYTES_MAX: usize = 4096;
/// Times that one attempt may tell what it used.
const USES_MAX: usize = 1000;
/// What is kept of an error that a brain gives.
const ERROR_CHARS_MAX: usize = 1000;
/// The longest pause that a brain may ask for.
const RETRY_AFTER_S_MAX: f64 = 86_400.0;
/// Longest name of a model, and of a version of the brain.
const MODEL_BYTES_MAX: usize = 100;
const VERSION_BYTES_MAX: usize = 100;
/// Objects that may wait for a brain to read them.
pub(crate) const UNREAD_MAX: usize = 64;
