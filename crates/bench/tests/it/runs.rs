//! Whole runs against a server in memory, on a virtual clock: what is sent, what is
//! counted, and what the report says about it.

use std::time::Duration;

use crate::fake::{Fake, Message, Trouble, plan};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use turnkeep_bench::{BenchError, Ended, Plan, Report, run, run_over};

async fn report(plan: &Plan, fake: &Fake) -> Report {
    let mut report = run_over(plan, fake.clone(), CancellationToken::new()).await.unwrap();
    // The one figure that is not on the virtual clock.
    report.client_cpu_ms_per_turn = None;
    report
}

/// The trouble, but only for one customer's message of that number.
fn once(
    customer: &'static str,
    number: u64,
    trouble: Trouble,
) -> impl Fn(&Message) -> Trouble + Send + Sync {
    move |message| {
        let is_it = message.customer == customer && message.number == number;
        if is_it { trouble } else { Trouble::None }
    }
}

/// The trouble, for all messages of one customer.
fn always(customer: &'static str, trouble: Trouble) -> impl Fn(&Message) -> Trouble + Send + Sync {
    move |message| if message.customer == customer { trouble } else { Trouble::None }
}

#[tokio::test(start_paused = true)]
async fn a_quiet_run_is_reported_whole() {
    let fake = Fake::new(50);
    let report = report(&plan(3, 4), &fake).await;
    insta::assert_snapshot!(report);
    assert_eq!(fake.customers().into_iter().collect::<Vec<_>>(), ["u-0", "u-1", "u-2"]);
    assert_eq!(fake.connections(), 3, "one connection a user, kept");
    assert!(fake.received().iter().all(|message| message.body.get("id").is_none()));
}

#[tokio::test(start_paused = true)]
async fn the_json_report_says_the_same() {
    let report = report(&plan(3, 4), &Fake::new(50)).await;
    let json: serde_json::Value = serde_json::from_str(&report.render(true)).unwrap();
    assert_eq!(json["turns"], 12);
    assert_eq!(json["mode"], "closed");
    assert_eq!(json["ended"], "all_sent");
    assert_eq!(json["verdict"]["nobody_waited"], true);
    assert_eq!(json["server"]["fsyncs"], 12);
    assert_eq!(json["server"]["commits_per_batch"], 2.0);
    assert_eq!(report.render(false), report.to_string());
}

#[tokio::test(start_paused = true)]
async fn ids_are_sent_if_the_plan_asks_and_never_twice() {
    let fake = Fake::new(50);
    report(&Plan { ids: true, ..plan(2, 3) }, &fake).await;
    let mut ids: Vec<_> = fake
        .received()
        .iter()
        .map(|message| message.body["id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    assert_eq!(ids, ["u-0-1", "u-0-2", "u-0-3", "u-1-1", "u-1-2", "u-1-3"]);
}

#[tokio::test(start_paused = true)]
async fn bursts_show_as_fewer_turns_than_messages() {
    let plan = Plan { burst: 3, burst_gap_ms: 10, ..plan(2, 7) };
    let report = report(&plan, &Fake::new(50)).await;
    // Two bursts of three and a last one of one, each joined into a turn.
    assert_eq!((report.sent, report.accepted, report.turns, report.complete), (14, 14, 6, 6));
    assert!((report.messages_per_turn - 14.0 / 6.0).abs() < 1e-9);
    assert_eq!(report.acceptance.count, 8, "all but the last of a burst");
    assert_eq!(report.verdict.nobody_waited, Some(true));
}

#[tokio::test(start_paused = true)]
async fn bursts_that_are_not_joined_show_too() {
    // Each turn is over before the next message of its burst.
    let plan = Plan { burst: 2, burst_gap_ms: 80, ..plan(2, 4) };
    let report = report(&plan, &Fake::new(50)).await;
    assert_eq!((report.accepted, report.turns, report.complete), (8, 8, 4));
}

#[tokio::test(start_paused = true)]
async fn a_refused_user_waits_as_long_as_asked_and_goes_on() {
    let fake = Fake::with(50, once("u-1", 2, Trouble::RateLimited(7)));
    let started_at = Instant::now();
    let report = report(&plan(2, 3), &fake).await;
    assert!(started_at.elapsed() >= Duration::from_secs(7));
    assert_eq!(
        report.refused.into_iter().collect::<Vec<_>>(),
        [("429 rate_limit_exceeded".into(), 1)]
    );
    assert_eq!((report.sent, report.accepted, report.complete), (6, 5, 5));
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_server_is_counted_and_tried_again() {
    let fake = Fake::with(50, |message| match message.number {
        1 | 2 => Trouble::Unavailable,
        _ => Trouble::None,
    });
    let report = report(&plan(3, 4), &fake).await;
    assert_eq!(report.refused["503"], 6);
    assert_eq!((report.sent, report.complete, report.reconnects), (12, 6, 0));
    assert_eq!(report.verdict.users_without_answer, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_costs_its_message_only() {
    for (trouble, kind) in [
        (Trouble::Cut, "connection lost"),
        (Trouble::CutInAnswer, "answer broken off"),
        (Trouble::Hangs, "no answer in time"),
        (Trouble::Garbage, "answer not understood"),
    ] {
        let fake = Fake::with(50, once("u-0", 2, trouble));
        let report = report(&plan(2, 3), &fake).await;
        assert_eq!(report.errors.into_iter().collect::<Vec<_>>(), [(kind.to_owned(), 1)]);
        assert_eq!((report.sent, report.complete), (6, 5), "after {trouble:?}");
        let expect = u64::from(!matches!(trouble, Trouble::Garbage));
        assert_eq!(report.reconnects, expect, "after {trouble:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn users_leave_a_server_that_is_gone() {
    let fake = Fake::new(50);
    let (plan, server) = (plan(2, 1000), fake.clone());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(120)).await;
        server.refuse_connections();
    });
    // Every third message costs the connection, so that the refusal is felt.
    let plot = |message: &Message| {
        if message.number.is_multiple_of(3) { Trouble::Cut } else { Trouble::None }
    };
    let report = report(&plan, &fake.plotting(plot)).await;
    assert_eq!((report.gave_up, report.complete), (2, 4));
    assert_eq!(report.errors["cannot connect: connection refused"], 60);
    assert!(report.notes[0].contains("did not answer after the run"), "{:?}", report.notes);
    assert!(report.notes[1].contains("what the server used is not known"), "{:?}", report.notes);
}

#[tokio::test(start_paused = true)]
async fn a_user_who_waits_is_named() {
    let fake = Fake::with(50, once("u-2", 3, Trouble::Slow(Duration::from_millis(1890))));
    let report = report(&plan(4, 3), &fake).await;
    assert_eq!(report.verdict.worst_user, Some(2));
    assert_eq!(
        report.verdict.sentence,
        "user 2 waited 1,840 ms over its agent (1 of 4 users waited more than 250 ms)"
    );
    assert_eq!(report.user_p99.unwrap().median_ms, 50.0);
}

#[tokio::test(start_paused = true)]
async fn failed_and_unanswered_turns_are_told_apart() {
    let fake = Fake::with(50, |message| match message.customer.as_str() {
        "u-0" => Trouble::Fails,
        "u-1" => Trouble::WaitRunsOut,
        _ => Trouble::None,
    });
    let report = report(&plan(3, 2), &fake).await;
    assert_eq!((report.complete, report.failed, report.unanswered), (2, 2, 2));
    assert_eq!(report.latency.count, 2, "only what was answered has a latency");
    assert_eq!(report.verdict.users_without_answer, 2);
    assert!(report.verdict.sentence.ends_with("2 users got no answer at all"));
}

#[tokio::test(start_paused = true)]
async fn the_flood_is_reported_apart() {
    let plot = always("u-flood", Trouble::RateLimited(1));
    let fake = Fake::with(
        50,
        move |message| {
            if message.number <= 10 { Trouble::None } else { plot(message) }
        },
    );
    let report = report(&Plan { flood_connections: Some(4), ..plan(3, 4) }, &fake).await;
    let flood = report.flood.unwrap();
    assert_eq!((report.sent, report.accepted, report.turns), (12, 12, 12));
    assert!(report.refused.is_empty());
    assert_eq!((flood.connections, flood.accepted), (4, 10));
    assert!(flood.refused["429 rate_limit_exceeded"] > 10, "it ignores every Retry-After");
    let mut texts: Vec<_> =
        fake.received().iter().map(|message| message.body.to_string()).collect();
    let received = texts.len();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), received, "no message twice");
}

#[tokio::test(start_paused = true)]
async fn every_trouble_has_its_line() {
    let fake = Fake::with(50, |message| match (message.customer.as_str(), message.number) {
        ("u-0", 2) => Trouble::Fails,
        ("u-0", 3) => Trouble::RateLimited(2),
        ("u-1", 2) => Trouble::Cut,
        ("u-1", 4) => Trouble::Unavailable,
        ("u-2", 2) => Trouble::WaitRunsOut,
        ("u-2", 6) => Trouble::Slow(Duration::from_millis(700)),
        ("u-3", 8) => Trouble::Hangs,
        ("u-flood", 3..) => Trouble::RateLimited(1),
        _ => Trouble::None,
    });
    let duration = Some(Duration::from_secs(4));
    let plan =
        Plan { burst: 2, burst_gap_ms: 5, flood_connections: Some(2), duration, ..plan(5, 12) };
    insta::assert_snapshot!(report(&plan, &fake).await);
}

#[tokio::test(start_paused = true)]
async fn an_open_run_shares_few_connections() {
    let fake = Fake::new(50);
    let report = report(&Plan { wait: false, ..plan(300, 2) }, &fake).await;
    assert_eq!((report.sent, report.accepted, report.acceptance.count), (600, 600, 600));
    assert_eq!(fake.connections(), 128);
    assert_eq!(fake.customers().len(), 300);
    assert_eq!(report.verdict.nobody_waited, None);
    // All messages of a user came while the first one's turn was still open.
    assert_eq!(report.turns, 300);
    assert!(report.table().contains("turns opened"));
}

#[tokio::test(start_paused = true)]
async fn a_stopped_run_reports_what_was_done() {
    let fake = Fake::with(50, always("u-1", Trouble::Hangs));
    let stop = CancellationToken::new();
    let (plan, stopper) = (plan(2, 1_000_000), stop.clone());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(1020)).await;
        stopper.cancel();
    });
    let report = run_over(&plan, fake, stop).await.unwrap();
    assert_eq!(report.ended, Ended::Stopped);
    assert_eq!((report.complete, report.cut_off), (20, 2));
    // Who was never answered has waited, though no answer says so.
    assert_eq!(report.verdict.worst_user, Some(1));
    assert_eq!(report.verdict.worst_latency_ms, 1020.0);
    assert!(report.to_string().contains("STOPPED"));
}

#[tokio::test(start_paused = true)]
async fn when_time_is_over_turns_in_flight_may_finish() {
    let fake = Fake::with(50, always("u-1", Trouble::Hangs));
    let duration = Some(Duration::from_millis(1020));
    let plan = Plan { messages: None, duration, ..plan(2, 1) };
    let started_at = Instant::now();
    let report = report(&plan, &fake).await;
    assert_eq!(report.ended, Ended::TimeOver);
    assert_eq!((report.complete, report.cut_off), (21, 1));
    assert_eq!(started_at.elapsed(), Duration::from_millis(1020 + 50 + 2000));
}

#[tokio::test(start_paused = true)]
async fn users_start_spread_over_the_ramp() {
    let fake = Fake::new(50);
    let plan = Plan { ramp: Duration::from_secs(4), ..plan(4, 1) };
    let report = report(&plan, &fake).await;
    assert_eq!(report.elapsed_s, 3.05);
    assert_eq!(report.complete, 4);
}

#[tokio::test]
async fn no_server_is_an_error_that_names_the_address() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = run(&plan(1, 1), address).await.unwrap_err();
    assert!(matches!(error, BenchError::Unreachable { .. }));
    assert!(error.to_string().contains(&address.to_string()));
}

#[tokio::test]
async fn it_runs_over_tcp_and_the_real_clock() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let fake = Fake::new(1);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(fake.clone().serve(stream));
        }
    });
    let report = run(&Plan { server_pid: Some(1), ..plan(5, 5) }, address).await.unwrap();
    assert_eq!((report.turns, report.complete), (25, 25));
    assert!(report.turns_per_second > 0.0);
}
