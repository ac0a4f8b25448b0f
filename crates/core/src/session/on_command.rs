//! What is not said to the agent: commands to the gateway, and what is only said in its presence.
//!
//! A command is done in the step that takes it, and answered in the same one. It waits for no turn,
//! is in none, and is not counted in the inbox. Context is kept in the journal and nowhere else.

use std::sync::Arc;

use super::{Controlled, Effect, Machine, NOTICES_MAX};
use crate::ids::Seq;
use crate::journal::EventBody;
use crate::message::{Action, CommandAct, Decision, Inbound, Rejection};
use crate::planted::{Planted, planted};
use crate::policy::{BusyPolicy, Trust};
use crate::session::on_message::Verdict;
use crate::session_key::SessionKind;

/// The answer to whoever may not do what they ask for.
const BEYOND: &str =
    "Not done: in this group that is for somebody who is trusted further than you are.";
/// The same where it is no matter of the group.
const BEYOND_ALL: &str = "Not done: that is for somebody who is trusted further than you are.";
/// The least trust that chooses a model: it decides what an answer costs.
const CHOOSES_MODEL: Trust = Trust::Inner;

impl Machine<'_> {
    pub(super) fn on_command(&mut self, message: &Inbound, act: &CommandAct) {
        let beyond = self.beyond(act, message.trust);
        let refused = beyond.is_some();
        // To stop what does not run is no reason to open anything.
        let opens = !matches!(act, CommandAct::Stop { .. });
        if opens && std::mem::take(&mut self.session.closed) {
            self.journal(EventBody::SessionReopened);
        }
        let body = &message.body;
        let seq = self.journal(EventBody::MessageCommand {
            message_id: Arc::clone(&body.message_id),
            sender: Arc::clone(&body.sender),
            text: Arc::clone(&body.text),
            trust: message.trust,
            command: act.name(),
            refused,
            disappears_s: message.disappears_s,
        });
        let answer = beyond.map_or_else(|| self.obey(act), Arc::from);
        self.answer_command(seq, answer);
        let decision = Decision::accepted(Action::Command, None, seq);
        if !planted(Planted::CommandUnguarded) {
            self.guard_twins(message, &decision);
        }
        self.effect(Effect::Decided(message.token, decision));
    }

    /// What somebody is told who may not do this; none if they may.
    fn beyond(&self, act: &CommandAct, trust: Trust) -> Option<&'static str> {
        let model = matches!(act, CommandAct::Model { .. });
        if model && trust < CHOOSES_MODEL {
            return Some(BEYOND_ALL);
        }
        self.is_beyond(act, trust).then_some(BEYOND)
    }

    /// In a group, what is about somebody's messages needs their trust.
    fn is_beyond(&self, act: &CommandAct, trust: Trust) -> bool {
        if self.context.key.kind() != SessionKind::Group || planted(Planted::CommandTrustIgnored) {
            return false;
        }
        let session = &self.session;
        match act {
            // What they do stays, for everybody there.
            CommandAct::New | CommandAct::Queue(_) if trust == Trust::Public => true,
            // It cancels whatever is open.
            CommandAct::New => session.pending().any(|pending| pending.trust > trust),
            CommandAct::Stop { .. } | CommandAct::Queue(_) | CommandAct::Model { .. } => {
                session.turn.as_ref().is_some_and(|turn| turn.trust > trust)
            }
            CommandAct::Say(_) => false,
        }
    }

    /// Does what a command asks for; says what came of it. An operator keeps the session whatever
    /// is done here: it is not the user's to hand back.
    fn obey(&mut self, act: &CommandAct) -> Arc<str> {
        let told = match act {
            CommandAct::Say(text) => return Arc::clone(text),
            CommandAct::New => self.on_new(),
            CommandAct::Stop { shown } => self.on_stop(None, shown.clone()),
            CommandAct::Queue(busy) => {
                self.session.busy = *busy;
                return self.policy_in_force();
            }
            CommandAct::Model { name, told } => {
                self.session.model.clone_from(name);
                return Arc::clone(told);
            }
        };
        // It is on record, and answered: something changed.
        self.step.ignored = None;
        match told {
            Controlled::Reset(0) => "A new conversation begins.".into(),
            Controlled::Reset(1) => "A new conversation begins. 1 message was cancelled.".into(),
            Controlled::Reset(count) => {
                format!("A new conversation begins. {count} messages were cancelled.").into()
            }
            Controlled::Stopped(_) => "Stopped.".into(),
            Controlled::Stopping(_) => "Stopping: it ends after the call in flight.".into(),
            _ => "Nothing is running.".into(),
        }
    }

    fn policy_in_force(&self) -> Arc<str> {
        let (busy, whose) = match self.session.busy {
            Some(busy) => (busy, ""),
            None => (self.context.policy.busy, " (as configured)"),
        };
        let (word, meaning) = match busy {
            BusyPolicy::Absorb => ("absorb", "what you write during an answer becomes part of it"),
            BusyPolicy::Supersede => ("supersede", "what you write begins the answer anew"),
            BusyPolicy::Collect => ("collect", "what you write is answered together afterwards"),
            BusyPolicy::Queue => ("queue", "what you write is answered one by one afterwards"),
            BusyPolicy::Reject => ("reject", "what you write during an answer is refused"),
            BusyPolicy::Agent => ("agent", "the agent decides what becomes of what you write"),
        };
        format!("Queue policy: {word}{whose}. While an answer is being made, {meaning}.").into()
    }

    /// Left out where too much waits to be delivered; the command is done all the same.
    fn answer_command(&mut self, command: Seq, text: Arc<str>) {
        let full = self.session.outbox.parts.len() >= NOTICES_MAX;
        if full || planted(Planted::CommandUnanswered) {
            return;
        }
        let seq = self.journal(EventBody::answer(Arc::clone(&text), command));
        self.send_reply(seq, &text);
    }

    /// Nobody said it to the agent: it starts nothing and answers nothing.
    pub(super) fn on_context(&mut self, message: &Inbound) {
        let decision = if !self.is_checked(Some(&message.kind)) {
            self.keep_context(message)
        } else if self.is_full() {
            return self.reject(message, Rejection::QueueFull);
        } else {
            self.accept(message, Verdict::Hold, None, None)
        };
        self.guard_twins(message, &decision);
        self.effect(Effect::Decided(message.token, decision));
    }

    fn keep_context(&mut self, message: &Inbound) -> Decision {
        let body = &message.body;
        let seq = self.journal(EventBody::MessageContext {
            message_id: Arc::clone(&body.message_id),
            sender: Arc::clone(&body.sender),
            text: Arc::clone(&body.text),
            trust: message.trust,
            of: None,
            by_default: false,
            disappears_s: message.disappears_s,
        });
        Decision::accepted(Action::Context, None, seq)
    }
}
