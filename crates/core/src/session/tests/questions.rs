//! Questions to the user, and the question to the agent about new mail.

use super::*;
use crate::ids::QuestionId;
use crate::journal::{DeadReason, SupersedeChoice};
use crate::tool::Denied;

fn asked() -> Bench {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.say("one");
    bench.agent(AgentInput::Ask(Token(1), "which?".into()));
    assert!(matches!(bench.answer(), AgentAnswer::Asked(QuestionId(1))));
    assert_eq!(bench.session.status(), SessionStatus::WaitingForInput);
    bench
}

#[test]
fn the_next_message_answers_the_waiting_run() {
    let mut bench = asked();
    let tag = bench.tag();
    assert_eq!(bench.say("this one").action, Action::EventSent);
    assert_eq!(bench.told(), ["message.accepted", "turn.answered"]);
    assert!(bench.has(|effect| matches!(effect, Effect::AnswerRun(to, ..) if *to == tag)));
    bench.finish("ok");
    assert_eq!(bench.session.status(), SessionStatus::Idle);
}

#[test]
fn what_is_queued_keeps_nobody_from_answering() {
    let mut bench = Bench::new(BusyPolicy::Collect);
    bench.say("one");
    assert_eq!(bench.say("and another thing").action, Action::Queued);
    bench.agent(AgentInput::Ask(Token(1), "which?".into()));
    assert_eq!(bench.say_as("me!", Trust::Owner).action, Action::Queued);
    assert_eq!(bench.say("this one").action, Action::EventSent);
    assert_eq!(bench.told(), ["message.accepted", "turn.answered"]);
    bench.finish("ok");
    assert_eq!(bench.session.turn.as_ref().unwrap().messages[0].seq, Seq(2 + 2));
}

#[test]
fn an_answer_to_a_question_is_taken_for_nothing_else() {
    let mut bench = asked();
    let refused = |bench: &mut Bench, question| {
        let decision = bench.replies("yes", question);
        assert_eq!(decision.rejection, Some(Rejection::QuestionNotOpen), "{question}");
        assert_eq!(bench.told(), NOT_CHANGED);
    };
    refused(&mut bench, 2);
    let stranger = Bench::inbound("yes", Trust::Owner);
    let stranger = bench.says(Inbound { answers: Some(QuestionId(1)), ..stranger });
    assert_eq!(stranger.rejection, Some(Rejection::QuestionNotOpen), "it is not theirs");
    let taken = bench.replies("the red one", 1);
    assert_eq!(
        (taken.action, bench.told()),
        (Action::EventSent, vec!["message.accepted", "turn.answered"])
    );
    // The turn goes on and asks again: who answered the first is not taken for an answer to that.
    refused(&mut bench, 1);
    bench.agent(AgentInput::Confirm(Token(2), "pay?".into()));
    refused(&mut bench, 1);
    assert_eq!(bench.replies("yes", 2).action, Action::EventSent);
    bench.finish("ok");
    refused(&mut bench, 2);
    // A twin of what was taken is told so, and not refused.
    bench.feed(Input::Message(Inbound {
        answers: Some(QuestionId(1)),
        seen: Some(Seen { key: [7; 16], body_hash: 1 }),
        ..Bench::inbound("the red one", Trust::Public)
    }));
    assert_eq!(bench.last.rows.guards.len(), 1);
}

#[test]
fn an_answer_that_comes_after_a_restart_is_one() {
    let mut bench = asked();
    bench.restart();
    assert_eq!(bench.replies("which?", 2).action, Action::Rejected);
    assert_eq!(bench.replies("this one", 1).action, Action::EventSent);
    assert_eq!(bench.told(), ["message.accepted", "turn.answered", "turn.processing"]);
}

#[test]
fn a_closed_session_is_opened_by_no_answer() {
    let mut bench = asked();
    bench.policy.facts.reopens = true;
    bench.feed(Input::Control(Token(9), Control::Close));
    assert_eq!(bench.replies("yes", 1).rejection, Some(Rejection::QuestionNotOpen));
    assert_eq!(bench.session.status(), SessionStatus::Closed);
}

#[test]
fn another_trust_does_not_answer() {
    let mut bench = asked();
    assert_eq!(bench.say_as("me!", Trust::Owner).action, Action::Queued);
}

#[test]
fn the_question_survives_a_restart_and_its_answer_starts_an_attempt() {
    let mut bench = asked();
    bench.restart();
    assert!(matches!(bench.stage(), Stage::Waiting { live: false, .. }));
    bench.say("this one");
    assert_eq!(bench.told(), ["message.accepted", "turn.answered", "turn.processing"]);
    assert_eq!(bench.started().unwrap().messages.len(), 2);
}

/// A question, answered by "yes" when no run was there to hear it; the next attempt is under way.
fn answered_meanwhile() -> Bench {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.say("pay it back");
    bench.agent(AgentInput::Confirm(Token(1), "pay?".into()));
    bench.restart();
    bench.say("yes");
    assert_eq!(bench.started().unwrap().answered, Some(QuestionId(1)));
    bench
}

fn asks_again(bench: &mut Bench) -> AgentAnswer {
    bench.agent(AgentInput::AskAgain(Token(2), QuestionId(1)));
    bench.answer()
}

#[test]
fn who_asks_the_same_again_after_a_restart_has_the_answer() {
    let mut bench = answered_meanwhile();
    assert!(matches!(asks_again(&mut bench), AgentAnswer::Asked(QuestionId(1))));
    assert_eq!(bench.told(), [""; 0], "nobody is asked twice");
    let (tag, yes) = (bench.tag(), bench.session.turn.as_ref().unwrap().messages[1].seq);
    assert!(bench.has(|effect| matches!(effect, Effect::AnswerRun(to, QuestionId(1), message)
        if *to == tag && message.seq == yes)));
    assert_eq!(bench.session.status(), SessionStatus::Processing);
    // A yes counts once.
    assert!(matches!(asks_again(&mut bench), AgentAnswer::Refused));
}

#[test]
fn an_answer_counts_for_nothing_once_more_was_said_or_asked() {
    // Mail waits.
    let mut bench = answered_meanwhile();
    bench.say("no, wait");
    assert!(matches!(asks_again(&mut bench), AgentAnswer::Refused));
    // It was read.
    let mut bench = answered_meanwhile();
    bench.say("no, wait");
    bench.agent(AgentInput::TakeMail(Token(2)));
    assert!(matches!(asks_again(&mut bench), AgentAnswer::Refused));
    // Something else was asked first.
    let mut bench = answered_meanwhile();
    bench.agent(AgentInput::Ask(Token(2), "which?".into()));
    bench.say("yes");
    assert!(matches!(asks_again(&mut bench), AgentAnswer::Refused));
    // Of a question that nobody asked.
    let mut bench = answered_meanwhile();
    bench.agent(AgentInput::AskAgain(Token(2), QuestionId(7)));
    assert!(matches!(bench.answer(), AgentAnswer::Refused));
    // One that a run heard itself.
    let mut bench = asked();
    bench.say("yes");
    assert!(matches!(asks_again(&mut bench), AgentAnswer::Refused));
    // And it is there for the attempt after the next one, too.
    let mut bench = answered_meanwhile();
    bench.restart();
    assert!(matches!(asks_again(&mut bench), AgentAnswer::Asked(QuestionId(1))));
}

#[test]
fn nobody_waits_for_ever() {
    let mut bench = asked();
    bench.wait();
    assert_eq!(bench.last.rows.dead_letters[0].reason, DeadReason::InputTimeout);
    assert!(bench.has(|effect| matches!(effect, Effect::Cancel(_))));
}

#[test]
fn what_was_said_before_a_question_confirms_nothing() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.say("one");
    bench.say("yes");
    bench.agent(AgentInput::Confirm(Token(1), "pay?".into()));
    assert!(matches!(bench.answer(), AgentAnswer::MailFirst));
    assert_eq!(bench.session.status(), SessionStatus::Processing);
    bench.agent(AgentInput::TakeMail(Token(2)));
    bench.agent(AgentInput::Confirm(Token(3), "pay?".into()));
    assert!(matches!(bench.answer(), AgentAnswer::Asked(_)));
    assert_eq!(bench.session.status(), SessionStatus::WaitingForInput);
}

#[test]
fn mail_that_a_turn_has_no_room_for_holds_up_no_question() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.policy.absorbed_max = 1;
    for text in ["one", "two", "yes"] {
        bench.say(text);
    }
    bench.agent(AgentInput::Confirm(Token(1), "pay?".into()));
    assert!(matches!(bench.answer(), AgentAnswer::MailFirst));
    bench.agent(AgentInput::TakeMail(Token(2)));
    bench.agent(AgentInput::Confirm(Token(3), "pay?".into()));
    assert!(matches!(bench.answer(), AgentAnswer::Asked(_)));
    assert_eq!(bench.told(), ["message.requeued", "turn.waiting_for_input"]);
    assert_eq!(bench.queued(), ["yes"]);
    assert_eq!(bench.say("do it").action, Action::EventSent);
    assert_eq!(bench.texts(), ["one", "two", "do it"]);
    bench.finish("done");
    assert_eq!(bench.texts(), ["yes"]);
}

#[test]
fn mail_that_came_before_the_question_answers_it() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.say("one");
    bench.say("two");
    bench.agent(AgentInput::Ask(Token(1), "which?".into()));
    assert_eq!(bench.told(), ["turn.waiting_for_input", "turn.answered"]);
    assert_eq!(bench.session.status(), SessionStatus::Processing);
}

#[test]
fn a_run_that_waits_for_the_user_asks_for_nothing_else() {
    let inputs: [fn(Token) -> AgentInput; 3] =
        [AgentInput::TakeMail, AgentInput::CommitPoint, |token| {
            AgentInput::Ask(token, "again?".into())
        }];
    for (at, input) in inputs.into_iter().enumerate() {
        let mut bench = asked();
        bench.agent(input(Token(2)));
        match bench.answer() {
            AgentAnswer::Refused => assert_eq!(at, 0),
            answer => assert_eq!(super::tools::reason(&answer), Denied::Waiting),
        }
        assert_eq!(bench.last.ignored, Some(Ignored::RunIsWaiting));
    }
}

/// A run that is asked about "two", while "three" waits with it.
fn puzzled() -> (Bench, QuestionId) {
    let mut bench = Bench::new(BusyPolicy::Agent);
    bench.say("one");
    assert_eq!(bench.say("two").action, Action::EventSent);
    let asked = bench.effects(|effect| match effect {
        Effect::AskAgent(_, id, message) => Some((*id, message.seq)),
        _ => None,
    });
    assert_eq!(asked.len(), 1);
    bench.say("three");
    assert!(!bench.has(|effect| matches!(effect, Effect::AskAgent(..))));
    (bench, asked[0].0)
}

#[test]
fn undecided_mail_stays_in_the_mailbox() {
    let (mut bench, _) = puzzled();
    bench.agent(AgentInput::TakeMail(Token(1)));
    assert!(matches!(bench.answer(), AgentAnswer::Mail(mail) if mail.is_empty()));
}

#[test]
fn the_agent_decides() {
    let check = |choice: SupersedeChoice, told: &[&str], texts: &[&str], queued: &[&str]| {
        let (mut bench, id) = puzzled();
        bench.agent(AgentInput::Answer(id, choice));
        assert_eq!(bench.told(), told, "{choice:?}");
        assert_eq!((bench.texts(), bench.queued()), (owned(texts), owned(queued)), "{choice:?}");
        bench
    };
    let all = ["one", "two", "three"];
    let bench = check(
        SupersedeChoice::Supersede,
        &["supersede.decided", "turn.superseded", "turn.started", "turn.processing"],
        &all,
        &[],
    );
    assert!(bench.has(|effect| matches!(effect, Effect::Cancel(_))));
    let bench = check(SupersedeChoice::AbsorbContinue, &["supersede.decided"], &["one"], &[]);
    assert!(bench.has(|effect| matches!(effect, Effect::MailWaiting(_))));
    let restarted = ["supersede.decided", "turn.message_absorbed", "turn.processing"];
    check(SupersedeChoice::AbsorbRestart, &restarted, &all, &[]);
    let queued = ["supersede.decided", "message.requeued"];
    check(SupersedeChoice::Queue, &queued, &["one"], &["two", "three"]);
    let mut bench = check(SupersedeChoice::ForceComplete, &["supersede.decided"], &["one"], &[]);
    assert!(bench.has(|effect| matches!(effect, Effect::FinishNow(..))));
    bench.finish("ok");
    assert_eq!(bench.texts(), ["two", "three"]);
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn an_undecided_question_joins_by_default_and_a_late_answer_is_stale() {
    let (mut bench, id) = puzzled();
    bench.wait();
    assert_eq!(bench.told(), ["supersede.decided"]);
    assert!(bench.has(|effect| matches!(effect, Effect::MailWaiting(_))));
    bench.agent(AgentInput::Answer(id, SupersedeChoice::Supersede));
    assert_eq!(bench.last.ignored, Some(Ignored::StaleQuestion));
}

#[test]
fn the_commit_point_voids_the_question() {
    let (mut bench, id) = puzzled();
    bench.agent(AgentInput::CommitPoint(Token(1)));
    assert!(bench.has(|effect| matches!(effect, Effect::MailWaiting(_))));
    bench.agent(AgentInput::Answer(id, SupersedeChoice::Supersede));
    assert_eq!(bench.last.ignored, Some(Ignored::StaleQuestion));
    bench.finish("ok");
    assert_eq!(bench.texts(), ["two", "three"]);
}
