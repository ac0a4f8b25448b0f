//! What a person steers: stop, new, close, dead letters.

use std::sync::Arc;

use super::{Control, Controlled, Effect, Ignored, Machine, Stage};
use crate::accumulation::Gaps;
use crate::ids::{Seq, Token, TurnGroupId, TurnId};
use crate::journal::{CancelReason, EventBody};
use crate::message::{Inbound, InboundKind, MessageBody};
use crate::planted::{Planted, planted};
use crate::policy::Trust;
use crate::ports::store::Guard;

impl Machine<'_> {
    pub(super) fn on_control(&mut self, token: Token, control: &Control) {
        let result = match control {
            Control::Stop { turn, shown } => self.on_stop_and_tell(*turn, shown.clone()),
            Control::New => self.on_new(),
            Control::Close => self.on_close(),
            Control::Erase => self.on_erase(),
            Control::SetBusy(busy) => {
                self.session.busy = *busy;
                self.changed();
                Controlled::Done
            }
            Control::Retry { seq, group, trust, body } => {
                self.on_retry(token, *seq, *group, *trust, body)
            }
            Control::Discard { seq } => {
                self.step.rows.guards.push(Guard::TakeDeadLetter(*seq));
                self.session.acts.take_letter(*seq);
                self.journal(EventBody::MessageDiscarded { message: *seq });
                Controlled::Done
            }
            Control::Notify { seen, body, scheduled } => {
                self.on_notify(seen.as_ref(), body, *scheduled)
            }
            Control::OptIn(wanted) => self.on_opt_in(*wanted),
            Control::Import(import) => self.on_import(import),
            Control::Resend { reply, part, state, tries, text } => {
                self.resend((*reply, *part), (*state, *tries), text)
            }
            Control::Pause { by, take_over } => self.on_pause(by, *take_over),
            Control::HandBack { by } => self.on_hand_back(Some(by)),
            Control::OperatorReply { seen, body } => self.on_operator_reply(seen.as_ref(), body),
        };
        self.effect(Effect::Controlled(token, result));
    }

    pub(super) fn on_stop(
        &mut self,
        wanted: Option<TurnId>,
        shown: Option<Arc<str>>,
    ) -> Controlled {
        let Some(turn) = &mut self.session.turn else {
            self.ignore(Ignored::NothingToControl);
            return Controlled::NothingRuns;
        };
        let id = turn.id;
        if wanted.is_some_and(|wanted| wanted != id) {
            self.ignore(Ignored::NothingToControl);
            return Controlled::OtherTurn(id);
        }
        if turn.committed && matches!(turn.stage, Stage::Processing) {
            // The call in flight can't be undone: its result is recorded, then the turn ends.
            let again = std::mem::replace(&mut turn.stopping, true);
            turn.query = None;
            let tag = turn.tag();
            if !again {
                self.note_acts_under_way();
            }
            self.changed();
            self.effect(Effect::Wind(tag));
            return Controlled::Stopping(id);
        }
        self.cancel(CancelReason::Stopped, shown);
        self.start_next();
        Controlled::Stopped(id)
    }

    pub(super) fn on_new(&mut self) -> Controlled {
        let cancelled = self.cancel_everything(CancelReason::Reset);
        self.session.generation = self.session.generation.next();
        self.session.hint = crate::accumulation::Hint::None;
        if planted(Planted::NewForgetsRhythm) {
            self.session.rhythm = Gaps::default();
        }
        self.session.failed = false;
        if std::mem::take(&mut self.session.closed) {
            self.journal(EventBody::SessionReopened);
        }
        let generation = self.session.generation;
        self.session.history_from = self.journal(EventBody::SessionReset { generation });
        self.tell_notices();
        Controlled::Reset(cancelled)
    }

    fn on_close(&mut self) -> Controlled {
        if self.session.closed {
            self.ignore(Ignored::NothingToControl);
            return Controlled::Closed(0);
        }
        let cancelled = self.cancel_everything(CancelReason::Closed);
        self.tell_notices();
        self.end_pause(None);
        self.session.closed = true;
        self.session.failed = false;
        self.journal(EventBody::SessionClosed);
        Controlled::Closed(cancelled)
    }

    /// Like a close, but nothing leaves any more either: what is left has nothing open.
    fn on_erase(&mut self) -> Controlled {
        let cancelled = self.cancel_everything(CancelReason::Closed);
        self.drop_notices(CancelReason::Closed);
        if std::mem::take(&mut self.session.opted_in) {
            self.journal(EventBody::SessionOptedOut);
        }
        self.drop_outbox();
        self.end_pause(None);
        self.session.rhythm = Gaps::default();
        self.session.acts = crate::tool::Acts::default();
        if !std::mem::replace(&mut self.session.closed, true) {
            self.journal(EventBody::SessionClosed);
        }
        self.session.failed = false;
        Controlled::Closed(cancelled)
    }

    fn cancel_everything(&mut self, reason: CancelReason) -> u32 {
        let running = self.cancel(reason, None);
        let mut queue = std::mem::take(&mut self.session.queue);
        if planted(Planted::NewKeepsQueue) {
            self.session.queue = queue;
            return running;
        }
        if !planted(Planted::NewKeepsHeld) {
            queue.extend(self.session.held.drain(..).map(|held| held.message));
        }
        if queue.is_empty() {
            return running;
        }
        let messages = queue.iter().map(|pending| pending.seq).collect();
        self.journal(EventBody::MessageCancelled { messages, reason });
        running + u32::try_from(queue.len()).unwrap_or(u32::MAX)
    }

    fn on_retry(
        &mut self,
        token: Token,
        seq: Seq,
        group: TurnGroupId,
        trust: Trust,
        body: &Arc<MessageBody>,
    ) -> Controlled {
        if self.is_full() {
            return Controlled::QueueFull;
        }
        if !self.is_at_rest() && !self.may_queue() {
            return Controlled::Busy;
        }
        self.step.rows.guards.push(Guard::TakeDeadLetter(seq));
        self.session.acts.take_letter(seq);
        if std::mem::take(&mut self.session.closed) {
            self.journal(EventBody::SessionReopened);
        }
        let body = Arc::clone(body);
        let message = Inbound {
            token,
            body,
            trust,
            seen: None,
            request: None,
            refused: None,
            kind: InboundKind::Message,
            answers: None,
            // It goes when the one goes that it stands for.
            disappears_s: None,
        };
        Controlled::Retried(self.accept_retry(&message, group, seq))
    }
}
