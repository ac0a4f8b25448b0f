//! An external check of messages: in some schedules messages are held until it ruled on them. It
//! answers late, twice or never. It is drawn from a source of its own, so a schedule without it is
//! what it was before.

use std::sync::Arc;

use turnkeep_core::journal::{Event, EventBody};
use turnkeep_core::message::{InboundKind, Pending};
use turnkeep_core::moderation::{Check, Moderation, Ruling};
use turnkeep_core::session::{Input, QUESTION_OVER};
use turnkeep_core::{Policy, Seq, Session};

use crate::aside::Aside;
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
        (seat, aside): (usize, &Aside),
        event: &Event,
        (row, policy): (&Row, &Policy),
        calm: bool,
    ) -> Option<String> {
        let (message, by_default, ruling) = match &event.body {
            EventBody::MessageAccepted { retry_of: None, held: false, message_id, .. } => {
                let unclear = matches!(kind_of(aside, seat, message_id), InboundKind::Unclear(_));
                return (policy.moderation.is_some() || unclear)
                    .then(|| format!("I24: message {} is not checked", event.seq));
            }
            EventBody::GuardAllowed { message, by_default } => (message, by_default, Ruling::Allow),
            // It was allowed, and came too late for the question that it answers.
            EventBody::GuardRefused { message, by_default, detail: Some(detail) }
                if **detail == *QUESTION_OVER =>
            {
                (message, by_default, Ruling::Allow)
            }
            EventBody::GuardRefused { message, by_default, .. } => {
                (message, by_default, Ruling::Refuse)
            }
            EventBody::MessageContext { of: Some(message), by_default, .. } => {
                (message, by_default, Ruling::Context)
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
        let waited = event.at - accepted.at;
        let ruling = match (kind_of(aside, seat, message_id), ruling) {
            (InboundKind::Unclear(_), Ruling::Refuse) => Ruling::Refuse,
            (InboundKind::Unclear(trigger), ruling) => {
                let ruling = if ruling == Ruling::Allow { Ruling::Addressed } else { ruling };
                let asked = (&**message_id, waited);
                return aside.judge_ruled(trigger, asked, (ruling, *by_default), calm);
            }
            // It goes on as what it is.
            (InboundKind::Context, Ruling::Context) => Ruling::Allow,
            (_, ruling) => ruling,
        };
        let Some(Moderation { timeout_ms, default }) = policy.moderation else {
            // It stood behind one of which somebody asked something.
            let behind = aside.wonders(seat) && *by_default && ruling == Ruling::Allow;
            return (!behind)
                .then(|| format!("I24: message {message} is ruled on, and nobody rules"));
        };
        if !by_default {
            let opinion = self.opinion(message_id);
            return (ruling != opinion)
                .then(|| format!("I24: the ruling on {message} is {opinion:?}, not {ruling:?}"));
        }
        let early = calm && waited < i64::try_from(timeout_ms).unwrap_or(i64::MAX);
        (early || ruling != default)
            .then(|| format!("I24: {message} is {ruling:?} by default after {waited} ms"))
    }
}

fn kind_of<'a>(aside: &'a Aside, seat: usize, message_id: &str) -> &'a InboundKind {
    number_in(message_id).map_or(&InboundKind::Message, |number| aside.kind(seat, number))
}

/// What is held counts in the inbox.
pub(crate) fn bound(session: &Session, policy: &Policy) -> Option<String> {
    let (held, bound) = (session.held.len(), policy.inbox_max as usize);
    (held > bound).then(|| format!("I13: {held} messages are held, and the inbox has {bound}"))
}

impl World<'_> {
    /// A message is given to whoever checks.
    pub(crate) fn check(
        &mut self,
        (process, seat): (usize, usize),
        message: &Pending,
        check: &Check,
        wait_ms: u64,
    ) {
        let accepted = self.store.rows[seat].events.iter().any(|event| event.seq == message.seq);
        if !accepted || message.body.text.is_empty() {
            self.judge.complain(format!("I24: message {} is checked too early", message.seq));
        }
        let (id, moderator) = (&message.body.message_id, &mut self.moderator);
        let (after, ruling) = match check {
            Check::Trigger(_) => (self.aside.answers_after(wait_ms), self.aside.opinion(id)),
            Check::Moderation if moderator.rng.permille(moderator.silence) => return,
            Check::Moderation => {
                (Some(moderator.rng.below(wait_ms * 3 / 2 + 1)), moderator.opinion(id))
            }
        };
        let Some(after) = after else { return };
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
