//! The session's outbox: one part under way at a time, so that order holds.

use std::sync::Arc;

use super::{Controlled, Effect, Ignored, Machine};
use crate::fit::fit;
use crate::ids::Seq;
use crate::journal::EventBody;
use crate::outbox::{Delivery, DeliveryOutcome, DeliveryState, OutPart, backoff_ms};
use crate::planted::{Planted, planted};
use crate::policy::AmbiguousDelivery;
use crate::ports::store::{Guard, PartRow};

impl Machine<'_> {
    /// Hands a committed text to the outbox. A channel that pulls has it with the commit.
    pub(super) fn send_reply(&mut self, reply: Seq, text: &Arc<str>) {
        if self.context.policy.facts.pull {
            return;
        }
        for (part, text) in fit(text, &self.context.policy.facts).into_iter().enumerate() {
            let part = u32::try_from(part).unwrap_or(u32::MAX);
            self.add_part((reply, part), 0, text);
        }
        self.pump_outbox();
    }

    fn add_part(&mut self, (reply, part): (Seq, u32), tries_before: u32, text: Arc<str>) {
        let (state, tries) = (DeliveryState::Pending, tries_before);
        let since = self.context.now;
        let out = OutPart { reply, part, state, tries, tries_before, since, until: None, text };
        self.put_part_row(&out, DeliveryState::Pending, None);
        self.session.outbox.parts.push(out);
        self.changed();
    }

    /// What whoever asks has read may be old: somebody else had it sent again since, and it may have
    /// arrived already. What is on its way stands here, of the rest only the store knows.
    pub(super) fn resend(
        &mut self,
        (reply, part): (Seq, u32),
        (state, tries): (DeliveryState, u32),
        text: &Arc<str>,
    ) -> Controlled {
        let known = |out: &OutPart| (out.reply, out.part) == (reply, part);
        if self.session.outbox.parts.iter().any(known) {
            self.ignore(Ignored::NothingToControl);
            return Controlled::Gone;
        }
        if !planted(Planted::ResendUnguarded) {
            self.step.rows.guards.push(Guard::Parked { reply, part, state, tries });
        }
        self.add_part((reply, part), tries, Arc::clone(text));
        self.pump_outbox();
        Controlled::Done
    }

    pub(super) fn pump_outbox_after_wait(&mut self) {
        if let Some(first) = self.session.outbox.parts.first_mut() {
            first.until = None;
        }
        self.changed();
        self.pump_outbox();
    }

    /// Sends the first part if it may leave: `sending` is durable before the channel is called.
    pub(super) fn pump_outbox(&mut self) {
        if !self.context.runs {
            return;
        }
        let per_minute = self.context.policy.facts.out_per_minute;
        let at = match self.session.outbox.parts.first() {
            Some(first) if first.state == DeliveryState::Sending => {
                usize::from(planted(Planted::SecondPartEarly))
            }
            _ => 0,
        };
        let Some(first) = self.session.outbox.parts.get(at) else { return };
        if first.state != DeliveryState::Pending || first.until.is_some() {
            return;
        }
        self.changed();
        let wait = self.session.outbox.take_rate(per_minute, self.context.now);
        if wait > 0 {
            let until = self.deadline(wait);
            if let Some(first) = self.session.outbox.parts.get_mut(at) {
                first.until = Some(until);
            }
            return;
        }
        let Some(first) = self.session.outbox.parts.get_mut(at) else { return };
        first.state = DeliveryState::Sending;
        first.tries += 1;
        let first = first.clone();
        self.put_part_row(&first, DeliveryState::Sending, None);
        let OutPart { reply, part, tries: attempt, text, .. } = first;
        self.effect(Effect::Deliver(Box::new(Delivery { reply, part, attempt, text })));
    }

    pub(super) fn on_delivered(
        &mut self,
        reply: Seq,
        part: u32,
        attempt: u32,
        outcome: &DeliveryOutcome,
    ) {
        let current = self.session.outbox.parts.first().is_some_and(|first| {
            first.state == DeliveryState::Sending
                && (first.reply, first.part, first.tries) == (reply, part, attempt)
        });
        if !current {
            return self.ignore(Ignored::StaleDelivery);
        }
        match outcome {
            DeliveryOutcome::Sent => self.settle(DeliveryState::Sent, None),
            DeliveryOutcome::Failed { error, retry, retry_after_ms } => {
                let tries = self.tries_here();
                if *retry && tries < self.context.policy.delivery_tries_max {
                    let pause = backoff_ms(self.context.policy.delivery_backoff_ms, tries);
                    self.try_again(pause.max(retry_after_ms.unwrap_or(0)), Arc::clone(error));
                } else {
                    self.settle(DeliveryState::Dead, Some(Arc::clone(error)));
                }
            }
            DeliveryOutcome::Unknown { error } => self.on_ambiguous(Arc::clone(error)),
        }
        self.pump_outbox();
    }

    /// Nobody knows whether the first part went out: a setting says what happens then.
    pub(super) fn on_ambiguous(&mut self, error: Arc<str>) {
        let policy = self.context.policy;
        let tries = self.tries_here();
        let resent = planted(Planted::UnknownResent);
        match policy.ambiguous {
            _ if resent && tries < policy.delivery_tries_max => self.try_again(1, error),
            AmbiguousDelivery::Resend if tries < policy.delivery_tries_max => {
                self.try_again(backoff_ms(policy.delivery_backoff_ms, tries), error);
            }
            AmbiguousDelivery::Resend | AmbiguousDelivery::Dead => {
                self.settle(DeliveryState::Dead, Some(error));
            }
            AmbiguousDelivery::Hold => self.settle(DeliveryState::Unknown, Some(error)),
        }
    }

    /// How often the first part was tried since it was put there.
    fn tries_here(&self) -> u32 {
        self.session.outbox.parts.first().map_or(0, OutPart::tries_here)
    }

    fn try_again(&mut self, pause_ms: u64, error: Arc<str>) {
        let until = self.deadline(pause_ms);
        let Some(first) = self.session.outbox.parts.first_mut() else { return };
        first.state = DeliveryState::Pending;
        first.until = Some(until);
        let first = first.clone();
        self.changed();
        self.put_part_row(&first, DeliveryState::Pending, Some(error));
    }

    /// The first part has its ending; later ones may go.
    fn settle(&mut self, state: DeliveryState, detail: Option<Arc<str>>) {
        if self.session.outbox.parts.is_empty() {
            return;
        }
        let first = self.session.outbox.parts.remove(0);
        self.put_part_row(&first, state, detail.clone());
        let OutPart { reply, part, .. } = first;
        self.journal(EventBody::DeliverySettled { reply, part, state, detail });
    }

    /// Gives up whatever has not left yet. What is under way may still arrive; nobody asks for its
    /// outcome.
    pub(super) fn drop_outbox(&mut self) {
        while !self.session.outbox.parts.is_empty() {
            self.settle(DeliveryState::Dead, Some("its customer was erased".into()));
        }
    }

    fn put_part_row(&mut self, out: &OutPart, state: DeliveryState, detail: Option<Arc<str>>) {
        // Only a new part carries its text; later rows keep the stored one.
        let fresh = out.tries == 0;
        self.step.rows.put_part(PartRow {
            reply: out.reply,
            part: out.part,
            state,
            tries: out.tries,
            text: if fresh { Arc::clone(&out.text) } else { Arc::default() },
            detail,
            at: self.context.now,
        });
    }
}
