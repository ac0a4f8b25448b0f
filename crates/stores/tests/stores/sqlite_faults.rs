//! Faults: a process that dies at the worst places, a disk that takes no more.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use turnkeep_core::ports::store::{CommitOutcome, Store, StoreError};
use turnkeep_core::{EventBody, Seq};
use turnkeep_stores::{SqliteOptions, SqliteReader, SqliteStore};

use crate::child::{self, Running};
use crate::fixture::{Chat, key};

/// The child's half: eight sessions commit until the process dies, telling what was acknowledged.
async fn commit_until_killed(dir: &Path, kill_point: fn(&'static str)) {
    let options = SqliteOptions { kill_point: Some(kill_point) };
    let store = Arc::new(SqliteStore::open(dir, options).unwrap());
    child::kill_the(20);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..8 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let mut chat = Chat::new(&number.to_string());
            loop {
                chat.note("an event");
                chat.commit(&*store).await;
                child::say(&format!("{number} {}", chat.session.last_seq));
            }
        });
    }
    // None of them ends but by a failure.
    tasks.join_next().await.unwrap().unwrap()
}

async fn check_kill(name: &str, kill_point: fn(&'static str)) {
    if let Some(dir) = child::told() {
        return commit_until_killed(Path::new(&dir), kill_point).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut other = Running::start(child::command(name, dir.path().to_str().unwrap()));
    let mut acknowledged = [0; 8];
    while let Some(said) = other.hear() {
        let (number, seq) = said.split_once(' ').unwrap();
        acknowledged[number.parse::<usize>().unwrap()] = seq.parse().unwrap();
    }
    assert!(other.end().signal().is_some(), "it was not killed");

    // An audit may come before the next start.
    let reader = SqliteReader::open(dir.path()).unwrap();
    let audited = (0..8).map(|number| reader.events(&key(&number.to_string()), Seq(0), 1000));
    let audited: Vec<_> = audited.map(Result::unwrap).collect();
    let store = SqliteStore::open(dir.path(), SqliteOptions::default()).unwrap();
    for (number, acknowledged) in acknowledged.into_iter().enumerate() {
        let key = key(&number.to_string());
        let events = store.events(&key, Seq(0), 1000).await.unwrap();
        assert_eq!(events, audited[number]);
        // What was acknowledged, and at most the one that was on its way.
        let stored = events.last().map_or(0, |event| event.seq.0);
        assert!(stored == acknowledged || stored == acknowledged + 1, "{stored} {acknowledged}");
        let version = store.load(&key).await.unwrap().map_or(0, |loaded| loaded.version.0);
        assert_eq!((version, events.len() as u64), (stored, stored));
    }
}

#[tokio::test]
async fn killed_before_a_commit() {
    check_kill("sqlite_faults::killed_before_a_commit", child::kill_before_commit).await;
}

#[tokio::test]
async fn killed_after_a_commit() {
    check_kill("sqlite_faults::killed_after_a_commit", child::kill_after_commit).await;
}

#[tokio::test]
async fn killed_between_two_answers() {
    check_kill("sqlite_faults::killed_between_two_answers", child::kill_at_answer).await;
}

/// Commits texts of that many bytes until one fails; the texts whose commit was acknowledged.
async fn commit_until_refused(store: &SqliteStore, chat: &mut Chat, bytes: usize) -> Vec<String> {
    let mut kept = Vec::new();
    loop {
        let text = format!("{} {}", kept.len(), "x".repeat(bytes));
        let before = chat.clone();
        chat.note(&text);
        match store.commit(chat.draft()).await {
            Ok(CommitOutcome::Committed(version)) => {
                chat.version = version;
                kept.push(text);
            }
            Err(StoreError::Unavailable(_)) => {
                // Unknown: what the caller must do is forget it and reload.
                *chat = before;
                return kept;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The child's half: runs into the limit, waits for it to be lifted, goes on.
async fn run_into_the_limit(dir: &Path) {
    let store = SqliteStore::open(dir, SqliteOptions::default()).unwrap();
    let mut chat = Chat::new("one");
    let mut kept = commit_until_refused(&store, &mut chat, 50_000).await;
    assert!(!kept.is_empty());
    let reason = store.health().unwrap_err();
    assert!(reason.starts_with("the store can't write: "), "{reason}");
    assert!(store.stats().failures >= 1);
    // Reads go on, and so does saying no.
    assert_eq!(store.load(&chat.key).await.unwrap(), Some(chat.loaded()));
    let refused = store.commit(chat.clone().draft()).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");

    child::say("full");
    child::wait();
    // Every commit is answered at once, so this asks until one is taken.
    loop {
        let loaded = store.load(&chat.key).await.unwrap().unwrap();
        let events = store.events(&chat.key, Seq(0), 1000).await.unwrap();
        chat.version = loaded.version;
        chat.session.last_seq = Seq(events.len() as u64);
        let more = commit_once(&store, &mut chat).await;
        kept.extend(more);
        if kept.last().is_some_and(|text| text == "after") {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(store.health(), Ok(()));
    store.close().await;
    drop(store);

    let store = SqliteStore::open(dir, SqliteOptions::default()).unwrap();
    let events = store.events(&chat.key, Seq(0), 1000).await.unwrap();
    let stored: Vec<String> = events.into_iter().map(text_of).collect();
    let mut rest = stored.iter();
    for text in &kept {
        assert!(rest.any(|stored| stored == text), "an acknowledged commit is gone");
    }
    child::say("recovered");
}

async fn commit_once(store: &SqliteStore, chat: &mut Chat) -> Option<String> {
    chat.note("after");
    match store.commit(chat.draft()).await {
        Ok(CommitOutcome::Committed(_)) => Some("after".into()),
        _ => None,
    }
}

fn text_of(event: turnkeep_core::Event) -> String {
    match event.body {
        EventBody::SessionNotice { text, .. } => text.to_string(),
        other => panic!("{other:?}"),
    }
}

/// A limit on the size of files stands for a disk that takes no more; it needs no rights to set,
/// and a parent can lift it while the process runs.
#[tokio::test]
async fn a_disk_that_takes_no_more_is_survived() {
    const NAME: &str = "sqlite_faults::a_disk_that_takes_no_more_is_survived";
    if let Some(dir) = child::told() {
        return run_into_the_limit(Path::new(&dir)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let shell = "trap '' XFSZ; ulimit -S -f 2048";
    let command = child::command_after(shell, NAME, dir.path().to_str().unwrap());
    let mut other = Running::start(command);
    assert_eq!(other.hear().as_deref(), Some("full"));
    let process = other.id().to_string();
    let lifted = Command::new("prlimit").args(["--pid", &process, "--fsize=unlimited:"]).status();
    assert!(lifted.expect("prlimit of util-linux is needed").success());
    other.go_on();
    assert_eq!(other.hear().as_deref(), Some("recovered"));
    assert!(other.end().success());
    // Nothing was called healthy before a write of the store's own was committed.
    let database = rusqlite::Connection::open(dir.path().join("turnkeep.db")).unwrap();
    let sql = "SELECT value FROM meta WHERE name = 'probe'";
    let probes: i64 = database.query_row(sql, [], |row| row.get(0)).unwrap();
    assert!(probes >= 1, "{probes}");
}
