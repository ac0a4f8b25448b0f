//! One entry of a session's journal.

use serde::{Deserialize, Serialize};

use super::EventBody;
use crate::care::fleeting::look_at;
use crate::ids::{Seq, Timestamp};

/// One numbered entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its place, from 1 and without gaps.
    pub seq: Seq,
    /// When it happened, by the wall clock.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

impl Event {
    /// After how many seconds it shall be nowhere any more, and when to look whether it is.
    #[must_use]
    pub fn disappears(&self) -> Option<(u32, Timestamp)> {
        let seconds = self.body.disappears_s()?;
        let end = self.at.saturating_add(i64::from(seconds) * 1000);
        Some((seconds, look_at(end, seconds)))
    }
}
