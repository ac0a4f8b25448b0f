//! What a run may do with tools, and why not.

use super::*;
use crate::journal::{EventBody, SupersedeChoice};
use crate::session::FinishReason;
use crate::tool::{
    ACTS_KEPT_MS, ACTS_MAX, ActName, CALLS_MAX, CALLS_OPEN_MAX, Denied, Intent, SideEffects,
    ToolOutcome,
};

/// What is told of a call that did what it should.
pub(super) fn done(call: Seq) -> AgentInput {
    AgentInput::Returned(Token(2), call, ToolOutcome::Done, "ok".into())
}

impl Bench {
    /// Asks for the act of this number.
    pub(super) fn intend(&mut self, effects: SideEffects, number: u16) -> AgentAnswer {
        let mut name = [0; 16];
        name[..2].copy_from_slice(&number.to_be_bytes());
        let (name, tool, input) = (ActName(name), "tool".into(), "input".into());
        let intent = Box::new(Intent { tool, effects, name, input, compensates: None });
        self.agent(AgentInput::Intend(Token(1), intent));
        self.answer()
    }

    /// Asks to undo a call.
    fn undo(&mut self, effects: SideEffects, call: Seq) -> AgentAnswer {
        let mut name = [9; 16];
        name[..8].copy_from_slice(&call.0.to_be_bytes());
        let (name, tool, input) = (ActName(name), "tool".into(), "input".into());
        let intent = Intent { tool, effects, name, input, compensates: Some(call) };
        self.agent(AgentInput::Intend(Token(1), Box::new(intent)));
        self.answer()
    }

    fn let_through(&self, answer: &AgentAnswer) -> Seq {
        let AgentAnswer::Call(call) = answer else { panic!("{answer:?}") };
        *call
    }

    fn returned(&mut self, call: Seq, outcome: ToolOutcome) {
        self.agent(AgentInput::Returned(Token(2), call, outcome, "ok".into()));
    }

    /// Asks for it, is let through, and did it.
    fn make(&mut self, effects: SideEffects, number: u16) {
        let answer = self.intend(effects, number);
        let AgentAnswer::Call(call) = answer else { panic!("{answer:?}") };
        self.agent(AgentInput::Returned(Token(2), call, ToolOutcome::Done, "ok".into()));
    }

    pub(super) fn denied(&mut self, effects: SideEffects, number: u16) -> Denied {
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

pub(super) fn reason(answer: &AgentAnswer) -> Denied {
    let AgentAnswer::NotAllowed(denied) = answer else { panic!("{answer:?}") };
    *denied
}

#[test]
fn a_booking_is_undone_once_and_made_anew() {
    let mut bench = Bench::new(BusyPolicy::Supersede);
    bench.say("a table for two");
    let booked = bench.intend(SideEffects::Compensatable, 1);
    let booked = bench.let_through(&booked);
    assert_eq!(reason(&bench.undo(SideEffects::Idempotent, booked)), Denied::StillUnderWay);
    bench.returned(booked, ToolOutcome::Done);
    bench.say("no, for three");
    let acts = bench.started().unwrap().acts;
    assert_eq!((acts.len(), acts[0].stands()), (1, true));
    assert!(matches!(bench.intend(SideEffects::Compensatable, 1), AgentAnswer::Known(_)));

    let undoing = bench.undo(SideEffects::Idempotent, booked);
    let undoing = bench.let_through(&undoing);
    // Two at once would both be done.
    assert!(matches!(bench.undo(SideEffects::Idempotent, booked), AgentAnswer::Known(_)));
    bench.returned(undoing, ToolOutcome::Unknown);
    assert!(matches!(bench.intend(SideEffects::Compensatable, 1), AgentAnswer::Known(_)));
    // What can be done twice may be tried until it is known to be done.
    let undoing = bench.undo(SideEffects::Idempotent, booked);
    let undoing = bench.let_through(&undoing);
    bench.returned(undoing, ToolOutcome::Done);
    assert!(matches!(bench.undo(SideEffects::Irreversible, booked), AgentAnswer::Known(_)));

    let anew = bench.intend(SideEffects::Compensatable, 1);
    let anew = bench.let_through(&anew);
    bench.returned(anew, ToolOutcome::Done);
    bench.fail(true);
    bench.wait();
    let acts = bench.started().unwrap().acts;
    let told: Vec<_> = acts.iter().map(|act| (act.call, act.undone_by, act.compensates)).collect();
    let expected =
        [(booked, Some(undoing), None), (undoing, None, Some(booked)), (anew, None, None)];
    assert_eq!(told, expected);
}

#[test]
fn what_cannot_be_undone_is_not() {
    let mut bench = running();
    let failed = bench.intend(SideEffects::Compensatable, 1);
    let failed = bench.let_through(&failed);
    bench.returned(failed, ToolOutcome::Failed);
    assert_eq!(reason(&bench.undo(SideEffects::Idempotent, failed)), Denied::WasNotDone);
    assert_eq!(reason(&bench.undo(SideEffects::Idempotent, Seq(77))), Denied::NothingToUndo);
    bench.make(SideEffects::Compensatable, 2);
    let call = bench.session.acts.of(bench.session.turn.as_ref().unwrap().group)[1].call;
    assert_eq!(reason(&bench.undo(SideEffects::Pure, call)), Denied::PureUndoesNothing);
    let undoing = bench.undo(SideEffects::Compensatable, call);
    let undoing = bench.let_through(&undoing);
    bench.returned(undoing, ToolOutcome::Done);
    assert_eq!(reason(&bench.undo(SideEffects::Compensatable, undoing)), Denied::NotCompensatable);
    let paid = bench.intend(SideEffects::Irreversible, 3);
    let paid = bench.let_through(&paid);
    bench.returned(paid, ToolOutcome::Done);
    assert_eq!(reason(&bench.undo(SideEffects::Idempotent, paid)), Denied::NotCompensatable);
}

#[test]
fn a_turn_that_ends_badly_says_what_it_left_in_the_world() {
    let acts = |bench: &Bench| {
        let told = |event: &crate::journal::Event| match &event.body {
            EventBody::TurnFailed { acts, .. } | EventBody::TurnCancelled { acts, .. } => {
                Some(acts.to_vec())
            }
            _ => None,
        };
        bench.last.rows.events.iter().find_map(told).unwrap()
    };
    let mut bench = running();
    bench.make(SideEffects::Compensatable, 1);
    let under_way = bench.intend(SideEffects::Compensatable, 2);
    let under_way = bench.let_through(&under_way);
    let failed = bench.intend(SideEffects::Compensatable, 3);
    let failed = bench.let_through(&failed);
    bench.returned(failed, ToolOutcome::Failed);
    bench.make(SideEffects::Compensatable, 4);
    let group = bench.session.turn.as_ref().unwrap().group;
    let calls: Vec<Seq> = bench.session.acts.of(group).iter().map(|act| act.call).collect();
    let undoing = bench.undo(SideEffects::Idempotent, calls[3]);
    let undoing = bench.let_through(&undoing);
    bench.returned(undoing, ToolOutcome::Done);
    let mut stopped = Bench { session: bench.session.clone(), ..running() };
    stopped.checker = bench.checker.clone();
    stopped.stop();
    assert_eq!(acts(&stopped), [calls[0], under_way]);
    bench.fail(false);
    assert_eq!(acts(&bench), [calls[0], under_way]);
}

#[test]
fn a_turn_that_finishes_now_is_let_through_to_nothing() {
    let mut bench = Bench::new(BusyPolicy::Agent);
    bench.say("one");
    bench.make(SideEffects::Idempotent, 1);
    bench.say("two");
    let id = bench.session.turn.as_ref().unwrap().query.unwrap().id;
    bench.agent(AgentInput::Answer(id, SupersedeChoice::ForceComplete));
    for effects in [SideEffects::Pure, SideEffects::Idempotent, SideEffects::Irreversible] {
        assert_eq!(bench.denied(effects, 2), Denied::Finishing);
    }
    // So is the next attempt, which is told at once, and which leaves the mail to the next turn.
    bench.fail(true);
    bench.wait();
    let start = bench.started().unwrap();
    assert_eq!((start.finishing, start.messages.len()), (Some(FinishReason::ForceComplete), 1));
    assert_eq!(bench.denied(SideEffects::Pure, 2), Denied::Finishing);
    bench.finish("done");
    assert_eq!(bench.started().unwrap().finishing, None);
    assert!(matches!(bench.intend(SideEffects::Pure, 2), AgentAnswer::Call(_)));
    // Who starts over with everything doesn't finish without it.
    bench.say("three");
    let id = bench.session.turn.as_ref().unwrap().query.unwrap().id;
    bench.agent(AgentInput::Answer(id, SupersedeChoice::ForceComplete));
    bench.say("four");
    let id = bench.session.turn.as_ref().unwrap().query.unwrap().id;
    bench.agent(AgentInput::Answer(id, SupersedeChoice::AbsorbRestart));
    let start = bench.started().unwrap();
    assert_eq!((start.finishing, start.messages.len()), (None, 3));
    assert!(matches!(bench.intend(SideEffects::Pure, 3), AgentAnswer::Call(_)));
}

#[test]
fn a_turn_that_finishes_now_begins_nothing_that_can_not_be_undone() {
    let mut bench = Bench::new(BusyPolicy::Agent);
    bench.say("one");
    bench.say("two");
    let id = bench.session.turn.as_ref().unwrap().query.unwrap().id;
    bench.agent(AgentInput::Answer(id, SupersedeChoice::ForceComplete));
    let inputs: [fn(Token) -> AgentInput; 3] = [
        AgentInput::CommitPoint,
        |token| AgentInput::Ask(token, "which?".into()),
        |token| AgentInput::Confirm(token, "pay?".into()),
    ];
    for input in inputs {
        bench.agent(input(Token(1)));
        assert_eq!(reason(&bench.answer()), Denied::Finishing);
        assert_eq!(bench.told(), NOT_CHANGED);
    }
    bench.finish("done");
    bench.agent(AgentInput::CommitPoint(Token(1)));
    assert!(matches!(bench.answer(), AgentAnswer::Granted));
}

#[test]
fn an_attempt_makes_so_many_calls_and_the_next_one_as_many_again() {
    let mut bench = running();
    for _ in 0..CALLS_MAX {
        bench.make(SideEffects::Pure, 1);
    }
    assert_eq!(bench.denied(SideEffects::Pure, 1), Denied::TooManyCallsMade);
    assert_eq!(bench.denied(SideEffects::Idempotent, 2), Denied::TooManyCallsMade);
    let json = serde_json::to_string(&bench.session).unwrap();
    let read: Session = serde_json::from_str(&json).unwrap();
    assert_eq!(read.turn.unwrap().done, bench.session.turn.as_ref().unwrap().done);
    bench.fail(true);
    bench.wait();
    bench.make(SideEffects::Pure, 1);
}

#[test]
fn an_act_whose_letters_were_forgotten_is_forgotten_after_a_day() {
    let mut bench = running();
    bench.make(SideEffects::Idempotent, 1);
    bench.fail(false);
    let (letter, group) =
        (bench.last.rows.dead_letters[0].seq, bench.last.rows.dead_letters[0].group);
    let look = |bench: &mut Bench| {
        for _ in 0..2 {
            bench.say("more");
            bench.make(SideEffects::Idempotent, 2);
            bench.finish("done");
            bench.now += ACTS_KEPT_MS;
        }
        !bench.session.acts.of(group).is_empty()
    };
    assert!(look(&mut bench), "somebody may still take it");
    // What a store says that forgot it.
    bench.session.forgotten = letter;
    assert!(!look(&mut bench));
}
