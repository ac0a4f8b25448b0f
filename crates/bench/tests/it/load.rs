//! Runs that press a server: at a rate, over many tenants, over a limit, with slow connections.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fake::{Fake, Trouble, plan};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use turnkeep_bench::{Plan, Report, SlowFigures, run_over};

async fn report(plan: &Plan, fake: &Fake) -> Report {
    run_over(plan, fake.clone(), CancellationToken::new()).await.unwrap()
}

/// How many messages came from each tenant.
fn tenants(fake: &Fake) -> BTreeMap<String, usize> {
    let mut tenants = BTreeMap::new();
    for message in fake.received() {
        let tenant = message.body["tenant_id"].as_str().unwrap_or("none").to_owned();
        *tenants.entry(tenant).or_default() += 1;
    }
    tenants
}

#[tokio::test(start_paused = true)]
async fn at_a_rate_nobody_waits_for_answers() {
    let fake = Fake::new(50);
    let plan = Plan { rate_per_second: Some(100.0), ..plan(10, 5) };
    let started_at = Instant::now();
    let report = report(&plan, &fake).await;
    // The last of 50 messages is due after 490 ms.
    assert_eq!(started_at.elapsed().as_millis(), 540);
    assert_eq!((report.sent, report.complete, report.latency.max_ms.round()), (50, 50, 50.0));
    assert!(report.table().contains("of the 100 that were planned"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn whoever_is_late_is_not_spared() {
    let fake = Fake::with(50, |message| match message.number {
        2 => Trouble::Slow(Duration::from_secs(1)),
        _ => Trouble::None,
    });
    let report = report(&Plan { rate_per_second: Some(10.0), ..plan(1, 10) }, &fake).await;
    // What was due while the second was answered is sent at once behind it, and its wait counts.
    assert_eq!((report.complete, report.latency.max_ms.round()), (10, 1000.0));
    assert!(report.latency.p50_ms > 700.0, "{report}");
    assert_eq!(report.latency_since_sent.unwrap().p50_ms.round(), 50.0);
}

#[tokio::test(start_paused = true)]
async fn a_load_generator_that_does_not_keep_up_says_so() {
    let duration = Some(Duration::from_secs(10));
    let plan = Plan {
        rate_per_second: Some(100.0),
        messages: None,
        duration,
        delay_ms: 100,
        ..plan(2, 1)
    };
    let report = report(&plan, &Fake::new(100)).await;
    // Two users who wait a tenth of a second each can't send more.
    assert_eq!(report.sent_per_second, 20.0);
    let said = "only 20.0 of 100 messages a second were sent";
    assert!(report.notes.iter().any(|note| note.starts_with(said)), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_rate_goes_on_whatever_is_refused() {
    let fake = Fake::with(50, |message| match message.number % 10 {
        0 => Trouble::None,
        _ => Trouble::RateLimited(30),
    });
    let duration = Some(Duration::from_secs(10));
    let plan = Plan { rate_per_second: Some(200.0), messages: None, duration, ..plan(4, 1) };
    let report = report(&plan, &fake).await;
    assert_eq!((report.sent, report.sent_per_second), (2000, 200.0));
    assert_eq!((report.complete, report.refused["429 rate_limit_exceeded"]), (200, 1800));
    assert_eq!(report.latency.p99_ms.round(), 50.0);
}

#[tokio::test(start_paused = true)]
async fn a_rate_can_be_of_acceptances() {
    let fake = Fake::new(50);
    let plan = Plan { rate_per_second: Some(1000.0), wait: false, ..plan(20, 3) };
    let report = report(&plan, &fake).await;
    assert_eq!((report.accepted, report.acceptance.count, report.latency.count), (60, 60, 0));
}

#[tokio::test(start_paused = true)]
async fn the_impatient_wait_for_nothing() {
    let fake = Fake::with(50, |message| match message.number {
        1 | 2 => Trouble::RateLimited(30),
        _ => Trouble::None,
    });
    let started_at = Instant::now();
    let report = report(&Plan { obey_retry_after: false, ..plan(2, 3) }, &fake).await;
    assert!(started_at.elapsed() < Duration::from_secs(1));
    assert_eq!((report.complete, report.refused["429 rate_limit_exceeded"]), (2, 4));
}

#[tokio::test(start_paused = true)]
async fn users_are_spread_over_tenants_and_the_flood_keeps_its_rate() {
    let fake = Fake::new(50);
    let plan = Plan {
        tenants: Some(3),
        flood_connections: Some(4),
        flood_tenant: Some("loud".to_owned()),
        flood_customers: 5,
        flood_rate_per_second: Some(50.0),
        messages: None,
        duration: Some(Duration::from_secs(2)),
        ..plan(7, 1)
    };
    let report = report(&plan, &fake).await;
    let tenants = tenants(&fake);
    let names: Vec<_> = tenants.keys().map(String::as_str).collect();
    assert_eq!(names, ["bench-0", "bench-1", "bench-2", "loud"]);
    assert_eq!((tenants["loud"], report.flood.unwrap().sent), (100, 100));
    assert_eq!(report.tenants, Some(3));
    let floods = fake.customers().into_iter().filter(|name| name.starts_with("u-flood-")).count();
    assert_eq!(floods, 5);
}

#[tokio::test(start_paused = true)]
async fn slow_connections_stand_beside_the_users() {
    let fake = Fake::new(50);
    let plan = Plan { slow_connections: Some(20), ..plan(3, 100) };
    let report = report(&plan, &fake).await;
    assert_eq!((report.complete, report.latency.max_ms.round()), (300, 50.0));
    assert_eq!(
        report.slow,
        Some(SlowFigures { connections: 20, opened: 20, cut_off: 0, failed: 0 })
    );
    assert_eq!(fake.connections(), 23);
    assert!(report.table().contains("slow connections"), "{report}");
}

#[tokio::test]
async fn over_tcp_they_come_from_other_addresses_and_come_back() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let fake = Fake::new(1);
    let (heard, mut peers) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            if peer.ip().to_string() == "127.0.0.1" {
                tokio::spawn(fake.clone().serve(stream));
            } else {
                // The server hangs up on them at once.
                heard.send(peer.ip().to_string()).unwrap();
            }
        }
    });
    let stop = CancellationToken::new();
    let plan = Plan { slow_connections: Some(16), ..plan(1, u64::MAX) };
    let running = tokio::spawn({
        let stop = stop.clone();
        async move { turnkeep_bench::run_until(&plan, &[address], stop).await.unwrap() }
    });
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    while counts.values().filter(|count| **count > 3).count() < 8 {
        *counts.entry(peers.recv().await.unwrap()).or_default() += 1;
    }
    stop.cancel();
    let slow = running.await.unwrap().slow.unwrap();
    assert!(slow.opened > 16 && slow.cut_off >= 16, "{slow:?}");
    let addresses: Vec<_> = counts.into_keys().collect();
    let expect: Vec<_> = (2..=9).map(|last| format!("127.0.0.{last}")).collect();
    assert_eq!(addresses, expect);
}
