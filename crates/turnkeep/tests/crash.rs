//! The real binary is killed again and again under load, and nothing acknowledged may be missing,
//! doubled or out of order.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "crash_kit/board.rs"]
mod board;
#[expect(dead_code, reason = "the kit is shared with tests that need more of it")]
mod crash_kit;
#[path = "crash_kit/schedule.rs"]
mod schedule;
mod store_kit;

use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::sync::Arc;

use crash_kit::{Person, Server, audit, build_shim, client, compare};

/// Where the process may end: inside accept, absorb, commit and deliver, and in the store.
const PLACES: [&str; 11] = [
    "accept.before",
    "accept.after",
    "absorb.before",
    "absorb.after",
    "commit.before",
    "commit.after",
    "deliver.before",
    "deliver.after",
    "store.commit.before",
    "store.commit.after",
    "store.answer",
];
const KILLS: u64 = 130;
const SEED: u64 = 20_261_120;

/// A seeded source of small numbers: the same seed, the same kills.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Whether it ended itself at its kill point: nobody answers a moment before it is gone.
async fn ended_itself(server: &mut Server) -> bool {
    let asked = client().get(format!("{}/healthz", server.address)).send().await;
    asked.is_err() && server.child.wait().unwrap().signal() == Some(9)
}

fn write_config(dir: &Path) -> std::path::PathBuf {
    let config = dir.join("crash.toml");
    let spool = dir.join("spool.jsonl");
    let text = format!(
        "log_level = \"warn\"\n[gateway]\nrate_limiting_enabled = false\n\
         [agents.default]\nkind = \"echo\"\ntokens = true\ndelay_ms = 15\n\
         [channels.api]\nbusy_policy = \"absorb\"\n\
         [channels.sms]\nwindow_ms = 0\nspool = {spool:?}\n"
    );
    std::fs::write(&config, text).unwrap();
    config
}

fn people() -> Vec<Arc<Person>> {
    let mut people: Vec<_> = (0..6).map(|n| Person::new(&format!("person{n}"), "api")).collect();
    people.push(Person::new("phone", "sms"));
    people
}

/// Everybody writes until the server is gone, or until each has sent `limit` messages.
async fn everybody_writes(people: &[Arc<Person>], address: &str, limit: u64) {
    let client = client();
    let mut writers = tokio::task::JoinSet::new();
    for person in people {
        let (person, client, address) = (Arc::clone(person), client.clone(), address.to_owned());
        writers.spawn(async move { person.write(&client, &address, limit).await });
    }
    while let Some(written) = writers.join_next().await {
        written.unwrap();
    }
}

async fn everything_is_there(people: &[Arc<Person>], config: &Path, data: &Path) {
    let server = Server::start(config, data, &[]).expect("it starts after every kill");
    let client = client();
    for person in people {
        person.settle(&client, &server.address).await;
    }
    for person in people {
        compare(&client, &server.address, person).await;
    }
    // While it runs, and after it was killed.
    audit(data).unwrap();
    drop(server);
    audit(data).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_every_second_survives_its_kills() {
    schedule::every_time_is_asked_once_and_told_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_switchboard_survives_its_kills() {
    board::what_was_answered_is_there_and_nothing_is_halfway().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_by_a_hundred_kills() {
    let dir = tempfile::tempdir().unwrap();
    let (config, data) = (write_config(dir.path()), dir.path().join("data"));
    let (mut people, mut dice) = (people(), Dice(SEED));
    let mut ended_at: HashMap<&str, u32> = HashMap::new();
    for kill in 0..KILLS {
        let place = PLACES[(kill / 2) as usize % PLACES.len()];
        if kill % 2 == 0 {
            let mut times = 8;
            if place.starts_with("deliver") {
                // A phone gets five parts at once and then one every two seconds, so that it takes
                // new ones to deliver often enough.
                people.extend((0..3).map(|n| Person::new(&format!("phone{kill}-{n}"), "sms")));
                times = 6;
            }
            let at = format!("{place}:{}", 1 + dice.below(times));
            let Some(mut server) = Server::start(&config, &data, &[("TURNKEEP_KILL_AT", &at)])
            else {
                // It ended while it took up what was open.
                *ended_at.entry(place).or_default() += 1;
                continue;
            };
            let address = server.address.clone();
            everybody_writes(&people, &address, 60).await;
            *ended_at.entry(place).or_default() += u32::from(ended_itself(&mut server).await);
        } else {
            let mut server = Server::start(&config, &data, &[]).unwrap();
            let rounds = 1 + dice.below(12);
            let address = server.address.clone();
            everybody_writes(&people, &address, rounds).await;
            server.kill();
        }
    }
    let named: u32 = ended_at.values().sum();
    assert!(PLACES.iter().all(|place| ended_at[place] > 0), "{ended_at:?}");
    // Where the store takes longer inboxes are full sooner, and a round is over before its place.
    assert!(named >= 50 || store_kit::schema(&data).is_some(), "{ended_at:?}");
    everything_is_there(&people, &config, &data).await;
    no_part_was_sent_twice(&dir.path().join("spool.jsonl"));
}

/// The provider's own log: a part that may have been sent is parked, never sent again.
fn no_part_was_sent_twice(spool: &Path) {
    let mut times: HashMap<String, u32> = HashMap::new();
    for line in std::fs::read_to_string(spool).unwrap().lines() {
        // A line that the kill cut off was never reported as sent.
        let Ok(part) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        *times.entry(part["idempotency_key"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(times.len() > 10, "hardly anything was delivered: {}", times.len());
    assert!(times.values().all(|count| *count == 1), "{times:?}");
}

/// Writes under the disk that keeps only what was synced, then takes the power away: what is left
/// is the shadow. Says what the people find there.
async fn power_cut(plant: &[(&str, &str)]) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let shim = build_shim(dir.path());
    let config = write_config(dir.path());
    let people = people();
    let mut data = dir.path().join("data0");
    for round in 0..4 {
        let shadow = dir.path().join(format!("data{}", round + 1));
        copy_folder(&data, &shadow);
        std::fs::create_dir_all(&data).unwrap();
        let mut env = vec![
            ("LD_PRELOAD", shim.to_str().unwrap()),
            ("DISK_REAL", data.to_str().unwrap()),
            ("DISK_SHADOW", shadow.to_str().unwrap()),
        ];
        env.extend_from_slice(plant);
        let mut server = Server::start(&config, &data, &env).unwrap();
        let address = server.address.clone();
        everybody_writes(&people, &address, 25).await;
        server.kill();
        data = shadow;
    }
    let acknowledged: usize =
        people.iter().map(|person| person.acknowledged.lock().unwrap().len()).sum();
    assert!(acknowledged > 400, "only {acknowledged} were acknowledged");
    let found = tokio::spawn(async move { everything_is_there(&people, &config, &data).await });
    found.await.map_err(|error| {
        let panic = error.into_panic();
        panic.downcast_ref::<String>().cloned().unwrap_or_default()
    })
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let Ok(entries) = std::fs::read_dir(from) else { return };
    for entry in entries {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() && !entry.path().ends_with("turnkeep.db-shm") {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_loses_nothing_acknowledged() {
    power_cut(&[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_sync_is_found_out() {
    let found = power_cut(&[("DISK_NO_SYNC", "1")]).await.unwrap_err();
    assert!(found.contains("was acknowledged"), "{found}");
}
