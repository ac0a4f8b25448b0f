//! What is not said to the agent: commands are done and answered in one step, context starts nothing,
//! and an agent that has nothing to say is silent.

use super::*;
use crate::journal::{CommandName, EventBody, NoticeSource};
use crate::message::CommandAct;
use crate::moderation::{Moderation, Ruling};
use crate::ports::store::Guard;
use crate::session::{NO_REPLY, NOTICES_MAX};

const STOP: CommandAct = CommandAct::Stop { shown: None };

impl Bench {
    fn group(busy: BusyPolicy) -> Self {
        let policy = Policy { busy, ..Policy::built_in(*channel_facts("signal").unwrap()) };
        let mut bench = Self::on("signal", Policy { window_ms: 0, ..policy });
        bench.key = SessionKey::new("t", "a", "signal", SessionKind::Group, "home").unwrap();
        bench
    }

    fn say_kind(&mut self, text: &str, trust: Trust, kind: InboundKind) -> Decision {
        let seen = Some(Seen { key: [7; 16], body_hash: 1 });
        let inbound = Inbound { kind, seen, ..Self::inbound(text, trust) };
        self.feed(Input::Message(inbound));
        let decided = self.effects(|effect| match effect {
            Effect::Decided(_, decision) => Some(decision.clone()),
            _ => None,
        });
        decided.into_iter().next().unwrap()
    }

    fn command(&mut self, act: CommandAct) -> Decision {
        self.command_as(act, Trust::Familiar)
    }

    fn command_as(&mut self, act: CommandAct, trust: Trust) -> Decision {
        self.say_kind("/it", trust, InboundKind::Command(act))
    }

    fn context(&mut self, text: &str) -> Decision {
        self.say_kind(text, Trust::Public, InboundKind::Context)
    }

    /// The answers of the last step, and to which place.
    fn answers(&self) -> Vec<(String, u64)> {
        let answer = |event: &crate::Event| match &event.body {
            EventBody::SessionNotice {
                text,
                source: NoticeSource::Command,
                of: Some(command),
                ..
            } => Some((text.to_string(), command.0)),
            _ => None,
        };
        self.last.rows.events.iter().filter_map(answer).collect()
    }

    fn answered(&self) -> String {
        let answers = self.answers();
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers[0].0.clone()
    }
}

#[test]
fn a_command_is_done_and_answered_in_one_step() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    let decision = bench.command(CommandAct::Say("idle".into()));
    assert_eq!(
        (decision.action, decision.seq, decision.turn),
        (Action::Command, Some(Seq(1)), None)
    );
    assert_eq!(bench.told(), ["message.command", "session.notice"]);
    assert_eq!(bench.answers(), [("idle".to_owned(), 1)]);
    assert_eq!((bench.session.inbox_len(), bench.session.has_open_work()), (0, false));
    assert_eq!((bench.checker.commands(), bench.checker.accepted()), (1, 1));
    // A twin is asked for with everything that the step does.
    let Guard::NotSeen { first, until, .. } = &bench.last.rows.guards[0] else { panic!() };
    assert_eq!((first.action, first.seq), (Action::Command, Seq(1)));
    assert!(*until > bench.now);
    let EventBody::MessageCommand { command, refused, .. } = &bench.last.rows.events[0].body else {
        panic!()
    };
    assert_eq!((*command, *refused), (CommandName::Say, false));
}

#[test]
fn a_command_waits_for_no_turn_and_no_room() {
    let mut bench = Bench::new(BusyPolicy::Reject);
    bench.policy.inbox_max = 1;
    bench.say("one");
    assert_eq!(bench.say("two").rejection, Some(Rejection::SessionBusy));
    let turn = bench.tag();
    bench.command(CommandAct::Say("at work".into()));
    assert_eq!((bench.answered().as_str(), bench.tag()), ("at work", turn));
    assert!(bench.session.turn.as_ref().unwrap().mailbox.is_empty());
    bench.finish("done");
    assert_eq!(bench.checker.committed(), 1);
}

#[test]
fn new_cancels_what_is_open_and_says_how_much() {
    let mut bench = Bench::new(BusyPolicy::Collect);
    bench.command(CommandAct::New);
    assert_eq!(bench.answered(), "A new conversation begins.");
    bench.say("one");
    bench.command(CommandAct::New);
    assert_eq!(bench.answered(), "A new conversation begins. 1 message was cancelled.");
    bench.say("one");
    let stale = bench.tag();
    bench.say("two");
    let before = bench.session.generation;
    bench.command(CommandAct::New);
    assert_eq!(bench.answered(), "A new conversation begins. 2 messages were cancelled.");
    let told = [
        "message.command",
        "turn.cancelled",
        "message.cancelled",
        "session.reset",
        "session.notice",
    ];
    assert_eq!(bench.told(), told);
    assert!(bench.has(|effect| matches!(effect, Effect::Cancel(tag) if *tag == stale)));
    assert_eq!(bench.session.generation, before.next());
    // The command itself is behind the conversation that it ends, its answer is not.
    let reset = bench.session.history_from;
    assert_eq!(reset.next(), bench.session.last_seq);
    bench.agent_as(stale, AgentInput::Finished(Finished::default()));
    assert_eq!(bench.last.ignored, Some(Ignored::StaleRun));
}

#[test]
fn stop_ends_the_turn_and_sends_what_was_shown() {
    let mut bench = Bench::new(BusyPolicy::Collect);
    bench.command(STOP);
    assert_eq!((bench.answered().as_str(), bench.last.ignored), ("Nothing is running.", None));
    bench.say("one");
    bench.say("two");
    bench.command(CommandAct::Stop { shown: Some("so far".into()) });
    assert_eq!(bench.answered(), "Stopped.");
    assert_eq!(bench.last.rows.turns[0].reply.as_deref(), Some("so far"));
    // What was queued goes on.
    assert_eq!(bench.texts(), ["two"]);
    bench.agent(AgentInput::CommitPoint(Token(1)));
    bench.command(STOP);
    assert_eq!(bench.answered(), "Stopping: it ends after the call in flight.");
    assert!(bench.has(|effect| matches!(effect, Effect::Wind(_))));
    bench.finish("three");
    assert_eq!(bench.told()[0], "turn.cancelled");
}

#[test]
fn queue_says_what_is_in_force() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.command(CommandAct::Queue(Some(BusyPolicy::Reject)));
    let said = bench.answered();
    assert!(said.starts_with("Queue policy: reject. "), "{said}");
    bench.say("one");
    assert_eq!(bench.say("two").rejection, Some(Rejection::SessionBusy));
    bench.command(CommandAct::Queue(None));
    let said = bench.answered();
    assert!(said.starts_with("Queue policy: absorb (as configured). "), "{said}");
    assert_eq!((bench.session.busy, bench.say("two").action), (None, Action::EventSent));
}

#[test]
fn a_closed_session_opens_for_a_command_unless_it_stops() {
    let mut bench = Bench::group(BusyPolicy::Absorb);
    bench.say("one");
    bench.control(Control::Close);
    bench.command(STOP);
    assert_eq!((bench.answered().as_str(), bench.session.closed), ("Nothing is running.", true));
    bench.command(CommandAct::Say("closed".into()));
    assert_eq!(bench.told()[0], "session.reopened");
    assert!(!bench.session.closed);
    bench.control(Control::Close);
    bench.command(CommandAct::New);
    assert_eq!(
        bench.told(),
        ["session.reopened", "message.command", "session.reset", "session.notice"]
    );
    // Where a message does not open it, a command doesn't either.
    let mut api = Bench::new(BusyPolicy::Absorb);
    api.control(Control::Close);
    assert_eq!(api.command(CommandAct::New).rejection, Some(Rejection::Closed));
}

#[test]
fn in_a_group_it_takes_the_trust_of_what_is_open() {
    let mut bench = Bench::group(BusyPolicy::Collect);
    bench.say_as("one", Trust::Inner);
    let turn = bench.tag();
    for act in [STOP, CommandAct::New, CommandAct::Queue(Some(BusyPolicy::Reject))] {
        bench.command_as(act, Trust::Familiar);
        assert!(bench.answered().starts_with("Not done: "), "{}", bench.answered());
        assert_eq!((bench.tag(), bench.session.busy), (turn, None));
    }
    let mut idle = Bench::group(BusyPolicy::Collect);
    for act in [CommandAct::New, CommandAct::Queue(Some(BusyPolicy::Reject))] {
        idle.command_as(act, Trust::Public);
        assert!(idle.answered().starts_with("Not done: "), "what stays is not for everybody");
    }
    bench.command_as(CommandAct::Say("at work".into()), Trust::Public);
    assert_eq!(bench.answered(), "at work");
    bench.say_as("two", Trust::Owner);
    bench.command_as(STOP, Trust::Inner);
    assert_eq!((bench.answered().as_str(), bench.texts()), ("Stopped.", vec!["two".to_owned()]));
    // What waits counts as well for what would cancel it.
    bench.say_as("three", Trust::Full);
    bench.finish("done");
    bench.say_as("four", Trust::Owner);
    bench.command_as(CommandAct::New, Trust::Full);
    assert!(bench.answered().starts_with("Not done: "));
    bench.command_as(CommandAct::New, Trust::Owner);
    assert!(bench.answered().ends_with("2 messages were cancelled."));
    // Between two people there is nobody to protect from the other.
    let mut direct = Bench::new(BusyPolicy::Collect);
    direct.say_as("one", Trust::Owner);
    direct.command(STOP);
    assert_eq!(direct.answered(), "Stopped.");
}

#[test]
fn an_operator_keeps_the_session_whatever_is_commanded() {
    let mut bench = Bench::group(BusyPolicy::Collect);
    bench.say("one");
    bench.control(Control::Pause { by: "kim".into(), take_over: false });
    bench.command(CommandAct::New);
    assert_eq!(bench.answered(), "A new conversation begins. 1 message was cancelled.");
    assert!(bench.session.paused.is_some());
    bench.say("two");
    assert_eq!(bench.stage(), Stage::Operator);
    bench.command(STOP);
    assert_eq!((bench.answered().as_str(), &bench.session.turn), ("Stopped.", &None));
    assert!(bench.session.paused.is_some());
}

#[test]
fn a_question_to_the_user_is_not_answered_by_a_command() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.say("one");
    bench.agent(AgentInput::Ask(Token(1), "which?".into()));
    bench.command(CommandAct::Say("waiting".into()));
    bench.context("by the way");
    assert!(matches!(bench.stage(), Stage::Waiting { .. }));
    bench.say("that one");
    assert!(bench.has(|effect| matches!(effect, Effect::AnswerRun(..))));
}

#[test]
fn answers_that_nobody_takes_have_a_bound() {
    let mut bench = Bench::group(BusyPolicy::Absorb);
    let say = || CommandAct::Say("here".into());
    // The first is on its way, and never arrives.
    for _ in 0..NOTICES_MAX {
        bench.command(say());
        assert_eq!(bench.answered(), "here");
    }
    bench.command(CommandAct::Queue(Some(BusyPolicy::Reject)));
    assert_eq!(bench.told(), ["message.command"]);
    assert_eq!(bench.session.busy, Some(BusyPolicy::Reject));
}

#[test]
fn context_is_kept_and_starts_nothing() {
    let mut bench = Bench::group(BusyPolicy::Absorb);
    let decision = bench.context("shall we eat?");
    assert_eq!(
        (decision.action, decision.seq, decision.turn),
        (Action::Context, Some(Seq(1)), None)
    );
    assert_eq!((bench.told(), bench.last.rows.guards.len()), (vec!["message.context"], 1));
    assert_eq!((bench.session.inbox_len(), bench.session.has_open_work()), (0, false));
    bench.say("one");
    let turn = bench.tag();
    bench.context("at eight");
    assert_eq!((bench.told(), bench.texts()), (vec!["message.context"], vec!["one".to_owned()]));
    bench.finish("done");
    assert_eq!(bench.session.turn, None);
    assert_eq!((bench.checker.context(), bench.checker.committed()), (2, 1));
    assert_ne!(turn.turn, TurnId(Uuid::nil()));
    // It opens nothing, and what is closed for messages is closed for it.
    bench.control(Control::Close);
    assert_eq!(
        (bench.context("still here?").action, bench.session.closed),
        (Action::Context, true)
    );
    let mut api = Bench::new(BusyPolicy::Absorb);
    api.control(Control::Close);
    assert_eq!(api.context("here").rejection, Some(Rejection::Closed));
}

#[test]
fn context_is_checked_where_messages_are_and_nobody_hears_of_it() {
    let mut bench = Bench::group(BusyPolicy::Absorb);
    bench.policy.moderation = Some(Moderation { timeout_ms: 3000, default: Ruling::Allow });
    bench.policy.inbox_max = 2;
    let first = bench.context("one");
    assert_eq!((first.action, first.queue_position), (Action::Context, None));
    bench.context("two");
    assert_eq!(bench.context("three").rejection, Some(Rejection::QueueFull));
    let rule = |seq, ruling| Input::Ruling { seq: Seq(seq), ruling, reason: None };
    bench.feed(rule(1, Ruling::Refuse));
    assert_eq!(bench.told(), ["guard.refused"]);
    bench.feed(rule(2, Ruling::Allow));
    assert_eq!((bench.told(), &bench.session.turn), (vec!["message.context"], &None));
    assert_eq!((bench.checker.context(), bench.checker.discarded()), (1, 1));
    assert_eq!(bench.checker.accepted(), 2);
    // A message behind one that is held is not queued behind a turn of it.
    bench.context("four");
    assert_eq!(bench.say("five").queue_position, Some(0));
}

#[test]
fn what_the_guard_refuses_is_told_to_nobody() {
    let mut bench = Bench::group(BusyPolicy::Absorb);
    let refused = Some(Rejection::RateLimited { retry_after_ms: 700 });
    let kind = InboundKind::Command(CommandAct::New);
    let inbound = Inbound { refused, kind, ..Bench::inbound("/new", Trust::Owner) };
    bench.feed(Input::Message(inbound));
    assert!(!bench.last.changed && bench.last.rows.is_empty());
}

#[test]
fn an_agent_may_have_nothing_to_say() {
    for silence in [NO_REPLY, " NO_REPLY\n", "", "  "] {
        let mut bench = Bench::group(BusyPolicy::Absorb);
        bench.say("one");
        bench.finish(silence);
        assert_eq!((bench.told(), bench.deliveries().len()), (vec!["turn.completed"], 0));
        assert_eq!((&bench.last.rows.turns[0].reply, bench.checker.committed()), (&None, 1));
    }
    for said in ["NO_REPLY needed", "no_reply", "NO_REPLY."] {
        let mut bench = Bench::group(BusyPolicy::Absorb);
        bench.say("one");
        bench.finish(said);
        assert_eq!(bench.deliveries().len(), 1, "{said}");
    }
    // A draft of it is nothing to send either.
    let mut bench = Bench::group(BusyPolicy::Absorb);
    bench.say("one");
    bench.control(Control::Stop { turn: None, shown: Some(NO_REPLY.into()) });
    assert_eq!(bench.deliveries().len(), 0);
}

fn model(name: &str) -> CommandAct {
    CommandAct::Model { name: Some(name.into()), told: "it is".into() }
}

#[test]
fn a_model_is_chosen_by_whoever_is_trusted_and_stays() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.command_as(model("dear"), Trust::Familiar);
    assert!(bench.answered().contains("trusted further"), "{}", bench.answered());
    assert_eq!(bench.session.model, None);
    bench.command_as(model("quick"), Trust::Inner);
    assert_eq!(
        (bench.answered().as_str(), bench.session.model.as_deref()),
        ("it is", Some("quick"))
    );
    bench.command(CommandAct::New);
    bench.say("hello");
    assert_eq!(bench.started().unwrap().model.as_deref(), Some("quick"));
    let own = CommandAct::Model { name: None, told: "own".into() };
    bench.command_as(own, Trust::Owner);
    assert_eq!(bench.session.model, None);
    // In a group whoever's turn runs is asked as well.
    let mut bench = Bench::group(BusyPolicy::Absorb);
    bench.say_as("hello", Trust::Owner);
    bench.command_as(model("quick"), Trust::Inner);
    assert!(bench.answered().contains("in this group"), "{}", bench.answered());
}
