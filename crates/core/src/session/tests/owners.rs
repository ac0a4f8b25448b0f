//! Who owns the session: recovery, quarantine, crash loops, drains, and owners that were replaced.

use super::*;
use crate::journal::DeadReason;

fn running() -> Bench {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.say("one");
    bench
}

#[test]
fn a_turn_found_running_starts_again_with_a_higher_attempt() {
    let mut bench = running();
    bench.agent(AgentInput::CommitPoint(Token(1)));
    let old = bench.tag();
    bench.restart();
    assert_eq!(bench.told(), ["turn.recovered", "turn.processing"]);
    let start = bench.started().unwrap();
    assert_eq!((start.tag.attempt.0, start.tag.epoch, start.resume), (2, Epoch(2), true));
    bench.agent_as(old, AgentInput::Finished(Finished::default()));
    assert_eq!(bench.last.ignored, Some(Ignored::StaleRun));
}

#[test]
fn suspects_are_backed_off_and_wait_for_their_place_and_are_given_up_in_the_end() {
    let mut bench = running();
    (0..2).for_each(|_| bench.restart());
    for recoveries in 3..=20 {
        bench.restart();
        assert!(matches!(bench.stage(), Stage::Backoff { .. }), "{recoveries}");
        bench.wait();
        assert!(bench.has(|effect| matches!(effect, Effect::RequestQuarantine(_))));
        assert_eq!(bench.stage(), Stage::Quarantined);
        // A restart of somebody else's making is not counted while it waits for its place.
        bench.restart();
        assert_eq!(bench.session.turn.as_ref().unwrap().recoveries, recoveries);
        bench.feed(Input::QuarantineGranted(bench.tag().turn));
        assert!(bench.started().unwrap().quarantined);
    }
    bench.say("two");
    bench.restart();
    assert_eq!(bench.last.rows.dead_letters[0].reason, DeadReason::CrashLoop);
    // An innocent message goes on.
    assert_eq!(bench.texts(), ["two"]);
}

#[test]
fn every_way_to_an_attempt_of_a_suspect_passes_the_quarantine() {
    let mut bench = running();
    bench.policy.recoveries_quarantine = 1;
    bench.restart();
    bench.wait();
    bench.feed(Input::QuarantineGranted(bench.tag().turn));
    // The same owner lost the run.
    bench.feed(Input::Adopt { run: None, delivering: None });
    assert_eq!(bench.stage(), Stage::Quarantined);
    // A supersede hands the suspicion down with the messages.
    bench.policy.busy = BusyPolicy::Supersede;
    bench.say("two");
    assert_eq!(bench.stage(), Stage::Quarantined);
    assert_eq!(bench.texts(), ["one", "two"]);
}

#[test]
fn a_place_that_is_not_wanted_any_more() {
    let mut bench = running();
    bench.feed(Input::QuarantineGranted(bench.tag().turn));
    assert_eq!(bench.last.ignored, Some(Ignored::QuarantineNotWanted));
}

#[test]
fn a_drain_lays_the_run_down_uncounted() {
    let mut bench = running();
    bench.feed(Input::Release);
    assert!(bench.has(|effect| matches!(effect, Effect::Cancel(_))));
    bench.restart();
    assert_eq!(bench.session.turn.as_ref().unwrap().recoveries, 0);
    assert_eq!(bench.started().unwrap().tag.attempt.0, 2, "it is due, so it begins at once");
    let mut idle = Bench::new(BusyPolicy::Absorb);
    idle.feed(Input::Release);
    assert_eq!(idle.last.ignored, Some(Ignored::NothingToRelease));
}

#[test]
fn an_owner_that_was_replaced_touches_nothing() {
    let mut bench = running();
    bench.restart();
    let before = bench.session.clone();
    bench.epoch = Epoch(1);
    bench.feed(Input::Adopt { run: None, delivering: None });
    assert_eq!(bench.last.ignored, Some(Ignored::NotTheOwner));
    assert!(bench.last.effects.is_empty() && !bench.last.changed);
    assert_eq!(bench.session, before);
}

#[test]
fn the_same_owner_repairs_what_it_lost_and_leaves_what_it_has() {
    let mut bench = running();
    let run = Some(bench.tag());
    bench.feed(Input::Adopt { run, delivering: None });
    assert_eq!(bench.last.ignored, Some(Ignored::AlreadyAdopted));
    assert!(bench.last.effects.is_empty() && !bench.last.changed);
    bench.feed(Input::Adopt { run: None, delivering: None });
    assert_eq!(bench.started().unwrap().tag.attempt.0, 2);
    // The stray run is cancelled, and not counted as a recovery.
    bench.feed(Input::Adopt { run, delivering: None });
    assert!(bench.has(|effect| matches!(effect, Effect::Cancel(tag) if Some(*tag) == run)));
    assert_eq!(bench.session.turn.as_ref().unwrap().recoveries, 0);
}

#[test]
fn typing_is_switched_off_when_what_should_have_done_so_was_lost() {
    let mut bench = running();
    let run = Some(bench.tag());
    bench.finish("ok");
    bench.feed(Input::Adopt { run, delivering: None });
    assert!(bench.has(|effect| matches!(effect, Effect::Typing(false))));
    assert!(bench.has(|effect| matches!(effect, Effect::Cancel(_))));
}

#[test]
fn a_stopping_turn_ends_with_the_process_that_ran_its_call() {
    let mut bench = running();
    bench.agent(AgentInput::CommitPoint(Token(1)));
    bench.stop();
    bench.restart();
    assert_eq!(bench.told(), ["turn.cancelled", "session.notice"]);
}
