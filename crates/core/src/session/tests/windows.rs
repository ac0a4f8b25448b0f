//! Gathering a burst: windows, typing, their common limit, and stale timers.

use super::*;
use crate::ids::TimerId;
use crate::policy::WindowMode;

fn gathering() -> Bench {
    let mut bench = Bench::on(
        "web",
        Policy {
            window_mode: WindowMode::Fixed,
            window_ms: 1000,
            ..Policy::built_in(*channel_facts("web").unwrap())
        },
    );
    bench.say("one");
    bench
}

fn left(bench: &Bench) -> u64 {
    bench.session.next_wait(&bench.policy, bench.now).unwrap().0
}

#[test]
fn a_join_computes_the_window_anew() {
    let mut bench = gathering();
    assert_eq!((bench.session.status(), left(&bench)), (SessionStatus::Accumulating, 1000));
    let (_, stale) = bench.session.next_wake(&bench.policy).unwrap();
    bench.now += 900;
    assert_eq!(bench.say("two").action, Action::EventSent);
    assert_eq!(left(&bench), 1000);
    bench.feed(Input::Timer(stale));
    assert_eq!(bench.last.ignored, Some(Ignored::StaleTimer));
    bench.wait();
    assert_eq!(bench.texts(), ["one", "two"]);
    assert_eq!(bench.told(), ["turn.processing"]);
}

#[test]
fn windows_and_typing_end_five_seconds_after_the_first_message() {
    let mut bench = gathering();
    for _ in 0..5 {
        bench.now += 900;
        bench.feed(Input::UserTyping);
    }
    assert_eq!(left(&bench), 500);
    bench.now += 500;
    bench.feed(Input::UserTyping);
    assert_eq!(bench.told(), ["turn.processing"]);
    bench.feed(Input::UserTyping);
    assert_eq!(bench.last.ignored, Some(Ignored::TypingNotGathering));
}

#[test]
fn typing_never_cuts_a_window_short() {
    let mut bench = gathering();
    bench.policy.window_ms = 100;
    bench.feed(Input::UserTyping);
    assert_eq!(left(&bench), 1000);
}

#[test]
fn a_clock_that_steps_back_leaves_nothing_hanging() {
    let mut bench = gathering();
    bench.now -= 86_400_000;
    assert_eq!(left(&bench), 1000);
    bench.feed(Input::UserTyping);
    assert!(left(&bench) <= 5000);
    bench.feed(Input::Adopt { run: None, delivering: None });
    assert!(bench.session.next_wake(&bench.policy).unwrap().0 <= bench.now + 5000);
}

#[test]
fn another_trust_does_not_join() {
    let mut bench = gathering();
    assert_eq!(bench.say_as("two", Trust::Owner).action, Action::Queued);
}

#[test]
fn a_timer_nobody_armed_is_stale() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.feed(Input::Timer(Wake::Armed(TimerId(9))));
    assert_eq!(bench.last.ignored, Some(Ignored::StaleTimer));
    bench.feed(Input::Timer(Wake::QueueExpiry));
    assert_eq!(bench.last.ignored, Some(Ignored::NothingExpired));
}
