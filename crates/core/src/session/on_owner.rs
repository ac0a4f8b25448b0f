//! Who owns the session: taking it over after a crash, laying it down at a drain.

use super::{Effect, Ignored, Machine, Stage};
use crate::ids::{RunTag, Seq, TurnId};
use crate::journal::{CancelReason, DeadReason, EventBody};
use crate::outbox::{Delivery, DeliveryState, backoff_ms};
use crate::planted::{Planted, planted};

impl Machine<'_> {
    /// The first input after every load. Under a new owner whatever was under way is repaired.
    pub(super) fn on_adopt(&mut self, run: Option<RunTag>, delivering: Option<(Seq, u32, u32)>) {
        self.session.clamp_deadlines(self.context.now);
        if self.session.epoch > self.context.epoch && !planted(Planted::FenceForgotten) {
            // A shell that gets here did not look; nothing of a later owner's is touched.
            return self.ignore(Ignored::NotTheOwner);
        }
        if self.session.epoch >= self.context.epoch {
            self.ignore(Ignored::AlreadyAdopted);
            if !planted(Planted::RedeliverForgotten) {
                self.redeliver(delivering);
            }
            // Another one may have put something there in this owner's place.
            self.pump_outbox();
            self.check_again();
            return self.readopt(run);
        }
        if let Some(stray) = run.filter(|_| !planted(Planted::StrayKept)) {
            // Others had the session meanwhile, so what ran here is over.
            self.effect(Effect::Cancel(stray));
            self.effect(Effect::Typing(false));
        }
        if !self.session.has_open_work() {
            return self.ignore(Ignored::AlreadyAdopted);
        }
        self.changed();
        let sending = self
            .session
            .outbox
            .parts
            .first()
            .is_some_and(|first| first.state == DeliveryState::Sending);
        if sending {
            self.on_ambiguous("the process ended while it was being sent".into());
        }
        self.pump_outbox();
        self.check_again();
        self.recover_turn();
        self.start_next();
    }

    /// Loaded again by the same owner, after an eviction or a store error that swallowed effects:
    /// whatever the state says is under way and the shell doesn't have is begun anew.
    fn readopt(&mut self, run: Option<RunTag>) {
        let working =
            self.session.turn.as_ref().is_some_and(|turn| turn.stage == Stage::Processing);
        if !working && !planted(Planted::TypingLeftOn) {
            // What should have switched it off may be among the effects that were lost.
            self.effect(Effect::Typing(false));
        }
        let Some(turn) = &mut self.session.turn else {
            return self.cancel_stray(run, None);
        };
        let (id, current) = (turn.id, turn.tag());
        // Between two attempts there is none, though the last one had the same tag.
        let has_run = matches!(turn.stage, Stage::Processing | Stage::Waiting { live: true, .. });
        match &mut turn.stage {
            Stage::Quarantined => self.effect(Effect::RequestQuarantine(id)),
            Stage::Processing if run != Some(current) && turn.stopping => {
                // The call in flight that it waited for is gone.
                self.cancel(CancelReason::Stopped, None);
                self.start_next();
            }
            Stage::Processing if run != Some(current) => self.begin_attempt(),
            Stage::Processing => self.tell_again(),
            Stage::Waiting { live: live @ true, .. } if run != Some(current) => {
                *live = false;
                self.changed();
            }
            _ => {}
        }
        self.cancel_stray(run, Some(current).filter(|_| has_run));
    }

    /// What the run has to know of, and may not have been told: another node stepped in its owner's
    /// place, or the effects were lost.
    fn tell_again(&mut self) {
        let Some(turn) = &self.session.turn else { return };
        let tag = turn.tag();
        let asked = turn.query.and_then(|query| Some((query.id, turn.mailbox.last()?.clone())));
        let (stopping, finishing, mail) = (turn.stopping, turn.finishing, !turn.mailbox.is_empty());
        if stopping {
            self.effect(Effect::Wind(tag));
        }
        if let Some(reason) = finishing {
            self.effect(Effect::FinishNow(tag, reason));
        }
        match asked {
            Some((id, pending)) => self.effect(Effect::AskAgent(tag, id, Box::new(pending))),
            None if mail => self.effect(Effect::MailWaiting(tag)),
            None => {}
        }
    }

    fn cancel_stray(&mut self, run: Option<RunTag>, current: Option<RunTag>) {
        if let Some(stray) = run.filter(|run| Some(*run) != current) {
            self.effect(Effect::Cancel(stray));
        }
    }

    /// A part that is `sending` under this owner, whose effect never ran, was never sent.
    fn redeliver(&mut self, delivering: Option<(Seq, u32, u32)>) {
        let Some(first) = self.session.outbox.parts.first() else { return };
        let named = (first.reply, first.part, first.tries);
        if first.state != DeliveryState::Sending || delivering == Some(named) {
            return;
        }
        let (reply, part, attempt) = named;
        let text = std::sync::Arc::clone(&first.text);
        self.effect(Effect::Deliver(Box::new(Delivery { reply, part, attempt, text })));
    }

    fn recover_turn(&mut self) {
        let Some(turn) = &mut self.session.turn else { return };
        turn.epoch = self.context.epoch;
        turn.query = None;
        let id = turn.id;
        if turn.stopping {
            // The call in flight went with the process that made it.
            self.cancel(CancelReason::Stopped, None);
            return;
        }
        match &mut turn.stage {
            // Whoever left it could not begin it, or the moment passed while nobody had it: one
            // commit takes it and begins it.
            Stage::Accumulating { window: due } | Stage::Backoff { until: due }
                if due.at <= self.context.now =>
            {
                self.begin_attempt();
            }
            Stage::Accumulating { .. } | Stage::Backoff { .. } | Stage::Operator => {}
            Stage::Waiting { live, .. } => *live = false,
            Stage::Quarantined => self.effect(Effect::RequestQuarantine(id)),
            Stage::Processing => self.recover_run(),
        }
    }

    /// The agent had started: the same messages, a higher attempt, and a count of such endings.
    fn recover_run(&mut self) {
        let policy = self.context.policy;
        let Some(turn) = &mut self.session.turn else { return };
        turn.recoveries += 1;
        let (turn_id, epoch, recoveries) = (turn.id, turn.epoch, turn.recoveries);
        self.journal(EventBody::TurnRecovered { turn_id, epoch, recoveries });
        if self.is_paused() {
            return self.begin_attempt();
        }
        if recoveries > policy.recoveries_max {
            let error = format!("the process ended {recoveries} times while it ran").into();
            return self.fail(DeadReason::CrashLoop, &error);
        }
        if recoveries < policy.recoveries_quarantine {
            return self.begin_attempt();
        }
        let pause =
            backoff_ms(policy.error_backoff_ms, recoveries - policy.recoveries_quarantine + 1);
        let until = self.deadline(pause.min(60_000));
        if let Some(turn) = &mut self.session.turn {
            turn.stage = Stage::Backoff { until };
        }
        self.put_turn_row();
    }

    pub(super) fn on_quarantine_granted(&mut self, id: TurnId) {
        let wanted = self
            .session
            .turn
            .as_ref()
            .is_some_and(|turn| turn.id == id && matches!(turn.stage, Stage::Quarantined));
        if !wanted {
            return self.ignore(Ignored::QuarantineNotWanted);
        }
        self.begin_granted_attempt();
    }

    /// A drain: the run ends, and because that is nobody's fault it is not counted.
    pub(super) fn on_release(&mut self) {
        let until = self.deadline(0);
        let paused = self.is_paused();
        let Some(turn) = &mut self.session.turn else {
            return self.ignore(Ignored::NothingToRelease);
        };
        let tag = turn.tag();
        match &mut turn.stage {
            Stage::Processing if paused && !turn.stopping => {
                self.effect(Effect::Cancel(tag));
                return self.wait_for_operator(None);
            }
            Stage::Processing => {
                turn.stage = Stage::Backoff { until };
                turn.query = None;
            }
            Stage::Waiting { live: live @ true, .. } => *live = false,
            _ => return self.ignore(Ignored::NothingToRelease),
        }
        self.changed();
        self.effect(Effect::Cancel(tag));
        self.effect(Effect::Typing(false));
        self.put_turn_row();
    }
}
