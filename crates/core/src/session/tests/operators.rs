//! A person in the agent's place: what happens to the open turn, who answers, and what the agent
//! gets back.

use super::tools::done;
use super::*;
use crate::journal::{EventBody, NoticeSource};
use crate::tool::{Denied, SideEffects, ToolOutcome};

fn said(text: &str, seen: Option<Seen>) -> Control {
    let body = MessageBody { message_id: text.into(), sender: "Ann".into(), text: text.into() };
    Control::OperatorReply { seen, body: Arc::new(body) }
}

impl Bench {
    fn pause(&mut self) -> Controlled {
        self.control(Control::Pause { by: "Ann".into(), take_over: false })
    }

    fn hand_back(&mut self) -> Controlled {
        self.control(Control::HandBack { by: "Ann".into() })
    }

    fn reply(&mut self, text: &str) -> Option<TurnId> {
        match self.control(said(text, None)) {
            Controlled::Replied { turn, duplicate: false, .. } => turn,
            other => panic!("{other:?}"),
        }
    }
}

fn paused() -> Bench {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.pause();
    bench
}

#[test]
fn while_it_is_paused_a_person_answers() {
    let mut bench = paused();
    assert_eq!(bench.session.status(), SessionStatus::Idle);
    let decision = bench.say("one");
    assert_eq!(decision.action, Action::WorkflowStarted);
    assert_eq!(bench.told(), ["message.accepted", "turn.started", "turn.waiting_for_operator"]);
    assert!(bench.started().is_none());
    assert_eq!(bench.say("two").action, Action::EventSent);
    assert_eq!((bench.stage(), bench.session.inbox_len()), (Stage::Operator, 2));
    assert_eq!(bench.session.status(), SessionStatus::WaitingForOperator);
    assert_eq!(bench.say_as("owner", Trust::Owner).action, Action::Queued);

    // Both are answered at once; who was queued waits for the operator, too.
    let turn = decision.turn;
    assert_eq!(bench.reply("hello"), turn);
    let told = ["turn.completed", "turn.started", "turn.waiting_for_operator"];
    assert_eq!(bench.told(), told);
    let EventBody::TurnCompleted { by, messages, reply, .. } = &bench.last.rows.events[0].body
    else {
        panic!()
    };
    assert_eq!((by.as_deref(), messages.len(), reply.as_deref()), (Some("Ann"), 2, Some("hello")));
    assert_eq!(bench.texts(), ["owner"]);

    // Handed back without an answer, the agent answers.
    assert_eq!(bench.hand_back(), Controlled::HandedBack);
    assert_eq!(bench.told(), ["session.handed_back", "turn.processing"]);
    assert_eq!(bench.started().unwrap().messages.len(), 1);
    bench.finish("ok");
    assert_eq!(bench.session.status(), SessionStatus::Idle);
    assert_eq!(bench.hand_back(), Controlled::NotPaused);
    assert_eq!(bench.told(), NOT_CHANGED);
}

#[test]
fn what_is_said_between_turns_is_a_notice() {
    let mut bench = paused();
    assert_eq!(bench.reply("are you there?"), None);
    let EventBody::SessionNotice { source, by, .. } = &bench.last.rows.events[0].body else {
        panic!()
    };
    assert_eq!((*source, by.as_deref()), (NoticeSource::Operator, Some("Ann")));
    bench.hand_back();
    assert_eq!(bench.control(said("late", None)), Controlled::NotPaused);
    assert_eq!(bench.told(), NOT_CHANGED);
}

#[test]
fn a_reply_asks_for_its_name_even_where_it_is_refused() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    let seen = Seen { key: [7; 16], body_hash: 1 };
    assert_eq!(bench.control(said("one", Some(seen))), Controlled::NotPaused);
    assert_eq!(bench.last.rows.guards.len(), 1);
    bench.pause();
    bench.say("one");
    let turn = bench.session.turn.as_ref().unwrap().id;
    bench.control(said("one", Some(seen)));
    let [crate::ports::store::Guard::NotSeen { first, until, .. }] = &bench.last.rows.guards[..]
    else {
        panic!()
    };
    assert_eq!((first.turn, *until > bench.now), (Some(turn), true));
}

#[test]
fn a_turn_that_can_be_laid_down_goes_to_the_operator() {
    let gathering = || {
        let facts = *channel_facts("web").unwrap();
        let mut bench = Bench::on("web", Policy::built_in(facts));
        bench.say("one");
        bench
    };
    let working = || {
        let mut bench = Bench::new(BusyPolicy::Absorb);
        bench.say("one");
        bench.say("mail");
        bench
    };
    let asking = || {
        let mut bench = Bench::new(BusyPolicy::Absorb);
        bench.say("one");
        bench.agent(AgentInput::Ask(Token(1), "which?".into()));
        bench
    };
    let failing = || {
        let mut bench = Bench::new(BusyPolicy::Absorb);
        bench.say("one");
        bench.fail(true);
        bench
    };
    let cases =
        [(gathering(), 1, false), (working(), 2, true), (asking(), 1, true), (failing(), 1, false)];
    for (mut bench, messages, runs) in cases {
        let tag = bench.tag();
        bench.pause();
        assert_eq!(bench.stage(), Stage::Operator);
        assert_eq!(bench.texts().len(), messages);
        let cancelled = bench.has(|effect| matches!(effect, Effect::Cancel(run) if *run == tag));
        assert_eq!(cancelled, runs);
        // What the run says now is too late.
        bench.agent_as(tag, AgentInput::Finished(Finished::default()));
        assert_eq!(bench.last.ignored, Some(Ignored::StaleRun));
        assert!(bench.session.next_wake(&bench.policy).is_none());
        bench.hand_back();
        assert_eq!(bench.started().unwrap().messages.len(), messages);
    }
}

#[test]
fn behind_the_commit_point_the_agent_ends_its_turn() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.say("one");
    bench.agent(AgentInput::CommitPoint(Token(1)));
    bench.pause();
    assert_eq!((bench.told(), bench.stage()), (vec!["session.paused"], Stage::Processing));
    assert_eq!(bench.say("two").action, Action::Queued);
    bench.finish("done");
    let told = ["turn.completed", "turn.started", "turn.waiting_for_operator"];
    assert_eq!(bench.told(), told);
    assert!(bench.reply("hello").is_some());

    // If it fails instead, or the process does, or it has a question, a person goes on with it.
    for trouble in 0..3 {
        let mut bench = Bench::new(BusyPolicy::Absorb);
        bench.say("one");
        bench.agent(AgentInput::CommitPoint(Token(1)));
        bench.pause();
        match trouble {
            0 => bench.fail(false),
            1 => bench.restart(),
            _ => bench.agent(AgentInput::Ask(Token(2), "which?".into())),
        }
        assert_eq!(bench.stage(), Stage::Operator, "{trouble}");
        bench.hand_back();
        assert!(bench.started().unwrap().resume, "{trouble}");
    }
}

#[test]
fn a_call_that_acts_is_waited_for_and_nothing_new_is_begun() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.say("one");
    let AgentAnswer::Call(call) = bench.intend(SideEffects::Idempotent, 1) else { panic!() };
    bench.pause();
    assert_eq!(bench.stage(), Stage::Processing);
    assert_eq!(bench.denied(SideEffects::Pure, 2), Denied::Paused);
    bench.agent(AgentInput::CommitPoint(Token(3)));
    assert!(matches!(bench.answer(), AgentAnswer::NotAllowed(Denied::Paused)));
    let tag = bench.tag();
    bench.agent(done(call));
    assert_eq!(bench.told(), ["tool.returned", "turn.waiting_for_operator"]);
    assert!(bench.has(|effect| matches!(effect, Effect::Cancel(run) if *run == tag)));
    bench.hand_back();
    assert_eq!(bench.started().unwrap().acts[0].outcome(), ToolOutcome::Done);

    // A call that does not act is not waited for; nobody knows what came of it.
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.say("one");
    bench.intend(SideEffects::Pure, 1);
    bench.pause();
    let told = ["session.paused", "tool.returned", "turn.waiting_for_operator"];
    assert_eq!(bench.told(), told);
}

#[test]
fn steering_means_the_same_while_it_is_paused() {
    let mut bench = paused();
    bench.say("one");
    assert!(matches!(bench.stop(), Controlled::Stopped(_)));
    assert_eq!(bench.told(), ["turn.cancelled"]);
    bench.say("two");
    assert_eq!(bench.control(Control::New), Controlled::Reset(1));
    // The new conversation is the operator's as well.
    bench.say("three");
    assert_eq!(bench.stage(), Stage::Operator);
    assert_eq!(bench.control(Control::Close), Controlled::Closed(1));
    let told = ["turn.cancelled", "session.handed_back", "session.closed"];
    assert_eq!(bench.told(), told);
    assert!(!bench.session.has_open_work());
}

#[test]
fn it_stays_paused_over_a_restart() {
    let mut bench = paused();
    bench.say("one");
    assert_eq!(bench.session.wake_at(&bench.policy), Some(Timestamp::MAX));
    bench.restart();
    assert!(bench.started().is_none());
    assert!(bench.reply("hello").is_some());
    assert!(bench.session.has_open_work());
    let snapshot = serde_json::to_string(&bench.session).unwrap();
    assert_eq!(serde_json::from_str::<Session>(&snapshot).unwrap(), bench.session);
}

#[test]
fn more_than_one_turn_may_absorb_waits_behind_it() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.policy.absorbed_max = 1;
    for text in ["one", "two", "three"] {
        bench.say(text);
    }
    bench.pause();
    assert_eq!(
        (bench.texts(), bench.queued()),
        (vec!["one".into(), "two".into()], vec!["three".to_owned()])
    );
    bench.reply("hello");
    assert_eq!((bench.texts(), bench.stage()), (vec!["three".to_owned()], Stage::Operator));
}

#[test]
fn an_operator_who_does_nothing_hands_back() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.policy.operator_timeout_ms = 60_000;
    bench.pause();
    bench.say("one");
    bench.now += 50_000;
    bench.reply("hello");
    bench.now += 50_000;
    bench.say("two");
    bench.wait();
    assert_eq!(bench.told(), ["session.handed_back", "turn.processing"]);
    assert_eq!(bench.now, 1_110_000);
}

#[test]
fn the_user_is_told_once_and_another_operator_takes_over() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.policy.operator_notice = Some("A person answers here.".into());
    bench.pause();
    assert_eq!(bench.told(), ["session.paused", "session.notice"]);
    bench.pause();
    assert_eq!((bench.told(), bench.last.ignored), (vec![], Some(Ignored::NothingToControl)));
    let bob = |take_over| Control::Pause { by: "Bob".into(), take_over };
    bench.control(bob(false));
    assert_eq!((bench.told(), bench.last.ignored), (vec![], Some(Ignored::NothingToControl)));
    assert!(bench.has(|effect| matches!(effect,
        Effect::Controlled(_, Controlled::PausedByOther(by)) if &**by == "Ann")));
    assert_eq!(&*bench.session.paused.as_ref().unwrap().by, "Ann");
    bench.control(bob(true));
    assert_eq!(bench.told(), ["session.paused"]);
    let EventBody::SessionPaused { by, from } = &bench.last.rows.events[0].body else { panic!() };
    assert_eq!((&**by, from.as_deref()), ("Bob", Some("Ann")));
    assert_eq!(&*bench.session.paused.as_ref().unwrap().by, "Bob");
}

#[test]
fn whoever_pauses_again_where_the_limit_was_taken_away_has_none_for_good() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.policy.operator_timeout_ms = 60_000;
    bench.pause();
    bench.policy.operator_timeout_ms = 0;
    bench.pause();
    assert_eq!(bench.session.paused.as_ref().unwrap().until, None);
    assert_eq!((bench.last.changed, bench.last.ignored), (true, None));
    bench.pause();
    assert_eq!((bench.last.changed, bench.last.ignored), (false, Some(Ignored::NothingToControl)));
}
