//! How turns end: complete, stopped, reset, failed; and what becomes of the rest.

use super::*;
use crate::journal::{DeadReason, Event, EventBody};
use crate::tool::{Denied, SideEffects, ToolOutcome};

fn with_mail() -> Bench {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.say("one");
    bench.say("two");
    bench
}

#[test]
fn finishing_looks_at_the_mailbox_in_the_same_commit() {
    let mut bench = with_mail();
    bench.finish("ok");
    let told = ["turn.completed", "message.requeued", "turn.started", "turn.processing"];
    assert_eq!(bench.told(), told);
    assert_eq!(bench.texts(), ["two"]);
}

#[test]
fn mail_that_was_not_used_counts_as_unread() {
    let mut bench = with_mail();
    bench.agent(AgentInput::TakeMail(Token(1)));
    let finished = Finished { reply: None, used: Some(Seq(1)), ..Finished::default() };
    bench.agent(AgentInput::Finished(finished));
    assert_eq!(bench.texts(), ["two"]);
}

#[test]
fn a_failing_agent_is_tried_three_times_and_then_the_turn_fails() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.say("one");
    let group = bench.session.turn.as_ref().unwrap().group;
    for _ in 0..2 {
        bench.fail(true);
        assert_eq!(bench.told(), ["turn.retrying"]);
        bench.say("meanwhile");
        bench.wait();
        assert_eq!(bench.told().last(), Some(&"turn.processing"));
    }
    bench.say("left");
    bench.fail(true);
    let letters = &bench.last.rows.dead_letters;
    assert_eq!(letters.len(), 3);
    assert_eq!((letters[0].reason, letters[0].group), (DeadReason::AgentFailed, group));
    // What the failed turn had not taken starts the next one.
    assert_eq!(bench.texts(), ["left"]);
    bench.finish("ok");
    assert_eq!(bench.session.status(), SessionStatus::Idle);
}

#[test]
fn a_final_failure_is_not_retried_and_the_session_says_failed() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.say("one");
    bench.fail(false);
    assert_eq!(bench.told(), ["turn.failed", "session.notice"]);
    assert_eq!(bench.session.status(), SessionStatus::Failed);
}

#[test]
fn a_dead_letter_is_retried_in_its_group_behind_what_waits() {
    let mut bench = Bench::new(BusyPolicy::Collect);
    bench.say("one");
    bench.fail(false);
    let letter = bench.last.rows.dead_letters[0].clone();
    bench.say("two");
    let retry = Control::Retry {
        seq: letter.seq,
        group: letter.group,
        trust: letter.trust,
        body: Arc::clone(&letter.body),
    };
    let Controlled::Retried(decision) = bench.control(retry) else { panic!("not retried") };
    assert_eq!((decision.action, decision.queue_position), (Action::Queued, Some(1)));
    bench.say("three");
    bench.finish("ok");
    assert_eq!(bench.texts(), ["one"]);
    assert_eq!(bench.session.turn.as_ref().unwrap().group, letter.group);
    bench.finish("ok");
    assert_eq!(bench.texts(), ["three"]);
}

#[test]
fn a_dead_letter_can_be_given_up() {
    let mut bench = Bench::new(BusyPolicy::Collect);
    bench.say("one");
    bench.fail(false);
    let seq = bench.last.rows.dead_letters[0].seq;
    assert_eq!(bench.control(Control::Discard { seq }), Controlled::Done);
    assert_eq!(bench.told(), ["message.discarded"]);
    assert_eq!(bench.checker.dead(), []);
}

#[test]
fn stop_cancels_the_turn_and_its_mailbox_but_not_the_queue() {
    let mut bench = with_mail();
    bench.say_as("three", Trust::Owner);
    assert!(matches!(bench.stop(), Controlled::Stopped(_)));
    assert_eq!(bench.told()[0], "turn.cancelled");
    assert_eq!(bench.texts(), ["three"]);
    assert_eq!(bench.checker.open(), [Seq(5)]);
}

#[test]
fn stop_of_another_turn_does_nothing() {
    let mut bench = with_mail();
    let other = TurnId(Uuid::from_u128(99));
    let told = bench.control(Control::Stop { turn: Some(other), shown: None });
    assert_eq!(told, Controlled::OtherTurn(bench.tag().turn));
    assert_eq!(bench.last.ignored, Some(Ignored::NothingToControl));
    let mut idle = Bench::new(BusyPolicy::Absorb);
    assert_eq!(idle.stop(), Controlled::NothingRuns);
}

#[test]
fn stop_after_the_commit_point_waits_for_the_call_in_flight() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.say("one");
    bench.agent(AgentInput::CommitPoint(Token(1)));
    assert!(matches!(bench.stop(), Controlled::Stopping(_)));
    assert!(bench.has(|effect| matches!(effect, Effect::Wind(_))));
    bench.agent(AgentInput::CommitPoint(Token(2)));
    assert_eq!(super::tools::reason(&bench.answer()), Denied::Stopping);
    assert_eq!(bench.say("two").action, Action::Queued);
    bench.finish("the call's result");
    assert_eq!(bench.told()[..2], ["turn.cancelled", "session.notice"]);
    assert_eq!(bench.texts(), ["two"]);
}

/// What the last step told the user beside replies.
fn notices(bench: &Bench) -> Vec<String> {
    let notice = |event: &Event| match &event.body {
        EventBody::SessionNotice { text, .. } => Some(text.to_string()),
        _ => None,
    };
    bench.last.rows.events.iter().filter_map(notice).collect()
}

#[test]
fn who_stops_in_the_middle_of_an_act_hears_what_came_of_it() {
    let check = |effects, outcome, expect: &str| {
        let mut bench = Bench::new(BusyPolicy::Absorb);
        bench.say("pay it back");
        if effects == SideEffects::Irreversible {
            let AgentAnswer::Call(call) = bench.intend(effects, 1) else { panic!() };
            assert!(matches!(bench.stop(), Controlled::Stopping(_)));
            let waits = "Stopping. Something is being done that can't be called back; you will hear \
                         what came of it.";
            assert_eq!(notices(&bench), [waits]);
            // Once is enough.
            assert!(matches!(bench.stop(), Controlled::Stopping(_)));
            assert_eq!(notices(&bench), [""; 0]);
            if let Some(outcome) = outcome {
                bench.agent(AgentInput::Returned(Token(3), call, outcome, "".into()));
                assert_eq!(notices(&bench), [""; 0]);
            }
            bench.finish("");
        } else {
            bench.intend(effects, 1);
            assert!(matches!(bench.stop(), Controlled::Stopped(_)));
        }
        assert_eq!(notices(&bench), [expect], "{effects:?} {outcome:?}");
    };
    let irreversible = SideEffects::Irreversible;
    check(irreversible, Some(ToolOutcome::Done), "Stopped. What had been begun was done.");
    check(irreversible, Some(ToolOutcome::Failed), "Stopped. What had been begun was not done.");
    let unknown = "Stopped. Nobody knows whether what had been begun was done.";
    check(irreversible, Some(ToolOutcome::Unknown), unknown);
    check(irreversible, None, unknown);
    // What can be laid down is not waited for.
    check(SideEffects::Idempotent, None, unknown);
}

#[test]
fn a_stop_where_nothing_was_done_is_silent() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.say("one");
    bench.intend(SideEffects::Pure, 1);
    assert!(matches!(bench.stop(), Controlled::Stopped(_)));
    assert_eq!(notices(&bench), [""; 0]);
    // Nor does anybody hear of acts where a conversation begins anew.
    bench.say("two");
    bench.intend(SideEffects::Idempotent, 2);
    bench.control(Control::New);
    assert_eq!(notices(&bench), [""; 0]);
}

#[test]
fn a_stop_that_waited_for_a_process_that_died_tells_so() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.say("pay it back");
    bench.intend(SideEffects::Irreversible, 1);
    bench.stop();
    bench.restart();
    let unknown = "Stopped. Nobody knows whether what had been begun was done.";
    assert_eq!(notices(&bench), [unknown]);
}

#[test]
fn stop_while_the_agent_waits_for_the_user_has_no_call_to_wait_for() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.say("one");
    bench.agent(AgentInput::CommitPoint(Token(1)));
    bench.agent(AgentInput::Ask(Token(2), "which?".into()));
    assert!(matches!(bench.stop(), Controlled::Stopped(_)));
    assert_eq!(bench.session.status(), SessionStatus::Idle);
}

#[test]
fn stopping_ends_when_the_run_is_lost() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.say("one");
    bench.agent(AgentInput::CommitPoint(Token(1)));
    bench.stop();
    // The same owner lost its run to a store error; nothing is left to wait for.
    bench.feed(Input::Adopt { run: None, delivering: None });
    assert_eq!(bench.told(), ["turn.cancelled", "session.notice"]);
}

#[test]
fn new_cancels_everything_accepted_and_counts_it() {
    let mut bench = with_mail();
    bench.say_as("three", Trust::Owner);
    assert_eq!(bench.control(Control::New), Controlled::Reset(3));
    assert_eq!(bench.told(), ["turn.cancelled", "message.cancelled", "session.reset"]);
    assert_eq!(bench.session.history_from, bench.session.last_seq);
    assert_eq!(bench.checker.open(), []);
}

#[test]
fn close_twice_is_close_once() {
    let mut bench = with_mail();
    assert_eq!(bench.control(Control::Close), Controlled::Closed(2));
    assert_eq!(bench.control(Control::Close), Controlled::Closed(0));
    assert_eq!(bench.last.ignored, Some(Ignored::NothingToControl));
}

#[test]
fn a_reply_that_is_too_long_fails_for_good() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.policy.reply_bytes_max = 3;
    bench.say("one");
    bench.finish("four");
    assert_eq!(bench.told()[0], "turn.failed");
}

#[test]
fn only_so_much_is_absorbed_and_the_rest_starts_the_next_turn() {
    let mut bench = with_mail();
    bench.policy.absorbed_max = 1;
    bench.say("three");
    bench.agent(AgentInput::TakeMail(Token(1)));
    bench.finish("ok");
    assert_eq!(bench.texts(), ["three"]);
}

#[test]
fn a_second_notice_within_a_minute_is_swallowed() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    for (pause, told) in [(0, 2), (59_999, 1), (60_000, 2)] {
        bench.now += pause;
        bench.say("one");
        bench.fail(false);
        assert_eq!(bench.told().len(), told, "after {pause}");
        bench.now -= if told == 1 { pause } else { 0 };
    }
}
