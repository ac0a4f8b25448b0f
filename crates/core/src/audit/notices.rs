//! What the checker knows of messages that nobody asked for.

use std::collections::VecDeque;

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
    /// What jobs had told last, by hashes of their names and times.
    #[serde(skip_serializing_if = "VecDeque::is_empty")]
    told: VecDeque<u64>,
}

/// So many are remembered of what jobs had told.
const TOLD_MAX: usize = 32;

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
            EventBody::SessionNoticeAccepted { scheduled, message_id, .. } => {
                self.waiting.push(seq);
                if *scheduled {
                    self.scheduled.push(seq);
                    return self.tells_again(seq, message_id);
                }
                return self.consent(seq);
            }
            EventBody::SessionNotice {
                source: source @ (NoticeSource::Unasked | NoticeSource::Scheduled),
                of,
                message_id,
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
                return match (source, of, message_id) {
                    (NoticeSource::Unasked, ..) => self.consent(seq),
                    (_, None, Some(name)) => self.tells_again(seq, name),
                    _ => None,
                };
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

    /// A job's time is told once. Its name says which job and which time, until it is blanked; that
    /// of a reminder, which has no time in it, may be given again after a while.
    fn tells_again(&mut self, seq: Seq, name: &str) -> Option<Broken> {
        let mut parts = name.split('/');
        let of_a_job = parts.next() == Some("cron") && parts.count() == 2;
        if !of_a_job {
            return None;
        }
        let hash = hash_of(name);
        if self.told.contains(&hash) {
            return Some(("I23", format!("notice {seq} tells {name:?} once more")));
        }
        self.told.truncate(TOLD_MAX - 1);
        self.told.push_front(hash);
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

/// FNV-1a: the same in every version, for what is stored.
fn hash_of(name: &str) -> u64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, mix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str, of: Option<u64>) -> EventBody {
        EventBody::SessionNotice {
            text: "x".into(),
            source: NoticeSource::Scheduled,
            message_id: Some(name.into()),
            of: of.map(Seq),
            by: None,
        }
    }

    #[test]
    fn a_jobs_time_is_told_once() {
        let mut notices = Notices::default();
        let mut tell = |seq: u64, body: &EventBody| {
            let json = serde_json::to_string(&notices).unwrap();
            // What is stored goes on as if it had not been.
            notices = serde_json::from_str(&json).unwrap();
            notices.observe(Seq(seq), body, false).map(|(invariant, _)| invariant)
        };
        let waits = EventBody::SessionNoticeAccepted {
            message_id: "cron/news/2".into(),
            text: "x".into(),
            scheduled: true,
        };
        assert_eq!(tell(1, &told("cron/news/1", None)), None);
        assert_eq!(tell(2, &waits), None);
        assert_eq!(tell(3, &told("cron/news/2", Some(2))), None);
        assert_eq!(tell(4, &told("cron/tea", None)), None);
        assert_eq!(tell(5, &told("cron/tea", None)), None);
        // Erased.
        assert_eq!(tell(6, &told("", None)), None);
        assert_eq!(tell(7, &told("", None)), None);
        assert_eq!(tell(8, &told("cron/news/1", None)), Some("I23"));
        assert_eq!(tell(9, &told("cron/news/2", None)), Some("I23"));
    }
}
