//! Small cases of the machine. [`Bench`] is the one helper that touches its API; it holds every
//! step against the history checker.

mod artifacts;
mod commands;
mod decisions;
mod deliveries;
mod endings;
mod guests;
mod held;
mod imports;
mod notices;
mod operators;
mod owners;
mod questions;
mod snapshots;
mod tools;
mod usage;
mod windows;

use std::sync::Arc;

use uuid::Uuid;

use super::{
    AgentAnswer, AgentInput, Context, Control, Controlled, Effect, Finished, Ignored, Input,
};
use super::{RunFailure, Session, SessionStatus, Stage, StartRun, Step, Wake, step};
use crate::audit::Checker;
use crate::ids::{Epoch, RunTag, Seq, Timestamp, Token, TurnId};
use crate::message::{Action, Decision, Inbound, InboundKind, MessageBody, Rejection, Seen};
use crate::outbox::{Delivery, DeliveryOutcome};
use crate::policy::{BusyPolicy, Policy, Trust, channel_facts};
use crate::session_key::{SessionKey, SessionKind};

/// A session under test, its last step, and the world around it.
struct Bench {
    session: Session,
    policy: Policy,
    key: SessionKey,
    now: Timestamp,
    epoch: Epoch,
    runs: bool,
    fresh: u128,
    last: Step,
    checker: Checker,
}

impl Bench {
    /// A session without a window on a channel that pulls.
    fn new(busy: BusyPolicy) -> Self {
        Self::on("api", Policy { busy, ..Policy::built_in(*channel_facts("api").unwrap()) })
    }

    fn on(channel: &str, policy: Policy) -> Self {
        Self {
            session: Session { epoch: Epoch(1), ..Session::new() },
            policy,
            key: SessionKey::new("t", "a", channel, SessionKind::Dm, "ann").unwrap(),
            now: 1_000_000,
            epoch: Epoch(1),
            runs: true,
            fresh: 0,
            last: Step::default(),
            checker: Checker::new(),
        }
    }

    /// One input, one step, checked.
    fn feed(&mut self, input: Input) {
        self.fresh += 1;
        let context = Context {
            key: &self.key,
            now: self.now,
            epoch: self.epoch,
            runs: self.runs,
            policy: &self.policy,
            fresh: TurnId(Uuid::from_u128(self.fresh)),
        };
        let mut out = Step::default();
        step(&mut self.session, &input, &context, &mut out);
        for event in &out.rows.events {
            self.checker.observe(event);
        }
        self.last = out;
        let mut checker = self.checker.clone();
        checker.finish(&self.session);
        assert_eq!(checker.violations(), []);
    }

    fn inbound(text: &str, trust: Trust) -> Inbound {
        let body = MessageBody { message_id: text.into(), sender: "ann".into(), text: text.into() };
        Inbound {
            token: Token(0),
            body: Arc::new(body),
            trust,
            seen: None,
            request: None,
            refused: None,
            kind: InboundKind::Message,
            answers: None,
            disappears_s: None,
        }
    }

    fn say(&mut self, text: &str) -> Decision {
        self.say_as(text, Trust::Public)
    }

    fn say_as(&mut self, text: &str, trust: Trust) -> Decision {
        self.says(Self::inbound(text, trust))
    }

    /// Said as the answer to this question.
    fn replies(&mut self, text: &str, question: u32) -> Decision {
        let answers = Some(crate::ids::QuestionId(question));
        self.says(Inbound { answers, ..Self::inbound(text, Trust::Public) })
    }

    fn says(&mut self, message: Inbound) -> Decision {
        self.feed(Input::Message(message));
        self.effects(|effect| match effect {
            Effect::Decided(_, decision) => Some(decision.clone()),
            _ => None,
        })
        .pop()
        .unwrap()
    }

    fn agent(&mut self, said: AgentInput) {
        self.agent_as(self.tag(), said);
    }

    fn agent_as(&mut self, tag: RunTag, said: AgentInput) {
        self.feed(Input::Agent(tag, said));
    }

    fn finish(&mut self, reply: &str) {
        self.agent(AgentInput::Finished(Finished {
            reply: Some(reply.into()),
            ..Finished::default()
        }));
    }

    fn fail(&mut self, retry: bool) {
        let failure = RunFailure { error: "broken".into(), retry, retry_after_ms: None };
        self.agent(AgentInput::Failed(failure));
    }

    fn control(&mut self, control: Control) -> Controlled {
        self.feed(Input::Control(Token(0), control));
        self.effects(|effect| match effect {
            Effect::Controlled(_, controlled) => Some(controlled.clone()),
            _ => None,
        })
        .pop()
        .unwrap()
    }

    fn stop(&mut self) -> Controlled {
        self.control(Control::Stop { turn: None, shown: None })
    }

    /// Lets time pass until the next deadline, and fires it.
    fn wait(&mut self) {
        let (at, wake) = self.session.next_wake(&self.policy).unwrap();
        self.now = self.now.max(at);
        self.feed(Input::Timer(wake));
    }

    /// Another process takes the session over.
    fn restart(&mut self) {
        self.epoch = self.epoch.next();
        self.feed(Input::Adopt { run: None, delivering: None });
    }

    fn tag(&self) -> RunTag {
        self.session.turn.as_ref().unwrap().tag()
    }

    fn stage(&self) -> Stage {
        self.session.turn.as_ref().unwrap().stage
    }

    fn effects<T>(&self, pick: impl Fn(&Effect) -> Option<T>) -> Vec<T> {
        self.last.effects.iter().filter_map(pick).collect()
    }

    fn has(&self, wanted: impl Fn(&Effect) -> bool) -> bool {
        self.last.effects.iter().any(wanted)
    }

    fn started(&self) -> Option<StartRun> {
        self.effects(|effect| match effect {
            Effect::Start(start) => Some((**start).clone()),
            _ => None,
        })
        .pop()
    }

    fn deliveries(&self) -> Vec<Delivery> {
        self.effects(|effect| match effect {
            Effect::Deliver(delivery) => Some((**delivery).clone()),
            _ => None,
        })
    }

    fn answer(&self) -> AgentAnswer {
        self.effects(|effect| match effect {
            Effect::AgentAnswer(_, answer) => Some(answer.clone()),
            _ => None,
        })
        .pop()
        .unwrap()
    }

    /// The names of the last step's journal entries.
    fn told(&self) -> Vec<&'static str> {
        self.last.rows.events.iter().map(|event| event.body.name()).collect()
    }

    /// The texts that the open turn answers.
    fn texts(&self) -> Vec<String> {
        let turn = self.session.turn.as_ref();
        turn.map_or_else(Vec::new, |turn| {
            turn.messages.iter().map(|pending| pending.body.text.to_string()).collect()
        })
    }

    fn queued(&self) -> Vec<String> {
        self.session.queue.iter().map(|pending| pending.body.text.to_string()).collect()
    }
}

const NOT_CHANGED: [&str; 0] = [];
