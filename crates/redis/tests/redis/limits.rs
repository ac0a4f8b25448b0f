//! Rates that all nodes share, held against the arithmetic of the core.

use proptest::prelude::*;
use redis::aio::MultiplexedConnection;
use turnkeep_redis::{LIMITS_MAX, Limit, Passed, RedisHints, Trouble};

use crate::kit::{Server, raw};

/// The same in nanoseconds since 1970, as the core has it.
#[derive(Clone, Copy, Default)]
struct Bucket {
    full_at: i128,
}

fn cost_and_refill(limit: &Limit<'_>) -> (i128, i128) {
    let cost = 60_000_000_000 / i128::from(limit.per_minute);
    let refill = cost * i128::from(limit.burst.max(1));
    (cost, refill.min(86_400_000_000_000).max(cost))
}

/// Asks all, then charges all if none refuses; the longest wait is told, the first of equal ones.
fn take(buckets: &mut [Bucket], limits: &[Limit<'_>], now_us: i64) -> Option<(usize, u64)> {
    let now = i128::from(now_us) * 1000;
    let mut refused: Option<(usize, u64)> = None;
    for (place, (bucket, limit)) in buckets.iter_mut().zip(limits).enumerate() {
        if limit.per_minute == 0 {
            continue;
        }
        let (cost, refill) = cost_and_refill(limit);
        bucket.full_at = bucket.full_at.clamp(now, now + refill);
        let over = bucket.full_at + cost - (now + refill);
        if over > 0 {
            let wait = u64::try_from((over + 999_999) / 1_000_000).expect("at most a day").max(1);
            if refused.is_none_or(|(_, longest)| wait > longest) {
                refused = Some((place, wait));
            }
        }
    }
    if refused.is_none() {
        for (bucket, limit) in buckets.iter_mut().zip(limits).filter(|(_, l)| l.per_minute > 0) {
            bucket.full_at += cost_and_refill(limit).0;
        }
    }
    refused
}

fn key(limit: &Limit<'_>) -> String {
    format!("turnkeep:{{t}}:limit:{}/{}:{}", limit.per_minute, limit.burst, limit.name)
}

/// As if so much time had passed, or the clock had stepped back.
async fn pass(con: &mut MultiplexedConnection, limit: &Limit<'_>, us: i64) -> bool {
    let found: Option<String> = raw(con, &["GET", &key(limit)]).await;
    let Some(found) = found else { return false };
    let (at, used) = found.split_once(':').expect("when, and how much");
    let at: i64 = at.parse().expect("a number");
    let shifted = format!("{}:{used}", at - us);
    let _: String = raw(con, &["SET", &key(limit), &shifted, "PX", "90000000"]).await;
    true
}

fn rates() -> impl Strategy<Value = Vec<(u32, u32)>> {
    let per_minute = prop_oneof![Just(0), 1_u32..100, 100_u32..100_000, Just(u32::MAX)];
    let burst = prop_oneof![0_u32..6, 6_u32..200, Just(u32::MAX)];
    prop::collection::vec((per_minute, burst), 1..4)
}

fn steps() -> impl Strategy<Value = Vec<i64>> {
    let step = prop_oneof![
        5 => Just(0_i64),
        3 => 1_i64..2_000_000,
        1 => 2_000_000_i64..200_000_000_000,
        1 => -200_000_000_000_i64..0,
    ];
    prop::collection::vec(step, 1..40)
}

async fn as_the_core(
    node: &RedisHints,
    con: &mut MultiplexedConnection,
    case: (&[(u32, u32)], &[i64]),
) -> Result<(), TestCaseError> {
    let (rates, steps) = case;
    let _: String = raw(con, &["FLUSHALL"]).await;
    let names = ["a", "b", "c"];
    let limits = rates.iter().zip(names);
    let limits: Vec<_> =
        limits.map(|(&(per_minute, burst), name)| Limit { name, per_minute, burst }).collect();
    let mut buckets = vec![Bucket::default(); limits.len()];
    for &us in steps {
        for (bucket, limit) in buckets.iter_mut().zip(&limits) {
            if us != 0 && pass(con, limit, us).await {
                bucket.full_at -= i128::from(us) * 1000;
            }
        }
        let told = node.take("t", &limits).await;
        let Passed { refused, now_us } = told.map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(refused, take(&mut buckets, &limits, now_us));
    }
    Ok(())
}

#[test]
fn the_answers_are_those_of_the_core() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = Server::new();
    let (node, con) = runtime.block_on(async { (server.node("one").await, server.admin().await) });
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(48));
    let tried = runner.run(&(rates(), steps()), |(rates, steps)| {
        let mut con = con.clone();
        runtime.block_on(as_the_core(&node, &mut con, (&rates, &steps)))
    });
    tried.expect("they are equal");
}

#[tokio::test]
async fn several_nodes_share_one_rate() {
    let server = Server::new();
    let (one, two) = (server.node("one").await, server.node("two").await);
    let mut asked = tokio::task::JoinSet::new();
    for place in 0..40 {
        let node = if place % 2 == 0 { one.clone() } else { two.clone() };
        asked.spawn(async move {
            let limit = Limit { name: "customer", per_minute: 1, burst: 5 };
            node.take("t", &[limit]).await
        });
    }
    let mut passed = 0;
    while let Some(told) = asked.join_next().await {
        let told = told.expect("no panic").expect("it is there");
        passed += u32::from(told.refused.is_none());
    }
    assert_eq!(passed, 5);
}

#[tokio::test]
async fn one_that_refuses_costs_the_others_nothing() {
    let server = Server::new();
    let node = server.node("one").await;
    let narrow = Limit { name: "customer", per_minute: 1, burst: 1 };
    let wide = Limit { name: "tenant", per_minute: 1, burst: 2 };
    let free = Limit { name: "everybody", per_minute: 0, burst: 0 };
    let both = [free, wide.clone(), narrow];
    let told = |told: Result<Passed, Trouble>| told.expect("it is there").refused.map(|(at, _)| at);
    assert_eq!(told(node.take("t", &both).await), None);
    for _ in 0..5 {
        assert_eq!(told(node.take("t", &both).await), Some(2));
    }
    assert_eq!(told(node.take("t", std::slice::from_ref(&wide)).await), None);
    assert_eq!(told(node.take("t", std::slice::from_ref(&wide)).await), Some(0));
    assert_eq!(told(node.take("other", &both).await), None, "of another tenant");
}

#[tokio::test]
async fn what_is_no_bucket_lets_everybody_through_and_stays() {
    let server = Server::new();
    let (node, mut admin) = (server.node("one").await, server.admin().await);
    let limit = Limit { name: "x", per_minute: 1, burst: 1 };
    let _: i64 = raw(&mut admin, &["HSET", &key(&limit), "a", "b"]).await;
    // Those that are ours count all the same.
    let both = [limit.clone(), Limit { name: "y", ..limit.clone() }];
    for refused in [None, Some(1)] {
        let told = node.take("t", &both).await.expect("it is there");
        assert_eq!(told.refused.map(|(which, _)| which), refused);
    }
    let kept: String = raw(&mut admin, &["HGET", &key(&limit), "a"]).await;
    assert_eq!(kept, "b");
    let _: String = raw(&mut admin, &["SET", &key(&limit), "tomorrow"]).await;
    let told = node.take("t", std::slice::from_ref(&limit)).await;
    assert_eq!(told.map(|told| told.refused), Ok(None));
    let kept: String = raw(&mut admin, &["GET", &key(&limit)]).await;
    assert_eq!(kept, "tomorrow");
    let health = node.health();
    assert_eq!((health.counts.foreign, health.strange), (3, true));
}

#[tokio::test]
async fn scripts_that_are_gone_are_brought_again() {
    let server = Server::new();
    let (node, mut admin) = (server.node("one").await, server.admin().await);
    let limit = Limit { name: "x", per_minute: 1, burst: 2 };
    for refused in [false, false, true] {
        let _: String = raw(&mut admin, &["SCRIPT", "FLUSH"]).await;
        let told = node.take("t", std::slice::from_ref(&limit)).await.expect("it is there");
        assert_eq!(told.refused.is_some(), refused);
    }
}

#[tokio::test]
async fn a_call_asks_only_so_many() {
    let server = Server::new();
    let node = server.node("one").await;
    let many = vec![Limit { name: "x", per_minute: 1, burst: 1 }; LIMITS_MAX + 1];
    assert_eq!(node.take("t", &many).await, Err(Trouble::TooLarge("too many rates at once")));
    let none = node.take("t", &[]).await;
    assert_eq!(none, Ok(Passed { refused: None, now_us: 0 }));
}
