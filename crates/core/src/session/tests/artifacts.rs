//! What is kept and taken: by the next attempt, by the turn that takes over, by a retried dead letter.

use smallvec::SmallVec;

use super::*;
use crate::artifact::{
    ARTIFACTS_GROUP_MAX, ArtifactName, Fingerprint, KEEPS_MAX, KEPT_BYTES_MAX, NewArtifact, Stale,
};
use crate::ports::store::DeadLetter;
use crate::tool::Denied;

const OLD: Fingerprint = Fingerprint([1; 16]);
const NEW: Fingerprint = Fingerprint([2; 16]);

fn name(number: u8) -> ArtifactName {
    ArtifactName([number; 16])
}

impl Bench {
    fn keep(&mut self, number: u8, inputs: Fingerprint, depends: &[u8]) -> AgentAnswer {
        let depends: SmallVec<_> = depends.iter().map(|on| name(*on)).collect();
        // What it comes out as follows from what it is made from.
        let (fingerprint, title, content) = (inputs, "plan".into(), "content".into());
        let new = NewArtifact { name: name(number), title, inputs, depends, fingerprint, content };
        self.agent(AgentInput::Keep(Token(1), Box::new(new)));
        self.answer()
    }

    fn recall(&mut self, number: u8, inputs: Fingerprint) -> Result<Seq, Stale> {
        self.agent(AgentInput::Recall(Token(1), name(number), inputs));
        match self.answer() {
            AgentAnswer::Recalled(told) => told.map(|kept| kept.at),
            other => panic!("{other:?}"),
        }
    }

    /// A plan of three steps: the second depends on the first, the third on nothing.
    fn plan(&mut self) {
        for (number, depends) in [(1, &[][..]), (2, &[1]), (3, &[])] {
            assert!(matches!(self.keep(number, OLD, depends), AgentAnswer::Recorded));
        }
    }
}

fn planned(busy: BusyPolicy) -> Bench {
    let mut bench = Bench::new(busy);
    bench.say("one");
    bench.plan();
    bench
}

#[test]
fn the_turn_that_takes_over_takes_what_still_holds() {
    let mut bench = planned(BusyPolicy::Supersede);
    bench.say("two");
    // What it was made from is asked for first.
    assert_eq!(bench.recall(2, OLD), Err(Stale::DependencyChanged));
    assert_eq!(bench.told(), NOT_CHANGED);
    assert_eq!(bench.recall(1, NEW), Err(Stale::InputsChanged));
    assert!(matches!(bench.keep(1, NEW, &[]), AgentAnswer::Recorded));
    assert_eq!(bench.recall(2, OLD), Err(Stale::DependencyChanged));
    let kept = bench.recall(3, OLD).unwrap();
    assert_eq!(bench.told(), ["artifact.reused"]);
    // Asked for again, it is on record once.
    assert_eq!(bench.recall(3, OLD), Ok(kept));
    assert_eq!(bench.told(), NOT_CHANGED);
    assert_eq!(bench.recall(4, OLD), Err(Stale::Missing));
}

#[test]
fn what_is_made_again_and_comes_out_as_before_changes_nothing() {
    let mut bench = planned(BusyPolicy::Absorb);
    bench.fail(true);
    bench.wait();
    assert!(matches!(bench.keep(1, OLD, &[]), AgentAnswer::Recorded));
    assert!(bench.recall(2, OLD).is_ok());
}

#[test]
fn a_retried_dead_letter_finds_what_was_kept_and_the_next_turn_does_not() {
    let mut bench = planned(BusyPolicy::Absorb);
    bench.fail(false);
    let DeadLetter { seq, group, trust, body, .. } = bench.last.rows.dead_letters[0].clone();
    bench.say("something else");
    assert_eq!(bench.recall(1, OLD), Err(Stale::Missing));
    bench.finish("done");
    bench.control(Control::Retry { seq, group, trust, body });
    assert!(bench.recall(1, OLD).is_ok());
    assert!(bench.recall(2, OLD).is_ok());
    bench.finish("done");
    assert!(bench.session.acts.is_empty(), "nobody can ask for them any more");
}

#[test]
fn what_depends_on_nothing_known_or_is_one_too_many_is_refused() {
    let denied = |answer: AgentAnswer| match answer {
        AgentAnswer::NotAllowed(denied) => denied,
        other => panic!("{other:?}"),
    };
    let mut bench = planned(BusyPolicy::Absorb);
    assert_eq!(denied(bench.keep(5, OLD, &[4])), Denied::DependencyNotHeld);
    bench.fail(true);
    bench.wait();
    assert_eq!(denied(bench.keep(5, OLD, &[1])), Denied::DependencyNotHeld);
    for number in 0..u8::try_from(ARTIFACTS_GROUP_MAX).unwrap() {
        assert!(matches!(bench.keep(number, OLD, &[]), AgentAnswer::Recorded));
    }
    assert_eq!(denied(bench.keep(99, OLD, &[])), Denied::TooManyArtifacts);
    assert!(Denied::TooManyArtifacts.as_str().ends_with("the limit is 32"));
    assert!(matches!(bench.keep(7, NEW, &[]), AgentAnswer::Recorded));
    let late = bench.tag();
    bench.stop();
    bench.agent_as(late, AgentInput::Recall(Token(1), name(7), NEW));
    assert!(matches!(bench.answer(), AgentAnswer::Revoked));
    assert!(bench.session.acts.is_empty());
}

#[test]
fn an_attempt_keeps_so_many_and_so_much() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.say("one");
    for _ in 0..KEEPS_MAX {
        assert!(matches!(bench.keep(1, OLD, &[]), AgentAnswer::Recorded));
    }
    assert!(matches!(bench.keep(1, OLD, &[]), AgentAnswer::NotAllowed(Denied::KeptTooMuch)));
    assert_eq!(bench.told(), NOT_CHANGED);
    assert!(bench.recall(1, OLD).is_ok());
    bench.fail(true);
    bench.wait();
    // So it is with their bytes.
    let content: Arc<str> = "x".repeat(1 << 16).into();
    let mut keep_long = || {
        let (inputs, title, content) = (OLD, "plan".into(), Arc::clone(&content));
        let (name, depends, fingerprint) = (name(1), SmallVec::new(), OLD);
        let new = NewArtifact { name, title, inputs, depends, fingerprint, content };
        bench.agent(AgentInput::Keep(Token(1), Box::new(new)));
        bench.answer()
    };
    for _ in 0..KEPT_BYTES_MAX >> 16 {
        assert!(matches!(keep_long(), AgentAnswer::Recorded));
    }
    assert!(matches!(keep_long(), AgentAnswer::NotAllowed(Denied::KeptTooMuch)));
    let words = format!("{KEEPS_MAX} artifacts and {KEPT_BYTES_MAX} bytes");
    assert!(Denied::KeptTooMuch.as_str().ends_with(&words));
}
