//! What a session's task does after a commit: answers, runs, typing, deliveries.

use std::sync::Arc;

use turnkeep_core::ids::{RunTag, Token, TurnId};
use turnkeep_core::message::{Decision, Pending};
use turnkeep_core::moderation::Check;
use turnkeep_core::ports::agent::SupersedeQuestion;
use turnkeep_core::session::{AgentAnswer, Effect, Stage, StartRun};

use super::{SessionTask, Waiter};
use crate::driver::Outcome;
use crate::mail::{Mail, Submit};
use crate::outbox::{Typing, deliver};
use crate::run::{Launch, RunShared, start};
use crate::service::Accepted;

impl SessionTask {
    pub(super) fn act(&mut self, outcome: Outcome) {
        for effect in outcome.effects {
            self.effect(effect);
        }
        for (token, first) in outcome.duplicates {
            if let Some(Waiter::Submit(submit)) = self.waiter(token) {
                self.gateway.note_duplicate(&submit.inbound.body, &first, submit.since);
                let _ = submit.reply.send(Ok(Accepted::Duplicate(first)));
            }
        }
        for token in outcome.unavailable {
            let reason = "the store could not say whether it was taken; send it again".to_owned();
            match self.waiter(token) {
                Some(Waiter::Submit(submit)) => drop(submit.reply.send(Err(reason))),
                Some(Waiter::Control(reply)) => drop(reply.send(Err(reason))),
                Some(Waiter::Agent(reply)) => drop(reply.send(AgentAnswer::Revoked)),
                None => {}
            }
        }
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Decided(token, decision) => self.decided(token, decision),
            Effect::Controlled(token, controlled) => {
                if let Some(Waiter::Control(reply)) = self.waiter(token) {
                    let _ = reply.send(Ok(controlled));
                }
            }
            Effect::AgentAnswer(token, answer) => {
                if let Some(Waiter::Agent(reply)) = self.waiter(token) {
                    let _ = reply.send(answer);
                }
            }
            Effect::Start(start) => self.start(*start),
            Effect::Cancel(tag) => self.cancel(tag),
            Effect::MailWaiting(tag) => self.with_run(tag, RunShared::mail_waiting),
            Effect::Wind(tag) => self.with_run(tag, RunShared::wind),
            Effect::FinishNow(tag, reason) => self.with_run(tag, |run| run.finish_now(reason)),
            Effect::AskAgent(tag, id, message) => {
                self.with_run(tag, |run| run.ask(SupersedeQuestion { id, message: *message }));
            }
            Effect::AnswerRun(tag, question, message) => {
                self.with_run(tag, |run| run.answer(question, *message));
            }
            Effect::RequestQuarantine(turn) => self.request_place(turn),
            Effect::Check(message, check, wait_ms) => self.check(&message, check, wait_ms),
            Effect::Typing(on) => self.show_typing(on),
            Effect::Deliver(delivery) => {
                let span = self.delivery_span(&delivery);
                deliver(&self.gateway, self.driver.key(), &self.sender, (*delivery, span));
            }
        }
    }

    fn decided(&mut self, token: Token, decision: Decision) {
        let Some(Waiter::Submit(submit)) = self.waiter(token) else { return };
        let Submit { inbound, reply, settle, since, .. } = *submit;
        self.gateway.note_decision(self.driver.key(), &inbound.body, &decision, since);
        if let (Some(seq), Some(settle)) = (decision.seq, settle) {
            self.followers.push((seq, settle));
        }
        let _ = reply.send(Ok(Accepted::Decided(decision)));
    }

    fn with_run(&self, tag: RunTag, tell: impl FnOnce(&RunShared)) {
        if let Some(run) = self.run.as_ref().filter(|run| run.tag == tag) {
            tell(run);
        }
    }

    fn start(&mut self, begin: StartRun) {
        if let Some(stray) = self.run.take() {
            stray.cancel();
        }
        let place = if begin.quarantined { self.place.take() } else { None };
        let span = self.attempt_span(begin.tag);
        let coming = self.take_coming();
        let launch = Launch {
            gateway: &self.gateway,
            key: self.driver.key(),
            policy: self.driver.policy(),
            task: &self.sender,
            live: self.live.as_ref(),
            recent: self.memory.recent(),
        };
        self.run = Some(start(&launch, begin, (place, coming), span));
    }

    fn cancel(&mut self, tag: RunTag) {
        if let Some(run) = self.run.take_if(|run| run.tag == tag) {
            run.cancel();
        }
    }

    /// A check that is under way is not asked for twice.
    fn check(&mut self, message: &Pending, check: Check, wait_ms: u64) {
        if !self.checking.contains(&message.seq) {
            self.checking.push(message.seq);
            self.gateway.check(self.driver.key(), message, check, wait_ms);
        }
    }

    fn request_place(&self, turn: TurnId) {
        let (quarantine, sender) = (Arc::clone(&self.gateway.0.quarantine), self.sender.clone());
        tokio::spawn(async move {
            if let Ok(place) = quarantine.acquire_owned().await {
                let _ = sender.send(Mail::Quarantine(Box::new((turn, place))));
            }
        });
    }

    fn show_typing(&mut self, on: bool) {
        if !on {
            // Every way out of processing passes here; the run is over or about to be replaced.
            self.run = self.run.take().filter(|run| self.is_live(run.tag));
        }
        if let Some(live) = &self.live {
            live.typing(on);
            if !on {
                live.set_run(None);
            }
        }
        if let Some(shown) = self.typing.take() {
            self.hiding = Some(shown.end());
        }
        if on {
            let before = self.hiding.take();
            self.typing = Typing::start(&self.gateway, self.driver.key(), before);
        }
    }

    /// Whether the open turn still needs this run.
    fn is_live(&self, tag: RunTag) -> bool {
        self.driver.session().and_then(|session| session.turn.as_ref()).is_some_and(|turn| {
            let running = matches!(turn.stage, Stage::Processing | Stage::Waiting { .. });
            running && turn.tag() == tag
        })
    }
}
