//! Messages that wait for somebody outside: held in order of acceptance, let go in that order.
//!
//! Whether one may go on is asked first, whether it is for the agent at all after that. The checks
//! run after the commit, so no receive loop waits for them. Their deadlines are part of the state:
//! they hold across restarts. What is let go passes the table as if it had just come.

use std::sync::Arc;

use super::{Effect, HeldAs, Ignored, Machine};
use crate::ids::{QuestionId, Seq};
use crate::journal::EventBody;
use crate::message::{InboundKind, Pending};
use crate::moderation::{Ruled, Ruling, TIMEOUT_MS_MAX, Trigger};
use crate::planted::{Planted, planted};
use crate::policy::Trust;
use crate::session::state::Held;

/// Why an answer that was held is not passed on.
pub const QUESTION_OVER: &str = "the question that it answers is not open any more";

impl Machine<'_> {
    /// Whether a message that comes now is held: something is to be asked about it, or it would
    /// overtake one of which that is true. One that is tried again has no kind, and was checked.
    pub(super) fn must_hold(&self, kind: Option<&InboundKind>) -> bool {
        self.is_checked(kind) || !self.session.held.is_empty()
    }

    /// Whether something is to be asked about a message of this kind.
    pub(super) fn is_checked(&self, kind: Option<&InboundKind>) -> bool {
        let moderated = self.context.policy.moderation.is_some();
        let skipped = planted(Planted::CheckSkipped) && self.session.turn.is_some();
        let unclear = |kind: &InboundKind| matches!(kind, InboundKind::Unclear(_));
        let unclear = kind.is_some_and(unclear) && !planted(Planted::TriggerSkipped);
        (kind.is_some() && moderated && !skipped) || unclear
    }

    /// Holds an accepted message. One that was let go before only waits its turn.
    pub(super) fn hold(
        &mut self,
        message: Pending,
        kind: Option<&InboundKind>,
        answers: Option<QuestionId>,
    ) {
        let held_as = match kind {
            Some(InboundKind::Context) => HeldAs::Context,
            Some(InboundKind::Unclear(trigger)) => HeldAs::Unclear(trigger.clone()),
            Some(InboundKind::Message | InboundKind::Command(_)) | None => HeldAs::Message,
        };
        let moderation = self.context.policy.moderation.filter(|_| kind.is_some());
        let asks = match (moderation, held_as) {
            (Some(moderation), held_as) => (held_as, Some(moderation.timeout_ms)),
            (None, HeldAs::Unclear(trigger)) => {
                let timeout_ms = trigger.timeout_ms;
                (HeldAs::Asked(trigger), Some(timeout_ms))
            }
            (None, held_as) => (held_as, None),
        };
        let (held_as, timeout_ms) = asks;
        let duration_ms = timeout_ms.unwrap_or(0).min(TIMEOUT_MS_MAX);
        let deadline = self.deadline(duration_ms);
        let let_go = Ruled { ruling: Ruling::Allow, by_default: true, reason: None };
        let ruled = timeout_ms.is_none().then_some(let_go);
        self.session.held.push(Held { message, deadline, ruled, held_as, answers });
        if timeout_ms.is_some() {
            self.ask_about(self.session.held.len() - 1, duration_ms);
        }
    }

    /// Asks somebody what is to be asked about this one now.
    fn ask_about(&mut self, at: usize, wait_ms: u64) {
        let Some(held) = self.session.held.get(at) else { return };
        let check = Effect::Check(Box::new(held.message.clone()), held.check(), wait_ms);
        self.effect(check);
    }

    /// The checks that a new owner, or one whose effects were lost, has to ask for again.
    pub(super) fn check_again(&mut self) {
        for at in 0..self.session.held.len() {
            let Held { deadline, ruled, .. } = &self.session.held[at];
            if ruled.is_none() {
                let left = deadline.at.saturating_sub(self.context.now).max(0).unsigned_abs();
                self.ask_about(at, left.min(deadline.duration_ms));
            }
        }
    }

    pub(super) fn on_ruling(&mut self, seq: Seq, ruling: Ruling, reason: Option<&Arc<str>>) {
        // An answer to what was asked before says nothing of what is asked now.
        let waits = |held: &Held| {
            let asked = matches!(held.held_as, HeldAs::Asked(_));
            held.message.seq == seq && held.ruled.is_none() && asked == ruling.is_of_trigger()
        };
        let Some(at) = self.session.held.iter().position(waits) else {
            return self.ignore(Ignored::StaleRuling);
        };
        self.changed();
        self.rule(at, Ruled { ruling, by_default: false, reason: reason.cloned() });
    }

    /// Nobody ruled on the first one in time.
    pub(super) fn on_check_overdue(&mut self) {
        let asked = |held: &Held| matches!(held.held_as, HeldAs::Asked(_));
        let ruling = match &self.context.policy.moderation {
            _ if self.session.held.first().is_some_and(asked) => Ruling::Context,
            Some(moderation) => moderation.default,
            // Where nobody checks any more, nothing is to be refused.
            None => Ruling::Allow,
        };
        self.changed();
        if !self.session.held.is_empty() {
            self.rule(0, Ruled { ruling, by_default: true, reason: None });
        }
    }

    /// A check of this one ended: the next one begins, or it may go.
    fn rule(&mut self, at: usize, ruled: Ruled) {
        let Some(held) = self.session.held.get_mut(at) else { return };
        if let HeldAs::Unclear(trigger) = &held.held_as
            && ruled.ruling == Ruling::Allow
        {
            let trigger = trigger.clone();
            return self.ask_trigger(at, trigger);
        }
        held.ruled = Some(ruled);
        self.let_go();
    }

    /// It may go on; now whether it is for the agent is asked.
    fn ask_trigger(&mut self, at: usize, trigger: Trigger) {
        let duration_ms = trigger.timeout_ms.min(TIMEOUT_MS_MAX);
        let deadline = self.deadline(duration_ms);
        if let Some(held) = self.session.held.get_mut(at) {
            (held.deadline, held.held_as) = (deadline, HeldAs::Asked(trigger));
        }
        self.ask_about(at, duration_ms);
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
            let held = self.session.held.remove(at);
            let becomes = held.becomes();
            let Held { message, ruled, held_as, answers, .. } = held;
            let Some(ruled) = ruled else { return };
            let by_default = ruled.by_default;
            let goes_on = becomes == Some(Becomes::Message);
            if goes_on && !self.may_answer(answers, message.trust) {
                let (ruling, reason) = (Ruling::Refuse, Some(QUESTION_OVER.into()));
                let ruled = Ruled { ruling, by_default, reason };
                self.refuse_held(&message, ruled, &held_as);
                continue;
            }
            match becomes {
                Some(Becomes::Refused) => self.refuse_held(&message, ruled, &held_as),
                Some(Becomes::Context) => self.keep_held(&message, by_default),
                Some(Becomes::Message) | None => {
                    self.journal(EventBody::GuardAllowed { message: message.seq, by_default });
                    self.place_held(message);
                }
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
        let first = held.get(at)?;
        let goes_on = first.becomes()? == Becomes::Message;
        let used = self.session.turn.as_ref().is_some_and(|turn| turn.id == self.context.fresh);
        (!(goes_on && used && self.needs_a_turn(&first.message))).then_some(at)
    }

    /// It was not said to the agent.
    fn keep_held(&mut self, message: &Pending, by_default: bool) {
        let Pending { seq, trust, body, .. } = message;
        self.journal(EventBody::MessageContext {
            message_id: Arc::clone(&body.message_id),
            sender: Arc::clone(&body.sender),
            text: Arc::clone(&body.text),
            trust: *trust,
            of: Some(*seq),
            by_default,
            disappears_s: None,
        });
    }

    /// It is discarded, and its sender is told. Not each time: whoever floods gets no flood back.
    fn refuse_held(&mut self, message: &Pending, ruled: Ruled, held_as: &HeldAs) {
        let Ruled { by_default, reason, .. } = ruled;
        let seq = message.seq;
        let detail = reason.clone();
        self.journal(EventBody::GuardRefused { message: seq, by_default, detail });
        // Whoever did not speak to the agent is not answered.
        if *held_as != HeldAs::Message {
            return;
        }
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

/// What becomes of a held message that was ruled on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Becomes {
    /// A message like any other.
    Message,
    /// Context.
    Context,
    /// Nothing.
    Refused,
}

impl Held {
    /// None while it was not ruled on.
    fn becomes(&self) -> Option<Becomes> {
        let taken = planted(Planted::UnaddressedTaken);
        Some(match (self.ruled.as_ref()?.ruling, &self.held_as) {
            (Ruling::Refuse, _) if !planted(Planted::RulingIgnored) => Becomes::Refused,
            (Ruling::Context, _) | (_, HeldAs::Context) if !taken => Becomes::Context,
            _ => Becomes::Message,
        })
    }
}
