//! Two people who have the same parked part sent again, at two servers and at the same moment.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::task::block_in_place;

use crate::cluster::Cluster;
use crate::crash_kit::{Person, Server, client};
use crate::{LIMIT, postgres_server};

/// Everybody's sessions, held by a transaction of the test's own: they can be read, and whoever writes
/// waits.
struct Hold {
    psql: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Hold {
    fn new(database: &postgres_server::Server) -> Self {
        let mut psql = Command::new(database.program("psql"))
            .args(["-XqAt", "-d", &database.url()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (psql.stdin.take().unwrap(), psql.stdout.take().unwrap());
        let mut hold = Self { psql, input, output: BufReader::new(output) };
        hold.ask("BEGIN; SELECT key FROM turnkeep.sessions ORDER BY key FOR UPDATE;");
        hold
    }

    /// The last line of what it answers.
    fn ask(&mut self, sql: &str) -> String {
        writeln!(self.input, "{sql}\n\\echo done").unwrap();
        let mut last = String::new();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "it ends: {sql}");
            match line.trim() {
                "done" => return last,
                line => line.clone_into(&mut last),
            }
        }
    }

    /// Until so many wait for it.
    fn is_awaited(&mut self, by: u32) {
        let since = Instant::now();
        let waiting = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted;";
        while self.ask(waiting).parse::<u32>().unwrap() < by {
            assert!(since.elapsed() < LIMIT, "nobody waits");
        }
    }

    fn let_go(mut self) {
        self.ask("COMMIT;");
        drop(self.input);
        self.psql.wait().unwrap();
    }
}

async fn get(client: &reqwest::Client, url: &str) -> Value {
    client.get(url).send().await.unwrap().json().await.unwrap()
}

/// What stands in a list once so many do.
async fn listed(client: &reqwest::Client, url: &str, wanted: usize) -> Vec<Value> {
    let since = Instant::now();
    loop {
        let page = get(client, url).await;
        let rows = page["deliveries"].as_array().unwrap();
        if rows.len() == wanted {
            return rows.clone();
        }
        assert!(since.elapsed() < LIMIT, "{page}");
    }
}

/// Both ask, and have read what stands there, before anything can be written.
async fn both_ask(
    client: &reqwest::Client,
    cluster: &Cluster,
    servers: [&Server; 2],
    part: &Value,
) -> Vec<(u16, Value)> {
    let mut hold = block_in_place(|| Hold::new(&cluster.database));
    let key = part["session"].as_str().unwrap().replace(':', "%3A");
    let place = format!("{key}/deliveries/{}/{}/resend", part["reply"], part["part"]);
    let asked = servers.map(|server| {
        let url = format!("{}/v1/sessions/{place}", server.address);
        tokio::spawn(client.post(url).send())
    });
    block_in_place(|| {
        hold.is_awaited(2);
        hold.let_go();
    });
    let mut answers = Vec::new();
    for answer in asked {
        let answer = answer.await.unwrap().unwrap();
        answers.push((answer.status().as_u16(), answer.json().await.unwrap()));
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_send_a_part_again_at_two_servers_one_does() {
    let cluster = Cluster::new();
    let spool = cluster.dir.path().join("spool").join("sms.jsonl");
    let start = |name: &str| {
        let (config, data) = cluster.config(name, 1);
        let sms = format!("window_ms = 0\ndelivery_tries_max = 1\nspool = {spool:?}\n");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, format!("{text}[channels.sms]\n{sms}")).unwrap();
        Server::start(&config, &data, &[]).unwrap()
    };
    let servers = [start("one"), start("two")];
    let (one, two) = (&servers[0], &servers[1]);
    let client = client();
    for number in 0..6 {
        let person = Person::new(&format!("p{number}"), "sms");
        person.settle(&client, &servers[number % 2].address).await;
    }
    // The folder of the spool is not there yet.
    let dead = listed(&client, &format!("{}/v1/deliveries?state=dead", one.address), 6).await;
    std::fs::create_dir(spool.parent().unwrap()).unwrap();
    for part in &dead {
        let mut answers = both_ask(&client, &cluster, [one, two], part).await;
        answers.sort_by_key(|(status, _)| *status);
        let [(first, _), (second, told)] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!((*first, *second), (200, 409), "{answers:?}");
        assert_eq!(told["type"], "urn:turnkeep:problem:not-parked", "{told}");
        let detail = told["detail"].as_str().unwrap();
        assert!(detail.starts_with("somebody else was first: the part is "), "{detail}");
        let key = part["session"].as_str().unwrap().replace(':', "%3A");
        let own = format!("{}/v1/sessions/{key}/deliveries", two.address);
        let since = Instant::now();
        loop {
            let row = listed(&client, &own, 1).await.remove(0);
            if row["state"] == "sent" {
                assert_eq!(row["tries"], 2, "{row}");
                break;
            }
            assert!(since.elapsed() < LIMIT, "{row}");
        }
    }
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for line in std::fs::read_to_string(&spool).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["attempt"], json!(2), "{line}");
        *times.entry(line["idempotency_key"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let once = dead.iter().map(|part| (part["id"].as_str().unwrap().to_owned(), 1)).collect();
    assert_eq!(times, once);
    drop(servers);
    cluster.audit("one");
}
