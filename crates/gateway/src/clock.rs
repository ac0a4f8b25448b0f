//! The shell's clocks and ids: the core gets them as inputs.

use std::time::{SystemTime, UNIX_EPOCH};

use turnkeep_core::ids::{Timestamp, TurnId};
use uuid::Uuid;

/// The wall clock, in milliseconds since the Unix epoch.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A time-ordered id, so that stores append rather than scatter.
#[must_use]
pub fn fresh_uuid() -> Uuid {
    Uuid::now_v7()
}

/// An id for the turn that a step may begin.
#[must_use]
pub fn fresh_turn() -> TurnId {
    TurnId(fresh_uuid())
}
