//! Messages that nobody asked for: told to customers who opted in, between the turns. What a job or
//! a reminder has told is told in the same way, but somebody asked for that, so nobody opts in.
//!
//! A notice is no message. It starts no turn, never enters a mailbox and is not counted in the
//! inbox. It waits for the open turn's end, unless that turn waits for the user anyway.

use std::sync::Arc;

use super::{Controlled, Ignored, Machine, Notice, SEEN_KEPT_MS, Stage};
use crate::ids::{Seq, TurnId};
use crate::journal::{CancelReason, EventBody, NoticeSource};
use crate::message::{Action, MessageBody, Seen};
use crate::planted::{Planted, planted};
use crate::ports::store::{FirstDecision, Guard};

/// Notices that wait to be told, and parts that wait to be delivered, together at most.
pub const NOTICES_MAX: usize = 100;

impl Machine<'_> {
    pub(super) fn on_notify(
        &mut self,
        seen: Option<&Seen>,
        body: &Arc<MessageBody>,
        scheduled: bool,
    ) -> Controlled {
        let told = match self.refuses_notice(scheduled) {
            Some(refusal) => refusal,
            None => self.take_notice(body, scheduled),
        };
        self.guard_notice(seen, &told);
        told
    }

    fn refuses_notice(&self, scheduled: bool) -> Option<Controlled> {
        let session = &self.session;
        if !session.opted_in && !scheduled && !planted(Planted::ConsentIgnored) {
            return Some(Controlled::NotOptedIn);
        }
        if session.closed && !self.context.policy.facts.reopens {
            return Some(Controlled::IsClosed);
        }
        // What was told and is not delivered yet waits as well.
        let waiting = session.notices.len() + session.outbox.parts.len();
        (waiting >= NOTICES_MAX).then_some(Controlled::NoticesFull)
    }

    fn take_notice(&mut self, body: &Arc<MessageBody>, scheduled: bool) -> Controlled {
        if std::mem::take(&mut self.session.closed) {
            self.journal(EventBody::SessionReopened);
        }
        let waits = self.is_in_a_turn() && !planted(Planted::NoticeInTurn);
        let (message_id, text) = (Arc::clone(&body.message_id), Arc::clone(&body.text));
        let seq = if waits {
            let seq =
                self.journal(EventBody::SessionNoticeAccepted { message_id, text, scheduled });
            self.session.notices.push(Notice { seq, scheduled, body: Arc::clone(body) });
            seq
        } else {
            self.tell(body, None, scheduled)
        };
        Controlled::Noticed { seq, waits, duplicate: false }
    }

    /// A turn is open, and it is not the user's move.
    fn is_in_a_turn(&self) -> bool {
        let turn = self.session.turn.as_ref();
        turn.is_some_and(|turn| !matches!(turn.stage, Stage::Waiting { .. }))
    }

    fn tell(&mut self, body: &MessageBody, of: Option<Seq>, scheduled: bool) -> Seq {
        let text = Arc::clone(&body.text);
        let message_id = Some(Arc::clone(&body.message_id));
        let source = if scheduled { NoticeSource::Scheduled } else { NoticeSource::Unasked };
        let by = None;
        let seq = self.journal(EventBody::SessionNotice { text, source, message_id, of, by });
        self.send_reply(seq, &body.text);
        seq
    }

    /// Tells what waits, in order, if no turn is in the way any more. Every ending of a turn passes
    /// here before the next one begins.
    pub(super) fn tell_notices(&mut self) {
        let forgotten = planted(Planted::NoticeForgotten);
        if self.session.notices.is_empty() || self.is_in_a_turn() || forgotten {
            return;
        }
        for notice in std::mem::take(&mut self.session.notices) {
            self.tell(&notice.body, Some(notice.seq), notice.scheduled);
        }
    }

    /// Gives up what waits.
    pub(super) fn drop_notices(&mut self, reason: CancelReason) {
        let notices = std::mem::take(&mut self.session.notices);
        self.cancel_notices(&notices, reason);
    }

    fn cancel_notices(&mut self, notices: &[Notice], reason: CancelReason) {
        if notices.is_empty() {
            return;
        }
        let notices = notices.iter().map(|notice| notice.seq).collect();
        self.journal(EventBody::SessionNoticeCancelled { notices, reason });
    }

    /// As with messages: what came before is asked also where it is refused now, and only what is
    /// taken is remembered.
    fn guard_notice(&mut self, seen: Option<&Seen>, told: &Controlled) {
        if planted(Planted::NoticeUnguarded) {
            return;
        }
        let (seq, action) = match told {
            Controlled::Noticed { seq, waits: true, .. } => (Some(*seq), Action::Queued),
            Controlled::Noticed { seq, .. } => (Some(*seq), Action::EventSent),
            _ => (None, Action::Rejected),
        };
        self.guard_name(seen, seq, (action, None));
    }

    /// Asks for the name of what a person had told, and remembers it where that was taken.
    pub(super) fn guard_name(
        &mut self,
        seen: Option<&Seen>,
        seq: Option<Seq>,
        (action, turn): (Action, Option<TurnId>),
    ) {
        let Some(seen) = seen else { return };
        let first = FirstDecision {
            session: self.context.key.clone(),
            seq: seq.unwrap_or_default(),
            action,
            turn,
            queue_position: None,
        };
        let until = seq.map_or(0, |_| self.context.now.saturating_add(SEEN_KEPT_MS));
        self.step.rows.guards.push(Guard::NotSeen { seen: *seen, first, until });
    }

    /// Whoever opts out is not told what waits either.
    pub(super) fn on_opt_in(&mut self, wanted: bool) -> Controlled {
        if self.session.opted_in == wanted {
            self.ignore(Ignored::NothingToControl);
            return Controlled::Done;
        }
        if !wanted && !planted(Planted::OptOutKeepsNotices) {
            let waiting = std::mem::take(&mut self.session.notices);
            let (asked, unasked): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|notice| notice.scheduled);
            self.session.notices = asked;
            self.cancel_notices(&unasked, CancelReason::OptedOut);
        }
        self.session.opted_in = wanted;
        let opted = if wanted { EventBody::SessionOptedIn } else { EventBody::SessionOptedOut };
        self.journal(opted);
        Controlled::Done
    }
}
