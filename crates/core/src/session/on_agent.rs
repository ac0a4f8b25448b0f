//! What the run of a turn says.

use std::sync::Arc;

use super::{
    AgentAnswer, AgentInput, Effect, FinishReason, Finished, Ignored, Machine, RunFailure, Stage,
};
use crate::ids::{QuestionId, RunTag, Token};
use crate::journal::{CancelReason, DeadReason, EventBody, SupersedeChoice};
use crate::message::Pending;
use crate::outbox::backoff_ms;
use crate::planted::{Planted, planted};
use crate::tool::Denied;

impl Machine<'_> {
    pub(super) fn on_agent(&mut self, tag: RunTag, said: &AgentInput) {
        if let AgentInput::Used(report) = said {
            return self.on_used(tag, report);
        }
        if !self.is_current(tag) {
            return self.revoked(said);
        }
        let waiting = self
            .session
            .turn
            .as_ref()
            .is_some_and(|turn| matches!(turn.stage, Stage::Waiting { .. }));
        match said {
            AgentInput::Finished(finished) => self.on_finished(finished),
            AgentInput::Failed(failure) => self.on_failed(failure),
            AgentInput::Used(report) => self.on_used(tag, report),
            AgentInput::Degraded => self.on_degraded(),
            AgentInput::Emit(token, name, detail) => {
                let (name, detail) = (Arc::clone(name), Arc::clone(detail));
                self.journal(EventBody::AgentEvent { turn_id: tag.turn, name, detail });
                self.effect(Effect::AgentAnswer(*token, AgentAnswer::Recorded));
            }
            AgentInput::Answer(question, choice) => self.on_choice(*question, *choice),
            AgentInput::TakeMail(token) | AgentInput::AskAgain(token, _) if waiting => {
                self.ignore(Ignored::RunIsWaiting);
                self.effect(Effect::AgentAnswer(*token, AgentAnswer::Refused));
            }
            AgentInput::CommitPoint(token)
            | AgentInput::Ask(token, _)
            | AgentInput::Confirm(token, _)
            | AgentInput::Intend(token, _)
                if waiting =>
            {
                self.ignore(Ignored::RunIsWaiting);
                let answer = AgentAnswer::NotAllowed(Denied::Waiting);
                self.effect(Effect::AgentAnswer(*token, answer));
            }
            AgentInput::TakeMail(token) => self.on_take_mail(*token),
            AgentInput::CommitPoint(token) => self.on_commit_point(*token),
            AgentInput::Ask(token, text) => self.on_ask(*token, text, false),
            AgentInput::Confirm(token, text) => self.on_ask(*token, text, true),
            AgentInput::AskAgain(token, question) => self.on_ask_again(*token, *question),
            AgentInput::Intend(token, intent) => self.on_intend(*token, intent),
            AgentInput::Returned(token, call, outcome, output) => {
                self.on_returned(*token, *call, *outcome, output);
            }
            AgentInput::Keep(token, artifact) => self.on_keep(*token, artifact),
            AgentInput::LookUp(token, name, inputs) => self.on_look_up(*token, *name, *inputs),
            AgentInput::Recall(token, name, inputs) => self.on_recall(*token, *name, *inputs),
        }
    }

    fn revoked(&mut self, said: &AgentInput) {
        self.ignore(Ignored::StaleRun);
        match said {
            AgentInput::TakeMail(token)
            | AgentInput::CommitPoint(token)
            | AgentInput::Ask(token, _)
            | AgentInput::Confirm(token, _)
            | AgentInput::AskAgain(token, _)
            | AgentInput::Intend(token, _)
            | AgentInput::Returned(token, ..)
            | AgentInput::Keep(token, _)
            | AgentInput::LookUp(token, ..)
            | AgentInput::Recall(token, ..)
            | AgentInput::Emit(token, ..) => {
                self.effect(Effect::AgentAnswer(*token, AgentAnswer::Revoked));
            }
            AgentInput::Answer(..)
            | AgentInput::Used(_)
            | AgentInput::Degraded
            | AgentInput::Finished(_)
            | AgentInput::Failed(_) => {}
        }
    }

    /// The mail is the agent's only once the commit that moved it is durable.
    fn on_take_mail(&mut self, token: Token) {
        let undecided = self.session.turn.as_ref().is_some_and(|turn| turn.query.is_some());
        // While the agent owes an answer on it, the mail stays where every choice finds it.
        let mail = if undecided { Vec::new() } else { self.drain_mailbox() };
        self.effect(Effect::AgentAnswer(token, AgentAnswer::Mail(mail)));
    }

    fn on_commit_point(&mut self, token: Token) {
        let winding_up = self.is_winding_up();
        let Some(turn) = &mut self.session.turn else { return };
        // What can't be undone is new work, unless the turn is behind it already.
        let finishing = turn.is_finishing() && !turn.committed;
        let denied = match (turn.stopping, finishing, winding_up) {
            (true, ..) => Some(Denied::Stopping),
            (_, true, _) => Some(Denied::Finishing),
            (.., true) => Some(Denied::Paused),
            _ => None,
        };
        if let Some(denied) = denied {
            return self.effect(Effect::AgentAnswer(token, AgentAnswer::NotAllowed(denied)));
        }
        self.reach_commit_point();
        self.effect(Effect::AgentAnswer(token, AgentAnswer::Granted));
    }

    /// From here on nothing supersedes the turn.
    pub(super) fn reach_commit_point(&mut self) {
        let Some(turn) = &mut self.session.turn else { return };
        if turn.committed || planted(Planted::CommitPointForgotten) {
            return;
        }
        turn.committed = true;
        // So the question is void, and its mail is plain mail.
        let asked = turn.query.take().is_some();
        let (turn_id, attempt, tag) = (turn.id, turn.attempt, turn.tag());
        self.journal(EventBody::CommitReached { turn_id, attempt });
        if asked {
            self.effect(Effect::MailWaiting(tag));
        }
    }

    fn on_finished(&mut self, finished: &Finished) {
        let stopping = self.session.turn.as_ref().is_some_and(|turn| turn.stopping);
        let length = finished.reply.as_ref().map_or(0, |text| text.len());
        if length > self.context.policy.reply_bytes_max as usize {
            let limit = self.context.policy.reply_bytes_max;
            let error = format!("the reply has {length} bytes; the limit is {limit}").into();
            return self.on_failed(&RunFailure { error, retry: false, retry_after_ms: None });
        }
        if stopping {
            self.end_stopped(finished.reply.clone());
        } else if self.is_winding_up() && !planted(Planted::PauseKeepsTurn) {
            self.wait_for_operator(None);
        } else {
            self.session.hint = finished.hint;
            self.complete(finished.clone());
        }
    }

    fn end_stopped(&mut self, shown: Option<Arc<str>>) {
        self.cancel(CancelReason::Stopped, shown);
        self.start_next();
    }

    fn on_failed(&mut self, failure: &RunFailure) {
        let policy = self.context.policy;
        let Some(turn) = &mut self.session.turn else { return };
        if turn.stopping {
            return self.end_stopped(None);
        }
        turn.errors += u32::from(!planted(Planted::ErrorsUncounted));
        if self.is_paused() {
            return self.wait_for_operator(Some(Arc::clone(&failure.error)));
        }
        let Some(turn) = &mut self.session.turn else { return };
        if !failure.retry || turn.errors >= policy.errors_max {
            return self.fail(DeadReason::AgentFailed, &failure.error);
        }
        let pause = backoff_ms(policy.error_backoff_ms, turn.errors);
        let pause = pause.max(failure.retry_after_ms.unwrap_or(0)).min(policy.turn_ms);
        turn.query = None;
        let (turn_id, attempt) = (turn.id, turn.attempt);
        let until = self.deadline(pause);
        if let Some(turn) = &mut self.session.turn {
            turn.stage = Stage::Backoff { until };
        }
        let error = Arc::clone(&failure.error);
        self.journal(EventBody::TurnRetrying { turn_id, attempt, error, retry_at: until.at });
        self.effect(Effect::Typing(false));
        self.put_turn_row();
    }

    fn on_choice(&mut self, question: QuestionId, choice: SupersedeChoice) {
        let open = self.session.turn.as_ref().and_then(|turn| turn.query);
        if open.is_none_or(|query| query.id != question) {
            return self.ignore(Ignored::StaleQuestion);
        }
        self.decide(question, choice, false);
    }

    /// The turn finishes without new work: its run is asked to, and whatever it wants of tools from
    /// here on is denied, to it and to every later attempt.
    pub(super) fn finish_now(&mut self, reason: FinishReason) {
        let Some(turn) = &mut self.session.turn else { return };
        if turn.finishing.is_some() {
            return;
        }
        turn.finishing = Some(reason);
        let tag = turn.tag();
        self.changed();
        self.effect(Effect::FinishNow(tag, reason));
    }

    /// Settles the question; also what its deadline calls, with the default.
    pub(super) fn decide(&mut self, id: QuestionId, choice: SupersedeChoice, by_default: bool) {
        let allowed = self.context.policy.supersedes_max;
        let Some(turn) = &mut self.session.turn else { return };
        turn.query = None;
        let (turn_id, tag, chain) = (turn.id, turn.tag(), turn.chain);
        self.journal(EventBody::SupersedeDecided { turn_id, question_id: id, choice, by_default });
        match choice {
            SupersedeChoice::Supersede if chain < allowed => self.supersede(),
            SupersedeChoice::AbsorbContinue => self.effect(Effect::MailWaiting(tag)),
            SupersedeChoice::AbsorbRestart => {
                // Who starts over with everything does not finish without it.
                if let Some(turn) = &mut self.session.turn {
                    turn.finishing = None;
                }
                self.effect(Effect::Cancel(tag));
                self.begin_attempt();
            }
            SupersedeChoice::ForceComplete => self.finish_now(FinishReason::ForceComplete),
            SupersedeChoice::Supersede | SupersedeChoice::Queue => {
                let mailbox = match &mut self.session.turn {
                    Some(turn) => std::mem::take(&mut turn.mailbox),
                    None => Vec::new(),
                };
                let alone =
                    |pending| Pending { alone: choice == SupersedeChoice::Queue, ..pending };
                self.requeue(mailbox.into_iter().map(alone));
            }
        }
    }
}
