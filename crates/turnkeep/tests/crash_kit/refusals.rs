//! What a server says of a database that is another's, of another version, or that doesn't take its
//! password: what is wrong, where it stands in the configuration, and no secret.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::crash_kit::{Person, Server, client, compare, logged};
use crate::database::{audit, config, run, try_run};
use crate::{LIMIT, postgres_server, ready_is, redis_server};

const RIGHT: &str = "the-right-one";
const WRONG: &str = "the-wrong-one";

/// Runs statements as the database's administrator.
fn sql(database: &postgres_server::Server, statements: &str) {
    let mut psql = Command::new(database.program("psql"));
    psql.arg("-h").arg(database.folder()).args(["-U", "turnkeep", "-d", "postgres", "-qc"]);
    let told = psql.arg(statements).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
}

fn home(dir: &Path, name: &str) -> PathBuf {
    let home = dir.join(name);
    std::fs::create_dir(&home).unwrap();
    home
}

fn log_of(config: &Path) -> String {
    std::fs::read_to_string(config.with_extension("log")).unwrap()
}

/// That no server starts with this configuration; what it says.
fn refused(config: &Path) -> String {
    let data = config.with_file_name("data");
    assert!(Server::start(config, &data, &[]).is_none(), "{}", log_of(config));
    log_of(config)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_dont_meet_in_one_schema() {
    let (dir, database) = (tempfile::tempdir().unwrap(), postgres_server::Server::start(""));
    let configured = |name: &str, more: &str| {
        let more = format!("cluster = \"{name}\"\n{more}");
        config(&home(dir.path(), &format!("{name}{}", more.len())), &database, &more)
    };
    let north = configured("north", "");
    let server = Server::start(&north, &north.with_file_name("data"), &[]).unwrap();
    let (client, person) = (client(), Person::new("ann", "api"));
    person.settle(&client, &server.address).await;
    let south = configured("south", "");
    let said = refused(&south);
    let expect = "the schema belongs to the cluster \"north\", this node is of \"south\"";
    assert!(said.contains(expect) && said.contains("[store]"), "{said}");
    let (told, _, code) = try_run(&south, &["doctor"]);
    assert_eq!(code, Some(1));
    assert!(told.contains(expect), "{told}");
    // The one that was there goes on as if nothing had happened, and alone.
    person.settle(&client, &server.address).await;
    compare(&client, &server.address, &person).await;
    let told = run(&north, &["doctor"]);
    assert_eq!(told.matches(&format!("({})", env!("CARGO_PKG_VERSION"))).count(), 1, "{told}");
    // A schema of its own is enough.
    let south = configured("south", "schema = \"south\"\n");
    let other = Server::start(&south, &south.with_file_name("data"), &[]).unwrap();
    let stranger = Person::new("ann", "api");
    stranger.settle(&client, &other.address).await;
    compare(&client, &other.address, &stranger).await;
    drop((server, other));
    assert!(audit(&north).starts_with("1 sessions, "));
    assert!(audit(&south).starts_with("1 sessions, "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_works_beside_the_next_one_until_that_says_otherwise() {
    let (dir, database) = (tempfile::tempdir().unwrap(), postgres_server::Server::start(""));
    let named =
        |name: &str| config(&home(dir.path(), name), &database, &format!("node = \"{name}\"\n"));
    let (one, two) = (named("one"), named("two"));
    let server = Server::start(&one, &one.with_file_name("data"), &[]).unwrap();
    let (client, person) = (client(), Person::new("ann", "api"));
    person.settle(&client, &server.address).await;
    // The next version was here and added what it needs.
    sql(
        &database,
        "INSERT INTO turnkeep.schema_steps (step, name, by) VALUES (99, 'later', '9.9.9');
         CREATE TABLE turnkeep.later (id bigint PRIMARY KEY);
         ALTER TABLE turnkeep.sessions ADD COLUMN later bigint NOT NULL DEFAULT 0",
    );
    let beside = Server::start(&two, &two.with_file_name("data"), &[]).unwrap();
    for address in [&server.address, &beside.address] {
        person.settle(&client, address).await;
    }
    drop(beside);
    // A later one says that it is too old to take part.
    sql(&database, "UPDATE turnkeep.meta SET value = 99 WHERE name = 'floor'");
    let ours = format!("this one ({}) knows", env!("CARGO_PKG_VERSION"));
    for said in [refused(&two), try_run(&two, &["audit"]).1] {
        assert!(said.contains("written by a newer Turnkeep (9.9.9)"), "{said}");
        assert!(said.contains(&ours), "{said}");
    }
    person.settle(&client, &server.address).await;
    compare(&client, &server.address, &person).await;
}

/// The configuration of a server that comes with this password.
fn with_password(dir: &Path, database: &postgres_server::Server, password: &str) -> PathBuf {
    let name = if password == RIGHT { "right" } else { "wrong" };
    let config = config(&home(dir, name), database, "");
    let socket = database.folder().to_str().unwrap().replace('/', "%2F");
    let url = format!("postgres://app:{password}@{socket}/postgres\n");
    std::fs::write(config.with_file_name("postgres.url"), url).unwrap();
    config
}

/// Has everybody but the administrator show a password.
fn ask_for_passwords(database: &postgres_server::Server) {
    let rules = "local all turnkeep trust\nlocal all all scram-sha-256\n";
    std::fs::write(database.folder().join("data/pg_hba.conf"), rules).unwrap();
    sql(
        database,
        &format!(
            "CREATE ROLE app LOGIN PASSWORD '{RIGHT}'; GRANT CREATE ON DATABASE postgres TO app"
        ),
    );
    sql(database, "SELECT pg_reload_conf()");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_of_the_database_is_named_and_not_shown() {
    let (dir, database) = (tempfile::tempdir().unwrap(), postgres_server::Server::start(""));
    ask_for_passwords(&database);
    let wrong = with_password(dir.path(), &database, WRONG);
    let doctor = try_run(&wrong, &["doctor"]).0;
    for said in [refused(&wrong), doctor, try_run(&wrong, &["audit"]).1] {
        assert!(said.contains("password authentication failed for user \"app\""), "{said}");
        assert!(said.contains("\"url_file\" in [store]"), "{said}");
        assert!(!said.contains(WRONG), "{said}");
    }
    let right = with_password(dir.path(), &database, RIGHT);
    let server = Server::start(&right, &right.with_file_name("data"), &[]).unwrap();
    let (client, person) = (client(), Person::new("ann", "api"));
    person.settle(&client, &server.address).await;
    // Somebody changes it under a server that runs.
    sql(&database, &format!("ALTER ROLE app PASSWORD '{WRONG}'"));
    sql(&database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'");
    while client.get(format!("{}/readyz", server.address)).send().await.unwrap().status() != 503 {
        person.write(&client, &server.address, 1).await;
    }
    let since = Instant::now();
    let expect = "the database refuses the user or the password";
    loop {
        let said = ready_is(&client, &server.address, 503).await;
        if said["reason"].as_str().is_some_and(|reason| reason.contains(expect)) {
            break;
        }
        assert!(since.elapsed() < LIMIT, "{said}");
    }
    sql(&database, &format!("ALTER ROLE app PASSWORD '{RIGHT}'"));
    ready_is(&client, &server.address, 200).await;
    person.settle(&client, &server.address).await;
    compare(&client, &server.address, &person).await;
    let log = logged(&right, expect).await;
    assert!(!log.contains(RIGHT) && !log.contains(WRONG), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_of_redis_is_named_and_not_shown() {
    let (dir, database) = (tempfile::tempdir().unwrap(), postgres_server::Server::start(""));
    let redis = redis_server::Server::with(&["--requirepass", RIGHT]);
    // A server that begins waits no longer until it knows what Redis says.
    let more = "[redis]\nurl_file = \"redis.url\"\nconnect_timeout_ms = 20000\n";
    let config = config(dir.path(), &database, more);
    let put = |password: &str| {
        let (file, owners) = (dir.path().join("redis.url"), Permissions::from_mode(0o600));
        std::fs::write(&file, format!("unix://{}?pass={password}\n", redis.socket())).unwrap();
        std::fs::set_permissions(&file, owners).unwrap();
    };
    put(WRONG);
    let data = dir.path().join("data");
    let server = Server::start(&config, &data, &[]).unwrap();
    let (client, person) = (client(), Person::new("ann", "api"));
    person.settle(&client, &server.address).await;
    let ready = ready_is(&client, &server.address, 200).await.to_string();
    let (doctor, _, code) = try_run(&config, &["doctor"]);
    assert_eq!(code, Some(1), "{doctor}");
    assert!(ready.contains("Redis: refuses: "), "{ready}");
    let key = "\"url_file\" in [redis]";
    assert!(doctor.contains(key), "{doctor}");
    let log = logged(&config, key).await;
    for said in [doctor, ready, log] {
        assert!(said.to_lowercase().contains("password"), "{said}");
        assert!(!said.contains(WRONG), "{said}");
    }
    drop(server);
    put(RIGHT);
    let server = Server::start(&config, &data, &[]).unwrap();
    let ready = ready_is(&client, &server.address, 200).await;
    assert_eq!(ready["hints"].as_str(), None, "{ready}");
    person.settle(&client, &server.address).await;
    compare(&client, &server.address, &person).await;
}
