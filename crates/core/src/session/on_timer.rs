//! Timers that fired. A stale id is ignored, so a late timer is harmless.

use super::{Held, Ignored, Machine, Stage, Wake};
use crate::ids::TimerId;
use crate::journal::{DeadReason, EventBody, SupersedeChoice};
use crate::message::Pending;
use crate::planted::{Planted, planted};

impl Machine<'_> {
    pub(super) fn on_timer(&mut self, wake: Wake) {
        match wake {
            Wake::Armed(id) => self.on_deadline(id),
            Wake::QueueExpiry => self.on_queue_expiry(),
            Wake::Held => self.on_held_due(),
        }
    }

    fn on_deadline(&mut self, id: TimerId) {
        let id = match self.session.next_wake(self.context.policy) {
            Some((_, Wake::Armed(armed))) if planted(Planted::TimerIdForgotten) => armed,
            _ => id,
        };
        if self.session.outbox.next_deadline().is_some_and(|deadline| deadline.id == id) {
            return self.pump_outbox_after_wait();
        }
        let operator = self.session.paused.as_ref().and_then(|paused| paused.until);
        if operator.is_some_and(|until| until.id == id) {
            self.on_hand_back(None);
            return;
        }
        let overdue = |held: &Held| held.deadline.id == id && held.ruled.is_none();
        if self.session.held.first().is_some_and(overdue) {
            return self.on_check_overdue();
        }
        let Some(turn) = &self.session.turn else { return self.ignore(Ignored::StaleTimer) };
        if let Some(query) = turn.query.filter(|query| query.deadline.id == id) {
            // After pure work joining is safe; what was done already may not fit the new message.
            let acted = turn.acted;
            let choice =
                if acted { SupersedeChoice::Queue } else { SupersedeChoice::AbsorbContinue };
            return self.decide(query.id, choice, true);
        }
        match turn.stage {
            Stage::Accumulating { window } if window.id == id => self.begin_attempt(),
            Stage::Backoff { until } if until.id == id => self.begin_attempt(),
            Stage::Waiting { deadline, .. } if deadline.id == id => {
                let error = "the question was not answered in time".into();
                self.fail(DeadReason::InputTimeout, &error);
            }
            _ => self.ignore(Ignored::StaleTimer),
        }
    }

    fn on_queue_expiry(&mut self) {
        let ttl = i64::try_from(self.context.policy.queue_ttl_ms).unwrap_or(i64::MAX);
        let now = self.context.now;
        for pending in &mut self.session.queue {
            // A clock that stepped back must not keep anything for longer than its time.
            pending.at = pending.at.min(now);
        }
        let waited = |pending: &Pending| now.saturating_sub(pending.at) >= ttl;
        if ttl == 0 || !self.session.queue.iter().any(waited) {
            return self.ignore(Ignored::NothingExpired);
        }
        let queue = std::mem::take(&mut self.session.queue);
        let (expired, rest): (Vec<Pending>, Vec<Pending>) = queue.into_iter().partition(waited);
        self.session.queue = rest;
        let messages = expired.iter().map(|pending| pending.seq).collect();
        self.journal(EventBody::MessageExpired { messages });
        for pending in &expired {
            // Nothing ran with it, so its retry starts a group of its own.
            let group = pending.group.unwrap_or(crate::ids::TurnGroupId(self.context.fresh.0));
            self.bury(std::slice::from_ref(pending), group, DeadReason::Expired);
        }
        let trust = expired.first().map(|pending| pending.trust).unwrap_or_default();
        self.notice_failure(trust, "it waited too long in the queue");
    }
}
