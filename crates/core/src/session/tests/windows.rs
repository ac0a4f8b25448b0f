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

/// A chat whose windows adapt, with a burst of messages that are so many milliseconds apart.
fn typed(gaps: &[i64]) -> Bench {
    let mut bench = Bench::on("web", Policy::built_in(*channel_facts("web").unwrap()));
    bench.say("one two three four");
    for gap in gaps {
        bench.now += gap;
        bench.say("one two three four");
    }
    bench
}

fn gaps(bench: &Bench) -> &[u16] {
    bench.session.rhythm.as_slice()
}

#[test]
fn from_five_samples_on_the_rhythm_counts() {
    let bench = typed(&[300, 300, 300, 300]);
    // 600 ms, faded by 0.8 for each of four earlier messages.
    assert_eq!((gaps(&bench), left(&bench)), ([300; 4].as_slice(), 246));
    let mut bench = typed(&[300, 300, 300, 300, 500]);
    bench.wait();
    bench.finish("ok");
    bench.now += 60_000;
    bench.say("one two three four");
    // A reply was between, so this is no sixth gap; 0.6 * 600 + 0.4 * (300 + 500) / 2.
    assert_eq!((gaps(&bench), left(&bench)), ([300, 300, 300, 300, 500].as_slice(), 520));
}

#[test]
fn what_comes_too_late_for_the_window_is_of_the_burst_all_the_same() {
    for busy in [BusyPolicy::Absorb, BusyPolicy::Supersede, BusyPolicy::Collect] {
        let mut bench = typed(&[]);
        bench.policy.busy = busy;
        bench.wait();
        bench.now += 900;
        bench.say("five six seven");
        assert_eq!(gaps(&bench), [1500], "{busy:?}");
    }
}

#[test]
fn what_is_no_typing_is_not_learnt() {
    // Longer than any burst.
    let mut bench = typed(&[]);
    bench.policy.busy = BusyPolicy::Collect;
    bench.wait();
    bench.now += 5000;
    bench.say("two");
    assert_eq!(gaps(&bench), [0; 0]);
    // A clock that stepped back.
    bench.now -= 60_000;
    bench.say("three");
    assert_eq!(gaps(&bench), [0; 0]);
    // Somebody else in a group.
    bench.now += 100;
    let mut other = Bench::inbound("four", Trust::Public);
    let body = MessageBody { message_id: "x".into(), sender: "ben".into(), text: "four".into() };
    other.body = Arc::new(body);
    bench.feed(Input::Message(other));
    assert_eq!(gaps(&bench), [0; 0]);
    // The answer to a question.
    let mut bench = typed(&[]);
    bench.wait();
    bench.agent(AgentInput::Ask(Token(1), "which?".into()));
    bench.now += 700;
    bench.say("that one");
    assert_eq!(gaps(&bench), [0; 0]);
}

#[test]
fn where_no_window_adapts_nothing_is_learnt() {
    let mut bench = gathering();
    bench.now += 300;
    bench.say("two");
    assert_eq!(gaps(&bench), [0; 0]);
    let mut api = Bench::new(BusyPolicy::Collect);
    api.say("one");
    api.say("two");
    assert_eq!(gaps(&api), [0; 0]);
}

#[test]
fn the_rhythm_outlives_the_conversation_but_not_the_customer() {
    let mut bench = typed(&[300, 400]);
    bench.control(Control::New);
    assert_eq!(gaps(&bench), [300, 400]);
    bench.control(Control::Erase);
    assert_eq!(gaps(&bench), [0; 0]);
}
