//! What the checker knows of messages that nobody asked for.

use serde::{Deserialize, Serialize};

use crate::ids::Seq;
use crate::journal::{EventBody, NoticeSource};
use crate::session::Session;

/// Notices that wait, and whether the customer takes any.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Notices {
    /// Accepted and not told yet, in order.
    waiting: Vec<Seq>,
    opted_in: bool,
}

/// A broken invariant: which, and what is wrong.
pub(super) type Broken = (&'static str, String);

impl Notices {
    /// Takes an entry that is about notices. `in_a_turn`: a turn is open, and it is not the user's
    /// move.
    pub(super) fn observe(
        &mut self,
        seq: Seq,
        body: &EventBody,
        in_a_turn: bool,
    ) -> Option<Broken> {
        match body {
            EventBody::SessionOptedIn => self.opted_in = true,
            EventBody::SessionOptedOut => {
                self.opted_in = false;
                if !self.waiting.is_empty() {
                    let waiting = &self.waiting;
                    let what = format!("opted out, and notices still wait: {waiting:?}");
                    return Some(("I23", what));
                }
            }
            EventBody::SessionNoticeAccepted { .. } => {
                self.waiting.push(seq);
                return self.consent(seq);
            }
            EventBody::SessionNotice { source: NoticeSource::Unasked, of, .. } => {
                if let Some(of) = *of
                    && self.waiting.first() != Some(&of)
                {
                    let waiting = &self.waiting;
                    let what = format!("notice {of} is told, and those waiting are {waiting:?}");
                    return Some(("I4", what));
                }
                self.waiting.retain(|waiting| Some(*waiting) != *of);
                if in_a_turn {
                    return Some(("I4", format!("notice {seq} is told in the middle of a turn")));
                }
                return self.consent(seq);
            }
            EventBody::SessionNoticeCancelled { notices, .. } => {
                let unknown = notices.iter().find(|notice| !self.waiting.contains(notice));
                let unknown = unknown.map(|notice| {
                    ("I2", format!("notice {notice} is cancelled, and does not wait"))
                });
                self.waiting.retain(|waiting| !notices.contains(waiting));
                return unknown;
            }
            _ => {}
        }
        None
    }

    fn consent(&self, seq: Seq) -> Option<Broken> {
        (!self.opted_in).then(|| ("I23", format!("notice {seq} is for somebody who takes none")))
    }

    /// What the stored state says otherwise.
    pub(super) fn finish(&self, session: &Session) -> Option<Broken> {
        let stored: Vec<Seq> = session.notices.iter().map(|notice| notice.seq).collect();
        if stored != self.waiting {
            let told = &self.waiting;
            let what =
                format!("notices that wait by the journal: {told:?}, by the state: {stored:?}");
            return Some(("I2", what));
        }
        (session.opted_in != self.opted_in).then(|| {
            ("I23", format!("opted in by the journal: {}, not by the state", self.opted_in))
        })
    }
}
