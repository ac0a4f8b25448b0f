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
    /// Those among them that nobody has to opt in for.
    scheduled: Vec<Seq>,
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
                let unasked = |seq: &&Seq| !self.scheduled.contains(*seq);
                if self.waiting.iter().any(|seq| unasked(&seq)) {
                    let waiting = &self.waiting;
                    let what = format!("opted out, and notices still wait: {waiting:?}");
                    return Some(("I23", what));
                }
            }
            EventBody::SessionNoticeAccepted { scheduled, .. } => {
                self.waiting.push(seq);
                if *scheduled {
                    self.scheduled.push(seq);
                    return None;
                }
                return self.consent(seq);
            }
            EventBody::SessionNotice {
                source: source @ (NoticeSource::Unasked | NoticeSource::Scheduled),
                of,
                ..
            } => {
                if let Some(of) = *of
                    && self.waiting.first() != Some(&of)
                {
                    let waiting = &self.waiting;
                    let what = format!("notice {of} is told, and those waiting are {waiting:?}");
                    return Some(("I4", what));
                }
                self.waiting.retain(|waiting| Some(*waiting) != *of);
                self.scheduled.retain(|waiting| Some(*waiting) != *of);
                if in_a_turn {
                    return Some(("I4", format!("notice {seq} is told in the middle of a turn")));
                }
                let unasked = *source == NoticeSource::Unasked;
                return unasked.then(|| self.consent(seq)).flatten();
            }
            EventBody::SessionNoticeCancelled { notices, .. } => {
                let unknown = notices.iter().find(|notice| !self.waiting.contains(notice));
                let unknown = unknown.map(|notice| {
                    ("I2", format!("notice {notice} is cancelled, and does not wait"))
                });
                self.waiting.retain(|waiting| !notices.contains(waiting));
                self.scheduled.retain(|waiting| !notices.contains(waiting));
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
