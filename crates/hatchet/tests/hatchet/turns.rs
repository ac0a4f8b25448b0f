//! Turns through a real engine.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use turnkeep_core::ports::dispatch::TurnStep;
use turnkeep_hatchet::{HatchetClient, Link, Report, Triggered};
use uuid::Uuid;

use crate::engine::shared;
use crate::hand::{Hand, client, trigger, whole};
use crate::kit::run;

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_goes_through_its_steps_on_one_worker() {
    let client = client(shared(), "steps").await;
    let mut hands = [Hand::new(&client, "one"), Hand::new(&client, "two")];
    let run = run("api:home:a%20b");
    let run_id = trigger(&client, &run).await;
    let [one, two] = &mut hands;
    let first = tokio::select! {
        first = one.start() => first,
        first = two.start() => { hands.reverse(); first }
    };
    assert_eq!((&first.run, first.step, first.retry), (&run, TurnStep::Acquire, 0));
    assert_eq!((&first.run_id, first.outputs.len()), (&run_id, 0));
    assert_eq!(client.health().report().awaited, 0);
    let [hand, other] = &mut hands;
    hand.complete(&first).await;
    let second = hand.start().await;
    assert_eq!(second.outputs["acquire"], json!({"said": "acquire"}));
    assert_eq!((&second.run, &second.run_id), (&run, &run_id));
    hand.complete(&second).await;
    let rest = hand.run_through(run.turn).await;
    assert_eq!([first.step, second.step], [TurnStep::Acquire, TurnStep::Accumulate]);
    assert_eq!(rest, whole(run.turn)[2..]);
    assert!(other.orders.try_recv().is_err());
    assert_eq!(client.health().report().link, Link::Working);
}

/// The engine would rather give all steps of a turn to one worker, and does not promise it: where it
/// believes that one busy, or does not know it yet, another one gets the next step. By chance alone one
/// turn of eight would stay.
#[tokio::test(flavor = "multi_thread")]
async fn many_turns_are_spread_and_most_of_them_stay() {
    let client = client(shared(), "sticky").await;
    let (mut one, mut two) = (Hand::new(&client, "one"), Hand::new(&client, "two"));
    let mut known = BTreeSet::new();
    // The engine takes some seconds until it knows them both; what counts begins after that.
    while known.len() < 2 {
        let homes = eight(&client, [&mut one, &mut two]).await;
        known.extend(homes.into_values().flatten());
    }
    let homes = eight(&client, [&mut one, &mut two]).await;
    let stayed = homes.values().filter(|workers| workers.len() == 1).count();
    assert!(stayed * 2 >= homes.len(), "{homes:?}");
}

/// Eight turns, begun together; who worked on each.
async fn eight(
    client: &HatchetClient,
    hands: [&mut Hand; 2],
) -> BTreeMap<Uuid, BTreeSet<&'static str>> {
    let mut homes: BTreeMap<Uuid, BTreeSet<&str>> = BTreeMap::new();
    for number in 0..8 {
        trigger(client, &run(&format!("s{number}"))).await;
    }
    let ([one, two], mut left) = (hands, 8);
    while left > 0 {
        let (hand, dispatch) = tokio::select! {
            dispatch = one.start() => (&one, dispatch),
            dispatch = two.start() => (&two, dispatch),
        };
        hand.complete(&dispatch).await;
        homes.entry(dispatch.run.turn).or_default().insert(hand.name);
        left -= usize::from(dispatch.step == TurnStep::CommitAndRespond);
    }
    homes
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_turn_under_the_same_epoch_runs_once() {
    let client = client(shared(), "twice").await;
    let mut hand = Hand::new(&client, "one");
    let run = run("s");
    let run_id = trigger(&client, &run).await;
    let again = client.trigger(&run).await.unwrap();
    assert_eq!(again, Triggered::Before(Some(run_id)));
    assert_eq!(hand.run_through(run.turn).await, whole(run.turn));
    // Nor when it is done. Another epoch is another run, and the next thing that comes.
    assert!(matches!(client.trigger(&run).await.unwrap(), Triggered::Before(_)));
    let next = turnkeep_hatchet::TurnRun { epoch: run.epoch + 1, ..run.clone() };
    assert!(matches!(client.trigger(&next).await.unwrap(), Triggered::New(_)));
    let first = hand.start().await;
    assert_eq!((first.run, first.step), (next, TurnStep::Acquire));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_runs_one_turn_at_a_time() {
    let client = client(shared(), "onebyone").await;
    let mut hand = Hand::new(&client, "one");
    let (first, second, other) = (run("s"), run("s"), run("other"));
    trigger(&client, &first).await;
    let held = hand.start().await;
    assert_eq!(held.run, first);
    trigger(&client, &second).await;
    trigger(&client, &other).await;
    // What came later goes first, for its session is free.
    let free = hand.start().await;
    assert_eq!(free.run, other);
    hand.complete(&free).await;
    assert_eq!(hand.run_through(other.turn).await, whole(other.turn)[1..]);
    hand.complete(&held).await;
    let mut steps = whole(first.turn)[1..].to_vec();
    steps.extend(whole(second.turn));
    assert_eq!(hand.run_through(second.turn).await, steps);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_cancelled_while_it_waits_and_while_it_runs() {
    let client = client(shared(), "cancel").await;
    let mut hand = Hand::new(&client, "one");
    let (running, waiting, last) = (run("s"), run("s"), run("s"));
    let running_id = trigger(&client, &running).await;
    let held = hand.start().await;
    hand.report(&held, &Report::Started).await;
    let waiting_id = trigger(&client, &waiting).await;
    client.cancel(&[waiting_id]).await.unwrap();
    client.health().forget(waiting.turn, waiting.epoch);
    client.cancel(std::slice::from_ref(&running_id)).await.unwrap();
    let cancelled = hand.cancelled().await;
    assert_eq!((&cancelled.run_id, cancelled.step), (&running_id, Some(TurnStep::Acquire)));
    assert_eq!(cancelled.action.key(), held.action.key());
    assert_eq!(cancelled.turn, Some((running.turn, running.epoch)));
    hand.report(&held, &Report::Cancelled).await;
    // The next of the session's turns that runs is not the one that waited.
    trigger(&client, &last).await;
    assert_eq!(hand.run_through(last.turn).await, whole(last.turn));
    assert_eq!(client.health().report().awaited, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_failed_comes_again_if_it_may() {
    let client = client(shared(), "fails").await;
    let mut hand = Hand::new(&client, "one");
    let (first, second) = (run("s"), run("s"));
    trigger(&client, &first).await;
    let once = hand.start().await;
    hand.report(&once, &Report::Failed { why: "not now\0".into(), again: true }).await;
    let twice = hand.start().await;
    assert_eq!((&twice.run, twice.step, twice.retry), (&first, TurnStep::Acquire, 1));
    assert_eq!(twice.action.key().0, once.action.key().0);
    hand.report(&twice, &Report::Failed { why: "not ever".into(), again: false }).await;
    trigger(&client, &second).await;
    assert_eq!(hand.run_through(second.turn).await, whole(second.turn));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_leaves_gets_nothing_more_and_ends_its_steps() {
    let client = client(shared(), "leaves").await;
    let mut hand = Hand::new(&client, "one");
    let run = run("s");
    trigger(&client, &run).await;
    let first = hand.start().await;
    let mut next = Hand::new(&client, "two");
    hand.worker.drain().await;
    let Hand { worker, mut orders, .. } = hand;
    worker.leave().await;
    assert_eq!(orders.recv().await, None);
    // It may still say what it did, and nobody looks for it then.
    next.complete(&first).await;
    assert_eq!(next.run_through(run.turn).await, whole(run.turn)[1..]);
}
