//! What the checker knows of commands: each is answered once at most, before the next one.

use serde::{Deserialize, Serialize};

use super::notices::Broken;
use crate::ids::Seq;

/// Commands so far.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct CommandBook {
    count: u64,
    /// The last one, until it is answered. Where too much waits to be delivered it never is.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<Seq>,
}

impl CommandBook {
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn asked(&mut self, seq: Seq) -> Option<Broken> {
        self.count += 1;
        self.asked = Some(seq);
        None
    }

    pub(super) fn answered(&mut self, command: Option<Seq>) -> Option<Broken> {
        let asked = self.asked.take();
        (asked.is_none() || asked != command).then(|| {
            let what = format!("command {command:?} is answered, and the last is {asked:?}");
            ("I30", what)
        })
    }
}
