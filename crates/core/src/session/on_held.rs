//! Messages that wait for an external check: held in order of acceptance, let go in that order.
//!
//! The check runs after the commit, so no receive loop waits for it. Its deadline is part of the
//! state: it holds across restarts. What is let go passes the table as if it had just come.

use std::sync::Arc;

use super::{Effect, Ignored, Machine};
use crate::ids::Seq;
use crate::journal::EventBody;
use crate::message::Pending;
use crate::moderation::{Ruled, Ruling};
use crate::planted::{Planted, planted};
use crate::policy::Trust;
use crate::session::state::Held;

impl Machine<'_> {
    /// Whether a message that comes now is held: it is to be checked, or it would overtake one that
    /// is.
    pub(super) fn must_hold(&self, retried: bool) -> bool {
        let skipped = planted(Planted::CheckSkipped) && self.session.turn.is_some();
        let checked = self.context.policy.moderation.is_some() && !retried && !skipped;
        checked || !self.session.held.is_empty()
    }

    /// Holds an accepted message. One that was let go before, as a retried one was, only waits its
    /// turn.
    pub(super) fn hold(&mut self, message: Pending, retried: bool) {
        let checked = self.context.policy.moderation.filter(|_| !retried);
        let duration_ms = checked.map_or(0, |moderation| moderation.timeout_ms);
        let deadline = self.deadline(duration_ms);
        let ruled = match checked {
            Some(_) => {
                self.effect(Effect::Check(Box::new(message.clone()), duration_ms));
                None
            }
            None => Some(Ruled { ruling: Ruling::Allow, by_default: true, reason: None }),
        };
        self.session.held.push(Held { message, deadline, ruled });
    }

    /// The checks that a new owner, or one whose effects were lost, has to ask for again.
    pub(super) fn check_again(&mut self) {
        for at in 0..self.session.held.len() {
            let Held { message, deadline, ruled } = &self.session.held[at];
            if ruled.is_none() {
                let left = deadline.at.saturating_sub(self.context.now).max(0).unsigned_abs();
                let left = left.min(deadline.duration_ms);
                let check = Effect::Check(Box::new(message.clone()), left);
                self.effect(check);
            }
        }
    }

    pub(super) fn on_ruling(&mut self, seq: Seq, ruling: Ruling, reason: Option<&Arc<str>>) {
        let waits = |held: &&mut Held| held.message.seq == seq && held.ruled.is_none();
        let Some(held) = self.session.held.iter_mut().find(waits) else {
            return self.ignore(Ignored::StaleRuling);
        };
        held.ruled = Some(Ruled { ruling, by_default: false, reason: reason.cloned() });
        self.changed();
        self.let_go();
    }

    /// Nobody ruled on the first one in time.
    pub(super) fn on_check_overdue(&mut self) {
        // Where nobody checks any more, nothing is to be refused.
        let ruling =
            self.context.policy.moderation.map_or(Ruling::Allow, |moderation| moderation.default);
        if let Some(first) = self.session.held.first_mut() {
            first.ruled = Some(Ruled { ruling, by_default: true, reason: None });
        }
        self.changed();
        self.let_go();
    }

    /// The first one was ruled on, and the step that heard of it could not take it in.
    pub(super) fn on_held_due(&mut self) {
        if self.session.held.first().is_none_or(|first| first.ruled.is_none()) {
            return self.ignore(Ignored::StaleTimer);
        }
        self.changed();
        self.let_go();
    }

    /// Lets those go, from the first one on, that are ruled on.
    fn let_go(&mut self) {
        while let Some(at) = self.next_to_go() {
            let Held { message, ruled, .. } = self.session.held.remove(at);
            let Some(ruled) = ruled else { return };
            if ruled.ruling == Ruling::Refuse && !planted(Planted::RulingIgnored) {
                self.refuse_held(&message, ruled);
            } else {
                let by_default = ruled.by_default;
                self.journal(EventBody::GuardAllowed { message: message.seq, by_default });
                self.place_held(message);
            }
        }
    }

    /// The place of the one that goes next, if one may. A step has one id for a new turn: whoever
    /// would need a second one goes with the next step, which is due at once.
    fn next_to_go(&self) -> Option<usize> {
        let held = &self.session.held;
        let at = if planted(Planted::HeldOvertaken) {
            held.iter().position(|held| held.ruled.is_some())?
        } else {
            0
        };
        let Held { message, ruled, .. } = held.get(at)?;
        let allowed = ruled.as_ref()?.ruling == Ruling::Allow;
        let used = self.session.turn.as_ref().is_some_and(|turn| turn.id == self.context.fresh);
        (!(allowed && used && self.needs_a_turn(message))).then_some(at)
    }

    /// It is discarded, and its sender is told. Not each time: whoever floods gets no flood back.
    fn refuse_held(&mut self, message: &Pending, ruled: Ruled) {
        let Ruled { by_default, reason, .. } = ruled;
        let seq = message.seq;
        let detail = reason.clone();
        self.journal(EventBody::GuardRefused { message: seq, by_default, detail });
        let quiet = i64::try_from(self.context.policy.notice_quiet_ms).unwrap_or(i64::MAX);
        let before = self.session.refused_at.replace(self.context.now);
        if before.is_some_and(|at| (0..quiet).contains(&self.context.now.saturating_sub(at))) {
            self.session.refused_at = before;
            return;
        }
        let text: Arc<str> = match reason.filter(|_| message.trust >= Trust::Full) {
            Some(reason) => format!("Your message was not passed on: {reason}").into(),
            None => "Your message was not passed on.".into(),
        };
        let seq = self.journal(EventBody::notice(Arc::clone(&text)));
        self.send_reply(seq, &text);
    }
}
