//! Steps in the place of whoever has the session: accepted there, done by the holder alone.

use super::*;

/// A bench whose next steps are another node's, until [`home`].
fn away(bench: &mut Bench) {
    bench.runs = false;
}

/// The holder loads again, with the run and the delivery that it has.
fn home(bench: &mut Bench, run: Option<RunTag>, delivering: Option<(Seq, u32, u32)>) {
    bench.runs = true;
    bench.feed(Input::Adopt { run, delivering });
}

fn only_answers(bench: &Bench) -> bool {
    !bench.has(|effect| matches!(effect, Effect::Start(_) | Effect::Deliver(_)))
}

#[test]
fn what_a_guest_begins_the_holder_runs_as_the_first_attempt() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    away(&mut bench);
    bench.say("one");
    assert!(only_answers(&bench));
    assert!(matches!(bench.stage(), Stage::Backoff { .. }));
    home(&mut bench, None, None);
    bench.wait();
    let start = bench.started().unwrap();
    assert_eq!((start.tag.attempt.0, start.messages.len()), (1, 1));
    bench.finish("done");
    assert!(bench.session.turn.is_none());
}

#[test]
fn taken_over_from_who_runs_nothing_it_is_no_recovery() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    away(&mut bench);
    bench.say("one");
    bench.runs = true;
    bench.restart();
    // One commit takes it and begins it.
    assert_eq!(bench.told(), ["turn.processing"]);
    assert_eq!(bench.session.turn.as_ref().unwrap().recoveries, 0);
    assert_eq!(bench.started().unwrap().tag.epoch, Epoch(2));
}

#[test]
fn what_is_not_due_yet_is_taken_over_and_waits() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.say("one");
    bench.fail(true);
    bench.restart();
    assert!(bench.started().is_none() && bench.last.changed);
    bench.wait();
    assert_eq!(bench.started().unwrap().tag.epoch, Epoch(2));
}

#[test]
fn mail_that_a_guest_took_is_told_to_the_run() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.say("one");
    let tag = bench.tag();
    away(&mut bench);
    bench.say("two");
    home(&mut bench, Some(tag), None);
    assert!(bench.has(|effect| matches!(effect, Effect::MailWaiting(told) if *told == tag)));
    bench.agent(AgentInput::TakeMail(Token(1)));
    assert_eq!(bench.texts(), ["one", "two"]);
}

#[test]
fn a_turn_that_a_guest_superseded_ends_where_it_runs() {
    let mut bench = Bench::new(BusyPolicy::Supersede);
    bench.say("one");
    let old = bench.tag();
    away(&mut bench);
    bench.say("two");
    assert!(only_answers(&bench));
    home(&mut bench, Some(old), None);
    assert!(bench.has(|effect| matches!(effect, Effect::Cancel(told) if *told == old)));
    bench.wait();
    assert_eq!(bench.started().unwrap().messages.len(), 2);
}

#[test]
fn an_answer_that_a_guest_took_begins_another_attempt() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.say("one");
    bench.agent(AgentInput::Ask(Token(1), "which?".into()));
    let asking = bench.tag();
    away(&mut bench);
    bench.say("this one");
    home(&mut bench, Some(asking), None);
    assert!(bench.has(|effect| matches!(effect, Effect::Cancel(told) if *told == asking)));
    bench.wait();
    let start = bench.started().unwrap();
    assert_eq!((start.tag.attempt.0, start.answered.map(|question| question.0)), (2, Some(1)));
}

#[test]
fn a_stop_past_the_commit_point_reaches_the_run() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.say("one");
    bench.agent(AgentInput::CommitPoint(Token(1)));
    let tag = bench.tag();
    away(&mut bench);
    assert!(matches!(bench.stop(), Controlled::Stopping(_)));
    home(&mut bench, Some(tag), None);
    assert!(bench.has(|effect| matches!(effect, Effect::Wind(told) if *told == tag)));
}

#[test]
fn what_a_guest_has_to_tell_the_holder_sends() {
    let mut bench = Bench::on("signal", Policy::built_in(*channel_facts("signal").unwrap()));
    bench.policy.window_ms = 0;
    bench.say("one");
    bench.agent(AgentInput::Ask(Token(1), "which?".into()));
    let first = bench.deliveries().pop().unwrap();
    away(&mut bench);
    bench.control(Control::OptIn(true));
    assert!(matches!(bench.tell("a word"), Controlled::Noticed { .. }));
    bench.stop();
    assert!(only_answers(&bench), "{:?}", bench.last.effects);
    home(&mut bench, None, Some((first.reply, first.part, first.attempt)));
    let Delivery { reply, part, attempt, .. } = first;
    bench.feed(Input::Delivered { reply, part, attempt, outcome: DeliveryOutcome::Sent });
    assert_eq!(&*bench.deliveries()[0].text, "a word");
}
