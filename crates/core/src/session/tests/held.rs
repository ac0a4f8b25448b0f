//! Messages that wait for an external check: their order, their end, and what is decided then.

use super::*;
use crate::moderation::{Check, Moderation, Ruling, Trigger};

const TIMEOUT_MS: u64 = 3000;

fn moderated(busy: BusyPolicy, default: Ruling) -> Bench {
    let mut bench = Bench::new(busy);
    bench.policy.moderation = Some(Moderation { timeout_ms: TIMEOUT_MS, default });
    bench
}

impl Bench {
    fn rules(&mut self, seq: u64, ruling: Ruling) {
        self.feed(Input::Ruling { seq: Seq(seq), ruling, reason: Some("rude".into()) });
    }

    fn allows(&mut self, seq: u64) {
        self.rules(seq, Ruling::Allow);
    }

    /// What the last step asks to be checked: place and time.
    fn checks(&self) -> Vec<(u64, u64)> {
        self.effects(|effect| match effect {
            Effect::Check(message, _, wait_ms) => Some((message.seq.0, *wait_ms)),
            _ => None,
        })
    }
}

#[test]
fn a_message_waits_for_its_check() {
    let mut bench = moderated(BusyPolicy::Collect, Ruling::Refuse);
    let decision = bench.say("one");
    assert_eq!((decision.action, decision.turn), (Action::Queued, None));
    assert_eq!((decision.queue_position, bench.checks()), (Some(0), vec![(1, TIMEOUT_MS)]));
    assert_eq!((bench.session.inbox_len(), bench.session.status()), (1, SessionStatus::Idle));
    assert!(bench.session.has_open_work());
    bench.allows(1);
    assert_eq!(bench.told(), ["guard.allowed", "turn.started", "turn.processing"]);
    assert_eq!(bench.texts(), ["one"]);
    bench.allows(1);
    assert_eq!(bench.last.ignored, Some(Ignored::StaleRuling));
}

#[test]
fn nobody_overtakes_one_that_is_held() {
    let mut bench = moderated(BusyPolicy::Collect, Ruling::Refuse);
    for (text, position) in [("one", 0), ("two", 0), ("three", 0)] {
        assert_eq!(bench.say(text).queue_position, Some(position), "{text}");
    }
    bench.allows(3);
    bench.allows(2);
    assert_eq!(bench.told(), NOT_CHANGED);
    assert_eq!(bench.session.held.len(), 3);
    bench.allows(1);
    let told =
        ["guard.allowed", "turn.started", "turn.processing", "guard.allowed", "guard.allowed"];
    assert_eq!(
        (bench.told(), bench.texts(), bench.queued()),
        (told.to_vec(), vec!["one".into()], vec!["two".into(), "three".into()],)
    );
}

#[test]
fn what_is_refused_is_discarded_and_said() {
    let mut bench = moderated(BusyPolicy::Collect, Ruling::Allow);
    bench.say("one");
    bench.say("two");
    bench.rules(1, Ruling::Refuse);
    assert_eq!(bench.told(), ["guard.refused", "session.notice"]);
    // Not each time: whoever floods gets no flood back.
    bench.rules(2, Ruling::Refuse);
    assert_eq!(bench.told(), ["guard.refused"]);
    assert_eq!((bench.session.inbox_len(), bench.checker.discarded()), (0, 2));
    assert!(!bench.session.has_open_work());
    bench.now += 60_000;
    bench.say("three");
    bench.rules(6, Ruling::Refuse);
    assert_eq!(bench.told(), ["guard.refused", "session.notice"]);
}

#[test]
fn only_the_trusted_are_told_why() {
    let said = |trust| {
        let mut bench = moderated(BusyPolicy::Collect, Ruling::Allow);
        bench.say_as("one", trust);
        bench.rules(1, Ruling::Refuse);
        match &bench.last.rows.events[1].body {
            crate::EventBody::SessionNotice { text, .. } => text.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(said(Trust::Public), "Your message was not passed on.");
    assert_eq!(said(Trust::Owner), "Your message was not passed on: rude");
}

#[test]
fn where_nobody_rules_the_default_holds() {
    for (default, told) in [
        (Ruling::Allow, &["guard.allowed", "turn.started", "turn.processing"][..]),
        (Ruling::Refuse, &["guard.refused", "session.notice"]),
    ] {
        let mut bench = moderated(BusyPolicy::Collect, default);
        bench.say("one");
        let begun = bench.now;
        bench.wait();
        assert_eq!((bench.now - begun, bench.told()), (3000, told.to_vec()));
        bench.allows(1);
        assert_eq!(bench.last.ignored, Some(Ignored::StaleRuling));
    }
}

#[test]
fn the_deadline_holds_across_a_restart_and_the_check_is_asked_again() {
    let mut bench = moderated(BusyPolicy::Collect, Ruling::Refuse);
    bench.say("one");
    bench.now += 1000;
    bench.say("two");
    bench.rules(2, Ruling::Allow);
    bench.now += 500;
    bench.restart();
    // Who was ruled on is not asked about again.
    assert_eq!(bench.checks(), [(1, 1500)]);
    // Lost effects of the same owner.
    bench.feed(Input::Adopt { run: None, delivering: None });
    assert_eq!((bench.checks(), bench.told()), (vec![(1, 1500)], vec![]));
    bench.now += 1400;
    assert_eq!(bench.session.next_wait(&bench.policy, bench.now).unwrap().0, 100);
    bench.wait();
    let told =
        ["guard.refused", "session.notice", "guard.allowed", "turn.started", "turn.processing"];
    assert_eq!(bench.told(), told);
    assert_eq!(bench.texts(), ["two"]);
}

#[test]
fn a_clock_that_steps_back_holds_nobody_for_longer() {
    let mut bench = moderated(BusyPolicy::Collect, Ruling::Allow);
    bench.say("one");
    bench.now -= 86_400_000;
    assert_eq!(bench.session.next_wait(&bench.policy, bench.now).unwrap().0, TIMEOUT_MS);
    bench.restart();
    assert!(bench.session.held[0].deadline.at <= bench.now + 3000);
}

#[test]
fn what_is_let_go_passes_the_table_as_if_it_had_just_come() {
    let busy = |policy: BusyPolicy| {
        let mut bench = moderated(policy, Ruling::Allow);
        bench.say("one");
        bench.allows(1);
        let turn = bench.tag().turn;
        bench.say("two");
        bench.allows(5);
        (bench, turn)
    };
    let (absorbing, turn) = busy(BusyPolicy::Absorb);
    assert!(absorbing.has(|effect| matches!(effect, Effect::MailWaiting(_))));
    assert_eq!(absorbing.tag().turn, turn);
    let (superseding, turn) = busy(BusyPolicy::Supersede);
    assert_ne!(superseding.tag().turn, turn);
    assert_eq!(superseding.texts(), ["one", "two"]);
    let (alone, _) = busy(BusyPolicy::Queue);
    assert!(alone.session.queue[0].alone);
    let (asking, _) = busy(BusyPolicy::Agent);
    assert!(asking.has(|effect| matches!(effect, Effect::AskAgent(..))));
    // A user is asked: it answers.
    let mut waiting = moderated(BusyPolicy::Absorb, Ruling::Allow);
    waiting.say("one");
    waiting.allows(1);
    waiting.agent(AgentInput::Ask(Token(1), "which?".into()));
    waiting.say("that one");
    waiting.allows(6);
    assert!(waiting.has(|effect| matches!(effect, Effect::AnswerRun(..))));
}

#[test]
fn two_turns_are_not_begun_by_one_step() {
    let mut bench = moderated(BusyPolicy::Supersede, Ruling::Allow);
    bench.say("one");
    bench.say("two");
    bench.allows(2);
    bench.allows(1);
    // The first began a turn; the second, which supersedes it, goes with a step of its own.
    assert_eq!((bench.texts(), bench.session.held.len()), (vec!["one".into()], 1));
    assert_eq!(bench.session.next_wait(&bench.policy, bench.now), Some((0, Wake::Held)));
    bench.wait();
    assert_eq!((bench.texts(), bench.session.held.len()), (vec!["one".into(), "two".into()], 0));
    bench.feed(Input::Timer(Wake::Held));
    assert_eq!(bench.last.ignored, Some(Ignored::StaleTimer));
}

#[test]
fn a_burst_gathers_once_it_is_let_go() {
    let policy = Policy {
        moderation: Some(Moderation { timeout_ms: TIMEOUT_MS, default: Ruling::Allow }),
        ..Policy::built_in(*channel_facts("web").unwrap())
    };
    let mut bench = Bench::on("web", policy);
    bench.say("one");
    bench.say("two");
    bench.allows(1);
    bench.allows(2);
    assert_eq!(bench.session.status(), SessionStatus::Accumulating);
    bench.wait();
    assert_eq!(bench.texts(), ["one", "two"]);
}

#[test]
fn stop_leaves_what_is_held_and_new_and_close_cancel_it() {
    let mut bench = moderated(BusyPolicy::Collect, Ruling::Allow);
    bench.say("one");
    bench.allows(1);
    bench.say("two");
    assert!(matches!(bench.stop(), Controlled::Stopped(_)));
    assert_eq!(bench.session.held.len(), 1);
    assert_eq!(bench.control(Control::New), Controlled::Reset(1));
    assert_eq!(bench.told(), ["message.cancelled", "session.reset"]);
    bench.allows(5);
    assert_eq!(bench.last.ignored, Some(Ignored::StaleRuling));
    bench.say("three");
    assert_eq!(bench.control(Control::Close), Controlled::Closed(1));
    assert!(!bench.session.has_open_work());
}

#[test]
fn who_is_not_to_wait_is_refused_before_the_check() {
    let mut bench = moderated(BusyPolicy::Reject, Ruling::Allow);
    bench.policy.inbox_max = 2;
    assert_eq!(bench.say("one").action, Action::Queued);
    // It would meet the turn of the one before it.
    assert_eq!(bench.say("two").rejection, Some(Rejection::SessionBusy));
    bench.session.busy = Some(BusyPolicy::Collect);
    assert_eq!(bench.say("two").action, Action::Queued);
    assert_eq!(bench.say("three").rejection, Some(Rejection::QueueFull));
    // What was accepted is never refused, whatever the policy is when it is let go.
    bench.session.busy = Some(BusyPolicy::Reject);
    bench.allows(1);
    bench.allows(2);
    assert_eq!((bench.texts(), bench.queued()), (vec!["one".into()], vec!["two".into()]));
}

#[test]
fn a_retried_letter_waits_behind_them_and_is_not_checked_again() {
    let mut bench = moderated(BusyPolicy::Collect, Ruling::Refuse);
    bench.policy.errors_max = 1;
    bench.say("one");
    bench.allows(1);
    bench.fail(false);
    let letter = bench.last.rows.dead_letters[0].clone();
    bench.say("two");
    let (seq, group, trust, body) = (letter.seq, letter.group, letter.trust, letter.body);
    let retried = bench.control(Control::Retry { seq, group, trust, body });
    assert!(matches!(retried, Controlled::Retried(Decision { queue_position: Some(1), .. })));
    assert_eq!((bench.checks(), bench.session.held.len()), (vec![], 2));
    let two = bench.session.held[0].message.seq.0;
    bench.allows(two);
    assert_eq!((bench.texts(), bench.queued()), (vec!["two".into()], vec!["one".into()]));
    assert_eq!(bench.session.queue[0].group, Some(group));
}

#[test]
fn when_checks_are_switched_off_those_that_are_held_go_first() {
    let mut bench = moderated(BusyPolicy::Collect, Ruling::Refuse);
    bench.say("one");
    bench.policy.moderation = None;
    assert_eq!((bench.say("two").action, bench.checks()), (Action::Queued, vec![]));
    bench.wait();
    let told = ["guard.allowed", "turn.started", "turn.processing", "guard.allowed"];
    assert_eq!((bench.told(), bench.queued()), (told.to_vec(), vec!["two".into()]));
}

#[test]
fn the_rhythm_is_of_when_they_came() {
    let policy = Policy {
        moderation: Some(Moderation { timeout_ms: TIMEOUT_MS, default: Ruling::Allow }),
        ..Policy::built_in(*channel_facts("web").unwrap())
    };
    let mut bench = Bench::on("web", policy);
    bench.say("one");
    bench.now += 400;
    bench.say("two");
    bench.now += 2000;
    bench.allows(1);
    bench.allows(2);
    assert_eq!(bench.session.rhythm.as_slice(), [400]);
}

/// A question, asked of a session whose messages are checked.
fn asked_and_checked() -> Bench {
    let mut bench = moderated(BusyPolicy::Absorb, Ruling::Refuse);
    bench.say("pay it back");
    bench.allows(1);
    bench.agent(AgentInput::Ask(Token(1), "which?".into()));
    bench
}

#[test]
fn a_held_answer_goes_to_its_question_or_nowhere() {
    let mut bench = asked_and_checked();
    let yes = bench.replies("the red one", 1).seq.unwrap();
    bench.allows(yes.0);
    assert_eq!(bench.told(), ["guard.allowed", "turn.answered"]);

    let mut bench = asked_and_checked();
    let (first, second) =
        (bench.replies("red", 1).seq.unwrap(), bench.replies("blue", 1).seq.unwrap());
    bench.allows(second.0);
    bench.allows(first.0);
    let told = ["guard.allowed", "turn.answered", "guard.refused", "session.notice"];
    assert_eq!(bench.told(), told);

    // Its question is over, and another one is open.
    let mut bench = asked_and_checked();
    let late = bench.replies("yes", 1).seq.unwrap();
    bench.feed(Input::Control(Token(9), Control::Stop { turn: None, shown: None }));
    bench.allows(late.0);
    assert_eq!(bench.told(), ["guard.refused", "session.notice"]);
    assert!(!bench.session.has_open_work() && bench.session.turn.is_none());
}

const ASK_MS: u64 = 4000;

impl Bench {
    /// Somebody in a group says something, and whether to the agent is to be found out.
    fn wonders(&mut self, text: &str) -> Decision {
        let kind = InboundKind::Unclear(Trigger { agent: "doorman".into(), timeout_ms: ASK_MS });
        self.feed(Input::Message(Inbound { kind, ..Self::inbound(text, Trust::Public) }));
        let decided = self.effects(|effect| match effect {
            Effect::Decided(_, decision) => Some(decision.clone()),
            _ => None,
        });
        decided.into_iter().next().unwrap()
    }

    /// What the last step asks, and about which place.
    fn asks(&self) -> Vec<(u64, Check)> {
        self.effects(|effect| match effect {
            Effect::Check(message, check, _) => Some((message.seq.0, check.clone())),
            _ => None,
        })
    }
}

fn doorman() -> Check {
    Check::Trigger("doorman".into())
}

#[test]
fn whether_a_message_is_for_the_agent_is_asked_while_it_is_held() {
    let mut bench = Bench::new(BusyPolicy::Collect);
    let decision = bench.wonders("dinner?");
    assert_eq!((decision.action, decision.queue_position), (Action::Queued, Some(0)));
    assert_eq!((bench.asks(), bench.checks()), (vec![(1, doorman())], vec![(1, ASK_MS)]));
    // Whoever comes behind it waits for it, addressed or not.
    assert_eq!((bench.say("bot, help").action, bench.asks()), (Action::Queued, vec![]));
    bench.rules(1, Ruling::Context);
    let told = ["message.context", "guard.allowed", "turn.started", "turn.processing"];
    assert_eq!((bench.told(), bench.texts()), (told.to_vec(), vec!["bot, help".to_owned()]));
    let crate::EventBody::MessageContext { of, by_default, text, .. } =
        &bench.last.rows.events[0].body
    else {
        panic!()
    };
    assert_eq!((*of, *by_default, &**text), (Some(Seq(1)), false, "dinner?"));
    bench.finish("done");
    bench.wonders("what now?");
    let seq = bench.session.last_seq.0;
    bench.rules(seq, Ruling::Addressed);
    assert_eq!((bench.texts(), bench.told()[0]), (vec!["what now?".to_owned()], "guard.allowed"));
    assert_eq!((bench.checker.context(), bench.checker.accepted()), (1, 3));
}

#[test]
fn where_nobody_says_so_in_time_it_is_not() {
    let mut bench = Bench::new(BusyPolicy::Collect);
    bench.wonders("dinner?");
    let begun = bench.now;
    bench.restart();
    assert_eq!(bench.asks(), [(1, doorman())]);
    bench.wait();
    let waited = bench.now - begun;
    assert_eq!((waited, bench.told()), (4000, vec!["message.context"]));
    bench.rules(1, Ruling::Addressed);
    assert_eq!(bench.last.ignored, Some(Ignored::StaleRuling));
    assert!(!bench.session.has_open_work());
}

#[test]
fn what_may_not_go_on_is_not_asked_about() {
    let mut bench = moderated(BusyPolicy::Collect, Ruling::Allow);
    bench.wonders("one");
    bench.wonders("two");
    assert_eq!(bench.asks(), [(2, Check::Moderation)]);
    bench.rules(1, Ruling::Refuse);
    // They did not speak to the agent, as far as anybody knows.
    assert_eq!((bench.told(), bench.asks()), (vec!["guard.refused"], vec![]));
    // An answer to another question than the one that is asked.
    bench.rules(2, Ruling::Addressed);
    assert_eq!(bench.last.ignored, Some(Ignored::StaleRuling));
    bench.rules(2, Ruling::Allow);
    assert_eq!((bench.told(), bench.asks()), (vec![], vec![(2, doorman())]));
    bench.rules(2, Ruling::Allow);
    assert_eq!(bench.last.ignored, Some(Ignored::StaleRuling));
    bench.restart();
    assert_eq!(bench.asks(), [(2, doorman())]);
    bench.rules(2, Ruling::Addressed);
    assert_eq!(bench.texts(), ["two"]);
    // Nobody checks in time, and the default lets it on to the other question.
    bench.finish("done");
    bench.wonders("three");
    bench.wait();
    assert_eq!((bench.told(), bench.asks().len()), (vec![], 1));
    bench.wait();
    assert_eq!(bench.told(), ["message.context"]);
}
