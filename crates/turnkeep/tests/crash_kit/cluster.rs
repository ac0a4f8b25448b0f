//! Several servers on one database: whoever is asked answers, wherever the turn runs, and what a
//! server leaves when it dies the others take up.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::crash_kit::{Person, Server, client, compare};
use crate::database::{ECHO, audit, config};
use crate::{LIMIT, postgres_server};

/// Servers of one database, each with a folder of its own.
pub(crate) struct Cluster {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) database: postgres_server::Server,
    /// For how long a server may stand still before the others put it out.
    node_timeout_ms: u32,
}

impl Cluster {
    /// Nobody is put out because the machine has much to do.
    pub(crate) fn new() -> Self {
        let (dir, database) = (tempfile::tempdir().unwrap(), postgres_server::Server::start(""));
        Self { dir, database, node_timeout_ms: 10_000 }
    }

    /// Where a server dies, and a test waits until the others know.
    pub(crate) fn of_mortals() -> Self {
        Self { node_timeout_ms: 3000, ..Self::new() }
    }

    /// The configuration of a server, whose agent takes this long.
    pub(crate) fn config(&self, name: &str, delay_ms: u32) -> (PathBuf, PathBuf) {
        let home = self.dir.path().join(name);
        if !home.exists() {
            std::fs::create_dir(&home).unwrap();
        }
        let more = format!("node = \"{name}\"\nnode_timeout_ms = {}\n", self.node_timeout_ms);
        let config = config(&home, &self.database, &more);
        let delay = format!("delay_ms = {delay_ms}\n");
        let text = std::fs::read_to_string(&config).unwrap().replace("delay_ms = 1\n", &delay);
        std::fs::write(&config, text).unwrap();
        (config, home.join("data"))
    }

    fn start(&self, name: &str, delay_ms: u32) -> Server {
        let (config, data) = self.config(name, delay_ms);
        Server::start(&config, &data, &[]).unwrap()
    }

    /// A server whose agent waits for more where a message ends in `...`.
    fn start_patient(&self, name: &str) -> Server {
        let (config, data) = self.config(name, 1);
        let brain =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/brains/python/echo.py");
        let text = std::fs::read_to_string(&config).unwrap();
        let patient = format!("kind = \"command\"\ncommand = [\"python3\", {brain:?}]\n");
        let text = text.replace(ECHO, &patient);
        std::fs::write(&config, format!("{text}[channels.web]\nwindow_mode = \"off\"\n")).unwrap();
        Server::start(&config, &data, &[]).unwrap()
    }

    pub(crate) fn audit(&self, name: &str) {
        let said = audit(&self.dir.path().join(name).join("database.toml"));
        assert!(said.ends_with("every invariant holds\n"), "{said}");
    }
}

fn session_url(address: &str, person: &Person, what: &str) -> String {
    format!("{address}/v1/sessions/{}{what}", person.session().replace(':', "%3A"))
}

async fn get(client: &reqwest::Client, url: &str) -> Value {
    client.get(url).send().await.unwrap().json().await.unwrap()
}

/// Asks until the session is in this state.
async fn state_is(client: &reqwest::Client, address: &str, person: &Person, wanted: &str) {
    let since = Instant::now();
    loop {
        let session = get(client, &session_url(address, person, "")).await;
        if session["state"] == wanted {
            return;
        }
        assert!(since.elapsed() < LIMIT, "it never becomes {wanted}: {session}");
    }
}

async fn turns(client: &reqwest::Client, address: &str, person: &Person) -> Vec<Value> {
    let turns = get(client, &session_url(address, person, "/turns")).await;
    turns["turns"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_server_answers_whoever_asks_it() {
    let cluster = Cluster::new();
    let servers = [cluster.start("one", 1), cluster.start("two", 1)];
    let client = client();
    let mut people = JoinSet::new();
    for number in 0..4 {
        let (person, client) = (Person::new(&format!("p{number}"), "api"), client.clone());
        let addresses = servers.each_ref().map(|server| server.address.clone());
        people.spawn(async move {
            for round in 0..6 {
                let address = &addresses[(round + number) % 2];
                person.write(&client, address, 3).await;
                person.settle(&client, address).await;
            }
            for address in &addresses {
                compare(&client, address, &person).await;
            }
            for turn in turns(&client, &addresses[0], &person).await {
                assert_eq!((&turn["status"], &turn["attempt"]), (&json!("complete"), &json!(1)));
            }
        });
    }
    while let Some(done) = people.join_next().await {
        done.unwrap();
    }
    drop(servers);
    cluster.audit("one");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_to_another_server_joins_the_turn_that_runs() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.start_patient("one"), cluster.start_patient("two"));
    let (client, person) = (client(), Person::new("ann", "web"));
    // The turn runs until something joins it.
    let first =
        json!({"customer_id": "ann", "channel": "web", "id": "first", "message": "well..."});
    let answer = client.post(format!("{}/v1/chat", one.address)).json(&first).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    person.acknowledged.lock().unwrap().insert("first".to_owned());
    state_is(&client, &two.address, &person, "processing").await;
    person.settle(&client, &two.address).await;
    for server in [&one, &two] {
        compare(&client, &server.address, &person).await;
    }
    let turns = turns(&client, &one.address, &person).await;
    assert_eq!(turns.len(), 1, "it joined: {turns:?}");
    assert_eq!(turns[0]["attempt"], 1, "nothing was begun twice: {turns:?}");
    drop((one, two));
    cluster.audit("two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_stopped_at_whichever_server() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.start("one", 60_000), cluster.start("two", 60_000));
    let (client, person) = (client(), Person::new("ann", "api"));
    person.write(&client, &one.address, 1).await;
    state_is(&client, &two.address, &person, "processing").await;
    let stopped = client.post(session_url(&two.address, &person, "/stop")).send().await.unwrap();
    assert_eq!(stopped.status(), 200, "{}", stopped.text().await.unwrap());
    state_is(&client, &one.address, &person, "idle").await;
    // The run ended where it ran: there is room for the next one at once.
    let metric = "turnkeep_slots_used{agent=\"default\"} 0";
    let since = Instant::now();
    loop {
        let metrics = client.get(format!("{}/metrics", one.address)).send().await.unwrap();
        if metrics.text().await.unwrap().lines().any(|line| line == metric) {
            break;
        }
        assert!(since.elapsed() < LIMIT, "the run goes on");
    }
    drop((one, two));
    cluster.audit("one");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_server_had_another_one_finishes() {
    let cluster = Cluster::of_mortals();
    let (mut one, two) = (cluster.start("one", 500), cluster.start("two", 500));
    let (client, person) = (client(), Person::new("ann", "api"));
    let others: Vec<Arc<Person>> =
        (0..5).map(|number| Person::new(&format!("p{number}"), "api")).collect();
    for person in others.iter().chain([&person]) {
        person.write(&client, &one.address, 2).await;
    }
    one.kill();
    // Nobody wakes anybody: the server that lives finds out by itself.
    for person in others.iter().chain([&person]) {
        state_is(&client, &two.address, person, "idle").await;
        compare(&client, &two.address, person).await;
    }
    person.settle(&client, &two.address).await;
    drop(two);
    cluster.audit("two");
}

/// Reads an event stream until an event of this name.
async fn until(stream: &mut reqwest::Response, name: &str) -> String {
    let mut text = String::new();
    let wanted = format!("event: {name}\n");
    let read = async {
        while !text.contains(&wanted) {
            let chunk = stream.chunk().await.unwrap().expect("the stream goes on");
            text.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    tokio::time::timeout(LIMIT, read).await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_at_one_server_sees_what_happens_at_another() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.start("one", 50), cluster.start("two", 50));
    let (client, person) = (client(), Person::new("ann", "api"));
    let mut stream =
        client.get(session_url(&two.address, &person, "/events")).send().await.unwrap();
    assert_eq!(stream.status(), 200);
    for _ in 0..3 {
        person.settle(&client, &one.address).await;
        let seen = until(&mut stream, "turn.completed").await;
        assert!(seen.contains("turn.processing"), "{seen}");
    }
    drop((one, two));
}

/// The metrics of a server, once this stands in them.
async fn told_until(client: &reqwest::Client, server: &Server, line: &str) -> String {
    let since = Instant::now();
    loop {
        let told = client.get(format!("{}/metrics", server.address)).send().await.unwrap();
        let told = told.text().await.unwrap();
        if told.contains(line) {
            return told;
        }
        assert!(since.elapsed() < LIMIT, "{line}{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_talks_to_nobody_does_nothing_for_all() {
    let cluster = Cluster::new();
    let start = |name: &str, words: &[&str]| {
        let (config, data) = cluster.config(name, 1);
        Server::start_as(words, &config, &data, &[]).unwrap()
    };
    // The worker comes first, so that it could have all of it.
    let worker = start("worker", &["worker"]);
    let gateway = start("gateway", &["serve", "--role", "gateway"]);
    let (client, person) = (client(), Person::new("ann", "api"));
    person.settle(&client, &gateway.address).await;
    for (server, leads, runs) in [(&worker, 0, "no"), (&gateway, 1, "yes")] {
        let seen = format!("turnkeep_cluster_nodes{{runs=\"{runs}\"}} 1\n");
        let metrics = told_until(&client, server, &seen).await;
        for lease in ["schedule", "listeners", "switchboard"] {
            let expect = format!("turnkeep_cluster_leads{{lease=\"{lease}\"}} {leads}\n");
            assert!(metrics.contains(&expect), "{expect}{metrics}");
        }
    }
    let board = client.get(format!("{}/v1/switchboard", gateway.address)).send().await.unwrap();
    assert_eq!(board.status(), 200, "a worker keeps it: {}", board.text().await.unwrap());
    let (config, _) = cluster.config("gateway", 1);
    let doctor = move || crate::database::run(&config, &["doctor"]);
    let told = tokio::task::spawn_blocking(doctor).await.unwrap();
    assert!(told.contains("in are worker (") && told.contains(", runs no turns)"), "{told}");
    drop((worker, gateway));
    cluster.audit("gateway");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_keep_the_switchboard_names_the_server_that_does() {
    let cluster = Cluster::of_mortals();
    let (one, two) = (cluster.start("one", 1), cluster.start("two", 1));
    let kept = |by: &str| {
        format!("the server \"{by}\" keeps the switchboard of all that share this database")
    };
    let (config, _) = cluster.config("two", 1);
    let board = move || crate::database::try_run(&config, &["sessions", "board"]);
    let asked = tokio::task::spawn_blocking(board.clone()).await.unwrap();
    assert!(asked.1.contains(&kept("one")), "{asked:?}");
    assert_eq!(asked.2, Some(1));
    drop(one);
    // It is put out, and nobody has to be asked again elsewhere.
    let since = Instant::now();
    loop {
        let (said, complained, code) = tokio::task::spawn_blocking(board.clone()).await.unwrap();
        if code == Some(0) {
            break;
        }
        let known = [kept("one"), kept("two"), "no server that shares".to_owned()];
        assert!(known.iter().any(|why| complained.contains(why)), "{said}{complained}");
        assert!(since.elapsed() < LIMIT, "{complained}");
    }
    drop(two);
}

/// Somebody types a command where another server's data folder is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_under_the_name_of_a_server_leaves_that_server_alone() {
    let cluster = Cluster::new();
    let named = |folder: &str| {
        let (config, data) = cluster.config(folder, 1);
        let text = std::fs::read_to_string(&config).unwrap();
        let other = text.replace(&format!("node = \"{folder}\""), "node = \"same\"");
        assert_ne!(text, other);
        std::fs::write(&config, other).unwrap();
        (config, data)
    };
    let ((config, data), (elsewhere, _)) = (named("one"), named("two"));
    let server = Server::start(&config, &data, &[]).unwrap();
    let (client, person) = (client(), Person::new("ann", "api"));
    person.settle(&client, &server.address).await;
    let command = move || crate::database::run(&elsewhere, &["keys", "list"]);
    tokio::task::spawn_blocking(command).await.unwrap();
    // A server that was put out writes nothing any more.
    person.settle(&client, &server.address).await;
    compare(&client, &server.address, &person).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_misses_whoever_runs_turns() {
    let cluster = Cluster::new();
    let (config, data) = cluster.config("gateway", 1);
    let words = ["serve", "--role", "gateway"];
    let _gateway = Server::start_as(&words, &config, &data, &[]).unwrap();
    let doctor = move || crate::database::try_run(&config, &["doctor"]);
    let (told, _, code) = tokio::task::spawn_blocking(doctor).await.unwrap();
    assert!(told.contains("no server that is in runs turns"), "{told}");
    assert_eq!(code, Some(1));
}

/// A folder for a key that was made at one server.
fn make_key(config: &Path) -> String {
    crate::database::run(config, &["keys", "create", "--tenant", "default", "--scope", "read"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_made_at_one_server_opens_the_others() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.start("one", 1), cluster.start("two", 1));
    let (config, _) = cluster.config("one", 1);
    let made = tokio::task::spawn_blocking(move || make_key(&config)).await.unwrap();
    let key = made.lines().find_map(|line| line.split_whitespace().find(|w| w.starts_with("tk_")));
    let key = key.unwrap_or_else(|| panic!("{made}")).to_owned();
    let client = client();
    let since = Instant::now();
    for server in [&one, &two] {
        loop {
            let asked = client.get(format!("{}/v1/sessions", server.address)).bearer_auth(&key);
            let without = client.get(format!("{}/v1/sessions", server.address));
            let codes = [asked, without]
                .map(|request| async move { request.send().await.unwrap().status().as_u16() });
            let [with, without] = codes;
            if (with.await, without.await) == (200, 401) {
                break;
            }
            assert!(since.elapsed() < LIMIT, "it does not open {}", server.address);
        }
    }
}
