//! One Signal account and several servers: one of them hears it and answers there, whoever runs the
//! other turns, and when it dies another one does.

use std::io::Write as _;
use std::process::Command;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::crash_kit::{Server, client};
use crate::household::{Household, NUMBER, Phone, repository};

/// Servers of one database, and people with phones.
struct Street {
    cluster: Cluster,
    home: Household,
}

impl Street {
    fn new(cluster: Cluster) -> Self {
        Self { cluster, home: Household::new("") }
    }

    /// A server of this role whose agent takes so long; with `hears` the account is its, too, in the
    /// folder that all have.
    fn start(&self, name: &str, role: &[&str], (hears, delay_ms): (bool, u32)) -> Server {
        let (config, data) = self.cluster.config(name, delay_ms);
        let daemon = repository("crates/channels/tests/signal/daemon.py");
        let keys = self.home.data().join("signal");
        let signal = format!(
            "[signal]\nnumber = \"{NUMBER}\"\ncommand = [\"python3\", {daemon:?}]\n\
             config_dir = {keys:?}\nunknown = \"public\"\n"
        );
        let more =
            format!("[channels.signal]\nwindow_ms = 0\n{}", if hears { &signal } else { "" });
        let mut file = std::fs::File::options().append(true).open(&config).unwrap();
        file.write_all(more.as_bytes()).unwrap();
        let phone = self.home.path("phone").display().to_string();
        Server::start_as(role, &config, &data, &[("SIGNAL_STANDIN_DIR", &phone)]).unwrap()
    }

    fn is_handed_over(&self) -> bool {
        let phone = |name: &str| self.home.path("phone").join(name);
        let marked = std::fs::read_to_string(phone("inject.at")).unwrap_or_default();
        let all = std::fs::metadata(phone("inject.jsonl")).unwrap().len();
        marked.trim() == all.to_string()
    }

    async fn answered(&self, phone: Phone, texts: &[&str]) {
        let expect: Vec<String> = texts.iter().map(|text| format!("echo: {text}")).collect();
        let what = format!("{phone:?} gets {expect:?}");
        self.home.until(&what, async || self.home.got(phone).len() >= expect.len()).await;
        assert_eq!(self.home.got(phone), expect);
    }
}

async fn get(server: &Server, path: &str) -> Value {
    let answer = client().get(format!("{}{path}", server.address)).send().await.unwrap();
    answer.json().await.unwrap()
}

async fn numbers(server: &Server) -> String {
    let answer = client().get(format!("{}/metrics", server.address)).send().await.unwrap();
    answer.text().await.unwrap()
}

/// How the account is at this server.
async fn hearing(server: &Server) -> String {
    let said = get(server, "/v1/signal").await;
    said["accounts"][0]["receiving"]["state"].as_str().unwrap_or("none").to_owned()
}

/// Somebody else writes into the same chat, by the API.
async fn writes_at(server: &Server, phone: Phone, text: &str) -> Value {
    let body = json!({"channel": "signal", "customer_id": phone.uuid(), "message": text});
    let url = format!("{}/v1/chat?wait=60", server.address);
    client().post(url).json(&body).send().await.unwrap().json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hears_signal_answers_there() {
    let street = Street::new(Cluster::new());
    let one = street.start("one", &["serve"], (true, 1));
    street.home.until("the first one hears", async || hearing(&one).await == "working").await;
    let two = street.start("two", &["serve"], (true, 1));
    let gateway = street.start("gateway", &["serve", "--role", "gateway"], (true, 1));
    let worker = street.start("worker", &["worker"], (false, 1));
    let phones: Vec<Phone> = (0..12).map(Phone).collect();
    let all: Vec<(Phone, &str)> = phones.iter().map(|phone| (*phone, "hello")).collect();
    street.home.say(&all);
    for phone in &phones {
        street.answered(*phone, &["hello"]).await;
    }
    street.home.until("the second one knows", async || hearing(&two).await == "elsewhere").await;
    assert_eq!(hearing(&gateway).await, "none", "it runs no turns");
    let [here, waits, apart] = [numbers(&one).await, numbers(&two).await, numbers(&worker).await];
    let lease = "turnkeep_cluster_leads{lease=\"channel signal\"}";
    assert!(here.contains(&format!("{lease} 1\n")) && waits.contains(&format!("{lease} 0\n")));
    assert!(!apart.contains(lease), "it is not to hear");
    let receiving = |told: &str| told.contains("turnkeep_signal_receiving{");
    assert!(receiving(&here) && !receiving(&waits), "nothing is wrong with who waits");
    let groups = get(&two, "/v1/signal/groups").await;
    assert_eq!(groups["detail"], "the server \"one\" hears signal: ask that one", "{groups}");
    // Whoever is asked decides; only the one that hears can send.
    for (place, server) in [&two, &gateway, &one].into_iter().enumerate() {
        let said = writes_at(server, phones[place], "from elsewhere").await;
        assert_eq!(said["status"], "complete", "{said}");
        street.answered(phones[place], &["hello", "from elsewhere"]).await;
    }
    let key = phones[0].session().replace(':', "%3A");
    let deliveries = format!("/v1/sessions/{key}/deliveries");
    let all_sent = async || {
        let parts = get(&two, &deliveries).await;
        parts["deliveries"].as_array().unwrap().iter().all(|part| part["state"] == "sent")
    };
    street.home.until("it is noted that they were sent", all_sent).await;
    drop((one, two, gateway, worker));
    street.cluster.audit("one");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_hears_signal_when_the_first_one_dies() {
    let street = Street::new(Cluster::of_mortals());
    let [ann, bea, cat] = [1, 2, 3].map(Phone);
    // It learns later that somebody hears.
    let worker = street.start("worker", &["worker"], (false, 1));
    let one = street.start("one", &["serve"], (true, 60_000));
    street.home.until("the first one hears", async || hearing(&one).await == "working").await;
    let two = street.start("two", &["serve"], (true, 1));
    street.home.say(&[(ann, "are you there?")]);
    let turns = format!("/v1/sessions/{}/turns", ann.session().replace(':', "%3A"));
    let runs = async || get(&two, &turns).await["turns"][0]["status"] == "processing";
    street.home.until("her turn runs", runs).await;
    // What its signal-cli took off Signal's servers and it never read.
    let pid = one.child.id().to_string();
    assert!(Command::new("kill").args(["-STOP", &pid]).status().unwrap().success());
    street.home.say(&[(bea, "am I heard?")]);
    street.home.until("it is handed over", async || street.is_handed_over()).await;
    // With kill -9; what it started ends with it.
    drop(one);
    street.home.until("the other one hears", async || hearing(&two).await == "working").await;
    street.answered(ann, &["are you there?"]).await;
    street.answered(bea, &["am I heard?"]).await;
    street.home.say(&[(cat, "and me?")]);
    street.answered(cat, &["and me?"]).await;
    drop((two, worker));
    street.cluster.audit("two");
}
