//! The real binary moves everything from SQLite into PostgreSQL and back, is killed while it does,
//! and refuses what it must.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use crate::crash_kit::{Person, Server, client, compare};
use crate::{CONFIG, database, postgres_server};

/// A data folder, a database, and a configuration for each.
struct Move {
    dir: tempfile::TempDir,
    database: postgres_server::Server,
    /// Everything in the data folder.
    here: PathBuf,
    /// Everything in the database.
    there: PathBuf,
}

impl Move {
    fn new() -> Self {
        let (dir, database) = (tempfile::tempdir().unwrap(), postgres_server::Server::start(""));
        let here = crate::config(dir.path());
        let there = database::config(dir.path(), &database, "node_timeout_ms = 3000\n");
        Self { dir, database, here, there }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A command's configuration and data folder, and what comes besides.
    fn command(&self, config: &Path, data: &Path, command: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_turnkeep"));
        program.args(command).arg("--config").arg(config).arg("--data-dir").arg(data);
        program
    }

    /// From the data folder into the database.
    fn up(&self, more: &[&str], env: &[(&str, &str)]) -> Said {
        let mut program = self.command(&self.here, &self.data(), &["migrate"]);
        Said::of(program.arg("--to").arg(&self.there).args(more).envs(env.iter().copied()))
    }

    /// From the database into a data folder.
    fn down(&self, data: &Path, more: &[&str], env: &[(&str, &str)]) -> Said {
        let mut program = self.command(&self.there, &self.data(), &["migrate"]);
        Said::of(program.arg("--to-data-dir").arg(data).args(more).envs(env.iter().copied()))
    }

    fn run(&self, config: &Path, data: &Path, command: &[&str]) -> String {
        Said::of(&mut self.command(config, data, command)).good()
    }

    /// What a server says that is refused.
    fn refused(&self, config: &Path, data: &Path) -> String {
        let mut program = self.command(config, data, &["serve", "--listen", "127.0.0.1:0"]);
        Said::of(&mut program).bad()
    }

    fn serve(&self, config: &Path, data: &Path) -> Server {
        let server = Server::start(config, data, &[]);
        server.unwrap_or_else(|| {
            panic!("{:?}", std::fs::read_to_string(config.with_extension("log")))
        })
    }
}

/// What a command said, what it complained of, and how it ended.
#[derive(Debug)]
struct Said {
    out: String,
    complained: String,
    code: Option<i32>,
}

impl Said {
    fn of(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { out: text(stdout), complained: text(stderr), code: status.code() }
    }

    fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.complained);
        self.out
    }

    /// What it complained of, which failed.
    fn bad(self) -> String {
        assert_eq!(self.code, Some(1), "{}{}", self.out, self.complained);
        self.complained
    }
}

/// People who were answered, and some things that stand beside conversations.
async fn life(store: &Move, people: &[Arc<Person>]) {
    let data = store.data();
    let server = store.serve(&store.here, &data);
    let client = client();
    for person in people {
        person.write(&client, &server.address, 5).await;
        person.settle(&client, &server.address).await;
    }
    let run = |command: &[&str]| store.run(&store.here, &data, command);
    run(&["pair", "new", "--user", "anna", "--trust", "familiar"]);
    run(&["guard", "restrict", "mallory", "--reason", "insults"]);
    let session = people[0].session();
    let cron = ["cron", "add", "weekly", "--schedule", "0 7 * * 1", "--zone", "UTC", "--paused"];
    run(&[&cron[..], &["--text", "hello", "--session", &session]].concat());
    run(&["sessions", "rename", &session, "first"]);
    drop(server);
}

/// Messages that an agent has who doesn't come to an end; then the power goes.
async fn open_turns(store: &Move, people: &[Arc<Person>]) {
    let slow = store.dir.path().join("slow.toml");
    std::fs::write(&slow, CONFIG.replace("delay_ms = 1\n", "delay_ms = 3600000\n")).unwrap();
    let mut server = store.serve(&slow, &store.data());
    let client = client();
    for person in people {
        person.write(&client, &server.address, 3).await;
    }
    server.kill();
}

/// Whoever was told that a message was taken finds it answered once.
async fn all_are_answered(server: &Server, people: &[Arc<Person>]) {
    let client = client();
    for person in people {
        person.settle(&client, &server.address).await;
        compare(&client, &server.address, person).await;
    }
}

fn people(number: usize) -> Vec<Arc<Person>> {
    (0..number).map(|n| Person::new(&format!("p{n}"), "api")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn open_turns_are_answered_where_they_went_and_where_they_came_back_to() {
    let (store, people) = (Move::new(), people(4));
    let (data, back) = (store.data(), store.dir.path().join("back"));
    life(&store, &people).await;
    open_turns(&store, &people).await;
    let said = store.up(&[], &[]).good();
    assert!(said.contains(" rows of all tables together, the same on both sides\n"), "{said}");
    for side in ["source", "target"] {
        let counts = "which of these rows counts sessions and journal entries:";
        assert!(said.contains(&format!("audit of the {side}, {counts}\n")), "{said}");
    }
    assert_eq!(said.matches("every invariant holds").count(), 2, "{said}");
    assert!(said.contains("12 open"), "{said}");
    assert!(said.contains("data_dir"), "what stays is told: {said}");
    let said = store.refused(&store.here, &data);
    assert!(said.contains("was moved to the schema turnkeep of "), "{said}");
    assert!(said.contains("`turnkeep migrate --undo`"), "{said}");
    let mut server = store.serve(&store.there, &data);
    all_are_answered(&server, &people).await;
    for (command, expect) in [
        (&["pair", "list"][..], "anna"),
        (&["guard", "list"], "mallory"),
        (&["cron", "list"], "weekly"),
        (&["sessions", "board"], "first"),
    ] {
        let said = store.run(&store.there, &data, command);
        assert!(said.contains(expect), "{command:?}: {said}");
    }
    server.kill();
    open_turns_in_the_database(&store, &people).await;
    let said = store.down(&back, &[], &[]).good();
    assert_eq!(said.matches("every invariant holds").count(), 2, "{said}");
    let said = store.refused(&store.there, &data);
    assert!(said.contains("was moved to the data folder "), "{said}");
    let server = store.serve(&store.here, &back);
    all_are_answered(&server, &people).await;
    assert!(store.run(&store.here, &back, &["cron", "list"]).contains("weekly"));
    drop(server);
    let said = store.run(&store.here, &back, &["audit"]);
    assert!(said.ends_with("every invariant holds\n"), "{said}");
    // Whoever knows what they do goes back to the database as it was.
    let said = store.run(&store.there, &data, &["migrate", "--undo"]);
    assert!(said.contains("see that none starts on the data folder"), "{said}");
    drop(store.serve(&store.there, &data));
}

/// The same as [`open_turns`], with everything in the database.
async fn open_turns_in_the_database(store: &Move, people: &[Arc<Person>]) {
    let slow = store.dir.path().join("slow-database.toml");
    let config = std::fs::read_to_string(&store.there).unwrap();
    std::fs::write(&slow, config.replace("delay_ms = 1\n", "delay_ms = 3600000\n")).unwrap();
    let mut server = store.serve(&slow, &store.data());
    let client = client();
    for person in people {
        person.write(&client, &server.address, 3).await;
    }
    server.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_is_killed_goes_on_where_it_stopped() {
    let (store, people) = (Move::new(), people(3));
    let (data, back) = (store.data(), store.dir.path().join("back"));
    life(&store, &people).await;
    open_turns(&store, &people).await;
    // After so many pages each time: in the middle of tables and between them.
    for pages in ["1", "2", "9", "16"] {
        let kill = format!("migrate.page:{pages}");
        let said = store.up(&["--rows", "4"], &[("TURNKEEP_KILL_AT", &kill)]);
        assert_eq!(said.code, None, "it was killed: {said:?}");
        let said = store.refused(&store.here, &data);
        assert!(said.contains("is being moved to the schema turnkeep of "), "{said}");
        let said = store.refused(&store.there, &data);
        assert!(said.contains("goes on where it stopped"), "{said}");
        let said = Said::of(&mut store.command(&store.there, &data, &["audit"])).bad();
        assert!(said.contains("is being filled from the data folder "), "{said}");
    }
    let said = store.up(&["--rows", "4"], &[("TURNKEEP_KILL_AT", "migrate.done:1")]);
    assert_eq!(said.code, None, "{said:?}");
    assert!(store.refused(&store.here, &data).contains("was moved to"), "not on both");
    assert!(store.refused(&store.there, &data).contains("not complete"), "on neither");
    store.up(&[], &[]).good();
    let server = store.serve(&store.there, &data);
    all_are_answered(&server, &people).await;
    drop(server);
    for pages in ["3", "11", "30"] {
        let kill = format!("migrate.page:{pages}");
        let said = store.down(&back, &["--rows", "4"], &[("TURNKEEP_KILL_AT", &kill)]);
        assert_eq!(said.code, None, "{said:?}");
        assert!(store.refused(&store.here, &back).contains("goes on where it stopped"));
        assert!(store.refused(&store.there, &data).contains("is being moved to"));
    }
    store.down(&back, &[], &[]).good();
    let server = store.serve(&store.here, &back);
    all_are_answered(&server, &people).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_moved_is_refused_with_the_reason() {
    let (store, people) = (Move::new(), people(1));
    let data = store.data();
    let check = |said: Said, expect: &str| {
        let said = said.bad();
        assert!(said.contains(expect), "{expect:?} is not in: {said}");
    };
    check(store.up(&[], &[]), "there is no Turnkeep database");
    let mut server = store.serve(&store.here, &data);
    let client = client();
    people[0].settle(&client, &server.address).await;
    check(store.up(&[], &[]), "another Turnkeep (process ");
    server.kill();
    // Of the same kind.
    let mut same = store.command(&store.here, &data, &["migrate"]);
    let same = same.arg("--to-data-dir").arg(store.dir.path().join("other"));
    check(Said::of(same), "`turnkeep backup`");
    check(store.down(&store.dir.path().join("other"), &[], &[]), "has no tables");
    assert!(!store.dir.path().join("other").exists(), "no file is made for nothing");
    // Something is there, and then somebody.
    let elsewhere = store.dir.path().join("elsewhere");
    let mut other = store.serve(&store.there, &elsewhere);
    check(store.up(&[], &[]), "a server has the database (");
    people[0].settle(&client, &other.address).await;
    other.kill();
    check(store.up(&[], &[]), "is not empty, its table sessions has rows");
    // It says that it is being moved as soon as it might be; nothing was, so it isn't.
    drop(store.serve(&store.here, &data));
    check(store.down(&data, &[], &[]), "is not empty, its table sessions has rows");
    check(
        Said::of(&mut store.command(&store.here, &data, &["migrate", "--undo"])),
        "there is nothing to undo",
    );
    let wrong = store.dir.path().join("wrong.toml");
    let text = std::fs::read_to_string(&store.there).unwrap();
    std::fs::write(&wrong, text.replace("schema", "x").replace("postgres.url", "nobody.url"))
        .unwrap();
    let url = store.dir.path().join("nobody.url");
    std::fs::write(&url, "postgres://turnkeep:secret@%2Fnowhere/postgres\n").unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&url, private).unwrap();
    let mut nobody = store.command(&store.here, &data, &["migrate"]);
    let said = Said::of(nobody.arg("--to").arg(&wrong)).bad();
    assert!(said.contains("can't be reached"), "{said}");
    assert!(!said.contains("secret"), "{said}");
    drop(store.database);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_another_move_began_is_refused() {
    let (store, people) = (Move::new(), people(1));
    let (data, other) = (store.data(), store.dir.path().join("other"));
    let client = client();
    for data in [&data, &other] {
        let server = store.serve(&store.here, data);
        people[0].settle(&client, &server.address).await;
    }
    let said = store.up(&[], &[("TURNKEEP_KILL_AT", "migrate.page:2")]);
    assert_eq!(said.code, None, "{said:?}");
    let mut second = store.command(&store.here, &other, &["migrate"]);
    let said = Said::of(second.arg("--to").arg(&store.there)).bad();
    assert!(
        said.contains("was begun to be filled by another move, from the data folder"),
        "{said}"
    );
    // The first one is given up, and begun once more: what is there is no more of use.
    store.run(&store.here, &data, &["migrate", "--undo"]);
    drop(store.serve(&store.here, &data));
    let said = store.up(&[], &[]).bad();
    assert!(said.contains("was begun to be filled by another move"), "{said}");
    // A format of which this program knows nothing.
    let file = rusqlite::Connection::open(data.join("turnkeep.db")).unwrap();
    file.execute_batch("CREATE TABLE wishes (what TEXT)").unwrap();
    drop(file);
    let said = store.up(&[], &[]).bad();
    assert!(said.contains("doesn't know (wishes.what)"), "{said}");
    let file = rusqlite::Connection::open(data.join("turnkeep.db")).unwrap();
    file.execute_batch("PRAGMA user_version = 1000").unwrap();
    drop(file);
    let said = store.up(&[], &[]).bad();
    assert!(said.contains("has format 1000"), "{said}");
}
