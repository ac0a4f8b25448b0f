//! A Redis that is flushed, killed, stopped, full, replaced, locked, or somebody else's.

use std::time::Duration;

use turnkeep_redis::{Active, Health, Held, Limit, News, RedisHints, Settings, State, Trouble};

use crate::kit::{Server, connected, impatient, raw, soon};
use crate::port_kit::free_port;

const LONG: Duration = Duration::from_secs(60);

fn mine() -> Active {
    Active { epoch: 1, turn: "t".to_owned(), node: "one".to_owned() }
}

async fn asked(node: &RedisHints) -> Result<bool, Trouble> {
    let limit = Limit { name: "x", per_minute: 6000, burst: 1000 };
    Ok(node.take("t", &[limit]).await?.refused.is_none())
}

#[tokio::test]
async fn a_flush_is_noticed_by_every_node() {
    let server = Server::new();
    let (one, two) = (server.node("one").await, server.node("two").await);
    assert_eq!(one.hold("s", &mine()).await, Ok(Held::Ours));
    let mut admin = server.admin().await;
    let _: String = raw(&mut admin, &["FLUSHALL"]).await;
    for node in [&one, &two] {
        soon(node.until(|health| health.counts.flushed == 1)).await;
        assert_eq!(node.active("s").await, Ok(None));
    }
    assert_eq!(one.hold("s", &mine()).await, Ok(Held::Ours));
    assert_eq!(two.active("s").await, Ok(Some(mine())));
    let owner: String = raw(&mut admin, &["GET", "turnkeep:cluster"]).await;
    assert_eq!(owner, "home");
}

#[tokio::test]
async fn killed_and_started_again() {
    let mut server = Server::new();
    let node = server.node("one").await;
    assert_eq!(asked(&node).await, Ok(true));
    server.kill();
    let down = |state: &State| matches!(state, State::Down(_));
    let health = soon(node.until(|health| down(&health.calls) && down(&health.listening))).await;
    let before = health.counts.skipped;
    for _ in 0..10 {
        assert!(matches!(asked(&node).await, Err(Trouble::Away(_))));
    }
    assert_eq!(node.health().counts.skipped, before + 10, "nothing was asked");
    server.begin();
    let health = soon(node.until(|health| health.is_up() && health.counts.flushed > 0)).await;
    assert!(health.counts.connected >= 4, "{health:?}");
    assert_eq!(asked(&node).await, Ok(true));
}

#[tokio::test]
async fn missing_at_the_start() {
    let mut server = Server::absent(&[]);
    let node = RedisHints::start(server.settings("one")).expect("usable settings");
    let mut ear = node.listen().expect("there is room");
    let health = node.settled(LONG).await;
    assert!(matches!(health.calls, State::Down(_)), "{health:?}");
    server.begin();
    soon(node.until(Health::is_up)).await;
    assert_eq!(soon(ear.next()).await, News::Missed);
    assert_eq!(asked(&node).await, Ok(true));
}

#[tokio::test]
async fn stopped_at_the_start() {
    let server = Server::new();
    server.stop();
    let node = RedisHints::start(impatient(server.settings("one"))).expect("usable settings");
    let health = node.settled(LONG).await;
    assert!(matches!(health.calls, State::Down(_)), "{health:?}");
    assert!(matches!(asked(&node).await, Err(Trouble::Away(_))));
    server.go_on();
    soon(node.until(Health::is_up)).await;
}

/// Asks until the circuit is open, and says how many calls had to wait for it.
async fn until_open(node: &RedisHints) -> u64 {
    soon(async {
        while !matches!(asked(node).await, Err(Trouble::Away(_))) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    node.health().counts.late
}

/// Impatient as the node is, a call or two may still be late.
async fn until_let_through(node: &RedisHints) {
    soon(async {
        while asked(node).await != Ok(true) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn stopped_and_woken() {
    let server = Server::new();
    let node = connected(impatient(server.settings("one"))).await;
    server.stop();
    let late = until_open(&node).await;
    assert!(late <= 4, "{late} calls were late");
    soon(node.until(|health| matches!(health.calls, State::Down(_)))).await;
    soon(node.until(|health| matches!(health.listening, State::Down(_)))).await;
    server.go_on();
    soon(node.until(Health::is_up)).await;
    until_let_through(&node).await;
}

#[tokio::test]
async fn too_slow_for_a_while() {
    let server = Server::new();
    let node = connected(impatient(server.settings("one"))).await;
    let mut admin = server.admin().await;
    let _: String = raw(&mut admin, &["CLIENT", "PAUSE", "600000", "WRITE"]).await;
    soon(node.until(|health| !health.calls.is_up())).await;
    assert!(matches!(asked(&node).await, Err(Trouble::Away(_) | Trouble::Late)));
    let _: String = raw(&mut admin, &["CLIENT", "UNPAUSE"]).await;
    soon(node.until(Health::is_up)).await;
    until_let_through(&node).await;
}

#[tokio::test]
async fn a_password() {
    let server = Server::with(&["--requirepass", "open sesame"]);
    let told = async |password: Option<&str>| {
        let mut settings = server.settings("one");
        settings.password = password.map(str::to_owned);
        let health = RedisHints::start(settings).expect("usable settings").settled(LONG).await;
        (health.calls, health.listening)
    };
    for wrong in [None, Some("close sesame")] {
        let (calls, listening) = told(wrong).await;
        assert!(matches!(calls, State::Refused(_)), "{calls}");
        assert_eq!(calls.as_str(), listening.as_str());
        assert!(!calls.to_string().contains("sesame"), "{calls}");
    }
    assert_eq!(told(Some("open sesame")).await, (State::Up, State::Up));
}

#[tokio::test]
async fn the_keys_of_another_cluster_are_left_alone() {
    let server = Server::new();
    let home = server.node("one").await;
    assert_eq!(home.hold("s", &mine()).await, Ok(Held::Ours));
    let mut admin = server.admin().await;
    let before: i64 = raw(&mut admin, &["DBSIZE"]).await;
    let other = Settings { cluster: "away".to_owned(), ..server.settings("one") };
    let away = RedisHints::start(other).expect("usable settings");
    let health = away.settled(LONG).await;
    assert_eq!(health.calls, State::Foreign("home".to_owned()));
    assert_eq!(health.listening, State::Foreign("home".to_owned()));
    let refused = Err(Trouble::Foreign { found: "home".to_owned() });
    assert_eq!(away.release("s", &mine()).await, refused);
    assert_eq!(asked(&away).await, refused);
    let after: i64 = raw(&mut admin, &["DBSIZE"]).await;
    assert_eq!(after, before);
    let _: String = raw(&mut admin, &["SET", "turnkeep:cluster", "third"]).await;
    let found = |health: &Health| health.calls == State::Foreign("third".to_owned());
    soon(home.until(found)).await;
}

#[tokio::test]
async fn a_marker_that_is_no_text_is_somebody_elses() {
    let server = Server::new();
    let mut admin = server.admin().await;
    let _: i64 = raw(&mut admin, &["RPUSH", "turnkeep:cluster", "x"]).await;
    let node = RedisHints::start(server.settings("one")).expect("usable settings");
    assert!(matches!(node.settled(LONG).await.calls, State::Foreign(_)));
    let kind: String = raw(&mut admin, &["TYPE", "turnkeep:cluster"]).await;
    assert_eq!(kind, "list");
    // Nor is the one beside it replaced.
    let beside = "{turnkeep:cluster}:since";
    let _: i64 = raw(&mut admin, &["RPUSH", beside, "x"]).await;
    let _: i64 = raw(&mut admin, &["DEL", "turnkeep:cluster"]).await;
    let again = RedisHints::start(server.settings("two")).expect("usable settings");
    assert!(matches!(again.settled(LONG).await.calls, State::Foreign(_)));
    let kind: String = raw(&mut admin, &["TYPE", beside]).await;
    assert_eq!(kind, "list");
    let _: i64 = raw(&mut admin, &["DEL", beside]).await;
    soon(node.until(Health::is_up)).await;
    assert_eq!(asked(&node).await, Ok(true));
}

#[tokio::test]
async fn full() {
    let server = Server::new();
    let node = server.node("one").await;
    let mut admin = server.admin().await;
    let _: String = raw(&mut admin, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let full = |state: &State| matches!(state, State::Refused(why) if why.contains("OOM"));
    soon(node.until(|health| full(&health.calls) && full(&health.listening))).await;
    let _: String = raw(&mut admin, &["CONFIG", "SET", "maxmemory", "0"]).await;
    soon(node.until(Health::is_up)).await;
    assert_eq!(asked(&node).await, Ok(true));
}

#[tokio::test]
async fn failed_over() {
    let mut first = Server::with(&[]);
    let second = Server::new();
    let mut admin = second.admin().await;
    // What it follows is nowhere; that it takes no writes is what counts.
    let _: String = raw(&mut admin, &["REPLICAOF", "127.0.0.1", "1"]).await;
    let mut settings = first.settings("one");
    settings.addresses.push(second.address());
    let node = connected(settings).await;
    let mut ear = node.listen().expect("there is room");
    assert_eq!(soon(ear.next()).await, News::Missed);
    assert_eq!(node.hold("s", &mine()).await, Ok(Held::Ours));
    first.kill();
    soon(node.until(|health| !health.calls.is_up() && !health.listening.is_up())).await;
    assert!(asked(&node).await.is_err());
    let _: String = raw(&mut admin, &["REPLICAOF", "NO", "ONE"]).await;
    soon(node.until(Health::is_up)).await;
    assert_eq!(soon(ear.next()).await, News::Missed);
    assert_eq!(node.active("s").await, Ok(None));
    assert_eq!(node.hold("s", &mine()).await, Ok(Held::Ours));
}

/// One server that is a whole cluster: it refuses what would be in two slots.
#[tokio::test]
async fn as_a_cluster_would_have_it() {
    let (port, bus) = (free_port().to_string(), free_port().to_string());
    let more = ["--cluster-enabled", "yes", "--bind", "127.0.0.1"];
    let ports = ["--port", &port, "--cluster-port", &bus];
    let server = Server::with(&[&more[..], &ports[..]].concat());
    let mut admin = server.admin().await;
    let _: String = raw(&mut admin, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    let node = RedisHints::start(server.settings("one")).expect("usable settings");
    soon(node.until(Health::is_up)).await;
    let names = ["a", "b", "c"];
    let limits = names.map(|name| Limit { name, per_minute: 60, burst: 2 });
    let passed = node.take("t{e}nant", &limits).await.expect("one slot");
    assert_eq!(passed.refused, None);
    assert_eq!(node.hold("s", &mine()).await, Ok(Held::Ours));
    assert_eq!(node.release("s", &mine()).await, Ok(true));
}
