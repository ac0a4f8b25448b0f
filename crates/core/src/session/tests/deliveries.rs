//! The outbox: order, rate, retries, and what happens when nobody knows.

use super::*;
use crate::outbox::DeliveryState;
use crate::policy::{AmbiguousDelivery, ChannelFacts};
use crate::ports::store::Guard;

fn sending(ambiguous: AmbiguousDelivery) -> Bench {
    let facts = ChannelFacts { chars_max: Some(6), ..*channel_facts("signal").unwrap() };
    let policy =
        Policy { window_ms: 0, ambiguous, delivery_tries_max: 2, ..Policy::built_in(facts) };
    let mut bench = Bench::on("signal", policy);
    bench.say("one");
    bench.finish("first second");
    let sent = bench.deliveries();
    assert_eq!((sent.len(), &*sent[0].text, sent[0].attempt), (1, "first", 1));
    bench
}

fn ends(bench: &mut Bench, outcome: DeliveryOutcome) {
    let first = bench.session.outbox.parts[0].clone();
    let (reply, part, attempt) = (first.reply, first.part, first.tries);
    bench.feed(Input::Delivered { reply, part, attempt, outcome });
}

fn failed(retry: bool) -> DeliveryOutcome {
    DeliveryOutcome::Failed { error: "busy".into(), retry, retry_after_ms: None }
}

fn settled(bench: &Bench) -> Vec<DeliveryState> {
    let states = bench.last.rows.events.iter().filter_map(|event| match &event.body {
        crate::EventBody::DeliverySettled { state, .. } => Some(*state),
        _ => None,
    });
    states.collect()
}

#[test]
fn parts_leave_one_after_the_other() {
    let mut bench = sending(AmbiguousDelivery::Hold);
    ends(&mut bench, DeliveryOutcome::Sent);
    assert_eq!(settled(&bench), [DeliveryState::Sent]);
    assert_eq!(&*bench.deliveries()[0].text, "second");
    ends(&mut bench, DeliveryOutcome::Sent);
    assert!(!bench.session.has_open_work());
    bench.feed(Input::Delivered {
        reply: Seq(4),
        part: 0,
        attempt: 1,
        outcome: DeliveryOutcome::Sent,
    });
    assert_eq!(bench.last.ignored, Some(Ignored::StaleDelivery));
}

#[test]
fn a_failed_part_is_tried_again_and_nothing_overtakes_it() {
    let mut bench = sending(AmbiguousDelivery::Hold);
    ends(&mut bench, failed(true));
    assert!(bench.deliveries().is_empty());
    bench.wait();
    assert_eq!((&*bench.deliveries()[0].text, bench.deliveries()[0].attempt), ("first", 2));
    ends(&mut bench, failed(true));
    assert_eq!(settled(&bench), [DeliveryState::Dead]);
    assert_eq!(&*bench.deliveries()[0].text, "second");
}

#[test]
fn nobody_knows_and_a_setting_decides() {
    let unknown = || DeliveryOutcome::Unknown { error: "cut off".into() };
    for (ambiguous, state) in [
        (AmbiguousDelivery::Hold, DeliveryState::Unknown),
        (AmbiguousDelivery::Dead, DeliveryState::Dead),
    ] {
        let mut bench = sending(ambiguous);
        ends(&mut bench, unknown());
        assert_eq!(settled(&bench), [state]);
        assert_eq!(&*bench.deliveries()[0].text, "second");
    }
    let mut bench = sending(AmbiguousDelivery::Resend);
    ends(&mut bench, unknown());
    bench.wait();
    assert_eq!(bench.deliveries()[0].part, 0);
}

#[test]
fn a_part_found_sending_at_boot_is_unknown() {
    let mut bench = sending(AmbiguousDelivery::Hold);
    bench.restart();
    assert_eq!(settled(&bench), [DeliveryState::Unknown]);
    assert_eq!(&*bench.deliveries()[0].text, "second");
}

#[test]
fn a_part_whose_effect_was_lost_is_sent_by_the_same_owner() {
    let mut bench = sending(AmbiguousDelivery::Hold);
    bench.feed(Input::Adopt { run: None, delivering: None });
    assert_eq!(bench.deliveries()[0].attempt, 1);
    let first = &bench.session.outbox.parts[0];
    let delivering = Some((first.reply, first.part, first.tries));
    bench.feed(Input::Adopt { run: None, delivering });
    assert!(bench.deliveries().is_empty());
}

#[test]
fn a_parked_part_can_be_sent_again() {
    let mut bench = sending(AmbiguousDelivery::Hold);
    let reply = bench.session.outbox.parts[0].reply;
    ends(&mut bench, DeliveryOutcome::Unknown { error: "cut off".into() });
    ends(&mut bench, DeliveryOutcome::Sent);
    assert_eq!(bench.control(again(reply, DeliveryState::Unknown, 1)), Controlled::Done);
    let guard = Guard::Parked { reply, part: 0, state: DeliveryState::Unknown, tries: 1 };
    assert_eq!(bench.last.rows.guards[..], [guard]);
    assert_eq!((bench.deliveries()[0].reply, bench.deliveries()[0].attempt), (reply, 2));
    // The text that the row has stays there: it may have been taken out meanwhile.
    assert!(bench.last.rows.parts.iter().all(|row| row.text.is_empty()));
    // Somebody else asks for the same.
    assert_eq!(bench.control(again(reply, DeliveryState::Unknown, 1)), Controlled::Gone);
    assert_eq!(bench.last.ignored, Some(Ignored::NothingToControl));
}

fn again(reply: Seq, state: DeliveryState, tries: u32) -> Control {
    Control::Resend { reply, part: 0, state, tries, text: "first".into() }
}

#[test]
fn what_is_sent_again_has_all_its_tries_and_goes_on_counting() {
    let mut bench = sending(AmbiguousDelivery::Hold);
    bench.policy.facts.out_per_minute = None;
    let reply = bench.session.outbox.parts[0].reply;
    let rows = |bench: &Bench| -> Vec<_> {
        bench.last.rows.parts.iter().map(|row| (row.part, row.state, row.tries)).collect()
    };
    ends(&mut bench, failed(true));
    bench.wait();
    ends(&mut bench, failed(true));
    assert_eq!(rows(&bench)[0], (0, DeliveryState::Dead, 2));
    ends(&mut bench, DeliveryOutcome::Sent);
    for tries in [2, 4] {
        assert_eq!(bench.control(again(reply, DeliveryState::Dead, tries)), Controlled::Done);
        assert_eq!(bench.deliveries()[0].attempt, tries + 1);
        ends(&mut bench, failed(true));
        // As long a pause as after any first try.
        let (wait, _) = bench.session.next_wait(&bench.policy, bench.now).unwrap();
        assert_eq!(wait, bench.policy.delivery_backoff_ms);
        bench.wait();
        ends(&mut bench, failed(true));
        assert_eq!(rows(&bench)[0], (0, DeliveryState::Dead, tries + 2));
    }
}

#[test]
fn the_rate_spaces_what_leaves_whatever_the_clock_does() {
    let mut bench = sending(AmbiguousDelivery::Hold);
    bench.policy.facts.out_per_minute = Some(60);
    for _ in 0..5 {
        bench.say("more");
        bench.finish("more");
    }
    while bench.session.next_wake(&bench.policy).is_none() {
        ends(&mut bench, DeliveryOutcome::Sent);
    }
    assert!(bench.deliveries().is_empty());
    // A day back: the next part leaves within the rate's own pause all the same.
    bench.now -= 86_400_000;
    let (wait, wake) = bench.session.next_wait(&bench.policy, bench.now).unwrap();
    assert!(wait <= 1000);
    bench.now += 1000;
    bench.feed(Input::Timer(wake));
    let again = bench.session.next_wait(&bench.policy, bench.now);
    assert!(again.is_none_or(|(wait, _)| wait <= 1000));
}

#[test]
fn a_channel_that_pulls_has_it_with_the_commit() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.say("one");
    bench.finish("ok");
    assert!(bench.last.rows.parts.is_empty() && !bench.session.has_open_work());
}
