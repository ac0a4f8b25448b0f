//! A job of every second beside people who write, while the server is killed at every step of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::crash_kit::{Person, Server, audit, client, compare, conversation};

/// Where the process may end: around the claim, and behind every step that follows.
const PLACES: [&str; 7] = [
    "schedule.claim.before",
    "schedule.claim.after",
    "schedule.asked",
    "schedule.noted",
    "schedule.answered",
    "schedule.told",
    "schedule.end.after",
];

const JOB: &str = "default:default:api:cron:beat";
const ANN: &str = "default:default:web:dm:ann";

fn write_config(dir: &Path) -> std::path::PathBuf {
    let config = dir.join("schedule.toml");
    let text = "log_level = \"warn\"\n[agents.default]\nkind = \"echo\"\ndelay_ms = 30\n\
                [cron.beat]\nschedule = \"* * * * * *\"\nzone = \"Europe/Berlin\"\n\
                prompt = \"beat\"\ncustomer = \"ann\"\nchannel = \"web\"\nmisfire = \"all\"\n\
                overlap = \"queue\"\n";
    std::fs::write(&config, text).unwrap();
    config
}

/// Waits until nothing of the job is open.
async fn at_rest(client: &reqwest::Client, address: &str) {
    let pause = format!("{address}/v1/cron/beat/pause");
    assert_eq!(client.post(pause).json(&json!({})).send().await.unwrap().status(), 200);
    let mut again = tokio::time::interval(Duration::from_millis(50));
    let rest = async {
        loop {
            again.tick().await;
            let jobs = client.get(format!("{address}/v1/cron")).send().await.unwrap();
            let jobs: Value = jobs.json().await.unwrap();
            if jobs["jobs"][0]["open"] == 0 {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), rest).await.unwrap();
}

/// The lines of one role, by the id of what made them.
async fn lines(
    client: &reqwest::Client,
    address: &str,
    session: &str,
    role: &str,
) -> Vec<(String, String)> {
    let lines = conversation(client, address, session).await.into_iter();
    let wanted = lines.filter(|line| line.role == role);
    wanted.map(|line| (line.message_id.unwrap_or_default(), line.text)).collect()
}

pub(crate) async fn every_time_is_asked_once_and_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let (config, data) = (write_config(dir.path()), dir.path().join("data"));
    let person = Person::new("bob", "web");
    for place in PLACES {
        let at = format!("{place}:2");
        // It may end while it takes up what was open.
        if let Some(mut server) = Server::start(&config, &data, &[("TURNKEEP_KILL_AT", &at)]) {
            let address = server.address.clone();
            person.write(&client(), &address, 50).await;
            let ended = tokio::task::spawn_blocking(move || {
                let status = server.child.wait().unwrap();
                std::os::unix::process::ExitStatusExt::signal(&status)
            });
            let ended = tokio::time::timeout(Duration::from_secs(30), ended).await;
            assert_eq!(ended.expect("it gets there").unwrap(), Some(9), "{place}");
        }
    }
    let server = Server::start(&config, &data, &[]).unwrap();
    let client = client();
    person.settle(&client, &server.address).await;
    at_rest(&client, &server.address).await;
    let asked = lines(&client, &server.address, JOB, "user").await;
    let told = lines(&client, &server.address, ANN, "notice").await;
    // Each once, in order, and none of those that came while nobody was there is missing.
    let names: Vec<&String> = asked.iter().map(|(name, _)| name).collect();
    assert!(names.len() > PLACES.len() && names.is_sorted(), "{names:?}");
    let seconds: BTreeMap<i64, &String> = names
        .iter()
        .map(|name| {
            let time = name.strip_prefix("cron/beat/").unwrap();
            (time.parse::<jiff::Timestamp>().unwrap().as_second(), *name)
        })
        .collect();
    assert_eq!(seconds.len(), names.len(), "{names:?}");
    let (first, last) = (seconds.keys().next().unwrap(), seconds.keys().last().unwrap());
    assert_eq!(seconds.len(), usize::try_from(last - first + 1).unwrap(), "{names:?}");
    let answers: Vec<(String, String)> =
        asked.iter().map(|(name, text)| (name.clone(), format!("echo: {text}"))).collect();
    assert_eq!(told, answers);
    compare(&client, &server.address, &person).await;
    audit(&data).unwrap();
}
