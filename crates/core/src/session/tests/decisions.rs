//! The table of decisions.

use super::*;

#[test]
fn idle_starts_a_turn_whatever_the_policy() {
    for busy in [BusyPolicy::Absorb, BusyPolicy::Reject, BusyPolicy::Queue, BusyPolicy::Agent] {
        let mut bench = Bench::new(busy);
        let decision = bench.say("one");
        assert_eq!((decision.action, decision.seq), (Action::WorkflowStarted, Some(Seq(1))));
        assert_eq!(bench.told(), ["message.accepted", "turn.started", "turn.processing"]);
        assert_eq!(bench.started().unwrap().messages.len(), 1);
        assert_eq!(bench.session.status(), SessionStatus::Processing);
    }
}

#[test]
fn absorb_goes_to_the_mailbox_and_the_agent_takes_it() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.say("one");
    assert_eq!(bench.say("two").action, Action::EventSent);
    assert!(bench.has(|effect| matches!(effect, Effect::MailWaiting(_))));
    bench.agent(AgentInput::TakeMail(Token(7)));
    let AgentAnswer::Mail(mail) = bench.answer() else { panic!("no mail") };
    assert_eq!(mail.len(), 1);
    assert_eq!(bench.texts(), ["one", "two"]);
    assert_eq!(bench.told(), ["turn.message_absorbed"]);
}

#[test]
fn supersede_starts_over_in_the_same_group_three_times_and_then_collects() {
    let mut bench = Bench::new(BusyPolicy::Supersede);
    bench.say("one");
    let (group, old) = (bench.session.turn.as_ref().unwrap().group, bench.tag());
    for text in ["two", "three", "four"] {
        assert_eq!(bench.say(text).action, Action::WorkflowStarted);
        assert!(bench.has(|effect| matches!(effect, Effect::Cancel(_))));
    }
    assert_eq!(bench.session.turn.as_ref().unwrap().group, group);
    assert_eq!(bench.texts(), ["one", "two", "three", "four"]);
    assert_eq!(bench.say("five").action, Action::Queued);
    bench.agent_as(old, AgentInput::CommitPoint(Token(1)));
    assert!(matches!(bench.answer(), AgentAnswer::Revoked));
    assert_eq!(bench.last.ignored, Some(Ignored::StaleRun));
}

#[test]
fn collect_answers_everything_queued_in_one_turn() {
    let mut bench = Bench::new(BusyPolicy::Collect);
    bench.say("one");
    assert_eq!(bench.say("two").queue_position, Some(1));
    assert_eq!(bench.say("three").queue_position, Some(1));
    bench.finish("ok");
    assert_eq!(bench.texts(), ["two", "three"]);
    assert_eq!(bench.told(), ["turn.completed", "turn.started", "turn.processing"]);
}

#[test]
fn queue_gives_each_message_a_turn_of_its_own() {
    let mut bench = Bench::new(BusyPolicy::Queue);
    bench.say("one");
    let first = bench.session.turn.as_ref().unwrap().group;
    assert_eq!(bench.say("two").queue_position, Some(1));
    assert_eq!(bench.say("three").queue_position, Some(2));
    bench.finish("ok");
    assert_eq!((bench.texts(), bench.queued()), (vec!["two".into()], vec!["three".into()]));
    assert_ne!(bench.session.turn.as_ref().unwrap().group, first);
}

#[test]
fn reject_says_so_and_changes_nothing() {
    let mut bench = Bench::new(BusyPolicy::Reject);
    bench.say("one");
    assert_eq!(bench.say("two").rejection, Some(Rejection::SessionBusy));
    assert!(!bench.last.changed);
    assert_eq!(bench.told(), NOT_CHANGED);
}

#[test]
fn a_refusal_of_a_named_message_asks_whether_it_is_a_twin() {
    let mut bench = Bench::new(BusyPolicy::Reject);
    bench.say("one");
    let seen = Some(Seen { key: [1; 16], body_hash: 1 });
    bench.feed(Input::Message(Inbound { seen, ..Bench::inbound("two", Trust::Public) }));
    let guards = &bench.last.rows.guards;
    let [crate::ports::store::Guard::NotSeen { first, until, .. }] = &guards[..] else {
        panic!("{guards:?}")
    };
    // It is asked, and not remembered.
    assert_eq!((first.action, *until), (Action::Rejected, 0));
    assert!(!bench.last.changed);
}

#[test]
fn what_the_guard_refuses_only_asks_whether_it_is_a_twin() {
    let refused = Some(Rejection::RateLimited { retry_after_ms: 700 });
    let seen = Some(Seen { key: [1; 16], body_hash: 1 });
    let told = |bench: &Bench| {
        bench.effects(|effect| match effect {
            Effect::Decided(_, decision) => decision.rejection.clone(),
            _ => None,
        })
    };
    let mut bench = Bench::new(BusyPolicy::Absorb);
    // One without a name can't have come before.
    let message = Inbound { refused, ..Bench::inbound("one", Trust::Public) };
    bench.feed(Input::Message(message.clone()));
    assert_eq!(told(&bench), [Rejection::RateLimited { retry_after_ms: 700 }]);
    assert!(!bench.last.changed && bench.last.rows.is_empty());
    let message = Inbound { seen, ..message };
    // Even where everything else would say no, the guard's reason is told.
    bench.say("one");
    bench.control(Control::Close);
    let before = bench.session.clone();
    bench.feed(Input::Message(message));
    assert_eq!(told(&bench), [Rejection::RateLimited { retry_after_ms: 700 }]);
    assert!(!bench.last.changed && bench.last.rows.guards.len() == 1);
    assert_eq!(bench.session, before);
}

#[test]
fn after_the_commit_point_everything_queues() {
    for busy in [BusyPolicy::Absorb, BusyPolicy::Supersede, BusyPolicy::Agent] {
        let mut bench = Bench::new(busy);
        bench.say("one");
        bench.agent(AgentInput::CommitPoint(Token(1)));
        assert!(matches!(bench.answer(), AgentAnswer::Granted));
        assert_eq!(bench.say("two").action, Action::Queued, "{busy:?}");
    }
}

#[test]
fn trust_comes_first() {
    for busy in [BusyPolicy::Absorb, BusyPolicy::Supersede, BusyPolicy::Agent] {
        let mut bench = Bench::new(busy);
        bench.say_as("one", Trust::Owner);
        assert_eq!(bench.say_as("two", Trust::Public).action, Action::Queued);
        // Nothing overtakes the queue, equal trust or not.
        assert_eq!(bench.say_as("three", Trust::Owner).queue_position, Some(2));
        bench.finish("ok");
        assert_eq!((bench.texts(), bench.queued()), (vec!["two".into()], vec!["three".into()]));
    }
}

#[test]
fn the_inbox_is_bounded_and_says_so() {
    let mut bench = Bench::new(BusyPolicy::Collect);
    bench.policy.inbox_max = 1;
    bench.say("one");
    assert_eq!(bench.say("two").action, Action::Queued);
    assert_eq!(bench.say("three").rejection, Some(Rejection::QueueFull));
}

#[test]
fn without_a_queue_whatever_would_wait_is_refused() {
    for busy in [BusyPolicy::Collect, BusyPolicy::Queue, BusyPolicy::Supersede] {
        let mut bench = Bench::new(busy);
        (bench.policy.queues, bench.policy.supersedes_max) = (false, 0);
        assert_eq!(bench.say("one").action, Action::WorkflowStarted);
        assert_eq!(bench.say("two").rejection, Some(Rejection::SessionBusy), "{busy:?}");
        assert_eq!(bench.told(), NOT_CHANGED);
        bench.finish("ok");
        assert_eq!(bench.say("three").action, Action::WorkflowStarted);
    }
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.policy.queues = false;
    bench.say_as("one", Trust::Owner);
    // What is absorbed doesn't wait for a turn; what is not trusted alike would have to.
    assert_eq!(bench.say_as("two", Trust::Owner).action, Action::EventSent);
    assert_eq!(bench.say("three").rejection, Some(Rejection::SessionBusy));
    bench.agent(AgentInput::CommitPoint(Token(1)));
    assert_eq!(bench.say_as("four", Trust::Owner).rejection, Some(Rejection::SessionBusy));
    // What was accepted and not used begins a turn of its own, as ever.
    bench.finish("ok");
    assert_eq!(bench.texts(), ["two"]);
}

#[test]
fn without_a_queue_a_dead_letter_stays_while_something_is_open() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    (bench.policy.queues, bench.policy.errors_max) = (false, 1);
    bench.say("one");
    bench.fail(false);
    let letter = bench.last.rows.dead_letters[0].clone();
    let (seq, group, trust, body) = (letter.seq, letter.group, letter.trust, letter.body);
    let retry = || Control::Retry { seq, group, trust, body: Arc::clone(&body) };
    bench.say("two");
    assert_eq!(bench.control(retry()), Controlled::Busy);
    assert_eq!(bench.told(), NOT_CHANGED);
    bench.finish("ok");
    assert!(matches!(bench.control(retry()), Controlled::Retried(_)));
}

#[test]
fn closed_api_sessions_refuse_and_chats_reopen() {
    let mut api = Bench::new(BusyPolicy::Collect);
    assert_eq!(api.control(Control::Close), Controlled::Closed(0));
    assert_eq!(api.say("one").rejection, Some(Rejection::Closed));
    let mut chat = Bench::on("web", Policy::built_in(*channel_facts("web").unwrap()));
    chat.control(Control::Close);
    assert_eq!(chat.session.status(), SessionStatus::Closed);
    assert_eq!(chat.say("one").action, Action::WorkflowStarted);
    assert_eq!(chat.told()[0], "session.reopened");
}

#[test]
fn a_new_conversation_opens_a_closed_session() {
    let mut api = Bench::new(BusyPolicy::Collect);
    api.control(Control::Close);
    assert_eq!(api.control(Control::New), Controlled::Reset(0));
    assert_eq!(api.told(), ["session.reopened", "session.reset"]);
    assert_eq!(api.session.status(), SessionStatus::Idle);
    assert_eq!(api.say("one").action, Action::WorkflowStarted);
}

#[test]
fn a_session_may_choose_its_own_policy() {
    let mut bench = Bench::new(BusyPolicy::Reject);
    assert_eq!(bench.control(Control::SetBusy(Some(BusyPolicy::Absorb))), Controlled::Done);
    bench.say("one");
    assert_eq!(bench.say("two").action, Action::EventSent);
}

#[test]
fn an_expired_message_is_a_dead_letter_and_its_sender_is_told_once() {
    let mut bench = Bench::on(
        "signal",
        Policy {
            busy: BusyPolicy::Queue,
            window_ms: 0,
            queue_ttl_ms: 1000,
            ..Policy::built_in(*channel_facts("signal").unwrap())
        },
    );
    bench.say("one");
    bench.say("two");
    bench.wait();
    assert_eq!(bench.told(), ["message.expired", "session.notice"]);
    assert_eq!(bench.last.rows.dead_letters.len(), 1);
    assert_eq!(bench.deliveries().len(), 1);
    bench.say("three");
    // A clock that stepped back keeps nothing for longer than its time.
    bench.now -= 3_600_000;
    bench.feed(Input::Timer(Wake::QueueExpiry));
    assert_eq!(bench.last.ignored, Some(Ignored::NothingExpired));
    bench.now += 1000;
    bench.feed(Input::Timer(Wake::QueueExpiry));
    assert_eq!(bench.told()[0], "message.expired");
}
