//! What a run may do with tools, and why not.

use super::*;
use crate::journal::SupersedeChoice;
use crate::tool::{ACTS_MAX, ActName, CALLS_OPEN_MAX, Denied, Intent, SideEffects, ToolOutcome};

impl Bench {
    /// Asks for the act of this number.
    fn intend(&mut self, effects: SideEffects, number: u16) -> AgentAnswer {
        let mut name = [0; 16];
        name[..2].copy_from_slice(&number.to_be_bytes());
        let (name, tool, input) = (ActName(name), "tool".into(), "input".into());
        let intent = Box::new(Intent { tool, effects, name, input });
        self.agent(AgentInput::Intend(Token(1), intent));
        self.answer()
    }

    /// Asks for it, is let through, and did it.
    fn make(&mut self, effects: SideEffects, number: u16) {
        let answer = self.intend(effects, number);
        let AgentAnswer::Call(call) = answer else { panic!("{answer:?}") };
        self.agent(AgentInput::Returned(Token(2), call, ToolOutcome::Done, "ok".into()));
    }

    fn denied(&mut self, effects: SideEffects, number: u16) -> Denied {
        let answer = self.intend(effects, number);
        let AgentAnswer::NotAllowed(denied) = answer else { panic!("{answer:?}") };
        assert_eq!(self.told(), NOT_CHANGED);
        denied
    }
}

fn running() -> Bench {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.say("one");
    bench
}

#[test]
fn whoever_is_not_let_through_is_told_why() {
    let mut stopped = running();
    let AgentAnswer::Call(call) = stopped.intend(SideEffects::Irreversible, 1) else { panic!() };
    stopped.stop();
    assert_eq!(stopped.denied(SideEffects::Pure, 2), Denied::Stopping);
    let done = AgentInput::Returned(Token(2), call, ToolOutcome::Done, "ok".into());
    stopped.agent(done);
    assert_eq!(stopped.told(), ["tool.returned"]);

    let mut waiting = running();
    waiting.agent(AgentInput::Ask(Token(1), "which?".into()));
    assert_eq!(waiting.denied(SideEffects::Pure, 1), Denied::Waiting);
    assert_eq!(waiting.last.ignored, Some(Ignored::RunIsWaiting));

    let mut busy = running();
    for _ in 0..CALLS_OPEN_MAX {
        assert!(matches!(busy.intend(SideEffects::Pure, 1), AgentAnswer::Call(_)));
    }
    assert_eq!(busy.denied(SideEffects::Pure, 1), Denied::TooManyCalls);

    let mut full = running();
    for number in 0..u16::try_from(ACTS_MAX).unwrap() {
        full.make(SideEffects::Idempotent, number);
    }
    assert_eq!(full.denied(SideEffects::Idempotent, 9999), Denied::TooManyActs);
    assert!(matches!(full.intend(SideEffects::Idempotent, 7), AgentAnswer::Known(_)));
    assert!(matches!(full.intend(SideEffects::Pure, 9999), AgentAnswer::Call(_)));
}

#[test]
fn mail_with_a_question_is_decided_on_before_what_cannot_be_undone() {
    let mut bench = Bench::new(BusyPolicy::Agent);
    bench.say("one");
    bench.say("two");
    let asked = bench.effects(|effect| match effect {
        Effect::AskAgent(_, id, _) => Some(*id),
        _ => None,
    });
    assert!(matches!(bench.intend(SideEffects::Irreversible, 1), AgentAnswer::MailFirst));
    bench.agent(AgentInput::Answer(asked[0], SupersedeChoice::Queue));
    assert!(matches!(bench.intend(SideEffects::Irreversible, 1), AgentAnswer::Call(_)));
    assert_eq!(bench.told(), ["commit.reached", "tool.intended"]);
}

#[test]
fn a_call_without_a_word_is_unknown_for_the_next_attempt() {
    let mut bench = running();
    bench.intend(SideEffects::Irreversible, 1);
    bench.fail(true);
    bench.wait();
    assert_eq!(bench.told(), ["tool.returned", "turn.processing"]);
    let start = bench.started().unwrap();
    assert_eq!((start.acts[0].outcome(), start.resume), (ToolOutcome::Unknown, true));
    let answer = bench.intend(SideEffects::Irreversible, 1);
    assert!(matches!(answer, AgentAnswer::Known(act) if *act == start.acts[0]));
}
