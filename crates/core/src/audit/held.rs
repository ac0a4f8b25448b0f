//! What the checker knows of messages that wait for an external check.

use serde::{Deserialize, Serialize};

use crate::ids::Seq;
use crate::session::Session;

use super::notices::Broken;

/// Held messages, in order.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct HeldBook(Vec<Seq>);

impl HeldBook {
    pub(super) fn hold(&mut self, seq: Seq) {
        self.0.push(seq);
    }

    /// A message is let go or refused: only ever the first one.
    pub(super) fn ruled(&mut self, message: Seq) -> Option<Broken> {
        let first = self.0.first().copied();
        self.0.retain(|held| *held != message);
        (first != Some(message)).then(|| {
            (
                "I4",
                format!("message {message} is ruled on, and the first that is held is {first:?}"),
            )
        })
    }

    /// These have their ending.
    pub(super) fn close(&mut self, messages: &[Seq]) {
        if !self.0.is_empty() {
            self.0.retain(|held| !messages.contains(held));
        }
    }

    /// Whether a turn has one of them that nobody let go.
    pub(super) fn escaped(&self, messages: &[Seq]) -> Option<Broken> {
        let escaped = self.0.iter().find(|held| messages.contains(held))?;
        Some(("I24", format!("message {escaped} is in a turn, and nobody let it go")))
    }

    /// What the stored state says otherwise.
    pub(super) fn finish(&self, session: &Session) -> Option<Broken> {
        let stored: Vec<Seq> = session.held.iter().map(|held| held.message.seq).collect();
        (stored != self.0).then(|| {
            ("I24", format!("held by the journal: {:?}, by the state: {stored:?}", self.0))
        })
    }
}
