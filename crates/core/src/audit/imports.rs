//! What the checker knows of a conversation that was had elsewhere: it stands at the beginning of a
//! journal, whole, and nothing of it is taken for something that was accepted here.

use serde::{Deserialize, Serialize};

use super::notices::Broken;
use crate::ids::Seq;
use crate::journal::EventBody;

/// Lines that an import announced.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ImportBook {
    /// Those that still have to come.
    left: u32,
    /// Those that came.
    lines: u64,
}

impl ImportBook {
    /// Takes every entry.
    pub(super) fn observe(&mut self, seq: Seq, body: &EventBody) -> Option<Broken> {
        let broken = |what: String| Some(("I32", what));
        match body {
            EventBody::SessionImported(imported) => {
                let left = std::mem::replace(&mut self.left, imported.lines);
                if seq != Seq(1) || left > 0 {
                    return broken(
                        "an import does not stand at the journal's beginning".to_owned(),
                    );
                }
            }
            EventBody::HistoryImported(_) => {
                self.lines += 1;
                match self.left.checked_sub(1) {
                    Some(left) => self.left = left,
                    None => return broken("an imported line belongs to no import".to_owned()),
                }
            }
            _ if self.left > 0 => {
                let left = std::mem::take(&mut self.left);
                return broken(format!("an import ends before its last {left} lines"));
            }
            _ => {}
        }
        None
    }

    /// At the journal's end.
    pub(super) fn finish(self) -> Option<Broken> {
        (self.left > 0).then(|| ("I32", format!("{} imported lines are missing", self.left)))
    }

    pub(super) const fn lines(self) -> u64 {
        self.lines
    }
}
