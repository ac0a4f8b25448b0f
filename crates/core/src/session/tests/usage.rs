//! What runs used is booked once, whatever became of them; and what a turn's budget does.

use super::tools::done;
use super::*;
use crate::budget::{Budgets, Exceeded, Limit, Scope, Window};
use crate::journal::{DeadReason, EventBody};
use crate::session::{FinishReason, Report};
use crate::tool::SideEffects;
use crate::usage::{DAY_MS, Sums, Usage};

fn report(number: u32, tokens: u64) -> AgentInput {
    let usage = Usage { model: "m".into(), output_tokens: tokens, ..Usage::default() };
    AgentInput::Used(Box::new(Report { number, agent: None, usage }))
}

fn tokens(bench: &Bench) -> u64 {
    bench.session.spent.as_ref().map_or(0, |spent| spent.sums.tokens())
}

/// A session of people with these budgets.
fn with(budgets: Budgets) -> Bench {
    let facts = *channel_facts("web").unwrap();
    let budgets = Some(Arc::new(budgets));
    Bench::on("web", Policy { window_ms: 0, budgets, ..Policy::built_in(facts) })
}

fn limited(tokens: u64) -> Bench {
    with(Budgets { turn: Limit { tokens, cost_micros: 0 }, ..Budgets::default() })
}

fn finishing(bench: &Bench) -> usize {
    let asked = |effect: &&Effect| matches!(effect, Effect::FinishNow(_, FinishReason::Budget));
    bench.last.effects.iter().filter(asked).count()
}

#[test]
fn a_report_is_booked_once_with_its_row() {
    let mut bench = Bench::new(BusyPolicy::Collect);
    bench.say("one");
    bench.agent(report(1, 5));
    let [row] = &bench.last.rows.usage[..] else { panic!("{:?}", bench.last.rows) };
    assert_eq!((row.turn, row.at, row.sums.output_tokens), (bench.tag().turn, bench.now, 5));
    bench.agent(report(1, 5));
    assert_eq!(bench.last.ignored, Some(Ignored::BookedUsage));
    assert!(bench.last.rows.is_empty() && !bench.last.changed);
    bench.agent(report(2, 7));
    assert_eq!(tokens(&bench), 12);
}

#[test]
fn what_a_run_that_is_over_used_counts_and_touches_nothing_else() {
    let mut bench = Bench::new(BusyPolicy::Collect);
    bench.say("one");
    let old = bench.tag();
    bench.stop();
    bench.say("two");
    let turn = bench.session.turn.clone();
    bench.agent_as(old, report(1, 5));
    assert_eq!((tokens(&bench), &bench.session.turn), (5, &turn));
    assert!(bench.last.effects.is_empty());
    assert_eq!(bench.last.rows.usage[0].turn, old.turn);
    let event = &bench.last.rows.events[0];
    assert!(
        matches!(&event.body, EventBody::UsageRecorded { turn_id, .. } if *turn_id == old.turn)
    );
    // Another process took over meanwhile; the money is spent all the same.
    bench.restart();
    bench.agent_as(RunTag { epoch: Epoch(1), ..bench.tag() }, report(1, 2));
    assert_eq!(tokens(&bench), 7);
}

#[test]
fn a_session_that_is_gone_does_not_come_back_for_a_report() {
    let mut bench = Bench::new(BusyPolicy::Collect);
    bench.agent_as(RunTag::default(), report(1, 5));
    assert_eq!(bench.last.ignored, Some(Ignored::StaleRun));
    assert_eq!((tokens(&bench), bench.last.changed), (0, false));
}

#[test]
fn a_turn_over_its_budget_finishes_and_at_twice_of_it_is_given_up() {
    let mut bench = limited(10);
    bench.say("one");
    bench.agent(report(1, 9));
    assert_eq!(finishing(&bench), 0);
    bench.agent(report(2, 1));
    assert_eq!(finishing(&bench), 1);
    bench.agent(report(3, 1));
    assert_eq!(finishing(&bench), 0);
    bench.agent(report(4, 9));
    let reason = bench.last.rows.dead_letters[0].reason;
    assert_eq!((reason, bench.session.turn.is_none()), (DeadReason::AgentFailed, true));
    assert_eq!(tokens(&bench), 20);
    // The next turn has a budget of its own.
    bench.say("two");
    bench.agent(report(1, 9));
    assert_eq!(finishing(&bench), 0);
}

#[test]
fn every_attempt_of_a_turn_counts() {
    let mut bench = limited(10);
    bench.say("one");
    bench.agent(report(1, 10));
    bench.fail(true);
    bench.wait();
    bench.agent(report(1, 1));
    let spent = bench.session.spent.as_ref().unwrap();
    assert_eq!(spent.of_turn(bench.tag().turn).tokens(), 11);
    let turn = bench.session.turn.as_ref().unwrap();
    assert_eq!(turn.finishing, Some(FinishReason::Budget));
}

#[test]
fn a_turn_that_did_what_can_not_be_undone_is_not_given_up() {
    let mut bench = limited(10);
    bench.say("one");
    bench.agent(AgentInput::CommitPoint(Token(1)));
    bench.agent(report(1, 1000));
    assert_eq!((finishing(&bench), bench.session.turn.is_some()), (1, true));
}

#[test]
fn a_late_report_of_another_turn_does_not_begin_the_budget_anew() {
    let mut bench = limited(10);
    bench.say("one");
    let old = bench.tag();
    bench.agent(report(1, 1));
    bench.stop();
    bench.say("two");
    bench.agent(report(1, 9));
    bench.agent_as(old, report(2, 1));
    let spent = bench.session.spent.as_ref().unwrap();
    assert_eq!((tokens(&bench), spent.of_turn(bench.tag().turn).tokens()), (11, 9));
    bench.agent(report(2, 1));
    assert_eq!(finishing(&bench), 1);
    bench.agent_as(old, report(3, 1));
    bench.agent(report(3, 10));
    assert!(bench.session.turn.is_none());
}

fn told(bench: &Bench) -> usize {
    let notice = |event: &&crate::Event| matches!(event.body, EventBody::SessionNotice { .. });
    bench.last.rows.events.iter().filter(notice).count()
}

#[test]
fn the_user_is_told_of_another_agent_once_a_day() {
    let mut bench = with(Budgets { degraded_text: "simpler".into(), ..Budgets::default() });
    bench.say("one");
    for (after_ms, expect) in [(0, 1), (1000, 0), (DAY_MS, 1), (1000, 0)] {
        bench.now += after_ms;
        bench.agent(AgentInput::Degraded);
        assert_eq!(told(&bench), expect, "after {after_ms} ms");
    }
    let mut silent = with(Budgets::default());
    silent.say("one");
    silent.agent(AgentInput::Degraded);
    assert_eq!(told(&silent), 0);
}

#[test]
fn who_is_refused_is_told_once_a_day_and_nothing_else_is_written() {
    let budget = Exceeded { scope: Scope::Customer, window: Window::Day };
    let rejection = Rejection::BudgetExceeded { budget, retry_after_ms: 1000 };
    let refused = |bench: &mut Bench| {
        let inbound = Bench::inbound("hello", Trust::Public);
        let refused = Some(rejection.clone());
        bench.feed(Input::Message(Inbound { refused, ..inbound }));
        (told(bench), bench.last.rows.events.len(), bench.session.turn.is_some())
    };
    let mut bench = with(Budgets { refused_text: "tomorrow".into(), ..Budgets::default() });
    // A name that nobody knows makes no session.
    assert_eq!((refused(&mut bench), bench.last.changed), ((0, 0, false), false));
    bench.say("one");
    bench.stop();
    assert_eq!(refused(&mut bench), (1, 1, false));
    assert_eq!(refused(&mut bench), (0, 0, false));
    bench.now += DAY_MS;
    assert_eq!(refused(&mut bench), (1, 1, false));
    // A program reads the answer.
    let mut api = Bench::new(BusyPolicy::Collect);
    api.policy.budgets.clone_from(&bench.policy.budgets);
    api.say("one");
    api.stop();
    assert_eq!(refused(&mut api), (0, 0, false));
}

#[test]
fn what_was_spent_survives_in_the_snapshot() {
    let mut bench = limited(10);
    bench.say("one");
    bench.agent(report(1, 10));
    let json = serde_json::to_string(&bench.session).unwrap();
    let read: Session = serde_json::from_str(&json).unwrap();
    assert_eq!(read.spent, bench.session.spent);
    let buried = read.spent.unwrap().buried();
    assert_eq!((buried.sums.tokens(), buried.of_turn(bench.tag().turn)), (10, Sums::default()));
}

#[test]
fn a_call_that_acts_ends_before_its_turn_is_given_up() {
    let mut bench = limited(10);
    bench.say("one");
    let AgentAnswer::Call(call) = bench.intend(SideEffects::Compensatable, 1) else { panic!() };
    bench.agent(report(1, 25));
    assert_eq!((finishing(&bench), bench.told()), (1, vec!["usage.recorded"]));
    bench.agent(done(call));
    assert_eq!(bench.told(), ["tool.returned"]);
    bench.agent(report(2, 1));
    assert_eq!(bench.last.rows.dead_letters[0].reason, DeadReason::AgentFailed);
}

#[test]
fn what_an_operator_took_over_is_not_given_up() {
    let mut bench = limited(10);
    bench.say("one");
    let AgentAnswer::Call(call) = bench.intend(SideEffects::Compensatable, 1) else { panic!() };
    bench.control(Control::Pause { by: "Ann".into(), take_over: false });
    bench.agent(report(1, 25));
    assert_eq!((finishing(&bench), bench.told()), (1, vec!["usage.recorded"]));
    bench.agent(done(call));
    assert_eq!(bench.told(), ["tool.returned", "turn.waiting_for_operator"]);
}
