//! A database whose disk is full: that of its tables, which it survives, and that of its log, which
//! ends it.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::crash_kit::{Person, Server, client, compare};
use crate::database::{audit, config};
use crate::small_disk::SmallDisk;
use crate::{LIMIT, postgres_server, ready_is};

/// Has the database begin its log's next file.
const NEXT_SEGMENT: &str =
    "SELECT pg_switch_wal(); UPDATE turnkeep.meta SET value = value + 1 WHERE name = 'probe'";
/// What is left on a disk that is nearly full.
const LEFT_BYTES: u64 = 256 << 10;

/// Runs a statement as the database's administrator; whether it went well.
fn sql(database: &postgres_server::Server, statement: &str) -> bool {
    let mut psql = Command::new(database.program("psql"));
    psql.arg("-h").arg(database.folder()).args(["-U", "turnkeep", "-d", "postgres", "-qc"]);
    psql.arg(statement).output().unwrap().status.success()
}

/// A folder on this disk that the database may use.
fn folder(database: &postgres_server::Server, disk: &SmallDisk, name: &str) -> PathBuf {
    let folder = disk.path().join(name);
    std::fs::create_dir(&folder).unwrap();
    let owner = std::fs::metadata(database.folder()).unwrap();
    for path in [disk.path(), &folder] {
        std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    folder
}

/// Fills the disk up but for a little, with a file that somebody can remove.
fn fill(disk: &SmallDisk, left_bytes: u64) -> PathBuf {
    let ballast = disk.path().join("ballast");
    let room = rustix::fs::statvfs(disk.path()).unwrap();
    let free = room.f_bavail * room.f_frsize;
    std::fs::write(&ballast, vec![0; usize::try_from(free - left_bytes).unwrap()]).unwrap();
    ballast
}

/// Writes until the server says that it can't take any more; what it says.
async fn write_until_full(client: &reqwest::Client, server: &Server, person: &Person) -> String {
    let since = Instant::now();
    loop {
        let ready = client.get(format!("{}/readyz", server.address)).send().await.unwrap();
        if ready.status() == 503 {
            let said: serde_json::Value = ready.json().await.unwrap();
            return said["reason"].as_str().unwrap().to_owned();
        }
        person.write(client, &server.address, 50).await;
        assert!(since.elapsed() < LIMIT, "the disk never filled up");
    }
}

async fn nothing_is_lost(config: &Path, mut server: Server, person: &Person) {
    let client = client();
    ready_is(&client, &server.address, 200).await;
    person.settle(&client, &server.address).await;
    compare(&client, &server.address, person).await;
    server.kill();
    let said = audit(config);
    assert!(said.ends_with("every invariant holds\n"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_whose_disk_is_full_is_said_and_mended_without_a_restart() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), SmallDisk::new("32m"));
    let database = postgres_server::Server::start("");
    let tables = folder(&database, &disk, "tables");
    assert!(sql(&database, &format!("CREATE TABLESPACE small LOCATION '{}'", tables.display())));
    assert!(sql(&database, "ALTER ROLE turnkeep SET default_tablespace = small"));
    let config = config(dir.path(), &database, "");
    let server = Server::start(&config, &dir.path().join("data"), &[]).unwrap();
    let ballast = fill(&disk, LEFT_BYTES);
    let (client, person) = (client(), Person::new("writer", "api"));
    let said = write_until_full(&client, &server, &person).await;
    assert_eq!(said, "the store can't write: the database's disk is full: free some space");
    let before = person.acknowledged.lock().unwrap().len();
    person.write(&client, &server.address, 1).await;
    assert_eq!(person.acknowledged.lock().unwrap().len(), before, "nothing is acknowledged then");
    std::fs::remove_file(ballast).unwrap();
    nothing_is_lost(&config, server, &person).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_ends_for_want_of_room_for_its_log_loses_nothing() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), SmallDisk::new("96m"));
    let database = postgres_server::Server::start("");
    let log = folder(&database, &disk, "log");
    // Its log is moved to the small disk, as an administrator does it.
    database.stop();
    let place = database.folder().join("data/pg_wal");
    let moved = log.join("pg_wal");
    assert!(Command::new("cp").arg("-a").args([&place, &moved]).status().unwrap().success());
    std::fs::remove_dir_all(&place).unwrap();
    std::os::unix::fs::symlink(&moved, &place).unwrap();
    database.begin();
    let config = config(dir.path(), &database, "");
    let server = Server::start(&config, &dir.path().join("data"), &[]).unwrap();
    let (client, person) = (client(), Person::new("writer", "api"));
    person.write(&client, &server.address, 20).await;
    let ballast = fill(&disk, LEFT_BYTES);
    // The next segment has no room. Whatever is acknowledged meanwhile is in the one before.
    let since = Instant::now();
    while sql(&database, NEXT_SEGMENT) {
        person.write(&client, &server.address, 1).await;
        assert!(since.elapsed() < LIMIT, "the disk never filled up");
    }
    let said = write_until_full(&client, &server, &person).await;
    assert!(said.starts_with("the store can't write: "), "{said}");
    std::fs::remove_file(ballast).unwrap();
    database.restart();
    nothing_is_lost(&config, server, &person).await;
}
