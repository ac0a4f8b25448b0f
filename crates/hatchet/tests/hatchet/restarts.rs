//! Workers and engines that die.

use turnkeep_core::ports::dispatch::TurnStep;
use turnkeep_hatchet::{HatchetClient, Link, Listening, Report};

use crate::engine::{Engine, shared};
use crate::hand::{Hand, client, trigger, whole};
use crate::kit::{PATIENCE, run, settings, until};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_worker_had_is_given_out_again() {
    let client = client(shared(), "dies").await;
    let mut dying = {
        let alone = HatchetClient::new(settings(shared().token(), "dies")).unwrap();
        Hand::new(&alone, "dying")
    };
    let run = run("s");
    trigger(&client, &run).await;
    let had = dying.start().await;
    dying.report(&had, &Report::Started).await;
    drop(dying);
    let mut other = Hand::new(&client, "other");
    let again = other.start().await;
    assert_eq!((&again.run, again.step, again.retry), (&run, TurnStep::Acquire, 1));
    assert_eq!(again.action.key().0, had.action.key().0);
    // What the dead one says late is taken and does not count.
    other.report(&had, &Report::Failed { why: "late".into(), again: false }).await;
    other.complete(&again).await;
    assert_eq!(other.run_through(run.turn).await, whole(run.turn)[1..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_comes_back_to_an_engine_that_was_restarted() {
    let engine = tokio::task::spawn_blocking(Engine::start).await.unwrap();
    let client = client(&engine, "back").await;
    let mut hand = Hand::new(&client, "one");
    let (first, second) = (run("s"), run("s"));
    trigger(&client, &first).await;
    let held = hand.start().await;
    hand.report(&held, &Report::Started).await;
    for signal in ["KILL", "TERM"] {
        let before = hand.worker.report();
        tokio::task::block_in_place(|| engine.end(signal));
        let lost = until(&hand.worker, |report| report.listening != Listening::Open).await;
        assert!(matches!(lost.listening, Listening::Lost(_)), "{lost:?}");
        assert_eq!(client.version().await.unwrap_err().class(), "unreachable");
        assert!(matches!(client.health().report().link, Link::Failing { .. }));
        engine.begin();
        client.reach(PATIENCE).await.unwrap();
        let back = until(&hand.worker, |report| report.listening == Listening::Open).await;
        assert!(back.streams > before.streams, "{back:?}");
        assert_eq!((back.id, back.registrations), (before.id, 1));
    }
    // What ran meanwhile ends, and the next one comes.
    hand.complete(&held).await;
    trigger(&client, &second).await;
    let steps = hand.run_through(second.turn).await;
    let mut expected = whole(first.turn)[1..].to_vec();
    expected.extend(whole(second.turn));
    assert_eq!(steps, expected);
    tokio::task::block_in_place(|| engine.end("KILL"));
}
