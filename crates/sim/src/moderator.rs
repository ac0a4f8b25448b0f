//! An external check of messages: in some schedules messages are held until it ruled on them. It
//! answers late, twice or never. It is drawn from a source of its own, so a schedule without it is
//! what it was before.

use std::sync::Arc;

use turnkeep_core::journal::{Event, EventBody};
use turnkeep_core::message::Pending;
use turnkeep_core::moderation::{Moderation, Ruling};
use turnkeep_core::session::Input;
use turnkeep_core::{Policy, Seq, Session};

use crate::coverage::Kind;
use crate::rng::Rng;
use crate::stock::{SESSIONS, number_in};
use crate::store::Row;
use crate::world::{What, World};

/// Tells its source from that of everything else. With this number no seed on record has a check,
/// so each of them still shows what it once showed.
const OWN: u64 = 170 << 36;

/// Who checks, and what it thinks of whom.
#[derive(Debug)]
pub(crate) struct Moderator {
    rng: Rng,
    /// So many of a thousand checks are never answered.
    silence: u64,
    /// Messages that it refuses, a bit each.
    refused: u64,
}

impl Moderator {
    /// Somebody who checks the messages of some sessions; most often of none.
    pub(crate) fn new(seed: u64, policies: &mut [Arc<Policy>; SESSIONS]) -> Self {
        let mut rng = Rng::new(seed ^ OWN);
        if !rng.permille(200) {
            return Self { rng, silence: 0, refused: 0 };
        }
        let timeout_ms = rng.pick(&[200, 1000, 5000]);
        let default = rng.pick(&[Ruling::Allow, Ruling::Refuse]);
        for policy in policies {
            if rng.permille(700) {
                Arc::make_mut(policy).moderation = Some(Moderation { timeout_ms, default });
            }
        }
        let silence = rng.pick(&[0, 100, 1000]);
        let refused = rng.next() & rng.next();
        Self { rng, silence, refused }
    }

    /// What it thinks of a message, however often it is asked.
    fn opinion(&self, message_id: &str) -> Ruling {
        let number = number_in(message_id).unwrap_or(0);
        if self.refused >> number & 1 == 1 { Ruling::Refuse } else { Ruling::Allow }
    }

    /// Holds an entry against what it thinks; says what is wrong.
    pub(crate) fn judge(
        &self,
        event: &Event,
        row: &Row,
        policy: &Policy,
        calm: bool,
    ) -> Option<String> {
        let (message, by_default, ruling) = match &event.body {
            EventBody::MessageAccepted { retry_of: None, held: false, .. }
                if policy.moderation.is_some() =>
            {
                return Some(format!("I24: message {} is not checked", event.seq));
            }
            EventBody::GuardAllowed { message, by_default } => (message, by_default, Ruling::Allow),
            EventBody::GuardRefused { message, by_default, .. } => {
                (message, by_default, Ruling::Refuse)
            }
            _ => return None,
        };
        let at = usize::try_from(message.0.checked_sub(1)?).ok()?;
        let accepted = row.events.get(at)?;
        let EventBody::MessageAccepted { message_id, retry_of, .. } = &accepted.body else {
            return Some(format!("I24: {message} is ruled on and is no message"));
        };
        if retry_of.is_some() {
            return None;
        }
        let Some(Moderation { timeout_ms, default }) = policy.moderation else {
            return Some(format!("I24: message {message} is ruled on, and nobody rules"));
        };
        if !by_default {
            let opinion = self.opinion(message_id);
            return (ruling != opinion)
                .then(|| format!("I24: the ruling on {message} is {opinion:?}, not {ruling:?}"));
        }
        let waited = event.at - accepted.at;
        let early = calm && waited < i64::try_from(timeout_ms).unwrap_or(i64::MAX);
        (early || ruling != default)
            .then(|| format!("I24: {message} is {ruling:?} by default after {waited} ms"))
    }
}

/// What is held counts in the inbox.
pub(crate) fn bound(session: &Session, policy: &Policy) -> Option<String> {
    let (held, bound) = (session.held.len(), policy.inbox_max as usize);
    (held > bound).then(|| format!("I13: {held} messages are held, and the inbox has {bound}"))
}

impl World<'_> {
    /// A message is given to whoever checks.
    pub(crate) fn check(&mut self, process: usize, seat: usize, message: &Pending, wait_ms: u64) {
        let accepted = self.store.rows[seat].events.iter().any(|event| event.seq == message.seq);
        if !accepted || message.body.text.is_empty() {
            self.judge.complain(format!("I24: message {} is checked too early", message.seq));
        }
        if self.moderator.rng.permille(self.moderator.silence) {
            return;
        }
        let after = self.moderator.rng.below(wait_ms * 3 / 2 + 1);
        let ruling = self.moderator.opinion(&message.body.message_id);
        self.schedule(after, What::Ruled(process, seat, message.seq, ruling));
    }

    /// The check ends, maybe too late.
    pub(crate) fn ruled(&mut self, process: usize, seat: usize, seq: Seq, ruling: Ruling) {
        let taken = &self.processes[process];
        if taken.alive && !taken.draining {
            let reason = Some(Arc::clone(&self.stock.error));
            self.push(process, seat, Kind::Ruling, Input::Ruling { seq, ruling, reason });
        }
    }
}
