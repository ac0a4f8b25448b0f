//! The real binary on disks that fail, fill up, can't be written or hold something else, and on a
//! database.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[cfg(feature = "postgres")]
#[path = "crash_kit/cluster.rs"]
mod cluster;
mod crash_kit;
#[cfg(feature = "postgres")]
#[path = "crash_kit/database.rs"]
mod database;
#[cfg(feature = "postgres")]
#[path = "crash_kit/full_database.rs"]
mod full_database;
#[cfg(feature = "postgres")]
#[path = "crash_kit/heard.rs"]
mod heard;
#[cfg(feature = "postgres")]
#[path = "crash_kit/hints.rs"]
mod hints;
#[cfg(feature = "postgres")]
#[expect(dead_code, reason = "the kit is shared with tests that need more of it")]
#[path = "signal/kit.rs"]
mod household;
#[cfg(feature = "postgres")]
#[path = "crash_kit/migrate.rs"]
mod migrate;
#[cfg(feature = "postgres")]
#[path = "../../redis/tests/redis/server.rs"]
mod redis_server;
#[cfg(feature = "postgres")]
#[path = "crash_kit/refusals.rs"]
mod refusals;
#[cfg(feature = "postgres")]
#[path = "crash_kit/resend.rs"]
mod resend;
#[cfg(feature = "postgres")]
#[path = "crash_kit/restored.rs"]
mod restored;
#[path = "crash_kit/small_disk.rs"]
mod small_disk;
mod store_kit;

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crash_kit::{Person, Server, audit, build_shim, client, compare, logged};
use serde_json::Value;
use small_disk::SmallDisk;
#[cfg(feature = "postgres")]
use store_kit::postgres_server;

const CONFIG: &str = "log_level = \"warn\"\n[gateway]\nrate_limiting_enabled = false\n\
                      [agents.default]\nkind = \"echo\"\ntokens = true\ndelay_ms = 1\n";
/// Nothing here takes anywhere near as long; it ends a test that would never end.
const LIMIT: Duration = Duration::from_secs(60);

fn config(dir: &Path) -> std::path::PathBuf {
    let config = dir.join("storage.toml");
    std::fs::write(&config, CONFIG).unwrap();
    config
}

/// Asks until readiness is as wanted; says the answer.
async fn ready_is(client: &reqwest::Client, address: &str, wanted: u16) -> Value {
    let since = Instant::now();
    loop {
        let answer = client.get(format!("{address}/readyz")).send().await.unwrap();
        if answer.status() == wanted {
            return answer.json().await.unwrap();
        }
        assert!(since.elapsed() < LIMIT, "readiness stays {}", answer.status());
    }
}

/// How many syncs it takes to begin with a new folder: the last one without which nothing begins. It is
/// that of the epoch, which must never be drawn twice.
fn syncs_of_an_opening() -> usize {
    let begins_without = |failing: usize| {
        let dir = tempfile::tempdir().unwrap();
        let (config, data, shadow) =
            (config(dir.path()), dir.path().join("data"), dir.path().join("shadow"));
        for folder in [&data, &shadow] {
            std::fs::create_dir(folder).unwrap();
        }
        let shim = build_shim(dir.path());
        let failing = failing.to_string();
        let env = [
            ("LD_PRELOAD", shim.to_str().unwrap()),
            ("DISK_REAL", data.to_str().unwrap()),
            ("DISK_SHADOW", shadow.to_str().unwrap()),
            ("DISK_EIO_AT", failing.as_str()),
        ];
        let server = Server::start(&config, &data, &env);
        server.map(|mut server| server.kill()).is_some()
    };
    (1..30).rev().find(|failing| !begins_without(*failing)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_acknowledges_nothing_and_loses_nothing() {
    let opening = syncs_of_an_opening();
    for failing in [opening + 1, opening + 6, opening + 32].map(|sync| sync.to_string()) {
        let dir = tempfile::tempdir().unwrap();
        let (config, data, shadow) =
            (config(dir.path()), dir.path().join("data"), dir.path().join("shadow"));
        for folder in [&data, &shadow] {
            std::fs::create_dir(folder).unwrap();
        }
        let shim = build_shim(dir.path());
        let env = [
            ("LD_PRELOAD", shim.to_str().unwrap()),
            ("DISK_REAL", data.to_str().unwrap()),
            ("DISK_SHADOW", shadow.to_str().unwrap()),
            ("DISK_EIO_AT", failing.as_str()),
        ];
        let mut server = Server::start(&config, &data, &env).unwrap();
        let client = client();
        let people: Vec<_> = (0..4).map(|n| Person::new(&format!("p{n}"), "api")).collect();
        let mut writers = tokio::task::JoinSet::new();
        for person in &people {
            let (person, client, address) =
                (Arc::clone(person), client.clone(), server.address.clone());
            writers.spawn(async move {
                // A 503 ends a round; the same message is sent again in the next one.
                for _ in 0..40 {
                    person.write(&client, &address, 5).await;
                }
            });
        }
        while let Some(written) = writers.join_next().await {
            written.unwrap();
        }
        ready_is(&client, &server.address, 200).await;
        for person in &people {
            person.settle(&client, &server.address).await;
            compare(&client, &server.address, person).await;
        }
        logged(&config, "commit failed").await;
        server.kill();
        audit(&data).unwrap();
        audit(&shadow).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_and_mended_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SmallDisk::new("2m");
    let (config, data) = (config(dir.path()), disk.path().join("data"));
    let mut server = Server::start(&config, &data, &[]).unwrap();
    let (client, person) = (client(), Person::new("writer", "api"));
    let since = Instant::now();
    let said: Value = loop {
        let ready = client.get(format!("{}/readyz", server.address)).send().await.unwrap();
        if ready.status() == 503 {
            break ready.json().await.unwrap();
        }
        person.write(&client, &server.address, 20).await;
        assert!(since.elapsed() < LIMIT, "2 MB never filled up");
    };
    assert!(said["reason"].as_str().unwrap().contains("full"), "{said}");
    disk.grow("64m");
    ready_is(&client, &server.address, 200).await;
    person.settle(&client, &server.address).await;
    compare(&client, &server.address, &person).await;
    server.kill();
    audit(&data).unwrap();
}

/// Runs `turnkeep serve` on a folder that it must refuse, as an unprivileged user if asked.
fn refused(data: &Path, unprivileged: bool) -> String {
    let home = tempfile::tempdir().unwrap();
    // The user may not be allowed into the folder the binary was built in.
    let binary = home.path().join("turnkeep");
    // By a process of its own: what this one has open for writing, a child that another test starts
    // meanwhile has, too, and then it can't be run.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_turnkeep")).arg(&binary).status();
    assert!(copied.unwrap().success());
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(&binary);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data);
    command.current_dir(home.path()).env("HOME", home.path());
    if unprivileged {
        command.uid(65_534).gid(65_534);
    }
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert_eq!(status.code(), Some(1), "{}", String::from_utf8_lossy(&stdout));
    String::from_utf8_lossy(&stderr).into_owned()
}

#[test]
fn a_folder_that_cannot_be_used_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let folder = |name: &str| {
        let folder = dir.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        folder
    };
    let check = |data: &Path, unprivileged: bool, expect: &str| {
        let said = refused(data, unprivileged);
        assert!(said.contains(expect), "{expect:?} is not in: {said}");
        assert!(said.contains(data.to_str().unwrap()), "the folder is not named: {said}");
    };
    let read_only = folder("read-only");
    std::fs::set_permissions(&read_only, std::fs::Permissions::from_mode(0o555)).unwrap();
    check(&read_only, true, "can't be written to");
    let garbage = folder("garbage");
    std::fs::write(
        garbage.join("turnkeep.db"),
        "this is no database at all, and rather long".repeat(200),
    )
    .unwrap();
    check(&garbage, false, "database");
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (config, data) = (config(dir.path()), dir.path().join("data"));
    let _server = Server::start(&config, &data, &[]).unwrap();
    let said = refused(&data, false);
    assert!(said.contains("another Turnkeep (process "), "{said}");
}
