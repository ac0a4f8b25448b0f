//! The openai agent and what happens meanwhile: mail, questions, cancels, slots.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use turnkeep_core::ids::QuestionId;
use turnkeep_core::journal::SupersedeChoice;

use crate::handle::FakeHandle;
use crate::openai::{agent, agent_with, finished};
use crate::server::{Server, Step, answer, delta, done, finish, refusal};

/// Says "one", then waits for the gate, then ends.
fn gated_answer() -> Vec<Step> {
    vec![Step::Begin, delta("one"), Step::Gate, finish("stop"), done(), Step::End]
}

#[tokio::test]
async fn mail_that_comes_during_an_answer_is_answered_in_the_same_reply() {
    let server = Server::start([gated_answer(), answer(&["two"])]).await;
    let handle = FakeHandle::new();
    let agent = agent(&server);
    let meanwhile = async {
        handle.until_said("one").await;
        handle.deliver(5, "wait");
        handle.deliver(6, "more");
        server.open_gate();
    };
    let (ended, ()) = tokio::join!(agent.run(handle.turn(&["hi"])), meanwhile);
    assert_eq!(ended, finished("one\n\ntwo", 6));
    assert_eq!(handle.said().concat(), "one\n\ntwo");
    let requests = server.requests();
    assert_eq!(requests[0].messages(), ["user: hi"]);
    assert_eq!(requests[1].messages(), ["user: hi", "assistant: one", "user: wait\nmore"]);
    assert_eq!(handle.slots_given.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn rounds_are_bounded_and_the_rest_stays() {
    let server = Server::start([gated_answer(), gated_answer()]).await;
    let handle = FakeHandle::new();
    let agent = agent_with(&server, |_, turn| turn.rounds_max = 2);
    let meanwhile = async {
        for (seq, said) in [(5, "one"), (6, "one\n\none")] {
            handle.until_said(said).await;
            handle.deliver(seq, "more");
            server.open_gate();
        }
    };
    let (ended, ()) = tokio::join!(agent.run(handle.turn(&["hi"])), meanwhile);
    assert_eq!(ended, finished("one\n\none", 5));
    assert_eq!(handle.mail_calls.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn asked_to_finish_now_it_leaves_the_mail() {
    let server = Server::start([gated_answer()]).await;
    let handle = FakeHandle::new();
    let agent = agent(&server);
    let meanwhile = async {
        handle.until_said("one").await;
        handle.deliver(5, "more");
        handle.finish_now.send_replace(true);
        server.open_gate();
    };
    let (ended, ()) = tokio::join!(agent.run(handle.turn(&["hi"])), meanwhile);
    assert_eq!(ended, finished("one", 1));
    assert_eq!(handle.mail_calls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_later_round_that_fails_costs_only_itself() {
    let broken = vec![Step::Begin, delta("tw"), Step::Cut];
    for failing in [refusal(400, &[], "no"), broken] {
        let server = Server::start([gated_answer(), failing]).await;
        let handle = FakeHandle::new();
        let agent = agent(&server);
        let meanwhile = async {
            handle.until_said("one").await;
            handle.deliver(5, "more");
            server.open_gate();
        };
        let (ended, ()) = tokio::join!(agent.run(handle.turn(&["hi"])), meanwhile);
        // Used up to 1: what it took after that counts as unread.
        assert_eq!(ended, finished("one", 1));
    }
}

#[tokio::test]
async fn mail_that_comes_before_the_request_goes_with_it() {
    let server = Server::start([answer(&["ok"])]).await;
    let handle = FakeHandle::new();
    let agent = agent(&server);
    let slot = Arc::clone(&handle.slots).acquire_owned().await.unwrap();
    let meanwhile = async {
        handle.deliver(5, "more");
        while handle.mail_calls.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(server.requests().is_empty());
        drop(slot);
    };
    let (ended, ()) = tokio::join!(agent.run(handle.turn(&["hi"])), meanwhile);
    assert_eq!(ended, finished("ok", 5));
    assert_eq!(server.requests()[0].messages(), ["user: hi\nmore"]);
}

#[tokio::test]
async fn mail_that_the_gateway_keeps_does_not_spin() {
    let server = Server::start([gated_answer()]).await;
    let handle = FakeHandle::new();
    handle.mail_is_kept.send_replace(true);
    let agent = agent(&server);
    let slot = Arc::clone(&handle.slots).acquire_owned().await.unwrap();
    let meanwhile = async {
        handle.deliver(5, "more");
        while handle.mail_calls.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        drop(slot);
        handle.until_said("one").await;
        server.open_gate();
    };
    let (ended, ()) = tokio::join!(agent.run(handle.turn(&["hi"])), meanwhile);
    assert_eq!(ended, finished("one", 1));
    assert_eq!(handle.mail_calls.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_message_may_join_until_the_answer_shows() {
    let server = Server::start([vec![
        Step::Gate,
        Step::Begin,
        delta("one"),
        Step::Gate,
        finish("stop"),
        done(),
        Step::End,
    ]])
    .await;
    let handle = FakeHandle::new();
    let agent = agent(&server);
    let meanwhile = async {
        server.until_requests(1).await;
        handle.ask(1);
        while handle.answers.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        server.open_gate();
        handle.until_said("one").await;
        handle.ask(2);
        while handle.answers.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
        server.open_gate();
    };
    let (ended, ()) = tokio::join!(agent.run(handle.turn(&["hi"])), meanwhile);
    assert_eq!(ended, finished("one", 1));
    assert_eq!(
        *handle.answers.lock().unwrap(),
        [(QuestionId(1), SupersedeChoice::AbsorbContinue), (QuestionId(2), SupersedeChoice::Queue)]
    );
}

#[tokio::test]
async fn a_cancel_closes_the_connection_and_gives_the_slot_back() {
    let before = vec![Step::UntilHungUp];
    let within = vec![Step::Begin, delta("one"), Step::UntilHungUp];
    for (script, said) in [(before, ""), (within, "one")] {
        let server = Server::start([script]).await;
        let handle = FakeHandle::new();
        let agent = agent(&server);
        let meanwhile = async {
            server.until_requests(1).await;
            handle.until_said(said).await;
            handle.cancel();
        };
        let (ended, ()) = tokio::join!(agent.run(handle.turn(&["hi"])), meanwhile);
        assert_eq!(&*ended.unwrap_err().error, "the run was cancelled");
        server.until_hung_up().await;
        assert_eq!(handle.slots.available_permits(), 1);
    }
}

#[tokio::test]
async fn dropping_the_run_closes_the_connection() {
    let server = Server::start([vec![Step::Begin, delta("one"), Step::UntilHungUp]]).await;
    let handle = FakeHandle::new();
    let agent = agent(&server);
    tokio::select! {
        ended = agent.run(handle.turn(&["hi"])) => panic!("{ended:?}"),
        () = handle.until_said("one") => {}
    }
    server.until_hung_up().await;
    assert_eq!(handle.slots.available_permits(), 1);
}

#[tokio::test]
async fn a_cancel_is_heard_while_waiting_for_a_slot() {
    let server = Server::start([]).await;
    let handle = FakeHandle::new();
    let agent = agent(&server);
    let _slot = Arc::clone(&handle.slots).acquire_owned().await.unwrap();
    let (ended, ()) = tokio::join!(agent.run(handle.turn(&["hi"])), async { handle.cancel() });
    assert_eq!(&*ended.unwrap_err().error, "the run was cancelled");
}
