//! How a turn begins and ends. Every ending looks at the mailbox in the same commit.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Burst, Done, Effect, Finished, Machine, Stage, StartRun, Turn};
use crate::ids::{Attempt, RunTag, Seqs, TurnGroupId};
use crate::journal::{CancelReason, DeadReason, EventBody};
use crate::message::Pending;
use crate::planted::{Planted, planted};
use crate::policy::Trust;
use crate::ports::store::{DeadLetter, TurnRow, TurnStatus};
use crate::session::effect::failure_notice;

/// The reply of an agent that has nothing to say. White space around it does not matter.
pub const NO_REPLY: &str = "NO_REPLY";

/// Whether there is anything to send; every reply of an agent passes here.
fn says_something(text: &str) -> bool {
    let text = text.trim();
    !text.is_empty() && (text != NO_REPLY || planted(Planted::SilenceSent))
}

impl Machine<'_> {
    /// Opens a turn; with a window of 0 it is handed to the agent at once.
    pub(super) fn open_turn(
        &mut self,
        messages: Burst,
        group: Option<TurnGroupId>,
        window_ms: u64,
    ) {
        let id = self.context.fresh;
        let group = group.unwrap_or(TurnGroupId(id.0));
        self.journal(EventBody::TurnStarted {
            turn_id: id,
            turn_group_id: group,
            messages: messages.iter().map(|pending| pending.seq).collect(),
            supersedes: None,
        });
        self.install(messages, group, (0, 0), window_ms);
    }

    /// `chain` and `recoveries` are what a superseded turn hands down.
    fn install(
        &mut self,
        messages: Burst,
        group: TurnGroupId,
        (chain, recoveries): (u32, u32),
        window_ms: u64,
    ) {
        let window = self.deadline(window_ms.min(self.context.policy.window_total_ms.into()));
        let trust = messages.first().map_or(Trust::Public, |pending| pending.trust);
        self.session.failed = false;
        self.session.turn = Some(Box::new(Turn {
            id: self.context.fresh,
            group,
            trust,
            epoch: self.context.epoch,
            attempt: Attempt(0),
            errors: 0,
            recoveries,
            chain,
            committed: false,
            stopping: false,
            started_at: self.context.now,
            stage: Stage::Accumulating { window },
            messages,
            given: 0,
            absorbed: 0,
            mailbox: Vec::new(),
            query: None,
            open_calls: SmallVec::new(),
            acted: false,
            answered: None,
            stopped_in: SmallVec::new(),
            finishing: None,
            held: SmallVec::new(),
            done: Done::default(),
        }));
        if window_ms == 0 || self.is_paused() {
            self.begin_attempt();
        } else {
            self.put_turn_row();
        }
    }

    /// Hands the turn to the agent, unless an operator has its place, or the turn may be what kills
    /// the process: such a turn waits for its own place first, on every way to an attempt.
    pub(super) fn begin_attempt(&mut self) {
        if self.is_paused() && !planted(Planted::PauseIgnored) {
            return self.wait_for_operator(None);
        }
        if !self.context.runs {
            return self.leave_attempt();
        }
        let suspects_from = self.context.policy.recoveries_quarantine;
        let Some(turn) = &mut self.session.turn else { return };
        if turn.recoveries < suspects_from || planted(Planted::QuarantineSkipped) {
            return self.begin_granted_attempt();
        }
        turn.stage = Stage::Quarantined;
        turn.query = None;
        let id = turn.id;
        self.changed();
        self.put_turn_row();
        self.effect(Effect::Typing(false));
        self.effect(Effect::RequestQuarantine(id));
    }

    /// An attempt is due at once, for whoever runs the session.
    fn leave_attempt(&mut self) {
        let until = self.deadline(0);
        let Some(turn) = &mut self.session.turn else { return };
        turn.stage = Stage::Backoff { until };
        turn.query = None;
        self.changed();
        self.put_turn_row();
    }

    /// Hands the turn to the agent with everything it has, the mailbox included.
    pub(super) fn begin_granted_attempt(&mut self) {
        self.close_calls_of_open_turn();
        self.let_go_of_artifacts();
        // A turn that finishes leaves what is new to the next one.
        if self.session.turn.as_ref().is_some_and(|turn| turn.finishing.is_none()) {
            self.drain_mailbox();
        }
        let acts = self.acts_so_far();
        let Some(turn) = &mut self.session.turn else { return };
        if !(planted(Planted::AttemptKept) && turn.recoveries > 0) {
            turn.attempt = turn.attempt.next();
        }
        turn.epoch = self.context.epoch;
        turn.stage = Stage::Processing;
        turn.query = None;
        turn.done = Done::default();
        turn.given = u32::try_from(turn.messages.len()).unwrap_or(u32::MAX);
        let start = StartRun {
            tag: turn.tag(),
            group: turn.group,
            trust: turn.trust,
            messages: turn.messages.to_vec(),
            resume: turn.committed && !planted(Planted::ResumeForgotten),
            acts,
            finishing: turn.finishing,
            answered: turn.answered.map(|answered| answered.question),
            quarantined: turn.recoveries >= self.context.policy.recoveries_quarantine,
            history_from: self.session.history_from,
            model: self.session.model.clone(),
        };
        let messages = turn.seqs();
        let tag = start.tag;
        self.journal(EventBody::TurnProcessing {
            turn_id: tag.turn,
            attempt: tag.attempt,
            epoch: tag.epoch,
            messages,
        });
        self.put_turn_row();
        self.effect(Effect::Typing(true));
        self.effect(Effect::Start(Box::new(start)));
        self.limit_attempt(tag);
    }

    /// Moves mail into the turn, as much as one turn may absorb; says what.
    pub(super) fn drain_mailbox(&mut self) -> Vec<Pending> {
        let Some(turn) = &mut self.session.turn else { return Vec::new() };
        let room = self.context.policy.absorbed_max.saturating_sub(turn.absorbed) as usize;
        let taken: Vec<Pending> = turn.mailbox.drain(..room.min(turn.mailbox.len())).collect();
        if taken.is_empty() {
            return taken;
        }
        turn.absorbed += u32::try_from(taken.len()).unwrap_or(u32::MAX);
        turn.messages.extend(taken.iter().cloned());
        let turn_id = turn.id;
        let messages = taken.iter().map(|pending| pending.seq).collect();
        self.journal(EventBody::TurnMessageAbsorbed { turn_id, messages });
        self.put_turn_row();
        taken
    }

    /// Cancels the open turn for a new one with its messages and its mailbox, in the same group.
    pub(super) fn supersede(&mut self) {
        let Some(mut old) = self.session.turn.take() else { return };
        self.close_calls(&mut old);
        let by = self.context.fresh;
        self.journal(EventBody::TurnSuperseded { turn_id: old.id, by });
        self.end_run(&old);
        self.put_ended_row(&old, TurnStatus::Superseded, None, None);
        let Turn { id, group, chain, recoveries, mut messages, mailbox, .. } = *old;
        messages.extend(mailbox);
        let window = messages.last().map_or(0, |last| self.window_for(last, 1));
        self.journal(EventBody::TurnStarted {
            turn_id: by,
            turn_group_id: group,
            messages: messages.iter().map(|pending| pending.seq).collect(),
            supersedes: Some(id),
        });
        // What kills the process may be among the messages that go on.
        self.install(messages, group, (chain + 1, recoveries), window);
    }

    /// Commits the turn with its reply. What its agent did not use counts as unread.
    pub(super) fn complete(&mut self, finished: Finished) {
        let Finished { reply, used, version, .. } = finished;
        let Some(mut turn) = self.session.turn.take() else { return };
        self.close_calls(&mut turn);
        let given = turn.given as usize;
        let unread: Vec<Pending> = match used {
            Some(used) => {
                let keep = turn.messages.iter().enumerate();
                let at = keep.filter(|(index, pending)| *index < given || pending.seq <= used);
                let at = at.count();
                turn.messages.drain(at..).collect()
            }
            None => Vec::new(),
        };
        let unread = if planted(Planted::UnreadLost) { Vec::new() } else { unread };
        let reply = reply.filter(|text| says_something(text));
        let seq = self.journal(EventBody::TurnCompleted {
            turn_id: turn.id,
            attempt: turn.attempt,
            epoch: turn.epoch,
            messages: turn.seqs(),
            reply: reply.clone(),
            version: version.clone(),
            by: None,
        });
        self.step.rows.put_turn(TurnRow {
            version,
            ..self.ended_row(&turn, TurnStatus::Complete, reply.as_ref(), None)
        });
        self.effect(Effect::Typing(false));
        if let Some(text) = reply {
            self.send_reply(seq, &text);
        }
        self.forget_artifacts(turn.group);
        self.leave(unread, turn.mailbox);
    }

    /// Ends the turn because a person said so; its mailbox goes with it.
    pub(super) fn cancel(&mut self, reason: CancelReason, shown: Option<Arc<str>>) -> u32 {
        let Some(mut turn) = self.session.turn.take() else { return 0 };
        let told = self.calls_to_tell(&turn).filter(|_| reason == CancelReason::Stopped);
        self.close_calls(&mut turn);
        let mut mailbox = std::mem::take(&mut turn.mailbox);
        if planted(Planted::StopForgetsMailbox) {
            mailbox.clear();
        }
        turn.messages.extend(mailbox);
        let messages: Seqs = turn.seqs();
        let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        let reply = shown.filter(|text| says_something(text));
        let seq = self.journal(EventBody::TurnCancelled {
            turn_id: turn.id,
            reason,
            messages,
            reply: reply.clone(),
            acts: self.standing_acts(turn.group),
        });
        self.forget_artifacts(turn.group);
        self.end_run(&turn);
        self.put_ended_row(&turn, TurnStatus::Cancelled, reply.as_ref(), None);
        if let Some(text) = reply {
            self.send_reply(seq, &text);
        }
        if let Some(calls) = told {
            self.tell_outcomes(turn.group, &calls);
        }
        count
    }

    /// Gives the turn up: its messages become dead letters, its mailbox starts the next turn.
    pub(super) fn fail(&mut self, reason: DeadReason, error: &Arc<str>) {
        let Some(mut turn) = self.session.turn.take() else { return };
        self.close_calls(&mut turn);
        self.session.failed = true;
        self.journal(EventBody::TurnFailed {
            turn_id: turn.id,
            reason,
            error: Arc::clone(error),
            messages: turn.seqs(),
            acts: self.standing_acts(turn.group),
        });
        self.end_run(&turn);
        self.put_ended_row(&turn, TurnStatus::Failed, None, Some(error));
        self.bury(&turn.messages, turn.group, reason);
        self.notice_failure(turn.trust, error);
        let mailbox = std::mem::take(&mut turn.mailbox);
        self.leave(Vec::new(), mailbox);
    }

    pub(super) fn bury(&mut self, messages: &[Pending], group: TurnGroupId, reason: DeadReason) {
        self.session.acts.bury(group, messages.iter().map(|pending| pending.seq));
        for pending in messages {
            self.step.rows.dead_letters.push(DeadLetter {
                seq: pending.seq,
                group,
                trust: pending.trust,
                reason,
                at: self.context.now,
                body: Arc::clone(&pending.body),
            });
        }
    }

    /// One short notice, and no second one for a while; detail is for trusted users only.
    pub(super) fn notice_failure(&mut self, trust: Trust, error: &str) {
        let quiet = i64::try_from(self.context.policy.notice_quiet_ms).unwrap_or(i64::MAX);
        let recent = self
            .session
            .noticed_at
            .is_some_and(|at| (0..quiet).contains(&self.context.now.saturating_sub(at)));
        if recent {
            return;
        }
        self.session.noticed_at = Some(self.context.now);
        let text = failure_notice((trust >= Trust::Full).then_some(error));
        let seq = self.journal(EventBody::notice(Arc::clone(&text)));
        self.send_reply(seq, &text);
    }

    /// What a turn left unread goes before everything queued; then the next turn begins.
    fn leave(&mut self, unread: Vec<Pending>, mailbox: Vec<Pending>) {
        let mailbox = if planted(Planted::MailboxForgotten) { Vec::new() } else { mailbox };
        if !unread.is_empty() || !mailbox.is_empty() {
            self.requeue(unread.into_iter().chain(mailbox));
        }
        self.start_next();
    }

    /// Puts messages that a turn held before everything queued.
    pub(super) fn requeue(&mut self, messages: impl Iterator<Item = Pending>) {
        let messages: Burst = messages.collect();
        if messages.is_empty() {
            return;
        }
        let seqs = messages.iter().map(|pending| pending.seq).collect();
        self.journal(EventBody::MessageRequeued { messages: seqs });
        let at = if planted(Planted::RequeueAtBack) { self.session.queue.len() } else { 0 };
        self.session.queue.splice(at..at, messages);
    }

    /// Begins the next turn with the head of the queue and what collects with it.
    pub(super) fn start_next(&mut self) {
        self.tell_notices();
        if self.session.turn.is_some() || self.session.queue.is_empty() {
            return;
        }
        let queue = &self.session.queue;
        let joined = queue.windows(2).take_while(|pair| pair[0].collects_with(&pair[1])).count();
        let messages: Burst = self.session.queue.drain(..=joined).collect();
        let group = messages.first().and_then(|pending| pending.group);
        self.open_turn(messages, group, 0);
    }

    /// Ends whatever runs for a turn that is over.
    pub(super) fn end_run(&mut self, turn: &Turn) {
        let live = match turn.stage {
            Stage::Processing => true,
            Stage::Waiting { live, .. } => live,
            Stage::Accumulating { .. }
            | Stage::Backoff { .. }
            | Stage::Quarantined
            | Stage::Operator => false,
        };
        if live {
            self.effect(Effect::Cancel(turn.tag()));
        }
        if matches!(turn.stage, Stage::Processing) {
            self.effect(Effect::Typing(false));
        }
    }

    /// Whether this is the run that the open turn is waiting for.
    pub(super) fn is_current(&self, tag: RunTag) -> bool {
        self.session.turn.as_ref().is_some_and(|turn| {
            let running = match turn.stage {
                Stage::Processing => true,
                Stage::Waiting { live, .. } => live,
                Stage::Accumulating { .. }
                | Stage::Backoff { .. }
                | Stage::Quarantined
                | Stage::Operator => false,
            };
            let unchecked = planted(Planted::RunTagUnchecked) && turn.id == tag.turn;
            running && (turn.tag() == tag || unchecked)
        })
    }

    /// The open turn's row has changed.
    pub(super) const fn put_turn_row(&mut self) {
        self.turn_row_due = true;
    }

    /// Writes the open turn's row as it stands.
    pub(super) fn put_open_row(&mut self) {
        let Some(turn) = &self.session.turn else { return };
        let status = match turn.stage {
            Stage::Accumulating { .. } => TurnStatus::Accumulating,
            Stage::Processing | Stage::Backoff { .. } | Stage::Quarantined => {
                TurnStatus::Processing
            }
            Stage::Waiting { .. } => TurnStatus::WaitingForInput,
            Stage::Operator => TurnStatus::WaitingForOperator,
        };
        let row = row_of(turn, status);
        self.step.rows.put_turn(row);
    }

    pub(super) fn put_ended_row(
        &mut self,
        turn: &Turn,
        status: TurnStatus,
        reply: Option<&Arc<str>>,
        error: Option<&Arc<str>>,
    ) {
        let row = self.ended_row(turn, status, reply, error);
        self.step.rows.put_turn(row);
    }

    pub(super) fn ended_row(
        &self,
        turn: &Turn,
        status: TurnStatus,
        reply: Option<&Arc<str>>,
        error: Option<&Arc<str>>,
    ) -> TurnRow {
        TurnRow {
            ended_at: Some(self.context.now),
            reply: reply.cloned(),
            error: error.cloned(),
            ..row_of(turn, status)
        }
    }
}

fn row_of(turn: &Turn, status: TurnStatus) -> TurnRow {
    TurnRow {
        id: turn.id,
        group: turn.group,
        status,
        attempt: turn.attempt,
        epoch: turn.epoch,
        started_at: turn.started_at,
        ended_at: None,
        message_ids: turn.messages.iter().map(|one| Arc::clone(&one.body.message_id)).collect(),
        reply: None,
        error: None,
        version: None,
        by: None,
    }
}
