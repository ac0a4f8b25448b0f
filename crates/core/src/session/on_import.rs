//! A conversation that was had elsewhere becomes the beginning of one here. Nothing of it is run,
//! answered or sent again: it is history from its first entry on.

use super::{Controlled, Ignored, Machine};
use crate::ids::Seq;
use crate::import::Import;
use crate::journal::EventBody;

impl Machine<'_> {
    /// Only where nothing was ever said: what is imported would else stand behind what came later.
    pub(super) fn on_import(&mut self, import: &Import) -> Controlled {
        if self.session.last_seq > Seq(0) {
            self.ignore(Ignored::NothingToControl);
            return Controlled::NotNew;
        }
        self.journal(EventBody::SessionImported(Box::new(import.head.clone())));
        for (place, line) in import.lines.iter().enumerate() {
            let seq = self.journal(EventBody::HistoryImported(Box::new(line.clone())));
            if place + 1 == import.forgotten {
                self.session.history_from = seq;
            }
        }
        Controlled::Imported(import.head.lines)
    }
}
