//! Decide: what becomes of an admitted message.

use std::sync::Arc;

use smallvec::smallvec;

use super::{Answered, Effect, Ignored, Machine, SEEN_KEPT_MS, Stage};
use crate::accumulation::{Rhythm, window_ms};
use crate::ids::{QuestionId, Seq, TurnGroupId, TurnId};
use crate::journal::EventBody;
use crate::message::{Action, Decision, Inbound, InboundKind, Pending, Rejection};
use crate::planted::{Planted, planted};
use crate::policy::{BusyPolicy, Trust, WindowMode};
use crate::ports::store::{FirstDecision, Guard};
use crate::session::state::Query;

/// What the table of decisions says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A new turn begins with it.
    Start,
    /// It joins the gathering turn.
    Join,
    /// It answers the open question.
    Answer,
    /// It goes to the running turn's mailbox.
    Mailbox,
    /// It goes to the mailbox and the agent is asked.
    Ask,
    /// The turn is superseded.
    Supersede,
    /// It waits; alone or with its neighbours.
    Queue { alone: bool },
    /// It waits for an external check, or behind one that does.
    Hold,
    /// Refused.
    Reject,
}

impl Machine<'_> {
    pub(super) fn on_message(&mut self, message: &Inbound) {
        if let Some(rejection) = message.refused.clone()
            && !planted(Planted::RefusedTaken)
        {
            return self.reject(message, rejection);
        }
        if self.session.closed && !self.context.policy.facts.reopens {
            return self.reject(message, Rejection::Closed);
        }
        match &message.kind {
            InboundKind::Command(act) if !planted(Planted::CommandQueued) => {
                return self.on_command(message, act);
            }
            InboundKind::Context if !planted(Planted::ContextTaken) => {
                return self.on_context(message);
            }
            _ => {}
        }
        if !self.may_answer(message.answers, message.trust) {
            return self.reject(message, Rejection::QuestionNotOpen);
        }
        if self.is_full() {
            return self.reject(message, Rejection::QueueFull);
        }
        let mut verdict = self.verdict(message.trust);
        if verdict == Verdict::Reject {
            return self.reject(message, Rejection::SessionBusy);
        }
        if self.must_hold(Some(&message.kind)) {
            verdict = Verdict::Hold;
        }
        if self.session.closed {
            self.session.closed = false;
            self.journal(EventBody::SessionReopened);
        }
        let decision = self.accept(message, verdict, None, None);
        self.guard_twins(message, &decision);
        self.effect(Effect::Decided(message.token, decision));
    }

    /// Whether the question that a message is to answer is open and its sender's to answer; one that
    /// names none may be taken for anything.
    pub(super) fn may_answer(&self, question: Option<QuestionId>, trust: Trust) -> bool {
        let Some(wanted) = question else { return true };
        if planted(Planted::QuestionUnchecked) {
            return true;
        }
        let open = self.session.turn.as_ref().is_some_and(
            |turn| matches!(turn.stage, Stage::Waiting { question, .. } if question == wanted),
        );
        open && self.table(trust) == Verdict::Answer
    }

    /// Whether a message was seen before is asked first of all, so a refusal waits for the answer
    /// too: what was accepted once is never refused when it comes again. It is a question only:
    /// nothing changes, and nothing is written for somebody who is refused.
    pub(super) fn reject(&mut self, message: &Inbound, rejection: Rejection) {
        let asked = message.kind == InboundKind::Message;
        if asked && matches!(rejection, Rejection::BudgetExceeded { .. }) {
            self.tell_refused();
        }
        let decision = Decision::rejected(rejection);
        if !planted(Planted::RefusalUnguarded) {
            self.guard_twins(message, &decision);
        }
        self.effect(Effect::Decided(message.token, decision));
    }

    pub(super) fn guard_twins(&mut self, message: &Inbound, decision: &Decision) {
        if !message.is_named() {
            return;
        }
        let first = FirstDecision {
            session: self.context.key.clone(),
            seq: decision.seq.unwrap_or_default(),
            action: decision.action,
            turn: decision.turn,
            queue_position: decision.queue_position,
        };
        // Only acceptances are remembered: what is kept until the dawn of time is forgotten at once.
        let until = decision.seq.map_or(0, |_| self.context.now.saturating_add(SEEN_KEPT_MS));
        for seen in message.names() {
            let guard = Guard::NotSeen { seen: *seen, first: first.clone(), until };
            self.step.rows.guards.push(guard);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.session.inbox_len() >= self.context.policy.inbox_max as usize
    }

    /// Nothing is open, so the next message begins a turn.
    pub(super) fn is_at_rest(&self) -> bool {
        let session = &self.session;
        session.turn.is_none() && session.queue.is_empty() && session.held.is_empty()
    }

    /// A retried dead letter: it takes a new place, behind everything that waits.
    pub(super) fn accept_retry(
        &mut self,
        message: &Inbound,
        group: TurnGroupId,
        retry_of: Seq,
    ) -> Decision {
        let verdict = if self.is_at_rest() {
            Verdict::Start
        } else if self.must_hold(None) {
            Verdict::Hold
        } else {
            Verdict::Queue { alone: true }
        };
        self.accept(message, verdict, Some(group), Some(retry_of))
    }

    /// Where nothing may wait, what would have to is refused. (What waits already, or what a turn
    /// leaves over, was accepted, and keeps its place.)
    fn verdict(&self, trust: Trust) -> Verdict {
        match self.table(trust) {
            Verdict::Queue { .. } if !self.may_queue() => Verdict::Reject,
            // Those that are held are before it, so it would meet a turn.
            _ if !self.session.held.is_empty() && self.refuses_to_queue() => Verdict::Reject,
            verdict => verdict,
        }
    }

    fn refuses_to_queue(&self) -> bool {
        self.busy() == BusyPolicy::Reject || !self.may_queue()
    }

    fn busy(&self) -> BusyPolicy {
        self.session.busy.unwrap_or(self.context.policy.busy)
    }

    /// Whether a held message that is let go would begin a turn.
    pub(super) fn needs_a_turn(&self, message: &Pending) -> bool {
        matches!(self.table_of_held(message), Verdict::Start | Verdict::Supersede)
    }

    /// A held message goes on as if it had just come. But it was accepted: it is never refused.
    pub(super) fn place_held(&mut self, message: Pending) {
        let verdict = self.table_of_held(&message);
        let alone = matches!(verdict, Verdict::Queue { alone: true });
        self.place(verdict, Pending { alone, ..message });
    }

    fn table_of_held(&self, message: &Pending) -> Verdict {
        let retried = message.group.is_some();
        match self.table(message.trust) {
            Verdict::Reject => Verdict::Queue { alone: false },
            Verdict::Start => Verdict::Start,
            _ if retried => Verdict::Queue { alone: true },
            verdict => verdict,
        }
    }

    pub(super) fn may_queue(&self) -> bool {
        self.context.policy.queues || planted(Planted::QueueSwitchIgnored)
    }

    /// The table of decisions. Trust comes first, and nothing overtakes the queue.
    fn table(&self, trust: Trust) -> Verdict {
        let busy = self.busy();
        let Some(turn) = &self.session.turn else { return Verdict::Start };
        let queue = Verdict::Queue { alone: busy == BusyPolicy::Queue };
        let stranger = turn.trust != trust && !planted(Planted::TrustIgnored);
        let outside = stranger || !self.session.queue.is_empty();
        let committed = turn.committed && !planted(Planted::SupersedeAfterCommit);
        match turn.stage {
            Stage::Accumulating { .. } | Stage::Operator if outside => queue,
            Stage::Accumulating { .. } | Stage::Operator => Verdict::Join,
            // It answers the open turn, which is before everything that is queued.
            Stage::Waiting { .. } if stranger => queue,
            Stage::Waiting { .. } => Verdict::Answer,
            Stage::Processing | Stage::Backoff { .. } | Stage::Quarantined => match busy {
                BusyPolicy::Reject => Verdict::Reject,
                // What comes now is the operator's, once this turn is out of the way.
                _ if outside || committed || turn.stopping || self.is_paused() => queue,
                BusyPolicy::Absorb => Verdict::Mailbox,
                BusyPolicy::Supersede if turn.chain < self.context.policy.supersedes_max => {
                    Verdict::Supersede
                }
                BusyPolicy::Supersede | BusyPolicy::Collect | BusyPolicy::Queue => queue,
                // The question needs a run to answer it, and there is one at a time.
                BusyPolicy::Agent
                    if turn.query.is_none() && matches!(turn.stage, Stage::Processing) =>
                {
                    Verdict::Ask
                }
                BusyPolicy::Agent => Verdict::Mailbox,
            },
        }
    }

    pub(super) fn accept(
        &mut self,
        message: &Inbound,
        verdict: Verdict,
        group: Option<TurnGroupId>,
        retry_of: Option<Seq>,
    ) -> Decision {
        if retry_of.is_none() && message.kind != InboundKind::Context {
            self.learn(message);
        }
        let open = self.session.turn.as_ref().map(|turn| turn.id);
        let (action, turn) = match verdict {
            Verdict::Start | Verdict::Supersede => {
                (Action::WorkflowStarted, Some(self.context.fresh))
            }
            Verdict::Join | Verdict::Answer | Verdict::Mailbox | Verdict::Ask => {
                (Action::EventSent, open)
            }
            Verdict::Hold if message.kind == InboundKind::Context => (Action::Context, None),
            Verdict::Queue { .. } | Verdict::Hold | Verdict::Reject => (Action::Queued, None),
        };
        let queue_position = match verdict {
            Verdict::Queue { alone } => Some(self.session.turns_ahead(alone, message.trust)),
            Verdict::Hold if action == Action::Context => None,
            Verdict::Hold => Some(self.session.turns_ahead(group.is_some(), message.trust)),
            _ => None,
        };
        let held = verdict == Verdict::Hold;
        let seq = self.journal_accepted(message, (action, turn, queue_position), retry_of, held);
        let pending = Pending {
            seq,
            at: self.context.now,
            trust: message.trust,
            alone: matches!(verdict, Verdict::Queue { alone: true }),
            group,
            body: Arc::clone(&message.body),
        };
        if held {
            let kind = retry_of.is_none().then_some(&message.kind);
            self.hold(pending, kind, message.answers);
        } else {
            self.place(verdict, pending);
        }
        Decision { queue_position, ..Decision::accepted(action, turn, seq) }
    }

    /// Notes how long the customer took since their last message, if both are of one burst.
    ///
    /// They are where the earlier one is still unanswered and no question was asked since: what
    /// follows a reply or a question answers it. Whether the later one came in time for the window
    /// doesn't matter. If only those in time counted, a window that is too short would never learn
    /// so. What takes longer than a whole burst may is no typing. In groups only a sender's own
    /// messages in a row count.
    fn learn(&mut self, message: &Inbound) {
        let policy = self.context.policy;
        // Elsewhere nobody would use it.
        if policy.window_mode != WindowMode::Adaptive || policy.window_ms == 0 {
            return;
        }
        let asked = self
            .session
            .turn
            .as_ref()
            .is_some_and(|turn| matches!(turn.stage, Stage::Waiting { .. }));
        let any = planted(Planted::AnyGapLearnt);
        let Some(last) = self.session.newest() else { return };
        let retried = last.group.is_some();
        if (asked && !any) || retried || last.body.sender != message.body.sender {
            return;
        }
        let gap = self.context.now.saturating_sub(last.at);
        let Ok(gap) = u64::try_from(gap) else { return };
        if gap <= policy.window_total_ms.into() || any {
            self.session.rhythm.add(gap);
        }
    }

    fn journal_accepted(
        &mut self,
        message: &Inbound,
        (action, turn_id, queue_position): (Action, Option<TurnId>, Option<u32>),
        retry_of: Option<Seq>,
        held: bool,
    ) -> Seq {
        self.journal(EventBody::MessageAccepted {
            message_id: Arc::clone(&message.body.message_id),
            sender: Arc::clone(&message.body.sender),
            text: Arc::clone(&message.body.text),
            trust: message.trust,
            action,
            turn_id,
            queue_position,
            retry_of,
            held,
            disappears_s: message.disappears_s,
        })
    }

    fn place(&mut self, verdict: Verdict, pending: Pending) {
        match verdict {
            Verdict::Start => {
                let window = self.window_for(&pending, 1);
                let group = pending.group;
                self.open_turn(smallvec![pending], group, window);
            }
            Verdict::Join => self.join(pending),
            Verdict::Answer => self.answer_user_question(pending),
            Verdict::Mailbox => self.put_in_mailbox(pending),
            Verdict::Ask => self.ask_agent(pending),
            Verdict::Supersede => {
                self.put_in_mailbox(pending);
                self.supersede();
            }
            // Neither comes here: what is held or refused has no place.
            Verdict::Hold | Verdict::Reject | Verdict::Queue { .. } => {
                self.session.queue.push(pending);
            }
        }
    }

    pub(super) fn window_for(&self, pending: &Pending, nth: u32) -> u64 {
        let text = &pending.body.text;
        let ignored = planted(Planted::RhythmIgnored);
        let rhythm = if ignored { Rhythm::default() } else { self.session.rhythm.rhythm() };
        window_ms(self.context.policy, text, nth, self.session.hint, rhythm)
    }

    /// A message of the burst: the window is computed anew, up to the burst's own limit.
    fn join(&mut self, pending: Pending) {
        let Some(turn) = &mut self.session.turn else { return };
        turn.messages.push(pending);
        if turn.stage == Stage::Operator {
            self.changed();
            return self.put_turn_row();
        }
        let nth = u32::try_from(turn.messages.len()).unwrap_or(u32::MAX);
        let window = match self.session.turn.as_ref().and_then(|turn| turn.messages.last()) {
            Some(last) => self.window_for(last, nth),
            None => 0,
        };
        self.rearm_window(window);
    }

    /// Arms the window anew, or begins at once where the burst's time is over.
    fn rearm_window(&mut self, window_ms: u64) {
        let now = self.context.now;
        let Some(turn) = &self.session.turn else { return };
        let ends =
            turn.started_at.min(now).saturating_add(self.context.policy.window_total_ms.into());
        // A clock that stepped back must not stretch the burst beyond its limit.
        let left = (ends - now).clamp(0, self.context.policy.window_total_ms.into());
        let window = window_ms.min(left.unsigned_abs());
        if window == 0 {
            return self.begin_attempt();
        }
        let deadline = self.deadline(window);
        if let Some(turn) = &mut self.session.turn {
            turn.stage = Stage::Accumulating { window: deadline };
        }
        self.changed();
        self.put_turn_row();
    }

    pub(super) fn on_user_typing(&mut self) {
        let gathering = self
            .session
            .turn
            .as_ref()
            .is_some_and(|turn| matches!(turn.stage, Stage::Accumulating { .. }));
        if !gathering {
            return self.ignore(Ignored::TypingNotGathering);
        }
        // Typing extends the window and never cuts it short.
        let now = self.context.now;
        let left = self.session.turn.as_ref().map_or(0, |turn| match turn.stage {
            Stage::Accumulating { window } => window.at.saturating_sub(now).max(0).unsigned_abs(),
            _ => 0,
        });
        self.rearm_window(left.max(self.context.policy.window_ms.into()));
    }

    fn put_in_mailbox(&mut self, pending: Pending) {
        let Some(turn) = &mut self.session.turn else { return };
        turn.mailbox.push(pending);
        let notify = matches!(turn.stage, Stage::Processing).then(|| turn.tag());
        if let Some(tag) = notify {
            self.effect(Effect::MailWaiting(tag));
        }
    }

    /// Puts the message to the agent, which has a while to say what to do with it.
    fn ask_agent(&mut self, pending: Pending) {
        self.session.last_question = self.session.last_question.next();
        let id = self.session.last_question;
        let deadline = self.deadline(self.context.policy.question_ms);
        let Some(turn) = &mut self.session.turn else { return };
        turn.query = Some(Query { id, deadline });
        turn.mailbox.push(pending.clone());
        let (tag, turn_id) = (turn.tag(), turn.id);
        self.journal(EventBody::SupersedeAsked { turn_id, question_id: id });
        self.effect(Effect::AskAgent(tag, id, Box::new(pending)));
    }

    /// The user answered: the waiting run goes on, or a new attempt starts if it is gone.
    fn answer_user_question(&mut self, pending: Pending) {
        let Some(turn) = &mut self.session.turn else { return };
        let Stage::Waiting { question, live, .. } = turn.stage else { return };
        // A run that lives elsewhere is not told from here.
        let live = live && self.context.runs;
        let (turn_id, tag, seq) = (turn.id, turn.tag(), pending.seq);
        turn.messages.push(pending.clone());
        turn.absorbed += 1;
        if live {
            turn.stage = Stage::Processing;
            // What answers a question was certainly used by who asked it.
            turn.given = u32::try_from(turn.messages.len()).unwrap_or(u32::MAX);
        } else {
            turn.answered = Some(Answered { question, message: seq });
        }
        self.journal(EventBody::TurnAnswered { turn_id, question_id: question, message: seq });
        if live {
            self.put_turn_row();
            self.effect(Effect::Typing(true));
            self.effect(Effect::AnswerRun(tag, question, Box::new(pending)));
        } else {
            self.begin_attempt();
        }
    }
}
