//! What only files can get wrong: bytes that stay behind, numbers that come again, copies.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;
use turnkeep_core::Seq;
use turnkeep_core::ports::care::{BackupError, BackupOrder, CareStore, Forgot};
use turnkeep_core::ports::listeners::ListenerStore;
use turnkeep_core::ports::store::Store;
use turnkeep_core::ports::switchboard::{
    BoardChange, KeptRow, KeptSeat, SwitchboardStore, Written,
};
use turnkeep_stores::{
    OpenError, RestoreError, RestoreOrder, Restored, SqliteOptions, SqliteReader, SqliteStore,
    restore,
};

use crate::care::{exchange, failure, order, sweep};
use crate::fixture::{Chat, NOW};

fn open(dir: &Path) -> SqliteStore {
    SqliteStore::open(dir, SqliteOptions::default()).unwrap()
}

/// A conversation that stands on the switchboard, is looked at, and was looked at before.
fn standing(chat: &Chat, name: &str) -> BoardChange {
    let (key, touched_at) = (chat.key.clone(), NOW);
    let (active, history) = (Some(key.clone()), vec![key.clone()]);
    let seats = vec![KeptSeat { seat: "tty1".into(), active, history, touched_at }];
    let (name, read_seq) = (Some(name.into()), Seq(2));
    let row = KeptRow { key, number: 7, name, created_at: NOW, touched_at, read_seq };
    BoardChange { tenant: "tenant".into(), rows: vec![row], seats, ..BoardChange::default() }
}

/// The files of the folder that hold these bytes.
fn holds(dir: &Path, text: &str) -> Vec<String> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let with = files.filter(|file| {
        let bytes = fs::read(file).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    });
    with.map(|file| file.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

#[tokio::test]
async fn nothing_of_what_was_erased_stays_in_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (mut chat, mut other) = (Chat::new("anna-unmistakable"), Chat::new("bob"));
    let long = "a very long secret ".repeat(2000);
    for number in 1..=60 {
        let text = if number % 20 == 0 { long.as_str() } else { "unmistakable secret" };
        exchange(&store, &mut chat, number, text).await;
        exchange(&store, &mut other, 1000 + number, "harmless words").await;
        if number % 10 == 0 {
            failure(&store, &mut chat, 500 + number, "unmistakable letter").await;
        }
    }
    let named = standing(&chat, "an unmistakable name");
    assert_eq!(store.write_board(named).await, Ok(Written::Done));
    assert_eq!(holds(dir.path(), "unmistakable"), ["turnkeep.db-wal"]);
    assert!(store.scrub().await.unwrap());
    assert_eq!(holds(dir.path(), "unmistakable"), ["turnkeep.db"]);
    let last = chat.session.last_seq;
    let erase = order(&store, &chat.key, last, Some("x")).await;
    assert_eq!(store.forget(erase).await.unwrap(), Forgot::Done(6));
    sweep(&store, 50).await;
    assert!(store.scrub().await.unwrap());
    for text in ["unmistakable", "long secret"] {
        assert_eq!(holds(dir.path(), text), [] as [&str; 0], "{text}");
    }
    assert_eq!(holds(dir.path(), "harmless words"), ["turnkeep.db"]);
    // Commits go on, in a log that began anew.
    exchange(&store, &mut other, 2000, "still here").await;
    assert_eq!(store.events(&other.key, Seq(240), 9).await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_reader_in_the_way_keeps_the_log_and_that_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut chat = Chat::new("one");
    exchange(&store, &mut chat, 1, "words").await;
    let reader = SqliteReader::open(dir.path()).unwrap();
    // The reader stays in its moment until the scrub has given up once and is done after that.
    let (started, scrubbed) = (Arc::new(AtomicU64::new(0)), tokio::sync::oneshot::channel::<()>());
    let (release, mut released) = scrubbed;
    let held = Arc::clone(&started);
    let holding = std::thread::spawn(move || {
        reader
            .snapshot(|reader| {
                let count = reader.sessions(None, None, 9).unwrap().len() as u64;
                held.store(count, Ordering::SeqCst);
                while released.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
                    std::thread::yield_now();
                }
            })
            .unwrap();
    });
    while started.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    exchange(&store, &mut chat, 2, "more words").await;
    let mut scrub = store.scrub();
    // Commits get through while it waits for the reader.
    tokio::select! {
        biased;
        done = &mut scrub => panic!("{done:?}"),
        _ = exchange(&store, &mut chat, 3, "in between") => {}
    }
    release.send(()).unwrap();
    assert!(scrub.await.unwrap());
    holding.join().unwrap();
    assert_eq!(fs::metadata(dir.path().join("turnkeep.db-wal")).unwrap().len(), 0);
}

#[tokio::test]
async fn a_number_of_the_journal_never_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut chat = Chat::new("one");
    exchange(&store, &mut chat, 1, "words").await;
    let end = store.journal_end().await.unwrap();
    let forget = order(&store, &chat.key, Seq(4), None).await;
    store.forget(forget).await.unwrap();
    sweep(&store, 2).await;
    drop(store);
    let store = open(dir.path());
    exchange(&store, &mut chat, 2, "more words").await;
    let rows = store.journal_after(0, 100).await.unwrap();
    assert_eq!(
        rows.iter().map(|row| row.position).collect::<Vec<_>>(),
        (end + 1..=end + 4).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_sweep_goes_on_after_the_process_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut chat = Chat::new("one");
    for number in 1..=20 {
        exchange(&store, &mut chat, number, "words").await;
    }
    let forget = order(&store, &chat.key, Seq(70), None).await;
    store.forget(forget).await.unwrap();
    assert!(store.sweep(11).await.unwrap().more);
    // The next step of forgetting waits for the rows of this one.
    let more = order(&store, &chat.key, Seq(71), None).await;
    assert_eq!(store.forget(more.clone()).await.unwrap(), Forgot::Unswept);
    drop(store);
    let store = open(dir.path());
    // 17 turns and parts, 70 rows of the journal, less what was done before.
    assert_eq!(sweep(&store, 1000).await, 17 + 17 + 70 - 11);
    assert_eq!(store.forget(more).await.unwrap(), Forgot::Done(0));
    sweep(&store, 1000).await;
    let count = |table: &str| -> i64 {
        let database = Connection::open(dir.path().join("turnkeep.db")).unwrap();
        database.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    assert_eq!(["journal", "turns", "parts"].map(count), [9, 3, 3]);
    assert_eq!(count("journal_index"), 0);
}

fn to(file: &Path, replace: bool) -> BackupOrder {
    BackupOrder { file: file.into(), replace, progress: Box::new(|_, _| true) }
}

#[tokio::test]
async fn a_backup_is_a_whole_private_copy() {
    let dir = tempfile::tempdir().unwrap();
    let place = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut chat = Chat::new("one");
    for number in 1..=200 {
        exchange(&store, &mut chat, number, "words").await;
    }
    let file = place.path().join("copy.db");
    let bytes = store.backup(to(&file, false)).await.unwrap();
    assert_eq!(bytes, fs::metadata(&file).unwrap().len());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    exchange(&store, &mut chat, 201, "after it").await;
    let copy = SqliteReader::open_file(&file).unwrap();
    assert_eq!(copy.events(&chat.key, Seq(0), 10_000).unwrap().len(), 800);
    // Reading it leaves nothing beside it.
    drop(copy);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    let refused = store.backup(to(&file, false)).await.unwrap_err();
    assert_eq!(refused, BackupError::Exists(file.clone()));
    store.backup(to(&file, true)).await.unwrap();
    let copy = SqliteReader::open_file(&file).unwrap();
    assert_eq!(copy.events(&chat.key, Seq(0), 10_000).unwrap().len(), 804);
    for (name, why) in [("turnkeep.db", "server's own"), ("turnkeep.db-wal", "server's own")] {
        let refused = store.backup(to(&dir.path().join(name), true)).await.unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }
    let refused = store.backup(to(&place.path().join("not/there"), true)).await.unwrap_err();
    assert!(refused.to_string().contains("folder is not there"), "{refused}");
    // One that was stopped leaves nothing, and what was there stays.
    let stopped = BackupOrder { progress: Box::new(|_, _| false), ..to(&file, true) };
    assert_eq!(store.backup(stopped).await.unwrap_err(), BackupError::Stopped);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    assert_eq!(SqliteReader::open_file(&file).unwrap().sessions(None, None, 9).unwrap().len(), 1);
}

#[tokio::test]
async fn commits_go_on_while_a_backup_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut chat = Chat::new("one");
    for number in 0..3000 {
        chat.note(&format!("{number} {}", "x".repeat(2000)));
    }
    chat.commit(&store).await;
    let mut many = Chat::new("many");
    for number in 1..=300 {
        exchange(&store, &mut many, number, "words").await;
    }
    // The first question comes before the copy begins; at the second it stands still until a
    // commit has gone through.
    let (committed, gate) = std::sync::mpsc::channel::<()>();
    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel::<()>();
    let mut asked = 0;
    let progress = Box::new(move |_: u64, _: u64| {
        asked += 1;
        if asked == 2 {
            begun.send(()).unwrap();
            gate.recv().unwrap();
        }
        true
    });
    let file = dir.path().join("copy.db");
    let order = BackupOrder { file: file.clone(), replace: false, progress };
    let (done, ()) = tokio::join!(store.backup(order), async {
        begins.recv().await.unwrap();
        exchange(&store, &mut many, 301, "meanwhile").await;
        committed.send(()).unwrap();
    });
    done.unwrap();
    // A moment is a moment: what was committed meanwhile is not in it.
    let copy = SqliteReader::open_file(&file).unwrap();
    assert_eq!(copy.events(&many.key, Seq(0), 10_000).unwrap().len(), 1200);
    assert_eq!(store.events(&many.key, Seq(0), 10_000).await.unwrap().len(), 1204);
}

fn restored(file: &Path, dir: &Path, keep_as: Option<&str>) -> Result<Restored, RestoreError> {
    let keep_as = keep_as.map(str::to_owned);
    restore(RestoreOrder { file, dir, keep_as, progress: Box::new(|_, _| true) })
}

#[tokio::test]
async fn a_backup_is_restored_beside_what_was_there() {
    let (dir, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path());
    let mut chat = Chat::new("one");
    exchange(&store, &mut chat, 1, "words").await;
    let file = place.path().join("copy.db");
    store.write_board(standing(&chat, "then")).await.unwrap();
    let board = store.board("tenant").await;
    store.backup(to(&file, false)).await.unwrap();
    exchange(&store, &mut chat, 2, "after it").await;
    store.write_board(standing(&chat, "now")).await.unwrap();
    let refused = restored(&file, dir.path(), Some("old")).unwrap_err();
    assert!(matches!(refused, RestoreError::Folder(OpenError::InUse { .. })), "{refused}");
    drop(store);
    // The folder lives on for a while: later epochs than the backup knows.
    let last = (0..3).map(|_| open(dir.path()).epoch()).max().unwrap();
    let refused = restored(&file, dir.path(), None).unwrap_err();
    assert!(refused.to_string().contains("--force"), "{refused}");
    let done = restored(&file, dir.path(), Some("old")).unwrap();
    assert!(done.epoch > last);
    let kept = done.kept.unwrap();
    assert_eq!(kept, dir.path().join("turnkeep.db.old"));
    assert_eq!(
        SqliteReader::open_file(&kept).unwrap().events(&chat.key, Seq(0), 9).unwrap().len(),
        8
    );
    let store = open(dir.path());
    assert!(store.epoch() > done.epoch);
    assert_eq!(store.events(&chat.key, Seq(0), 9).await.unwrap().len(), 4);
    assert_eq!(store.board("tenant").await, board, "the switchboard is as it was then");
    drop(store);
    // Into a folder that is not there yet.
    let new = place.path().join("new/data");
    assert_eq!(restored(&file, &new, None).unwrap().kept, None);
    let mode = fs::metadata(new.join("turnkeep.db")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert_eq!(open(&new).events(&chat.key, Seq(0), 9).await.unwrap().len(), 4);
}

#[test]
fn what_is_no_backup_is_not_restored() {
    let (dir, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = |name: &str| place.path().join(name);
    Connection::open(file("songs")).unwrap().execute_batch("CREATE TABLE songs (name)").unwrap();
    fs::write(file("text"), "no database at all, but long enough to be asked").unwrap();
    fs::write(file("empty"), "").unwrap();
    drop(open(&file("newer")));
    let newer = file("newer/turnkeep.db");
    Connection::open(&newer).unwrap().execute_batch("PRAGMA user_version = 1000").unwrap();
    let cases = [
        (file("absent"), "is not there"),
        (file("songs"), "another program's database"),
        (file("text"), "is no backup of Turnkeep, or it is damaged"),
        (file("empty"), "is empty"),
        (newer, "has format 1000"),
    ];
    for (file, expect) in cases {
        let refused = restored(&file, dir.path(), Some("old")).unwrap_err();
        assert!(refused.to_string().contains(expect), "{refused}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{expect}");
    }
}
