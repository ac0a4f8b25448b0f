//! A cluster under faults: gateways and workers are killed, stopped and cut off from their database
//! and from Redis, Redis and the workflow engine end and begin anew, while many people write bursts
//! to whichever gateway answers. Nothing may be lost, doubled or stuck.
//!
//! `FAULTS`, `PEOPLE` and `SEED` choose another run; each fault is said on standard output.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod beside;
#[path = "../crash_kit/mod.rs"]
#[expect(dead_code, reason = "the crash tests do more with it")]
mod crash_kit;
#[path = "../../../hatchet/tests/hatchet/engine.rs"]
#[expect(dead_code, reason = "the client's own tests use all of it")]
#[expect(clippy::duplicate_mod, reason = "the engine's database has a server of its own")]
mod engine;
mod nodes;
mod proxy;
#[path = "../../../redis/tests/redis/server.rs"]
#[expect(dead_code, reason = "the crate's own tests do more to it")]
mod redis_server;
#[path = "../store_kit/mod.rs"]
mod store_kit;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crash_kit::{Person, compare};
use nodes::{Addresses, Cluster};
use proxy::Mode;
use store_kit::postgres_server;

/// How long everybody may take to be answered once nothing goes wrong any more.
const DRAINED_WITHIN: Duration = Duration::from_secs(60);
/// A client that hears nothing for so long asks another server.
const PATIENCE: Duration = Duration::from_secs(8);

fn chosen(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// Small, and the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn time(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(from_ms + self.below(to_ms - from_ms))
    }
}

/// Comes back after so long.
async fn pass(time: Duration) {
    // It never resolves by itself.
    let _ = tokio::time::timeout(time, std::future::pending::<()>()).await;
}

/// What goes wrong in every run, at the same distance from each other.
#[derive(Clone, Copy)]
enum Sure {
    Engine(&'static str),
    Redis,
    Flush,
}

const SURE: [Sure; 7] = [
    Sure::Engine("KILL"),
    Sure::Redis,
    Sure::Engine("TERM"),
    Sure::Flush,
    Sure::Engine("KILL"),
    Sure::Redis,
    Sure::Engine("KILL"),
];

/// Which of them comes in the place of this fault of so many.
fn sure(number: u64, faults: u64) -> Option<Sure> {
    let all = SURE.len() as u64;
    let before = number * all / faults;
    let comes = (number + 1) * all / faults > before;
    SURE.get(usize::try_from(before).unwrap()).copied().filter(|_| comes)
}

/// What goes wrong with what stands beside the database.
async fn sure_fault(cluster: &Cluster, sure: Sure, dice: &mut Dice) -> &'static str {
    let (beside, time) = (&cluster.beside, dice.time(500, 6000));
    match sure {
        Sure::Engine(signal) => {
            beside.end_engine(signal, time).await;
            if signal == "KILL" { "the engine is killed" } else { "the engine is ended" }
        }
        Sure::Redis => {
            beside.kill_redis(time).await;
            "Redis is killed"
        }
        Sure::Flush => {
            beside.flush().await;
            "Redis forgets"
        }
    }
}

/// What goes wrong with one node, and for how long.
async fn fault(cluster: &Cluster, dice: &mut Dice) -> &'static str {
    let node = &cluster.nodes[usize::try_from(dice.below(cluster.nodes.len() as u64)).unwrap()];
    match dice.below(16) {
        0..=6 => {
            node.kill();
            "kill"
        }
        7..=10 => {
            let time = dice.time(200, 9000);
            node.stop(time);
            "stop"
        }
        11 => {
            node.database.cut_for(Mode::Cut, dice.time(100, 6000));
            "cut from the database"
        }
        12 => {
            node.database.cut_for(Mode::Hang, dice.time(100, 6000));
            "no answer of the database"
        }
        13 => {
            node.redis.cut_for(Mode::Cut, dice.time(100, 6000));
            "cut from Redis"
        }
        14 => {
            node.redis.cut_for(Mode::Hang, dice.time(100, 6000));
            "no answer of Redis"
        }
        _ => {
            cluster.beside.flush().await;
            "Redis forgets"
        }
    }
}

/// Writes bursts until the end, to whoever answers.
async fn write(person: Arc<Person>, addresses: Addresses, ended: Arc<AtomicBool>, seed: u64) {
    let mut dice = Dice(seed);
    let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
    while !ended.load(Ordering::Acquire) {
        let address = addresses.any(dice.below(1000));
        person.write(&client, &address, 1 + dice.below(3)).await;
        pass(dice.time(200, 3000)).await;
    }
}

/// One more message, and nothing of this person's is open any more, whoever is asked: a server that
/// was put out while it stood still may end only now.
async fn settle(person: Arc<Person>, addresses: Addresses, mut number: u64) {
    let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
    let count = || person.acknowledged.lock().unwrap().len();
    let before = count();
    while count() == before {
        number += 1;
        person.write(&client, &addresses.any(number), 1).await;
        pass(Duration::from_millis(100)).await;
    }
    loop {
        number += 1;
        let session = person.session().replace(':', "%3A");
        let url = format!("{}/v1/sessions/{session}", addresses.any(number));
        let answer = async { client.get(url).send().await?.json::<serde_json::Value>().await };
        if answer.await.is_ok_and(|session| session["state"] == "idle") {
            return;
        }
        pass(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_under_faults_loses_and_doubles_nothing() {
    let (faults, people, seed) = (chosen("FAULTS", 150), chosen("PEOPLE", 300), chosen("SEED", 1));
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cluster = Cluster::start(3, 3).await;
    let ended = Arc::new(AtomicBool::new(false));
    let people: Vec<Arc<Person>> = (0..people)
        .map(|number| Person::new(&format!("p{number}"), ["web", "api"][number as usize % 2]))
        .collect();
    let mut writers = JoinSet::new();
    for (person, number) in people.iter().zip(seed..) {
        let (person, addresses) = (Arc::clone(person), cluster.addresses.clone());
        writers.spawn(write(person, addresses, Arc::clone(&ended), number));
    }
    let (mut dice, begun) = (Dice(seed), Instant::now());
    let mut counts = std::collections::BTreeMap::<&str, u64>::new();
    let mut taken = 0;
    for number in 0..faults {
        let name = match sure(number, faults) {
            Some(sure) => sure_fault(&cluster, sure, &mut dice).await,
            None => fault(&cluster, &mut dice).await,
        };
        *counts.entry(name).or_default() += 1;
        pass(dice.time(300, 2000)).await;
        taken = taken.max(cluster.taken(number).await);
    }
    println!("workers took {taken} turns of one gateway from the engine");
    assert!(taken > 0, "the engine took no part");
    println!("{counts:?} in {:?}, {} restarts", begun.elapsed(), cluster.restarts());
    ended.store(true, Ordering::Release);
    while let Some(written) = writers.join_next().await {
        written.unwrap();
    }
    cluster.heal().await;
    let healed = Instant::now();
    let mut settling = JoinSet::new();
    for (person, number) in people.iter().zip(0..) {
        settling.spawn(settle(Arc::clone(person), cluster.addresses.clone(), number));
    }
    let settled = async {
        while let Some(done) = settling.join_next().await {
            done.unwrap();
        }
    };
    tokio::time::timeout(DRAINED_WITHIN, settled).await.expect("everybody is answered in time");
    println!("everybody was answered {:?} after the last fault", healed.elapsed());
    let client = reqwest::Client::new();
    let mut acknowledged = 0;
    for (person, number) in people.iter().zip(0..) {
        compare(&client, &cluster.addresses.any(number), person).await;
        acknowledged += person.acknowledged.lock().unwrap().len();
    }
    println!("{acknowledged} messages were acknowledged, and each was answered once");
    let said = cluster.audit().await;
    println!("{said}");
    assert!(said.ends_with("every invariant holds\n"), "{said}");
}
