//! A database of yesterday: under servers that run, and under one that woke up late.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use crate::crash_kit::{Person, Server, client, compare};
use crate::database::{audit, config};
use crate::{LIMIT, postgres_server, ready_is};

/// Servers on one database, each with a folder of its own.
struct Place {
    dir: tempfile::TempDir,
    database: postgres_server::Server,
}

/// What people were told until the backup.
type Told = Vec<BTreeSet<String>>;

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), database: postgres_server::Server::start("") }
    }

    fn home(&self, name: &str) -> PathBuf {
        let home = self.dir.path().join(name);
        std::fs::create_dir_all(&home).unwrap();
        home
    }

    /// Starts a server on this database.
    fn start(&self, name: &str, base: &str) -> Server {
        let home = self.home(name);
        let config = config(&home, &self.database, &format!("node = \"{name}\"\n"));
        let secret = home.join("postgres.url");
        let url = std::fs::read_to_string(&secret).unwrap();
        std::fs::write(&secret, url.replace("/postgres\n", &format!("/{base}\n"))).unwrap();
        Server::start(&config, &home.join("data"), &[]).unwrap()
    }

    /// What the log of a server says.
    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.home(name).join("database.log")).unwrap()
    }

    /// Runs one of the database's programs on it; what it says.
    fn run(&self, program: &str, words: &[&str]) -> String {
        let mut command = Command::new(self.database.program(program));
        command.arg("-h").arg(self.database.folder()).args(["-U", "turnkeep"]).args(words);
        let told = command.output().unwrap();
        let complained = String::from_utf8_lossy(&told.stderr);
        assert!(told.status.success(), "{program} {words:?}: {complained}");
        String::from_utf8_lossy(&told.stdout).trim().to_owned()
    }

    /// Replaces all files of the database while it is down, as who puts a snapshot back does.
    fn copy_while_down(&self, from: &str, to: &str) {
        let folder = self.database.folder();
        let (from, to) = (folder.join(from), folder.join(to));
        self.database.stop();
        if to.exists() {
            std::fs::remove_dir_all(&to).unwrap();
        }
        assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
        self.database.begin();
    }

    fn audit(&self, name: &str) {
        let said = audit(&self.home(name).join("database.toml"));
        assert!(said.ends_with("every invariant holds\n"), "{said}");
    }
}

fn signal(server: &Server, name: &str) {
    let pid = server.child.id().to_string();
    assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
}

/// How a server ends by itself.
async fn ended(server: &mut Server) -> Option<i32> {
    let since = Instant::now();
    loop {
        if let Some(status) = server.child.try_wait().unwrap() {
            return status.code();
        }
        assert!(since.elapsed() < LIMIT, "it goes on");
        tokio::task::yield_now().await;
    }
}

/// That a server ended because of what it found in its database.
async fn ends_for_that(place: &Place, name: &str, server: &mut Server) {
    assert_eq!(ended(server).await, Some(75), "it is for whoever starts it to start it again");
    let log = place.log(name);
    assert!(log.contains("the database was put back to an older state"), "{log}");
    assert!(!log.contains("others of the cluster put this server out"), "{log}");
}

fn told(people: &[Arc<Person>]) -> Told {
    people.iter().map(|person| person.acknowledged.lock().unwrap().clone()).collect()
}

/// A message that was lost with what came after the backup is sent again under its id: it is new.
async fn send_again(client: &reqwest::Client, server: &Server, person: &Person, kept: usize) {
    let number = kept + 1;
    let id = format!("{}-{number}", person.name);
    let body = json!({"customer_id": person.name, "channel": person.channel, "id": id,
                      "message": format!("text {number}")});
    let url = format!("{}/v1/chat", server.address);
    let answer = client.post(url).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    let answer: Value = answer.json().await.unwrap();
    assert_ne!(answer["duplicate"], true, "{answer}");
    person.acknowledged.lock().unwrap().insert(id);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_whose_database_is_put_back_end_and_begin_anew_with_what_it_has() {
    let place = Place::new();
    let mut servers = [place.start("one", "postgres"), place.start("two", "postgres")];
    let people: Vec<_> = (0..4).map(|n| Person::new(&format!("p{n}"), "api")).collect();
    let before = client();
    for person in &people {
        for server in &servers {
            person.settle(&before, &server.address).await;
        }
    }
    let kept = told(&people);
    place.copy_while_down("data", "yesterday");
    let late = Person::new("late", "api");
    for server in &servers {
        ready_is(&before, &server.address, 200).await;
        for person in people.iter().chain([&late]) {
            person.settle(&before, &server.address).await;
        }
    }
    place.copy_while_down("yesterday", "data");
    for (name, server) in ["one", "two"].iter().zip(&mut servers) {
        ends_for_that(&place, name, server).await;
    }
    let servers = [place.start("one", "postgres"), place.start("two", "postgres")];
    let after = client();
    for (person, kept) in people.iter().zip(kept) {
        let count = kept.len();
        *person.acknowledged.lock().unwrap() = kept;
        send_again(&after, &servers[0], person, count).await;
        for server in &servers {
            person.settle(&after, &server.address).await;
        }
        compare(&after, &servers[0].address, person).await;
    }
    drop(servers);
    place.audit("two");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wakes_up_after_a_restore_writes_nothing_though_its_number_was_given_again() {
    let place = Place::new();
    place.run("psql", &["-d", "postgres", "-c", "CREATE DATABASE prod"]);
    let dump = place.home("backup").join("prod.dump");
    let dump = dump.to_str().unwrap();
    let mut one = place.start("one", "prod");
    let (before, ann) = (client(), Person::new("ann", "api"));
    ann.settle(&before, &one.address).await;
    let people = [ann];
    let kept = told(&people).remove(0);
    place.run("pg_dump", &["-d", "prod", "-Fc", "-f", dump]);
    let mut two = place.start("two", "prod");
    let [ann] = &people;
    ann.settle(&before, &two.address).await;
    let number = |name: &str| {
        let sql = format!("SELECT max(epoch) FROM turnkeep.nodes WHERE name = '{name}'");
        place.run("psql", &["-d", "prod", "-Atc", &sql])
    };
    let given = number("two");
    signal(&two, "STOP");
    signal(&one, "TERM");
    assert_eq!(ended(&mut one).await, Some(0));
    place.run("psql", &["-d", "postgres", "-c", "DROP DATABASE prod WITH (FORCE)"]);
    place.run("psql", &["-d", "postgres", "-c", "CREATE DATABASE prod"]);
    place.run("pg_restore", &["-d", "prod", dump]);
    place.audit("one");
    let one = place.start("one", "prod");
    assert_eq!(number("one"), given, "this is what the test is about");
    signal(&two, "CONT");
    ends_for_that(&place, "two", &mut two).await;
    let after = client();
    let count = kept.len();
    *ann.acknowledged.lock().unwrap() = kept;
    send_again(&after, &one, ann, count).await;
    ann.settle(&after, &one.address).await;
    compare(&after, &one.address, ann).await;
    drop(one);
    place.audit("one");
}
